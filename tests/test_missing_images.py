"""A scan may lack an image where the user says so: zeros stand in its place, and the network is told."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bundled import train
from small_networks import made

from datamodules.batches.augmentation import Augmentation
from datamodules.cohort.images import indicated, indicators, parse_optional
from datamodules.cohort.read import read_cohort
from datamodules.cohort.records import Cohort
from datamodules.cohort.target import Target
from datamodules.cohort.unlabelled import read_unlabelled
from datamodules.files.tables import CohortError, read_rows
from datamodules.mri import BrainMRIDataModule
from datamodules.store.duplicates import duplicates_of
from datamodules.store.packing import open_packed
from datamodules.store.reference import reference_of_stored
from datamodules.store.signatures import known_scans
from datamodules.store.store import open_store
from experiments.__main__ import main
from experiments.analysis.baseline_files import PRESENCE
from experiments.analysis.notes import told_by_presence
from experiments.analysis.tissue import tissues_of
from experiments.explaining.gradients import gradient, present_images
from experiments.explaining.occlusion import mean_image, occluded
from experiments.statistics.significance import Estimate
from experiments.study.channels import show_images, tell_of_missing
from experiments.study.covariates import fit_covariates
from experiments.study.record import read_record
from experiments.study.run_folder import RunFolder
from experiments.study.settings import parse_settings
from experiments.study.study import Study, cohort_table
from regions.catalog import REGIONS
from regions.grid import Box

BOTH, OPTIONAL = ("t1w", "flair"), ("flair",)


def take_away(cohort: Path, every: int, suffix: str = "FLAIR", first: int = 0) -> int:
    """Remove an image of every n-th scan; how many were removed."""
    paths = sorted(cohort.rglob(f"*_{suffix}.nii.gz"))[first::every]
    for path in paths:
        path.unlink()
    return len(paths)


@pytest.fixture
def partly(phantom_copy: Path) -> Path:
    """The phantoms, of which 7 of 25 scans lack the FLAIR."""
    assert take_away(phantom_copy, 4) == 7
    return phantom_copy


@pytest.mark.parametrize(
    ("given", "images", "expected"),
    [
        ("", BOTH, ()),
        ("flair", BOTH, ("flair",)),
        (["FLAIR"], BOTH, ("flair",)),
        ("t2w,flair", ("t1w", "flair", "t2w"), ("flair", "t2w")),
    ],
)
def test_optional_images_are_read_in_every_form(given: str, images: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert parse_optional(given, images) == expected


@pytest.mark.parametrize(
    ("given", "images", "told"),
    [
        ("t1w", BOTH, r"t1w is the first image, which each scan needs \(--images t1w,flair\); it can name flair$"),
        ("t2w", BOTH, r"t2w is not read \(--images t1w,flair\); it can name flair$"),
        ("t1w", ("t1w",), r"t1w is the first image, .*; it can name nothing, since there is one image$"),
    ],
)
def test_what_cannot_be_optional_is_one_line(given: str, images: tuple[str, ...], told: str) -> None:
    with pytest.raises(CohortError, match=rf"^--optional_images: {told}"):
        parse_optional(given, images)


def test_a_scan_without_an_optional_image_is_used_and_counted(partly: Path) -> None:
    plain = read_cohort(partly, Target())
    assert len(plain.scans) == 18
    assert [exclusion.reason for exclusion in plain.exclusions] == ["no FLAIR"] * 7
    cohort = read_cohort(partly, Target(), optional=OPTIONAL)
    assert len(cohort.scans) == 25
    assert {scan.names for scan in cohort.scans} == {BOTH}
    lacking = [scan for scan in cohort.scans if "flair" not in scan.images]
    assert {scan.covariates["has_flair"] for scan in lacking} == {"0"}
    assert sum(scan.covariates["has_flair"] == "1" for scan in cohort.scans) == 18
    positive = sum(scan.label for scan in lacking)
    counts = f"({positive} of 9 positive, {7 - positive} of 16 negative)"
    told = f"FLAIR is missing in 7 of 25 scans, which are used without it {counts}"
    assert told in cohort.remarks
    assert len(read_unlabelled(partly).scans) == 18
    assert len(read_unlabelled(partly, BOTH, OPTIONAL).scans) == 25


def test_only_an_image_is_told_to_be_there_and_only_where_it_is_optional(partly: Path, tmp_path: Path) -> None:
    scans = read_cohort(partly, Target(), optional=OPTIONAL).scans
    rows = ["patient\tt1w\tflair\tmask\tedss\tdays\thas_flair\thas_t1w\trelapse\thas_relapse"]
    for number, scan in enumerate(scans):
        images = f"{scan.images['t1w']}\t{scan.images.get('flair', 'n/a')}\t{scan.mask}"
        rows.append(f"{number}\t{images}\t{scan.value:g}\t0\tyes\tyes\t1\tyes")
    (tmp_path / "cohort.tsv").write_text("\n".join(rows) + "\n")
    given = {"relapse": "1", "has_relapse": "yes"}
    plain = read_cohort(tmp_path / "cohort.tsv", Target())
    assert [scan.covariates for scan in plain.scans] == [given] * 18
    told = read_cohort(tmp_path / "cohort.tsv", Target(), optional=OPTIONAL)
    assert [scan.covariates for scan in told.scans] == [{**given, **indicators(scan.images, OPTIONAL)} for scan in told.scans]
    for cohort, expected in ((plain, ()), (told, OPTIONAL)):
        (tmp_path / "study.tsv").write_text(cohort_table(cohort))
        assert indicated(read_rows(tmp_path / "study.tsv")[0]) == expected


def test_the_first_image_and_a_named_file_that_is_gone_are_still_needed(partly: Path, tmp_path: Path) -> None:
    take_away(partly, 25, "T1w", first=1)
    names = sorted(path.name for path in partly.rglob("*_FLAIR.nii.gz"))
    cohort = read_cohort(partly, Target(), optional=OPTIONAL)
    assert len(cohort.scans) == 24
    assert [exclusion.reason for exclusion in cohort.exclusions] == ["no T1w in MNI152 space"]
    rows = ["patient\tt1w\tflair\tmask\tedss\tdays"]
    rows += [
        f"{number}\t{scan.images['t1w']}\t{scan.images.get('flair', 'n/a')}\t{scan.mask}\t{scan.value:g}\t0"
        for number, scan in enumerate(cohort.scans)
    ]
    gone = next(scan for scan in cohort.scans if "flair" in scan.images)
    (tmp_path / "cohort.tsv").write_text("\n".join(rows) + "\n")
    gone.images["flair"].unlink()
    again = read_cohort(tmp_path / "cohort.tsv", Target(), optional=OPTIONAL)
    assert [exclusion.reason for exclusion in again.exclusions] == ["FLAIR file missing"]
    assert len(again.scans) == 23
    assert len(names) == 18


def test_a_missing_image_is_zero_and_takes_no_file(partly: Path, tmp_path: Path) -> None:
    cohort = read_cohort(partly, Target(), optional=OPTIONAL)
    prepared = open_store(cohort.scans, tmp_path / "store")
    files = {path.parent.name for path in (tmp_path / "store" / "volumes").rglob("image.npy")}
    assert len(files) == 25 + 18
    row = next(row for row, scan in enumerate(cohort.scans) if "flair" not in scan.images)
    t1w, flair = prepared.image(row)
    assert t1w.any()
    assert not flair.any()
    assert prepared.lacked == OPTIONAL
    assert list(prepared.present(row)) == ["t1w"]
    alone = open_store(
        [replace(scan, images={"t1w": scan.images["t1w"]}, asked=()) for scan in cohort.scans], tmp_path / "store"
    )
    assert prepared.showing(["t1w"]).scans == alone.scans, "the T1w of a scan does not depend on its FLAIR"
    assert len(set(prepared.keys)) == 25
    box = Box((2, 3, 4), (10, 11, 12))
    packed = open_packed(prepared, box, "image")
    assert not packed[1][row].any()
    np.testing.assert_array_equal(packed[0][row], t1w[2:10, 3:11, 4:12])


def test_scans_that_lack_the_same_image_are_no_duplicates(partly: Path, tmp_path: Path) -> None:
    cohort = read_cohort(partly, Target(), optional=OPTIONAL)
    prepared = open_store(cohort.scans, tmp_path / "store")
    both = read_cohort(partly, Target())
    expected = duplicates_of(both.scans, open_store(both.scans, tmp_path / "store"))
    assert [pair for pair in duplicates_of(cohort.scans, prepared) if not pair.same_patient] == expected == []
    known = known_scans(prepared)
    assert (len(known.voxels["t1w"]), len(known.voxels["flair"])) == (25, 18)
    lacking = next(row for row, scan in enumerate(cohort.scans) if "flair" not in scan.images)
    assert known.match(prepared.contrasts(lacking), prepared.grid) is not None
    reference = reference_of_stored(prepared)
    assert reference.numbers["contrast_t1w"].scans == 25
    assert reference.numbers["contrast_flair"].scans == 18


def test_a_copy_without_its_flair_is_found_by_the_t1w(study: Study, tmp_path: Path) -> None:
    scans, prepared = study.cohort.scans, study.prepared
    stored = prepared.scans
    copied = replace(prepared, scans=(*stored[:24], replace(stored[0], images=(stored[0].images[0], ""))))
    names = [*scans[:24], replace(scans[24], images={"t1w": scans[0].images["t1w"]}, asked=BOTH)]
    found = [pair for pair in duplicates_of(names, copied) if not pair.same_patient]
    assert [(pair.first, pair.second, pair.how) for pair in found] == [(scans[0].name, scans[24].name, "the same T1w file")]


@pytest.mark.parametrize("one_after_another", [("cpu",), ()])
def test_noise_is_added_to_no_image_that_is_missing(
    study: Study, monkeypatch: pytest.MonkeyPatch, one_after_another: tuple[str, ...]
) -> None:
    monkeypatch.setattr("datamodules.batches.augmenter.ONE_AFTER_ANOTHER", one_after_another)
    stored = study.prepared.scans
    lacking = replace(study.prepared, scans=(replace(stored[0], images=(stored[0].images[0], "")), *stored[1:]))
    scans = study.cohort.scans
    patients, labels = [scan.patient for scan in scans], [scan.label for scan in scans]
    noisy = Augmentation(flip=0.5, shift_mm=6, noise=0.5, gamma=0.2)
    data = BrainMRIDataModule(lacking, patients, labels, study.splits, 0, REGIONS["global"], augmentation=noisy)
    box = data.augmenter.read
    image = torch.from_numpy(np.stack([lacking.crop(row, box) for row in (1, 0)])).float()
    changed, _ = data.augmenter(image, torch.tensor([1, 0]), 3)
    assert [[bool(channel.any()) for channel in scan] for scan in changed] == [[True, True], [True, False]]


def test_a_scan_without_a_t1w_tells_no_tissue_by_its_images(study: Study) -> None:
    shown = study.prepared.showing(["flair", "t1w"])
    lacking = replace(shown, scans=(replace(shown.scans[0], images=(shown.scans[0].images[0], "")), *shown.scans[1:]))
    assert tissues_of(lacking, 0, estimated=True) is None
    with_both = tissues_of(lacking, 1, estimated=True)
    assert with_both is not None
    np.testing.assert_array_equal(with_both, tissues_of(study.prepared, 1, estimated=True))
    other = replace(lacking, names=("t2w", "t1w"))
    assert tissues_of(other, 0, estimated=True) is None


def lacking_for(study: Study, labels: set[int]) -> Cohort:
    """The cohort in which the scans of some classes lack the FLAIR."""
    scans = [
        replace(scan, images={name: path for name, path in scan.images.items() if name == "t1w" or scan.label not in labels})
        for scan in study.cohort.scans
    ]
    told = [replace(scan, asked=BOTH, covariates={**scan.covariates, **indicators(scan.images, OPTIONAL)}) for scan in scans]
    return replace(study.cohort, scans=tuple(told))


def test_an_indicator_that_does_not_vary_tells_nothing(study: Study) -> None:
    parts = study.splits.partitions(0, [scan.patient for scan in study.cohort.scans])
    cohort = lacking_for(study, set())
    (covariate,) = fit_covariates("has_flair", cohort, parts, 0)
    assert covariate.sds == (0.0,)
    assert not covariate.columns(cohort.scans).any()
    missing = [replace(scan, covariates={"has_flair": "0"}) for scan in cohort.scans]
    assert not covariate.columns(missing).any(), "no network has learned what it means"


@pytest.mark.parametrize(("suffix", "label", "word"), [("positive", 1, "positive"), ("negative", 0, "negative")])
def test_an_image_that_one_class_has_and_the_other_has_not_is_refused(
    phantom_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, label: int, word: str
) -> None:
    for scan in read_cohort(phantom_copy, Target()).scans:
        if scan.label == label:
            scan.images["flair"].unlink()
    home = ["--cohort", str(phantom_copy), "--studies", str(tmp_path), "--store", str(tmp_path / "store"), "--threads", "1"]
    assert main(["check", *home, "--study", "mine", "--optional_images", "flair"]) == 2
    told = f"FLAIR is missing in every {word} scan and in no other: whether it is there tells the class; leave flair out of"
    assert capsys.readouterr().err.endswith(f"{told} --optional_images\n")


def test_a_network_is_told_of_the_images_that_it_sees() -> None:
    ours = {"class_path": "lightning_modules.networks.ResidualCNN", "init_args": {"covariates": "age", "in_channels": 2}}
    tell_of_missing(ours, ["flair"])
    tell_of_missing(ours, ["flair"])
    assert ours["init_args"]["covariates"] == "age,has_flair"
    show_images(ours, ("t1w",), ["flair"])
    assert ours["init_args"] == {"covariates": "age", "in_channels": 1}
    other = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 2}}
    tell_of_missing(other, ["flair"])
    assert other["init_args"] == {"in_features": 2}
    settings = parse_settings(["--preset", "demo", "--images", "t1w,flair,t2w", "--optional_images", "flair,t2w"])
    assert settings.covariates() == "has_flair,has_t2w"
    assert settings.covariates(("t1w", "t2w")) == "has_t2w"
    assert settings.instantiated(("t1w",)).network.covariates == 0
    plain = parse_settings(["--preset", "demo"])
    assert "optional_images" not in plain.result_settings()
    assert plain.hash() != settings.hash()


def test_maps_and_occlusion_leave_out_what_is_missing() -> None:
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(2, 2, 8, 8, 8, generator=generator)
    image[0, 1] = 0
    assert present_images(image)[..., 0, 0, 0].tolist() == [[True, False], [True, True]]
    relevance = gradient(made(), image)
    assert not relevance[0, 1].any()
    assert relevance[1, 1].any()
    average = mean_image([image])
    torch.testing.assert_close(average[0], image[:, 0].mean(dim=0))
    torch.testing.assert_close(average[1], image[1, 1]), "the mean of the scans that have it"
    region = torch.zeros(8, 8, 8, dtype=torch.bool)
    region[:4] = True
    without = occluded(image, region, average)
    assert not without[0, 1].any()
    torch.testing.assert_close(without[1, 1, :4], average[1, :4])
    torch.testing.assert_close(without[:, :, 4:], image[:, :, 4:])


def estimate(value: float, low: float, high: float) -> dict[str, dict[str, Estimate]]:
    return {PRESENCE: {"auc": Estimate(value, low, high, value, 0.1, 7)}}


def test_presence_that_tells_the_class_is_said() -> None:
    assert told_by_presence({}) == []
    assert told_by_presence(estimate(0.55, 0.45, 0.65)) == []
    (told,) = told_by_presence(estimate(0.85, 0.8, 0.9))
    assert told.startswith("which images a scan has tells its class: AUC 0.85 [0.80, 0.90]")


@pytest.fixture(scope="module")
def trained(phantom_cohort: Path, external_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of phantoms that partly lack the FLAIR, and beside it an external cohort of the same kind."""
    folder = tmp_path_factory.mktemp("missing")
    for name, source in (("cohort", phantom_cohort), ("external", external_cohort)):
        take_away(shutil.copytree(source, folder / name), 4)
    train(folder, folder / "cohort", "--optional_images", "flair", inputs=("brainstem",))
    return folder


