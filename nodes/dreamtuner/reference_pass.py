# Shapes: C latent channels, h, w size of a reference's latent, R its positions in a layer, H heads,
#         K width of a head.
"""The UNet's own pass over a reference: a call of batch 1 beside the model's calls, once for every
noise level, from which all branches and samples take keys and values."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import comfy.gligen
import torch

from ...subject_diffusion_core.area_resize import area_resize
from ..host.attention_terms import AttentionCall
from ..host.comfy_types import Entry, Executor, Model, Options
from ..host.run_attachment import BranchCall
from ..host.unet_geometry import Location, latent_size_of_block
from .attention_share import REPORT_KEY, is_reported_step
from .key_store import KeyStore, LayerKeys
from .pass_inputs import PassInputs, caption_at, make_pass_inputs
from .references import REFERENCES_KEY, BranchReferences, Reference, ReferencedSubject

WRITE_KEY = "subject_diffusion_reference_pass"
READ_KEY = "subject_diffusion_reference_keys"


@dataclass(frozen=True, kw_only=True)
class PassSettings:
    """How the references are noised, and in which layers their keys are kept.

    Attributes:
        store: for keys that outlive their run; None = none do.
    """

    locations: frozenset[Location]
    noise: Literal["fixed", "per step"]
    noise_seed: int
    store: KeyStore | None = None


class ReferenceKeys:
    """The keys and values of one pass, layer by layer."""

    def __init__(
        self,
        reference: Reference,
        locations: frozenset[Location],
        layers: dict[Location, LayerKeys] | None = None,
    ) -> None:
        self.reference = reference
        self.layers: dict[Location, LayerKeys] = {} if layers is None else layers
        self._locations = locations
        self._weights: dict[tuple[int, int], torch.Tensor] = {}

    def keep(self, attention: AttentionCall) -> None:
        if attention.location not in self._locations:
            return
        size = layer_size(attention)
        weights = self._weights_at(size)
        kept = (weights > 0).nonzero()[:, 0].to(attention.key.device)
        everything = len(kept) == len(weights)
        self.layers[attention.location] = LayerKeys(
            key=attention.key if everything else attention.key[:, kept],
            value=attention.value if everything else attention.value[:, kept],
            weights=weights[weights > 0],
            size=size,
        )

    def _weights_at(self, size: tuple[int, int]) -> torch.Tensor:
        """(h * w,) share of each position that the mask covers."""
        if size not in self._weights:
            mask = self.reference.mask
            weights = torch.ones(size) if mask is None else area_resize(mask, *size).clamp(0, 1)
            # what resizing leaves of 0 and 1 shall be 0 and 1: dropped, and without a bias
            self._weights[size] = weights.round(decimals=5).flatten()
        return self._weights[size]


class SeenSubject(NamedTuple):
    """A subject that acts in a model call, and the keys of its pictures."""

    subject: ReferencedSubject
    pictures: tuple[ReferenceKeys, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenReferences:
    """All that the layers of one model call need.

    Attributes:
        call: the branches of this call.
        subjects: of each branch's references; branches that see none are not in it.
    """

    call: BranchCall
    subjects: dict[BranchReferences, tuple[SeenSubject, ...]]


def layer_size(attention: AttentionCall) -> tuple[int, int]:
    """h, w of a self-attention layer, whose keys must be its positions."""
    num_samples, num_keys = attention.key.shape[:2]
    shape = attention.options.get("activations_shape")
    changed = shape is not None and shape[-2] * shape[-1] != num_keys
    if changed or attention.query.shape[0] != num_samples:
        raise ValueError(
            "model: expected self-attention over the whole picture, got layers that another node "
            "cut into tiles. Turn HyperTile off where self-subject-attention is used."
        )
    return latent_size_of_block(attention.options, num_keys)


class ReferencePasses:
    """The passes of one sampling run; keeps the keys of the latest noise level only.

    Args:
        model: the ComfyUI model of the run.
    """

    def __init__(self, settings: PassSettings, model: Any) -> None:
        self._settings = settings
        self._store = _store_for(settings, model)
        self._lock = threading.Lock()
        self._sigma: float | None = None
        self._keys: dict[tuple[Reference, float], ReferenceKeys] = {}
        self._inputs: dict[tuple[Reference, int], PassInputs] = {}

    def seen_in(
        self, call: BranchCall, executor: Executor, sigma: torch.Tensor, options: Options
    ) -> SeenReferences:
        """The references of a model call at `sigma` (1,), after the passes that it takes."""
        sampling = executor.class_obj.model_sampling

        def keys_of(reference: Reference, time_bias: int) -> ReferenceKeys:
            shifted = shift_sigma(sampling, sigma, time_bias)
            key = (reference, float(shifted))
            if key not in self._keys:
                self._keys[key] = self._keys_at(executor, reference, shifted, options)
            return self._keys[key]

        with self._lock:
            if self._sigma != float(sigma):
                self._sigma = float(sigma)
                self._keys.clear()
            found = {
                value: tuple(
                    SeenSubject(
                        subject, tuple(keys_of(picture, value.time_bias) for picture in pictures)
                    )
                    for subject, pictures in _acting(value, sampling, float(sigma))
                )
                for value in {part.value for part in call.parts}
            }
        return SeenReferences(call=call, subjects={k: seen for k, seen in found.items() if seen})

    def _keys_at(
        self, executor: Executor, reference: Reference, sigma: torch.Tensor, options: Options
    ) -> ReferenceKeys:
        """Those of an earlier run where they were kept, else of a pass now."""
        if self._store is None or _has_weight_hooks(executor.class_obj):
            return self._run(executor, reference, sigma, options)
        name = (reference, float(sigma), sigma.dtype)
        layers = self._store.find(name, sigma.device)
        if layers is not None:
            return ReferenceKeys(reference, self._settings.locations, layers)
        keys = self._run(executor, reference, sigma, options)
        self._store.keep(name, keys.layers)
        return keys

    def _run(
        self, executor: Executor, reference: Reference, sigma: torch.Tensor, options: Options
    ) -> ReferenceKeys:
        model = executor.class_obj
        inputs = self._inputs_of(reference, model, sigma)
        noise = self._noise(reference, model.model_sampling, sigma).to(inputs.latent)
        noised = model.model_sampling.noise_scaling(sigma, noise, inputs.latent)
        keys = ReferenceKeys(reference, self._settings.locations)
        conds = dict(inputs.conds)
        own_options = {
            **options,
            "patches": without_gligen(options.get("patches", {})),
            WRITE_KEY: keys,
            "cond_or_uncond": [0],
            "uuids": [inputs.uuid],
            "sigmas": sigma,
        }
        concat, context = conds.pop("c_concat", None), conds.pop("c_crossattn", None)
        executor(noised, sigma, concat, context, None, own_options, **conds)
        return keys

    def _noise(self, reference: Reference, sampling: Any, sigma: torch.Tensor) -> torch.Tensor:
        """Of a generator of its own: ComfyUI's own random numbers stay as they are."""
        seed = self._settings.noise_seed
        if self._settings.noise == "per step":
            seed = (seed + 1 + _timestep(sampling, sigma)) % 2**63
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(reference.latent.shape, generator=generator)

    def _inputs_of(self, reference: Reference, model: Any, sigma: torch.Tensor) -> PassInputs:
        entry = caption_at(reference.caption, model.model_sampling, float(sigma))
        if (reference, entry) not in self._inputs:
            made = make_pass_inputs(reference, entry, model, sigma)
            self._inputs[reference, entry] = made
        return self._inputs[reference, entry]


