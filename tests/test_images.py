"""The images of a study are a list: whatever they are called, they are found, checked, stored once and shown to networks."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from datamodules.batches.augmentation import Augmentation
from datamodules.cohort.images import files_named, image_columns, kind_of, parse_images, titles, weightings
from datamodules.cohort.read import read_cohort
from datamodules.cohort.records import Scan
from datamodules.cohort.target import Target
from datamodules.files.tables import CohortError
from datamodules.mri import BrainMRIDataModule
from datamodules.quality.measure import measure
from datamodules.store.duplicates import duplicates_of
from datamodules.store.prepare import TINY
from datamodules.store.prepared import PreparedCohort
from datamodules.store.store import BrokenScansError, open_store
from experiments.__main__ import main
from experiments.study.channels import with_channels
from experiments.study.record import known_regions
from experiments.study.run_folder import RunFolder
from experiments.study.study import Study, StudyOptions, open_study
from experiments.study.trainer_options import SettingsError
from lightning_modules.networks import ResidualCNN
from lightning_modules.pretrained import PretrainedEncoder
from regions.catalog import REGIONS
from regions.own import RegionFileError, load_regions

Make = Callable[..., Any]
Write = Callable[..., Path]
LESIONS = "label-lesion_mask"


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("t1w", ("t1w",)),
        ("t1w,FLAIR", ("t1w", "flair")),
        ("[t1w, flair]", ("t1w", "flair")),
        (["T1w", " T2w "], ("t1w", "t2w")),
        ("t1w flair label-lesion_mask", ("t1w", "flair", LESIONS)),
        ("ce-gadolinium_T1w,MTRmap", ("ce-gadolinium_t1w", "mtrmap")),
        ("gm_density", ("gm_density",)),
    ],
)
def test_names_are_read_in_every_form(given: str, names: tuple[str, ...]) -> None:
    assert parse_images(given) == names


@pytest.mark.parametrize(
    "given", ["", ",", [], "t1w,t1w", "T1w,t1w", "t1 w/x", "../x", "mask", "labels", "t1w,edss", "t1w-", "-"]
)
def test_what_is_no_name_is_one_line(given: str) -> None:
    with pytest.raises(CohortError, match=r"^--images[^\n]*$"):
        parse_images(given, {"mask", "labels", "edss"})


def test_what_an_image_holds_stands_at_the_end_of_its_name() -> None:
    kinds = [kind_of(name) for name in ("t1w", "mask_like", LESIONS, "label-gm_probseg", "seg-x_dseg", "mtrmap")]
    assert kinds == ["contrast", "contrast", "mask", "probability", "labels", "contrast"]
    assert (titles(["t1w"]), titles(["t1w", "t2w", "flair"])) == ("T1w", "T1w, T2w and FLAIR")
    assert weightings(["t1w", "flair"]) == "T1-weighted and FLAIR"


def test_a_plain_name_means_the_plain_file_where_there_are_both() -> None:
    stem = "sub-1_{}space-MNI152_{}"
    paths = [
        Path(stem.format(*parts) + ".nii.gz")
        for parts in (("", "T1w"), ("ce-gadolinium_", "T1w"), ("", "label-lesion_mask"), ("", "desc-brain_mask"), ("", "t2W"))
    ]
    assert files_named(paths, "t1w") == paths[:1]
    assert files_named(paths, "ce-gadolinium_t1w") == paths[1:2]
    assert files_named(paths[1:2], "t1w") == paths[1:2]
    assert files_named(paths, LESIONS) == paths[2:3]
    assert files_named(paths, "t2w") == paths[4:]


def test_columns_of_paths_are_images_and_no_covariates() -> None:
    rows = [
        {"t2w": "a.nii.gz", "age": "3", "mask": "m.nii", "map": "x.NII"},
        {"t2w": "n/a", "age": "4", "mask": "", "map": "y.nii"},
    ]
    assert image_columns(rows, ("t1w",)) == ["t1w", "t2w", "map"]


@pytest.fixture
def more(phantom_copy: Path, write_nifti: Write) -> Path:
    """The phantoms without FLAIR, and with a T2w and a mask of lesions, which every fourth scan does not have."""
    for number, path in enumerate(sorted(phantom_copy.rglob("*_T1w.nii.gz"))):
        image: Any = nib.load(path)
        array = np.asarray(image.dataobj)
        t2w = np.where(array != 0, array.max() + 50.0 - array, 0).astype(np.float32)
        write_nifti(Path(str(path).replace("_T1w", "_T2w")), t2w, image.affine)
        chosen = np.random.default_rng(number).random(array.shape) > 0.999
        lesions = ((array != 0) & chosen & (number % 4 > 0)).astype(np.uint8)
        write_nifti(path.with_name(re.sub("_desc-preproc_T1w", f"_{LESIONS}", path.name)), lesions, image.affine)
        Path(str(path).replace("_T1w", "_FLAIR")).unlink()
    return phantom_copy


def test_what_is_taken_away_from_the_whole_brain_is_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("rest_t1w:\n  of: [global]\n  without: [brainstem]\n  images: [t1w]\n")
    with pytest.raises(RegionFileError, match=r"'rest_t1w': 'global' is the whole brain .* name the parts that you want"):
        load_regions(path)


def test_an_image_that_a_region_shows_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("stem:\n  of: [brainstem]\n  images: [t1w, T1w]\n")
    with pytest.raises(RegionFileError, match=r"region 'stem': images name t1w twice; keep one"):
        load_regions(tmp_path / "own.yaml")


def as_table(cohort: Path, folder: Path, names: tuple[str, ...]) -> Path:
    """The same scans as a plain table."""
    rows = ["\t".join(["patient", "session", *names, "mask", "edss", "days"])]
    for scan in read_cohort(cohort, Target(), images=names).scans:
        cells = [scan.patient, scan.session, *map(str, scan.images.values()), str(scan.mask), f"{scan.value:g}", str(scan.days)]
        rows.append("\t".join(cells))
    folder.mkdir(exist_ok=True)
    (folder / "cohort.tsv").write_text("\n".join(rows) + "\n")
    return folder / "cohort.tsv"


def test_only_what_is_asked_for_need_exist(more: Path, tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"25 x no FLAIR"):
        read_cohort(more, Target())
    names = ("t1w", "t2w", LESIONS)
    cohort = read_cohort(more, Target(), images=names)
    assert len(cohort.scans) == 25
    assert {tuple(scan.images) for scan in cohort.scans} == {names}
    table = as_table(more, tmp_path / "table", names)
    again = read_cohort(table, Target(), images=names)
    assert [scan.images for scan in again.scans] == [scan.images for scan in cohort.scans]
    assert [scan.covariates for scan in read_cohort(table, Target(), images=("t1w",)).scans] == [{}] * 25
    with pytest.raises(CohortError, match=r"no column 'flair'"):
        read_cohort(table, Target())


def test_a_missing_image_is_an_exclusion_with_its_name(more: Path) -> None:
    paths = sorted(more.rglob("*_T2w.nii.gz"))
    paths[0].unlink()
    cohort = read_cohort(more, Target(), images=("t1w", "t2w"))
    assert [exclusion.reason for exclusion in cohort.exclusions] == ["no T2w"]
    for path in paths[1:]:
        path.unlink()
    with pytest.raises(CohortError, match=r"25 x no T2w"):
        read_cohort(more, Target(), images=("t1w", "t2w"))
    with pytest.raises(CohortError, match=r"holds no sub-\*/\*\*/\*_space-MNI152\*_T2w.nii.gz"):
        read_cohort(more, Target(), images=("t2w", "t1w"))


def test_two_files_of_one_image_are_named(more: Path) -> None:
    path = sorted(more.rglob("*_T2w.nii.gz"))[0]
    for other in ("desc-a", "desc-b"):
        shutil.copy(path, path.with_name(path.name.replace("desc-preproc", other)))
    assert len(read_cohort(more, Target(), images=("t1w", "t2w")).scans) == 25, "the one that is named like the T1w"
    path.unlink()
    with pytest.raises(CohortError, match=r"has 2 T2w images for one scan: .*desc-a_T2w.nii.gz, .*desc-b_T2w.nii.gz; keep one"):
        read_cohort(more, Target(), images=("t1w", "t2w"))


@pytest.fixture
def pair(make_scan: Make, tmp_path: Path) -> list[Scan]:
    made = [make_scan(tmp_path / "scans", f"sub-{n}", seed=n) for n in range(2)]
    return [Scan(f"sub-{n}", "", m.images, 2.0, 0, 0, m.mask, m.labels) for n, m in enumerate(made)]


def only(scans: list[Scan], *names: str) -> list[Scan]:
    return [replace(scan, images={name: scan.images[name] for name in names}) for scan in scans]


def stored(folder: Path) -> dict[str, int]:
    """Every file but the record of headers, into which that of another first image goes."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != "grids.json"}


