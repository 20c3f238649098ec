"""AutoAttack as an ensemble: order, who is attacked, what is classified again, and its warnings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.attacks import APGD, FAB, AutoAttack, Square, TargetedAPGD
from aureole.attacks.reliability import warn_dynamic, warn_randomised, warn_square
from aureole.core.balls import L1, L2, Linf
from aureole.core.errors import InputError, UntrustedResult
from aureole.core.journal import Decided, Journal
from aureole.core.objectives import DLR
from aureole.core.random import Streams

QUICK = ("apgd-ce", "apgd-t", "fab-t")


class Heard(Journal):
    """What was decided in each attack."""

    def __init__(self) -> None:
        self.fooled: dict[str, dict[int, bool]] = {}

    def begin(self, attack: str, num_points: int) -> None:
        self.fooled[attack] = {}

    def note(self, attack: str, decided: Decided) -> None:
        self.fooled[attack] |= dict(zip(decided.index.tolist(), decided.fooled.tolist(), strict=True))


def test_budgets_are_those_of_the_published_versions() -> None:
    standard = AutoAttack(ball=Linf(0.1))
    assert standard.names == ("apgd-ce", "apgd-t", "fab-t", "square")
    assert [standard.member(name) for name in standard.names] == [
        APGD(ball=Linf(0.1), num_steps=100),
        TargetedAPGD(ball=Linf(0.1), num_steps=100, num_targets=9),
        FAB(ball=Linf(0.1), num_steps=100, num_targets=9),
        Square(ball=Linf(0.1), num_queries=5000),
    ]
    sparse = AutoAttack(ball=L1(5.0))
    assert sparse.member("apgd-ce") == APGD(ball=L1(5.0), num_restarts=5, large_radius_first=True)
    assert sparse.member("apgd-t") == TargetedAPGD(ball=L1(5.0), num_targets=5, large_radius_first=True)
    plus = AutoAttack(ball=L2(0.5), version="plus")
    assert plus.names == ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t")
    assert plus.member("apgd-dlr") == APGD(ball=L2(0.5), objective=DLR(), num_restarts=5)
    assert plus.member("fab") == FAB(ball=L2(0.5), targeted=False, num_restarts=5)
    rand = AutoAttack(ball=Linf(0.1), version="rand", max_batch=7)
    assert rand.names == ("apgd-ce", "apgd-dlr")
    assert rand.member("apgd-ce") == APGD(ball=Linf(0.1), num_samples=20, max_batch=7)


def test_each_member_gets_what_the_ones_before_left(victim: Any) -> None:
    heard, ball = Heard(), Linf(0.025)
    index = torch.arange(100, 132)
    attack = AutoAttack(ball=ball, members=("apgd-ce", "apgd-t"))
    x_adv = attack.run(victim.model, victim.x, victim.y, index=index, journal=heard, streams=Streams.of(0, index))
    correct = victim.model(victim.x).argmax(-1) == victim.y
    assert heard.fooled["apgd-ce"].keys() == set(index[correct].tolist())
    left = {number for number, fell in heard.fooled["apgd-ce"].items() if not fell}
    assert heard.fooled["apgd-t"].keys() == left
    assert 0 < len(left) < 32
    fell = {number for name in heard.fooled for number, fooled in heard.fooled[name].items() if fooled}
    fooled = correct & (victim.model(x_adv).argmax(-1) != victim.y)
    assert set(index[fooled].tolist()) == fell
    assert torch.equal(x_adv[~correct], victim.x[~correct])


@pytest.mark.parametrize("ball", [Linf(0.02), L2(0.2)], ids=str)
def test_it_is_at_least_as_strong_as_each_member(victim: Any, ball: Any) -> None:
    streams = lambda: Streams.of(0, torch.arange(32))  # noqa: E731
    whole = AutoAttack(ball=ball, members=QUICK)
    together = victim.accuracy(whole(victim.model, victim.x, victim.y, generator=streams()))
    alone = [victim.accuracy(whole.member(n)(victim.model, victim.x, victim.y, generator=streams())) for n in QUICK]
    assert together <= min(alone)
    assert together < victim.accuracy(victim.x)


def test_the_result_depends_neither_on_the_batch_nor_on_the_other_members(victim: Any) -> None:
    streams, order = lambda i: Streams.of(0, i), torch.randperm(32)
    fields: dict[str, Any] = {"ball": Linf(0.025), "members": ("apgd-ce", "apgd-t")}
    whole = AutoAttack(**fields)(victim.model, victim.x, victim.y, generator=streams(torch.arange(32)))
    split = AutoAttack(**fields, max_batch=3)(victim.model, victim.x[order], victim.y[order], generator=streams(order))
    torch.testing.assert_close(split, whole[order], rtol=0, atol=1e-5)


class Forgetful(nn.Module):
    """Gives other logits where a gradient is asked for, so that a success does not repeat."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.lies = model, True

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        return -logits if self.lies and x.requires_grad else logits


