"""What a run on 382 scans of 1 mm holds in memory, the page cache apart, and what eight of them hold together.

Linux only: numbers come from /proc. ``own`` memory is what the process alone holds (RssAnon), ``shared`` what it holds in
shared memory (RssShmem); pages of mapped files belong to the page cache and count for neither. Eight processes read their whole
training part once; PSS counts a page that n processes map as 1/n for each, so the sum says what the node really holds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.epochs import INPUTS
from benchmarks.made import SCANS
from benchmarks.table import BenchError, publish

UNIQUE = 16
TENANTS = 8


def main(arguments: Sequence[str]) -> int:
    """Command line of ``memory``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", default=",".join(INPUTS))
    parser.add_argument("--shared", default="global,brainstem", help="inputs of which eight processes are held side by side")
    parser.add_argument("--scans", type=int, default=SCANS)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--spacing", type=float, default=1.0)
    parser.add_argument("--quick", action="store_true", help="brainstem only, two processes; nothing is kept")
    options = parser.parse_args(arguments)
    if not Path("/proc/self/smaps_rollup").is_file():
        raise BenchError("memory is measured on Linux only, /proc/self/smaps_rollup does not exist here")
    tenants = TENANTS
    if options.quick:
        options.inputs = options.shared = "brainstem"
        tenants = 2
    save = not options.quick and options.spacing == 1
    at = f"{options.scans} scans at {options.spacing:g} mm"
    rows = [{"input": name, **run(name, options)} for name in options.inputs.split(",")]
    notes = ["MB; own: held by the run alone at its peak; after reading: when its first batch is there"]
    publish("memory", f"Peak memory of a run, {at}, batch {options.batch}", rows, notes, save=save, options=vars(options))
    rows = [{"input": name, **together(name, options, tenants)} for name in options.shared.split(",")]
    notes = [
        "MB, grown by opening and reading the training part; data: size of one copy of what is read",
        f"own: of one process; all: PSS of all {tenants} together, mapped files included",
    ]
    publish("sharing", f"{tenants} processes that read the same part, {at}", rows, notes, save=save, options=vars(options))
    return 0


def run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of a short run of an input, in a process of its own."""
    tenant = Tenant("run", name, options)
    try:
        return tenant.line()
    finally:
        tenant.close()


def together(name: str, options: argparse.Namespace, tenants: int) -> dict[str, Any]:
    """Memory that several processes hold when all have read the same part."""
    processes = [Tenant("read", name, options) for _ in range(tenants)]
    try:
        data = [process.line()["data_mb"] for process in processes]
        held = [process.ask() for process in processes]
    finally:
        for process in processes:
            process.close()
    own_mb = max(usage["own_mb"] for usage in held)
    return {"processes": tenants, "data_mb": data[0], "own_mb": own_mb, "all_mb": sum(usage["pss_mb"] for usage in held)}


class Tenant:
    """A process of ``benchmarks.tenant``."""

    def __init__(self, kind: str, name: str, options: argparse.Namespace) -> None:
        command = [
            sys.executable, "-m", "benchmarks", "tenant", kind, name, "--scans", str(options.scans),
            "--batch", str(options.batch), "--spacing", str(options.spacing), "--unique", str(UNIQUE),
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self) -> dict[str, Any]:
        """The next answer.

        Raises:
            BenchError: if the process has ended.
        """
        text = self.process.stdout.readline() if self.process.stdout else ""
        if not text:
            raise BenchError(f"a process ended with status {self.process.wait()} before it answered, see above")
        content: dict[str, Any] = json.loads(text)
        return content

    def ask(self) -> dict[str, Any]:
        """Let the process measure itself now."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.line()

    def close(self) -> None:
        """End the process."""
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait()
