"""Leave-site-out: the scores of every input in each site, and how much the sites differ. Written as sites.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.cohort.splits import read_facts
from datamodules.files.sealed import read_sealed, write_sealed
from experiments.analysis.details import corrected_row
from experiments.analysis.pooling import Pooled, Tables
from experiments.analysis.subgroups import BoolArray, part, scans_and_draws, subset
from experiments.statistics.heterogeneity import of_areas
from experiments.statistics.paired import ALPHA, MARGIN, Comparison
from experiments.statistics.resampling import WeightArray
from experiments.statistics.significance import family_values, p_text

FILE = "sites.json"
FEW_SITES = 5
"""With fewer sites, the variance between them is hardly known, and the sentence says so."""
ABOUT = (
    "Each site was tested by models that saw none of its scans. AUC over sites: random-effects mean of the sites' log odds "
    "(DerSimonian and Laird), I2 the share of the variation between sites that is not chance, and the 95 % prediction interval "
    "in which the true AUC of a further site would lie (Higgins, Thompson and Spiegelhalter 2009). Sites without an interval "
    "do not enter it."
)


def held_over_sites(
    families: Mapping[str, Sequence[Comparison]], tables: Tables, ratio: float
) -> tuple[dict[str, list[Comparison]], list[str]]:
    """The families of a leave-site-out study, in which what is said of decisions must also hold with sites as units.

    A threshold from other sites can decide a whole site alike, for one input and not for the other; then its patients are no
    independent witnesses, and the permutation of patients rejects too often. So the corrected t test on the sites' differences,
    or its interval, must agree.

    Args:
        families: Name -> comparisons; those of the AUC, which is one within sites, stay as they are.
        tables: Input or baseline -> one table for each seed.
        ratio: Size of a test part over that of the training parts.

    Returns:
        The families, and a sentence for each verdict that was taken back.
    """
    notes: dict[str, None] = {}

    def judged(pair: Comparison) -> Comparison:
        said = next((word for word in ("different", "equivalent") if pair.verdict.startswith(word)), "")
        if pair.metric != "balanced_accuracy" or not said:
            return pair
        row = corrected_row(tables, pair, ratio)
        if row and (row["p"] < ALPHA if said == "different" else max(-row["low"], row["high"]) < MARGIN):
            return pair
        notes[f"{pair.first} minus {pair.second}: {said} over patients, but not over sites; not called {said}"] = None
        _, bracket, role = pair.verdict.partition(" (")
        return replace(pair, verdict=f"not distinguishable{bracket}{role}")

    return {name: [judged(pair) for pair in family] for name, family in families.items()}, list(notes)


def write_sites(study: Path, tables: Tables, draws: int) -> None:
    """Write sites.json of a study that is split by site; of another nothing.

    Args:
        study: The study's folder.
        tables: Input or baseline -> one table for each seed.
        draws: Bootstrap draws.
    """
    names = read_facts(study / "splits.tsv").get("sites", [])
    if not names:
        return
    first = next(iter(tables.values()))[0].test
    _, _, weights = scans_and_draws(study, tables, draws)
    folds = {name: first.fold == fold for fold, name in enumerate(names) if np.any(first.fold == fold)}
    groups = [{"site": name, **part(tables, chosen, weights)} for name, chosen in folds.items()]
    errors = {name: [_auc_error(by_seed, chosen, weights) for chosen in folds.values()] for name, by_seed in tables.items()}
    over = {name: _over_sites([group["inputs"].get(name) for group in groups], of_site) for name, of_site in errors.items()}
    write_sealed(study / FILE, {"draws": draws, "about": ABOUT, "sites": groups, "over_sites": over})


def _auc_error(by_seed: Sequence[Pooled], chosen: BoolArray, weights: WeightArray) -> float:
    """Standard error of the AUC within one site, the mean over seeds: the spread of its bootstrap draws; NaN if undefined."""
    first = by_seed[0].test
    if np.unique(first.y[chosen]).size < 2:
        return float("nan")
    drawn = weights[:, np.unique(first.patient_index[chosen])]
    members = {str(number): [subset(pooled.test, chosen)] for number, pooled in enumerate(by_seed)}
    draws = np.mean([values["auc"][1] for values in family_values(members, drawn).values()], axis=0)
    return float(np.nanstd(draws, ddof=1)) if np.isfinite(draws).sum() > 1 else float("nan")


def _over_sites(estimates: Sequence[Mapping[str, Any] | None], errors: Sequence[float]) -> dict[str, Any] | None:
    pairs = [
        (estimate["auc"]["value"], error)
        for estimate, error in zip(estimates, errors, strict=True)
        if estimate and estimate["auc"]["low"] is not None and 0 < estimate["auc"]["value"] < 1 and error > 0
    ]
    return asdict(of_areas(*map(list, zip(*pairs, strict=True)))) if len(pairs) > 1 else None


def site_sentence(name: str, over: Mapping[str, Any] | None) -> str:
    """What the sites say of one input."""
    if over is None:
        return f"{name}: too few sites with an interval to say whether they differ"
    text = (
        f"{name}: AUC over {over['sites']} sites {over['mean']:.2f} [{over['low']:.2f}, {over['high']:.2f}], "
        f"I2 {100 * over['i2']:.0f} % (Q {over['q']:.1f}, p {p_text(over['p'])})"
    )
    if over["predicted_low"] is not None:
        text += f"; the AUC of a further site would lie in {over['predicted_low']:.2f} to {over['predicted_high']:.2f}"
    return text + (f"; {over['sites']} sites tell little about how sites differ" if over["sites"] < FEW_SITES else "")


def site_lines(study: Path) -> list[str]:
    """What the sites say of every input; nothing where the study is not split by site."""
    if not read_facts(study / "splits.tsv").get("sites"):
        return []
    content = read_sealed(study / FILE, f"make it again with: make compare STUDY={study.name}")
    return [site_sentence(name, over) for name, over in content["over_sites"].items()]