def _store_for(settings: PassSettings, model: Any) -> KeyStore | None:
    """The store of the MODEL that samples; none in calls that no sampling prepared."""
    patcher = getattr(model, "current_patcher", None)
    if settings.store is None or patcher is None:
        return None
    settings.store.begin_run(patcher)
    return settings.store


def _has_weight_hooks(model: Any) -> bool:
    """Whether weights change in mid-run, so that a noise level does not tell them."""
    return getattr(model.current_patcher, "current_hooks", None) is not None


def without_gligen(patches: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """A call's patches but those of ComfyUI's GLIGEN, made for its own boxes and batch."""
    return {
        name: [p for p in of_kind if getattr(p, "__module__", "") != comfy.gligen.__name__]
        for name, of_kind in patches.items()
    }


def _acting(
    references: BranchReferences, sampling: Any, sigma: float
) -> Iterable[tuple[ReferencedSubject, tuple[Reference, ...]]]:
    for subject in references.subjects:
        start, end = (
            sampling.percent_to_sigma(percent)
            for percent in (subject.start_percent, subject.end_percent)
        )
        if start >= sigma > end:
            yield subject, subject.pictures


def shift_sigma(sampling: Any, sigma: torch.Tensor, time_bias: int) -> torch.Tensor:
    """The noise level `time_bias` timesteps later in the diffusion (noisier), within the model's;
    `sigma` (1,) itself for 0."""
    if time_bias == 0:
        return sigma
    shifted = _timestep(sampling, sigma) + time_bias
    level: torch.Tensor = sampling.sigmas[max(0, min(shifted, len(sampling.sigmas) - 1))]
    return level.reshape(1).to(sigma)


def _timestep(sampling: Any, sigma: torch.Tensor) -> int:
    """The model's timestep of 0..999 that is nearest to `sigma`."""
    levels = sampling.sigmas.log()
    return int((levels - sigma.log().to(levels)).abs().argmin())


def prepare_sampling(
    executor: Executor,
    model: Model,
    noise_shape: Sequence[int],
    conds: dict[str, list[Entry]],
    *args: Any,
    **kwargs: Any,
) -> Any:
    """A wrapper for PREPARE_SAMPLING: memory for one sample more, as the passes take it."""
    entries = [entry["model_conds"].get(REFERENCES_KEY) for of in conds.values() for entry in of]
    has_passes = any(cond is not None and cond.value.subjects for cond in entries)
    shape = [noise_shape[0] + has_passes, *noise_shape[1:]]
    return executor(model, shape, conds, *args, **kwargs)


def make_apply_model_wrapper(settings: PassSettings) -> Callable[..., Any]:
    """Before a model call whose branches have references: the passes that it takes."""

    def apply_model(
        executor: Executor,
        x: torch.Tensor,
        t: torch.Tensor,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: Options | None = None,
        **kwargs: Any,
    ) -> Any:
        options = transformer_options or {}
        call: BranchCall | None = kwargs.get(REFERENCES_KEY)
        if call is not None and call.run is not None and call.run.is_active(t):
            passes = call.run.once(
                "reference passes",
                lambda: ReferencePasses(settings, executor.class_obj),
            )
            seen = passes.seen_in(call, executor, t[:1], options)
            options = {**options, READ_KEY: seen} if seen.subjects else options
            if REPORT_KEY in options and not is_reported_step(t, options):
                options = {key: kept for key, kept in options.items() if key != REPORT_KEY}
        return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

    return apply_model
