"""A robustness figure does not rest on the attack's word: the ball, the shape and the labels are checked anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole import FGSM, PGD, Batch, InputError, Linf, ParticleSearch, PGDTraining, Streams, UntrustedResult
from aureole.core.balls import Ball
from aureole.metrics import attack_success, change

BALL = Linf(0.1)


@dataclass
class Fake:
    """An attack that does as it is told, and remembers what it was given."""

    answer: Callable[[Tensor], Tensor]
    ball: Ball = BALL
    seen: list[Tensor] = field(default_factory=list)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor | None = None, *, generator: Any = None) -> Tensor:
        self.seen.append(x)
        return self.answer(x)


class Threshold(nn.Module):
    """Class 1 where the mean pixel is above one half."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], 1) * 100


def grey(*levels: float) -> Tensor:
    return torch.tensor(levels)[:, None, None, None].expand(-1, 1, 2, 2).contiguous()


def test_only_correct_images_are_attacked() -> None:
    attack = Fake(lambda x: x + 0.05)
    x, y = grey(0.2, 0.48, 0.7, 0.9), torch.tensor([0, 0, 0, 1])
    outcome = attack_success(Threshold(), attack, x, y)
    assert outcome.natural.tolist() == [True, True, False, True]
    assert outcome.robust.tolist() == [True, False, False, True]
    assert torch.equal(attack.seen[0], x[[0, 1, 3]])
    assert outcome.distance.tolist() == pytest.approx([0.05, 0.05, 0.0, 0.05], abs=1e-6)


def test_without_a_correct_image_there_is_no_attack() -> None:
    attack = Fake(lambda x: x)
    outcome = attack_success(Threshold(), attack, grey(0.2, 0.3), torch.tensor([1, 1]))
    assert attack.seen == []
    assert not outcome.natural.any()
    assert not outcome.robust.any()


def test_an_attack_that_changes_nothing_fools_nobody(victim: Any) -> None:
    outcome = attack_success(victim.model, Fake(lambda x: x), victim.x, victim.y)
    assert torch.equal(outcome.robust, outcome.natural)
    assert outcome.natural.float().mean() == pytest.approx(victim.accuracy(victim.x))
    assert int(outcome.natural.sum()) > 0
    assert not outcome.distance.any()


def test_an_attack_that_leaves_the_ball_is_brought_back_and_reported() -> None:
    x, y = grey(0.2, 0.45), torch.tensor([0, 0])
    with pytest.warns(UntrustedResult, match="left the ball for 2 of 2 images; they were projected back"):
        outcome = attack_success(Threshold(), Fake(lambda x: x + 0.6), x, y)
    assert outcome.robust.tolist() == [True, False]  # 0.2 + 0.1 stays below one half, 0.45 + 0.1 does not
    assert outcome.distance.tolist() == pytest.approx([0.1, 0.1], abs=1e-6)


def test_an_attack_that_leaves_the_bounds_is_brought_back_and_reported() -> None:
    with pytest.warns(UntrustedResult, match="left the ball for 1 of 1"):
        outcome = attack_success(Threshold(), Fake(lambda x: x + 0.08), grey(0.96), torch.tensor([1]))
    assert float(outcome.distance) == pytest.approx(0.04, abs=1e-6)


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: x.clone().index_fill_(0, torch.tensor([0]), float("nan")),
        lambda x: x.clone().index_fill_(0, torch.tensor([1]), float("inf")),
        lambda x: x[:1],
        lambda x: x.flatten(1),
        lambda x: x[None],
    ],
)
def test_nan_and_wrong_shapes_are_refused(answer: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(InputError, match=r"the attack must return finite images of shape \(2, 1, 2, 2\)"):
        attack_success(Threshold(), Fake(answer), grey(0.2, 0.3), torch.tensor([0, 0]))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (grey(20.0), torch.tensor([0]), "bounds"),
        (grey(float("nan")), torch.tensor([0]), "finite"),
        (grey(0.1)[:0], torch.tensor([0])[:0], "empty"),
        (grey(0.1), torch.tensor([2]), "labels must be from 0 to 1"),
        (grey(0.1), torch.tensor([-1]), "labels must be from 0 to 1"),
    ],
)
def test_unusable_images_and_labels_are_refused(x: Tensor, y: Tensor, message: str) -> None:
    attack = Fake(lambda x: x)
    with pytest.raises(InputError, match=message):
        attack_success(Threshold(), attack, x, y)
    assert attack.seen == []


def test_the_model_is_left_as_it_was(stateful: nn.Module, trace: Any) -> None:
    x, y = torch.rand(6, 1, 8, 8), torch.arange(6) % 4
    before = trace(stateful)
    streams = Streams.of(0, torch.arange(6))
    attack_success(stateful, PGD(ball=BALL, num_steps=2, step_size=0.05), x, y, generator=streams)
    before.check()


def test_the_model_is_left_as_it_was_after_an_exception(trace: Any) -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 2)).train()
    with torch.no_grad():
        y = model.eval()(grey(0.2, 0.3)).argmax(-1)
    before = trace(model.train())
    with pytest.raises(InputError, match="finite"):
        attack_success(model, Fake(lambda x: x * float("nan")), grey(0.2, 0.3), y)
    before.check()


class WithLogits(nn.Module):
    """A model in the manner of transformers: the logits are one field of what it returns."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(loss=None, logits=self.inner(x))


def test_any_module_can_be_judged_and_trained(victim: Any) -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    wrapped = WithLogits(plain)
    attack = PGD(ball=BALL, num_steps=2, step_size=0.05)
    streams = Streams.of(0, torch.arange(32))
    a = attack_success(plain, attack, victim.x, victim.y, generator=streams)
    b = attack_success(wrapped, attack, victim.x, victim.y, generator=Streams.of(0, torch.arange(32)))
    assert torch.equal(a.robust, b.robust)
    assert torch.equal(a.distance, b.distance)
    search = ParticleSearch(BALL, num_particles=2, num_steps=1, step_size=0.05)
    gradients = []
    for model in (plain, wrapped):
        plain.zero_grad()
        batch = Batch(victim.x, victim.y, streams=Streams.of(1, torch.arange(32)))
        PGDTraining(search=search).loss(model, batch).total.backward()
        weight = plain[1].weight.grad
        assert weight is not None
        gradients.append(weight.clone())
    assert torch.equal(*gradients)
    assert gradients[0].abs().sum() > 0


def test_a_module_that_returns_something_else_is_refused(victim: Any) -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(InputError, match="must return logits"):
        attack_success(Pair(), FGSM(ball=BALL), victim.x, victim.y)


def test_changes_by_hand() -> None:
    x = torch.zeros(2, 3, 2, 2)
    x_adv = x.clone()
    x_adv[0, :, 0, 0] = torch.tensor([0.3, 0.0, -0.4])  # two channels of one pixel
    x_adv[0, 1, 1, 1] = 1.2
    measured = change(x_adv, x)
    assert measured.l0.tolist() == [0.5, 0.0]
    assert measured.l2.tolist() == pytest.approx([1.3, 0.0])
    assert measured.linf.tolist() == pytest.approx([1.2, 0.0])
    flat = change(torch.tensor([[0.0, 0.5, 0.5, 0.0]]), torch.zeros(1, 4))
    assert flat.l0.tolist() == [0.5]  # without channels, each coordinate is a pixel