def test_a_study_of_fewer_images_writes_nothing(pair: list[Scan], tmp_path: Path) -> None:
    both = open_store(pair, tmp_path / "store")
    before = stored(tmp_path / "store")
    for names in (["t1w"], ["flair"], ["flair", "t1w"]):
        fewer = open_store(only(pair, *names), tmp_path / "store", on_scan=lambda *_: pytest.fail("a volume was made again"))
        assert fewer == both.showing(names)
        for row in (0, 1):
            np.testing.assert_array_equal(fewer.image(row), both.image(row)[[both.names.index(name) for name in names]])
    assert stored(tmp_path / "store") == before


def test_images_that_are_added_leave_the_others_as_they_are(pair: list[Scan], tmp_path: Path) -> None:
    first = open_store(only(pair, "t1w"), tmp_path / "store")
    before = stored(tmp_path / "store" / "volumes")
    both = open_store(pair, tmp_path / "store")
    after = stored(tmp_path / "store" / "volumes")
    assert both.showing(["t1w"]) == first
    assert {path: after[path] for path in before} == before
    assert len(after) == len(before) + 2 * 3
    assert both == open_store(pair, tmp_path / "other").__class__(both.folder, both.grid, both.scans)


def test_without_a_mask_the_first_image_tells_the_brain(pair: list[Scan], tmp_path: Path) -> None:
    bare = [replace(scan, mask=None, labels=None) for scan in pair]
    both, alone = open_store(bare, tmp_path / "store"), open_store(only(bare, "flair"), tmp_path / "store")
    assert both.scans[0].images[1] != alone.scans[0].images[0]
    np.testing.assert_array_equal(both.image(0)[1], alone.image(0)[0])


