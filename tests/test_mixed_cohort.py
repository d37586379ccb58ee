"""Scans from two places, on two grids of one lattice, make one cohort that trains like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from datamodules.cohort.read import read_cohort
from datamodules.cohort.records import Scan
from datamodules.cohort.target import Target
from datamodules.intake.adopt import combine
from datamodules.store.prepare import study_grid
from datamodules.store.sources import sources_of
from datamodules.store.store import BrokenScansError, open_store
from experiments.__main__ import main
from experiments.study.run_folder import RunFolder, read_predictions

Write = Callable[..., Path]
REAL = Path(__file__).parents[2] / "shared" / "data" / "ljubljana_ms" / "mni"
TINY = ["--preset", "demo", "--trainer.max_epochs", "1", "--network.init_args.width", "2", "--network.init_args.stages", "3"]


def elsewhere(scan: Scan, folder: Path, write_nifti: Write, name: str) -> str:
    """A row of a cohort table: the scan's files two voxels longer at one end, one shorter at another, stored as LAS."""
    paths = []
    for kind, path in sources_of(scan).items():
        image: Any = nib.load(path)
        array = np.asarray(image.dataobj)
        moved = np.pad(array, ((0, 0), (2, 0), (0, 0)))[:, :, :-1]
        affine = image.affine.copy()
        affine[1, 3] -= 2 * affine[1, 1]
        turned = affine @ np.diag([-1.0, 1, 1, 1])
        turned[:3, 3] = affine[:3, 3] + affine[:3, 0] * (array.shape[0] - 1)
        paths.append(str(write_nifti(folder / f"{name}_{kind}.nii.gz", np.ascontiguousarray(moved[::-1]), turned)))
    return "\t".join([name, *paths, f"{scan.value:g}", "3", "hospital"])


@pytest.fixture
def mixed(phantom_cohort: Path, external_cohort: Path, write_nifti: Write, tmp_path: Path) -> Path:
    """25 phantoms and four scans from elsewhere, combined."""
    others = read_cohort(external_cohort, Target()).scans[:4]
    rows = [elsewhere(scan, tmp_path / "hospital", write_nifti, f"real-{n}") for n, scan in enumerate(others)]
    header = "patient\tt1w\tflair\tmask\tlabels\tedss\tdays\tsite"
    (tmp_path / "hospital" / "cohort.tsv").write_text("\n".join([header, *rows]) + "\n")
    combine([phantom_cohort, tmp_path / "hospital"], tmp_path / "mixed", Target())
    return tmp_path / "mixed"


def test_grids_of_one_lattice_become_one(mixed: Path, external_cohort: Path, tmp_path: Path) -> None:
    scans = read_cohort(mixed, Target()).scans
    own, other = scans[0], scans[-1]
    assert nib.load(own.reference).shape != nib.load(other.reference).shape  # type: ignore[attr-defined]
    assert study_grid([own.reference]) == study_grid([other.reference]) == study_grid([scan.reference for scan in scans])
    store = open_store([own, other], tmp_path / "store")
    original = read_cohort(external_cohort, Target()).scans[0]
    np.testing.assert_array_equal(store.image(0), open_store([original], tmp_path / "store").image(0))


def test_other_lattice_is_refused_by_name(mixed: Path, write_nifti: Write, tmp_path: Path) -> None:
    scans = {scan.patient: scan for scan in read_cohort(mixed, Target()).scans}
    odd = scans["real-3"]
    for path in sources_of(odd).values():
        image: Any = nib.load(path)
        write_nifti(path, np.asarray(image.dataobj), shifted(image.affine))
    told = r"real-3: .*real-3_t1w.nii.gz lies 2.00 mm beside the voxels of the study's other"
    with pytest.raises(BrokenScansError, match=told):
        open_store([scans["sub-0001"], scans["real-0"], odd], tmp_path / "store")


def shifted(affine: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    moved = affine.copy()
    moved[0, 3] += 2
    return moved


def test_rounding_does_not_make_two_grids(make_scan: Callable[..., Any], write_nifti: Write, tmp_path: Path) -> None:
    made = make_scan(tmp_path)
    paths = []
    for n, nudge in enumerate((0.0, 0.04, -0.03, 0.02)):
        affine = made.affine.copy()
        affine[:3, 3] += nudge
        paths.append(write_nifti(tmp_path / f"{n}.nii.gz", made.arrays["t1w"], affine))
    odd = write_nifti(tmp_path / "odd.nii.gz", made.arrays["t1w"], made.affine @ np.diag([1, 1, 0.5, 1]))
    assert study_grid([odd, odd, odd, *paths]).spacing == (8.0, 8.0, 8.0)
    assert study_grid(paths) == study_grid(paths[:1])


def test_fold_trains_on_a_mixed_cohort(
    mixed: Path, store_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    places = ["--cohort", str(mixed), "--store", str(store_folder), "--studies", str(tmp_path / "studies"), "--study", "mixed"]
    assert main(["fold", "--roi", "ventricles", "--fold", "0", *TINY, *places]) == 0, capfd.readouterr().err
    run = tmp_path / "studies" / "mixed" / "ventricles" / "fold-0" / "seed-0"
    assert RunFolder(run).facts()["state"] == "complete"
    flow = json.loads((tmp_path / "studies" / "mixed" / "flow.json").read_text())
    assert (flow["used"]["scans"], flow["used"]["patients"]) == (29, 25)
    assert len(read_predictions(run / "predictions.tsv").of("internal_test").patient) > 0


@pytest.mark.long
@pytest.mark.skipif(not REAL.is_dir(), reason="the two real patients are not on this machine")
def test_fold_trains_on_real_scans_and_phantoms_at_one_millimetre(tmp_path: Path) -> None:
    from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort

    write_phantom_cohort(tmp_path / "phantoms", PhantomOptions(patients=8, scans=8, spacing_mm=1.0, seed=4), processes=2)
    lines = ["patient\tt1w\tflair\tedss\tdays\tage\tsex"]
    for patient, edss, age in (("real-07", "0.5", "53"), ("real-19", "1.0", "47")):
        stem = REAL / patient.replace("real", "sub") / "anat" / f"{patient.replace('real', 'sub')}_space-MNI152_desc-brain"
        lines.append(f"{patient}\t{stem}_T1w.nii.gz\t{stem}_FLAIR.nii.gz\t{edss}\t0\t{age}\tF")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "cohort.tsv").write_text("\n".join(lines) + "\n")
    combine([tmp_path / "phantoms", tmp_path / "real"], tmp_path / "mixed", Target())
    places = [
        "--cohort",
        str(tmp_path / "mixed"),
        "--store",
        str(tmp_path / "store"),
        "--studies",
        str(tmp_path),
        "--study",
        "s",
    ]
    assert main(["fold", "--roi", "brainstem", "--fold", "0", *TINY, "--data.batch_size", "2", "--folds", "3", *places]) == 0
    assert json.loads((tmp_path / "s" / "flow.json").read_text())["used"]["scans"] == 10
