"""Every number of the text stage: its pictures, its lessons, its trainings."""

from __future__ import annotations

from dataclasses import dataclass, field

from subject_diffusion_core.tiny.layouts import SIZE_RANGES

from ...recipes import TrainingRecipe, recipe_named


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Shares of pictures: ``counts`` with 0, 1, 2, 3, 4 subjects; ``plain`` before a plain colour.

    A single subject stands near the middle in the share ``centred``, as subjects of photographs do;
    there ``size`` is its longer side at least and at most, ``spread`` the standard deviation of its
    place, both of the picture's side. Backgrounds are mirrored half of the time, unless not
    ``mirrored``. With ``views``, only the typical pictures are used (typical.py), so many of a
    scene; of subjects, too, unless it is ``all_cutouts``. The data stage's own pictures have
    (0, .45, .35, .10, .10) and .08.
    """

    counts: tuple[float, ...]
    plain: float
    centred: float = 0.0
    size: tuple[float, float] = SIZE_RANGES[1]
    spread: float = 0.06
    mirrored: bool = True
    views: int = 0
    all_cutouts: bool = False


TYPICAL = Mix(
    counts=(0.25, 0.75),
    plain=0.03,
    centred=1.0,
    size=(0.48, 0.52),
    spread=0.01,
    mirrored=False,
    views=3,
)


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """A canvas, how it is learnt, and what keeps it.

    Attributes:
        cell: pixels of a cell's side. size: of the object's longer side, of the picture's.
        steps, rate: of the lesson, which counts, too.
        spread: how far around a place some of the UNet's heads look after it, in cells
            (local_heads.py), 0 for no such heads. gain: of what they see at first.
        place_weight: of the loss that keeps their queries' places.
        lesson_weight: of the lesson's errors in the loss; its heads stay as the lesson left them.
        typical: shows a label's most telling cut-out (typical.py), not the mean of all.
    """

    cell: int = 12
    size: float = 0.5
    steps: int = 1500
    rate: float = 1.5e-3
    spread: float = 0.6
    gain: float = 4.0
    place_weight: float = 0.1
    lesson_weight: float = 0.05
    typical: bool = True

    @property
    def is_kept(self) -> bool:
        """Whether the loss holds it."""
        return self.place_weight > 0 or self.lesson_weight > 0

    @property
    def name(self) -> str:
        """Of the file that keeps what the lesson made."""
        look = f"{self.cell}-{self.size:g}-{self.spread:g}-{self.gain:g}"
        return f"canvas-{self.steps}-{self.rate:g}-{look}{self.kind}"

    @property
    def kind(self) -> str:
        """Of the pictures, at the end of files' names."""
        return "-typical" if self.typical else ""


@dataclass(frozen=True, kw_only=True)
class WordsLesson:
    """Steps and learning rate of the lesson of words (words.py)."""

    steps: int = 300
    rate: float = 1e-3

    @property
    def name(self) -> str:
        """Of the file that keeps what it made."""
        return f"words-{self.steps}-{self.rate:g}"


@dataclass(frozen=True, kw_only=True)
class DecoderTraining:
    """The decoder trained on under a base's own errors (decoder.py).

    Attributes:
        num_restored: pictures that the base restores from noise for it.
        crops: of those in every step, beside the autoencoder's own.
    """

    steps: int = 4000
    num_restored: int = 2400
    crops: int = 8

    @property
    def name(self) -> str:
        """Of the folder that keeps the training."""
        return f"decoder-{self.steps}-{self.crops}"


@dataclass(frozen=True, kw_only=True)
class TextRecipe:
    """The text stage: lessons for the text encoder, then text to image in the common loop.

    Attributes:
        words, canvas: the lessons, one after the other.
        mix, num_pictures: of the training pictures.
        training, refinement: two trainings, the second with timesteps towards pictures.
        decoder: under the errors of the base that came out.
    """

    words: WordsLesson = field(default_factory=WordsLesson)
    canvas: Canvas = field(default_factory=Canvas)
    mix: Mix = TYPICAL
    num_pictures: int = 30_000
    training: TrainingRecipe = field(default_factory=lambda: recipe_named("tiny_text"))
    refinement: TrainingRecipe = field(default_factory=lambda: recipe_named("tiny_text_fine"))
    decoder: DecoderTraining = field(default_factory=DecoderTraining)
