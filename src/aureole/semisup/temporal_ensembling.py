"""Temporal ensembling: a prediction is to agree with the mean of those that the model made of the image before.

    Z_i <- momentum Z_i + (1 - momentum) softmax f(x_i),    target_i = Z_i / (1 - momentum^t_i)
    L = CE(f(x_l), y) + weight * ramp(epoch) * mean_k (softmax f(x_i) - target_i)^2

with t_i the number of predictions that Z_i holds. Laine and Aila 2017, Algorithm 2. The weight grows to 30 over
80 epochs (theirs, to 30 M / N for M labels among N images, beside a cross-entropy that has the factor M / N too: see
:mod:`aureole.semisup.pi_model`). An image without a prediction yet adds 0, as all do
in the paper's first epoch. Departures: t counts the predictions of each image, not the epochs, so that images may come
in any order and number; Z moves on after each step (theirs, after each epoch: the same where an epoch shows an image
once); and the difference is taken on unlabelled images alone.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aureole.core.checks import check_share
from aureole.core.errors import InputError, UntrustedResult
from aureole.core.method import Batch, Terms
from aureole.core.model import frozen, predict
from aureole.core.objectives import Objective, SquaredDifference
from aureole.core.ramps import Ramp, Sigmoid
from aureole.semisup.base import SemiSupervised, as_logits, check_compares
from aureole.semisup.passes import BatchNorm


class PredictionMemory(nn.Module):
    """Ensembled predictions by the index of an image; all of it is stored with a checkpoint.

    Args:
        num_classes: length of a prediction.
        momentum: share that an ensemble keeps at an update, in [0, 1).
        num_images: images that there are; None lets the memory grow with the indices that come.

    Example:
        >>> from aureole.semisup import PredictionMemory
        >>> memory = PredictionMemory(2, 0.6, 3)
        >>> memory.update(torch.tensor([1]), torch.tensor([[0.25, 0.75]]))
        >>> memory.targets(torch.tensor([1]))[0]
        tensor([[0.2500, 0.7500]])
    """

    sums: Tensor
    counts: Tensor

    def __init__(self, num_classes: int, momentum: float = 0.6, num_images: int | None = None) -> None:
        super().__init__()
        self.momentum, self.num_images = momentum, num_images
        self.register_buffer("sums", torch.zeros(num_images or 0, num_classes))
        self.register_buffer("counts", torch.zeros(num_images or 0, dtype=torch.int64))
        self.pending: tuple[Tensor, Tensor] | None = None
        self.register_load_state_dict_pre_hook(_take_size)

    def reserve(self, index: Int[Tensor, " batch"]) -> None:
        """Check indices, and make room for them where the memory may grow.

        Raises:
            InputError: an index is negative, or no smaller than the number of images.
        """
        low, high = int(index.min()), int(index.max())
        if low < 0 or (self.num_images is not None and high >= self.num_images):
            most = "" if self.num_images is None else f" to {self.num_images - 1}"
            raise InputError(
                f"an unlabelled index must be from 0{most}; they range from {low} to {high}: set num_unlabelled to the"
                " number of unlabelled images, or None"
            )
        if high >= len(self.sums):
            self._resize(max(high + 1, 2 * len(self.sums)))

    def targets(self, index: Int[Tensor, " batch"]) -> tuple[Float[Tensor, "batch classes"], Int[Tensor, " batch"]]:
        """Return the mean predictions without their bias to zero, and how many each holds; zeros where none."""
        counts = self.counts[index]
        share = 1 - torch.as_tensor(self.momentum, dtype=self.sums.dtype) ** counts
        return self.sums[index] / torch.where(counts > 0, share, 1)[:, None], counts

    @torch.no_grad()
    def update(self, index: Int[Tensor, " batch"], predictions: Float[Tensor, "batch classes"]) -> None:
        """Add one prediction of each image; of an index that comes twice, one of them."""
        self.reserve(index)
        fresh = (1 - self.momentum) * predictions.to(self.sums)
        self.sums[index] = self.momentum * self.sums[index] + fresh
        self.counts[index] = self.counts[index] + 1

    def _resize(self, size: int) -> None:
        for name in ("sums", "counts"):
            old = getattr(self, name)
            new = old.new_zeros((size, *old.shape[1:]))
            new[: min(size, len(old))] = old[:size]
            setattr(self, name, new)


def _take_size(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Give a growing memory the size of a stored one before it is loaded."""
    stored = state_dict.get(f"{prefix}sums")
    if isinstance(module, PredictionMemory) and module.num_images is None and stored is not None:
        module._resize(len(stored))


