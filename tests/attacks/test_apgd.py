"""APGD: its schedule, its targets, and what it is told wrongly; the outcomes are in tests/references."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from aureole.attacks.apgd import APGD, TargetedAPGD, checkpoints
from aureole.core.balls import L1, L2, Linf
from aureole.core.errors import InputError
from aureole.core.objectives import DLR, KL
from aureole.core.random import Streams


def test_checkpoints_of_short_runs_keep_the_least_gap() -> None:
    assert [step for step, gap in enumerate(checkpoints(10)) if gap] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert sum(checkpoints(100)) == 99  # gaps add up to the last checkpoint


@pytest.mark.parametrize("ball", [Linf(0.1), L2(1.0), L1(8.0)], ids=str)
def test_it_is_stronger_than_its_start_and_stays_inside(victim: Any, ball: Any) -> None:
    x_adv = APGD(ball=ball, num_steps=20)(victim.model, victim.x, victim.y)
    start = ball.sample_boundary(victim.x, Streams.of(0, torch.arange(32)))
    assert victim.accuracy(x_adv) < min(victim.accuracy(start), victim.accuracy(victim.x)) - 0.3
    assert ball.contains(x_adv, victim.x).all()


def test_points_that_stand_get_their_point_of_highest_loss(victim: Any) -> None:
    ball = Linf(0.01)
    x_adv = APGD(ball=ball, num_steps=20)(victim.model, victim.x, victim.y)
    stood = victim.model(x_adv).argmax(-1) == victim.y
    loss = nn.functional.cross_entropy
    assert stood.float().mean() > 0.5
    assert loss(victim.model(x_adv[stood]), victim.y[stood]) > 1.1 * loss(
        victim.model(victim.x[stood]), victim.y[stood]
    )


@pytest.mark.parametrize("norm", [Linf, L2, L1])
@pytest.mark.parametrize("kind", [APGD, TargetedAPGD])
def test_the_result_depends_neither_on_the_batch_nor_on_the_order(victim: Any, norm: Any, kind: Any) -> None:
    ball = norm({Linf: 0.03, L2: 0.3, L1: 0.8}[norm])
    order, streams = torch.randperm(32), lambda i: Streams.of(0, torch.as_tensor(i))
    fields: dict[str, Any] = {"ball": ball, "num_steps": 12, "large_radius_first": norm is L1}
    whole = kind(**fields)(victim.model, victim.x, victim.y, generator=streams(range(32)))
    split = kind(**fields, max_batch=5)(victim.model, victim.x[order], victim.y[order], generator=streams(order))
    torch.testing.assert_close(split, whole[order], rtol=0, atol=1e-5)
    eager = kind(**fields, eager=True, max_batch=64)(victim.model, victim.x, victim.y, generator=streams(range(32)))
    fooled, expected = (victim.model(found).argmax(-1) != victim.y for found in (eager, whole))
    assert torch.equal(fooled, expected)
    assert 0.1 < float(expected.float().mean()) < 0.95


def test_more_targets_than_classes_are_as_many_as_there_are(victim: Any) -> None:
    streams = [Streams.of(0, torch.arange(32)) for _ in range(2)]
    many, three = (
        TargetedAPGD(ball=Linf(0.05), num_steps=5, num_targets=n)(victim.model, victim.x, victim.y, generator=s)
        for n, s in zip((9, 3), streams, strict=True)
    )
    assert torch.equal(many, three)


class Alternating(nn.Module):
    """A linear model whose gradient carries a disturbance that changes its sign at every pass with a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.sign = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat, wave = x.flatten(1), torch.arange(64) % 2 - 0.5
        clean = flat.mean(-1) - 0.5
        if x.requires_grad:
            self.sign = -self.sign
            disturbance = self.sign * (flat * wave).sum(-1)
            clean = clean + disturbance - disturbance.detach()
        return torch.stack([clean, -clean], -1)


def test_gradients_of_a_random_model_are_averaged() -> None:
    x, y = torch.full((3, 1, 8, 8), 0.7), torch.zeros(3).long()
    found = [
        APGD(ball=Linf(0.05), num_steps=4, num_samples=count)(
            Alternating(), x, y, generator=Streams.of(0, torch.arange(3))
        )
        for count in (1, 2)
    ]
    torch.testing.assert_close(found[1], torch.full_like(x, 0.65))  # the disturbance cancels: all pixels go down
    assert (found[0] - 0.65).abs().max() > 0.05


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_steps": 0}, "num_steps must be at least 1; got 0"),
        ({"num_restarts": 0}, "num_restarts"),
        ({"rho": 0.0}, "rho must lie in"),
        ({"large_radius_first": True}, "L1 ball"),
        ({"objective": KL()}, "clean logits"),
        ({"max_batch": 0}, "max_batch must be at least 1"),
    ],
)
def test_unusable_settings_are_refused(fields: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        APGD(**fields)


def test_too_few_classes_are_refused() -> None:
    two, three = (nn.Sequential(nn.Flatten(), nn.Linear(4, n)) for n in (2, 3))
    x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    with pytest.raises(InputError, match="at least 4 classes; the model has 3"):
        TargetedAPGD()(three, x, y)
    with pytest.raises(InputError, match="at least 3 classes; the model has 2"):
        APGD(objective=DLR())(two, x, two(x).argmax(-1))


@pytest.mark.parametrize("ball", [Linf(0.1), L2(1.0)], ids=str)
def test_going_on_after_success_fools_the_same_points_from_further_in(victim: Any, ball: Any) -> None:
    first, last = (
        APGD(ball=ball, num_steps=20, stop_at_success=stop)(
            victim.model, victim.x, victim.y, generator=Streams.of(0, torch.arange(32))
        )
        for stop in (True, False)
    )
    with torch.no_grad():
        near, far = victim.model(first), victim.model(last)
    fooled = near.argmax(-1) != victim.y
    assert int(fooled.sum()) > 8
    assert torch.equal(fooled, far.argmax(-1) != victim.y)
    assert bool(ball.contains(last, victim.x).all())
    loss = nn.functional.cross_entropy
    assert float(loss(far[fooled], victim.y[fooled])) > 1.2 * float(loss(near[fooled], victim.y[fooled]))


def test_points_always_stop_in_l1() -> None:
    with pytest.raises(InputError, match="stop_at_success=False"):
        APGD(ball=L1(1.0), stop_at_success=False)
