"""What ``compare`` found: the record, comparison.json and comparison.tsv, and reading them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datamodules.files.atomic import write_text
from datamodules.files.sealed import read_sealed, write_sealed
from datamodules.files.tables import tsv_text
from experiments.analysis.baseline_files import READERS
from experiments.analysis.stacking import STACKED_FAMILIES, added_sentence, together_sentence
from experiments.statistics.numeric_pairs import NUMERIC_INTERVAL
from experiments.statistics.paired import UNJUDGED
from experiments.statistics.paired import Comparison as Paired
from experiments.statistics.significance import INTERVAL, Estimate
from experiments.study.runs import PlanError

FAMILIES = ("paired", "paired_auc", "paired_all", "paired_baselines", "paired_baselines_auc", "paired_readers")
ENSEMBLE_FAMILIES = ("paired_ensembles", "paired_ensembles_auc")
ALL_FAMILIES = (*FAMILIES, *ENSEMBLE_FAMILIES, *STACKED_FAMILIES)
ESTIMATES = ("estimates", "baselines", "readers", "ensembles", "stacked")


@dataclass(frozen=True)
class StudyComparison:
    """What ``compare`` found for one study, and the runs it was found in.

    Attributes:
        study: Name.
        seed: The first seed.
        folds: Folds of the study.
        draws: Bootstrap draws and permutations.
        scans: Internal test scans.
        patients: Their patients.
        positives: Positive scans.
        estimates: Input -> metric -> value, interval, mean and SD over folds; averaged over seeds.
        paired: Primary family: each region against global, balanced accuracy, Holm over the regions.
        runs: Input -> names of the run folders.
        predictions: Run folder -> SHA-256 of its predictions.tsv.
        missing: Runs that were wanted and are not there.
        seeds: All seeds.
        paired_auc: The same family on the AUC; secondary.
        paired_all: All pairs of inputs, balanced accuracy; exploratory, a Holm family of its own.
        baselines: Baseline -> metric -> estimate.
        paired_baselines: Each baseline against global, balanced accuracy; a Holm family of its own.
        paired_baselines_auc: The same on the AUC.
        readers: ``<linear reader>/<input>`` -> metric -> estimate.
        paired_readers: The network of each input minus a linear reader of the same, AUC; a Holm family for each reader.
        notes: What a reader must know, one sentence each: seeds and baselines that are not there.
        ensembles: Input -> metric -> estimate of the mean of its seeds' log odds; empty with one seed, as are the next two.
        paired_ensembles: Each region's ensemble against that of global, balanced accuracy; a Holm family of its own.
        paired_ensembles_auc: The same on the AUC.
        stacked: ``regions (stacked)``, and ``<input> + age_sex`` where that baseline is -> metric -> estimate.
        paired_stacked: The regions together against global, balanced accuracy.
        paired_stacked_auc: The same on the AUC.
        paired_added: ``<input> + age_sex`` minus age_sex alone, AUC; a Holm family of its own, as is the next.
        paired_added_brier: The same on the Brier score, of which less is better.
        details: See ``experiments.analysis.details``; plain values.
        target: Where a number is predicted its kind, name, unit and highest step; empty for two classes. The primary metric
            is then the MAE, and what is the AUC above is Spearman's correlation, in the file's names too.
    """

    study: str
    seed: int
    folds: int
    draws: int
    scans: int
    patients: int
    positives: int
    estimates: Mapping[str, Mapping[str, Estimate]]
    paired: Sequence[Paired]
    runs: Mapping[str, Sequence[str]]
    missing: Sequence[str]
    seeds: Sequence[int] = (0,)
    paired_auc: Sequence[Paired] = ()
    paired_all: Sequence[Paired] = ()
    baselines: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    paired_baselines: Sequence[Paired] = ()
    paired_baselines_auc: Sequence[Paired] = ()
    readers: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    paired_readers: Sequence[Paired] = ()
    notes: Sequence[str] = ()
    predictions: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    ensembles: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    paired_ensembles: Sequence[Paired] = ()
    paired_ensembles_auc: Sequence[Paired] = ()
    stacked: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    paired_stacked: Sequence[Paired] = ()
    paired_stacked_auc: Sequence[Paired] = ()
    paired_added: Sequence[Paired] = ()
    paired_added_brier: Sequence[Paired] = ()
    target: Mapping[str, Any] = field(default_factory=dict)


def rows_of(comparison: StudyComparison) -> list[dict[str, Any]]:
    """One row an input: each metric with its interval, mean and SD over folds, and the paired difference to global."""
    return [_row(name, metrics, comparison.paired) for name, metrics in comparison.estimates.items()]


def baseline_rows(comparison: StudyComparison) -> list[dict[str, Any]]:
    """One row a baseline, in the form of ``rows_of``."""
    return [_row(name, metrics, comparison.paired_baselines) for name, metrics in comparison.baselines.items()]


def ensemble_rows(comparison: StudyComparison) -> list[dict[str, Any]]:
    """One row for each input's ensemble, in the form of ``rows_of``."""
    return [_row(name, metrics, comparison.paired_ensembles) for name, metrics in comparison.ensembles.items()]


