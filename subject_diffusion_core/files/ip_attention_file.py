# Shapes: d width of a layer, C width of an image token, E width of the image encoder's tokens.
"""Public files of IP-Adapter and MS-Diffusion, recognised by their keys and read as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from ..errors import CheckpointError
from ..ip_attention import (
    FullFaceProjection,
    GroundingResampler,
    ImageProjection,
    PerceiverResampler,
)
from .header import FileHeader
from .safetensors_file import read_tensors
from .subject_file import hash_weights

Projection = ImageProjection | FullFaceProjection | PerceiverResampler | GroundingResampler
BASE, PLUS, FULL_FACE, GROUNDED = "base", "plus", "full face", "grounded"
IMAGE, PAIRS, GROUNDED_PAIRS = "image_proj.", "ip_adapter.", "ms_adapter."
DUMMY_TOKENS = "dummy_image_tokens"
TOKENS_OF_BASE = 4
TOKENS_OF_FULL_FACE = 257  # all of the image encoder
BOX_FEATURES = 64
HEAD_DIM = 64  # of every resampler that was published
FACE_WIDTH = 512  # of what face networks say
# width of the text's and the image's tokens -> base, and its number of cross-attention layers
BASES = {768: ("SD 1.5", 16), 1024: ("SD 2", 16), 2048: ("SDXL", 70)}
POOLED_ENCODERS = {1024: "CLIP ViT-H/14", 1280: "CLIP ViT-bigG/14", 768: "CLIP ViT-L/14"}
TOKEN_ENCODERS = {1280: "CLIP ViT-H/14", 1664: "CLIP ViT-bigG/14", 1024: "CLIP ViT-L/14"}
# The families' own scales: a subject of strength 1 has them.
SCALES = {GROUNDED: 0.6}
_PAIR = re.compile(r"(\d+)\.to_([kv])_ip\.weight")
_NUMBERS = ("F64", "F32", "F16", "BF16")
_MAX_NAME = 80
_DOWNLOAD = "Download it again from its makers."


@dataclass(frozen=True, kw_only=True, eq=False)
class IpAttentionFile:
    """One file, checked completely.

    Attributes:
        kind: BASE, PLUS or FULL_FACE of IP-Adapter, or GROUNDED, MS-Diffusion.
        image: of the projection that makes image tokens of what the encoder says, as stored.
        pairs: for every cross-attention layer in diffusers' order (down, up, middle last) its
            key and value weights, both (d, C).
        embed_dim: E, or the width of the pooled vector for BASE.
        context_dim: C.
        num_tokens: of one picture.
    """

    kind: str
    image: Mapping[str, torch.Tensor]
    pairs: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    embed_dim: int
    context_dim: int
    num_tokens: int

    @property
    def method(self) -> str:
        return "MS-Diffusion" if self.kind == GROUNDED else f"IP-Adapter {self.kind}"

    @property
    def base(self) -> str:
        """The base model by the tokens' width."""
        named = BASES.get(self.context_dim)
        return "a base of its own" if named is None else named[0]

    @property
    def encoder(self) -> str:
        """The image encoder by its width."""
        if self.kind == BASE:
            return POOLED_ENCODERS.get(self.embed_dim, f"one of embedding width {self.embed_dim}")
        return TOKEN_ENCODERS.get(self.embed_dim, f"one of token width {self.embed_dim}")

    @property
    def label_dim(self) -> int:
        """Width of a label's vector, for GROUNDED."""
        return _label_dim(self.image)

    @cached_property
    def fingerprint(self) -> str:
        layers = {f"{i}.{j}": w for i, pair in enumerate(self.pairs) for j, w in enumerate(pair)}
        return hash_weights({**self.image, **layers})

    def build_projection(self) -> Projection:
        """A module of its own each time, around the same numbers."""
        projection = _new_projection(self.kind, self.image)
        projection.load_state_dict(self.image, assign=True)
        return projection.eval().requires_grad_(False)


def recognises(header: FileHeader) -> bool:
    """By its keys, also if some of them are missing."""
    return any(
        name.startswith((IMAGE, PAIRS, GROUNDED_PAIRS)) or _PAIR.fullmatch(name)
        for name in header.tensors
    )


