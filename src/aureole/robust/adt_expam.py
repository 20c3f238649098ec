"""ADT-EXPAM: as ADT-EXP, with a network that gives the distribution of each image's perturbations at once.

    L = CE(f(x_adv), y) - entropy_weight * H,    (mu, v) = g([x, grad CE(x), grad CE(x_fgsm)]),
    x_adv = clip(x + radius * tanh(mu + softplus(v) * r)),    r ~ N(0, 1)

The classifier descends L and the generator g ascends the cross-entropy, in one backward pass: the gradient is reversed
where it enters g (Dong et al. 2020, section 3.3). The classifier is in evaluation mode for the two input gradients and
in training mode for the loss, as in the authors' code. Departures: the generator is our own plain residual network of
the same depth (3 blocks), with group normalisation, so that an image's perturbation does not depend on its batch; the
two gradients are scaled to a largest value of 1 in each image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from aureole.core.balls import Linf
from aureole.core.errors import InputError
from aureole.core.method import Batch, Method, Terms
from aureole.core.model import frozen, predict
from aureole.core.random import streams_for
from aureole.robust.adt_exp import check_batch, check_box, squashed_normal


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.GroupNorm(8, width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.GroupNorm(8, width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class PerturbationGenerator(nn.Module):
    """Maps an image and two of its gradients to the location and the scale parameter of every pixel's perturbation.

    Args:
        channels: channels of the images.
        width: hidden channels, a multiple of 8.
        num_blocks: residual blocks.
    """

    def __init__(self, channels: int, width: int = 256, num_blocks: int = 3) -> None:
        super().__init__()
        if width % 8:
            raise InputError(f"the generator's width must be a multiple of 8; got {width}")
        self.body = nn.Sequential(
            nn.Conv2d(3 * channels, width, 3, padding=1), nn.ReLU(),
            *(_Residual(width) for _ in range(num_blocks)),
            nn.Conv2d(width, 2 * channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "batch in_channels h w"]) -> tuple[Tensor, Tensor]:
        """Return (mu, v), each of shape (batch, channels, height, width)."""
        mu, v = self.body(x).chunk(2, dim=1)
        return mu, v


class _Reverse(torch.autograd.Function):
    """The identity forward; the negative gradient backward."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return -gradients[0]


@dataclass(frozen=True, kw_only=True)
class ADTEXPAM(Method):
    """Adversarial distributional training, explicit form with an amortised generator.

    Attributes:
        ball: where the perturbations lie; an Linf ball.
        entropy_weight: of the entropy.
        width: hidden channels of the generator.
        learning_rate: of the generator's Adam, betas (0.5, 0.999).

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> method = ADTEXPAM(width=8)
        >>> list(method.loss(model, batch, method.own(model, batch.x)))
        ['robust', 'entropy']
    """

    title: ClassVar[str] = "ADT-EXPAM"

    ball: Linf = Linf(8 / 255)
    entropy_weight: float = 0.01
    width: int = 256
    learning_rate: float = 2e-4

    def __post_init__(self) -> None:
        check_box(self.ball)

    def own(self, model: nn.Module, x: Float[Tensor, "batch *event"]) -> nn.Module:
        """Return the generator."""
        if x.ndim != 4:
            raise InputError(f"ADT-EXPAM needs images (batch, channels, height, width); got the shape {tuple(x.shape)}")
        return PerturbationGenerator(x.shape[1], self.width).to(x)

    def own_optimizer(self, modules: nn.Module) -> torch.optim.Optimizer:
        """Return the generator's Adam."""
        return torch.optim.Adam(modules.parameters(), lr=self.learning_rate, betas=(0.5, 0.999))

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the adversarial cross-entropy and the negative entropy."""
        if modules is None:
            raise InputError("ADT-EXPAM trains a generator: pass what own(model, x) returned as `modules`")
        check_batch(model, batch, self.ball)
        x, streams = batch.x.detach(), streams_for(batch.x, batch.streams)
        first = self._gradient(model, x, batch.y)
        second = self._gradient(model, self.ball.project(x + self.ball.radius * first.sign(), x), batch.y)
        mu, v = modules(torch.cat([x, _scaled(first), _scaled(second)], dim=1))
        unit, entropy = squashed_normal(mu, v, streams.normal(tuple(x.shape)).to(x.dtype))
        x_adv = _Reverse.apply(self.ball.clip(x + self.ball.radius * unit))
        assert isinstance(x_adv, Tensor)
        return Terms(
            robust=cross_entropy(predict(model, x_adv), batch.y), entropy=-self.entropy_weight * entropy.mean()
        )

    @staticmethod
    def _gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with frozen(model), torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(cross_entropy(predict(model, x), y, reduction="sum"), x)[0]


def _scaled(gradient: Tensor) -> Tensor:
    return gradient / gradient.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-30)
