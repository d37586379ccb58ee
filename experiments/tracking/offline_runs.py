"""Where the W&B runs of a study lie on disk; needs no W&B."""

from pathlib import Path

from datamodules.files.listing import list_folder


def offline_run_folders(study_folder: Path) -> list[Path]:
    """Return all offline runs of a study, oldest first (the order in which the parts of a resumed run belong)."""
    return _run_folders(study_folder, "offline-run-")


def online_run_folders(study_folder: Path) -> list[Path]:
    """Return the local copies of a study's online runs, oldest first; each is whole even if the server went away."""
    return _run_folders(study_folder, "run-")


def _run_folders(study_folder: Path, prefix: str) -> list[Path]:
    folders = (path for path in list_folder(study_folder, f"**/wandb/{prefix}*") if list_folder(path, "run-*.wandb"))
    return sorted(folders, key=lambda path: (path.name.removeprefix(prefix), path))