def test_images_that_were_stored_apart_are_compared_when_they_meet(study: Study, tmp_path: Path) -> None:
    scans = list(study.cohort.scans[:2])
    scans[1] = replace(scans[1], images={"t1w": scans[1].images["flair"], "flair": scans[1].images["t1w"]})
    for name in ("t1w", "flair"):
        open_store(only(scans, name), tmp_path / "store")
    for _ in range(2):
        with pytest.raises(BrokenScansError, match=r"swap the two") as caught:
            open_store(scans, tmp_path / "store")
        assert [broken.patient for broken in caught.value.broken] == [scans[1].patient]


def with_map(scan: Scan, name: str, array: Any, folder: Path, write: Write) -> Scan:
    image: Any = nib.load(scan.reference)
    path = write(folder / f"{scan.patient}_{name}.nii.gz", array(np.asarray(image.dataobj)).astype(np.float32), image.affine)
    return replace(scan, images={**scan.images, name: path})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (LESIONS, 2, r"holds 2, which a mask \(0 and 1\) does not; fix it, or name it otherwise$"),
        (LESIONS, 0.5, r"holds 0.5, which a mask"),
        ("label-gm_probseg", 1.5, r"holds 1.5, which a map of probability \(0 to 1\) does not"),
        ("label-gm_probseg", -0.5, r"holds -0.5, which a map of probability"),
        ("atlas-x_dseg", 7.5, r"holds 7.5, which a label map \(0 to 2048\) does not"),
        ("atlas-x_dseg", 4000, r"holds 4000, which a label map"),
    ],
)
def test_values_that_cannot_be_are_one_line(
    pair: list[Scan], tmp_path: Path, write_nifti: Write, name: str, value: float, told: str
) -> None:
    scan = with_map(pair[0], name, lambda array: np.where(array > 500, value, 0), tmp_path, write_nifti)
    with pytest.raises(BrokenScansError) as caught:
        open_store([scan], tmp_path / "store")
    (broken,) = caught.value.broken
    assert re.search(told, broken.detail)
    assert "\n" not in broken.detail


