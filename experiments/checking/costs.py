"""What a study will cost on this machine: time, memory and disk, from runs that are complete or from a short measurement.

Time is that of all runs, one after another, to the last epoch; early stopping ends sooner and several workers share it. Memory
is that of one run. What is measured and what is scaled from it is said beside each number.
"""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from datamodules.batches.transform_pool import TransformPool
from datamodules.batches.transform_task import TransformTask
from datamodules.files.listing import list_folder
from datamodules.store.prepared import PreparedCohort
from experiments.study.run_folder import RunFolder
from experiments.study.runs import Run
from experiments.study.settings import Settings
from regions.grid import Box

if TYPE_CHECKING:
    from torch import nn

EVALUATION = 1 / 3
"""A forward pass costs about a third of a training step, which goes forward and back with two gradients a layer."""


@dataclass(frozen=True)
class Work:
    """What is to be trained: voxels of each input's box, scans of a fold, and how long."""

    voxels: Mapping[str, int]
    train_scans: float
    tuning_scans: float
    epochs: int
    batch: int
    runs: Sequence[Run]


@dataclass(frozen=True)
class Step:
    """One training step: seconds, and bytes kept for the way back, both for one voxel of one scan; parameters."""

    seconds: float
    kept_bytes: float
    parameters: int
    of: str


@dataclass(frozen=True)
class Costs:
    """Cost of a study, each number with where it comes from. Seconds, and megabytes (10^6 bytes)."""

    seconds: float
    seconds_by_input: Mapping[str, float]
    memory_mb: float
    disk_mb: float
    volumes_mb: float
    free_mb: float
    source: str


def measured_step(
    network: nn.Module,
    name: str,
    shape: tuple[int, int, int],
    batch: int = 2,
    bf16: bool = False,
    repeats: int = 2,
    channels: int = 2,
) -> Step:
    """Train a network on noise in an input's box, on the CPU, and take the fastest of a few steps.

    Args:
        network: Any network that takes (batch, channels, I, J, K); its weights are left as they are.
        name: The input, for the text.
        shape: The box, in voxels.
        batch: Scans of a step.
        bf16: Compute in bfloat16 where training does.
        repeats: Steps after the first.
        channels: Images of a scan.
    """
    import torch

    noise = torch.randn((batch, channels, *shape), generator=torch.Generator().manual_seed(0))
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    seconds = []
    training = network.training
    state = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    for _ in range(repeats + 1):
        began = time.perf_counter()
        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16),
        ):
            loss = network(noise).float().square().mean()
        loss.backward()
        seconds.append(time.perf_counter() - began)
        network.zero_grad(set_to_none=True)
        bytes_kept = sum(kept.values())
        kept.clear()
    network.load_state_dict(state)
    network.train(training)
    each = batch * shape[0] * shape[1] * shape[2]
    count = sum(parameter.numel() for parameter in network.parameters())
    return Step(min(seconds[1:]) / each, bytes_kept / each, count, name)


def estimate(work: Work, step: Step, volumes_mb: float, study: Path) -> Costs:
    """Costs from a measured step: each input's epochs are that step times its voxels and scans."""
    each = work.train_scans + EVALUATION * work.tuning_scans
    epoch = {name: step.seconds * voxels * each for name, voxels in work.voxels.items()}
    weights = 4e-6 * step.parameters
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    memory = step.kept_bytes * max(work.voxels.values()) * work.batch / 1e6 + 4 * weights + resident
    disk = len(work.runs) * (4 * weights + 0.5)
    source = f"from {step.of}'s training step, measured here on the CPU; other inputs in proportion to their voxels"
    return _costs(work, epoch, memory, disk, volumes_mb, study, source)


def from_runs(work: Work, volumes_mb: float, study: Path) -> Costs | None:
    """Costs from the study's complete runs, None where there are none; inputs without a run in proportion to their voxels."""
    facts = {run: RunFolder(run.folder(study)).facts() for run in work.runs}
    done = {
        run: facts_of_run
        for run, facts_of_run in facts.items()
        if facts_of_run.get("state") == "complete" and facts_of_run.get("seconds", {}).get("epoch")
    }
    if not done:
        return None
    epochs_of = {
        name: median(facts_of_run["seconds"]["epoch"] for run, facts_of_run in done.items() if run.input == name)
        for name in {run.input for run in done}
    }
    rate = median(seconds / work.voxels[name] for name, seconds in epochs_of.items())
    epoch = {name: epochs_of.get(name, rate * voxels) for name, voxels in work.voxels.items()}
    memory = max(float(facts_of_run.get("peak_memory_mb") or 0) for facts_of_run in done.values())
    sizes = [sum(f.stat().st_size for f in list_folder(run.folder(study), "**/*") if f.is_file()) for run in done]
    devices = ", ".join(sorted({str(facts_of_run.get("device", "unknown device")) for facts_of_run in done.values()}))
    source = f"from {len(done)} complete run{'s' if len(done) > 1 else ''} of this study ({devices})"
    return _costs(work, epoch, memory, len(work.runs) * median(sizes) / 1e6, volumes_mb, study, source)


def _costs(
    work: Work, epoch: Mapping[str, float], memory: float, disk: float, volumes: float, study: Path, source: str
) -> Costs:
    by_input = {name: seconds * work.epochs * sum(run.input == name for run in work.runs) for name, seconds in epoch.items()}
    existing = next(folder for folder in (study.resolve(), *study.resolve().parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free / 1e6
    return Costs(sum(by_input.values()), by_input, memory, disk, volumes, free, source)


def span(seconds: float) -> str:
    """A time in words: 40 s, 12 min, 5.2 h or 3.1 days."""
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}" if unit != "h" else f"{seconds / size:.1f} h"
    return f"{seconds / 86400:.1f} days"


def size(megabytes: float) -> str:
    """Megabytes in words: 12 MB or 3.4 GB."""
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def facts_of(costs: Costs) -> dict[str, Any]:
    """The costs as plain values."""
    return {
        "seconds": costs.seconds, "seconds_by_input": dict(costs.seconds_by_input), "memory_mb": costs.memory_mb,
        "disk_mb": costs.disk_mb, "volumes_mb": costs.volumes_mb, "free_mb": costs.free_mb, "source": costs.source,
    }  # fmt: skip


def transform_seconds(settings: Settings, prepared: PreparedCohort) -> float | None:
    """Seconds that ``data.transforms`` take for the first scan in one process; None where there are none."""
    transforms = settings.instantiated().data.transforms
    if not transforms:
        return None
    whole = Box((0, 0, 0), prepared.grid.shape)
    pool = TransformPool(TransformTask(prepared, tuple(transforms), 0, whole, with_labels=False))
    pool([0], 0)  # starts the process
    began = time.perf_counter()
    pool([0], 1)
    return time.perf_counter() - began
