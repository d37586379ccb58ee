"""Pure text: runs and resources become the scripts that Slurm takes. Nothing is asked, written or started here.

One array task is one run is one process on one GPU. The process knows no scheduler; its exit status is the contract::

    0   the run is complete
    75  interrupted, start it again: it goes on after its last finished epoch
    69  another process is training this run
    else  failed, the log says why
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.cluster.resources import Resources, quoted
from experiments.runtime.interruption import RESUME, TAKEN
from experiments.study.runs import Run

RESTARTS = 20
COLUMNS = ("task", "input", "fold", "seed")


@dataclass(frozen=True)
class Launch:
    """Where a submission lies and how its processes start. All paths are absolute."""

    job: str
    """The job's name, which no other submission has."""
    folder: Path
    """``<study>/cluster/<stamp>``: runs.tsv, settings.yaml, array.sh, compare.sh, logs/."""
    cwd: Path
    """Where the commands run, so that relative paths in the settings mean the same."""
    python: str
    """The interpreter."""


def runs_table(runs: Sequence[Run]) -> str:
    """runs.tsv: which run each array task is, fixed when it is submitted."""
    rows = [(str(task), run.input, str(run.fold), str(run.seed)) for task, run in enumerate(runs)]
    return "\n".join("\t".join(row) for row in (COLUMNS, *rows)) + "\n"


def read_runs_table(text: str) -> tuple[Run, ...]:
    """The runs of a runs.tsv, in the order of their tasks."""
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    return tuple(Run(name, int(fold), int(seed)) for _, name, fold, seed in rows)


def header(options: Sequence[str]) -> str:
    """The first lines of a script for sbatch."""
    return "\n".join(["#!/bin/bash", *(f"#SBATCH {option}" for option in options)]) + "\n"


def log_pattern(folder: Path, name: str) -> str:
    """Path of a log for ``--output``; a percent sign in a folder's name is kept from being read as a pattern."""
    return quoted(f"{str(folder).replace('%', '%%')}/logs/{name}")


def array_script(launch: Launch, runs: Sequence[Run], resources: Resources, options: Sequence[str] = ()) -> str:
    """The sbatch script of an array with one task for each run.

    Args:
        launch: Where it lies and how it starts.
        runs: The runs, in the order of runs.tsv.
        resources: What each of them asks for.
        options: Further words of the command ``fold``.
    """
    limit = f"%{resources.concurrency}" if resources.concurrency else ""
    lines = [f"--job-name={launch.job}", f"--array=0-{len(runs) - 1}{limit}", *resources.shared()]
    lines += [f"--time={resources.time}"] if resources.time else []
    lines += [f"--mem={resources.mem}"] if resources.mem else []
    lines += ["--nodes=1", "--ntasks-per-node=1", f"--cpus-per-task={resources.cpus}"]
    lines += [f"--gpus-per-node={resources.gpus}"] if resources.with_gpu else []
    lines += [f"--signal=USR1@{resources.signal}", "--requeue", "--open-mode=append"]
    lines += [f"--output={log_pattern(launch.folder, 'task-%a.log')}"]
    stage = f' --stage "{resources.stage}"' if resources.stage else ""
    command = shlex.join(
        [launch.python, "-m", "experiments", "fold", "--config", str(launch.folder / "settings.yaml"), *options]
    )
    return header(lines) + BODY.format(
        cwd=shlex.quote(str(launch.cwd)),
        table=shlex.quote(str(launch.folder / "runs.tsv")),
        cpus=resources.cpus,
        gpu="" if resources.with_gpu else 'export CUDA_VISIBLE_DEVICES=""\n',
        command=f'{command} --roi "$input" --fold "$fold" --seed "$seed"{stage}',
        resume=RESUME,
        taken=TAKEN,
        restarts=RESTARTS,
    )


BODY = """\
# One task is one run of runs.tsv. Its status: 0 complete, {resume} interrupted, {taken} in other hands, else failed.
cd {cwd} || exit 1
IFS=$'\\t' read -r _ input fold seed < <(sed -n "$((SLURM_ARRAY_TASK_ID + 2))p" {table})
restarts=${{SLURM_RESTART_COUNT:-0}}
{gpu}export OMP_NUM_THREADS={cpus}
echo "== $input/fold-$fold/seed-$seed: start $((restarts + 1)) on $SLURMD_NODENAME, GPU ${{CUDA_VISIBLE_DEVICES:-none}}"

# srun, so that the signal before the time limit reaches the training; not srun --unbuffered, which makes the log a terminal.
export PYTHONUNBUFFERED=1 TTY_COMPATIBLE=0
srun --ntasks=1 --cpus-per-task={cpus} \\
    {command}
status=$?

again=no
if [ "$status" -eq {resume} ]; then again=yes; fi
if [ "$status" -eq {taken} ]; then
    # After a restart the other process is most likely this task's own former one, on a node that was lost: look again later.
    if [ "$restarts" -eq 0 ]; then echo "nothing to do here"; exit 0; fi
    again=yes
fi
if [ "$again" = yes ] && [ "$restarts" -lt {restarts} ]; then
    # By array index: the last task's own job id is the array's, and would restart all of it.
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}" || echo "it cannot be requeued; submit the study again"
fi
exit "$status"
"""


def compare_script(launch: Launch, resources: Resources, commands: Sequence[Sequence[str]]) -> str:
    """The sbatch script of the comparison, which starts when the arrays have ended and refuses a grid that is not complete.

    Its commands run one after another; the first that fails ends it.

    Args:
        launch: Where it lies and how it starts.
        resources: Partition, account and further options are taken from it.
        commands: Words after ``python -m experiments``.
    """
    lines = [f"--job-name={launch.job}-compare", *resources.shared(), "--nodes=1", "--ntasks=1", "--cpus-per-task=1"]
    lines += ["--mem=4G"] if resources.mem else []
    lines += ["--open-mode=append", f"--output={log_pattern(launch.folder, 'compare.log')}"]
    body = [f"cd {shlex.quote(str(launch.cwd))} || exit 1", "export OMP_NUM_THREADS=1"]
    body += [f"{shlex.join([launch.python, '-m', 'experiments', *words])} || exit" for words in commands]
    return header(lines) + "\n".join(body) + "\n"
