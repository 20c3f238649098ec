"""SASSNet: signed distances of unlabelled images are to look as those of labelled ones do.

    L  = Dice + 0.3 mean (z - sdf(y))^2 on labelled images + weight * ramp * CE(D(z_u, x_u), "labelled")
    L_D = CE(D(z_l, x_l), "labelled") + CE(D(z_u, x_u), "unlabelled"), mean over both kinds

with z the distances that the network predicts. The discriminator D learns with Adam from distances without gradient, of
the same pass, while the network learns from D in evaluation mode with frozen weights: the published code takes one step
of each in turn, and lets the network run once more, in evaluation mode, for the discriminator's. Li et al. 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.core import checks
from aureole.core.errors import InputError
from aureole.core.model import frozen
from aureole.models.segmentation import Segmenter, ShapeDiscriminator
from aureole.segment.base import Step
from aureole.segment.dtc import WithDistances
from aureole.segment.network import outputs_of
from aureole.segment.signed_distance import needed_distances

_LABELLED, _UNLABELLED = 1, 0


@dataclass(frozen=True, kw_only=True)
class SASSNet(WithDistances):
    """A discriminator of labelled and unlabelled shapes beside the network.

    Attributes:
        weight: 0.01 with 16 labelled scans of the left atrium and 0.015 with 8, over a ramp of 40 epochs.
        learning_rate: of the discriminator.
        width: channels of its first convolutions.

    Example:
        >>> from aureole.segment import SASSNet
        >>> SASSNet().weight
        0.01

    Source: Li et al. 2020.
    """

    title: ClassVar[str] = "SASSNet"

    weight: float = 0.01
    learning_rate: float = 1e-4
    width: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.check_positive("learning_rate", self.learning_rate)
        checks.check_positive("width", self.width)

    def own_optimizer(self, modules: nn.Module) -> torch.optim.Optimizer:
        """Return the discriminator's optimiser."""
        return torch.optim.Adam(self._discriminator(modules).parameters(), self.learning_rate, betas=(0.9, 0.99))

    def _parts(self, model: nn.Module, x: Tensor) -> dict[str, nn.Module]:
        parts = super()._parts(model, x)
        if not isinstance(model, Segmenter):
            raise InputError(
                f"{self.title} needs a network that predicts signed distances too, such as unet-sdf or vnet-sdf; got"
                f" {type(model).__name__}"
            )
        with torch.no_grad(), frozen(model):
            distances = needed_distances(outputs_of(model, x[:1]), self.title)
        discriminator = ShapeDiscriminator(
            num_classes=distances.shape[1] + 1,
            in_channels=x.shape[1],
            spatial_dims=x.ndim - 2,
            width=self.width,
        )
        parts["discriminator"] = discriminator.to(x.device)
        return parts

    def _discriminator(self, modules: nn.Module | None) -> ShapeDiscriminator:
        part = self._part("discriminator", modules)
        assert isinstance(part, ShapeDiscriminator)
        return part

    def _terms(self, step: Step) -> dict[str, Tensor]:
        z, n = needed_distances(step.outputs, self.title), step.num_labelled
        with frozen(self._discriminator(step.modules)) as discriminator:
            return {"shape": _judged(discriminator, z[n:], step.unlabelled, _LABELLED)}

    def _further(self, step: Step) -> dict[str, Tensor]:
        z, n = needed_distances(step.outputs, self.title).detach(), step.num_labelled
        discriminator = self._discriminator(step.modules)
        share = n / len(z)
        labelled = _judged(discriminator, z[:n], step.x[:n], _LABELLED)
        unlabelled = _judged(discriminator, z[n:], step.unlabelled, _UNLABELLED)
        return {"discriminator": torch.lerp(unlabelled, labelled, share)}


def _judged(discriminator: nn.Module, z: Tensor, x: Tensor, kind: int) -> Float[Tensor, ""]:
    """Return the cross-entropy of what the discriminator says of some images, where they are to be of one kind."""
    logits = discriminator(z, x)
    return F.cross_entropy(logits, torch.full((len(z),), kind, device=z.device))
