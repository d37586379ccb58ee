"""Wall time of a training epoch, input by input, against the peers: everyone does the same work on the same scans.

Each contender lives in a process of its own for the whole measurement (``benchmarks.child``) and waits while another one works.
They take turns input by input, in another order each repetition. Peers are tried with 0 and 2 loader workers in the first
repetition; the better one goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import IO, Any

from benchmarks.scans import TRAINING, open_bench
from benchmarks.table import BenchError, publish, spread

INPUTS = ("global", "white_matter", "gray_matter", "subcortical_gray_matter", "ventricles", "brainstem")
PEERS = ("torchio", "monai-cache", "monai-affine", "monai-persistent")
OURS = "regionwise"
WORKERS = (0, 2)
REGION_BLIND = "torchio"
"""Does the same work for every input, so its better number of workers is looked for once."""
ONCE = ("monai-persistent",)
"""Measured in the first repetition only."""
NOT_MEASURED = (
    "ClinicaDL 2.0.0 is not measured: it requires torchio <0.21 and monai ==1.5.0, which do not go with torchio 1.2",
)
NOTES = (
    "seconds a scan in training epochs, float32, on the processor; low and high are the extremes over the repetitions",
    "ratio: the contender's time over regionwise's in the same repetition; PersistentDataset: one repetition",
    "waiting, preparing: shares of the epoch until a batch was there, and from there to the step",
    *NOT_MEASURED,
)


class Child:
    """A contender in its own process."""

    def __init__(self, contender: str, spacing: float, scans: int) -> None:
        self.contender = contender
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        command = [sys.executable, "-m", "benchmarks", "child", contender, "--spacing", str(spacing), "--scans", str(scans)]
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
            raise BenchError(f"{self.contender} ended without an answer: {' | '.join(said[-3:])}")
        content: dict[str, Any] = json.loads(line)
        return content

    def ask(self, **order: Any) -> list[dict[str, float]]:
        """Give an order and return the epochs measured."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        epochs: list[dict[str, float]] = self.answer()["epochs"]
        return epochs

    def close(self) -> None:
        """End the process."""
        if self.process.stdin:
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main(arguments: Sequence[str]) -> int:
    """Command line of ``epochs``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks epochs", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", default=",".join(INPUTS))
    parser.add_argument("--contenders", default=",".join((OURS, *PEERS)))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--scans", type=int, default=TRAINING, help="scans of an epoch")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=int, default=8, help="channels of the network's first stage")
    parser.add_argument("--seconds", type=float, default=3.0, help="epochs are repeated until they take this together")
    parser.add_argument("--spacing", type=float, default=1.0, help="side of a voxel in mm")
    parser.add_argument("--quick", action="store_true", help="one repetition of global and brainstem; nothing is kept")
    options = parser.parse_args(arguments)
    if options.quick:
        options.inputs, options.repetitions, options.scans = "global,brainstem", 1, min(options.scans, 4)
    rows = measure(options)
    title = f"A training epoch of {options.scans} scans at {options.spacing:g} mm, batch {options.batch}"
    publish(
        "epochs",
        title,
        rows,
        [*NOTES, f"{options.repetitions} repetitions"],
        save=not options.quick and options.spacing == 1,
        options=vars(options),
    )
    return 0


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run all contenders in turn and return the table's rows."""
    open_bench(options.scans, options.spacing)
    inputs, contenders = options.inputs.split(","), options.contenders.split(",")
    children = {name: Child(name, options.spacing, options.scans) for name in contenders}
    took: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    workers: dict[tuple[str, str], int] = {}
    try:
        for child in children.values():
            child.answer()
        for repetition in range(options.repetitions):
            turn = contenders[repetition % len(contenders) :] + contenders[: repetition % len(contenders)]
            for name in inputs:
                for contender in (one for one in turn if repetition == 0 or one not in ONCE):
                    epoch = _best_workers(children[contender], name, workers, options)
                    took[name, contender].append(epoch)
                    print(
                        f"repetition {repetition + 1}  {name:24s} {contender:18s} {epoch['wall']:8.3f} s an epoch", flush=True
                    )
    finally:
        for child in children.values():
            child.close()
    return [_row(name, contender, took, workers, options) for name in inputs for contender in contenders]


def _best_workers(
    child: Child, name: str, workers: dict[tuple[str, str], int], options: argparse.Namespace
) -> dict[str, float]:
    """Measure an epoch with the number of workers that is known to be better, or with each and keep the better."""
    known = workers.get((child.contender, "" if child.contender == REGION_BLIND else name))
    tries = (0,) if child.contender == OURS else WORKERS if known is None else (known,)
    order = {"input": name, "batch": options.batch, "width": options.width, "seconds": options.seconds}
    found = {count: _middle(child.ask(**order, workers=count)) for count in tries}
    best = min(found, key=lambda count: found[count]["wall"])
    workers[child.contender, "" if child.contender == REGION_BLIND else name] = best
    return found[best]


def _middle(epochs: Sequence[dict[str, float]]) -> dict[str, float]:
    return {part: median(epoch[part] for epoch in epochs) for part in epochs[0]}


def _row(
    name: str,
    contender: str,
    took: dict[tuple[str, str], list[dict[str, float]]],
    workers: dict[tuple[str, str], int],
    options: argparse.Namespace,
) -> dict[str, Any]:
    own = took[name, contender]
    each = spread([epoch["wall"] / options.scans for epoch in own])
    ours = took.get((name, OURS))
    ratio = spread([a["wall"] / b["wall"] for a, b in zip(own, ours, strict=False)]) if ours else (None, None, None)
    return {
        "input": name,
        "contender": contender,
        "workers": workers[contender, "" if contender == REGION_BLIND else name],
        "seconds_a_scan": each[0], "low": each[1], "high": each[2],
        "ratio": ratio[0], "ratio_low": ratio[1], "ratio_high": ratio[2],
        "waiting": median(epoch["waiting"] / epoch["wall"] for epoch in own),
        "preparing": median(epoch["preparing"] / epoch["wall"] for epoch in own),
    }  # fmt: skip
