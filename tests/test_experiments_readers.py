"""Linear readers: exactly a ridge regression on the voxels, fitted without a look at the test part, compared by rule."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import restored
from made_report import write_reportable
from made_study import PRINTS, Made, write_study
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from datamodules.mri import BrainMRIDataModule
from experiments.analysis.baseline_files import READERS, USUAL, baseline_folder, features_reader, reader_name
from experiments.analysis.compare import compare
from experiments.analysis.comparison import read_comparison, reader_sentence, write_comparison
from experiments.analysis.linear_readers import COMPONENTS, STRENGTHS, Gram, component_scores, fit_reader, gram_matrices
from experiments.analysis.reader_inputs import ENCODERS, drawn_network, encoded, encoder_of, pieces_of, shown_by, voxel_chunks
from experiments.analysis.readers import make_readers
from experiments.analysis.view import show
from experiments.commands.baselines import listed_encoders
from experiments.reporting.build import write_report
from experiments.reporting.sources import read_sources
from experiments.statistics.paired import Comparison
from experiments.statistics.significance import Estimate
from experiments.study.run_folder import RunFolder, read_predictions
from experiments.study.settings import Settings, parse_settings
from experiments.study.study import Study
from lightning_modules.errors import ModelError
from lightning_modules.head_inputs import head_input
from lightning_modules.networks import ResidualCNN, multiple_of
from lightning_modules.pretrained import encoder
from regions.errors import UserError

SCANS, VOXELS = 60, 400
TRAIN, TUNING, TEST = np.arange(40), np.arange(40, 50), np.arange(50, 60)


def drawn(seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Voxels of unlike size, some constant everywhere or in the training part, and labels that some of them carry."""
    rng = np.random.default_rng(seed)
    y = np.tile([0, 1, 0, 1, 0], SCANS // 5)
    x = (rng.normal(size=(SCANS, VOXELS)) * rng.uniform(0.1, 30, VOXELS) + rng.normal(0, 50, VOXELS)).astype(np.float16)
    x[:, :20] += (3 * y[:, None] * x[:, :20].std(axis=0)).astype(np.float16)
    x[:, 30], x[:, 31], x[TRAIN, 32] = 0, 7.3, -2.1
    return x.astype(np.float32), y


def gram_of(x: np.ndarray[Any, Any], pieces: int = 7) -> Gram:
    chunks = [(["a"], part) for part in np.array_split(x, pieces, axis=1)]
    return gram_matrices(chunks, [TRAIN], len(x))["a"][0]


@pytest.mark.parametrize("strength", [STRENGTHS[0], 1.0, 100.0])
def test_all_components_are_the_ridge_regression_on_the_voxels(strength: float) -> None:
    x, y = drawn()
    gram = gram_of(x)
    scaled = StandardScaler().fit(x[TRAIN].astype(np.float64))
    standard = scaled.transform(x.astype(np.float64))
    assert gram.features == VOXELS - 3
    options = {"tol": 1e-10, "max_iter": 5000}
    on_voxels = LogisticRegression(C=strength / gram.features, **options).fit(standard[TRAIN], y[TRAIN])
    scores = component_scores(gram, TRAIN)
    assert scores.shape == (SCANS, len(TRAIN) - 1)
    on_scores = LogisticRegression(C=strength, **options).fit(scores[TRAIN], y[TRAIN])
    np.testing.assert_allclose(on_scores.predict_proba(scores), on_voxels.predict_proba(standard), atol=2e-5)


def test_what_the_tuning_part_chooses_is_a_ridge_regression_on_voxels_or_first_components() -> None:
    x, y = drawn(3)
    gram = gram_of(x)
    fit = fit_reader(gram, y, TRAIN, TUNING, "midpoint")
    assert fit.penalty is not None
    assert np.isclose(STRENGTHS, fit.penalty * gram.features).any()
    standard = StandardScaler().fit(x[TRAIN].astype(np.float64)).transform(x.astype(np.float64))
    right = np.linalg.svd(standard[TRAIN], full_matrices=False)[2]
    seen = standard @ right[: fit.components].T
    by_hand = LogisticRegression(C=fit.penalty, tol=1e-10, max_iter=5000).fit(seen[TRAIN], y[TRAIN])
    np.testing.assert_allclose(fit.p, by_hand.predict_proba(seen)[:, 1], atol=1e-4)
    assert fit.components in (len(TRAIN) - 1, *COMPONENTS)


def test_the_pieces_in_which_voxels_are_read_change_nothing() -> None:
    x, _ = drawn()
    one, many = gram_of(x, 1), gram_of(x, 50)
    np.testing.assert_allclose(many.products, one.products, atol=1e-3)
    assert many.features == one.features


def test_other_test_scans_and_labels_change_no_fit() -> None:
    x, y = drawn()
    fit = fit_reader(gram_of(x), y, TRAIN, TUNING, "midpoint")
    far, others = x.copy(), y.copy()
    far[TEST] = 1000 - 7 * far[TEST]
    others[TEST] = 1 - others[TEST]
    again = fit_reader(gram_of(far), others, TRAIN, TUNING, "midpoint")
    kept = np.concatenate([TRAIN, TUNING])
    np.testing.assert_array_equal(again.p[kept], fit.p[kept])
    assert again.facts() == fit.facts()
    assert not np.array_equal(again.p[TEST], fit.p[TEST])


def test_the_planted_voxels_are_read_in_scans_that_were_not_fitted() -> None:
    x, y = drawn(1)
    fit = fit_reader(gram_of(x), y, TRAIN, TUNING, "midpoint")
    assert fit.p[TEST][y[TEST] == 1].min() > fit.p[TEST][y[TEST] == 0].max()


def test_features_that_never_vary_give_the_prevalence() -> None:
    _, y = drawn()
    gram = gram_of(np.full((SCANS, 5), 3.3, dtype=np.float32), 1)
    fit = fit_reader(gram, y, TRAIN, TUNING, "midpoint")
    np.testing.assert_array_equal(fit.p, np.full(SCANS, y[TRAIN].mean()))
    assert (fit.features, fit.components, fit.penalty) == (0, 0, None)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return of_mode("template")


def of_mode(mode: str, *words: str) -> Settings:
    network = ["--network.init_args.stages", "2", "--network.init_args.width", "2"]
    return parse_settings(["--preset", "demo", *network, "--data.mask_mode", mode, *words])


@pytest.mark.parametrize("mode", ["template", "template-dilated", "subject"])
def test_a_reader_sees_the_voxels_of_the_network(labelled: Study, mode: str) -> None:
    """The sums of squares of what is read are those of the batches; so are those of what is encoded."""
    study, settings = labelled, of_mode(mode)
    network = settings.instantiated().network
    inputs = {name: shown_by(region, study.prepared.grid, settings, network) for name, region in settings.regions.items()}
    sums = {name: np.zeros(len(study.cohort.scans)) for name in inputs}
    calls: list[tuple[int, int]] = []
    pieces = pieces_of(inputs, study.prepared.grid)
    for names, values in voxel_chunks(study.prepared, pieces, lambda done, total: calls.append((done, total))):
        for name in names:
            sums[name] += np.square(values, dtype=np.float64).sum(axis=1)
    assert calls[-1] == (len(pieces), len(pieces))
    patients, labels = [scan.patient for scan in study.cohort.scans], [scan.label for scan in study.cohort.scans]
    for name, region in settings.regions.items():
        step = multiple_of(network)
        data = BrainMRIDataModule(
            study.prepared, patients, labels, study.splits, 0, region, step, mask_mode=mode, least_side=step
        )
        found = encoded(study.prepared, inputs[name], lambda images: images.flatten(1), 4, lambda done, total: None)
        for batch in data.predict_dataloader():
            images = data.finish(batch, None)["image"].numpy()
            rows = batch["index"].numpy()
            np.testing.assert_array_equal(found[rows], images.reshape(len(rows), -1))
            squares = np.square(images, dtype=np.float64).sum(axis=(1, 2, 3, 4))
            np.testing.assert_allclose(sums[name][rows], squares, rtol=1e-6)
            assert squares.min() > 0


def test_each_voxel_that_all_scans_show_alike_is_read_once(labelled: Study) -> None:
    settings = of_mode("template")
    network = settings.instantiated().network
    inputs = {name: shown_by(region, labelled.prepared.grid, settings, network) for name, region in settings.regions.items()}
    voxels = np.concatenate([piece.voxels for piece in pieces_of(inputs, labelled.prepared.grid)])
    assert voxels.size == np.unique(voxels).size


class Foreign(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv3d(2, 3, 1)
        self.hidden, self.head = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.hidden(self.features(image).mean(dim=(2, 3, 4))).relu())


def test_features_are_what_enters_the_head() -> None:
    image = torch.randn(3, 2, 8, 8, 8)
    network = ResidualCNN(width=2, stages=2).eval()
    torch.testing.assert_close(network.head(head_input(network, image)), network(image), rtol=0, atol=0)
    foreign = Foreign()
    torch.testing.assert_close(foreign.head(head_input(foreign, image)), foreign(image), rtol=0, atol=0)
    assert not foreign.head._forward_pre_hooks
    with pytest.raises(ModelError, match=r"Conv3d has no nn\.Linear"):
        head_input(nn.Conv3d(2, 2, 1), image)


def test_an_untrained_network_follows_the_seed_and_leaves_the_generator_alone(settings: Settings) -> None:
    image, state = torch.randn(2, 2, 8, 8, 8), torch.get_rng_state()
    first, again = (
        encoder_of(drawn_network("untrained", settings), settings)(image),
        encoder_of(drawn_network("untrained", settings), settings)(image),
    )
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)
    other = parse_settings(
        ["--preset", "demo", "--network.init_args.stages", "2", "--network.init_args.width", "2", "--seed", "1"]
    )
    assert not torch.equal(encoder_of(drawn_network("untrained", other), other)(image), first)


