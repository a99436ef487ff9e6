"""IP-Adapter and MS-Diffusion as a family of adapters: what the nodes ask of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ....subject_diffusion_core.checkpoint import method_of
from ....subject_diffusion_core.files import ip_attention_file
from ....subject_diffusion_core.files.header import FileHeader
from ....subject_diffusion_core.files.ip_attention_file import GROUNDED, SCALES, IpAttentionFile
from ...host.attention_terms import attach_attention_term
from ...host.block_selection import in_order
from ...host.comfy_types import Clip, Model, Patches
from ...host.patchers import ModulePatchers
from ...host.run_attachment import attach_run
from ...host.sampling_run import RunSettings
from ...host.unet_geometry import UnetGeometry, read_unet_geometry
from ...subjects.subject import Subjects
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
from .block_presets import block_presets
from .branches import BranchEncoder, BranchImages, TokenReader, opposite_of
from .unet_term import ImageModules, TermLayer, make_image_term

METHOD = "ip_attention"
TERM_KEY = "subject_diffusion_images"


class IpAttentionAdapter(LoadedAdapter):
    """A public file of IP-Adapter or MS-Diffusion.

    Its modules are made once for each kind of number and serve every Apply node.
    """

    num_subjects = None
    needs_boxes = False

    def __init__(self, name: str, file: IpAttentionFile) -> None:
        self.name = name
        self.file = file
        self.scale = SCALES.get(file.kind, 1.0)
        self.pictures = TokenReader(name, file)
        self.summary = (
            f"{file.method} for {file.base} ({len(file.pairs)} layers), image encoder "
            f"{file.encoder}"
        )
        self._patchers = ModulePatchers(partial(ImageModules, file))

    @property
    def fingerprint(self) -> str:
        return self.file.fingerprint

    def block_names(self, model: Model) -> Sequence[str]:
        """In the order of the file's pairs."""
        return ordered_blocks(read_unet_geometry(model))

    def block_presets(self, model: Model) -> Mapping[str, Mapping[str, float]]:
        return block_presets(self.block_names(model))

    def warnings(self, subjects: Subjects, box_coordinates: bool) -> list[str]:
        if box_coordinates or self.file.kind == GROUNDED:
            return []
        return [
            "box_coordinates has no effect: image tokens of an IP-Adapter carry no places; boxes "
            "say where they act."
        ]

    # base
    def require_base(self, model: Model) -> None:
        geometry, file = read_unet_geometry(model), self.file
        found = [geometry.blocks[name].query_dim for name in ordered_blocks(geometry)]
        wanted = [key.shape[0] for key, _ in file.pairs]
        checks = (
            ("text of width {}", file.context_dim, geometry.cross_attention_dim),
            ("{} cross-attention layers", len(wanted), len(found)),
            ("layers of widths {}", sorted(set(wanted)), sorted(set(found))),
            ("layers of widths {}", wanted, found),
        )
        for what, want, got in checks:
            if want != got:
                raise ValueError(
                    f"model: expected {file.base} with {what.format(want)} for the adapter "
                    f"'{self.name}', got {got}. Load a checkpoint of that family, or an adapter "
                    "for this one."
                )

    def text_patches(self, clip: Clip) -> Patches:
        return {}

    # branches
    def branch_encoder(
        self, texts: TextEncoder, request: EncodeRequest
    ) -> Callable[[Present], Branches]:
        return BranchEncoder(texts, self.file, self.name, request).encode

    # MODEL
    def attach(self, model: Model, applied: AppliedAdapter) -> None:
        patcher = self._patchers.for_model(model)
        model.set_additional_models(ATTACHMENT_KEY, [patcher.clone()])
        attach_run(
            model,
            RunSettings(
                key=ATTACHMENT_KEY,
                null=BranchImages(fingerprint=self.fingerprint),
                opposite=partial(opposite_of, self.fingerprint),
                require=self._require_own,
                start_percent=applied.start_percent,
                end_percent=applied.end_percent,
            ),
        )
        geometry = read_unet_geometry(model)
        layers = {
            geometry.blocks[name].location: TermLayer(
                number, self.scale * applied.block_strengths[name]
            )
            for number, name in enumerate(ordered_blocks(geometry))
        }
        term = make_image_term(patcher.model, layers)
        attach_attention_term(model, TERM_KEY, "attn2", term)

    def _require_own(self, branch: BranchImages) -> None:
        """Embeddings mean something to the adapter that they were made for only."""
        if getattr(branch, "fingerprint", None) != self.fingerprint:
            raise ValueError(
                f"conditioning: expected subjects encoded with the adapter '{self.name}' of "
                "the MODEL, got another adapter's. Connect the same adapter to Subject-Diffusion "
                "Encode and Apply."
            )


def ordered_blocks(geometry: UnetGeometry) -> list[str]:
    """diffusers' names in the order of its attention processors: down, up, middle last."""
    names = in_order(list(geometry.blocks))
    return sorted(names, key=lambda name: name.startswith("mid_block"))


def recognises(header: FileHeader) -> bool:
    """By its keys, or because its metadata says so: then what lacks is said."""
    return ip_attention_file.recognises(header) or method_of(header) == METHOD


def load(header: FileHeader) -> IpAttentionAdapter:
    return IpAttentionAdapter(header.path.name, ip_attention_file.load(header))


IP_ATTENTION = AdapterFamily(method=METHOD, recognises=recognises, load=load)
