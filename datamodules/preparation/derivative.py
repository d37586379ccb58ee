"""Where prepared files go, what is written beside them, and which scans are finished.

::

    <out>/dataset_description.json  participants.tsv  phenotype/*  sub-X/sub-X_sessions.tsv      copied, cleaned
    <out>/derivatives/regionwise/
      dataset_description.json  prepare_failures.tsv  logs/sub-X[_ses-Y].log
      sub-X/[ses-Y/]anat/
        sub-X[_ses-Y]_space-MNI152NLin2009aSym_desc-preproc_T1w.nii.gz (+ .json), _FLAIR.nii.gz (+ .json)
        sub-X[_ses-Y]_space-MNI152NLin2009aSym_desc-brain_mask.nii.gz (+ .json)
        sub-X[_ses-Y]_space-MNI152NLin2009aSym_seg-<dialect>_dseg.nii.gz (+ .json, .tsv)         where there is a label map
        sub-X[_ses-Y]_desc-prepare_qc.json                                                       written last

The T1w is written when everything else but ``_qc.json`` is there, since a cohort's reader looks for T1w images. A scan is
finished when its ``_qc.json`` is there with the key of the same inputs and settings, and names files of the sizes that are
there. Nothing in a prepared file depends on the clock, the machine's name or a path.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from datamodules.files.atomic import file_sha256, write_atomically, write_text
from datamodules.files.listing import list_folder
from datamodules.intake.raw import RawSession
from datamodules.preparation.images import SPACE
from regions.grid import Grid

PIPELINE = "regionwise"
MNI = 4
"""The NIfTI code of MNI152 space."""


@dataclass(frozen=True)
class OutputPaths:
    """Paths of one session's prepared files."""

    out: Path
    patient: str
    session: str

    @property
    def stem(self) -> str:
        """``sub-X`` or ``sub-X_ses-Y``."""
        return f"{self.patient}_{self.session}" if self.session else self.patient

    @property
    def derivative(self) -> Path:
        """The derivative's root."""
        return self.out / "derivatives" / PIPELINE

    @property
    def anat(self) -> Path:
        """Where the images go."""
        return (
            self.derivative / self.patient / self.session / "anat" if self.session else self.derivative / self.patient / "anat"
        )

    @property
    def qc(self) -> Path:
        """The file that is written last."""
        return self.anat / f"{self.stem}_desc-prepare_qc.json"

    @property
    def log(self) -> Path:
        """What the programs said."""
        return self.derivative / "logs" / f"{self.stem}.log"

    def image(self, what: str) -> Path:
        """An image in template space; ``what`` is for example ``desc-preproc_T1w``."""
        return self.anat / f"{self.stem}_space-{SPACE}_{what}.nii.gz"

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """An empty folder for temporary files, gone afterwards; what a killed process left in it goes at the next start."""
        folder = self.derivative / ".work" / self.stem
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def clear(self) -> None:
        """Remove what an earlier preparation of the scan left, first what makes it a scan: ``_qc.json`` and T1w."""
        self.qc.unlink(missing_ok=True)
        self.image("desc-preproc_T1w").unlink(missing_ok=True)
        for path in (*list_folder(self.anat, f"{self.stem}_space-*"), *self.anat.glob(f".{self.stem}_*.partial")):
            path.unlink()


def output_paths(session: RawSession, out: Path) -> OutputPaths:
    """The paths of a session's prepared files."""
    return OutputPaths(out, session.patient, session.session)


def inputs_of(session: RawSession) -> dict[str, str]:
    """Name of each input file, without the folders above the dataset's, and the SHA-256 of its content.

    Raises:
        OSError: if a file cannot be read.
    """
    files = {**session.images} | ({"labels": session.labels} if session.labels else {})
    files |= {"label_table": Path(session.dialect)} if session.dialect.endswith(".tsv") else {}
    return {kind: f"{path.name} {file_sha256(path)}" for kind, path in files.items()}


def key_of(inputs: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """One hash of the inputs' content, sidecars and dialect, and of all settings and versions."""
    text = json.dumps([dict(inputs), dict(settings)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def is_finished(paths: OutputPaths, key: str) -> bool:
    """Whether the scan was prepared from the same inputs with the same settings, and its files are all there."""
    try:
        content = json.loads(paths.qc.read_text(encoding="utf-8"))
        sizes = {name: int(size) for name, size in content["outputs"].items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return False
    if content.get("key") != key or not sizes:
        return False
    return all((paths.anat / name).is_file() and (paths.anat / name).stat().st_size == size for name, size in sizes.items())


def write_image(path: Path, array: NDArray[Any], grid: Grid) -> None:
    """Write a volume as gzipped NIfTI, atomically, with nothing in it that depends on the clock.

    Args:
        path: ``.nii.gz``.
        array: (I, J, K) on the grid.
        grid: RAS+, MNI152 millimetres.
    """
    image = nib.Nifti1Image(array, grid.matrix)
    image.header.set_xyzt_units("mm")
    image.set_sform(grid.matrix, code=MNI)
    image.set_qform(grid.matrix, code=MNI)
    packed = gzip.compress(image.to_bytes(), compresslevel=4, mtime=0)
    write_atomically(path, lambda file: file.write(packed))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write indented JSON atomically; numbers that are not finite become null."""
    write_text(path, json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return round(float(value), 6) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def json_beside(image: Path) -> Path:
    """The sidecar of an image."""
    return image.with_name(image.name.removesuffix(".nii.gz") + ".json")


def usual_out(bids: Path) -> Path:
    """Where a dataset's prepared cohort goes unless ``--out`` is given."""
    return Path("cohorts") / f"{bids.resolve().name}_prepared"
