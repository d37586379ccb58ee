"""Many scans side by side, one process each: a scan that fails, crashes or is killed for memory takes no other with it.

Each process has one thread, so that its files do not depend on how many run; as many run as there are cores, or fewer where
memory is short. What the programs print goes into the scan's log.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from datamodules.files.cores import cores
from datamodules.intake.raw import RawSession
from datamodules.preparation.derivative import inputs_of, is_finished, key_of, output_paths
from datamodules.preparation.label_maps import dialect_name
from datamodules.preparation.options import PrepareOptions, versions
from datamodules.preparation.scan import prepare_session
from regions.errors import UserError

SCAN_GB = 2.0
"""Memory of one scan's process, 1.3 GB for 3 mm slices, more for 0.5 mm voxels."""
STAGE = "stage"
THREAD_VARIABLES = ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """One session to prepare, and where to."""

    session: RawSession
    out: Path
    options: PrepareOptions


@dataclass(frozen=True)
class Ended:
    """How one session ended: ``prepared``, ``finished before`` or ``failed`` with a reason."""

    session: RawSession
    state: str
    reason: str = ""
    seconds: float = 0.0


def usual_jobs(scans: int) -> int:
    """As many processes as cores, memory and scans allow."""
    return max(1, min(cores(), scans, int(_free_gb() / SCAN_GB)))


def _free_gb() -> float:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(float(line.split()[1]) / 1e6 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 64.0


def prepare_all(
    jobs: Sequence[Job],
    processes: int,
    on_end: Callable[[Ended], None] | None = None,
    on_stage: Callable[[RawSession, str], None] | None = None,
) -> list[Ended]:
    """Prepare every session that is not finished.

    Args:
        jobs: The sessions; no two write the same files.
        processes: How many at a time.
        on_end: Called in the caller's thread after each session.
        on_stage: Called in the caller's thread with a session and what begins.

    Returns:
        How each session ended, in the order of the jobs.
    """
    ended: dict[int, Ended] = {}
    waiting = list(range(len(jobs)))
    running: dict[Connection, tuple[int, Any, float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                number = waiting.pop(0)
                reader, process = _start(jobs[number])
                running[reader] = (number, process, time.monotonic())
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                number, process, began = running[ready]
                state, reason = _received(ready)
                if state == STAGE:
                    if on_stage is not None:
                        on_stage(jobs[number].session, reason)
                    continue
                del running[ready]
                ready.close()
                process.join()
                if state == "failed" and not reason:
                    reason = _death(process.exitcode, output_paths(jobs[number].session, jobs[number].out).log)
                ended[number] = Ended(jobs[number].session, state, reason, time.monotonic() - began)
                if on_end is not None:
                    on_end(ended[number])
    finally:
        for _, process, _ in running.values():
            process.terminate()
            process.join()
    return [ended[number] for number in range(len(jobs))]


def _start(job: Job) -> tuple[Connection, Any]:
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(job, writer), daemon=True)
    with _one_thread():
        process.start()
    writer.close()
    return reader, process


@contextlib.contextmanager
def _one_thread() -> Any:
    """Processes that start meanwhile use one thread each; ITK reads the variable when it is loaded."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _received(reader: Connection) -> tuple[str, str]:
    """What the process reports: a stage, or how it ended; a failure without a reason where it died."""
    try:
        state, text = reader.recv()
    except EOFError:
        return "failed", ""
    return state, text


def _death(status: int, log: Path) -> str:
    if status == -9:
        return f"its process was killed (most often for want of memory: try fewer --jobs); see {log}"
    return f"its process ended {f'by signal {-status}' if status < 0 else f'with status {status}'}; see {log}"


def work(job: Job, writer: Connection) -> None:
    """Prepare one session, as the target of a separate process, and send how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent ends this process
    _end_with_parent()
    paths = output_paths(job.session, job.out)
    try:
        inputs = inputs_of(job.session)
        settings = {"sidecars": job.session.sidecars, "dialect": dialect_name(job.session.dialect), "versions": versions()}
        key = key_of(inputs, settings | job.options.parameters())
        if is_finished(paths, key):
            writer.send(("finished before", ""))
            return
        paths.log.parent.mkdir(parents=True, exist_ok=True)
        with paths.log.open("w", encoding="utf-8") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)

            def on_stage(name: str) -> None:
                print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
                writer.send((STAGE, name))

            prepare_session(job.session, job.out, job.options, key, inputs, on_stage)
            print(f"{time.strftime('%H:%M:%S')} prepared")
        writer.send(("prepared", ""))
    except (UserError, OSError) as error:
        traceback.print_exc()
        writer.send(("failed", _plain(error)))
    except Exception as error:  # one scan's error, of whatever kind, must not stop the others; its log has the traceback
        traceback.print_exc()
        writer.send(("failed", _first_line(error, paths.log)))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        writer.close()


def _plain(error: UserError | OSError) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")
    return str(error)


def _first_line(error: Exception, log: Path) -> str:
    """Kind and first line of an error, and the log with the rest."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}; see {log}"


def _end_with_parent() -> None:
    """Leave when the process that started this one is gone, also when it was killed."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
