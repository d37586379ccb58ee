"""What a report is made from: the files of one study, read once; nothing is computed or changed here.

::

    comparison.json  flow.json  splits.json  cohort.tsv  <input>/fold-<k>/seed-<s>/{run.json,history.tsv,predictions.tsv}
    subgroups.json  robustness.json  sites.json  partitions.json  controls.json  explain.json
    explain/maps/*.nii.gz  table1.json  acquisition.tsv  external/<cohort>/external.json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datamodules.cohort.images import DEFAULT_IMAGES, parse_images
from datamodules.cohort.splits import read_facts
from datamodules.cohort.target import Target
from datamodules.files.listing import list_folder
from datamodules.files.sealed import read_sealed
from datamodules.files.tables import read_rows
from experiments.analysis.comparison import usual_keys
from experiments.analysis.pooling import number_inputs, pool_inputs
from experiments.analysis.view import Words
from experiments.statistics.numeric_pairs import PRIMARY
from experiments.study.record import OLDEST_DECISION, read_record
from experiments.study.run_folder import ResultsError, RunFolder
from experiments.study.runs import PlanError, Run
from lightning_modules.decision import DECISIONS

Content = Mapping[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """What one run left: run.json, and the columns of history.tsv (empty cells are left out)."""

    run: Run
    facts: Content
    history: Mapping[str, Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class Sources:
    """The files of one study. What a command has not made yet is None or empty.

    Attributes:
        folder: The study.
        comparison: comparison.json.
        records: The runs that the comparison was made from.
        tables: Input -> internal test rows, one table a seed: ``Pooled``, or ``Numbers`` where a number is predicted.
        config: Training settings, which all these runs share; label rule and mask mode are those of the study's record.
        optional: Name without suffix -> content of flow.json, splits.json, baselines.json ...
        external: Cohort -> external.json.
        cohort: Rows of cohort.tsv.
        splits: Rows of splits.tsv.
        acquisition: Rows of acquisition.tsv.
        newer: Runs whose predictions are newer than the comparison.
    """

    folder: Path
    comparison: Content
    records: Sequence[RunRecord]
    tables: Mapping[str, Sequence[Any]]
    config: Content
    optional: Mapping[str, Any]
    external: Mapping[str, Content]
    cohort: Sequence[Mapping[str, str]]
    splits: Sequence[Mapping[str, str]]
    acquisition: Sequence[Mapping[str, str]]
    newer: Sequence[str]

    @property
    def name(self) -> str:
        """The study's name."""
        return str(self.comparison["study"])

    @property
    def inputs(self) -> list[str]:
        """Inputs in the order of the comparison."""
        return list(self.tables)

    @property
    def words(self) -> Words:
        """How the scores are called."""
        names = (name for name in self.comparison["inputs"][0] if name.endswith("_fold_mean"))
        metrics = [name.removesuffix("_fold_mean") for name in names]
        errors = [row.get(PRIMARY) for row in self.comparison["inputs"]]
        return Words.of(self.comparison["target"], metrics, self.comparison["positives"], errors)

    @property
    def target(self) -> Target:
        """What is told from the images."""
        return Target(**{"decision": OLDEST_DECISION, **(self.config.get("label") or {})})

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the study's images."""
        return parse_images(self.config.get("images", DEFAULT_IMAGES))

    @property
    def decision(self) -> str:
        """Where the thresholds lie, in words."""
        return DECISIONS[self.target.decision]

    @property
    def sites(self) -> list[str]:
        """Name of each part where the study is split by site; else none."""
        return list((self.optional.get("splits") or {}).get("sites", ()))

    def command(self, word: str) -> str:
        """How a command is given for this study."""
        return f"make {word} STUDY={self.folder.name}"


OPTIONAL = ("flow", "baselines", "subgroups", "robustness", "controls", "table1", "tissue", "sites", "partitions", "explain")


