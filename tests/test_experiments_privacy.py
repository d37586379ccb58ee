"""Pseudonyms, their key, and which settings may be tracked."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from experiments.tracking.privacy import PrivacyError, load_or_make_key, plain_config, pseudonym

KEY = bytes(range(32))


def test_pseudonym_is_keyed_and_stable():
    assert pseudonym("sub-0001", KEY) == "7e8fc143d7"  # openssl dgst -sha256 -mac HMAC
    assert pseudonym("sub-0001", KEY[::-1]) != pseudonym("sub-0001", KEY)
    assert len({pseudonym(f"sub-{number:04d}", KEY) for number in range(500)}) == 500


def test_pseudonym_refuses_a_short_key():
    with pytest.raises(PrivacyError, match="3 bytes"):
        pseudonym("sub-0001", b"abc")


def test_key_is_made_once_and_private(tmp_path):
    path = tmp_path / "study" / "pseudonyms.key"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: load_or_make_key(path), range(16)))
    assert keys == {load_or_make_key(path)}
    assert len(keys.pop()) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["pseudonyms.key"]


def test_damaged_key_is_refused(tmp_path):
    path = tmp_path / "pseudonyms.key"
    path.write_text("half a key")
    with pytest.raises(PrivacyError, match=r"pseudonyms\.key"):
        load_or_make_key(path)


def test_config_loses_paths_and_keeps_values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cohorts" / "doe").mkdir(parents=True)
    kept = {"lr": 1e-3, "seed": 0, "name": "a/b", "network": "lightning_modules.networks.Residual", "none": None}
    paths = {"a": "/data/doe", "b": "~/doe", "c": "../doe", "d": Path("doe"), "e": "C:\\doe", "f": "cohorts/doe",
             "g": "file:///doe"}  # fmt: skip
    assert plain_config({**kept, **paths}) == kept
    assert plain_config({"data": {**kept, **paths}, "list": [1, "/data/doe", "x"]}) == {"data": kept, "list": [1, "x"]}


@pytest.mark.parametrize(
    "config",
    [
        {"scan": "sub-0001"},
        {"data": {"exclude": ["x", "see sub-XY07"]}},
        {"sub-0001": 1},
        {"note": "without P017"},
        {"weights": {"P017": 2.0}},
    ],
)
def test_config_refuses_patient_ids(config):
    with pytest.raises(PrivacyError, match="patient id"):
        plain_config(config, patients=["P017"])


def test_patients_who_were_counted_stop_no_training():
    config = {"study": "mine_4.0", "trainer": {"precision": "16-mixed"}, "label": {"positive": ["1"]}}
    assert plain_config(config, patients=[str(number) for number in range(1, 400)]) == config


@pytest.mark.parametrize("patient", ["0016", "1016", "P16"])
def test_other_ids_are_told_with_what_holds_them(patient):
    with pytest.raises(
        PrivacyError, match=rf"value 'study' \(mine_{patient}\) would send a patient id.*--tracking.mode disabled"
    ):
        plain_config({"study": f"mine_{patient}"}, patients=[patient])


def test_config_refuses_what_is_not_plain():
    with pytest.raises(TypeError, match=r"'data\.volume' is a ndarray"):
        plain_config({"data": {"volume": np.zeros(3)}})
