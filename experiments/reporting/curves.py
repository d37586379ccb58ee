"""Charts of curves in small multiples, one panel an input: ROC, calibration, decision curve, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments.rendering.palette import GRAY, SOFT, color_of, marker_of
from experiments.reporting.look import Canvas, quiet_grid
from experiments.reporting.roc import RocBand
from experiments.reporting.sources import RunRecord

Content = Mapping[str, Any]
Corners = Mapping[str, str]


def draw_roc(
    canvas: Canvas,
    bands: Mapping[str, RocBand],
    operating: Mapping[str, tuple[float | None, float | None]],
    corners: Corners,
) -> None:
    """ROC curves with bands, and the point at which the models decide.

    Args:
        canvas: Where.
        bands: Input -> its curve and band.
        operating: Input -> sensitivity and specificity at the folds' thresholds.
        corners: Input -> text for the corner.
    """
    names = list(bands)
    for axes, name in zip(canvas.panels(len(names)), names, strict=True):
        color, band = color_of(name, names), bands[name]
        _square(axes, canvas.title(name))
        axes.plot([0, 1], [0, 1], color=GRAY, linewidth=0.8, linestyle=(0, (3, 3)))
        axes.fill_between(band.false_positive_rate, band.low, band.high, color=color, alpha=0.16, linewidth=0)
        axes.plot(band.false_positive_rate, band.sensitivity, color=color)
        sensitivity, specificity = operating[name]
        if sensitivity is not None and specificity is not None:
            axes.plot([1 - specificity], [sensitivity], marker=marker_of(name, names), color=color, markersize=6)
        axes.text(0.97, 0.05, corners[name], ha="right", fontsize=7.5)
    canvas.rim("1 - specificity", "sensitivity")


def _square(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    quiet_grid(axes, "both")


def draw_reliability(canvas: Canvas, parts: Mapping[str, Content], corners: Corners) -> None:
    """Observed share against probability: bins of nearly equal size, and smooth curves after and before the temperature.

    Args:
        canvas: Where.
        parts: Input -> its part of ``details.calibration`` of comparison.json.
        corners: Input -> text for the corner.
    """
    names = list(parts)
    for axes, name in zip(canvas.panels(len(names)), names, strict=True):
        color, curves = color_of(name, names), parts[name]
        _square(axes, canvas.title(name))
        axes.plot([0, 1], [0, 1], color=GRAY, linewidth=0.8, linestyle=(0, (3, 3)))
        for part, width, style in (("before", 0.9, (0, (2, 2))), ("after", 1.4, "solid")):
            smooth = curves[part]["smooth"]
            if smooth:
                axes.plot(smooth["p"], smooth["observed"], color=color, linewidth=width, linestyle=style)
        bins = curves["after"]["reliability"]
        sizes = [9 + 0.9 * min(bin_["scans"], 60) for bin_ in bins]
        axes.scatter(
            [bin_["mean_p"] for bin_ in bins],
            [bin_["observed"] for bin_ in bins],
            s=sizes,
            color=color,
            alpha=0.5,
            linewidths=0,
        )
        axes.text(0.97, 0.94, corners[name], ha="right", va="top", fontsize=7)
    canvas.rim("probability given by the model", "observed share")


def draw_decision(canvas: Canvas, utility: Content, names: Sequence[str], others: Sequence[str]) -> None:
    """Net benefit of acting on the model, on every scan, and on other predictors.

    Args:
        canvas: Where.
        utility: ``details.utility`` of comparison.json.
        names: Inputs, one panel each.
        others: Up to two baselines, drawn in every panel.
    """
    x, curves, treat_all = utility["thresholds"], utility["inputs"], utility["treat_all"]
    top = max([0.01, *(max(curves[name]) for name in names), max(treat_all)])
    last = max([t for name in names for t, value in zip(x, curves[name], strict=True) if value > 0.02 * top] + [0.5])
    styles = [(0, (1, 1.5)), (0, (4, 1.5, 1, 1.5))]
    for axes, name in zip(canvas.panels(len(names), 0.8), names, strict=True):
        axes.set_title(canvas.title(name))
        axes.axhline(0, color=SOFT, linewidth=0.9)
        axes.plot(x, treat_all, color=GRAY, linewidth=1, linestyle=(0, (3, 3)))
        for other, style in zip(others, styles, strict=False):
            axes.plot(x, curves[other], color=SOFT, linewidth=1, linestyle=style)
        axes.plot(x, curves[name], color=color_of(name, names))
        axes.set_ylim(-0.3 * top, 1.1 * top)
        axes.set_xlim(0, min(1, last + 0.05))
        axes.locator_params(axis="both", nbins=4)
        quiet_grid(axes, "both")
    canvas.rim("threshold probability", "net benefit")


def draw_learning(canvas: Canvas, records: Sequence[RunRecord], names: Sequence[str]) -> None:
    """Loss over epochs: training gray, tuning in the input's colour, one line per fold, a dot at the epoch that was kept."""
    losses = [
        value for record in records for column in ("tuning/loss", "train/loss") for _, value in record.history.get(column, ())
    ]
    low, high = np.quantile(losses, [0, 0.995])
    for axes, name in zip(canvas.panels(len(names), 0.8), names, strict=True):
        axes.set_title(canvas.title(name))
        color = color_of(name, names)
        for record in records:
            if record.run.input != name:
                continue
            training, tuning = record.history.get("train/loss", ()), record.history.get("tuning/loss", ())
            axes.plot([e for e, _ in training], [v for _, v in training], color=GRAY, linewidth=0.7, alpha=0.6)
            axes.plot([e for e, _ in tuning], [v for _, v in tuning], color=color, linewidth=0.9, alpha=0.8)
            kept = dict(tuning).get(int(record.facts["best_epoch"]))
            if kept is not None:
                axes.plot([record.facts["best_epoch"]], [kept], marker="o", markersize=3.2, color=color)
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        axes.locator_params(axis="both", nbins=4)
        quiet_grid(axes, "both")
    canvas.rim("epoch", "loss")


