"""A bundle gives the study's own numbers without the study, names every touched byte, and runs nothing that a file says."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundled import rewritten, train
from rich.console import Console
from safetensors.torch import load, save

from datamodules.cohort.read import read_cohort
from datamodules.quality.reference import QualityReference
from datamodules.store.reference import measure_stored, reference_of_stored
from experiments.bundles import make
from experiments.bundles.bundle import CARD, FACTS, Bundle
from experiments.bundles.errors import BundleError
from experiments.bundles.make import make_bundle, read_origin
from experiments.bundles.networks import NetworkSpec, make_network, network_class
from experiments.bundles.read import read_bundle
from experiments.bundles.running import open_scans, primary, run_models, scans_data
from experiments.bundles.summaries import features_of
from experiments.bundles.sums import SUMS, write_sums
from experiments.commands import bundle, external
from experiments.statistics.conformal import ConformalScores, nonconformity
from experiments.statistics.conformal_numbers import NumberScores
from experiments.study.record import read_record, write_record
from experiments.study.run_folder import Rows, RunFolder, Scale, read_predictions
from lightning_modules.numbers import NumberModule
from regions.atlas import load_template
from regions.catalog import Atlas


def call(home: Path) -> list[str]:
    return ["--study", "mine", "--studies", str(home / "studies")]


@pytest.fixture(scope="module")
def home(phantom_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with studies/mine, store/, and the bundles global/ and brainstem/."""
    folder = tmp_path_factory.mktemp("home")
    train(folder, phantom_cohort, inputs=("global", "brainstem"))
    for name in ("global", "brainstem"):
        assert (
            bundle.main(["--study", "mine", "--studies", str(folder / "studies"), "--input", name, "--out", str(folder / name)])
            == 0
        )
    return folder


def test_a_study_and_a_cohort_that_were_moved_are_read_where_they_are(home: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(home / "studies", tmp_path / "moved")) / "mine"
    record = read_record(moved)
    assert record is not None
    write_record(moved, replace(record, cohort=tmp_path / "cohort", store=tmp_path / "store"))
    options = read_origin(moved, "global", 0).settings.study_options()
    assert (options.folder, options.cohort, options.store) == (moved, tmp_path / "cohort", tmp_path / "store")


@pytest.fixture
def copied(home: Path, tmp_path: Path) -> Path:
    """A bundle to be changed."""
    return Path(shutil.copytree(home / "brainstem", tmp_path / "bundle"))


@pytest.mark.parametrize("name", ["global", "brainstem"])
def test_the_models_of_a_bundle_are_those_of_the_study(home: Path, name: str) -> None:
    made, origin = read_bundle(home / name), read_origin(home / "studies" / "mine", name, 0)
    for model, entry in zip(made.models, origin.entry["models"], strict=True):
        ours, theirs = made.module(model.fold), origin.module(entry)
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())
        assert (model.threshold, model.temperature) == (entry["threshold"], entry["temperature"])
        assert RunFolder(home / "studies" / "mine" / entry["run"]).facts()["box"] == {
            "start": list(made.box.start),
            "stop": list(made.box.stop),
        }


def predicts_again(made: Bundle, cohort: Path, study: Path, store: Path) -> None:
    """What every fold's run predicted comes out of the bundle; another batch may round its sums otherwise, as processors do."""
    scans = read_cohort(cohort, made.target, images=made.images).scans
    raw = run_models(made, open_scans(made, scans, store), scans, "cpu")
    place = {(scan.patient, scan.session): row for row, scan in enumerate(scans)}
    for column, model in enumerate(made.models):
        rows = predictions_of(made, study, model.fold)
        ours = [raw[place[key], column] for key in zip(rows.patient.tolist(), rows.session.tolist(), strict=True)]
        np.testing.assert_allclose(ours, rows.p, rtol=1e-6)


def predictions_of(made: Bundle, study: Path, fold: int) -> Rows:
    """What a run of the study wrote."""
    scale = Scale(steps=made.target.steps, mean=made.models[fold].mean) if made.target.is_number else None
    return read_predictions(study / made.input / f"fold-{fold}" / "seed-0/predictions.tsv", scale)


def test_internal_test_predictions_come_out_again(home: Path, phantom_cohort: Path, tmp_path: Path) -> None:
    predicts_again(read_bundle(home / "brainstem"), phantom_cohort, home / "studies/mine", tmp_path / "store")


