"""Train every missing run of the study on Slurm, one array task each, and compare when all have ended.

The store and the split are made here, on the login node, so the tasks only read them. What each task trains is written down in
``<study>/cluster/<stamp>`` before it is handed over. The same command again submits what is missing and not queued.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console

from datamodules.files.atomic import write_json, write_text
from experiments.cluster.resources import ClusterError, Resources
from experiments.cluster.scripts import Launch, array_script, compare_script, runs_table
from experiments.cluster.submissions import Queue, ask_queue, one_line, read_submissions, slurm
from experiments.runtime.console import print_note
from experiments.study.grid import stale_message, states
from experiments.study.opening import set_aside
from experiments.study.run_folder import Fingerprint, RunFolder
from experiments.study.runs import Run
from experiments.study.settings import Settings
from experiments.study.study import Study


def submit(
    settings: Settings,
    study: Study,
    fingerprint: Fingerprint,
    runs: Sequence[Run],
    resources: Resources,
    console: Console,
    restart: bool = False,
) -> int:
    """Hand over the runs that are neither complete, nor queued, nor in a process's hands; the caller holds the study's lock.

    Returns:
        0, also when there is nothing to hand over.

    Raises:
        ClusterError: if Slurm refuses, or runs of other settings are in the way.
    """
    queue = ask_queue(read_submissions(study.folder))
    missing = missing_runs(study, fingerprint, runs, queue, restart)
    _set_stale_aside(study, fingerprint, runs)
    if not missing:
        queued = sum(run in queue.runs for run in runs)
        rest = f"{queued} are in the queue, look: make status" if queued else "none is missing"
        console.print(f"nothing to submit: of {len(runs)} runs of {study.folder} {rest}")
        return 0
    launch = launch_of(settings, study)
    write_scripts(launch, settings, missing, runs, resources)
    array = _hand_over(launch, [str(launch.folder / "array.sh")])
    _write_facts(launch, array, None, fingerprint)
    console.print(f"array {array}: {len(missing)} of {len(runs)} runs, one task each; logs in {_short(launch.folder / 'logs')}")
    others = [other for other in queue.arrays if other != array]
    dependency = "--dependency=afterany:" + ":".join([array, *others])
    try:
        compare = _hand_over(launch, [dependency, str(launch.folder / "compare.sh")], remove=False)
    except ClusterError as error:
        print_note(console, f"the runs are queued, the comparison is not ({error}); later: make compare")
        return 0
    _write_facts(launch, array, compare, fingerprint)
    console.print(f"job {compare}: the comparison, when they have ended; look: make status, stop: make cancel")
    return 0


def missing_runs(study: Study, fingerprint: Fingerprint, runs: Sequence[Run], queue: Queue | None, restart: bool) -> list[Run]:
    """The runs to hand over, in the study's order; stale ones too where they are to be trained again.

    Raises:
        ClusterError: if runs of other settings are in the way.
    """
    state = states(study, fingerprint, runs)
    stale = [run for run in runs if state[run] == "stale"]
    if stale and not restart:
        raise ClusterError(stale_message(study, fingerprint, stale))
    queued = queue.runs if queue else {}
    return [run for run in runs if state[run] not in ("complete", "running") and run not in queued]


def _set_stale_aside(study: Study, fingerprint: Fingerprint, runs: Sequence[Run]) -> None:
    state = states(study, fingerprint, runs)
    for run in runs:
        if state[run] != "stale":
            continue
        folder = RunFolder(run.folder(study.folder))
        with folder.lock() as ours:
            if not ours:
                raise ClusterError(f"{run.name} is being trained with other settings; stop that first: make cancel")
            set_aside(folder)


def dry_run(
    settings: Settings,
    study: Study,
    fingerprint: Fingerprint,
    runs: Sequence[Run],
    resources: Resources,
    console: Console,
    restart: bool = False,
) -> int:
    """Print the array's script, and which runs its tasks would be; write and submit nothing."""
    missing = missing_runs(study, fingerprint, runs, None, restart)
    if not missing:
        console.print(f"nothing to submit: of {len(runs)} runs of {study.folder} none is missing")
        return 0
    print(array_script(launch_of(settings, study), missing, resources, own_options(settings, runs)), end="")
    print(f"\n# runs.tsv\n{runs_table(missing)}", end="")
    return 0


def launch_of(settings: Settings, study: Study) -> Launch:
    """A folder and a job name that no other submission has."""
    stamp = f"{datetime.now():%Y%m%dT%H%M%S.%f}-{os.getpid()}"
    folder = (study.folder / "cluster" / stamp).absolute()
    return Launch(f"regionwise-{settings.study}-{stamp}", folder, Path.cwd(), sys.executable)


def folds_in(runs: Sequence[Run]) -> int:
    """Folds of a whole grid of runs."""
    return 1 + max(run.fold for run in runs)


def own_options(settings: Settings, runs: Sequence[Run]) -> list[str]:
    """Settings that ``fold`` must know before it reads settings.yaml, where they are not the usual ones."""
    regions, folds = settings.values.regions, folds_in(runs)
    return [*(["--regions", str(regions)] if regions else []), "--folds", str(folds)]


def write_scripts(
    launch: Launch, settings: Settings, missing: Sequence[Run], runs: Sequence[Run], resources: Resources
) -> None:
    """Write everything that the jobs read."""
    write_text(launch.folder / "runs.tsv", runs_table(missing))
    write_text(launch.folder / "settings.yaml", settings.yaml())
    write_text(launch.folder / "array.sh", array_script(launch, missing, resources, own_options(settings, runs)))
    write_text(launch.folder / "compare.sh", compare_script(launch, resources, closing_commands(settings, runs, launch)))
    (launch.folder / "logs").mkdir()


def closing_commands(settings: Settings, runs: Sequence[Run], launch: Launch) -> list[list[str]]:
    """What follows the runs: the baselines, the comparison over all seeds of the grid, the report."""
    values = settings.values
    study = ["--study", settings.study, "--studies", str(values.studies)]
    inputs = ",".join(dict.fromkeys(run.input for run in runs))
    seeds = ",".join(str(seed) for seed in dict.fromkeys(run.seed for run in runs))
    compare = ["compare", *study, "--folds", str(folds_in(runs)), "--inputs", inputs]
    compare += ["--tracking.mode", settings.tracking().mode, "--seeds", seeds]
    baselines = ["baselines", "--config", str(launch.folder / "settings.yaml"), *own_options(settings, runs)]
    return [baselines, compare, ["report", *study]]


def _hand_over(launch: Launch, words: Sequence[str], remove: bool = True) -> str:
    """Call sbatch and return the job's id; files of an array that was refused are removed."""
    done = slurm(["sbatch", "--parsable", *words])
    if done.returncode:
        if remove:
            shutil.rmtree(launch.folder)
        raise ClusterError(f"sbatch refused: {one_line(done.stderr)}")
    return done.stdout.strip().split(";")[0]


def _write_facts(launch: Launch, array: str, compare: str | None, fingerprint: Fingerprint) -> None:
    facts = {"job": launch.job, "array": array, "compare": compare, "submitted": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    write_json(launch.folder / "submission.json", facts | {"fingerprint": fingerprint.hashes()})


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
