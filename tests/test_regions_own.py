"""Regions of an atlas of the user's own, from its file to a study."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from experiments.__main__ import main
from experiments.study.record import Mask, ShownRegion, read_record
from experiments.study.runs import Run
from experiments.study.settings import parse_settings
from experiments.study.sides import one_sided
from regions.atlas import load_template, mirrored_share, region_coverage, region_mask
from regions.catalog import REGIONS
from regions.errors import UserError
from regions.grid import Grid
from regions.own import RegionFileError, load_regions

TINY = ["--preset", "demo", "--trainer.max_epochs", "1", "--network.init_args.width", "2", "--network.init_args.stages", "2"]
IDS = {"left": 7, "right": 300, "Brainstem": 65535}


def parcels() -> np.ndarray:
    """The template's brain cut in a left and a right half and the brainstem, in ids that only an atlas can have."""
    labels, grid = load_template()
    x = grid.origin[0] + grid.spacing[0] * np.arange(grid.shape[0])[:, None, None]
    made = np.where(labels > 0, np.where(x < 0, IDS["left"], IDS["right"]), 0)
    made[REGIONS["brainstem"].select(labels)] = IDS["Brainstem"]
    return made


def write(folder: Path, values: np.ndarray | None = None, affine: Any = None, dtype: Any = np.uint16) -> Path:
    values = parcels() if values is None else values
    path = folder / "halves.nii.gz"
    nib.save(nib.Nifti1Image(values.astype(dtype), load_template()[1].matrix if affine is None else affine), path)
    names = {0: "nothing", 9: "absent"} | {label: name for name, label in IDS.items()}
    (folder / "halves.tsv").write_text("index\tname\n" + "".join(f"{label}\t{name}\n" for label, name in names.items()))
    return path


@pytest.mark.parametrize("spacing", [1.0, 2.0, 3.3])
def test_each_label_of_an_atlas_is_a_region(tmp_path: Path, spacing: float) -> None:
    own = load_regions(write(tmp_path))
    assert {name: region.labels for name, region in own.items()} == {"left": (7,), "right": (300,), "atlas_brainstem": (65535,)}
    _, fine = load_template()
    sides = tuple(int(np.ceil(side / spacing)) for side in fine.shape)
    grid = Grid.of(sides, np.diag([spacing, spacing, spacing, 1]) + _origin(fine))
    masks = {name: region_mask(region, grid) for name, region in own.items()}
    whole = region_mask(REGIONS["global"], grid)
    assert np.array_equal(sum(mask.astype(int) for mask in masks.values()), whole.astype(int))
    stem = region_mask(REGIONS["brainstem"], grid)
    assert np.count_nonzero(masks["atlas_brainstem"] & stem) > 0.9 * np.count_nonzero(stem)
    assert region_coverage(own["left"], grid) == pytest.approx(1, abs=0.01)


def _origin(grid: Grid) -> np.ndarray:
    shift = np.zeros((4, 4))
    shift[:3, 3] = grid.origin
    return shift


