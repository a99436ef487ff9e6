# Shapes: V views of a subject, G width of a label's vector, S reference size, L tokens of a
#         picture, E their width.
"""What IP-Adapter and MS-Diffusion read of a picture, and their three branches: plain texts, and
the subjects beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import comfy.model_management
import torch

from ....subject_diffusion_core.files.ip_attention_file import BASE, GROUNDED, IpAttentionFile
from ...host.comfy_types import ClipVision, Conditioning
from ...host.run_attachment import BranchCond
from ...host.sampling_run import WHOLE_PICTURE, Frame, WatchedText
from ...subjects.subject import Embeds, Subject
from ..family import ATTACHMENT_KEY, Branches, EncodeRequest, PictureReader, Present
from ..texts import TextEncoder
from .label_texts import label_span, pooled_label, watched_labels

PICTURE_SIZE = 224  # of every CLIP Vision model of these files
POOLED, TOKENS = "image_embeds", "penultimate_embeds"


class TokenReader(PictureReader):
    """The pooled vector of a picture, or its tokens before the encoder's last layer."""

    reference_size = PICTURE_SIZE

    def __init__(self, adapter_name: str, file: IpAttentionFile) -> None:
        self._adapter_name = adapter_name
        self._file = file
        self.encoder_to_connect = f"{file.encoder} with Load CLIP Vision"

    def encode(self, clip_vision: ClipVision, picture: torch.Tensor) -> Embeds:
        """The pooled vector (1, E), or the penultimate hidden states (1, L, E)."""
        output = clip_vision.encode_image(picture, crop=True)
        if self._file.kind == BASE:
            return {POOLED: output.image_embeds.float().cpu()}
        return {TOKENS: output.penultimate_hidden_states.float().cpu()}

    def encode_absence(self, clip_vision: ClipVision) -> Embeds | None:
        """A pooled vector of zeros, or the hidden states of a picture whose pixels are 0 *after*
        the encoder's normalisation, which no picture gives. MS-Diffusion has neither."""
        if self._file.kind == GROUNDED:
            return None
        if self._file.kind == BASE:
            return {POOLED: torch.zeros(1, self._file.embed_dim)}
        patcher = clip_vision.patcher
        comfy.model_management.load_model_gpu(patcher)
        size = clip_vision.image_size
        pixels = torch.zeros(1, 3, size, size, device=patcher.load_device)
        states = clip_vision.model(pixel_values=pixels, intermediate_output=-2)[1]
        return {TOKENS: states.float().cpu()}

    def require(self, argument: str, embeds: Embeds) -> None:
        is_base, width = self._file.kind == BASE, self._file.embed_dim
        what = "an image embedding" if is_base else "tokens"
        found = embeds.get(POOLED if is_base else TOKENS)
        got = ", ".join(sorted(embeds)) if found is None else f"width {found.shape[-1]}"
        if found is None or found.shape[-1] != width:
            raise ValueError(
                f"{argument}: expected an encoder with {what} of width {width} for the adapter "
                f"'{self._adapter_name}', got {got}. Connect {self.encoder_to_connect}, and "
                "encode saved subjects again with it."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownSubject:
    """One subject as the attention sees it; hashed by identity, as tables of a run are kept by it.

    Attributes:
        embeds: of the image encoder, a row for every view.
        box_xyxy: in 0..1 of the whole generated picture, None = everywhere.
        region: (H, W) in 0..1 of the whole generated picture, in place of the box; or None.
        strength: its own.
        label_embed: (G,) where the family reads labels, else None.
        label_span: the label's first and last token in the prompt; None where it is not named.
    """

    embeds: Embeds
    box_xyxy: Frame | None
    region: torch.Tensor | None
    strength: float
    label_embed: torch.Tensor | None
    label_span: tuple[int, int] | None = None

    @property
    def has_place(self) -> bool:
        return self.box_xyxy is not None or self.region is not None

    def box_in(self, frame: Frame) -> torch.Tensor:
        """(4,) its box in 0..1 of the frame; may reach beyond it."""
        x1, y1, x2, y2 = frame
        box = torch.tensor(self.box_xyxy or WHOLE_PICTURE)
        origin = torch.tensor([x1, y1, x1, y1])
        size = torch.tensor([x2 - x1, y2 - y1, x2 - x1, y2 - y1])
        return (box - origin) / size


@dataclass(frozen=True, kw_only=True, eq=False)
class BranchImages:
    """What one branch knows of the subjects.

    Attributes:
        fingerprint: of the adapter that they were encoded for.
        subjects: empty in a branch without them, which costs nothing then.
        avoided: what stands in their places in a negative branch that was not made by Encode.
        grounded: whether their tokens know boxes and labels.
        memory_shape: of the image tokens.
    """

    fingerprint: str
    subjects: tuple[ShownSubject, ...] = ()
    avoided: tuple[ShownSubject, ...] = ()
    grounded: bool = True
    memory_shape: tuple[int, int] = (1, 1)

    @property
    def acts(self) -> bool:
        return bool(self.subjects)


class BranchEncoder:
    """The three branches for any set of an Encode's subjects."""

    def __init__(
        self, texts: TextEncoder, file: IpAttentionFile, adapter_name: str, request: EncodeRequest
    ) -> None:
        self._texts = texts
        self._file = file
        self._request = request
        self._positive_text = texts.encode(request.prompt)
        _require_text_width(self._positive_text, file, adapter_name)
        self._negative_text = texts.encode(request.negative_prompt)
        self._shown: dict[int, ShownSubject] = {}
        self._avoided: dict[int, ShownSubject] = {}
        self._empty = self._carry(self._negative_text, self._images((), ()))

    def encode(self, present: Present) -> Branches:
        shown = tuple(self._show(index, subject) for index, subject in present)
        avoided = tuple(self._avoid(index) for index, _ in present) if self._has_negative else ()
        images = self._images(shown, avoided)
        watched = watched_labels(self._texts, self._request.prompt, present)
        negative = self._empty
        if avoided:
            negative = self._carry(self._negative_text, self._images(avoided, ()))
        return (
            self._carry(self._positive_text, images, watched),
            self._carry(self._negative_text, images),
            negative,
        )

    @property
    def _negative_embeds(self) -> Embeds | None:
        """The negative image stands in every subject's place; without it, no picture at all."""
        return self._request.negative_embeds or self._request.absent_embeds

    @property
    def _has_negative(self) -> bool:
        return self._negative_embeds is not None

    def _show(self, index: int, subject: Subject) -> ShownSubject:
        """Its tables of a run serve all branches and periods, as it is one object."""
        if index not in self._shown:
            assert subject.embeds is not None
            needs_label, texts = self._file.kind == GROUNDED, self._texts
            self._shown[index] = ShownSubject(
                embeds=subject.embeds.tensors,
                box_xyxy=None if subject.box is None else subject.box.edges,
                region=subject.region,
                strength=subject.strength,
                label_embed=pooled_label(texts, subject.label, self._file.label_dim)
                if needs_label
                else None,
                label_span=label_span(texts, self._request.prompt, subject.label),
            )
        return self._shown[index]

    def _avoid(self, index: int) -> ShownSubject:
        """What the negative branch has in a subject's place, with the same strength."""
        if index not in self._avoided:
            assert self._negative_embeds is not None
            self._avoided[index] = replace(self._shown[index], embeds=self._negative_embeds)
        return self._avoided[index]

    def _images(
        self, subjects: tuple[ShownSubject, ...], avoided: tuple[ShownSubject, ...]
    ) -> BranchImages:
        tokens = max(len(subjects), 1) * self._file.num_tokens
        return BranchImages(
            fingerprint=self._file.fingerprint,
            subjects=subjects,
            avoided=avoided,
            grounded=self._request.box_coordinates,
            memory_shape=(tokens, self._file.context_dim),
        )

    def _carry(
        self, text: Conditioning, images: BranchImages, watched: WatchedText | None = None
    ) -> Conditioning:
        carried = []
        for tensor, values in text:
            cond = BranchCond(value=images, text=watched, encoded=tensor)
            carried.append([tensor, {**values, "model_conds": {ATTACHMENT_KEY: cond}}])
        return carried


def _require_text_width(text: Conditioning, file: IpAttentionFile, adapter_name: str) -> None:
    width = text[0][0].shape[-1]
    if width != file.context_dim:
        raise ValueError(
            f"clip: expected texts of width {file.context_dim} as the adapter '{adapter_name}' and "
            f"its base model read them, got {width}. Connect the CLIP of the MODEL's checkpoint, "
            f"{file.base}."
        )


def opposite_of(fingerprint: str, branches: Sequence[object]) -> BranchImages:
    """What a negative conditioning from elsewhere gets: all that the subjects of the other branches
    shall not be. What another adapter encoded is not looked at: it is refused."""
    own = [branch for branch in branches if isinstance(branch, BranchImages)]
    avoided = dict.fromkeys(subject for branch in own for subject in branch.avoided)
    return BranchImages(
        fingerprint=fingerprint,
        subjects=tuple(avoided),
        grounded=all(branch.grounded for branch in own),
        memory_shape=max((branch.memory_shape for branch in own), default=(1, 1)),
    )
