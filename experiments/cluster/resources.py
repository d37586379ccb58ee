"""What one run asks of a cluster, checked before anything is made or sent."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from regions.errors import UserError

OWN_OPTIONS = {
    "array", "a", "signal", "requeue", "no-requeue", "open-mode", "output", "o", "error", "e", "nodes", "N", "ntasks", "n",
    "ntasks-per-node", "job-name", "J", "dependency", "d", "parsable", "wrap", "clusters", "M", "wait", "W", "hold", "H",
    "test-only",
}  # fmt: skip
TIME = re.compile(
    r"(?:(?P<days>\d+)-(?P<dh>\d+)(?::(?P<dm>\d+)(?::(?P<ds>\d+))?)?|(?:(?P<h>\d+):)?(?P<m>\d+):(?P<s>\d+)|(?P<only>\d+))"
)


class ClusterError(UserError):
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
    """Seconds before the time limit at which a run is asked to stop; one batch and 60 seconds must fit in."""
    stage: str = ""
    """Folder on the node's own disk to which the prepared volumes are copied, once per node; may hold $USER and the like."""
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
        """The further options of sbatch, one per line of its script.

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
                    raise ClusterError(
                        f"--sbatch {self.sbatch!r} does not start with an option; write for example --sbatch '--qos=long'"
                    )
                lines[-1] += f" {quoted(word)}"
                continue
            taken = name in OWN_OPTIONS or (
                word.startswith("--") and any(reserved.startswith(name) for reserved in OWN_OPTIONS if len(reserved) > 1)
            )
            if taken or (not word.startswith("--") and word[1:2] in OWN_OPTIONS):
                raise ClusterError(f"--sbatch: {word.partition('=')[0]} is set by the array itself; leave it out")
            option, equals, value = word.partition("=")
            lines.append(f"{option}{equals}{quoted(value)}")
        return lines

    def shared(self) -> list[str]:
        """Options of the array and of the comparison after it."""
        named = (("partition", self.partition), ("account", self.account))
        return [f"--{name}={value}" for name, value in named if value] + self.extra()


def seconds_of(time: str) -> int:
    """Seconds of a time limit as Slurm writes it; ``90`` is minutes, ``1-12`` a day and a half."""
    match = TIME.fullmatch(time)
    if match is None:
        raise ClusterError(f"{time!r} is not a time limit; write for example 4:00:00")
    part = {name: int(text or 0) for name, text in match.groupdict().items()}
    hours, minutes = 24 * part["days"] + part["dh"] + part["h"], part["dm"] + part["m"] + part["only"]
    return 3600 * hours + 60 * minutes + part["ds"] + part["s"]


def quoted(text: str) -> str:
    """A value for an ``#SBATCH`` line.

    Raises:
        ClusterError: if it holds a quote, a backslash or a line break, which sbatch would misread.
    """
    if re.search(r"[\"'\\\n\r]", text):
        raise ClusterError(
            f"{text!r} holds a quote, a backslash or a line break, which Slurm's script cannot carry; use another path or value"
        )
    return text if re.fullmatch(r"[\w./:=,@%+&|*()\[\]!-]*", text) else f'"{text}"'
