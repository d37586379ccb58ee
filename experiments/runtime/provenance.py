"""With what a result was made: versions of the libraries, the project's commit, the kind of device."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "regionwise",
    "torch",
    "pytorch-lightning",
    "torchio",
    "torchmetrics",
    "nibabel",
    "numpy",
    "scipy",
    "scikit-learn",
    "wandb",
)


@lru_cache(maxsize=1)
def provenance() -> dict[str, object]:
    """Versions, commit and processor; null where there is none. Holds no path and no name of a machine."""
    return {
        "versions": {"python": platform.python_version()} | {name: installed_version(name) for name in PACKAGES},
        "git_commit": commit_of(Path(__file__)),
        "processor": processor(),
    }


def installed_version(name: str) -> str | None:
    """Version of a package; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """Model of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def commit_of(file: Path) -> str | None:
    """The commit of a file's checkout; None where git does not track it, as in an environment within another project."""
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None
    return _git(file.parent, "rev-parse", "HEAD")


def _git(folder: Path, *words: str) -> str | None:
    """What git says, None where it says nothing or fails."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
