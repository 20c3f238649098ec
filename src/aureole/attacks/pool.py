"""Many points on one model: a point leaves the batch as soon as it is decided, and another takes its place.

An attack that works point by point is a :class:`Procedure`: it says which image of each row to look at, and hears what
the model made of it. A row is one run on one point; a point has ``num_phases`` runs (restarts, targets), one after the
other, until one of them fools the model. Rows at different steps share a batch, so that the batch stays full while any
point is left, and no pass is spent on a point that is decided. All randomness belongs to the point, so neither the
batch size nor the order changes a result.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn

from aureole.core.checks import warn_zero_gradient_count
from aureole.core.errors import InputError
from aureole.core.journal import Decided, Journal
from aureole.core.model import predict
from aureole.core.random import Streams


@dataclass(frozen=True)
class Points:
    """What is attacked.

    Attributes:
        index: number of each point in the data set.
        x: images.
        y: labels.
        clean: the model's logits on ``x``.
        streams: one random stream a point.
    """

    index: Int64[Tensor, " points"]
    x: Float[Tensor, "points *event"]
    y: Int[Tensor, " points"]
    clean: Float[Tensor, "points classes"]
    streams: Streams

    def __len__(self) -> int:
        return len(self.x)

    def select(self, chosen: Tensor) -> Points:
        """Return some of the points."""
        index, x, y, clean = (tensor[chosen] for tensor in (self.index, self.x, self.y, self.clean))
        return Points(index, x, y, clean, self.streams.select(chosen))


@dataclass
class Rows:
    """The state of the runs in the batch: tensors with one row a run. A procedure adds its own.

    Attributes:
        point: which point a row works on, its place in :class:`Points`.
        phase: which run of the point this is.
        passes: passes through the model so far.
        x: the image.
        y: its label.
        keys: of the row's random stream.
    """

    point: Int64[Tensor, " rows"]
    phase: Int64[Tensor, " rows"]
    passes: Int64[Tensor, " rows"]
    x: Float[Tensor, "rows *event"]
    y: Int[Tensor, " rows"]
    keys: Int64[Tensor, " rows"]

    def __len__(self) -> int:
        return len(self.point)

    @property
    def streams(self) -> Streams:
        """The random streams of the rows at this pass."""
        return Streams(self.keys).fork(self.passes)


R = TypeVar("R", bound=Rows)


def _each(function: Callable[[list[Tensor]], Tensor], *rows: R) -> R:
    """Apply a function to each field of some rows."""
    return replace(rows[0], **{f.name: function([getattr(r, f.name) for r in rows]) for f in fields(rows[0])})


def choose(mask: Bool[Tensor, " rows"], where: Tensor, otherwise: Tensor) -> Tensor:
    """Return ``where`` in the rows of the mask, and ``otherwise`` elsewhere."""
    return torch.where(mask.view(-1, *(1,) * (where.ndim - 1)), where, otherwise)


class Answer(NamedTuple):
    """What the model made of the images that were asked about.

    Attributes:
        logits: of each row.
        loss: of each row; without gradients, zero.
        gradient: of the loss, to the images; without gradients, empty.
    """

    logits: Float[Tensor, "rows classes"]
    loss: Float[Tensor, " rows"]
    gradient: Tensor


class Verdict(NamedTuple):
    """What a procedure makes of an answer.

    Attributes:
        done: the row's run is over.
        fooled: the row has fooled the model at ``x_adv``, inside the ball; such a row is done.
        x_adv: the image to return for the row's point if it ends here.
        value: the greater, the nearer to fooling; compared between the runs of one point.
    """

    done: Bool[Tensor, " rows"]
    fooled: Bool[Tensor, " rows"]
    x_adv: Float[Tensor, "rows *event"]
    value: Float[Tensor, " rows"]


class Procedure(ABC, Generic[R]):
    """An attack as a state machine over rows.

    Attributes:
        num_phases: runs a point has at most.
        num_passes: passes that a run takes, for the progress.
        num_samples: passes that are averaged for each gradient, for models that are random.
        needs_gradient: answers carry a gradient.
        warns_of_zero: a zero gradient at the start of a run is worth a warning.
    """

    num_phases: int = 1
    num_passes: int = 1
    num_samples: int = 1
    needs_gradient: ClassVar[bool] = True
    warns_of_zero: bool = False

    @abstractmethod
    def begin(self, rows: Rows, clean: Tensor) -> R:
        """Return the state of new runs; ``clean`` are the logits of their images."""

    def prepare(self, model: nn.Module, rows: R) -> R:
        """Return the rows ready to be asked about; a step that takes passes of its own is taken here."""
        return rows

    @abstractmethod
    def ask(self, rows: R) -> Float[Tensor, "rows *event"]:
        """Return the image of each row that the model is to see."""

    @abstractmethod
    def tell(self, rows: R, answer: Answer) -> tuple[R, Verdict]:
        """Return the rows one pass later, and what is decided."""

    def loss(self, logits: Float[Tensor, "rows classes"], rows: R) -> Float[Tensor, " rows"]:
        """Return what the gradient is taken of."""
        raise NotImplementedError


class _Queue:
    """Which run of which point is next: the runs of a point in order, one at a time unless ``eager``."""

    def __init__(self, points: Iterable[int], num_phases: int, *, eager: bool) -> None:
        self.num_phases, self.eager = num_phases, eager
        self.unfinished = dict.fromkeys(points, num_phases)
        self.following = dict.fromkeys(self.unfinished, 0)
        self.ready = deque(self.unfinished)

    def take(self, room: int) -> list[tuple[int, int]]:
        """Return at most ``room`` pairs of a point and its phase."""
        taken: list[tuple[int, int]] = []
        while self.ready and len(taken) < room:
            point = self.ready.popleft()
            if point in self.unfinished:
                taken.append((point, self.following[point]))
                self.following[point] += 1
                if self.eager and self.following[point] < self.num_phases:
                    self.ready.append(point)
        return taken

    def end(self, point: int, *, fooled: bool) -> bool:
        """Hear that a run of a point ended; say whether the point is decided by it."""
        if point not in self.unfinished:
            return False
        self.unfinished[point] -= 1
        if fooled or self.unfinished[point] == 0:
            del self.unfinished[point]
            return True
        if not self.eager:
            self.ready.append(point)
        return False


class Pool(Generic[R]):
    """One attack on some points.

    Args:
        procedure: the attack.
        model: frozen, in evaluation mode.
        points: what is attacked; those that the model gets wrong count as fooled by their own image.
        max_batch: most rows in one pass; None for as many as there are points.
        eager: let a point's runs share the batch where rows are free, which fills an accelerator; a run that turns out
            not to be needed is wasted. Which points are fooled stays the same.
        name: of the attack, in the journal.
        journal: told of each point that is decided; those it recalls are not attacked again.
    """

    def __init__(
        self,
        procedure: Procedure[R],
        model: nn.Module,
        points: Points,
        *,
        max_batch: int | None,
        eager: bool,
        name: str,
        journal: Journal,
    ) -> None:
        self.procedure, self.model, self.points, self.name, self.journal = procedure, model, points, name, journal
        self.result, self.value = points.x.clone(), [-math.inf] * len(points)
        open_points = points.clean.argmax(-1) == points.y
        known = self._recalled()
        attacked = (open_points.cpu() & ~known).nonzero().flatten().tolist()
        self.queue = _Queue(attacked, procedure.num_phases, eager=eager)
        self.max_rows, self.num_attacked = max_batch or max(len(attacked), 1), len(attacked)
        self.zero, self.reported = 0, time.monotonic()

    def run(self) -> Float[Tensor, "points *event"]:
        """Return an image a point: the one that fooled the model, or the nearest to it."""
        self.journal.begin(self.name, self.num_attacked)
        rows: R | None = None
        while True:
            rows = self._refill(rows)
            if rows is None:
                break
            rows = self.procedure.prepare(self.model, rows)
            answer = self._answer(rows)
            if self.procedure.warns_of_zero:
                self._count_zero(rows, answer)
            rows, verdict = self.procedure.tell(rows, answer)
            rows.passes += 1
            if bool(verdict.done.any()):
                keep = self._settle(rows, verdict)
                rows = _each(lambda tensors, keep=keep: tensors[0][keep], rows)
            self._report(rows)
        warn_zero_gradient_count(int(self.zero), self.num_attacked)
        return self.result

    def _recalled(self) -> Bool[Tensor, " points"]:
        """Take over what the journal knows; say which points that covers."""
        known = torch.zeros(len(self.points), dtype=torch.bool)
        decided = self.journal.recall(self.name)
        if decided is None:
            return known
        place = {number: i for i, number in enumerate(self.points.index.tolist())}
        found = torch.tensor([place.get(number, -1) for number in decided.index.tolist()], dtype=torch.int64)
        known[found[found >= 0]] = True
        fooled = found[decided.fooled.cpu()]
        self.result[fooled[fooled >= 0]] = decided.x_adv[fooled >= 0].to(self.result)
        return known

    def _refill(self, rows: R | None) -> R | None:
        """Let new runs join where a quarter of the batch is free; None when nothing is left to do."""
        free = self.max_rows - (0 if rows is None else len(rows))
        taken = self.queue.take(free) if 4 * free >= self.max_rows else []
        if taken:
            new = self._begin(taken)
            rows = new if rows is None or len(rows) == 0 else _each(torch.cat, rows, new)
        return None if rows is None or len(rows) == 0 else rows

    def _begin(self, taken: list[tuple[int, int]]) -> R:
        device = self.points.x.device
        point, phase = (torch.tensor(t, dtype=torch.int64, device=device) for t in zip(*taken, strict=True))
        keys = self.points.streams.select(point).fork(phase).keys
        plain = Rows(point, phase, torch.zeros_like(point), self.points.x[point], self.points.y[point], keys)
        return self.procedure.begin(plain, self.points.clean[point])

    def _answer(self, rows: R) -> Answer:
        images, procedure = self.procedure.ask(rows), self.procedure
        if not procedure.needs_gradient:
            logits = predict(self.model, images)
            return Answer(logits, logits.new_zeros(len(logits)), images[:0])
        answer = self._differentiate(images, rows)
        for count in range(1, procedure.num_samples):
            again = self._differentiate(images, rows)
            answer = again._replace(gradient=(answer.gradient * count + again.gradient) / (count + 1))
        return answer

    def _differentiate(self, images: Tensor, rows: R) -> Answer:
        with torch.enable_grad():
            seen = images.detach().requires_grad_()
            logits = predict(self.model, seen)
            loss = self.procedure.loss(logits, rows)
            gradient = torch.autograd.grad(loss.sum(), seen, allow_unused=True)[0] if loss.requires_grad else None
        if gradient is None:
            raise InputError(
                "the model's output does not depend differentiably on the images: no gradient attack can work (an"
                " attack without gradients, such as square, can)"
            )
        return Answer(logits.detach(), loss.detach(), gradient)

    def _count_zero(self, rows: R, answer: Answer) -> None:
        zero = answer.gradient.flatten(1).abs().amax(-1) == 0
        self.zero = self.zero + (zero & (rows.passes == 0) & (rows.phase == 0)).sum()

    def _settle(self, rows: R, verdict: Verdict) -> Bool[Tensor, " rows"]:
        """Write down what is decided; return which rows go on."""
        done = verdict.done.nonzero().flatten()
        places, fooled = rows.point[done].tolist(), verdict.fooled[done].tolist()
        values = verdict.value[done].tolist()
        decided: list[tuple[int, bool]] = []
        for row, place, fell, value in zip(done.tolist(), places, fooled, values, strict=True):
            if place not in self.queue.unfinished:
                continue
            if fell or value > self.value[place]:
                self.result[place], self.value[place] = verdict.x_adv[row], value
            if self.queue.end(place, fooled=fell):
                decided.append((place, fell))
        self._note(decided)
        keep = ~verdict.done
        if self.queue.eager and decided:
            still = [place in self.queue.unfinished for place in rows.point.tolist()]
            keep &= torch.tensor(still, device=keep.device)
        return keep

    def _note(self, decided: list[tuple[int, bool]]) -> None:
        if not decided:
            return
        place = torch.tensor([p for p, _ in decided], device=self.points.x.device)
        fooled = torch.tensor([f for _, f in decided], device=self.points.x.device)
        self.journal.note(self.name, Decided(self.points.index[place], fooled, self.result[place[fooled]]))

    def _report(self, rows: R) -> None:
        """Tell the journal twice a second how much is done: the decided points, and the shares of the others."""
        if time.monotonic() - self.reported < 0.5:
            return
        self.reported = time.monotonic()
        share = rows.phase + (rows.passes / self.procedure.num_passes).clamp_max(1)
        ahead = float(share.sum()) / self.procedure.num_phases
        self.journal.progress(self.name, self.num_attacked - len(self.queue.unfinished) + ahead)
