"""Cores of regions: what belongs to them, that labels play no part, and their atlas, from the command to a trained fold."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.processing import resample_from_to
from scipy.ndimage import binary_erosion

from datamodules.files.sealed import read_sealed
from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort
from experiments.__main__ import main
from experiments.analysis.tissue import TissueShares, tissue_facts
from experiments.checking.core import LEAST_SCANS, count_agreement
from experiments.study.record import read_record
from experiments.study.run_folder import RunFolder
from experiments.study.study import Study
from regions.atlas import region_mask
from regions.catalog import REGIONS, Atlas, Region
from regions.core import CoreRule, core, pieces
from regions.errors import UserError
from regions.grid import Grid
from regions.own import load_regions

TINY = ["--preset", "demo", "--trainer.max_epochs", "1", "--network.init_args.width", "2", "--network.init_args.stages", "2"]
PATIENTS, SCANS = 14, 16
Command = Callable[..., str]


def grid(*shape: int, spacing: float = 2.0) -> Grid:
    return Grid.of(shape, np.diag([spacing, spacing, spacing, 1.0]))


def test_the_share_of_the_scans_that_must_agree() -> None:
    counts, plain = np.arange(21).reshape(21, 1, 1), grid(21, 1, 1)
    for share, least in ((1.0, 20), (0.95, 19), (0.9, 18), (0.93, 19)):
        rule = CoreRule(share, 0.0)
        assert rule.least_of(20) == least
        assert np.flatnonzero(core(counts, 20, rule, plain)).tolist() == list(range(least, 21))


def test_a_margin_of_one_voxel_takes_the_faces_neighbours_and_a_wider_one_its_edges() -> None:
    rng = np.random.default_rng(1)
    agreeing = np.where(rng.random((12, 10, 9)) < 0.05, 3, 4)
    padded = np.pad(agreeing == 4, 1)
    inner = (slice(1, -1),) * 3
    made = {margin: core(agreeing, 4, CoreRule(1.0, margin), grid(12, 10, 9)) for margin in (None, 2.0, 1.9, 2.9)}
    expected = binary_erosion(padded)[inner]
    assert np.array_equal(made[None], expected)
    assert np.array_equal(made[2.0], expected)
    assert np.array_equal(made[1.9], agreeing == 4)
    assert np.array_equal(made[2.9], binary_erosion(padded, np.abs(np.indices((3, 3, 3)) - 1).sum(axis=0) <= 2)[inner])
    assert 0 < made[2.9].sum() < expected.sum()


def test_beyond_the_volume_nothing_agrees() -> None:
    made = core(np.full((5, 5, 5), 7), 7, CoreRule(), grid(5, 5, 5))
    assert made.sum() == 27
    assert made[1:4, 1:4, 1:4].all()


@pytest.mark.parametrize("share", [0.5, 0.0, 1.01, -1, float("nan")])
def test_a_share_that_makes_no_core_is_refused(share: float) -> None:
    with pytest.raises(UserError, match=r"--share .* above 0.5 up to 1"):
        CoreRule(share)


@pytest.mark.parametrize("margin", [-0.1, float("nan"), float("inf")])
def test_a_margin_that_makes_no_core_is_refused(margin: float) -> None:
    with pytest.raises(UserError, match=r"--margin .* 0 mm or more"):
        CoreRule(1.0, margin)


def test_regions_that_overlap_share_labels() -> None:
    rng = np.random.default_rng(2)
    outer = rng.random((6, 7, 8)) < 0.5
    masks = {"outer": outer, "inner": outer & (rng.random((6, 7, 8)) < 0.5), "other": rng.random((6, 7, 8)) < 0.3}
    labels, of_region = pieces(masks)
    assert {name: np.isin(labels, of_region[name]).tolist() for name in masks} == {n: m.tolist() for n, m in masks.items()}
    assert set(of_region["inner"]) < set(of_region["outer"])
    assert np.array_equal(labels > 0, np.any(list(masks.values()), axis=0))


def test_regions_without_a_gap_have_no_label_of_their_own() -> None:
    labels, of_region = pieces({"all": np.ones((2, 2, 2), bool), "none": np.zeros((2, 2, 2), bool)})
    assert (labels == 1).all()
    assert of_region == {"all": [1], "none": []}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 patients, 16 scans at 4 mm; the ventricles of the positive ones are larger."""
    folder = tmp_path_factory.mktemp("cores") / "cohort"
    return write_phantom_cohort(folder, PhantomOptions("enlarged_ventricles", PATIENTS, SCANS, 4.0, seed=5))


@pytest.fixture
def run(tmp_path: Path, store_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in a wide terminal; returns what it printed, and fails where the status is another."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def command(*words: str, status: int = 0) -> str:
        found = main([*words, "--store", str(store_folder), "--studies", str(tmp_path / "studies")])
        out = capsys.readouterr()
        assert found == status, out.out + out.err
        return out.out + out.err

    return command


def copied(cohort: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cohort, tmp_path / "copied"))


