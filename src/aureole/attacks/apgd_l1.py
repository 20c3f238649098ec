"""APGD in the L1 ball: sparse steps whose support and length adapt (Croce and Hein 2021, "Mind the box").

    z       = x_k + step * sign(g restricted to its largest share of coordinates) / their number
    x_{k+1} = project(z)

Every 4 % of the steps the share becomes that of the coordinates changed at the best point, over 1.5. Where their number
fell by more than 5 %, the step is the radius again and the run goes back to its best point; elsewhere the step is
divided by 1.5, down to a tenth of the radius. There is no momentum. With ``large_radius_first`` a run has three stages,
at 3, 2 and 1 times the radius, each from the best point of the one before; only the last one's iterates count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from aureole.attacks.apgd import APGD, Ascent, AscentRows, remember
from aureole.attacks.pool import Answer, Rows, Verdict, choose


@dataclass
class SparseRows(AscentRows):
    """Runs of APGD in L1.

    Attributes:
        stage: which radius the run is at.
        share: of the coordinates that a step changes.
        support: coordinates changed at the last check.
    """

    stage: Int64[Tensor, " rows"]
    share: Float[Tensor, " rows"]
    support: Float[Tensor, " rows"]


class SparseAscent(Ascent):
    """APGD in L1 as a state machine over rows."""

    def __init__(self, attack: APGD, num_classes: int) -> None:
        super().__init__(attack, num_classes)
        total, first = attack.num_steps, math.ceil(0.3 * attack.num_steps)
        staged = attack.large_radius_first
        self.steps = torch.tensor([first, first, total - 2 * first] if staged else [total])
        self.balls = [replace(self.ball, radius=k * self.ball.radius) for k in ((3, 2, 1) if staged else (1,))]
        self.radii = torch.tensor([ball.radius for ball in self.balls])
        self.gaps = (0.04 * self.steps).long().clamp_min(1)
        self.offsets = torch.cat([torch.zeros(1, dtype=torch.int64), (self.steps + 1).cumsum(0)[:-1]])
        self.num_passes = int((self.steps + 1).sum())

    def begin(self, rows: Rows, clean: Tensor) -> SparseRows:
        plain = super().begin(rows, clean)
        first = self.balls[0]
        x_adv = first.sample_boundary(rows.x, rows.streams)
        started = SparseRows(
            **{f.name: getattr(plain, f.name) for f in fields(plain)}
            | {"x_adv": x_adv, "before": x_adv, "best": x_adv},
            stage=torch.zeros_like(rows.point),
            share=torch.full_like(plain.best_loss, 0.2),
            support=torch.full_like(plain.best_loss, x_adv[0].numel()),
        )
        started.step = torch.full_like(plain.step, first.radius)
        return self._sized(started, torch.ones_like(rows.point, dtype=torch.bool)) if len(self.balls) > 1 else started

    def tell(self, rows: AscentRows, answer: Answer) -> tuple[AscentRows, Verdict]:
        assert isinstance(rows, SparseRows)
        last = rows.stage == len(self.balls) - 1
        fooled = last & (answer.logits.argmax(-1) != rows.y)
        rows = remember(rows, answer)
        within = rows.passes - self._at(self.offsets, rows)
        over = within == self._at(self.steps, rows)
        x_adv = choose(fooled, rows.x_adv, rows.best)
        verdict = Verdict(fooled | (last & over), fooled, x_adv, rows.best_loss)
        rows, back = self._recheck(rows, (within > 0) & (within % self._at(self.gaps, rows) == 0))
        start, gradient = choose(back, rows.best, rows.x_adv), choose(back, rows.best_gradient, answer.gradient)
        rows.x_adv = self._project(rows, start + self._step(rows, gradient))
        return self._next_stage(rows, over & ~last), verdict

    def _at(self, table: Tensor, rows: SparseRows) -> Tensor:
        return table.to(rows.stage.device)[rows.stage]

    def _step(self, rows: SparseRows, gradient: Tensor) -> Tensor:
        """Return a step of L1 length ``step`` on the largest coordinates of the gradient."""
        size = gradient.abs().flatten(1)
        place = ((1 - rows.share) * size.shape[1]).clamp(0, size.shape[1] - 1).long()
        threshold = size.sort(-1).values.gather(1, place[:, None])
        sign = (gradient.flatten(1) * (size >= threshold)).sign()
        return rows.step * (sign / (sign.abs().sum(-1, keepdim=True) + 1e-10)).view_as(gradient)

    def _project(self, rows: SparseRows, x_adv: Tensor) -> Tensor:
        """Project each row on the ball of its stage."""
        projected = x_adv.clone()
        for stage, ball in enumerate(self.balls):
            here = rows.stage == stage
            if bool(here.any()):
                projected[here] = ball.project(x_adv[here], rows.x[here])
        return projected

    def _recheck(self, rows: SparseRows, check: Tensor) -> tuple[SparseRows, Tensor]:
        """Adapt share and step at checkpoints; say which rows go back to their best point."""
        support = _support(rows.best, rows.x)
        fell = check & (support / rows.support < 0.95)
        radius = torch.tensor([ball.radius for ball in self.balls], device=support.device)[rows.stage].view_as(
            rows.step
        )
        shorter = torch.where(fell.view_as(rows.step), radius, rows.step / 1.5)
        return replace(
            rows,
            step=choose(check, torch.minimum(torch.maximum(shorter, radius / 10), radius), rows.step),
            share=torch.where(check, support / rows.x[0].numel() / 1.5, rows.share),
            support=torch.where(check, support, rows.support),
        ), fell

    def _next_stage(self, rows: SparseRows, advance: Tensor) -> SparseRows:
        """Start the next stage from the best point, in the rows that are through with theirs."""
        if not bool(advance.any()):
            return rows
        rows.stage = rows.stage + advance
        begin = choose(advance, self._project(rows, rows.best), rows.x_adv)
        radius = self._at(self.radii.to(rows.step), rows).view_as(rows.step)
        moved = replace(
            rows,
            x_adv=begin,
            best=choose(advance, begin, rows.best),
            best_loss=rows.best_loss.masked_fill(advance, -torch.inf),
            step=choose(advance, radius, rows.step),
        )
        return self._sized(moved, advance)

    def _sized(self, rows: SparseRows, chosen: Tensor) -> SparseRows:
        """Take share and support from the start of a stage."""
        support = _support(rows.x_adv, rows.x)
        return replace(
            rows,
            share=torch.where(chosen, support / rows.x[0].numel() / 1.5, rows.share),
            support=torch.where(chosen, support, rows.support),
        )


def _support(x_adv: Tensor, x: Tensor) -> Tensor:
    """Return the number of changed coordinates of each image."""
    return (x_adv != x).flatten(1).sum(-1).to(x.dtype)
