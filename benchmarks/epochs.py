"""Wall time of a training epoch, input by input, against the peers: everyone does the same work on the same scans.

Each contender lives in a process of its own for the whole measurement (``benchmarks.child``) and waits while another one works.
They take turns input by input, in another order each repetition. Peers are tried with 0 and 2 loader workers in the first
repetition; the better one goes on. The peers train the network as plain layers, as a script has it; regionwise trains its own
form of the same network, and in the first repetition two peers are given that too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from statistics import median
from typing import IO, Any

from benchmarks.scans import open_bench
from benchmarks.table import BenchError, publish, spread

INPUTS = ("global", "white_matter", "gray_matter", "subcortical_gray_matter", "ventricles", "brainstem")
SCANS = {"global": 8, "white_matter": 8, "gray_matter": 8, "subcortical_gray_matter": 32, "ventricles": 32, "brainstem": 64}
"""Scans of an epoch: more where they are quick, so that what an epoch costs once weighs as little as in a cohort."""
PEERS = ("torchio", "monai-cache", "monai-affine", "monai-persistent", "torchio-fast-step", "monai-cache-fast-step")
OURS = "regionwise"
WORKERS = (0, 2)
REGION_BLIND = {"torchio": 24, "torchio-fast-step": 24}
"""Do the same work for every input but for one multiplication: measured once per repetition, on this number of scans."""
ONCE = ("monai-persistent", "torchio-fast-step", "monai-cache-fast-step")
"""Measured in the first repetition only."""
NOT_MEASURED = (
    "ClinicaDL 2.0.0 is not measured: it requires torchio <0.21 and monai ==1.5.0, which do not go with torchio 1.2",
)
NOTES = (
    "seconds per scan in training epochs, float32, on the processor; low and high are the extremes over the repetitions",
    "ratio: the contender's time over regionwise's in the same repetition; PersistentDataset and -fast-step: one repetition",
    "peers train the network as plain PyTorch layers, the -fast-step ones and regionwise in regionwise's form of it",
    "scans of an epoch: "
    + ", ".join(f"{name} {scans}" for name, scans in SCANS.items())
    + "; TorchIO 24, for all inputs at once",
    "waiting, preparing: shares of the epoch until a batch was there, and from there to the step",
    *NOT_MEASURED,
)


class Child:
    """A contender in its own process."""

    def __init__(self, contender: str, spacing: float) -> None:
        self.contender = contender
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        command = [sys.executable, "-m", "benchmarks", "child", contender, "--spacing", str(spacing)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def answer(self) -> dict[str, Any]:
        """Wait for the next answer.

        Raises:
            BenchError: with the end of what the process said, if it has died.
        """
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            self.log.seek(0)
            said = self.log.read().decode(errors="replace").strip().splitlines()
            reason = " | ".join(said[-3:]) or f"status {self.process.wait()} (-9: killed, perhaps for memory)"
            raise BenchError(f"{self.contender} ended without an answer: {reason}")
        content: dict[str, Any] = json.loads(line)
        return content

    def ask(self, **order: Any) -> list[dict[str, float]]:
        """Give an order and return the epochs measured."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has died; the missing answer is reported by its reader
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        epochs: list[dict[str, float]] = self.answer()["epochs"]
        return epochs

    def close(self) -> None:
        """End the process."""
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main(arguments: Sequence[str]) -> int:
    """Command line of ``epochs``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks epochs", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", default=",".join(INPUTS))
    parser.add_argument("--contenders", default=",".join((OURS, *PEERS)))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--scans", type=int, help="scans of an epoch, the same for all inputs")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=int, default=8, help="channels of the network's first stage")
    parser.add_argument("--seconds", type=float, default=3.0, help="epochs are repeated until they take this together")
    parser.add_argument("--spacing", type=float, default=1.0, help="side of a voxel in mm")
    parser.add_argument("--quick", action="store_true", help="one repetition of global and brainstem; nothing is kept")
    options = parser.parse_args(arguments)
    if options.quick:
        options.inputs, options.repetitions, options.scans = "global,brainstem", 1, options.scans or 4
    rows = measure(options)
    title = f"A training epoch at {options.spacing:g} mm, batch {options.batch}, {options.repetitions} repetitions"
    publish(
        "epochs",
        title,
        rows,
        NOTES,
        save=not options.quick and options.spacing == 1,
        options=vars(options),
    )
    return 0


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run all contenders in turn and return the table's rows."""
    open_bench(options.batch, options.spacing)
    inputs, contenders = options.inputs.split(","), options.contenders.split(",")
    children = {name: Child(name, options.spacing) for name in contenders if name not in ONCE}
    took: dict[tuple[str, str], list[Epoch]] = defaultdict(list)
    try:
        for child in children.values():
            child.answer()
        for repetition in range(options.repetitions):
            turn = contenders[repetition % len(contenders) :] + contenders[: repetition % len(contenders)]
            for name in inputs:
                for contender in (candidate for candidate in turn if repetition == 0 or candidate not in ONCE):
                    epochs = took[name, contender]
                    if contender in REGION_BLIND and name != inputs[0]:
                        epochs.append(took[inputs[0], contender][repetition])
                        continue
                    if contender in ONCE:  # not kept, for its memory
                        with closing(Child(contender, options.spacing)) as child:
                            child.answer()
                            epochs.append(_epoch(child, name, None, options))
                    else:
                        epochs.append(_epoch(children[contender], name, epochs[0].workers if epochs else None, options))
                    print(
                        f"repetition {repetition + 1}  {name:24s} {contender:22s} {epochs[-1].wall:8.4f} s per scan", flush=True
                    )
    finally:
        for child in children.values():
            child.close()
    return [_row(name, contender, took) for name in inputs for contender in contenders]


@dataclass(frozen=True)
class Epoch:
    """An epoch, its parts in seconds per scan."""

    workers: int
    wall: float
    waiting: float
    preparing: float


def _epoch(child: Child, name: str, workers: int | None, options: argparse.Namespace) -> Epoch:
    """Measure an epoch with the number of workers that is known to be better, or with each and keep the better."""
    scans = options.scans or REGION_BLIND.get(child.contender) or SCANS[name]
    order = {"input": name, "scans": scans, "batch": options.batch, "width": options.width, "seconds": options.seconds}
    candidates = []
    for count in (0,) if child.contender == OURS else WORKERS if workers is None else (workers,):
        epochs = child.ask(**order, workers=count)
        parts = {part: median(epoch[part] for epoch in epochs) / scans for part in ("wall", "waiting", "preparing")}
        candidates.append(Epoch(count, **parts))
    return min(candidates, key=lambda epoch: epoch.wall)


def _row(name: str, contender: str, took: dict[tuple[str, str], list[Epoch]]) -> dict[str, Any]:
    epochs = took[name, contender]
    each = spread([epoch.wall for epoch in epochs])
    ours = took.get((name, OURS))
    ratio = spread([a.wall / b.wall for a, b in zip(epochs, ours, strict=False)]) if ours else (None, None, None)
    return {
        "input": name,
        "contender": contender,
        "workers": epochs[0].workers,
        "seconds_a_scan": each[0], "low": each[1], "high": each[2],
        "ratio": ratio[0], "ratio_low": ratio[1], "ratio_high": ratio[2],
        "waiting": median(epoch.waiting / epoch.wall for epoch in epochs),
        "preparing": median(epoch.preparing / epoch.wall for epoch in epochs),
    }  # fmt: skip
