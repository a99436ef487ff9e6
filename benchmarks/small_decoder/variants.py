"""The decoders under test, each one line of settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

from subject_diffusion_core.tiny.tiny_vision import COARSE_BLOCK, FINE_BLOCK
from training.toy.recipe import AutoencoderRecipe

UNTRAINED = "start"
SMOOTH_WIDTH = 32


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A decoder trained on from that of the start.

    Attributes:
        name: of the command. title: in the table.
        recipe: what its training differs in from edition four's, the start of the page's rows.
        smooth_width, overlap: of parts that the start's autoencoder lacks (larger.py).
        own_latents: the encoder is trained, too, so latents are no longer those of a base.
    """

    name: str
    title: str
    recipe: AutoencoderRecipe
    smooth_width: int = 0
    overlap: int = 0
    own_latents: bool = False

    def training(self, steps: int) -> AutoencoderRecipe:
        """The recipe for so many steps."""
        return self.recipe.going_on(steps)


SAME = AutoencoderRecipe(border_weight=0.0, latent_noise=(0.1, 0.1))
BORDERS = replace(SAME, border_weight=1.0)
FEATURES = replace(SAME, perceptual_weight=1.0)
DEEP = replace(FEATURES, perceptual_blocks=(2, FINE_BLOCK, COARSE_BLOCK))
SMOOTH = Variant(
    name="smooth",
    title="a last part across borders (b)",
    recipe=SAME,
    smooth_width=SMOOTH_WIDTH,
)
VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(name="same_borders", title="error of the steps between blocks (1)", recipe=BORDERS),
        Variant(
            name="noisy",
            title="(1), under noise of 0 to .3 in place of .1",
            recipe=replace(BORDERS, latent_noise=(0.0, 0.3)),
        ),
        Variant(
            name="noisier",
            title="(1), under noise of 0 to .4",
            recipe=replace(BORDERS, latent_noise=(0.0, 0.4)),
        ),
        SMOOTH,
        replace(
            SMOOTH,
            name="borders",
            title="(b), error of the steps between blocks (2)",
            recipe=replace(SAME, border_weight=2.0),
        ),
        replace(
            SMOOTH, name="features", title="(b), features five times as heavy", recipe=FEATURES
        ),
        replace(SMOOTH, name="deep", title="the same, also at stride 16", recipe=DEEP),
        replace(
            SMOOTH,
            name="overlap",
            title="(b), the encoder trained, too, over blocks that overlap by 4 pixels",
            overlap=4,
            own_latents=True,
        ),
    )
}
