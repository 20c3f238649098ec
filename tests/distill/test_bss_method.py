"""BSS as a method: its losses by hand, base images, ramps, running statistics; and the comparison of boundaries."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from jaxtyping import config
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.attacks.bss import BSSAttack, sample_targets
from aureole.core.balls import L2
from aureole.core.errors import InputError, UntrustedResult
from aureole.core.method import Batch
from aureole.core.random import Streams
from aureole.distill.boundary import compare_boundaries, fooling_rate
from aureole.distill.bss import BSS, Supporting, base_images, soft_cross_entropy

ATTACK = BSSAttack(ball=L2(0.5, bounds=None), step_size=0.2)
TERM = Supporting(attack=ATTACK)


def network(seed: int, *, norm: bool = False) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    middle = nn.BatchNorm1d(6) if norm else nn.Identity()
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), middle, nn.Tanh(), nn.Linear(6, 3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def batch(count: int = 12, epoch: int = 0) -> Batch:
    x = torch.randn(count, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    return Batch(x, network(1)(x).argmax(-1), epoch=epoch, streams=Streams.of(4, torch.arange(count)))


def soft(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Soft cross-entropy by loops over images and classes."""
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student / temperature, (teacher / temperature).tolist(), strict=True):
        weights = [math.exp(v) for v in t]
        for weight, value in zip(weights, s, strict=True):
            total = total - weight / sum(weights) * (value - s.exp().sum().log())
    return total / len(student)


def test_soft_cross_entropy_and_its_gradient_by_loops() -> None:
    student, teacher = torch.randn(2, 5, 3, dtype=torch.float64)
    mine, theirs = (student.clone().requires_grad_() for _ in range(2))
    given = teacher.clone().requires_grad_()
    value, expected = soft_cross_entropy(mine, given, 3.0), soft(theirs, teacher, 3.0)
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)
    value.backward(), expected.backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-12)
    assert given.grad is None


def test_base_images_are_those_both_know_and_the_most_different_of_them() -> None:
    student, teacher = torch.randn(2, 40, 3, dtype=torch.float64)
    y = teacher.argmax(-1)
    y[:5] = (y[:5] + 1) % 3
    p, q = teacher.softmax(-1), student.softmax(-1)
    gaps = {}
    for i in range(40):
        if int(teacher[i].argmax()) == int(student[i].argmax()) == int(y[i]):
            gaps[i] = sum(float(p[i, c] - q[i, c]) ** 2 for c in range(3) if c != int(y[i]))
    best = sorted(gaps, key=lambda i: -gaps[i])
    assert 4 < len(best) < 30
    assert base_images(student, teacher, y, 64).tolist() == best
    assert base_images(student, teacher, y, 3).tolist() == best[:3]
    assert len(base_images(student, -teacher, y, 3)) < 3


def expected_term(student: nn.Module, teacher: nn.Module, data: Batch) -> Tensor:
    rows = base_images(student(data.x), teacher(data.x), data.y, 64)
    assert data.streams is not None
    x_adv = ATTACK.cross(teacher, data.x[rows], generator=data.streams.fork(11).select(rows)).x_adv
    assert 1 < len(rows) < len(data)
    assert (teacher(x_adv).argmax(-1) != data.y[rows]).any()
    return soft(student(x_adv), teacher(x_adv).detach(), 3.0)


