"""The run folder's contract: what a run leaves, how it is written, and what state it is in.

::

    config.yaml  run.json  checkpoints/best.ckpt  checkpoints/last.ckpt  predictions.tsv  metrics.json  history.tsv

Everything is written atomically, run.json with state ``complete`` last, so a folder that says complete is complete. It names
the SHA-256 of each other file and carries its own, so that a file that changed later is seen wherever it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datamodules.files.atomic import file_sha256, is_locked, try_lock, write_text
from datamodules.files.sealed import read_sealed, write_sealed
from datamodules.files.tables import read_rows, require_columns
from experiments.study.record import ShownRegion, read_record
from experiments.study.runs import Run
from regions.errors import UserError

State = Literal["missing", "interrupted", "running", "complete", "failed", "stale"]
HASHES = ("config", "split", "cohort", "data")
GIVEN = "covariates"
CODE = "code"
PARTS = {GIVEN: "table of covariates", CODE: "code of the network"}
"""Parts of a fingerprint that a sentence calls otherwise."""
COLUMNS = ("partition", "patient", "session", "site", "y", "p")
BEST = "checkpoints/best.ckpt"
RESULTS = ("predictions.tsv", "metrics.json", "history.tsv", "config.yaml", BEST)
"""Files whose SHA-256 run.json names when the run is complete; a control or a baseline leaves fewer."""


class ResultsError(UserError):
    """Results that are incomplete, mixed or damaged."""


@dataclass(frozen=True)
class Fingerprint:
    """What the results of a study's runs depend on. Two may be compared only when split and data are the same."""

    config: str
    split: str
    cohort: str
    data: str
    covariates: str = ""
    """Of what networks are given beside the image; empty where that is nothing."""
    regions: Mapping[str, ShownRegion] = field(default_factory=dict, compare=False)
    """Input -> what it shows; empty where only the hashes are known."""
    code: str = ""
    """Of a network class of the user's own; empty for one that comes with a package."""

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Fingerprint:
        """The hashes that a file holds."""
        config, split, cohort, data = (str(recorded.get(name)) for name in HASHES)
        return cls(config, split, cohort, data, str(recorded.get(GIVEN, "")), code=str(recorded.get(CODE, "")))

    def hashes(self) -> dict[str, str]:
        """What all runs of a study share."""
        more = {name: getattr(self, name) for name in (GIVEN, CODE)}
        return {name: getattr(self, name) for name in HASHES} | {name: value for name, value in more.items() if value}

    def of_run(self, run: Run) -> dict[str, Any]:
        """As it stands in the run's run.json."""
        return {**self.hashes(), "region": self.regions[run.input].plain()}

    def differences(self, facts: Mapping[str, Any]) -> list[str]:
        """The parts in which a run.json differs, in words; one that does not know its network's code is taken to have this."""
        theirs = {CODE: self.code, **facts.get("fingerprint", {})}
        parts = [PARTS.get(name, name) for name, value in self.hashes().items() if theirs.get(name) != value]
        shown = self.regions.get(facts.get("input", ""))
        change = shown.changed_since(theirs.get("region")) if shown else ""
        return [*parts, change] if change else parts


@dataclass(frozen=True)
class Scale:
    """What a run predicts where that is a number: the highest step (0: the value itself), and y's mean in its training part."""

    steps: int
    mean: float

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Scale | None:
        """As run.json has it; None for a run that tells two classes apart."""
        return cls(**facts["scale"]) if "scale" in facts else None


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run's files."""

    path: Path

    @property
    def last(self) -> Path:
        """Checkpoint to go on from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """Checkpoint with the lowest tuning loss."""
        return self.path / BEST

    def facts(self) -> dict[str, Any]:
        """Content of run.json, empty where there is none.

        Raises:
            DamagedError: if the file is not what was written.
        """
        try:
            return read_sealed(self.path / "run.json", f"delete {self.path} and run it again")
        except FileNotFoundError:
            return {}

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Write run.json."""
        write_sealed(self.path / "run.json", facts)

    def write_complete(self, facts: Mapping[str, Any]) -> None:
        """Write run.json of a complete run, with the SHA-256 of the files it leaves."""
        files = {name: file_sha256(self.path / name) for name in RESULTS if (self.path / name).is_file()}
        self.write_facts({**facts, "state": "complete", "files": files})

    def checked(self, name: str) -> Path:
        """A file of a complete run, after a look that it is what the run left.

        Raises:
            ResultsError: if it is missing, or was changed.
        """
        return self._checked(name, self.facts().get("files", {}))

    def _checked(self, name: str, files: Mapping[str, str]) -> Path:
        path, digest = self.path / name, files.get(name)
        if digest is None or not path.is_file():
            raise ResultsError(f"{path} is missing; restore it, or train the run again with --restart")
        if file_sha256(path) != digest:
            raise ResultsError(f"{path} was changed after the run ended; restore it, or train the run again with --restart")
        return path

    def result(self) -> tuple[Rows, float]:
        """Predictions and threshold (NaN where a number is predicted) of a complete run, whose files are what it left.

        Checkpoints may be gone: a comparison needs none.

        Raises:
            ResultsError: if a file is missing or was changed.
            DamagedError: if run.json is not what was written.
        """
        facts = self.facts()
        files = facts.get("files", {})
        for name in ("predictions.tsv", *files):
            if name != BEST or self.best.is_file():
                self._checked(name, files)
        scale = Scale.of(facts)
        return read_predictions(self.path / "predictions.tsv", scale), float("nan") if scale else float(facts["threshold"])

    def state(self, fingerprint: Fingerprint) -> State:
        """What this folder holds, seen from a study as it is now."""
        facts = self.facts()
        if not facts:
            return "missing"
        if fingerprint.differences(facts):
            return "stale"
        state: State = facts["state"]
        if state == "running" and not self.is_locked():
            return "interrupted"
        return state

    def is_locked(self) -> bool:
        """Whether a process is at work on this run."""
        return is_locked(self.path / ".lock")

    def lock(self) -> AbstractContextManager[bool]:
        """Try to take the run for this process: True when it is ours, False when another process has it."""
        return try_lock(self.path / ".lock")


