"""Leave-site-out: each site is a test part of its own, and no scan of it is seen in training or tuning.

A patient who was scanned at several sites keeps the scans of one, that with most of them (among equals that of the first
session); the others are excluded, and so are scans whose site is unknown. So no patient stands in two parts, and no fold
trains on a scan of the site that it tests. A fold tunes on one of six blocks of the other sites' patients, dealt out label by
label and site by site.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from datamodules.cohort.records import Cohort, Exclusion, Scan
from datamodules.cohort.splits import SITE_BLOCKS, SplitError, Splits, TooFewPatientsError, patient_labels
from datamodules.cohort.target import folded

NO_SITE = "site unknown, with --split.by site"
OTHER_SITE = "scanned at another site than most of the patient's scans, with --split.by site"
LEAST = 2
"""Patients of each class that a site needs: of one alone the ranking within the site could not vary."""
JOINT = " + "
"""Between the names of sites that are tested together."""


def at_one_site(cohort: Cohort) -> Cohort:
    """The cohort with one site for each patient; see the module.

    Raises:
        SplitError: if no scan has a site.
    """
    homes = _homes(cohort.scans)
    if not homes:
        raise SplitError("--split.by site: no scan has a site; add a column site (or center, hospital) to the cohort's table")
    out = []
    for scan in cohort.scans:
        if not scan.site:
            out.append(Exclusion(scan.patient, scan.session, NO_SITE, "no site, center or hospital"))
        elif folded(scan.site) != folded(homes[scan.patient]):
            out.append(Exclusion(scan.patient, scan.session, OTHER_SITE, f"{scan.site}, the others {homes[scan.patient]}"))
    return cohort.without(out) if out else cohort


def _homes(scans: Sequence[Scan]) -> dict[str, str]:
    """Patient -> the site of most of the scans, as it is first written in the cohort."""
    spelling: dict[str, str] = {}
    sites: dict[str, Counter[str]] = defaultdict(Counter)
    for scan in sorted(scans, key=lambda s: (s.patient, len(s.session), s.session)):
        if scan.site:
            spelling.setdefault(folded(scan.site), scan.site)
            sites[scan.patient][folded(scan.site)] += 1
    return {patient: spelling[counts.most_common(1)[0][0]] for patient, counts in sites.items()}


def make_site_splits(scans: Sequence[Scan], seed: int, small: str = "refuse") -> Splits:
    """One part for each site, in the order of their names; patients dealt out to the blocks by seed.

    Args:
        scans: Scans of which each patient's are all of one site.
        seed: Seed of the blocks.
        small: ``refuse`` or ``join`` sites with too few patients of a class.

    Raises:
        TooFewPatientsError: naming a site with too few patients of a class.
        SplitError: if there are fewer than two sites, or a training or tuning part lacks a class.
    """
    homes, (label, _) = _homes(scans), patient_labels(scans)
    part_of = _parts(homes, label, small)
    names = sorted(set(part_of.values()), key=lambda name: (name.casefold(), name))
    if len(names) < 2:
        raise SplitError(f"--split.by site needs 2 sites; all scans are of {names[0]!r}: use --split.by patient")
    rng = np.random.default_rng(seed)
    order = [sorted(label)[row] for row in rng.permutation(len(label))]
    order.sort(key=lambda patient: (label[patient], part_of[homes[patient]]))
    shuffled = rng.permutation(SITE_BLOCKS)
    block = {patient: int(shuffled[row % SITE_BLOCKS]) for row, patient in enumerate(order)}
    part = {patient: names.index(part_of[homes[patient]]) for patient in label}
    splits = Splits(part, len(names), seed, tuple(names), block)
    _check_classes(splits, label)
    return splits


def _parts(homes: Mapping[str, str], label: Mapping[str, int], small: str) -> dict[str, str]:
    """Site -> name of its part."""
    counts = {site: Counter(label[patient] for patient, home in homes.items() if home == site) for site in set(homes.values())}
    short = sorted(site for site, of_class in counts.items() if min(of_class[0], of_class[1]) < LEAST)
    joined = small == "join" and len(short) > 1
    name = JOINT.join(short)
    enough = joined and min(sum(counts[site][value] for site in short) for value in (0, 1)) >= LEAST
    if short and not enough:
        first = counts[short[0]]
        more = f" (and {len(short) - 1} more such sites)" if len(short) > 1 else ""
        ways = "leave its scans out of the table" if small == "join" else "--split.small join tests such sites together"
        raise TooFewPatientsError(
            f"site {short[0]} has {first[1]} positive and {first[0]} negative patients{more}; a site that is tested alone "
            f"needs {LEAST} of each class: {ways}, or use --split.by patient"
        )
    return {site: name if site in short else site for site in counts}


def _check_classes(splits: Splits, label: Mapping[str, int]) -> None:
    patients = sorted(label)
    y = np.array([label[patient] for patient in patients])
    for fold in range(splits.folds):
        rows = splits.partitions(fold, patients)
        for name in ("train", "tuning"):
            if np.unique(y[rows[name]]).size < 2:
                raise TooFewPatientsError(
                    f"without site {splits.sites[fold]} too few patients are left: the {name} part lacks a class; "
                    "use --split.by patient"
                )
