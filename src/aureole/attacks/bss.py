"""BSS: walk from an image to the boundary between its class and a target class, with steps that the logit gap sets.

    x_adv <- clip(x_adv + step_size (z_b - z_k + 1e-4) g / ||g||_2),    g = grad (z_k - z_b)

with b the class that the model predicts at the image and k the target. An image stops as soon as it is classified
otherwise than b, as any class, so that it lies just beyond a boundary: a boundary supporting sample. Heo et al. 2019,
section 3.2; constants of their code, which has neither a ball nor a random start, and divides by ||g|| even where it is
zero (such an image stays where it is, here). The comparison in thesis section 7.4.1 needs both: they are fields.

The step has the units of the images: 0.3 is the authors', for images that are normalised before the attack. Where the
network normalises images of [0, 1] itself, 0.3 times its standard deviation is the same attack (0.08 for CIFAR).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from aureole.attacks.fields import check_counts, check_numbers
from aureole.attacks.jacobian import Linearised
from aureole.attacks.minimal import MinimalAttack
from aureole.core import checks
from aureole.core.balls import L2, Ball, Bounds
from aureole.core.model import predict, searched
from aureole.core.random import Streams, streams_for

_EUCLIDEAN = L2(1.0, bounds=None)
_SLACK = 1e-4  # of the gap, so that the step crosses the boundary and does not end on it


class Crossing(NamedTuple):
    """Where BSS went from each image.

    Attributes:
        x_adv: the last images.
        base: the class that was left.
        target: the class that was walked to.
        crossed: the model no longer predicts ``base`` at ``x_adv``.
    """

    x_adv: Float[Tensor, "batch *event"]
    base: Int[Tensor, " batch"]
    target: Int[Tensor, " batch"]
    crossed: Bool[Tensor, " batch"]


def sample_targets(
    logits: Float[Tensor, "batch classes"], streams: Streams, exclude: Int[Tensor, " batch"] | None = None
) -> Int[Tensor, " batch"]:
    """Draw another class for each image: class c with probability p_c / (1 - p_excluded), p = softmax(logits).

    Args:
        logits: of the images.
        streams: one random stream an example; moves on by one draw.
        exclude: the class that is not drawn; None takes the predicted one.

    Example:
        >>> from aureole.attacks.bss import sample_targets
        >>> sample_targets(torch.tensor([[9.0, 0.0, 20.0], [0.0, 30.0, 0.0]]), Streams(torch.arange(2)))[0]
        tensor(0)

    Source: Heo et al. 2019, section 3.3.
    """
    exclude = logits.argmax(-1) if exclude is None else exclude.long()
    others = logits.detach().double().scatter(1, exclude[:, None], -torch.inf)
    cumulative = others.softmax(-1).cumsum(-1)
    drawn = streams.uniform((len(logits),)).double()[:, None] * cumulative[:, -1:]
    return (cumulative <= drawn).sum(-1)


@dataclass(frozen=True, kw_only=True)
class BSSAttack(MinimalAttack):
    """Steps to the boundary, as long as the gap between two logits (Heo et al. 2019).

    Attributes:
        ball: its bounds hold at every step; its radius limits a call, and with ``project`` every step.
        num_steps: most steps.
        step_size: length of a step for a gap of one logit, in the units of the images.
        random_start: begin at x + random_start * U(-1, 1), another point for each stream; 0 begins at the image.
        project: move every step back into the ball.

    Example:
        >>> from aureole.attacks.bss import BSSAttack
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x = torch.rand(5, 1, 2, 2)
        >>> found = BSSAttack(ball=L2(0.5, bounds=None), num_steps=50).cross(model, x)
        >>> bool((model(found.x_adv).argmax(-1) != found.base).all())
        True
    """

    ball: Ball = L2(0.5)
    num_steps: int = 10
    step_size: float = 0.3
    random_start: float = 0.0
    project: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, num_steps=1, max_batch=1)
        check_numbers(self, "step_size")
        check_numbers(self, "random_start", zero=True)

    @classmethod
    def thesis(cls, unit: float = 1.0, bounds: Bounds | None = (0.0, 1.0)) -> BSSAttack:
        """Return the attack that figure 7.1 compares with: random start, and every step in a ball of 0.3.

        Args:
            unit: what a length of 1 in normalised images is in these: the standard deviation that the network divides
                images of [0, 1] by, or 1 where the images are normalised already.
            bounds: of the images.
        """
        ball = L2(0.3 * unit, bounds)
        return cls(ball=ball, step_size=0.3 * unit, random_start=0.3 * unit, project=True)

    def cross(
        self,
        model: nn.Module,
        x: Float[Tensor, "batch *event"],
        targets: Int[Tensor, " batch"] | None = None,
        *,
        generator: torch.Generator | Streams | None = None,
    ) -> Crossing:
        """Walk from the predicted class of each image to its target, at whatever distance.

        Args:
            model: maps images (batch, *event) to logits (batch, classes).
            x: images inside the bounds of the ball.
            targets: a class for each image; None draws it by the model's own probabilities.
            generator: source of targets and starts; see :func:`aureole.core.random.streams_for`.

        Returns:
            The last images, those that did not cross included. An image whose target is its class is not walked.

        Raises:
            InputError: images, targets, devices or the model's output are not as described.
        """
        checks.check_call(model, x, targets, self.ball)
        streams = streams_for(x, generator)
        with searched(model, x) as images:
            parts = []
            for begin in range(0, len(images), self.max_batch or len(images)):
                part = slice(begin, begin + (self.max_batch or len(images)))
                logits, own = predict(model, images[part]), streams.select(part)
                aims = sample_targets(logits, own) if targets is None else targets[part].long()
                checks.check_classes(aims, logits.shape[1])
                parts.append(self._walk(model, images[part], logits.argmax(-1), aims, own))
        streams.draws += 1  # the parts drew from copies of the streams
        return Crossing(*(torch.cat(rows) for rows in zip(*parts, strict=True)))

    def _minimize(self, model: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        found = self._walk(model, x, y, sample_targets(predict(model, x), streams, y), streams)
        return torch.where(found.crossed.view(-1, *(1,) * (x.ndim - 1)), found.x_adv, x)

    def _walk(self, model: nn.Module, x: Tensor, base: Tensor, target: Tensor, streams: Streams) -> Crossing:
        """Step until every image has left its class, or the steps are spent; the model is frozen."""
        event = (1,) * (x.ndim - 1)
        x_adv, crossed = self._start(x, streams), torch.zeros_like(base, dtype=torch.bool)
        live = (target != base).nonzero()[:, 0]
        for count in range(self.num_steps + 1 if len(live) else 0):
            here = Linearised(model, x_adv[live])
            left = here.logits.argmax(-1) != base[live]
            crossed[live] = left
            if count == self.num_steps or bool(left.all()):
                break
            ahead, gradient = here.difference(target[live], base[live])
            length = (self.step_size * (_SLACK - ahead)).view(-1, *event).to(x.dtype)
            moved = here.x.detach() + length * _EUCLIDEAN.steepest(gradient, len(event))
            moved, live = moved[~left], live[~left]
            x_adv[live] = self._limit(moved, x[live])
        return Crossing(x_adv, base, target, crossed)

    def _start(self, x: Tensor, streams: Streams) -> Tensor:
        if not self.random_start:
            return x.clone()
        noise = streams.fork(streams.draws).uniform(tuple(x.shape)).mul_(2).sub_(1)
        return self._limit(x + self.random_start * noise.to(x.dtype), x)

    def _limit(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return self.ball.project(x_adv, x) if self.project else self.ball.clip(x_adv)