@dataclass(frozen=True)
class Rows:
    """Rows of predictions.tsv as columns: texts, y (n,) int64 (float64 for a value), p (n,) float64."""

    partition: np.ndarray[Any, Any]
    patient: np.ndarray[Any, Any]
    session: np.ndarray[Any, Any]
    site: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]
    p: np.ndarray[Any, Any]

    def of(self, partition: str) -> Rows:
        """The rows of one partition."""
        chosen = self.partition == partition
        return Rows(*(getattr(self, name)[chosen] for name in COLUMNS))


def write_predictions(path: Path, rows: Rows) -> None:
    """Write predictions.tsv; ``p`` is written so that it reads back equal."""
    lines = ["\t".join(COLUMNS)]
    for values in zip(*(getattr(rows, name) for name in COLUMNS), strict=True):
        lines.append("\t".join([*map(str, values[:4]), _exact(values[4]), repr(float(values[5]))]))
    write_text(path, "\n".join(lines) + "\n")


def _exact(y: Any) -> str:
    return repr(float(y)) if isinstance(y, float | np.floating) else str(int(y))


def read_predictions(path: Path, scale: Scale | None = None) -> Rows:
    """Read predictions.tsv.

    Args:
        path: The file.
        scale: Of a run that predicts a number.

    Raises:
        ResultsError: if the file is missing, or a label or a probability is none, or a number or a step is none.
    """
    if not path.is_file():
        raise ResultsError(f"{path} is missing")
    rows = read_rows(path)
    require_columns(path, rows, COLUMNS)
    columns = {name: np.array([row[name] for row in rows]) for name in COLUMNS}
    try:
        kind: Any = np.float64 if scale is not None and not scale.steps else np.int64
        y, p = columns["y"].astype(kind), columns["p"].astype(np.float64)
    except ValueError as error:
        raise ResultsError(f"{path}: {error}") from None
    if scale is not None:
        if not np.isfinite(y).all() or not np.isfinite(p).all() or (scale.steps and (y.min() < 0 or y.max() > scale.steps)):
            allowed = f"a step from 0 to {scale.steps}" if scale.steps else "a number"
            raise ResultsError(f"{path}: y must be {allowed} and p a number; run it again")
    elif not np.isin(y, (0, 1)).all() or not ((p >= 0) & (p <= 1)).all():
        raise ResultsError(f"{path}: y must be 0 or 1 and p lie in [0, 1]; run it again")
    return Rows(columns["partition"], columns["patient"], columns["session"], columns["site"], y, p)


def failure(facts: Mapping[str, Any]) -> str:
    """Why a run failed, "" where it did not."""
    return f"failed, {facts.get('error')}" if facts.get("state") == "failed" else ""


def require_complete(study: Path, runs: Sequence[Run], partial: bool = False) -> list[Run]:
    """The runs that are complete and belong together.

    Args:
        study: The study's folder.
        runs: The grid that is wanted.
        partial: Go on with what is there.

    Raises:
        ResultsError: if a run is not complete, or runs were made on different splits, data or settings.
    """
    facts = {run: RunFolder(run.folder(study)).facts() for run in runs}
    complete = [run for run in runs if facts[run].get("state") == "complete"]
    if not complete:
        raise ResultsError(f"{study} holds no complete run; start with: make sweep STUDY={study.name}")
    if len(complete) < len(runs) and not partial:
        absent = [run for run in runs if run not in set(complete)]
        absent.sort(key=lambda run: facts[run].get("state") != "failed")
        named = [f"{run.name}: {failed}" if (failed := failure(facts[run])) else run.name for run in absent[:4]]
        listed = ", ".join(named) + (f" and {len(absent) - 4} more" if len(absent) > 4 else "")
        inputs = dict.fromkeys(run.input for run in runs)
        whole = ",".join(name for name in inputs if name not in {run.input for run in absent})
        way = f"give INPUTS={whole} (--inputs {whole}), which are complete" if whole else "compare --partial"
        raise ResultsError(
            f"{len(absent)} of {len(runs)} runs of {study.name} are not complete ({listed}); make sweep, or {way}"
        )
    for part in ("split", "data", "config", GIVEN, CODE):
        values = {run: facts[run]["fingerprint"].get(part) for run in complete}
        known = [run for run in complete if part != CODE or values[run]]
        odd = next((run for run in known if values[run] != values[known[0]]), None)
        if odd is not None:
            raise ResultsError(
                f"{odd.name} was made with another {PARTS.get(part, part)} than {known[0].name}; "
                "they are never compared; train it again"
            )
    _refuse_changed_regions(study, {run: facts[run]["fingerprint"] for run in complete})
    return complete


def _refuse_changed_regions(study: Path, made: Mapping[Run, Mapping[str, Any]]) -> None:
    record = read_record(study)
    if record is None:
        return
    today = {name: record.today(name) for name in {run.input for run in made}}
    for run, fingerprint in made.items():
        change = today[run.input].changed_since(fingerprint.get("region"))
        if change:
            raise ResultsError(
                f"{run.name} was made with another {change}; restore the region, or train the run again with --restart"
            )
