"""What is exported says what the bundle says, tells no path, and is refused where it cannot be."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundled import train

from datamodules.cohort.read import read_cohort
from datamodules.store.boxes import crop_to_box
from experiments.bundles.bundle import Bundle, FoldModel
from experiments.bundles.errors import BundleError
from experiments.bundles.read import read_bundle
from experiments.bundles.running import open_scans, primary, run_models
from experiments.bundles.sums import faults_of
from experiments.commands import bundle

onnxruntime = pytest.importorskip("onnxruntime")
REQUIRED = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task",
            "description", "authors", "copyright", "network_data_format")  # fmt: skip
OF_A_TENSOR = ("type", "format", "num_channels", "spatial_shape", "dtype", "value_range")


def call(home: Path, *more: str) -> list[str]:
    return ["--study", "mine", "--studies", str(home / "studies"), *more]


@pytest.fixture(scope="module")
def home(phantom_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with studies/mine, and the bundle b/ of its brainstem with every export."""
    folder = tmp_path_factory.mktemp("home")
    train(folder, phantom_cohort, inputs=("brainstem",))
    assert bundle.main(call(folder, "--input", "brainstem", "--out", str(folder / "b"), "--exports", "onnx,torch,monai")) == 0
    return folder


@pytest.fixture(scope="module")
def scans(home: Path, phantom_cohort: Path) -> tuple[Bundle, np.ndarray, np.ndarray, np.ndarray]:
    """The bundle, boxes of real scans (n, C, I, J, K), what the bundle says of them, and what each of its models says."""
    made = read_bundle(home / "b")
    cohort = read_cohort(phantom_cohort, made.target, images=made.images)
    prepared = open_scans(made, cohort.scans, home / "store")
    boxes = np.stack([crop_to_box(prepared.image(row), made.box) for row in range(len(cohort.scans))]).astype(np.float32)
    raw = run_models(made, prepared, cohort.scans, "cpu")
    return made, boxes, primary(made, raw), raw


def test_onnx_says_what_the_bundle_says(home: Path, scans: Any) -> None:
    _, boxes, p, raw = scans
    session = onnxruntime.InferenceSession(home / "b" / "exports" / "model.onnx", providers=["CPUExecutionProvider"])
    ours, folds = session.run(None, {"image": boxes})
    assert np.abs(ours - p).max() < 1e-5
    assert np.abs(folds - raw).max() < 1e-5
    assert np.ptp(p) > 1e-4
    alone, _ = session.run(None, {"image": boxes[:1]})
    assert np.abs(alone - p[:1]).max() < 1e-5


def test_torch_export_says_what_the_bundle_says(home: Path, scans: Any) -> None:
    _, boxes, p, raw = scans
    ours, folds = torch.export.load(home / "b" / "exports" / "model.pt2").module()(torch.from_numpy(boxes))
    assert np.abs(ours.numpy() - p).max() < 1e-5
    assert np.abs(folds.numpy() - raw).max() < 1e-5


def test_nothing_in_an_export_is_pickled_or_tells_a_path(home: Path) -> None:
    files = [path for path in (home / "b" / "exports").rglob("*") if path.is_file()]
    contents = [path.read_bytes() for path in files]
    for path in (path for path in files if path.suffix == ".pt2"):
        with zipfile.ZipFile(path) as archive:
            contents += [archive.read(name) for name in archive.namelist()]
            assert not [
                item.filename for item in archive.infolist() if item.filename.endswith((".pkl", ".pt")) and item.file_size
            ]
    for content in contents:
        assert not [word for word in (b"/tmp/", b"/root", b"site-packages", b"lightning_modules/", b"sub-") if word in content]
        assert content[:2] not in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def test_the_exports_are_among_the_files_that_are_looked_at(home: Path) -> None:
    assert faults_of(home / "b") == []
    assert "exports/model.onnx" in (home / "b" / "SHA256SUMS").read_text()
    card = (home / "b" / "MODEL_CARD.md").read_text()
    assert "`exports/` holds the models as one graph: onnx, torch, monai." in card


def schema() -> dict[str, Any]:
    """What MONAI's specification asks of metadata.json, as a JSON schema."""
    tensor = {"type": "object", "required": list(OF_A_TENSOR), "properties": {
        "num_channels": {"type": "integer"}, "dtype": {"type": "string"}, "is_patch_data": {"type": "boolean"},
        "spatial_shape": {"type": "array"}, "value_range": {"type": "array", "items": {"type": "number"}},
    }}  # fmt: skip
    table = {"type": "object", "additionalProperties": tensor}
    texts = {name: {"type": "string"} for name in REQUIRED if not name.endswith(("_format", "packages_version"))}
    form = {"type": "object", "required": ["inputs", "outputs"], "properties": {"inputs": table, "outputs": table}}
    return {"type": "object", "required": list(REQUIRED), "properties": {**texts, "network_data_format": form}}


