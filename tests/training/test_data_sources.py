"""Packages: found, unpacked whole or not at all."""

import tarfile
from dataclasses import replace

import pytest

from training.toy.data.sources import PACKAGES, SourceError, fetch_sources, find_archive, unpack

FLUENT = next(package for package in PACKAGES if package.name == "fluent")


def write_tgz(path, names):
    source = path.parent / "content.txt"
    source.write_text("x")
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.add(source, name)
    return path


def test_the_last_archive_of_a_package_is_found(tmp_path):
    for version in ("1.0.0", "1.1.0"):
        (tmp_path / f"lobehub-fluent-emoji-3d-{version}.tgz").touch()
    assert find_archive(FLUENT, tmp_path).name == "lobehub-fluent-emoji-3d-1.1.0.tgz"
    assert find_archive(replace(FLUENT, pattern="nothing-*.tgz"), tmp_path) is None


def test_unpack_puts_the_content_in_place(tmp_path):
    archive = write_tgz(tmp_path / "a.tgz", ["package/assets/1f34e.webp"])
    unpack(FLUENT, archive, tmp_path / "fluent")
    assert (tmp_path / "fluent/package/assets/1f34e.webp").exists()
    assert not (tmp_path / "fluent.partial").exists()


def test_a_package_without_its_content_is_refused(tmp_path):
    archive = write_tgz(tmp_path / "a.tgz", ["package/readme"])
    with pytest.raises(SourceError, match=r"a\.tgz: expected package/assets inside"):
        unpack(FLUENT, archive, tmp_path / "fluent")
    assert not (tmp_path / "fluent").exists()


def test_unpacked_packages_are_kept(tmp_path):
    for package in PACKAGES:
        (tmp_path / package.name / package.probe).mkdir(parents=True)
    folders = fetch_sources(tmp_path)
    assert folders["fluent"] == tmp_path / "fluent"
    assert set(folders) == {package.name for package in PACKAGES}
