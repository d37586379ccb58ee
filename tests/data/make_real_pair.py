"""Make tests/data/real_pair from the full scans: ``python tests/data/make_real_pair.py FOLDER`` (FOLDER holds raw/ and mni/).

Voxels are averaged in blocks, so nothing is interpolated: 4 x 4 x 1 in the raw scans, 3 x 3 x 3 in those in MNI152 space.
Headers are new: they hold the geometry alone.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

HERE = Path(__file__).parent / "real_pair"
RAW = ("raw/sub-01/ses-1/anat/sub-01_ses-1_{}.nii.gz", (4, 4, 1))
MNI = ("mni/sub-07/anat/sub-07_space-MNI152_desc-brain_{}.nii.gz", (3, 3, 3))
GRAYS = 400
"""Gray levels that are kept."""


def coarse(source: Path, target: Path, block: tuple[int, int, int]) -> None:
    """Average blocks of voxels, keep whole gray levels, write int16 with a new header."""
    image = nib.load(source)
    values = np.asarray(image.dataobj, dtype=np.float64)
    sides = [side // step for side, step in zip(values.shape, block, strict=True)]
    cut = values[tuple(slice(0, side * step) for side, step in zip(sides, block, strict=True))]
    shape = [length for pair in zip(sides, block, strict=True) for length in pair]
    means = cut.reshape(shape).mean(axis=(1, 3, 5))
    levels = np.rint(means * GRAYS / np.percentile(means, 99.9)).clip(0, 2 * GRAYS).astype(np.int16)
    affine = image.affine @ np.diag([*block, 1.0])
    affine[:3, 3] = (image.affine @ [*((np.array(block) - 1) / 2), 1.0])[:3]
    made = nib.Nifti1Image(levels, affine)
    code = 4 if "MNI152" in source.name else 1
    made.set_sform(affine, code)
    made.set_qform(affine, code)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(made.to_bytes(), 9, mtime=0))


def main() -> None:
    """Write both pairs, and what makes the raw one a BIDS dataset."""
    folder = Path(sys.argv[1])
    for name, block in (RAW, MNI):
        for suffix in ("T1w", "FLAIR"):
            coarse(folder / name.format(suffix), HERE / name.format(suffix), block)
    description = {"Name": "One real session at 3 mm", "BIDSVersion": "1.9.0", "License": "CC-BY"}
    (HERE / "raw" / "dataset_description.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    (HERE / "raw" / "participants.tsv").write_text("participant_id\nsub-01\n", encoding="utf-8")


if __name__ == "__main__":
    main()
