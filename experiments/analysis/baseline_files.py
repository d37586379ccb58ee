"""Where the baselines of a study lie, and how a comparison reads them; nothing heavy is imported.

::

    <study>/baselines.json                              what was fitted on what, missing values, coefficients
    <study>/baselines/features.tsv                      volumes and mean intensities of each scan
    <study>/baselines/<name>/fold-<k>/predictions.tsv   as a run's
    <study>/baselines/<name>/fold-<k>/run.json          state, threshold, fingerprint
    <study>/baselines/<reader>/<input>/fold-<k>/        the same of the linear readers, which each input has its own of
    <study>/readers.json                                penalties and components of the linear readers
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from datamodules.cohort.images import DEFAULT_IMAGES, titles
from datamodules.cohort.target import Target
from datamodules.files.tables import read_rows
from experiments.analysis.pooling import pool
from experiments.study.parts import Parts, read_parts
from experiments.study.record import OLDEST_DECISION, decision_of
from experiments.study.run_folder import RunFolder
from experiments.study.runs import Run
from lightning_modules.decision import Decision

Pool = Callable[[Mapping[int, Path], Parts], Any]
BASELINES: Mapping[str, str] = MappingProxyType(
    {
        "prevalence": "share of positive scans in the training part",
        "age_sex": "logistic regression on age and sex",
        "age_sex_volumes": "logistic regression on age, sex, regional volumes, brain volume and lesion volume",
        "region_means": "logistic regression on the mean T1w and FLAIR intensity of each region",
    }
)
"""Name -> what it is; the order of every table."""
COMBAT: Mapping[str, str] = MappingProxyType(
    {f"{name} (ComBat)": f"{BASELINES[name]}, harmonised over sites" for name in ("age_sex_volumes", "region_means")}
)
"""The same on measurements that ComBat harmonised, fitted in each training part; only where a cohort has several sites."""


PRESENCE = "images_present"
"""The baseline of a cohort in which some scans lack an optional image."""
SOMETIMES: Mapping[str, str] = MappingProxyType({**COMBAT, PRESENCE: "logistic regression on which images a scan has"})
"""Baselines that not every cohort has."""

NUMBER_BASELINES: Mapping[str, str] = MappingProxyType(
    {"mean": "mean of the training part"}
    | {name: about.replace("logistic", "ridge") for name, about in BASELINES.items() if name != "prevalence"}
)
"""The same, where a number is predicted."""


def about_baseline(name: str, images: Sequence[str] = DEFAULT_IMAGES, target: Target = Target()) -> str:
    """What a baseline is, in a study of these images and this target."""
    about = {**BASELINES, **SOMETIMES, **baselines_of(target)}.get(name, "a baseline")
    about = about.replace("logistic", "ridge") if target.is_number else about
    return about.replace(titles(DEFAULT_IMAGES), titles(images))


VOXELS = "voxels"
TISSUE = "tissue_share"


def features_reader(encoder: str) -> str:
    """Name of the linear reader of an encoder's features."""
    return f"features({encoder})"


READERS: Mapping[str, str] = MappingProxyType(
    {
        VOXELS: "the same voxels",
        features_reader("untrained"): "the features of its untrained network",
        features_reader("hd-bet"): "the features of HD-BET's encoder",
        features_reader("deepbet"): "the features of deepbet's encoder",
        TISSUE: "its shares of CSF, other tissue and outside (under subject masks: and its size)",
    }
)
"""Linear reader of an input -> what it reads, as a sentence says it."""
USUAL = (VOXELS, features_reader("untrained"), TISSUE)
"""Readers that are fitted without being asked for."""


def reader_name(reader: str, roi: str) -> str:
    """Name of a reader of one input, also its folder below ``baselines``."""
    return f"{reader}/{roi}"


def baseline_folder(study: Path, name: str, fold: int) -> Path:
    """Folder of one baseline and fold."""
    return study / "baselines" / name / f"fold-{fold}"


