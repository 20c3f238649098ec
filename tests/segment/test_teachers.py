"""Supervised, entropy minimisation, Mean Teacher and UA-MT: each term worked out position by position."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.method import Unlabelled
from aureole.core.ramps import Constant, Sigmoid
from aureole.core.random import Streams
from aureole.models.segmentation import UNetSegmenter
from aureole.segment import UAMT, EntropyMinimisation, MeanTeacher, Supervised

TEACHERS: list[type[Any]] = [MeanTeacher, UAMT]


def logits_for(*foreground: list[float]) -> Tensor:
    """Logits of two classes, one row of positions an image, from the probabilities of class 1."""
    p = torch.tensor(foreground, dtype=torch.float64)[:, None, None]
    return torch.cat([1 - p, p], dim=1).log()


def full(kind: type[Any], **options: Any) -> Any:
    return kind(weight=1.0, ramp=Constant(), **options)


def unet() -> UNetSegmenter:
    """A network that is certain of some positions."""
    torch.manual_seed(0)
    network = UNetSegmenter(num_classes=3, width=4)
    with torch.no_grad():
        network.head.weight.mul_(20)
        network.head.bias.copy_(torch.tensor([4.0, 0.0, 0.0]))
    return network


def two(scans: Any, width: int, **options: Any) -> Any:
    return scans(1, 1, (1, width), num_classes=2, dtype=torch.float64, **options)


def test_supervised_is_dice_on_labelled_images_alone(given: Any, scans: Any) -> None:
    batch = replace(two(scans, 2), y=torch.tensor([[[1, 0]]]))
    model = given(logits_for([0.8, 0.3]))
    terms = Supervised().loss(model, batch)
    foreground = 1 - 2 * 0.8 / (0.8**2 + 0.3**2 + 1)
    background = 1 - 2 * 0.7 / (0.2**2 + 0.7**2 + 1)
    assert list(terms) == ["labelled"]
    assert terms.total.item() == pytest.approx((foreground + background) / 2, abs=1e-9)
    assert Supervised(background=False).loss(model, batch).total.item() == pytest.approx(foreground, abs=1e-9)
    mixed = Supervised(cross_entropy=0.5).loss(model, batch).total.item()
    crossed = -(math.log(0.8) + math.log(0.7)) / 2
    assert mixed == pytest.approx((foreground + background) / 4 + crossed / 2, abs=1e-9)
    assert all(len(x) == 1 for x in model.seen)  # the unlabelled image never went in
    assert torch.equal(model.seen[0], batch.x)
    assert Supervised().loss(model, replace(batch, unlabelled=None)).total.isfinite()


def test_entropy_is_the_mean_over_all_images(given: Any, scans: Any) -> None:
    p = torch.tensor([[[7, 2], [2, 5], [1, 3]], [[3, 98], [3, 1], [3, 1]]], dtype=torch.float64)[:, :, None]
    p = p / p.sum(1, keepdim=True)
    model, batch = given(p.log()), scans(1, 1, (1, 2), dtype=torch.float64)
    found = full(EntropyMinimisation).loss(model, batch)["entropy"]
    values = [-sum(q * math.log(q + 1e-6) for q in p[i, :, 0, j].tolist()) for i in (0, 1) for j in (0, 1)]
    assert found.item() == pytest.approx(sum(values) / 4 / math.log(3), abs=1e-9)
    (gradient,) = torch.autograd.grad(found, model.logits)
    assert all((gradient[i].abs() > 1e-3).any() for i in (0, 1))
    ramped = EntropyMinimisation().loss(model, batch)["entropy"]
    assert ramped.item() == pytest.approx(0.1 * math.exp(-5) * found.item())


def test_mean_teacher_is_the_squared_difference_on_unlabelled_images(given: Any, scans: Any) -> None:
    model, batch, method = given(logits_for([0.9, 0.1], [0.6, 0.3])), two(scans, 2), full(MeanTeacher)
    own = method.own(model, batch.x)
    own["ema"].model.logits.data = logits_for([0.9, 0.1])  # of the unlabelled image, all that the teacher sees
    found = method.loss(model, batch, own)["consistency"]
    assert found.item() == pytest.approx((0.3**2 + 0.2**2) / 2, abs=1e-9)  # the same for both classes
    found.backward()
    assert bool((model.logits.grad[0] == 0).all())
    assert bool((model.logits.grad[1] != 0).all())
    assert all(p.grad is None and not p.requires_grad for p in own.parameters())
    weighted = MeanTeacher(weight=0.1, ramp=Sigmoid(200.0)).loss(model, replace(batch, epoch=100), own)
    assert weighted["consistency"].item() == pytest.approx(0.1 * math.exp(-1.25) * found.item())


@pytest.mark.parametrize("kind", TEACHERS)
def test_the_teacher_sees_noise_of_the_images_streams(kind: type[Any], given: Any, scans: Any) -> None:
    batch, method = scans(1, 2, (40, 40)), full(kind)

    def noises(batch: Any) -> list[Tensor]:
        model = given(torch.zeros(3, 3, 40, 40))
        own = method.own(model, batch.x)
        teacher = own["ema"].model
        teacher.logits.data = torch.zeros(len(batch.unlabelled), 3, 40, 40)
        method.loss(model, batch, own)
        return [x - batch.unlabelled.views[0] for x in teacher.seen]

    found = noises(batch)
    assert len(found) == (1 if kind is MeanTeacher else 9)
    for noise in found:
        assert noise.abs().max() <= 0.2 + 1e-6
        assert 0.03 < (noise.abs() > 0.2 - 1e-6).float().mean() < 0.06  # beyond two deviations: 4.6 %
        assert noise.std().item() == pytest.approx(0.0959, abs=0.005)  # of a normal variable cut there
        assert (noise[0] - noise[1]).abs().max() > 0.1
    assert all((a - b).abs().max() > 0.1 for i, a in enumerate(found) for b in found[:i])
    for a, b in zip(found, noises(batch), strict=True):
        assert torch.equal(a, b)
    swapped = Unlabelled((batch.unlabelled.views[0].flip(0),), streams=Streams(batch.unlabelled.streams.keys.flip(0)))
    for a, b in zip(found, noises(replace(batch, unlabelled=swapped)), strict=True):
        torch.testing.assert_close(a, b.flip(0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", TEACHERS)
def test_the_teacher_is_the_average_and_the_student_is_kept(kind: type[Any], given: Any, scans: Any) -> None:
    model, batch, method = given(torch.zeros(1, 2, 1, 1)), scans(), kind(ema_decay=0.6)
    own = method.own(model, batch.x)
    expected = 0.0
    for t, value in enumerate([5.0, 1.0, 3.0, 7.0]):
        model.logits.data.fill_(value)
        method.after_step(model, batch, own)
        a = min(1 - 1 / (t + 1), 0.6)
        expected = a * expected + (1 - a) * value
        assert own["ema"].model.logits.flatten().tolist() == pytest.approx([expected] * 2)
    assert method.trained(model, own) is model
    assert kind().ema_decay == 0.99


@pytest.mark.parametrize("kind", TEACHERS)
def test_the_teacher_runs_in_the_students_mode_without_a_trace(kind: type[Any], scans: Any) -> None:
    model, batch, method = unet(), scans(2, 2), full(kind, noise=0.0)
    own = method.own(model, batch.x)
    before = {name: value.clone() for name, value in own.state_dict().items()}
    taught: list[Tensor] = []
    own["ema"].model.register_forward_hook(lambda module, x, logits: taught.append(logits))
    method.loss(model.train(), batch, own)
    method.loss(model.train(), batch, own)
    assert all(not torch.equal(a, taught[0]) for a in taught[1:])  # by dropout, for the noise is none
    assert all(torch.equal(before[name], value) for name, value in own.state_dict().items())
    own = method.own(model.eval(), batch.x)
    assert method.loss(model, batch, own)["consistency"].item() < 1e-12
    noisy = full(kind).loss(model, batch, own)["consistency"]
    assert noisy.item() > 1e-12


@pytest.mark.parametrize("epoch", [0, 5, 10])
def test_uncertain_positions_are_left_out(epoch: int, given: Any, scans: Any) -> None:
    student, teacher = [0.9, 0.3, 0.4, 0.6, 0.2], [0.95, 0.8, 0.76, 0.7, 0.53]
    model, method = given(logits_for([0.5] * 5, student)), full(UAMT, threshold=Sigmoid(10.0))
    batch = two(scans, 5, epoch=epoch)
    own = method.own(model, batch.x)
    own["ema"].model.logits.data = logits_for(teacher)
    found = method.loss(model, batch, own)["consistency"]
    limit = (0.75 + 0.25 * math.exp(-5 * (1 - epoch / 10) ** 2)) * math.log(2)
    entropies = [-q * math.log(q + 1e-6) - (1 - q) * math.log(1 - q + 1e-6) for q in teacher]
    kept = [i for i, u in enumerate(entropies) if u < limit]
    assert len(kept) == {0: 2, 5: 3, 10: 5}[epoch]
    assert found.item() == pytest.approx(sum(2 * (student[i] - teacher[i]) ** 2 for i in kept) / (2 * len(kept)))
    found.backward()
    gradient = model.logits.grad[:, :, 0]
    assert bool((gradient[0] == 0).all())
    assert [i for i in range(5) if gradient[1, 1, i] != 0] == kept
    assert all(p.grad is None for p in own.parameters())


def test_uncertainty_is_that_of_the_mean_of_eight_passes(scans: Any) -> None:
    torch.manual_seed(0)
    model, batch = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1)), scans(2, 2, (8, 8))
    with torch.no_grad():
        model[0].weight.mul_(15)
    method = full(UAMT)
    own, passes = method.own(model, batch.x), []
    own["ema"].model.register_forward_hook(lambda module, x, logits: passes.append(logits.softmax(1)))
    found = method.loss(model, batch, own)["consistency"]
    assert len(passes) == 9
    mean = sum(passes[1:]) / 8
    assert (mean - passes[1]).abs().max() > 0.05
    certain = -(mean * (mean + 1e-6).log()).sum(1, keepdim=True) < (0.75 + 0.25 * math.exp(-5)) * math.log(2)
    assert 0.05 < certain.float().mean() < 0.95
    squared = (model(batch.unlabelled.views[0]).softmax(1) - passes[0]) ** 2
    torch.testing.assert_close(found, (certain * squared).sum() / (2 * certain.sum() + 1e-16))


def test_nothing_is_learned_from_a_teacher_that_is_nowhere_certain(given: Any, scans: Any) -> None:
    model, batch, method = given(logits_for([0.5, 0.5], [0.9, 0.2])), two(scans, 2), full(UAMT)
    own = method.own(model, batch.x)
    own["ema"].model.logits.data = logits_for([0.5, 0.5])
    found = method.loss(model, batch, own)["consistency"]
    (gradient,) = torch.autograd.grad(found, model.logits)
    assert found.item() == 0
    assert bool((gradient == 0).all())


@pytest.mark.parametrize("kind", TEACHERS)
def test_misuse(kind: type[Any], scans: Any) -> None:
    batch = scans()
    with pytest.raises(InputError, match=r"needs its teacher: ema_decay must be a number in \[0, 1\); got None"):
        kind(ema_decay=None)
    with pytest.raises(InputError, match=r"must be in \[0, 1\); got 1"):
        kind(ema_decay=1.0)
    with pytest.raises(InputError, match="noise must be"):
        kind(noise=-0.1)
    with pytest.raises(InputError, match="the batch has none: set unlabelled_batch_size"):
        kind().loss(unet(), replace(batch, unlabelled=None))
    with pytest.raises(InputError, match="pass what own"):
        kind().loss(unet().eval(), batch)


def test_misuse_of_passes_and_ramps() -> None:
    with pytest.raises(InputError, match="num_passes must be at least 1; got 0"):
        UAMT(num_passes=0)
    with pytest.raises(InputError, match="the length of a ramp"):
        UAMT(threshold=Sigmoid(-1.0))
