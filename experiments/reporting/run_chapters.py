"""The chapters about the trainings: learning curves, and the run card with time, memory, energy and versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.rendering.page import definitions, note, paragraph, table
from experiments.reporting.chapter import Chapter, Sheet, joined, keyed, number
from experiments.reporting.curves import draw_learning
from experiments.reporting.look import Chart
from experiments.reporting.sources import RunRecord, Sources
from experiments.runtime.words import plural, rounded

WATTS = {"cuda": 400.0, "cpu": 100.0}
"""Assumed power of one run in watts, machine included, by kind of device: an accelerator near its limit, a busy processor."""


def learning(sources: Sources) -> Chapter:
    """Loss over epochs of every run."""
    known = [record for record in sources.records if record.history.get("tuning/loss")]
    if not known:
        return Chapter("learning", "Learning curves", [paragraph("The runs left no history.tsv.")])
    kept = {name: [int(record.facts["best_epoch"]) for record in known if record.run.input == name] for name in sources.inputs}
    described = "; ".join(f"{name}: epochs {min(epochs)} to {max(epochs)} kept" for name, epochs in kept.items() if epochs)
    chart = Chart(
        "learning",
        f"Training and tuning loss over epochs for each input, one line per run. {described}.",
        "Loss over epochs, one line per run. Gray: training part; colour: tuning part; dot: the epoch that was kept, the one "
        "with the lowest tuning loss. A dot at the right rim means that training was cut short by its limit.",
        lambda canvas: draw_learning(canvas, known, sources.inputs),
    )
    last = sum(int(record.facts["best_epoch"]) == int(record.facts["epochs"]) - 1 for record in known)
    blocks: list[str | Chart] = [chart]
    if last:
        blocks.append(
            paragraph(f"{last} of {plural(len(known), 'run')} kept the last epoch; more epochs might lower the loss.")
        )
    columns = ["input", "fold", "seed", "epoch", "quantity", "value"]
    rows = [
        [record.run.input, record.run.fold, record.run.seed, epoch, quantity, value]
        for record in known
        for quantity in ("train/loss", "tuning/loss", "tuning/auroc", "tuning/mae")
        for epoch, value in record.history.get(quantity, ())
    ]
    return Chapter("learning", "Learning curves", blocks, [Sheet("learning", columns, rows)])


def run_card(sources: Sources) -> Chapter:
    """Time, memory, energy and versions of all runs."""
    records = sources.records
    hours = {record.run.name: float(record.facts["seconds"]["training"]) / 3600 for record in records}
    devices = sorted({str(record.facts["device"]) for record in records})
    energy = sum(hours[record.run.name] * WATTS.get(str(record.facts["device"]), WATTS["cpu"]) for record in records) / 1000
    facts = [
        ("runs", plural(len(records), "run")),
        ("device", joined([_device(kind, records) for kind in devices])),
        ("precision", joined(sorted({str(record.facts.get("precision") or "not recorded") for record in records}))),
        ("training time", f"{rounded(sum(hours.values()), 3)} h of one device, all runs together"),
        ("peak memory", f"{rounded(max(float(record.facts['peak_memory_mb']) for record in records) / 1000, 2)} GB per run"),
        ("energy, estimated", f"{rounded(energy, 2)} kWh"),
        ("trained", _dates(records)),
        ("commit", joined(sorted({str(record.facts.get("git_commit") or "unknown")[:10] for record in records}))),
        ("interrupted and resumed", plural(sum(int(record.facts.get("attempts", 1)) > 1 for record in records), "run")),
    ]
    watts = joined([f"{WATTS.get(kind, WATTS['cpu']):.0f} W on {kind}" for kind in devices])
    rows = [_input_row(name, [record for record in records if record.run.input == name], sources) for name in sources.inputs]
    columns = ["input", "network parameters", "box (voxels)", "epochs", "seconds per epoch", "scans per second", "memory (GB)"]
    blocks: list[str | Chart] = [
        definitions(facts),
        note(f"The energy is estimated, not measured: training time times an assumed {watts}, without preparation."),
        table(columns, rows, caption="By input; ranges over runs"),
        table(["package", "version"], _versions(records), caption="Versions"),
    ]
    return Chapter("run-card", "Run card", blocks, [_sheet(records)])


def _device(kind: str, records: Sequence[RunRecord]) -> str:
    of_kind = [record.facts for record in records if str(record.facts["device"]) == kind]
    names = sorted({str(facts["device_name"]) for facts in of_kind if facts.get("device_name")})
    return f"{kind} ({joined(names)})" if names else kind


def _dates(records: Sequence[RunRecord]) -> str:
    days = sorted({str(record.facts[key])[:10] for record in records for key in ("started", "finished")})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _range(values: Sequence[float], digits: int) -> str:
    low, high = (number(end, digits) for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _input_row(name: str, records: Sequence[RunRecord], sources: Sources) -> list[Any]:
    boxes = {
        tuple(b - a for a, b in zip(record.facts["box"]["start"], record.facts["box"]["stop"], strict=True))
        for record in records
    }
    return [
        keyed(name, sources.inputs),
        f"{int(records[0].facts['parameters']):,}",
        joined(sorted(" x ".join(map(str, box)) for box in boxes)),
        _range([float(record.facts["epochs"]) for record in records], 0),
        number(float(np.median([record.facts["seconds"]["epoch"] for record in records]))),
        number(float(np.median([record.facts["scans_per_second"] for record in records])), 1),
        _range([float(record.facts["peak_memory_mb"]) / 1000 for record in records], 2),
    ]


def _versions(records: Sequence[RunRecord]) -> list[list[str]]:
    versions_of: dict[str, set[str]] = {}
    for record in records:
        for package, version in record.facts.get("versions", {}).items():
            versions_of.setdefault(package, set()).add(str(version or "not installed"))
    return [[package, joined(sorted(versions))] for package, versions in versions_of.items()]


def _sheet(records: Sequence[RunRecord]) -> Sheet:
    columns = ["input", "fold", "seed", "threshold", "best_epoch", "epochs", "parameters", "training_seconds"]
    columns += ["scans_per_second", "peak_memory_mb", "device", "precision", "started", "finished", "git_commit", "config_hash"]
    return Sheet(
        "runs", columns, [_flat(record.run.input, record.run.fold, record.run.seed, record.facts) for record in records]
    )


def _flat(name: str, fold: int, seed: int, facts: Mapping[str, Any]) -> list[Any]:
    first = [facts.get("threshold"), *(facts[key] for key in ("best_epoch", "epochs", "parameters"))]
    middle = [facts["seconds"]["training"], facts["scans_per_second"], facts["peak_memory_mb"]]
    last = [facts.get(key) for key in ("device", "precision", "started", "finished", "git_commit")]
    return [name, fold, seed, *first, *middle, *last, facts["fingerprint"]["config"]]