def baselines_of(target: Target) -> Mapping[str, str]:
    """The baselines of a target: name -> what it is."""
    return NUMBER_BASELINES if target.is_number else BASELINES


def read_baselines(study: Path, runs: Sequence[Run], pool: Pool = pool) -> tuple[dict[str, Any], list[str]]:
    """The baselines that were fitted on the same split and cohort as the runs, and what to tell about the others.

    Args:
        study: The study's folder.
        runs: The runs of one input that are compared; the baselines are cut to their folds.
        pool: How the folders of a baseline become one table.
    """
    decision, parts = decision_of(study), read_parts(study)
    further = (name for name in SOMETIMES if (study / "baselines" / name).is_dir())
    names, prints = [*baselines_of(parts.target), *further], ("split", "cohort")
    baselines, absent, stale = _read(study, parts, runs, names, prints, decision, pool)
    again = f"make baselines STUDY={study.name}"
    notes = [f"no baseline {', '.join(absent)}: {again}"] if absent else []
    if stale:
        notes.append(f"baseline {', '.join(stale)} was fitted on another split or cohort, or decided otherwise: {again}")
    return baselines, notes


def read_readers(study: Path, runs: Mapping[str, Sequence[Run]], pool: Pool = pool) -> tuple[dict[str, Any], list[str]]:
    """The linear readers of the compared inputs, fitted on the split, cohort, volumes and region of their runs.

    Args:
        study: The study's folder.
        runs: Input -> its runs that are compared.
        pool: How the folders of a reader become one table.

    Returns:
        ``<reader>/<input>`` -> predictions, and what to tell about the others.
    """
    readers: dict[str, Any] = {}
    lacking: set[str] = set()
    changed: set[str] = set()
    parts, decision, prints = read_parts(study), decision_of(study), ("split", "cohort", "data", "region")
    for roi, of_input in runs.items():
        names = [reader_name(reader, roi) for reader in READERS]
        complete, missing, other = _read(study, parts, of_input, names, prints, decision, pool)
        readers |= complete
        lacking |= set(missing)
        changed |= set(other)
    wanted = {reader: [reader_name(reader, roi) for roi in runs] for reader in READERS}
    absent: list[str] = []
    for reader, names in wanted.items():
        if not set(names) <= lacking:
            absent += [name for name in names if name in lacking]
        elif reader in USUAL:
            absent.append(reader)
    order = [name for names in wanted.values() for name in names]
    readers = {name: readers[name] for name in order if name in readers}
    stale = [name for name in order if name in changed]
    again = f"make baselines STUDY={study.name}"
    notes = [f"no linear reader {', '.join(absent)}: {again}"] if absent else []
    made_from = "was fitted on another split, cohort, volumes or region, or decided otherwise"
    notes += [f"linear reader {', '.join(stale)} {made_from}: {again}"] if stale else []
    return readers, notes


def _read(
    study: Path,
    parts: Parts,
    runs: Sequence[Run],
    names: Iterable[str],
    prints: Sequence[str],
    decision: Decision,
    pool: Pool,
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Baselines that are complete in the folds of some runs and agree with their fingerprint; the absent; the stale."""
    made = RunFolder(runs[0].folder(study)).facts()["fingerprint"] | {"decision": decision}
    baselines: dict[str, Any] = {}
    absent, stale = [], []
    for name in names:
        folders = {fold: baseline_folder(study, name, fold) for fold in sorted({run.fold for run in runs})}
        facts = [RunFolder(path).facts() for path in folders.values()]
        if not all(fold_facts.get("state") == "complete" for fold_facts in facts):
            absent.append(name)
        elif any(_made_from(fold_facts).get(part) != made.get(part) for fold_facts in facts for part in (*prints, "decision")):
            stale.append(name)
        else:
            baselines[name] = pool(folders, parts)
    return baselines, absent, stale


def _made_from(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {"decision": OLDEST_DECISION, **facts["fingerprint"]}


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
