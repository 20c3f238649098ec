"""FAB: exact on linear models, inside the ball, the same in any batch; its outcomes are in tests/references."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.attacks.fab import FAB
from aureole.attacks.pool import Rows
from aureole.core.balls import L1, L2, Linf
from aureole.core.errors import InputError
from aureole.core.journal import Decided, Journal
from aureole.core.random import Streams

RADII = {Linf: 0.08, L2: 0.4, L1: 1.8}


def linear(classes: int) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, classes))


def wrong(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return model(x).argmax(-1) != y


@pytest.mark.parametrize("targeted", [True, False], ids=["targeted", "untargeted"])
@pytest.mark.parametrize("norm", [Linf, L2, L1])
def test_on_a_linear_model_it_finds_every_point_within_the_radius(norm: Any, targeted: bool) -> None:
    model, x = linear(5), 0.4 + 0.2 * torch.rand(200, 1, 4, 4)
    y, (weight, _) = model(x).argmax(-1), model.parameters()
    ahead = model(x).gather(1, y[:, None]) - model(x)
    planes = weight[y][:, None] - weight  # the boundary with each class
    ball = norm(1.0)
    slope = (planes * ball.steepest(planes, 1)).sum(-1)
    distance = (ahead / slope).scatter(1, y[:, None], torch.inf).amin(1)
    ball = norm(float(distance.detach().median()))
    x_adv = FAB(ball=ball, targeted=targeted, num_steps=20)(model, x, y)
    fooled = wrong(model, x_adv, y)
    assert 0.4 < fooled.float().mean() <= 0.5
    assert fooled[distance * 1.01 < ball.radius].all()  # its last step is 0.9 % beyond the boundary: 1.05 / 1.0405
    assert not fooled[distance > ball.radius].any()
    assert ball.contains(x_adv, x).all()


@pytest.mark.parametrize("targeted", [True, False], ids=["targeted", "untargeted"])
@pytest.mark.parametrize("norm", [Linf, L2, L1])
def test_the_outcome_depends_neither_on_the_batch_nor_on_the_order(victim: Any, norm: Any, targeted: bool) -> None:
    fields: dict[str, Any] = {
        "ball": norm(RADII[norm]),
        "num_targets": 2,
        "num_steps": 20,
        "num_restarts": 2,
        "targeted": targeted,
    }
    model, x, y, order = deepcopy(victim.model).double(), victim.x.double(), victim.y, torch.randperm(32)

    def outcome(chosen: Tensor, **more: Any) -> Tensor:
        x_adv = FAB(**fields, **more)(model, x[chosen], y[chosen], generator=Streams.of(0, chosen))
        assert fields["ball"].contains(x_adv, x[chosen]).all()
        return wrong(model, x_adv, y[chosen])

    whole = outcome(torch.arange(32))
    assert 0.1 < whole.float().mean() < 0.95
    assert torch.equal(outcome(torch.arange(32), max_batch=7), whole)
    assert torch.equal(outcome(order), whole[order])
    assert torch.equal(outcome(torch.arange(32), eager=True, max_batch=64), whole)


def test_bounds_other_than_the_unit_box(victim: Any) -> None:
    class Shifted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return victim.model((x + 2) / 10)

    x, y = 10 * victim.x - 2, victim.y
    expected = wrong(victim.model, FAB(ball=Linf(0.03), num_steps=10)(victim.model, victim.x, y), y)
    ball = Linf(0.3, bounds=(-2.0, 8.0))
    x_adv = FAB(ball=ball, num_steps=10)(Shifted(), x, y)
    assert ball.contains(x_adv, x).all()
    assert torch.equal(wrong(Shifted(), x_adv, y), expected)
    free = Linf(0.3, bounds=None)
    assert free.contains(FAB(ball=free, num_steps=10)(Shifted(), x, y), x).all()


@pytest.mark.parametrize(("classes", "runs"), [(2, 1), (3, 2), (12, 9)])
def test_targets_are_the_largest_wrong_logits_in_turn(classes: int, runs: int) -> None:
    model, x = linear(classes), torch.rand(6, 1, 4, 4)
    clean = model(x).detach()
    y, point = clean.argmax(-1), torch.arange(6)
    procedure = FAB(num_restarts=2).procedure(classes)
    assert procedure.num_phases == 2 * runs
    found = []
    for phase in range(0, 2 * runs, 2):
        rows = Rows(point, torch.full_like(point, phase), torch.zeros_like(point), x, y, torch.zeros_like(point))
        found.append(procedure.begin(rows, clean).others[:, 0])
    assert torch.equal(torch.stack(found, 1), clean.argsort(-1, descending=True)[:, 1 : runs + 1])
    x_adv = FAB(ball=Linf(0.4), num_steps=5)(model, x, y)
    assert wrong(model, x_adv, y).float().mean() > 0.5


class Bowl(nn.Module):
    """Has no gradient at images that are 0.5 everywhere, and another class a little way off."""

    def forward(self, x: Tensor) -> Tensor:
        away = (x - 0.5).square().flatten(1).sum(-1)
        return torch.stack([torch.full_like(away, 0.05), away], -1)


@pytest.mark.parametrize("ball", [Linf(0.2), L2(0.5), L1(1.5)], ids=str)
def test_restarts_leave_a_place_without_a_gradient(ball: Any) -> None:
    x, y = torch.full((5, 1, 4, 4), 0.5), torch.zeros(5).long()
    once = FAB(ball=ball, num_steps=20)(Bowl(), x, y)
    assert not wrong(Bowl(), once, y).any()
    assert once.isfinite().all()
    twice = FAB(ball=ball, num_steps=20, num_restarts=2)(Bowl(), x, y)
    assert wrong(Bowl(), twice, y).all()
    assert ball.contains(twice, x).all()


def test_a_point_costs_one_gradient_and_two_passes_a_step(victim: Any) -> None:
    class Counted(nn.Module):
        passes, gradients = 0, 0

        def forward(self, x: Tensor) -> Tensor:
            Counted.passes += len(x)
            Counted.gradients += len(x) * torch.is_grad_enabled()
            return victim.model(x)

    x, y = victim.x[:10], victim.model(victim.x[:10]).argmax(-1)
    FAB(ball=L2(1e-4), num_steps=6, num_targets=2)(Counted(), x, y)
    assert (Counted.passes, Counted.gradients) == (10 + 10 * 2 * 2 * 6, 10 * 2 * 6)
    Counted.passes, Counted.gradients = 0, 0
    FAB(ball=L2(9.0), num_steps=6)(Counted(), x, y)  # every point falls at its first steps
    assert Counted.gradients < 2 * 10


def test_points_that_stand_keep_their_image(victim: Any) -> None:
    x_adv = FAB(ball=L2(0.02), num_steps=10)(victim.model, victim.x, victim.y)
    changed = (x_adv != victim.x).flatten(1).any(-1)
    fooled = wrong(victim.model, x_adv, victim.y)
    assert 0 < fooled.float().mean() < 0.5
    assert not (changed & ~fooled).any()


def test_the_journal_hears_of_each_point_by_the_name_of_the_attack(victim: Any) -> None:
    class Kept(Journal):
        def __init__(self) -> None:
            self.heard: list[tuple[str, int]] = []

        def note(self, attack: str, decided: Decided) -> None:
            self.heard += [(attack, i) for i in decided.index.tolist()]

    y = victim.model(victim.x).argmax(-1)
    for attack, name in ((FAB(num_steps=3), "fab-t"), (FAB(num_steps=3, targeted=False), "fab")):
        journal = Kept()
        attack.run(victim.model, victim.x, y, journal=journal)
        assert sorted(journal.heard) == [(name, i) for i in range(32)]


def test_the_model_stays_as_it_was(stateful: nn.Module, trace: Any) -> None:
    x = torch.rand(6, 1, 8, 8)
    before = trace(stateful)
    FAB(num_steps=3, num_restarts=2, targeted=False)(stateful, x, torch.arange(6) % 4)
    before.check()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_steps": 0}, "num_steps must be at least 1; got 0"),
        ({"num_targets": 0}, "num_targets must be at least 1; got 0"),
        ({"num_restarts": 0}, "num_restarts must be at least 1; got 0"),
        ({"alpha_max": 1.5}, "alpha_max must lie in"),
        ({"eta": 0.5}, "eta, the overshoot, must be at least 1; got 0.5"),
        ({"beta": 1.0}, "beta, the share kept after a success, must lie in"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FAB(**fields)


def test_a_model_without_gradients_is_refused() -> None:
    class Rounded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.flatten(1).detach().sum(-1), torch.zeros(len(x))], -1)

    with pytest.raises(InputError, match="does not depend differentiably"):
        FAB(num_steps=2)(Rounded(), torch.rand(3, 1, 4, 4), torch.zeros(3).long())
