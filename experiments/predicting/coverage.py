"""What was measured of a bundle's sets and intervals, as plain content and in words."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from experiments.bundles.bundle import Bundle
from experiments.statistics.conformal import ConformalScores, least_patients
from experiments.statistics.conformal_numbers import NumberScores

HOW = "internal test scans, each by its own fold's network, ranked among that fold's tuning patients alone"
NAMES = ("negative", "positive")


def coverage_of(bundle: Bundle) -> dict[str, Any]:
    """Coverage at every level, and how many patients stand behind it."""
    if bundle.target.is_number:
        kept = NumberScores.of(bundle.conformal)
        return {"measured_on": HOW, "patients": sum(fold.patients for fold in kept.folds),
                "levels": [asdict(item) for item in kept.coverage]}  # fmt: skip
    scores = ConformalScores.of(bundle.conformal)
    return {
        "measured_on": HOW,
        "patients": {name: scores.patients(label) for label, name in enumerate(NAMES)},
        "agreement_of_networks": dict(zip(NAMES, scores.agreement, strict=True)),
        "levels": [asdict(item) for item in scores.coverage],
    }


def coverage_words(bundle: Bundle, level: float) -> str:
    """In one or two sentences: how many internal test scans had the true label in their set."""
    if bundle.target.is_number:
        kept = NumberScores.of(bundle.conformal)
        held = next((item.covered for item in kept.coverage if abs(item.level - level) < 1e-9), None)
        return "not measured" if held is None else f"{held:.0%} of internal test scans lay in their interval"
    scores = ConformalScores.of(bundle.conformal)
    parts = []
    for label, name in enumerate(NAMES):
        measured = scores.coverage_at(level, label)
        if measured is not None:
            few = "" if measured.decidable >= 0.5 else " (most in folds too small to exclude it)"
            parts.append(f"{measured.covered:.0%} of {measured.patients} {name}{few}")
        if scores.patients(label) < least_patients(level):
            parts.append(f"{name} is never excluded: {scores.patients(label)} patients, {least_patients(level)} are needed")
    return "; ".join(parts) or "not measured"
