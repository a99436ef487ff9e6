"""What about a list of subjects will hardly come out as its user expects."""

from __future__ import annotations

import itertools

from ...subject_diffusion_core.files.subject_file import THUMBNAIL_SIZE
from .layout_constants import CONSTANTS
from .placement import overlap
from .subject import Subjects

MAX_IOU = CONSTANTS.largest_overlap
CANVAS_SHARE = 0.7  # of the picture that boxes hardly stay within if it is their own canvas
LARGEST_STRETCH = 1.03  # of what is laid over a picture of other proportions
SMALLEST_AREA, LARGEST_AREA = CONSTANTS.smallest_box_area, CONSTANTS.largest_box_area


def label_warnings(subjects: Subjects, prompt: str) -> list[str]:
    """Subjects that the prompt does not name."""
    return [
        f"{subject.name}: its label '{subject.label}' is not in the prompt; name it there for a "
        "better picture."
        for subject in subjects
        if prompt.strip() and subject.label.lower() not in prompt.lower()
    ]


def canvas_warnings(subjects: Subjects, width: int, height: int) -> list[str]:
    """Boxes in pixels that were likely drawn on a smaller canvas than the picture of this size."""
    boxes = [
        subject.box.edges
        for subject in subjects
        if subject.box is not None and subject.box.unit == "pixels"
    ]
    if not boxes:
        return []
    right, bottom = (max(edges[i] for edges in boxes) for i in (2, 3))
    if right > CANVAS_SHARE * width or bottom > CANVAS_SHARE * height:
        return []
    return [
        f"boxes: all lie in the upper left {right:g}x{bottom:g} pixels of the {width}x{height} "
        "picture. If they were drawn on a canvas of another size, give Layout that size as width "
        "and height."
    ]


def box_warnings(subjects: Subjects) -> list[str]:
    """Boxes in which a subject will hardly come out: too small, too large, on top of another."""
    sentences = []
    for subject in subjects:
        if subject.box is None or subject.box.unit != "relative":
            continue
        x1, y1, x2, y2 = subject.box.edges
        area = (x2 - x1) * (y2 - y1)
        if area < SMALLEST_AREA:
            sentences.append(
                f"{subject.name}'s box covers {area:.1%} of the picture; below "
                f"{SMALLEST_AREA:.0%} little of it can be seen. Make the box larger."
            )
        elif area > LARGEST_AREA:
            sentences.append(
                f"{subject.name}'s box covers {area:.0%} of the picture; above "
                f"{LARGEST_AREA:.0%} nothing is left around it. Make the box smaller."
            )
    placed = [subject for subject in subjects if subject.box is not None]
    for first, second in itertools.combinations(placed, 2):
        assert first.box is not None and second.box is not None
        if first.box.unit != second.box.unit:
            continue
        iou = overlap(first.box.edges, second.box.edges)
        if iou > MAX_IOU:
            sentences.append(
                f"{first.name}'s and {second.name}'s boxes overlap (IoU {iou:.2f}); above "
                f"{MAX_IOU:g} they mix. Move one of them."
            )
    return sentences


def mask_size_warnings(layout_size: tuple[int, int] | None, width: int, height: int) -> list[str]:
    """A mask of other proportions than the layout's, both in pixels.

    >>> mask_size_warnings((640, 432), 640, 427), len(mask_size_warnings((512, 512), 640, 427))
    ([], 1)
    """
    if layout_size is None:
        return []
    stretch = (width / height) / (layout_size[0] / layout_size[1])
    if 1 / LARGEST_STRETCH < stretch < LARGEST_STRETCH:
        return []
    return [
        f"The mask is {width}x{height}, but the layout was made for "
        f"{layout_size[0]}x{layout_size[1]}: the boxes are stretched. Give Box Mask and Layout the "
        "size of the photo."
    ]


def region_warnings(subjects: Subjects, width: int, height: int) -> list[str]:
    """Regions, which are laid over the whole picture, whatever their own proportions are."""
    return [
        f"{subject.name}'s region is {subject.region.shape[1]}x{subject.region.shape[0]} and will "
        f"be stretched to the picture's {width}x{height}. Draw it in the proportions of the "
        "picture."
        for subject in subjects
        if subject.region is not None
        and not 1 / LARGEST_STRETCH
        < (subject.region.shape[1] / subject.region.shape[0]) / (width / height)
        < LARGEST_STRETCH
    ]


def preview_warnings(subjects: Subjects) -> list[str]:
    """Subjects of saved files, whose pictures are no more than previews."""
    return [
        f"{subject.name} comes from a saved file, which holds a preview of "
        f"{subject.images.shape[2]} x {subject.images.shape[1]} pixels only. Connect a Subject "
        "node with its whole picture for a better likeness."
        for subject in subjects
        if subject.embeds is not None and max(subject.images.shape[1:3]) <= THUMBNAIL_SIZE
    ]
