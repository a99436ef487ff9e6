"""Which training of the small model's decoder removes its grid and keeps subjects recognised.

    python -m benchmarks.small_decoder real --work .dev/tiny --out FOLDER
    python -m benchmarks.small_decoder start --work .dev/tiny --out FOLDER
    python -m benchmarks.small_decoder VARIANT --work .dev/tiny --out FOLDER --steps 800
    python -m benchmarks.small_decoder table --out FOLDER --write docs/small_decoder.md

A variant (variants.py) trains the decoder of `--start` on, or a larger one that begins as it;
latents stay as they are, unless the encoder is trained, too. Scored on TinyBench's real composites
of held-out subjects, encoded and decoded. Data in `--work` is that of `python -m training tiny`.
A training that is stopped goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.block_autoencoder import BlockAutoencoder
from subject_diffusion_core.tiny.tiny_vision import VisionGeometry
from training.bases.encoders import decode_latents, to_pictures
from training.bases.loading import tiny_vae
from training.evaluation.metric_encoder import load_metric_encoder
from training.evaluation.metrics import mean_interval
from training.evaluation.pictures import PictureMaker, generation_request
from training.evaluation.report import markdown_table
from training.evaluation.rows import SamplingSettings
from training.runs import save_array, save_picture, write_json
from training.toy.autoencoder import train_decoder
from training.toy.data.library import load_library
from training.toy.files import BASE_NAME
from training.toy.stages import TRAIN_SHARDS
from training.toy.text.drawing import Base, plain_model
from training.toy.text.start import read_start
from training.toy.vision import load_vision

from ..comfyui import ROOT
from ..measured_page import measured_rows, write_page
from ..text_base.questions import draw_questions
from .larger import LargerAutoencoder
from .scores import Bench, grid
from .variants import UNTRAINED, VARIANTS, Variant

REAL, TABLE = "real", "table"
BUNDLED = ROOT / "weights"
COLUMNS = {
    "one_found": ("one subject recognised, %", 100),
    "two_found": ("two, %", 100),
    "psnr": ("PSNR, dB", 1),
    "grid": ("grid, %", 1),
    "drawn_grid": ("of pictures from text, %", 1),
    "given_grid": ("of pictures with a subject, %", 1),
    "given_found": ("their subject recognised, %", 100),
    "given_cosine": ("its cosine, 1e-3", 1000),
    "fringe": ("error around subjects, 255ths", 1),
}
SHEET_SHOWN, SHEET_SCALE = 8, 2
DRAWN, STEPS, GUIDANCE = 32, 12, 3.0
GIVEN, BATCH = 64, 32


def stored_decoder(start: Path) -> BlockAutoencoder:
    """The autoencoder of the weights in a folder."""
    return tiny_vae(tiny_base.load(start / BASE_NAME))


def begun(variant: Variant, start: Path) -> BlockAutoencoder:
    """A variant's autoencoder, which does what that of ``start`` does."""
    torch.manual_seed(variant.recipe.seed)
    model = LargerAutoencoder(stored_decoder(start), variant.smooth_width, variant.overlap)
    model.analysis.requires_grad_(variant.own_latents)
    return model


def trained(variant: Variant, start: Path, work: Path, out: Path, steps: int) -> BlockAutoencoder:
    """A variant's autoencoder, trained on from that of ``start`` in ``out``."""
    recipe, model = variant.training(steps), begun(variant, start)
    out.mkdir(parents=True, exist_ok=True)
    vision = load_vision(VisionGeometry())
    path = train_decoder(model, work / TRAIN_SHARDS, out, recipe, vision, torch.device("cpu"))
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["model"])
    return model.eval().requires_grad_(False)


def drawn_latents(start: Path, work: Path, out: Path) -> torch.Tensor:
    """Latents (DRAWN, c, h, w) that the base ``start`` draws from text; kept in ``out``."""
    path = out / "latents.npy"
    if not path.exists():
        questions = draw_questions(load_library(work, "train", "train"), DRAWN)
        base = read_start(start / BASE_NAME)
        latents = Base(plain_model(base), base).draw_latents(questions, STEPS, GUIDANCE)
        save_array(path, latents.numpy())
    return torch.from_numpy(np.load(path))


