"""From what was seen of each network to what is said of each input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from experiments.analysis.details import chance_details
from experiments.analysis.pooling import pool_inputs
from experiments.explaining.group_maps import Volume, network_maps
from experiments.explaining.jobs import KINDS, Job, Kind, read_part
from experiments.explaining.rules import input_verdict, is_beyond, is_needed, region_words
from experiments.explaining.setup import Explained
from experiments.explaining.taken_away import taken_away
from experiments.statistics.paired import holm
from experiments.statistics.predictions import FloatArray
from experiments.statistics.relevance import agreements, band, rank_correlations
from experiments.statistics.significance import draw_patient_weights, summarise

MOST_VOXELS = 50_000
"""Voxels that agreement is measured on, spread evenly over the input."""
Part = Mapping[str, Any]


def gate(explained: Explained, draws: int) -> dict[str, dict[str, Any]]:
    """For each input its AUC with interval, and what ``compare`` says of chance."""
    out = {}
    for name, tables in pool_inputs(explained.folder, explained.runs).items():
        tests = [table.test for table in tables]
        weights = draw_patient_weights(tests[0], draws, np.random.default_rng(0))
        auc = summarise(tests, weights)["auc"]
        out[name] = {"auc": asdict(auc), "chance": chance_details(auc, tables)["words"]}
    return out


def summary_of(explained: Explained, name: str, jobs: Sequence[Job], draws: int) -> dict[str, Any]:
    """What was found for one input.

    Args:
        explained: The study.
        name: The input.
        jobs: All its networks; their parts are complete.
        draws: Bootstrap draws and permutations; their seed is fixed, so that the table repeats.
    """
    parts = {job: part for job in jobs if (part := read_part(explained, job)) is not None}
    living = {job: part for job, part in parts.items() if _is_alive(part)}
    of_kind: dict[Kind, dict[Job, Part]] = {
        kind: {job: part for job, part in living.items() if job.kind == kind} for kind in KINDS
    }
    agreement = _agreement(explained, of_kind)
    regions = _regions(explained, name, of_kind, draws)
    verdict = input_verdict(regions, agreement, explained.pieces(name).several)
    images = np.mean([share for part in of_kind["trained"].values() for share in part["images"]], axis=0)
    return {
        "state": verdict.state,
        "verdict": verdict.words,
        "networks": {kind: len(found) for kind, found in of_kind.items()},
        "left_out": [job.name for job in jobs if job not in living],
        "agreement": agreement,
        "images": dict(zip(explained.region(name).images or explained.settings.images, images.tolist(), strict=True)),
        "regions": regions,
    }


def _is_alive(part: Part) -> bool:
    """Whether a network trained, and its output depends on the scan at all."""
    return not part.get("failed") and bool(np.isfinite(part["images"]).all())


def _regions(explained: Explained, name: str, of_kind: Mapping[Kind, Mapping[Job, Part]], draws: int) -> list[dict[str, Any]]:
    """A row for each region, in the order of the study's regions."""
    pieces = explained.pieces(name)
    if not pieces.names:
        return []
    logs = {kind: _log_densities(found.values()) for kind, found in of_kind.items()}
    pairs = taken_away(explained, of_kind["trained"], draws)
    folds = len({job.fold for job in of_kind["trained"]})
    bands = [band(logs["permuted"][:, at], float(logs["trained"][:, at].mean()), folds) for at in range(len(pieces.names))]
    known = iter(holm([found.p for found in bands if found.p is not None]))
    adjusted = [None if found.p is None else next(known) for found in bands]
    order = np.argsort(np.argsort(-logs["trained"].mean(axis=0)))
    rows = []
    for at, region in enumerate(pieces.names):
        found, trained = bands[at], logs["trained"][:, at]
        above = float(np.mean(trained > found.mean))
        beyond, needed = is_beyond(adjusted[at], above), is_needed(pairs[region]) if pairs else None
        rows.append(
            {
                "name": region,
                "without": list(pieces.without[at]),
                "voxels": pieces.voxels[at],
                "rank": int(order[at]) + 1,
                "density": float(np.exp(trained.mean())),
                "gradient": float(np.exp(_log_densities(of_kind["trained"].values(), "gradient")[:, at].mean())),
                "permuted": _exp(found.mean),
                "band_low": _exp(found.low),
                "band_high": _exp(found.high),
                "ratio": _exp(float(trained.mean()) - found.mean),
                "p": found.p,
                "p_holm": adjusted[at],
                "above": above,
                "by_network": np.exp(trained).tolist(),
                "untrained": _exp(float(logs["untrained"][:, at].mean())) if logs["untrained"].size else None,
                "occlusion": pairs.get(region),
                "beyond": beyond,
                "needed": needed,
                "relevant": beyond and bool(needed),
                "verdict": region_words(beyond, needed, adjusted[at] is not None),
            }
        )
    return rows


def _exp(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(np.exp(value))


def _log_densities(parts: Any, method: str = "smoothgrad") -> FloatArray:
    """(networks, regions) logarithm of the mean density over a network's scans."""
    rows = [np.nanmean(np.array(part[method], dtype=np.float64), axis=0) for part in parts]
    with np.errstate(divide="ignore"):
        return np.log(np.array(rows)) if rows else np.zeros((0, 0))


def _agreement(explained: Explained, of_kind: Mapping[Kind, Mapping[Job, Part]]) -> dict[str, Any]:
    """Rank correlation of the networks' maps, voxel by voxel, beside that of permuted networks."""
    rows = {kind: _rows(explained, list(found)) for kind, found in of_kind.items()}
    folds = {kind: [job.fold for job in found] for kind, found in of_kind.items()}
    values = {kind: agreements(rows[kind], folds[kind]) for kind in ("trained", "permuted")}
    trained = float(np.mean(values["trained"]))
    found = band(values["permuted"], trained, len(set(folds["trained"])))
    means = {kind: rows[kind].mean(axis=0) for kind in KINDS if len(rows[kind])}
    apart = {
        kind: float(rank_correlations(np.stack([means["trained"], means[kind]]))[0, 1])
        for kind in ("permuted", "untrained")
        if kind in means
    }
    return {
        "folds": trained,
        "seeds": _over_seeds(rows["trained"], list(of_kind["trained"])),
        "permuted": found.mean,
        "band_low": found.low,
        "band_high": found.high,
        "p": found.p,
        "with_permuted": apart.get("permuted"),
        "with_untrained": apart.get("untrained"),
    }


def _over_seeds(rows: FloatArray, jobs: Sequence[Job]) -> float | None:
    """Mean rank correlation of the maps of one fold's seeds; None with one seed."""
    correlations = rank_correlations(rows)
    pairs = [
        (a, b) for a in range(len(jobs)) for b in range(a) if jobs[a].fold == jobs[b].fold and jobs[a].number != jobs[b].number
    ]
    return float(np.mean([correlations[pair] for pair in pairs])) if pairs else None


def _rows(explained: Explained, jobs: Sequence[Job]) -> FloatArray:
    """(networks, voxels) |relevance| of the input's voxels, some of them where there are many."""
    volumes: list[Volume] = [network_maps(explained, job)["absolute"] for job in jobs]
    if not volumes:
        return np.zeros((0, 0))
    inside = np.flatnonzero(explained.inside(jobs[0].input))
    chosen = inside[:: max(1, inside.size // MOST_VOXELS)]
    return np.stack([volume.ravel()[chosen] for volume in volumes]).astype(np.float64)
