"""What all methods that learn from few labels share: views of images, weights, and an average of the model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from aureole.core import checks
from aureole.core.averaged import Averaged
from aureole.core.errors import InputError, UntrustedResult, unknown_name
from aureole.core.method import Batch, Terms, Unlabelled
from aureole.core.objectives import Objective
from aureole.core.ramps import Constant, Ramp
from aureole.core.random import Streams, streams_for
from aureole.semisup.passes import BatchNorm, Passes, run_passes

_MANY, _SETTLED = 16, 5  # images that a model hardly gives one class once it has learned something, and epochs


@dataclass(frozen=True, kw_only=True)
class SemiSupervised(Averaged):
    """A method whose loss is cross-entropy on labelled images and a weighted term on unlabelled ones.

    Attributes:
        weight: of the unlabelled term, at least 0.
        ramp: how the weight grows with the epochs.
        batch_norm: which images share the statistics of batch normalisation; see :mod:`aureole.semisup.passes`.

    Raises:
        InputError: a weight is negative, or a name is unknown.
    """

    views: ClassVar[tuple[str, ...]] = ("weak",)

    weight: float = 1.0
    ramp: Ramp = Constant()
    batch_norm: BatchNorm = "labelled"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.check_weight("weight", self.weight)
        if not isinstance(self.ramp, Ramp):
            raise InputError(f"ramp must be a Ramp, such as Sigmoid(80.0); got {self.ramp!r}")
        if self.batch_norm not in get_args(BatchNorm):
            raise unknown_name("batch_norm", str(self.batch_norm), get_args(BatchNorm))

    def _views(self, model: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
        """Return the views of the unlabelled images, once all that came in has been checked."""
        check_semi_supervised(model, batch, self.views, self.title)
        assert batch.unlabelled is not None
        return batch.unlabelled.views

    def _passes(
        self,
        model: nn.Module,
        batch: Batch,
        *,
        targets: Sequence[Tensor] = (),
        trained: Sequence[Tensor] = (),
        max_batch: int | None = None,
    ) -> Passes:
        passes = run_passes(model, self.batch_norm, batch.x, targets=targets, trained=trained, max_batch=max_batch)
        checks.check_batch_classes(batch.y, passes.labelled.shape[1], batch.step)
        for logits in [*passes.targets, *passes.trained][:1]:
            warn_constant(logits, batch)
        return passes

    def _terms(self, batch: Batch, labelled: Tensor, unlabelled: Tensor) -> Terms:
        """Return both losses: ``labelled`` logits, and ``unlabelled`` values, whose mean is weighted."""
        return Terms(labelled=cross_entropy(labelled, batch.y), unlabelled=self._weighted(batch, unlabelled))

    def _weighted(self, batch: Batch, values: Tensor) -> Tensor:
        return self.weight * self.ramp(batch.epoch) * values.mean()


def check_compares(method: str, objective: Objective) -> None:
    """Check that a distance compares two predictions, as KL() and SquaredDifference() do.

    Raises:
        InputError: it does not.
    """
    if not isinstance(objective, Objective) or not objective.needs_clean or objective.needs_labels:
        raise InputError(
            f"{method} needs an objective that compares two predictions, such as KL() or SquaredDifference(); got"
            f" {objective!r}"
        )


def check_semi_supervised(model: nn.Module, batch: Batch, views: tuple[str, ...], method: str) -> None:
    """Check labelled and unlabelled images, and that the unlabelled ones come in the views that a method wants.

    Raises:
        InputError: they are not of one shape, type and device, or a view is missing.
    """
    checks.check_labels(batch.y, batch.x)
    checks.check_device(model, batch.x)
    given = batch.unlabelled
    if given is None:
        raise InputError(
            f"{method} learns from unlabelled images; the batch has none: pass Batch(..., unlabelled=Unlabelled("
            f"({', '.join('x_' + view for view in views)},)))"
        )
    if len(given.views) != len(views):
        raise InputError(
            f"{method} wants {len(views)} views ({', '.join(views)}) of each image; got {len(given.views)}"
        )
    for x in (batch.x, *given.views):
        _check_images(x, batch.x, given)
    if given.index is not None and given.index.shape != given.views[0].shape[:1]:
        raise InputError(f"expected one index an unlabelled image, {len(given)}; got {tuple(given.index.shape)}")


def _check_images(x: Tensor, like: Tensor, unlabelled: Unlabelled) -> None:
    if not x.is_floating_point() or x.ndim < 2 or not len(x):
        raise InputError(
            f"images must be floating-point and of shape (batch, *event); got {x.dtype} of {tuple(x.shape)}: convert"
            " with x.float() / 255"
        )
    if x.shape[1:] != like.shape[1:]:
        raise InputError(
            f"unlabelled images must have the shape of the labelled ones, {tuple(like.shape[1:])}; got"
            f" {tuple(x.shape[1:])}: resize them"
        )
    if (x.dtype, x.device) != (like.dtype, like.device):
        raise InputError(
            f"unlabelled images must have the type and device of the labelled ones, {like.dtype} on {like.device}; got"
            f" {x.dtype} on {x.device}"
        )
    if x is not like and len(x) != len(unlabelled):
        raise InputError(f"all views must hold the same images; got {[len(view) for view in unlabelled.views]}")


@torch.no_grad()
def warn_constant(logits: Float[Tensor, "rows classes"], batch: Batch) -> None:
    """Warn where all images get the same prediction, or after some epochs the same class.

    It is looked at once an epoch, for a look stalls an accelerator.
    """
    if batch.step or len(logits) == 1:
        return
    predictions = logits.softmax(-1)
    if bool((predictions.amax(0) - predictions.amin(0)).amax() <= 1e-6):
        _warn_untrusted(
            f"the model predicts the same for all {len(logits)} unlabelled images: they teach it nothing (normal"
            " at the first step of a network whose last layer starts at zero; otherwise it has collapsed)"
        )
    elif (batch.epoch or 0) >= _SETTLED and len(logits) >= _MANY and len(logits.argmax(-1).unique()) == 1:
        _warn_untrusted(
            f"after {batch.epoch} epochs the model predicts one class for all {len(logits)} unlabelled images: it may"
            " have collapsed; look at its accuracy, and lower the rate or the weight of the unlabelled term"
        )


def _warn_untrusted(text: str) -> None:
    warnings.warn(text, UntrustedResult, stacklevel=5)


def unlabelled_streams(batch: Batch) -> Streams:
    """Return one random stream an unlabelled image, which leave the batch's own where they are."""
    assert batch.unlabelled is not None
    return streams_for(batch.unlabelled.views[0], batch.unlabelled.streams).fork(1)


def labelled_streams(batch: Batch) -> Streams:
    """Return one random stream a labelled image, which leave the batch's own where they are."""
    return streams_for(batch.x, batch.streams).fork(0)


def as_logits(probabilities: Float[Tensor, "rows classes"]) -> Float[Tensor, "rows classes"]:
    """Return logits whose softmax is the given distribution, for an objective that compares logits."""
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
