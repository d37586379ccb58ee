"""A name planted wherever a cohort can hold one, and everything that may leave the machine searched for it."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import pytest

from experiments.__main__ import main

NAME = "DOEJANE"
RAW = Path(__file__).parents[2] / "shared" / "data" / "ljubljana_ms" / "raw"
TINY = ["--preset", "demo", "--trainer.max_epochs", "1", "--network.init_args.width", "2", "--network.init_args.stages", "3"]
STAYS = (
    "cohort.tsv", "flow.json", "splits.tsv", "predictions.tsv", "pseudonyms.key", "check.html", "config.yaml", "frozen.json",
    "events.jsonl", "features.tsv", "tissue.tsv", "duplicates.json",
)  # fmt: skip
"""Files of a study that hold patient ids or paths and are not for others; ``qc`` holds images beside."""


def planted_cohort(source: Path, target: Path) -> Path:
    """A phantom cohort in which a patient's id is a name, as are a covariate, sidecar fields and headers."""
    shutil.copytree(source, target)
    for path in sorted(target.rglob("*"), key=lambda path: -len(path.parts)):
        if path.is_file() and path.suffix in (".tsv", ".json"):
            path.write_text(path.read_text().replace("sub-0001", f"sub-{NAME}"))
        if "sub-0001" in path.name:
            path.rename(path.with_name(path.name.replace("sub-0001", f"sub-{NAME}")))
    people = target / "participants.tsv"
    lines = people.read_text().splitlines()
    people.write_text("\n".join([lines[0] + "\tname", *(f"{line}\t{NAME}" for line in lines[1:])]) + "\n")
    for path in target.rglob("*_T1w.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"PatientName": NAME, "InstitutionName": NAME, "SeriesDescription": NAME}))
    image_path = next(target.rglob("*_T1w.nii.gz"))
    image = nib.load(image_path)
    image.header["descrip"] = NAME.encode()
    nib.save(nib.Nifti1Image(image.get_fdata(dtype="float32"), image.affine, image.header), image_path)
    return target


def holding(folder: Path) -> set[str]:
    """Files below a folder that hold the name, in whatever case and also when compressed, or are called by it."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            content += gzip.decompress(content) if path.name.endswith(".gz") else b""
            name = str(path.relative_to(folder))
            found |= {name} if re.search(NAME.encode(), content + name.encode(), re.IGNORECASE) else set()
    return found


@pytest.mark.slow
def test_a_study_of_a_cohort_full_of_names_tells_none(
    phantom_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    cohort = planted_cohort(phantom_cohort, tmp_path / "planted")
    studies = ["--studies", str(tmp_path / "studies"), "--study", "s"]
    places = ["--cohort", str(cohort), "--store", str(tmp_path / "store"), *studies]
    for roi in ("global", "brainstem"):
        assert main(["fold", "--roi", roi, "--fold", "0", "--quiet", *TINY, *places]) == 0
    assert main(["check", *TINY, *places]) == 0
    assert main(["compare", *studies, "--inputs", "global,brainstem", "--partial", "--draws", "100"]) == 0
    assert main(["report", *studies]) == 0
    study = tmp_path / "studies" / "s"
    leaks = holding(study)
    assert {"cohort.tsv", "splits.tsv"} <= leaks, "the search finds what is there"
    stays = {name for name in leaks if Path(name).name in STAYS or name.startswith("qc/")}
    assert leaks - stays == set()
    offline = [path for path in study.rglob("*.wandb") if path.stat().st_size]
    assert len(offline) >= 2
    for name in ("report.html", "comparison.json", "table1.tsv", "table1.json", "acquisition.tsv", "check.json", "flow.svg"):
        assert (study / name).is_file(), name
        assert str(tmp_path) not in (study / name).read_text(), f"{name} tells where it was made"
    assert holding(tmp_path / "store") <= {"sources.json"}


@pytest.mark.long
@pytest.mark.skipif(not RAW.is_dir(), reason="the shared raw scans are not here")
def test_prepare_passes_no_name_on(tmp_path: Path) -> None:
    """One real session with a name in header, extension, sidecar and table, through the whole preparation."""
    raw = tmp_path / "raw" / "sub-03" / "ses-2" / "anat"
    raw.mkdir(parents=True)
    for kind in ("T1w", "FLAIR"):
        image = nib.load(RAW / "sub-03" / "ses-2" / "anat" / f"sub-03_ses-2_{kind}.nii.gz")
        for field in ("descrip", "aux_file", "db_name", "intent_name"):
            image.header[field] = NAME.encode()
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", NAME.encode()))
        nib.save(image, raw / f"sub-03_ses-2_{kind}.nii.gz")
        fields = ("PatientName", "PatientID", "PatientBirthDate", "InstitutionName", "DeviceSerialNumber", "AccessionNumber",
                  "SeriesDescription", "ProtocolName", "ImageComments", "AcquisitionDateTime", "Manufacturer^")  # fmt: skip
        content = dict.fromkeys(fields, NAME) | {"MagneticFieldStrength": 3, "AcquisitionDateTime": "2011-04-02T10:00:00"}
        (raw / f"sub-03_ses-2_{kind}.json").write_text(json.dumps(content))
    root = tmp_path / "raw"
    (root / "dataset_description.json").write_text(json.dumps({"Name": NAME, "BIDSVersion": "1.10.0", "Authors": [NAME]}))
    (root / "participants.tsv").write_text(f"participant_id\tage\tname\tdate_of_birth\nsub-03\t41\t{NAME}\t1970-02-03\n")
    (root / "phenotype").mkdir()
    edss = f"participant_id\tedss\tedss_date\tneurologist\nsub-03\t2.0\t2011-05-02\t{NAME}\n"
    (root / "phenotype" / "edss.tsv").write_text(edss)
    assert len(holding(root)) == 7, "the search finds what is there"
    out = tmp_path / "out"
    assert main(["prepare", "--bids", str(root), "--out", str(out), "--jobs", "1"]) == 0
    assert holding(out) == set()
    (sidecar,) = out.rglob("*_desc-preproc_T1w.json")
    assert json.loads(sidecar.read_text())["MagneticFieldStrength"] == 3
    assert (out / "qc" / "index.html").is_file()
    assert "1970" not in "".join(path.read_text() for path in out.rglob("*.tsv"))
