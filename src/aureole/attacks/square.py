"""Square: random search with square windows, which needs no gradient (Andriushchenko, Croce, Flammarion and Hein 2020).

    candidate = the best image so far, with its perturbation redrawn in a random square
    best      = candidate  where the objective rose

The window covers a share of the image, which is halved after 10, 50, 200, 500, 1000, 2000, ... queries. What a search
starts from, and how it redraws a window, depends on the ball: in Linf vertical stripes of plus or minus the radius, and
one sign a channel for the whole window; in L2 and L1 see :mod:`aureole.attacks.square_bumps`.

Budgets, schedule and rules are those of AutoAttack. So is this: unless a window is as large as the image, it touches
neither the last line nor the last column. There, a batch shares one window and one choice of signs; here each point has
its own, which is as good for a point, and does not depend on its batch.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from aureole.attacks.fields import check_counts, check_numbers
from aureole.attacks.pool import Answer, Procedure, Rows, Verdict, choose
from aureole.attacks.pooled import PooledAttack
from aureole.attacks.square_bumps import Bumps, SharpBumps
from aureole.attacks.square_moves import Moves, Squares
from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.errors import InputError
from aureole.core.objectives import Margin, Objective
from aureole.core.random import Streams

_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def halvings(num_queries: int, *, rescaled: bool = False) -> list[int]:
    """Return how often the window's share of the image has been halved by each query, and by one more.

    Args:
        num_queries: length of the search, at least 1.
        rescaled: stretch the schedule, which is meant for 10,000 queries, to the length of this search.

    Example:
        >>> [round(0.8 * 28**2 / 2**count) for count in halvings(5000)[:5000:1000]]  # pixels of a 28x28 image
        [627, 39, 20, 10, 10]

    Source: Andriushchenko et al. 2020, section 5; the authors' code.
    """
    passed = range(num_queries + 1)
    return [bisect_left(_HALVED_AFTER, int(q / num_queries * 10_000) if rescaled else q) for q in passed]


@dataclass
class SearchRows(Rows):
    """Runs of Square.

    Attributes:
        candidate: the image to look at next.
        best: the image of the highest objective so far, ``best_value``.
    """

    candidate: Float[Tensor, "rows *event"]
    best: Float[Tensor, "rows *event"]
    best_value: Float[Tensor, " rows"]


class Search(Procedure[SearchRows]):
    """Square as a state machine over rows: pass 0 looks at the start, and each later one is a query."""

    needs_gradient: ClassVar[bool] = False

    def __init__(self, attack: Square) -> None:
        self.attack = attack
        self.num_phases, self.num_passes = attack.num_restarts, attack.num_queries + 1
        self.halvings = torch.tensor(halvings(attack.num_queries, rescaled=attack.rescaled))
        self.moves: Moves | None = None

    def begin(self, rows: Rows, clean: Tensor) -> SearchRows:
        images = _as_images(rows.x)
        if self.moves is None:
            shares = [self.attack.share_init / 2**count for count in range(len(_HALVED_AFTER) + 1)]
            self.moves = moves_of(self.attack.ball)(self.attack.ball, images, shares)
            self.halvings = self.halvings.to(images.device)
        start = self.moves.start(images, rows.streams).view_as(rows.x)
        own = {f.name: getattr(rows, f.name) for f in fields(rows)}
        return SearchRows(**own, candidate=start, best=start, best_value=torch.full_like(clean[:, 0], -torch.inf))

    def ask(self, rows: SearchRows) -> Tensor:
        return rows.candidate

    def tell(self, rows: SearchRows, answer: Answer) -> tuple[SearchRows, Verdict]:
        assert self.moves is not None
        fooled = answer.logits.argmax(-1) != rows.y
        value = self.attack.objective(answer.logits, None, rows.y)
        accept = fooled | (value > rows.best_value)
        best = choose(accept, rows.candidate, rows.best)
        best_value = torch.where(accept, value, rows.best_value)
        verdict = Verdict(fooled | (rows.passes == self.attack.num_queries), fooled, best, best_value)
        images, streams = _as_images(rows.x), Streams(rows.keys).fork(rows.passes + 1)
        candidate = self.moves.move(images, best.view_as(images), self.halvings[rows.passes], streams)
        return replace(rows, candidate=candidate.view_as(best), best=best, best_value=best_value), verdict


def _as_images(x: Float[Tensor, "rows *event"]) -> Float[Tensor, "rows channels height width"]:
    """Return a view with channels, height and width: of a picture without channels, or of a vector as one line."""
    if x.ndim > 4:
        raise InputError(
            "square searches images (batch, channels, height, width), (batch, height, width) or vectors (batch, size);"
            f" got the shape {tuple(x.shape)}: take a view of such a shape, and undo it inside the model"
        )
    return x.view(len(x), *(1,) * (4 - x.ndim), *x.shape[1:])


def moves_of(ball: Ball) -> type[Moves]:
    """Return the moves in the geometry of a ball.

    Raises:
        InputError: there are none for this kind of ball.

    Example:
        >>> moves_of(Linf(0.1)).__name__
        'Squares'
    """
    for kind, moves in ((Linf, Squares), (L2, Bumps), (L1, SharpBumps)):
        if isinstance(ball, kind):
            return moves
    raise InputError(f"square knows the balls Linf, L2 and L1; got {ball!r}")


@dataclass(frozen=True, kw_only=True)
class Square(PooledAttack):
    """Square Attack: random search, strong where gradients mislead (Andriushchenko et al. 2020).

    Works for images of any shape; a vector is searched as an image of one line, with segments for squares.

    Attributes:
        objective: what the search raises, a function of logits and labels.
        num_queries: candidates of a run; with its start, it looks at one image more.
        share_init: share of the image that the first windows cover, in (0, 1].
        num_restarts: runs, each from a new random start.
        rescaled: stretch the schedule of the window, which is meant for 10,000 queries, to ``num_queries``.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> x_adv = Square(ball=Linf(0.1), num_queries=20)(model, x, y)
        >>> Linf(0.1).contains(x_adv, x)
        tensor([True, True])
    """

    name: ClassVar[str] = "square"
    objective: Objective = Margin()
    num_queries: int = 5000
    share_init: float = 0.8
    num_restarts: int = 1
    rescaled: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, num_queries=1, num_restarts=1)
        check_numbers(self, "share_init")
        if self.share_init > 1:
            raise InputError(f"share_init is a share of the image, at most 1; got {self.share_init}")
        if self.objective.needs_clean:
            raise InputError(f"square raises a function of logits and labels; {self.objective!r} needs clean logits")
        moves_of(self.ball)

    def procedure(self, num_classes: int) -> Search:
        """Return the state machine."""
        return Search(self)
