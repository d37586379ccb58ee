"""Studies that were never trained: cohort table, split and run folders with drawn predictions, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from datamodules.cohort.records import Scan
from datamodules.cohort.site_splits import make_site_splits
from datamodules.cohort.splits import make_splits, write_splits
from datamodules.cohort.target import Target
from experiments.analysis.baseline_files import baseline_folder
from experiments.study.run_folder import Rows, RunFolder, write_predictions
from experiments.study.study import cohort_table
from regions.catalog import REGIONS

PRINTS = {"config": "c", "split": "s", "cohort": "h", "data": "d"}


@dataclass(frozen=True)
class Made:
    """What a made study holds. `skill` is the shift between classes of each input, in SDs of its score."""

    patients: int = 42
    scans: int = 56
    inputs: Sequence[str] = tuple(REGIONS)
    seeds: Sequence[int] = (0,)
    baselines: Sequence[str] = ()
    skill: Mapping[str, float] = field(default_factory=dict)
    covariates: bool = True
    by_site: bool = False
    split_seed: int = 0


def write_study(folder: Path, made: Made, seed: int = 0) -> list[Scan]:
    """Write the study; its scans come back in the order of cohort.tsv."""
    rng = np.random.default_rng(seed)
    scans = _scans(made, rng)
    splits = make_site_splits(scans, 0) if made.by_site else make_splits(scans, made.split_seed)
    folder.mkdir(parents=True)
    (folder / "cohort.tsv").write_text(cohort_table(cohort_of(scans)), encoding="utf-8")
    write_splits(folder / "splits.tsv", splits, scans, "h")
    patients = [scan.patient for scan in scans]
    y = np.array([scan.label for scan in scans])
    shared = rng.normal(size=len(scans))
    for name in (*made.inputs, *made.baselines):
        for own in made.seeds if name in made.inputs else (0,):
            score = made.skill.get(name, 1.2) * (y - 0.5) + 0.7 * shared + 0.7 * rng.normal(size=len(scans))
            for fold in range(splits.folds):
                place = (
                    baseline_folder(folder, name, fold)
                    if name in made.baselines
                    else folder / name / f"fold-{fold}" / f"seed-{own}"
                )
                write_run(
                    place, scans, splits.partitions(fold, patients), expit(score), float(np.round(rng.uniform(0.4, 0.6), 3))
                )
    return scans


def cohort_of(scans: Sequence[Scan]) -> Any:
    from datamodules.cohort.records import Cohort

    return Cohort(Path("cohort"), Target(), tuple(scans))


def write_run(place: Path, scans: Sequence[Scan], parts: Mapping[str, np.ndarray], p: np.ndarray, threshold: float) -> None:
    chosen = [(partition, row) for partition in ("tuning", "internal_test") for row in parts[partition]]
    rows = [scans[row] for _, row in chosen]
    columns = (
        [partition for partition, _ in chosen],
        [scan.patient for scan in rows],
        [scan.session for scan in rows],
        [scan.site for scan in rows],
        [scan.label for scan in rows],
        [p[row] for _, row in chosen],
    )
    place.mkdir(parents=True)
    write_predictions(place / "predictions.tsv", Rows(*(np.array(column) for column in columns)))
    RunFolder(place).write_complete({"threshold": threshold, "fingerprint": PRINTS})


def _scans(made: Made, rng: np.random.Generator) -> list[Scan]:
    names = [f"sub-{number:03d}" for number in range(made.patients)]
    who = [*names, *names[: made.scans - made.patients]]
    count: dict[str, int] = {}
    scans = []
    for number, patient in enumerate(who):
        count[patient] = count.get(patient, 0) + 1
        place = int(patient.removeprefix("sub-"))
        edss = float(rng.choice((3.0, 3.5, 4.0, 6.0) if place % 10 < 3 else (0.0, 1.0, 1.5, 2.0, 2.5)))
        covariates = {
            "age": f"{25 + (place * 7) % 40}",
            "sex": "FM"[place % 3 == 0],
            "field_strength": "3.0" if place % 2 else "1.5",
            "site": f"site-{place % 3}",
        }
        path = Path(f"/scans/{patient}_{count[patient]}.nii.gz")
        scans.append(
            Scan(
                patient, f"ses-{count[patient]}", {"t1w": path, "flair": path}, edss, number % 183, int(edss >= 3),
                covariates=covariates if made.covariates else {},
            )
        )  # fmt: skip
    return scans
