"""The chapters about the trainings: learning curves, and the run card with time, memory, energy and versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.rendering.page import definitions, note, paragraph, table
from experiments.reporting.chapter import Chapter, Sheet, joined, keyed, number, plural
from experiments.reporting.curves import draw_learning
from experiments.reporting.look import Chart
from experiments.reporting.sources import RunRecord, Sources

WATTS = {"cuda": 400.0, "cpu": 100.0}
"""Assumed power of one run in watts, machine included, by kind of device: an accelerator near its limit, a busy processor."""


def learning(sources: Sources) -> Chapter:
    """Loss over epochs of every run."""
    known = [one for one in sources.records if one.history.get("tuning/loss")]
    if not known:
        return Chapter("learning", "Learning curves", [paragraph("The runs left no history.tsv.")])
    kept = {name: [int(one.facts["best_epoch"]) for one in known if one.run.input == name] for name in sources.inputs}
    told = "; ".join(f"{name}: epochs {min(own)} to {max(own)} kept" for name, own in kept.items() if own)
    chart = Chart(
        "learning",
        f"Training and tuning loss over epochs for each input, one line a run. {told}.",
        "Loss over epochs, one line a run. Gray: training part; colour: tuning part; dot: the epoch that was kept, the one "
        "with "
        "the lowest tuning loss. A dot at the right rim means that training was cut short by its limit.",
        lambda canvas: draw_learning(canvas, known, sources.inputs),
    )
    last = sum(int(one.facts["best_epoch"]) == int(one.facts["epochs"]) - 1 for one in known)
    blocks: list[str | Chart] = [chart]
    if last:
        blocks.append(
            paragraph(f"{last} of {plural(len(known), 'run')} kept the last epoch; more epochs might lower the loss.")
        )
    columns = ["input", "fold", "seed", "epoch", "quantity", "value"]
    rows = [
        [one.run.input, one.run.fold, one.run.seed, epoch, quantity, value]
        for one in known
        for quantity in ("train/loss", "tuning/loss", "tuning/auroc")
        for epoch, value in one.history.get(quantity, ())
    ]
    return Chapter("learning", "Learning curves", blocks, [Sheet("learning", columns, rows)])


def run_card(sources: Sources) -> Chapter:
    """Time, memory, energy and versions of all runs."""
    records = sources.records
    hours = {one.run.name: float(one.facts["seconds"]["training"]) / 3600 for one in records}
    devices = sorted({str(one.facts["device"]) for one in records})
    energy = sum(hours[one.run.name] * WATTS.get(str(one.facts["device"]), WATTS["cpu"]) for one in records) / 1000
    facts = [
        ("runs", plural(len(records), "run")),
        ("device", joined([_device(kind, records) for kind in devices])),
        ("precision", joined(sorted({str(one.facts.get("precision") or "not recorded") for one in records}))),
        ("training time", f"{sum(hours.values()):.3g} h of one device, all runs together"),
        ("peak memory", f"{max(float(one.facts['peak_memory_mb']) for one in records) / 1000:.2g} GB a run"),
        ("energy, estimated", f"{energy:.2g} kWh"),
        ("trained", _dates(records)),
        ("commit", joined(sorted({str(one.facts.get("git_commit") or "unknown")[:10] for one in records}))),
        ("interrupted and resumed", plural(sum(int(one.facts.get("attempts", 1)) > 1 for one in records), "run")),
    ]
    watts = joined([f"{WATTS.get(kind, WATTS['cpu']):.0f} W on {kind}" for kind in devices])
    rows = [_input_row(name, [one for one in records if one.run.input == name], sources) for name in sources.inputs]
    columns = ["input", "network parameters", "box (voxels)", "epochs", "seconds an epoch", "scans a second", "memory (GB)"]
    blocks: list[str | Chart] = [
        definitions(facts),
        note(f"The energy is no measurement: training time multiplied by an assumed {watts}. Preparation is not included."),
        table(columns, rows, caption="By input; ranges over runs"),
        table(["package", "version"], _versions(records), caption="Versions"),
    ]
    return Chapter("run-card", "Run card", blocks, [_sheet(records)])


def _device(kind: str, records: Sequence[RunRecord]) -> str:
    names = sorted({str(one.facts["device_name"]) for one in records if one.facts.get("device_name")})
    return f"{kind} ({joined(names)})" if names else kind


def _dates(records: Sequence[RunRecord]) -> str:
    days = sorted({str(one.facts[key])[:10] for one in records for key in ("started", "finished")})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _range(values: Sequence[float], digits: int) -> str:
    low, high = (number(end, digits) for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _input_row(name: str, own: Sequence[RunRecord], sources: Sources) -> list[Any]:
    boxes = {tuple(b - a for a, b in zip(one.facts["box"]["start"], one.facts["box"]["stop"], strict=True)) for one in own}
    return [
        keyed(name, sources.inputs),
        f"{int(own[0].facts['parameters']):,}",
        joined(sorted(" x ".join(map(str, box)) for box in boxes)),
        _range([float(one.facts["epochs"]) for one in own], 0),
        number(float(np.median([one.facts["seconds"]["epoch"] for one in own]))),
        number(float(np.median([one.facts["scans_per_second"] for one in own])), 1),
        _range([float(one.facts["peak_memory_mb"]) / 1000 for one in own], 2),
    ]


def _versions(records: Sequence[RunRecord]) -> list[list[str]]:
    found: dict[str, set[str]] = {}
    for one in records:
        for package, version in one.facts.get("versions", {}).items():
            found.setdefault(package, set()).add(str(version or "not installed"))
    return [[package, joined(sorted(versions))] for package, versions in found.items()]


def _sheet(records: Sequence[RunRecord]) -> Sheet:
    columns = ["input", "fold", "seed", "threshold", "best_epoch", "epochs", "parameters", "training_seconds"]
    columns += ["scans_per_second", "peak_memory_mb", "device", "precision", "started", "finished", "git_commit", "config_hash"]
    return Sheet("runs", columns, [_flat(one.run.input, one.run.fold, one.run.seed, one.facts) for one in records])


def _flat(name: str, fold: int, seed: int, facts: Mapping[str, Any]) -> list[Any]:
    first = [facts[key] for key in ("threshold", "best_epoch", "epochs", "parameters")]
    middle = [facts["seconds"]["training"], facts["scans_per_second"], facts["peak_memory_mb"]]
    last = [facts.get(key) for key in ("device", "precision", "started", "finished", "git_commit")]
    return [name, fold, seed, *first, *middle, *last, facts["fingerprint"]["config"]]
