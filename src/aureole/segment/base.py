"""What all methods of segmentation from few labels share.

    L = Dice(f(x_l), y) + weight * ramp(epoch) * (terms of all images)

Labelled and unlabelled images pass through the network together, the labelled ones first. An epoch is as many steps as
the loader says: 150 in the published code, whose ramps move every 150 steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.core import checks
from aureole.core.averaged import Averaged
from aureole.core.errors import InputError
from aureole.core.method import Batch, Terms
from aureole.core.model import predict
from aureole.core.ramps import Ramp, Sigmoid
from aureole.core.random import Streams, streams_for
from aureole.models.segmentation import SegmenterOutputs
from aureole.segment.dice import Form, check_form, dice_distance, dice_loss
from aureole.segment.network import EMBEDDING, outputs_of


class Step(NamedTuple):
    """One step: what the terms beside the labelled one are computed from.

    Attributes:
        model: the network.
        batch: labelled images, with unlabelled ones beside.
        modules: what the method keeps beside the network.
        x: all images, the labelled ones first.
        outputs: of the network on ``x``.
    """

    model: nn.Module
    batch: Batch
    modules: nn.Module | None
    x: Float[Tensor, "all channels *spatial"]
    outputs: SegmenterOutputs

    @property
    def num_labelled(self) -> int:
        """How many of the images are labelled."""
        return len(self.batch.x)

    @property
    def unlabelled(self) -> Float[Tensor, "unlabelled channels *spatial"]:
        """The unlabelled images."""
        return self.x[self.num_labelled :]

    @property
    def streams(self) -> Streams:
        """One random stream an image of ``x``."""
        batch = self.batch
        other = None if batch.unlabelled is None else batch.unlabelled.streams
        if batch.streams is None or (batch.unlabelled is not None and other is None):
            return streams_for(self.x, None)
        return batch.streams if other is None else Streams(torch.cat([batch.streams.keys, other.keys]))


@dataclass(frozen=True, kw_only=True)
class Segmentation(Averaged):
    """A method that segments: soft Dice on labelled images, and weighted terms on all.

    Attributes:
        weight: of the other terms, at least 0: 0.1 on ACDC and 1 on the left atrium in SS-Net.
        ramp: how the weight grows with the epochs: over 200 and over 40 there.
        cross_entropy: share of the cross-entropy in the labelled loss, in [0, 1]; 0 in SS-Net, 0.5 in SSL4MIS and in
            the code of UA-MT.
        background: whether class 0 counts in the labelled Dice loss; not in the published code for the left atrium.
        form: of the labelled Dice loss: ``"classes"``, or ``"joint"`` as SS-Net and MC-Net have it for the left atrium.
        smooth: of the labelled Dice loss; 1e-10 in SS-Net (1e-8 for the left atrium), 1e-5 in the others' code.
        layer: of a network that is not ours, the layer of the embedding, where the method needs it.

    Raises:
        InputError: a number is out of its range.
    """

    uses_unlabelled: ClassVar[bool] = True

    weight: float = 0.1
    ramp: Ramp = Sigmoid(200.0)
    cross_entropy: float = 0.0
    background: bool = True
    form: Form = "classes"
    smooth: float = 1e-10
    layer: str = EMBEDDING

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.check_weight("weight", self.weight)
        checks.check_share("cross_entropy", self.cross_entropy)
        checks.check_weight("smooth", self.smooth)
        check_form(self.form)
        if not isinstance(self.ramp, Ramp):
            raise InputError(f"ramp must be a Ramp, such as Sigmoid(200.0); got {self.ramp!r}")

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the labelled loss, and the other terms with their weight.

        Args:
            model: maps images (batch, channels, *spatial) to logits (batch, classes, *spatial).
            batch: images with a class for each position, int64, shape (batch, *spatial), and unlabelled images.
            modules: what :meth:`own` returned.

        Raises:
            InputError: images, labels or the model's output are not as described.
        """
        check_batch(model, batch, self.title, unlabelled=self.uses_unlabelled)
        x = batch.x
        if self.uses_unlabelled and batch.unlabelled is not None:
            x = torch.cat([x, batch.unlabelled.views[0]])
        step = Step(model, batch, modules, x, outputs_of(model, x, self.layer))
        _check_outputs(step.outputs.logits, batch)
        terms = Terms(labelled=self._labelled(step))
        ramped = self._terms(step)
        if ramped:
            factor = self.weight * self.ramp(batch.epoch)
            terms.update({name: factor * value for name, value in ramped.items()})
        terms.update(self._further(step))
        return terms

    def judge(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> dict[str, Tensor]:
        """Return the Dice score of each image: the mean over the classes but the background's."""
        logits = predict(model, batch.x, positions=True)
        found, true = (F.one_hot(y, logits.shape[1]).movedim(-1, 1)[:, 1:].float() for y in (logits.argmax(1), batch.y))
        return {"dice": 1 - dice_distance(found, true)}

    def trained(self, model: nn.Module, modules: nn.Module | None = None) -> nn.Module:
        """Return the model: the published codes judge the student, also where it has a teacher."""
        return model

    def _labelled(self, step: Step) -> Float[Tensor, ""]:
        """Return the loss on labelled images."""
        return self._supervised(step.outputs.logits[: step.num_labelled], step.batch.y)

    def _supervised(
        self, logits: Float[Tensor, "rows classes *spatial"], y: Int64[Tensor, "rows *spatial"]
    ) -> Float[Tensor, ""]:
        loss = dice_loss(logits, y, background=self.background, form=self.form, smooth=self.smooth)
        return torch.lerp(loss, F.cross_entropy(logits, y), self.cross_entropy) if self.cross_entropy else loss

    def _terms(self, step: Step) -> dict[str, Tensor]:
        """Return the other terms by name, without the common weight."""
        return {}

    def _further(self, step: Step) -> dict[str, Tensor]:
        """Return terms that have no such weight: what trains parts beside the network."""
        return {}


def check_batch(model: nn.Module, batch: Batch, method: str, *, unlabelled: bool) -> None:
    """Check images, their labels and the unlabelled images beside them.

    Raises:
        InputError: shapes, types or devices do not fit, or unlabelled images are missing.
    """
    checks.check_device(model, batch.x)
    x, y = batch.x, batch.y
    if not x.is_floating_point() or x.ndim not in (4, 5) or not x.numel():
        raise InputError(
            "images must be floating-point and of shape (batch, channels, height, width) or (batch, channels, depth,"
            f" height, width); got {x.dtype} of {tuple(x.shape)}"
        )
    if y.dtype != torch.int64 or y.shape != (len(x), *x.shape[2:]):
        raise InputError(
            f"expected an int64 class for each position, shape {(len(x), *x.shape[2:])}; got {y.dtype} of"
            f" {tuple(y.shape)}"
        )
    if not unlabelled:
        return
    if batch.unlabelled is None:
        raise InputError(f"{method} learns from unlabelled images; the batch has none: set unlabelled_batch_size")
    other = batch.unlabelled.views[0]
    if other.shape[1:] != x.shape[1:] or (other.dtype, other.device) != (x.dtype, x.device):
        raise InputError(
            f"unlabelled images must be like the labelled ones, {x.dtype} of {tuple(x.shape[1:])} on {x.device}; got"
            f" {other.dtype} of {tuple(other.shape[1:])} on {other.device}"
        )


def _check_outputs(logits: Tensor, batch: Batch) -> None:
    if logits.shape[2:] != batch.x.shape[2:]:
        raise InputError(
            f"the model must give logits of each position of its input, {tuple(batch.x.shape[2:])}; got"
            f" {tuple(logits.shape[2:])}"
        )
    if batch.step == 0:  # looked at once an epoch, for a look stalls an accelerator
        checks.check_classes(batch.y, logits.shape[1])
        if not bool(batch.x.isfinite().all()):
            raise InputError("images must be finite; the labelled ones have NaN or infinite values")