@dataclass(frozen=True, kw_only=True)
class TemporalEnsembling(SemiSupervised):
    """Consistency with the ensembled predictions of earlier epochs; needs ``Unlabelled(index=...)``.

    Attributes:
        objective: compares a prediction with its target.
        weight: of the comparison.
        momentum: share that an ensemble keeps at an update, in [0, 1).
        num_unlabelled: indices that there are; None lets the memory grow, and cannot tell a wrong index from a new one.

    Example:
        >>> from aureole.core.method import Unlabelled
        >>> from aureole.semisup import TemporalEnsembling
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> views = Unlabelled((torch.rand(8, 1, 2, 2),), index=torch.arange(8))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]), epoch=0, unlabelled=views)
        >>> method = TemporalEnsembling()
        >>> memory = method.own(model, batch.x)
        >>> first = method.loss(model, batch, memory)
        >>> method.after_step(model, batch, memory)
        >>> memory["memory"].counts.tolist()
        [1, 1, 1, 1, 1, 1, 1, 1]
    """

    title: ClassVar[str] = "Temporal ensembling"

    objective: Objective = SquaredDifference()
    weight: float = 30.0
    ramp: Ramp = Sigmoid(80.0)
    batch_norm: BatchNorm = "together"
    momentum: float = 0.6
    num_unlabelled: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_compares(self.title, self.objective)
        check_share("momentum", self.momentum)
        if self.momentum == 1 or (self.num_unlabelled is not None and self.num_unlabelled < 1):
            raise InputError(
                f"momentum must be below 1 and num_unlabelled at least 1; got {self.momentum}, {self.num_unlabelled}"
            )

    def _parts(self, model: nn.Module, x: Tensor) -> dict[str, nn.Module]:
        with torch.no_grad(), frozen(model):
            logits = predict(model, x[:1])
        memory = PredictionMemory(logits.shape[1], self.momentum, self.num_unlabelled).to(logits)
        return {**super()._parts(model, x), "memory": memory}

    def _memory(self, modules: nn.Module | None) -> PredictionMemory:
        part = self._part("memory", modules)
        assert isinstance(part, PredictionMemory)
        return part

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the cross-entropy, and the difference from what the memory holds."""
        (x,) = self._views(model, batch)
        memory = self._memory(modules)
        assert batch.unlabelled is not None
        index = batch.unlabelled.index
        if index is None:
            raise InputError(f"{self.title} remembers each image: pass Unlabelled(views, index=...)")
        memory.reserve(index)
        targets, counts = memory.targets(index)
        passes = self._passes(model, batch, trained=[x])
        (logits,) = passes.trained
        memory.pending = (index, logits.detach().softmax(-1))
        values = self.objective(logits, as_logits(targets).to(logits.dtype))
        return self._terms(batch, passes.labelled, torch.where(counts > 0, values, 0))

    def after_step(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> None:
        """Add the predictions of the last loss to the memory."""
        super().after_step(model, batch, modules)
        memory = self._memory(modules)
        if memory.pending is None:
            warnings.warn(
                f"{self.title}: a step was taken without a loss, so there is nothing to remember",
                UntrustedResult,
                stacklevel=2,
            )
            return
        memory.update(*memory.pending)
        memory.pending = None
