"""APGD: projected gradient ascent that halves its own step (Croce and Hein 2020; in L1: Croce and Hein 2021).

    z       = retract(x_k + step * steepest(g_k))
    x_{k+1} = retract(x_k + a (z - x_k) + (1 - a) (x_k - x_{k-1})),    a = 3/4, in the first step 1

The step starts at twice the radius. At each checkpoint it is halved, and the run goes back to its best point, where too
few of the steps since the last one raised the loss, or where the best loss has not changed since. Checkpoints come
after 22 % of the steps, then in gaps 3 % shorter each, down to 6 %.

Budgets, rules and starts are those of the authors' code, its quirk included: the first checkpoint compares the loss of
the first step with zero. Unlike it, a point leaves at its first misclassified iterate, which changes no outcome: the
points do not interact. The rules for L1 are in :mod:`aureole.attacks.apgd_l1`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from aureole.attacks.pool import Answer, Procedure, Rows, Verdict, choose
from aureole.attacks.pooled import PooledAttack
from aureole.core.balls import L1
from aureole.core.errors import InputError
from aureole.core.objectives import CrossEntropy, Objective, targeted_dlr


@dataclass
class AscentRows(Rows):
    """Runs of APGD.

    Attributes:
        target: class of the targeted loss, or the label.
        x_adv: the iterate to look at next.
        before: the iterate before it.
        step: step size, shape (rows, 1, ...).
        best: iterate of the highest loss, ``best_loss``, with its gradient ``best_gradient``.
        last_loss: loss of the iterate before.
        rises: steps that raised the loss since the last checkpoint.
        checked_loss: the best loss at the last checkpoint.
        halved: the step was halved there.
        hit: an iterate has fooled the model; ``fooling`` is the last that did, the iterate itself before.
    """

    target: Int64[Tensor, " rows"]
    x_adv: Float[Tensor, "rows *event"]
    before: Float[Tensor, "rows *event"]
    step: Float[Tensor, "rows *ones"]
    best: Float[Tensor, "rows *event"]
    best_gradient: Float[Tensor, "rows *event"]
    best_loss: Float[Tensor, " rows"]
    last_loss: Float[Tensor, " rows"]
    rises: Int64[Tensor, " rows"]
    checked_loss: Float[Tensor, " rows"]
    halved: Bool[Tensor, " rows"]
    hit: Bool[Tensor, " rows"]
    fooling: Float[Tensor, "rows *event"]


A = TypeVar("A", bound=AscentRows)


def checkpoints(num_steps: int) -> list[int]:
    """Return, for each step, the number of steps since the last checkpoint if it is one, else 0.

    Example:
        >>> [step for step, gap in enumerate(checkpoints(100)) if gap]
        [21, 40, 56, 69, 79, 86, 92, 98]
    """
    gap, least, shorter = (max(int(share * num_steps), 1) for share in (0.22, 0.06, 0.03))
    gaps, since = [0] * num_steps, 0
    for step in range(num_steps):
        since += 1
        if since == gap:
            gaps[step], gap, since = gap, max(gap - shorter, least), 0
    return gaps


class Ascent(Procedure[AscentRows]):
    """APGD in Linf and L2 as a state machine over rows."""

    def __init__(self, attack: APGD, num_classes: int) -> None:
        self.attack, self.ball = attack, attack.ball
        self.num_targets = attack.targets(num_classes)
        self.num_phases = attack.num_restarts * self.num_targets
        self.num_passes = attack.num_steps + 1
        self.num_samples = attack.num_samples
        self.gaps = torch.tensor(checkpoints(attack.num_steps))
        self.warns_of_zero = not isinstance(attack.objective, CrossEntropy) or isinstance(attack, TargetedAPGD)

    def loss(self, logits: Tensor, rows: AscentRows) -> Tensor:
        return self.attack.value(logits, rows.y, rows.target)

    def begin(self, rows: Rows, clean: Tensor) -> AscentRows:
        self.gaps, target = self.gaps.to(rows.x.device), rows.y
        if isinstance(self.attack, TargetedAPGD):  # the largest wrong logits, in turn
            target = clean.argsort(-1).gather(
                1, (-2 - rows.phase // self.attack.num_restarts)[:, None] + clean.shape[1]
            )
            target = target.squeeze(1)
        x_adv = self.ball.sample_boundary(rows.x, rows.streams)
        zero = torch.zeros_like(rows.passes)
        return AscentRows(
            **{f.name: getattr(rows, f.name) for f in fields(rows)},
            target=target,
            x_adv=x_adv,
            before=x_adv,
            step=torch.full_like(x_adv[(slice(None), *(slice(1),) * (x_adv.ndim - 1))], 2 * self.ball.radius),
            best=x_adv,
            best_gradient=torch.zeros_like(x_adv),
            best_loss=torch.full_like(clean[:, 0], -torch.inf),
            last_loss=torch.zeros_like(clean[:, 0]),
            rises=zero,
            checked_loss=torch.full_like(clean[:, 0], -torch.inf),
            halved=torch.ones_like(zero, dtype=torch.bool),
            hit=torch.zeros_like(zero, dtype=torch.bool),
            fooling=x_adv,
        )

    def ask(self, rows: AscentRows) -> Tensor:
        return rows.x_adv

    def tell(self, rows: AscentRows, answer: Answer) -> tuple[AscentRows, Verdict]:
        rows, now = remember(rows, answer), answer.logits.argmax(-1) != rows.y
        rows.hit, over = rows.hit | now, rows.passes == self.attack.num_steps
        rows.fooling = rows.x_adv if self.attack.stop_at_success else choose(now, rows.x_adv, rows.fooling)
        done = over | (rows.hit & self.attack.stop_at_success)
        verdict = Verdict(done, rows.hit & done, choose(rows.hit, rows.fooling, rows.best), rows.best_loss)
        rows, back = self._check(rows)
        start = choose(back, rows.best, rows.x_adv)
        gradient = choose(back, rows.best_gradient, answer.gradient)
        share = torch.where(rows.passes == 0, 1.0, 0.75).view_as(rows.step)
        far = self.ball.retract(start + rows.step * self.ball.steepest(gradient, start.ndim - 1), rows.x)
        near = self.ball.retract(start + (far - start) * share + (start - rows.before) * (1 - share), rows.x)
        return replace(rows, x_adv=near, before=start), verdict

    def _check(self, rows: AscentRows) -> tuple[AscentRows, Tensor]:
        """Halve the step at checkpoints where the run does not get on; say which rows go back to their best point."""
        gap = self.gaps[(rows.passes - 1).clamp_min(0)] * (rows.passes > 0)
        check = gap > 0
        idle = ~rows.halved & (rows.checked_loss >= rows.best_loss)
        halve = check & ((rows.rises <= self.attack.rho * gap) | idle)
        return replace(
            rows,
            step=torch.where(halve.view_as(rows.step), rows.step / 2, rows.step),
            rises=rows.rises.masked_fill(check, 0),
            checked_loss=torch.where(check, rows.best_loss, rows.checked_loss),
            halved=torch.where(check, halve, rows.halved),
        ), halve


def remember(rows: A, answer: Answer) -> A:
    """Take in the loss and the gradient at the iterate: the best so far, and whether the loss rose."""
    first, better = rows.passes == 0, answer.loss > rows.best_loss
    best_loss = torch.where(better, answer.loss, rows.best_loss)
    return replace(
        rows,
        best=choose(better, rows.x_adv, rows.best),
        best_gradient=choose(better, answer.gradient, rows.best_gradient),
        best_loss=best_loss,
        rises=rows.rises + (~first & (answer.loss > rows.last_loss)),
        last_loss=torch.where(first, 0.0, answer.loss),
        checked_loss=torch.where(first, best_loss, rows.checked_loss),
    )


@dataclass(frozen=True, kw_only=True)
class APGD(PooledAttack):
    """Auto-PGD: its step size adapts to the loss; there is nothing to tune (Croce and Hein 2020).

    Attributes:
        objective: what the iterates maximise: cross-entropy, or DLR.
        num_steps: steps of a run.
        num_restarts: runs, each from a new random point of the boundary.
        num_samples: passes averaged for each gradient, for models that are random.
        rho: share of steps that must raise the loss between two checkpoints.
        large_radius_first: spend 30 % of the steps at 3 and 30 % at 2 times the radius (L1 alone).
        stop_at_success: a point is done at its first image that fools, which is all that an accuracy asks. False goes
            on to the last step, for the last image that fools, as the authors' code does: further in the wrong class,
            for uses that do something to the image (Linf and L2).

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
        >>> x_adv = APGD(ball=Linf(0.1), num_steps=10)(model, x, y)
        >>> Linf(0.1).contains(x_adv, x)
        tensor([True, True])
    """

    name: ClassVar[str] = "apgd"
    objective: Objective = CrossEntropy()
    num_steps: int = 100
    num_restarts: int = 1
    num_samples: int = 1
    rho: float = 0.75
    large_radius_first: bool = False
    stop_at_success: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.ball, L1) and not self.stop_at_success:
            raise InputError("stop_at_success=False is for the balls Linf and L2; in L1 a point always stops")
        for name in ("num_steps", "num_restarts", "num_samples"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1; got {getattr(self, name)}")
        if not 0 < self.rho <= 1:
            raise InputError(f"rho must lie in (0, 1]; got {self.rho}")
        if self.large_radius_first and not isinstance(self.ball, L1):
            raise InputError(f"large_radius_first is a schedule for the L1 ball; the ball is {self.ball!r}")
        if self.objective.needs_clean:
            raise InputError(f"APGD maximises a function of logits and labels; {self.objective!r} needs clean logits")

    def targets(self, num_classes: int) -> int:
        """Return the number of target classes; an untargeted attack has one run for each restart."""
        del num_classes
        return 1

    def value(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each row."""
        del target
        return self.objective(logits, None, y)

    def procedure(self, num_classes: int) -> Ascent:
        """Return the state machine of the ball's geometry."""
        from aureole.attacks.apgd_l1 import SparseAscent

        return (SparseAscent if isinstance(self.ball, L1) else Ascent)(self, num_classes)


@dataclass(frozen=True, kw_only=True)
class TargetedAPGD(APGD):
    """APGD on the targeted DLR loss, one run towards each of the classes next to the label (APGD-T of AutoAttack).

    Attributes:
        num_targets: classes tried, from the largest wrong logit of the clean image down; at most all but the label.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 5))
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
        >>> x_adv = TargetedAPGD(ball=Linf(0.1), num_steps=10)(model, x, y)
        >>> Linf(0.1).contains(x_adv, x)
        tensor([True, True])
    """

    name: ClassVar[str] = "apgd-t"
    num_targets: int = 9

    def targets(self, num_classes: int) -> int:
        """Return the number of target classes.

        Raises:
            InputError: the targeted DLR loss needs 4 classes.
        """
        if num_classes < 4:
            raise InputError(f"the targeted DLR loss needs at least 4 classes; the model has {num_classes} (use APGD)")
        return min(self.num_targets, num_classes - 1)

    def value(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        """Return the targeted DLR loss of each row."""
        return targeted_dlr(logits, y, target)
