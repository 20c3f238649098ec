"""Which attacks an evaluation consists of, and what their rows are called: one name for one setting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aureole.attacks import named_attack
from aureole.attacks.base import Attack
from aureole.core.balls import Ball
from aureole.core.errors import InputError
from aureole.training.config import Evaluation

WORST_CASE = "worst case"
_SHARE = 0.25  # of the radius, a step where nobody chose one


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One attack of an evaluation.

    Attributes:
        label: the row of the record; two settings never share one.
        series: what the attack is called at every radius.
        attack: the attack.
        seed: of its random numbers.
    """

    label: str
    series: str
    attack: Attack
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What an evaluation changes of a model's own plan; None leaves it.

    Attributes:
        attacks: names such as ``pgd-200``.
        geometry: kind of the ball.
        radius: several give a security curve; none is the plan's own.
        step_size: of the iterative attacks; by default the same share of the radius as in the plan.
        num_examples: the first so many images.
        batch_size: images at once; the result does not depend on it.
        seed: of the random starts.
        devices: processes that share the images.
        progress: show a bar.
        restart: drop what an interrupted evaluation left.
    """

    attacks: tuple[str, ...] = ("pgd-20",)
    geometry: type[Ball] | None = None
    radius: tuple[float, ...] = ()
    step_size: float | None = None
    num_examples: int | None = None
    batch_size: int = 250
    seed: int | None = None
    devices: int = 1
    progress: bool = True
    restart: bool = False

    def __post_init__(self) -> None:
        if self.devices < 1:
            raise InputError(f"devices must be at least 1; got {self.devices}")
        if self.geometry is not None and not self.radius:
            raise InputError("another kind of ball needs a radius of its own: give --radius")


def plans(own: Evaluation, changes: Changes) -> list[Evaluation]:
    """Return what is to be evaluated, one plan a radius."""
    kind = type(own.ball) if changes.geometry is None else changes.geometry
    found = []
    for radius in dict.fromkeys(changes.radius or (own.ball.radius,)):
        same = kind is type(own.ball) and radius == own.ball.radius
        ball = own.ball if same else kind(radius, own.ball.bounds)
        share = own.step_size / own.ball.radius if kind is type(own.ball) else _SHARE
        step = changes.step_size
        plan = replace(
            own,
            ball=ball,
            step_size=(own.step_size if same else share * radius) if step is None else step,
            attacks=changes.attacks,
            num_examples=own.num_examples if changes.num_examples is None else changes.num_examples,
            batch_size=changes.batch_size,
            seed=own.seed if changes.seed is None else changes.seed,
        )
        found.append(plan)
    return found


def default_plan(geometry: type[Ball], radius: float) -> Evaluation:
    """Return the plan of a model that has none of its own: steps of a quarter of the radius."""
    return Evaluation(ball=geometry(radius), step_size=_SHARE * radius)


def trials(wanted: Iterable[Evaluation], own: Evaluation | None) -> list[Trial]:
    """Return every attack of some plans, once, each under a name of its own.

    Args:
        wanted: the plans.
        own: the plan whose attacks need no further name than their own: those of a training run. None where every
            radius is to be named.

    Returns:
        The trials, by names such as ``pgd-20``, ``pgd-20@0.1``, or ``pgd-20@0.1, step 0.05, seed 3``.

    Raises:
        InputError: an attack's name is unknown.
    """
    found: dict[str, Trial] = {}
    for plan in wanted:
        for name in dict.fromkeys(plan.attacks):
            attack = named_attack(name, plan.ball, plan.step_size)
            beside, at = _beside(name, attack, plan, own), ""
            if own is None or attack.ball != named_attack(name, own.ball, own.step_size).ball:
                at = at_radius(attack.ball, own)
            kind = at[1:].rpartition(" ")[0]
            series = f"{name} {kind}".rstrip() + beside
            trial = Trial(label=name + at + beside, series=series, attack=attack, seed=plan.seed)
            found.setdefault(trial.label, trial)
    return list(found.values())


def _beside(name: str, attack: Attack, plan: Evaluation, own: Evaluation | None) -> str:
    """Name what differs from the usual beside the radius: the step and the seed."""
    base = own or default_plan(type(plan.ball), plan.ball.radius)
    alike = type(base.ball) is type(plan.ball)
    usual = base.step_size / base.ball.radius * plan.ball.radius if alike else _SHARE * plan.ball.radius
    usual = base.step_size if plan.ball == base.ball else usual
    step = "" if attack == named_attack(name, plan.ball, usual) else f", step {plan.step_size:g}"
    return step + ("" if plan.seed == base.seed else f", seed {plan.seed}")


def at_radius(ball: Ball, own: Evaluation | None) -> str:
    """Return how a row names its ball: not at all where it is the plan's own.

    Example:
        >>> at_radius(Linf(0.1), Evaluation(ball=Linf(0.3))), at_radius(L2(0.5), Evaluation(ball=Linf(0.3)))
        ('@0.1', '@L2 0.5')
    """
    if own is not None and ball == own.ball:
        return ""
    kind = "" if type(ball) is type((own or Evaluation()).ball) else f"{type(ball).__name__} "
    return f"@{kind}{ball.radius:g}"


def check_radius(ball: Ball, image_shape: Sequence[int]) -> None:
    """Check that a ball does not reach beyond the data: such a radius is in other units.

    Raises:
        InputError: no two images are so far apart.

    Example:
        >>> check_radius(Linf(8.0), (1, 28, 28))
        Traceback (most recent call last):
        aureole.core.errors.InputError: the radius 8 is larger than the range of the data: images between (0.0, 1.0) ...
    """
    corners = _corners(ball, image_shape)
    if corners is None:
        return
    farthest = float(ball.distance(corners[1], corners[0]))
    if ball.radius > farthest * (1 + 1e-6):
        raise InputError(
            f"the radius {ball.radius:g} is larger than the range of the data: images between {ball.bounds} differ by"
            f" at most {farthest:g} in {type(ball).__name__}; give it in the units of the images (8/255 is 0.0314)"
        )


def reaches_one_picture(ball: Ball, image_shape: Sequence[int]) -> bool:
    """Say whether the ball around every image holds the same picture, half-way between the bounds.

    Example:
        >>> reaches_one_picture(Linf(0.5), (1, 2, 2)), reaches_one_picture(L2(0.5), (1, 2, 2))
        (True, False)
    """
    corners = _corners(ball, image_shape)
    if corners is None:
        return False
    low, high = corners
    return float(ball.distance((low + high) / 2, low)) <= ball.radius


def _corners(ball: Ball, image_shape: Sequence[int]) -> tuple[Tensor, Tensor] | None:
    """Return the darkest and the brightest image, or None where the data has no bounds."""
    image = torch.zeros(1, *image_shape)
    limits = ball.limits(image)
    return None if limits is None else (limits[0].expand_as(image), limits[1].expand_as(image))
