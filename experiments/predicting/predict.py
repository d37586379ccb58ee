"""A prediction from its lock to its last file.

Scans are taken a few at a time: measured, shown to every network, drawn, and written as a file each, whose stamp says from
which images, bundles and options it came. The same command finds those files and goes on with the others; tables and page are
written last, from all of them. Volumes that the networks saw lie in ``.work`` until then.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from datamodules.cohort.covariates import text_of
from datamodules.cohort.records import Exclusion, Scan
from datamodules.files.atomic import content_sha256, file_sha256, locked, write_text
from datamodules.store.prepared import PreparedCohort
from datamodules.store.sources import hash_sources, sources_of
from experiments.bundles.bundle import Bundle
from experiments.bundles.sums import SUMS
from experiments.predicting.answers import Wanted
from experiments.predicting.asking import Asking, Few, ask
from experiments.predicting.errors import PredictError
from experiments.predicting.files import PAGE, Run, kept_outcome, write_outcome, write_results
from experiments.predicting.intake import Intake, find_scans, usable_volumes
from experiments.predicting.judging import Judge, refuse_missing_covariates
from experiments.predicting.networks import chosen_bundles
from experiments.predicting.options import PredictOptions
from experiments.predicting.records import Reason, ScanOutcome
from experiments.predicting.relevance import Relevance, allowed_maps, write_maps
from experiments.predicting.result_page import result_page
from experiments.predicting.view import show
from experiments.runtime.console import bar
from experiments.runtime.interruption import stop_if_interrupted
from experiments.runtime.quiet import quiet_libraries

AT_A_TIME = 8
"""Scans that meet the networks together; what an interruption can cost."""
VERSION = 1
"""Raised whenever what is said of a scan changes, so that older files are written again."""


@dataclass(frozen=True)
class Session:
    """What stays the same for all scans of a prediction."""

    bundles: Sequence[Bundle]
    options: PredictOptions
    console: Console
    digests: Sequence[str] = field(default_factory=list)
    """SHA-256 of the bundles' own sums."""
    relevance: Relevance | None = None
    """Whose maps are drawn."""

    @property
    def asking(self) -> Asking:
        """How the networks are asked."""
        options = self.options
        return Asking(Wanted(float(options.level), options.prevalence), options.insist, options.accelerator)

    @property
    def work(self) -> Path:
        """Where volumes lie meanwhile."""
        return self.options.out / ".work"

    def stamp(self, files: Mapping[str, str], scan: Scan) -> str:
        """From what an outcome comes: files and covariates of the scan, bundles, options, the explanation, the version."""
        names = sorted({name for bundle in self.bundles for name in bundle.covariates})
        covariates = {name: text_of(scan.covariates, name) for name in names}
        chosen = [self.options.level, self.options.prevalence, self.options.insist, self.options.maps]
        explained = [self.relevance.digest] if self.relevance else []
        return content_sha256([VERSION, dict(files), covariates, list(self.digests), [*chosen, *explained]])


def predict(options: PredictOptions, console: Console) -> list[ScanOutcome]:
    """Predict every scan of a source, or go on where an earlier call stopped.

    Raises:
        UserError: if options, bundles or scans cannot be used at all; single scans are refused by name instead.
        Interrupted: if a signal came.
        OSError: if something cannot be written; what is there is whole.
    """
    quiet_libraries()
    began = time.monotonic()
    bundles = chosen_bundles(options, console)
    if options.maps and not options.study:
        raise PredictError("--maps needs STUDY=name: whether an input may be explained stands in the study, not in a bundle")
    relevance = allowed_maps(options.studies / options.study, bundles) if options.maps else None
    session = Session(bundles, options, console, [file_sha256(bundle.folder / SUMS) for bundle in bundles], relevance)
    out = options.out
    with locked(out / ".lock", lambda: _refuse_second(out)):
        labels = [word for word in options.participant_label.replace(",", " ").split() if word]
        intake = find_scans(options.scans, out, bundles[0], labels, options.workers, console)
        refuse_missing_covariates(bundles, intake.scans)
        outcomes = [*map(_refused, intake.excluded), *_outcomes(session, intake)]
        if not outcomes:
            raise PredictError(f"{options.scans} holds no scan; nothing was predicted")
        outcomes.sort(key=lambda outcome: (outcome.patient, outcome.session))
        run = Run(bundles, session.digests, session.asking, time.monotonic() - began, options.maps)
        write_text(out / PAGE, result_page(out, outcomes, run))
        write_results(out, outcomes, run)
        shutil.rmtree(session.work, ignore_errors=True)
    show(outcomes, run, out, console)
    return outcomes