@pytest.mark.filterwarnings("ignore")
def test_monai_verifies_the_metadata(home: Path, tmp_path: Path) -> None:
    scripts = pytest.importorskip("monai.bundle")
    (tmp_path / "schema.json").write_text(json.dumps(schema()))
    path = home / "b" / "exports" / "monai" / "configs" / "metadata.json"
    scripts.verify_metadata(meta_file=str(path), filepath=str(tmp_path / "schema.json"))
    wrong = json.loads(path.read_text())
    del wrong["network_data_format"]["inputs"]["image"]["dtype"]
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match="Failed validating"):
        scripts.verify_metadata(meta_file=str(tmp_path / "wrong.json"), filepath=str(tmp_path / "schema.json"))


@pytest.mark.filterwarnings("ignore")
def test_monai_prepares_and_predicts_as_the_bundle_does(
    home: Path, scans: Any, phantom_cohort: Path, write_nifti: Any, tmp_path: Path
) -> None:
    config = pytest.importorskip("monai.bundle").ConfigParser
    import nibabel as nib

    made, _, p, _ = scans
    cohort = read_cohort(phantom_cohort, made.target, images=made.images)
    paths = []
    for row, scan in enumerate(cohort.scans[:4]):
        brain = np.asarray(nib.load(scan.mask).dataobj) > 0
        files = {}
        for name, path in scan.images.items():
            image = nib.load(path)
            array = np.asarray(image.dataobj, dtype=np.float32)
            files[name] = str(write_nifti(tmp_path / f"{row}_{name}.nii.gz", array * brain, image.affine))
        paths.append(files)
    root = home / "b" / "exports" / "monai"
    parser = config()
    parser.read_config(str(root / "configs" / "inference.json"))
    parser.update({"bundle_root": str(root), "scans": paths})
    np.testing.assert_allclose(parser.get_parsed_content("predictions"), p[:4], atol=2e-3)


def test_an_export_that_does_not_exist_or_cannot_be_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no export 'tensorrt'; exports are onnx, torch, monai"):
        bundle.main(call(home, "--input", "brainstem", "--out", str(tmp_path / "x"), "--exports", "tensorrt"))
    assert not (tmp_path / "x").exists()


NUMBERS = {
    "steps": ["--label.kind", "ordinal", "--label.cuts", "[2,4]"],
    "value": ["--label.kind", "regression", "--label.column", "age"],
}


@pytest.mark.parametrize("options", NUMBERS.values(), ids=list(NUMBERS))
def test_numbers_are_exported(phantom_cohort: Path, tmp_path: Path, options: list[str]) -> None:
    train(tmp_path, phantom_cohort, *options)
    assert bundle.main(call(tmp_path, "--input", "global", "--out", str(tmp_path / "b"), "--exports", "torch")) == 0
    made = read_bundle(tmp_path / "b")
    cohort = read_cohort(phantom_cohort, made.target, images=made.images)
    prepared = open_scans(made, cohort.scans, tmp_path / "store")
    boxes = np.stack([crop_to_box(prepared.image(row), made.box) for row in range(3)]).astype(np.float32)
    ours, folds = torch.export.load(tmp_path / "b" / "exports" / "model.pt2").module()(torch.from_numpy(boxes))
    raw = run_models(made, prepared, cohort.scans, "cpu")[:3]
    np.testing.assert_allclose(folds.numpy(), raw, rtol=1e-6)
    np.testing.assert_allclose(ours.numpy(), raw.mean(axis=1), rtol=1e-6)


def test_networks_that_are_given_covariates_are_not_exported(phantom_cohort: Path, tmp_path: Path) -> None:
    train(tmp_path, phantom_cohort, "--network.init_args.covariates", "age")
    with pytest.raises(BundleError, match="exports take an image alone, global's networks are given age; leave out --exports"):
        bundle.main(call(tmp_path, "--input", "global", "--out", str(tmp_path / "b"), "--exports", "onnx"))
    assert not (tmp_path / "b").exists()


def refuse(content: bytes, tmp_path: Path) -> None:
    """Weights that are what the bundle says they are by their hash, and no tensors."""
    path = tmp_path / "fold-0.safetensors"
    path.write_bytes(content)
    model = FoldModel(0, path, hashlib.sha256(content).hexdigest(), 1.0, 0.5, 0.5, 0.3, math.nan, ())
    with pytest.raises(BundleError, match=r"fold-0\.safetensors is damaged \("):
        model.tensors()


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}},
        {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "ab"},
        {"a": {"dtype": "pickle", "shape": [2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": 5},
        [],
    ],
)  # fmt: skip
def test_a_header_that_does_not_describe_its_file_is_refused(header: Any, tmp_path: Path) -> None:
    text = json.dumps(header).encode()
    refuse(len(text).to_bytes(8, "little") + text + bytes(8), tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\xff" * 8 + b"{}", (3).to_bytes(8, "little") + b"{]}"])
def test_bytes_that_are_no_header_are_refused(content: bytes, tmp_path: Path) -> None:
    refuse(content, tmp_path)
