"""``prepare``: from a raw BIDS dataset to a cohort in MNI152 space: brain extraction, bias, registration, quality numbers.

Finished scans are skipped, so that the same command goes on where it stopped; a scan that fails is named at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from datamodules.cohort.identity import AlikeIds
from datamodules.cohort.images import DEFAULT_IMAGES, kind_of, parse_images, parse_optional
from datamodules.intake.raw import read_raw
from datamodules.preparation.derivative import usual_out
from datamodules.preparation.images import SIDES_MM
from datamodules.preparation.options import PrepareOptions
from datamodules.preparation.samseg import check_samseg
from experiments.checking.prepare_cohort import prepare, refuse_strangers, select_sessions, with_labels
from experiments.runtime.console import plain_console
from experiments.study.arguments import CommandOptions, named, read
from experiments.study.runs import PlanError
from regions.labels import read_table


@dataclass(frozen=True)
class Options(CommandOptions):
    """Which dataset is prepared, and how."""

    bids: Path | None = None
    """Folder of the raw BIDS dataset."""
    out: Path | None = None
    """Folder of the new cohort; without it cohorts/<name of the dataset>_prepared."""
    jobs: int | None = None
    """Scans prepared at a time; without it as many as cores and memory allow."""
    only: str = ""
    """Patients or sessions, separated by commas (sub-01,sub-02/ses-1); empty: all."""
    restart: bool = False
    """Prepare finished scans again."""
    brain: Literal["deepbet", "registration"] = "deepbet"
    """How the brain is found."""
    nonlinear: bool = False
    """Add a nonlinear registration (SyN), guided by maps of the fluid."""
    spacing: float = 1.0
    """Side of the prepared voxels in mm, 1 to 4."""
    labels_from: Path | None = named("labels-from", None)
    """Folder of FreeSurfer-like results with label maps; without it those in the dataset's own derivatives are taken."""
    dialect: str = ""
    """What wrote the label maps: freesurfer, fastsurfer, synthseg or samseg; or a table (.tsv) of your own ids."""
    samseg: Path | None = None
    """Program run_samseg, to make label maps."""
    lesion: bool = False
    """Let SAMSEG segment lesions too."""
    images: str = ",".join(DEFAULT_IMAGES)
    """What is prepared of each session, the T1w among it: t1w; t1w,flair,t2w."""
    optional_images: str = ""
    """Those that a session may lack, never the T1w."""
    keep: str = ""
    """Columns of the tables, separated by commas, that are copied although prepare does not know them: nfl,nfl_date."""
    alike_ids: AlikeIds = "refuse"
    """Patients whose ids differ in writing alone (0009 and 9): refuse them, or keep them apart as different people."""


def run(options: Options) -> int:
    """Prepare the dataset."""
    if options.bids is None:
        raise PlanError("--bids is missing; give the folder of a raw BIDS dataset, for example make prepare BIDS=/data/ms")
    if options.jobs is not None and options.jobs < 1:
        raise PlanError(f"--jobs {options.jobs}: 1 or more scans are prepared at a time")
    if not SIDES_MM[0] <= options.spacing <= SIDES_MM[1]:
        raise PlanError(f"--spacing {options.spacing:g}: prepared voxels are {SIDES_MM[0]:g} to {SIDES_MM[1]:g} mm wide")
    if options.labels_from is not None and not options.dialect:
        raise PlanError("--labels-from needs --dialect: freesurfer, fastsurfer, synthseg, samseg, or a table (.tsv) of the ids")
    if options.dialect.endswith(".tsv"):
        read_table(Path(options.dialect))
    if options.lesion and options.samseg is None:
        raise PlanError("--lesion is an option of SAMSEG; give --samseg PATH_TO_run_samseg as well")

    names = parse_images(options.images)
    names = ("t1w", *(name for name in names if name != "t1w")) if "t1w" in names else names
    odd = [name for name in names if kind_of(name) != "contrast"]
    if names[0] != "t1w" or odd:
        wrong = f"{odd[0]} is no contrast" if odd else "the others are laid onto the T1w"
        raise PlanError(f"--images {options.images}: {wrong}; give t1w and further contrasts, for example t1w,flair,t2w")
    optional = parse_optional(options.optional_images, names)
    if options.samseg is not None and ("flair" not in names or "flair" in optional):
        raise PlanError("--samseg reads T1w and FLAIR; add flair to --images, and leave it out of --optional_images")
    missing = [name for name in ("ants", "deepbet", "nilearn") if find_spec(name) is None]
    if missing:
        raise PlanError(
            f"prepare needs {', '.join(missing)}, not installed here; pip install 'regionwise[prepare]' (make install has it)"
        )
    console = plain_console()
    if options.samseg is not None:
        check_samseg(options.samseg)
    steps = PrepareOptions(options.brain, options.nonlinear, options.samseg, options.lesion, options.spacing, names)
    dataset = read_raw(options.bids, "" if options.labels_from else options.dialect, options.alike_ids, names, optional)
    out = options.out or usual_out(options.bids)
    refuse_strangers(dataset, out, options.restart)
    dataset = select_sessions(with_labels(dataset, options.labels_from, options.dialect, console), options.only)
    keep = [name.strip() for name in options.keep.split(",") if name.strip()]
    return prepare(dataset, out, steps, options.jobs, options.restart, console, keep)


def main(arguments: Sequence[str]) -> int:
    """Command line of ``prepare``."""
    return run(read(Options, arguments))
