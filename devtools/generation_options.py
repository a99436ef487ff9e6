"""The options of `dev.py generate`, and the settings that they stand for."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from .adapter_guidance import Guidance, measured_guidance
from .console import Progress
from .jobs import GenerationSettings, parse_size

OWN_ADAPTER = Path(__file__).resolve().parent.parent / "weights" / "tiny_adapter.safetensors"
SAID = "default: what the adapter was measured with, by its file, else %g"


def add_generate_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    run: Callable[[argparse.Namespace, Progress], int],
) -> None:
    """`run` is what the command does."""
    defaults = GenerationSettings()
    parser = commands.add_parser("generate", help="images from the command line, without a browser")
    parser.add_argument("--prompt", help="what the image shows")
    parser.add_argument(
        "--subject",
        action="append",
        default=[],
        metavar="image=FILE,label=WORD,box=x1,y1,x2,y2[,mask=FILE][,strength=S]",
        help="once per subject; the box in 0..1 of the image; a PNG's alpha is its mask, "
        "a mask file is white where the subject is",
    )
    parser.add_argument(
        "--jobs",
        metavar="FILE.jsonl",
        help='many images in one server, a line each: {"prompt", "subjects": [{"image", "label", '
        '"box", "mask"?, "strength"?}], "seed"?, "steps"?, "out"?, "method"?, '
        '"text_guidance"?, "image_guidance"?, "sampler"?, "scheduler"?}; method: '
        "subject_diffusion or base",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder for the images (with --jobs: what each out is relative to)",
    )
    parser.add_argument(
        "--count", type=int, default=1, help="images, with seeds SEED, SEED+1, ... (default 1)"
    )
    parser.add_argument("--seed", type=int, help="default: a fresh one")
    parser.add_argument("--steps", type=int, default=defaults.steps, help="default %(default)s")
    parser.add_argument("--size", default="128x128", metavar="WxH", help="default %(default)s")
    parser.add_argument("--text-guidance", type=float, help=SAID % defaults.text_guidance_scale)
    parser.add_argument("--image-guidance", type=float, help=SAID % defaults.image_guidance_scale)
    parser.add_argument(
        "--adapter", metavar="FILE|none", help="an adapter file, or the base model alone"
    )
    parser.set_defaults(run=run)


def settings_of(options: argparse.Namespace, progress: Progress) -> GenerationSettings:
    """Guidance that was not given is what the adapter was measured with, where its file says so;
    `progress` says so, too, where that is not the usual one."""
    width, height = parse_size(options.size)
    defaults = GenerationSettings()
    usual = Guidance(defaults.text_guidance_scale, defaults.image_guidance_scale)
    measured = None
    if options.adapter != "none":
        measured = measured_guidance(Path(options.adapter or OWN_ADAPTER))
    text, image = options.text_guidance, options.image_guidance
    text = (measured or usual).text if text is None else text
    image = (measured or usual).image if image is None else image
    settings = GenerationSettings(
        steps=options.steps,
        width=width,
        height=height,
        text_guidance_scale=text,
        image_guidance_scale=image,
        adapter=options.adapter,
    )
    is_taken = options.text_guidance is None or options.image_guidance is None
    if measured not in (None, usual) and is_taken:
        progress.say(f"Guidance as the adapter was measured: text {text:g}, image {image:g}")
    return settings