@pytest.mark.parametrize(("name", "value"), [(LESIONS, 1), ("label-gm_probseg", 0.75), ("atlas-x_dseg", 1035)])
def test_masks_and_maps_keep_their_values(
    pair: list[Scan], tmp_path: Path, write_nifti: Write, name: str, value: float
) -> None:
    scan = with_map(pair[0], name, lambda array: np.where(array > 500, value, 0), tmp_path, write_nifti)
    t1w, _, kept = open_store([scan], tmp_path / "store").image(0)
    inside = t1w != 0
    assert set(np.unique(kept[inside])) == {TINY, np.float16(value)}
    assert not kept[~inside].any()


@pytest.mark.parametrize("one_after_another", [("cpu",), ()])
def test_masks_and_maps_are_moved_and_keep_their_values(
    study: Study, monkeypatch: pytest.MonkeyPatch, one_after_another: tuple[str, ...]
) -> None:
    monkeypatch.setattr("datamodules.batches.augmenter.ONE_AFTER_ANOTHER", one_after_another)
    scans, prepared = study.cohort.scans, replace(study.prepared, names=("t1w", "label-lesion_mask"))
    patients, labels = [scan.patient for scan in scans], [scan.label for scan in scans]
    changed = []
    for noise, gamma in ((0.5, 0.2), (0, 0)):
        options = Augmentation(flip=0.5, shift_mm=6, noise=noise, gamma=gamma)
        data = BrainMRIDataModule(prepared, patients, labels, study.splits, 0, REGIONS["global"], augmentation=options)
        image = torch.from_numpy(np.stack([prepared.crop(row, data.augmenter.read) for row in (1, 0)])).float()
        changed.append(data.augmenter(image, torch.tensor([1, 0]), 3)[0])
    assert torch.equal(changed[0][:, 1], changed[1][:, 1])
    assert not torch.equal(changed[0][:, 0], changed[1][:, 0])


def test_patients_without_lesions_are_no_duplicates(pair: list[Scan], tmp_path: Path, write_nifti: Write) -> None:
    scans = [with_map(scan, LESIONS, lambda array: 0 * array, tmp_path, write_nifti) for scan in pair]
    prepared = open_store(scans, tmp_path / "store")
    assert duplicates_of(scans, prepared) == []
    masks = only(scans, LESIONS)
    assert duplicates_of(masks, open_store(masks, tmp_path / "store")) == []


def test_quality_compares_only_what_is_comparable(study: Study) -> None:
    t1w, flair = study.prepared.image(0)
    brain, grid = t1w != 0, study.prepared.grid
    both = measure({"t1w": t1w, "flair": flair}, brain, grid)
    of_a_pair = {"pair_nmi", "pair_correlation", "contrast_order", "fluid_flair"}
    alone, odd = measure({"t1w": t1w}, brain, grid), measure({"mtrmap": flair}, brain, grid)
    assert set(both) - set(alone) == of_a_pair | {"cover_flair", "contrast_flair", "noise_flair"}
    assert {name: both[name] for name in alone} == pytest.approx(alone, nan_ok=True)
    assert "template_nmi" not in odd
    assert odd["noise_mtrmap"] == both["noise_flair"]


