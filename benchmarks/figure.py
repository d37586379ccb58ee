"""Draw docs/benchmarks.png from the kept results, and print the README's table of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.epochs import INPUTS, OURS
from benchmarks.hardware import sentence
from benchmarks.table import read
from experiments.rendering import palette

PICTURE = Path(__file__).parents[1] / "docs" / "benchmarks.png"
NAMES = {
    "torchio": "Lightning + TorchIO, from disk",
    "torchio-fast-step": "TorchIO with regionwise's step",
    "monai-affine": "MONAI CacheDataset, shift by resampling",
    "monai-persistent": "MONAI PersistentDataset, shift by cropping",
    "monai-cache": "MONAI CacheDataset, shift by cropping",
    "monai-cache-fast-step": "MONAI CacheDataset with regionwise's step",
    OURS: "regionwise",
}
LOOKS = {
    "torchio": (palette.WINE, "s"),
    "torchio-fast-step": (palette.BROWN, "P"),
    "monai-affine": (palette.SKY, "^"),
    "monai-persistent": (palette.GRAY, "v"),
    "monai-cache": (palette.INDIGO, "D"),
    "monai-cache-fast-step": (palette.FOREST, "X"),
    OURS: (palette.ACCENT, "o"),
}
"""Colour and marker of each contender; colours that no input has, as the inputs' names on the axis are in theirs."""
Rows = Sequence[dict[str, str]]


def main(arguments: Sequence[str]) -> int:
    """Write the picture and print the table."""
    rows, facts = read("epochs")
    draw(rows, facts, PICTURE)
    print(f"{PICTURE.relative_to(Path.cwd()) if PICTURE.is_relative_to(Path.cwd()) else PICTURE}\n")
    print(markdown(rows))
    print(f"\n{facts['title']}. {sentence(facts['hardware'])}")
    return 0


def draw(rows: Rows, facts: dict[str, Any], path: Path) -> None:
    """Two panels: seconds per scan on a logarithmic axis, and what share of the epoch each contender waits for its batches."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    inputs = [name for name in INPUTS if any(row["input"] == name for row in rows)]
    contenders = [name for name in NAMES if any(row["contender"] == name for row in rows)]
    style: dict[Any, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "font.family": "DejaVu Sans"}
    with mpl.rc_context(style):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True, width_ratios=(1.45, 1), layout="constrained")
        for index, contender in enumerate(contenders):
            row_of = {row["input"]: row for row in rows if row["contender"] == contender}
            at = [row + 0.12 * (index - (len(contenders) - 1) / 2) for row in range(len(inputs))]
            middle, low, high, held = (
                [float(row_of[name][column]) for name in inputs] for column in ("seconds_a_scan", "low", "high", "waiting")
            )
            held = [share + float(row_of[name]["preparing"]) for share, name in zip(held, inputs, strict=True)]
            look = {"color": LOOKS[contender][0], "marker": LOOKS[contender][1], "linestyle": "none", "markersize": 5.5}
            spread = [[m - a for m, a in zip(middle, low, strict=True)], [b - m for m, b in zip(middle, high, strict=True)]]
            left.errorbar(middle, at, xerr=spread, elinewidth=1.1, capsize=2, label=NAMES[contender], **look)
            right.plot([100 * share for share in held], at, **look)
        left.set_xscale("log")
        left.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        left.set_xlabel("seconds per scan in a training epoch\n(logarithmic; bars: lowest and highest repetition)")
        left.set_yticks(range(len(inputs)), [name.replace("_", " ") for name in inputs])
        for label, name in zip(left.get_yticklabels(), inputs, strict=True):
            label.set_color(palette.color_of(name))
        left.invert_yaxis()
        right.set_xlabel("share of the epoch that passes before the step (%):\nloading, augmentation, region")
        right.set_xlim(-2, 100)
        for axis in (left, right):
            axis.grid(axis="x", color="0.9", linewidth=0.7)
            axis.set_axisbelow(True)
            for row in range(1, len(inputs)):
                axis.axhline(row - 0.5, color="0.85", linewidth=0.6)
            axis.tick_params(axis="y", length=0)
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False, fontsize=8.5)
        figure.savefig(path, dpi=200)
        plt.close(figure)


def markdown(rows: Rows) -> str:
    """The README's table: seconds per scan of regionwise, and how many times longer the others take."""
    contenders = [name for name in NAMES if name != OURS and any(row["contender"] == name for row in rows)]
    head = ["input", "regionwise, s per scan", *(NAMES[name] for name in contenders)]
    lines = [" | ".join(head), "|".join(["---", *["--:"] * (len(head) - 1)])]
    for name in INPUTS:
        row_of = {row["contender"]: row for row in rows if row["input"] == name}
        if OURS in row_of:
            ratios = (row_of[peer] for peer in contenders)
            cells = [f"{times(r['ratio'])}x{_range(r)}" for r in ratios]
            lines.append(" | ".join([f"`{name}`", f"{float(row_of[OURS]['seconds_a_scan']):.3f}", *cells]))
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)


def _range(row: dict[str, str]) -> str:
    """Lowest and highest repetition in brackets; nothing where there was one."""
    low, high = row["ratio_low"], row["ratio_high"]
    return "" if low == high else f" ({times(low)} to {times(high)})"


def times(ratio: str) -> str:
    """A ratio with two digits, or whole where it has more."""
    value = float(ratio)
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
