"""The chapter about the most confident errors: a table under pseudonyms and, only on request, the images behind it.

A patient is named by the pseudonym that the W&B files use. Ages are given in decades. Slices are patient data even where
the brain is extracted and no face can be seen; they enter a report with ``--images`` only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from datamodules.cohort.covariates import text_of
from datamodules.cohort.images import title, titles
from datamodules.cohort.target import Target
from datamodules.files.volumes import load_header
from experiments.rendering.overlay import overlay_png
from experiments.rendering.page import Html, figure, missing, note, paragraph, table
from experiments.reporting.chapter import Chapter, Sheet, keyed, number
from experiments.reporting.sources import Sources
from experiments.tracking.privacy import load_or_make_key, pseudonym
from regions.grid import Grid
from regions.labels import to_scheme

SHOWN_TABLE, SHOWN_IMAGES = 5, 6
KINDS = {0: "called positive", 1: "missed"}


def failures(sources: Sources, images: bool = False) -> Chapter:
    """The most confident errors of every input; those of the whole brain as images on request."""
    worst = (sources.optional.get("robustness") or {}).get("worst_errors")
    title = "Failures"
    if worst is None:
        message = "The most confident errors are not listed yet."
        return Chapter("failures", title, [missing(message, sources.command("compare"))])
    key = load_or_make_key(sources.folder / "pseudonyms.key")
    rows = {(row["patient"], row["session"]): row for row in sources.cohort}
    flat = [(name, error) for name, errors in worst.items() for error in errors]
    head = ["input", "patient", "error", sources.target.name, "age", "sex", "probability", "threshold", "fold"]
    shown = [
        [keyed(name, sources.inputs), *_facts(error, rows, key, sources.target)]
        for name, errors in worst.items()
        for error in errors[:SHOWN_TABLE]
    ]
    blocks: list[str] = [
        paragraph(
            "Scans whose probability lies furthest on the wrong side of its threshold. Patients have the pseudonyms of the "
            "study's W&B files; pseudonyms.key in the study's folder turns ids into them."
        ),
        table(head, shown, caption=f"The {SHOWN_TABLE} most confident errors of each input", sortable=True),
    ]
    main = "global" if "global" in worst else next(iter(worst), "")
    if images and main:
        blocks += _gallery(main, worst[main][:SHOWN_IMAGES], rows, key, sources)
    else:
        command = f'{sources.command("report")} ARGS="--images"'
        blocks.append(
            note("Images are left out, because they are patient data. ", Html(f"<code>{command}</code>"), " puts slices in.")
        )
    sheet = Sheet("failures", head, [[name, *_facts(error, rows, key, sources.target)] for name, error in flat])
    return Chapter("failures", title, blocks, [sheet])


def _facts(
    error: Mapping[str, Any], rows: Mapping[tuple[str, str], Mapping[str, str]], key: bytes, target: Target
) -> list[Any]:
    scan = rows.get((error["patient"], error["session"]), {})
    value = error.get("value", error.get(target.column))  # under its own name where an earlier version wrote it
    return [
        pseudonym(error["patient"], key),
        KINDS[int(error["y"])],
        None if value is None else target.text_of(float(value)),
        decade(text_of(scan, "age")),
        text_of(scan, "sex") or None,
        number(error["p"]),
        number(error["threshold"]),
        error["fold"],
    ]


def decade(age: str) -> str | None:
    """An age in years as its decade; None if it is not a number."""
    try:
        start = int(float(age) // 10 * 10)
    except ValueError:
        return None
    return f"{start}\N{EN DASH}{start + 9}"


def _gallery(
    name: str,
    errors: Sequence[Mapping[str, Any]],
    rows: Mapping[tuple[str, str], Mapping[str, str]],
    key: bytes,
    sources: Sources,
) -> list[str]:
    cards, lost = [], 0
    mode = (sources.config.get("data") or {}).get("mask_mode", "template")
    for error in errors:
        row = rows.get((error["patient"], error["session"]), {})
        there = [name for name in sources.images if row.get(name)]
        if not there or not all(Path(row[name]).is_file() for name in there):
            lost += 1
            continue
        made = _picture(row, there, with_labels=mode == "subject")
        facts = _facts(error, rows, key, sources.target)
        words = f"{facts[0]}: {sources.target.name} {facts[2]}, {facts[1]}, probability {facts[5]} at threshold {facts[6]}"
        cards.append(figure(made, alt=f"{titles(sources.images)} slices with region outlines. {words}.", caption=words))
    outlines = "the regions of the template"
    if mode == "subject":
        outlines += " and, below, of the scan's own label map"
    names = [title(name) for name in sources.images]
    order = f"{names[0]} above, {' and '.join(names[1:])} below" if names[1:] else names[0]
    blocks = [
        f"<h3>Images of the most confident errors of {name}</h3>",
        note(f"{order}, with outlines of {outlines}."),
    ]
    blocks.append(f'<div class="gallery">{"".join(cards)}</div>')
    if lost:
        blocks.append(note(f"{lost} of {len(errors)} scans are not where cohort.tsv says, so they are not shown."))
    return blocks


def _picture(row: Mapping[str, str], images: Sequence[str], with_labels: bool) -> bytes:
    """Slices of a scan with region outlines, as the quality page shows them."""
    affine = _canonical(row[images[0]])[1]
    arrays = {title(name): _canonical(row[name])[0] for name in images}
    first = next(iter(arrays.values()))
    brain = _canonical(row["mask"])[0] > 0 if row.get("mask") else first != 0
    labels = to_scheme(_canonical(row["labels"])[0], row["dialect"]) if with_labels and row.get("labels") else None
    return overlay_png(arrays, brain, Grid.of(first.shape, affine), labels)


def _canonical(path: str) -> tuple[Any, Any]:
    """An image in RAS+ order, (I, J, K), and its affine."""
    image = nib.as_closest_canonical(load_header(Path(path)))
    return np.asarray(image.dataobj).reshape(image.shape[:3]), image.affine
