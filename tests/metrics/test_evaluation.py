"""Outcomes point by point: counted, measured, resumed, and the same however the points are dealt out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole import FGSM, PGD, Batch, InputError, Linf, Streams, UntrustedResult
from aureole.core.balls import Ball
from aureole.core.journal import Decided, Journal
from aureole.metrics import Outcomes, RobustAccuracy, change, evaluate, worst_case

BALL = Linf(0.1)


def batches(x: Tensor, y: Tensor, size: int, seed: int = 0) -> Iterator[Batch]:
    for index in torch.arange(len(x)).split(size):
        yield Batch(x[index], y[index], index, streams=Streams.of(seed, index))


def test_counts(victim: Any) -> None:
    told: list[float] = []
    natural = evaluate(victim.model, batches(victim.x, victim.y, 10), None, journal=Told(told))
    assert told == [10, 20, 30, 32]
    assert natural.num_examples == 32
    assert natural.num_correct / 32 == pytest.approx(victim.accuracy(victim.x))
    robust = evaluate(victim.model, batches(victim.x, victim.y, 10), FGSM(ball=Linf(0.3)))
    assert robust.num_examples == 32
    assert robust.num_correct < natural.num_correct


def test_there_must_be_images(victim: Any) -> None:
    with pytest.raises(InputError, match="no images"):
        evaluate(victim.model, [], None)


@dataclass
class Keep:
    """PGD that remembers its images."""

    ball: Ball = Linf(0.12)
    found: list[Tensor] = field(default_factory=list)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor | None = None, *, generator: Any = None) -> Tensor:
        attack = PGD(ball=self.ball, num_steps=3, step_size=0.04, num_restarts=2)
        self.found.append(attack(model, x, y, generator=generator))
        return self.found[-1]


def test_the_batch_size_changes_no_image_and_the_seed_does(victim: Any) -> None:
    def attacked(size: int, seed: int = 0) -> tuple[Tensor, int]:
        keep = Keep()
        count = evaluate(victim.model, batches(victim.x, victim.y, size, seed), keep).num_correct
        return torch.cat(keep.found), count

    (seven, count), (all_at_once, same) = attacked(7), attacked(50)
    assert count == same
    assert torch.allclose(seven, all_at_once, atol=1e-6)
    assert not torch.allclose(all_at_once, attacked(50, seed=1)[0], atol=1e-3)


def test_training_mode_is_reported_where_it_matters(victim: Any) -> None:
    victim.model.train()
    try:
        with pytest.warns(UntrustedResult, match="training mode"):
            trained = evaluate(victim.model, batches(victim.x, victim.y, 8), None)
        assert victim.model.training
    finally:
        victim.model.eval()
    assert torch.equal(trained.robust, evaluate(victim.model, batches(victim.x, victim.y, 8), None).robust)
    without = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).train()
    evaluate(without, batches(victim.x, victim.y, 8), None)  # no batch statistics, no warning


def test_evaluating_leaves_the_model_as_it_was(stateful: nn.Module, trace: Any) -> None:
    stateful.eval()
    x, y = torch.rand(6, 1, 8, 8), torch.arange(6) % 4
    before = trace(stateful)
    for attack in (None, FGSM(ball=BALL)):
        evaluate(stateful, batches(x, y, 4), attack)
    before.check()


def test_the_metric_sums_over_batches(victim: Any) -> None:
    attack = FGSM(ball=Linf(0.1))
    metric = RobustAccuracy(attack)
    for batch in batches(victim.x, victim.y, 10):
        metric.update(victim.model, batch.x, batch.y, batch.streams)
    expected = evaluate(victim.model, batches(victim.x, victim.y, 32), attack)
    assert float(metric.compute()) == pytest.approx(expected.num_correct / 32)


def same(a: Outcomes, b: Outcomes) -> bool:
    names = ("index", "labels", "natural", "robust", "l0", "l2", "linf")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


def test_outcomes_are_those_of_each_image(victim: Any) -> None:
    attack = PGD(ball=BALL, num_steps=3, step_size=0.05)
    outcomes = evaluate(victim.model, batches(victim.x, victim.y, 10), attack)
    x_adv = attack(victim.model, victim.x, victim.y, generator=Streams.of(0, torch.arange(32)))
    measured = change(x_adv, victim.x)
    with torch.no_grad():
        natural = victim.model(victim.x).argmax(-1) == victim.y
        robust = natural & (victim.model(x_adv).argmax(-1) == victim.y)
    assert 0 < int(robust.sum()) < int(natural.sum())
    assert torch.equal(outcomes.natural, natural)
    assert torch.equal(outcomes.robust, robust)
    assert torch.equal(outcomes.index, torch.arange(32))
    fooled = natural & ~robust
    assert torch.equal(outcomes.fooled, fooled)
    for name in ("l0", "l2", "linf"):
        assert torch.allclose(getattr(outcomes, name), getattr(measured, name) * fooled, atol=1e-6)
        assert outcomes.mean(name) == pytest.approx(float(getattr(measured, name)[fooled].mean()), rel=1e-5)


def test_nothing_fooled_has_no_distance(victim: Any) -> None:
    natural = evaluate(victim.model, batches(victim.x, victim.y, 10), None)
    assert natural.mean("l2") is None
    assert not natural.linf.any()


def test_the_worst_case_is_what_no_attack_fools(victim: Any) -> None:
    found = [evaluate(victim.model, batches(victim.x, victim.y, 32, seed), PGD(ball=BALL, num_steps=1, step_size=0.1))
             for seed in (0, 1, 2)]  # fmt: skip
    worst = worst_case(found)
    assert torch.equal(worst, found[0].robust & found[1].robust & found[2].robust)
    assert int(worst.sum()) < min(f.num_correct for f in found)


# A journal.


class Memory(Journal):
    """Keeps everything, as a file would."""

    def __init__(self) -> None:
        self.known: dict[str, list[Decided]] = {}
        self.begun: list[tuple[str, int]] = []

    def recall(self, attack: str) -> Decided | None:
        parts = self.known.get(attack)
        if parts is None:
            return None
        index, fooled = torch.cat([p.index for p in parts]), torch.cat([p.fooled for p in parts])
        return Decided(index, fooled, torch.cat([p.x_adv for p in parts]))

    def begin(self, attack: str, num_points: int) -> None:
        self.begun.append((attack, num_points))

    def note(self, attack: str, decided: Decided) -> None:
        self.known.setdefault(attack, []).append(decided)


class Told(Journal):
    """Notes how far an evaluation is."""

    def __init__(self, told: list[float]) -> None:
        self.told = told

    def progress(self, attack: str, done: float) -> None:
        self.told.append(done)


def test_what_is_decided_is_not_attacked_again(victim: Any) -> None:
    keep, memory = Keep(), Memory()
    whole = evaluate(victim.model, batches(victim.x, victim.y, 8), keep, name="mine", journal=memory, num_examples=32)
    assert memory.begun == [("mine", 32)]
    assert sum(map(len, keep.found)) == int(whole.natural.sum())
    again = evaluate(victim.model, batches(victim.x, victim.y, 8), Keep(), name="mine", journal=memory, num_examples=32)
    assert memory.begun[1:] == [("mine", 32 - int(whole.natural.sum()))]
    assert same(whole, again)
    part, rest = Memory(), Keep()
    part.known["mine"] = memory.known["mine"][1:3]
    resumed = evaluate(victim.model, batches(victim.x, victim.y, 8), rest, name="mine", journal=part)
    assert same(whole, resumed)
    assert len(rest.found) == 2
    other = evaluate(victim.model, batches(victim.x, victim.y, 32), Fooling(), name="other", journal=part)
    assert other.num_correct != resumed.num_correct  # the name tells attacks apart


class Fooling(Keep):
    """Does nothing."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor | None = None, *, generator: Any = None) -> Tensor:
        return x


