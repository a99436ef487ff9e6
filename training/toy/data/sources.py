"""Fetches and unpacks the packages that all pictures come from.

Every package is fetched by the ordinary client of its registry (`apt-get download`, `npm pack`),
or taken from a folder that already holds the archives.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


class SourceError(OSError):
    """A package could not be fetched or unpacked."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """One package: `name` is its folder below the raw folder, `pattern` finds its archive."""

    name: str
    kind: str
    spec: str
    pattern: str
    licence: str
    probe: str


PACKAGES = (
    Package(
        name="furniture",
        kind="deb",
        spec="sweethome3d-furniture",
        pattern="sweethome3d-furniture_*.deb",
        licence="CC-BY 3.0, CC-BY 3.0 US, CC0 (per catalogue)",
        probe="usr/share/sweethome3d/furniture",
    ),
    Package(
        name="noto",
        kind="deb",
        spec="fonts-noto-color-emoji",
        pattern="fonts-noto-color-emoji_*.deb",
        licence="Apache-2.0 (images), OFL-1.1 (font)",
        probe="usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    ),
    Package(
        name="blender",
        kind="deb",
        spec="blender-data",
        pattern="blender-data_*.deb",
        licence="CC0-1.0 (studio lights)",
        probe="usr/share/blender/datafiles/studiolights/world",
    ),
    Package(
        name="fluent",
        kind="npm",
        spec="@lobehub/fluent-emoji-3d@1.1.0",
        pattern="lobehub-fluent-emoji-3d-*.tgz",
        licence="MIT",
        probe="package/assets",
    ),
    Package(
        name="panoramas",
        kind="npm",
        spec="@pmndrs/assets@1.7.0",
        pattern="pmndrs-assets-*.tgz",
        licence="CC0-1.0 (panoramas)",
        probe="package/hdri",
    ),
    Package(
        name="emoji_names",
        kind="npm",
        spec="emoji-datasource-google@16.0.0",
        pattern="emoji-datasource-google-*.tgz",
        licence="MIT",
        probe="package/emoji.json",
    ),
)


def find_archive(package: Package, folder: Path) -> Path | None:
    """The archive of `package` in `folder`, or None; the last by name where there are several."""
    found = sorted(folder.glob(package.pattern))
    return found[-1] if found else None


def download(package: Package, folder: Path) -> Path:
    """Fetches the archive of `package` into `folder` with its registry's own client."""
    folder.mkdir(parents=True, exist_ok=True)
    commands = {
        "deb": ["apt-get", "download", package.spec],
        "npm": ["npm", "pack", "--silent", package.spec],
    }
    command = commands[package.kind]
    if shutil.which(command[0]) is None:
        raise SourceError(
            f"packages: expected the client `{command[0]}` for {package.spec}, got none. "
            f"Install it, or put {package.pattern} into a folder and pass it as --packages."
        )
    subprocess.run(command, cwd=folder, check=True)
    archive = find_archive(package, folder)
    if archive is None:
        raise SourceError(f"packages: expected {package.pattern} in {folder}, got no such file.")
    return archive


def unpack(package: Package, archive: Path, target: Path) -> None:
    """Unpacks `archive` into `target`; a half unpacked folder is never left under that name."""
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if package.kind == "deb":
        subprocess.run(["dpkg", "-x", str(archive), str(partial)], check=True)
    else:
        shutil.unpack_archive(archive, partial, format="gztar", filter="data")
    if not (partial / package.probe).exists():
        raise SourceError(f"{archive.name}: expected {package.probe} inside, got no such path.")
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)


def fetch_sources(raw: Path, packages: Path | None = None) -> dict[str, Path]:
    """Makes every package available unpacked below `raw`.

    Args:
        raw: folder to unpack into; packages already there are kept.
        packages: folder with already downloaded archives; what it lacks is downloaded.

    Returns:
        Package name -> folder it was unpacked to.
    """
    folders = {}
    for package in PACKAGES:
        folders[package.name] = raw / package.name
        if (folders[package.name] / package.probe).exists():
            continue
        archive = find_archive(package, packages) if packages else None
        archive = archive or find_archive(package, raw / "archives")
        archive = archive or download(package, raw / "archives")
        unpack(package, archive, folders[package.name])
        (raw / f"{package.name}.version").write_text(archive.name, encoding="utf-8")
    return folders


def package_versions(raw: Path) -> list[str]:
    """Names of the archives that were unpacked below `raw`: packages with their versions."""
    return sorted(path.read_text(encoding="utf-8") for path in raw.glob("*.version"))