def gradients(loss: Tensor, model: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize("epoch", [0, 20, 60, 79, 100])
def test_the_loss_and_its_gradient_are_the_published_sum(epoch: int) -> None:
    student, teacher, data = network(2), network(1), batch(epoch=epoch)
    method = BSS(supporting=TERM)
    terms = method.loss(student, data, method.pair(student, teacher, data.x))
    kd, samples = max(3 * (1 - epoch / 80), 0) + 1, max(2 * (1 - 4 / 3 * epoch / 80), 0)
    clean = F.cross_entropy(student(data.x), data.y) + kd * soft(student(data.x), teacher(data.x).detach(), 3.0)
    expected = clean + samples * expected_term(student, teacher, data)
    torch.testing.assert_close(terms.total, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(gradients(terms.total, student), gradients(expected, student), rtol=0, atol=1e-9)
    assert list(terms) == ["labelled", "distilled", "supporting"][: 3 if epoch < 60 else 2]


def test_kd_and_samples_as_the_thesis_adds_them() -> None:
    student, teacher, data = network(2), network(1), batch(epoch=90)
    method = replace(BSS.with_kd(), supporting=TERM)
    terms = method.loss(student, data, method.pair(student, teacher, data.x))
    entropy = soft(teacher(data.x), teacher(data.x).detach(), 4.0)
    kd = 16 * (soft(student(data.x), teacher(data.x).detach(), 4.0) - entropy)
    expected = 0.1 * F.cross_entropy(student(data.x), data.y) + 0.9 * kd + expected_term(student, teacher, data)
    torch.testing.assert_close(terms.total, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("mode", "moves"), [("train", 2), ("batch_statistics", 1), ("eval", 1)])
def test_running_statistics_follow_the_samples_as_the_mode_says(mode: Any, moves: int) -> None:
    student, teacher, data = network(2, norm=True), network(1).eval(), batch()
    method = BSS(supporting=replace(TERM, student_mode=mode))
    pair = method.pair(student, teacher, data.x)
    before = copy.deepcopy(teacher.state_dict())
    method.loss(student, data, pair)
    assert int(student[2].num_batches_tracked) == moves
    assert all(module.training for module in student.modules())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_alone_it_looks_at_the_student_without_a_trace() -> None:
    student, teacher, data = network(2, norm=True), network(1), batch()
    replace(TERM, student_mode="eval")(student, teacher, data)
    assert int(student[2].num_batches_tracked) == 0
    assert teacher.training
    assert all(p.requires_grad and p.grad is None for p in teacher.parameters())


def test_no_base_image_is_no_loss_and_one_is_enough() -> None:
    student, teacher, data = network(2), network(1), batch()
    wrong = replace(data, y=(data.y + 1) % 3)
    assert TERM(student, teacher, wrong) == 0
    row = int(base_images(student(data.x), teacher(data.x), data.y, 1))
    one = Batch(data.x[row : row + 1], data.y[row : row + 1], streams=Streams.of(4, torch.tensor([row])))
    assert TERM(student, teacher, one) > 0
    alone = replace(TERM, max_images=1)(student, teacher, data)
    torch.testing.assert_close(alone, TERM(student, teacher, one), rtol=0, atol=1e-12)  # whoever is beside


def planes(*normals: tuple[float, float], bias: float = 0.0) -> list[nn.Module]:
    """Return linear models of two classes with boundaries <normal, x> + bias = 0."""
    models = []
    for normal in normals:
        model = nn.Linear(2, 2).double()
        model.weight.data = torch.tensor([[0.0, 0.0], normal], dtype=torch.float64)
        model.bias.data = torch.tensor([0.0, bias], dtype=torch.float64)
        models.append(model)
    return models


@pytest.mark.filterwarnings("ignore:no boundary was compared")
def test_boundaries_of_linear_models_are_compared_exactly() -> None:
    student, teacher = planes((1.0, 0.0), (0.6, 0.8))
    x = torch.tensor([[2.0, 1.0], [1.0, 3.0], [-1.0, -1.0], [1.0, -3.0], [-4.0, -1.0]], dtype=torch.float64)
    y = torch.tensor([1, 1, 0, 1, 1])  # the fourth is wrong for the teacher, the last for both
    attack = BSSAttack(ball=L2(0.5, bounds=None), step_size=0.5, num_steps=50)
    found = compare_boundaries(student, teacher, x, y, attack=attack)
    far = [(2.0, 2.0), (1.0, 3.0), (1.0, 1.4)]  # the distances |<n, x>| of the first three
    assert found.magnitude == pytest.approx(sum(min(pair) / max(pair) for pair in far) / 3, abs=1e-3)
    assert found.angle == pytest.approx(0.6, abs=1e-6)
    assert (found.num_images, found.num_attacked, found.num_skipped) == (5, 3, 0)
    assert (found.student_fooled, found.teacher_fooled) == (1.0, 1.0)
    short = compare_boundaries(student, teacher, x, y, attack=replace(attack, num_steps=1, step_size=0.99))
    assert short.num_skipped == 3
    some = compare_boundaries(student, planes((1.2, 1.6))[0], x, y, attack=replace(attack, num_steps=2))
    assert (some.student_fooled, some.teacher_fooled, some.num_skipped) == (0.0, 1.0, 3)


def test_targets_are_the_same_for_both_and_the_batch_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher, data = network(2), network(1), batch(30)
    seen: list[Tensor] = []
    cross = BSSAttack.cross

    def spy(self: Any, model: nn.Module, x: Tensor, targets: Tensor, **given: Any) -> Any:
        seen.append(targets)
        return cross(self, model, x, targets, **given)

    monkeypatch.setattr(BSSAttack, "cross", spy)
    attack = replace(ATTACK, num_steps=50)
    streams = Streams.of(1, torch.arange(30))
    whole = compare_boundaries(student, teacher, data.x, data.y, attack=attack, generator=streams.select(slice(None)))
    rows = (student(data.x).argmax(-1) == data.y).nonzero()[:, 0]
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], sample_targets(teacher(data.x[rows]), streams.select(rows), data.y[rows]))
    assert whole.num_attacked == len(rows)
    again = compare_boundaries(
        student, teacher, data.x, data.y, attack=replace(attack, max_batch=7), generator=streams.select(slice(None))
    )
    assert again.magnitude == pytest.approx(whole.magnitude, abs=1e-9)
    assert again.angle == pytest.approx(whole.angle, abs=1e-9)
    assert 0 < whole.magnitude < 1