# Attacks on all points at once.


@pytest.mark.parametrize("size", [5, 32])
def test_all_points_go_to_a_whole_set_attack_at_once(victim: Any, whole_set: Callable[..., Any], size: int) -> None:
    attack, memory = whole_set(ball=BALL), Memory()
    outcomes = evaluate(victim.model, batches(victim.x, victim.y, size), attack, journal=memory)
    (seen,) = attack.seen
    assert torch.equal(seen, torch.arange(32)[outcomes.natural])
    assert set(memory.known) == {"brighter", "darker"}
    assert 0 < outcomes.num_correct < int(outcomes.natural.sum())
    one_by_one = evaluate(victim.model, batches(victim.x, victim.y, size), Plain(attack))
    assert same(outcomes, one_by_one)
    again = evaluate(victim.model, batches(victim.x, victim.y, size), whole_set(ball=BALL), journal=memory)
    assert same(outcomes, again)


@dataclass
class Plain:
    """A whole-set attack that does not say so."""

    inner: Any

    @property
    def ball(self) -> Ball:
        return self.inner.ball

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor | None = None, *, generator: Any = None) -> Tensor:
        return self.inner.run(model, x, y, index=torch.arange(len(x)), streams=generator, journal=Journal())


def test_a_whole_set_attack_is_not_trusted(victim: Any, whole_set: Callable[..., Any]) -> None:
    class Liar(whole_set):
        def run(self, model: nn.Module, x: Tensor, y: Tensor, **more: Any) -> Tensor:
            return x + 0.5

    with pytest.warns(UntrustedResult, match="left the ball"):
        outcomes = evaluate(victim.model, batches(victim.x, victim.y, 8), Liar(ball=BALL))
    assert float(outcomes.linf.max()) <= 0.1 + 1e-6


def test_a_whole_set_attack_without_points_is_not_called(victim: Any, whole_set: Callable[..., Any]) -> None:
    attack = whole_set(ball=BALL)
    wrong = (victim.model(victim.x).argmax(-1) + 1) % 4
    outcomes = evaluate(victim.model, batches(victim.x, wrong, 8), attack)
    assert (attack.seen, outcomes.num_correct, outcomes.num_examples) == ([], 0, 32)
