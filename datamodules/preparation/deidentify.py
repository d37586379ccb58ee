"""What a prepared scan may say about its patient: headers, sidecars and tables, each cleaned by a list of what is allowed.

A list of forbidden fields misses the one that a scanner's next software version adds. So only fields that a study needs and
that a scanner fills, not a person, are kept; every other is dropped, and the tables' dropped columns are named. Free text
(``SeriesDescription``, ``ProtocolName``, ``ImageComments``) is dropped as well: operators type names into it.

Patient ids, scan dates and ages stay, since labels are assigned by them. A prepared folder is thus pseudonymous at best and
stays on the machine; ``experiments.tracking.privacy`` lists what may leave it.

References:
    DICOM PS3.15 Annex E, Attribute Confidentiality Profiles (which attributes identify).
    BIDS 1.10, Magnetic Resonance Imaging data, common metadata fields (names of the fields kept here).
    NIfTI-1 header, nifti1.h (``descrip``, ``aux_file``, ``db_name``, ``intent_name``, ``data_type``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.cohort.covariates import COLUMNS as COVARIATE_NAMES
from datamodules.files.atomic import write_text
from datamodules.files.tables import read_object, read_rows

HEADER_TEXTS = ("descrip", "aux_file", "db_name", "intent_name", "data_type")
"""Every field of a NIfTI header that holds free text."""

NUMBERS = frozenset({
    "MagneticFieldStrength", "ImagingFrequency", "EchoTime", "RepetitionTime", "RepetitionTimePreparation",
    "RepetitionTimeExcitation", "InversionTime", "FlipAngle", "EchoTrainLength", "EchoNumber", "EchoNumbers", "SliceThickness",
    "SpacingBetweenSlices", "PixelBandwidth", "DwellTime", "NumberOfAverages", "PercentSampling", "PercentPhaseFOV",
    "PhaseResolution", "PhaseEncodingSteps", "AcquisitionMatrixPE", "ReconMatrixPE", "BaseResolution", "PartialFourier",
    "ParallelReductionFactorInPlane", "ParallelReductionFactorOutOfPlane", "MTState", "SpoilingState", "SkullStripped",
    "NonlinearGradientCorrection", "AcquisitionDuration", "AcquisitionVoxelSize", "ReconstructionVoxelSize", "Synthetic",
})  # fmt: skip
"""Sidecar fields that hold numbers or true/false, or lists of them."""

WORDS = frozenset({
    "Modality", "Manufacturer", "ManufacturersModelName", "MRAcquisitionType", "ScanningSequence", "SequenceVariant",
    "ScanOptions", "SequenceName", "PulseSequenceType", "SoftwareVersions", "ReceiveCoilName", "MatrixCoilMode",
    "ParallelAcquisitionTechnique", "PartialFourierDirection", "PhaseEncodingDirection", "SliceEncodingDirection",
    "InPlanePhaseEncodingDirectionDICOM", "ImageType", "SpoilingType", "MTPulseShape", "ConversionSoftware",
    "ConversionSoftwareVersion", "SpatialReference",
})  # fmt: skip
"""Sidecar fields that hold a word or two which the scanner or the converter wrote, or lists of them."""

COLUMNS = frozenset({
    "participantid", "sessionid", "patient", "session", "age", "sex", "gender", "handedness", "group", "site", "center",
    "centre", "cohort", "diagnosis", "phenotype", "mstype", "mssubtype", "subtype", "course", "diseasecourse",
    "diseaseduration", "durationyears", "durationmonths", "ageatonset", "onsetage", "education", "educationyears",
    "height", "weight", "bmi", "treatment", "dmt", "therapy", "edss", "edssdate", "edsssource", "edsswithintwomonths",
    "daysfromscan", "dayssincescan", "days", "rater", "relapse", "relapsedate", "dayssincerelapse", "steroids", "acqtime",
    "scandate", "scanner", "vendor", "manufacturer", "model", "fieldstrength", "magneticfieldstrength", "lesionvolume",
    "lesionml", "lesioncount", "lesionnumber", "icv", "sdmt", "t25fw", "9hpt", "nhpt", "pasat", "msss", "armss", "pyramidal",
    "cerebellar", "brainstem", "sensory", "bowelbladder", "visual", "cerebral", "ambulation", "species", "strain",
})  # fmt: skip
"""Columns of participants, sessions and phenotype tables that are kept: lower case, letters and digits only."""
ALIASES = frozenset(
    alias.replace("_", "") for name in ("age", "sex", "field_strength", "scanner", "vendor") for alias in COVARIATE_NAMES[name]
)
"""Names of covariates that are kept too; a site's are listed above, without ``hospital``, because institutions are not kept."""

