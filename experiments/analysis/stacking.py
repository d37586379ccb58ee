"""Networks together: the regions of a fold as one predictor, and each input beside age and sex.

Both are stacks (``experiments.statistics.stacking``) fitted on the tuning part of each fold and applied to its test part. The
regions start from the tuning part's share of positive scans, and are compared with the whole brain. A network beside the
clinical model starts from that model's log odds, which are taken as they are, so that what it adds is what it knows beyond
them: the difference of the two on the test part is its added value.

References:
    Steyerberg et al., Assessing the performance of prediction models, Epidemiology 2010;21:128-138 (what a marker adds is told
    by the change of the AUC and of the Brier score).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import logit

from experiments.analysis.ensembles import tuning_probabilities
from experiments.analysis.pooling import Pooled, Tables
from experiments.statistics.calibration import brier_losses, clipped_logit
from experiments.statistics.constant import SAME
from experiments.statistics.paired import Comparison as Paired
from experiments.statistics.paired import compare_family
from experiments.statistics.predictions import Predictions
from experiments.statistics.resampling import WeightArray
from experiments.statistics.significance import Values, family_values, mean_draws, runs, summarise
from experiments.statistics.stacking import fit_stack
from lightning_modules.decision import Decision, choose_threshold
from regions.catalog import REGIONS

TOGETHER = "regions (stacked)"
INPUTS_TOGETHER = "inputs (stacked)"
"""The same row where one of its inputs shows some of the study's images only, as those of ``--channels`` do."""
CLINICAL = "age_sex"
STACKED_FAMILIES = ("paired_stacked", "paired_stacked_auc", "paired_added", "paired_added_brier")
ROLE, ADDED = "stacked", "added value"


def beside_clinical(name: str) -> str:
    """Name of an input's network stacked with the clinical model."""
    return f"{name} + {CLINICAL}"


def stack(models: Sequence[Pooled], decision: Decision, clinical: Pooled | None = None) -> Pooled:
    """Networks of one seed as one predictor, fitted on each fold's tuning part; it decides by the study's rule.

    Args:
        models: One table for each network, all of the same scans.
        decision: The rule of the threshold, which looks at the stack's own tuning rows.
        clinical: The model whose log odds are taken as they are; None starts from the tuning part's share of positive scans.
    """
    first, test = models[0], models[0].test
    beside = [] if clinical is None else [clinical]
    p, decided, tuning, thresholds = test.p.copy(), test.decision.copy(), {}, {}
    for fold, (y, _) in first.tuning.items():
        rows = test.fold == fold
        tuned = clipped_logit(tuning_probabilities([*models, *beside], fold))
        tested = clipped_logit([pooled.test.p[rows] for pooled in (*models, *beside)])
        share = logit((y.sum() + 1) / (y.size + 2))
        offsets = (share, share) if clinical is None else (tuned[-1], tested[-1])
        fit = fit_stack(y, tuned[: len(models)], offsets[0])
        tuning[fold] = (y, fit.probabilities(tuned[: len(models)], offsets[0]))
        thresholds[fold] = choose_threshold(decision, *tuning[fold], first.thresholds[fold])
        p[rows] = fit.probabilities(tested[: len(models)], offsets[1])
        decided[rows] = p[rows] >= thresholds[fold]
    return replace(first, test=replace(test, p=p, decision=decided), tuning=tuning, thresholds=thresholds)


def regions_together(
    networks: Tables, reference: str, decision: Decision, parts: Collection[str] | None = None
) -> list[Pooled]:
    """The stack of all regions, one for each seed; empty with fewer than two.

    Args:
        networks: Input -> one table for each seed.
        reference: The whole brain.
        decision: The rule of the thresholds.
        parts: The inputs that are stacked, see ``parts_of``; all but the reference by default.
    """
    regions = list(_stacked(networks, reference, parts).values())
    return [stack(of_seed, decision) for of_seed in zip(*regions, strict=True)] if len(regions) > 1 else []


def compare_stacks(
    networks: Tables,
    baselines: Mapping[str, Pooled],
    weights: WeightArray,
    values: Mapping[str, Values],
    reference: str,
    decision: Decision,
    together: Sequence[Pooled],
    row: str = TOGETHER,
) -> dict[str, Any]:
    """The regions together against the whole brain, and what each input adds to the clinical model.

    Args:
        networks: Input -> one table for each seed.
        baselines: The clinical model, if it was fitted.
        weights: (draws, patients), those of the single networks.
        values: Values under these weights of the reference and of the clinical model.
        reference: The whole brain.
        decision: The rule of the thresholds.
        together: The stack of all regions, see ``regions_together``.
        row: What their stack is called, see ``row_of``.

    Returns:
        `stacked` and the families of it, as ``StudyComparison`` holds them.
    """
    clinical = baselines.get(CLINICAL)
    stacks: dict[str, list[Predictions]] = {}
    if together:
        stacks[row] = [pooled.test for pooled in together]
    for name, seeds in networks.items() if clinical else ():
        stacks[beside_clinical(name)] = [stack([pooled], decision, clinical).test for pooled in seeds]
    if not stacks:
        return {}
    drawn = family_values(stacks, weights)
    content: dict[str, Any] = {family: [] for family in STACKED_FAMILIES}
    content["stacked"] = {name: summarise(tests, weights, values=drawn[name]) for name, tests in stacks.items()}
    rng, draws = np.random.default_rng(0), len(weights)
    if row in stacks and reference in networks:
        pair = {row: stacks[row], reference: [pooled.test for pooled in networks[reference]]}
        known = {row: drawn[row], reference: values[reference]}
        for name, metric, role in (("", "balanced_accuracy", ROLE), ("_auc", "auc", f"{ROLE}, secondary")):
            content[f"paired_stacked{name}"] = compare_family(
                pair, weights, rng, reference=reference, metric=metric, permutations=draws, values=known, role=role
            )
    if clinical:
        members = {name: tests for name, tests in stacks.items() if name != row}
        members[CLINICAL] = [clinical.test] * len(next(iter(members.values())))
        known = {
            name: {**(drawn[name] if name in drawn else values[name]), "brier": _brier(tests, weights)}
            for name, tests in members.items()
        }
        for name, metric in (("", "auc"), ("_brier", "brier")):
            content[f"paired_added{name}"] = compare_family(
                members, weights, rng, reference=CLINICAL, metric=metric, permutations=draws, values=known, role=ADDED
            )
    return content


