"""The families of paired comparisons of a study, each with its own Holm adjustment; the same for classes and for numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from experiments.analysis.baseline_files import READERS, reader_name
from experiments.statistics.paired import Comparison

REFERENCE = "global"

Members = Mapping[str, Sequence[Any]]
"""Input -> its rows, one table for each seed."""


class Compare(Protocol):
    """``compare_family`` or ``compare_numbers``, its weights, values and number of permutations given."""

    def __call__(
        self,
        inputs: Members,
        *,
        rng: np.random.Generator,
        reference: str | None,
        metric: str,
        role: str = "",
        chosen: Sequence[tuple[str, str]] = (),
    ) -> list[Comparison]:
        """Compare inputs with the reference, all pairs where it is None, or the pairs that are chosen."""


def families(
    compare: Compare, inputs: Members, beside: Members, rng: np.random.Generator, primary: str, secondary: str
) -> dict[str, list[Comparison]]:
    """Primary, secondary and exploratory families; empty without global or a partner.

    Args:
        compare: What compares.
        inputs: The networks.
        beside: The baselines.
        rng: Source of the swaps.
        primary: Metric of the first family.
        secondary: Metric of the second; its family is named after the AUC.
    """

    def family(members: Members, reference: str | None, metric: str, role: str = "") -> list[Comparison]:
        if len(members) < 2 or (reference is not None and reference not in members):
            return []
        return compare(members, rng=rng, reference=reference, metric=metric, role=role)

    against = {name: tables for name, tables in inputs.items() if name == REFERENCE} | dict(beside)
    return {
        "paired": family(inputs, REFERENCE, primary),
        "paired_auc": family(inputs, REFERENCE, secondary, "secondary"),
        "paired_all": family(inputs, None, primary, "exploratory"),
        "paired_baselines": family(against, REFERENCE, primary, "baseline"),
        "paired_baselines_auc": family(against, REFERENCE, secondary, "baseline, secondary"),
    }


def reader_family(compare: Compare, members: Members, names: Collection[str], metric: str) -> list[Comparison]:
    """Each network against the linear readers of its input, a Holm family for each reader.

    Args:
        compare: What compares.
        members: Networks and readers.
        names: The readers that there are.
        metric: As a rule that of the second family.
    """
    found: list[Comparison] = []
    for reader in READERS:
        pairs = [(name, reader_name(reader, name)) for name in members if reader_name(reader, name) in names]
        if pairs:
            of_pairs = {name: members[name] for pair in pairs for name in pair}
            drawn = np.random.default_rng(0)
            found += compare(of_pairs, rng=drawn, reference=None, metric=metric, role="linear reader", chosen=pairs)
    return found
