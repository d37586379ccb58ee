"""Upload the offline runs of a study, and online runs that lost their server; look whether they arrived.

`wandb sync` exits with 0 when it has left tables behind: they wait in files that may be missing. This is checked before, and
what the server has is compared after.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.files.listing import list_folder
from experiments.tracking.environment import OF_AN_AGENT, PREFIX
from experiments.tracking.offline_runs import offline_run_folders, online_run_folders
from experiments.tracking.options import TrackingError, TrackingOptions
from experiments.tracking.session import server_access
from experiments.tracking.tables import real_path, staged_again

_RUNNING_SECONDS = 120
_TIMEOUT_SECONDS = 1800
_NOT_FOR_SYNC = ("WANDB_MODE", "WANDB_DISABLED", *(PREFIX + name for name in OF_AN_AGENT))


@dataclass(frozen=True)
class LocalRun:
    """What one offline run folder holds."""

    folder: Path
    """`.../wandb/offline-run-<time>-<id>`, or `run-<time>-<id>` for the local copy of an online run"""
    id: str
    """W&B id; the parts of a run that was interrupted share it."""
    rows: int
    """Rows of history."""
    tables: tuple[tuple[str, Path], ...]
    """(artifact name, file) of the tables that wait for the upload."""
    links: frozenset[Path]
    """Where W&B looks for the files of its tables"""
    ended: bool
    """False where the process was killed or still runs."""

    @property
    def synced(self) -> bool:
        """Whether `wandb sync` has uploaded it."""
        return _is_synced(self.folder)

    @property
    def running(self) -> bool:
        """Whether it was written to lately without having ended; W&B writes at least every 15 s."""
        if self.ended:
            return False
        newest = max(path.stat().st_mtime for path in list_folder(self.folder, "run-*.wandb"))
        return time.time() - newest < _RUNNING_SECONDS


@dataclass
class SyncReport:
    """Run id -> what happened."""

    verified: dict[str, str] = field(default_factory=dict)
    """Uploaded, and found complete on the server."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Uploaded earlier, or still running."""
    failed: dict[str, str] = field(default_factory=dict)
    """Not or not wholly on the server."""

    def __str__(self) -> str:
        """One line per run that needs attention, then the counts."""
        lines = [f"{name}: {reason}" for name, reason in {**self.skipped, **self.failed}.items()]
        counts = f"{len(self.verified)} uploaded, {len(self.skipped)} skipped, {len(self.failed)} failed"
        return "\n".join([*lines, counts])


def sync(study_folder: Path, options: TrackingOptions, without_tables: bool = False) -> int:
    """Upload a study and print what happened; the command behind `make sync`.

    Returns:
        0 when everything that could be uploaded is on the server, otherwise 1.
    """
    report = sync_study(study_folder, options, without_tables)
    print(report)
    return 1 if report.failed else 0


def sync_study(study_folder: Path, options: TrackingOptions, without_tables: bool = False) -> SyncReport:
    """Upload every run of a study that the server does not have whole.

    Args:
        study_folder: `studies/<name>`.
        options: project and entity; the mode does not matter.
        without_tables: upload also runs whose tables are missing (their curves and numbers are complete).

    Raises:
        TrackingError: if there is nothing to upload, no API key, or no server.
    """
    folders = [*offline_run_folders(study_folder), *online_run_folders(study_folder)]
    if not folders:
        raise TrackingError(f"no tracked run in {study_folder}; runs are made by `make fold` and `make sweep`")
    api = server_access(study_folder)
    if api is None:
        raise TrackingError("no W&B API key is configured; run `wandb login`, or set WANDB_API_KEY")
    report = SyncReport()
    project = f"{options.entity or api.default_entity}/{options.project}"
    runs = _read_new(folders, report)
    ready = [run for run in runs if not run.synced and _is_ready(run, api, project, without_tables, report)]
    with ExitStack() as stack:
        for link, run_folder in {link: run.folder.parents[1] for run in ready for link in run.links}.items():
            stack.enter_context(staged_again(link, run_folder))
        output = _upload([run.folder for run in ready], options) if ready else ""
    for run_id in dict.fromkeys(run.id for run in ready):
        _verify(api, project, run_id, [run for run in runs if run.id == run_id], output, report)
    return report


def _read_new(folders: Sequence[Path], report: SyncReport) -> list[LocalRun]:
    """Read the runs that were not uploaded, and the uploaded parts of those; note the others as skipped."""
    new = {_name_of(folder) for folder in folders if not _is_synced(folder)}
    report.skipped.update({_name_of(folder): "uploaded before" for folder in folders if _name_of(folder) not in new})
    with ThreadPoolExecutor(4) as pool:
        runs = pool.map(read_run, [folder for folder in folders if _name_of(folder) in new])
    return [run for run in runs if run.rows or run.ended]


