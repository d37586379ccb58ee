"""The six regions, names, and a user's own regions."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import regions
from regions.catalog import REGIONS, Region, UnknownRegionError, get_region
from regions.dialects import STRUCTURES
from regions.errors import did_you_mean, nearest
from regions.own import RegionFileError, load_regions


def test_the_six_regions_stand_in_their_fixed_order() -> None:
    assert list(REGIONS) == [
        "global",
        "white_matter",
        "gray_matter",
        "subcortical_gray_matter",
        "ventricles",
        "brainstem",
    ]
    assert all(name == region.name for name, region in REGIONS.items())


def test_every_label_of_a_region_has_a_name() -> None:
    assert {label for region in REGIONS.values() for label in region.labels} <= set(STRUCTURES)


def test_only_gray_and_subcortical_gray_matter_overlap() -> None:
    parts = [REGIONS[name] for name in ("white_matter", "gray_matter", "ventricles", "brainstem")]
    together = [label for part in parts for label in part.labels]
    assert len(together) == len(set(together))
    assert set(REGIONS["subcortical_gray_matter"].labels) < set(REGIONS["gray_matter"].labels)


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("white_matter", {2, 41, 77, 78, 79, 99, 100, 109, *range(251, 256)}, {7, 46, 28, 60}),
        ("gray_matter", {3, 42, 8, 47, 10, 49, 17, 53}, {28, 60, 2, 41, 24}),
        ("subcortical_gray_matter", {10, 49, 11, 50, 12, 51, 13, 52, 26, 58, 17, 53, 18, 54}, {28, 60, 3, 42}),
        ("ventricles", {4, 43, 5, 44, 14, 15, 72, 31, 63}, {24}),
        ("brainstem", {16, 173, 174, 175, 178, 170, 171}, {28, 60, 7, 46}),
    ],
)
def test_the_choices_that_the_documentation_names(name: str, inside: set[int], outside: set[int]) -> None:
    labels = set(REGIONS[name].labels)
    assert inside <= labels
    assert not outside & labels


def test_select_takes_the_labels_and_global_takes_all_but_background() -> None:
    labels = np.array([[0, 2, 3], [24, 255, 77]], np.uint8)
    assert REGIONS["white_matter"].select(labels).tolist() == [[False, True, False], [False, True, True]]
    assert REGIONS["global"].select(labels).tolist() == [[False, True, True], [True, True, True]]


@pytest.mark.parametrize(
    ("wrong", "meant"), [("grey_matter", "gray_matter"), ("White-Matter", "white_matter"), ("brain stem", "brainstem")]
)
def test_an_unknown_name_is_answered_with_the_nearest_and_all_names(wrong: str, meant: str) -> None:
    with pytest.raises(UnknownRegionError, match=rf"no region '{wrong}' \(did you mean '{meant}'\?\)") as caught:
        get_region(wrong)
    assert all(name in str(caught.value) for name in REGIONS)


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("edss", ("EDSS", "edss_date"), "EDSS"),
        ("T1-W", ("t1_w", "flair"), "t1_w"),
        ("Sex", ("age", "sex"), "sex"),
        ("zzz", ("age", "sex"), ""),
        ("age", (), ""),
    ],
)
def test_the_nearest_name(name: str, known: tuple[str, ...], found: str) -> None:
    assert nearest(name, known) == found
    assert did_you_mean(name, known) == (f" (did you mean {found!r}?)" if found else "")


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(UnknownRegionError) as caught:
        get_region("xyz")
    assert "did you mean" not in str(caught.value)


def test_a_region_refuses_a_name_that_cannot_name_a_folder() -> None:
    with pytest.raises(ValueError, match=r"'../up' does not"):
        Region("../up", (1,), "", "")


def test_a_region_refuses_labels_that_are_no_ids() -> None:
    with pytest.raises(ValueError, match=r"from 1 to 255, not \[1001\]"):
        Region("part", (3, 1001), "", "")


def test_regions_with_equal_labels_are_equal_and_hash_alike() -> None:
    assert hash(Region("a", (3, 2, 3), "", "")) == hash(Region("a", (2, 3), "", ""))


OWN = """
cortical:
  labels: [3, 42]
  description: cerebral cortex only
all_cortex:
  of: [cortical, gray_matter]
  without: [subcortical_gray_matter, 187]
"""


def test_own_regions_are_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "regions.yaml"
    path.write_text(OWN)
    own = load_regions(path)
    assert own["cortical"] == Region("cortical", (3, 42), "cerebral cortex only", "regions.yaml")
    assert own["all_cortex"].labels == (3, 8, 42, 47, 188)
    assert get_region("cortical", own) is own["cortical"]
    assert get_region("brainstem", own) is REGIONS["brainstem"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no regions"),
        ("- 3\n", "has no regions"),
        ("a: [3\n", r"regions.yaml: not YAML in line 2: "),
        ("brainstem:\n  labels: [16]\n", "name is taken"),
        ("a: 3\n", "a name with keys below it"),
        ("a:\n  label: [3]\n", "unknown key 'label'; keys are labels, of"),
        ("a:\n  description: x\n", "either 'labels' or 'of'"),
        ("a:\n  labels: [3]\n  of: [brainstem]\n", "either 'labels' or 'of'"),
        ("a:\n  labels: 3\n", r"expected a list such as \[3, 42\], found 3"),
        ("a:\n  of: [brain_stem]\n", r"no region 'brain_stem' \(did you mean 'brainstem'\?\)"),
        ("a:\n  of: [global]\n", "'global' is the whole brain"),
        ("a:\n  labels: [16]\n  without: [brainstem]\n", "no label is left"),
        ("a:\n  labels: [10, 1]\n", "label 1 stands for nothing in the scheme, which has FreeSurfer's numbers"),
        ("a:\n  labels: [1001]\n", r"from 1 to 255, not \[1001\]"),
        ("a:\n  labels: [[3, 42]]\n", r"\[3, 42\] is neither"),
        ("A b:\n  labels: [3]\n", "'A b' does not"),
    ],
)
def test_a_mistake_in_yaml_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "regions.yaml"
    path.write_text(text)
    with pytest.raises(RegionFileError, match=message):
        load_regions(path)


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_regions(tmp_path / "none.yaml")


def test_the_package_exports_what_it_says() -> None:
    assert all(getattr(regions, name) is not None for name in regions.__all__)
    with pytest.raises(AttributeError, match="no attribute 'KeepRegions'"):
        regions.KeepRegions  # noqa: B018 the lookup is the test


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, regions, regions.atlas, regions.labels, regions.measure; print(*sys.modules)"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert not loaded & {"torch", "torchio", "nibabel", "scipy", "nilearn"}
