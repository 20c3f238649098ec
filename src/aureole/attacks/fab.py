"""FAB: walk along the decision boundary towards the image (Croce and Hein 2020, ICML).

    d1, d2  = the shortest moves, inside the bounds, of x_k and of x to the boundary as linearised at x_k
    alpha   = min(|d1| / (|d1| + |d2|), alpha_max)
    x_{k+1} = clip((1 - alpha) (x_k + eta d1) + alpha (x + eta d2))
    x_{k+1} = x + beta (x_{k+1} - x)    where x_{k+1} is misclassified

The boundary is that between the label and a target class, or without targets the nearest of those to all classes, by
their linearised distance. Rules and numbers are those of the authors' code. Unlike it, a point is done at its first
misclassified image within the radius, which changes no outcome: the points do not interact, and only the smallest
distance is compared with the radius. A point for which there is none keeps its image.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from aureole.attacks.fab_projections import PlaneProjection
from aureole.attacks.jacobian import Linearised
from aureole.attacks.pool import Answer, Procedure, Rows, Verdict, choose
from aureole.attacks.pooled import PooledAttack
from aureole.core.balls import Linf
from aureole.core.errors import InputError


@dataclass
class BoundaryRows(Rows):
    """Runs of FAB.

    Attributes:
        others: the classes whose boundaries with the label are looked at.
        x_adv: the iterate.
    """

    others: Int64[Tensor, "rows others"]
    x_adv: Float[Tensor, "rows *event"]


class BoundaryWalk(Procedure[BoundaryRows]):
    """FAB as a state machine over rows: a turn is a step, with a gradient, and a look at where it leads, without."""

    needs_gradient = False

    def __init__(self, attack: FAB, num_classes: int) -> None:
        self.attack, self.ball, self.onto_plane = attack, attack.ball, PlaneProjection(attack.ball)
        num_targets = min(attack.num_targets, num_classes - 1) if attack.targeted else 1
        self.num_phases, self.num_passes = num_targets * attack.num_restarts, attack.num_steps

    def begin(self, rows: Rows, clean: Tensor) -> BoundaryRows:
        return BoundaryRows(
            **{f.name: getattr(rows, f.name) for f in fields(rows)},
            others=self._others(rows, clean),
            x_adv=self._start(rows),
        )

    def _others(self, rows: Rows, clean: Tensor) -> Tensor:
        """Return the target of each run, in the order of the clean logits; or all classes but the label."""
        if self.attack.targeted:  # the label comes last in this order: the pool attacks what is classified correctly
            rank = rows.phase // self.attack.num_restarts
            return clean.argsort(-1).gather(1, (clean.shape[1] - 2 - rank)[:, None])
        classes = torch.arange(clean.shape[1] - 1, device=clean.device)
        return classes + (classes >= rows.y[:, None])

    def _start(self, rows: Rows) -> Tensor:
        """Return the images; from the second restart on with noise of half the radius."""
        if self.attack.num_restarts == 1:
            return rows.x
        shape, streams = tuple(rows.x.shape), rows.streams
        noise = streams.uniform(shape).mul_(2).sub_(1) if isinstance(self.ball, Linf) else streams.normal(shape)
        length = self.ball.norm(noise, noise.ndim - 1).view(-1, *(1,) * (noise.ndim - 1))
        noisy = self.ball.clip(rows.x + (self.ball.radius / 2 * noise / length).to(rows.x.dtype))
        return choose(rows.phase % self.attack.num_restarts > 0, noisy, rows.x)

    def prepare(self, model: nn.Module, rows: BoundaryRows) -> BoundaryRows:
        value, gradient = self._boundary(Linearised(model, rows.x_adv), rows)
        ends = torch.stack([rows.x_adv, rows.x])
        gap = value - (gradient * (rows.x_adv - ends)).flatten(2).sum(-1)
        moves = self.onto_plane(ends, gradient, gap)
        near, far = self.ball.norm(moves, rows.x.ndim - 1).clamp_min(1e-8)
        alpha = (near / (near + far)).clamp_max(self.attack.alpha_max)
        here, there = ends + self.attack.eta * moves
        return replace(rows, x_adv=self.ball.clip(here.lerp(there, alpha.view(-1, *(1,) * (rows.x.ndim - 1)))))

    def _boundary(self, here: Linearised, rows: BoundaryRows) -> tuple[Tensor, Tensor]:
        """Return by how much the other class is ahead of the label, and its gradient, at the nearest boundary."""
        best, nearest = None, torch.empty(0)
        for other in rows.others.unbind(1):
            value, gradient = here.difference(other, rows.y)
            value = value.to(gradient.dtype)
            if rows.others.shape[1] == 1:
                return value, gradient
            slope = (gradient * self.ball.steepest(gradient, gradient.ndim - 1)).flatten(1).sum(1)
            distance = value.abs() / (slope + 1e-12)
            if best is None:
                best, nearest = (value, gradient), distance
            nearer = distance < nearest
            best = choose(nearer, value, best[0]), choose(nearer, gradient, best[1])
            nearest = torch.minimum(distance, nearest)
        assert best is not None
        return best

    def ask(self, rows: BoundaryRows) -> Tensor:
        return rows.x_adv

    def tell(self, rows: BoundaryRows, answer: Answer) -> tuple[BoundaryRows, Verdict]:
        wrong = answer.logits.argmax(-1) != rows.y
        distance = self.ball.distance(rows.x_adv, rows.x)
        fooled = wrong & (distance <= self.ball.radius)
        done = fooled | (rows.passes + 1 == self.attack.num_steps)
        verdict = Verdict(done, fooled, choose(fooled, rows.x_adv, rows.x), -distance)
        back = rows.x + self.attack.beta * (rows.x_adv - rows.x)
        return replace(rows, x_adv=choose(wrong, back, rows.x_adv)), verdict


@dataclass(frozen=True, kw_only=True)
class FAB(PooledAttack):
    """The fast adaptive boundary attack: success is a misclassified image within the radius (Croce and Hein 2020).

    Attributes:
        targeted: one run towards each of the classes next to the label (FAB-T of AutoAttack), which takes one gradient
            a step; else each step looks at the boundaries to all classes, with a gradient for each.
        num_targets: classes tried, from the largest wrong logit of the clean image down; at most all but the label.
        num_steps: steps of a run.
        num_restarts: runs, for each target; the first starts at the image, the others at random, at half the radius.
        alpha_max: the greatest weight of the image against the iterate, in [0, 1].
        eta: how far each move goes, as a multiple of the way to the boundary, at least 1.
        beta: share of the perturbation that is kept after a success, in (0, 1).

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
        >>> x_adv = FAB(ball=Linf(0.1), num_steps=10)(model, x, y)
        >>> Linf(0.1).contains(x_adv, x)
        tensor([True, True])
    """

    targeted: bool = True
    num_targets: int = 9
    num_steps: int = 100
    num_restarts: int = 1
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the journal knows the attack by."""
        return "fab-t" if self.targeted else "fab"

    def __post_init__(self) -> None:
        super().__post_init__()
        PlaneProjection(self.ball)  # refuses balls that it has no rule for
        for name in ("num_targets", "num_steps", "num_restarts"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1; got {getattr(self, name)}")
        if not 0 <= self.alpha_max <= 1:
            raise InputError(f"alpha_max must lie in [0, 1]; got {self.alpha_max}")
        if not self.eta >= 1:
            raise InputError(f"eta, the overshoot, must be at least 1; got {self.eta}")
        if not 0 < self.beta < 1:
            raise InputError(f"beta, the share kept after a success, must lie in (0, 1); got {self.beta}")

    def procedure(self, num_classes: int) -> BoundaryWalk:
        """Return the attack as a state machine over rows."""
        return BoundaryWalk(self, num_classes)
