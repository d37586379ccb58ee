"""Table 1 and the acquisition table, as ``check`` leaves them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from experiments.analysis.table1 import table1_lines
from experiments.rendering.page import fold_away, missing, note, table
from experiments.reporting.chapter import Sheet
from experiments.reporting.sources import Sources

FACTS = ("site", "scanner", "vendor", "field_strength")
WORDS = (
    "Unit: the patient, at the first scan. Numbers: median (quartiles). SMD: standardised difference of positive from negative "
    "patients, and the largest of a test part from the others; above 0.1 groups are unlike."
)


def table_one_blocks(sources: Sources) -> tuple[list[str], list[Sheet]]:
    """Table 1 by class and external cohort, with missing counts; that by test part on demand."""
    found = sources.optional.get("table1")
    if found is None:
        return [missing("Table 1 is not there yet.", sources.command("check"))], []
    heading, *lines = table1_lines(found)
    folds = [place for place, group in enumerate(found["groups"], start=1) if str(group["id"]).startswith("fold-")]
    rest = [place for place in range(len(heading)) if place not in folds]
    blocks = [
        table(_pick(heading, rest), [_pick(line, rest) for line in lines], caption="Table 1: patients by class"),
        note(WORDS),
    ]
    if folds:
        every = [0, *folds]
        parts = table(_pick(heading, every), [_pick(line, every) for line in lines], caption="Table 1: patients by test part")
        blocks.append(fold_away("By test part", parts))
    return blocks, [Sheet("table1", heading, lines)]


def _pick(line: Sequence[str], places: Sequence[int]) -> list[str]:
    return [line[place] for place in places]


def acquisition_blocks(sources: Sources) -> tuple[list[str], list[Sheet]]:
    """Acquisition by class: from the sidecars, else from what the cohort's table says."""
    if sources.acquisition:
        filled = [name for name in sources.acquisition[0] if any(row.get(name) for row in sources.acquisition)]
        rows: list[list[str | int]] = [[row.get(name, "") for name in filled] for row in sources.acquisition]
        columns = list(filled)
        told = "Sequences, from the images' sidecars, by class"
    else:
        facts = [name for name in FACTS if any(row.get(name) for row in sources.cohort)]
        counted = Counter((tuple(row.get(name) or "unknown" for name in facts), row["label"]) for row in sources.cohort)
        rows = [[*key, counted[key, "0"], counted[key, "1"]] for key in sorted({key for key, _ in counted})]
        columns = [*(name.replace("_", " ") for name in facts), "negative scans", "positive scans"]
        told = "Scans by acquisition and class, from the cohort's table"
        if not facts:
            return [missing("The cohort names no scanner, vendor, field strength or site.", sources.command("check"))], []
    return [table(columns, rows, caption=told)], [Sheet("acquisition", columns, rows)]
