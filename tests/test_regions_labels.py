"""Label maps of other programs become the one scheme."""

from pathlib import Path

import numpy as np
import pytest

from regions.catalog import REGIONS
from regions.dialects import DIALECTS, NEAREST_TISSUE, STRUCTURES
from regions.labels import OPEN, UNKNOWN, LabelError, read_table, to_scheme

LEFT_LOBULES = (601, 603, 605, 608, 611, 614, 617, 620, 623, 626)
RIGHT_LOBULES = (602, 604, 607, 610, 613, 616, 619, 622, 625, 628)
VERMIS = (606, 609, 612, 615, 618, 621, 624, 627, 630, 631, 632)
NEWER_ATLAS = {34: 2, 66: 41, 126: 16, 183: 8, 184: 47, 192: 253, 262: 0, 267: 16, 902: 0, 907: 0, 908: 0, 909: 0, 911: 0} | {
    914: 24, 915: 0, 916: 0, 930: 0, 11300: 3, 12300: 42
}  # fmt: skip


@pytest.mark.parametrize(
    ("dialect", "found", "wanted"),
    [
        ("freesurfer", [0, 2, 41, 16, 251, 255, 77, 175], [0, 2, 41, 16, 251, 255, 77, 175]),
        ("freesurfer", [1000, 1035, 2000, 2035], [3, 3, 42, 42]),
        ("freesurfer", [11100, 11175, 12100, 12175], [3, 3, 42, 42]),
        ("freesurfer", [3000, 3035, 4000, 4035, 5001, 5002], [2, 2, 41, 41, 2, 41]),
        ("freesurfer", [9, 48, 25, 57], [10, 49, 77, 77]),
        ("fastsurfer", [1002, 2035, 10, 63, 77], [3, 42, 10, 63, 77]),
        ("synthseg", [3, 42, 24, 1001, 2001], [3, 42, 24, 3, 42]),
        ("samseg", [99, 165, 258, 259, 85, 2], [77, 0, 0, 0, 85, 2]),
        ("fastsurfer", [192, 250, 251, 3000, 4035, 5001, 5002], [253, 2, 251, 2, 41, 2, 41]),
        ("fastsurfer", [7, 46, *LEFT_LOBULES, *RIGHT_LOBULES, *VERMIS], [7, 46, *[8] * 10, *[47] * 10, *[8] * 11]),
        ("fastsurfer", list(range(961, 969)), [0, 0, 60, 85, 85, 28, 85, 85]),
        ("fastsurfer", list(range(969, 977)), [2, 14, 41, 2, 0, 0, 0, 28]),
        ("fastsurfer", list(range(977, 985)), [28, 28, 28, 28, 60, 60, 60, 60]),
        ("freesurfer", list(range(801, 811)), [28] * 5 + [60] * 5),
        *[(name, list(NEWER_ATLAS), list(NEWER_ATLAS.values())) for name in ("freesurfer", "samseg")],
        ("bids-generic", list(range(12)), [0, 187, 186, 24, 0, 0, 0, 77, 188, 189, 16, 190]),
    ],
)
def test_ids_of_a_dialect(dialect: str, found: list[int], wanted: list[int]) -> None:
    result = to_scheme(np.array(found, np.int16), dialect)
    assert result.dtype == np.uint8
    assert result.tolist() == wanted


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_target_is_an_id_of_the_scheme(dialect: str) -> None:
    assert set(DIALECTS[dialect].values()) <= {0, NEAREST_TISSUE, *STRUCTURES}


@pytest.mark.parametrize(
    ("dialect", "unknown"), [("fastsurfer", 629), ("fastsurfer", 960), ("fastsurfer", 985), ("samseg", 601), ("synthseg", 192)]
)
def test_ids_of_other_programs_stay_unknown(dialect: str, unknown: int) -> None:
    with pytest.raises(LabelError, match=rf"does not know: {unknown} \(voxels: 1\)"):
        to_scheme(np.array([0, unknown]), dialect)


def test_lobules_are_gray_matter_and_the_hypothalamus_is_in_no_region() -> None:
    gray = REGIONS["gray_matter"].labels
    assert set(to_scheme(np.array([*LEFT_LOBULES, *RIGHT_LOBULES, *VERMIS]), "fastsurfer")) <= set(gray)
    of_parts = {label for name, region in REGIONS.items() if name != "global" for label in region.labels}
    assert not set(to_scheme(np.arange(977, 985), "fastsurfer").tolist()) & of_parts
    assert 253 in REGIONS["white_matter"].labels


def test_the_marks_of_a_lookup_are_no_labels() -> None:
    assert not {OPEN, UNKNOWN} & {0, *STRUCTURES}


