"""ADT-EXP: train on perturbations drawn from an explicit distribution, fitted anew to every image.

    L = CE(f(x_adv), y),    x_adv = clip(x + radius * tanh(mu + softplus(v) * r)),    r ~ N(0, 1)

where (mu, v) ascend E_r[CE] + entropy_weight * H for ``num_steps`` steps (Dong et al. 2020, Eqs. 4 to 7). The
distribution is a squashed normal one, not the normal of thesis section 5.2. As in the authors' code: mu = v = 0 at the
start, Adam without memory (betas 0, 0), the gradients add up over the steps, and one sample is drawn at the end.
Departures: the ascent sums over the batch where the code averages (Adam's step does not feel it, but for its epsilon),
so that an image's perturbation does not depend on its batch; and no gradient of the weights is computed on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

from aureole.core import checks
from aureole.core.balls import Ball, Linf
from aureole.core.errors import InputError
from aureole.core.method import Batch, Method, Terms
from aureole.core.model import frozen, predict
from aureole.core.random import Streams, streams_for


def squashed_normal(
    mu: Float[Tensor, "batch *event"], v: Float[Tensor, "batch *event"], noise: Float[Tensor, "batch *event"]
) -> tuple[Float[Tensor, "batch *event"], Float[Tensor, " batch"]]:
    """Return tanh(mu + softplus(v) * noise), and the sample's estimate of the entropy of each example.

    The estimate is the mean over the pixels of noise^2 / 2 + log(sigma) + log(1 - tanh^2), constants left out.
    """
    sigma = softplus(v)
    unit = torch.tanh(mu + sigma * noise)
    entropy = noise.square() / 2 + (sigma + 1e-8).log() + (1 - unit.square() + 1e-8).log()
    return unit, entropy.flatten(1).mean(1)


def check_box(ball: Ball) -> None:
    """Check that a ball is an Linf one: the squashed distribution fills a box.

    Raises:
        InputError: it is another.
    """
    if not isinstance(ball, Linf):
        raise InputError(f"ADT draws its perturbations in an Linf ball; got {ball}: use Linf(radius)")


def check_batch(model: nn.Module, batch: Batch, ball: Ball) -> None:
    """Check images, labels and devices as a search does.

    Raises:
        InputError: they are not as :mod:`aureole.core.checks` describes.
    """
    checks.check_images(batch.x, ball)
    checks.check_labels(batch.y, batch.x)
    checks.check_device(model, batch.x)


@dataclass(frozen=True, kw_only=True)
class ADTEXP(Method):
    """Adversarial distributional training, explicit form.

    Attributes:
        ball: where the perturbations lie; an Linf ball.
        num_steps: ascent steps.
        num_samples: draws a step.
        learning_rate: of the ascent.
        entropy_weight: of the entropy in the ascent.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> list(ADTEXP().loss(model, batch))
        ['robust']
    """

    title: ClassVar[str] = "ADT-EXP"

    ball: Linf = Linf(8 / 255)
    num_steps: int = 7
    num_samples: int = 5
    learning_rate: float = 0.3
    entropy_weight: float = 0.01

    def __post_init__(self) -> None:
        check_box(self.ball)
        if self.num_steps < 1 or self.num_samples < 1:
            raise InputError(f"num_steps and num_samples must be at least 1; got {self.num_steps}, {self.num_samples}")

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the cross-entropy at one sample of the fitted distributions."""
        check_batch(model, batch, self.ball)
        x, streams = batch.x.detach(), streams_for(batch.x, batch.streams)
        mu, v = self.fit(model, batch, streams)
        unit, _ = squashed_normal(mu, v, _noise(x, streams))
        x_adv = self.ball.project(x + self.ball.radius * unit, x)
        return Terms(robust=cross_entropy(predict(model, x_adv), batch.y))

    def fit(self, model: nn.Module, batch: Batch, streams: Streams) -> tuple[Tensor, Tensor]:
        """Return the location and the scale parameter of each pixel's perturbation, shapes of the images."""
        x = batch.x.detach()
        mu, v = (torch.zeros_like(x, requires_grad=True) for _ in range(2))
        ascent = torch.optim.Adam([mu, v], lr=self.learning_rate, betas=(0.0, 0.0), maximize=True)
        with frozen(model), torch.enable_grad():
            for _ in range(self.num_steps):
                for _ in range(self.num_samples):
                    unit, entropy = squashed_normal(mu, v, _noise(x, streams))
                    x_adv = self.ball.clip(x + self.ball.radius * unit)
                    value = cross_entropy(predict(model, x_adv), batch.y, reduction="none")
                    (value + self.entropy_weight * entropy).sum().backward(inputs=[mu, v])
                ascent.step()
        return mu.detach(), v.detach()


def _noise(x: Tensor, streams: Streams) -> Tensor:
    return streams.normal(tuple(x.shape)).to(x.dtype)
