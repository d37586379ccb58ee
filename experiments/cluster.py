"""Pure text: runs and resources become the scripts that Slurm takes. Nothing is asked, written or started here.

One array task is one run is one process on one GPU. The process knows no scheduler; its exit status is the contract::

    0   the run is complete
    75  interrupted, start it again: it goes on after its last finished epoch
    69  another process is training this run
    else  failed, the log says why
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.interruption import RESUME, TAKEN
from experiments.plan import Run

RESTARTS = 20
COLUMNS = ("task", "input", "fold", "seed")
OWN_OPTIONS = {
    "array", "a", "signal", "requeue", "no-requeue", "open-mode", "output", "o", "error", "e", "nodes", "N", "ntasks", "n",
    "ntasks-per-node", "job-name", "J", "dependency", "d", "parsable", "wrap", "clusters", "M", "wait", "W", "hold", "H", "test-only",
}  # fmt: skip
TIME = re.compile(r"(?:(?P<days>\d+)-(?P<dh>\d+)(?::(?P<dm>\d+)(?::(?P<ds>\d+))?)?|(?:(?P<h>\d+):)?(?P<m>\d+):(?P<s>\d+)|(?P<only>\d+))")


class ClusterError(ValueError):
    """Resources that make no job, or a scheduler that does not answer."""


@dataclass(frozen=True)
class Resources:
    """What one run asks of the cluster, as typed."""

    partition: str = ""
    """Partition; empty: the cluster's default."""
    account: str = ""
    """Account; empty: the user's default."""
    time: str = ""
    """Time limit as Slurm writes it (90, 4:00:00, 1-12); empty: the partition's default. A run may need several such spans."""
    mem: str = "16G"
    """Memory of a task; empty: the cluster's default."""
    cpus: str = "4"
    """CPU cores of a task."""
    gpus: str = "1"
    """GPUs of a task, also with a type (a100:1); 0 trains on the CPU."""
    concurrency: str = ""
    """Tasks that may run at the same time; empty: as many as fit."""
    signal: str = "120"
    """Seconds before the time limit at which a run is told to stop; one batch and 60 seconds must fit in."""
    stage: str = ""
    """Folder on the node's own disk to which the prepared volumes are copied, once a node; may hold $USER and the like."""
    sbatch: str = ""
    """Further options of sbatch, as on its command line."""

    def __post_init__(self) -> None:
        for name, pattern, example in (
            ("partition", r"[\w.,-]*", "gpu"),
            ("account", r"[\w.@+-]*", "neuro"),
            ("time", f"(?:{TIME.pattern})?", "4:00:00"),
            ("mem", r"(\d+[KMGT]?)?", "16G"),
            ("cpus", r"[1-9]\d*", "4"),
            ("gpus", r"([A-Za-z][\w.-]*:)?\d+", "1, a100:1 or 0"),
            ("concurrency", r"([1-9]\d*)?", "8"),
            ("signal", r"[1-9]\d*", "120"),
            ("stage", r"[\w./${}~+-]*", "/scratch/$USER"),
        ):
            value = getattr(self, name)
            if not re.fullmatch(pattern, value):
                raise ClusterError(f"--{name} {value!r} cannot be used; write for example --{name} {example}")
        if self.time and seconds_of(self.time) <= int(self.signal):
            raise ClusterError(
                f"--time {self.time} is over before --signal {self.signal} seconds; give more time, or a smaller --signal"
            )
        self.extra()

    @property
    def with_gpu(self) -> bool:
        """Whether a task gets a GPU."""
        return int(self.gpus.rpartition(":")[2]) > 0

    def extra(self) -> list[str]:
        """The further options of sbatch, one a line of its script.

        Raises:
            ClusterError: if they set what the array itself needs, or cannot be read.
        """
        if "\n" in self.sbatch:
            raise ClusterError("--sbatch holds a line break; write all options on one line")
        try:
            words = shlex.split(self.sbatch)
        except ValueError as error:
            raise ClusterError(f"--sbatch {self.sbatch!r}: {error}") from None
        lines: list[str] = []
        for word in words:
            name = word.lstrip("-").partition("=")[0]
            if not word.startswith("-"):
                if not lines:
                    raise ClusterError(f"--sbatch {self.sbatch!r} does not start with an option; write for example --sbatch '--qos=long'")
                lines[-1] += f" {quoted(word)}"
                continue
            taken = name in OWN_OPTIONS or (word.startswith("--") and any(own.startswith(name) for own in OWN_OPTIONS if len(own) > 1))
            if taken or (not word.startswith("--") and word[1:2] in OWN_OPTIONS):
                raise ClusterError(f"--sbatch: {word.partition('=')[0]} is set by the array itself; leave it out")
            option, equals, value = word.partition("=")
            lines.append(f"{option}{equals}{quoted(value)}")
        return lines

    def shared(self) -> list[str]:
        """Options of the array and of the comparison after it."""
        named = (("partition", self.partition), ("account", self.account))
        return [f"--{name}={value}" for name, value in named if value] + self.extra()