def load(header: FileHeader) -> IpAttentionFile:
    """Read a file and check it completely.

    Raises:
        CheckpointError: half a file, two in one, one that needs a face network, wrong shapes, NaN.
    """
    path = header.path
    _refuse_by_names(header)
    _require_numbers(header)
    tensors = read_tensors(header, _DOWNLOAD)
    prefix = GROUNDED_PAIRS if DUMMY_TOKENS in tensors else PAIRS
    image = _below(tensors, IMAGE)
    kind = _kind(image, prefix == GROUNDED_PAIRS, header)
    try:
        projection = _new_projection(kind, image)
    except (LookupError, ValueError) as error:
        missing = error.args[0] if isinstance(error, KeyError) else "layers.*"
        raise _incomplete(header, f"a file without {IMAGE}{missing}") from error
    _require_fit(projection, image, header)
    context_dim = _last_norm(image).shape[0]
    return IpAttentionFile(
        kind=kind,
        image=image,
        pairs=_read_pairs(_below(tensors, prefix), context_dim, str(path)),
        embed_dim=projection.embed_dim,
        context_dim=context_dim,
        num_tokens=_num_tokens(kind, image),
    )


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): tensor for k, tensor in tensors.items() if k.startswith(prefix)}


def _refuse_by_names(header: FileHeader) -> None:
    names = header.tensors
    has = {prefix: any(n.startswith(prefix) for n in names) for prefix in (IMAGE, PAIRS)}
    grounded = any(name.startswith(GROUNDED_PAIRS) for name in names)
    if has[PAIRS] and (grounded or DUMMY_TOKENS in names):
        raise CheckpointError(
            f"{header.path}: expected the tensors of one adapter, got those of IP-Adapter "
            f"({PAIRS}*) and of MS-Diffusion ({GROUNDED_PAIRS}* or {DUMMY_TOKENS}) in one file. "
            + _DOWNLOAD
        )
    if not has[IMAGE]:
        raise _incomplete(header, f"a file without {IMAGE}*")
    if not has[PAIRS] and not grounded:
        raise _incomplete(header, f"a file without {PAIRS}*")
    if grounded and DUMMY_TOKENS not in names:
        raise _incomplete(header, f"a file of MS-Diffusion without {DUMMY_TOKENS}")


def _require_numbers(header: FileHeader) -> None:
    for name, info in header.tensors.items():
        if not name.startswith((IMAGE, PAIRS, GROUNDED_PAIRS)) and name != DUMMY_TOKENS:
            continue
        if 0 in info.shape:
            raise CheckpointError(
                f"{header.path}: expected numbers in '{name[:_MAX_NAME]}', got an empty tensor of "
                f"shape {tuple(info.shape)}. {_DOWNLOAD}"
            )
        if info.dtype not in _NUMBERS:
            raise CheckpointError(
                f"{header.path}: expected numbers of 16 or 32 bits, got {info.dtype} in "
                f"'{name[:_MAX_NAME]}'. {_DOWNLOAD}"
            )


def _incomplete(header: FileHeader, found: str) -> CheckpointError:
    return CheckpointError(
        f"{header.path}: expected a complete file of IP-Adapter or MS-Diffusion, got {found}. "
        + _DOWNLOAD
    )


def _kind(image: Mapping[str, torch.Tensor], grounded: bool, header: FileHeader) -> str:
    """By the names of the image projection; those that need a face network are refused."""
    is_face = "norm.weight" in image and "proj.0.weight" in image
    is_face |= any(name.startswith("perceiver_resampler.") for name in image)
    is_face |= "proj_in.weight" in image and image["proj_in.weight"].shape[-1] == FACE_WIDTH
    if is_face:
        raise CheckpointError(
            f"{header.path}: expected an IP-Adapter that reads a CLIP image encoder, got one of a "
            "face identity (FaceID or InstantID), which needs a face recognition network. Choose a "
            "base, plus or full face file."
        )
    if grounded:
        return GROUNDED
    if "proj.weight" in image:
        return BASE
    if "proj.3.weight" in image:
        return FULL_FACE
    if "latents" in image or "proj_in.weight" in image:
        return PLUS
    names = ", ".join(name[:_MAX_NAME] for name in sorted(image)[:3])
    raise _incomplete(header, f"a file whose {IMAGE}* ({names}) is unknown")


