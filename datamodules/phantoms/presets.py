"""What is planted in a synthetic cohort: named presets of effects per structure.

An effect is Cohen's d between the two classes (EDSS >= 3.0 against < 3.0), within-class standard deviation as the unit.
A positive d is what multiple sclerosis does: larger ventricles, smaller tissue, more lesions, darker T1w and brighter
FLAIR tissue. The d is stated for the planted quantity (a boundary's shift, a signal's change, a log lesion load); a
volume measured in the images also varies with head shape and noise, so its d comes out lower.

References:
    The sizes of `literature` follow published correlations of regional volumes with the EDSS (Fisniku et al. 2008, Ann
    Neurol 64:247; Li et al. 2006, Neurology 66:1384; Roosendaal et al. 2011), turned into d at 30 % prevalence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from regions.errors import UserError, did_you_mean

STRUCTURES = ("ventricles", "cortex", "cerebellar_cortex", "subcortical", "brainstem", "white_matter", "lesions")
"""What can change its size; `ventricles` are the lateral and third ventricles, `lesions` is the lesion load."""

TISSUES = ("cortex", "cerebellar_cortex", "subcortical", "brainstem", "white_matter")
"""What can change its signal."""


class PhantomError(UserError):
    """A synthetic cohort was asked for that cannot be made; the message says what is allowed."""


@dataclass(frozen=True)
class PhantomPreset:
    """One planted truth.

    Args:
        name: how the preset is called.
        description: one sentence for the reader of a cohort's README.
        shape_effects: structure to d of its size, from `STRUCTURES`; a structure that is not named has d = 0.
        intensity_effects: tissue to d of its signal, from `TISSUES`.
        shape_offsets: structure to a change that all patients share, in within-class standard deviations; 0 keeps the
            cohort centred on the template.
        external_share: every d is multiplied by this in an external cohort.
        class_gap: extra distance in severity between the two classes, in standard deviations; 0 is a smooth spectrum.
        rater_noise: the recorded EDSS strays from the true one by half a point in 18 % and by a point in 2.5 % of the
            scans.
        shared_noise: residual correlation between the structures of one patient.
        age_effect: r(age, EDSS) = .35 and older patients have more atrophy; without it age says nothing about the
            label.
        deformation_mm: root mean square of the smooth random displacement along each axis.
        patchy_signal: a signal change has dark and bright patches that cancel over the tissue, so that normalising a
            whole brain does not carry it into other regions; otherwise it is the same everywhere in the tissue.
        high_field_share: share of 3 T scans among the lower and the higher class.
    """

    name: str
    description: str
    shape_effects: Mapping[str, float] = field(default_factory=dict)
    intensity_effects: Mapping[str, float] = field(default_factory=dict)
    shape_offsets: Mapping[str, float] = field(default_factory=dict)
    external_share: float = 0.7
    class_gap: float = 0.0
    rater_noise: bool = True
    shared_noise: float = 0.45
    age_effect: bool = True
    deformation_mm: float = 1.2
    patchy_signal: bool = False
    high_field_share: tuple[float, float] = (0.5, 0.5)

    def __post_init__(self) -> None:
        for effects, allowed in ((self.shape_effects, STRUCTURES), (self.intensity_effects, TISSUES)):
            unknown = sorted(set(effects) - set(allowed))
            if unknown:
                raise PhantomError(f"Preset {self.name!r} names unknown structures {unknown}; known are {list(allowed)}.")

    def scaled(self, share: float) -> PhantomPreset:
        """Return the same preset with every d multiplied by `share`."""
        shape = {name: d * share for name, d in self.shape_effects.items()}
        return replace(
            self, shape_effects=shape, intensity_effects={name: d * share for name, d in self.intensity_effects.items()}
        )


LITERATURE_EFFECTS = {
    "subcortical": 0.85,
    "cortex": 0.70,
    "ventricles": 0.70,
    "lesions": 0.55,
    "brainstem": 0.45,
    "cerebellar_cortex": 0.40,
    "white_matter": 0.20,
}

COLL_LIKE_SCALE = 1.6


def _times(effects: Mapping[str, float], factor: float) -> dict[str, float]:
    """Multiply every effect."""
    return {name: round(d * factor, 3) for name, d in effects.items()}


def _single_region(region: str, shape: Mapping[str, float], intensity: Mapping[str, float]) -> PhantomPreset:
    """Return a preset in which one region alone carries a strong effect.

    The offsets let the planted structures reach from the template's size downwards, never far beyond it: a structure
    that grew would enter the neighbouring regions' voxels and be seen there. The two large regions change their shape
    only mildly, since that moves the whole brain's mean, by which every region is normalised; their signal carries the
    effect.
    """
    offsets = {name: -1.4 if name == "ventricles" else 1.2 for name in shape if name != "lesions"}
    return PhantomPreset(
        f"single_region:{region}",
        f"Only the region {region} differs between the classes, strongly.",
        shape,
        intensity,
        offsets,
        external_share=0.9,
        class_gap=0.5,
        rater_noise=False,
        shared_noise=0.0,
        age_effect=False,
        deformation_mm=0.7,
        patchy_signal=True,
    )


_ALL = (
    PhantomPreset("literature", "Effects as published for regional volumes and lesion load.", LITERATURE_EFFECTS),
    PhantomPreset(
        "coll_like",
        "The published pattern, scaled until all structures together reach a d of about 1.6 (external 1.1).",
        _times(LITERATURE_EFFECTS, COLL_LIKE_SCALE),
        {"white_matter": 0.6, "cortex": 0.4},
        external_share=0.62,
    ),
    PhantomPreset("null", "No image property differs between the classes: every model is at chance.", age_effect=False),
    PhantomPreset(
        "shape_only",
        "Atrophy without any change of signal or lesion load.",
        {name: d for name, d in _times(LITERATURE_EFFECTS, 1.5).items() if name != "lesions"},
        age_effect=False,
    ),
    PhantomPreset(
        "intensity_only",
        "The signal of white matter differs strongly, volumes do not.",
        intensity_effects={"white_matter": 2.75},
        class_gap=0.5,
        rater_noise=False,
        age_effect=False,
    ),
    PhantomPreset(
        "site_confounded",
        "No anatomical effect, but the higher class was mostly scanned at 3 T and the lower class mostly at 1.5 T.",
        age_effect=False,
        high_field_share=(0.2, 0.85),
    ),
    _single_region("white_matter", {"white_matter": 1.0, "lesions": 1.0}, {"white_matter": 2.75}),
    _single_region("gray_matter", {"cortex": 0.7, "cerebellar_cortex": 0.7}, {"cortex": 2.75, "cerebellar_cortex": 2.75}),
    _single_region("subcortical_gray_matter", {"subcortical": 2.75}, {"subcortical": 2.75}),
    _single_region("ventricles", {"ventricles": 2.75}, {}),
    _single_region("brainstem", {"brainstem": 2.75}, {"brainstem": 2.75}),
    replace(
        _single_region("ventricles", {"ventricles": 2.0}, {}),
        name="enlarged_ventricles",
        description="Only the ventricles differ; they are larger than the template's and push into their neighbours.",
        shape_offsets={},
    ),
)

PRESETS: Mapping[str, PhantomPreset] = {preset.name: preset for preset in _ALL}
"""All presets by name."""


def get_preset(name: str) -> PhantomPreset:
    """Return a preset by name.

    Raises:
        PhantomError: no preset has that name; the message lists all and suggests the nearest.
    """
    if name in PRESETS:
        return PRESETS[name]
    raise PhantomError(f"There is no phantom preset {name!r}{did_you_mean(name, PRESETS)}. Known are: {', '.join(PRESETS)}.")
