"""Several splits of the same patients: studies that differ in their split's seed alone, averaged. Written as partitions.json.

Every score is the mean over all folds of all partitions. Averaging over partitions does not make patients more: what the
partitions agree on by accident of the sample stays. So intervals and tests are those of the corrected resampled t test
(Nadeau and Bengio, Mach Learn 2003;52:239; for repeated cross-validation Bouckaert and Frank, PAKDD 2004), whose variance does
not shrink below n_test / n_train of that of a fold. Folds of several partitions share patients, so they tell less of that
variance than as many independent ones would; for the AUC, where that counts, the degrees of freedom are those of one partition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.stats import false_discovery_control

from datamodules.cohort.splits import read_facts, test_to_train
from datamodules.files.sealed import write_sealed
from experiments.analysis.pooling import Tables, pool_inputs
from experiments.statistics.constant import has_few_patients, is_silent
from experiments.statistics.paired import SILENT, TOO_FEW, Comparison, corrected_t, holm, verdict
from experiments.statistics.predictions import FloatArray
from experiments.statistics.scores import fold_summary
from experiments.statistics.significance import Estimate, interval_text, p_text
from experiments.study.run_folder import ResultsError, RunFolder, require_complete
from experiments.study.runs import PlanError, Run
from experiments.study.settings import NOT_OF_THE_RESULT, NOT_OF_THE_TRAINER

FILE = "partitions.json"
REFERENCE = "global"
OF_ONE_PARTITION = ("auc",)
"""Metrics with the degrees of freedom of one partition; with those of all folds equal inputs were rejected in up to 7 %."""
SCORES = {"balanced_accuracy": "balanced accuracy", "auc": "AUC"}
ABOUT = (
    "Every score is the mean over all folds of all partitions of the same patients. Intervals and p values are those of the "
    "corrected resampled t test (Nadeau and Bengio 2003; Bouckaert and Frank 2004): they allow for training parts that "
    "overlap, within a partition and between partitions; for the AUC with the degrees of freedom of one partition. p is "
    "Holm-adjusted over the regions of a metric."
)


def write_partitions(folders: Sequence[Path], inputs: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Average the inputs of several studies and write partitions.json into the first.

    Args:
        folders: Studies of the same scans and settings, with splits of their own.
        inputs: Names of the inputs.
        seeds: Which runs of each.

    Returns:
        What was written.

    Raises:
        PlanError: if the studies are not partitions of the same.
        ResultsError: if runs are missing, or the studies' settings differ.
    """
    facts = [read_facts(folder / "splits.tsv") for folder in folders]
    _check_splits(folders, facts)
    folds = int(facts[0]["folds"])
    wanted = [Run(name, fold, seed) for seed in seeds for name in inputs for fold in range(folds)]
    tables = []
    for folder in folders:
        runs = require_complete(folder, wanted)
        tables.append(pool_inputs(folder, {name: [run for run in runs if run.input == name] for name in inputs}))
    _check_alike(folders, wanted[0], tables)
    ratio = test_to_train(folds, by_site=False)
    content = {
        "studies": [folder.name for folder in folders],
        "split_seeds": [fact["seed"] for fact in facts],
        "about": ABOUT,
        "folds": folds,
        "test_to_train": ratio,
        "predictions": {run.name: RunFolder(run.folder(folders[0])).facts()["files"]["predictions.tsv"] for run in wanted},
        "inputs": [_score(name, metric, tables, ratio) for metric in SCORES for name in inputs],
        "paired": [asdict(pair) for metric in SCORES for pair in _family(inputs, metric, tables, ratio)],
    }
    write_sealed(folders[0] / FILE, content)
    return content


def _check_splits(folders: Sequence[Path], facts: Sequence[Mapping[str, Any]]) -> None:
    first = facts[0]
    for folder, fact in zip(folders, facts, strict=True):
        if fact.get("sites"):
            raise PlanError(f"--partitions: {folder.name} is split by site, of which there is only one split")
        if (fact["folds"], fact["cohort_hash"]) != (first["folds"], first["cohort_hash"]):
            differ = "folds" if fact["folds"] != first["folds"] else "patients or scores"
            raise PlanError(
                f"--partitions: {folder.name} has other {differ} than {folders[0].name}; only --split_seed may differ"
            )
    hashes = [fact["split_hash"] for fact in facts]
    if len(set(hashes)) < len(hashes):
        twice = next(folder.name for at, folder in enumerate(folders) if hashes[at] in hashes[:at])
        raise PlanError(f"--partitions: {twice} has the split of another one named; make it with a --split_seed of its own")


