"""Every setting of a training, from typed signatures: one parser for presets, YAML files and the command line.

``--preset demo`` is ``experiments/study/presets/demo.yaml``; ``--config file.yaml`` and single options such as
``--trainer.max_epochs 5`` come after it and win. A run's own ``config.yaml`` is such a file.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from docstring_parser import DocstringStyle
from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace, set_parsing_settings
from jsonargparse.typing import PositiveInt

from datamodules.batches.augmentation import Augmentation
from datamodules.cohort.identity import AlikeIds
from datamodules.cohort.images import DEFAULT_IMAGES, parse_images, parse_optional
from datamodules.cohort.splits import SplitRule
from datamodules.cohort.table import TABLE_COLUMNS
from datamodules.cohort.target import Target
from datamodules.files.atomic import content_sha256, file_sha256
from datamodules.files.listing import list_folder
from experiments.study.channels import fit_channels, refuse_unread, show_images, tell_of_missing, told_of
from experiments.study.duplicates import Doubles
from experiments.study.record import Mask, known_regions
from experiments.study.recorded import DEMO_COHORT, STORE, with_recorded
from experiments.study.runs import FOLDS, PlanError, Run, named_like
from experiments.study.study import StudyOptions
from experiments.study.trainer_options import SettingsError, batch_limit, check_trainer, refusal, refused_options
from experiments.tracking.options import TrackingOptions
from regions.catalog import Region

PRESETS = Path(__file__).parent / "presets"
NETWORKS = ("lightning_modules.networks.ResidualCNN", "lightning_modules.pretrained.PretrainedEncoder")
LONG_LIST = 20
"""Classes from which on the help names only those of the project."""
NOT_OF_THE_RESULT = (
    "config", "cohort", "alike_ids", "doubles", "study", "studies", "store", "roi", "fold", "seed", "tracking", "workers",
    "regions",
)  # fmt: skip
NOT_OF_THE_TRAINER = (
    "accelerator", "devices", "num_nodes", "strategy", "logger", "callbacks", "default_root_dir", "log_every_n_steps",
    "profiler", "enable_progress_bar", "enable_model_summary", "enable_checkpointing", "plugins", "barebones", "detect_anomaly",
)  # fmt: skip


@dataclass(frozen=True)
class EarlyStopping:
    """When a training ends before ``trainer.max_epochs``."""

    patience: int = 20
    """Epochs without a lower tuning loss after which a training ends; the best epoch's weights are kept in any case."""

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise SettingsError(f"early_stopping.patience is {self.patience}; give 1 or more epochs")


def presets() -> list[str]:
    """Names of the presets."""
    return [path.stem for path in list_folder(PRESETS, "*.yaml")]


def settings_help() -> str:
    """What each setting means; of the classes that a setting may name those of the project, where there are many."""

    def shortened(match: re.Match[str]) -> str:
        names = re.sub(r"\s", "", match[1]).split(",")
        ours = ", ".join(name for name in names if name in NETWORKS)
        return match[0] if len(names) < LONG_LIST else f", here:\n{ours}; any other by its class path)"

    return re.sub(r",\s+known\s+subclasses:([^)]*)\)", shortened, build_parser(described=True).format_help())


def plain_parser(described: bool = False) -> ArgumentParser:
    """The parser of the settings that need no torch: where everything lies, how it is split and labelled."""
    set_parsing_settings(docstring_parse_style=DocstringStyle.GOOGLE, docstring_parse_attribute_docstrings=described)
    parser = ArgumentParser(prog="regionwise", exit_on_error=False, description="Settings of a training.")
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file with settings; may be given several times")
    parser.add_argument("--cohort", type=Path, default=DEMO_COHORT, help="BIDS-like folder or table of the cohort")
    parser.add_argument("--study", type=str, default="", help="name of the study; default: the cohort's name")
    parser.add_argument("--studies", type=Path, default=Path("studies"), help="folder of all studies")
    parser.add_argument("--store", type=Path, default=STORE, help="folder of prepared volumes")
    parser.add_argument("--roi", type=str, default="", help="input of a single run")
    parser.add_argument("--fold", type=int, default=0, help="test part of a single run")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation")
    parser.add_argument("--split_seed", type=int, default=0, help="seed of the split of the patients")
    parser.add_argument("--folds", type=int, default=FOLDS, help="parts of the patients")
    parser.add_argument(
        "--broken", type=Literal["refuse", "exclude"], default="refuse", help="scans whose images cannot be used"
    )
    parser.add_argument(
        "--threads", type=PositiveInt, default=4, help="threads of a run on the CPU; another number rounds otherwise"
    )
    parser.add_argument(
        "--alike_ids", type=AlikeIds, default="refuse", help="patients whose ids differ in writing alone (0009 and 9)"
    )
    parser.add_argument("--doubles", type=Doubles, default="refuse", help="two patients whose images look like one person")
    parser.add_argument(
        "--voxel_mm", type=float, default=0.0, help="side of a voxel in training, a multiple of the scans' own; 0: theirs"
    )
    parser.add_argument(
        "--images",
        type=list[str] | str,
        default=",".join(DEFAULT_IMAGES),
        help="what is read of each scan: t1w, flair, t2w, ...",
    )
    parser.add_argument(
        "--optional_images",
        type=list[str] | str,
        default="",
        help="those that a scan may lack, never the first: zeros stand in their place, and the network is told",
    )
    parser.add_argument("--workers", type=int, default=2, help="threads that prepare scans")
    parser.add_argument(
        "--regions", type=Path | None, default=None, help="your own regions: a YAML file, or an atlas in MNI152 space (.nii.gz)"
    )
    parser.add_class_arguments(Target, "label", instantiate=False)
    parser.add_argument("--split", type=SplitRule, default=SplitRule())
    return parser


