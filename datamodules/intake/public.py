"""Public datasets with brain MRI and EDSS, by name.

Nothing is downloaded and no image is copied. The layouts are those of the published archives, unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping

from datamodules.files.tables import CohortError
from datamodules.intake import ljubljana, msleseg, muslim
from datamodules.intake.dataset import PublicDataset


def public_datasets() -> Mapping[str, PublicDataset]:
    """The datasets that can be adopted, by name."""
    return {dataset.name: dataset for dataset in (msleseg.DATASET, muslim.DATASET, ljubljana.DATASET)}


def find_dataset(name: str) -> PublicDataset:
    """One dataset by its name or title, in any case.

    Raises:
        CohortError: naming those that are known.
    """
    known = public_datasets()
    match = next((dataset for dataset in known.values() if name.casefold() in (dataset.name, dataset.title.casefold())), None)
    if match is None:
        listed = ", ".join(f"{dataset.name} ({dataset.title})" for dataset in known.values())
        raise CohortError(f"dataset {name!r} is not known; known are {listed}")
    return match
