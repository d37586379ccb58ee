"""What a study and its external cohorts say of an input, as a bundle carries it: values with intervals, no row of a scan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.files.listing import list_folder
from datamodules.files.sealed import read_sealed
from experiments.analysis.view import Words
from experiments.externals.freeze import read_frozen, touched
from experiments.externals.log import events, latest
from experiments.study.run_folder import RunFolder

NO_MODEL = ("prevalence", "age_sex", "mean")
"""Baselines without an image, which stand beside the scores."""


def scores_of(study: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of an input.

    Args:
        study: The study's folder.
        entry: The input as the freeze has it.

    Returns:
        ``internal``: of ``comparison.json``, None where it is not there or tells of other predictions; ``external``: a list,
        one for each cohort that was scored with these very models, and of which nothing was touched.

    Raises:
        DamagedError: if comparison.json was changed.
    """
    return {"internal": _internal(study, entry), "external": _external(study, entry)}


def _internal(study: Path, entry: Mapping[str, Any]) -> dict[str, Any] | None:
    path = study / "comparison.json"
    if not path.is_file():
        return None
    content = read_sealed(path, f"make it again with: make compare STUDY={study.name}")
    predictions = content.get("predictions", {})
    ours = {m["run"]: RunFolder(study / m["run"]).facts()["files"]["predictions.tsv"] for m in entry["models"]}
    row = next((row for row in content["inputs"] if row["input"] == entry["input"]), None)
    if row is None or any(predictions.get(run) != digest for run, digest in ours.items()):
        return None
    name, metrics = entry["input"], [metric for metric in row if f"{metric}_low" in row]
    titles = Words.of(content.get("target", {}), metrics, content.get("positives", 0)).titles
    sentences = [line for line in content.get("reader_sentences", ()) if line.startswith(f"{name}: ")]
    return {
        "patients": content["patients"],
        "scans": content["scans"],
        "positives": content.get("positives"),
        "seeds": content["seeds"],
        "draws": content["draws"],
        "interval": content["interval"],
        "scores": {metric: _estimate(row, metric, titles) for metric in metrics if metric in titles},
        "baselines": {
            other["input"]: {metric: _estimate(other, metric, titles) for metric in metrics if metric in titles}
            for other in content.get("baselines", ())
            if other["input"] in NO_MODEL
        },
        "chance": (content.get("details", {}).get("chance", {}).get(name) or {}).get("words"),
        "remarks": sentences + [line for line in content["notes"] if line.startswith(f"region {name}: ")],
    }


def _estimate(row: Mapping[str, Any], metric: str, titles: Mapping[str, str]) -> dict[str, Any]:
    return {"title": titles[metric], "value": row[metric], "low": row.get(f"{metric}_low"), "high": row.get(f"{metric}_high")}


def _external(study: Path, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    ours = [model["checkpoint_sha256"] for model in entry["models"]]
    results = []
    for folder in list_folder(study, "external/*"):
        if latest(events(folder), "scored") is None or touched(folder):
            continue
        frozen = next((each for each in read_frozen(folder)["inputs"] if each["input"] == entry["input"]), None)
        if frozen is None or [model["checkpoint_sha256"] for model in frozen["models"]] != ours:
            continue
        content = read_sealed(folder / "external.json", "score it again")
        result = next(each for each in content["inputs"] if each["input"] == entry["input"])
        titles = Words.of(content.get("target", {}), list(result["ensemble"]), content.get("positives", 0)).titles
        results.append(
            {
                "cohort": content["cohort"],
                "patients": content["patients"],
                "scans": content["scans"],
                "sites": sum(bool(site["site"]) for site in content["sites"]),
                "positives": content.get("positives"),
                "frozen_after_labels": content["frozen_after_labels"],
                "interval": content["interval"],
                "scores": {name: {"title": titles[name], **value} for name, value in result["ensemble"].items()},
            }
        )
    return results
