"""Where a bundle lies that nobody put elsewhere: where ``predict`` looks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments.bundles import make
from experiments.commands import bundle
from experiments.predicting import networks


@pytest.mark.parametrize("seed", [0, 1])
def test_predict_looks_for_a_bundle_where_the_command_puts_it(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    put: list[Path] = []

    class StopError(Exception):
        pass

    def made(origin: Any, folder: Path, *more: Any) -> None:
        put.append(folder)
        raise StopError

    for module in (make, networks):
        monkeypatch.setattr(module, "read_origin", lambda *given: None)
        monkeypatch.setattr(module, "make_bundle", made)
    words = ["--study", "mine", "--studies", str(tmp_path), "--input", "global", "--seed", str(seed)]
    with pytest.raises(StopError):
        bundle.main(words)
    with pytest.raises(StopError):
        networks._of_input(tmp_path / "mine", "global", seed, Console(quiet=True))
    assert put == [tmp_path / "mine" / "bundles" / ("global", "global_seed-1")[seed]] * 2
