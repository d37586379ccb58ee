"""Make the template label map again: `python regions/data/build_label_map.py`, about ten minutes on two cores.

What happens, in this order:

1. The MNI152NLin2009a T1 template at 1 mm is taken from the nilearn package (no network).
2. An environment of its own is made for SAMSEG with venv and pip, because SAMSEG needs numpy below 2.
3. SAMSEG segments the template. It is a generative model with a probabilistic atlas, needs no training data, and writes
   FreeSurfer ids.
4. Cleaning: skull, soft tissue and fluid of the eyes become background; the rare hypointensities outside white matter
   take the nearest tissue's label; of what remains, the largest part that hangs together by its faces is the brain.
   Fluid around the brain (24) stays, so that the outline is that of a skull-stripped brain.
5. The map is cropped to the brain with two voxels of margin and written as uint8, RAS+, in MNI152 millimetres. Volumes
   are printed as the table of `regions/data/README.md`.

Steps 2 and 3 are skipped with `--segmentation seg.mgz`.

References:
    Puonti, Iglesias, Van Leemput 2016, NeuroImage 143:235-249, doi 10.1016/j.neuroimage.2016.09.011 (SAMSEG).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from nibabel.funcs import as_closest_canonical
from numpy.typing import NDArray
from scipy.ndimage import label

from regions.atlas import TEMPLATE_PATH
from regions.catalog import REGIONS, Region
from regions.dialects import STRUCTURES
from regions.grid import extent
from regions.labels import to_scheme
from regions.measure import region_volumes

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

REQUIREMENTS = ("samseg==0.4a0", "numpy<2")
MARGIN = 2
MNI152 = 4  # NIfTI code of the space


def main() -> None:
    """Read the options, run the five steps, print the volumes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--segmentation", type=Path, help="a seg.mgz that SAMSEG wrote for the template")
    parser.add_argument("--work", type=Path, help="folder for the environment and SAMSEG's output; default: temporary")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=TEMPLATE_PATH)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        segmentation = options.segmentation or segment(template(work), environment(work), work, options.threads)
        image = label_image(segmentation)
    image.to_filename(options.output)
    print(f"{options.output}: {options.output.stat().st_size / 1000:.0f} kB, {image.shape}\n")
    print(volume_table(np.asarray(image.dataobj)))


def template(work: Path) -> Path:
    """Write the T1 template, brain only, (197, 233, 189) at 1 mm, into the working folder."""
    from nilearn.datasets import load_mni152_template

    path = work / "mni_t1.nii.gz"
    load_mni152_template(resolution=1).to_filename(path)
    return path


def environment(work: Path) -> Path:
    """Make an environment with SAMSEG and return its folder of programs."""
    venv.create(work / "samseg-env", with_pip=True)
    programs = work / "samseg-env" / "bin"
    subprocess.run([programs / "python", "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
    return programs


def segment(t1: Path, programs: Path, work: Path, threads: int) -> Path:
    """Run SAMSEG on the template and return the file with its labels."""
    files = ["--input", str(t1), "--output", str(work / "out")]
    subprocess.run([str(programs / "run_samseg"), *files, "--threads", str(threads)], check=True, stdout=sys.stderr)
    return work / "out" / "seg.mgz"


def label_image(segmentation: Path) -> Nifti1Image:
    """Clean SAMSEG's labels and crop them to the brain.

    Args:
        segmentation: labels on the template's grid.

    Returns:
        uint8, RAS+, 1 mm, in MNI152 space.
    """
    source = as_closest_canonical(nib.load(segmentation))
    labels = connected_brain(to_scheme(np.asarray(source.dataobj), "samseg"))
    axes = [extent((labels > 0).any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(max(side.start - MARGIN, 0), side.stop + MARGIN) for side in axes)
    affine = source.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    image = nib.Nifti1Image(labels[box], affine)
    image.set_sform(affine, MNI152)
    image.set_qform(affine, MNI152)
    image.header.set_xyzt_units("mm")
    return image


def connected_brain(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Keep the largest part of a label map whose voxels hang together by their faces."""
    parts, _ = label(labels > 0)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.where(parts == sizes.argmax(), labels, 0).astype(np.uint8)


def volume_table(labels: NDArray[np.uint8]) -> str:
    """Return the volumes of all structures and regions as a Markdown table, 1 mm voxels."""
    structures = [Region("structure_" + str(label), (label,), name, "SAMSEG") for label, name in STRUCTURES.items()]
    rows = ["| id | structure | ml |", "|---:|---|---:|"]
    for structure, volume in zip(structures, region_volumes(labels, 1.0, structures).values(), strict=True):
        if volume.voxels:
            rows.append(f"| {structure.labels[0]} | {structure.description} | {volume.ml:.3f} |")
    rows += ["", "| region | ml |", "|---|---:|"]
    rows += [f"| {name} | {volume.ml:.1f} |" for name, volume in region_volumes(labels, 1.0, REGIONS.values()).items()]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
