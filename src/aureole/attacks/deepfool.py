"""DeepFool: step to the nearest class boundary of the linearised model, until the real one is crossed.

    k = argmin_k |f_k| / ||w_k||*,   f_k = z_k - z_y,  w_k = grad f_k
    x_adv <- clip(x + (1 + overshoot) * r),   r <- r + |f_k| / ||w_k||* * steepest(w_k)

Moosavi-Dezfooli et al. 2016, Algorithm 2 and section 3.4; ||.||* is the dual of the ball's norm, <w, steepest(w)>. The
authors' code adds 1e-4 to every step's length; we add a few roundings of the logits to |f_k|, which is as safe on the
boundary and does not lengthen short steps. Where the model saturates, a linearised step may go far beyond the boundary;
``num_bisections`` then finds the boundary on the way back, which the paper does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aureole.attacks.fields import check_counts, check_numbers
from aureole.attacks.jacobian import Linearised
from aureole.attacks.minimal import MinimalAttack
from aureole.core.balls import L2, Ball, Linf
from aureole.core.errors import InputError
from aureole.core.model import predict
from aureole.core.random import Streams


class Walk(NamedTuple):
    """Where DeepFool went from each image.

    Attributes:
        x_adv: the last images, overshoot included.
        delta: the sum of the steps, without the overshoot: x + delta is on the boundary, nearly.
        toward: the class on the other side.
        fooled: the model misclassifies ``x_adv``.
    """

    x_adv: Tensor
    delta: Tensor
    toward: Tensor
    fooled: Tensor


@dataclass(frozen=True, kw_only=True)
class DeepFool(MinimalAttack):
    """The nearest boundary by linearisation (Moosavi-Dezfooli et al. 2016), in L2 or Linf.

    Attributes:
        ball: its norm is what the steps minimise; its radius limits a call, and not ``minimize``.
        num_candidates: classes that count, the label's included, by their logits at the image; None for all.
        num_steps: most steps.
        overshoot: how far beyond the linearised boundary, as a share of the way to it.
        num_bisections: halvings of the interval in which the last image lies on the way from the first; 0 as the paper.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x = torch.rand(5, 1, 2, 2)
        >>> x_adv = DeepFool(ball=L2(0.5, bounds=None)).minimize(model, x)
        >>> bool((model(x_adv).argmax(-1) != model(x).argmax(-1)).all())
        True
    """

    ball: Ball = L2(0.5)
    num_candidates: int | None = 10
    num_steps: int = 50
    overshoot: float = 0.02
    num_bisections: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.ball, L2 | Linf):
            raise InputError(f"DeepFool works in L2 and Linf; got {self.ball!r} (for few pixels: SparseFool)")
        check_counts(self, num_candidates=2, num_steps=1, num_bisections=0, max_batch=1)
        check_numbers(self, "overshoot", zero=True)

    def _minimize(self, model: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        walk = self.walk(model, x, y)
        return torch.where(walk.fooled.view(-1, *(1,) * (x.ndim - 1)), walk.x_adv, x)

    def walk(self, model: nn.Module, x: Tensor, y: Tensor) -> Walk:
        """Step until every image is misclassified, or the steps are spent.

        Args:
            model: a frozen model.
            x: images, shape (batch, *event).
            y: the classes to leave.

        Returns:
            Where it went; an image that is misclassified already stays.
        """
        walk = Walk(x.clone(), torch.zeros_like(x), y.clone(), torch.zeros_like(y, dtype=torch.bool))
        live, others = torch.arange(len(x), device=x.device), y[:, None]
        for count in range(self.num_steps + 1):
            here = Linearised(model, walk.x_adv[live])
            if count == 0:
                others = self._candidates(here.logits, y)
            answer = here.logits.argmax(-1)
            done = answer != y[live]
            walk.fooled[live] = done
            walk.toward[live[done]] = answer[done]
            if count == self.num_steps or bool(done.all()):
                break
            step, toward = self._step(here, y[live], others[live])
            going = ~done
            live, step = live[going], step[going]
            walk.toward[live] = toward[going]
            walk.delta[live] += step
            walk.x_adv[live] = self._beyond(x[live], walk.delta[live])
        if self.num_bisections:
            self._shorten(model, x, y, walk)
        return walk

    def _beyond(self, x: Tensor, delta: Tensor) -> Tensor:
        return self.ball.clip(x + (1 + self.overshoot) * delta)

    def _shorten(self, model: nn.Module, x: Tensor, y: Tensor, walk: Walk) -> None:
        """Bisect between the images and those that fool the model, in place."""
        rows = walk.fooled.nonzero()[:, 0]
        if not len(rows):
            return
        x, y, delta, toward = x[rows], y[rows], walk.delta[rows], walk.toward[rows]
        near = torch.zeros(len(rows), *(1,) * (x.ndim - 1), dtype=x.dtype, device=x.device)
        far = torch.ones_like(near)
        for _ in range(self.num_bisections):
            middle = (near + far) / 2
            answer = predict(model, self._beyond(x, middle * delta)).argmax(-1)
            toward = torch.where(answer != y, answer, toward)
            hit = (answer != y).view_as(near)
            near, far = torch.where(hit, near, middle), torch.where(hit, middle, far)
        walk.delta[rows], walk.toward[rows] = far * delta, toward
        walk.x_adv[rows] = self._beyond(x, far * delta)

    def _candidates(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the most likely classes other than ``y``, shape (batch, candidates)."""
        count = min(self.num_candidates or logits.shape[1], logits.shape[1]) - 1
        return logits.scatter(1, y[:, None], -torch.inf).topk(count).indices

    def _step(self, here: Linearised, y: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Return the step to the nearest linearised boundary, and the class beyond it; zero where no gradient is."""
        event_ndim, rounding = here.x.ndim - 1, 8 * torch.finfo(here.logits.dtype).eps
        slack = rounding * (1 + here.logits.abs().amax(1))
        nearest = torch.full_like(slack, torch.inf)
        best, toward = torch.zeros_like(here.x), y
        for other in others.unbind(1):
            value, gradient = here.difference(other, y)
            direction = self.ball.steepest(gradient, event_ndim)
            dual = (gradient * direction).flatten(1).sum(1)
            distance = torch.where(dual > 0, (value.abs() + slack) / dual, torch.inf)
            nearer = distance < nearest
            nearest, toward = torch.where(nearer, distance, nearest), torch.where(nearer, other, toward)
            best = torch.where(nearer.view(-1, *(1,) * event_ndim), direction, best)
        length = nearest.where(nearest.isfinite(), 0)
        return length.view(-1, *(1,) * event_ndim) * best, toward
