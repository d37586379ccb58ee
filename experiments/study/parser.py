"""The one parser of every setting: of presets, YAML files and the command line, from typed signatures.

``--preset demo`` is ``experiments/study/presets/demo.yaml``; ``--config file.yaml`` and single options such as
``--trainer.max_epochs 5`` come after it and win. A run's own ``config.yaml`` is such a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from docstring_parser import DocstringStyle
from jsonargparse import ActionConfigFile, ArgumentParser, set_parsing_settings
from jsonargparse.typing import PositiveInt

from datamodules.cohort.identity import AlikeIds
from datamodules.cohort.images import DEFAULT_IMAGES
from datamodules.cohort.splits import SplitRule
from datamodules.cohort.target import Target
from datamodules.files.listing import list_folder
from experiments.study.duplicates import Doubles
from experiments.study.recorded import DEMO_COHORT, STORE
from experiments.study.runs import FOLDS, PlanError
from experiments.study.trainer_options import SettingsError, batch_limit, refused_options
from experiments.tracking.options import TrackingOptions

PRESETS = Path(__file__).parent / "presets"
NETWORKS = ("lightning_modules.networks.ResidualCNN", "lightning_modules.pretrained.PretrainedEncoder")
TRAINER_HELP: Mapping[str, str] = MappingProxyType(
    {
        "devices": "devices that train one run together: a number, a list such as [0, 1], -1 or auto for all",
        "num_nodes": "machines of a run: 1; make sweep on each machine shares the runs",
        "precision": "32-true, bf16-mixed, 16-mixed, ...; null: bf16-mixed or 16-mixed on a GPU that can, 32-true elsewhere",
        "max_epochs": "epochs of a training at most, 1 or more",
        "max_steps": "steps of the optimiser at most; -1: no limit but that of the epochs",
    }
)
"""What options of Lightning's Trainer mean here, where its own help says otherwise."""
LONG_LIST = 20
"""Classes from which on the help names only those of the project."""


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
    for action in parser._actions:
        action.help = TRAINER_HELP.get(action.dest.removeprefix("trainer."), action.help)
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
    rest, name, own_config = [], "", False
    words = iter(arguments)
    for word in words:
        if word == "--preset" or word.startswith("--preset="):
            name = word.partition("=")[2] or next(words, "")
        else:
            rest.append(word)
            own_config |= word == "--config" or word.startswith("--config=")
    if not name and own_config:
        return rest
    name = name or ("demo" if _cohort_in(rest).resolve() == DEMO_COHORT.resolve() else "default")
    if name not in presets():
        raise PlanError(f"PRESET={name} does not exist; presets are {', '.join(presets())}")
    return ["--config", str(PRESETS / f"{name}.yaml"), *rest]


def _cohort_in(words: Sequence[str]) -> Path:
    """The cohort that a command line names; the last one counts."""
    cohort = DEMO_COHORT
    for word, after in pairwise([*words, ""]):
        if word == "--cohort" or word.startswith("--cohort="):
            cohort = Path(word.partition("=")[2] or after)
    return cohort


def option_names(parser: ArgumentParser) -> list[str]:
    """The settings of a parser, without dashes; those that ask for help or add to a list are not among them."""
    options = (option for action in parser._actions for option in action.option_strings)
    return [option.removeprefix("--") for option in options if option.startswith("--") and not option.endswith(("+", "help"))]
