"""``prepare``: from a raw BIDS dataset to a cohort in MNI152 space: brain extraction, bias, registration, quality numbers.

Finished scans are skipped, so that the same command goes on where it stopped; a scan that fails is named at the end.
"""

from __future__ import annotations

import contextlib
import difflib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from datamodules.files.atomic import locked, write_text
from datamodules.intake.raw import RawDataset, read_raw
from datamodules.preparation.derivative import PIPELINE, output_paths, usual_out
from datamodules.preparation.label_maps import find_labels
from datamodules.preparation.options import PrepareOptions
from datamodules.preparation.pool import Ended, Job, prepare_all, usual_jobs
from datamodules.preparation.samseg import check_samseg
from datamodules.preparation.tables import write_tables
from experiments.checking.prepared import write_prepared_quality
from experiments.study.arguments import CommandOptions, named, read
from experiments.study.runs import PlanError

FAILURES = "prepare_failures.tsv"


@dataclass(frozen=True)
class Options(CommandOptions):
    """Which dataset is prepared, and how."""

    bids: Path | None = None
    """Folder of the raw BIDS dataset."""
    out: Path | None = None
    """Folder of the new cohort; without it cohorts/<name of the dataset>_prepared."""
    jobs: int | None = None
    """Scans prepared at a time; without it as many as cores and memory allow."""
    only: str = ""
    """Patients or sessions, separated by commas (sub-01,sub-02/ses-1); empty: all."""
    restart: bool = False
    """Prepare finished scans again."""
    brain: Literal["deepbet", "registration"] = "deepbet"
    """How the brain is found."""
    nonlinear: bool = False
    """Add a nonlinear registration (SyN)."""
    labels_from: Path | None = named("labels-from", None)
    """Folder of FreeSurfer-like results with label maps; without it those in the dataset's own derivatives are taken."""
    dialect: str = ""
    """What wrote the label maps: freesurfer, fastsurfer, synthseg or samseg."""
    samseg: Path | None = None
    """Program run_samseg, to make label maps."""
    lesion: bool = False
    """Let SAMSEG segment lesions too."""


def run(options: Options) -> int:
    """Prepare the dataset."""
    if options.bids is None:
        raise PlanError("--bids is missing; give the folder of a raw BIDS dataset, for example make prepare BIDS=/data/ms")
    if options.jobs is not None and options.jobs < 1:
        raise PlanError(f"--jobs {options.jobs}: 1 or more scans are prepared at a time")
    if options.labels_from is not None and not options.dialect:
        raise PlanError("--labels-from needs --dialect: freesurfer, fastsurfer, synthseg or samseg")
    if options.lesion and options.samseg is None:
        raise PlanError("--lesion is an option of SAMSEG; give --samseg PATH_TO_run_samseg as well")

    missing = [name for name in ("ants", "deepbet", "nilearn") if find_spec(name) is None]
    if missing:
        raise PlanError(
            f"prepare needs {', '.join(missing)}, not installed here; pip install 'regionwise[prepare]' (make install has it)"
        )
    console = Console(highlight=False, soft_wrap=True)
    if options.samseg is not None:
        check_samseg(options.samseg)
    steps = PrepareOptions(options.brain, options.nonlinear, options.samseg, options.lesion)
    dataset = read_raw(options.bids, "" if options.labels_from else options.dialect)
    dataset = _chosen(_with_labels(dataset, options.labels_from, options.dialect, console), options.only)
    return prepare(dataset, options.out or usual_out(options.bids), steps, options.jobs, options.restart, console)


def _with_labels(dataset: RawDataset, folder: Path | None, dialect: str, console: Console) -> RawDataset:
    """Give each session the label map that a folder of results has for it."""
    if folder is None:
        return dataset

    if not folder.is_dir():
        raise PlanError(f"--labels-from {folder} is no folder; give the folder that holds one folder of results a session")
    sessions = []
    for one in dataset.sessions:
        path = find_labels(folder, dialect, one.patient, one.session)
        if path is None:
            console.print(f"{one.name}: no label map in {folder}")
        sessions.append(replace(one, labels=path, dialect=dialect if path else ""))
    if not any(one.labels for one in sessions):
        raise PlanError(
            f"{folder} holds no {dialect} label map of a session; looked for are sub-X_ses-Y/mri/... sub-X/**/*_dseg.nii.gz"
        )
    return replace(dataset, sessions=tuple(sessions))


def _chosen(dataset: RawDataset, only: str) -> RawDataset:
    """Keep the patients or sessions of ``--only``."""
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    if not wanted:
        return dataset
    names = {one.patient for one in dataset.sessions} | {one.name for one in dataset.sessions}
    for name in wanted:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=3)
            raise PlanError(
                f"--only {name}: no such scan in {dataset.folder}" + (f"; did you mean {', '.join(near)}?" if near else "")
            )
    kept = tuple(one for one in dataset.sessions if one.patient in wanted or one.name in wanted)
    return replace(dataset, sessions=kept)


