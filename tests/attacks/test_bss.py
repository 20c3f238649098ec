"""BSS: the recurrence on a linear model by hand, crossings on a trained one, targets, limits and dead gradients."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.attacks.bss import BSSAttack, sample_targets
from aureole.core.balls import L2
from aureole.core.errors import InputError
from aureole.core.random import Streams

FREE = BSSAttack(ball=L2(0.5, bounds=None), step_size=0.1)


def two_class(length: float = 5.0) -> tuple[nn.Module, Tensor]:
    """Return a linear model whose logit gap grows along a vector of this length, and the vector."""
    normal = torch.tensor([3.0, -4.0, 0.0, 0.0], dtype=torch.float64) * length / 5
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double()
    model[1].weight.data = torch.stack([torch.ones(4, dtype=torch.float64), 1 + normal])
    model[1].bias.data = torch.tensor([0.0, 0.3], dtype=torch.float64)
    return model, normal


def images(count: int = 6) -> Tensor:
    return torch.randn(count, 1, 2, 2, dtype=torch.float64)


def test_steps_on_a_linear_model_by_hand() -> None:
    model, normal = two_class()
    x = images()
    found = FREE.cross(model, x)
    for image, moved, base, target, crossed in zip(x, *found, strict=True):
        sign = 1.0 if base == 0 else -1.0
        place, steps = image.flatten(), 0
        while steps < 10:
            gap = -sign * (normal @ place + 0.3)
            if gap < 0:
                break
            place, steps = place + 0.1 * (gap + 1e-4) * sign * normal / 5, steps + 1
        torch.testing.assert_close(moved.flatten(), place, rtol=0, atol=1e-10)
        assert int(target) == 1 - int(base)
        assert bool(crossed) == (steps < 10 or bool(-sign * (normal @ place + 0.3) < 0))


def test_a_step_of_the_inverse_slope_ends_just_beyond_the_known_boundary() -> None:
    model, normal = two_class()
    x = images()
    found = replace(FREE, step_size=0.2, num_steps=1).cross(model, x)  # 1 / |normal|: the gap becomes -1e-4
    assert found.crossed.all()
    beyond = (found.x_adv.flatten(1) @ normal + 0.3).abs()
    torch.testing.assert_close(beyond, torch.full_like(beyond, 1e-4), rtol=1e-4, atol=0)
    distance = (x.flatten(1) @ normal + 0.3).abs() / 5
    torch.testing.assert_close((found.x_adv - x).flatten(1).norm(dim=1), distance + 2e-5, rtol=1e-8, atol=0)


def test_it_crosses_the_boundary_of_a_trained_network_and_then_stops(victim: Any) -> None:
    attack = BSSAttack(step_size=0.05, num_steps=50)
    found = attack.cross(victim.model, victim.x, generator=Streams.of(0, torch.arange(32)))
    assert torch.equal(found.base, victim.model(victim.x).argmax(-1))
    assert torch.equal(found.crossed, victim.model(found.x_adv).argmax(-1) != found.base)
    assert found.crossed.float().mean() > 0.9
    assert (found.target != found.base).all()
    more = replace(attack, num_steps=60).cross(victim.model, victim.x, generator=Streams.of(0, torch.arange(32)))
    torch.testing.assert_close(more.x_adv[found.crossed], found.x_adv[found.crossed], rtol=0, atol=1e-6)
    none = replace(attack, num_steps=1, step_size=1e-6).cross(victim.model, victim.x)
    assert not none.crossed.any()


def test_what_crossed_costs_nothing_more() -> None:
    model, _ = two_class()
    sizes: list[int] = []
    handle = model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    x = torch.zeros(3, 1, 2, 2, dtype=torch.float64)
    x[:, 0, 0, 0] = torch.tensor([1.0, -0.1001, 2.0], dtype=torch.float64)  # the second is nearly on the boundary
    replace(FREE, step_size=0.1999, num_steps=9).cross(model, x)
    handle.remove()
    assert sizes[:2] == [3, 3]
    assert sizes[2:] == sorted(sizes[2:], reverse=True)
    assert sizes[3] < 3


def test_targets_follow_the_probabilities_of_the_other_classes() -> None:
    logits = torch.tensor([1.0, 4.0, 2.0, 0.5]).repeat(20000, 1)
    drawn = sample_targets(logits, Streams.of(1, torch.arange(20000)))
    expected = torch.tensor([1.0, -torch.inf, 2.0, 0.5]).softmax(0)
    torch.testing.assert_close(drawn.bincount(minlength=4) / 20000, expected, rtol=0, atol=0.012)
    other = sample_targets(logits, Streams.of(1, torch.arange(20000)), torch.zeros(20000, dtype=torch.int64))
    assert other.bincount(minlength=4)[0] == 0
    assert other.bincount(minlength=4)[1] > 15000
    sure = torch.tensor([[0.0, 200.0, -900.0, -950.0]])
    assert sample_targets(sure, Streams.of(1, torch.arange(1))) == 0


def test_a_draw_at_either_end_is_a_class_that_may_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.tensor([[9.0, 0.0, 1.0], [0.0, 1.0, 9.0]])
    for unit, wanted in ((0.0, [1, 0]), (1 - 2.0**-24, [2, 1])):
        monkeypatch.setattr(Streams, "uniform", lambda *_, unit=unit: torch.full((2,), unit))
        assert sample_targets(logits, Streams.of(0, torch.arange(2))).tolist() == wanted


@pytest.mark.parametrize("start", [0.0, 0.05])
def test_an_image_does_not_see_its_batch(victim: Any, start: float) -> None:
    attack = BSSAttack(random_start=start, step_size=0.05)
    model, x = copy.deepcopy(victim.model).double(), victim.x.double()  # a rounding may decide whether it crossed
    whole = attack.cross(model, x, generator=Streams.of(3, torch.arange(32)))
    order = torch.randperm(32)
    for parted in (attack, replace(attack, max_batch=5)):
        parts = [parted.cross(model, x[i], generator=Streams.of(3, i)) for i in (order[:1], order[1:20], order[20:])]
        assert torch.equal(torch.cat([part.target for part in parts]), whole.target[order])
        torch.testing.assert_close(torch.cat([part.x_adv for part in parts]), whole.x_adv[order], rtol=0, atol=1e-5)


def test_given_targets_are_approached() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=False)).double()
    model[1].weight.data = torch.eye(4, dtype=torch.float64)
    x = torch.tensor([5.0, 0.0, 0.0, 0.0], dtype=torch.float64).view(1, 1, 2, 2).repeat(3, 1, 1, 1)
    found = FREE.cross(model, x, torch.tensor([1, 3, 0]))
    moved = (found.x_adv - x).flatten(1)
    unit = moved / moved.norm(dim=1, keepdim=True).clamp_min(1e-12)
    half = 0.5**0.5
    expected = torch.tensor([[-half, half, 0, 0], [-half, 0, 0, half], [0, 0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(unit, expected)
    assert not found.crossed[2]
    same = FREE.cross(model, x, torch.zeros(3, dtype=torch.int64))
    assert torch.equal(same.x_adv, x)


def test_a_random_start_differs_between_streams_and_calls_and_projection_keeps_to_the_ball(victim: Any) -> None:
    attack = BSSAttack.thesis(unit=0.5)
    assert (attack.ball.radius, attack.random_start, attack.step_size, attack.project) == (0.15, 0.15, 0.15, True)
    streams = Streams.of(0, torch.arange(32))
    first, second = (attack.cross(victim.model, victim.x, generator=streams).x_adv for _ in range(2))
    assert ((first - second).flatten(1).norm(dim=1) > 1e-2).float().mean() > 0.3
    for x_adv in (first, second):
        assert attack.ball.contains(x_adv, victim.x).all()
    far = replace(attack, project=False).cross(victim.model, victim.x, generator=streams).x_adv
    assert not attack.ball.contains(far, victim.x).all()
    assert far.min() >= 0
    assert far.max() <= 1


def test_as_an_attack_it_answers_within_the_radius(victim: Any) -> None:
    attack = BSSAttack(ball=L2(0.6), step_size=0.05, num_steps=30)
    x_adv = attack(victim.model, victim.x, victim.y)
    assert attack.ball.contains(x_adv, victim.x).all()
    assert victim.accuracy(x_adv) < victim.accuracy(victim.x) - 0.2
    found, wrong = attack.minimize(victim.model, victim.x, victim.y), victim.model(victim.x).argmax(-1) != victim.y
    assert torch.equal(found[wrong], victim.x[wrong])
    still = victim.model(found).argmax(-1) == victim.y
    assert torch.equal(found[still], victim.x[still])


def test_a_dead_gradient_moves_nothing() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    nn.init.zeros_(model[1].weight)
    model[1].bias.data = torch.tensor([1.0, 0.0, 0.0])
    x = torch.rand(2, 1, 2, 2)
    found = BSSAttack().cross(model, x)
    assert torch.equal(found.x_adv, x)
    assert not found.crossed.any()


@pytest.mark.parametrize("train", [False, True])
def test_no_trace_is_left(stateful: nn.Module, trace: Any, train: bool) -> None:
    stateful.train(train)
    x = torch.rand(3, 1, 8, 8)
    before = trace(stateful)
    BSSAttack(random_start=0.01).cross(stateful, x)
    before.check()
    with pytest.raises(InputError, match="labels must be from 0 to 3"):
        BSSAttack().cross(stateful, x, torch.tensor([0, 1, 4]))
    before.check()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_steps": 0}, "num_steps must be an integer of at least 1"),
        ({"step_size": 0.0}, "step_size must be a positive"),
        ({"random_start": -1.0}, "random_start must be a finite number of at least 0"),
        ({"max_batch": 0}, "max_batch must be"),
    ],
)
def test_misuse(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BSSAttack(**fields)
