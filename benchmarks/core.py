"""Does the core of a region keep its neighbours' size out, and what is left of an effect that is really planted in it?

Phantom cohorts in which the ventricles alone differ, and others in which subcortical gray matter alone does. AUC of the linear
reader of the voxels, as the product fits it on its seven folds, and with ``--networks`` of the demo preset's networks; the
brainstem, which no ventricle touches, shows what comes through the scale of the whole brain's intensities.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.scans import SCRATCH, store_folder
from benchmarks.table import publish
from datamodules.files.float16 import to_single
from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort
from datamodules.store.prepared import PreparedCohort
from experiments.__main__ import main as command
from experiments.analysis.linear_readers import fit_reader, gram_matrices
from experiments.checking.core import Agreement, count_agreement
from experiments.statistics.predictions import Predictions
from experiments.statistics.resampling import draw_patient_weights
from experiments.statistics.significance import Estimate, bootstrap_interval
from experiments.study.study import Study, StudyOptions, open_study
from regions.atlas import region_mask
from regions.catalog import REGIONS
from regions.core import LEAST_VOXELS, CoreRule, core

PRESETS = ("enlarged_ventricles", "single_region:subcortical_gray_matter")
READ = ("subcortical_gray_matter", "brainstem")
DRAWS = 2000
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Drawn:
    """A phantom cohort that was drawn and opened as a study."""

    preset: str
    seed: int
    cohort: Path
    study: Study


def drawn(preset: str, seed: int, spacing_mm: float) -> Drawn:
    """A cohort of 84 patients and 100 scans; drawn where it is missing."""
    name = f"{preset.replace(':', '-')}-{seed}-{spacing_mm:g}mm"
    cohort = Path("cohorts/benchmarks/core") / name
    if not cohort.is_dir():
        write_phantom_cohort(cohort, PhantomOptions(preset, spacing_mm=spacing_mm, seed=seed))
    return Drawn(preset, seed, cohort, open_study(StudyOptions(cohort, SCRATCH / "core" / "readers" / name, store_folder())))


def masks_of(prepared: PreparedCohort) -> dict[tuple[str, str], Mask]:
    """Region and way -> its voxels: the template's, the core with and without its margin, and one made without label maps."""
    regions = {name: REGIONS[name] for name in READ}
    found: dict[tuple[str, str], Mask] = {(name, "template"): region_mask(REGIONS[name], prepared.grid) for name in READ}
    bare = replace(prepared, scans=tuple(replace(scan, labels="") for scan in prepared.scans))
    with_maps, without = (count_agreement(scans, regions, 2, lambda done, all_scans: None) for scans in (prepared, bare))
    ways: Sequence[tuple[str, Agreement, CoreRule]] = (
        ("core, no margin", with_maps, CoreRule(margin_mm=0)),
        ("core, share 0.95", with_maps, CoreRule(share=0.95)),
        ("core", with_maps, CoreRule()),
        ("core, no label maps", without, CoreRule()),
    )
    for way, agreement, rule in ways:
        for name in READ:
            found[name, way] = core(agreement.counts[name], agreement.scans, rule, prepared.grid)
    return {key: mask for key, mask in found.items() if np.count_nonzero(mask) >= LEAST_VOXELS}


def reader_auc(study: Study, values: npt.NDArray[np.float32]) -> Estimate:
    """AUC within folds of the voxels' linear reader, from (scans, features)."""
    scans = study.cohort.scans
    patients, y = [scan.patient for scan in scans], np.array([scan.label for scan in scans], dtype=np.int64)
    parts = [study.splits.partitions(fold, patients) for fold in range(study.splits.folds)]
    grams = gram_matrices([(["voxels"], values)], [part["train"] for part in parts], len(scans))["voxels"]
    p, fold = np.empty(y.size), np.empty(y.size, dtype=np.int64)
    for number, (part, gram) in enumerate(zip(parts, grams, strict=True)):
        rows = part["internal_test"]
        p[rows] = fit_reader(gram, y, part["train"], part["tuning"], study.cohort.rule.decision).p[rows]
        fold[rows] = number
    pred = Predictions(np.array(patients), fold, y, p, (p >= 0.5).astype(np.int64))
    return bootstrap_interval(pred, draw_patient_weights(pred, DRAWS, np.random.default_rng(0)))["auc"]


