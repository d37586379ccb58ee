"""The files of a prediction, named as BIDS derivatives are.

::

    <out>/
      predictions.tsv  predictions.json     a row, or an entry, for each scan and input
      predictions.html                      the same for people, one page
      dataset_description.json  predictions_columns.json
      log.jsonl                             when, with which bundles, how many scans; no ids
      sub-X/[ses-Y/]anat/
        sub-X[_ses-Y]_desc-regionwise_prediction.json     all that is said of the scan
        sub-X[_ses-Y]_desc-regionwise_slices.png          its images, with the regions' outlines
        sub-X[_ses-Y]_space-*_desc-<input>_relevance.*    where the networks look, with ``--maps``
      prepared/                             raw scans, prepared; see ``datamodules.preparation.derivative``

Each is written in one step, and carries ``NOTICE``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.cohort.images import title
from datamodules.files.atomic import naming, write_atomically, write_json, write_text
from datamodules.files.sealed import DamagedError, read_sealed, write_sealed
from datamodules.files.tables import tsv_text
from datamodules.store.prepared import PreparedCohort
from experiments.bundles.bundle import Bundle
from experiments.predicting.asking import Asking
from experiments.predicting.coverage import coverage_of
from experiments.predicting.records import NOTICE, ClassPrediction, InputOutcome, NumberPrediction, ScanOutcome
from experiments.rendering.overlay import overlay_png
from experiments.runtime.provenance import provenance

BIDS_VERSION = "1.10.0"
TABLE, FACTS, PAGE, LOG, COLUMNS = (
    "predictions.tsv", "predictions.json", "predictions.html", "log.jsonl", "predictions_columns.json",
)  # fmt: skip
MEANINGS: Mapping[str, str] = {
    "participant_id": "The patient.",
    "session_id": "The session, empty where there is none.",
    "input": "What the networks were shown.",
    "verdict": "ok; look: worth a look; refused: outside the training cohort's limits, and predicted only on insistence.",
    "reasons": "Why the verdict is not ok.",
    "probability": "Mean of the folds' calibrated probabilities of the positive class: the study's primary model.",
    "probability_log_odds": "The same by the mean of the folds' log odds.",
    "sd_folds": "Standard deviation over the folds' networks.",
    "low_fold": "Smallest of the folds.",
    "high_fold": "Largest of the folds.",
    "threshold": "Mean of the folds' thresholds on the calibrated scale.",
    "decision": "positive from the threshold on.",
    "label_set": "negative, positive, undecided (both labels) or neither, at the level of the run.",
    "p_negative": "Conformal p-value of the negative class.",
    "p_positive": "Conformal p-value of the positive class.",
    "probability_at_prevalence": "Probability at the prevalence that was asked for.",
    "number": "Mean of the folds' predicted numbers.",
    "interval_low": "Lower end of the conformal interval at the level of the run; empty where there are too few patients.",
    "interval_high": "Upper end of it.",
    "feature_distance": "Robust SDs by which what the networks see lies further out than unseen scans of the training cohort.",
    "notice": NOTICE,
}
CLASS_COLUMNS = ("probability", "probability_log_odds", "sd_folds", "low_fold", "high_fold", "threshold", "decision",
                 "label_set", "p_negative", "p_positive", "probability_at_prevalence")  # fmt: skip
NUMBER_COLUMNS = ("number", "sd_folds", "low_fold", "high_fold", "interval_low", "interval_high")


@dataclass(frozen=True)
class Run:
    """How a prediction was made."""

    bundles: Sequence[Bundle]
    digests: Sequence[str]
    asking: Asking
    seconds: float
    maps: bool = False

    @property
    def is_number(self) -> bool:
        """Whether a number is predicted."""
        return self.bundles[0].target.is_number

    def plain(self) -> dict[str, Any]:
        """What predictions.json says of it."""
        wanted, first = self.asking.wanted, self.bundles[0]
        return {
            "notice": NOTICE,
            "study": first.study,
            "target": first.target.describe(),
            "primary": "mean of the folds' predictions" if self.is_number else MEANINGS["probability"],
            "level": wanted.level,
            "prevalence": {"training": None if self.is_number else first.prevalence, "asked_for": wanted.prevalence},
            "insisted": self.asking.insist,
            "bundles": [
                {"input": bundle.input, "sha256_of_sums": digest, "folds": len(bundle.models), "coverage": coverage_of(bundle)}
                for bundle, digest in zip(self.bundles, self.digests, strict=True)
            ],
            "provenance": provenance(),
        }


def bids_stem(patient: str, session: str) -> tuple[Path, str]:
    """Folder below the results, and the start of file names, of a scan; another for each patient and session."""
    labels = [_label(key, text) for key, text in (("sub", patient), ("ses", session)) if text]
    return Path(*labels, "anat"), "_".join(labels)


def _label(key: str, text: str) -> str:
    bare = text.removeprefix(f"{key}-")
    if re.fullmatch(r"[A-Za-z0-9]+", bare):
        return f"{key}-{bare}"
    return f"{key}-{re.sub('[^A-Za-z0-9]', '', bare)[:40]}x{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def outcome_path(out: Path, patient: str, session: str) -> Path:
    """The file that says all of a scan."""
    folder, stem = bids_stem(patient, session)
    return out / folder / f"{stem}_desc-regionwise_prediction.json"


def picture_path(out: Path, patient: str, session: str) -> Path:
    """The picture of a scan."""
    folder, stem = bids_stem(patient, session)
    return out / folder / f"{stem}_desc-regionwise_slices.png"


def kept_outcome(out: Path, patient: str, session: str, stamp: str) -> ScanOutcome | None:
    """What an earlier call said of a scan, None where it comes from other images, bundles or options, or was changed."""
    try:
        content = read_sealed(outcome_path(out, patient, session), "predict again")
        if content["stamp"] != stamp or not picture_path(out, patient, session).is_file():
            return None
        return ScanOutcome.of(content["scan"])
    except (FileNotFoundError, DamagedError, KeyError, TypeError):
        return None


def write_outcome(out: Path, outcome: ScanOutcome, prepared: PreparedCohort, row: int, stamp: str) -> None:
    """Draw a scan, then write what is said of it.

    Raises:
        OSError: if a file cannot be written.
    """
    volumes = prepared.present(row)
    labels = np.asarray(prepared.labels(row)) if prepared.has_labels(row) else None
    brain = next(iter(volumes.values())) != 0
    picture = overlay_png(
        {title(name): image for name, image in volumes.items()}, brain, prepared.grid, labels, title=NOTICE[:41]
    )
    write_atomically(picture_path(out, outcome.patient, outcome.session), lambda file: file.write(picture))
    content = {"notice": NOTICE, "stamp": stamp, "scan": outcome.plain()}
    write_sealed(outcome_path(out, outcome.patient, outcome.session), content)


def rows_of(outcome: ScanOutcome, run: Run) -> list[dict[str, Any]]:
    """A row for each input; the inputs of a scan that could not be read have no prediction."""
    inputs = outcome.inputs or tuple(InputOutcome(bundle.input) for bundle in run.bundles)
    return [_row(outcome, each, run.is_number) for each in inputs]


def _row(outcome: ScanOutcome, each: InputOutcome, is_number: bool) -> dict[str, Any]:
    verdict, reasons = outcome.of_input(each)
    columns = NUMBER_COLUMNS if is_number else CLASS_COLUMNS
    values = dict.fromkeys(columns) | _values(each.prediction)
    return {
        "participant_id": outcome.patient,
        "session_id": outcome.session or None,
        "input": each.input,
        "verdict": verdict,
        "reasons": "; ".join(reason.text for reason in reasons) or None,
        **values,
        "feature_distance": each.feature_distance,
        "notice": NOTICE.partition(".")[0],
    }


def _values(prediction: ClassPrediction | NumberPrediction | None) -> dict[str, Any]:
    if prediction is None:
        return {}
    spread = {"sd_folds": prediction.sd, "low_fold": min(prediction.folds), "high_fold": max(prediction.folds)}
    if isinstance(prediction, NumberPrediction):
        ends = {"interval_low": prediction.low, "interval_high": prediction.high}
        return {
            "number": prediction.number,
            **spread,
            **{name: end if np.isfinite(end) else None for name, end in ends.items()},
        }
    same = ("probability", "probability_log_odds", "threshold", "decision", "label_set", "p_negative", "p_positive")
    return {
        **{name: getattr(prediction, name) for name in same},
        **spread,
        "probability_at_prevalence": prediction.at_prevalence,
    }


def write_results(out: Path, outcomes: Sequence[ScanOutcome], run: Run) -> None:
    """Write tables and page of all scans, then a line of the log.

    Raises:
        OSError: if a file cannot be written; those that are there are whole.
    """
    rows = [row for outcome in outcomes for row in rows_of(outcome, run)]
    cells = [["n/a" if value is None else _cell(value) for value in row.values()] for row in rows]
    write_json(out / "dataset_description.json", _description())
    write_json(out / COLUMNS, _columns(list(rows[0])))
    write_text(out / TABLE, tsv_text(rows[0], cells))
    write_json(out / FACTS, {**run.plain(), "scans": [outcome.plain() for outcome in outcomes]})
    _write_log(out, outcomes, run)


def _cell(value: Any) -> str:
    return repr(value) if isinstance(value, float) else " ".join(str(value).split())


def _description() -> dict[str, Any]:
    version = provenance()["versions"]
    assert isinstance(version, dict)
    return {
        "Name": "regionwise predictions",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "regionwise", "Version": version["regionwise"], "Description": NOTICE}],
        "HowToAcknowledge": NOTICE,
    }


def _columns(names: Sequence[str]) -> dict[str, Any]:
    return {"notice": NOTICE, **{name: {"Description": MEANINGS[name]} for name in names}}


def _write_log(out: Path, outcomes: Sequence[ScanOutcome], run: Run) -> None:
    """Add a line: when, what, how many; no ids."""
    counts = {verdict: sum(outcome.verdict == verdict for outcome in outcomes) for verdict in ("ok", "look", "refused")}
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "notice": NOTICE,
        "study": run.bundles[0].study,
        "inputs": [bundle.input for bundle in run.bundles],
        "bundles": list(run.digests),
        "level": run.asking.wanted.level,
        "prevalence": run.asking.wanted.prevalence,
        "insisted": run.asking.insist,
        "scans": counts,
        "seconds": round(run.seconds, 1),
    }
    path = out / LOG
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())
