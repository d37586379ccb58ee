"""Where the results hold: every input within sex, age, field strength, scanner, site, lesion load, time to assessment, images.

The draws of patients are those of the whole study, cut to the subgroup. Nothing is tested: a subgroup was not chosen before,
and its interval is wide. Written as subgroups.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.cohort.images import indicated, indicator, titles
from datamodules.files.sealed import write_sealed
from experiments.analysis.baseline_files import read_features
from experiments.analysis.pooling import Tables
from experiments.runtime.words import rounded
from experiments.statistics.constant import LEAST_PATIENTS
from experiments.statistics.predictions import Predictions
from experiments.statistics.resampling import WeightArray, draw_patient_weights
from experiments.statistics.significance import bootstrap_interval, family_values
from experiments.study.scan_table import UNKNOWN, ScanTable, read_scans, rows_in

BoolArray = npt.NDArray[np.bool_]

CLASSES = ("sex", "field_strength", "scanner", "site")
IMAGES = "images"
"""Whether a scan has all images of the study."""
ABOUT = (
    "Scores within subgroups of the internal test scans, with the models, thresholds and draws of the whole study. "
    "No subgroup is tested against another."
)


def write_subgroups(study: Path, tables: Tables, draws: int) -> None:
    """Write subgroups.json.

    Args:
        study: The study's folder.
        tables: Input or baseline -> one table for each seed.
        draws: Bootstrap draws.
    """
    scans, rows, weights = scans_and_draws(study, tables, draws)
    levels = list(subgroup_levels(scans, lesion_volumes(study, scans), rows))
    present = {variable for variable, _, _ in levels}
    wanted = (*CLASSES, "age", "days", "lesion_ml")
    groups = [{"variable": variable, "level": level, **part(tables, chosen, weights)} for variable, level, chosen in levels]
    absent = [variable for variable in wanted if variable not in present]
    write_sealed(study / "subgroups.json", {"draws": draws, "about": ABOUT, "groups": groups, "absent": absent})


def scans_and_draws(study: Path, tables: Tables, draws: int) -> tuple[ScanTable, npt.NDArray[np.int64], WeightArray]:
    """The study's scans, the row there of each prediction, and the bootstrap draws of every description of the study."""
    first = next(iter(tables.values()))[0].test
    scans = read_scans(study)
    return scans, rows_in(scans, first), draw_patient_weights(first, draws, np.random.default_rng(0))


def lesion_volumes(study: Path, scans: ScanTable) -> npt.NDArray[np.float64]:
    """(n,) lesion volume in millilitres of each scan, NaN where it is unknown."""
    known = read_features(study)
    keys = zip(scans.patient.tolist(), scans.session.tolist(), strict=True)
    return np.array([known.get(key, {}).get("lesion_ml", np.nan) for key in keys], dtype=np.float64)


def subgroup_levels(
    scans: ScanTable, lesion_ml: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]
) -> Iterator[tuple[str, str, BoolArray]]:
    """Variable, level and the predictions in it, for every covariate that has at least two levels.

    Args:
        scans: The study's scans.
        lesion_ml: (scans,) lesion volumes.
        rows: (n,) row of each prediction in `scans`.
    """
    for variable in (*CLASSES, IMAGES):
        values = (missing_images(scans) if variable == IMAGES else scans.text(variable))[rows]
        names = sorted(set(values.tolist()) - {UNKNOWN})
        if len(names) > 1:
            yield from ((variable, name, values == name) for name in names)
            if np.any(values == UNKNOWN):
                yield variable, "unknown", values == UNKNOWN
    for variable, numbers in (("age", scans.number("age")), ("days", scans.days), ("lesion_ml", lesion_ml)):
        yield from _tertiles(variable, numbers[rows])


def missing_images(scans: ScanTable) -> npt.NDArray[np.str_]:
    """(n,) which optional images each scan lacks, in words."""
    absent = {name: scans.columns[indicator(name)] == "0" for name in indicated(scans.columns)}
    lacking = [[name for name, column in absent.items() if column[row]] for row in range(scans.patient.size)]
    return np.array([f"without {titles(names)}" if names else "all there" for names in lacking], dtype=np.str_)


def _tertiles(variable: str, values: npt.NDArray[np.float64]) -> Iterator[tuple[str, str, BoolArray]]:
    known = values[~np.isnan(values)]
    edges = np.unique(np.quantile(known, [1 / 3, 2 / 3])) if known.size else np.empty(0)
    if np.unique(known).size < 3 or edges.size < 2:
        return
    low, high = edges
    yield variable, f"up to {rounded(low)}", values <= low
    yield variable, f"above {rounded(low)} to {rounded(high)}", (values > low) & (values <= high)
    yield variable, f"above {rounded(high)}", values > high
    if known.size < values.size:
        yield variable, "unknown", np.isnan(values)


def part(tables: Tables, chosen: BoolArray, weights: WeightArray) -> dict[str, Any]:
    """Counts and the scores of every input on some of the test scans.

    Args:
        tables: Input or baseline -> one table for each seed.
        chosen: (n,) which rows.
        weights: (draws, patients) of the whole study.

    Returns:
        ``scans``, ``patients``, ``events`` (positive scans), ``note`` and ``inputs``: name -> metric -> estimate. Without both
        classes there are no scores; with few patients of a class there are no intervals.
    """
    first = next(iter(tables.values()))[0].test
    y = first.y[chosen]
    inside = np.unique(first.patient_index[chosen])
    facts = {"scans": int(chosen.sum()), "patients": int(inside.size), "events": int(y.sum()), "note": "", "inputs": {}}
    if np.unique(y).size < 2:
        return facts | {"note": "one class only, no score"}
    fewest = min(np.unique(first.patient_index[chosen & (first.y == label)]).size for label in (0, 1))
    drawn = weights[:, inside] if fewest >= LEAST_PATIENTS else weights[:0, inside]
    note = "" if fewest >= LEAST_PATIENTS else f"fewer than {LEAST_PATIENTS} patients of a class, no interval"
    members = {name: [subset(item.test, chosen) for item in by_seed] for name, by_seed in tables.items()}
    inputs = {
        name: {metric: asdict(item) for metric, item in bootstrap_interval(members[name], drawn, values=values).items()}
        for name, values in family_values(members, drawn).items()
    }
    return facts | {"note": note, "inputs": inputs}


def subset(pred: Predictions, chosen: BoolArray) -> Predictions:
    """Some rows of a table."""
    columns = {name: getattr(pred, name)[chosen] for name in ("patient", "fold", "y", "p", "decision")}
    return Predictions(**columns, session=None if pred.session is None else pred.session[chosen])
