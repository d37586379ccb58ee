"""What is said of a control, by rule, in one place.

Every rule looks at the fold-stratified AUC with its 95 % patient-cluster interval: it needs no threshold, so a control is not
let off because its threshold was badly placed. "Above" 0.5 or 0 means that the whole interval lies above it, after both arms
were lengthened by sqrt 2 for overlapping training parts (`experiments.statistics.chance`); it is reported as it was before.
Differences are the image's AUC minus the control's, on the same patients and draws. Nothing is adjusted for the number of
controls: with twenty of them one may be conspicuous by accident.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from experiments.statistics.chance import CHANCE, widened
from experiments.statistics.constant import LEAST_PATIENTS
from experiments.statistics.significance import Estimate

METRIC = "auc"
Flag = Literal["ok", "warning", "info"]

RULES = {
    "image": "The input itself, with the controls' small network. Predicts the label when its interval lies above 0.5. In all "
    "rules both arms of an interval are lengthened by the square root of 2, since the folds' training parts overlap.",
    "permuted": "Warning when the interval of the mean over the permutations excludes 0.5: labels dealt out by chance cannot "
    "be predicted, unless something leaks.",
    "mask_only": "Warning when the mask alone is above chance and the interval of image minus mask does not lie above 0.",
    "shuffled": "Warning when shuffled voxels are above chance and the interval of image minus shuffled does not lie above 0.",
    "random_region": "Warning when the region predicts the label, and the interval of region minus random region does not lie "
    "above 0.",
    "complement": "Tells whether the brain without the region is above chance, and whether the region is above it.",
    "header_only": "Warning when acquisition alone (logistic regression, the same folds) is above chance.",
    "sex": "Warning when sex, which brain images show, is not predicted: then a negative result may be one of the pipeline.",
    "field_strength": "Warning when field strength, which images show, is not predicted.",
    "leaky": "Tells by how much a split by scan instead of by patient inflates the AUC of ranks within a fold, for a network "
    "that can remember single scans under both splits; says nothing of the study, which is split by patient.",
}


@dataclass(frozen=True)
class Verdict:
    """A flag and its words."""

    flag: Flag
    text: str


def above(estimate: Estimate | None, value: float = CHANCE) -> bool:
    """Whether a whole interval, widened for overlapping training parts, lies above a value; False where it is undefined."""
    low = None if estimate is None else widened(estimate).low
    return low is not None and low > value


def below(estimate: Estimate | None, value: float = CHANCE) -> bool:
    """Whether a whole interval, widened for overlapping training parts, lies below a value; False where it is undefined."""
    high = None if estimate is None else widened(estimate).high
    return high is not None and high < value


def verdict(
    control: str,
    result: Estimate,
    image: Estimate | None = None,
    gain: Estimate | None = None,
    silent: str = "",
    few: bool = False,
) -> Verdict:
    """Put a control into words.

    Args:
        control: Name of the control.
        result: AUC of the control.
        image: AUC of the image it is compared with; None where there is no such comparison.
        gain: Image minus control; for ``leaky`` the leaky split minus the honest one.
        silent: What gave one probability to all scans of most folds; empty if nothing did.
        few: Whether a class has too few patients for a word.
    """
    if silent:
        constant = f"{silent} gave one probability to all scans of most folds"
        if silent == ALONE["mask_only"]:
            return Verdict("info", f"{constant}, as a mask that is the same for everyone must")
        return Verdict("warning", f"nothing to judge: {constant}")
    if result.value is None:
        return Verdict("info", "undefined: no fold holds both classes")
    if few:
        return Verdict("info", f"nothing is judged with fewer than {LEAST_PATIENTS} patients of a class")
    if control == "image":
        return Verdict("info", "predicts the label" if above(result) else "not shown to predict the label")
    if control == "permuted":
        return _permuted(result)
    if control in ("sex", "field_strength"):
        name = control.replace("_", " ")
        if above(result):
            return Verdict("ok", f"the pipeline can learn: it predicts {name}")
        return Verdict("warning", f"{name} is not predicted; a negative result here may be one of the pipeline")
    if control == "leaky":
        return _leaky(gain)
    if control == "complement":
        return _complement(result, image, gain)
    if control == "random_region":
        if not above(image):
            return Verdict("info", "the region itself is not shown to predict the label")
        if above(gain, 0.0):
            return Verdict("ok", "says more than a random piece of brain of its size")
        return Verdict("warning", "no evidence that it says more than a random piece of brain of its size")
    return _explained(control, result, image, gain)


def _permuted(result: Estimate) -> Verdict:
    if above(result):
        return Verdict("warning", "above chance: labels dealt out by chance are predicted, something leaks")
    if below(result):
        return Verdict("warning", "below chance; repeat it with more --permutations")
    return Verdict("ok", "at chance, as it must be")


def _leaky(gain: Estimate | None) -> Verdict:
    if gain is None or gain.value is None or not above(gain, 0.0):
        return Verdict("info", "no inflation seen in this cohort; it is no reason to split by scan")
    return Verdict("info", f"a split by scan instead of by patient inflates the AUC by {gain.value:.2f}")


def _complement(result: Estimate, image: Estimate | None, gain: Estimate | None) -> Verdict:
    if not above(result):
        return Verdict("ok" if above(image) else "info", "the rest of the brain is not shown to predict the label")
    if above(gain, 0.0):
        return Verdict("info", "the rest of the brain predicts the label too, the region does so better")
    if not above(image):
        return Verdict("info", "the rest of the brain predicts the label, the region is not shown to")
    return Verdict("info", "the rest of the brain predicts the label as well: the signal is not this region's alone")


ALONE = {"mask_only": "the mask alone", "shuffled": "the region's intensities in any order", "header_only": "acquisition alone"}
BEYOND = {
    "mask_only": "no evidence of information beyond region size and shape",
    "shuffled": "no evidence of information beyond region size, shape and the distribution of its intensities",
    "header_only": "acquisition alone predicts the label; no evidence of information beyond it",
}


def _explained(control: str, result: Estimate, image: Estimate | None, gain: Estimate | None) -> Verdict:
    """Whether something that is no image, or less than one, says as much as the image."""
    alone = ALONE[control]
    if not above(result):
        verb = "do" if alone.startswith("the region") else "does"
        if above(image):
            return Verdict(
                "ok", f"{alone} {verb} not show the label: {verb} not explain what the image says".replace(": ", ", ")
            )
        return Verdict("info", f"neither the image nor {alone} is shown to predict the label")
    if not above(gain, 0.0):
        return Verdict("warning", BEYOND[control])
    flag: Flag = "warning" if control == "header_only" else "info"
    verb = "predict" if alone.startswith("the region") else "predicts"
    return Verdict(flag, f"{alone} {verb} the label; the image adds to it")