def test_an_external_cohort_gets_the_numbers_of_the_study(home: Path, external_cohort: Path, tmp_path: Path) -> None:
    words = ["--study", "mine", "--studies", str(home / "studies"), "--store", str(home / "store"), "--draws", "100"]
    assert external.main([*words, "--inputs", "brainstem", "--cohort", str(external_cohort)]) == 0
    lines = (home / "studies/mine/external/external/predictions.tsv").read_text().splitlines()
    theirs = [float(line.split("\t")[5]) for line in lines[1:]]
    made = read_bundle(home / "brainstem")
    scans = read_cohort(external_cohort, made.target, images=made.images).scans
    ours = primary(made, run_models(made, open_scans(made, scans, tmp_path / "store"), scans, "cpu"))
    assert ours.tolist() == theirs


def test_a_bundle_is_made_once_and_the_same_bytes_each_time(home: Path, tmp_path: Path) -> None:
    words = [*call(home), "--input", "brainstem", "--out"]
    for name in ("first", "again"):
        assert bundle.main([*words, str(tmp_path / name)]) == 0
    assert (tmp_path / "again" / SUMS).read_bytes() == (tmp_path / "first" / SUMS).read_bytes()
    with pytest.raises(BundleError, match=r"again exists already; remove it, or give another --out"):
        bundle.main([*words, str(tmp_path / "again")])


def test_training_scans_are_measured_once_a_study(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*call(home), "--input", "brainstem", "--out"]
    kept = home / "studies/mine/bundles" / make.OF_COHORT
    kept.unlink(missing_ok=True)
    measured: list[int] = []
    monkeypatch.setattr(make, "reference_of_stored", lambda *of: measured.append(1) or reference_of_stored(*of))
    for name in ("first", "second"):
        assert bundle.main([*words, str(tmp_path / name)]) == 0
    assert len(measured) == 1
    kept.write_bytes(kept.read_bytes()[:-20])
    assert bundle.main([*words, str(tmp_path / "third")]) == 0
    assert len(measured) == 2
    sums = {(tmp_path / name / SUMS).read_bytes() for name in ("first", "second", "third")}
    assert len(sums) == 1


def test_an_external_test_with_these_models_is_in_the_card(home: Path, external_cohort: Path, tmp_path: Path) -> None:
    words = [*call(home), "--store", str(home / "store"), "--draws", "100"]
    assert external.main([*words, "--inputs", "brainstem", "--cohort", str(external_cohort), "--name", "other"]) == 0
    assert bundle.main([*call(home), "--input", "brainstem", "--out", str(tmp_path / "b")]) == 0
    card = (tmp_path / "b" / CARD).read_text()
    assert "| other (10 patients) |" in card
    assert "No external test" not in card
    assert bundle.main([*call(home), "--input", "global", "--out", str(tmp_path / "g")]) == 0
    assert "External test: none." in (tmp_path / "g" / CARD).read_text()


def test_an_input_that_is_not_there_is_named(home: Path, tmp_path: Path) -> None:
    words = ["--study", "mine", "--studies", str(home / "studies"), "--input", "brain_stem", "--out", str(tmp_path / "b")]
    with pytest.raises(BundleError, match=r"study mine has no input 'brain_stem'; it has global, white_matter"):
        bundle.main(words)
    assert not (tmp_path / "b").exists()


