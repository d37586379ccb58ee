"""The example of docs/data.md runs; docs/cohort.md names every column that is read, and its table of ids is one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import matplotlib as mpl
import nibabel as nib
import numpy as np
import pytest

from datamodules.cohort.covariates import COLUMNS
from datamodules.cohort.table import PATH_COLUMNS, TABLE_COLUMNS
from datamodules.store.boxes import crop_to_box
from experiments.study.study import Study
from regions.atlas import region_mask
from regions.catalog import REGIONS
from regions.labels import DIALECTS, read_table

PAGE = Path(__file__).parents[1] / "docs" / "data.md"


@pytest.mark.filterwarnings("ignore::UserWarning:torchio.*", "ignore::DeprecationWarning")
def test_the_example_runs(
    study: Study, phantom_cohort: Path, store_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "cohorts").mkdir()
    shutil.copytree(phantom_cohort, tmp_path / "cohorts" / "demo")
    (tmp_path / "store").symlink_to(store_folder)
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    names: dict[str, object] = {}
    exec(compile(code, PAGE, "exec"), names)
    assert (tmp_path / "subject.png").stat().st_size > 1000
    saved = nib.load(tmp_path / "brainstem.nii.gz")
    grid = study.prepared.grid
    assert np.allclose(saved.affine, grid.matrix)
    inside = region_mask(REGIONS["brainstem"], grid)
    values = saved.get_fdata()
    assert not values[~inside].any()
    row = names["subject"]["row"]  # type: ignore[index]
    box = names["data"].box  # type: ignore[attr-defined]
    shown = np.where(inside, np.asarray(study.prepared.image(row)[0], dtype=np.float32), 0)
    assert np.array_equal(crop_to_box(values.astype(np.float32), box), crop_to_box(shown, box))
    assert (values != 0).sum() > 100


TABLES = (Path(__file__).parents[1] / "docs" / "cohort.md").read_text(encoding="utf-8")


def test_the_page_of_tables_names_every_column() -> None:
    named = set(re.findall(r"`([A-Za-z0-9_]+)`", TABLES))
    aliases = {name for names in COLUMNS.values() for name in names}
    assert {*TABLE_COLUMNS, *PATH_COLUMNS, "edss_source", "days_since_relapse"} <= named
    assert {"participant_id", "session_id", "acq_time", "edss_date", "days_since_scan", "filename", "relapse_date"} <= named
    assert aliases <= {name.lower() for name in named}
    assert set(DIALECTS) <= set(re.findall(r"[a-z-]+", TABLES))


def test_the_table_of_ids_on_the_page_is_read(tmp_path: Path) -> None:
    (text,) = re.findall(r"```\n(index.*?)```", TABLES, re.DOTALL)
    (tmp_path / "own.tsv").write_text(text)
    assert read_table(tmp_path / "own.tsv") == {0: 0, 1: 77, 2: 10, 3: 4}
