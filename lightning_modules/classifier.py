"""The Lightning module: a network, its loss, its optimiser, and a threshold that is chosen on the tuning part."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.decision import Decision, choose_threshold
from lightning_modules.errors import ModelError
from lightning_modules.metrics import METRICS, evaluate
from lightning_modules.objectives import EDSS_CUTS, ObjectiveName, ScoreScale, check_objective, make_objective
from lightning_modules.optimizer import check_optimizer

Batch = dict[str, Tensor]


class StratificationModule(pl.LightningModule):
    """Train a network to tell two classes of scans apart.

    A batch holds ``image`` (B, C, I, J, K) float, ``label`` (B,) int 0 or 1 and ``index`` (B,) int, the scan's row in the
    cohort; ``score`` (B,) float32 too, where the objective learns from it, and ``covariates`` (B, V) float32, where the network
    is given some. The threshold that ``decision`` gives after each
    epoch is kept in the checkpoint with the weights.

    Args:
        network: Any module that maps (B, C, I, J, K) to two logits (B, 2). Where it has ``parameter_groups(learning_rate)``,
            the optimiser trains these groups, each with its own learning rate.
        optimizer: ``adam`` or ``adamw``.
        learning_rate: Step size of the first epoch.
        schedule: How the learning rate falls: ``exponential``, or ``cosine``, which ends at 0 after ``trainer.max_epochs``.
        lr_decay: The learning rate is multiplied by this after each epoch of an exponential schedule.
        warmup_epochs: Epochs over which the learning rate first rises in equal steps.
        betas: Decay of the optimiser's running means.
        weight_decay: L2 penalty (adam) or decoupled decay (adamw).
        class_weights: Weights of class 0 and class 1 in the loss; None weighs both alike.
        objective: What the network learns from: the label (``classification``), or the whole score: ``ordinal``, at each of
            ``cuts``, or ``regression``. Predictions are probabilities of the label in any case.
        cuts: Scores at which ``ordinal`` cuts the scale, beside ``label.threshold``.
        label_noise: Probability that a recorded score lies one step of the scale off the true one.
        channels_last: Keep volumes channels-last in memory, which convolutions run faster on.
        decision: How the threshold is chosen (``lightning_modules.decision``).
        prevalence: Share of positive scans in the training part, for the decision ``prior``.
        compile: Let ``torch.compile`` rewrite the network: a minute or more for the first batches, and a C++ compiler on a CPU.
        scale: Steps of the score and threshold of the label; None where there are no scores.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Literal["adam", "adamw"] = "adam",
        learning_rate: float = 1e-3,
        schedule: Literal["exponential", "cosine"] = "exponential",
        lr_decay: float = 0.99,
        warmup_epochs: int = 0,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 0.0,
        class_weights: tuple[float, float] | None = None,
        objective: ObjectiveName = "classification",
        cuts: tuple[float, ...] = EDSS_CUTS,
        label_noise: float = 0.0,
        channels_last: bool = True,
        decision: Decision = "midpoint",
        prevalence: float = 0.5,
        compile: bool = False,
        scale: ScoreScale | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["network", "scale"])
        check_optimizer(learning_rate, lr_decay, warmup_epochs, betas, weight_decay, class_weights)
        check_objective(objective, cuts, label_noise, class_weights, scale.threshold if scale else None)
        self.network = network.to(memory_format=torch.channels_last_3d) if channels_last else network  # type: ignore[call-overload]
        weights = torch.tensor(class_weights or (1.0, 1.0), dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        self.register_buffer("threshold", torch.tensor(0.5, dtype=torch.float64))
        self.objective = make_objective(objective, scale, label_noise, cuts)
        self._tuning: list[tuple[Tensor, Tensor]] = []
        if compile:
            self.network.compile()

    def forward(self, image: Tensor, covariates: Tensor | None = None) -> Tensor:
        """Map (B, C, I, J, K) float, and covariates (B, V) if the network takes them, to logits (B, 2) float32."""
        handles_layout = None if self.hparams["compile"] else getattr(self.network, "handles_layout", None)
        if self.hparams["channels_last"] and not (handles_layout and handles_layout(image)):
            image = image.contiguous(memory_format=torch.channels_last_3d)
        logits: Tensor = self.network(image) if covariates is None else self.network(image, covariates)
        return logits.float()

    def _logits(self, batch: Batch) -> Tensor:
        return self(batch["image"], batch.get("covariates"))

    def _loss(self, logits: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(logits, label, weight=self.class_weights)  # type: ignore[arg-type]

    def _objective_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        if self.objective is None:
            return self._loss(logits, batch["label"])
        loss: Tensor = self.objective(logits[:, 1] - logits[:, 0], batch["score"])
        weight = self.class_weights[batch["label"]]  # type: ignore[index]
        return (loss * weight).sum() / weight.sum()

    def _global_loss(self, loss: Tensor, label: Tensor) -> tuple[Tensor, int | Tensor]:
        """A loss whose mean over all processes is that of the global batch, and the global batch's number of scans."""
        if self.trainer.world_size == 1:
            return loss, len(label)
        weight = self._weights_of(label).sum()
        total = torch.stack([weight, weight.new_full((), len(label))])
        torch.distributed.all_reduce(total)
        return loss * weight * self.trainer.world_size / total[0], total[1]

    def _weights_of(self, label: Tensor) -> Tensor:
        weights: Tensor = self.class_weights[label]  # type: ignore[index]
        return weights

    def on_train_epoch_start(self) -> None:
        """Begin the mean of an epoch's losses."""
        self._losses: Tensor = torch.zeros((), device=self.device)
        self._scans: int | Tensor = 0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step on a training batch; returns its loss, and logs the mean over the epoch's scans with the last batch.

        Lightning would form the same mean from a log of each batch, at half of all it costs per batch. An epoch that
        ``trainer.max_steps`` or ``trainer.max_time`` cuts short has no mean.
        """
        loss, scans = self._global_loss(self._objective_loss(self._logits(batch), batch), batch["label"])
        self._losses, self._scans = self._losses + loss.detach() * scans, self._scans + scans
        if self.trainer.is_last_batch:
            self.log("train/loss", self._losses / self._scans, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget what an interrupted pass over the tuning part left."""
        self._tuning.clear()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the logits of a tuning batch until the part is complete."""
        self._tuning.append((self._logits(batch).detach(), batch["label"]))

    def on_validation_epoch_end(self) -> None:
        """Choose the threshold on the whole tuning part and log its metrics and, whatever the objective, the label's loss."""
        logits = torch.cat([logits for logits, _ in self._tuning])
        label = torch.cat([label for _, label in self._tuning])
        self._tuning.clear()
        probability = positive_probability(logits)
        y, p = label.cpu().numpy(), probability.cpu().numpy()
        self.threshold.fill_(choose_threshold(self.hparams["decision"], y, p, self.hparams["prevalence"]))  # type: ignore[operator]
        values = evaluate(probability.cpu(), label.cpu(), float(self.threshold))  # type: ignore[arg-type]
        self.log("tuning/loss", self._loss(logits, label), prog_bar=True)
        for name in METRICS:
            value = values[name]
            if value is not None:
                self.log(f"tuning/{name}", value)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The scan's row, label and probability of the positive class, as predictions.tsv needs them."""
        logits = self._logits(batch)
        return {"index": batch["index"], "label": batch["label"], "probability": positive_probability(logits)}

    def configure_optimizers(self) -> Any:
        """Adam or AdamW with a schedule that is stepped once per epoch.

        The fused form is one kernel for all weights. In 16-mixed it would undo the loss's scale itself, and in both mixed
        precisions Lightning refuses to clip its gradients; there the plain form is taken.
        """
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.hparams["optimizer"]]
        optimizer = kind(
            self._parameter_groups(),
            lr=self.hparams["learning_rate"],
            betas=tuple(self.hparams["betas"]),
            weight_decay=self.hparams["weight_decay"],
            fused=self.device.type in ("cpu", "cuda") and not self._needs_plain_optimizer(),
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._share_of_rate)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _share_of_rate(self, epoch: int) -> float:
        """The learning rate of an epoch as a share of ``learning_rate``."""
        warmup = int(self.hparams["warmup_epochs"])
        if epoch < warmup:
            return (epoch + 1) / (warmup + 1)
        if self.hparams["schedule"] == "exponential":
            return float(self.hparams["lr_decay"] ** (epoch - warmup))
        last = self.trainer.max_epochs or -1
        if last <= warmup:
            raise ModelError(f"a cosine schedule needs trainer.max_epochs above warmup_epochs ({warmup}), got {last}")
        return (1 + math.cos(math.pi * (epoch - warmup) / (last - warmup))) / 2

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """The network's weights, and the objective's, which do not decay."""
        own = self._own_parameters()
        groups = getattr(self.network, "parameter_groups", None)
        trained = groups(self.hparams["learning_rate"]) if groups else [{"params": list(self.network.parameters())}]
        return [*trained, *([{"params": own, "weight_decay": 0.0}] if own else [])]

    def _own_parameters(self) -> list[nn.Parameter]:
        return list(self.objective.parameters()) if self.objective is not None else []

    def _needs_plain_optimizer(self) -> bool:
        trainer = self._trainer
        if trainer is None:
            return False
        return trainer.precision == "16-mixed" or (trainer.precision == "bf16-mixed" and bool(trainer.gradient_clip_val))


def positive_probability(logits: Tensor) -> Tensor:
    """Probability of class 1 in float64 from logits (B, 2)."""
    return torch.softmax(logits.double(), dim=1)[:, 1]
