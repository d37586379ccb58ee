"""Public datasets in exactly their published layouts, and several cohorts, become a cohort without a copy of an image."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest

from datamodules.cohort.read import read_cohort
from datamodules.cohort.records import NO_SCAN, Candidate
from datamodules.cohort.target import Target
from datamodules.files.tables import CohortError
from datamodules.intake.adopt import adopt, combine
from datamodules.intake.public import find_dataset
from datamodules.intake.raw import read_raw
from experiments.__main__ import main
from experiments.study.study import cohort_table

KEEP = Target(undated="keep")
REAL = Path(__file__).parents[2] / "shared" / "data" / "ljubljana_ms" / "mni"
HEADER = "Patient;Timepoint;Age;Sex;MS Type;EDSS;Lesion Number;Lesion Volume;"


def put(path: Path, content: str | bytes = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def msleseg(tmp_path: Path) -> Path:
    """P1 with two timepoints and the test case P54 without a timepoint; the table also has P9, of whom no scan is there."""
    root = tmp_path / "MSLesSeg"
    for scan in ("train/P1/T1/P1_T1", "train/P1/T2/P1_T2", "test/P54/P54"):
        for kind in ("T1", "T2", "FLAIR", "MASK"):
            put(root / f"MSLesSeg Dataset/{scan}_{kind}.nii.gz")
    rows = [
        "P1;T1;41,5;F;RR;2,5;;12,345;23",
        "P1;T2;42,5;F;RR;3,0;25;13,1;",
        "P54;T1;30;M;SP;1,0;;3,2;7",
        "P9;T1;30;M;RR;1,0;;3,2;7",
    ]
    put(root / "info_dataset/clinical_data.csv", ("\ufeff" + "\r\n".join([HEADER, *rows]) + "\r\n").encode())
    return root


@pytest.fixture
def muslim(tmp_path: Path) -> Path:
    """Patients 1 and 2; the table also has 3, of whom no scan is there."""
    root = tmp_path / "muslim"
    for number in (1, 2):
        for kind in ("T1", "T2", "Flair", "LesionSeg-T1", "LesionSeg-T2", "LesionSeg-Flair"):
            put(root / f"Patient-{number}/{number}-{kind}.nii")
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["Supplementary Table 1: patients"])
    within = "Does the time difference between MRI acquisition and EDSS < two months"
    sheet.append(["ID", "Age", "Gender", "Age of onset", "EDSS", within, "Pyramidal"])
    for row in ([1, 33, "F", 29, 2.5, "Yes", 0], [2, 40, "M", 30, 6, "No", 1], [3, 51, "F", 30, 4, "Yes", 1]):
        sheet.append(row)
    book.save(root / "Supplementary Table 1 for patient info .xlsx")
    return root


@pytest.fixture
def ljubljana(tmp_path: Path) -> Path:
    """Patients 7 (EDSS 0.5), 19 and 21 (EDSS N/A)."""
    root = tmp_path / "ljubljana"
    for name in ("patient07", "patient19", "patient21"):
        for kind in ("T1W", "T1WKS", "T2W", "FLAIR", "brainmask", "consensus_gt"):
            put(root / name / f"{kind}.nii.gz")
    rows = [
        "patient07,53,F,RR,0.5,McDonald 2010",
        "patient19,47,F,SP,1.0,McDonald 2010",
        "patient21,30,M,CIS,N/A,McDonald 2010",
    ]
    put(root / "patient_info.csv", "\n".join(["patient_id,age,sex,ms_type,edss,criteria", *rows]) + "\n")
    return root


def test_msleseg_becomes_a_table(msleseg: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    adopt(find_dataset("MSLesSeg"), msleseg, out)
    cohort = read_cohort(out, KEEP)
    assert [(scan.name, scan.value, scan.label) for scan in cohort.scans] == [
        ("P1/T1", 2.5, 0),
        ("P1/T2", 3.0, 1),
        ("P54/T1", 1.0, 0),
    ]
    first = cohort.scans[0]
    assert first.images["t1w"] == msleseg / "MSLesSeg Dataset/train/P1/T1/P1_T1_T1.nii.gz"
    assert first.covariates == {"age": "41.5", "sex": "F", "ms_type": "RR", "lesion_number": "23", "lesion_volume": "12.345"}
    assert cohort.scans[1].covariates["lesion_number"] == "25"
    assert [(one.patient, one.reason) for one in cohort.exclusions] == [("P9", NO_SCAN)]
    assert json.loads((out / "about.json").read_text())["License"].startswith("CC BY 4.0")
    assert {path.name for path in out.iterdir()} == {"cohort.tsv", "about.json"}


def test_a_patient_whom_folder_and_table_spell_differently_is_refused(msleseg: Path, tmp_path: Path) -> None:
    table = next(msleseg.rglob("*clinical_data.csv"))
    table.write_text(table.read_text().replace("P54;", "P054;"))
    with pytest.raises(CohortError, match=r"patients 'P54' \(.*\) and 'P054' \(.*line 4\) look like one"):
        adopt(find_dataset("MSLesSeg"), msleseg, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_msleseg_without_dates_is_excluded_unless_that_is_wished(msleseg: Path, tmp_path: Path) -> None:
    adopt(find_dataset("msleseg"), msleseg, tmp_path / "out")
    with pytest.raises(CohortError, match=r"3 x days from scan to EDSS unknown"):
        read_cohort(tmp_path / "out", Target())


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("P1;T1;41;F;RR;2,5;3;4;5;6", r"clinical_data.csv line 2: 10 cells, the header has 9"),
        ("P1;T1;41;F;RR;2,5;3;4;5", r"clinical_data.csv line 2: '5' is in a column without a name"),
        ("P1;T1;-4;F;RR;2,5;3;4;", r"clinical_data.csv line 2, column 'age': '-4' is not an age in years \(0 to 120\)"),
        (
            "P1;T1;4;F;RR;2;3;4;\nP1;T1;4;F;RR;2;3;4;",
            r"clinical_data.csv line 3: P1 T1 occurs twice, also in .*line 2; keep one",
        ),
    ],
)
def test_msleseg_table_at_fault(msleseg: Path, tmp_path: Path, row: str, told: str) -> None:
    put(msleseg / "info_dataset/clinical_data.csv", f"{HEADER}\n{row}\n")
    with pytest.raises(CohortError, match=told):
        adopt(find_dataset("msleseg"), msleseg, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["MSLesSeg"]


def test_muslim_becomes_a_raw_dataset_of_links(muslim: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    adopt(find_dataset("muslim"), muslim, out)
    raw = read_raw(out)
    assert [one.name for one in raw.sessions] == ["sub-P01", "sub-P02"]
    assert raw.excluded == (("sub-P03", "", "no folder in the dataset"),)
    assert raw.sessions[1].images["flair"].is_symlink()
    assert raw.sessions[1].images["flair"].resolve() == muslim / "Patient-2/2-Flair.nii"
    lines = (out / "participants.tsv").read_text().splitlines()
    assert lines[:2] == ["participant_id\tage\tage_at_onset\tedss_within_two_months\tsex", "sub-P01\t33\t29\tYes\tF"]
    assert (out / "phenotype/edss.tsv").read_text().splitlines()[1:] == ["sub-P01\tn/a\t2.5", "sub-P02\tn/a\t6"]


def test_ljubljana_keeps_half_and_names_the_missing_score(ljubljana: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    adopt(find_dataset("ljubljana"), ljubljana, out)
    assert [one.t1w.resolve().name for one in read_raw(out).sessions] == ["T1W.nii.gz"] * 3
    rows = (out / "phenotype/edss.tsv").read_text().splitlines()
    assert rows[1:] == ["sub-patient07\tn/a\t0.5", "sub-patient19\tn/a\t1.0", "sub-patient21\tn/a\tN/A"]


def test_prepared_scans_of_an_adopted_dataset_find_their_scores(ljubljana: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    adopt(find_dataset("ljubljana"), ljubljana, out)
    for name in ("patient07", "patient19", "patient21"):
        for kind in ("T1w", "FLAIR"):
            put(out / f"derivatives/regionwise/sub-{name}/anat/sub-{name}_space-MNI152NLin2009aSym_desc-preproc_{kind}.nii.gz")
    cohort = read_cohort(out, KEEP)
    assert [(scan.patient, scan.value) for scan in cohort.scans] == [("sub-patient07", 0.5), ("sub-patient19", 1.0)]
    assert [(one.patient, one.reason) for one in cohort.exclusions] == [("sub-patient21", "no EDSS")]
    assert cohort.remarks == ("EDSS 0.5 is not on the scale, its class is certain: kept sub-patient07",)


@pytest.mark.skipif(not REAL.is_dir(), reason="the two real patients are not on this machine")
def test_real_images_in_the_layout_of_ljubljana(ljubljana: Path, tmp_path: Path) -> None:
    for patient in ("07", "19"):
        for ours, theirs in (("T1W", "T1w"), ("FLAIR", "FLAIR")):
            link = ljubljana / f"patient{patient}" / f"{ours}.nii.gz"
            link.unlink()
            link.symlink_to(REAL / f"sub-{patient}/anat/sub-{patient}_space-MNI152_desc-brain_{theirs}.nii.gz")
    adopt(find_dataset("ljubljana"), ljubljana, tmp_path / "out")
    assert all(one.t1w.stat().st_size > 1e5 for one in read_raw(tmp_path / "out").sessions[:2])


@pytest.mark.parametrize(
    ("name", "file", "told"),
    [
        (
            "msleseg",
            "MSLesSeg/info_dataset/clinical_data.csv",
            r"should hold one clinical table \(clinical_data.csv\), found none",
        ),
        (
            "muslim",
            "muslim/Supplementary Table 1 for patient info .xlsx",
            r"should hold one table of the patients .*, found none",
        ),
        ("ljubljana", "ljubljana/patient_info.csv", r"should hold one table of the patients \(patient_info.csv\), found none"),
    ],
)
def test_missing_table_is_named(request: pytest.FixtureRequest, tmp_path: Path, name: str, file: str, told: str) -> None:
    folder = request.getfixturevalue(name)
    (tmp_path / file).unlink()
    with pytest.raises(CohortError, match=told):
        adopt(find_dataset(name), folder, tmp_path / "out")


def test_spreadsheet_that_is_none(muslim: Path, tmp_path: Path) -> None:
    put(muslim / "Supplementary Table 1 for patient info .xlsx", b"not a spreadsheet")
    with pytest.raises(CohortError, match=r"is not a readable spreadsheet \(.*\); save it as .csv"):
        adopt(find_dataset("muslim"), muslim, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "copied", "told"),
    [
        ("msleseg", "copy/P1/P1_T1_FLAIR.nii.gz", "P1/T1 occurs twice: MSLesSeg Dataset/train/P1/.* and copy/P1/P1_T1_"),
        ("muslim", "copy/Patient-1/1-Flair.nii", "P01 occurs twice: Patient-1, .* and copy/Patient-1, "),
        ("ljubljana", "copy/patient07/FLAIR.nii.gz", "patient07 occurs twice: copy/patient07, .* and patient07, "),
    ],
)
def test_a_scan_that_lies_there_twice_is_refused(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, copied: str, told: str
) -> None:
    source = request.getfixturevalue(name)
    put(source / copied)
    with pytest.raises(CohortError, match=f"{told}.*; keep one"):
        adopt(find_dataset(name), source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def table_of(folder: Path, *patients: str) -> Path:
    rows = [f"{name}\t{name}.nii\t{name}_f.nii\t2\t5" for name in patients]
    for name in patients:
        put(folder / f"{name}.nii")
        put(folder / f"{name}_f.nii")
    return put(folder / "cohort.tsv", "\n".join(["patient\tt1w\tflair\tedss\tdays", *rows]) + "\n")


def test_cohorts_are_combined_and_say_where_each_scan_is_from(tmp_path: Path) -> None:
    table_of(tmp_path / "a", "p1", "p2")
    table_of(tmp_path / "b", "q1")
    found: list[Candidate] = combine([tmp_path / "a", tmp_path / "b/cohort.tsv"], tmp_path / "both", Target())
    assert len(found) == 3
    cohort = read_cohort(tmp_path / "both", Target())
    assert [(scan.patient, scan.covariates["cohort"]) for scan in cohort.scans] == [
        ("p1", "a"),
        ("p2", "a"),
        ("q1", "b"),
    ]
    assert cohort.scans[2].images["t1w"] == tmp_path / "b/q1.nii"
    table_of(tmp_path / "c", "p2")
    with pytest.raises(CohortError, match=r"patient p2 is in .*a and .*c; rename the patient in one of them"):
        combine([tmp_path / "a", tmp_path / "c"], tmp_path / "more", Target())
    assert not (tmp_path / "more").exists()


def test_a_relapse_before_a_score_is_known_in_every_table_that_is_written(tmp_path: Path) -> None:
    table_of(tmp_path / "a", "p1")
    dated = table_of(tmp_path / "b", "q1", "q2")
    header = "patient\tt1w\tflair\tedss\tscan_date\tedss_date\trelapse_date"
    rows = [
        f"{name}\t{name}.nii\t{name}_f.nii\t2\t2020-01-01\t2020-01-20\t2020-01-{day}"
        for name, day in (("q1", 10), ("q2", "02"))
    ]
    put(dated, "\n".join([header, *rows]) + "\n")
    combine([tmp_path / "a", tmp_path / "b"], tmp_path / "both", Target())
    put(tmp_path / "study/cohort.tsv", cohort_table(read_cohort(tmp_path / "both", Target())))
    for place in ("both", "study"):
        (out,) = read_cohort(tmp_path / place, Target(relapse_days=15)).exclusions
        assert (out.patient, out.reason) == ("q1", "EDSS within 15 days after a relapse")
        assert len(read_cohort(tmp_path / place, Target(relapse_days=18)).exclusions) == 2


def test_a_column_that_is_an_image_in_another_cohort_is_no_covariate(tmp_path: Path) -> None:
    pairs = [
        (table_of(tmp_path / name, patient), f"\t{cell}\n")
        for name, patient, cell in (("a", "p1", "p1.nii"), ("b", "q1", "yes"))
    ]
    for path, cell in pairs:
        header, row = path.read_text().splitlines()
        path.write_text(f"{header}\tt2w\n{row}{cell}")
    combine([tmp_path / "a", tmp_path / "b"], tmp_path / "both", Target())
    scans = read_cohort(tmp_path / "both", Target()).scans
    assert [scan.covariates for scan in scans] == [{"cohort": "a"}, {"cohort": "b"}]
    (scan,) = read_cohort(tmp_path / "both", Target(), images=("t1w", "t2w")).scans
    assert scan.images["t2w"] == tmp_path / "a/p1.nii"


def test_what_is_held_back_stays_held_back_when_cohorts_are_combined(tmp_path: Path) -> None:
    table_of(tmp_path / "a", "p1", "p2", "p3")
    table_of(tmp_path / "b", "q1")
    verdicts = ["patient\tsession\tverdict\treason\tdetail\tnoise_t1w", "p1\t\theld\tcut\t0.3\t1", "p2\t\theld\tcut\t0.2\t1"]
    put(tmp_path / "a/qc.tsv", "\n".join([*verdicts, "p3\t\tok\t\t\t1"]) + "\n")
    put(tmp_path / "a/qc_accept.tsv", "patient\treason\np2\tlooked at\n")
    combine([tmp_path / "a", tmp_path / "b"], tmp_path / "both", Target())
    cohort = read_cohort(tmp_path / "both", Target())
    assert [scan.patient for scan in cohort.scans] == ["p2", "p3", "q1"]
    assert [(one.patient, one.reason, one.detail) for one in cohort.exclusions] == [("p1", "held back by QC: cut", "0.3")]
    assert cohort.remarks[-1] == "accepted in qc_accept.tsv although beyond a limit: p2"
    combine([tmp_path / "b"], tmp_path / "one", Target())
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"cohort.tsv", "about.json"}


def test_all_images_of_the_cohorts_are_joined(run: Run, tmp_path: Path) -> None:
    for folder, patient in (("a", "sub-1"), ("b", "sub-2")):
        put(tmp_path / folder / "participants.tsv", f"participant_id\n{patient}\n")
        put(tmp_path / folder / "phenotype/edss.tsv", f"participant_id\tedss\n{patient}\t2\n")
        names = ("T1w", "T2w", "label-lesion_mask", "desc-brain_mask", "acq-a_PDw", "acq-b_PDw")
        for name in (*names, *(["FLAIR"] if folder == "a" else ())):
            put(tmp_path / folder / f"derivatives/x/{patient}/anat/{patient}_space-MNI152_{name}.nii.gz")
    put(tmp_path / "c/cohort.tsv", "patient\tedss\tt1w\np3\t2\tx.nii.gz\n")
    put(tmp_path / "c/x.nii.gz")
    sources = ", ".join(str(tmp_path / name) for name in "abc")
    status, out, err = run("adopt", "--from", sources, "--out", str(tmp_path / "all"))
    assert status == 0, err
    assert "images: T1w, FLAIR, T2w and label-lesion_mask" in out.replace(
        "label-lesion_mask and T2w", "T2w and label-lesion_mask"
    )
    names = ("t1w", "t2w", "label-lesion_mask")
    cohort = read_cohort(tmp_path / "all", Target(undated="keep"), images=names)
    assert [(scan.patient, tuple(scan.images)) for scan in cohort.scans] == [("sub-1", names), ("sub-2", names)]
    assert all(scan.mask is not None and scan.mask.name.endswith("_desc-brain_mask.nii.gz") for scan in cohort.scans)


def test_scores_that_a_joined_table_has_no_place_for_are_named(run: Run, tmp_path: Path) -> None:
    for folder, patient in (("a", "sub-1"), ("b", "sub-2")):
        put(tmp_path / folder / "participants.tsv", f"participant_id\n{patient}\n")
        put(tmp_path / folder / "phenotype/edss.tsv", f"participant_id\tedss\tedss_date\tedss_source\n{patient}\t2\t\t\n")
        put(tmp_path / folder / f"derivatives/x/{patient}/anat/{patient}_space-MNI152_T1w.nii.gz")
    put(tmp_path / "a/phenotype/nfl.tsv", "participant_id\tnfl\tnfl_date\nsub-1\t9.5\t2020-01-01\n")
    put(tmp_path / "a/phenotype/notes.tsv", "")
    put(tmp_path / "a/sub-1/sub-1_sessions.tsv", "session_id\tacq_time\tsdmt\nses-1\t2020-01-01\t40\n")
    status, out, err = run("adopt", "--from", f"{tmp_path / 'a'},{tmp_path / 'b'}", "--out", str(tmp_path / "all"))
    assert status == 0, err
    told = (
        f"not joined: nfl, nfl_date, sdmt of {tmp_path / 'a'}; add what you need to {tmp_path / 'all'}/cohort.tsv, a value for"
    )
    assert [line for line in out.splitlines() if "not joined" in line] == [f"{told} each scan"]


def part_of(cohort: Path, folder: Path, keep: Callable[[int], bool]) -> Path:
    """A copy of a prepared dataset with the scans of some patients, as ``prepare --only`` leaves it."""
    shutil.copytree(cohort, folder)
    for number, path in enumerate(sorted((folder / "derivatives/phantom").glob("sub-*"))):
        if not keep(number):
            shutil.rmtree(path)
    return folder


def test_parts_of_one_dataset_are_joined_to_the_whole(phantom_cohort: Path, tmp_path: Path) -> None:
    parts = [part_of(phantom_cohort, tmp_path / name, keep) for name, keep in (("a", lambda n: n < 9), ("b", lambda n: n > 9))]
    combine(parts, tmp_path / "both", Target())
    joined, whole = read_cohort(tmp_path / "both", Target()), read_cohort(phantom_cohort, Target())
    missing = sorted({scan.patient for scan in whole.scans})[9]
    assert [(scan.name, scan.value, scan.days, scan.dialect.split("/")[-1]) for scan in joined.scans] == [
        (scan.name, scan.value, scan.days, scan.dialect.split("/")[-1]) for scan in whole.scans if scan.patient != missing
    ]
    assert [(out.patient, out.reason) for out in joined.exclusions] == [(missing, NO_SCAN)]  # once, not once a part
    with pytest.raises(CohortError, match=r"sub-0001/ses-01 occurs twice: .* keep one"):
        combine([phantom_cohort, parts[0]], tmp_path / "twice", Target())
    scores = parts[1] / "phenotype/edss.tsv"
    scores.write_text(scores.read_text() + "sub-0001\tses-09\t2.0\t2031-01-01\n")
    with pytest.raises(CohortError, match=r"patient sub-0\d+ is in .*a and .*b; rename .*same phenotype/edss\.tsv"):
        combine(parts, tmp_path / "other", Target())


def test_a_table_beside_a_label_map_is_found_from_elsewhere(
    phantom_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in phantom_copy.rglob("*_dseg.nii.gz"):
        path.with_name(path.name.replace(".nii.gz", ".tsv")).write_text("index\tname\n0\tBackground\n")
    monkeypatch.chdir(phantom_copy.parent)
    source = Path(phantom_copy.name)
    combine([source], tmp_path / "joined", Target())
    (tmp_path / "study").mkdir()
    (tmp_path / "study/cohort.tsv").write_text(cohort_table(read_cohort(source, Target())))
    monkeypatch.chdir("/")
    for folder in (tmp_path / "joined", tmp_path / "study"):
        cohort = read_cohort(folder, Target())
        assert len(cohort.scans) == 25
        assert all(Path(scan.dialect).is_file() for scan in cohort.scans)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        status = main(list(words))
        told = capsys.readouterr()
        return status, told.out, told.err

    return call


def test_command_prints_licence_citation_and_the_next_step(run: Run, muslim: Path, tmp_path: Path) -> None:
    status, out, _ = run("adopt", "--dataset", "muslim", "--from", str(muslim), "--out", str(tmp_path / "out"))
    assert status == 0
    lines = out.splitlines()
    assert (
        lines[0] == "Muslim 2022: 2 scans of 2 patients, 2 with T1w and FLAIR, 2 of these with a score; rows without a scan: 1"
    )
    assert lines[1] == "licence: CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)"
    assert "doi 10.1016/j.dib.2022.108139" in lines[2]
    assert lines[4] == f"next: make prepare BIDS={tmp_path / 'out'}"
    assert lines[5] == 'then: make check COHORT=cohorts/out_prepared ARGS="--label.undated keep"'


def test_command_combines(run: Run, tmp_path: Path) -> None:
    table_of(tmp_path / "a", "p1")
    table_of(tmp_path / "b", "q1")
    status, out, _ = run("adopt", "--from", f"{tmp_path / 'a'}, {tmp_path / 'b'}", "--out", str(tmp_path / "both"))
    assert (status, out.splitlines()[0].split(",")[0]) == (0, "2 scans of 2 patients")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--dataset", "adni", "--from", ".", "--out", "x"],
            "dataset 'adni' is not known; known are msleseg (MSLesSeg), muslim",
        ),
        (["--dataset", "muslim"], "adopt needs --from (the unpacked folder) and --out (the new cohort); --dataset is one of"),
        (
            ["--dataset", "muslim", "--from", "/nowhere", "--out", "x"],
            "/nowhere is not a folder; give the dataset's unpacked folder",
        ),
        (["--dataset", "muslim", "--from", "/tmp", "--out", "/tmp"], "exists and is not empty; choose another folder"),
    ],
)
def test_command_at_fault_ends_in_one_line(run: Run, words: list[str], told: str, muslim: Path) -> None:
    words = [str(muslim) if word == "/tmp" and words.index("/tmp") == at else word for at, word in enumerate(words)]
    status, _, err = run("adopt", *words)
    assert (status, err.count("\n")) == (2, 1)
    assert told in err