def given_latents(start: Path, bench: Bench, out: Path) -> torch.Tensor:
    """Latents (GIVEN, c, h, w) of TinyBench's first pictures with one subject, which the weights
    ``start`` draw; kept in ``out``."""
    path = out / "given_latents.npy"
    if not path.exists():
        maker = PictureMaker(bench.judge.library, start, SamplingSettings())
        size = maker.generator.reference_size
        requests = [
            generation_request(maker.library, query, "subject", size)
            for query in bench.questions["one"].queries[:GIVEN]
        ]
        batches = [requests[at : at + BATCH] for at in range(0, len(requests), BATCH)]
        latents = torch.cat([maker.generator.latents(batch) for batch in batches])
        save_array(path, latents.numpy())
    return torch.from_numpy(np.load(path))


@torch.no_grad()
def generated_scores(
    model: BlockAutoencoder, name: str, options: argparse.Namespace, bench: Bench
) -> dict[str, np.ndarray]:
    """Scores of pictures that the start's weights drew and ``model`` decodes; a sheet of some."""
    drawn = drawn_latents(options.start, options.work, options.out)
    given = to_pictures(decode_latents(model, given_latents(options.start, bench, options.out)))
    sheet = contact(given[:SHEET_SHOWN])
    save_picture(options.out / f"{name}-given.png", sheet)
    return {
        "drawn_grid": grid(to_pictures(decode_latents(model, drawn))),
        "given_grid": grid(given),
        **{f"given_{key}": of for key, of in bench.identity("one", given).items()},
    }


def measure(options: argparse.Namespace) -> None:
    """Train the variant, if it is one, and score it."""
    library = load_library(options.work, "heldout", "heldout")
    kept = options.work / "evaluation"
    bench = Bench(library, load_metric_encoder(), kept, options.count)
    name, about, model, own_latents = options.variant, {}, None, False
    if name == REAL:
        title = "real composites"
    elif name == UNTRAINED:
        title, model = "the start", stored_decoder(options.start)
    else:
        variant, name = VARIANTS[name], f"{name}-{options.steps}"
        out = options.out / name
        model = trained(variant, options.start, options.work, out, options.steps)
        title, about, own_latents = variant.title, {"steps": options.steps}, variant.own_latents
    shown = bench.real() if model is None else bench.through(model)
    scores = {key: of.tolist() for key, of in bench.scores(shown).items()}
    if model is not None and not own_latents:
        generated = generated_scores(model, name, options, bench)
        scores |= {key: of.tolist() for key, of in generated.items()}
    if name == REAL:
        scores = {key: of for key, of in scores.items() if key not in ("psnr", "fringe")}
    write_json(options.out / f"{name}.json", {"title": title, "about": about, "scores": scores})
    save_picture(options.out / f"{name}.png", contact(shown["two"][:SHEET_SHOWN]))
    print(f"{name}: " + ", ".join(f"{key} {np.mean(of):.3f}" for key, of in scores.items()))


def contact(pictures: np.ndarray) -> np.ndarray:
    """Pictures (Q, H, H, 3) side by side, enlarged."""
    row = np.concatenate(list(pictures), axis=1)
    return np.asarray(row.repeat(SHEET_SCALE, 0).repeat(SHEET_SCALE, 1))


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Markdown lines."""
    cells = [
        [
            row["title"],
            str(row["about"].get("steps", "-")),
            *(
                cell(np.asarray(row["scores"][key]) * factor) if key in row["scores"] else "-"
                for key, (_, factor) in COLUMNS.items()
            ),
        ]
        for row in rows
    ]
    return markdown_table(["steps", *(title for title, _ in COLUMNS.values())], cells)


def cell(values: np.ndarray) -> str:
    """A mean with its interval."""
    interval = mean_interval(values)
    assert interval is not None
    return f"{interval.value:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.small_decoder",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("variant", choices=(REAL, UNTRAINED, *VARIANTS, TABLE))
    parser.add_argument("--work", type=Path, default=ROOT / ".dev" / "tiny")
    parser.add_argument(
        "--start", type=Path, default=BUNDLED, help="folder of weights (default: the bundled ones)"
    )
    parser.add_argument("--out", type=Path, required=True, help="runs and rows of one start")
    parser.add_argument("--steps", type=int, default=800, help="of training")
    parser.add_argument("--count", type=int, default=200, help="queries of each kind")
    parser.add_argument("--write", type=Path, help="table: a page that has one already")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.variant == TABLE:
        rows = measured_rows(options.out, (REAL, UNTRAINED, *VARIANTS))
        write_page(options.write, table(rows))
    else:
        measure(options)


if __name__ == "__main__":
    main(sys.argv[1:])