def test_a_comparison_never_shows_a_network_all_images_at_once() -> None:
    student, rows = network(1).float(), list[int]()
    student.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    x = torch.rand(100, 1, 2, 2)
    compare_boundaries(student, student, x, network(1).float()(x).argmax(-1))
    assert (max(rows), sum(rows) > 100) == (32, True)


def test_nothing_to_compare_is_said() -> None:
    (model,) = planes((1.0, 0.0))
    x = torch.ones(2, 2, dtype=torch.float64)
    attack = BSSAttack(ball=L2(0.5, bounds=None))
    for y, attacked in ((torch.tensor([0, 0]), 0), (torch.tensor([1, 1]), 2)):
        with pytest.warns(UntrustedResult, match="no boundary was compared"):
            found = compare_boundaries(model, model, x, y, attack=replace(attack, num_steps=1, step_size=0.1))
        assert math.isnan(found.magnitude)
        assert math.isnan(found.angle)
        assert (found.num_attacked, found.num_skipped) == (attacked, attacked)


def test_the_fooling_rate_counts_particles() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    x_adv = torch.stack([x, 1 - x, torch.tensor([[1.0, 0.0], [1.0, 0.0]])])
    torch.testing.assert_close(fooling_rate(nn.Identity(), x_adv, x), torch.tensor([1 / 3, 2 / 3]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BSS(num_epochs=0), "num_epochs must be at least 1"),
        (lambda: Supporting(temperature=0.0), "temperature must be positive"),
        (lambda: Supporting(max_images=0), "max_images at least 1"),
        (lambda: Supporting(student_mode="evil"), "unknown student_mode 'evil': did you mean 'eval'"),
        (lambda: BSS(variant="cod"), "unknown variant 'cod': did you mean 'code'"),
    ],
)
def test_misuse(make: Any, message: str) -> None:
    config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(InputError, match=message):
            make()
    finally:
        config.update("jaxtyping_disable", False)
