"""The options of an adapter, for all who need them: its file, its modules, its training."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

from .schema import printed

MaskKind = Literal["box", "segmentation"]
MASK_KINDS = ("box", "segmentation")
Options = TypeVar("Options", bound="AdapterOptions")


@dataclass(frozen=True, kw_only=True)
class AdapterOptions:
    """What an adapter's file, a training recipe and a model in training say alike of an adapter.

    A subclass may give an option another default, or fix it by declaring it as a `ClassVar`; then
    it is no field of its own any more.

    Attributes:
        num_subjects: N, the slots of training (2 in the paper); fewer subjects are padded with null
            tokens to N.
        grounding_hidden_dim: of the grounding net.
        projector_hidden_dim: of the image embedding's projector.
        num_freqs, temperature: of the box's Fourier features, see `BoxFourierEmbedder`.
        box_coordinates: whether the grounding tokens know their subject's box (the paper's choice;
            its ablation d is False).
        patch_positions: whether they know, besides, the box of their own patch (beyond the paper).
        query_positions: whether the adapters' queries carry the position of their latent cell
            (beyond the paper).
        token_positions: whether the grounding tokens' keys carry, in the same way, the position of
            their own patch; only with query_positions (beyond the paper).
        mask_kind: what the location mask is drawn from: boxes or segmentations.
        location_control: False if the location mask is always zero (the paper's ablation c).
    """

    num_subjects: int
    grounding_hidden_dim: int
    projector_hidden_dim: int
    num_freqs: int = 8
    temperature: float = 100.0
    box_coordinates: bool = True
    patch_positions: bool = False
    query_positions: bool = False
    token_positions: bool = False
    mask_kind: MaskKind = "box"
    location_control: bool = True

    def __post_init__(self) -> None:
        self._require_choice("mask_kind", MASK_KINDS)
        fine = self.query_positions or not self.token_positions
        self._require("token_positions", fine, "False where query_positions is off")

    @classmethod
    def from_options(cls: type[Options], options: AdapterOptions, **others: Any) -> Options:
        """An object with the options of another one; `others` are the class's own fields."""
        shared = {field.name for field in fields(AdapterOptions)}
        names = [field.name for field in fields(cls) if field.name in shared]
        return cls(**{name: getattr(options, name) for name in names}, **others)

    @property
    def query_position_dim(self) -> int:
        """Width of the position features that the adapters' queries take, 0 for none."""
        return 8 * self.num_freqs if self.query_positions else 0

    @property
    def patches_have_positions(self) -> bool:
        """Whether the patches of a reference must form a square grid."""
        return self.patch_positions or self.token_positions

    def _require(self, name: str, fine: bool, expected: str) -> None:
        if not fine:
            got = printed(getattr(self, name))
            raise ValueError(f"{name}: expected {expected}, got {got}. {self._advice(name)}")

    def _require_choice(self, name: str, choices: tuple[Any, ...]) -> None:
        fine = getattr(self, name) in choices
        self._require(name, fine, f"one of {', '.join(map(str, choices))}")

    def _advice(self, _name: str) -> str:
        """The sentence that says what to do about a wrong option."""
        return "Correct the configuration."
