"""``SHA256SUMS``: the SHA-256 of every file of a bundle, in the form that ``sha256sum --check`` reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from datamodules.files.atomic import file_sha256, write_text
from datamodules.files.listing import is_hidden, list_folder
from experiments.bundles.errors import BundleError

SUMS = "SHA256SUMS"
LINE = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<name>[^\0\n]+)")
WAY_OUT = "get the bundle again from where it came from"


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS of all files below a folder."""
    files = [path for path in list_folder(folder, "**/*") if path.is_file() and path.name != SUMS]
    lines = [f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}" for path in files]
    write_text(folder / SUMS, "\n".join(lines) + "\n")


def read_sums(folder: Path) -> dict[str, str]:
    """Name -> SHA-256, as SHA256SUMS says.

    Raises:
        BundleError: if there is none, or it names a file outside the folder.
    """
    path = folder / SUMS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise BundleError(f"{folder} is no bundle: it has no readable {SUMS}; make one with: regionwise bundle") from None
    matches = [LINE.fullmatch(line) for line in lines]
    names = {match["name"]: match["digest"] for match in matches if match}
    if not lines or not all(matches) or len(names) != len(lines) or not all(map(is_inside, names)):
        raise BundleError(f"{path} is damaged; {WAY_OUT}")
    return names


def is_inside(name: object) -> bool:
    """Whether a text is the name of a file below a bundle's folder: relative, without ``..``, nothing hidden."""
    if not isinstance(name, str) or not name or "\\" in name or "\0" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and path.as_posix() == name and not any(map(is_hidden, path.parts))


def faults_of(folder: Path) -> list[str]:
    """What is no longer as it was written, one sentence each: files that were changed, are gone, or were added.

    Raises:
        BundleError: if SHA256SUMS is missing or damaged.
    """
    sums = read_sums(folder)
    faults = [fault for name, digest in sums.items() if (fault := _fault(folder, name, digest))]
    there = {
        path.relative_to(folder).as_posix() for path in list_folder(folder, "**/*") if not path.is_dir() or path.is_symlink()
    }
    return faults + [f"{name} was added" for name in sorted(there - {*sums, SUMS})]


def _fault(folder: Path, name: str, digest: str) -> str:
    path = folder / name
    if any(part.is_symlink() for part in (path, *path.parents) if folder in part.parents):
        return f"{name} is a link"
    if not path.is_file():
        return f"{name} is gone"
    return "" if file_sha256(path) == digest else f"{name} was changed"


def verified(folder: Path) -> Mapping[str, str]:
    """Name -> SHA-256 of every file of a bundle, after a look that all are as they were written.

    Raises:
        BundleError: naming the first files that are not.
    """
    faults = faults_of(folder)
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise BundleError(f"bundle {folder}: {'; '.join(faults[:3])}{more}; {WAY_OUT}")
    return read_sums(folder)
