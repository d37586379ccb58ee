"""Nothing that names a patient passes from raw files into prepared ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from datamodules.preparation.deidentify import (
    COLUMNS,
    HEADER_TEXTS,
    NUMBERS,
    WORDS,
    clean_header,
    clean_sidecar,
    copy_clean_table,
    is_allowed_column,
)

NAME = "DOE^JANE"
IDENTIFYING = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientAddress", "PatientTelephoneNumbers", "OtherPatientIDs",
    "PatientComments",
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "DeviceSerialNumber",
    "AccessionNumber", "StudyID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "ReferringPhysicianName",
    "PerformingPhysicianName", "OperatorsName", "RequestingPhysician", "AcquisitionDateTime", "AcquisitionTime", "StudyDate",
    "ContentDate", "SeriesDescription", "StudyDescription", "ProtocolName", "ImageComments", "ProcedureStepDescription",
    "RawImage", "ConsistencyInfo", "PrivateField_0019_10xx",
)  # fmt: skip


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_every_text_of_a_header_is_emptied(kind: type, tmp_path: Path) -> None:
    image = kind(np.arange(60, dtype=np.float32).reshape(3, 4, 5), np.diag([2, 3, 4, 1.0]))
    for field in HEADER_TEXTS:
        if field in image.header:
            image.header[field] = NAME[: image.header[field].dtype.itemsize].encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", NAME.encode()))
    planted = image.to_bytes()
    assert NAME.encode() in planted
    clean_header(image.header)
    cleaned = image.to_bytes()
    assert b"DOE" not in cleaned
    again = kind.from_bytes(cleaned)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(again.get_fdata(), image.get_fdata())
    np.testing.assert_array_equal(again.affine, image.affine)
    assert again.header.extensions == []


def test_a_sidecar_keeps_acquisition_and_nothing_else() -> None:
    kept = {"MagneticFieldStrength": 3, "EchoTime": 0.003, "Manufacturer": "Siemens", "ImageType": ["ORIGINAL", "PRIMARY", "M"]}
    assert clean_sidecar(kept | dict.fromkeys(IDENTIFYING, NAME)) == kept
    assert not set(IDENTIFYING) & (NUMBERS | WORDS)


@pytest.mark.parametrize("field", sorted(NUMBERS | WORDS))
def test_a_name_in_an_allowed_field_is_dropped(field: str) -> None:
    assert clean_sidecar({field: NAME}) == {}
    assert clean_sidecar({field: [NAME, 1]}) == {}
    assert clean_sidecar({field: {"deep": NAME}}) == {}


def test_numbers_that_are_not_finite_are_dropped() -> None:
    assert clean_sidecar({"EchoTime": float("nan"), "FlipAngle": float("inf"), "MTState": False}) == {"MTState": False}


@pytest.mark.parametrize(
    "name", ["name", "birth_date", "dob", "hospital", "hospital_number", "mrn", "address", "comments", "initials", "ssn"]
)
def test_identifying_columns_are_not_allowed(name: str) -> None:
    assert not is_allowed_column(name)
    assert is_allowed_column(name, keep=[name])


@pytest.mark.parametrize(
    "name",
    [
        "participant_id",
        "Age",
        "sex",
        "EDSS",
        "acq_time",
        "Field Strength",
        "disease-duration",
        "age_years",
        "gender",
        "ManufacturersModelName",
    ],
)
def test_columns_of_a_study_are_allowed_however_they_are_spelt(name: str) -> None:
    assert is_allowed_column(name)


def test_a_table_is_copied_without_what_nobody_allowed(tmp_path: Path) -> None:
    source = tmp_path / "participants.tsv"
    source.write_text(f"participant_id\tage\tname\tbirth_date\tnfl\nsub-01\t41\t{NAME}\t1970-01-01\t9.5\nsub-02\t\tx\ty\t8\n")
    about = {"age": {"Description": "years", "Author": NAME}, "name": {"Description": NAME}, "MeasurementToolMetadata": NAME}
    source.with_suffix(".json").write_text(json.dumps(about))
    target = tmp_path / "out" / "participants.tsv"
    done = copy_clean_table(source, target, keep=["nfl"])
    assert (done.kept, done.dropped) == (("participant_id", "age", "nfl"), ("name", "birth_date"))
    assert target.read_text() == "participant_id\tage\tnfl\nsub-01\t41\t9.5\nsub-02\tn/a\t8\n"
    assert json.loads(target.with_suffix(".json").read_text()) == {"age": {"Description": "years"}}
    assert NAME not in "".join(path.read_text() for path in (tmp_path / "out").iterdir())


def test_a_table_without_an_allowed_column_is_not_copied(tmp_path: Path) -> None:
    source = tmp_path / "notes.tsv"
    source.write_text("name\tnote\nx\ty\n")
    done = copy_clean_table(source, tmp_path / "out.tsv")
    assert (done.kept, done.dropped, (tmp_path / "out.tsv").exists()) == ((), ("name", "note"), False)


def test_the_allowed_names_are_spelt_as_they_are_compared() -> None:
    assert all(name == "".join(c for c in name.lower() if c.isalnum()) for name in COLUMNS)


def test_what_the_writer_of_prepare_leaves_names_nobody(tmp_path: Path) -> None:
    from datamodules.preparation.derivative import write_image
    from regions.grid import Grid

    grid = Grid.of((4, 5, 6), np.diag([2.0, 2, 2, 1]))
    path = tmp_path / f"{NAME}.nii.gz"
    write_image(path, np.ones((4, 5, 6), np.float32), grid)
    packed = path.read_bytes()
    assert NAME.encode() not in packed
    assert packed[3] == 0, "the gzip header has a field for the file's name"
    header = nib.Nifti1Image.from_bytes(gzip.decompress(packed)).header
    assert [bytes(header[field].tobytes()).strip(b"\0") for field in HEADER_TEXTS] == [b""] * len(HEADER_TEXTS)
