"""A zoo of broken tables: each fault is handled, counted or named with file, row and column; nothing vanishes."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from datamodules.cohort.read import read_cohort
from datamodules.cohort.records import NO_SCAN, Cohort
from datamodules.cohort.target import Target
from datamodules.files.tables import CohortError
from experiments.__main__ import main

SPACE = "space-MNI152NLin2009aSym_desc-preproc"
PEOPLE = "participant_id\tage\tsex\nsub-01\t41\tF\nsub-02\t35\tM\nsub-03\t50\tF\n"
EDSS = "participant_id\tsession_id\tedss\tedss_date\nsub-01\tses-1\t2.0\t2020-01-20\nsub-02\tses-1\t3.5\t2020-02-20\n"
EDSS += "sub-03\tses-1\t1.0\t2020-03-20\n"


class Folder:
    """A BIDS folder of three patients with one session each, scanned on the tenth of January, February and March 2020."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.put("participants.tsv", PEOPLE)
        self.put("phenotype/edss.tsv", EDSS)
        for month, patient in enumerate(("sub-01", "sub-02", "sub-03"), start=1):
            self.put(f"{patient}/{patient}_sessions.tsv", f"session_id\tacq_time\nses-1\t2020-{month:02d}-10T09:00:00\n")
            self.scan(patient, "ses-1")

    def put(self, path: str, content: str | bytes = b"x") -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return target

    def image(self, patient: str, session: str, kind: str) -> Path:
        return self.root / f"derivatives/one/{patient}/{session}/anat/{patient}_{session}_{SPACE}_{kind}.nii.gz"

    def scan(self, patient: str, session: str) -> None:
        for kind in ("T1w", "FLAIR"):
            self.put(str(self.image(patient, session, kind).relative_to(self.root)))

    def edss(self, old: str, new: str) -> None:
        assert old in EDSS
        self.put("phenotype/edss.tsv", EDSS.replace(old, new))

    def people(self, old: str, new: str) -> None:
        assert old in PEOPLE
        self.put("participants.tsv", PEOPLE.replace(old, new))

    def everywhere(self, change: Callable[[bytes], bytes]) -> None:
        for path in self.root.rglob("*.tsv"):
            path.write_bytes(change(path.read_bytes()))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "my cohort")


def read(folder: Folder, rule: Target = Target()) -> Cohort:
    return read_cohort(folder.root, rule)


def scores(cohort: Cohort) -> dict[str, tuple[float, int | None]]:
    return {scan.patient: (scan.value, scan.days) for scan in cohort.scans}


ALL = {"sub-01": (2.0, 10), "sub-02": (3.5, 10), "sub-03": (1.0, 10)}

HANDLED: dict[str, Callable[[Folder], object]] = {
    "nothing wrong": lambda f: None,
    "decimal comma": lambda f: f.edss("3.5", "3,5"),
    "Windows line ends": lambda f: f.everywhere(lambda text: text.replace(b"\n", b"\r\n")),
    "byte-order mark": lambda f: f.everywhere(lambda text: b"\xef\xbb\xbf" + text),
    "blank rows": lambda f: f.everywhere(lambda text: text.replace(b"\n", b"\n\n\t\t\n")),
    "no prefixes": lambda f: f.everywhere(lambda text: text.replace(b"sub-", b"").replace(b"ses-", b"")),
    "prefixes in capitals": lambda f: f.everywhere(lambda text: text.replace(b"sub-", b"SUB-").replace(b"ses-", b"Ses-")),
    "date with dots": lambda f: f.edss("2020-02-20", "20.02.2020"),
    "date with the month's name": lambda f: f.edss("2020-02-20", "20-Feb-2020"),
    "date with slashes, day beyond 12": lambda f: f.edss("2020-02-20", "02/20/2020"),
    "date with a time": lambda f: f.edss("2020-02-20", "2020-02-20T13:45:00"),
    "assessment twice": lambda f: f.edss("sub-02\tses-1\t3.5\t2020-02-20\n", "sub-02\tses-1\t3.5\t2020-02-20\n" * 2),
    "two of one day, written differently": lambda f: f.edss("sub-03", "sub-02\tses-1\t3,50\t2020-02-20\nsub-03"),
    "assessment without a score": lambda f: f.edss("sub-02\t", "sub-02\tses-1\tn/a\t2020-02-11\nsub-02\t"),
    "wrong session, right date": lambda f: f.edss("sub-02\tses-1", "sub-02\tses-7"),
    "loop of links": lambda f: (f.root / "sub-01" / "loop").symlink_to(f.root, target_is_directory=True),
    "broken link to nowhere": lambda f: (f.root / "sub-04").symlink_to("gone"),
    "lock file of an editor": lambda f: f.put("phenotype/~$edss.tsv", b"\x00\x01"),
    "backup of an image": lambda f: f.put("derivatives/one/sub-01/ses-1/anat/sub-01_ses-1_space-MNI152_T1w.nii.gz.bak"),
}
"""Faults after which every score is still right."""

