"""A raw dataset prepared scan by scan, with a bar meanwhile, and a list of failures and a page of all scans at the end."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from datamodules.files.atomic import file_sha256, locked, write_text
from datamodules.files.cores import too_many
from datamodules.files.listing import list_folder
from datamodules.files.tables import tsv_text
from datamodules.intake.raw import RawDataset, RawSession
from datamodules.preparation.derivative import PIPELINE, output_paths
from datamodules.preparation.label_maps import find_labels
from datamodules.preparation.options import PrepareOptions
from datamodules.preparation.pool import Ended, Job, prepare_all, usual_jobs
from datamodules.preparation.tables import write_tables
from experiments.checking.prepared import RECORDS, write_prepared_quality
from experiments.runtime.console import print_note
from experiments.runtime.words import plural
from experiments.study.runs import PlanError

FAILURES = "prepare_failures.tsv"


def with_labels(dataset: RawDataset, folder: Path | None, dialect: str, console: Console) -> RawDataset:
    """Give each session the label map that a folder of results has for it."""
    if folder is None:
        return dataset
    if not folder.is_dir():
        raise PlanError(f"--labels-from {folder} is not a folder; give the folder that holds one folder of results per session")
    sessions = []
    for session in dataset.sessions:
        path = find_labels(folder, dialect, session.patient, session.session)
        if path is None:
            console.print(f"{session.name}: no label map in {folder}")
        sessions.append(replace(session, labels=path, dialect=dialect if path else ""))
    if not any(session.labels for session in sessions):
        raise PlanError(
            f"{folder} holds no {dialect} label map of a session; looked for are sub-X_ses-Y/mri/... sub-X/**/*_dseg.nii.gz"
        )
    return replace(dataset, sessions=tuple(sessions))


def select_sessions(dataset: RawDataset, only: str) -> RawDataset:
    """Keep the patients or sessions of ``--only``."""
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    if not wanted:
        return dataset
    names = {name for session in dataset.sessions for name in (session.patient, session.name)}
    left_out = {name: why for patient, session, why in dataset.excluded for name in (patient, _name(patient, session))}
    for name in wanted:
        if name not in names and name in left_out:
            raise PlanError(f"--only {name}: {dataset.folder} has no scan of it that can be prepared ({left_out[name]})")
        if name not in names:
            near = difflib.get_close_matches(name, names, n=3)
            raise PlanError(
                f"--only {name}: no such scan in {dataset.folder}" + (f"; did you mean {', '.join(near)}?" if near else "")
            )
    kept = tuple(session for session in dataset.sessions if session.patient in wanted or session.name in wanted)
    return replace(dataset, sessions=kept)


def refuse_strangers(dataset: RawDataset, out: Path, restart: bool = False) -> None:
    """Refuse a cohort whose prepared scans are not the dataset's: they would be lost, or get the scores of others of that name.

    A scan whose raw files are links that were not fetched is still the dataset's.

    Args:
        dataset: All its sessions, also those that are not prepared now.
        out: The prepared cohort.
        restart: Whether finished scans are to be prepared again, whatever they were made from.

    Raises:
        PlanError: if a prepared scan is not in the dataset, or two or more are and no T1w is the one that was prepared.
    """
    sessions = {output_paths(session, out).qc: session for session in dataset.sessions}
    recorded = {path: _recorded_inputs(path) for path in list_folder(out, RECORDS)}
    strange = [
        path for path, inputs in recorded.items() if path not in sessions and not _has_files(dataset.folder, out, path, inputs)
    ]
    if strange:
        scans = f"{plural(len(strange), 'prepared scan')} that {dataset.folder} does not have, as {strange[0].parent}"
        raise PlanError(f"{out} holds {scans}; give another --out, or remove what is no longer in the dataset")
    both = [(sessions[path], inputs["t1w"]) for path, inputs in recorded.items() if path in sessions and "t1w" in inputs]
    if len(both) > 1 and not restart and not any(_is_content(session.images["t1w"], t1w) for session, t1w in both):
        scans = f"{len(both)} prepared scans named as in {dataset.folder}, but made from other T1w images"
        raise PlanError(f"{out} holds {scans}; give another --out, or --restart to prepare them from these")


def _recorded_inputs(record: Path) -> dict[str, str]:
    """Kind -> ``name SHA-256`` of the files that a scan was prepared from; empty where its record is damaged."""
    try:
        inputs = json.loads(record.read_text(encoding="utf-8"))["inputs"]
        return {str(kind): str(made_from) for kind, made_from in inputs.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # a damaged record is named when its scan is judged


def _has_files(folder: Path, out: Path, record: Path, inputs: Mapping[str, str]) -> bool:
    """Whether a dataset has the images from which a scan was prepared, be it as links to files that are elsewhere."""
    names = [made_from.rpartition(" ")[0] for kind, made_from in inputs.items() if kind not in ("labels", "label_table")]
    anat = folder / record.parent.relative_to(out / "derivatives" / PIPELINE)
    return all(os.path.lexists(anat / name) for name in names)


def _is_content(image: Path, made_from: str) -> bool:
    """Whether a file holds what was recorded; one that cannot be read may, and is named when its scan is prepared."""
    try:
        return file_sha256(image) == made_from.rpartition(" ")[2]
    except OSError:
        return True


def prepare(
    dataset: RawDataset,
    out: Path,
    options: PrepareOptions,
    jobs: int | None,
    restart: bool,
    console: Console,
    keep: Sequence[str] = (),
) -> int:
    """Prepare a dataset, print what came of it, and return the exit status: 1 when a scan failed, else 0.

    Args:
        dataset: The sessions to prepare.
        out: The prepared cohort.
        options: How each scan is prepared.
        jobs: Scans at a time; None for as many as cores and memory allow.
        restart: Prepare finished scans again.
        console: Where it is told.
        keep: Columns of the tables that are copied although they are not known.

    Raises:
        CohortError: if a table is damaged, or none has a column that is to be kept.
        PlanError: if another process is writing the same cohort.
        OSError: if nothing can be written.
    """
    for remark in dataset.remarks:
        print_note(console, remark)
    derivative = out / "derivatives" / PIPELINE
    with locked(derivative / ".lock", lambda: _refuse_second(derivative)):
        for remark in write_tables(dataset, out, options, keep):
            print_note(console, remark)
        if restart:
            for session in dataset.sessions:
                output_paths(session, out).qc.unlink(missing_ok=True)
        processes = min(jobs or usual_jobs(len(dataset.sessions)), len(dataset.sessions))
        console.print(f"{plural(len(dataset.sessions), 'scan')} of {dataset.folder}, {processes} at a time, into {out}")
        if told := too_many(processes):
            print_note(console, told)
        with _progress(len(dataset.sessions), processes, console) as (on_scan, on_stage):
            ended = prepare_all([Job(session, out, options) for session in dataset.sessions], processes, on_scan, on_stage)
        shutil.rmtree(out / "derivatives" / PIPELINE / ".work", ignore_errors=True)
        return _summary(dataset, out, ended, console)


def _refuse_second(folder: Path) -> NoReturn:
    """Refuse a cohort that another command is writing."""
    raise PlanError(f"another prepare is writing {folder}; wait for it, or choose another --out")


class _TimeLeft(ProgressColumn):
    """Time left by the scans that were prepared; those that were finished before say nothing about it."""

    def render(self, task: Task) -> Text:
        return Text(_left(task.fields["end"]), style="cyan")


def _left(end: float | None) -> str:
    if end is None:
        return "time left is known after the first scan"
    return f"about {max(end - time.monotonic(), 0) / 60:.0f} min left"


@contextlib.contextmanager
def _progress(
    total: int, processes: int, console: Console
) -> Iterator[tuple[Callable[[Ended], None], Callable[[RawSession, str], None]]]:
    """A bar with the time left and the stage of each scan in a terminal; lines in a log, a stage's until one scan is ready."""
    columns = (TextColumn("[bold]preparing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), _TimeLeft(),
               TextColumn("{task.fields[stages]}"))  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("preparing", total=total, end=None, stages="")
        ended: list[Ended] = []
        stages: dict[str, str] = {}

        def on_stage(session: RawSession, stage: str) -> None:
            stages[session.name] = stage
            bar.update(task, stages=", ".join(f"{name} {now}" for name, now in stages.items()))
            if not console.is_terminal and not any(scan.state == "prepared" for scan in ended):
                console.print(f"{session.name}  {stage}")

        def on_scan(scan: Ended) -> None:
            ended.append(scan)
            stages.pop(scan.session.name, None)
            each = [earlier.seconds for earlier in ended if earlier.state == "prepared"]
            rounds = (total - len(ended)) / processes
            end = time.monotonic() + rounds * sum(each) / len(each) if each else None
            bar.update(task, completed=len(ended), end=end)
            if scan.state == "failed":
                console.print(f"{scan.session.name}  failed  {scan.reason}")
            elif scan.state == "prepared":
                count = f"{len(ended)} of {total}, {_left(end)}" if len(ended) < total else f"{len(ended)} of {total}"
                console.print(f"{scan.session.name}  prepared in {scan.seconds:.0f} s  ({count})")

        yield on_scan, on_stage


def _summary(dataset: RawDataset, out: Path, ended: Sequence[Ended], console: Console) -> int:
    """Say what was prepared and what was not, also in a table beside the scans."""
    failed = [scan for scan in ended if scan.state == "failed"]
    rows = [("failed", scan.session.patient, scan.session.session, scan.reason) for scan in failed]
    rows += [("left out", *excluded) for excluded in dataset.excluded]
    path = out / "derivatives" / PIPELINE / FAILURES
    cells = ([" ".join(cell.replace('"', "'").split()) or "n/a" for cell in row] for row in rows)
    write_text(path, tsv_text(["state", "patient", "session", "reason"], cells))
    new, before = (sum(scan.state == state for scan in ended) for state in ("prepared", "finished before"))
    counts = [f"{new} prepared", f"{before} finished before", f"{len(dataset.excluded)} left out", f"{len(failed)} failed"]
    console.print(", ".join(counts))
    for patient, session, reason in dataset.excluded:
        console.print(f"  left out  {_name(patient, session)}  {reason}")
    for scan in failed:
        console.print(f"  failed    {scan.session.name}  {scan.reason}")
    if failed:
        console.print(f"the list: {path}; the same command tries the failed scans again")
    if new + before:
        _show_quality(out, console)
    return 1 if failed else 0


def _show_quality(out: Path, console: Console) -> None:
    """Write the page of all scans and the list of those held back, and say where they are."""
    quality = write_prepared_quality(out, workers=2)
    console.print(f"look at the scans: {quality.page}; then: make check COHORT={out}")
    for name, reason in quality.held:
        console.print(f"  held back  {name}  {reason}; a row in {out / 'qc_accept.tsv'} accepts it")


def _name(patient: str, session: str) -> str:
    return f"{patient}/{session}" if session else patient