def home(folder: Path) -> list[str]:
    return ["--study", "mine", "--studies", str(folder / "studies")]


def test_the_study_says_it_and_keeps_it(trained: Path) -> None:
    folder = trained / "studies" / "mine"
    record = read_record(folder)
    assert record is not None
    assert record.optional == OPTIONAL
    facts = RunFolder(folder / "brainstem" / "fold-0" / "seed-0").facts()
    assert [covariate["name"] for covariate in facts["covariates"]] == ["has_flair"]
    rows = read_rows(folder / "cohort.tsv")
    assert [row["has_flair"] == "0" for row in rows] == [row["flair"] == "" for row in rows]
    assert sum(row["flair"] == "" for row in rows) == 7


def test_from_baselines_to_report(trained: Path) -> None:
    assert main(["baselines", *home(trained)]) == 0
    assert main(["compare", *home(trained), "--inputs", "brainstem"]) == 0
    assert main(["check", *home(trained)]) == 0
    assert main(["report", *home(trained), "--images"]) == 0
    folder = trained / "studies" / "mine"
    names = [row["input"] for row in json.loads((folder / "comparison.json").read_text())["baselines"]]
    assert names[-1] == PRESENCE
    assert "\nhas FLAIR: 0\t" in (folder / "table1.tsv").read_text()
    groups = json.loads((folder / "subgroups.json").read_text())["groups"]
    counts = {group["level"]: group["scans"] for group in groups if group["variable"] == "images"}
    assert counts == {"all there": 18, "without FLAIR": 7}
    page = (folder / "report.html").read_text()
    assert "FLAIR was missing in 7 of 25 scans, where networks were shown zeros." in page
    assert "The classifier was also given whether FLAIR was there" in page
    acquired = (folder / "acquisition.tsv").read_text()
    assert "FLAIR" in acquired