def subjects_show(cohort: Path, name: str, where: Grid) -> np.ndarray:
    """(scans, I, J, K) where the label maps of a cohort show a region on a grid, from the files alone."""
    onto = (where.shape, where.matrix)
    files = sorted(cohort.rglob("*_dseg.nii.gz"))
    maps = [np.asarray(resample_from_to(nib.load(path), onto, order=0, mode="constant").dataobj) for path in files]
    assert len(maps) == SCANS
    return np.isin(maps, REGIONS[name].labels)


def test_the_command_writes_an_atlas_whose_regions_are_the_cores(cohort: Path, tmp_path: Path, run: Command) -> None:
    out = tmp_path / "cores"
    said = run("core", "--cohort", str(cohort), "--out", str(out))
    assert {path.name for path in out.iterdir()} == {"core.yaml", "core.nii.gz", "core.tsv", "core.json"}
    regions, labels = load_regions(out / "core.yaml"), nib.load(out / "core.nii.gz")
    where = Grid.of(labels.shape, labels.affine)
    for name in ("white_matter", "gray_matter", "subcortical_gray_matter", "brainstem"):
        template = region_mask(REGIONS[name], where)
        expected = binary_erosion(subjects_show(cohort, name, where).all(axis=0) & template)
        assert np.array_equal(region_mask(regions[f"{name}_core"], where), expected)
        facts = json.loads((out / "core.json").read_text())["regions"][name]
        assert (facts["core_voxels"], facts["template_voxels"]) == (expected.sum(), template.sum())
    assert "ventricles_core" not in regions
    assert "no core of ventricles: " in said
    assert f"share 1 of {SCANS} scans, margin 4 mm, from label maps" in said
    with (out / "core.tsv").open() as file:
        table = {int(row["index"]): row["name"] for row in csv.DictReader(file, delimiter="\t")}
    assert set(table) == set(np.unique(labels.dataobj).tolist()) - {0}
    assert "gray_matter_core and subcortical_gray_matter_core" in table.values()


def test_the_sidecar_says_how_and_not_of_whom(cohort: Path, tmp_path: Path, run: Command) -> None:
    out = tmp_path / "cores"
    run("core", "--cohort", str(cohort), "--out", str(out), "--share", "0.9", "--margin", "2", "--inputs", "brainstem")
    facts = read_sealed(out / "core.json", "")
    assert (facts["share"], facts["margin_mm"], facts["scans"], facts["source"]) == (0.9, 2.0, SCANS, "label maps")
    assert list(facts["regions"]) == ["brainstem"]
    patients = [path.name.removeprefix("sub-") for path in cohort.glob("sub-*")]
    assert len(patients) == PATIENTS
    texts = "".join((out / name).read_text() for name in ("core.json", "core.yaml", "core.tsv"))
    assert not [name for name in patients if re.search(rf"\b{name}\b", texts)]
    assert str(cohort) not in texts


def test_scores_play_no_part_and_the_same_scans_give_the_same_bytes(cohort: Path, tmp_path: Path, run: Command) -> None:
    other = copied(cohort, tmp_path)
    tables = [path for path in other.rglob("*.tsv") if "edss" in path.read_text().splitlines()[0].split("\t")]
    assert tables
    changed = 0
    for path in tables:
        head, *lines = path.read_text().splitlines()
        column = head.split("\t").index("edss")
        rows = [line.split("\t") for line in lines]
        for row, edss in zip(rows, [row[column] for row in reversed(rows)], strict=True):
            changed += row[column] != edss
            row[column] = edss
        path.write_text("\n".join([head, *("\t".join(row) for row in rows)]) + "\n")
    assert changed > 5
    for name, source in (("one", cohort), ("two", other)):
        run("core", "--cohort", str(source), "--out", str(tmp_path / name), "--inputs", "brainstem,white_matter")
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert files[0] == files[1]


def test_where_one_scan_has_no_label_map_fluid_is_estimated_for_all(cohort: Path, tmp_path: Path, run: Command) -> None:
    mixed, out = copied(cohort, tmp_path), tmp_path / "cores"
    next(iter(sorted(mixed.rglob("*_dseg.nii.gz")))).unlink()
    said = run("core", "--cohort", str(mixed), "--out", str(out), "--inputs", "subcortical_gray_matter,white_matter")
    assert f"share 1 of {SCANS} scans, margin 4 mm, from intensities" in said
    (made,) = (region for name, region in load_regions(out / "core.yaml").items() if name.startswith("subcortical"))
    labels = nib.load(out / "core.nii.gz")
    where = Grid.of(labels.shape, labels.affine)
    kept, template = region_mask(made, where), region_mask(REGIONS["subcortical_gray_matter"], where)
    touched = subjects_show(cohort, "ventricles", where).any(axis=0)
    assert not (kept & ~template).any()
    assert (touched & template).sum() > 100
    assert (touched & kept).sum() == 0


