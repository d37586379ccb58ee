"""Table 1 and the acquisition table, as ``check`` leaves them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.cohort.covariates import text_of
from datamodules.cohort.target import Target
from experiments.analysis.table1 import table1_lines
from experiments.rendering.page import fold_away, missing, note, table
from experiments.reporting.chapter import Sheet
from experiments.reporting.sources import Sources
from experiments.runtime.words import plural

FACTS = ("site", "scanner", "vendor", "field_strength")
WORDS = (
    "Unit: the patient, at the first scan. Numbers: median (quartiles). SMD: standardised difference of positive from negative "
    "patients, and the largest of a test part from the others; above 0.1 groups are unlike."
)


NUMBER_WORDS = (
    "Unit: the patient, at the first scan. Numbers: median (quartiles). SMD: the largest standardised difference of a test "
    "part from the others; above 0.1 groups are unlike."
)


def table_one_blocks(sources: Sources) -> tuple[list[str], list[Sheet]]:
    """Table 1 by class and external cohort, with missing counts; that by test part on demand."""
    content = sources.optional.get("table1")
    if content is None:
        return [missing("Table 1 is missing.", sources.command("check"))], []
    heading, *lines = table1_lines(content)
    folds = [column for column, group in enumerate(content["groups"], start=1) if str(group["id"]).startswith("fold-")]
    by_class = "" if sources.target.is_number else " by class"
    rest = [column for column in range(len(heading)) if column not in folds]
    blocks = [
        table(_pick(heading, rest), [_pick(line, rest) for line in lines], caption=f"Table 1: patients{by_class}"),
        note(NUMBER_WORDS if sources.target.is_number else WORDS, _in_both(content)),
    ]
    if folds:
        every = [0, *folds]
        parts = table(_pick(heading, every), [_pick(line, every) for line in lines], caption="Table 1: patients by test part")
        blocks.append(fold_away("By test part", parts))
    return blocks, [Sheet("table1", heading, lines)]


def _in_both(content: Mapping[str, Any]) -> str:
    """Why the classes do not add up to all patients; empty where they do."""
    patients = {str(group["id"]): int(group["patients"]) for group in content["groups"]}
    if "positive" not in patients:
        return ""
    both = patients["negative"] + patients["positive"] - patients["all"]
    return f" {plural(both, 'patient')} with scans of both classes counted in both columns." if both else ""


def _classes(target: Target) -> list[str]:
    """Columns of the classes: negative and positive, the steps, or none."""
    if target.is_number:
        return [f"{target.step_text(step)}, scans" for step in range(target.steps + 1)] if target.steps else ["scans"]
    return ["negative scans", "positive scans"]


def _pick(line: Sequence[str], columns: Sequence[int]) -> list[str]:
    return [line[column] for column in columns]


def acquisition_blocks(sources: Sources) -> tuple[list[str], list[Sheet]]:
    """Acquisition by class: from the sidecars, else from what the cohort's table says."""
    if sources.acquisition:
        filled = [name for name in sources.acquisition[0] if any(row.get(name) for row in sources.acquisition)]
        rows: list[list[str | int]] = [[row.get(name, "") for name in filled] for row in sources.acquisition]
        columns = list(filled)
        caption = "Sequences, from the images' sidecars, by class"
    else:
        facts = [name for name in FACTS if any(text_of(row, name) for row in sources.cohort)]
        counted = Counter((tuple(text_of(row, name) or "unknown" for name in facts), row["label"]) for row in sources.cohort)
        labels = sorted({label for _, label in counted}, key=int) if sources.target.is_number else ["0", "1"]
        rows = [[*key, *(counted[key, label] for label in labels)] for key in sorted({key for key, _ in counted})]
        columns = [*(name.replace("_", " ") for name in facts), *_classes(sources.target)]
        caption = f"Scans by acquisition{' and class' if labels == ['0', '1'] else ''}, from the cohort's table"
        if not facts:
            return [missing("The cohort names no scanner, vendor, field strength or site.", sources.command("check"))], []
    return [table(columns, rows, caption=caption)], [Sheet("acquisition", columns, rows)]
