"""Where the baselines of a study lie, and how a comparison reads them; nothing heavy is imported.

::

    <study>/baselines.json                              what was fitted on what, missing values, coefficients
    <study>/baselines/features.tsv                      volumes and mean intensities of each scan
    <study>/baselines/<name>/fold-<k>/predictions.tsv   as a run's
    <study>/baselines/<name>/fold-<k>/run.json          state, threshold, fingerprint
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from datamodules.files.tables import read_rows
from experiments.analysis.pooling import Pooled, pool
from experiments.study.parts import read_parts
from experiments.study.record import OLDEST_DECISION, decision_of
from experiments.study.run_folder import RunFolder
from experiments.study.runs import Run

BASELINES: Mapping[str, str] = MappingProxyType(
    {
        "prevalence": "share of positive scans in the training part",
        "age_sex": "logistic regression on age and sex",
        "age_sex_volumes": "logistic regression on age, sex, regional volumes, brain volume and lesion volume",
        "region_means": "logistic regression on the mean T1w and FLAIR intensity of each region",
    }
)
"""Name -> what it is; the order of every table."""


def baseline_folder(study: Path, name: str, fold: int) -> Path:
    """Folder of one baseline and fold."""
    return study / "baselines" / name / f"fold-{fold}"


def read_baselines(study: Path, runs: Sequence[Run]) -> tuple[dict[str, Pooled], list[str]]:
    """The baselines that were fitted on the same split and cohort as the runs, and what to tell about the others.

    Args:
        study: The study's folder.
        runs: The runs of one input that are compared; the baselines are cut to their folds.
    """
    made = RunFolder(runs[0].folder(study)).facts()["fingerprint"]
    wanted = (made["split"], made["cohort"], decision_of(study))
    baselines: dict[str, Pooled] = {}
    absent, stale = [], []
    parts = read_parts(study)
    for name in BASELINES:
        folders = {fold: baseline_folder(study, name, fold) for fold in sorted({run.fold for run in runs})}
        facts = [RunFolder(path).facts() for path in folders.values()]
        if not all(fold_facts.get("state") == "complete" for fold_facts in facts):
            absent.append(name)
        elif any(_made_with(fold_facts) != wanted for fold_facts in facts):
            stale.append(name)
        else:
            baselines[name] = pool(folders, parts)
    again = f"make baselines STUDY={study.name}"
    notes = [f"no baseline {', '.join(absent)}: {again}"] if absent else []
    if stale:
        notes.append(f"baseline {', '.join(stale)} was fitted on another split or cohort, or decided otherwise: {again}")
    return baselines, notes


def _made_with(facts: Mapping[str, Any]) -> tuple[str, str, str]:
    made = facts["fingerprint"]
    return made["split"], made["cohort"], made.get("decision", OLDEST_DECISION)


def read_features(study: Path) -> dict[tuple[str, str], dict[str, float]]:
    """(patient, session) -> measured features of each scan; empty where none were measured yet."""
    path = study / "baselines" / "features.tsv"
    if not path.is_file():
        return {}
    rows = read_rows(path)
    names = [name for name in rows[0] if name not in ("patient", "session", "key", "#")] if rows else []
    return {
        (row["patient"], row["session"]): {name: float(row[name]) if row[name] else float("nan") for name in names}
        for row in rows
    }
