"""A study that predicts a number, never trained: cohort table, split, record and run folders with drawn predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from made_report import CONFIG, FLOW, _facts
from made_study import PRINTS

from datamodules.cohort.records import Cohort, Scan
from datamodules.cohort.splits import make_splits, write_splits
from datamodules.cohort.target import Target
from datamodules.files.sealed import write_sealed
from experiments.__main__ import main
from experiments.study.record import Mask, ShownRegion, StudyRecord, write_record
from experiments.study.run_folder import Rows, RunFolder, write_predictions
from experiments.study.study import cohort_table
from regions.catalog import REGIONS


def write_numbers(
    folder: Path, target: Target, values: Sequence[float], inputs: Sequence[str] = ("global", "brainstem")
) -> Path:
    """Write a study of one scan a patient, and compare it."""
    rng = np.random.default_rng(0)
    image = Path("/scans/image.nii.gz")
    scans = [
        Scan(
            f"sub-{n:03d}", "ses-1", {"t1w": image, "flair": image}, value, None, target.label_of(value),
            covariates={"site": f"site-{n % 3}"},
        )
        for n, value in enumerate(values)
    ]  # fmt: skip
    splits = make_splits(scans, 0, 7, target)
    folder.mkdir(parents=True)
    (folder / "cohort.tsv").write_text(cohort_table(Cohort(Path("cohort"), target, tuple(scans))), encoding="utf-8")
    write_splits(folder / "splits.tsv", splits, scans, "h")
    labels = {name: REGIONS[name].labels for name in inputs}
    write_record(folder, StudyRecord(Path("cohort"), Path("store"), target, "refuse", 7, 0, splits.hash, "h", Mask(), labels))
    y = np.array([target.number_of(scan) for scan in scans])
    for number, name in enumerate(inputs):
        p = y + (0.5 + 0.3 * number) * y.std() * rng.normal(size=y.size)
        p = np.clip(p, 0, target.steps) if target.steps else p
        shown = ShownRegion.of(REGIONS[name], Mask()).plain()
        for fold in range(splits.folds):
            parts = splits.partitions(fold, [scan.patient for scan in scans])
            place = folder / name / f"fold-{fold}" / "seed-0"
            _write_rows(place, scans, [(part, row) for part in ("tuning", "internal_test") for row in parts[part]], y, p)
            facts = {"scale": {"steps": target.steps, "mean": float(y[parts["train"]].mean())}, **_facts()}
            RunFolder(place).write_complete(facts | {"fingerprint": {**PRINTS, "region": shown}})
    flow = {name: {"scans": len(scans), "patients": len(scans)} for name in ("found", "used")}
    write_sealed(folder / "flow.json", {**FLOW, **flow, "excluded": []})
    words = ["compare", "--study", folder.name, "--studies", str(folder.parent), "--draws", "200"]
    assert main([*words, "--inputs", ",".join(inputs), "--tracking.mode", "disabled"]) == 0
    return folder


def _write_rows(place: Path, scans: Sequence[Scan], chosen: Sequence[tuple[str, int]], y: np.ndarray, p: np.ndarray) -> None:
    """predictions.tsv, config.yaml and history.tsv of one run."""
    rows = [row for _, row in chosen]
    who = ([getattr(scans[row], name) for row in rows] for name in ("patient", "session", "site"))
    columns = ([part for part, _ in chosen], *who, y[rows], p[rows])
    place.mkdir(parents=True)
    write_predictions(place / "predictions.tsv", Rows(*(np.array(column) for column in columns)))
    (place / "config.yaml").write_text(CONFIG.split("\n", 2)[2], encoding="utf-8")
    history = ["epoch\ttuning/loss\ttrain/loss", *(f"{epoch}\t{0.7 - 0.05 * epoch}\t0.6" for epoch in range(3))]
    (place / "history.tsv").write_text("\n".join(history) + "\n", encoding="utf-8")
