"""Who is in a synthetic cohort: severity, EDSS, age, dates, scanners, and how far each structure has changed.

One latent severity per patient drives the EDSS and the changes of all structures, see `datamodules.phantoms.effects`.

Every scan has a separate random generator, derived from (seed, cohort, patient, scan), so that the order of work does not
matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from datamodules.phantoms.effects import RATER_STEPS, SCALE, change, severity_class, true_step
from datamodules.phantoms.presets import STRUCTURES, TISSUES, PhantomError, PhantomPreset, get_preset
from datamodules.phantoms.scanner import EXTERNAL_SITES, Scanner, draw_scanner

SEVERITY_RETEST = 0.99
WITHIN_PATIENT = 0.9
AGE_ON_SEVERITY = 0.37
AGE_ON_ATROPHY = 0.5


@dataclass(frozen=True)
class PhantomOptions:
    """What cohort to make; the same options give the same bytes.

    Args:
        preset: name of the planted truth, see `datamodules.phantoms.presets.PRESETS`.
        patients: number of patients.
        scans: number of scans; scans - patients patients have a second scan about a year after the first.
        spacing_mm: side of a voxel, 1 to 8 mm.
        seed: any integer from 0.
        external: an external cohort: other patients, five sites, other vendors, stronger differences between scanners.
        unusable: this many patients have no EDSS, or none within half a year after the scan.

    Raises:
        PhantomError: a value that makes no cohort.
    """

    preset: str = "literature"
    patients: int = 84
    scans: int = 100
    spacing_mm: float = 3.0
    seed: int = 0
    external: bool = False
    unusable: int = 0

    def __post_init__(self) -> None:
        get_preset(self.preset)
        if self.patients < 1:
            raise PhantomError(f"A cohort needs at least 1 patient, not {self.patients}.")
        if not self.patients <= self.scans <= 2 * self.patients:
            raise PhantomError(
                f"{self.patients} patients have {self.patients} to {2 * self.patients} scans (one or two each), "
                f"not {self.scans}."
            )
        if not 1.0 <= self.spacing_mm <= 8.0:
            raise PhantomError(f"The voxel side must be 1 to 8 mm, not {self.spacing_mm:g} mm.")
        if self.seed < 0:
            raise PhantomError(f"The seed must be 0 or more, not {self.seed}.")
        if not 0 <= self.unusable <= self.patients:
            raise PhantomError(f"unusable must be 0 to {self.patients} patients, not {self.unusable}.")

    @property
    def truth(self) -> PhantomPreset:
        """The preset with the effect sizes of this cohort."""
        preset = get_preset(self.preset)
        return preset.scaled(preset.external_share) if self.external else preset


@dataclass(frozen=True)
class PhantomScan:
    """One scan.

    Args:
        number: 1 or 2.
        taken: when the scan was made.
        edss: the recorded EDSS; None when it is missing.
        edss_date: day of the neurological examination.
        scanner: how it was measured.
        shape: structure to its change of size, in within-class standard deviations.
        signal: tissue to its change of signal, likewise.
    """

    number: int
    taken: datetime
    edss: float | None
    edss_date: date
    scanner: Scanner
    shape: Mapping[str, float]
    signal: Mapping[str, float]


@dataclass(frozen=True)
class PhantomPatient:
    """One patient with one or two scans; `number` counts from 1."""

    number: int
    label: str
    age: int
    sex: Literal["F", "M"]
    site: str
    scans: tuple[PhantomScan, ...]


def generator(options: PhantomOptions, patient: int = 0, scan: int = 0, purpose: int = 0) -> np.random.Generator:
    """Return the random generator of a scan (scan >= 1), of a patient (scan 0) or of the cohort (patient 0)."""
    return np.random.default_rng(np.random.SeedSequence((options.seed, int(options.external), patient, scan, purpose)))


def draw_patients(options: PhantomOptions) -> list[PhantomPatient]:
    """Draw all patients of a cohort, without their images."""
    rng = generator(options)
    strata = rng.permutation(options.patients) + rng.uniform(0.001, 0.999, options.patients)
    severities = ndtri(strata / options.patients)
    order = rng.permutation(options.patients)
    twice = set(order[: options.scans - options.patients].tolist())
    unusable = {int(patient): rank for rank, patient in enumerate(order[::-1][: options.unusable])}
    return [
        _draw_patient(options, index + 1, float(severities[index]), 2 if index in twice else 1, unusable.get(index))
        for index in range(options.patients)
    ]


def _draw_patient(options: PhantomOptions, number: int, severity: float, scans: int, unusable: int | None) -> PhantomPatient:
    """Draw one patient.

    Args:
        options: the cohort.
        number: counts from 1.
        severity: of the first scan, standard normal.
        scans: 1 or 2.
        unusable: None when the EDSS counts; for an even number it is missing, for an odd one too late.
    """
    rng = generator(options, number)
    preset = options.truth
    aging = float(rng.normal())
    on_severity = AGE_ON_SEVERITY if preset.age_effect else 0.0
    age = 38 + 10 * (on_severity * severity + math.sqrt(1 - on_severity**2) * aging)
    sex: Literal["F", "M"] = "F" if rng.random() < 0.7 else "M"
    site = int(rng.integers(1, EXTERNAL_SITES + 1)) if options.external else 0
    first = datetime(2012, 1, 9) + timedelta(days=int(rng.integers(0, 2600)), minutes=int(rng.integers(480, 1080)))
    lasting = _noise(rng, aging if preset.age_effect else None)
    drawn = []
    for scan in range(1, scans + 1):
        again = generator(options, number, scan)
        fresh = _noise(again, None)
        noise = math.sqrt(WITHIN_PATIENT) * lasting + math.sqrt(1 - WITHIN_PATIENT) * fresh
        if scan > 1:
            severity = SEVERITY_RETEST * severity + math.sqrt(1 - SEVERITY_RETEST**2) * float(again.normal())
            first += timedelta(days=int(again.integers(300, 431)), minutes=int(again.integers(-90, 91)))
        drawn.append(_draw_scan(options, scan, first, severity, noise, site, unusable, again))
    prefix = "E" if options.external else ""
    return PhantomPatient(
        number, f"{prefix}{number:04d}", int(np.clip(round(age), 18, 75)), sex, f"site-{site or 1:02d}", tuple(drawn)
    )


def _noise(rng: np.random.Generator, aging: float | None) -> NDArray[np.float64]:
    """Draw a standard normal value that all structures share, which age adds to, and one for each change."""
    noise = rng.normal(size=1 + len(STRUCTURES) + len(TISSUES))
    if aging is not None:
        noise[0] = AGE_ON_ATROPHY * aging + math.sqrt(1 - AGE_ON_ATROPHY**2) * noise[0]
    return noise


def _draw_scan(
    options: PhantomOptions,
    number: int,
    taken: datetime,
    severity: float,
    noise: NDArray[np.float64],
    site: int,
    unusable: int | None,
    rng: np.random.Generator,
) -> PhantomScan:
    """Turn a severity and the noise of the structures into one scan's record."""
    preset = options.truth
    step = true_step(severity)
    if preset.rater_noise:
        step += int(rng.choice(list(RATER_STEPS), p=list(RATER_STEPS.values())))
    edss: float | None = float(SCALE[np.clip(step, 0, len(SCALE) - 1)])
    delay = int(rng.integers(0, 184))
    if unusable is not None:
        edss, delay = (None, delay) if unusable % 2 == 0 else (edss, delay + 190)
    shared = math.sqrt(preset.shared_noise) * noise[0]
    residual = shared + math.sqrt(1 - preset.shared_noise) * noise[1:]
    shape = {
        name: change(preset, preset.shape_effects.get(name, 0.0), severity, float(residual[index]))
        + preset.shape_offsets.get(name, 0.0)
        for index, name in enumerate(STRUCTURES)
    }
    signal = {
        name: change(preset, preset.intensity_effects.get(name, 0.0), severity, float(noise[1 + len(STRUCTURES) + index]))
        for index, name in enumerate(TISSUES)
    }
    high = float(rng.random()) < preset.high_field_share[severity_class(severity)]
    scanner = draw_scanner(high, rng, site, generator(options, purpose=site))
    return PhantomScan(number, taken, edss, taken.date() + timedelta(days=delay), scanner, shape, signal)
