"""What a region holds of a patient: measured on phantoms whose ventricles alone differ, shown, and named as an explanation."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from made_report import write_reportable
from made_study import Made, write_study
from sklearn.mixture import GaussianMixture

from datamodules.files.sealed import write_sealed
from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort
from datamodules.quality.tissue import CSF, LEAST_VARIANCE, labelled_tissues, mixture, tissue_shares
from experiments.__main__ import main
from experiments.analysis.baseline_files import TISSUE, baseline_folder, reader_name
from experiments.analysis.compare import compare
from experiments.analysis.tissue import by_class, measured_tissue, read_tissue, tissue_facts, tissue_lines, told_columns
from experiments.reporting.data_chapter import data
from experiments.reporting.sources import read_sources
from experiments.study.record import Mask
from experiments.study.run_folder import RunFolder
from experiments.study.study import Study
from regions.atlas import template_on
from regions.catalog import REGIONS, get_region
from regions.grid import Grid
from regions.measure import region_volumes

SUBCORTICAL = (10, 11, 12, 13, 17, 18, 26, 49, 50, 51, 52, 53, 54, 58)
FLUID = (4, 5, 14, 15, 24, 31, 43, 44, 63, 72)


@pytest.fixture(scope="module")
def enlarged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """42 patients at 4 mm; the ventricles of the positive ones are larger, and nothing else differs."""
    folder = tmp_path_factory.mktemp("enlarged") / "cohort"
    return write_phantom_cohort(folder, PhantomOptions("enlarged_ventricles", 42, 42, 4.0, seed=3))


@pytest.fixture(scope="module")
def unlabelled(enlarged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same cohort without label maps."""
    copied = Path(shutil.copytree(enlarged, tmp_path_factory.mktemp("unlabelled") / "cohort"))
    for path in copied.rglob("*_dseg.nii.gz"):
        path.unlink()
    return copied


@pytest.fixture(scope="module")
def truth(enlarged: Path) -> tuple[float, float]:
    """Median percent of the template's subcortical gray matter that is a patient's fluid, and that is other brain."""
    shares = []
    for path in enlarged.rglob("*_dseg.nii.gz"):
        image = nib.load(path)
        labels = np.asarray(image.dataobj)
        seen = labels[np.isin(template_on(Grid.of(labels.shape, image.affine)), SUBCORTICAL)]
        other = (seen > 0) & ~np.isin(seen, (*FLUID, *SUBCORTICAL))
        shares.append((100 * np.isin(seen, FLUID).mean(), 100 * other.mean()))
    fluid, other = np.median(shares, axis=0)
    return float(fluid), float(other)


