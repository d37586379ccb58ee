"""Does the core of a region keep its neighbours' size out, and what is left of an effect that is really planted in it?

Phantom cohorts in which the ventricles alone differ, and others in which subcortical gray matter alone does. AUC of the linear
reader of the voxels, as the product fits it on its seven folds, and at 4 mm of the demo preset's networks; the
brainstem, which no ventricle touches, shows what comes through the scale of the whole brain's intensities.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.cells import append_cells, kept_cells
from benchmarks.scans import SCRATCH, store_folder
from benchmarks.table import RESULTS, publish, show
from datamodules.files.float16 import to_single
from datamodules.phantoms.presets import PhantomPreset
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

PLANTED: Mapping[str, tuple[str, float]] = {
    "enlarged_ventricles": ("enlarged_ventricles", 1.0),
    "single_region:subcortical_gray_matter": ("single_region:subcortical_gray_matter", 1.0),
    "a third of it": ("single_region:subcortical_gray_matter", 1 / 3),
}
"""What is planted -> preset, and by what its effects are multiplied: a weak effect shows what a core costs."""
READ = ("subcortical_gray_matter", "brainstem")
DRAWS = 2000
CELLS = RESULTS / "core_cells.tsv"
NOTES = (
    "AUC: linear reader of the voxels, seven folds, cohort by cohort; networks: the demo preset's, at 4 mm. reach 0.5: cohorts "
    "whose 95 % interval (patient-cluster bootstrap) does.",
    "own scale: the same reader after mean and SD of the region are taken out of each image.",
    "core: all scans agree, one voxel of margin. The template's rows say what there is without it.",
)
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class WeakerOptions(PhantomOptions):
    """A cohort whose every d is multiplied by a share."""

    share: float = 1.0

    @property
    def truth(self) -> PhantomPreset:
        """The preset with the effect sizes of this cohort."""
        return super().truth.scaled(self.share)


@dataclass(frozen=True)
class Drawn:
    """A phantom cohort that was drawn and opened as a study."""

    planted: str
    seed: int
    cohort: Path
    study: Study


def drawn(planted: str, seed: int, spacing_mm: float) -> Drawn:
    """A cohort of 84 patients and 100 scans; drawn where it is missing."""
    preset, share = PLANTED[planted]
    name = f"{preset.replace(':', '-')}-{seed}-{spacing_mm:g}mm" + (f"-{share:.2f}" if share < 1 else "")
    cohort = Path("cohorts/benchmarks/core") / name
    if not cohort.is_dir():
        write_phantom_cohort(cohort, WeakerOptions(preset, spacing_mm=spacing_mm, seed=seed, share=share))
    return Drawn(planted, seed, cohort, open_study(StudyOptions(cohort, SCRATCH / "core" / "readers" / name, store_folder())))


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
            "planted": cohort.planted, "voxel_mm": prepared.grid.spacing[0], "region": region, "way": way,
            "cohort": cohort.seed, "voxels": inside.size, "AUC": auc.value, "low": auc.low, "high": auc.high,
            "own_scale": own.value,
            "network": network and network["auc"], "network_low": network and network["auc_low"],
            "network_high": network and network["auc_high"],
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
    compared = json.loads((place / "networks" / "comparison.json").read_text(encoding="utf-8"))["inputs"]
    of_input, ways = {row["input"]: row for row in compared}, {"": "template", "_core": "core"}
    return {(name, way): of_input[name + end] for name in READ for end, way in ways.items()}


def require(status: int) -> None:
    """Stop where a command of the product failed."""
    if status:
        raise SystemExit(status)


def keep(rows: Sequence[Mapping[str, Any]]) -> None:
    """Append the rows of a cohort to the file."""
    append_cells(CELLS, rows)


def read_cells() -> list[dict[str, Any]]:
    """The rows that are kept: numbers, None where there is none, and texts."""
    texts = ("planted", "region", "way")
    return [{name: v if name in texts else float(v) if v else None for name, v in row.items()} for row in kept_cells(CELLS)]


def summary(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each region and way the AUCs of all cohorts, and how many intervals reach 0.5."""
    keys = dict.fromkeys((row["planted"], row["voxel_mm"], row["region"], row["way"]) for row in cells)
    lines = []
    for key in sorted(keys, key=lambda key: (list(PLANTED).index(key[0]), key[1], READ.index(key[2]))):
        of_key = [row for row in cells if (row["planted"], row["voxel_mm"], row["region"], row["way"]) == key]
        trained = [row for row in of_key if row["network"] is not None]
        line: dict[str, Any] = dict(zip(("planted", "voxel_mm", "region", "way"), key, strict=True))
        line["voxels"] = f"{min(row['voxels'] for row in of_key):.0f} to {max(row['voxels'] for row in of_key):.0f}"
        line |= {"AUC": texts_of(of_key, "AUC"), "mean": mean(row["AUC"] for row in of_key)}
        line["reach_0.5"] = sum(row["low"] <= 0.5 for row in of_key)
        line["own_scale"] = texts_of(of_key, "own_scale")
        line["networks"] = texts_of(trained, "network") if trained else None
        line["networks_reach_0.5"] = sum(row["network_low"] <= 0.5 for row in trained) if trained else None
        lines.append(line)
    return lines


def texts_of(rows: Sequence[Mapping[str, Any]], column: str) -> str:
    """A column's values, cohort by cohort."""
    return " ".join(f"{row[column]:.2f}" for row in rows)


def main(arguments: Sequence[str]) -> int:
    """Command line of ``core``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks core", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cohorts", type=int, default=3, help="cohorts of each preset")
    parser.add_argument("--again", action="store_true", help="measure what is kept again")
    parser.add_argument("--quick", action="store_true", help="readers of one cohort of each preset at 4 mm, nothing is kept")
    options = parser.parse_args(arguments)
    if options.quick:
        show("Cores of regions", summary([row for planted in PLANTED for row in rows_of(drawn(planted, 0, 4.0), False)]), NOTES)
        return 0
    if options.again:
        CELLS.unlink(missing_ok=True)
    for spacing in (4.0, 3.0):
        for planted, (_, share) in PLANTED.items():
            networks = spacing == 4 and share == 1
            for seed in range(options.cohorts):
                if not any(
                    (row["planted"], row["voxel_mm"], row["cohort"]) == (planted, spacing, seed) for row in read_cells()
                ):
                    keep(list(rows_of(drawn(planted, seed, spacing), networks)))
    publish("core", "Cores of regions", summary(read_cells()), NOTES)
    return 0
