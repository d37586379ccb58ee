"""Cells of the learning benchmark as one table: means over cohorts, and what the default recipe gains on each contender."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import norm, t

Key = tuple[str, int, int, str, str, int]
"""Preset, cohort, training patients, input, contender, seed."""


def summary(auc: Mapping[Key, float]) -> list[dict[str, Any]]:
    """One row for each preset, size, input and contender; seeds are averaged within a cohort first.

    Args:
        auc: Cell -> AUC.
    """
    by_cohort: dict[tuple[str, int, str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (preset, cohort, size, name, contender, _), value in auc.items():
        by_cohort[preset, size, name, contender][cohort].append(value)
    means = {group: {cohort: float(np.mean(v)) for cohort, v in cohorts.items()} for group, cohorts in by_cohort.items()}
    rows = []
    for (preset, size, name, contender), cohorts in means.items():
        ours = means.get((preset, size, name, "default"), {})
        shared = sorted(set(ours) & set(cohorts)) if contender != "default" else []
        mean, low, high = interval(list(cohorts.values()))
        gain = interval([ours[cohort] - cohorts[cohort] for cohort in shared])
        rows.append(
            {
                "preset": preset, "patients": size, "input": name, "contender": contender, "cohorts": len(cohorts),
                "AUC": mean, "low": low, "high": high,
                "default_minus": gain[0], "from": gain[1], "to": gain[2],
            }
        )  # fmt: skip
    return rows


def rejections(auc: Mapping[Key, float], classes: Mapping[int, tuple[int, int]]) -> list[dict[str, Any]]:
    """How often an AUC on cohorts without any signal differs from 0.5 at 5 % (Mann and Whitney 1947, normal approximation).

    Args:
        auc: Cell -> AUC; cells of the preset ``null`` are counted.
        classes: Cohort -> negative and positive scans of its test part.

    Returns:
        One row for each contender and size: ``cells``, ``rejected``, and the mean AUC.
    """
    groups: dict[tuple[int, str], list[tuple[float, bool]]] = defaultdict(list)
    for (preset, cohort, size, _, contender, _), value in auc.items():
        if preset == "null":
            m, n = classes[cohort]
            z = (value - 0.5) / np.sqrt((m + n + 1) / (12 * m * n))
            groups[size, contender].append((value, abs(z) > norm.ppf(0.975)))
    return [
        {
            "patients": size, "contender": contender, "cells": len(found), "rejected": sum(out for _, out in found),
            "AUC": float(np.mean([value for value, _ in found])),
        }
        for (size, contender), found in groups.items()
    ]  # fmt: skip


def threshold_loss(cells: Mapping[Key, tuple[float, float]]) -> list[dict[str, Any]]:
    """What the chosen thresholds lose: the balanced accuracy that the AUC allows at the best threshold, minus that reached.

    Of normal scores with equal spreads that lie d apart, the AUC is Phi(d / sqrt 2) and the highest balanced accuracy
    Phi(d / 2) (Green and Swets 1966).

    Args:
        cells: Cell -> AUC and balanced accuracy; those of the preset ``null`` are left out.

    Returns:
        One row for each size and contender; cells are averaged within a cohort first, the interval is over cohorts.
    """
    groups: dict[tuple[int, str], dict[int, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for (preset, cohort, size, _, contender, _), (auc, reached) in cells.items():
        if preset != "null":
            groups[size, contender][cohort].append((norm.cdf(norm.ppf(auc) / np.sqrt(2)), reached))
    rows = []
    for (size, contender), cohorts in groups.items():
        best, reached = np.array([np.mean(pairs, axis=0) for pairs in cohorts.values()]).T
        lost, low, high = interval((best - reached).tolist())
        rows.append(
            {
                "patients": size, "contender": contender, "cohorts": len(cohorts),
                "cells": sum(map(len, cohorts.values())), "balanced_accuracy": float(reached.mean()),
                "best": float(best.mean()), "lost": lost, "from": low, "to": high,
            }
        )  # fmt: skip
    return rows


def interval(values: list[float]) -> tuple[float | None, float | None, float | None]:
    """Mean and its 95 % t interval (Student 1908); no interval from one value, nothing from none."""
    if not values:
        return None, None, None
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, None, None
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half