COUNTED: dict[str, tuple[Callable[[Folder], object], str, str]] = {
    "EDSS 3.25": (lambda f: f.edss("3.5", "3.25"), "EDSS not on the scale", r"'3.25', .*edss.tsv line 3"),
    "EDSS 99": (lambda f: f.edss("3.5", "99"), "EDSS not on the scale", r"'99', .*edss.tsv line 3"),
    "EDSS out of window": (lambda f: f.edss("2020-02-20", "2021-02-20"), "EDSS after day 183", r"376 days, .*line 3"),
    "EDSS before the scan": (lambda f: f.edss("2020-02-20", "2020-02-09"), "EDSS before day 0", r"-1 days, .*line 3"),
    "no EDSS": (lambda f: f.edss("3.5", "n/a"), "no EDSS", r"sub-02_ses-1_.*T1w.nii.gz"),
    "no date": (lambda f: f.edss("2020-02-20", ""), "days from scan to EDSS unknown", r"edss.tsv line 3"),
    "FLAIR missing": (lambda f: f.image("sub-02", "ses-1", "FLAIR").unlink(), "no FLAIR", r"sub-02_ses-1"),
    "T1w missing": (lambda f: f.image("sub-02", "ses-1", "T1w").unlink(), NO_SCAN, r"EDSS without a scan: edss.tsv line 3"),
    "participant without a scan": (lambda f: f.people("sub-03", "sub-09\t30\tF\nsub-03"), NO_SCAN, r"participants.tsv"),
    "score without a scan": (
        lambda f: f.edss("sub-03", "sub-09\tses-1\t4.0\t2020-02-20\nsub-03"),
        NO_SCAN,
        r"EDSS without a scan: edss.tsv line 4",
    ),
    "image is a link in a circle": (
        lambda f: circle(f.image("sub-02", "ses-1", "FLAIR")),
        "FLAIR file missing",
        r"sub-02.*FLAIR",
    ),
    "image is a folder": (lambda f: as_folder(f.image("sub-02", "ses-1", "FLAIR")), "FLAIR file missing", r"sub-02.*FLAIR"),
}
"""Faults that cost one patient: the reason, and the detail that names the place."""