def _name_of(folder: Path) -> str:
    return folder.name.removeprefix("offline-").split("-", maxsplit=2)[2]


def _is_synced(folder: Path) -> bool:
    return bool(list_folder(folder, "run-*.wandb.synced"))


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a run folder, read by W&B's own reader, which understands the files of killed runs too.

    `wandb leet inspect --json` does the same, 20 times slower: it imports all of W&B first.

    Raises:
        TrackingError: if the run cannot be read.
    """
    package = importlib.util.find_spec("wandb")
    if package is None or package.origin is None:
        raise TrackingError('wandb is not installed; pip install "wandb>=0.31,<0.32"')
    reader = Path(package.origin).parent / "bin" / "wandb-core"
    (file,) = list_folder(folder, "run-*.wandb")
    command = [str(reader), "leet", "inspect", "--no-observability", "--json", "--run-file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TrackingError(f"cannot read {file}: {done.stderr.strip() or done.stdout.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def read_run(folder: Path) -> LocalRun:
    """Sum up a run folder.

    Raises:
        TrackingError: if the run cannot be read.
    """
    records = read_records(folder)
    artifacts = [record["artifact"] for record in records if record["type"] == "artifact"]
    files = [(artifact["name"], *real_path(entry["local_path"], folder.parents[1])) for artifact in artifacts
             for entry in artifact["manifest"]["contents"] if entry.get("local_path")]  # fmt: skip
    named = [record["run"]["run_id"] for record in records if record["type"] == "run"]
    return LocalRun(
        folder=folder,
        id=named[0] if named else _name_of(folder),
        rows=sum(record["type"] == "history" for record in records),
        tables=tuple((name, file) for name, file, _ in files),
        links=frozenset(link for *_, link in files if link),
        ended=any(record["type"] == "exit" for record in records),
    )


def _is_ready(run: LocalRun, api: Any, project: str, without_tables: bool, report: SyncReport) -> bool:
    missing = [file for _, file in run.tables if not file.exists()]
    if run.running:
        report.skipped[run.id] = "still running; sync it when it has ended"
    elif run.folder.name.startswith("run-") and _rows_on_server(api, project, run.id) >= run.rows:
        report.skipped.setdefault(run.id, "was online")
    elif missing and not without_tables:
        report.failed[run.id] = (
            f"{len(missing)} of its {len(run.tables)} table files are missing, e.g. {missing[0]}; "
            "bring them back, or give up the tables: make sync ARGS=--without-tables"
        )
    else:
        return True
    return False


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_SYNC}
    return {**kept, "WANDB_ERROR_REPORTING": "false"}


def _upload(folders: Sequence[Path], options: TrackingOptions) -> str:
    """Run `wandb sync` once for all folders; the parts of one run go up in the order of their start."""
    command = [sys.executable, "-m", "wandb", "sync", "--yes", "--include-online", "--project", options.project]
    command += ["--entity", options.entity] if options.entity else []
    try:
        done = subprocess.run([*command, *map(str, folders)], env=_environment(), capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=_TIMEOUT_SECONDS, check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"wandb sync did not end within {_TIMEOUT_SECONDS} s"
    return f"{done.stdout}{done.stderr}".strip()


def _rows_on_server(api: Any, project: str, run_id: str) -> int:
    """Return how many rows of history the server has; none for a run it does not know.

    Raises:
        TrackingError: if the server does not answer.
    """
    try:
        return int(api.run(f"{project}/{run_id}").lastHistoryStep) + 1
    except Exception as error:  # W&B raises one class for a run it does not know and for a server that is gone
        if "Could not find run" in str(error):
            return 0
        raise TrackingError(f"cannot ask W&B for {project}/{run_id}: {error}") from error


def _verify(api: Any, project: str, run_id: str, parts: Sequence[LocalRun], output: str, report: SyncReport) -> None:
    """Compare the server's copy with the local parts: rows of history, tables."""
    report.skipped.pop(run_id, None)
    if not all(part.synced for part in parts if part.folder.name.startswith("offline-")):
        report.failed[run_id] = f"wandb sync did not upload it: {output.splitlines()[-1] if output else 'no message'}"
        return
    names = {name for part in parts for name, _ in part.tables}
    rows, needed = _rows_on_server(api, project, run_id), sum(part.rows for part in parts)
    tables = sum(api.artifact_exists(f"{project}/{name}:latest") for name in names)
    state = f"{rows} of {needed} rows, {tables} of {len(names)} tables on the server"
    (report.verified if rows >= needed and tables == len(names) else report.failed)[run_id] = state