def test_a_success_that_does_not_repeat_does_not_count(victim: Any) -> None:
    attack = AutoAttack(ball=Linf(1e-6), members=("apgd-ce",))
    x_adv = attack(Forgetful(victim.model).eval(), victim.x, victim.y)
    assert victim.accuracy(x_adv) == victim.accuracy(victim.x)
    assert torch.equal(x_adv, victim.x)


@pytest.mark.parametrize(("classes", "warned"), [(2, ["apgd-t", "apgd-dlr"]), (3, ["apgd-t"]), (4, [])])
def test_few_classes_are_handled_and_said(classes: int, warned: list[str]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, classes)).eval()
    x = torch.rand(8, 1, 4, 4)
    for name in ("apgd-t", "apgd-dlr", "fab-t", "apgd-ce"):
        attack = AutoAttack(ball=Linf(1.0), members=(name,))
        if name in warned:
            with pytest.warns(UntrustedResult, match=rf"{name} needs \d classes and the model has {classes}"):
                x_adv = attack(model, x)
        else:
            x_adv = attack(model, x)
        assert (model(x_adv).argmax(-1) != model(x).argmax(-1)).float().mean() > 0.7


class Dropping(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x + 0.05 * torch.randn_like(x))


class Adaptive(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            inner = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.model(inner).sum(), inner)
        return self.model(x - 0.01 * gradient)


def test_random_and_adaptive_models_are_warned_of(victim: Any) -> None:
    x = victim.x[:4]
    warn_randomised(victim.model, x)
    warn_dynamic(victim.model, x)
    grad = torch.autograd.grad
    with pytest.warns(UntrustedResult, match="the model is random"):
        warn_randomised(Dropping(victim.model), x)
    with pytest.warns(UntrustedResult, match="inside its forward pass"):
        warn_dynamic(Adaptive(victim.model), x)
    assert torch.autograd.grad is grad
    before = torch.get_rng_state()
    with pytest.warns(UntrustedResult, match=r"version='rand'"):
        AutoAttack(ball=Linf(0.01), members=("apgd-ce",))(Dropping(victim.model).eval(), x)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_in_training_mode_is_warned_of(stateful: nn.Module) -> None:
    with pytest.warns(UntrustedResult, match="was in training mode"):
        AutoAttack(ball=Linf(0.01), members=("apgd-ce",))(stateful, torch.rand(3, 1, 8, 8))
    assert stateful.training


def test_square_that_beats_the_gradients_is_warned_of() -> None:
    warn_square({"clean": 900, "apgd-ce": 500, "square": 499}, 1000)
    warn_square({"clean": 900, "square": 100}, 1000)
    with pytest.warns(UntrustedResult, match="Square, which sees no gradient, fooled 3 of 1000"):
        warn_square({"clean": 900, "apgd-ce": 500, "square": 497}, 1000)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"members": ("apgd-cee",)}, "did you mean 'apgd-ce'"),
        ({"members": ()}, "at least one member"),
    ],
)
def test_unusable_settings_are_refused(fields: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        AutoAttack(**fields)