def test_flagged_scans_take_no_part(cohort: Path, tmp_path: Path, run: Command) -> None:
    held = copied(cohort, tmp_path)
    scan = sorted(held.rglob("*_T1w.nii.gz"))[0].name.split("_")
    patient, session = scan[0].removeprefix("sub-"), scan[1].removeprefix("ses-")
    (held / "qc.tsv").write_text(f"patient\tsession\tverdict\treason\tdetail\n{patient}\t{session}\theld\tbrain\tx\n")
    said = run("core", "--cohort", str(held), "--out", str(tmp_path / "cores"), "--inputs", "brainstem")
    assert f"share 1 of {SCANS - 1} scans" in said


def test_a_core_is_never_written_over_something_nor_where_nothing_is_left(cohort: Path, tmp_path: Path, run: Command) -> None:
    out = tmp_path / "cores"
    words = ("core", "--cohort", str(cohort), "--out", str(out), "--inputs", "brainstem")
    assert "give a smaller --margin or --share" in run(*words, "--margin", "30", status=2)
    assert not out.exists()
    run(*words)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "exists and is not empty; a core is never written over another" in run(*words, status=2)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert "--inputs global has no core" in run(*words[:-1], "global", "--out", str(tmp_path / "b"), status=2)


def test_too_few_scans_make_no_core(labelled: Study) -> None:
    few = labelled.prepared.of_rows(range(LEAST_SCANS - 1))
    with pytest.raises(UserError, match="9 of 9 scans can be used; a core needs at least 10"):
        count_agreement(few, {"brainstem": REGIONS["brainstem"]}, 1, lambda done, scans: None)


def test_a_scan_without_a_t1w_counts_by_its_label_map_alone(labelled: Study) -> None:
    regions, whole = {"brainstem": REGIONS["brainstem"]}, labelled.prepared
    first = whole.scans[0]
    lacking = replace(whole, scans=(replace(first, images=("", *first.images[1:])), *whole.scans[1:]))
    made = [count_agreement(prepared, regions, 1, lambda done, scans: None) for prepared in (whole, lacking)]
    assert np.array_equal(made[0].counts["brainstem"], made[1].counts["brainstem"])
    assert made[0].counts["brainstem"].max() == made[1].scans == len(whole.scans)
    bare = replace(lacking, scans=tuple(replace(scan, labels="") for scan in lacking.scans))
    estimated = count_agreement(bare, regions, 1, lambda done, scans: None)
    assert (estimated.estimated, estimated.scans, estimated.unused) == (True, len(whole.scans) - 1, 1)


def test_check_and_a_fold_take_the_atlas_of_the_cores(cohort: Path, tmp_path: Path, run: Command) -> None:
    run("core", "--cohort", str(cohort), "--out", "cores", "--inputs", "subcortical_gray_matter,brainstem", "--margin", "0")
    study = ["--cohort", str(cohort), "--study", "s", "--folds", "3", "--regions", "cores/core.yaml", *TINY]
    run("check", *study)
    rows = {row["input"]: row["shares"] for row in json.loads((tmp_path / "studies/s/tissue.json").read_text())["inputs"]}
    assert rows["subcortical_gray_matter"]["csf"]["high"] > 0.05
    assert rows["subcortical_gray_matter_core"]["csf"]["high"] == 0
    run("fold", *study, "--roi", "subcortical_gray_matter_core", "--fold", "0", "--tracking.mode", "disabled")
    folder = tmp_path / "studies/s"
    rows_of_fold, _ = RunFolder(folder / "subcortical_gray_matter_core/fold-0/seed-0").result()
    assert rows_of_fold.patient.size > 0
    record = read_record(folder)
    assert record is not None
    assert record.atlas is not None
    assert record.atlas.path.samefile(tmp_path / "cores/core.nii.gz")


def test_labels_of_an_atlas_are_no_fluid(study: Study, tmp_path: Path) -> None:
    """Label 4 is a lateral ventricle in the shipped map, and any region in an atlas."""
    scans = study.cohort.scans
    values = np.column_stack([np.linspace(0.1, 0.4, len(scans)), np.full((len(scans), 3), np.nan)])
    for region, words in (
        (REGIONS["ventricles"], "the size of the fluid spaces themselves"),
        (Region("piece", (4, 5), "", "", Atlas(tmp_path, "0")), "the size of the neighbouring ventricles and sulci"),
    ):
        facts = tissue_facts(TissueShares({region.name: values}, False, False), scans, {region.name: region})
        assert facts["inputs"][0]["size"] == words