def test_hypointensities_outside_white_matter_take_the_nearest_tissue() -> None:
    labels = np.zeros((7, 5, 3), int)
    labels[0] = 12
    labels[1] = 80
    labels[2] = 4
    labels[5] = 82
    labels[6] = 3
    result = to_scheme(labels, "freesurfer")
    assert set(result[1].flat) == {12}
    assert set(result[2].flat) == {4}
    assert set(result[5].flat) == {3}


def test_hypointensities_without_any_tissue_are_refused() -> None:
    with pytest.raises(LabelError, match="has no tissue label"):
        to_scheme(np.array([80, 0, 4]), "freesurfer")


def test_unknown_ids_are_listed_with_their_counts() -> None:
    with pytest.raises(LabelError, match=r"'synthseg' does not know: -3 \(voxels: 1\), 165 \(voxels: 2\), 99999 \(voxels: 1\)"):
        to_scheme(np.array([0, 165, 165, -3, 99999]), "synthseg")


def test_a_long_list_of_unknown_ids_is_cut() -> None:
    with pytest.raises(LabelError, match="and 12 more"):
        to_scheme(np.arange(500, 520), "freesurfer")


def test_whole_numbers_stored_as_float_are_fine() -> None:
    assert to_scheme(np.array([0.0, 1005.0, 16.0], np.float32), "freesurfer").tolist() == [0, 3, 16]


@pytest.mark.parametrize("odd", [2.5, np.nan])
def test_fractions_are_refused(odd: float) -> None:
    with pytest.raises(LabelError, match="whole numbers only, found"):
        to_scheme(np.array([2.0, odd]), "freesurfer")


def test_an_unknown_dialect_is_answered_with_the_nearest() -> None:
    with pytest.raises(LabelError, match=r"'FreeSurfer7' \(did you mean 'freesurfer'"):
        to_scheme(np.array([0]), "FreeSurfer7")


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "seg_dseg.tsv"
    path.write_text(
        "index\tname\tmapping\tfreesurfer\n"
        "1\tleft-hippocampus\tn/a\tn/a\n"
        "2\tsome lesion\t7\t\n"
        "500\tcortical ribbon\t8\t1005\n"
        "7\tBackground\t\t\n"
        "8.0\tmine\t1.0\t10.0\n"
    )
    assert read_table(path) == {0: 0, 1: 17, 2: 77, 500: 3, 7: 0, 8: 10}
    assert to_scheme(np.array([[0, 1], [500, 2]]), path).tolist() == [[0, 17], [3, 77]]
    assert to_scheme(np.array([7]), str(path)).tolist() == [0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs a tab-separated header"),
        ("id\tname\n1\tx\n", "needs a tab-separated header"),
        ("index\tname\n1\tblob\n", "line 2: index '1', name 'blob' has no clear meaning"),
        ("index\tname\n1\tPons\n1\tMedulla\n", "line 3: index '1', name 'Medulla'"),
        ("index\tname\none\tPons\n", "line 2: index 'one'"),
        ("index\tname\tmapping\n1\tPons\t12\n", "line 2: index '1', name 'Pons'"),
        ("index\tname\tfreesurfer\n1\tPons\t600\n", "line 2: index '1', name 'Pons'"),
        ("index\tname\tfreesurfer\n1\tPons\t10.5\n", "line 2: index '1', name 'Pons' has no clear meaning"),
        ("index\tname\tfreesurfer\n1\tPons\t\u00b2\n", "line 2: index '1', name 'Pons' has no clear meaning"),
    ],
)
def test_a_mistake_in_a_table_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x_dseg.tsv"
    path.write_text(text)
    with pytest.raises(LabelError, match=message):
        read_table(path)


def test_a_missing_table_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        to_scheme(np.array([1]), tmp_path / "none.tsv")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_order_in_memory_and_size_do_not_matter(dtype: type) -> None:
    ids = np.random.default_rng(0).choice([0, 2, 9, 17, 77, 80], (70, 50, 40)).astype(dtype)
    expected = to_scheme(ids, "freesurfer")
    assert 80 not in expected
    np.testing.assert_array_equal(expected[ids == 9], 10)
    for same in (
        np.asfortranarray(ids),
        np.ascontiguousarray(ids[::-1])[::-1],
        np.asfortranarray(ids.transpose(1, 0, 2)).transpose(1, 0, 2),
    ):
        np.testing.assert_array_equal(to_scheme(same, "freesurfer"), expected)


def test_last_voxel_of_a_large_map_is_looked_at() -> None:
    for last, told in ((249, r"249 \(voxels: 1\)"), (0.5, "whole numbers only, found 0.5"), (-1, r"-1 \(voxels: 1\)")):
        labels = np.zeros(200_001, np.float32)
        labels[-1] = last
        with pytest.raises(LabelError, match=told):
            to_scheme(labels, "freesurfer")
