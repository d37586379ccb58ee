"""The settings of a training, as the rest of the program reads them: what they mean, and their fingerprint."""

from __future__ import annotations

import importlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from datamodules.batches.augmentation import Augmentation
from datamodules.cohort.images import DEFAULT_IMAGES, parse_images, parse_optional
from datamodules.cohort.splits import LEAST_FOLDS, SplitRule
from datamodules.cohort.table import TABLE_COLUMNS
from datamodules.cohort.target import Target
from datamodules.files.atomic import content_sha256, file_sha256
from experiments.study.channels import fit_channels, refuse_unread, show_images, tell_of_missing, told_of
from experiments.study.mistakes import no_group, readable, unmade
from experiments.study.parser import EarlyStopping, build_parser, option_names, preset_arguments
from experiments.study.record import Mask, StudyRecord, known_regions
from experiments.study.recorded import with_recorded
from experiments.study.run_folder import CODE, ResultsError, RunFolder
from experiments.study.runs import Run, named_like
from experiments.study.study import StudyOptions
from experiments.study.trainer_options import SettingsError, check_trainer, refusal, refused_options
from experiments.study.user_code import source_sha256
from experiments.tracking.options import TrackingOptions
from lightning_modules.optimizer import check_optimizer
from regions.catalog import Region

NOT_OF_THE_RESULT = (
    "config", "cohort", "alike_ids", "doubles", "study", "studies", "store", "roi", "fold", "seed", "tracking", "workers",
    "regions",
)  # fmt: skip
NOT_OF_THE_TRAINER = (
    "accelerator", "devices", "num_nodes", "strategy", "logger", "callbacks", "default_root_dir", "log_every_n_steps",
    "profiler", "enable_progress_bar", "enable_model_summary", "enable_checkpointing", "plugins", "barebones", "detect_anomaly",
)  # fmt: skip
OF_THE_OPTIMIZER = ("learning_rate", "lr_decay", "warmup_epochs", "betas", "weight_decay", "class_weights")


