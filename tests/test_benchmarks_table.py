"""Tables, files and the picture of the benchmark; and that it can see a process's memory and a run's first step."""

import ast
import mmap
from pathlib import Path
from typing import Any

import pytest

from benchmarks import figure, table
from benchmarks.epochs import INPUTS, OURS
from benchmarks.hardware import seen, sentence


def rows(ratio: float = 104.2) -> list[dict[str, Any]]:
    return [
        {
            "input": name, "contender": contender, "workers": 0,
            "seconds_a_scan": value, "low": 0.9 * value, "high": 1.2 * value,
            "ratio": value, "ratio_low": 0.9 * value, "ratio_high": 1.2 * value, "waiting": 0.01, "preparing": 0.02,
        }
        for name in INPUTS
        for contender, value in ((OURS, 1.0), ("torchio", ratio))
    ]  # fmt: skip


def test_what_is_kept_is_read_back_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results")
    table.publish("epochs", "A title", rows(), ["a note"], options={"scans": 8})
    kept, facts = table.read("epochs")
    assert kept[1] == {name: f"{value:.5g}" if isinstance(value, float) else str(value) for name, value in rows()[1].items()}
    assert facts["title"] == "A title"
    assert facts["options"] == {"scans": 8}
    figure.draw(kept, facts, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes()[:4] == b"\x89PNG"
    assert "| `global` | 1.000 | 104x (94 to 125) |" in figure.markdown(kept)
    lines = capsys.readouterr().out.splitlines()
    widths = {len(line) for line in lines if line.strip().startswith(INPUTS)}
    assert len(widths) == 1


def test_what_was_not_kept_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    with pytest.raises(table.BenchError, match="python -m benchmarks epochs"):
        table.read("epochs")


def test_hardware_and_versions_are_named() -> None:
    facts = seen()
    assert facts["cores"] >= 1
    assert facts["versions"]["torch"]
    assert facts["versions"]["torch"] in sentence(facts)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc")
def test_own_memory_grows_by_what_is_taken() -> None:
    from benchmarks.tenant import resident, rollup

    before, own = resident()["own_mb"], rollup()["own_mb"]
    with mmap.mmap(-1, 64_000_000, flags=mmap.MAP_PRIVATE) as taken:  # never out of memory that the process has kept
        for _ in range(64):
            taken.write(b"x" * 1_000_000)
        assert resident()["own_mb"] - before == pytest.approx(64, abs=8)
        assert rollup()["own_mb"] - own == pytest.approx(64, abs=8)


def test_the_first_step_is_noted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    path = Path(figure.__file__).with_name("first_step") / "sitecustomize.py"
    spec = importlib.util.spec_from_file_location("first_step_hook", path)
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)

    class Module:
        def training_step(self, value: int) -> int:
            return value + 1

    note = tmp_path / "note"
    monkeypatch.setenv("REGIONWISE_FIRST_STEP", str(note))
    hook.wrap(Module)
    assert Module().training_step(1) == 2
    first = note.read_text()
    assert Module().training_step(2) == 3
    assert note.read_text() == first
    watched = hook.WATCHED.replace(".", "/") + ".py"
    tree = ast.parse((Path(figure.__file__).parents[1] / watched).read_text())
    assert any(isinstance(node, ast.FunctionDef) and node.name == "training_step" for node in ast.walk(tree))
