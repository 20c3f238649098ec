"""AutoAttack: the ensemble whose robust accuracy is comparable between papers (Croce and Hein 2020; L1: 2021).

    standard   apgd-ce, apgd-t, fab-t, square
    plus       apgd-ce (5 restarts), apgd-dlr (5), fab (5), square, apgd-t, fab-t
    rand       apgd-ce and apgd-dlr, with gradients averaged over 20 passes, for models that are random

Members, order, budgets, step rules, checkpoints, starts and targets are those of the authors' code, and every success
is classified again. What differs changes no outcome: a point leaves an attack the moment it is fooled, FAB stops at the
radius, the points that remain are gathered from all batches, the clean logits are computed once. Random numbers belong
to the points, so that the result does not depend on the batch size, and the global random state is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from aureole.attacks.apgd import APGD, TargetedAPGD
from aureole.attacks.fab import FAB
from aureole.attacks.pool import Points
from aureole.attacks.pooled import PooledAttack, WholeSetAttack
from aureole.attacks.reliability import warn_dynamic, warn_few_classes, warn_randomised, warn_square
from aureole.attacks.square import Square
from aureole.core.balls import L1, Ball
from aureole.core.errors import InputError, unknown_name
from aureole.core.journal import Journal
from aureole.core.model import predict
from aureole.core.objectives import DLR, Margin

Version = Literal["standard", "plus", "rand"]

#: Each member attack by name, with the budget of the standard version. The order numbers their random streams.
MEMBERS: dict[str, Callable[[Ball], PooledAttack]] = {
    "apgd-ce": lambda ball: APGD(ball=ball, num_restarts=5 if _sparse(ball) else 1, large_radius_first=_sparse(ball)),
    "apgd-dlr": lambda ball: APGD(ball=ball, objective=DLR(), large_radius_first=_sparse(ball)),
    "apgd-t": lambda ball: TargetedAPGD(
        ball=ball, num_targets=5 if _sparse(ball) else 9, large_radius_first=_sparse(ball)
    ),
    "fab": lambda ball: FAB(ball=ball, targeted=False),
    "fab-t": lambda ball: FAB(ball=ball),
    "square": lambda ball: Square(ball=ball),
}
_VERSIONS: dict[str, tuple[str, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}


def _sparse(ball: Ball) -> bool:
    return isinstance(ball, L1)


@dataclass(frozen=True, kw_only=True)
class AutoAttack(WholeSetAttack):
    """The attacks of a version, one after the other, each on the points that still stand.

    Attributes:
        version: ``"standard"``, ``"plus"`` or ``"rand"``; budgets of the members.
        members: names of :data:`MEMBERS` to run in place of the version's own.
        stop_at_success: of the APGD members; False gives images further in the wrong class, at the authors' cost.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 5)).eval()
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
        >>> x_adv = AutoAttack(ball=Linf(0.1), members=("apgd-ce",))(model, x, y)
        >>> Linf(0.1).contains(x_adv, x)
        tensor([True, True])
    """

    name: ClassVar[str] = "autoattack"
    warns_of_training: ClassVar[bool] = True
    version: Version = "standard"
    members: tuple[str, ...] | None = None
    stop_at_success: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.version not in get_args(Version):
            raise unknown_name("version of AutoAttack", str(self.version), get_args(Version))
        for name in self.members or ():
            if name not in MEMBERS:
                raise unknown_name("member of AutoAttack", name, MEMBERS)
        if self.members == ():
            raise InputError("AutoAttack needs at least one member; got an empty tuple (None takes the version's own)")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members, in the order in which they run."""
        return self.members or _VERSIONS[self.version]

    def member(self, name: str) -> PooledAttack:
        """Return a member attack with the budget that this version gives it."""
        made = replace(MEMBERS[name](self.ball), max_batch=self.max_batch, eager=self.eager)
        if isinstance(made, APGD):
            made = replace(made, stop_at_success=self.stop_at_success)
        if self.version == "rand" and isinstance(made, APGD):
            return replace(made, num_samples=20, num_restarts=1)
        if self.version == "plus" and name in ("apgd-ce", "apgd-dlr", "fab"):
            return replace(made, num_restarts=5)  # pyright: ignore[reportCallIssue]
        return made

    def attack(self, model: nn.Module, points: Points, journal: Journal) -> Tensor:
        """Run the members on checked points of a frozen model."""
        some = points.x[: self.max_batch or 250]
        if self.version != "rand":
            warn_randomised(model, some)
        warn_dynamic(model, some[:1])
        standing, x_adv = points.clean.argmax(-1) == points.y, points.x.clone()
        counts = {"clean": int(standing.sum())}
        for name in self.names:
            if counts[next(reversed(counts))] == 0:
                break
            part = points.select(standing)
            part = replace(part, streams=part.streams.fork(list(MEMBERS).index(name)))
            found = self._suited(name, points.clean.shape[1]).attack(model, part, journal, name=name)
            fooled = self._fooled(model, found, part.y)
            place = standing.nonzero().flatten()[fooled]
            x_adv[place], standing[place] = found[fooled], False
            counts[name] = int(standing.sum())
        warn_square(counts, len(points))
        return x_adv

    def _fooled(self, model: nn.Module, x_adv: Tensor, y: Tensor) -> Tensor:
        """Classify again what a member returned, in passes of its own."""
        logits = torch.cat([predict(model, part) for part in x_adv.split(self.max_batch or len(x_adv))])
        return logits.argmax(-1) != y

    def _suited(self, name: str, num_classes: int) -> PooledAttack:
        """Return a member; where the model has too few classes for its loss, one on the margin in its place."""
        made = self.member(name)
        needed = 4 if isinstance(made, TargetedAPGD) else 3 if name == "apgd-dlr" else 2
        if num_classes >= needed:
            return made
        warn_few_classes(name, needed, num_classes)
        return replace(self.member("apgd-ce"), objective=Margin())  # pyright: ignore[reportCallIssue]