def _refuse_second(out: Path) -> NoReturn:
    raise PredictError(f"another predict is writing {out}; wait for it, or choose another --out")


def _refused(item: Exclusion) -> ScanOutcome:
    return ScanOutcome(item.patient, item.session, (Reason("refused", item.reason, item.detail),))


def _outcomes(session: Session, intake: Intake) -> list[ScanOutcome]:
    """What is said of every scan: kept from an earlier call, or new."""
    out, console, workers = session.options.out, session.console, session.options.workers
    sources, _ = hash_sources(intake.scans, session.work / "sources.json", workers)
    stamps, kept = {}, {}
    for scan in intake.scans:
        files = {name: sources[str(path)].sha256 for name, path in sources_of(scan).items() if str(path) in sources}
        stamps[scan.name] = session.stamp(files, scan)
        kept[scan.name] = kept_outcome(out, scan.patient, scan.session, stamps[scan.name])
    before = [outcome for outcome in kept.values() if outcome is not None]
    if before:
        console.print(f"{len(before)} of {len(kept)} scans were predicted before")
    todo = [scan for scan in intake.scans if kept[scan.name] is None]
    with bar(console, "reading scans") as on_scan:
        grid = session.bundles[0].scan_grid
        usable, prepared, broken = usable_volumes(todo, session.work / "store", grid, workers, on_scan)
    new = _new_outcomes(session, intake, usable, prepared, stamps) if prepared is not None else []
    return [*before, *map(_refused, broken), *new]


def _new_outcomes(
    session: Session, intake: Intake, scans: Sequence[Scan], prepared: PreparedCohort, stamps: Mapping[str, str]
) -> list[ScanOutcome]:
    """Measure, ask, draw and write, a few scans at a time."""
    judge, outcomes, done = Judge(session.bundles[0]), list[ScanOutcome](), 0
    total = len(scans) * sum(len(bundle.models) for bundle in session.bundles)
    began = time.monotonic()
    with bar(session.console, "scans x networks") as advance:

        def on_done(count: int) -> None:
            nonlocal done
            done += count
            advance(done, total)

        for start in range(0, len(scans), AT_A_TIME):
            rows = range(start, min(start + AT_A_TIME, len(scans)))
            few, part = [scans[row] for row in rows], prepared.of_rows(rows)
            judged = []
            for row, scan in enumerate(few):
                stop_if_interrupted()
                judged.append(judge.outcome(scan, part, row, intake.remarks.get((scan.patient, scan.session), ())))
            answered = ask(session.bundles, Few(few, part, judged), session.asking, on_done)
            for row, outcome in enumerate(answered):
                if session.relevance is not None:
                    alone, accelerator = part.of_rows([row]), session.options.accelerator
                    write_maps(session.options.out, outcome, session.bundles, alone, few[row], session.relevance, accelerator)
                write_outcome(session.options.out, outcome, part, row, stamps[outcome.name])
            outcomes += answered
            _tell(session.console, len(outcomes), len(scans), time.monotonic() - began)
    return outcomes


def _tell(console: Console, done: int, total: int, seconds: float) -> None:
    """Where there is no terminal to show a bar, a line after each few scans, with the time left."""
    if not console.is_terminal and done < total:
        left = seconds / done * (total - done)
        console.print(f"{done} of {total} scans, about {left:.0f} s left")
