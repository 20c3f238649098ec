"""How particles pass through the model: one by one, and without a pass for clean logits that are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.core.balls import Ball, Linf
from aureole.core.errors import InputError
from aureole.core.objectives import KL
from aureole.core.random import Streams
from aureole.particles.search import ParticleSearch
from aureole.particles.starts import Start


@dataclass(frozen=True)
class At(Start):
    """Begin at given points."""

    points: Tensor

    def __call__(self, x: Tensor, ball: Ball, streams: Streams, num_particles: int, direction: Any) -> Tensor:
        return self.points.clone()


def test_particles_one_by_one_have_batch_statistics_of_their_own() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3)).train()
    x, seen = torch.rand(5, 1, 2, 2), []
    model.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    options: dict[str, Any] = {"num_steps": 1, "kernel": None, "objective": KL(), "mode": "batch_statistics"}
    several = ParticleSearch(Linf(0.1), num_particles=3, one_by_one=True, **options)
    found = several(model, x, generator=Streams.of(0, torch.arange(5))).x_adv
    assert set(seen) == {5}
    together = ParticleSearch(Linf(0.1), num_particles=3, **options)(
        model, x, generator=Streams.of(0, torch.arange(5))
    ).x_adv
    assert not torch.equal(found, together)
    start = ParticleSearch(Linf(0.1), num_particles=3, **{**options, "num_steps": 0})
    for n, points in enumerate(start(model, x, generator=Streams.of(0, torch.arange(5))).x_adv):
        alone = ParticleSearch(Linf(0.1), num_particles=1, start=At(points[None]), **options)
        torch.testing.assert_close(found[n], alone(model, x, generator=Streams.of(0, torch.arange(5))).x_adv[0])
    with pytest.raises(InputError, match="both split the batch: choose one"):
        ParticleSearch(Linf(0.1), max_batch=2, one_by_one=True)


def test_clean_logits_that_the_caller_has_are_not_computed_again(victim: Any) -> None:
    model, x = victim.model, victim.x
    search = ParticleSearch(Linf(0.1), num_steps=2, objective=KL())
    with torch.no_grad():
        clean = model(x)
    counted = []
    hook = model.register_forward_hook(lambda *_: counted.append(1))
    expected = search(model, x, generator=Streams.of(0, torch.arange(len(x)))).x_adv
    before = len(counted)
    given = search(model, x, clean=clean, generator=Streams.of(0, torch.arange(len(x)))).x_adv
    hook.remove()
    assert len(counted) - before == before - 1
    assert torch.equal(given, expected)
