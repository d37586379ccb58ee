"""Linear readers of each input, on the same folds as its networks: does the network see more than a weighted sum of voxels?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from torch import nn

from datamodules.files.atomic import content_sha256
from datamodules.files.sealed import write_sealed
from experiments.analysis.baseline_files import TISSUE, VOXELS, features_reader, reader_name
from experiments.analysis.baseline_models import Design, fit_baseline, fit_number
from experiments.analysis.baselines import truth_of, write_fold
from experiments.analysis.linear_readers import Gram, fit_number_reader, fit_reader, gram_matrices
from experiments.analysis.reader_inputs import Shown, drawn_network, encoded, encoder_of, pieces_of, shown_by, voxel_chunks
from experiments.analysis.tissue import measured_tissue, tissue_facts, told_columns, write_tissue
from experiments.runtime.console import bar, plain_console
from experiments.study.opening import fingerprint_of
from experiments.study.settings import Settings
from experiments.study.study import Study
from lightning_modules.errors import ModelError
from regions.grid import EmptyRegionError

VERSION = "linear readers 1"


def make_readers(
    study: Study, settings: Settings, encoders: Sequence[str] = ("untrained",), console: Console | None = None
) -> dict[str, Any]:
    """Fit the linear readers of every input on every fold; write predictions, run.json and readers.json.

    Args:
        study: The opened study.
        settings: Of its runs: inputs, mask mode, network and seed.
        encoders: Names of ``ENCODERS`` whose features are read, beside the voxels.
        console: Where bars are shown.

    Returns:
        The content of readers.json.
    """
    torch.set_num_threads(settings.values.threads)
    notes: list[str] = []
    inputs = _shown(study, settings, drawn_network("untrained", settings), notes)
    config = {"version": VERSION}
    readers = {VOXELS: _fit(study, settings, VOXELS, _voxel_grams(study, inputs, console), config)}
    for name in encoders:
        made_with = {**config, "network": settings.plain()["network"], "seed": settings.values.seed}
        try:
            grams = _feature_grams(study, settings, name, console)
        except ModelError as error:
            notes.append(f"no {features_reader(name)}: {error}")
            continue
        readers[features_reader(name)] = _fit(study, settings, features_reader(name), grams, made_with)
    designs = _tissue_designs(study, settings, list(inputs), console)
    if designs:
        readers[TISSUE] = _fit(study, settings, TISSUE, designs, config)
    else:
        notes.append(f"no {TISSUE}: without label maps it is told by a T1w, which the study does not read")
    content = {"study": study.folder.name, "scans": len(study.prepared.keys), "readers": readers, "notes": notes}
    write_sealed(study.folder / "readers.json", content)
    return content


def _shown(study: Study, settings: Settings, network: nn.Module, notes: list[str]) -> dict[str, Shown]:
    """What each input shows a network; inputs that show nothing are noted."""
    inputs: dict[str, Shown] = {}
    for name, region in settings.regions.items():
        if region.images:
            notes.append(f"no linear readers of {name}: they read all images of the study")
            continue
        try:
            inputs[name] = shown_by(region, study.prepared.grid, settings, network)
        except EmptyRegionError as error:
            notes.append(f"no linear readers of {name}: {error}")
    by_subject = [name for name, shown in inputs.items() if shown.labels is not None]
    if by_subject and not study.prepared.has_labels():
        notes.append(f"no linear readers of {', '.join(by_subject)}: a scan has no label map")
        return {name: shown for name, shown in inputs.items() if name not in by_subject}
    return inputs


def _parts(study: Study) -> list[Mapping[str, npt.NDArray[Any]]]:
    patients = [scan.patient for scan in study.cohort.scans]
    return [study.splits.partitions(fold, patients) for fold in range(study.splits.folds)]


def _voxel_grams(study: Study, inputs: Mapping[str, Shown], console: Console | None) -> dict[str, list[Gram]]:
    trains = [parts["train"] for parts in _parts(study)]
    pieces = pieces_of(inputs, study.prepared.grid)
    with bar(console or plain_console(), "reading voxels", quiet=console is None) as on_piece:
        return gram_matrices(voxel_chunks(study.prepared, pieces, on_piece), trains, len(study.prepared.keys))


def _feature_grams(study: Study, settings: Settings, name: str, console: Console | None) -> dict[str, list[Gram]]:
    trains = [parts["train"] for parts in _parts(study)]
    network = drawn_network(name, settings)
    encoder = encoder_of(network, settings)
    grams: dict[str, list[Gram]] = {}
    for roi, shown in _shown(study, settings, network, []).items():
        with bar(console or plain_console(), f"{features_reader(name)} of {roi}", quiet=console is None) as on_scan:
            features = encoded(study.prepared, shown, encoder, settings.values.data.batch_size, on_scan)
        grams |= gram_matrices([([roi], features)], trains, len(features))
    return grams


def _tissue_designs(
    study: Study, settings: Settings, inputs: Sequence[str], console: Console | None
) -> dict[str, Sequence[Design]]:
    """The tissue shares of each input, the same for all folds; written into tissue.json beside."""
    options, scans = settings.study_options(), study.cohort.scans
    regions = {name: options.regions[name] for name in inputs}
    with bar(console or plain_console(), "measuring tissue", quiet=console is None) as on_scan:
        tissue = measured_tissue(scans, study.prepared, (regions, options.mask), study.folder, options.workers, on_scan)
    write_tissue(study.folder, tissue_facts(tissue, scans, regions))
    designs: dict[str, Sequence[Design]] = {}
    for name, values in tissue.inputs.items():
        columns = told_columns(tissue, name)
        seen = np.stack(list(columns.values()), axis=1) if columns else np.empty((len(values), 0))
        designs[name] = [Design(tuple(columns), seen)] * study.splits.folds
    return designs


def _fit(
    study: Study,
    settings: Settings,
    reader: str,
    seen: Mapping[str, Sequence[Gram | Design]],
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """Fit and write one reader of all inputs; input -> fold -> what was fitted."""
    y, target = truth_of(study), study.cohort.rule
    regions = fingerprint_of(settings, study).regions
    made: dict[str, Any] = {}
    for roi, of_folds in sorted(seen.items(), key=lambda item: list(regions).index(item[0])):
        prints = {"config": content_sha256(config), "region": regions[roi].plain()}
        made[roi] = {}
        for fold, (parts, seen_fold) in enumerate(zip(_parts(study), of_folds, strict=True)):
            how: Any = (fit_reader, fit_number_reader) if isinstance(seen_fold, Gram) else (fit_baseline, fit_number)
            rule = target.steps if target.is_number else target.decision
            fit = how[target.is_number](seen_fold, y, parts["train"], parts["tuning"], rule)
            write_fold(study, reader_name(reader, roi), fold, parts, fit, prints)
            made[roi][str(fold)] = fit.facts()
    return made