@dataclass(frozen=True)
class Settings:
    """Parsed settings, and the parser that made them."""

    parser: ArgumentParser
    values: Namespace

    @property
    def study(self) -> str:
        """Name of the study: as given, or that of the cohort."""
        return named_like(str(self.values.study or ""), self.values.cohort)

    @property
    def study_folder(self) -> Path:
        """Folder of the study."""
        return Path(self.values.studies) / self.study

    @cached_property
    def regions(self) -> Mapping[str, Region]:
        """The six regions, and those of the user's own file."""
        return known_regions(self.values.regions)

    @property
    def images(self) -> tuple[str, ...]:
        """The images of the study.

        Raises:
            CohortError: if a name cannot be one.
        """
        return parse_images(self.values.images, {*TABLE_COLUMNS} - {*DEFAULT_IMAGES})

    @property
    def optional(self) -> tuple[str, ...]:
        """The images that a scan may lack.

        Raises:
            CohortError: if one is not among the study's images, or is the first.
        """
        return parse_optional(self.values.optional_images, self.images)

    def study_options(self) -> StudyOptions:
        """What the study is made of."""
        v = self.values
        mask = Mask.of(v.data.mask_mode, v.data.dilate_mm)
        return StudyOptions(
            v.cohort, self.study_folder, v.store, self.label(), v.broken, v.folds, v.split_seed, v.workers,
            mask=mask, regions=self.regions, regions_file=v.regions, alike_ids=v.alike_ids,
            voxel_mm=v.voxel_mm, split=self.split(), images=self.images, optional=self.optional,
        )  # fmt: skip

    def covariates(self, images: Sequence[str] = ()) -> str:
        """Covariates that a network is given, separated by commas.

        Args:
            images: What it sees, where that is not all that the study reads: of others it is told nothing.
        """
        given = str(((self.plain()["network"] or {}).get("init_args") or {}).get("covariates") or "")
        return told_of(given, images or self.images, self.optional)

    def network_code(self) -> str:
        """SHA-256 of the file of a network class of the user's own; empty for one that comes with a package."""
        return source_sha256(str((self.plain()["network"] or {}).get("class_path", "")))

    def label(self) -> Target:
        """What is told from the images: how values become labels, and probabilities decisions."""
        v = self.values.label
        return Target(**v.as_dict()) if hasattr(v, "as_dict") else v

    def model_options(self) -> dict[str, Any]:
        """Arguments of the module; a target whose values have no scale of their own is learned from its label alone."""
        options: dict[str, Any] = self.values.model.as_dict()
        target = self.label()
        return options if target.is_edss and not target.is_number else options | {"objective": "classification"}

    def split(self) -> SplitRule:
        """What a test part is."""
        v = self.values.split
        return SplitRule(**v.as_dict()) if hasattr(v, "as_dict") else v

    def tracking(self) -> TrackingOptions:
        """Where curves and tables go."""
        v = self.values.tracking
        return TrackingOptions(**v.as_dict()) if hasattr(v, "as_dict") else v

    def early_stopping(self) -> EarlyStopping:
        """When a training ends."""
        v = self.values.early_stopping
        return EarlyStopping(**v.as_dict()) if hasattr(v, "as_dict") else v

    def augmentation(self) -> Augmentation:
        """Random changes of training scans."""
        v = self.values.data.augmentation
        return Augmentation(**v.as_dict()) if hasattr(v, "as_dict") else v

    def instantiated(self, images: Sequence[str] = ()) -> Namespace:
        """The settings with the classes that they name made: the network, a profiler and the like.

        Args:
            images: What the network sees, where that is not all that the study reads.

        Raises:
            SettingsError: if a class refuses its arguments.
        """
        try:
            values = self.values.clone()
            if images:
                show_images(values.network, images, self.optional)
            return self.parser.instantiate(values)
        except ValueError as error:
            raise SettingsError(unmade(str(error))) from error

    def check(self) -> None:
        """Make every record that checks its values, so that a mistake is named before any work is done.

        Raises:
            ValueError: naming the setting at fault.
        """
        from lightning_modules.objectives import check_objective

        check_trainer(self.values.trainer.as_dict())
        self._check_numbers()
        target, model = self.label(), self.model_options()
        if target.is_number and model["class_weights"] is not None:
            given = f"model.class_weights {list(model['class_weights'])}"
            raise SettingsError(f"{given} goes with two classes, not with label.kind {target.kind}; leave it out")
        if target.is_number and model["label_noise"]:
            given = f"model.label_noise {model['label_noise']:g}"
            raise SettingsError(f"{given} goes with two classes, not with label.kind {target.kind}; leave it out")
        threshold = target.threshold if target.is_edss else None
        check_objective(model["objective"], model["cuts"], model["label_noise"], model["class_weights"], threshold)
        check_optimizer(**{name: model[name] for name in OF_THE_OPTIMIZER})
        self.tracking()
        self.augmentation()
        self.early_stopping()
        refuse_unread(self.regions, self.images)
        if self.values.data.transforms:
            refuse_other_transforms([str(entry["class_path"]) for entry in self.plain()["data"]["transforms"]])

    def _check_numbers(self) -> None:
        """Refuse numbers of the data and the split that cannot be, before a scan is read."""
        v = self.values
        least_folds = 0 if self.split().by == "site" else LEAST_FOLDS
        for name, number, least in (
            ("seed", v.seed, 0),
            ("split_seed", v.split_seed, 0),
            ("folds", v.folds, least_folds),
            ("workers", v.workers, 1),
            ("voxel_mm", v.voxel_mm, 0),
            ("data.batch_size", v.data.batch_size, 1),
            ("data.dilate_mm", v.data.dilate_mm, 0),
        ):
            if not least <= number < math.inf:
                raise SettingsError(f"{name} is {number}; give {'a number from 0 on' if least == 0 else f'{least} or more'}")

    def plain(self) -> dict[str, Any]:
        """All settings as plain values, as they stand in YAML; a copy of one's own."""
        return deepcopy(self._plain)

    @cached_property
    def _plain(self) -> dict[str, Any]:
        content: dict[str, Any] = yaml.safe_load(self.yaml())
        return content

    def yaml(self, run: Run | None = None) -> str:
        """The settings as YAML text, of one run if given, which ``--config`` reads again."""
        values = self.values.clone()
        values.config = None
        values.study = self.study
        values.model.objective = self.model_options()["objective"]
        if run is not None:
            values.roi, values.fold, values.seed = run.input, run.fold, run.seed
        text: str = self.parser.dump(values, skip_validation=True)
        return text

    def result_settings(self) -> dict[str, Any]:
        """The settings that change a result: none of paths, devices and tracking; a file is its SHA-256."""
        content = {name: value for name, value in self.plain().items() if name not in NOT_OF_THE_RESULT}
        if not content["voxel_mm"]:
            del content["voxel_mm"]  # the scans' own voxels, as in all studies before there was a choice
        content["label"] = self.label().plain()
        del content["folds" if self.split().by == "site" else "split"]
        content["images"] = list(self.images)
        if self.images == DEFAULT_IMAGES:
            del content["images"]
        content["optional_images"] = list(self.optional)
        if not self.optional:
            del content["optional_images"]
        content["trainer"] = {n: v for n, v in content["trainer"].items() if n not in NOT_OF_THE_TRAINER}
        content["data"] = {n: v for n, v in content["data"].items() if n != "memory"}
        if self.label().direction == "below" and (
            content["model"]["objective"] != "classification" or content["model"]["label_noise"]
        ):
            content["model"]["rises_with"] = (
                "label"  # with the score in earlier versions, which learned the opposite of the label
            )
        options = (content["network"] or {}).get("init_args") or {}
        if not options.get("covariates"):
            options.pop("covariates", None)  # the image alone, as in all studies before there was a choice
        options |= {name: by_content(value) for name, value in options.items()}
        if content["data"]["transforms"]:
            content["data"]["transforms"] = by_content(content["data"]["transforms"])
        return content

    def hash(self) -> str:
        """SHA-256 of the settings that change a result."""
        return content_sha256(self.result_settings())