def test_networks_take_as_many_channels_as_there_are_images() -> None:
    image = torch.zeros(2, 3, 40, 40, 40)
    assert ResidualCNN(in_channels=3)(image).shape == (2, 2)
    assert PretrainedEncoder("random-deepbet", in_channels=3)(image).shape == (2, 2)


def words(cohort: Path, folder: Path, store: Path, names: str) -> list[str]:
    small = ["--network.init_args.width", "2", "--network.init_args.stages", "2", "--trainer.max_epochs", "1"]
    places = ["--cohort", str(cohort), "--study", "mine", "--studies", str(folder), "--store", str(store)]
    return [*places, "--preset", "demo", "--images", names, *small, "--threads", "1", "--trainer.accelerator", "cpu"]


def test_a_study_keeps_its_images(more: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("t1w", "t2w", LESIONS)
    options = words(more, tmp_path, tmp_path / "store", ",".join(given))
    assert main(["fold", *options, "--roi", "brainstem", "--fold", "1", "--quiet"]) == 0
    run = RunFolder(tmp_path / "mine" / "brainstem" / "fold-1" / "seed-0")
    assert run.facts()["state"] == "complete"
    assert "in_channels: 3" in (run.path / "config.yaml").read_text()
    assert "images: [t1w, t2w, label-lesion_mask]" in (tmp_path / "mine" / "study.yaml").read_text()
    header = (tmp_path / "mine" / "cohort.tsv").read_text().splitlines()[0].split("\t")
    assert header[5:9] == [*given, "mask"]
    capsys.readouterr()
    assert main(["fold", *words(more, tmp_path, tmp_path / "store", "t1w"), "--roi", "brainstem", "--fold", "2"]) == 2
    told = capsys.readouterr().err
    assert told == "regionwise: study mine was begun with --images t1w,t2w,label-lesion_mask, not t1w; use another STUDY\n"


def test_sets_of_images_become_inputs_beside_the_study(tmp_path: Path) -> None:
    words = with_channels(["--studies", str(tmp_path), "--study", "s", "--channels", "t1w flair t1w,flair", "--seed", "1"])
    path = tmp_path / "s" / "channels.yaml"
    assert words == ["--studies", str(tmp_path), "--study", "s", "--seed", "1", "--images", "t1w,flair", "--regions", str(path)]
    regions = known_regions(path)
    assert len(regions) == 3 * len(REGIONS)
    assert (regions["global_t1w"].labels, regions["global_t1w"].images) == ((), ("t1w",))
    assert (regions["brainstem_flair"].labels, regions["brainstem_flair"].images) == (REGIONS["brainstem"].labels, ("flair",))
    with_channels([*words, f"--channels=t2w;{LESIONS}"])
    further = known_regions(path)
    assert set(further) == {*regions, *(f"{name}_{image}" for name in REGIONS for image in ("t2w", "label_lesion_mask"))}
    with pytest.raises(SettingsError, match=r"^--channels is empty"):
        with_channels(["--channels", " "])


def test_a_study_that_was_begun_loses_no_input_to_other_sets_of_images(tmp_path: Path) -> None:
    words = ["--studies", str(tmp_path), "--study", "s", "--images", "t1w,flair,t2w", "--channels"]
    with_channels([*words, "t1w flair"])
    path = tmp_path / "s" / "channels.yaml"
    with_channels([*words, "t1w"])
    assert "global_flair" not in known_regions(path)
    path.with_name("study.yaml").write_text("")
    begun = path.read_text()
    with pytest.raises(SettingsError, match=r"s has an input 'global_t1w'; name its images in --channels too"):
        with_channels([*words, "flair"])
    assert path.read_text() == begun
    with_channels([*words, "t1w flair"])
    assert {"global_t1w", "global_flair"} <= set(known_regions(path))


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("{of: [global]}", "'global' is the whole brain"),
        ("{of: [global], images: t1w}", "images are a list such as"),
        ("{images: [t1w]}", "give either 'labels' or 'of'"),
    ],
)
def test_a_region_of_some_images_that_cannot_be_is_told(tmp_path: Path, entry: str, told: str) -> None:
    (tmp_path / "own.yaml").write_text(f"own: {entry}\n")
    with pytest.raises(RegionFileError, match=told):
        known_regions(tmp_path / "own.yaml")