def prepare(dataset: RawDataset, out: Path, options: PrepareOptions, jobs: int | None, restart: bool, console: Console) -> int:
    """Prepare a dataset, print what came of it, and return the exit status: 1 when a scan failed, else 0.

    Raises:
        PlanError: if another process is writing the same cohort.
        OSError: if nothing can be written.
    """
    for remark in dataset.remarks:
        console.print(f"[yellow]note[/yellow]: {remark}")
    derivative = out / "derivatives" / PIPELINE
    with locked(derivative / ".lock", lambda: _refuse_second(derivative)):
        for remark in write_tables(dataset, out, options):
            console.print(f"[yellow]note[/yellow]: {remark}")
        if restart:
            for one in dataset.sessions:
                output_paths(one, out).qc.unlink(missing_ok=True)
        processes = min(jobs or usual_jobs(len(dataset.sessions)), len(dataset.sessions))
        console.print(f"{len(dataset.sessions)} scans of {dataset.folder}, {processes} at a time, into {out}")
        with _progress(len(dataset.sessions), processes, console) as told:
            ended = prepare_all([Job(one, out, options) for one in dataset.sessions], processes, told)
        shutil.rmtree(out / "derivatives" / PIPELINE / ".work", ignore_errors=True)
        return _summary(dataset, out, ended, console)


def _refuse_second(folder: Path) -> NoReturn:
    """Refuse a cohort that another command is writing."""
    raise PlanError(f"another prepare is writing {folder}; wait for it, or choose another --out")


@contextlib.contextmanager
def _progress(total: int, processes: int, console: Console) -> Iterator[Callable[[Ended], None]]:
    """A bar with the time left in a terminal; a line for each scan in a log."""

    class Left(ProgressColumn):
        """Time left by the scans that were prepared; those found finished say nothing about it."""

        def render(self, task: Task) -> Text:
            end = task.fields["end"]
            left = (
                "time left is known after the first scan"
                if end is None
                else f"{max(end - time.monotonic(), 0) / 60:.0f} min left"
            )
            return Text(left, style="cyan")

    columns = (TextColumn("[bold]preparing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), Left())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("preparing", total=total, end=None)
        ended: list[Ended] = []

        def told(one: Ended) -> None:
            ended.append(one)
            each = [other.seconds for other in ended if other.state == "prepared"]
            rounds = (total - len(ended)) / processes
            end = time.monotonic() + rounds * sum(each) / len(each) if each else None
            bar.update(task, completed=len(ended), end=end)
            if one.state == "failed":
                console.print(f"{one.session.name}  failed  {one.reason}")
            elif one.state == "prepared":
                console.print(f"{one.session.name}  prepared in {one.seconds:.0f} s  ({len(ended)} of {total})")

        yield told


def _summary(dataset: RawDataset, out: Path, ended: Sequence[Ended], console: Console) -> int:
    """Say what was prepared and what was not, also in a table beside the scans."""
    failed = [one for one in ended if one.state == "failed"]
    rows = [("failed", one.session.patient, one.session.session, one.reason) for one in failed]
    rows += [("left out", *one) for one in dataset.excluded]
    path = out / "derivatives" / PIPELINE / FAILURES
    lines = ["\t".join(" ".join(cell.replace('"', "'").split()) or "n/a" for cell in row) for row in rows]
    write_text(path, "\n".join(["state\tpatient\tsession\treason", *lines]) + "\n")
    new, before = (sum(one.state == state for one in ended) for state in ("prepared", "finished before"))
    counts = [f"{new} prepared", f"{before} finished before", f"{len(dataset.excluded)} left out", f"{len(failed)} failed"]
    console.print(", ".join(counts))
    for patient, session, reason in dataset.excluded:
        console.print(f"  left out  {_name(patient, session)}  {reason}")
    for one in failed:
        console.print(f"  failed    {one.session.name}  {one.reason}")
    if failed:
        console.print(f"the list: {path}; the same command tries the failed scans again")
    if new + before:
        _show_quality(out, console)
    return 1 if failed else 0


def _show_quality(out: Path, console: Console) -> None:
    """Write the page of all scans and the list of those held back, and say where they are."""
    found = write_prepared_quality(out, workers=2)
    console.print(f"look at the scans: {found.page}; then: make check COHORT={out}")
    for name, reason in found.held:
        console.print(f"  held back  {name}  {reason}; a row in {out / 'qc_accept.tsv'} accepts it")


def _name(patient: str, session: str) -> str:
    return f"{patient}/{session}" if session else patient


def main(arguments: Sequence[str]) -> int:
    """Command line of ``prepare``."""
    return run(read(Options, arguments))