def on_own_scale(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(scans, images, voxels) with mean 0 and SD 1 in each image of each scan, so that no normalisation shows."""
    return np.asarray((values - values.mean(axis=-1, keepdims=True)) / values.std(axis=-1, keepdims=True))


def rows_of(cohort: Drawn, networks: bool) -> Iterator[dict[str, Any]]:
    """A row for each region and way."""
    prepared = cohort.study.prepared
    images = [np.asarray(prepared.image(row)).reshape(len(prepared.names), -1) for row in range(len(prepared.scans))]
    learned = network_aucs(cohort) if networks else {}
    for (region, way), mask in masks_of(prepared).items():
        inside = np.flatnonzero(mask)
        values = np.stack([to_single(image[:, inside]) for image in images])
        auc = reader_auc(cohort.study, values.reshape(len(values), -1))
        own = reader_auc(cohort.study, on_own_scale(values).reshape(len(values), -1))
        network = learned.get((region, way))
        yield {
            "planted": cohort.preset, "voxel_mm": prepared.grid.spacing[0], "region": region, "way": way, "cohort": cohort.seed,
            "voxels": inside.size, "AUC": auc.value, "low": auc.low, "high": auc.high, "own_scale": own.value,
            "network": network and network["value"], "network_low": network and network["low"],
            "network_high": network and network["high"],
        }  # fmt: skip


def network_aucs(cohort: Drawn) -> dict[tuple[str, str], Mapping[str, float]]:
    """AUC of the demo preset's networks of each template region and its core, through the command line."""
    place = SCRATCH / "core" / "networks" / cohort.cohort.name
    where = ["--cohort", str(cohort.cohort), "--store", str(store_folder())]
    study = ["--study", "networks", "--studies", str(place)]
    if not (place / "atlas").is_dir():
        require(command(["core", *where, "--inputs", ",".join(READ), "--out", str(place / "atlas")]))
    inputs = ",".join([*READ, *(f"{name}_core" for name in READ)])
    regions = ["--regions", str(place / "atlas" / "core.yaml"), "--tracking.mode", "disabled"]
    require(command(["sweep", "--preset", "demo", *where, *study, *regions, "--inputs", inputs, "--jobs", "1"]))
    require(command(["compare", *study, "--inputs", inputs]))
    estimates = json.loads((place / "networks" / "comparison.json").read_text(encoding="utf-8"))["estimates"]
    ways = {"": "template", "_core": "core"}
    return {(name, way): estimates[name + end]["auc"] for name in READ for end, way in ways.items()}


def require(status: int) -> None:
    """Stop where a command of the product failed."""
    if status:
        raise SystemExit(status)


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each region and way the AUCs of all cohorts, and how many intervals reach 0.5."""
    keys = dict.fromkeys((row["planted"], row["voxel_mm"], row["region"], row["way"]) for row in rows)
    lines = []
    for key in sorted(keys, key=lambda key: (PRESETS.index(key[0]), key[1], READ.index(key[2]))):
        of_key = [row for row in rows if (row["planted"], row["voxel_mm"], row["region"], row["way"]) == key]
        line: dict[str, Any] = dict(zip(("planted", "voxel_mm", "region", "way"), key, strict=True))
        line["cohorts"] = len(of_key)
        line["voxels"] = f"{min(row['voxels'] for row in of_key)} to {max(row['voxels'] for row in of_key)}"
        for column in ("AUC", "own_scale", "network"):
            values = [row[column] for row in of_key if row[column] is not None]
            line[column] = " ".join(f"{value:.2f}" for value in values) or "-"
            line |= {"mean_AUC": mean(values)} if column == "AUC" else {}
        line["reach_0.5"] = sum(row["low"] <= 0.5 for row in of_key)
        reached = [row["network_low"] <= 0.5 for row in of_key if row["network_low"] is not None]
        line["networks_reach_0.5"] = sum(reached) if reached else None
        lines.append(line)
    return lines


def main(arguments: Sequence[str]) -> int:
    """Command line of ``core``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks core", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--spacing", type=float, action="append", help="side of a voxel in mm (3 and 4)")
    parser.add_argument("--cohorts", type=int, default=3, help="cohorts of each preset")
    parser.add_argument("--networks", action="store_true", help="train networks too, at 4 mm, some ten minutes a cohort")
    parser.add_argument("--quick", action="store_true", help="one cohort at 4 mm, nothing is kept")
    options = parser.parse_args(arguments)
    shutil.rmtree(SCRATCH / "core" / "readers", ignore_errors=True)
    rows: list[dict[str, Any]] = []
    for spacing in [4.0] if options.quick else options.spacing or [3.0, 4.0]:
        for preset in PRESETS:
            for seed in range(1 if options.quick else options.cohorts):
                rows += rows_of(drawn(preset, seed, spacing), options.networks and spacing == 4)
                print(f"{preset}, {spacing:g} mm, cohort {seed}", flush=True)
    notes = (
        "AUC: linear reader of the voxels, seven folds; network: the demo preset's. reach 0.5: cohorts whose interval (95 %, "
        "patient-cluster bootstrap) does.",
        "own scale: the same reader after mean and SD of the region are taken out of each image.",
        "core: all scans agree, one voxel of margin. The template's rows say what there is without it.",
    )
    publish("core", "Cores of regions", summary(rows), notes, save=not options.quick)
    return 0