REFUSED: dict[str, tuple[Callable[[Folder], object], str]] = {
    "two EDSS the same day": (
        lambda f: f.edss("sub-03", "sub-02\tses-1\t4.0\t2020-02-20\nsub-03"),
        r"sub-02/ses-1 has two scores on the same day: edss.tsv line 3 \(EDSS 3.5\) and edss.tsv line 4 \(EDSS 4.0\); keep one",
    ),
    "ambiguous date": (
        lambda f: f.edss("2020-02-20", "02/03/2020"),
        r"edss.tsv line 3, column 'edss_date': '02/03/2020' can be 2020-02-03 or 2020-03-02; write YYYY-MM-DD",
    ),
    "day number": (
        lambda f: f.edss("2020-02-20", "43881"),
        r"line 3, column 'edss_date': '43881' is not a date, a spreadsheet's",
    ),
    "date of a scan": (
        lambda f: f.put("sub-02/sub-02_sessions.tsv", "session_id\tacq_time\nses-1\tFebruary\n"),
        r"sub-02_sessions.tsv line 2, column 'acq_time': 'February' is not a date; write YYYY-MM-DD",
    ),
    "negative age": (
        lambda f: f.people("35", "-35"),
        r"participants.tsv line 3, column 'age': '-35' is not an age in years \(0 to 120\)",
    ),
    "age 350": (lambda f: f.people("35", "350"), r"participants.tsv line 3, column 'age': '350' is not an age"),
    "age in words": (lambda f: f.people("35", "035Y"), r"participants.tsv line 3, column 'age': '035Y' is not an age"),
    "zeros dropped": (
        lambda f: f.edss("sub-02\t", "2\t"),
        r"patients 'sub-02' \(participants.tsv line 3\) and 'sub-2' \(edss.tsv line 3\) look like one; spell the name",
    ),
    "number with a point": (lambda f: f.edss("sub-02\t", "2.0\t"), r"and 'sub-2.0' \(edss.tsv line 3\) look like one"),
    "patient twice": (
        lambda f: f.people("sub-03", "02\t36\tM\nsub-03"),
        r"participants.tsv line 4: patient sub-02 occurs twice, also in line 3; keep one row",
    ),
    "patient without a row": (lambda f: f.people("sub-02\t35\tM\n", ""), r"sub-02 has no row in .*participants.tsv; add it"),
    "shifted columns": (
        lambda f: f.edss("sub-02\tses-1", "sub-02\t\tses-1"),
        r"edss.tsv line 3: 5 cells where the header has 4",
    ),
    "commas in a .tsv": (
        lambda f: f.everywhere(lambda text: text.replace(b"\t", b",")),
        r"participants.tsv has no column 'participant_id'.*; it has: participant_id,age,sex",
    ),
    "open quote": (lambda f: f.edss("3.5", '"3.5'), r"edss.tsv line \d: unexpected end of data; check the quotation marks"),
    "Latin-1": (
        lambda f: f.put("participants.tsv", PEOPLE.encode() + b"sub-09\t3\t\xe9\n"),
        r"participants.tsv is not UTF-8 text",
    ),
    "UTF-16": (
        lambda f: f.put("participants.tsv", PEOPLE.encode("utf-16")),
        r"participants.tsv is not UTF-8 text .*; save it as UTF-8",
    ),
    "spreadsheet as .tsv": (lambda f: f.put("participants.tsv", b"PK\x03\x04\x14\xff"), r"participants.tsv is not UTF-8 text"),
    "empty table": (lambda f: f.put("phenotype/edss.tsv", b""), r"edss.tsv is empty; its first line must name the columns"),
    "header alone": (
        lambda f: f.put("phenotype/edss.tsv", EDSS.split("\n")[0] + "\n"),
        r"edss.tsv has no rows below its header",
    ),
    "misspelt column": (lambda f: f.edss("\tedss\t", "\tEDSS\t"), r"edss.tsv has no column 'edss' \(did you mean 'EDSS'\?\)"),
    "column twice": (lambda f: f.edss("edss_date", "edss"), r"edss.tsv names column 'edss' twice; rename or remove one"),
    "broken dictionary": (lambda f: f.put("phenotype/edss.json", "{"), r"edss.json is not JSON \(.*\); fix or remove it"),
    "broken sidecar": (
        lambda f: f.put(str(f.image("sub-02", "ses-1", "T1w").relative_to(f.root)).replace(".nii.gz", ".json"), "{"),
        r"sub-02_.*T1w.json is not JSON",
    ),
    "scan in another's folder": (
        lambda f: f.image("sub-02", "ses-1", "T1w").rename(
            f.image("sub-01", "ses-1", "T1w").with_name(f"sub-02_ses-1_{SPACE}_T1w.nii.gz")
        ),
        r"sub-02_ses-1_.*T1w.nii.gz is not in a folder sub-02; move or rename it",
    ),
    "one scan in two versions": (
        lambda f: f.put(f"derivatives/one/sub-02/ses-1/anat/sub-02_ses-1_acq-b_{SPACE}_T1w.nii.gz"),
        r"sub-02/ses-1 occurs twice",
    ),
    "two prepared folders": (
        lambda f: f.put(f"derivatives/two/sub-02/ses-1/anat/sub-02_ses-1_{SPACE}_T1w.nii.gz"),
        r"has scans in several derivatives \(derivatives/one, derivatives/two\)",
    ),
    "EDSS of patients among those of clinicians": (
        lambda f: f.put("phenotype/edss.tsv", sources(EDSS, "Clinician", "patient", "clinician")),
        r"EDSS of several sources \(clinician 2, patient 1\); choose one with --label.source clinician",
    ),
}
"""Faults that end in one message, because any guess could put a wrong label on a scan."""


def circle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def sources(table: str, *kinds: str) -> str:
    header, *rows = table.splitlines()
    return "\n".join([f"{header}\tedss_source", *(f"{row}\t{kind}" for row, kind in zip(rows, kinds, strict=True))]) + "\n"


@pytest.mark.parametrize("kind", HANDLED)
def test_handled(kind: str, folder: Folder) -> None:
    HANDLED[kind](folder)
    cohort = read(folder)
    assert scores(cohort) == ALL
    assert cohort.exclusions == ()


