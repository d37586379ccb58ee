"""The chapter about the surest errors: a table under pseudonyms and, only when asked for, the images behind it.

A patient is named by the pseudonym that the W&B files use. Ages are given in decades. Slices are patient data even where
the brain is extracted and no face can be seen; they enter a report with ``--images`` only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

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
    """The surest errors of every input; those of the whole brain as images when asked for."""
    found = (sources.optional.get("robustness") or {}).get("worst_errors")
    title = "Failures"
    if found is None:
        told = "The surest errors are not listed yet."
        return Chapter("failures", title, [missing(told, sources.command("compare"))])
    key = load_or_make_key(sources.folder / "pseudonyms.key")
    rows = {(row["patient"], row["session"]): row for row in sources.cohort}
    flat = [(name, one) for name, errors in found.items() for one in errors]
    head = ["input", "patient", "error", "EDSS", "age", "sex", "probability", "threshold", "fold"]
    shown = [
        [keyed(name, sources.inputs), *_facts(one, rows, key)] for name, errors in found.items() for one in errors[:SHOWN_TABLE]
    ]
    blocks: list[str] = [
        paragraph(
            "Scans whose probability lies furthest on the wrong side of its threshold. Patients have the pseudonyms of the "
            "study's W&B files; pseudonyms.key in the study's folder turns ids into them."
        ),
        table(head, shown, caption=f"The {SHOWN_TABLE} surest errors of each input", sortable=True),
    ]
    main = "global" if "global" in found else next(iter(found), "")
    if images and main:
        blocks += _gallery(main, found[main][:SHOWN_IMAGES], rows, key, sources)
    else:
        command = f'{sources.command("report")} ARGS="--images"'
        blocks.append(
            note("Images are left out, because they are patient data. ", Html(f"<code>{command}</code>"), " puts slices in.")
        )
    sheet = Sheet("failures", head, [[name, *_facts(one, rows, key)] for name, one in flat])
    return Chapter("failures", title, blocks, [sheet])


def _facts(one: Mapping[str, Any], rows: Mapping[tuple[str, str], Mapping[str, str]], key: bytes) -> list[Any]:
    own = rows.get((one["patient"], one["session"]), {})
    edss = one.get("edss")
    return [
        pseudonym(one["patient"], key),
        KINDS[int(one["y"])],
        None if edss is None else f"{float(edss):g}",
        decade(own.get("age", "")),
        own.get("sex") or None,
        number(one["p"]),
        number(one["threshold"]),
        one["fold"],
    ]


def decade(age: str) -> str | None:
    """An age in years as its decade; None where it is no number."""
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
    for one in errors:
        row = rows.get((one["patient"], one["session"]), {})
        paths = {kind: Path(row[kind]) for kind in ("t1w", "flair") if row.get(kind)}
        if len(paths) < 2 or not all(path.is_file() for path in paths.values()):
            lost += 1
            continue
        made = _picture(row, own=mode == "subject")
        facts = _facts(one, rows, key)
        words = f"{facts[0]}: EDSS {facts[2]}, {facts[1]}, probability {facts[5]} at threshold {facts[6]}"
        cards.append(figure(made, alt=f"T1w and FLAIR slices with region outlines. {words}.", caption=words))
    told = "the regions of the template"
    if mode == "subject":
        told += " and, below, of the scan's own label map"
    blocks = [f"<h3>Images of the surest errors of {name}</h3>", note(f"T1w above, FLAIR below, with outlines of {told}.")]
    blocks.append(f'<div class="gallery">{"".join(cards)}</div>')
    if lost:
        blocks.append(note(f"{lost} of {len(errors)} scans are not where cohort.tsv says, so they are not shown."))
    return blocks


def _picture(row: Mapping[str, str], own: bool) -> bytes:
    """Slices of a scan with region outlines, as the quality page shows them."""
    t1w, affine = _canonical(row["t1w"])
    flair, _ = _canonical(row["flair"])
    brain = _canonical(row["mask"])[0] > 0 if row.get("mask") else t1w != 0
    labels = to_scheme(_canonical(row["labels"])[0], row["dialect"]) if own and row.get("labels") else None
    return overlay_png(t1w, flair, brain, Grid.of(t1w.shape, affine), labels)


def _canonical(path: str) -> tuple[Any, Any]:
    """An image in RAS+ order, (I, J, K), and its affine."""
    image = nib.as_closest_canonical(load_header(Path(path)))
    return np.asarray(image.dataobj).reshape(image.shape[:3]), image.affine
