"""What each input holds of each patient, fluid, other tissue and outside, and how far that differs between the classes.

Shares are those of ``datamodules.quality.tissue``, of the voxels that the study's mask shows: from the label maps where every
scan has one, else estimated from intensities, for all scans alike. They are kept in ``<study>/baselines/tissue.tsv``, what
follows from them in ``<study>/tissue.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.cohort.images import DEFAULT_IMAGES
from datamodules.cohort.records import Scan
from datamodules.files.atomic import content_sha256
from datamodules.files.sealed import read_sealed, write_sealed
from datamodules.quality.tissue import FLUID, SHARES, estimated_fluid, labelled_tissues, tissue_shares
from datamodules.store.boxes import region_step
from datamodules.store.prepared import PreparedCohort
from experiments.analysis.baseline_features import Table, measured
from experiments.statistics.chance import CHANCE
from experiments.statistics.predictions import Predictions
from experiments.statistics.resampling import draw_patient_weights
from experiments.statistics.significance import Estimate, bootstrap_interval
from experiments.study.record import Mask, ShownRegion
from regions.catalog import Region

MEASURED = (*SHARES, "ml")
SOURCES = {False: "label maps", True: "intensities"}
DRAWS = 2_000
WHOLE = "global"
FILE = "tissue.json"
NEIGHBOURS = {
    "csf": "the size of the neighbouring ventricles and sulci",
    "other": "the size of the structure or its neighbours",
}
"""Share that tells -> whose size that is, where it is not the region's own alone; a core is without it."""


@dataclass(frozen=True)
class TissueShares:
    """What was measured of a cohort.

    Attributes:
        inputs: Input -> (scans, 4): the shares 0 ... 1 in the order of ``SHARES``, and the ml that are shown; NaN is unknown.
        estimated: Whether the shares come from intensities.
        by_subject: Whether each scan has a mask of its own.
    """

    inputs: Mapping[str, npt.NDArray[np.float64]]
    estimated: bool
    by_subject: bool


def measured_tissue(
    scans: Sequence[Scan],
    prepared: PreparedCohort,
    shown: tuple[Mapping[str, Region], Mask],
    folder: Path,
    workers: int,
    on_scan: Callable[[int, int], None] | None = None,
) -> TissueShares:
    """Measure every scan that was not measured yet.

    Args:
        scans: The cohort's usable scans.
        prepared: Their volumes.
        shown: The inputs, and how they become masks.
        folder: The study's.
        workers: Threads.
        on_scan: Called with (done, to do) after each scan that was measured.
    """
    regions, mask = shown
    estimated = not prepared.has_labels()
    if estimated and "t1w" not in prepared.names:
        return TissueShares({}, estimated, mask.mode == "subject")
    if estimated and mask.mode == "subject":
        regions = {name: region for name, region in regions.items() if not region.labels}
    voxels = {
        name: None if mask.mode == "subject" or template is None else np.flatnonzero(template)
        for name, region in regions.items()
        for template in [region_step(region, prepared.grid, mask.mode, mask.dilate_mm, 1)[0]]
    }
    measure = partial(_of_scan, prepared, regions, voxels, estimated)
    plain = [ShownRegion.of(region, mask).plain() for region in regions.values()]
    made_from = {"source": SOURCES[estimated], "shown": content_sha256(plain)}
    columns = [f"{name}_{column}" for name in regions for column in MEASURED]
    table = Table(folder / "baselines" / "tissue.tsv", columns, measure, made_from)
    values = measured(scans, prepared.keys, table, workers, on_scan).reshape(len(scans), len(regions), len(MEASURED))
    return TissueShares({name: values[:, index] for index, name in enumerate(regions)}, estimated, mask.mode == "subject")


def tissues_of(prepared: PreparedCohort, row: int, estimated: bool) -> npt.NDArray[np.uint8] | None:
    """(I, J, K) what the voxels of one scan are, 0 outside the brain; None where its files cannot say.

    Args:
        prepared: The volumes.
        row: Which scan.
        estimated: Tell fluid by the images, ``CSF`` and 1 for the rest; else the labels of the scan's own map.
    """
    present = prepared.present(row)
    if not estimated:
        return labelled_tissues(np.asarray(prepared.labels(row)), next(iter(present.values()))[None])
    if "t1w" not in present:
        return None
    return estimated_fluid(np.stack([present[name] for name in DEFAULT_IMAGES if name in present]), prepared.grid)


def _of_scan(
    prepared: PreparedCohort,
    regions: Mapping[str, Region],
    voxels: Mapping[str, npt.NDArray[np.intp] | None],
    estimated: bool,
    row: int,
) -> list[float]:
    """Shares and ml of one scan, input by input; without voxels an input shows its labels' own, or the whole brain."""
    tissues = tissues_of(prepared, row, estimated)
    labels = None if estimated else np.asarray(prepared.labels(row))
    numbers: list[float] = []
    for name, region in regions.items():
        if tissues is None:
            numbers += [float("nan")] * len(MEASURED)
            continue
        inside = voxels[name]
        if inside is None:
            inside = np.flatnonzero(tissues if labels is None or not region.labels else region.select(labels))
        numbers += [*tissue_shares(tissues.ravel()[inside], region, estimated), inside.size * prepared.grid.voxel_mm3 / 1000]
    return numbers


