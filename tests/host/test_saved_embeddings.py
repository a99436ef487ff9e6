"""Save and Load Embedding keep files as Save and Load Subjects do."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import folder_paths
import pytest
import torch
from host_models import Host

FOLDER = "subject_diffusion_tuned"


@pytest.fixture(autouse=True)
def output_folder() -> Iterator[Path]:
    folder = Path(folder_paths.get_output_directory()) / FOLDER
    shutil.rmtree(folder, ignore_errors=True)  # examples that ran before have saved there
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def save(host: Host, prefix: str) -> str:
    """Where it says that it has saved a small embedding, below its folder."""
    embedding = host.core("hifi_tuner").TunedEmbedding(
        vectors=torch.randn(2, 8), step_vectors=None, label="dog"
    )
    result = host.save_embedding_node.SubjectDiffusionSaveEmbedding.execute(embedding, prefix)
    return str(Path(result.ui.as_dict()["text"][0]).relative_to(FOLDER))


@pytest.mark.parametrize("prefix", ["mine", f"{FOLDER}/mine", "a/mine", f"./{FOLDER}/b/mine"])
def test_wherever_it_is_saved_it_is_found(host: Host, prefix: str) -> None:
    """A prefix without the folder is meant below it."""
    name = save(host, prefix)
    assert name.endswith("mine_00001_.safetensors")
    assert host.tuned_files.list_files() == [name]
    (loaded,) = host.load_embedding_node.SubjectDiffusionLoadEmbedding.execute(name).args
    assert loaded.label == "dog"


@pytest.mark.parametrize("prefix", ["../mine", "a/../../../mine", f"{FOLDER}/../../mine", "a\0b"])
def test_prefixes_that_lead_elsewhere(host: Host, prefix: str) -> None:
    with pytest.raises(ValueError, match=r"^filename_prefix: expected a name in output/"):
        save(host, prefix)
    assert host.tuned_files.list_files() == []


def test_a_name_that_is_too_long(host: Host) -> None:
    with pytest.raises(ValueError, match=r"filename_prefix: expected a name that can be saved in"):
        save(host, "x" * 300)


def test_two_servers_save_at_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both were told the same number: each file is there in the end."""
    place = host.save_embedding_node.SAVED_EMBEDDINGS.place("mine")
    kind = host.numbered_files.NumberedFiles
    monkeypatch.setattr(kind, "place", lambda self, prefix: place)
    start = threading.Barrier(6)

    def save_with_others(_: int) -> str:
        start.wait()
        return save(host, "mine")

    with ThreadPoolExecutor(6) as pool:
        said = sorted(pool.map(save_with_others, range(6)))
    assert said == [f"mine_{number:05}_.safetensors" for number in range(1, 7)]
    assert host.tuned_files.list_files() == said


def test_a_label_that_is_the_name_of_an_embedding(host: Host, output_folder: Path) -> None:
    """A file's label is put into prompts: it may say no more than a Subject's."""
    name = save(host, "mine")
    core = host.core("files").tuned_embedding_file
    named = host.core("hifi_tuner").TunedEmbedding(
        vectors=torch.randn(2, 8), step_vectors=None, label="embedding:x"
    )
    core.save(output_folder / name, named)
    with pytest.raises(ValueError, match=r"mine_00001_.*label: expected words such as 'dog'"):
        host.load_embedding_node.SubjectDiffusionLoadEmbedding.execute(name)
