"""The order of things: freeze, log that labels are read, write what was found; each step knows what was done before it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datamodules.cohort.splits import read_facts
from datamodules.files.atomic import file_sha256, write_text
from datamodules.files.listing import list_folder
from experiments.externals.errors import ExternalError
from experiments.externals.freeze import FROZEN, freeze, hash_labels, read_frozen, touched, write_frozen
from experiments.externals.log import NAME as LOG
from experiments.externals.log import events, latest, note
from experiments.externals.numeric_score import ScoredNumbers
from experiments.externals.scans import ExternalCohort
from experiments.externals.score import Known, Scored
from experiments.statistics.predictions import FloatArray
from experiments.study.grid import inputs_of
from regions.errors import UserError

RESULTS = ("frozen.json", "predictions.tsv", "external.json", "parts")


def frozen_models(study: Path, folder: Path, inputs: str, seed: int, restart: bool) -> dict[str, Any]:
    """The freeze of this cohort: the one that is there, untouched, or a new one.

    Args:
        study: The study's folder.
        folder: The external cohort's folder in it.
        inputs: Names separated by commas; empty means those of the freeze, or all of the study.
        seed: Which runs.
        restart: Set a freeze aside and make a new one.

    Raises:
        ExternalError: if something was touched since the freeze, or the freeze has other inputs or another seed.
        ResultsError: if runs are missing.
    """
    names = [name.strip() for name in inputs.split(",") if name.strip()]
    if latest(events(folder), "frozen") is None or restart:
        content = freeze(study, names or inputs_of(study), seed, read_facts(study / "splits.tsv")["folds"])
        _set_aside(folder)
        models = sum(len(entry["models"]) for entry in content["inputs"])
        note(folder, "frozen", sha256=write_frozen(folder, content), study=study.name, models=models)
        return content
    faults = touched(folder)
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ExternalError(
            f"touched since the freeze: {'; '.join(faults[:3])}{more}. Restore it, or freeze again with --restart: log and "
            "results then say that labels had been read before"
        )
    frozen = read_frozen(folder)
    frozen_inputs = [entry["input"] for entry in frozen["inputs"]]
    if frozen["seed"] != seed or (names and names != frozen_inputs):
        raise ExternalError(
            f"{folder} was frozen with seed {frozen['seed']} and inputs {', '.join(frozen_inputs)}; "
            "give these, or another --name"
        )
    return frozen


def _set_aside(folder: Path) -> None:
    """Move an earlier freeze and its results to ``aside-<time>``; the log stays."""
    names = [name for name in RESULTS if (folder / name).exists()]
    if not names:
        return
    aside = folder / f"aside-{time.strftime('%Y%m%dT%H%M%S')}"
    aside.mkdir()
    for name in names:
        (folder / name).rename(aside / name)
    note(folder, "set aside", files=names, to=aside.name)


@contextmanager
def taken_back(folder: Path) -> Iterator[None]:
    """Take back what is written in an external cohort's folder meanwhile, where that ends in a user's error.

    No network has met the cohort then, and what was there before is as it was. An interruption leaves everything.

    Raises:
        UserError: what was raised inside.
    """
    before, log = set(list_folder(folder)), folder / LOG
    text = log.read_text(encoding="utf-8") if log in before else ""
    try:
        yield
    except (UserError, OSError):
        new = [path for path in list_folder(folder) if path not in before]
        aside = [path for path in new if path.is_dir()]
        if aside or folder / FROZEN in new:
            (folder / FROZEN).unlink(missing_ok=True)
        for path in (path for moved in aside for path in list_folder(moved)):
            path.rename(folder / path.name)
        for moved in aside:
            moved.rmdir()
        log.unlink(missing_ok=True)
        if text:
            write_text(log, text)
        raise


def labels_read(folder: Path, cohort: Path) -> Mapping[str, Any]:
    """Log that labels are about to be read, with the hash of each label file; once for each freeze.

    Raises:
        ExternalError: if the freeze belongs to another cohort.
    """
    event = latest(events(folder), "labels read")
    if event is None:
        note(folder, "labels read", cohort=str(cohort.resolve()), files=hash_labels(cohort))
        event = events(folder)[-1]
    if event["cohort"] != str(cohort.resolve()):
        raise ExternalError(f"{folder} belongs to the cohort {event['cohort']}, not {cohort}; give another --name")
    return event


def write_tables(
    folder: Path, raw: Mapping[str, FloatArray], tables: Mapping[str, Scored | ScoredNumbers], known: Known
) -> None:
    """Write predictions.tsv: one row an input and scan; ``p`` calibrated and averaged, ``p_k`` raw of fold k's model.

    A predicted number is averaged as it is, and there is no decision.
    """
    folds = next(iter(raw.values())).shape[1]
    decided = isinstance(next(iter(tables.values())), Scored)
    first = ["input", "patient", "session", "site", "y", "p", *(["decision"] if decided else [])]
    lines = ["\t".join([*first, *(f"p_{fold}" for fold in range(folds))])]
    for name, table in tables.items():
        for row, p in enumerate(table.ensemble.p):
            who = (name, known.patient[row], known.session[row], known.site[row], known.y[row].item())
            decision = [int(table.ensemble.decision[row])] if isinstance(table, Scored) else []
            cells = (repr(float(p)), *decision, *(repr(float(value)) for value in raw[name][row]))
            lines.append("\t".join(map(str, (*who, *cells))))
    path = folder / "predictions.tsv"
    write_text(path, "\n".join(lines) + "\n")
    event = latest(events(folder), "predicted")
    if event is None or event["sha256"] != file_sha256(path):
        note(folder, "predicted", sha256=file_sha256(path), scans=len(known.y))


def facts(folder: Path, frozen: Mapping[str, Any], external: ExternalCohort, read: Mapping[str, Any]) -> dict[str, Any]:
    """What external.json says about study, cohort and the order of things."""
    log = events(folder)
    freeze_event = latest(log, "frozen")
    assert freeze_event is not None
    before = log[: log.index(dict(freeze_event))]
    return {
        "study": frozen["study"],
        "cohort": folder.name,
        "source": str(external.cohort.source),
        "seed": frozen["seed"],
        "folds": frozen["folds"],
        "primary": frozen["primary"],
        "frozen": {"time": freeze_event["time"], "hash": freeze_event["sha256"]},
        "labels_read": read["time"],
        "frozen_after_labels": any(entry["event"] == "labels read" for entry in before),
        "flow": external.cohort.flow(),
        "remarks": list(external.remarks),
    }
