"""Carlini and Wagner's L2 attack: the nearest adversarial image as the minimum of distance and margin together.

    min_w ||x(w) - x||^2 + c max(0, z_y - max_{k != y} z_k + confidence),   x(w) = low + (tanh w + 1) / 2 * (high - low)

Carlini and Wagner 2017, sections V and VI: tanh keeps the bounds of the data, Adam descends, and a search over c,
upwards by ten until an image is fooled and then by halving, finds the smallest that fools. Each image has its own c,
its own Adam and its own early stop, so that images of a batch do not meet. (The authors' code repeats the greatest c
in the last of ten or more searches; this one does not.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aureole.attacks.fields import check_counts, check_numbers
from aureole.attacks.minimal import MinimalAttack
from aureole.core.balls import L2, Ball
from aureole.core.errors import InputError
from aureole.core.model import predict
from aureole.core.objectives import Margin
from aureole.core.random import Streams

_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # Adam's
_INSIDE = 0.999999  # of the range: arctanh of a bound is infinite
_CHECKS, _WINDOW = 10, 20  # looks for progress in one search, and the least steps between two: Adam swings at first


class _Descent(NamedTuple):
    """What each image takes along: a row an image."""

    row: Tensor
    x: Tensor
    y: Tensor
    constant: Tensor
    w: Tensor
    mean: Tensor
    square: Tensor
    least: Tensor
    checked: Tensor

    def select(self, keep: Tensor) -> _Descent:
        return self if bool(keep.all()) else _Descent(*(rows[keep] for rows in self))


class _Best(NamedTuple):
    """The nearest adversarial image so far of every image, and its distance; updated in place."""

    x_adv: Tensor
    distance: Tensor


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(MinimalAttack):
    """The nearest adversarial image in L2 by descent (Carlini and Wagner 2017).

    Attributes:
        ball: an L2 ball with bounds; its radius limits a call, and not ``minimize``.
        num_steps: most steps of one search; the paper takes 10,000.
        step_size: Adam's rate, in the space of tanh.
        num_searches: values of the constant that are tried.
        initial_constant: the first of them.
        confidence: margin that an adversarial image must have, in logits.
        abort_early: stop an image whose least loss did not fall by a ten-thousandth in a tenth of the steps.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x = torch.rand(5, 1, 2, 2)
        >>> x_adv = CarliniWagner(ball=L2(0.5), num_steps=20, num_searches=3)(model, x)
        >>> bool(L2(0.5).contains(x_adv, x).all())
        True
    """

    ball: Ball = L2(0.5)
    num_steps: int = 1000
    step_size: float = 0.01
    num_searches: int = 9
    initial_constant: float = 1e-3
    confidence: float = 0.0
    abort_early: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.ball, L2) or self.ball.bounds is None:
            raise InputError(f"CarliniWagner needs an L2 ball with bounds, such as L2(0.5); got {self.ball!r}")
        check_counts(self, num_steps=1, num_searches=1, max_batch=1)
        check_numbers(self, "step_size", "initial_constant")
        check_numbers(self, "confidence", zero=True)

    def _minimize(self, model: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        constant = x.new_full((len(x),), self.initial_constant)
        low, high = torch.zeros_like(constant), torch.full_like(constant, torch.inf)
        best = _Best(x.clone(), torch.full_like(constant, torch.inf))
        for _ in range(self.num_searches):
            fooled = self._descend(model, x, y, constant, best)
            low, high = torch.where(fooled, low, constant), torch.where(fooled, constant, high)
            constant = torch.where(high.isfinite(), (low + high) / 2, 10 * constant)
        return best.x_adv

    def _descend(self, model: nn.Module, x: Tensor, y: Tensor, constant: Tensor, best: _Best) -> Tensor:
        """Minimise the loss from the images on; return which were fooled on the way, and keep the nearest in best."""
        w, zero = self._to_tanh(x), torch.zeros_like(x)
        index, fooled = torch.arange(len(x), device=x.device), torch.zeros_like(y, dtype=torch.bool)
        endless = torch.full_like(constant, torch.inf)
        state = _Descent(index, x, y, constant, w, zero, zero, endless, endless)
        check = max(_WINDOW, -(-self.num_steps // _CHECKS))
        for count in range(self.num_steps):
            loss, gradient, x_adv, hit = self._loss(model, state)
            self._keep(best, state, x_adv, hit)
            fooled[state.row[hit]] = True
            state = _adam(state, gradient, count + 1, self.step_size)
            state = state._replace(least=torch.minimum(loss, state.least))
            if self.abort_early and count % check == 0:
                falling = state.least < 0.9999 * state.checked
                state = state._replace(checked=state.least).select(falling)
                if not len(state.row):
                    break
        return fooled

    def _loss(self, model: nn.Module, state: _Descent) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the loss, its gradient to w, the images, and whether each fools the model by the confidence."""
        with torch.enable_grad():
            w = state.w.detach().requires_grad_()
            x_adv = self._from_tanh(w)
            margin = Margin()(logits := predict(model, x_adv), labels=state.y)
            hinge = (self.confidence - margin).clamp_min(0)
            loss = (x_adv - state.x).square().flatten(1).sum(1) + state.constant * hinge
            (gradient,) = torch.autograd.grad(loss.sum(), w)
        hit = (logits.argmax(-1) != state.y) & (margin >= self.confidence)
        return loss.detach(), gradient, x_adv.detach(), hit

    def _keep(self, best: _Best, state: _Descent, x_adv: Tensor, hit: Tensor) -> None:
        distance = self.ball.distance(x_adv, state.x)
        nearer = hit & (distance < best.distance[state.row])
        best.x_adv[state.row[nearer]] = x_adv[nearer]
        best.distance[state.row[nearer]] = distance[nearer]

    def _to_tanh(self, x: Tensor) -> Tensor:
        low, high = self._limits(x)
        return (_INSIDE * (2 * (x - low) / (high - low) - 1).clamp(-1, 1)).atanh()

    def _from_tanh(self, w: Tensor) -> Tensor:
        low, high = self._limits(w)
        return self.ball.clip(low + (w.tanh() + 1) / 2 * (high - low))

    def _limits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        limits = self.ball.limits(x)
        assert limits is not None
        return limits


def _adam(state: _Descent, gradient: Tensor, count: int, step_size: float) -> _Descent:
    """Take one step of Adam (Kingma and Ba 2015) in every element."""
    first, second = _BETAS
    mean = first * state.mean + (1 - first) * gradient
    square = second * state.square + (1 - second) * gradient.square()
    scale = (square / (1 - second**count)).sqrt() + _EPSILON
    return state._replace(w=state.w - step_size / (1 - first**count) * mean / scale, mean=mean, square=square)
