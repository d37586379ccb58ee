"""What may be said of an explanation, by rule, in one place.

A network at chance still draws a convincing map, so no input is explained whose AUC is not above chance, by the very words of
``compare``. A region is looked at only where the study's networks look at it more than networks with permuted labels do: its
density lies beyond their prediction band (`experiments.statistics.relevance.band`), one-sided, Holm-adjusted over the regions
of an input at 5 %, and in three of four networks at least, or the folds disagree. It is called relevant where it is needed as
well: gradients reach into a region's neighbours, its absence does not. A map is shown of an input with a region that is looked
at; of an input that shows one region alone, where the folds' maps agree with each other, voxel by voxel, more than those of
permuted networks do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from experiments.statistics.chance import WORDS

ALPHA = 0.05
"""Error rate of calling any region of an input relevant that is not, and of saying that its folds agree."""
MOST = 0.75
"""Share of the networks that must look at a relevant region more than the mean permuted network does."""
State = Literal["shown", "not interpretable", "no map"]

FEW = "not interpretable: too few networks with permuted labels to compare with"
ABOUT = (
    "A region is looked at where the networks' relevance, voxel for voxel, lies beyond the prediction band of networks with "
    f"permuted labels: one-sided, Holm-adjusted over the regions of an input at {ALPHA:.0%}, in {MOST:.0%} of the networks at "
    "least. It is needed where the AUC falls when it shows what the training part shows there on average (paired permutation "
    f"test, Holm, {ALPHA:.0%}, and an interval without 0). It is called relevant where it is both."
)


@dataclass(frozen=True)
class Verdict:
    """Whether a map is shown, and the sentence beside it."""

    state: State
    words: str


def may_look(chance: str) -> bool:
    """Whether an input is explained at all, by what ``compare`` says of its AUC."""
    return chance == WORDS[0]


def no_map(chance: str) -> Verdict:
    """Why an input has no map."""
    auc = {WORDS[1]: "its AUC is below chance", WORDS[2]: "its AUC is not shown to be above chance"}
    return Verdict("no map", f"no map: {auc.get(chance, chance)}")


def is_beyond(p_holm: float | None, above: float) -> bool:
    """Whether a region's density lies beyond the permuted band.

    Args:
        p_holm: Adjusted one-sided p; None where the band is not known.
        above: Share of the networks whose density is higher than that of the mean permuted network.
    """
    return p_holm is not None and p_holm < ALPHA and above >= MOST


def is_needed(pair: Mapping[str, Any] | None) -> bool:
    """Whether the AUC falls without a region, by the words of a paired comparison of the whole minus the occluded input."""
    return pair is not None and pair["verdict"].startswith("different") and pair["difference"]["value"] > 0


def region_words(beyond: bool, needed: bool | None, known: bool) -> str:
    """The verdict of a region.

    Args:
        beyond: Whether its density lies beyond the permuted band.
        needed: Whether the AUC falls without it; None where it was not taken away, since the input shows no other region.
        known: Whether the band is.
    """
    if not known:
        return "needed; permuted band not known" if needed else "permuted band not known"
    if needed is None:
        return "looked at more than the rest of the input" if beyond else "not shown to be looked at more than the rest"
    if beyond:
        return "relevant" if needed else "looked at, not shown to be needed"
    return "needed, but within the permuted band" if needed else "not shown to be relevant"


def input_verdict(regions: Sequence[Mapping[str, Any]], agreement: Mapping[str, Any], several: bool) -> Verdict:
    """Whether the map of an input above chance may be shown.

    Args:
        regions: ``name``, ``beyond``, ``relevant`` and ``p_holm`` of its regions.
        agreement: ``p`` that its folds agree more than permuted networks do; None where that is not known.
        several: Whether it shows several regions, so that one can be compared with the others.
    """
    relevant = ", ".join(region["name"] for region in regions if region["relevant"])
    beyond = ", ".join(region["name"] for region in regions if region["beyond"] and not region["relevant"])
    if several and (relevant or beyond):
        parts = [f"relevant: {relevant}" if relevant else "", f"looked at, not shown to be needed: {beyond}" if beyond else ""]
        return Verdict("shown", "; ".join(filter(None, parts)))
    if several and all(region["p_holm"] is None for region in regions):
        return Verdict("not interpretable", FEW)
    if several and (split := [region["name"] for region in regions if (region["p_holm"] or 1) < ALPHA]):
        return Verdict("not interpretable", f"not interpretable: the folds disagree on {', '.join(split)}")
    if several:
        return Verdict("not interpretable", "not interpretable: no region is beyond the band of networks with permuted labels")
    if agreement["p"] is None:
        return Verdict("not interpretable", FEW)
    if agreement["p"] >= ALPHA:
        return Verdict("not interpretable", "not interpretable: the folds agree no more than networks with permuted labels do")
    return Verdict("shown", "the folds agree; the input shows one region, so that none is compared with another")
