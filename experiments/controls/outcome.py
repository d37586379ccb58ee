"""All rows of a study's controls, and the files they are written to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.files.atomic import write_text
from datamodules.files.sealed import write_sealed
from datamodules.files.tables import tsv_text
from experiments.controls.cases import NotRunError, repeated_patients
from experiments.controls.control_masks import overlap, random_mask
from experiments.controls.headers import header_columns, header_numbers, header_predictions
from experiments.controls.measures import Table, measured, metric_of, rules_of
from experiments.controls.plan import ControlRun
from experiments.controls.rules import METRIC
from experiments.controls.scores import (
    Row,
    as_json,
    compared_row,
    judged,
    leaky_row,
    permuted_row,
    plain_row,
    pooled,
    ranked,
    unscored_row,
)
from experiments.controls.setup import Controls
from experiments.controls.work import failures
from experiments.statistics.numeric_pairs import NUMERIC_INTERVAL
from experiments.statistics.predictions import PredictionsError
from experiments.statistics.significance import INTERVAL, draw_patient_weights

COLUMNS = ("control", "input", "scans", "patients", "positives", "repetitions")
SCORES = ("auc", "balanced_accuracy", "sensitivity", "specificity")
NUMBER_SCORES = ("spearman", "mae", "rmse", "r2", "auc")


def outcome(
    controls: Controls, runs: Sequence[ControlRun], chosen: Sequence[str], refused: Mapping[str, str], draws: int
) -> dict[str, Any]:
    """Score every control.

    Args:
        controls: The study.
        runs: All trainings of the plan; those of refused controls are not there.
        chosen: Controls that were asked for.
        refused: Controls that this cohort cannot answer, and why.
        draws: Bootstrap draws; their seed is fixed, so that the table repeats.

    Returns:
        The content of controls.json.
    """
    rows = list(_rows(controls, runs, chosen, refused, draws))
    target = controls.study.cohort.rule
    return {
        "study": controls.folder.name,
        "seed": controls.seed,
        "folds": controls.study.splits.folds,
        "draws": draws,
        "metric": metric_of(target),
        "interval": f"{NUMERIC_INTERVAL if target.is_number else INTERVAL}; not adjusted for the number of controls",
        "mask_mode": controls.mask_mode,
        "spacing_mm": controls.study.prepared.grid.spacing,
        "study_spacing_mm": controls.fine_spacing,
        "epochs": controls.settings.values.trainer.max_epochs,
        "split_hash": controls.study.splits.hash,
        "cohort_hash": controls.study.cohort_hash,
        "inputs": list(controls.regions),
        "rules": rules_of(target, chosen),
        "controls": [as_json(row) for row in rows],
    }


def _rows(
    controls: Controls, runs: Sequence[ControlRun], chosen: Sequence[str], refused: Mapping[str, str], draws: int
) -> Iterator[Row]:
    groups: dict[tuple[str, str], dict[int, list[ControlRun]]] = {}
    for run in runs:
        groups.setdefault((run.control, run.input), {}).setdefault(run.repeat, []).append(run)
    failed = {(run.control, run.input): f"{run.name}: {why}" for run, why in failures(controls, runs).items()}
    images = {
        name: pooled(controls.folder, groups["image", name][0]) for name in controls.regions if ("image", name) not in failed
    }
    if not images:
        yield from (unscored_row(control, name, failed["image", name]) for control, name in groups)
        return
    first = next(iter(images.values()))
    weights = draw_patient_weights(first, draws, np.random.default_rng(0))
    for (control, name), repeats in groups.items():
        reason = refused.get(control) or failed.get((control, name)) or failed.get(("image", name))
        if reason:
            yield unscored_row(control, name, reason)
            continue
        try:
            yield _row(controls, control, name, list(repeats.values()), images[name], weights, draws)
        except PredictionsError as error:
            yield unscored_row(control, name, str(error))
    if "header_only" in chosen:
        yield _header_row(controls, next(iter(images)), first, weights)


def _row(
    controls: Controls,
    control: str,
    name: str,
    repeats: Sequence[Sequence[ControlRun]],
    image: Table,
    weights: Any,
    draws: int,
) -> Row:
    rng, target = np.random.default_rng(1), controls.study.cohort.rule
    if control == "permuted":
        return permuted_row(name, [pooled(controls.folder, repeat) for repeat in repeats], draws, rng, target)
    if control == "leaky":
        leaky, honest = ranked(controls.folder, repeats[0]), ranked(controls.folder, repeats[1])
        return leaky_row(name, leaky, honest, weights, repeated_patients(controls.study.cohort.scans), target)
    table = pooled(controls.folder, repeats[0])
    if control in ("image", "sex", "field_strength"):
        if control != "image":
            weights = draw_patient_weights(table, draws, rng)
        return judged(plain_row(control, name, table, measured(table, weights)), {"the network": [table]}, target=target)
    row = compared_row(control, name, table, image, weights, target)
    if control != "random_region":
        return row
    region, grid = controls.regions[name], controls.study.prepared.grid
    cut = (controls.mask_mode, controls.dilate_mm)
    mask = random_mask(region, grid, *cut, np.random.default_rng([controls.seed, 2]))
    row.details.update({"voxels": int(mask.sum()), "overlap_with_region": overlap(mask, region, grid, *cut)})
    return row


def _header_row(controls: Controls, compared_with: str, image: Table, weights: Any) -> Row:
    scans, target, splits = controls.study.cohort.scans, controls.study.cohort.rule, controls.study.splits
    try:
        table: Table = (
            header_numbers(scans, splits, target) if target.is_number else header_predictions(scans, splits, target.decision)
        )
    except NotRunError as error:
        return unscored_row("header_only", None, str(error))
    row = compared_row("header_only", None, table, image, weights, target)
    row.details.update({"columns": header_columns(scans), "compared_with": compared_with})
    return row


def write_outcome(folder: Path, outcome: Mapping[str, Any]) -> None:
    """Write controls.json and controls.tsv into the study's folder."""
    metric = outcome["metric"]
    scores = SCORES if metric == METRIC else NUMBER_SCORES
    header = [*COLUMNS, *(f"{score}{end}" for score in scores for end in ("", "_low", "_high"))]
    header += ["difference_of", *(f"difference_{metric}{end}" for end in ("", "_low", "_high")), "flag", "verdict", "reason"]
    rows = []
    for row in outcome["controls"]:
        values = [row[name] for name in COLUMNS]
        for score in scores:
            estimate = (row["estimates"] or {}).get(score, {})
            values += [estimate.get(end) for end in ("value", "low", "high")]
        gain = (row["difference"] or {}).get(metric, {})
        values += [row["difference_of"], *(gain.get(end) for end in ("value", "low", "high"))]
        values += [row["flag"], row["verdict"], row["reason"]]
        rows.append(values)
    write_text(folder / "controls.tsv", tsv_text(header, rows))
    write_sealed(folder / "controls.json", outcome)