def stacked_rows(comparison: StudyComparison) -> list[dict[str, Any]]:
    """One row for each stack, in the form of ``rows_of``."""
    return [_row(name, metrics, comparison.paired_stacked) for name, metrics in comparison.stacked.items()]


def stacked_sentences(comparison: StudyComparison) -> list[str]:
    """What the regions together, and each input beside age and sex, say by rule."""
    added = zip(comparison.paired_added, comparison.paired_added_brier, strict=True)
    together = [together_sentence(pair, comparison.paired) for pair in comparison.paired_stacked]
    return [*together, *(added_sentence(*pairs) for pairs in added)]


def _row(name: str, metrics: Mapping[str, Estimate], paired: Sequence[Paired]) -> dict[str, Any]:
    row: dict[str, Any] = {"input": name, "folds": next(iter(metrics.values())).folds}
    for metric, estimate in metrics.items():
        row |= {metric: estimate.value, f"{metric}_low": estimate.low, f"{metric}_high": estimate.high}
        row |= {f"{metric}_fold_mean": estimate.fold_mean, f"{metric}_fold_sd": estimate.fold_sd}
    pair = next((candidate for candidate in paired if candidate.first == name), None)
    return row | {
        "difference_to_global": pair.difference.value if pair else None,
        "difference_low": pair.difference.low if pair else None,
        "difference_high": pair.difference.high if pair else None,
        "p_holm": pair.p_holm if pair else None,
        "verdict": pair.verdict if pair else None,
    }


def reader_sentence(pair: Paired) -> str:
    """Which of a network and a linear reader of its input reads more, from the interval and the verdict alone.

    Where neither is shown to be better, the network may still know something else than the reader does: see
    ``docs/statistics.md``, what the networks learn.
    """
    reads = READERS[pair.second.partition("/")[0]]
    gap, differs = pair.difference, pair.verdict.startswith("different")
    if gap.low is None or gap.high is None or pair.verdict.startswith(UNJUDGED):
        return f"{pair.first}: network and linear reader of {reads} cannot be compared"
    if gap.low > 0 and differs:
        return f"{pair.first}: the network is better than a linear reader of {reads}"
    if gap.high < 0 and differs:
        return f"{pair.first}: a linear reader of {reads} is better than the network"
    return f"{pair.first}: not shown that the network is better than a linear reader of {reads}"