def told_columns(tissue: TissueShares, name: str) -> dict[str, npt.NDArray[np.float64]]:
    """What a reader of one input is given: its known shares, and under subject masks the ml of the mask, which varies."""
    values = tissue.inputs[name]
    columns = {share: values[:, column] for column, share in enumerate(SHARES) if not np.isnan(values[:, column]).all()}
    return columns | ({"ml": values[:, -1]} if tissue.by_subject and name != WHOLE else {})


def tissue_facts(tissue: TissueShares, scans: Sequence[Scan], regions: Mapping[str, Region]) -> dict[str, Any]:
    """Median and range of each share, its medians by class and its AUC, as they stand in tissue.json.

    The AUC is that of the share itself, with a patient-cluster bootstrap interval: above 0.5 positive scans have more. Nothing
    is trained, so the interval needs no allowance; nothing is adjusted for the number of inputs.
    """
    rows: list[dict[str, Any]] = []
    for name, values in tissue.inputs.items():
        shares = {share: _facts_of(column, scans) for share, column in told_columns(tissue, name).items()}
        telling = _telling(shares)
        row = {"input": name, "shares": shares, "telling": telling, "size": _size(regions[name], telling)}
        rows.append(row | {"ml": _median(values[:, -1])})
    return {"source": SOURCES[tissue.estimated], "inputs": rows}


def _facts_of(values: npt.NDArray[np.float64], scans: Sequence[Scan]) -> dict[str, Any]:
    """Facts of one share, or of the ml, of the scans of which it is known."""
    known = np.flatnonzero(~np.isnan(values))
    values, chosen = values[known], [scans[row] for row in known]
    y = np.array([scan.label for scan in chosen])
    auc = Estimate(None, None, None)
    if set(y.tolist()) == {0, 1}:
        patients = np.array([scan.patient for scan in chosen])
        pred = Predictions(patients, np.zeros_like(y), y, values / max(values.max(), 1), np.zeros_like(y))
        auc = bootstrap_interval(pred, draw_patient_weights(pred, DRAWS, np.random.default_rng(0)))["auc"]
    return {
        "median": float(np.median(values)), "low": float(values.min()), "high": float(values.max()),
        "negative": _median(values[y == 0]), "positive": _median(values[y == 1]),
        "auc": {name: asdict(auc)[name] for name in ("value", "low", "high")},
    }  # fmt: skip


def _median(values: npt.NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else None


def _telling(shares: Mapping[str, Any]) -> str:
    """The share that tells the classes apart best, `csf` where none does."""
    aucs = {share: facts["auc"]["value"] for share, facts in shares.items()}
    apart = {share: abs(value - CHANCE) for share, value in aucs.items() if value is not None}
    return max(apart, key=lambda share: apart[share], default=SHARES[0])


def _size(region: Region, telling: str) -> str | None:
    """Whose size a share of a region speaks of; None for the whole brain, to which all belongs."""
    if not region.labels:
        return None
    if telling == "ml":
        return "the size of the structure itself, which its mask shows"
    if telling == "outside":
        return "the size and outline of the brain"
    if region.atlas is None and set(region.labels) <= set(FLUID):
        return "the size of the fluid spaces themselves"
    return NEIGHBOURS[telling]


def by_class(row: Mapping[str, Any]) -> str:
    """How far the share that tells the classes apart best differs between them, in words."""
    telling = row["telling"]
    high, low = (row["shares"][telling][label] for label in ("positive", "negative"))
    if telling == "ml":
        return f"it has a median {high:.1f} ml in positive, {low:.1f} ml in negative scans"
    return f"a median {100 * high:.1f} % of it is {SHARE_WORDS[telling]} in positive, {100 * low:.1f} % in negative scans"


def write_tissue(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write tissue.json."""
    write_sealed(folder / FILE, facts)


def read_tissue(folder: Path) -> Mapping[str, Any]:
    """Content of tissue.json; without inputs where nothing was measured yet.

    Raises:
        DamagedError: if it is not what was written.
    """
    path = folder / FILE
    return read_sealed(path, "make it again with: make check") if path.is_file() else {"inputs": []}


SHARE_WORDS = {"csf": "CSF", "other": "other tissue", "outside": "outside the brain"}
TISSUE_HEADING = ("input", "CSF, %", "other, %", "outside, %")
TISSUE_WORDS = (
    "Median (range) of the scans{}. CSF: fluid of ventricles and sulci; other: brain that is not what the input is named "
    "after; outside: outside the brain, or without a label."
)


def tissue_words(facts: Mapping[str, Any]) -> str:
    """What the columns of ``TISSUE_HEADING`` hold; there is no area where a number is predicted."""
    areas = [share["auc"]["value"] for row in facts["inputs"] for share in row["shares"].values()]
    told = any(area is not None for area in areas)
    return TISSUE_WORDS.format(", and the AUC of the share alone between the classes" if told else "")


def tissue_lines(facts: Mapping[str, Any]) -> list[list[str]]:
    """A line of texts for each input, in the columns of ``TISSUE_HEADING``."""
    return [[row["input"], *(_cell(row["shares"].get(share)) for share in SHARES)] for row in facts["inputs"]]


def _cell(share: Mapping[str, Any] | None) -> str:
    if share is None:
        return "unknown"
    spread = f"{100 * share['median']:.1f} ({100 * share['low']:.0f} to {100 * share['high']:.0f})"
    auc = share["auc"]
    if share["high"] == share["low"] or auc["value"] is None:
        return spread
    limits = "" if auc["low"] is None else f" [{auc['low']:.2f}, {auc['high']:.2f}]"
    return f"{spread}; AUC {auc['value']:.2f}{limits}"