def test_an_input_of_an_image_that_is_not_read_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.yaml").write_text("own: {of: [global], images: [t2w]}\n")
    assert main(["fold", "--roi", "own", "--fold", "1", "--regions", str(tmp_path / "own.yaml")]) == 2
    told = "region 'own' shows the image 't2w', and the study reads T1w and FLAIR; add it to --images"
    assert capsys.readouterr().err == f"regionwise: {told}\n"


def test_channels_are_inputs_of_one_study_and_one_store(
    phantom_cohort: Path, study: Study, store_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*words(phantom_cohort, tmp_path, store_folder, "t1w,flair"), "--folds", "3", "--channels", "t1w flair t1w,flair"]
    before = stored(store_folder / "volumes")
    inputs = ["global", "global_t1w", "global_flair"]
    for roi in inputs:
        for fold in range(3):
            assert main(["fold", *options, "--roi", roi, "--fold", str(fold), "--quiet"]) == 0
    assert stored(store_folder / "volumes") == before
    facts = [RunFolder(tmp_path / "mine" / roi / "fold-1" / "seed-0").facts() for roi in inputs]
    assert [fact["fingerprint"]["region"].get("images") for fact in facts] == [None, ["t1w"], ["flair"]]
    assert facts[0]["parameters"] > facts[1]["parameters"] == facts[2]["parameters"]
    assert len({fact["fingerprint"]["config"] for fact in facts}) == 1
    home = ["--study", "mine", "--studies", str(tmp_path)]
    assert main(["compare", *home, "--inputs", ",".join(inputs)]) == 0
    rows = {row["input"]: row for row in json.loads((tmp_path / "mine" / "comparison.json").read_text())["inputs"]}
    assert set(rows) == set(inputs)
    table = (tmp_path / "mine" / "comparison.tsv").read_text()
    assert all(name in table for name in inputs)
    capsys.readouterr()
    path = tmp_path / "mine" / "channels.yaml"
    path.write_text(path.read_text().replace("- t1w", "- flair"))
    assert main(["compare", *home, "--inputs", ",".join(inputs)]) == 2
    assert "region 'global_t1w' (images t1w, now flair)" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("names", "form"), [("t1w", "table"), pytest.param("flair", "BIDS", marks=pytest.mark.long)])
def test_one_image_from_fold_to_report(phantom_copy: Path, tmp_path: Path, names: str, form: str) -> None:
    for path in phantom_copy.rglob(f"*_{'FLAIR' if names == 't1w' else 'T1w'}.*"):
        path.unlink()
    cohort = as_table(phantom_copy, tmp_path / "table", (names,)) if form == "table" else phantom_copy
    options = [*words(cohort, tmp_path, tmp_path / "store", names), "--folds", "3"]
    assert main(["sweep", *options]) == 0
    assert main(["baselines", *options]) == 0
    assert main(["check", *options]) == 0
    home = ["--study", "mine", "--studies", str(tmp_path)]
    assert main(["compare", *home]) == 0
    assert main(["report", *home]) == 0
    page = (tmp_path / "mine" / "report.html").read_text()
    other = "FLAIR" if names == "t1w" else "T1-weighted"
    assert f"({weightings([names])}) were included" in page
    assert other not in re.sub(r"<style.*?</style>|<script.*?</script>", "", page, flags=re.S)


def test_default_studies_say_nothing_of_images(study_options: StudyOptions, study: Study) -> None:
    assert "images" not in (study.folder / "study.yaml").read_text()
    assert isinstance(study.prepared, PreparedCohort)
    assert open_study(study_options).record.images == ("t1w", "flair")