@pytest.fixture(scope="module")
def planted(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The session's study; in volumes of its own the ventricles of positive scans are brighter."""
    folder = tmp_path_factory.mktemp("planted")
    settings = of_mode("template")
    shown = shown_by(settings.regions["ventricles"], study.prepared.grid, settings, settings.instantiated().network)
    images = [np.array(study.prepared.image(row)) for row in range(len(study.prepared.scans))]
    for image, scan in zip(images, study.cohort.scans, strict=True):
        image[:, shown.mask] += np.float16(3 * scan.label)
    copied = Path(shutil.copytree(study.folder, folder / "study"))
    prepared = restored(study.prepared, folder / "store", [None] * len(images), images)
    return replace(study, folder=copied, prepared=prepared)


@pytest.fixture(scope="module")
def made(planted: Study, settings: Settings) -> dict[str, Any]:
    return make_readers(planted, settings)


def test_readers_find_the_planted_input_in_every_fold(planted: Study, made: dict[str, Any], settings: Settings) -> None:
    assert list(made["readers"]) == list(USUAL)
    assert all(list(of_inputs) == list(settings.regions) for of_inputs in made["readers"].values())
    for fold in range(7):
        rows = read_predictions(baseline_folder(planted.folder, "voxels/ventricles", fold) / "predictions.tsv").of(
            "internal_test"
        )
        assert rows.p[rows.y == 1].min() > rows.p[rows.y == 0].max()
    facts = RunFolder(baseline_folder(planted.folder, "voxels/ventricles", 0)).facts()
    assert facts["fingerprint"]["region"]["labels"] == list(settings.regions["ventricles"].labels)
    assert facts["fingerprint"]["data"] == planted.prepared.hash
    assert facts["features"] > 0


def test_readers_made_again_leave_the_same_bytes(planted: Study, made: dict[str, Any], settings: Settings) -> None:
    paths = [planted.folder / "readers.json", *sorted((planted.folder / "baselines").rglob("*.*"))]
    before = {path: path.read_bytes() for path in paths}
    assert len(before) == 1 + 2 + 3 * 2 * 6 * 7
    make_readers(planted, settings)
    assert {path: path.read_bytes() for path in paths} == before


@pytest.mark.parametrize(("name", "features"), [("deepbet", 512), ("hd-bet", 1344)])
def test_features_of_a_pretrained_encoder_are_those_that_it_gives(name: str, features: int, settings: Settings) -> None:
    images = torch.randn(2, 2, 40, 40, 40, generator=torch.Generator().manual_seed(0))
    found = encoder_of(drawn_network(name, settings), settings)(images)
    assert found.shape == (2, features)
    torch.testing.assert_close(found, encoder(name)(images))


def test_every_encoder_has_a_reader_and_unknown_ones_are_refused() -> None:
    assert [features_reader(name) for name in ENCODERS] == list(READERS)[1:-1]
    assert listed_encoders(" untrained,hd-bet ,hd-bet") == ["untrained", "hd-bet"]
    with pytest.raises(UserError, match="--encoders resnet does not exist; encoders are untrained, hd-bet, deepbet"):
        listed_encoders("untrained,resnet")


def test_a_reader_that_nobody_asked_for_is_not_called_missing(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    inputs = ("global", "ventricles")
    names = [reader_name(reader, roi) for reader in (*USUAL, "features(hd-bet)") for roi in inputs]
    write_study(folder, Made(inputs=inputs, baselines=names[:-1]))
    notes = compare(folder, inputs, draws=50).notes
    assert any("no linear reader features(hd-bet)/ventricles" in note for note in notes)
    assert not any("deepbet" in note for note in notes)


def test_regions_of_scans_without_label_maps_have_no_reader_in_subject_mode(planted: Study, tmp_path: Path) -> None:
    copied = replace(planted, folder=tmp_path / "study")
    copied.folder.mkdir()
    made = make_readers(copied, of_mode("subject"))
    assert list(made["readers"]["voxels"]) == ["global"]
    assert made["notes"][0].startswith("no linear readers of ")
    assert made["notes"][0].endswith("a scan has no label map")


def with_readers(folder: Path, inputs: Sequence[str], skill: dict[str, float]) -> None:
    names = [reader_name(reader, roi) for reader in READERS for roi in inputs]
    write_study(folder, Made(inputs=inputs, baselines=names, skill=skill))


INPUTS = ("global", "ventricles", "brainstem")


def test_each_network_is_compared_with_the_readers_of_its_input(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    with_readers(folder, INPUTS, {"ventricles": 6.0, "voxels/ventricles": 0.0, "voxels/brainstem": 6.0, "brainstem": 0.0})
    comparison = compare(folder, INPUTS, draws=400)
    pairs = [(pair.first, pair.second) for pair in comparison.paired_readers]
    assert pairs == [(roi, f"{reader}/{roi}") for reader in READERS for roi in INPUTS]
    for pair in comparison.paired_readers:
        network, linear = comparison.estimates[pair.first]["auc"], comparison.readers[pair.second]["auc"]
        assert pair.difference.value == pytest.approx(network.value - linear.value)
        assert pair.metric == "auc"
    sentences = [reader_sentence(pair) for pair in comparison.paired_readers]
    assert "ventricles: the network is better than a linear reader of the same voxels" in sentences
    assert "brainstem: a linear reader of the same voxels is better than the network" in sentences
    write_comparison(folder, comparison)
    assert read_comparison(folder) == comparison
    printed = Console(record=True, width=240)
    show(comparison, folder, printed)
    text = printed.export_text()
    for sentence in sentences:
        name, _, words = sentence.partition(": ")
        assert name in text.partition(f"\n{words}: ")[2].partition(".\n")[0].split(", ")


def test_the_report_shows_the_readers_and_what_follows(tmp_path: Path) -> None:
    inputs = ("global", "ventricles")
    names = [reader_name(reader, roi) for reader in USUAL for roi in inputs]
    folder = write_reportable(tmp_path / "studies" / "study", Made(inputs=inputs, baselines=names))
    write_report(read_sources(folder), folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Linear readers of the same input" in page
    for pair in read_comparison(folder).paired_readers:
        assert f"{reader_sentence(pair)}." in page


def test_readers_change_no_other_number(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    with_readers(folder, INPUTS, {})
    beside = compare(folder, INPUTS, draws=200)
    shutil.rmtree(folder / "baselines")
    alone = compare(folder, INPUTS, draws=200)
    assert "no linear reader voxels, features(untrained), tissue_share: make baselines STUDY=study" in alone.notes
    assert (alone.readers, alone.paired_readers) == ({}, [])
    for name in ("estimates", "paired", "paired_auc", "paired_all", "baselines", "details"):
        assert getattr(alone, name) == getattr(beside, name), name


@pytest.mark.parametrize("part", ["split", "cohort", "data", "region"])
def test_readers_of_other_data_or_regions_are_left_out_by_name(tmp_path: Path, part: str) -> None:
    folder = tmp_path / "study"
    with_readers(folder, INPUTS, {})
    run = RunFolder(baseline_folder(folder, "voxels/ventricles", 3))
    run.write_facts({**run.facts(), "fingerprint": {**PRINTS, part: "other"}})
    comparison = compare(folder, INPUTS, draws=200)
    assert "voxels/ventricles" not in comparison.readers
    assert len(comparison.paired_readers) == len(READERS) * len(INPUTS) - 1
    note = "linear reader voxels/ventricles was fitted on another split, cohort, volumes or region, or decided otherwise: make"
    assert any(text.startswith(note) for text in comparison.notes)


@pytest.mark.parametrize(
    ("low", "high", "verdict", "words"),
    [
        (0.01, 0.2, "different", "x: the network is better than a linear reader of the same voxels"),
        (0.01, 0.2, "not distinguishable", "x: not shown that the network is better than a linear reader of the same voxels"),
        (-0.01, 0.2, "not distinguishable", "x: not shown that the network is better than a linear reader of the same voxels"),
        (0.0, 0.2, "not distinguishable", "x: not shown that the network is better than a linear reader of the same voxels"),
        (-0.2, -0.01, "not distinguishable", "x: not shown that the network is better than a linear reader of the same voxels"),
        (-0.2, -0.01, "different", "x: a linear reader of the same voxels is better than the network"),
        (None, None, "not distinguishable", "x: network and linear reader of the same voxels cannot be compared"),
    ],
)
def test_the_sentence_follows_from_interval_and_verdict(
    low: float | None, high: float | None, verdict: str, words: str
) -> None:
    gap = Estimate(0.0, low, high)
    pair = Comparison("x", "voxels/x", "auc", gap, 0.5, 0.5, 0.5, f"{verdict} (linear reader)")
    assert reader_sentence(pair) == words
