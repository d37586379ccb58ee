"""The chapter about where the networks looked: maps on the template, regions against permuted networks, what may be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from experiments.explaining.pictures import SHOWN, planes_of
from experiments.explaining.rules import ABOUT
from experiments.rendering.heat import Cut, ramp
from experiments.rendering.page import Html, items, missing, note, paragraph, table
from experiments.rendering.palette import INK, RULE, SOFT, color_of, marker_of
from experiments.reporting.chapter import Chapter, Sheet, keyed, number, p_value, stacked, triple, wordy
from experiments.reporting.intervals import ROW_INCHES, Bar, Row, draw_bar, fitted
from experiments.reporting.look import Canvas, Chart, label_of, quiet_grid
from experiments.reporting.sources import Sources

TITLE = "Where the networks looked"
MAY_NOT = (
    "A map says where the output would change most if intensities changed; not why, not that tissue is damaged there, and "
    "nothing of a single patient. A region beyond the band is looked at more than by networks that had nothing to find. That a "
    "region is not beyond it does not mean that it carries nothing: a signal that is spread over a large region is looked at "
    "little, voxel for voxel."
)


def explain(sources: Sources) -> Chapter:
    """For each input its verdict, its regions and, where the rules allow it, its map."""
    content = sources.optional.get("explain")
    if content is None:
        message = "Where the networks looked is not known: maps need networks with permuted labels to be held against."
        return Chapter("explain", TITLE, [missing(message, sources.command("explain"))])
    method = content["method"]
    blocks: list[str | Chart] = [
        *_outdated(content, sources),
        items([f"{label_of(row['input'])}: {row['verdict']}." for row in content["inputs"]]),
    ]
    for row in content["inputs"]:
        blocks += _input(row, sources)
    how = (
        f"SmoothGrad (Smilkov et al. 2017) of the log odds: {method['draws']} noisy copies of each internal test scan, noise "
        f"{method['sigma']:g} of its range, by the network that never saw the patient; each scan's map has mean 1. "
        f"{method['networks']} networks with permuted labels. {ABOUT}"
    )
    rows = [_sheet_row(row["input"], region) for row in content["inputs"] for region in row["regions"]]
    return Chapter("explain", TITLE, [*blocks, paragraph(MAY_NOT), note(how)], [Sheet("explain", SHEET, rows)])


def _outdated(content: Mapping[str, Any], sources: Sources) -> list[str]:
    """A warning where runs were trained again after they were explained."""
    now = {record.run.name: record.facts["files"]["predictions.tsv"] for record in sources.records}
    changed = [name for name, digest in content["predictions"].items() if now.get(name, digest) != digest]
    if not changed:
        return []
    words = f"{escape(changed[0])} was trained again since; make it again: {sources.command('explain')}."
    return [f'<p class="warning">{words}</p>']


def _input(row: Mapping[str, Any], sources: Sources) -> list[str | Chart]:
    """What is shown of one input."""
    name = row["input"]
    if row["state"] != "shown" and len(row["regions"]) < 2:
        return []
    blocks: list[str | Chart] = [f"<h3>{escape(label_of(name))}</h3>"]
    if SHOWN in row["maps"] and (sources.folder / row["maps"][SHOWN]).is_file():
        blocks.append(_map_chart(row, sources))
    regions = row["regions"]
    if len(regions) > 1:
        blocks.append(_region_chart(row, sources))
        head = ["region", "relevance", "permuted", "ratio", "p (Holm)"]
        head += ["AUC lost", "p (Holm)", "verdict"]
        blocks.append(table(head, [_cells(region, sources) for region in regions], caption=f"Regions of {label_of(name)}"))
    return [*blocks, note(_agreement(row))]


def _agreement(row: Mapping[str, Any]) -> str:
    found, counts = row["agreement"], row["networks"]
    seeds = "" if found["seeds"] is None else f", over seeds {number(found['seeds'])}"
    text = (
        f"{counts['trained']} networks; rank correlation of their maps over folds {number(found['folds'])}{seeds}, of "
        f"{counts['permuted']} networks with permuted labels {number(found['permuted'])}; of their mean map with that of "
        f"{counts['untrained']} untrained networks {number(found['with_untrained'])}. Share of the images: "
    )
    return text + ", ".join(f"{image} {100 * share:.0f} %" for image, share in row["images"].items()) + "."


def region_name(region: Mapping[str, Any]) -> str:
    """Name of a region, with what was taken out of it."""
    return f"{label_of(region['name'])}{' (rest)' if region['without'] else ''}"


def _cells(region: Mapping[str, Any], sources: Sources) -> list[Any]:
    pair = region["occlusion"] or {}
    band = {"value": region["permuted"], "low": region["band_low"], "high": region["band_high"]}
    shown = Html(f"{keyed(region['name'], sources.inputs)}{' (rest)' if region['without'] else ''}")
    numbers = [number(region["density"]), stacked(band), number(region["ratio"]), p_value(region["p_holm"])]
    change = [stacked(pair.get("difference")), p_value(pair.get("p_holm"))] if pair else [None, None]
    return [shown, *numbers, *change, wordy(escape(region["verdict"]))]


def _map_chart(row: Mapping[str, Any], sources: Sources) -> Chart:
    planes, limit = planes_of(sources.folder, row)
    name = label_of(row["input"])
    return Chart(
        f"explain_map_{row['input']}",
        f"Planes of the template brain with the map of {name}: {row['verdict']}.",
        f"{name[0].upper()}{name[1:]}: relevance over that of networks with permuted labels, mean of all internal test scans; "
        f"outlined: regions beyond the band. Left is the patients' left. As NIfTI: explain/maps.",
        partial(draw_map, planes=planes, limit=limit),
    )


def draw_map(canvas: Canvas, planes: Sequence[Cut], limit: float) -> None:
    """The planes side by side, below each other on a phone, with a colour bar."""
    across = 1 if canvas.narrow else len(planes)
    gap, bar, text = 0.06, 0.62, 0.22
    room = canvas.width - bar - gap * (across - 1)
    widths = [plane.picture.shape[1] for plane in planes]
    scale = room / (max(widths) if canvas.narrow else sum(widths))
    heights = [plane.picture.shape[0] * scale for plane in planes]
    height = sum(heights) + text * len(planes) if canvas.narrow else max(heights) + text
    canvas.figure.set_size_inches(canvas.width, height)
    left, top = 0.0, height
    for plane, width, tall in zip(planes, widths, heights, strict=True):
        top = top - text - tall if canvas.narrow else height - text - tall
        axes = canvas.figure.add_axes((left / canvas.width, top / height, width * scale / canvas.width, tall / height))
        axes.imshow(plane.picture, interpolation="nearest", aspect="auto")
        axes.set_title(plane.title, fontsize=7.5, fontweight="normal", pad=3)
        axes.set_axis_off()
        left += 0.0 if canvas.narrow else width * scale + gap
    _color_bar(canvas, limit, height)


def _color_bar(canvas: Canvas, limit: float, height: float) -> None:
    box = ((canvas.width - 0.5) / canvas.width, 0.25, 0.1 / canvas.width, 0.45)
    axes = canvas.figure.add_axes(box)
    levels = [[1 - step / 63] for step in range(64)]
    colors = ramp([step / 63 for step in range(64)]) / 255  # type: ignore[arg-type]
    axes.imshow(levels, cmap=ListedColormap(colors), aspect="auto", extent=(0, 1, 1, limit))
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.set_yticks([1, (1 + limit) / 2, limit], ["1", f"{(1 + limit) / 2:.1f}", f"{limit:.1f}"])
    axes.tick_params(length=0, labelsize=7)


def _region_chart(row: Mapping[str, Any], sources: Sources) -> Chart:
    name = label_of(row["input"])
    shown = "; ".join(f"{region_name(region)} {number(region['density'])}" for region in row["regions"])
    return Chart(
        f"explain_regions_{row['input']}",
        f"Relevance per voxel of the regions of {name}: {shown}.",
        f"Regions of {name}. Left: relevance per voxel (1: mean of the input), all networks and, small, each of them; the band "
        "is the 95 % prediction interval of networks with permuted labels. Right: AUC lost without the region, 95 % interval.",
        partial(draw_regions, regions=row["regions"], names=sources.inputs),
    )


def draw_regions(canvas: Canvas, regions: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Relevance of each region beside its permuted band, and what its absence costs."""
    labels, left = fitted([region_name(region) for region in regions], 0.42 * canvas.width)
    gap = 0.35
    height = 0.45 + ROW_INCHES * 1.15 * len(regions) + 0.1
    canvas.figure.set_size_inches(canvas.width, height)
    room = canvas.width - left - 0.15 - gap
    density, loss = (
        canvas.figure.add_axes((x / canvas.width, 0.45 / height, share * room / canvas.width, 1 - 0.55 / height))
        for x, share in ((left, 0.58), (left + 0.58 * room + gap, 0.42))
    )
    for y, region in enumerate(regions):
        color, marker = color_of(region["name"], names), marker_of(region["name"], names)
        if region["band_low"] is not None:
            density.fill_betweenx([y - 0.32, y + 0.32], region["band_low"], region["band_high"], color=RULE, linewidth=0)
        if region["permuted"] is not None:
            density.plot([region["permuted"]] * 2, [y - 0.32, y + 0.32], color=SOFT, linewidth=1)
        density.plot(region["by_network"], [y] * len(region["by_network"]), ".", color=color, alpha=0.55, markersize=3.5)
        density.plot([region["density"]], [y], marker=marker, color=color, markersize=6)
        pair = region["occlusion"] or {}
        draw_bar(loss, Bar.of(pair.get("difference")), y, Row("", (), color, marker))
    _frame(density, "relevance per voxel", labels)
    density.set_xscale("log")
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if density.get_xlim()[0] <= tick <= density.get_xlim()[1]]
    density.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    density.minorticks_off()
    density.axvline(1, color=SOFT, linewidth=0.9, zorder=1.5)
    _frame(loss, "AUC lost", ["" for _ in labels])
    loss.axvline(0, color=SOFT, linewidth=0.9, zorder=1.5)
    loss.locator_params(axis="x", nbins=3)


def _frame(axes: Axes, label: str, labels: Sequence[str]) -> None:
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), labels, color=INK)
    axes.set_xlabel(label)
    axes.spines["left"].set_visible(False)
    quiet_grid(axes)


SHEET = (
    "input", "region", "without", "voxels", "density", "permuted", "band_low", "band_high", "ratio", "p", "p_holm",
    "auc_loss", "auc_loss_low", "auc_loss_high", "auc_loss_p_holm", "verdict",
)  # fmt: skip


def _sheet_row(name: str, region: Mapping[str, Any]) -> list[Any]:
    pair = region["occlusion"] or {}
    columns = ("voxels", "density", "permuted", "band_low", "band_high", "ratio", "p", "p_holm")
    first = [name, region["name"], ", ".join(region["without"]), *(region[column] for column in columns)]
    return [*first, *triple(pair.get("difference")), pair.get("p_holm"), region["verdict"]]
