"""CLAIM 2024 and TRIPOD+AI, filled in as far as a study's files can fill them.

What is listed is what software can answer; the words are our own short paraphrase, and the published checklists hold the
binding text. What no file of a study can answer stays blank for the authors, and so do all items that are not named here.

References:
    Tejani et al., Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 update, Radiol Artif Intell 2024,
    doi 10.1148/ryai.240300.
    Collins et al., TRIPOD+AI statement, BMJ 2024;385:e078378.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from datamodules.cohort.covariates import text_of
from experiments.rendering.page import Html, blank, note, paragraph, table, text
from experiments.reporting.chapter import Chapter, Sheet, joined, wordy
from experiments.reporting.data_chapter import reference_standard, sample_size
from experiments.reporting.method_chapters import preparation_of
from experiments.reporting.sources import Sources

CLAIM_ITEMS, TRIPOD_ITEMS = 44, 27
OF_NUMBERS = {"calibration": "data"}
"""Section of two classes -> what shows the same of numbers."""
Answer = Callable[[Sources], str | None]


@dataclass(frozen=True)
class Entry:
    """One subject of both checklists.

    Attributes:
        subject: Own words.
        claim: Item numbers of CLAIM 2024.
        tripod: Item numbers of TRIPOD+AI, with their letters.
        anchor: Section of the report that shows it, or "".
        answer: Short answer from the study's files, or None where they have none.
    """

    subject: str
    claim: tuple[int, ...]
    tripod: tuple[str, ...]
    anchor: str
    answer: Answer


def _from(name: str, words: str) -> Answer:
    return lambda sources: words if sources.optional.get(name) is not None else None


def _partition(sources: Sources) -> str:
    seed = (sources.optional.get("splits") or {}).get("seed", "unknown")
    return (
        f"By {'site' if sources.sites else 'patient'}, {sources.comparison['folds']} parts, seed {seed}, in splits.tsv; every "
        "load checks that the parts are disjoint and complete."
    )


def _devices(sources: Sources) -> str:
    kinds = joined(sorted({str(record.facts["device"]) for record in sources.records}))
    return f"Device: {kinds}; time, memory and an estimate of energy."


def _balance(sources: Sources) -> str:
    comparison = sources.comparison
    if sources.target.is_number:
        return "No classes: a number is predicted; its distribution is shown."
    share = f"{comparison['positives']} of {comparison['scans']} scans positive"
    return f"{share}; calibration before and after temperature scaling."


def _acquired(sources: Sources) -> str | None:
    return (
        "Scans by acquisition and class."
        if sources.acquisition or any(text_of(row, "field_strength") for row in sources.cohort)
        else None
    )


def _prepared(sources: Sources) -> str | None:
    return "Described; versions in the methods and in the run card." if preparation_of(sources) else None


def _tests(sources: Sources) -> str:
    comparison = sources.comparison
    tested = any(comparison.get(family) for family in ("paired", "paired_all", "paired_baselines"))
    return f"Patient-cluster bootstrap{', paired permutation tests, Holm' if tested else ''}."


def _subgroups(sources: Sources) -> str | None:
    groups = (sources.optional.get("subgroups") or {}).get("groups")
    robust = sources.optional.get("robustness") or {}
    ways = ["other EDSS thresholds"] if robust.get("edss") else []
    ways += ["subsets of the scans"] if len(robust.get("subsets", ())) > 1 else []
    said = ["subgroups with numbers and intervals"] if groups else []
    said += [f"robustness to {joined(ways)}"] if ways else []
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}." if text else None


def _outside(sources: Sources) -> str | None:
    return f"Frozen models on {joined(list(sources.external))}." if sources.external else None


ENTRIES = (
    Entry("Image preparation, with versions", (9,), ("7",), "methods", _prepared),
    Entry("Missing data: rule and counts", (12,), ("11",), "data",
          _from("table1", "Counts in table 1; exclusions with reasons.")),
    Entry("Acquisition of the images", (13,), ("6",), "data", _acquired),
    Entry("Reference standard: score, window, threshold", (14, 15), ("8a", "8b", "8c"), "data",
          lambda s: reference_standard(s.target)),
    Entry("Partitions and their level", (19, 20), ("12a",), "data", _partition),
    Entry("Sample size", (21,), ("10",), "data", sample_size),
    Entry("Model, initial weights, training, selection, seeds", (22, 23, 24, 25, 26, 27), ("12c", "15", "22"), "methods",
          lambda s: "Described from config.yaml; parameters and epochs in the run card."),
    Entry("Imbalance of the classes", (), ("13",), "calibration", _balance),
    Entry("Measures of performance, their uncertainty, tests", (28, 29), ("12e",), "methods",
          _tests),
    Entry("Robustness, subgroups, fairness", (30,), ("14", "23a", "23b"), "subgroups",
          _subgroups),
    Entry("Explanations of the models", (31,), (), "", lambda s: None),
    Entry("Flow of participants", (35, 8), ("20a", "21"), "data", _from("flow", "Flow diagram with counts by reason.")),
    Entry("Characteristics, by class and partition", (36,), ("20b", "20c"), "data",
          _from("table1", "Table 1 with missing counts and standardised differences.")),
    Entry("Performance on internal test data", (37,), ("23a",), "scores", lambda s: "Table and figures with 95 % intervals."),
    Entry("Performance on external test data", (38,), ("23a",), "external", _outside),
    Entry("Analysis of failures", (39,), (), "failures", _from("robustness", "Most confident errors of every input.")),
    Entry("Computing: hardware, time", (42,), ("22",), "run-card", _devices),
    Entry("Access to code, models and settings", (43,), ("18e", "18f"), "model-card",
          lambda s: "Settings, versions, commit and weights are named; where they are published is for the authors."),
    Entry("Intended use and users", (), (), "", lambda s: None),
    Entry("Rationale of eligibility", (), (), "", lambda s: None),
    Entry("Ethics approval and consent", (), (), "", lambda s: None),
    Entry("Funding and interests", (), (), "", lambda s: None),
    Entry("Registration and protocol", (), (), "", lambda s: None),
    Entry("Involvement of patients and the public", (), (), "", lambda s: None),
)  # fmt: skip


def checklists(sources: Sources) -> Chapter:
    """Both checklists in one section, with what is not covered."""
    claim = sorted((entry for entry in ENTRIES if entry.claim), key=lambda entry: entry.claim[0])
    tripod = sorted((entry for entry in ENTRIES if entry.tripod), key=lambda entry: _number(entry.tripod[0]))
    people = [entry for entry in ENTRIES if not entry.claim and not entry.tripod]
    left_claim = sorted(set(range(1, CLAIM_ITEMS + 1)) - {item for entry in claim for item in entry.claim})
    left_tripod = sorted(set(range(1, TRIPOD_ITEMS + 1)) - {_number(item)[0] for entry in tripod for item in entry.tripod})
    columns = ["item", "subject", "answer from the files", "where"]
    blocks = [
        paragraph(
            "Filled from the study's files where they have an answer. The subjects are paraphrased, so take the wording and "
            "the "
            "numbering from the published checklists before you submit."
        ),
        table(columns, [_row(_runs(sorted(e.claim)), e, sources) for e in claim], caption="CLAIM 2024"),
        note(f"Not covered here, for the authors: items {_runs(left_claim)} of {CLAIM_ITEMS}."),
        table(columns, [_row(", ".join(e.tripod), e, sources) for e in tripod], caption="TRIPOD+AI"),
        note(f"Not covered here, for the authors: items {_runs(left_tripod)} of {TRIPOD_ITEMS}."),
        table(["subject", "answer"], [[e.subject, blank()] for e in people], caption="What only the authors can say"),
    ]
    flat = [[", ".join(map(str, e.claim)), ", ".join(e.tripod), e.subject, e.answer(sources), e.anchor] for e in ENTRIES]
    sheet = Sheet("checklists", ["claim_2024", "tripod_ai", "subject", "answer", "section"], flat)
    return Chapter("checklists", "Reporting checklists", blocks, [sheet])


def _number(item: str) -> tuple[int, str]:
    match = re.fullmatch(r"(\d+)([a-z]*)", item)
    if match is None:
        raise ValueError(f"{item!r} is not an item number; write for example 12a")
    return int(match[1]), match[2]


def _row(numbers: str, entry: Entry, sources: Sources) -> list[str]:
    answer = entry.answer(sources)
    anchor = OF_NUMBERS.get(entry.anchor, entry.anchor) if sources.target.is_number else entry.anchor
    where = Html(f'<a href="#{anchor}">{anchor.replace("-", " ")}</a>') if answer and anchor else ""
    return [numbers, entry.subject, wordy(text(answer)) if answer else blank(), where]


def _runs(numbers: Sequence[int]) -> str:
    """Numbers as ranges: 1-3, 5."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}\N{EN DASH}{part[-1]}" for part in parts)
