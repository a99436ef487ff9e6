"""The decoders under test, each one line of settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

from subject_diffusion_core.tiny.tiny_vision import COARSE_BLOCK, FINE_BLOCK
from training.toy.recipe import AutoencoderRecipe

SHIPPED = "shipped"
WARMUP_STEPS, SMOOTH_WIDTH = 30, 32


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A decoder trained on from the stored one.

    Attributes:
        name: of the command. title: in the table.
        recipe: what its training differs in from the small model's.
    """

    name: str
    title: str
    recipe: AutoencoderRecipe

    @property
    def own_latents(self) -> bool:
        """Whether its latents are no longer those of edition four's base."""
        return self.recipe.train_encoder

    def training(self, steps: int) -> AutoencoderRecipe:
        """The recipe for so many steps."""
        return replace(self.recipe, steps=steps, warmup_steps=min(WARMUP_STEPS, steps))


SAME = AutoencoderRecipe()
SMOOTH = replace(SAME, smooth_width=SMOOTH_WIDTH)
FEATURES = replace(SMOOTH, perceptual_weight=1.0)
DEEP = replace(FEATURES, perceptual_blocks=(2, FINE_BLOCK, COARSE_BLOCK))
ENCODER = replace(SMOOTH, train_encoder=True)
VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(name="longer", title="trained on as before", recipe=SAME),
        Variant(name="smooth", title="and a last part across borders (b)", recipe=SMOOTH),
        Variant(name="features", title="(b), features five times as heavy", recipe=FEATURES),
        Variant(name="deep", title="the same, also at stride 16", recipe=DEEP),
        Variant(
            name="borders",
            title="(b), error of the steps between blocks (2)",
            recipe=replace(SMOOTH, border_weight=2.0),
        ),
        Variant(
            name="same_borders",
            title="as before, error of the steps between blocks (1)",
            recipe=replace(SAME, border_weight=1.0),
        ),
        Variant(name="encoder", title="(b), the encoder trained, too", recipe=ENCODER),
        Variant(
            name="overlap",
            title="the same, over blocks that overlap by 4 pixels",
            recipe=replace(ENCODER, overlap=4),
        ),
    )
}
