"""The gradient attacks: what each is by hand, what it does to a trained model, restarts, and no trace."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.attacks import BIM, FGSM, MIM, PGD, RFGSM
from aureole.attacks.gradient import GradientAttack
from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.errors import InputError
from aureole.core.objectives import DLR, KL, CrossEntropy, Margin
from aureole.core.random import Streams
from aureole.particles.starts import AtImage, Normal

BALLS = [Linf(0.08), L2(0.6), L1(4.0)]
every_ball = pytest.mark.parametrize("ball", BALLS, ids=str)


def attacks(ball: Ball, **fields: Any) -> list[GradientAttack]:
    few = {"num_steps": 10, "step_size": ball.radius / 5}
    return [
        FGSM(ball=ball, **fields),
        RFGSM(ball=ball, **fields),
        BIM(ball=ball, **few, **fields),
        MIM(ball=ball, **few, **fields),
        PGD(ball=ball, **few, **fields),
    ]


def gradient_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), x)[0]


def test_the_victim_is_worth_attacking(victim: Any) -> None:
    assert victim.accuracy(victim.x) > 0.9
    noise = Linf(0.08).sample(victim.x, Streams.of(0, torch.arange(32)))[0]
    assert victim.accuracy(noise) > 0.85


@every_ball
@pytest.mark.parametrize("at", range(5), ids=["FGSM", "RFGSM", "BIM", "MIM", "PGD"])
def test_attacks_lower_the_accuracy(victim: Any, ball: Ball, at: int) -> None:
    x_adv = attacks(ball)[at](victim.model, victim.x, victim.y)
    assert ball.contains(x_adv, victim.x).all()
    loss, clean = (F.cross_entropy(victim.model(images), victim.y) for images in (x_adv, victim.x))
    assert loss > 1.2 * clean
    if at > 1 or not isinstance(ball, L1):  # one step in L1 is one pixel
        assert victim.accuracy(x_adv) < 0.85


@every_ball
@pytest.mark.parametrize("at", [2, 3, 4], ids=["BIM", "MIM", "PGD"])
def test_targeted_attacks_reach_their_targets(victim: Any, ball: Ball, at: int) -> None:
    targets = (victim.y + 1) % 4

    def hits(x: Tensor) -> float:
        return float((victim.model(x).argmax(-1) == targets).float().mean())

    assert hits(victim.x) < 0.1
    wide = type(ball)(2 * ball.radius)
    x_adv = attacks(wide, targeted=True)[at](victim.model, victim.x, targets)
    assert wide.contains(x_adv, victim.x).all()
    assert hits(x_adv) > 0.3


@pytest.mark.parametrize("objective", [Margin(), DLR(), CrossEntropy(), KL()], ids=str)
def test_every_objective_attacks(victim: Any, objective: Any) -> None:
    attack = PGD(ball=Linf(0.08), num_steps=10, step_size=0.02, objective=objective)
    assert victim.accuracy(attack(victim.model, victim.x)) < 0.5


def test_fgsm_is_one_step_of_the_whole_radius(victim: Any) -> None:
    expected = (victim.x + 0.08 * gradient_of(victim.model, victim.x, victim.y).sign()).clamp(0, 1)
    torch.testing.assert_close(FGSM(ball=Linf(0.08))(victim.model, victim.x, victim.y), expected, rtol=0, atol=1e-6)
    expected = (victim.x - 0.08 * gradient_of(victim.model, victim.x, victim.y).sign()).clamp(0, 1)
    found = FGSM(ball=Linf(0.08), targeted=True)(victim.model, victim.x, victim.y)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("ball", [Linf(0.08, None), L2(0.6, None), L1(4.0, None)], ids=str)
def test_rfgsm_takes_a_random_share_of_the_radius_first(victim: Any, ball: Ball) -> None:
    seen = []
    hook = victim.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    x_adv = RFGSM(ball=ball, start_fraction=0.25)(victim.model, victim.x, victim.y)
    hook.remove()
    start = ball.distance(seen[-1], victim.x)
    torch.testing.assert_close(start, torch.full((32,), 0.25 * ball.radius), rtol=1e-4, atol=1e-6)
    step = ball.distance(x_adv, seen[-1])
    torch.testing.assert_close(step, torch.full((32,), 0.75 * ball.radius), rtol=1e-4, atol=1e-6)
    gradient = gradient_of(victim.model, seen[-1], victim.y)
    torch.testing.assert_close(x_adv - seen[-1], 0.75 * ball.radius * ball.steepest(gradient, 3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, math.nan])
def test_the_share_of_rfgsm_is_checked(fraction: float) -> None:
    with pytest.raises(InputError, match="start_fraction"):
        RFGSM(start_fraction=fraction)


def test_mim_by_hand(victim: Any) -> None:
    """Dong et al. 2018, Eqs. 6 and 7, two steps; the clean image is inside and the ball wide enough not to clip."""
    ball, x = Linf(0.5, bounds=None), victim.x
    first = gradient_of(victim.model, x, victim.y)
    momentum = first / first.abs().sum((1, 2, 3), keepdim=True)
    x_1 = x + 0.02 * momentum.sign()
    second = gradient_of(victim.model, x_1, victim.y)
    momentum = 0.7 * momentum + second / second.abs().sum((1, 2, 3), keepdim=True)
    expected = x_1 + 0.02 * momentum.sign()
    found = MIM(ball=ball, num_steps=2, step_size=0.02, decay=0.7)(victim.model, x, victim.y)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    bim = BIM(ball=ball, num_steps=2, step_size=0.02)(victim.model, x, victim.y)
    assert not torch.equal(found, bim)


@pytest.mark.parametrize("ball", BALLS[:2], ids=str)
def test_bim_is_pgd_from_the_image(victim: Any, ball: Ball) -> None:
    fields = {"ball": ball, "num_steps": 4, "step_size": 0.03}
    bim = BIM(**fields)(victim.model, victim.x, victim.y)
    assert torch.equal(bim, PGD(**fields, start=AtImage())(victim.model, victim.x, victim.y))


@every_ball
def test_many_steps_beat_one(victim: Any, ball: Ball) -> None:
    def loss(attack: GradientAttack) -> Tensor:
        return F.cross_entropy(victim.model(attack(victim.model, victim.x, victim.y)), victim.y).detach()

    single, _, iterated, _, random = (loss(attack) for attack in attacks(ball))
    assert iterated > single
    assert random > single


class Spy:
    """Record the images that a model sees."""

    def __init__(self, model: nn.Module) -> None:
        self.sizes: list[int] = []
        self.hook = model.register_forward_hook(lambda module, inputs, output: self.sizes.append(len(inputs[0])))


WEAK = PGD(ball=Linf(0.05), num_steps=2, step_size=0.02)


def restarted(runs: int, **fields: Any) -> PGD:
    return PGD(ball=WEAK.ball, num_steps=2, step_size=0.02, num_restarts=runs, **fields)


@pytest.mark.parametrize("targeted", [False, True])
def test_restarts_never_hurt_any_example(victim: Any, targeted: bool) -> None:
    labels = (victim.y + 1) % 4 if targeted else victim.y

    def run(runs: int) -> tuple[Tensor, Tensor, Tensor]:
        attack = restarted(runs, targeted=targeted)
        x_adv = attack(victim.model, victim.x, labels, generator=Streams.of(0, torch.arange(32)))
        logits = victim.model(x_adv).detach()
        values = F.cross_entropy(logits, labels, reduction="none") * (-1 if targeted else 1)
        return x_adv, (logits.argmax(-1) == labels) == targeted, values

    before, changed = run(1), 0
    for runs in (2, 5, 9):
        after = run(runs)
        assert (after[1] >= before[1]).all()
        assert torch.equal(after[0][before[1]], before[0][before[1]])  # the first that fools stays
        still = ~after[1]
        assert (after[2][still] >= before[2][still] - 1e-6).all()
        changed += int((after[0] != before[0]).flatten(1).any(1).sum())
        before = after
    assert changed > 5


def test_only_the_images_that_stand_are_attacked_again(victim: Any) -> None:
    first = WEAK(victim.model, victim.x, victim.y, generator=Streams.of(0, torch.arange(32)))
    standing = int((victim.model(first).argmax(-1) == victim.y).sum())
    assert 0 < standing < 32
    spy = Spy(victim.model)
    restarted(2)(victim.model, victim.x, victim.y, generator=Streams.of(0, torch.arange(32)))
    spy.hook.remove()
    assert spy.sizes == [32, 32, 32, 32, standing, standing, standing]  # 2 steps, clean, judged; 2 steps, judged


def test_restarts_stop_when_none_stands(victim: Any) -> None:
    spy = Spy(victim.model)
    attack = PGD(ball=Linf(0.9), num_steps=5, step_size=0.3, num_restarts=50)
    attack(victim.model, victim.x, victim.y)
    spy.hook.remove()
    assert len(spy.sizes) < 50


def test_restarts_keep_to_max_batch(victim: Any) -> None:
    spy = Spy(victim.model)
    runs = [restarted(3, max_batch=m, objective=KL()) for m in (None, 10)]
    whole = runs[0](victim.model, victim.x, victim.y, generator=Streams.of(0, torch.arange(32)))
    spy.sizes.clear()
    split = runs[1](victim.model, victim.x, victim.y, generator=Streams.of(0, torch.arange(32)))
    spy.hook.remove()
    assert max(spy.sizes) == 10
    torch.testing.assert_close(split, whole, rtol=0, atol=1e-5)


def test_restarts_do_not_depend_on_the_batch_and_move_the_streams_on_evenly(victim: Any) -> None:
    attack, order = restarted(4), torch.randperm(32)
    together = Streams.of(0, torch.arange(32))
    whole = attack(victim.model, victim.x, victim.y, generator=together)
    parts = []
    for index in (order[:1], order[1:9], order[9:]):
        alone = Streams.of(0, index)
        parts.append(attack(victim.model, victim.x[index], victim.y[index], generator=alone))
        assert alone.draws == together.draws == 4  # one a run: the caller's next draw repeats none of ours
    torch.testing.assert_close(torch.cat(parts), whole[order], rtol=0, atol=1e-6)


def test_restarts_take_labels_of_either_integer_type_and_inference_mode(victim: Any) -> None:
    long = restarted(3)(victim.model, victim.x, victim.y, generator=Streams.of(0, torch.arange(32)))
    with torch.inference_mode():
        short = restarted(3)(victim.model, victim.x.clone(), victim.y.int(), generator=Streams.of(0, torch.arange(32)))
    assert torch.equal(long, short)


def test_restarts_of_a_model_in_training_mode_claim_nothing(stateful: nn.Module, trace: Any) -> None:
    """Its zero gradients are not doubted in the first run, and must not be in the next ones."""
    stateful.train()
    nn.init.zeros_(stateful[-1].weight)
    stateful[-1].bias.data.copy_(torch.tensor([1.0, 0, 0, 0]))
    x, y = torch.rand(5, 1, 8, 8), torch.zeros(5, dtype=torch.int64)
    before = trace(stateful)
    restarted(3)(stateful, x, y)
    before.check()


def test_the_best_iterate_may_be_kept(victim: Any) -> None:
    def loss(keep: Any) -> Tensor:
        attack = PGD(ball=Linf(0.08), num_steps=6, step_size=0.15, start=Normal(0.01), keep=keep)
        x_adv = attack(victim.model, victim.x, victim.y, generator=Streams.of(0, torch.arange(32)))
        return F.cross_entropy(victim.model(x_adv), victim.y, reduction="none").detach()

    best, last = loss("best"), loss("last")
    assert (best >= last - 1e-6).all()
    assert (best > last + 1e-3).any()


def test_without_labels_the_predictions_are_attacked(victim: Any) -> None:
    ours, given = (
        restarted(2)(victim.model, victim.x, y, generator=Streams.of(0, torch.arange(32)))
        for y in (None, victim.model(victim.x).argmax(-1))
    )
    assert torch.equal(ours, given)


def test_a_targeted_attack_needs_targets(victim: Any) -> None:
    with pytest.raises(InputError, match="targeted attack needs y"):
        FGSM(targeted=True)(victim.model, victim.x)


def test_restarts_are_counted_from_one() -> None:
    with pytest.raises(InputError, match="num_restarts must be at least 1; got 0"):
        PGD(num_restarts=0)
