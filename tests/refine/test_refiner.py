"""The refined image, the map's network, and PVAR as an objective."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from jaxtyping import config
from torch import Tensor, nn

from aureole.attacks import FGSM, PGD, Attack
from aureole.core.balls import L2, Linf
from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.core.random import Streams
from aureole.models.unet import UNet
from aureole.particles import ParticleSearch
from aureole.refine import (
    PVAR,
    Concrete,
    LiveSource,
    Marginal,
    RefinedAttack,
    Refiner,
    Selection,
    StoredSource,
    Threshold,
    changed_share,
    num_pixels,
    refined,
    soft_cross_entropy,
    top_pixels,
)


def victim_of(weight: Tensor) -> nn.Module:
    """Return a linear victim of two classes whose margin is <weight, x>."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(weight.numel(), 2, bias=False))
    model[1].weight.data = torch.stack([weight.flatten(), -weight.flatten()]) / 2
    return model.eval()


class Fixed(nn.Module):
    """A map that is the same for every image."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta)

    def forward(self, x: Tensor) -> Tensor:
        return self.theta.expand(len(x), 1, *self.theta.shape)


def test_equation_3_1_by_hand() -> None:
    x, x_source = torch.zeros(1, 2, 1, 3), torch.tensor([[[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]])
    relaxed = refined(x, x_source, torch.tensor([[[0.5, 0.0, 1.0]]]))
    assert relaxed.tolist() == [[[[0.5, 0.0, 3.0]], [[2.0, 0.0, 6.0]]]]
    mask = torch.tensor([[[True, False, True]]])
    assert refined(x, x_source, mask).tolist() == [[[[1.0, 0.0, 3.0]], [[4.0, 0.0, 6.0]]]]
    particles = refined(x, torch.stack([x_source, -x_source]), mask)
    assert torch.equal(particles[1], -particles[0])


def test_a_mask_keeps_pixels_to_the_bit() -> None:
    x, x_source = torch.rand(3, 3, 8, 8), torch.rand(3, 3, 8, 8)
    mask = top_pixels(torch.rand(3, 8, 8), 20)
    x_adv = refined(x, x_source, mask)
    chosen = mask[:, None].expand_as(x)
    assert torch.equal(x_adv[chosen], x_source[chosen])
    assert torch.equal(x_adv[~chosen], x[~chosen])
    assert changed_share(x, x_adv).tolist() == pytest.approx([20 / 64] * 3)


def test_the_loss_is_the_soft_cross_entropy_by_hand() -> None:
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.1, 0.3, 0.6])
    wanted = -(0.7 * torch.tensor(0.1).log() + 0.2 * torch.tensor(0.3).log() + 0.1 * torch.tensor(0.6).log())
    logits, target = (q.log() + 3)[None].requires_grad_(), (p.log() - 2)[None].requires_grad_()
    loss = soft_cross_entropy(logits, target)
    assert float(loss.detach()) == pytest.approx(float(wanted), abs=1e-6)
    loss.sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, (q - p)[None])
    assert target.grad is None


@pytest.mark.parametrize(("share", "wanted"), [(0.25, 4), (0.26, 5), (1.0, 16)])
def test_exactly_the_largest_pixels_change(share: float, wanted: int) -> None:
    theta = torch.arange(16.0).view(4, 4)
    refiner = Refiner(Fixed(theta), share=share)
    x = torch.zeros(2, 3, 4, 4)
    mask = (refiner(x, x + 1) != x).any(1)
    assert torch.equal(mask, (theta >= 16 - wanted).expand(2, 4, 4))


def test_draws_hit_at_most_the_share_and_mostly_likely_pixels() -> None:
    theta = torch.full((8, 8), -50.0)
    theta[0, :4] = 0.0
    refiner = Refiner(Fixed(theta), share=0.5, choice="drawn")
    x = torch.zeros(5, 1, 8, 8)
    mask = refiner.select(x, x + 1, Streams.of(0, torch.arange(5)))
    assert torch.equal(mask, (theta == 0).expand(5, 8, 8))


def test_a_conditioned_map_sees_the_perturbation() -> None:
    network = nn.Conv2d(2, 1, 1, bias=False)
    network.weight.data = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)  # the perturbation itself
    refiner = Refiner(network, share=1 / 16, conditioned=True)
    x, x_source = torch.rand(3, 1, 4, 4), torch.rand(3, 1, 4, 4)
    mask = (refiner(x, x_source) != x)[:, 0].flatten(1)
    assert torch.equal(mask.int().argmax(1), (x_source - x).flatten(1).argmax(1))
    with pytest.raises(InputError, match="conditioned on the perturbation"):
        refiner.map(x)
    with pytest.raises(InputError, match="expected images of the attack"):
        refiner(x, torch.stack([x_source, x_source]))


def test_none_but_changed_pixels_are_chosen_where_that_is_asked_for() -> None:
    x, x_source = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    x_source[0, 0, :2] = 0.3  # the map likes the lower half, the attack changed the upper one
    x_source[1, 0, 3, 3] = 0.3
    network = Fixed(torch.arange(16.0).view(4, 4))
    assert float(changed_share(x, Refiner(network, share=0.5)(x, x_source))[0]) == 0
    refiner = Refiner(network, share=0.25, among="changed")
    x_adv = refiner(x, x_source)
    assert changed_share(x, x_adv).tolist() == [0.25, 1 / 16]
    assert bool((x_adv[0, 0, 1] == 0.3).all())  # the four most vulnerable of the changed ones
    particles = torch.stack([x_source, x_source.flip(2)])  # of the two together, every pixel of the first image changed
    assert torch.equal(refiner.select(x, particles)[0], Refiner(network, share=0.25).select(x, particles)[0])


def test_a_map_that_learns_among_changed_pixels_gets_no_gradient_elsewhere() -> None:
    network = Fixed(torch.zeros(4, 4))
    x, x_source = torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4)
    x_source[:, :, 2:] = x[:, :, 2:]
    victim = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    y = 1 - victim(x_source).argmax(-1)  # so that the attack has succeeded
    source = StoredSource(victim, x_source, x_source)
    batch = Batch(x, y, index=torch.tensor([0]))
    PVAR(among="changed", selection=Marginal()).loss(network, batch, source).total.backward()
    assert network.theta.grad is not None
    assert bool((network.theta.grad[:2] != 0).any())
    assert bool((network.theta.grad[2:] == 0).all())


def test_particles_share_the_mask_and_stay_in_the_ball(victim: Any) -> None:
    x, y = victim.x[:6], victim.y[:6]
    search = ParticleSearch(Linf(0.1), num_particles=3, num_steps=3, step_size=0.05)
    particles = search(victim.model, x, y).x_adv
    x_adv = Refiner(nn.Conv2d(1, 1, 3, padding=1), share=0.3)(x, particles)
    assert x_adv.shape == particles.shape
    changed = (x_adv != x).any(2)
    assert bool((changed.flatten(2).sum(-1) <= num_pixels(0.3, 8, 8)).all())
    assert all(bool(Linf(0.1).contains(each, x).all()) for each in x_adv)


@pytest.mark.parametrize("ball", [Linf(0.2), L2(1.5)], ids=str)
def test_a_refined_attack_is_an_attack(victim: Any, ball: Any) -> None:
    x, y = victim.x[:12], victim.y[:12]
    source = PGD(ball=ball, num_steps=5, step_size=ball.radius / 4)
    refiner = Refiner(nn.Conv2d(1, 1, 3, padding=1), share=0.4)
    attack = RefinedAttack(source=source, refiner=refiner)
    assert isinstance(attack, Attack)
    assert attack.ball is source.ball
    streams = [Streams.of(0, torch.arange(12)) for _ in range(2)]
    x_adv = attack(victim.model, x, y, generator=streams[0])
    x_source = source(victim.model, x, y, generator=streams[1])
    assert torch.equal(x_adv, refiner(x, x_source))
    assert bool(ball.contains(x_adv, x).all())
    alone = attack(victim.model, x[3:4], y[3:4], generator=Streams.of(0, torch.tensor([3])))
    torch.testing.assert_close(alone, x_adv[3:4])


def test_with_the_fewest_pixels_it_still_fools(victim: Any) -> None:
    x, y = victim.x, victim.y
    source = PGD(ball=Linf(0.3), num_steps=10, step_size=0.1)
    attack = RefinedAttack(source=source, refiner=Refiner(nn.Conv2d(1, 1, 3, padding=1), share=0.3), fewest=True)
    generators = [Streams.of(0, torch.arange(len(x))) for _ in range(2)]
    x_adv, x_source = (
        attack(victim.model, x, y, generator=generators[0]),
        source(victim.model, x, y, generator=generators[1]),
    )
    with torch.no_grad():
        fooled = victim.model(x_source).argmax(-1) != y
        assert int(fooled.sum()) > 10
        assert bool((victim.model(x_adv).argmax(-1) != y)[fooled].all())
    assert float(changed_share(x, x_adv)[fooled].mean()) < float(changed_share(x, x_source)[fooled].mean())


SELECTIONS: list[Selection] = [Concrete(), Marginal(), Threshold()]


@pytest.mark.parametrize("selection", SELECTIONS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("source", ["live", "stored"])
def test_training_finds_the_pixels_that_matter(selection: Selection, source: str) -> None:
    """A victim that looks at the first row alone: the map learns to pick it."""
    torch.manual_seed(0)
    weight = torch.zeros(4, 4)
    weight[0] = 4.0
    model, network = victim_of(weight), Fixed(torch.zeros(4, 4))
    x, y = torch.full((16, 1, 4, 4), 0.6), torch.zeros(16, dtype=torch.int64)
    attack = FGSM(ball=Linf(1.0, bounds=(-1.0, 1.0)))
    stored = attack(model, x, y)
    parts = LiveSource(model, attack) if source == "live" else StoredSource(model, stored, stored)
    method = PVAR(share=0.25, selection=selection)
    optimizer = torch.optim.RAdam(network.parameters(), lr=0.1)
    assert network.theta.std() == 0
    losses = []
    for step in range(60):
        batch = Batch(x, y, index=torch.arange(16), streams=Streams.of(step, torch.arange(16)))
        terms = method.loss(network, batch, parts)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        losses.append(float(terms.total.detach()))
    rows = network.theta.detach().mean(1)
    assert float(rows[0]) > float(rows[1:].max()) + 0.1
    assert sum(losses[-10:]) < sum(losses[:10])
    judged = method.judge(network, Batch(x, y, index=torch.arange(16)), parts)
    assert float(judged["adversarial_accuracy"].mean()) == 0
    assert judged["changed"].tolist() == pytest.approx([0.25] * 16)


def test_the_victim_is_left_alone(stateful: nn.Module, trace: Any) -> None:
    stateful.eval().requires_grad_(False)
    network = nn.Conv2d(1, 1, 3, padding=1)
    before = trace(stateful)
    batch = Batch(torch.full((4, 1, 8, 8), 0.3), torch.arange(4))
    source = LiveSource(stateful, FGSM(ball=Linf(0.1)))
    stateful.train()  # as Lightning does to every module
    PVAR().loss(network, batch, source).total.backward()
    stateful.eval()
    before.check()
    assert network.weight.grad is not None
    assert PVAR().own_optimizer(source) is None


def test_failed_attacks_are_left_out_of_the_loss() -> None:
    model = victim_of(torch.ones(4, 4))
    x, y = torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, dtype=torch.int64)
    good, failed = torch.zeros(1, 1, 4, 4) - 0.5, torch.full((1, 1, 4, 4), 0.4)
    network = Fixed(torch.zeros(4, 4))

    def loss(*sources: Tensor) -> float:
        stored = torch.cat(sources)
        batch = Batch(
            x[: len(stored)], y[: len(stored)], torch.arange(len(stored)), 0, 0, Streams.of(0, torch.arange(2))
        )
        method = PVAR(share=0.5, selection=Marginal(straight_through=False))
        return float(method.loss(network, batch, StoredSource(model, stored, stored)).total.detach())

    both = loss(good, failed)
    alone = PVAR(share=0.5, selection=Marginal(straight_through=False)).loss(
        network, Batch(x[:1], y[:1], torch.arange(1)), StoredSource(model, good, good)
    )
    assert both == pytest.approx(float(alone.total.detach()))
    assert both > 0
    assert loss(failed, failed) == 0


def test_targeted_refinement_wants_the_target() -> None:
    model = victim_of(torch.ones(4, 4))
    x, target = torch.full((3, 1, 4, 4), 0.5), torch.ones(3, dtype=torch.int64)
    source = LiveSource(model, PGD(ball=Linf(1.0, bounds=(-1.0, 1.0)), num_steps=3, step_size=1.0, targeted=True))
    terms = PVAR(targeted=True).loss(Fixed(torch.zeros(4, 4)), Batch(x, target), source)
    assert float(terms.total.detach()) > 0
    judged = PVAR(share=1.0, targeted=True).judge(Fixed(torch.zeros(4, 4)), Batch(x, target), source)
    assert judged["adversarial_accuracy"].tolist() == [0.0] * 3  # 0: the target is reached


class Shapeless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


@dataclass(frozen=True)
class Mistake:
    call: Callable[[], object]
    said: str


MISTAKES = {
    "share 0": Mistake(lambda: Refiner(nn.Identity(), share=0.0), "share"),
    "share above 1": Mistake(lambda: PVAR(share=1.5), "share"),
    "choice": Mistake(lambda: Refiner(nn.Identity(), choice="tops"), "did you mean 'top'"),  # pyright: ignore
    "among": Mistake(lambda: PVAR(among="change"), "did you mean 'changed'"),  # pyright: ignore
    "map's shape": Mistake(
        lambda: Refiner(Shapeless())(torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4)), "must return a map"
    ),
    "images": Mistake(lambda: Refiner(nn.Identity()).map(torch.rand(2, 4)), "needs images"),
    "no victim": Mistake(
        lambda: PVAR().loss(nn.Identity(), Batch(torch.rand(1, 1, 4, 4), torch.zeros(1, dtype=torch.int64))),
        "needs a victim and an attack",
    ),
    "no index": Mistake(
        lambda: StoredSource(nn.Identity(), torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4)).attacked(
            Batch(torch.rand(1, 1, 4, 4), torch.zeros(1, dtype=torch.int64)), training=True
        ),
        "batch.index",
    ),
}


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Let wrong types through to the library's own checks."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_named(mistake: Mistake) -> None:
    with pytest.raises(InputError, match=mistake.said) as caught:
        mistake.call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("conditioned", [False, True])
def test_a_folded_refiner_makes_the_same_map(conditioned: bool) -> None:
    network = UNet(6 if conditioned else 3, widths=(4, 8))
    for norm in [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    x, x_source = torch.rand(3, 3, 12, 9), torch.rand(3, 3, 12, 9)
    refiner = Refiner(network.eval(), share=0.2, conditioned=conditioned, among="changed")
    fast = refiner.folded()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in refiner.modules())
    torch.testing.assert_close(fast.map(x, x_source), refiner.map(x, x_source), rtol=1e-4, atol=1e-5)
    assert (fast.share, fast.conditioned, fast.choice, fast.among) == (0.2, conditioned, "top", "changed")
    assert torch.equal(fast(x, x_source), refiner(x, x_source))
