"""The files that a site gives back: looked at and read, without anything that runs a network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.files.atomic import file_sha256
from datamodules.files.sealed import read_sealed
from experiments.bundles.errors import BundleError
from experiments.externals.log import NAME as LOG
from experiments.externals.log import broken_line, events, latest
from experiments.statistics.aggregates import CELLS, Aggregate
from experiments.statistics.number_aggregates import NUMBER_SCORES, NumberAggregate
from experiments.statistics.significance import METRICS

SITE = "site.json"
FORMAT = 1
NAME = r"[A-Za-z0-9][\w.-]{0,63}"
"""What a site can be called."""


def touched_site(folder: Path) -> list[str]:
    """What of a site's folder is not as it was written; one sentence each.

    Raises:
        ExternalError: if the log cannot be read.
    """
    line = broken_line(folder)
    if line is not None:
        return [f"{folder / LOG} line {line} was changed, removed or added"]
    log = events(folder)
    scored = latest(log, "scored")
    if scored is None:
        return [f"{folder} holds no counts of a site; make them with: regionwise site --bundle dir --cohort dir --out dir"]
    path = folder / SITE
    if not path.is_file():
        return [f"{path} is gone"]
    return [] if file_sha256(path) == scored["sha256"] else [f"{path} was changed"]


def read_site(folder: Path) -> dict[str, Any]:
    """The counts of one site, after a look that they are what was written.

    Raises:
        BundleError: if something was touched, or the counts contradict each other.
    """
    faults = touched_site(folder)
    if faults:
        raise BundleError("; ".join(faults))
    content = read_sealed(folder / SITE, "ask the site for it again")
    try:
        if (content["format"], content.get("cells", CELLS)) != (FORMAT, CELLS):
            raise ValueError(f"format {content['format']} with {content.get('cells')} cells, {FORMAT} with {CELLS} is read")
        counts_of(content)
        _check_told(content)
        log = events(folder)
        said = [(latest(log, name) or {}).get("sha256") for name in ("bundle", "labels read")]
        if said != [content["bundle"]["sha256"], content["labels"]]:
            raise ValueError(f"its {LOG} tells of another bundle or cohort")
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{folder / SITE} cannot be used ({error}); ask the site for it again") from None
    return content


def counts_of(content: Mapping[str, Any]) -> Aggregate | NumberAggregate:
    """The counts of a site.

    Raises:
        ValueError: if they contradict each other.
    """
    return NumberAggregate.of(content["counts"]) if content["kind"] == "number" else Aggregate.of(content["counts"])


def scores_of_kind(kind: str) -> tuple[str, ...]:
    """Names of the scores of a site; ``kind`` is ``number`` or ``classes``."""
    return NUMBER_SCORES if kind == "number" else (*METRICS, "brier")


def _check_told(content: Mapping[str, Any]) -> None:
    """Refuse names and numbers that no site writes.

    Raises:
        ValueError: naming what is wrong.
    """
    texts = (content["site"], content["target"], *content["bundle"].values())
    if not all(isinstance(text, str) and text.isprintable() for text in texts) or not re.fullmatch(NAME, content["site"]):
        raise ValueError(f"{str(content['site'])[:40]!r} is no name of a site")
    for name in scores_of_kind(content["kind"]):
        estimate = content["metrics"][name] or {}
        if not all(value is None or isinstance(value, float | int) for value in estimate.values()):
            raise ValueError(f"{name} holds no numbers")
        if estimate and set(estimate) != {"value", "low", "high", "error"}:
            raise ValueError(f"{name} has {', '.join(map(str, estimate))}")


def read_sites(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The counts of several sites.

    Raises:
        BundleError: if they come from different bundles, or a site or a cohort is there twice.
    """
    sites = [read_site(folder) for folder in folders]
    for what, key in (("site", "site"), ("cohort", "labels")):
        seen: dict[str, Path] = {}
        for folder, site in zip(folders, sites, strict=True):
            if site[key] in seen:
                raise BundleError(f"{seen[site[key]]} and {folder} are of one {what}; keep one of them")
            seen[site[key]] = folder
    for folder, site in zip(folders, sites, strict=True):
        if site["bundle"] != sites[0]["bundle"]:
            raise BundleError(
                f"{folder} was scored with another bundle than {folders[0]}; only those of one bundle are put together"
            )
    return sites