@dataclass(frozen=True)
class Place:
    """Where a submission lies and how its processes start. All paths are absolute."""

    job: str
    """The job's name, which no other submission has."""
    folder: Path
    """``<study>/cluster/<stamp>``: runs.tsv, settings.yaml, array.sh, compare.sh, logs/."""
    cwd: Path
    """Where the commands run, so that relative paths in the settings mean the same."""
    python: str
    """The interpreter."""


def seconds_of(time: str) -> int:
    """Seconds of a time limit as Slurm writes it; ``90`` is minutes, ``1-12`` a day and a half."""
    match = TIME.fullmatch(time)
    if match is None:
        raise ClusterError(f"{time!r} is no time limit; write for example 4:00:00")
    part = {name: int(text or 0) for name, text in match.groupdict().items()}
    hours, minutes = 24 * part["days"] + part["dh"] + part["h"], part["dm"] + part["m"] + part["only"]
    return 3600 * hours + 60 * minutes + part["ds"] + part["s"]


def quoted(text: str) -> str:
    """A value for an ``#SBATCH`` line.

    Raises:
        ClusterError: if it holds a quote, a backslash or a line break, which sbatch would misread.
    """
    if re.search(r"[\"'\\\n\r]", text):
        raise ClusterError(f"{text!r} holds a quote, a backslash or a line break, which Slurm's script cannot carry; use another path or value")
    return text if re.fullmatch(r"[\w./:=,@%+&|*()\[\]!-]*", text) else f'"{text}"'


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


def array_script(place: Place, runs: Sequence[Run], resources: Resources, options: Sequence[str] = ()) -> str:
    """The sbatch script of an array with one task for each run.

    Args:
        place: Where it lies and how it starts.
        runs: The runs, in the order of runs.tsv.
        resources: What each of them asks for.
        options: Further words of the command ``fold``.
    """
    limit = f"%{resources.concurrency}" if resources.concurrency else ""
    lines = [f"--job-name={place.job}", f"--array=0-{len(runs) - 1}{limit}", *resources.shared()]
    lines += [f"--time={resources.time}"] if resources.time else []
    lines += [f"--mem={resources.mem}"] if resources.mem else []
    lines += ["--nodes=1", "--ntasks-per-node=1", f"--cpus-per-task={resources.cpus}"]
    lines += [f"--gpus-per-node={resources.gpus}"] if resources.with_gpu else []
    lines += [f"--signal=USR1@{resources.signal}", "--requeue", "--open-mode=append"]
    lines += [f"--output={log_pattern(place.folder, 'task-%a.log')}"]
    stage = f' --stage "{resources.stage}"' if resources.stage else ""
    command = shlex.join([place.python, "-m", "experiments", "fold", "--config", str(place.folder / "settings.yaml"), *options])
    return header(lines) + BODY.format(
        cwd=shlex.quote(str(place.cwd)),
        table=shlex.quote(str(place.folder / "runs.tsv")),
        cpus=resources.cpus,
        gpu="" if resources.with_gpu else 'export CUDA_VISIBLE_DEVICES=""\n',
        command=f'{command} --roi "$input" --fold "$fold" --seed "$seed"{stage}',
        resume=RESUME,
        taken=TAKEN,
        restarts=RESTARTS,
    )


BODY = """\
# One task is one run: line SLURM_ARRAY_TASK_ID of runs.tsv. Its status: 0 complete, {resume} interrupted, {taken} in other hands.
cd {cwd} || exit 1
IFS=$'\\t' read -r _ input fold seed < <(sed -n "$((SLURM_ARRAY_TASK_ID + 2))p" {table})
restarts=${{SLURM_RESTART_COUNT:-0}}
{gpu}export OMP_NUM_THREADS={cpus}
echo "== $input/fold-$fold/seed-$seed: start $((restarts + 1)) on $SLURMD_NODENAME, GPU ${{CUDA_VISIBLE_DEVICES:-none}}"

# srun, so that the signal before the time limit reaches the training.
srun --ntasks=1 --cpus-per-task={cpus} --unbuffered \\
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


def compare_script(place: Place, resources: Resources, commands: Sequence[Sequence[str]]) -> str:
    """The sbatch script of the comparison, which starts when the arrays have ended and refuses a grid that is not complete.

    Args:
        place: Where it lies and how it starts.
        resources: Partition, account and further options are taken from it.
        commands: Words after ``python -m experiments``, one list for each seed.
    """
    lines = [f"--job-name={place.job}-compare", *resources.shared(), "--nodes=1", "--ntasks=1", "--cpus-per-task=1"]
    lines += ["--mem=4G", "--open-mode=append", f"--output={log_pattern(place.folder, 'compare.log')}"]
    body = [f"cd {shlex.quote(str(place.cwd))} || exit 1", "export OMP_NUM_THREADS=1", "worst=0"]
    body += [f"{shlex.join([place.python, '-m', 'experiments', *words])} || worst=$?" for words in commands]
    return header(lines) + "\n".join([*body, 'exit "$worst"']) + "\n"