def _check_alike(folders: Sequence[Path], run: Run, tables: Sequence[Tables]) -> None:
    settings = [_result_settings(run.folder(folder) / "config.yaml") for folder in folders]
    for folder, other in zip(folders[1:], settings[1:], strict=True):
        names = sorted(name for name in {*settings[0], *other} if settings[0].get(name) != other.get(name))
        if names:
            raise ResultsError(f"--partitions: {folder.name} was trained with another {names[0]} than {folders[0].name}")
    keys = [sorted(zip(*_columns(table[run.input][0].test), strict=True)) for table in tables]
    for folder, listed in zip(folders[1:], keys[1:], strict=True):
        if listed != keys[0]:
            raise ResultsError(f"--partitions: {folder.name} tested other scans than {folders[0].name}")


def _columns(test: Any) -> tuple[list[Any], ...]:
    return test.patient.tolist(), test.session.tolist(), test.y.tolist()


def _result_settings(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept = {name: value for name, value in content.items() if name not in (*NOT_OF_THE_RESULT, "split_seed")}
    trainer = kept.pop("trainer", None) or {}
    return kept | {f"trainer.{name}": value for name, value in trainer.items() if name not in NOT_OF_THE_TRAINER}


def fold_values(name: str, metric: str, tables: Sequence[Tables]) -> list[FloatArray]:
    """For each partition (folds,) values of one input, the mean over seeds; NaN where a fold is undefined."""
    summaries = [fold_summary(*(pooled.test for pooled in table[name]))[metric].values.values() for table in tables]
    return [np.array([np.nan if value is None else value for value in values], dtype=np.float64) for values in summaries]


def corrected(of_folds: Sequence[FloatArray], ratio: float, metric: str) -> dict[str, Any]:
    """Mean over all folds of all partitions with its corrected interval, p against 0, and the mean of each partition."""
    values = np.concatenate(of_folds)
    means = [float(part.mean()) for part in of_folds]
    out: dict[str, Any] = {"value": float(values.mean()), "low": None, "high": None, "p": None, "by_partition": means}
    if np.isfinite(values).all() and np.ptp(values) > 0:
        df = of_folds[0].size - 1 if metric in OF_ONE_PARTITION else None
        test = corrected_t(values.tolist(), ratio, df=df)
        out |= {"low": test.low, "high": test.high, "p": test.p}
    return out | {"sd": float(np.std(means, ddof=1)) if len(means) > 1 else None}


def _score(name: str, metric: str, tables: Sequence[Tables], ratio: float) -> dict[str, Any]:
    summary = corrected(fold_values(name, metric, tables), ratio, metric)
    del summary["p"]
    return {"input": name, "metric": metric, **summary}


def _family(inputs: Sequence[str], metric: str, tables: Sequence[Tables], ratio: float) -> list[Comparison]:
    """Each region against global, Holm over the regions; empty without global or a partner."""
    others = [name for name in inputs if name != REFERENCE] if REFERENCE in inputs else []
    whole = fold_values(REFERENCE, metric, tables) if others else []
    gaps = {
        name: corrected([a - b for a, b in zip(fold_values(name, metric, tables), whole, strict=True)], ratio, metric)
        for name in others
    }
    known = [gap["p"] for gap in gaps.values() if gap["p"] is not None]
    adjusted = iter(zip(holm(known), false_discovery_control(known) if known else [], strict=True))
    silent = {name for name in inputs if any(is_silent([pooled.test for pooled in table[name]], metric) for table in tables)}
    few = bool(others) and has_few_patients(tables[0][REFERENCE][0].test)
    family = []
    for name, gap in gaps.items():
        p_holm, p_fdr = (None, None) if gap["p"] is None else map(float, next(adjusted))
        difference = Estimate(gap["value"], gap["low"], gap["high"], gap["value"], gap["sd"], len(gap["by_partition"]))
        words = SILENT[metric] if silent & {name, REFERENCE} else TOO_FEW if few else verdict(p_holm, difference)
        family.append(Comparison(name, REFERENCE, metric, difference, gap["p"], p_holm, p_fdr, words))
    return family


def partition_lines(content: Mapping[str, Any]) -> list[str]:
    """The averages in a terminal."""
    seeds = ", ".join(map(str, content["split_seeds"]))
    lines = [
        f"mean over {len(content['studies'])} partitions of the patients (split seeds {seeds}), corrected resampled t test:"
    ]
    for row in content["inputs"]:
        each = ", ".join(f"{value:.2f}" for value in row["by_partition"])
        lines.append(f"  {row['input']}: {SCORES[row['metric']]} {interval_text(row)}, partitions {each}")
    for pair in content["paired"]:
        p = p_text(pair["p_holm"])
        gap = interval_text(pair["difference"], "+")
        lines.append(f"  {pair['first']} minus {REFERENCE}: {SCORES[pair['metric']]} {gap}, p (Holm) {p}: {pair['verdict']}")
    return lines
