"""An attack on all points at once that is quick and easy to follow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole import InputError
from aureole.attacks.base import Attack
from aureole.core.journal import Decided, Journal
from aureole.core.random import streams_for


@dataclass(frozen=True, kw_only=True)
class Shift(Attack):
    """Two members: brighten all pixels, then darken them, four points at a time; after so many of them, stop dead."""

    max_batch: int | None = None
    fails_after: int | None = None
    seen: list[Tensor] = field(default_factory=list, compare=False)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor | None = None, *, generator: Any = None) -> Tensor:
        raise AssertionError("called batch by batch")

    def run(self, model: nn.Module, x: Tensor, y: Tensor, *, index: Tensor, streams: Any, journal: Journal) -> Tensor:
        assert torch.equal(streams.keys, streams_for(x, streams).keys)
        self.seen.append(index)
        x_adv, standing, batches = x.clone(), torch.ones(len(x), dtype=torch.bool), 0
        for name, step in (("brighter", self.ball.radius), ("darker", -self.ball.radius)):
            known = journal.recall(name)
            places = {} if known is None else {n: i for i, n in enumerate(known.index.tolist())}
            for place in standing.nonzero().flatten().tolist():
                number = int(index[place])
                if known is not None and number in places and known.fooled[places[number]]:
                    x_adv[place] = known.x_adv[int(known.fooled[: places[number]].sum())]
                    standing[place] = False
            todo = torch.tensor([i for i in standing.nonzero().flatten().tolist() if int(index[i]) not in places])
            journal.begin(name, len(todo))
            for part in todo.long().split(4) if len(todo) else ():
                if batches == self.fails_after:
                    raise InputError("the power is gone")
                batches += 1
                found = self.ball.project(x[part] + step, x[part])
                fooled = model(found).argmax(-1) != y[part]
                x_adv[part[fooled]], standing[part[fooled]] = found[fooled], False
                journal.note(name, Decided(index[part], fooled, found[fooled]))
        return x_adv


@pytest.fixture
def whole_set() -> type[Shift]:
    return Shift
