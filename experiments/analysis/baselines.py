"""What age, sex, volumes and mean intensities alone can do, on the same folds as the networks.

Prevalence; age and sex; age, sex and regional volumes (with brain and lesion volume); mean intensity of each region. Each is a
logistic regression fitted on the training part, its penalty from the tuning part, its threshold by the study's rule. Where a
cohort has several sites, the last two are fitted on harmonised measurements too (``experiments.analysis.harmonised``). ``make
compare`` puts them into the same table and tests each against global on the same patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from datamodules.cohort.images import DEFAULT_IMAGES, indicated, indicator
from datamodules.files.sealed import write_sealed
from experiments.analysis.baseline_features import VOLUMES, features_of, means_of, measured_features
from experiments.analysis.baseline_files import COMBAT, PRESENCE, about_baseline, baseline_folder, baselines_of
from experiments.analysis.baseline_models import BaselineFit, Design, NumberFit, fit_baseline, fit_number
from experiments.analysis.harmonised import harmonised, several_sites
from experiments.runtime.console import bar, plain_console
from experiments.study.run_folder import Rows, RunFolder, write_predictions
from experiments.study.scan_table import ScanTable, read_scans
from experiments.study.study import Study

VERSION = "baselines 1"


def make_baselines(study: Study, workers: int = 1, console: Console | None = None) -> dict[str, Any]:
    """Measure the features, fit every baseline on every fold, write predictions, run.json and baselines.json.

    Args:
        study: The opened study.
        workers: Threads that measure.
        console: Where a bar is shown.

    Returns:
        The content of baselines.json.
    """
    features = _measure(study, workers, console)
    scans = read_scans(study.folder)
    y = truth_of(study)
    made: dict[str, Any] = {}
    notes: list[str] = []
    further = [*(COMBAT if several_sites(scans) else ()), *([PRESENCE] if study.prepared.lacked else ())]
    for name in (*baselines_of(study.cohort.rule), *further):
        design = design_of(name.removesuffix(" (ComBat)"), scans, features, study.prepared.names)
        if isinstance(design, str):
            notes += [f"no baseline {name}: {design}"] if name not in COMBAT else []
            continue
        notes += lacking(name, design, scans) if name not in COMBAT else []
        fits = _fit_folds(study, name, design, y, scans if name in COMBAT else None)
        made[name] = {
            "about": about_baseline(name, study.prepared.names, study.cohort.rule),
            "features": list(design.names),
            "missing": design.missing(),
            "folds": {str(fold): fit.facts() for fold, fit in fits.items()},
        }
    content = {"study": study.folder.name, "scans": int(y.size), "baselines": made, "notes": notes}
    write_sealed(study.folder / "baselines.json", content)
    return content


def _measure(study: Study, workers: int, console: Console | None) -> np.ndarray[Any, Any]:
    path = study.folder / "baselines" / "features.tsv"
    with bar(console or plain_console(), "measuring regions", quiet=console is None) as on_scan:
        return measured_features(study.cohort.scans, study.prepared, path, workers, on_scan)


def design_of(
    name: str, scans: ScanTable, features: np.ndarray[Any, Any], images: Sequence[str] = DEFAULT_IMAGES
) -> Design | str:
    """The features of one baseline, or in words why it cannot be made.

    Args:
        name: One of ``BASELINES`` or ``PRESENCE``.
        scans: The study's scans.
        features: (scans, features) in the order of ``features_of``.
        images: Names of the study's images.
    """
    if name in ("prevalence", "mean"):
        return Design((), np.empty((scans.patient.size, 0)))
    if name == PRESENCE:
        names = tuple(map(indicator, indicated(scans.columns)))
        return Design(names, np.stack([scans.columns[feature].astype(np.float64) for feature in names], axis=1))
    measured = dict(zip(features_of(images), features.T, strict=True))
    if name == "region_means":
        means = means_of(images)
        return Design(means, np.stack([measured[feature] for feature in means], axis=1))
    sex = scans.text("sex")
    person = {"age": scans.number("age"), "male": np.where(sex == "", np.nan, (sex == "M").astype(np.float64))}
    known = {feature: values for feature, values in person.items() if not np.isnan(values).all()}
    if name == "age_sex_volumes":
        sizes = {feature: measured[feature] for feature in VOLUMES if not np.isnan(measured[feature]).all()}
        if set(sizes) <= {"brain_ml"}:
            return "no scan has a label map"
        known |= {feature: values for feature, values in sizes.items() if feature != "lesion_ml" or np.nanmax(values) > 0}
    if not known:
        return "the cohort has neither age nor sex; add the columns to participants.tsv"
    return Design(tuple(known), np.stack(list(known.values()), axis=1), ("male",))


def lacking(name: str, design: Design, scans: ScanTable) -> list[str]:
    """A sentence for each of age and sex that a baseline's name promises and its design has not."""
    wanted = {"age": "age", "male": "sex"} if name in ("age_sex", "age_sex_volumes") else {}
    absent = [covariate for feature, covariate in wanted.items() if feature not in design.names]
    why = {
        covariate: "which is the target" if scans.target.owns(covariate) else "of which no scan has a value"
        for covariate in absent
    }
    return [f"baseline {name} is without {covariate}, {reason}" for covariate, reason in why.items()]


