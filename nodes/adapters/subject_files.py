"""SUBJECTS to and from files of encoded subjects, and the folders they lie in."""

from __future__ import annotations

from ...subject_diffusion_core.errors import CheckpointError
from ...subject_diffusion_core.files import subject_file
from ..host.model_folders import ModelFolder, files_now
from ..subjects.boxes import CORNER_KEYS, PIXEL_KEYS, Box, parse_box
from ..subjects.subject import (
    Subject,
    SubjectEmbeds,
    Subjects,
    checked_label,
    checked_region,
    subject_name,
)

SUBJECT_FILES = ModelFolder(
    name="subject_diffusion_embeds", extensions=(".safetensors",), content="the file"
)
FOLDER, (EXTENSION,) = SUBJECT_FILES.name, SUBJECT_FILES.extensions


def list_files() -> list[str]:
    """All files, relative to their folders; one that was just saved is among them."""
    return files_now(FOLDER)


def write_subjects(path: str, subjects: Subjects) -> None:
    """Save encoded subjects under a name that no file has yet; all must come from one encoder.

    Raises:
        FileExistsError: another program has taken the name.
    """
    if not subjects:
        raise ValueError("subjects: expected at least one, got none. Connect a Subject node.")
    sources = set()
    for subject in subjects:
        if subject.embeds is None:
            raise ValueError(
                f"{subject.name} has no embeddings: expected a subject that is encoded already. "
                "Put Subject-Diffusion Encode Subjects before this node."
            )
        sources.add((subject.embeds.encoder_hash, subject.embeds.reference_size))
    if len(sources) > 1:
        raise ValueError(
            f"subjects: expected embeddings of one encoder, got {len(sources)} different ones. "
            "Save them in separate files."
        )
    ((encoder_hash, reference_size),) = sources
    file = subject_file.SubjectFile(
        encoder_hash=encoder_hash,
        reference_size=reference_size,
        subjects=tuple(_to_saved(subject) for subject in subjects),
    )
    subject_file.save(path, file, exclusive=True)


def read_subjects(path: str, first_index: int) -> Subjects:
    """Subjects of a file, named from `first_index` on."""
    file = subject_file.load(path)
    try:
        return tuple(
            _from_saved(saved, file, subject_name(first_index + index))
            for index, saved in enumerate(file.subjects)
        )
    except CheckpointError:
        raise
    except ValueError as error:  # of a box, a region or a picture
        raise CheckpointError(f"{path}: {error}") from error


def _to_saved(subject: Subject) -> subject_file.SavedSubject:
    assert subject.embeds is not None
    mask = None if subject.masks is None else subject.masks[0]
    return subject_file.SavedSubject(
        embeds=subject.embeds.tensors,
        thumbnail=subject_file.make_thumbnail(subject.images[0], mask),
        region=subject.region,
        label=subject.label,
        strength=subject.strength,
        start_percent=subject.start_percent,
        end_percent=subject.end_percent,
        box=None if subject.box is None else _to_dictionary(subject.box),
    )


def _to_dictionary(box: Box) -> dict[str, float]:
    """As users write it."""
    if box.unit == "relative":
        return dict(zip(CORNER_KEYS, box.edges, strict=True))
    numbers = (box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1)
    return dict(zip(PIXEL_KEYS, numbers, strict=True))


def _from_saved(
    saved: subject_file.SavedSubject, file: subject_file.SubjectFile, name: str
) -> Subject:
    pixels = saved.thumbnail.float() / 255
    mask = pixels[..., 3]
    is_whole = bool((mask == 1).all())
    return Subject(
        name=name,
        images=pixels[None, ..., :3],
        masks=None if is_whole else mask[None],
        label=checked_label(saved.label, name),
        box=parse_box(saved.box, name),
        strength=saved.strength,
        start_percent=saved.start_percent,
        end_percent=saved.end_percent,
        region=None if saved.region is None else checked_region(saved.region, name),
        embeds=SubjectEmbeds(
            tensors=saved.embeds,
            encoder_hash=file.encoder_hash,
            reference_size=file.reference_size,
        ),
    )