def _brier(tests: Sequence[Predictions], weights: WeightArray) -> tuple[float, Any]:
    """Brier score and its draws, averaged over seeds."""
    tables = [(test, brier_losses(test)) for test in runs(tests)]
    return float(np.mean([loss.mean() for _, loss in tables])), np.mean(
        [mean_draws(test, loss, weights) for test, loss in tables], axis=0
    )


def parts_of(names: Collection[str], labels: Mapping[str, Sequence[int]]) -> list[str]:
    """The inputs that are the parts of a whole brain: the five regions; where fewer than two of them are there, all others.

    Args:
        names: Inputs of a study.
        labels: Input -> its labels, as the study's record has them; an input without labels is a whole brain.
    """
    usual = [name for name in names if name in REGIONS and REGIONS[name].labels]
    return usual if len(usual) > 1 else [name for name in names if labels.get(name)]


def row_of(parts: Collection[str], images: Mapping[str, Sequence[str]]) -> str:
    """What the stack of all parts is called: of regions where each shows all images of the study, else of inputs.

    Args:
        parts: The inputs that are stacked.
        images: Input -> the images that it shows, where these are not all.
    """
    return INPUTS_TOGETHER if any(images.get(name) for name in parts) else TOGETHER


def _stacked(networks: Tables, reference: str, parts: Collection[str] | None) -> Tables:
    return {name: seeds for name, seeds in networks.items() if name != reference and (parts is None or name in parts)}


def stack_notes(networks: Tables, reference: str, parts: Collection[str] | None = None, row: str = TOGETHER) -> list[str]:
    """The regions that are missing from the row of all regions, or its inputs; folds in which a network told no scans apart."""
    regions = _stacked(networks, reference, parts)
    if len(regions) < 2:
        return []
    notes = []
    absent = [name for name in REGIONS if name != reference and name not in regions]
    if row == INPUTS_TOGETHER:
        notes.append(f"{row} combines {', '.join(regions)}, not all of which show all images")
    elif absent and set(regions) & set(REGIONS):
        notes.append(f"{row} combines {len(regions)} regions, without {', '.join(absent)}")
    for name, seeds in regions.items():
        constant = [fold for fold in seeds[0].tuning if any(np.ptp(pooled.tuning[fold][1]) < SAME for pooled in seeds)]
        if constant:
            folds = ", ".join(map(str, constant))
            notes.append(f"{row}: {name} tells no tuning scans of fold {folds} apart, and has no weight there")
    return notes


def together_sentence(pair: Paired, regions: Sequence[Paired]) -> str:
    """Does the whole brain know more than its parts? From verdicts and the signs of differences alone.

    A stack in which one region carries everything is worse than that region, since the others have some weight too. So the
    whole brain knows more than its parts only if it is also better than each of them.

    Args:
        pair: The regions together against the whole brain.
        regions: Each region against the whole brain, same metric.
    """
    gap, words, parts = pair.difference.value, pair.verdict, pair.first.partition(" ")[0]
    equals = [region.first for region in regions if not _is_lower(region)]
    if _is_lower(pair) and equals:
        return f"{pair.second} is better than the {parts} stacked, and not shown to know more than {', '.join(equals)} alone"
    if _is_lower(pair):
        return f"{pair.second} knows more than the {parts}, together or alone"
    if words.startswith("different") and gap is not None:
        return f"the {parts} together know more than the network of {pair.second} reads"
    if words.startswith("equivalent"):
        return f"{pair.second} knows no more than the {parts} together ({words.partition(' (')[0]})"
    if words.startswith("not distinguishable"):
        return f"not shown that {pair.second} knows more than the {parts} together, nor that it knows less"
    return f"{pair.second} and the {parts} together cannot be compared ({words.partition(' (')[0]})"


def _is_lower(pair: Paired) -> bool:
    return pair.verdict.startswith("different") and (pair.difference.value or 0) < 0


def added_sentence(auc: Paired, brier: Paired) -> str:
    """What an input adds to age and sex: to the order of the scans (AUC), or to the probabilities alone (Brier score)."""
    name = auc.first.removesuffix(f" + {CLINICAL}")
    if not auc.verdict.startswith(("different", "equivalent", "not distinguishable")):
        return f"{name}: cannot be judged beside age and sex ({auc.verdict.partition(' (')[0]})"
    order, loss = ((pair.difference.value or 0) if pair.verdict.startswith("different") else 0.0 for pair in (auc, brier))
    if order < 0:
        return f"{name}: orders the scans worse together with age and sex than these alone do"
    if order > 0:
        worse = "the order that age and sex give, with worse probabilities"
        return f"{name}: adds to {worse if loss > 0 else 'age and sex'}"
    if loss < 0:
        return f"{name}: betters the probabilities that age and sex give, not shown that it orders the scans better"
    return f"{name}: no added value shown over age and sex"