def change_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (lambda b: change_byte(b / "models/fold-1.safetensors"), "models/fold-1.safetensors was changed"),
        (lambda b: change_byte(b / "label_map.nii.gz"), "label_map.nii.gz was changed"),
        (lambda b: (b / "models/fold-0.safetensors").unlink(), "models/fold-0.safetensors is gone"),
        (lambda b: (b / "models/more.txt").write_text(""), "models/more.txt was added"),
        (lambda b: (b / "more").symlink_to("/etc/hostname"), "more was added"),
        (lambda b: ((b / FACTS).rename(b.parent / "f"), (b / FACTS).symlink_to(b.parent / "f")), "bundle.json is a link"),
        (lambda b: ((b / "models").rename(b.parent / "m"), (b / "models").symlink_to(b.parent / "m")), "models/fold-0.safeten"),
    ],
)  # fmt: skip
def test_what_was_touched_is_named(copied: Path, harm: Any, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bundle.main(["--verify", str(copied)]) == 0
    assert "every file is as it was written" in capsys.readouterr().out
    harm(copied)
    assert bundle.main(["--verify", str(copied)]) == 1
    assert fault in capsys.readouterr().out
    with pytest.raises(BundleError, match=re.escape(fault)):
        read_bundle(copied)


@pytest.mark.parametrize(
    "line", ["0" * 64 + "  ../secret", "0" * 64 + "  /etc/passwd", "no sum", "0" * 64 + "  models/../x", ""]
)
def test_sums_that_lead_elsewhere_are_refused(copied: Path, line: str) -> None:
    with (copied / SUMS).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(BundleError, match=r"SHA256SUMS is damaged"):
        read_bundle(copied)


def set_class(path: str, **arguments: Any) -> Any:
    return lambda content: content["network"].update(class_path=path, init_args=arguments)


def set_argument(**arguments: Any) -> Any:
    return lambda content: content["network"]["init_args"].update(arguments)


HOSTILE = {
    "call": (set_class("os.system", command="true"), "network 'os.system' cannot be in a bundle"),
    "function": (set_class("lightning_modules.networks.smallest_side"), "is not a torch.nn.Module of these packages"),
    "through a module": (set_class("lightning_modules.weights.torch.load", f="x"), "No module named|has no"),
    "foreign module": (set_class("torch.nn.modules.torch.jit.ScriptModule"), "No module named|has no|not a torch.nn.Module"),
    "other nn": (set_class("torch.nnx.Module"), "cannot be in a bundle"),
    "no name": (set_class("torch.nn."), "cannot be in a bundle"),
    "file": (
        set_class("lightning_modules.pretrained.PretrainedEncoder", weights="weights.pt"),
        "argument weights = 'weights.pt' cannot be in a bundle",
    ),
    "url": (set_argument(covariates="http://example.org"), "argument covariates = 'http://example.org' cannot"),
    "nested class": (set_argument(head={"class_path": "os.system"}), "argument class_path = 'os.system' cannot be in a bundle"),
    "unknown argument": (set_argument(evil=1), "cannot be made from its arguments"),
    "terabytes": (set_argument(width=10**6), "has other weights than the bundle"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_network_is_refused_by_name(copied: Path, name: str) -> None:
    change, message = HOSTILE[name]
    made = read_bundle(rewritten(copied, change))
    with pytest.raises(BundleError, match=message):
        made.module(0)


DAMAGED = {
    "path up": (lambda c: c["models"][0].update(weights="../fold-0.safetensors"), "is no file of the bundle"),
    "absolute path": (lambda c: c["models"][0].update(weights="/etc/passwd"), "is no file of the bundle"),
    "other map": (lambda c: c["region"]["mask"].update(label_map="0" * 64), "is not the label map of the region"),
    "huge grid": (lambda c: c["grid"].update(shape=[10**9, 10, 10]), "is not a whole number from 1 to 2048"),
    "no temperature": (lambda c: c["models"][1].update(temperature=0), "is no number above 0"),
    "no threshold": (lambda c: c.update(threshold=None), "is no number"),
    "fold twice": (lambda c: c["models"][1].update(fold=0), "do not belong together"),
    "no models": (lambda c: c.update(models=[]), "do not belong together"),
    "odd label": (lambda c: c["region"].update(labels=[-1]), "labels are whole numbers"),
    "odd target": (lambda c: c.update(target={"column": "edss", "kind": "magic"}), "damaged"),
    "missing": (lambda c: c.pop("box"), "KeyError: 'box'"),
    "newer": (lambda c: c.update(format=2), "format has version 2, this regionwise 1"),
    "other volumes": (lambda c: c["preparation"].update(volumes_version=3), "prepared volumes has version 3"),
    "odd conformal": (lambda c: c["conformal"].pop("scores"), "damaged"),
    "odd quality": (lambda c: c["quality"]["numbers"].update(noise_t1w=3), "damaged"),
    "odd features": (lambda c: c["features"]["folds"][0].pop("mean"), "damaged"),
    "odd signatures": (lambda c: c["training_scans"].update(voxels=[]), "damaged"),
    "odd covariate": (
        lambda c: c["models"][0]["covariates"].append(
            {"name": "age", "levels": [], "fill": 40, "means": ["x"], "sds": [1], "missing": {}}
        ),
        "'x' is no number",
    ),
    "name up": (lambda c: c["region"].update(name="../x"), "A region's name has only"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_description_is_refused_in_a_line(copied: Path, name: str) -> None:
    change, message = DAMAGED[name]
    with pytest.raises(BundleError, match=message) as caught:
        read_bundle(rewritten(copied, change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"format": NaN}', "[" * 100_000])
def test_a_description_that_is_none_is_refused(copied: Path, text: str) -> None:
    (copied / FACTS).write_text(text)
    write_sums(copied)
    with pytest.raises(BundleError, match=r"bundle\.json is damaged"):
        read_bundle(copied)


def test_weights_that_were_changed_after_the_bundle_was_read_are_refused(copied: Path) -> None:
    made = read_bundle(copied)
    change_byte(copied / "models/fold-0.safetensors")
    with pytest.raises(BundleError, match=r"fold-0\.safetensors is damaged \(SHA-256 differs\)"):
        made.module(0)
    assert made.module(1)
    with pytest.raises(BundleError, match="has no fold 9; it has 0, 1, 2"):
        made.module(9)


def test_weights_of_another_network_are_refused(copied: Path) -> None:
    tensors = load((copied / "models/fold-0.safetensors").read_bytes())
    (copied / "models/fold-0.safetensors").write_bytes(save(tensors | {"network.more": torch.zeros(2)}))
    write_sums(copied)
    with pytest.raises(BundleError, match=r"more is \(2,\), the network has no such weight"):
        read_bundle(copied).module(0)


def test_networks_of_the_three_packages_are_made() -> None:
    assert network_class("torch.nn.Conv3d") is torch.nn.Conv3d
    spec = NetworkSpec("monai.networks.nets.DenseNet121", {"spatial_dims": 3, "in_channels": 2, "out_channels": 2})
    assert sum(weight.numel() for weight in make_network(spec).parameters()) > 10**6
    encoder = make_network(NetworkSpec("lightning_modules.pretrained.PretrainedEncoder", {"weights": "random-deepbet"}))
    assert encoder(torch.zeros(1, 2, 64, 64, 64)).shape == (1, 2)


def test_a_network_of_the_user_own_cannot_be_bundled(home: Path, tmp_path: Path) -> None:
    origin = read_origin(home / "studies" / "mine", "global", 0)
    values = origin.settings.values.clone()
    values.network.class_path = "held_network.HeldNetwork"
    origin = replace(origin, settings=replace(origin.settings, values=values))
    with pytest.raises(BundleError, match=r"network 'held_network.HeldNetwork' cannot be in a bundle; networks of lightning"):
        make_bundle(origin, tmp_path / "out", Console(quiet=True))
    assert not list(tmp_path.iterdir())


NUMBERS = {
    "value": ["--label.kind", "regression", "--label.column", "age"],
    "steps": ["--label.kind", "ordinal", "--label.cuts", "[2,4]"],
}


@pytest.mark.parametrize("options", NUMBERS.values(), ids=list(NUMBERS))
def test_numbers_and_steps_become_bundles(phantom_cohort: Path, tmp_path: Path, options: list[str]) -> None:
    train(tmp_path, phantom_cohort, *options)
    words = ["--study", "mine", "--studies", str(tmp_path / "studies"), "--input", "global", "--out", str(tmp_path / "b")]
    assert bundle.main(words) == 0
    made = read_bundle(tmp_path / "b")
    assert isinstance(made.module(0), NumberModule)
    assert np.isnan(made.threshold)
    predicts_again(made, phantom_cohort, tmp_path / "studies/mine", tmp_path / "store")
    rows = predictions_of(made, tmp_path / "studies/mine", 0)
    residuals = np.sort(np.abs(rows.of("tuning").y - rows.of("tuning").p))
    np.testing.assert_array_equal(NumberScores.of(made.conformal).folds[0].residuals, residuals)


def test_own_regions_images_covariates_and_larger_voxels_become_bundles(phantom_cohort: Path, tmp_path: Path) -> None:
    cohort = Path(shutil.copytree(phantom_cohort, tmp_path / "cohort"))
    lines = (cohort / "participants.tsv").read_text().splitlines()
    cells = ["wmh/icv", *(f"0.{number:02}" for number in range(1, len(lines)))]
    (cohort / "participants.tsv").write_text("".join(f"{line}\t{cell}\n" for line, cell in zip(lines, cells, strict=True)))
    regions = tmp_path / "own.yaml"
    regions.write_text("deep_t1w:\n  of: [subcortical_gray_matter, brainstem]\n  images: [t1w]\n")
    words = [
        "--regions",
        str(regions),
        "--voxel_mm",
        "12",
        "--data.augmentation.flip",
        "0",
        "--network.init_args.covariates",
        "age,sex,wmh/icv",
    ]
    train(tmp_path, cohort, *words, inputs=("deep_t1w",))
    options = ["--study", "mine", "--studies", str(tmp_path / "studies"), "--input", "deep_t1w", "--out", str(tmp_path / "b")]
    assert bundle.main(options) == 0
    regions.unlink()
    made = read_bundle(tmp_path / "b")
    assert (made.shown_images, made.images, made.covariates) == (("t1w",), ("t1w", "flair"), ("age", "sex", "wmh/icv"))
    assert made.grid.spacing == (12, 12, 12)
    predicts_again(made, cohort, tmp_path / "studies/mine", tmp_path / "store")


def test_regions_of_an_atlas_need_the_atlas_no_more(phantom_cohort: Path, write_nifti: Any, tmp_path: Path) -> None:
    labels, grid = load_template()
    parts = np.zeros(labels.shape, np.int16)
    parts[labels > 0] = 1001
    parts[: labels.shape[0] // 2][parts[: labels.shape[0] // 2] > 0] = 1002
    atlas = write_nifti(tmp_path / "halves.nii.gz", parts, grid.matrix)
    (tmp_path / "own.yaml").write_text("atlas: halves.nii.gz\nright:\n  labels: [1001]\n")
    train(tmp_path, phantom_cohort, "--regions", str(tmp_path / "own.yaml"), inputs=("right",))
    assert bundle.main([*call(tmp_path), "--input", "right", "--out", str(tmp_path / "b")]) == 0
    atlas.unlink()
    made = read_bundle(tmp_path / "b")
    assert made.shown_region.atlas == Atlas(tmp_path / "b" / "label_map.nii.gz", made.region.mask.label_map)
    predicts_again(made, phantom_cohort, tmp_path / "studies/mine", tmp_path / "again")


def test_regions_of_each_scan_s_own_label_map(phantom_cohort: Path, tmp_path: Path) -> None:
    train(tmp_path, phantom_cohort, "--data.mask_mode", "subject", inputs=("gray_matter",))
    assert bundle.main([*call(tmp_path), "--input", "gray_matter", "--out", str(tmp_path / "b")]) == 0
    made = read_bundle(tmp_path / "b")
    assert made.region.mask.mode == "subject"
    predicts_again(made, phantom_cohort, tmp_path / "studies/mine", tmp_path / "again")


def test_a_foreign_network_becomes_a_bundle(phantom_cohort: Path, tmp_path: Path) -> None:
    words = ["--network", "monai.networks.nets.DenseNet", "--network.spatial_dims", "3", "--network.in_channels", "2"]
    words += ["--network.out_channels", "2", "--network.init_features", "8", "--network.growth_rate", "4"]
    words += ["--network.block_config", "[2,2]", "--network.bn_size", "2"]
    train(tmp_path, phantom_cohort, *words, inputs=("global",))
    assert bundle.main([*call(tmp_path), "--input", "global", "--out", str(tmp_path / "b"), "--exports", "torch"]) == 0
    made = read_bundle(tmp_path / "b")
    assert made.network.class_path == "monai.networks.nets.DenseNet"
    predicts_again(made, phantom_cohort, tmp_path / "studies/mine", tmp_path / "again")


def test_a_pretrained_encoder_needs_its_wheel_no_more(phantom_cohort: Path, tmp_path: Path) -> None:
    words = ["--network", "PretrainedEncoder", "--network.weights", "deepbet", "--trainer.max_epochs", "1"]
    train(tmp_path, phantom_cohort, *words, inputs=("brainstem",))
    assert bundle.main([*call(tmp_path), "--input", "brainstem", "--out", str(tmp_path / "b")]) == 0
    made = read_bundle(tmp_path / "b")
    assert made.network.init_args["weights"] == "random-deepbet"
    predicts_again(made, phantom_cohort, tmp_path / "studies/mine", tmp_path / "again")


def forms(values: np.ndarray) -> Iterator[bytes]:
    for kind in (np.float16, np.float32, np.float64):
        yield np.ascontiguousarray(values, dtype=kind).tobytes()


def test_no_file_tells_of_a_patient(home: Path, phantom_cohort: Path, tmp_path: Path) -> None:
    made = read_bundle(home / "global")
    scans = read_cohort(phantom_cohort, made.target, images=made.images).scans
    prepared = open_scans(made, scans, tmp_path / "store")
    runs = [channel[:, :, 10][channel[:, :, 10] != 0][:8] for row in range(len(scans)) for channel in prepared.image(row)]
    voxels = [form for run in runs for form in forms(run)]
    dates = re.compile(rb"(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]")
    names = [text.encode() for scan in scans for text in (scan.patient, f'"{scan.session}"', str(phantom_cohort.parent))]
    files = [path for path in (home / "global").rglob("*") if path.is_file()]
    assert len(files) >= 6
    for path in files:
        content = path.read_bytes()
        assert not [name for name in {*names, b"sub-", b"ses-", str(home).encode(), b"/tmp", b"/root"} if name in content], path
        assert not dates.search(content), path
        assert not [run for run in voxels if run in content], path


def test_the_search_finds_voxels_where_there_are_some(home: Path, phantom_cohort: Path, tmp_path: Path) -> None:
    made = read_bundle(home / "global")
    scans = read_cohort(phantom_cohort, made.target, images=made.images).scans
    channel = open_scans(made, scans, tmp_path / "store").image(3)[1]
    run = channel[:, :, 10][channel[:, :, 10] != 0][:8]
    assert any(form in channel[:, :, 10][channel[:, :, 10] != 0].astype(np.float32).tobytes() for form in forms(run))


def test_the_card_says_what_bundle_json_says(home: Path) -> None:
    text = (home / "brainstem" / CARD).read_text()
    assert "**For research only.**" in text
    assert "21 patients, 25 scans, " in text
    assert "Internal test: not in this bundle" in text
    assert "External test: none." in text
    assert text.count("*to be filled in by the authors*") == 4
    assert "- Scans were prepared by regionwise phantoms 0.1.0." in text


def test_conformal_scores_come_from_the_tuning_parts(home: Path) -> None:
    kept = ConformalScores.of(read_bundle(home / "brainstem").conformal)
    for part in kept.scores:
        run = home / "studies" / "mine" / "brainstem" / f"fold-{part.fold}" / "seed-0"
        rows = read_predictions(run / "predictions.tsv").of("tuning")
        own = rows.p[rows.y == part.label]
        np.testing.assert_allclose(part.scores, np.sort(nonconformity(own, part.label)), rtol=1e-12)
    assert {part.fold for part in kept.scores} == {0, 1, 2}


def test_features_are_those_of_the_training_parts(home: Path, phantom_cohort: Path, tmp_path: Path) -> None:
    made = read_bundle(home / "global")
    scans = read_cohort(phantom_cohort, made.target, images=made.images).scans
    data = scans_data(made, open_scans(made, scans, tmp_path / "store"), [scan.patient for scan in scans])
    kept = {entry["fold"]: entry for entry in made.features["folds"]}
    splits = read_origin(home / "studies" / "mine", "global", 0).parts.splits
    for fold, entry in kept.items():
        train = splits.partitions(fold, [scan.patient for scan in scans])["train"]
        features = features_of(made.module(fold).network, data)
        np.testing.assert_allclose(entry["mean"], features[train].mean(axis=0), rtol=1e-6)
        assert entry["scans"] == len(scans) - len(train)
    assert kept.keys() == {0, 1, 2}


def test_a_new_scan_is_judged_by_what_the_training_cohort_was_like(home: Path, phantom_cohort: Path, tmp_path: Path) -> None:
    made = read_bundle(home / "global")
    scans = read_cohort(phantom_cohort, made.target, images=made.images).scans
    prepared = open_scans(made, scans, tmp_path / "store")
    kept = QualityReference.of(made.quality)
    assert kept == reference_of_stored(prepared)
    z = kept.robust_z(measure_stored(prepared, 0).numbers)
    assert max(map(abs, z.values())) < 6
