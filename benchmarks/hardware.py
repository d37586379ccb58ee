"""What a measurement ran on: processor, memory, accelerator, versions, and how busy the machine was before."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from typing import Any

import torch

from experiments.runtime.provenance import installed_version, processor

PACKAGES = ("regionwise", "torch", "pytorch-lightning", "torchmetrics", "numpy", "torchio", "monai", "nibabel")


def seen() -> dict[str, Any]:
    """Hardware, versions and load; a package that is not installed is None."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: installed_version(name) for name in PACKAGES},
        "commit": _commit(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def sentence(facts: dict[str, Any]) -> str:
    """One line for a table's foot."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items() if number)
    gpu = f", {facts['gpu']}" if facts["gpu"] else ""
    return (
        f"{facts['processor']} ({facts['instructions']}), {facts['cores']} cores, {facts['memory_gb']:g} GB{gpu}; "
        f"Python {facts['python']}, {versions}; load before the run {facts['load_before']:g}; {facts['date']}"
    )


def _commit() -> str | None:
    try:
        done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