@pytest.mark.parametrize("kind", COUNTED)
def test_counted(kind: str, folder: Folder) -> None:
    damage, reason, detail = COUNTED[kind]
    damage(folder)
    cohort = read(folder)
    (lost,) = cohort.exclusions
    assert (lost.reason, lost.patient in ("sub-02", "sub-09")) == (reason, True)
    assert re.search(detail, lost.detail)
    assert len(cohort.scans) + len(cohort.exclusions) >= 3


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind: str, folder: Folder) -> None:
    damage, told = REFUSED[kind]
    damage(folder)
    with pytest.raises(CohortError, match=told) as caught:
        read(folder)
    assert "\n" not in str(caught.value)


def test_zoo_is_large_enough() -> None:
    assert len(HANDLED) + len(COUNTED) + len(REFUSED) >= 50


def test_all_impossible_ages_are_named_at_once(folder: Folder) -> None:
    folder.put("participants.tsv", PEOPLE.replace("41", "-1").replace("50", "999"))
    named = r"line 2, column 'age': '-1' is not an age.*\n.*line 4, column 'age': '999' is not an age"
    with pytest.raises(CohortError, match=named):
        read(folder)


def test_missing_session_is_counted_and_the_other_kept(folder: Folder) -> None:
    folder.put("sub-02/sub-02_sessions.tsv", "session_id\tacq_time\nses-1\t2020-02-10\nses-2\t2021-02-10\n")
    folder.scan("sub-02", "ses-2")
    folder.image("sub-02", "ses-2", "FLAIR").unlink()
    cohort = read(folder)
    assert scores(cohort) == ALL
    assert [(one.name, one.reason) for one in cohort.exclusions] == [("sub-02/ses-2", "no FLAIR")]


def test_scores_of_patients_without_a_scan_are_told_and_in_the_flow(folder: Folder) -> None:
    folder.edss(
        "sub-03", "sub-09\tses-1\t4.0\t2020-02-20\nsub-09\tses-2\t4.5\t2021-02-20\nsub-02\tses-1\t3.0\t2020-12-01\nsub-03"
    )
    cohort = read(folder)
    assert (
        "EDSS assessments: 6; belonging to a scan: 3; of other days: 1; of patients without a scan: 2 (sub-09)"
        in cohort.remarks
    )
    flow = cohort.flow()
    assert flow["remarks"] == list(cohort.remarks)
    (lost,) = flow["excluded"]  # type: ignore[misc]
    assert (lost["scans"], lost["patients"]) == (0, 1)
    assert lost["who"] == [
        {"patient": "sub-09", "session": "", "detail": "EDSS without a scan: edss.tsv line 4, edss.tsv line 5"}
    ]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user may enter, unlike ``tmp_path``."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


@contextmanager
def without_rights() -> Iterator[None]:
    """Be nobody where this process is root, whom no permission stops."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


LOCKED: dict[str, tuple[str, str]] = {
    "patient": ("derivatives/one/sub-02", r"derivatives/one/sub-02 cannot be read \(Permission denied\); fix its permissions"),
    "session": ("derivatives/one/sub-02/ses-1", r"derivatives/one/sub-02/ses-1 cannot be read \(Permission denied\)"),
    "table": ("participants.tsv", r"Permission denied.*participants.tsv"),
}


@pytest.mark.parametrize("what", LOCKED)
def test_what_may_not_be_read_is_named(what: str, open_folder: Path) -> None:
    folder = Folder(open_folder / "cohort")
    assert scores(read(folder)) == ALL
    path, told = LOCKED[what]
    place = folder.root / path
    place.chmod(0)
    try:
        with without_rights(), pytest.raises((CohortError, PermissionError), match=told):
            read(folder)
    finally:
        place.chmod(0o755)


def test_unreadable_table_ends_in_one_line(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Path.read_text

    def refuse(path: Path, *args: str, **options: str) -> str:
        if path.name == "participants.tsv":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    status = main(["check", "--cohort", str(folder.root), "--studies", str(tmp_path / "studies"), "--study", "x"])
    err = capsys.readouterr().err
    assert (status, err.count("\n")) == (2, 1)
    assert "participants.tsv: Permission denied" in err


def test_refusal_reaches_the_command_line_as_one_line(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.people("35", "-35")
    status = main(["check", "--cohort", str(folder.root), "--studies", str(tmp_path / "studies"), "--study", "x"])
    err = capsys.readouterr().err
    assert (status, err.count("\n")) == (2, 1)
    assert "column 'age': '-35' is not an age in years" in err
    assert not (tmp_path / "studies" / "x" / "splits.tsv").exists()