def _last_norm(image: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(C,)"""
    return next(image[n] for n in ("norm_out.weight", "norm.weight", "proj.3.weight") if n in image)


def _new_projection(kind: str, image: Mapping[str, torch.Tensor]) -> Projection:
    """Without memory, its sizes by the tensors; LookupError where one of them is missing."""
    with torch.device("meta"):
        if kind == BASE:
            rows, embed_dim = image["proj.weight"].shape
            return ImageProjection(embed_dim, rows // TOKENS_OF_BASE, TOKENS_OF_BASE)
        if kind == FULL_FACE:
            return FullFaceProjection(image["proj.0.weight"].shape[1], len(image["proj.3.weight"]))
        dim, embed_dim = image["proj_in.weight"].shape
        depth = len({name.split(".")[1] for name in image if name.startswith("layers.")})
        num_heads = image["layers.0.0.to_q.weight"].shape[0] // HEAD_DIM
        output_dim = image["proj_out.weight"].shape[0]
        sizes = (dim, depth, HEAD_DIM, num_heads)
        if kind == PLUS:
            num_queries = image["latents"].shape[1]
            return PerceiverResampler(*sizes, num_queries, embed_dim, output_dim)
        num_queries = image["grounding_latents"].shape[1]
        return GroundingResampler(*sizes, num_queries, embed_dim, output_dim, _label_dim(image))


def _label_dim(image: Mapping[str, torch.Tensor]) -> int:
    """What the first layer of the latents reads beside a box's Fourier features."""
    return image["latent_proj.0.weight"].shape[1] - BOX_FEATURES


def _num_tokens(kind: str, image: Mapping[str, torch.Tensor]) -> int:
    if kind in (BASE, FULL_FACE):
        return TOKENS_OF_BASE if kind == BASE else TOKENS_OF_FULL_FACE
    return image["latents" if kind == PLUS else "grounding_latents"].shape[1]


def _require_fit(
    projection: Projection, image: Mapping[str, torch.Tensor], header: FileHeader
) -> None:
    wanted = projection.state_dict()
    for name, tensor in wanted.items():
        if name not in image:
            raise _incomplete(header, f"a file without {IMAGE}{name}")
        if image[name].shape != tensor.shape:
            raise CheckpointError(
                f"{header.path}: expected '{IMAGE}{name}' of shape {tuple(tensor.shape)}, got "
                f"{tuple(image[name].shape)}. {_DOWNLOAD}"
            )
    surplus = sorted(set(image) - set(wanted))
    if surplus:
        raise _incomplete(
            header, f"one with {len(surplus)} others, such as '{IMAGE}{surplus[0][:_MAX_NAME]}'"
        )


def _read_pairs(
    layers: Mapping[str, torch.Tensor], context_dim: int, path: str
) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    """Keys and values of layers 1, 3, 5, ...: of diffusers' list, these are cross-attention."""
    found = {match.groups(): t for n, t in layers.items() if (match := _PAIR.fullmatch(n))}
    numbers = sorted({int(number) for number, _ in found})
    expected = list(range(1, 2 * max(1, len(numbers)), 2))
    complete = numbers == expected and len(found) == 2 * len(numbers)
    base, count = BASES.get(context_dim, ("", len(numbers)))
    if not complete or len(numbers) != count:
        wanted = f"{count} pairs of keys and values" + (f" for {base}" if base else "")
        raise CheckpointError(
            f"{path}: expected {wanted}, got {len(found)} tensors of {len(numbers)} layers. "
            + _DOWNLOAD
        )
    pairs = tuple((found[str(n), "k"], found[str(n), "v"]) for n in numbers)
    for number, (key, value) in zip(numbers, pairs, strict=True):
        if key.ndim != 2 or key.shape != value.shape or key.shape[1] != context_dim:
            raise CheckpointError(
                f"{path}: expected keys and values of width {context_dim} as the image tokens, got "
                f"{tuple(key.shape)} and {tuple(value.shape)} in layer {number}. {_DOWNLOAD}"
            )
    return pairs