def test_external_site_and_predict_agree_on_scans_without_it(trained: Path, tmp_path: Path) -> None:
    study, external = trained / "studies" / "mine", trained / "external"
    assert main(["external", *home(trained), "--cohort", str(external), "--store", str(trained / "store"),
                 "--inputs", "brainstem"]) == 0  # fmt: skip
    (table,) = (study / "external").rglob("predictions.tsv")
    theirs = {(row["patient"], row["session"]): float(row["p"]) for row in read_rows(table)}
    assert len(theirs) == 11
    frozen = json.loads(next((study / "external").rglob("frozen.json")).read_text())
    assert frozen["optional_images"] == ["flair"]
    words = ["--scans", str(external), "--out", str(tmp_path / "out"), "--insist", "--inputs", "brainstem"]
    assert main(["predict", *home(trained), *words]) == 0
    rows = read_rows(tmp_path / "out" / "predictions.tsv")
    ours = {(row["participant_id"], row["session_id"]): float(row["probability"]) for row in rows}
    assert ours.keys() == theirs.keys()
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert sum("no FLAIR" in row["reasons"] for row in rows) == 3
    bundle = study / "bundles" / "brainstem"
    assert main(["site", "--bundle", str(bundle), "--cohort", str(external), "--out", str(tmp_path / "site"), "--name", "A",
                 "--store", str(trained / "store")]) == 0  # fmt: skip


def test_a_study_that_began_with_scans_without_it_says_so_and_not_that_its_cohort_changed(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["fold", *home(trained), "--roi", "brainstem", "--fold", "1", "--optional_images", ""]) == 2
    told = "regionwise: study mine was begun with --optional_images flair, not none; use another STUDY\n"
    assert capsys.readouterr().err == told


def test_networks_that_never_lacked_an_image_are_not_asked_without_it(
    phantom_cohort: Path, external_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take_away(shutil.copytree(external_cohort, tmp_path / "external"), 4)
    train(tmp_path, phantom_cohort, "--optional_images", "flair", inputs=("brainstem",))
    assert main(["predict", *home(tmp_path), "--scans", str(tmp_path / "external"), "--out", str(tmp_path / "out"),
                 "--inputs", "brainstem"]) == 0  # fmt: skip
    rows = read_rows(tmp_path / "out" / "predictions.tsv")
    assert sum("no FLAIR" in row["reasons"] for row in rows) == 3
    capsys.readouterr()
    assert main(["fold", *home(tmp_path), "--roi", "brainstem", "--fold", "1", "--optional_images", ""]) == 2
    told = "regionwise: study mine was begun with --optional_images flair, not none; use another STUDY\n"
    assert capsys.readouterr().err == told
