"""The GPU benchmark runs with torch, Lightning, torchmetrics, numpy and nibabel alone, and its roofline counts right."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import covered, main
from benchmarks.roofline import Roof, count
from benchmarks.table import BenchError

WITHOUT = """
import sys
import numpy, pytorch_lightning, torch, torchmetrics.classification
for name in ("jsonargparse", "monai", "nilearn", "rich", "scipy", "sklearn", "torchio", "wandb"):
    sys.modules[name] = None
from benchmarks.gpu import main
sys.exit(main(sys.argv[1:]))
"""


def test_it_runs_without_the_other_packages() -> None:
    options = ["--device", "cpu", "--scans", "7", "--epochs", "1", "--inputs", "brainstem", "--width", "1", "--batch", "2"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *options], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "brainstem" in done.stdout
    assert "a study: 1 inputs, 7 folds, 100 epochs" in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_gpu_it_says_what_to_do() -> None:
    with pytest.raises(BenchError, match=r"^no CUDA device here; --device cpu tries the measurement out$"):
        main([])


def test_busy_time_counts_overlapping_spans_once() -> None:
    assert covered([(5, 10), (0, 2), (1, 3)]) == 8
    assert covered([]) == 0


def test_arithmetic_and_traffic_of_a_matrix_product() -> None:
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    operations, traffic = count(lambda: a @ b)
    assert operations == 2 * 3 * 5 * 7
    assert traffic == 4 * (3 * 5 + 5 * 7 + 3 * 7)
    assert Roof(flops=100.0, bytes=10.0).seconds(50, 20) == 2.0
