"""The label scheme of the project, and what the ids of other programs become in it.

The scheme is FreeSurfer's aseg numbering as uint8; 0 is outside the brain. Ids that do not fit are collapsed:

| dialect        | found there                                         | becomes                                       |
|----------------|-----------------------------------------------------|-----------------------------------------------|
| freesurfer,    | 1000-1035, 2000-2035 cortical parcels               | 3, 42 cerebral cortex                         |
| fastsurfer,    |                                                     |                                               |
| synthseg       |                                                     |                                               |
| freesurfer     | 11100-11175, 12100-12175 cortical parcels (a2009s)  | 3, 42 cerebral cortex                         |
| freesurfer,    | 3000-3035, 4000-4035, 5001, 5002 (wmparc)           | 2, 41 cerebral white matter                   |
| fastsurfer     |                                                     |                                               |
| freesurfer,    | 192 corpus callosum (not in parts), 250 fornix      | 253, 2: callosum, cerebral white matter       |
| fastsurfer,    |                                                     |                                               |
| samseg         |                                                     |                                               |
| freesurfer     | 801-805, 806-810 hypothalamic subunits              | 28, 60 ventral diencephalon                   |
| freesurfer,    | 34, 66 crowns of white matter                       | 2, 41 cerebral white matter                   |
| samseg         | 126 spinal cord, 267 belly of the pons              | 16 brainstem                                  |
| (newer atlas)  | 183, 184 vermis; 11300, 12300 myelin-rich cortex    | 8, 47 cerebellar cortex; 3, 42                |
|                | 914 vein                                            | 24 CSF                                        |
|                | 262 sinus, 902 artery, 907-909 and 911 soft tissue, | 0                                             |
|                | 915, 916 bone, 930 optic nerve                      |                                               |
| fastsurfer     | 601-628 lobules of the cerebellum                   | 8, 47 cerebellar cortex; the vermis, which    |
| (CerebNet)     | 606, ... 627, 630, 631, 632 vermis                  | has no side there, 8                          |
| fastsurfer     | 963, 966, 976-984 hypothalamus, mammillary bodies   | 28, 60 ventral diencephalon                   |
| (HypVINN)      | 964, 965, 967, 968 optic tracts and chiasm          | 85 optic chiasm                               |
|                | 969 anterior commissure, 971, 972 fornix            | 2, 41 cerebral white matter                   |
|                | 970 third ventricle                                 | 14                                            |
|                | 961, 962 optic nerves, 973-975 pineal gland,        | 0                                             |
|                | pituitary gland and its stalk                       |                                               |
| all but BIDS   | 80, 81, 82 hypointensities outside white matter     | the tissue of the nearest voxel               |
| freesurfer     | 9, 48 thalamus of old versions                      | 10, 49 thalamus                               |
| freesurfer     | 25, 57 lesion with a side                           | 77 lesion                                     |
| samseg         | 99 lesion                                           | 77 lesion                                     |
| samseg         | 165 skull, 258 soft tissue, 259 fluid of the eyes   | 0                                             |
| bids-generic   | 1 GM, 2 WM, 8 CGM, 9 SGM, 11 CBM (no side)          | 187, 186, 188, 189, 190: ids that FreeSurfer  |
|                |                                                     | leaves free; 190 is the cerebellum, a mixture |
|                |                                                     | of tissues, and counts in `global` only       |
| bids-generic   | 3 CSF, 7 lesion, 10 brainstem                       | 24, 77, 16; there are no ventricles           |
| bids-generic   | 4 bone, 5 soft tissue, 6 other                      | 0                                             |

An id that is not known is an error, never background. Midline structures without a side take the left id, as FreeSurfer's own
tables have it; the six inputs hold both sides.

References:
    FreeSurfer's colour table, https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/AnatomicalROI/FreeSurferColorLUT
    FreeSurfer, README of the SAMSEG atlas of 2022 with crowns, vermis and vessels: its new ids and their old ones.
    Filipek et al. 1994, Cereb Cortex 4:344-360: the ventral diencephalon (VentralDC) holds hypothalamus and mammillary bodies.
    FastSurfer, https://github.com/Deep-MI/FastSurfer: FastSurferCNN/config/FreeSurferColorLUT.txt (192, 250, 601-632, 961-984),
    CerebNet/config/CerebNet2FreeSurfer.json, HypVINN/config/hypvinn_global_var.py, CCNet/config/CC_ColorLUT.tsv.
    BIDS 1.10, segmentations, https://bids-specification.readthedocs.io/en/stable/derivatives/imaging.html
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from regions.catalog import BRAINSTEM, LESIONS, REGIONS

_SIDED = {
    "Cerebral-White-Matter": (2, 41),
    "Cerebral-Cortex": (3, 42),
    "Lateral-Ventricle": (4, 43),
    "Inf-Lat-Vent": (5, 44),
    "Cerebellum-White-Matter": (7, 46),
    "Cerebellum-Cortex": (8, 47),
    "Thalamus": (10, 49),
    "Caudate": (11, 50),
    "Putamen": (12, 51),
    "Pallidum": (13, 52),
    "Hippocampus": (17, 53),
    "Amygdala": (18, 54),
    "Accumbens-area": (26, 58),
    "VentralDC": (28, 60),
    "vessel": (30, 62),
    "choroid-plexus": (31, 63),
    "WM-hypointensities": (78, 79),
    "wm-intensity-abnormality": (100, 109),
}
_MIDLINE = {
    "3rd-Ventricle": 14,
    "4th-Ventricle": 15,
    "Brain-Stem": 16,
    "CSF": 24,
    "5th-Ventricle": 72,
    "WM-hypointensities": 77,
    "Optic-Chiasm": 85,
    "Lesion": 99,
    "Brain-Stem-variant-170": 170,
    "Brain-Stem-variant-171": 171,
    "Midbrain": 173,
    "Pons": 174,
    "Medulla": 175,
    "SCP": 178,
    "White-Matter": 186,
    "Gray-Matter": 187,
    "Cortical-Gray-Matter": 188,
    "Subcortical-Gray-Matter": 189,
    "Cerebellum": 190,
    "CC_Posterior": 251,
    "CC_Mid_Posterior": 252,
    "CC_Central": 253,
    "CC_Mid_Anterior": 254,
    "CC_Anterior": 255,
}
STRUCTURES: Mapping[int, str] = MappingProxyType(
    dict(
        sorted(
            [(left, f"Left-{name}") for name, (left, _) in _SIDED.items()]
            + [(right, f"Right-{name}") for name, (_, right) in _SIDED.items()]
            + [(label, name) for name, label in _MIDLINE.items()]
        )
    )
)
"""Every id of the scheme with its name: FreeSurfer's, and for 186 ... 190 the project's own."""

NEAREST_TISSUE = -1
"""Target of an id whose voxels take the label of the nearest tissue."""

TISSUE = (set(REGIONS["gray_matter"].labels) | set(REGIONS["white_matter"].labels) | set(BRAINSTEM)) - set(LESIONS)
TISSUE |= {
    7,
    46,
    28,
    60,
}  # cerebellar white matter and the ventral diencephalon are tissue, too, but in no region but global


def _same(*labels: int) -> dict[int, int]:
    """Map ids to themselves."""
    return {label: label for label in labels}


def _range(labels: range, target: int) -> dict[int, int]:
    """Map a range of ids to one."""
    return dict.fromkeys(labels, target)


_ASEG = _same(0, *(label for label in STRUCTURES if not 186 <= label <= 190)) | {99: 77}
_HYPOINTENSITY = {80: NEAREST_TISSUE, 81: NEAREST_TISSUE, 82: NEAREST_TISSUE}
_PARCELS = _range(range(1000, 1036), 3) | _range(range(2000, 2036), 42)
_WMPARC = _range(range(3000, 3036), 2) | _range(range(4000, 4036), 41) | {5001: 2, 5002: 41}
_CALLOSUM = {192: 253, 250: 2}
_SAMSEG_NEWER = (
    {34: 2, 66: 41, 126: 16, 183: 8, 184: 47, 267: 16, 914: 24, 11300: 3, 12300: 42}
    | dict.fromkeys((262, 902, 907, 908, 909, 911, 915, 916, 930), 0)
    | _CALLOSUM
)
_CEREBNET = (
    dict.fromkeys((601, 603, 605, 608, 611, 614, 617, 620, 623, 626), 8)
    | dict.fromkeys((602, 604, 607, 610, 613, 616, 619, 622, 625, 628), 47)
    | dict.fromkeys((606, 609, 612, 615, 618, 621, 624, 627, 630, 631, 632), 8)
)
_HYPVINN = (
    {963: 60, 966: 28, 976: 28, 969: 2, 970: 14, 971: 41, 972: 2}
    | _range(range(977, 981), 28)
    | _range(range(981, 985), 60)
    | dict.fromkeys((964, 965, 967, 968), 85)
    | dict.fromkeys((961, 962, 973, 974, 975), 0)
)
_FREESURFER = (
    _ASEG
    | _HYPOINTENSITY
    | _PARCELS
    | _range(range(11100, 11176), 3)
    | _range(range(12100, 12176), 42)
    | _range(range(801, 806), 28)
    | _range(range(806, 811), 60)
    | {9: 10, 48: 49, 25: 77, 57: 77}
    | _WMPARC
    | _SAMSEG_NEWER
)
_BIDS = {0: 0, 1: 187, 2: 186, 3: 24, 4: 0, 5: 0, 6: 0, 7: 77, 8: 188, 9: 189, 10: 16, 11: 190}
DIALECTS: Mapping[str, Mapping[int, int]] = MappingProxyType(
    {
        "freesurfer": _FREESURFER,
        "fastsurfer": _ASEG | _HYPOINTENSITY | _PARCELS | _WMPARC | _CALLOSUM | _CEREBNET | _HYPVINN,
        "synthseg": _ASEG | _HYPOINTENSITY | _PARCELS,
        "samseg": _ASEG | _HYPOINTENSITY | {165: 0, 258: 0, 259: 0} | _SAMSEG_NEWER,
        "bids-generic": _BIDS,
    }
)
"""For each program: its id -> the id in the scheme, or NEAREST_TISSUE."""
