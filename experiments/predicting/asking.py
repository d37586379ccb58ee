"""A few scans meet every network of every bundle; what a scan's quality or an input's needs forbid is not asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from datamodules.cohort.records import Scan
from datamodules.store.prepared import PreparedCohort
from experiments.bundles.bundle import Bundle
from experiments.predicting.answers import Wanted, feature_reasons, predictions
from experiments.predicting.judging import input_reasons
from experiments.predicting.records import InputOutcome, Reason, ScanOutcome, worst
from experiments.predicting.running import Outputs, run_networks
from regions.grid import EmptyRegionError


@dataclass(frozen=True)
class Few:
    """Some scans, with their volumes on their own voxels and what is said of each so far."""

    scans: Sequence[Scan]
    prepared: PreparedCohort
    judged: Sequence[ScanOutcome]


@dataclass(frozen=True)
class Asking:
    """How the networks are asked: ``insist`` on refused scans too, and where they run."""

    wanted: Wanted
    insist: bool = False
    accelerator: str = "auto"


def ask(
    bundles: Sequence[Bundle], few: Few, asking: Asking, on_done: Callable[[int], object] | None = None
) -> list[ScanOutcome]:
    """What is said of some scans.

    Args:
        bundles: The bundles.
        few: The scans.
        asking: How they are asked.
        on_done: Called with how many scans have met one more network, or need not meet it.
    """
    by_bundle = [_of_bundle(bundle, few, asking, on_done or (lambda count: None)) for bundle in bundles]
    return [replace(outcome, inputs=tuple(of_input[row] for of_input in by_bundle)) for row, outcome in enumerate(few.judged)]


def _of_bundle(bundle: Bundle, few: Few, asking: Asking, on_done: Callable[[int], object]) -> list[InputOutcome]:
    outcomes = [InputOutcome(bundle.input, input_reasons(bundle, scan)) for scan in few.scans]
    asked = [row for row, outcome in enumerate(outcomes) if _is_asked(few.judged[row], outcome, asking.insist)]
    on_done((len(outcomes) - len(asked)) * len(bundle.models))
    alone = bundle.region.mask.mode == "subject"
    for rows in [[row] for row in asked] if alone else [asked] if asked else []:
        scans, part = [few.scans[row] for row in rows], few.prepared.of_rows(rows)
        try:
            outputs = run_networks(bundle, part, scans, asking.accelerator, partial(on_done, len(rows)))
        except EmptyRegionError:
            empty = Reason("refused", "its label map has no voxel of this input")
            outcomes[rows[0]] = replace(outcomes[rows[0]], reasons=(*outcomes[rows[0]].reasons, empty))
            on_done(len(bundle.models))
            continue
        for row, outcome in zip(rows, _answered(bundle, [outcomes[row] for row in rows], outputs, asking), strict=True):
            outcomes[row] = outcome
    return outcomes


def _is_asked(scan: ScanOutcome, outcome: InputOutcome, insist: bool) -> bool:
    """Whether the networks are shown a scan: one without the label map that an input is cut from cannot be."""
    return outcome.verdict != "refused" and (insist or scan.verdict != "refused")


def _answered(bundle: Bundle, outcomes: Sequence[InputOutcome], outputs: Outputs, asking: Asking) -> list[InputOutcome]:
    answered = []
    for outcome, z, prediction in zip(
        outcomes, outputs.feature_z, predictions(bundle, outputs.raw, asking.wanted), strict=True
    ):
        reasons = (*outcome.reasons, *feature_reasons(float(z)))
        given = prediction if asking.insist or worst(reasons) != "refused" else None
        answered.append(replace(outcome, reasons=reasons, feature_distance=None if np.isnan(z) else float(z), prediction=given))
    return answered