def write_comparison(folder: Path, comparison: StudyComparison) -> None:
    """Write comparison.tsv (inputs, baselines, ensembles of several seeds, stacks) and comparison.json into the study."""
    kinds = {"network": rows_of(comparison), "baseline": baseline_rows(comparison), "ensemble": ensemble_rows(comparison)}
    kinds["stacked"] = stacked_rows(comparison)
    rows = [{"kind": kind} | row for kind, members in kinds.items() for row in members]
    order = ["input", "kind", *(name for name in rows[0] if name not in ("input", "kind"))]
    write_text(folder / "comparison.tsv", tsv_text(order, ([row[name] for name in order] for row in rows)))
    further = {"ensembles": (kinds["ensemble"], ENSEMBLE_FAMILIES), "stacked": (kinds["stacked"], STACKED_FAMILIES)}
    further = {name: pair for name, pair in further.items() if pair[0]}
    families = [*FAMILIES, *(family for _, of_rows in further.values() for family in of_rows)]
    content = {name: value for name, value in vars(comparison).items() if name not in (*ESTIMATES, *ALL_FAMILIES)}
    del content["positives" if comparison.target else "target"]
    content["interval"] = NUMERIC_INTERVAL if comparison.target else INTERVAL
    content |= {"inputs": kinds["network"], "baselines": kinds["baseline"]}
    content |= {"readers": [_row(name, metrics, ()) for name, metrics in comparison.readers.items()]}
    content |= {"reader_sentences": [reader_sentence(pair) for pair in comparison.paired_readers]}
    content |= {"stacked_sentences": stacked_sentences(comparison)} if comparison.stacked else {}
    content |= {name: rows for name, (rows, _) in further.items()}
    content |= {key_of(name, comparison.target): [asdict(row) for row in getattr(comparison, name)] for name in families}
    write_sealed(folder / "comparison.json", content)


def key_of(family: str, target: Mapping[str, Any]) -> str:
    """A family's name in the file."""
    return family.replace("_auc", "_spearman") if target else family


def usual_keys(content: Mapping[str, Any]) -> dict[str, Any]:
    """Content of the file with the families' usual names, whatever the target."""
    return {"positives": 0, "target": {}} | {name.replace("_spearman", "_auc"): value for name, value in content.items()}


def read_comparison(folder: Path) -> StudyComparison:
    """Read comparison.json.

    Raises:
        PlanError: if there is none, or it was written by an earlier version.
    """
    path = folder / "comparison.json"
    if not path.is_file():
        raise PlanError(f"{path} is missing; make it with: make compare STUDY={folder.name}")
    facts = read_sealed(path, f"make it again with: make compare STUDY={folder.name}")
    facts = usual_keys(facts)
    lacking = [name for name in ("inputs", "details", "readers", *FAMILIES) if name not in facts]
    if lacking:
        raise PlanError(f"{path} has no {lacking[0]!r}; make it again with: make compare STUDY={folder.name}")
    facts.pop("interval")
    for sentences in ("reader_sentences", "stacked_sentences"):
        facts.pop(sentences, None)
    estimates, baselines, readers = (_estimates(facts.pop(name)) for name in ("inputs", "baselines", "readers"))
    ensembles, stacked = (_estimates(facts.pop(name, ())) for name in ("ensembles", "stacked"))
    kept = [name for name in ALL_FAMILIES if name in facts]
    families = {name: [_paired(row) for row in facts.pop(name)] for name in kept}
    tables = {"estimates": estimates, "baselines": baselines, "readers": readers, "ensembles": ensembles}
    tables["stacked"] = stacked
    return StudyComparison(**{**facts, **families, **tables})


def _estimates(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Estimate]]:
    return {
        row["input"]: {
            m: Estimate(row[m], row[f"{m}_low"], row[f"{m}_high"], row[f"{m}_fold_mean"], row[f"{m}_fold_sd"], row["folds"])
            for m in (name.removesuffix("_fold_mean") for name in row if name.endswith("_fold_mean"))
        }
        for row in rows
    }


def _paired(row: Mapping[str, Any]) -> Paired:
    intervals = {name: Estimate(**row[name]) for name in ("difference", "adjusted") if row.get(name) is not None}
    return Paired(**{**row, **intervals})
