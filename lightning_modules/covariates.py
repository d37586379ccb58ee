"""How a network's option names covariates, and how many numbers each of them becomes; no torch."""

from __future__ import annotations

SLOTS = 5
"""Numbers that the head is given for each covariate: a number or one of two values needs one, one of five values five."""


def covariate_names(covariates: str) -> list[str]:
    """Names of columns, separated by commas, each once."""
    return list(dict.fromkeys(name.strip() for name in covariates.split(",") if name.strip()))
