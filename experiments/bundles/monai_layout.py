"""A bundle in the layout of MONAI: what it says of itself, and how an image becomes what its graph takes.

References:
    MONAI Bundle Specification, docs.monai.io/en/stable/mb_specification.html.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from datamodules.cohort.images import kind_of, weightings
from experiments.bundles.bundle import Bundle
from experiments.bundles.errors import BundleError
from experiments.runtime.provenance import installed_version

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
LEAST_MONAI = "1.5.0"


def metadata(bundle: Bundle) -> dict[str, Any]:
    """configs/metadata.json.

    Raises:
        BundleError: if MONAI's transforms cannot make the images that the networks see.
    """
    _refuse_other_images(bundle)
    target, images = bundle.target, bundle.shown_images
    output = f"{'number' if target.is_number else 'probability'} of {target.outcome()}"
    versions = bundle.provenance["versions"]
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": "made from a bundle of regionwise"},
        "monai_version": installed_version("monai") or LEAST_MONAI,
        "pytorch_version": str(versions["torch"]).partition("+")[0],
        "numpy_version": str(versions["numpy"]),
        "required_packages_version": {"nibabel": str(versions["nibabel"])},
        "name": f"{bundle.input} of study {bundle.study}",
        "task": f"Prediction of {target.outcome()} from brain MRI",
        "description": f"Mean of {len(bundle.models)} networks that see {bundle.input}. Research only. See docs/README.md.",
        "authors": "to be filled in by the authors",
        "copyright": "to be filled in by the authors",
        "data_source": "not public; see the model card",
        "data_type": "nibabel",
        "image_classes": f"{weightings(images)}, brain-extracted, in MNI152 space",
        "pred_classes": output,
        "eval_metrics": {},
        "intended_use": "research; not for the care of patients",
        "references": [],
        "network_data_format": {
            "inputs": {"image": _tensor("image", images, bundle.box.shape)},
            "outputs": {
                "primary": _value("primary model", 1, target.is_number),
                "folds": _value("one value a fold", len(bundle.models), target.is_number),
            },
        },
    }


def _refuse_other_images(bundle: Bundle) -> None:
    odd = [name for name in bundle.shown_images if kind_of(name) != "contrast"]
    if odd or bundle.voxel_mm or bundle.region.mask.mode == "subject":
        what = (
            odd[0] if odd else f"voxels of {bundle.voxel_mm:g} mm" if bundle.voxel_mm else "masks of each scan's own label map"
        )
        raise BundleError(f"a MONAI bundle cannot prepare {what} from images; leave monai out of --exports")


def _tensor(kind: str, images: tuple[str, ...], shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        "type": "image",
        "format": "magnitude",
        "modality": "MR",
        "num_channels": len(images),
        "spatial_shape": list(shape),
        "dtype": "float32",
        "value_range": [-10, 10],
        "is_patch_data": False,
        "channel_def": {str(place): name for place, name in enumerate(images)},
    }


def _value(meaning: str, channels: int, is_number: bool) -> dict[str, Any]:
    return {
        "type": "probabilities" if not is_number else "regression",
        "format": "classification" if not is_number else "regression",
        "num_channels": channels,
        "spatial_shape": [],
        "dtype": "float32",
        "value_range": [] if is_number else [0, 1],
        "is_patch_data": False,
        "channel_def": {"0": meaning},
    }


def inference(bundle: Bundle) -> dict[str, Any]:
    """configs/inference.json: ``scans`` is a list of objects with the path of each image by name."""
    names, affine = list(bundle.shown_images), bundle.grid.matrix
    affine[:3, 3] += affine[:3, :3] @ np.array(bundle.box.start)
    resample = (
        "$lambda image: monai.transforms.SpatialResample(mode='nearest', padding_mode='zeros')(image, "
        f"dst_affine=torch.tensor({affine.tolist()}, dtype=torch.float64), spatial_size={list(bundle.box.shape)})"
    )
    return {
        "imports": ["$import monai", "$import torch"],
        "bundle_root": ".",
        "scans": [dict.fromkeys(names, "path of a brain-extracted image in MNI152 space")],
        "network": "$torch.export.load(@bundle_root + '/models/model.pt2').module()",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": names},
                {"_target_": "EnsureChannelFirstd", "keys": names, "channel_dim": "no_channel"},
                {"_target_": "NormalizeIntensityd", "keys": names, "nonzero": True},
                {"_target_": "Lambdad", "keys": names, "func": resample},
                {"_target_": "ConcatItemsd", "keys": names, "name": "image"},
            ],
        },
        "dataset": {"_target_": "Dataset", "data": "@scans", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "predictions": "$[float(@network(batch['image'].as_tensor().float())[0]) for batch in @dataloader]",
        "run": ["$print(@predictions)"],
    }


def readme(bundle: Bundle) -> str:
    """docs/README.md."""
    names = ", ".join(bundle.shown_images)
    return f"""# {bundle.input} of study {bundle.study}

**For research only.** The model card is MODEL_CARD.md of the bundle that this folder is part of.

`scans` of `configs/inference.json` is a list of objects with a path for each of {names}: brain-extracted images (zero outside
the brain) in MNI152 space, on voxels of the training cohort's lattice; nothing is interpolated. Then, in this folder, with
monai, nibabel and fire installed:

```
python -m monai.bundle run run --config_file configs/inference.json
```

`models/model.pt2` is a `torch.export` program instead of the specification's `model.pt`, which would be a pickle. It gives
`primary`, the mean of the {len(bundle.models)} models, and `folds`, what each of them says.

`python -m monai.bundle verify_metadata --meta_file configs/metadata.json --filepath schema.json` fetches MONAI's schema where
schema.json is not there yet; without a network, bring that file.
"""
