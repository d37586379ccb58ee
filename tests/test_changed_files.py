"""A file of a study that is not what was written is named by the command that reads it, and never changes a number silently."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.study.run_folder import RunFolder, read_predictions, write_predictions

INPUTS = ["brainstem", "ventricles"]
RUN = "brainstem/fold-1/seed-0"
OTHER = "ventricles/fold-1/seed-0"
BASELINE = "baselines/age_sex/fold-0"
CONTROL = "controls/mask_only/brainstem/repeat-0/fold-0"

Damage = Callable[[bytes], bytes]


def flipped(place: float) -> Damage:
    def flip(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[min(int(place * len(changed)), len(changed) - 1)] ^= 1
        return bytes(changed)

    return flip


DAMAGE: dict[str, Damage] = {
    "first byte": flipped(0),
    "middle byte": flipped(0.5),
    "last byte": flipped(1),
    "cut short": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
}


@pytest.fixture(scope="module")
def places(phantom_cohort: Path, store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return ["--cohort", str(phantom_cohort), "--store", str(store_folder), "--studies", str(tmp_path_factory.mktemp("kept"))]


def tiny(epochs: int = 2) -> list[str]:
    words = ["--study", "mine", "--preset", "demo", "--folds", "3", "--network.init_args.stages", "2"]
    return [*words, "--network.init_args.width", "2", "--trainer.max_epochs", str(epochs), "--tracking.mode", "disabled"]


@pytest.fixture(scope="module")
def whole(places: list[str]) -> Path:
    """A study with everything that commands leave, two inputs and three folds."""
    inputs = ["--inputs", ",".join(INPUTS)]
    assert main(["sweep", *tiny(), *places, *inputs, "--jobs", "1"]) == 0
    assert main(["baselines", *tiny(), *places]) == 0
    assert main(["check", *tiny(), *places]) in (0, 1)
    words = ["--controls", "image,mask_only", "--draws", "100", "--study", "mine", "--folds", "3", "--trainer.max_epochs", "1"]
    words += ["--network.init_args.stages", "2", "--network.init_args.width", "2", "--inputs", "brainstem"]
    assert main(["controls", *words, *places]) == 0
    assert compare(Path(places[-1])) == 0
    return Path(places[-1]) / "mine"


def compare(studies: Path) -> int:
    words = ["--study", "mine", "--studies", str(studies), "--inputs", ",".join(INPUTS)]
    return main(["compare", *words, "--draws", "100", "--tracking.mode", "disabled"])


@pytest.fixture
def study(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "mine")
    return tmp_path / "mine"


OF_A_COMPARISON = [
    *(f"{RUN}/{name}" for name in ("predictions.tsv", "metrics.json", "history.tsv", "config.yaml", "run.json")),
    f"{RUN}/checkpoints/best.ckpt",
    *(f"{BASELINE}/{name}" for name in ("predictions.tsv", "run.json")),
    *("study.yaml", "cohort.tsv", "splits.tsv", "splits.json", "grid.json", "tissue.json"),
]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", OF_A_COMPARISON)
def test_compare_names_a_changed_file(study: Path, capsys: pytest.CaptureFixture[str], name: str, damage: str) -> None:
    before = (study / "comparison.tsv").read_bytes()
    path = study / name
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert compare(study.parent) in (1, 2)
    message = capsys.readouterr().err
    assert path.name in message
    assert len(message.splitlines()) == 1
    assert (study / "comparison.tsv").read_bytes() == before


OF_A_REPORT = [
    *(f"{name}.json" for name in ("comparison", "subgroups", "robustness", "flow", "table1", "baselines", "controls")),
    "tissue.json",
    f"{RUN}/history.tsv",
    f"{RUN}/config.yaml",
]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", OF_A_REPORT)
def test_report_names_a_changed_file(study: Path, capsys: pytest.CaptureFixture[str], name: str, damage: str) -> None:
    path = study / name
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert main(["report", "--study", "mine", "--studies", str(study.parent)]) in (1, 2)
    message = capsys.readouterr().err
    assert path.name in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["predictions.tsv", "run.json"])
def test_a_control_s_changed_file_is_named(
    study: Path, places: list[str], capsys: pytest.CaptureFixture[str], name: str, damage: str
) -> None:
    path = study / CONTROL / name
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    words = ["--controls", "image,mask_only", "--draws", "100", "--study", "mine", "--folds", "3", "--trainer.max_epochs", "1"]
    words += ["--network.init_args.stages", "2", "--network.init_args.width", "2", "--inputs", "brainstem"]
    assert main(["controls", *words, *places[:-1], str(study.parent)]) in (1, 2)
    assert f"{CONTROL}/{name}" in capsys.readouterr().err


def one_row_less(path: Path) -> None:
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def one_label_flipped(path: Path) -> None:
    lines = path.read_text().splitlines()
    cells = lines[-1].split("\t")
    cells[4] = str(1 - int(cells[4]))
    path.write_text("\n".join([*lines[:-1], "\t".join(cells)]) + "\n")


def rows_of_another_input(path: Path) -> None:
    shutil.copyfile(path.parents[3] / OTHER / path.name, path)


def rows_of_another_fold(path: Path) -> None:
    shutil.copyfile(path.parents[2] / "fold-0" / "seed-0" / path.name, path)


@pytest.mark.parametrize("change", [one_row_less, one_label_flipped, rows_of_another_input, rows_of_another_fold])
def test_other_predictions_under_the_run_s_name_are_refused(study: Path, capsys, change: Callable[[Path], None]) -> None:
    change(study / RUN / "predictions.tsv")
    assert compare(study.parent) == 2
    assert f"{RUN}/predictions.tsv was changed after the run ended" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (one_row_less, "is missing from the internal_test scans of fold 1"),
        (one_label_flipped, r"has label \d, in the cohort \d"),
        (rows_of_another_fold, "of fold 1; the file is not of this study"),
    ],
)
def test_rows_are_those_of_split_and_cohort_also_where_the_hashes_agree(
    study: Path, capsys, change: Callable[[Path], None], message: str
) -> None:
    run = RunFolder(study / RUN)
    change(run.path / "predictions.tsv")
    run.write_complete(run.facts())
    assert compare(study.parent) == 2
    error = capsys.readouterr().err
    assert f"{RUN}/predictions.tsv: scan" in error
    assert re.search(message, error)


def test_a_run_folder_of_another_input_is_refused(study: Path, capsys) -> None:
    shutil.rmtree(study / RUN)
    shutil.copytree(study / OTHER, study / RUN)
    assert compare(study.parent) == 2
    assert RUN in capsys.readouterr().err


def test_a_run_trained_again_makes_the_comparison_old(study: Path, capsys) -> None:
    run = RunFolder(study / RUN)
    rows = read_predictions(run.path / "predictions.tsv")
    rows.p[:] = 1 - rows.p
    write_predictions(run.path / "predictions.tsv", rows)
    run.write_complete(run.facts())
    assert main(["report", "--study", "mine", "--studies", str(study.parent)]) == 0
    assert f"{RUN} is newer than this comparison" in (study / "report.html").read_text(encoding="utf-8")


def test_checkpoints_may_be_deleted(study: Path) -> None:
    before = (study / "comparison.tsv").read_bytes()
    for path in study.glob("*/fold-*/seed-0/checkpoints"):
        shutil.rmtree(path)
    assert compare(study.parent) == 0
    assert (study / "comparison.tsv").read_bytes() == before


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt", "last.ckpt.sha256"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_an_interrupted_run_with_a_damaged_checkpoint_starts_anew_and_says_so(
    study: Path, places: list[str], capsys, name: str, damage: str
) -> None:
    run = RunFolder(study / RUN)
    before = (run.path / "predictions.tsv").read_bytes()
    path = run.path / "checkpoints" / name
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    run.write_facts(run.facts() | {"state": "interrupted"})
    words = [*tiny(), *places[:-1], str(study.parent), "--roi", "brainstem", "--fold", "1", "--quiet"]
    assert main(["fold", *words]) == 0
    out = capsys.readouterr().out
    if not (name.endswith("sha256") and damage == "last byte"):  # the hash without its line's end is the same hash
        assert f"{name.removesuffix('.sha256')} was changed after it was saved; set aside in" in out
    assert (run.path / "predictions.tsv").read_bytes() == before
