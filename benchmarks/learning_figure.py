"""Draw docs/learning.png: what each reader reaches on each input, from the kept table of the learning benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.rendering import palette
from regions.catalog import REGIONS

PICTURE = Path(__file__).parents[1] / "docs" / "learning.png"
FEW = 3
"""Cohorts from which on a mean has an interval in the picture."""


def draw(rows: Sequence[Mapping[str, Any]], order: Sequence[str], preset: str = "coll_like") -> None:
    """One panel for each input and size, one line for each contender, in an order: mean AUC and its interval over cohorts."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [row for row in rows if row["preset"] == preset]
    sizes = sorted({row["patients"] for row in shown})
    inputs = [name for name in REGIONS if any(row["input"] == name for row in shown)]
    names = [name for name in reversed(order) if any(row["contender"] == name for row in shown)]
    figure, axes = plt.subplots(
        len(sizes), len(inputs), figsize=(2.3 * len(inputs) + 1.6, (0.24 * len(names) + 0.9) * len(sizes)), sharex=True,
        sharey=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    for line, size in zip(axes, sizes, strict=True):
        for panel, name in zip(line, inputs, strict=True):
            for row in (row for row in shown if row["patients"] == size and row["input"] == name):
                at, mean = names.index(row["contender"]), row["AUC"]
                colour = palette.ACCENT if row["contender"].startswith("default") else palette.GRAY
                filled = row["cohorts"] >= FEW
                if filled:
                    panel.plot([row["low"], row["high"]], [at, at], color=colour, linewidth=1.5)
                panel.plot(mean, at, "o", color=colour, markersize=4, fillstyle="full" if filled else "none")
            panel.set_title(f"{name.replace('_', ' ')}, {size}", fontsize=8)
            panel.grid(axis="x", color=palette.RULE, linewidth=0.6)
            panel.set_axisbelow(True)
            panel.tick_params(labelsize=7)
            panel.set_yticks(range(len(names)), names)
            for side in ("top", "right"):
                panel.spines[side].set_visible(False)
    few = f"open: fewer than {FEW} cohorts, not to be held against others"
    figure.supxlabel(f"AUC on 300 new patients (mean and 95 % interval over cohorts; {few})", fontsize=8)
    figure.savefig(PICTURE, dpi=150)
    plt.close(figure)
