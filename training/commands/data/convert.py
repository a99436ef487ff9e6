"""``python -m training data convert``: annotated pictures of others as a list of records."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..options import add_path

if TYPE_CHECKING:
    from ...curation.convert.conversion import Skipped
    from ...curation.record import Record

HELP = """\
annotated pictures of others as a list that build takes

Writes one picture a line, with its subjects, boxes and masks; the pictures stay where they are.

Examples
  python -m training data convert lvis --annotations lvis_v1_train.json --pictures coco \\
      --out lvis.jsonl
  python -m training data convert open-images --boxes train-annotations-bbox.csv \\
      --classes class-descriptions-boxable.csv --pictures train --out openimages.jsonl \\
      --masks train-annotations-object-segmentation.csv --mask-pictures train-masks
  python -m training data convert authors 00000.tar 00001.tar --out authors.jsonl
  python -m training data convert cutouts --folder mine --out mine.jsonl

What cannot be used (a box outside its picture, a mask of another size) stands with its reason in
OUT.skipped.jsonl. A caption, boxes or masks that are in the list are not made again by build.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The kinds of annotations, each with its files."""
    kinds = parser.add_subparsers(required=True, metavar="kind")
    for name, help_line, add_files, convert in KINDS:
        kind = kinds.add_parser(name, help=help_line, description=help_line)
        add_files(kind)
        add_path(kind, "--out", "the list to write (.jsonl)", required=True)
        kind.set_defaults(convert=convert)


def run(arguments: argparse.Namespace) -> None:
    """Convert, and say what came of it."""
    from ...curation.convert.writing import skipped_list, write_records

    done = write_records(arguments.convert(arguments), arguments.out)
    print("\n".join([f"{arguments.out}: {done.lines()[0]}", *done.lines()[1:]]))
    if done.skipped:
        print(f"all that was left out: {skipped_list(arguments.out)}")


def _add_coco(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "--annotations", "instances_*.json or lvis_v1_*.json", required=True)
    add_path(parser, "--pictures", "the pictures' folder", required=True)
    add_path(parser, "--captions", "captions_*.json of the same pictures")


def _convert_coco(
    arguments: argparse.Namespace, dataset: str = "coco"
) -> Iterator[Record | Skipped]:
    from ...curation.convert.coco import convert_coco

    return convert_coco(
        arguments.annotations, arguments.pictures.resolve(), arguments.captions, dataset
    )


def _convert_lvis(arguments: argparse.Namespace) -> Iterator[Record | Skipped]:
    return _convert_coco(arguments, "lvis")


def _add_open_images(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "--boxes", "*-annotations-bbox.csv", required=True)
    add_path(parser, "--classes", "class-descriptions-boxable.csv", required=True)
    add_path(parser, "--pictures", "folder of IMAGEID.jpg", required=True)
    add_path(parser, "--masks", "*-annotations-object-segmentation.csv")
    add_path(parser, "--mask-pictures", "folder of the PNG files that --masks names")
    add_path(parser, "--images", "CSV file with the licence of each picture")


def _convert_open_images(arguments: argparse.Namespace) -> Iterator[Record | Skipped]:
    from ...curation.convert.open_images import convert_open_images

    return convert_open_images(
        arguments.boxes,
        arguments.classes,
        arguments.pictures.resolve(),
        arguments.masks,
        arguments.mask_pictures,
        arguments.images,
    )


def _add_authors(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tars", nargs="+", type=Path, help="shards of the authors' tool")


def _convert_authors(arguments: argparse.Namespace) -> Iterator[Record | Skipped]:
    from ...curation.convert.authors_tars import convert_authors_tars

    return convert_authors_tars([path.resolve() for path in arguments.tars])


def _add_cutouts(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "--folder", "pictures with transparency, one subject each", required=True)
    parser.add_argument(
        "--caption", default="a photo of a {label}",
        help="of pictures without a .txt file beside them; '' leaves it to build",
    )  # fmt: skip


def _convert_cutouts(arguments: argparse.Namespace) -> Iterator[Record | Skipped]:
    from ...curation.convert.cutouts import convert_cutouts

    return convert_cutouts(arguments.folder.resolve(), arguments.caption)


AddFiles = Callable[[argparse.ArgumentParser], None]
Convert = Callable[[argparse.Namespace], "Iterator[Record | Skipped]"]
KINDS: tuple[tuple[str, str, AddFiles, Convert], ...] = (
    ("coco", "COCO's instances, with captions if given", _add_coco, _convert_coco),
    ("lvis", "LVIS's instances on COCO's pictures", _add_coco, _convert_lvis),
    ("open-images", "OpenImages' boxes, and its masks", _add_open_images, _convert_open_images),
    ("authors", "shards of the paper's authors' tool", _add_authors, _convert_authors),
    ("cutouts", "your own pictures with transparency", _add_cutouts, _convert_cutouts),
)