_WORD = re.compile(r"[\w .+/()*\\-]{1,64}", re.ASCII)


def clean_header(header: Any) -> None:
    """Empty every text field of a NIfTI header, and drop its extensions, in place.

    Args:
        header: ``nibabel`` NIfTI-1 or NIfTI-2 header.
    """
    names = header.keys()
    for name in HEADER_TEXTS:
        if name in names:
            header[name] = b""
    header.extensions.clear()


def clean_sidecar(content: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the acquisition fields of a sidecar, and of these only values of the kind that the field has.

    Args:
        content: A JSON sidecar of an image.

    Returns:
        A new mapping; what is not in ``NUMBERS`` or ``WORDS`` is gone.
    """
    kept = {name: value for name, value in content.items() if name in NUMBERS and _all(value, _is_number)}
    return kept | {name: value for name, value in content.items() if name in WORDS and _all(value, _is_word)}


def _all(value: Any, test: Any) -> bool:
    return all(map(test, value)) if isinstance(value, list) else bool(test(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int) or (isinstance(value, float) and bool(np.isfinite(value)))


def _is_word(value: Any) -> bool:
    """A short text without ``^``, which separates the parts of a name in DICOM."""
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


@dataclass(frozen=True)
class CleanedTable:
    """What became of a table: the columns that were kept, and those that were dropped."""

    path: Path
    kept: tuple[str, ...]
    dropped: tuple[str, ...]


def is_allowed_column(name: str, keep: Collection[str] = ()) -> bool:
    """Whether a column may be copied: a known one, however it is spelt, or one that the user asked for."""
    return name in keep or re.sub(r"[^a-z0-9]", "", name.casefold()) in COLUMNS | ALIASES


def copy_clean_table(source: Path, target: Path, keep: Collection[str] = ()) -> CleanedTable:
    """Copy a .tsv or .csv table, and its .json where it has one, without the columns that are not allowed.

    Nothing is written of a table without rows, or without a column that is allowed.

    Args:
        source: participants.tsv, sub-X_sessions.tsv, phenotype/edss.tsv, or another table of that kind.
        target: The .tsv file to write, atomically; its folder is made.
        keep: Further columns to keep, as they are spelt in the table.

    Raises:
        CohortError: if the table cannot be read.
    """
    rows = read_rows(source)
    names = [name for name in (rows[0] if rows else {}) if name != "#"]
    kept = tuple(name for name in names if is_allowed_column(name, keep))
    if not kept:
        return CleanedTable(source, (), tuple(names))
    lines = ["\t".join(kept), *("\t".join(row[name] or "n/a" for name in kept) for row in rows)]
    write_text(target, "\n".join(lines) + "\n")
    described = source.with_suffix(".json")
    if described.is_file():
        write_text(target.with_suffix(".json"), _clean_description(described, kept))
    return CleanedTable(source, kept, tuple(name for name in names if name not in kept))


def _clean_description(path: Path, kept: Collection[str]) -> str:
    """The data dictionary of the columns that stay: description, units and levels."""
    content = read_object(path)
    fields = ("LongName", "Description", "Units", "Levels")
    dictionary = {
        name: {field: about[field] for field in fields if field in about}
        for name, about in content.items()
        if name in kept and isinstance(about, dict)
    }
    return json.dumps(dictionary, indent=2) + "\n"
