"""A person is one person, however an id is written, and no file of one patient bears the name of another's."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.cohort.flagged_scans import ACCEPTED, VERDICTS
from datamodules.cohort.identity import AlikeIds, Written, file_stem, identity, refuse_alike, under_names
from datamodules.cohort.read import read_cohort
from datamodules.cohort.records import Cohort
from datamodules.cohort.target import Target
from datamodules.files.tables import CohortError
from datamodules.intake.adopt import combine
from datamodules.intake.raw import read_raw
from datamodules.store.prepare import study_grid
from experiments.__main__ import main
from experiments.checking.quality import ScanQuality, plain_beside
from experiments.checking.quality_page import write_quality_page
from experiments.externals.scans import open_external
from experiments.study.record import read_record
from experiments.study.recorded import recorded_words
from experiments.study.settings import parse_settings

PATIENT = "sub-0009"
SPELLINGS = {
    "zeros dropped": "9",
    "one zero": "sub-09",
    "more zeros": "sub-000009",
    "en dash": "sub\u20130009",
    "em dash": "sub\u20140009",
    "minus sign": "sub\u22120009",
    "hyphen": "sub\u20100009",
    "non-breaking hyphen": "sub\u20110009",
    "underscore": "sub_0009",
    "dot": "sub.0009",
    "blank": "sub 0009",
    "no-break space": "sub\u00a00009",
    "thin space": "sub\u20090009",
    "nothing between": "SUB0009",
    "wide digits": "\uff10\uff10\uff10\uff19",
    "wide letters": "\uff33\uff35\uff22\uff0d0009",
    "zero-width space": "00\u200b09",
    "soft hyphen": "00\u00ad09",
    "byte-order mark": "00\ufeff09",
    "right-to-left mark": "0009\u200f",
    "control character": "00\x0709",
    "variation selector": "0009\ufe0f",
    "Arabic digits": "\u0660\u0660\u0660\u0669",
    "spreadsheet number": "9.0",
    "dash behind": "0009-",
    "patient": "Patient 9",
    "pat.": "Pat. 009",
    "subject": "subject_9",
    "participant": "participant-0009",
    "prefix twice": "sub-sub-0009",
}
"""Writings of ``sub-0009``."""

PEOPLE = [
    ("1", "10"),
    ("P1", "P11"),
    ("1.1", "11"),
    ("A-1-2", "A-12"),
    ("1-2", "12"),
    ("1_02", "102"),
    ("A1", "B1"),
    ("9", "90"),
    ("P1", "C1"),
    ("patel", "el"),
    ("0-1", "1"),
    ("M\u00fcller", "Muller"),
    ("\u03b1\u0031", "\u03b2\u0031"),
    ("\u738b1", "\u5f201"),
    ("sub-001", "sub-100"),
    ("1.1.2", "1.12"),
]
"""Pairs of two people."""


def table(folder: Path, *patients: str, session: str = "") -> Path:
    """A cohort with one scan for each patient, whose images are files that nobody opens."""
    rows = []
    for row, patient in enumerate(patients):
        for kind in ("t1w", "flair"):
            (folder / f"{row}_{kind}.nii").parent.mkdir(parents=True, exist_ok=True)
            (folder / f"{row}_{kind}.nii").write_bytes(b"x")
        rows.append(f"{patient}\t{session}\t{row}_t1w.nii\t{row}_flair.nii\t2\t5")
    path = folder / "cohort.tsv"
    path.write_text("\n".join(["patient\tsession\tt1w\tflair\tedss\tdays", *rows]) + "\n", encoding="utf-8")
    return path


def bids(folder: Path, *patients: str, scored: tuple[str, ...] = (), session: str = "ses-1") -> Path:
    """A BIDS folder with one usable scan of ``sub-ok``, further participants, and scores of ``scored``."""
    folder.mkdir(parents=True)
    (folder / "phenotype").mkdir()
    (folder / "participants.tsv").write_text("\n".join(["participant_id", "sub-ok", *patients]) + "\n", encoding="utf-8")
    rows = [f"{patient}\t{session}\t2\t5" for patient in ("sub-ok", *scored)]
    head = "participant_id\tsession_id\tedss\tdays_since_scan"
    (folder / "phenotype/edss.tsv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    anat = folder / "derivatives/made/sub-ok/ses-1/anat"
    anat.mkdir(parents=True)
    for kind in ("T1w", "FLAIR"):
        (anat / f"sub-ok_ses-1_space-MNI152NLin2009aSym_{kind}.nii").write_bytes(b"x")
    return folder


def everyone(cohort: Cohort) -> set[str]:
    return {entry.patient for entry in (*cohort.scans, *cohort.exclusions)}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_every_writing_of_an_id_is_one_identity(spelling: str) -> None:
    assert identity(spelling) == identity(PATIENT) == "9"


@pytest.mark.parametrize(("first", "second"), PEOPLE)
def test_two_people_have_two_identities(first: str, second: str) -> None:
    assert identity(first) != identity(second)


def test_the_rule_holds_for_each_character_of_its_kind() -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
    for sign in (sign for sign in characters if unicodedata.category(sign) in ("Pd", "Zs", "Pc")):
        assert identity(f"a{sign}1{sign}2") == "a1-2", hex(ord(sign))
    for sign in (sign for sign in characters if unicodedata.category(sign) == "Cf"):
        assert identity(f"a{sign}1{sign}2") == "a12", hex(ord(sign))
    for sign in (sign for sign in characters if unicodedata.category(sign) == "Nd"):
        assert identity(f"a0{sign}") == f"a{unicodedata.decimal(sign)}", hex(ord(sign))


def test_an_id_of_separators_alone_keeps_them() -> None:
    assert len({identity(text) for text in ("-", "--", "_", ".", "")}) == 5


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_two_spellings_in_a_table_are_refused(tmp_path: Path, spelling: str) -> None:
    with pytest.raises(CohortError) as caught:
        read_cohort(table(tmp_path, "other", PATIENT, spelling), Target())
    assert f"patients {PATIENT!r} (cohort.tsv line 3) and {spelling!r} (cohort.tsv line 4) look like one" in str(caught.value)
    assert "--alike_ids apart" in str(caught.value)
    apart = read_cohort(tmp_path / "cohort.tsv", Target(), alike_ids="apart")
    assert set(apart.patients) == {"other", PATIENT, spelling}


@pytest.mark.parametrize("place", ["participants", "edss", "sessions", "relapses"])
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_two_spellings_in_a_bids_dataset_are_refused(tmp_path: Path, spelling: str, place: str) -> None:
    people = (PATIENT, spelling) if place == "participants" else (PATIENT,)
    folder = bids(tmp_path / "bids", *people, scored=(spelling,) if place == "edss" else ())
    if place == "sessions":
        (folder / "sessions.tsv").write_text(f"participant_id\tsession_id\n{spelling}\tses-1\n", encoding="utf-8")
    if place == "relapses":
        (folder / "relapses.tsv").write_text(f"participant_id\trelapse_date\n{spelling}\t2020-01-01\n", encoding="utf-8")
    where = {"participants": r"participants.tsv line 4", "edss": r"edss.tsv line 3"}.get(place, rf"{place}.tsv line 2")
    told = rf"patients 'sub-0009' \(participants.tsv line 3\) and 'sub-.*' \({where}\) look like one"
    with pytest.raises(CohortError, match=told):
        read_cohort(folder, Target())
    assert PATIENT in everyone(read_cohort(folder, Target(), alike_ids="apart"))


@pytest.mark.parametrize("name", ["sub-9", "sub-00009", "sub-SUB0009", "sub-patient9", "sub-\uff10\uff10\uff10\uff19"])
def test_two_spellings_in_folder_names_are_refused(tmp_path: Path, name: str) -> None:
    folder = bids(tmp_path / "bids", PATIENT)
    for above in (folder, folder / "derivatives/made"):
        (above / name).mkdir()
        with pytest.raises(CohortError, match=rf"'sub-0009' \(participants.tsv line 3\) and '{name}' \(folder .*{name}\) look"):
            read_cohort(folder, Target())
        (above / name).rmdir()
    assert PATIENT in everyone(read_cohort(folder, Target()))


@pytest.mark.parametrize("written", ["0009", "SUB-0009", "Sub-0009"])
def test_a_bids_id_without_its_prefix_or_with_a_capital_one_is_the_same_spelling(tmp_path: Path, written: str) -> None:
    cohort = read_cohort(bids(tmp_path / "bids", PATIENT, scored=(written,)), Target())
    assert [one.detail for one in cohort.exclusions] == ["EDSS without a scan: edss.tsv line 3"]


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_two_spellings_in_joined_cohorts_are_refused(tmp_path: Path, spelling: str) -> None:
    sources = [table(tmp_path / "a", PATIENT).parent, table(tmp_path / "b", "other", spelling).parent]
    with pytest.raises(CohortError) as caught:
        combine(sources, tmp_path / "both", Target())
    both = f"{PATIENT!r} ({sources[0]}, cohort.tsv line 2) and {spelling!r} ({sources[1]}, cohort.tsv line 3)"
    assert f"patients {both} look like one" in str(caught.value)
    assert not (tmp_path / "both").exists()
    combine(sources, tmp_path / "both", Target(), "apart")
    assert len(read_cohort(tmp_path / "both", Target(), alike_ids="apart").patients) == 3


def test_a_bids_folder_joined_with_a_table_that_leaves_the_prefix_out_is_refused(tmp_path: Path) -> None:
    sources = [bids(tmp_path / "a"), table(tmp_path / "b", "ok").parent]
    with pytest.raises(CohortError, match=r"'sub-ok' \(.*T1w.nii, edss.tsv line 2\) and 'ok' \(.*b, cohort.tsv line 2\)"):
        combine(sources, tmp_path / "both", Target())


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_a_patient_of_the_study_in_another_spelling_is_refused_in_an_external_cohort(tmp_path: Path, spelling: str) -> None:
    study, other = table(tmp_path / "study", "sub-0001", PATIENT), table(tmp_path / "other", "x", spelling)
    both = f"patients {PATIENT!r} ({study} line 3) and {spelling!r} (cohort.tsv line 3) look like one"
    with pytest.raises(CohortError) as caught:
        open_external(other, {"label": {}}, study.parent, tmp_path / "store")
    assert both in str(caught.value)


@pytest.fixture
def external(make_scan: Callable[..., Any], tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    """``external(internal, other, alike_ids)``: the remarks when a study with one patient meets a cohort with another."""
    scans = [make_scan(tmp_path / name, seed=seed) for seed, name in enumerate(("inside", "outside"))]
    grid = study_grid([scans[0].t1w])
    frozen = {"label": {}, "inputs": [], "grid": {"shape": grid.shape, "affine": grid.affine}}

    def run(internal: str, other: str, alike_ids: AlikeIds = "refuse") -> tuple[str, ...]:
        for folder, patient, scan in zip(("study", "other"), (internal, other), scans, strict=True):
            (tmp_path / folder).mkdir(exist_ok=True)
            row = [patient, "1", scan.t1w, scan.flair, scan.mask, 2, 5]
            head = "patient\tsession\tt1w\tflair\tmask\tedss\tdays\n"
            (tmp_path / folder / "cohort.tsv").write_text(head + "\t".join(map(str, row)) + "\n", encoding="utf-8")
        cohort = open_external(tmp_path / "other", frozen, tmp_path / "study", tmp_path / "store", alike_ids=alike_ids)
        assert cohort.cohort.patients == (other,)
        return cohort.remarks

    return run


def test_an_external_patient_is_apart_when_the_user_says_so_or_the_sites_number_alike(
    external: Callable[..., tuple[str, ...]],
) -> None:
    told = "1 patient name occurs in both cohorts (first: {}); their images differ, so they are taken for different people"
    assert external("0009", "9", "apart") == (told.format("9"),)
    assert external("0009", "0009") == (told.format("0009"),)


@pytest.mark.parametrize(("first", "second"), PEOPLE)
def test_two_people_are_accepted_in_all_four_places(
    tmp_path: Path, external: Callable[..., tuple[str, ...]], first: str, second: str
) -> None:
    assert set(read_cohort(table(tmp_path / "c", first, second), Target()).patients) == {first, second}
    folder = bids(tmp_path / "bids", first, second, scored=(first, second))
    assert len(everyone(read_cohort(folder, Target()))) == 3
    combine([table(tmp_path / "a", first), table(tmp_path / "b", second)], tmp_path / "both", Target())
    assert set(read_cohort(tmp_path / "both", Target()).patients) == {first, second}
    assert external(first, second) == ()


@pytest.mark.parametrize("spelling", ["ses-01", "1", "SES_1", "session 1", "ses\u20131", "ses-\uff11"])
def test_two_spellings_of_a_session_are_refused(tmp_path: Path, spelling: str) -> None:
    scans = [
        line for name in ("ses-1", spelling) for line in table(tmp_path, "p", session=name).read_text("utf-8").splitlines()[1:]
    ]
    (tmp_path / "cohort.tsv").write_text(
        "\n".join(["patient\tsession\tt1w\tflair\tedss\tdays", *scans, "q\t" + scans[1].split("\t", 1)[1]]) + "\n", "utf-8"
    )
    with pytest.raises(CohortError) as caught:
        read_cohort(tmp_path, Target())
    assert "occurs twice: cohort.tsv line 2 and cohort.tsv line 3;" in str(caught.value)
    assert f"'ses-1' and {spelling!r} are one, unless --alike_ids is apart" in str(caught.value)
    assert len(read_cohort(tmp_path, Target(), alike_ids="apart").scans) == 3


def test_two_spellings_of_a_session_in_a_bids_dataset_are_refused(tmp_path: Path) -> None:
    folder = bids(tmp_path / "bids", session="ses-01")
    told = r"sessions of sub-ok 'ses-01' \(edss.tsv line 2\) and 'ses-1' \(folder .*sub-ok/ses-1\) look like one"
    with pytest.raises(CohortError, match=told):
        read_cohort(folder, Target())
    (folder / "sub-ok").mkdir()
    (folder / "sub-ok/sub-ok_sessions.tsv").write_text("session_id\nses-001\n")
    told = r"sessions of sub-ok 'ses-01' \(edss.tsv line 2\) and 'ses-001' \(sub-ok_sessions.tsv line 2\) look like one"
    with pytest.raises(CohortError, match=told):
        read_cohort(folder, Target())


def test_two_spellings_in_a_raw_dataset_are_refused_before_anything_is_prepared(tmp_path: Path) -> None:
    for patient in ("sub-0009", "sub-9"):
        for kind in ("T1w", "FLAIR"):
            path = tmp_path / patient / "anat" / f"{patient}_{kind}.nii"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    with pytest.raises(CohortError, match=r"'sub-0009' \(folder .*\) and 'sub-9' \(folder .*\) look like one"):
        read_raw(tmp_path)
    assert len(read_raw(tmp_path, alike_ids="apart").sessions) == 2


def test_a_known_patient_needs_no_own_spelling_twice() -> None:
    rows = [Written("9", "", "here")]
    refuse_alike(rows, "refuse", [Written("9", "", "there"), Written("09", "", "there")])
    with pytest.raises(CohortError, match=r"'9' \(there\) and '009' \(here\) look like one"):
        refuse_alike([Written("009", "", "here")], "refuse", [Written("9", "", "there")])


@pytest.mark.parametrize("spelling", ["9", "Patient 9", "sub\u20130009", "sub-0009"])
def test_quality_control_knows_a_scan_in_every_spelling(tmp_path: Path, spelling: str) -> None:
    source = table(tmp_path, "sub-0001", PATIENT, session="ses-1")
    (tmp_path / VERDICTS).write_text(f"patient\tsession\tverdict\treason\n{spelling}\t01\theld\tcut\n", "utf-8")
    assert read_cohort(source, Target()).patients == ("sub-0001",)
    (tmp_path / ACCEPTED).write_text(f"patient\tsession\treason\n{spelling}\tses-1\tlooked at\n", "utf-8")
    cohort = read_cohort(source, Target())
    assert cohort.patients == ("sub-0001", PATIENT)
    assert cohort.remarks == (f"accepted in {ACCEPTED} although beyond a limit: {PATIENT}/ses-1",)


def test_quality_control_keeps_apart_who_is_apart(tmp_path: Path) -> None:
    source = table(tmp_path, "0009", "9", "sub-9")
    (tmp_path / VERDICTS).write_text("patient\tsession\tverdict\treason\n9\tn/a\theld\tcut\n")
    assert read_cohort(source, Target(), alike_ids="apart").patients == ("0009", "sub-9")
    (tmp_path / VERDICTS).write_text("patient\tsession\tverdict\treason\n09\t\theld\tcut\n")
    with pytest.raises(CohortError, match=r"09 of quality control can be 0009 or 9 or sub-9; write one of these"):
        read_cohort(source, Target(), alike_ids="apart")


def test_a_row_that_fits_no_scan_keeps_its_spelling() -> None:
    names = [("p1", "ses-1"), ("p1", "ses-2")]
    assert under_names({("P 1", "1"): 1, ("x", ""): 2}, names) == {("p1", "ses-1"): 1, ("x", ""): 2}


def test_the_option_reaches_the_study_and_its_record_and_changes_no_fingerprint(
    tmp_path: Path, make_scan: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["patient\tt1w\tflair\tmask\tedss\tdays"]
    for row, patient in enumerate(["7", "007", "1", "2", "3", "4", "5", "6"]):
        scan = make_scan(tmp_path / "images", f"s{row}", seed=row)
        rows.append(f"{patient}\t{scan.t1w}\t{scan.flair}\t{scan.mask}\t{row % 2 * 4 + 1}\t5")
    (tmp_path / "cohort.tsv").write_text("\n".join(rows) + "\n")
    words = ["--cohort", str(tmp_path / "cohort.tsv"), "--studies", str(tmp_path), "--store", str(tmp_path / "store")]
    words += ["--study", "mine", "--folds", "3", "--preset", "demo", "--data.batch_size", "2"]
    assert main(["check", *words]) != 0
    (message,) = capsys.readouterr().err.splitlines()
    assert "patients '7' (cohort.tsv line 2) and '007' (cohort.tsv line 3) look like one; spell the name in one way" in message
    assert main(["check", *words, "--alike_ids", "apart"]) == 0
    record = read_record(tmp_path / "mine")
    assert record is not None
    assert "--alike_ids=apart" in recorded_words(record)
    assert {"7", "007"} <= {line.split("\t")[0] for line in (tmp_path / "mine/splits.tsv").read_text().splitlines()}
    assert sorted(path.name for path in (tmp_path / "mine/qc").glob("*7.png")) == ["007.png", "7.png"]
    settings, apart = parse_settings(words), parse_settings([*words, "--alike_ids", "apart"])
    assert settings.hash() == apart.hash()


FILES = [
    *SPELLINGS.values(), *(name for pair in PEOPLE for name in pair),
    "P.1", "P_1", "p_1", "p-1", "p1", "P1", "P 1", "P/1", "\u0391\u03b2", "\u03b1\u03b2", "\u0430\u0431",
    "ab", "\u738b\u4f1f", "\u738b\u5a1f", "a~b", "..", ".", "e\u0301", "\u00e9",
    "x" * 300, "x" * 301, "con/../x", "<b>", '"', "%2e", "a?b", "a#b",
]  # fmt: skip
"""Ids in many scripts, some of which a file system would take for each other."""


def on_disk(name: str) -> str:
    """What is left of a file name where neither case nor composition counts."""
    return unicodedata.normalize("NFKD", name).casefold()


def test_no_two_scans_share_a_file_name_on_any_file_system() -> None:
    rng = np.random.default_rng(0)
    signs = [*"aAbB01._-~ /\\", *"\u03b1\u0410\u0430\u738b\u00e9\u0301\u200b\u0130\u1e9e\u00df"]
    drawn = {"".join(rng.choice(signs, rng.integers(1, 7))) for _ in range(20_000)}
    pairs = {(patient, session) for patient in {*FILES, *drawn} for session in ("", "ses-1")}
    pairs |= set(itertools.product(FILES, FILES))
    stems = [file_stem(*pair) for pair in pairs]
    assert len({on_disk(stem) for stem in stems}) == len(pairs) > 30_000
    assert all(stem.isascii() and len(stem) <= 101 and not set(stem) & set('/\\:*?"<>|%# .') for stem in stems)


def test_ordinary_ids_keep_their_file_names() -> None:
    assert file_stem("sub-01", "ses-1") == "sub-01_ses-1"
    assert file_stem("0009", "") == "0009"
    assert file_stem("a", "b") != file_stem("a_b", "") != file_stem("A", "b")


def test_the_page_shows_each_brain_under_its_own_name(tmp_path: Path) -> None:
    names = [name for name in FILES if name]
    scans = []
    for row, name in enumerate(names):
        for picture in (f"{row}.png", f"{row}_plain.png"):
            (tmp_path / picture).write_bytes(name.encode())
        scans.append(ScanQuality(name, "", {}, tmp_path / f"{row}.png"))
    write_quality_page(tmp_path / "qc", scans, True)
    assert len(list((tmp_path / "qc").glob("*.png"))) == 2 * len(set(names))
    for scan in scans:
        for file in (tmp_path / "qc" / scan.file, plain_beside(tmp_path / "qc" / scan.file)):
            assert file.read_bytes() == scan.patient.encode()
    text = (tmp_path / "qc/index.html").read_text(encoding="utf-8")
    assert all(f'src="{scan.file}"' in text for scan in scans)


def test_the_page_names_the_acceptance_of_a_scan_in_another_spelling(tmp_path: Path) -> None:
    for picture in ("one.png", "one_plain.png"):
        (tmp_path / picture).write_bytes(b"x")
    scans = [ScanQuality(PATIENT, "ses-1", {}, tmp_path / "one.png")]
    write_quality_page(tmp_path / "qc", scans, True, {("9", "1"): "looked at"})
    assert "accepted: looked at" in (tmp_path / "qc/index.html").read_text(encoding="utf-8")