def truth_of(study: Study) -> np.ndarray[Any, Any]:
    """(scans,) what is predicted of each scan: its class, or its value or step as float64."""
    target, scans = study.cohort.rule, study.cohort.scans
    if target.is_number:
        return np.array([target.number_of(scan) for scan in scans], dtype=np.float64)
    return np.array([scan.label for scan in scans], dtype=np.int64)


def _fit_folds(
    study: Study, name: str, design: Design, y: np.ndarray[Any, Any], sites: ScanTable | None
) -> dict[int, BaselineFit | NumberFit]:
    patients = [scan.patient for scan in study.cohort.scans]
    target = study.cohort.rule
    fits: dict[int, BaselineFit | NumberFit] = {}
    for fold in range(study.splits.folds):
        parts = study.splits.partitions(fold, patients)
        seen = harmonised(design, sites, parts["train"]) if sites else design
        if target.is_number:
            fits[fold] = fit_number(seen, y, parts["train"], parts["tuning"], target.steps)
        else:
            fits[fold] = fit_baseline(seen, y, parts["train"], parts["tuning"], target.decision)
        write_fold(study, name, fold, parts, fits[fold], {"config": VERSION})
    return fits


def write_fold(
    study: Study,
    name: str,
    fold: int,
    parts: Mapping[str, np.ndarray[Any, Any]],
    fit: BaselineFit | NumberFit,
    prints: Mapping[str, Any],
) -> None:
    """Write predictions.tsv and run.json of one fold.

    Args:
        study: The opened study.
        name: The baseline, also its folder below ``baselines``.
        fold: Test part.
        parts: Part -> cohort rows.
        fit: What was fitted.
        prints: Of the fingerprint, beside split, cohort and data.
    """
    path = baseline_folder(study.folder, name, fold)
    scans, target = study.cohort.scans, study.cohort.rule
    rows = [(partition, scans[row], fit.p[row]) for partition in ("tuning", "internal_test") for row in parts[partition]]
    columns = (
        [partition for partition, _, _ in rows],
        [scan.patient for _, scan, _ in rows],
        [scan.session for _, scan, _ in rows],
        [scan.site for _, scan, _ in rows],
        [scan.value if target.kind == "regression" else scan.label for _, scan, _ in rows],
        [p for _, _, p in rows],
    )
    path.mkdir(parents=True, exist_ok=True)
    write_predictions(path / "predictions.tsv", Rows(*(np.array(column) for column in columns)))
    made_from = {"split": study.splits.hash, "cohort": study.cohort_hash, "data": study.prepared.hash, **prints}
    made_from["decision"] = study.cohort.rule.decision
    RunFolder(path).write_complete({"baseline": name, "fold": fold, "fingerprint": made_from, **fit.facts()})