def draw_ladder(canvas: Canvas, steps: Sequence[Content], names: Sequence[str], study_threshold: float) -> None:
    """AUC against the EDSS threshold that defines the classes.

    Args:
        canvas: Where.
        steps: ``edss`` of robustness.json.
        names: Inputs, one panel each.
        study_threshold: The study's threshold.
    """
    areas = [step["inputs"].get(name, {}).get("auc") or {} for step in steps for name in names]
    lowest = min([0.28, *(end - 0.02 for area in areas for end in (area.get("value"), area.get("low")) if end is not None)])
    for axes, name in zip(canvas.panels(len(names), 0.8), names, strict=True):
        color = color_of(name, names)
        known = [(step["threshold"], step["inputs"].get(name, {}).get("auc") or {}) for step in steps]
        known = [(x, auc) for x, auc in known if auc.get("value") is not None]
        axes.set_title(canvas.title(name))
        axes.axvline(study_threshold, color=SOFT, linewidth=0.8)
        axes.axhline(0.5, color=GRAY, linewidth=0.8, linestyle=(0, (3, 3)))
        for x, auc in known:
            if auc["low"] is not None:
                axes.plot([x, x], [auc["low"], auc["high"]], color=color, linewidth=1.4, alpha=0.5)
        axes.plot(
            [x for x, _ in known], [auc["value"] for _, auc in known], color=color, linewidth=1, marker="o", markersize=3.5
        )
        axes.set_ylim(lowest, 1.02)
        axes.set_yticks([tick for tick in (0, 0.2, 0.4, 0.6, 0.8, 1.0) if tick > lowest])
        axes.locator_params(axis="x", nbins=5)
        quiet_grid(axes, "both")
    canvas.rim("EDSS threshold", "AUC")
