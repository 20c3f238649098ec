"""The pool: every point gets its runs in order, leaves when it is decided, and no pass is spent on it after that."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from aureole.attacks.pool import Answer, Points, Pool, Procedure, Rows, Verdict
from aureole.core.errors import InputError, UntrustedResult
from aureole.core.journal import Decided, Journal
from aureole.core.random import Streams

NUM = 11


class Seen(nn.Module):
    """Classifies by the sign of the first pixel less a threshold, and counts the images that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(len(x))
        return torch.stack([x[:, 0], 0.5 - x[:, 0]], -1)


@dataclass
class Walk(Rows):
    """Rows that walk down a pixel by a given length."""

    x_adv: Tensor


class Down(Procedure[Walk]):
    """Take 0.1 off the first pixel at each of 3 steps, 0.2 in the second run, and so on: needs no gradient."""

    needs_gradient = False
    num_passes = 3

    def __init__(self, num_phases: int = 1) -> None:
        self.num_phases = num_phases
        self.order: list[tuple[int, int]] = []

    def begin(self, rows: Rows, clean: Tensor) -> Walk:
        self.order += list(zip(rows.point.tolist(), rows.phase.tolist(), strict=True))
        return Walk(**vars(rows), x_adv=rows.x - self._step(rows))

    def _step(self, rows: Rows) -> Tensor:
        return 0.1 * (1 + rows.phase[:, None]) * torch.tensor([[1.0, 0.0]])

    def ask(self, rows: Walk) -> Tensor:
        return rows.x_adv

    def tell(self, rows: Walk, answer: Answer) -> tuple[Walk, Verdict]:
        fooled = answer.logits.argmax(-1) != rows.y
        verdict = Verdict(fooled | (rows.passes == 2), fooled, rows.x_adv, -answer.logits[:, 0])
        rows.x_adv = rows.x_adv - self._step(rows)
        return rows, verdict


class Notes(Journal):
    """A journal that keeps all it is told, and recalls what it was given."""

    def __init__(self, known: Decided | None = None) -> None:
        self.known, self.total = known, -1
        self.decided: dict[int, bool] = {}

    def recall(self, attack: str) -> Decided | None:
        return self.known

    def begin(self, attack: str, num_points: int) -> None:
        self.total = num_points

    def note(self, attack: str, decided: Decided) -> None:
        for number, fooled in zip(decided.index.tolist(), decided.fooled.tolist(), strict=True):
            assert number not in self.decided
            self.decided[number] = fooled


def pool(
    procedure: Down, model: Seen, *, max_batch: int | None = None, eager: bool = False, journal: Journal | None = None
) -> Pool[Walk]:
    """Points at 0.30, 0.35, ... 0.80, of which those above 0.25 belong to class 0."""
    x = torch.stack([0.3 + 0.05 * torch.arange(NUM), torch.zeros(NUM)], -1)
    points = Points(100 + torch.arange(NUM), x, torch.zeros(NUM).long(), model(x), Streams.of(0, torch.arange(NUM)))
    model.batches.clear()
    return Pool(procedure, model, points, max_batch=max_batch, eager=eager, name="down", journal=journal or Journal())


def fallen(result: Tensor) -> list[bool]:
    return (result[:, 0] < 0.25).tolist()


@pytest.mark.parametrize("max_batch", [None, 1, 3, 4, 50])
@pytest.mark.parametrize("eager", [False, True])
def test_every_point_gets_its_outcome_whatever_the_batch(max_batch: int | None, eager: bool) -> None:
    model = Seen()
    result = pool(Down(2), model, max_batch=max_batch, eager=eager).run()
    # One run takes off 0.3 at most, two 0.6: points up to 0.80 all fall in the second; check the first alone below.
    assert fallen(result) == [True] * NUM
    first = pool(Down(1), Seen(), max_batch=max_batch, eager=eager).run()
    assert fallen(first) == [x < 0.549 for x in (0.3 + 0.05 * torch.arange(NUM)).tolist()]
    assert max(model.batches) <= (max_batch or NUM)


def test_no_pass_is_spent_on_a_decided_point() -> None:
    model = Seen()
    pool(Down(1), model).run()
    # 0.30 falls at the first step; 0.35 to 0.40 (0.45 by rounding) at the second; the rest take all three.
    assert len(model.batches) == 3
    assert model.batches[0] == NUM
    assert model.batches[1] == NUM - 1
    assert model.batches[2] < NUM - 2


def test_a_full_batch_is_refilled() -> None:
    model = Seen()
    pool(Down(1), model, max_batch=4).run()
    assert model.batches == [4, 4, 4, 4, 4, 4, 3, 2]  # refilled where a row is free, until no point is left
    assert sum(model.batches) < 3 * NUM


def test_runs_of_a_point_come_in_order_and_only_where_needed() -> None:
    sequential, eager = Down(2), Down(2)
    pool(sequential, Seen(), max_batch=2).run()
    for point in range(NUM):
        assert [phase for p, phase in sequential.order if p == point] == ([0] if point <= 4 else [0, 1])
    pool(eager, Seen(), max_batch=100, eager=True).run()
    assert len(eager.order) == 2 * NUM


def test_the_journal_hears_of_each_point_once_and_what_it_recalls_is_not_attacked_again() -> None:
    notes = Notes()
    result = pool(Down(1), Seen(), journal=notes, max_batch=4).run()
    assert notes.total == NUM
    assert notes.decided == {100 + i: fell for i, fell in enumerate(fallen(result))}
    known = Decided(torch.tensor([100, 110, 7]), torch.tensor([True, False, True]), torch.full((2, 2), 0.125))
    again, model = Notes(known), Seen()
    resumed = pool(Down(1), model, journal=again).run()
    assert again.total == NUM - 2
    assert again.decided.keys() == {100 + i for i in range(1, 10)}
    assert resumed[0].tolist() == [0.125, 0.125]
    assert torch.equal(resumed[1:10], result[1:10])
    assert model.batches[0] == NUM - 2


def test_points_that_the_model_gets_wrong_are_left_alone() -> None:
    model = Seen()
    whole = pool(Down(1), model)
    whole.points.y[3] = 1
    whole = Pool(Down(1), model, whole.points, max_batch=None, eager=False, name="down", journal=Journal())
    result = whole.run()
    assert torch.equal(result[3], whole.points.x[3])
    assert model.batches[0] == NUM - 1


class Flat(Down):
    """Asks for a gradient of something that depends on the images, or not at all, or not measurably."""

    needs_gradient = True
    warns_of_zero = True

    def __init__(self, slope: float | None) -> None:
        super().__init__()
        self.slope = slope

    def loss(self, logits: Tensor, rows: Walk) -> Tensor:
        return logits[:, 0].detach() if self.slope is None else self.slope * logits[:, 0]


def test_zero_gradients_are_warned_of_and_missing_ones_refused() -> None:
    pool(Flat(1.0), Seen()).run()
    with pytest.warns(UntrustedResult, match=r"zero for 11 of 11 images"):
        pool(Flat(0.0), Seen()).run()
    with pytest.raises(InputError, match="does not depend differentiably"):
        pool(Flat(None), Seen()).run()