@pytest.fixture
def run(
    tmp_path: Path, store_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Run a command of the study ``s`` in a wide terminal; returns what it printed."""
    monkeypatch.setenv("COLUMNS", "200")

    def command(word: str, *words: str) -> str:
        store = [] if word == "compare" else ["--preset", "demo", "--store", str(store_folder)]
        status = main([word, "--studies", str(tmp_path / "studies"), "--study", "s", *store, *words])
        out = capsys.readouterr()
        assert status == 0, out.out + out.err
        return out.out

    return command


def printed(text: str, column: int) -> float:
    """Median of a column of ``what the inputs hold``, in the row of subcortical gray matter."""
    row = re.search(r"subcortical_gray_matter +(.*)", text.partition("what the inputs hold")[2])
    assert row, text
    return [float(number) for number in re.findall(r"([\d.]+) \(\d+ to \d+\)", row[1])][column]


def test_what_is_printed_is_the_truth(enlarged: Path, truth: tuple[float, float], run: Callable[..., str]) -> None:
    text = run("check", "--cohort", str(enlarged))
    assert "from label maps" in text
    assert [printed(text, column) for column in (0, 1)] == pytest.approx(truth, abs=0.06)
    assert truth[0] > 4


def test_without_label_maps_it_is_estimated_within_two_points(
    unlabelled: Path, truth: tuple[float, float], run: Callable[..., str]
) -> None:
    text = run("check", "--cohort", str(unlabelled))
    assert "from intensities" in text
    assert printed(text, 0) == pytest.approx(truth[0], abs=2)
    assert re.search(r"subcortical_gray_matter +[\d.]+ \(\d+ to \d+\) +unknown", text)


def test_the_classes_differ_and_the_control_names_the_region(enlarged: Path, run: Callable[..., str], tmp_path: Path) -> None:
    """The voxels' reader stands in for the networks: it is trained on nothing but enlarged ventricles."""
    assert "tissue_share: linear reader" in run("baselines", "--cohort", str(enlarged), "--encoders", "")
    folder = tmp_path / "studies" / "s"
    facts = {row["input"]: row for row in read_tissue(folder)["inputs"]}["subcortical_gray_matter"]
    assert facts["telling"] == "csf"
    assert facts["shares"]["csf"]["auc"]["low"] > 0.6
    assert facts["shares"]["csf"]["positive"] > 2 * facts["shares"]["csf"]["negative"]
    for name in ("global", "subcortical_gray_matter"):
        for fold in range(7):
            reader = RunFolder(baseline_folder(folder, reader_name("voxels", name), fold))
            network = RunFolder(Path(shutil.copytree(reader.path, folder / name / f"fold-{fold}" / "seed-0")))
            facts = reader.facts()
            network.write_complete({**facts, "fingerprint": {**facts["fingerprint"], "config": "c"}})
    told = run("compare", "--inputs", "global,subcortical_gray_matter", "--draws", "400", "--tracking.mode", "disabled")
    assert "region subcortical_gray_matter: the result may be the size of the neighbouring ventricles and sulci: its " in told
    assert re.search(
        r"tissue share alone reaches AUC 0\.\d\d \[.*the network is not shown to be better; a median [\d.]+ %", told
    )
    assert told.count("; make core shows the region without its neighbours") == 1
    assert "region global" not in told


def test_subject_masks_show_the_size_in_the_median_patient(enlarged: Path, run: Callable[..., str]) -> None:
    sizes = [np.isin(nib.load(path).dataobj, REGIONS["brainstem"].labels).sum() for path in enlarged.rglob("*_dseg.nii.gz")]
    told = run("check", "--cohort", str(enlarged), "--data.mask_mode", "subject").partition("inputs, 4 x 4 x 4 mm")[2]
    shown = re.search(r"brainstem +\d+ x \d+ x \d+ +([\d.]+)", told)
    assert shown
    assert float(shown[1]) == pytest.approx(np.median(sizes) * 0.064, abs=0.06)
    assert printed("what the inputs hold" + told.partition("what the inputs hold")[2], 0) == 0


def test_shares_are_counted_as_they_are_defined() -> None:
    patient = np.array([10, 10, 4, 24, 2, 3, 0, 31, 77, 49], np.uint8)
    assert tissue_shares(patient, get_region("subcortical_gray_matter"), False) == pytest.approx((0.3, 0.3, 0.1))
    assert tissue_shares(patient, get_region("ventricles"), False) == pytest.approx((0.3, 0.6, 0.1))
    assert tissue_shares(patient, get_region("white_matter"), False) == pytest.approx((0.3, 0.4, 0.1))
    assert tissue_shares(patient, get_region("global"), False) == pytest.approx((0.3, 0.0, 0.1))
    fluid = np.array([CSF, 1, 1, 0], np.uint8)
    assert tissue_shares(fluid, get_region("ventricles"), True) == pytest.approx((0.25, 0.5, 0.25))
    assert tissue_shares(fluid, get_region("brainstem"), True) == pytest.approx((0.25, np.nan, 0.25), nan_ok=True)
    assert all(np.isnan(tissue_shares(fluid[:0], get_region("brainstem"), False)))


def test_a_map_of_lesions_says_nothing_of_tissues() -> None:
    image = np.ones((2, 4, 4, 4), np.float16)
    image[:, 0] = 0
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[:2, 1] = 77
    assert labelled_tissues(labels, image) is None
    labels[:] = 2
    found = labelled_tissues(labels, image)
    assert found is not None
    np.testing.assert_array_equal(found, np.where(image[0] != 0, 2, 0))


def test_the_mixture_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    means = np.array([[-2.0, -2.5], [0.0, 0.8], [1.0, 0.1]])
    values = rng.normal(size=(6000, 2)) @ np.array([[0.4, 0.1], [0.0, 0.3]]) + means[rng.choice(3, 6000, p=[0.2, 0.45, 0.35])]
    start = means + 0.3
    slopes, offsets = mixture(values, start)
    model = GaussianMixture(3, covariance_type="tied", means_init=start, reg_covar=LEAST_VARIANCE, tol=1e-9, max_iter=2000)
    expected = model.fit(values).predict(values)
    assert ((values @ slopes.T + offsets).argmax(axis=1) == expected).mean() > 0.999


def test_what_was_measured_is_kept_until_masks_change(labelled: Study, tmp_path: Path) -> None:
    calls: list[int] = []
    regions = {name: REGIONS[name] for name in ("global", "ventricles")}

    def measure(mask: Mask) -> np.ndarray:
        scans, prepared = labelled.cohort.scans, labelled.prepared
        tissue = measured_tissue(scans, prepared, (regions, mask), tmp_path, 2, lambda done, total: calls.append(done))
        return np.stack(list(tissue.inputs.values()))

    first = measure(Mask())
    np.testing.assert_array_equal(measure(Mask()), first)
    assert len(calls) == len(labelled.cohort.scans)
    assert not np.array_equal(measure(Mask.of("template-dilated", 6.0)), first)
    assert len(calls) == 2 * len(labelled.cohort.scans)


NETWORK, ALONE = "subcortical_gray_matter", reader_name(TISSUE, "subcortical_gray_matter")
CASES = {
    "both alike": ({NETWORK: 3.0, ALONE: 3.0}, True),
    "the network is better": ({NETWORK: 9.0, ALONE: 1.5}, False),
    "the tissue share is at chance": ({NETWORK: 2.0, ALONE: 0.0}, False),
    "the network is at chance": ({NETWORK: 0.0, ALONE: 3.0}, False),
}
"""What differs between the classes in SDs of each score, and whether the region is named."""


def made_tissue(folder: Path) -> None:
    share = {"median": 0.1, "low": 0.0, "high": 0.4, "negative": 0.08, "positive": 0.22}
    share |= {"auc": {"value": 0.9, "low": 0.8, "high": 0.95}}
    rows = [
        {"input": name, "shares": dict.fromkeys(("csf", "other", "outside"), share), "telling": "csf", "size": size, "ml": 60.0}
        for name, size in (("global", None), (NETWORK, "the size of the neighbouring ventricles and sulci"))
    ]
    write_sealed(folder / "tissue.json", {"source": "label maps", "inputs": rows})


@pytest.mark.parametrize("case", CASES)
def test_a_result_is_called_a_size_by_rule(case: str, tmp_path: Path) -> None:
    skill, is_named = CASES[case]
    folder, inputs = tmp_path / "study", ("global", NETWORK)
    readers = [reader_name(TISSUE, name) for name in inputs]
    write_study(folder, Made(patients=126, scans=126, inputs=inputs, baselines=readers, skill=skill))
    made_tissue(folder)
    notes = [note for note in compare(folder, inputs, draws=400).notes if note.startswith("region ")]
    assert len(notes) == is_named, notes
    assert all("22.0 % of it is CSF in positive, 8.0 % in negative scans" in note for note in notes)


def test_the_report_shows_what_the_inputs_hold(tmp_path: Path) -> None:
    folder = write_reportable(tmp_path / "studies" / "study", Made(inputs=("global", NETWORK)))

    def chapter() -> str:
        return "".join(block for block in data(read_sources(folder)).blocks if isinstance(block, str))

    assert "How much of each region is fluid, other tissue or outside is missing." in chapter()
    made_tissue(folder)
    assert "10.0 (0 to 40); AUC 0.90 [0.80, 0.95]" in chapter()
    assert "Shares of the voxels, from label maps" in chapter()


def test_a_share_that_no_scan_has_is_unknown_and_one_class_has_no_auc(labelled: Study, tmp_path: Path) -> None:
    regions = {"ventricles": REGIONS["ventricles"]}
    positive = [scan for scan in labelled.cohort.scans if scan.label]
    tissue = measured_tissue(labelled.cohort.scans, labelled.prepared, (regions, Mask()), tmp_path, 1)
    rows = np.array([scan.label for scan in labelled.cohort.scans]) == 1
    tissue.inputs["ventricles"][:, 1] = np.nan
    facts = tissue_facts(replace(tissue, inputs={"ventricles": tissue.inputs["ventricles"][rows]}), positive, regions)
    assert "other" not in facts["inputs"][0]["shares"]
    fluid = facts["inputs"][0]["shares"]["csf"]
    assert (fluid["auc"]["value"], fluid["negative"]) == (None, None)
    assert tissue_lines(facts)[0][2] == "unknown"


def test_under_subject_masks_the_size_itself_is_read(labelled: Study, tmp_path: Path) -> None:
    regions = {name: REGIONS[name] for name in ("global", "ventricles")}
    scans, prepared = labelled.cohort.scans, labelled.prepared
    tissue = measured_tissue(scans, prepared, (regions, Mask.of("subject", 0)), tmp_path, 1)
    columns = told_columns(tissue, "ventricles")
    part, voxel = [REGIONS["ventricles"]], prepared.grid.voxel_mm3
    volumes = [region_volumes(np.asarray(prepared.labels(row)), voxel, part)["ventricles"].ml for row in range(len(scans))]
    np.testing.assert_allclose(columns["ml"], volumes, rtol=1e-5)
    assert "ml" not in told_columns(tissue, "global")
    larger = replace(tissue, inputs={"ventricles": tissue.inputs["ventricles"].copy()})
    larger.inputs["ventricles"][:, -1] = [10 + 5 * scan.label for scan in scans]
    row = tissue_facts(larger, scans, regions)["inputs"][0]
    assert row["size"] == "the size of the structure itself, which its mask shows"
    assert by_class(row) == "it has a median 15.0 ml in positive, 10.0 ml in negative scans"
