"""Sample sheets: the same held-out subjects every time, with where their words look.

# Shapes: B samples, N subject slots, c latent channels, h x w latents, R resolution, K = 2N tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from subject_diffusion_core.losses import latent_size

from ..bases.base_model import Autoencoder
from ..bases.encoders import decode_latents, move, to_pictures
from ..dataset.bad_sample import BadSample
from ..dataset.batches import MicroBatch, stack
from ..dataset.layout import TrainingSample
from ..dataset.samples import Draw, Item, SubjectDataset
from ..methods.conditioning import Conditioning, conditioning_of, watched_positions
from ..methods.objective import Objective, sample_seed
from ..methods.subject_diffusion.model import PreparedConditioning, SubjectDiffusionModel
from ..methods.subject_diffusion.sampling import Sampler, SamplingRule, three_branches
from ..networks.fused_attention import WatchedTokens

RULE = SamplingRule(steps=20, text_guidance_scale=3.0, image_guidance_scale=1.5, stacked=False)
FIRST_WATCHED_STEP = 5  # earlier maps are mostly noise
COLORS = ((230, 60, 60), (60, 120, 230), (50, 170, 80), (220, 160, 30))
CAPTION_HEIGHT = 14


def load_sheet_samples(
    dataset: SubjectDataset, count: int
) -> tuple[list[TrainingSample], MicroBatch] | None:
    """The fixed samples of a run, the first ``count`` usable ones of the held-out shards, without
    augmentation: pictures to show, and their batch."""
    samples: list[TrainingSample] = []
    items: list[Item] = []
    places = [
        (shard, row) for shard, rows in enumerate(dataset.catalogue.counts) for row in range(rows)
    ]
    for position, place in enumerate(places):
        if len(items) == count:
            break
        try:
            sample = dataset.read(*place, with_picture=True)
            draw = Draw(rng=np.random.default_rng(0), slots=dataset.recipe.num_subjects)
            tensors = dataset.tensors_of(*place, draw)
        except BadSample:
            continue
        samples.append(sample)
        items.append(Item(position=position, tensors=tensors))
    return (samples, stack(items)) if items else None


class MapSampler(Sampler):
    """A sampler that adds up where the watched tokens of the first branch look.

    ``maps``: (B, K, h, w), the sum over the later steps.
    """

    def __init__(
        self, model: SubjectDiffusionModel, prediction_type: str, watched: WatchedTokens
    ) -> None:
        super().__init__(model, prediction_type, RULE)
        self.watched = watched
        self.positions, self.maps = torch.empty(0), torch.empty(0)

    def watch(self, full: Conditioning, height: int, width: int) -> None:
        """Watch the subjects' tokens of a branch from now on."""
        self.positions = watched_positions(full)
        self.maps = full.location_mask.new_zeros(*self.positions.shape, height, width)

    def prepare(self, branch: Conditioning) -> Conditioning:
        """Nothing is prepared: with FSDP only the model's own call has whole weights."""
        return branch

    def predict(
        self,
        latents: Tensor,
        timestep: Tensor,
        branch: Conditioning | PreparedConditioning,
        number: int,
        index: int,
    ) -> Tensor:
        height, width = self.maps.shape[2:]
        watches = self.positions if index == 0 else None
        with self.watched.recording(watches, height * width // 4) as columns:
            prediction = super().predict(latents, timestep, branch, number, index)
        if columns and number >= FIRST_WATCHED_STEP:
            self.maps += mean_maps(columns, height, width)
        return prediction


class SheetMaker:
    """Draws a sheet with the model as it is; changes neither weights nor random state."""

    def __init__(
        self,
        model: SubjectDiffusionModel,
        objective: Objective,
        vae: Autoencoder,
        samples: list[TrainingSample],
        batch: MicroBatch,
        empty_ids: Tensor,
    ) -> None:
        self.model, self.vae, self.empty_ids = model, vae, empty_ids
        self.samples, self.batch = samples, batch
        self.encoders, self.device = objective.encoders, objective.device
        prediction_type = objective.scheduler.config["prediction_type"]
        self.sampler = MapSampler(model, prediction_type, objective.watched)

    @torch.no_grad()
    def draw(self) -> np.ndarray:
        """The sheet (H, W, 3) uint8. With FSDP all processes draw, since all hold weights."""
        self.model.eval()
        tensors = self.encoders.complete(self.batch.to(self.device))
        latents, maps = self.sample(tensors)
        pixels = self.decode(latents)
        self.model.train()
        rows = [
            sheet_row(sample, pixels[index], maps[index])
            for index, sample in enumerate(self.samples)
        ]
        width = max(row.shape[1] for row in rows)
        padded = [
            np.pad(r, ((0, 4), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows
        ]
        return np.concatenate(padded)

    def sample(self, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Latents (B, c, h, w) and mean attention (B, K, h, w) by three-branch guidance."""
        full = conditioning_of(tensors)
        shape = (self.model.unet.config["out_channels"], *full.location_mask.shape[-2:])
        noise = [
            torch.randn(shape, generator=torch.Generator().manual_seed(sample_seed(6, row)))
            for row in range(len(full.token_ids))
        ]
        self.sampler.watch(full, *shape[1:])
        branches = three_branches(full, self.empty_ids)
        latents = self.sampler(branches, torch.stack(noise).to(self.device))
        return latents, self.sampler.maps / (RULE.steps - FIRST_WATCHED_STEP)

    def decode(self, latents: Tensor) -> np.ndarray:
        """(B, R, R, 3) uint8. The autoencoder is on the device only for this moment."""
        move(self.vae, self.device)
        pixels = torch.cat([decode_latents(self.vae, one[None]) for one in latents])
        if self.encoders.vae is not self.vae:
            move(self.vae, torch.device("cpu"))
        return to_pictures(pixels)


def mean_maps(columns: list[Tensor], height: int, width: int) -> Tensor:
    """Mean over layers and heads of (B, H, Q, K) columns, each brought to (B, K, height, width)."""
    maps = []
    for layer in columns:
        rows, cols = latent_size(layer.shape[2], height, width)
        mean = layer.float().mean(1).transpose(1, 2).unflatten(2, (rows, cols))
        maps.append(F.interpolate(mean, size=(height, width), mode="bilinear"))
    return torch.stack(maps).mean(0)


def sheet_row(sample: TrainingSample, generated: np.ndarray, maps: Tensor) -> np.ndarray:
    """One row: the held-out picture with its boxes, the generated one, maps of each subject."""
    slots = maps.shape[0] // 2
    shown = sample.entities[:slots]
    boxes = [entity.box_xyxy for entity in sample.entities]
    cells = [
        captioned(with_boxes(picture, boxes), text)
        for picture, text in ((sample.pixels, sample.caption), (generated, "generated"))
    ]
    for slot, entity in enumerate(shown):
        for kind, index in (("label", slot), ("picture", slots + slot)):
            cells.append(captioned(heat(generated, maps[index]), f"{entity.label}: {kind}"))
    return np.concatenate(cells, axis=1)


def with_boxes(
    pixels: np.ndarray, boxes_xyxy: Iterable[tuple[float, float, float, float]]
) -> np.ndarray:
    """The picture (R, R, 3) with boxes x1 y1 x2 y2 in 0..1 drawn in."""
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    for number, box_xyxy in enumerate(boxes_xyxy):
        box = [value * pixels.shape[0] - (index > 1) for index, value in enumerate(box_xyxy)]
        draw.rectangle(box, outline=COLORS[number % len(COLORS)])
    return np.asarray(picture)


def heat(pixels: np.ndarray, attention: Tensor) -> np.ndarray:
    """Attention (h, w) in red over a dimmed picture (R, R, 3); scaled to its own maximum."""
    size = pixels.shape[:2]
    values = F.interpolate(attention[None, None], size=size, mode="bilinear")[0, 0].cpu().numpy()
    values = (values - values.min()) / max(float(values.max() - values.min()), 1e-9)
    grey = pixels.mean(-1, keepdims=True).repeat(3, -1) * 0.6
    red = np.array([255, 60, 20])
    mixed: np.ndarray = grey * (1 - values[..., None]) + red * values[..., None]
    return mixed.astype(np.uint8)


def captioned(pixels: np.ndarray, text: str) -> np.ndarray:
    """The picture with a line of text above it and a margin."""
    height, width = pixels.shape[:2]
    canvas = Image.new("RGB", (width + 4, height + CAPTION_HEIGHT), "white")
    canvas.paste(Image.fromarray(pixels), (0, CAPTION_HEIGHT))
    ImageDraw.Draw(canvas).text((1, 1), text[: max(4, width // 6)], fill="black")
    return np.asarray(canvas)
