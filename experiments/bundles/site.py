"""A hospital scores its own labelled cohort with a bundle and gives back counts alone; the counts of several are put together.

::

    <out>/events.jsonl   bundle looked at, labels read, scans predicted, counts written: each with the hash of the line before
          site.json      the counts, with their own SHA-256

Neither file holds a patient, a session, a path or a date other than those of the events. The scores of single scans stay in
memory. See ``experiments.statistics.aggregates`` for what is withheld of few patients.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from datamodules.cohort.flagged_scans import HELD
from datamodules.cohort.identity import AlikeIds
from datamodules.cohort.read import read_cohort
from datamodules.cohort.records import Cohort, by_reason
from datamodules.files.atomic import content_sha256, file_sha256, locked
from datamodules.files.sealed import write_sealed
from datamodules.store.prepared import PreparedCohort
from datamodules.store.signatures import KnownScans
from datamodules.store.store import Broken, open_cohort_scans, open_store
from experiments.bundles.bundle import Bundle
from experiments.bundles.errors import BundleError
from experiments.bundles.read import read_bundle
from experiments.bundles.running import open_scans, primary, run_models
from experiments.bundles.site_files import FORMAT, NAME, SITE
from experiments.bundles.sums import SUMS
from experiments.externals.freeze import hash_labels
from experiments.externals.log import note
from experiments.runtime.console import bar
from experiments.runtime.quiet import quiet_libraries
from experiments.statistics.aggregates import CELLS, Aggregate, Decided, aggregate, cells_of
from experiments.statistics.constant import SAME
from experiments.statistics.number_aggregates import NUMBER_SCORES, NumberAggregate, aggregate_numbers
from experiments.statistics.numeric import Numbers
from experiments.statistics.numeric_pairs import numeric_values, same_of
from experiments.statistics.predictions import FloatArray, Predictions
from experiments.statistics.resampling import draw_patient_weights
from experiments.statistics.significance import METRICS, mean_draws, mean_values, percentile_interval

OF_RATES = {"sensitivity": ("positive",), "specificity": ("negative",), "balanced_accuracy": ("positive", "negative")}


@dataclass(frozen=True)
class SiteOptions:
    """What a site scores, and how it is told."""

    cohort: Path
    """The site's labelled cohort: a BIDS folder or a table."""
    name: str
    """What the site is called in tables."""
    store: Path
    """Folder of prepared volumes."""
    least: int
    """Patients of whom something is told, at least."""
    draws: int
    """Draws of the bootstrap."""
    broken: Broken = "refuse"
    """Scans whose images cannot be used."""
    workers: int = 2
    """Threads that prepare scans."""
    accelerator: str = "auto"
    """As Lightning's Trainer takes it."""
    alike_ids: AlikeIds = "refuse"
    """Patients whose ids differ in writing alone."""


def score_site(folder: Path, out: Path, options: SiteOptions, console: Console) -> dict[str, Any]:
    """Score a cohort with a bundle and write the counts.

    Args:
        folder: The bundle.
        out: The folder that is given back; it must hold no counts yet.
        options: What is scored.
        console: Where progress goes.

    Raises:
        BundleError: if the bundle was touched, the cohort has other voxels or shares a scan with the
            training cohort, or ``out`` has counts already.
        CohortError: if the cohort cannot be used.
        BrokenScansError: if scans cannot be used and are not to be excluded.
        Interrupted: if a signal came.
    """
    if not re.fullmatch(NAME, options.name):
        raise BundleError(f"a site cannot be called {options.name!r}; give a --name of letters, digits, _ . and -")
    quiet_libraries()
    bundle = read_bundle(folder)
    with locked(out / ".lock"):
        if (out / SITE).exists():
            raise BundleError(f"{out / SITE} exists already; give another --out, or look at it with --verify")
        return _scored(bundle, out, options, console)


def _scored(bundle: Bundle, out: Path, options: SiteOptions, console: Console) -> dict[str, Any]:
    folder = bundle.folder
    note(out, "bundle", sha256=file_sha256(folder / SUMS), study=bundle.study, input=bundle.input)
    labels = content_sha256(sorted(hash_labels(options.cohort).values()))
    note(out, "labels read", sha256=labels)
    cohort, prepared = _open(bundle, options, console)
    scans = cohort.scans
    with bar(console, "models") as on_model:
        p = primary(bundle, run_models(bundle, prepared, scans, options.accelerator, on_model))
    for covariate in bundle.models[0].covariates:
        if message := covariate.filled("of the site's", scans):
            console.print(f"{bundle.input}: {message}")
    note(out, "predicted", sha256=hashlib.sha256(p.tobytes()).hexdigest())
    content = {
        "format": FORMAT,
        "site": options.name,
        "bundle": {"sha256": file_sha256(folder / SUMS), "study": bundle.study, "input": bundle.input},
        "target": bundle.target.describe(),
        "labels": labels,
        "draws": options.draws,
        **_told(bundle, cohort, p, options),
        "excluded": excluded_of(cohort, options.least),
    }
    write_sealed(out / SITE, content)
    note(out, "scored", sha256=file_sha256(out / SITE))
    return content


