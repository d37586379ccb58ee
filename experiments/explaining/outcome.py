"""The explanation of a study as files: explain.json, explain.tsv, group maps.

::

    studies/<name>/explain.json  explain.tsv  explain/maps/*.nii.gz  explain/figures/*.png  explain/patients/ (if asked for)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from datamodules.files.atomic import write_text
from datamodules.files.listing import list_folder
from datamodules.files.sealed import write_sealed
from datamodules.files.tables import tsv_text
from experiments.explaining.group_maps import SPACE, group_maps, map_path, write_nifti
from experiments.explaining.jobs import KINDS, Job, jobs_of
from experiments.explaining.rules import ABOUT, may_look, no_map
from experiments.explaining.setup import Explained
from experiments.explaining.summary import summary_of
from experiments.study.run_folder import RunFolder

COLUMNS = (
    "voxels", "rank", "density", "gradient", "permuted", "band_low", "band_high", "ratio", "p", "p_holm", "above", "untrained",
)  # fmt: skip


def wanted_jobs(explained: Explained, gates: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Job]]:
    """The networks of each input that may be looked at."""
    return {name: jobs_of(explained, name) for name in explained.runs if may_look(gates[name]["chance"])}


def outcome(
    explained: Explained, gates: Mapping[str, Mapping[str, Any]], jobs: Mapping[str, Sequence[Job]], draws: int
) -> dict[str, Any]:
    """Content of explain.json; the parts of all jobs are complete.

    Args:
        explained: The study.
        gates: Input -> AUC, and what is said of chance.
        jobs: Input -> its networks; an input without any has no map.
        draws: Bootstrap draws and permutations.
    """
    runs = [run for runs in explained.runs.values() for run in runs]
    inputs = []
    for name, gate in gates.items():
        if name in jobs:
            found = summary_of(explained, name, jobs[name], draws)
        else:
            verdict = no_map(gate["chance"])
            found = {"state": verdict.state, "verdict": verdict.words, "regions": []}
        inputs.append({"input": name, **gate, **found, "maps": {}})
    return {
        "study": explained.folder.name,
        "seeds": sorted({run.seed for run in runs}),
        "folds": explained.folds,
        "draws": draws,
        "method": asdict(explained.method) | {"networks": explained.networks},
        "about": ABOUT,
        "space": SPACE,
        "split_hash": explained.study.splits.hash,
        "predictions": {run.name: RunFolder(run.folder(explained.folder)).facts()["files"]["predictions.tsv"] for run in runs},
        "inputs": inputs,
    }


def write_maps(explained: Explained, content: dict[str, Any], jobs: Mapping[str, Sequence[Job]]) -> None:
    """Write the group maps of the inputs whose map is shown, note them in the content, and remove those of the others."""
    folder, grid = explained.folder, explained.study.prepared.grid
    written = set()
    for row in content["inputs"]:
        if row["state"] != "shown":
            continue
        of_kind = {kind: [job for job in jobs[row["input"]] if job.kind == kind] for kind in KINDS}
        for what, values in group_maps(explained, of_kind).items():
            path = map_path(folder, row["input"], what)
            write_nifti(path, values, grid)
            row["maps"][what] = str(path.relative_to(folder))
            written.add(path)
    for path in list_folder(folder / "explain" / "maps", "input-*_relevance.nii.gz"):
        if path not in written:
            path.unlink()


def write_outcome(explained: Explained, content: Mapping[str, Any]) -> None:
    """Write explain.tsv, then explain.json."""
    write_text(explained.folder / "explain.tsv", as_table(content))
    write_sealed(explained.folder / "explain.json", content)


def as_table(content: Mapping[str, Any]) -> str:
    """One row for each region of each input; one for an input without regions to tell apart."""
    ends = ("value", "low", "high")
    header = ["input", "AUC", "chance", "state", "region", "without", *COLUMNS]
    header += [*(f"auc_loss_{end}" for end in ends), "auc_loss_p_holm", *(f"log_odds_loss_{end}" for end in ends), "verdict"]
    rows = []
    for row in content["inputs"]:
        head = [row["input"], row["auc"]["value"], row["chance"], row["state"]]
        rows += [[*head, *_cells(region)] for region in row["regions"]]
        if not row["regions"]:
            rows.append([*head, *[None] * (len(header) - len(head) - 1), row["verdict"]])
    return tsv_text(header, rows)


def _cells(region: Mapping[str, Any]) -> list[Any]:
    pair = region["occlusion"] or {}
    change, odds = pair.get("difference", {}), pair.get("log_odds", {})
    ends = ("value", "low", "high")
    values: list[Any] = [region["name"], ", ".join(region["without"]), *(region[name] for name in COLUMNS)]
    values += [*(change.get(end) for end in ends), pair.get("p_holm"), *(odds.get(end) for end in ends)]
    return [*values, region["verdict"]]


def explanation_rows(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Plain numbers of each input, as the experiment tracker shows them."""
    rows = []
    for row in content["inputs"]:
        numbers: dict[str, Any] = {"input": row["input"], "state": row["state"], "verdict": row["verdict"]}
        for region in row["regions"]:
            pick: Callable[[str], Any] = region.get
            numbers |= {f"{region['name']}/{name}": pick(name) for name in ("density", "ratio", "p_holm")}
        rows.append(numbers)
    return rows