def read_sources(folder: Path) -> Sources:
    """Read a study's files.

    Raises:
        PlanError: if there is no comparison yet.
        ResultsError: if a file is damaged, or a run that the comparison names is gone.
    """
    if not (folder / "comparison.json").is_file():
        raise PlanError(f"{folder / 'comparison.json'} is missing; make it with: make compare STUDY={folder.name}")
    comparison = usual_keys(read_content(folder / "comparison.json"))
    _refuse_earlier(folder / "comparison.json", comparison, "predictions", f"make compare STUDY={folder.name}")
    runs = {name: [_run(text) for text in names] for name, names in comparison["runs"].items()}
    records = [_record(folder, run) for input_runs in runs.values() for run in input_runs]
    gone = [record.run.name for record in records if record.facts.get("state") != "complete"]
    if gone:
        raise ResultsError(f"comparison.json names {gone[0]}, which is not complete any more; make compare STUDY={folder.name}")
    made_from = comparison["predictions"]
    return Sources(
        folder=folder,
        comparison=comparison,
        records=records,
        tables=(number_inputs if comparison["target"] else pool_inputs)(folder, runs),
        config=_config(folder, records[0].run),
        optional={name: read_content(folder / f"{name}.json") for name in OPTIONAL if (folder / f"{name}.json").is_file()}
        | {"splits": read_facts(folder / "splits.tsv")},
        external={path.parent.name: _external(folder, path) for path in list_folder(folder, "external/*/external.json")},
        cohort=_rows(folder / "cohort.tsv"),
        splits=_rows(folder / "splits.tsv"),
        acquisition=_rows(folder / "acquisition.tsv"),
        newer=[
            record.run.name for record in records if record.facts["files"]["predictions.tsv"] != made_from.get(record.run.name)
        ],
    )


MADE_BY = dict.fromkeys(("flow", "table1", "tissue"), "check")
MADE_BY |= {name: name for name in ("controls", "baselines", "explain", "external")}
"""File -> the command that writes it; any other is written by compare."""


def _external(folder: Path, path: Path) -> Content:
    content = read_content(path)
    _refuse_earlier(path, content, "same_decisions", f"make external COHORT={content.get('cohort', 'dir')} STUDY={folder.name}")
    return content


def _refuse_earlier(path: Path, content: Content, newest: str, again: str) -> None:
    if newest not in content:
        raise PlanError(f"{path} is of an earlier version; make it again: {again}")


def read_content(path: Path) -> Content:
    """Content of a JSON file that a command wrote.

    Raises:
        DamagedError: if it is not what was written.
    """
    return read_sealed(path, f"make it again with: make {MADE_BY.get(path.stem, 'compare')}")


def _run(text: str) -> Run:
    name, fold, seed = text.split("/")
    return Run(name, int(fold.removeprefix("fold-")), int(seed.removeprefix("seed-")))


def _record(folder: Path, run: Run) -> RunRecord:
    run_folder = RunFolder(run.folder(folder))
    columns: dict[str, list[tuple[int, float]]] = {}
    for row in _rows(run_folder.checked("history.tsv")):
        for name, value in row.items():
            if name != "epoch" and value:
                columns.setdefault(name, []).append((int(row["epoch"]), float(value)))
    return RunRecord(run, run_folder.facts(), columns)


def _config(folder: Path, run: Run) -> Content:
    record = read_record(folder)
    text = RunFolder(run.folder(folder)).checked("config.yaml").read_text(encoding="utf-8")
    content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    if record is None:
        return content if isinstance(content, dict) else {}
    mask = {"mask_mode": record.mask.mode, "dilate_mm": record.mask.dilate_mm}
    return {**content, "label": record.label.plain(), "data": {**(content.get("data") or {}), **mask}}


def _rows(path: Path) -> list[dict[str, str]]:
    rows = read_rows(path) if path.is_file() else []
    return [{name: cell for name, cell in row.items() if name != "#"} for row in rows]
