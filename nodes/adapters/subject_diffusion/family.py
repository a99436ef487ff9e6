"""Subject-Diffusion as a family of adapters: what the nodes ask of it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial

import torch

from ....subject_diffusion_core import checkpoint
from ....subject_diffusion_core.files.adapter_config import METHOD
from ....subject_diffusion_core.files.header import FileHeader
from ....subject_diffusion_core.files.measured_guidance import measured_guidance
from ...host.comfy_types import Clip, Model, Patcher, Patches
from ...host.patchers import ModulePatchers
from ...host.run_attachment import attach_run
from ...host.sampling_run import RunSettings
from ...host.unet_geometry import UnetGeometry, read_unet_geometry
from ...host.weight_diffs import text_encoder_prefix, weight_differences
from ..family import (
    ATTACHMENT_KEY,
    AdapterFamily,
    AppliedAdapter,
    Branches,
    EncodeRequest,
    LoadedAdapter,
    Present,
)
from ..texts import TextEncoder
from .branches import BranchEncoder, BranchSubjects, PatchReader, null_branch
from .fused_text import FusedTextEncoder
from .unet_patches import (
    CONV_IN_WEIGHT,
    AdapterModules,
    make_input_block_patch,
    make_middle_patch,
)

_FUSER = ".fuser."
BASES = {"sd2": "Stable Diffusion 2", "sd15": "Stable Diffusion 1.5", "tiny": "the small model"}


class SubjectDiffusionAdapter(LoadedAdapter):
    """An adapter that was trained with Subject-Diffusion.

    Its modules and its differences to a base are made once and serve every Apply node.
    """

    changes_weights = True

    def __init__(self, name: str, adapter: checkpoint.Adapter) -> None:
        self.name = name
        self.adapter = adapter
        self.config = adapter.config
        self.num_subjects = self.config.num_subjects
        self.measured_guidance = measured_guidance(self.config.provenance)
        self.summary = self._summary()
        self.pictures = PatchReader(name, self.config)
        self._projector = adapter.build_projector()
        self._patchers = ModulePatchers(partial(AdapterModules, adapter))
        self._differences: weakref.WeakKeyDictionary[object, Patches] = weakref.WeakKeyDictionary()

    @property
    def fingerprint(self) -> str:
        return self.adapter.fingerprint

    def block_names(self, model: Model) -> Sequence[str]:
        return [block.name for block in self.config.adapter_blocks]

    def _summary(self) -> str:
        base = BASES[self.config.base_family]
        measured = self.measured_guidance
        if measured is None:
            return f"Subject-Diffusion for {base}"
        return (
            f"Subject-Diffusion for {base}; measured with text guidance "
            f"{measured.text_guidance_scale:g} and image guidance {measured.image_guidance_scale:g}"
        )

    # base
    def require_base(self, model: Model) -> None:
        geometry, config = read_unet_geometry(model), self.config
        checks: list[tuple[str, object, object]] = [
            ("input channels", config.latent_channels, geometry.in_channels),
            ("text width", config.cross_attention_dim, geometry.cross_attention_dim),
            ("prediction", config.prediction_type, geometry.prediction_type),
        ]
        for block in config.adapter_blocks:
            found = geometry.blocks.get(block.name)
            width = "no such block" if found is None else found.query_dim
            checks.append((f"width of {block.name}", block.query_dim, width))
        for what, wanted, got in checks:
            if wanted != got:
                raise ValueError(
                    f"model: expected a {config.base_family} base with {what} {wanted} for the "
                    f"adapter '{self.name}', got {got}. Load the base model that this adapter was "
                    "trained on."
                )

    def text_patches(self, clip: Clip) -> Patches:
        """Differences for the text encoder; empty if the adapter did not train it."""
        prefix = text_encoder_prefix(clip)
        targets = {prefix + name: weight for name, weight in self.adapter.text_encoder.items()}
        return self._differences_to(clip.patcher, targets, "clip")

    def unet_patches(self, model: Model, geometry: UnetGeometry) -> Patches:
        """Differences for cross-attention K/V and conv_in (without the mask channel)."""
        targets = {}
        for name, weight in self.adapter.unet.items():
            if _FUSER in name:
                continue
            if name == CONV_IN_WEIGHT:
                weight = weight[:, : self.config.latent_channels]
            targets[geometry.parameters[name]] = weight
        return self._differences_to(model, targets, "model")

    # branches
    def branch_encoder(
        self, texts: TextEncoder, request: EncodeRequest
    ) -> Callable[[Present], Branches]:
        fused = FusedTextEncoder(texts, self.config, self._projector, self.name)
        return BranchEncoder(texts, self.adapter, fused, request).encode

    # MODEL
    def attach(self, model: Model, applied: AppliedAdapter) -> None:
        geometry = read_unet_geometry(model)
        diffs = self.unet_patches(model, geometry)
        if applied.hook is None:
            model.add_patches(diffs, applied.strength)
        else:
            model.add_hook_patches(applied.hook, diffs, applied.strength)
        patcher = self._patchers.for_model(model)
        modules = patcher.model
        model.set_additional_models(ATTACHMENT_KEY, [patcher.clone()])
        attach_run(
            model,
            RunSettings(
                key=ATTACHMENT_KEY,
                null=null_branch(self.adapter),
                require=self._require_own,
                start_percent=applied.start_percent,
                end_percent=applied.end_percent,
                hook=applied.hook,
            ),
        )
        block_names = {geometry.blocks[name].location: name for name in modules.block_names}
        middle_patch = make_middle_patch(modules, block_names, applied.block_strengths)
        model.set_model_patch(middle_patch, "middle_patch")
        model.set_model_input_block_patch(make_input_block_patch(modules, applied.strength))

    def _differences_to(
        self, patcher: Patcher, targets: dict[str, torch.Tensor], argument: str
    ) -> Patches:
        """Of one base: its unpatched weights never change."""
        base = patcher.model
        if base not in self._differences:
            made = weight_differences(patcher, targets, self.name, argument)
            self._differences[base] = made
        return self._differences[base]

    def _require_own(self, branch: BranchSubjects) -> None:
        """Embeddings mean something to the adapter that they were made for only."""
        other = getattr(branch, "adapter", None)
        if other is not self.adapter and getattr(other, "fingerprint", None) != self.fingerprint:
            raise ValueError(
                f"conditioning: expected subjects encoded with the adapter '{self.name}' of "
                "the MODEL, got another adapter's. Connect the same adapter to Subject-Diffusion "
                "Encode and Apply."
            )


def recognises(header: FileHeader) -> bool:
    """Our own metadata, which names no other method."""
    return checkpoint.method_of(header) == METHOD


def load(header: FileHeader) -> SubjectDiffusionAdapter:
    return SubjectDiffusionAdapter(header.path.name, checkpoint.load(header))


SUBJECT_DIFFUSION = AdapterFamily(method=METHOD, recognises=recognises, load=load)