def _told(bundle: Bundle, cohort: Cohort, p: FloatArray, options: SiteOptions) -> dict[str, Any]:
    """Kind, counts and the site's own values."""
    patient = np.array([scan.patient for scan in cohort.scans])
    if bundle.target.is_number:
        y = np.array([bundle.target.number_of(scan) for scan in cohort.scans])
        centre = float(np.mean([model.mean for model in bundle.models]))
        sums = aggregate_numbers(patient, y, p, centre, options.least)
        table = (patient, y, p, centre, bundle.target.steps)
        return {"kind": "number", "counts": asdict(sums), "metrics": _number_metrics(*table, sums, options.draws)}
    labels = np.array([scan.label for scan in cohort.scans])
    decided = Decided(patient, labels, p, (p >= bundle.threshold).astype(np.int64))
    counts = aggregate(decided, options.least)
    return {"kind": "classes", "cells": CELLS, "counts": asdict(counts), "metrics": _metrics(decided, counts, options.draws)}


def _number_metrics(
    patient: npt.NDArray[Any], y: FloatArray, p: FloatArray, centre: float, steps: int, sums: NumberAggregate, draws: int
) -> dict[str, Any]:
    """The site's own scores of predicted numbers, None where withheld or undefined."""
    if not sums.scans or np.unique(y).size < 2:
        return dict.fromkeys(NUMBER_SCORES)
    table = Numbers(patient, np.zeros(y.size, dtype=np.int64), y, p, np.full(y.size, centre), steps=steps)
    weights = draw_patient_weights(table, draws, np.random.default_rng(0))
    values = numeric_values({"": [table]}, weights)[""]
    return {name: _estimate(*values[name], same_of(name, values)) for name in NUMBER_SCORES}


def _open(bundle: Bundle, options: SiteOptions, console: Console) -> tuple[Cohort, PreparedCohort]:
    """The cohort and its volumes on the bundle's voxels; none of its scans is one of the training cohort's."""
    cohort = read_cohort(
        options.cohort, bundle.target, alike_ids=options.alike_ids, images=bundle.images, optional=bundle.optional
    )
    with bar(console, "preparing scans") as on_scan:
        opener = functools.partial(open_scans, bundle, store=options.store, workers=options.workers, on_scan=on_scan)
        cohort, prepared = open_cohort_scans(cohort, opener, options.broken)
    own = prepared if not bundle.voxel_mm else open_store(cohort.scans, options.store, grid=bundle.scan_grid)
    _refuse_known(bundle, cohort, own)
    return cohort, prepared


def _refuse_known(bundle: Bundle, cohort: Cohort, prepared: PreparedCohort) -> None:
    if not bundle.training_scans:
        return
    known = KnownScans.of(bundle.training_scans)
    for row, scan in enumerate(cohort.scans):
        match = known.match(prepared.contrasts(row), prepared.grid)
        if match:
            raise BundleError(
                f"scan {scan.name} has {match.how} as a scan of the training cohort (correlation {match.correlation:.2f}); "
                "take its patient out of the cohort"
            )


def excluded_of(cohort: Cohort, least: int) -> list[dict[str, Any]]:
    """Reasons with their numbers of scans; None where they concern fewer than ``least`` patients.

    What quality control said of a scan may have been written by hand, and stays here.
    """
    told = [replace(entry, reason=HELD.strip(": ")) if entry.reason.startswith(HELD) else entry for entry in cohort.exclusions]
    rows = []
    for reason, entries in by_reason(told).items():
        few = len({entry.patient for entry in entries}) < least
        rows.append({"reason": reason, "scans": None if few else len(entries)})
    return rows


def _metrics(table: Decided, counts: Aggregate, draws: int) -> dict[str, Any]:
    """The site's own values with patient-cluster intervals and standard errors; None where they would tell what is withheld."""
    classes = {"negative": counts.negative, "positive": counts.positive}
    names = (*METRICS, "brier")
    if not all(each.scans for each in classes.values()):
        return dict.fromkeys(names)
    zeros = np.zeros(table.y.size, dtype=np.int64)
    rows = Predictions(table.patient, zeros, table.y, table.p, table.decision)
    in_cells = Predictions(table.patient, zeros, table.y, cells_of(table.p) / CELLS, table.decision)
    weights = draw_patient_weights(rows, draws, np.random.default_rng(0))
    values = mean_values(in_cells, weights)
    losses: FloatArray = np.square(table.p - table.y)
    drawn = {name: values[name] for name in METRICS} | {"brier": (float(losses.mean()), mean_draws(rows, losses, weights))}
    withheld = {name for name, needs in OF_RATES.items() if any(_is_range(classes[each]) for each in needs)}
    return {name: None if name in withheld else _estimate(*drawn[name]) for name in names}


def _is_range(counts: Any) -> bool:
    return bool(counts.right_low != counts.right_high)


def _estimate(value: float | None, drawn: FloatArray, same: float = SAME) -> dict[str, float | None]:
    low, high = percentile_interval(drawn, same=same)
    finite = drawn[np.isfinite(drawn)]
    return {"value": value, "low": low, "high": high, "error": float(finite.std(ddof=1)) if finite.size > 1 else None}