def test_flipped_axes_of_a_file_do_not_change_its_regions(tmp_path: Path) -> None:
    _, grid = load_template()
    plain = load_regions(write(tmp_path))
    expected = region_mask(plain["left"], grid).copy()
    turned = grid.matrix @ np.array([[-1, 0, 0, grid.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    flipped = load_regions(write(tmp_path, parcels()[::-1], turned))
    assert np.array_equal(region_mask(flipped["left"], grid), expected)


def test_a_yaml_file_puts_labels_of_an_atlas_together(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "own.yaml").write_text("atlas: halves.nii.gz\nhalf: {labels: [7]}\nhemispheres: {of: [half], labels_: 1}\n")
    with pytest.raises(RegionFileError, match="unknown key 'labels_'"):
        load_regions(tmp_path / "own.yaml")
    (tmp_path / "own.yaml").write_text("atlas: halves.nii.gz\nhalf: {labels: [7]}\nboth: {labels: [7, 300]}\n")
    own = load_regions(tmp_path / "own.yaml")
    assert own["both"].labels == (7, 300)
    assert own["both"].atlas is not None


MISTAKES = {
    "a label that it has not": ("piece: {labels: [8]}", "atlas halves.nii.gz has no label 8; it has 3 labels from 7 to 65535"),
    "a region of the shipped map": ("piece: {of: [ventricles]}", "'ventricles' is a region of the shipped label map"),
    "no region": ("", "has no regions"),
    "a name twice": (
        "half: {labels: [7]}\nhalf: {labels: [300]}",
        r"own.yaml: not YAML in line 3: 'half' stands twice; keep one$",
    ),
    "a key twice": ("half: {labels: [7], labels: [300]}", r"not YAML in line 2: 'labels' stands twice; keep one$"),
    "a taken name": ("global: {labels: [7]}", "the name is taken"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_file_is_one_line(tmp_path: Path, mistake: str) -> None:
    entry, message = MISTAKES[mistake]
    write(tmp_path)
    (tmp_path / "own.yaml").write_text(f"atlas: halves.nii.gz\n{entry}\n")
    with pytest.raises(RegionFileError, match=message) as found:
        load_regions(tmp_path / "own.yaml")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("file", ["halves.nii.gz", "own.yaml"])
def test_regions_of_an_atlas_are_refused_beside_sets_of_images(
    tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    (tmp_path / "own.yaml").write_text("atlas: halves.nii.gz\nhalf: {labels: [7]}\n")
    words = ["plan", "--studies", str(tmp_path / "studies"), "--channels", "t1w flair", "--regions", str(tmp_path / file)]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert f"{tmp_path / file} has those of an atlas; give each an entry of a YAML file" in told
    assert not (tmp_path / "studies").exists()


def moved(mm: float) -> Any:
    affine = load_template()[1].matrix.copy()
    affine[1, 3] += mm
    return affine


FILES = {
    "another space": ({"affine": moved(40.0)}, r"is not in MNI152 space: \d+% of its labelled voxels lie in"),
    "a probability map": ({"values": parcels() / 65536, "dtype": np.float32}, r"holds 0\.\d+; a label map has whole numbers"),
    "a fourth axis": ({"values": parcels()[..., None]}, r"has 4 axes; a label map has three"),
    "negative labels": ({"values": -parcels() // 300, "dtype": np.int16}, r"holds -\d+; a label map"),
    "an oblique grid": ({"affine": np.array([[1, 0.3, 0, 0], [-0.3, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])}, r"atlas .*halves"),
    "nothing": ({"values": parcels() * 0}, r"0% of its labelled voxels"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FILES)
def test_a_file_that_is_no_atlas_is_refused_in_one_line(tmp_path: Path, fault: str) -> None:
    made, message = FILES[fault]
    with pytest.raises(RegionFileError, match=message) as found:
        load_regions(write(tmp_path, **made))
    assert "\n" not in str(found.value)


TABLES = {
    "no table": (None, "halves.tsv is missing; it names the labels"),
    "no column": ("id\tname\n7\tleft\n", "has no column 'index'"),
    "a label without a row": ("index\tname\n7\tleft\n300\tright\n", "has no name for label 65535"),
    "one name twice": ("index\tname\n7\tL\n300\tl\n65535\tb\n", "'l' and label 7 have one name"),
    "a label twice": ("index\tname\n7\tleft\n300\tright\n7\tother\n65535\tb\n", "line 4: index 7 stands twice; keep one row"),
    "another encoding": ("index\tname\n7\tl\udced\n", "is not a readable table .*; save it as tab-separated UTF-8 text"),
    "an index that is none": ("index\tname\n7.5\tleft\n", "line 2: index '7.5' is not a whole number"),
}


@pytest.mark.parametrize("fault", TABLES)
def test_a_table_that_does_not_fit_is_refused_in_one_line(tmp_path: Path, fault: str) -> None:
    text, message = TABLES[fault]
    path = write(tmp_path)
    (tmp_path / "halves.tsv").unlink()
    if text is not None:
        (tmp_path / "halves.tsv").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(RegionFileError, match=message) as found:
        load_regions(path)
    assert "\n" not in str(found.value)


def test_a_missing_atlas_is_named(tmp_path: Path) -> None:
    with pytest.raises(RegionFileError, match=r"none\.nii\.gz does not exist; give a NIfTI label map"):
        load_regions(tmp_path / "none.nii.gz")


def test_subjects_own_maps_do_not_hold_an_atlas(tmp_path: Path) -> None:
    from datamodules.store.boxes import region_step

    left = load_regions(write(tmp_path))["left"]
    with pytest.raises(UserError, match=r"'left' is of the atlas halves.nii.gz.* use data.mask_mode template"):
        region_step(left, load_template()[1], "subject", 3.0, 1)


def test_another_file_is_another_region(tmp_path: Path) -> None:
    first = ShownRegion.of(load_regions(write(tmp_path))["left"], Mask())
    changed = parcels()
    changed[tuple(np.argwhere(changed == 7)[0])] = 300
    second = ShownRegion.of(load_regions(write(tmp_path, changed))["left"], Mask())
    assert second.changed_since(first.plain()) == "region 'left' (the template's label map changed)"


@pytest.mark.parametrize("command", ["fold", "sweep", "submit", "controls"])
def test_an_input_of_one_side_is_not_trained_on_mirrored_scans(
    command: str, phantom_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.yaml").write_text("thalamus: {labels: [10]}\nthalami: {labels: [10, 49]}\n")
    places = ["--cohort", str(phantom_cohort), "--studies", str(tmp_path / "studies"), "--store", str(tmp_path / "store")]
    chosen = {"fold": ["--roi", "thalamus", "--fold", "0"], "submit": ["--inputs", "thalami,thalamus", "--dry_run"]}
    words = [*places, "--regions", str(tmp_path / "own.yaml"), *chosen.get(command, ["--inputs", "thalami,thalamus"])]
    assert main([command, *words]) == 2
    told = capsys.readouterr().err
    assert "regionwise: thalamus (0 %): so little of the region has its mirror image in it" in told
    assert told.rstrip().endswith("set --data.augmentation.flip 0")
    assert not (tmp_path / "studies").exists()
    settings = parse_settings([*words[:8], "--data.augmentation.flip", "0"])
    assert one_sided(settings, ["thalamus"]) == ""


@pytest.mark.parametrize("name", list(REGIONS))
def test_the_six_inputs_have_both_sides(name: str) -> None:
    assert mirrored_share(REGIONS[name]) > 0.85


def test_a_study_of_an_atlas_from_a_fold_to_an_external_cohort(
    phantom_cohort: Path, external_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    atlas = write(tmp_path)
    places = ["--store", str(tmp_path / "store"), "--studies", str(tmp_path / "studies"), "--study", "halves"]
    grid = ["--cohort", str(phantom_cohort), "--folds", "3", "--regions", str(atlas), "--data.augmentation.flip", "0"]
    assert main(["sweep", *places, *grid, *TINY, "--inputs", "global,left,right", "--tracking.mode", "disabled"]) == 0
    record = read_record(tmp_path / "studies" / "halves")
    assert record is not None
    assert record.atlas is not None
    assert record.atlas.path == atlas
    again = [*places, *TINY, "--data.augmentation.flip", "0", "--tracking.mode", "disabled"]
    assert main(["fold", *again, "--roi", "left", "--fold", "0"]) == 0
    assert "already complete" in capsys.readouterr().out
    study = [*places[2:], "--inputs", "global,left,right", "--folds", "3"]
    assert main(["compare", *study]) == 0
    assert main(["report", *places[2:]]) == 0
    external = ["--store", str(tmp_path / "store"), "--cohort", str(external_cohort)]
    assert main(["external", *study[:-2], *external]) == 0
    frozen = json.loads(next((tmp_path / "studies/halves").rglob("frozen.json")).read_text())
    assert [bool(entry.get("atlas")) for entry in frozen["inputs"]] == [False, True, True]
    capsys.readouterr()
    changed = parcels()
    changed[tuple(np.argwhere(changed == 7)[0])] = 300
    write(tmp_path, changed)
    assert main(["compare", *study]) == 2
    assert re.search(r"left/fold-0.*another region 'left' \(the template's label map changed\)", capsys.readouterr().err)


@pytest.mark.parametrize("named", [[], ["--roi", "thalami", "--fold", "1"]])
def test_a_file_of_settings_brings_its_regions_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], named: list[str]
) -> None:
    """A run's config.yaml says all by itself: what is missing here is the cohort."""
    own, config = tmp_path / "own.yaml", tmp_path / "config.yaml"
    own.write_text("thalami:\n  labels: [10, 49]\n  description: both thalami\n")
    words = ["--cohort", str(tmp_path / "cohort"), "--study", "mine", "--studies", str(tmp_path), "--regions", str(own)]
    settings = parse_settings(words)
    config.write_text(settings.yaml(Run("thalami", 0, 0, settings.regions["thalami"])))
    assert main(["fold", f"--config={config}", *named]) == 2
    assert f"cohort {tmp_path / 'cohort'} does not exist" in capsys.readouterr().err
