"""Encode Subjects, Save Subjects, Load Subjects."""

from __future__ import annotations

import copy
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import pytest
import torch
from graphs import GraphRunner, good_graph, node
from host_models import Host
from test_graphs import runner  # noqa: F401
from test_nodes import Encoder, branch_of, make_subject


@pytest.fixture(scope="module")
def encoder(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    with torch.inference_mode():
        return Encoder(host, tmp_path_factory.mktemp("encoder"))


@pytest.fixture(autouse=True)
def output_folder() -> Iterator[Path]:
    folder = Path(folder_paths.get_output_directory()) / "subject_diffusion_embeds"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def encoded(encoder: Encoder, *subjects: Any, vision: Any = None) -> tuple[Any, ...]:
    node_class = encoder.host.encode_subjects_node.SubjectDiffusionEncodeSubjects
    return node_class.execute(subjects, vision or encoder.vision, encoder.loaded).args[0]


def save_and_load(host: Host, subjects: tuple[Any, ...], before: Any = None) -> tuple[Any, ...]:
    result = host.save_subjects_node.SubjectDiffusionSaveSubjects.execute(
        subjects, "subject_diffusion_embeds/mine"
    )
    name = Path(result.ui.as_dict()["text"][0]).name
    return host.load_subjects_node.SubjectDiffusionLoadSubjects.execute(name, before).args[0]


def everything(host: Host) -> tuple[Any, ...]:
    """Subjects that use all that a file keeps."""
    mask = torch.zeros(1, 20, 30)
    mask[:, 4:16, 8:28] = 1
    first = make_subject(host, mask, box="0.1,0.2,0.55,0.9", strength=0.7, start_percent=0.3)
    box = '{"x": 8, "y": 16, "width": 32, "height": 40}'
    second = make_subject(host, views=2, label="cat", box=box, region=torch.rand(12, 10))
    return first, replace(second, name="Subject 2")


class Unused:
    """A vision encoder that must not run, with the weights of the real one."""

    def __init__(self, vision: Any) -> None:
        self.get_sd = vision.get_sd


def assert_equal_conditionings(host: Host, got: Any, wanted: Any) -> None:
    for one, other in zip(got, wanted, strict=True):
        assert len(one) == len(other)
        for (tensor, values), (other_tensor, other_values) in zip(one, other, strict=True):
            assert torch.equal(tensor, other_tensor)
            key = host.family.ATTACHMENT_KEY
            mine, theirs = (v["model_conds"][key].value for v in (values, other_values))
            for name, value in vars(theirs).items():
                if torch.is_tensor(value):
                    assert torch.equal(getattr(mine, name), value), name
            assert len(mine.subject_regions) == len(theirs.subject_regions)
            for ours, region in zip(mine.subject_regions, theirs.subject_regions, strict=True):
                assert (ours is None) == (region is None)
                assert ours is None or torch.equal(ours, region)


def test_loading_equals_encoding_bit_for_bit(host: Host, encoder: Encoder) -> None:
    layout = host.layout_node.SubjectDiffusionLayout
    subjects = everything(host)
    loaded = save_and_load(host, encoded(encoder, *subjects))
    direct, placed, inside = (
        layout.execute(kind, 128, 96)[0] for kind in (subjects, loaded, encoded(encoder, *subjects))
    )
    wanted = encoder.encode(*direct)
    assert_equal_conditionings(host, encoder.encode(*placed), wanted)
    assert_equal_conditionings(host, encoder.encode(*inside, vision=Unused(encoder.vision)), wanted)
    assert_equal_conditionings(host, encoder.encode(*placed, vision=Unused(encoder.vision)), wanted)


def test_a_second_loader_with_the_same_weights_is_the_same_encoder(
    host: Host, encoder: Encoder
) -> None:
    loaded = save_and_load(host, encoded(encoder, make_subject(host)))
    again = host.tiny_clip_vision.TinyClipVision(host.tiny)
    assert branch_of(host, encoder.encode(*loaded, vision=again)[0]).subject_valid[0]


def test_names_and_chains(host: Host, encoder: Encoder) -> None:
    first = make_subject(host)
    chain = save_and_load(host, encoded(encoder, *everything(host)), before=(first,))
    assert [subject.name for subject in chain] == ["Subject 1", "Subject 2", "Subject 3"]
    assert chain[0] is first
    again = save_and_load(host, encoded(encoder, *chain))
    views = [subject.embeds.tensors["patch_embeds"] for subject in (*chain[1:], *again[1:])]
    assert torch.equal(views[0], views[2]) and torch.equal(views[1], views[3])


def test_layout_shows_and_places_them(host: Host, encoder: Encoder) -> None:
    mask = torch.zeros(1, 20, 30)
    mask[:, 4:16, 8:28] = 1
    subject = replace(make_subject(host, mask), box=None)
    loaded = save_and_load(host, encoded(encoder, subject))
    node_class = host.layout_node.SubjectDiffusionLayout
    results = [node_class.execute(s, 128, 128, "reference") for s in ((subject,), loaded)]
    assert results[0][0][0].box == results[1][0][0].box
    drawn, shown = results[0][1], results[1][1]
    assert float((drawn - shown).abs().mean()) < 0.02
    assert len({tuple(pixel) for pixel in (shown[0] * 255).int().reshape(-1, 3).tolist()}) > 100


def test_another_encoder_is_refused(host: Host, encoder: Encoder) -> None:
    loaded = save_and_load(host, encoded(encoder, make_subject(host)))
    other = host.tiny_clip_vision.TinyClipVision(host.tiny)
    other.model.load_state_dict({k: v * 1.1 for k, v in encoder.vision.get_sd().items()})
    sentence = (
        r"clip_vision: expected the encoder that Subject 1 \('dog'\) was encoded with "
        r"\([0-9a-f]{8}\), got another \([0-9a-f]{8}\)\. Connect the CLIP_VISION output of"
    )
    with pytest.raises(ValueError, match=sentence):
        encoder.encode(*loaded, vision=other)
    with pytest.raises(ValueError, match="clip_vision: expected the encoder that Subject 1"):
        encoded(encoder, *loaded, vision=other)


def test_embeddings_of_another_shape_are_refused(host: Host, encoder: Encoder) -> None:
    (subject,) = encoded(encoder, make_subject(host))
    tensors = subject.embeds.tensors
    narrow = {**tensors, "patch_embeds": tensors["patch_embeds"][..., :100]}
    changed = replace(subject, embeds=replace(subject.embeds, tensors=narrow))
    with pytest.raises(ValueError, match=r"Subject 1's embeddings: expected an encoder with 144 "):
        encoder.encode(changed)
    larger = replace(subject, embeds=replace(subject.embeds, reference_size=224))
    with pytest.raises(ValueError, match=r"Subject 1's embeddings: expected .* 96 pixels, got 224"):
        encoder.encode(larger)


def test_what_cannot_be_saved(host: Host, encoder: Encoder, output_folder: Path) -> None:
    plain = make_subject(host)
    (first,) = encoded(encoder, plain)
    with pytest.raises(ValueError, match=r"Subject 1 has no embeddings: .* Encode Subjects before"):
        save_and_load(host, (plain,))
    other = replace(first, embeds=replace(first.embeds, encoder_hash="other"))
    with pytest.raises(ValueError, match="subjects: expected embeddings of one encoder, got 2"):
        save_and_load(host, (first, other))
    with pytest.raises(ValueError, match="subjects: expected at least one"):
        save_and_load(host, ())
    assert list(output_folder.iterdir()) == []


@pytest.mark.parametrize("prefix", ["mine", "a/mine", "./mine", "subject_diffusion_embeds/a/mine"])
def test_wherever_it_is_saved_it_is_found(host: Host, encoder: Encoder, prefix: str) -> None:
    """A prefix without the folder is meant below it."""
    subjects = encoded(encoder, make_subject(host))
    result = host.save_subjects_node.SubjectDiffusionSaveSubjects.execute(subjects, prefix)
    shown = Path(result.ui.as_dict()["text"][0])
    name = str(shown.relative_to("subject_diffusion_embeds"))
    assert name.endswith("mine_00001_.safetensors")
    assert host.subject_files.list_files() == [name]
    (loaded,) = host.load_subjects_node.SubjectDiffusionLoadSubjects.execute(name).args[0]
    assert loaded.label == "dog"


@pytest.mark.parametrize(
    "prefix", ["../mine", "a/../../../mine", "subject_diffusion_embeds/../../mine", "..", "a\0b"]
)
def test_prefixes_that_lead_elsewhere(host: Host, encoder: Encoder, prefix: str) -> None:
    subjects = encoded(encoder, make_subject(host))
    with pytest.raises(ValueError, match=r"^filename_prefix: expected a name ") as error:
        host.save_subjects_node.SubjectDiffusionSaveSubjects.execute(subjects, prefix)
    assert "\n" not in str(error.value)
    assert host.subject_files.list_files() == []


def test_a_name_that_is_too_long(host: Host, encoder: Encoder) -> None:
    subjects = encoded(encoder, make_subject(host))
    with pytest.raises(ValueError, match=r"filename_prefix: expected a name that can be saved in"):
        host.save_subjects_node.SubjectDiffusionSaveSubjects.execute(subjects, "x" * 300)


def test_two_servers_save_at_once(
    host: Host, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both were told the same number: each file is there in the end."""
    subjects = encoded(encoder, make_subject(host))
    place = host.save_subjects_node.SAVED_SUBJECTS.place("mine")
    kind = host.numbered_files.NumberedFiles
    monkeypatch.setattr(kind, "place", lambda self, prefix: place)
    start = threading.Barrier(6)

    def save(_: int) -> str:
        start.wait()
        node_class = host.save_subjects_node.SubjectDiffusionSaveSubjects
        return str(node_class.execute(subjects, "mine").ui.as_dict()["text"][0])

    with ThreadPoolExecutor(6) as pool:
        said = sorted(Path(name).name for name in pool.map(save, range(6)))
    assert said == [f"mine_{number:05}_.safetensors" for number in range(1, 7)]
    assert host.subject_files.list_files() == said


def test_a_file_with_a_box_of_words_names_itself(
    host: Host, encoder: Encoder, output_folder: Path
) -> None:
    box = host.boxes.Box(x1=0.5, y1=0.5, x2=0.1, y2=0.9)
    save_and_load(host, encoded(encoder, make_subject(host)))
    (path,) = output_folder.glob("*")
    subject = replace(encoded(encoder, make_subject(host))[0], box=box)
    path.unlink()
    host.subject_files.write_subjects(str(path), (subject,))
    with pytest.raises(ValueError, match=r"mine_00001_\.safetensors: Subject 1's box: expected x1"):
        host.load_subjects_node.SubjectDiffusionLoadSubjects.execute(path.name)


def test_a_missing_file_names_the_folders(host: Host) -> None:
    with pytest.raises(ValueError, match=r"file_name: expected a file in .*models.*output.*, got"):
        host.load_subjects_node.SubjectDiffusionLoadSubjects.execute("absent.safetensors")


def test_the_list_follows_the_folders(host: Host, encoder: Encoder, output_folder: Path) -> None:
    """Files that come, and folders that go while ComfyUI runs, as people clear their output."""

    def options() -> list[str]:
        inputs = host.load_subjects_node.SubjectDiffusionLoadSubjects.INPUT_TYPES()["required"]
        return inputs["file_name"][1]["options"]

    assert options() == []
    save_and_load(host, encoded(encoder, make_subject(host)))
    assert options() == ["mine_00001_.safetensors"]
    shutil.rmtree(output_folder)
    assert options() == []


def test_as_graphs(runner: GraphRunner, output_folder: Path) -> None:  # noqa: F811
    """Saved by one prompt, loaded by the next: the same picture."""
    wanted = runner.run(good_graph())
    graph = good_graph()
    graph["keep"] = node(
        "SubjectDiffusionEncodeSubjects",
        subjects=["subject2", 0],
        clip_vision=["loader", 3],
        adapter=["loader", 4],
    )
    graph["file"] = node(
        "SubjectDiffusionSaveSubjects",
        subjects=["keep", 0],
        filename_prefix="subject_diffusion_embeds/pair",
    )
    assert np.array_equal(runner.run(graph), wanted)
    (path,) = output_folder.glob("*")
    assert path.name == "pair_00001_.safetensors"
    graph = good_graph()
    for name in ("subject1", "subject2", "image1", "image2", "mask1"):
        del graph[name]
    graph["load"] = node("SubjectDiffusionLoadSubjects", file_name=path.name)
    graph["layout"]["inputs"]["subjects"] = ["load", 0]
    again = copy.deepcopy(graph)  # ComfyUI writes into the graph whether its nodes changed
    assert np.array_equal(runner.run(graph), wanted)
    path.write_bytes(path.read_bytes()[:-20])
    assert "expected an intact .safetensors file" in runner.error(again)