def build_parser(described: bool = False) -> ArgumentParser:
    """The parser of every setting; imports torch and Lightning, whose signatures it reads.

    Args:
        described: Whether its help tells what each setting means, which takes half a second to find in the sources, and lists
            those that can be set.
    """
    import pytorch_lightning as pl
    from torch import nn

    import lightning_modules.pretrained  # noqa: F401
    from datamodules.mri import BrainMRIDataModule
    from lightning_modules.classifier import StratificationModule

    parser = plain_parser(described)
    parser.add_class_arguments(
        BrainMRIDataModule,
        "data",
        skip={
            "prepared",
            "patients",
            "labels",
            "splits",
            "fold",
            "region",
            "multiple_of",
            "seed",
            "mask",
            "content",
            "least_side",
            "scores",
            "covariates",
        },
        instantiate=False,
    )
    parser.add_subclass_arguments(nn.Module, "network", required=False)
    parser.set_defaults({"network": {"class_path": "lightning_modules.networks.ResidualCNN"}})
    parser.add_class_arguments(
        StratificationModule, "model", skip={"network", "decision", "prevalence", "scale"}, instantiate=False
    )
    hidden = set(refused_options()) if described else {"callbacks", "num_sanity_val_steps"}
    parser.add_class_arguments(pl.Trainer, "trainer", skip={*hidden, "limit_train_batches"}, instantiate=False)
    limit: Any = int | float | None if described else batch_limit
    limit_help = "batches of an epoch: a whole number counts them (1: one batch), a decimal number is a share (1.0: all)"
    parser.add_argument("--trainer.limit_train_batches", type=limit, default=None, help=limit_help)
    parser.add_argument("--early_stopping", type=EarlyStopping, default=EarlyStopping())
    parser.add_argument("--tracking", type=TrackingOptions, default=TrackingOptions())
    parser.set_defaults(
        {
            "trainer.devices": 1,
            "trainer.max_epochs": 100,
            "trainer.enable_progress_bar": False,
            "trainer.enable_model_summary": False,
        }
    )
    return parser


def preset_arguments(arguments: Sequence[str]) -> list[str]:
    """Replace ``--preset NAME`` by the preset's file, placed first so that everything else wins.

    Without ``--preset`` the demo cohort takes the preset ``demo``, any other cohort ``default``.

    Raises:
        PlanError: if there is no such preset.
    """
    rest, name, own_cohort, own_config = [], "", False, False
    words = iter(arguments)
    for word in words:
        if word == "--preset" or word.startswith("--preset="):
            name = word.partition("=")[2] or next(words, "")
        else:
            rest.append(word)
            own_cohort |= word == "--cohort" or word.startswith("--cohort=")
            own_config |= word == "--config" or word.startswith("--config=")
    if not name and own_config:
        return rest
    name = name or ("default" if own_cohort else "demo")
    if name not in presets():
        raise PlanError(f"PRESET={name} does not exist; presets are {', '.join(presets())}")
    return ["--config", str(PRESETS / f"{name}.yaml"), *rest]


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
            raise SettingsError(readable(str(error))) from error

    def check(self) -> None:
        """Make every record that checks its values, so that a mistake is named before any work is done.

        Raises:
            ValueError: naming the setting at fault.
        """
        from lightning_modules.objectives import check_objective

        check_trainer(self.values.trainer.as_dict())
        target, model = self.label(), self.model_options()
        if target.is_number and model["class_weights"] is not None:
            given = f"model.class_weights {list(model['class_weights'])}"
            raise SettingsError(f"{given} goes with two classes, not with label.kind {target.kind}; leave it out")
        threshold = target.threshold if target.is_edss else None
        check_objective(model["objective"], model["cuts"], model["label_noise"], model["class_weights"], threshold)
        self.tracking()
        self.augmentation()
        refuse_unread(self.regions, self.images)
        if self.values.data.batch_size < 1:
            raise SettingsError(f"data.batch_size is {self.values.data.batch_size}; give 1 or more")
        if self.values.data.transforms:
            refuse_other_transforms([str(entry["class_path"]) for entry in self.plain()["data"]["transforms"]])

    def plain(self) -> dict[str, Any]:
        """All settings as plain values, as they stand in YAML."""
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
        """The settings that change a result: none of paths, devices and tracking; a file of the network is its SHA-256."""
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
        options = (content["network"] or {}).get("init_args") or {}
        if not options.get("covariates"):
            options.pop("covariates", None)  # the image alone, as in all studies before there was a choice
        options |= {n: file_sha256(Path(v)) for n, v in options.items() if isinstance(v, str) and Path(v).is_file()}
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
        raise SettingsError(readable(str(error))) from None
    fit_channels(settings.values.network, settings.images)
    tell_of_missing(settings.values.network, settings.optional)
    settings.check()
    return settings


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


def readable(message: str) -> str:
    """A parser's message on one line, without the types that were tried and did not fit."""
    noise = (
        "Does not validate",
        "Subtypes:",
        "Errors:",
        "- Expected a path",
        "- Expected a <class 'NoneType'>",
        "Given value type",
        "Given value: Namespace",
    )
    parts = [part.strip() for part in message.splitlines()]
    return " ".join(part.removeprefix("- ") for part in parts if part and not part.startswith(noise))