def parse_settings(arguments: Sequence[str]) -> Settings:
    """Settings from a command line.

    Raises:
        SettingsError: naming the setting, its value and what is allowed.
        PlanError: if the preset or the study's name does not exist.
    """
    words = preset_arguments(with_recorded(arguments))
    parser = build_parser(described=any(word == "-h" or word.split("=")[0].endswith("help") for word in words))
    try:
        settings = Settings(parser, parser.parse_args(words))
    except ArgumentError as error:
        name = re.search(r"(?:--trainer\.|Group 'trainer' does not accept option ')(\w+)", str(error))
        if name and name[1] in refused_options():
            raise refusal(name[1]) from None
        raise SettingsError(readable(str(error), option_names(parser))) from None
    _refuse_values_of_groups(settings)
    fit_channels(settings.values.network, settings.images)
    tell_of_missing(settings.values.network, settings.optional)
    settings.check()
    return settings


def by_content(value: Any) -> Any:
    """A plain value in which the SHA-256 of a file stands for its path, which may begin with ``~``."""
    if isinstance(value, dict):
        return {name: by_content(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [by_content(inner) for inner in value]
    path = Path(os.path.expanduser(value)) if isinstance(value, str) else None  # noqa: PTH111 - an unknown user is no error
    return file_sha256(path) if path is not None and path.is_file() else value


def settings_of_run(study: Path, record: StudyRecord, run: Path) -> Settings:
    """The settings of a run, with study, cohort, store and file of regions where they are now.

    Args:
        study: The study's folder.
        record: Its record, which knows where data was found last.
        run: The run's folder.

    Raises:
        ResultsError: if its network is a class of the user's own that was changed since.
    """
    where = {"study": study.name, "studies": study.parent, "cohort": record.cohort, "store": record.store}
    words = [f"--{name}={value}" for name, value in where.items()]
    words += [f"--regions={record.regions_file}"] if record.regions_file else []
    settings = parse_settings(["--config", str(run / "config.yaml"), *words])
    trained = RunFolder(run).facts().get("fingerprint", {}).get(CODE)
    if trained and settings.network_code() != trained:
        name = settings.plain()["network"]["class_path"]
        raise ResultsError(
            f"{run} was made with another code of network {name}; restore its file, or train the run again with --restart"
        )
    return settings


def _refuse_values_of_groups(settings: Settings) -> None:
    """A file may give one value, or null, in the place of several settings, which the parser lets pass."""
    names = option_names(settings.parser)
    groups = {"network", *(name.rpartition(".")[0] for name in names if "." in name)}
    for group in sorted(groups):
        value = settings.values.get(group)
        if not isinstance(value, Namespace) and not is_dataclass(value):
            raise SettingsError(no_group(group, "null" if value is None else value, names))


def refuse_other_transforms(paths: Sequence[str]) -> None:
    """Refuse classes that are not TorchIO's.

    Raises:
        SettingsError: naming the first.
    """
    from torchio import Transform

    for path in paths:
        module, _, name = path.rpartition(".")
        kind = getattr(importlib.import_module(module), name)
        if not (isinstance(kind, type) and issubclass(kind, Transform)):
            raise SettingsError(f"data.transforms: {path} is not a TorchIO transform; give for example torchio.RandomBiasField")
