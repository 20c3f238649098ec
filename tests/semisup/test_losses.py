"""Losses written out by hand, in double precision: the methods without a search."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from aureole.core.method import Batch, Method, Terms, Unlabelled
from aureole.core.mixing import beta, permutation
from aureole.core.objectives import KL
from aureole.core.ramps import Constant, Linear
from aureole.semisup import (
    ICT,
    EntropyMinimisation,
    FixMatch,
    MeanTeacher,
    PiModel,
    PseudoLabel,
    Supervised,
)
from aureole.semisup.base import unlabelled_streams

Make = Callable[..., Batch]


def softmax(logits: Tensor) -> Tensor:
    return logits.exp() / logits.exp().sum(1, keepdim=True)


def nll(logits: Tensor, labels: Tensor) -> Tensor:
    return -softmax(logits).log()[torch.arange(len(labels)), labels]


def assert_same(
    method: Method, model: nn.Module, batch: Batch, expected: Callable[[nn.Module], tuple[Tensor, Tensor]], parts=None
) -> Terms:
    """Compare both terms and the gradient with those computed by hand on a copy of the model."""
    mine, theirs = copy.deepcopy(model), copy.deepcopy(model)
    terms, wanted = method.loss(mine, batch, parts), expected(theirs)
    for name, value in zip(("labelled", "unlabelled"), wanted, strict=True):
        torch.testing.assert_close(terms[name], value, rtol=1e-9, atol=1e-12)
    got = torch.autograd.grad(terms.total, list(mine.parameters()))
    want = torch.autograd.grad(wanted[0] + wanted[1], list(theirs.parameters()))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
    for a, b in zip(mine.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(a, b)
    return terms


def test_supervised_is_the_cross_entropy(net: nn.Module, x: Tensor, y: Tensor, batch: Make) -> None:
    terms = Supervised().loss(net, replace(batch(), unlabelled=None))
    assert list(terms) == ["labelled"]
    torch.testing.assert_close(terms.total, nll(copy.deepcopy(net)(x), y).mean())


def test_entropy(net: nn.Module, x: Tensor, y: Tensor, x_u: tuple[Tensor, Tensor], batch: Make) -> None:
    def expected(model: nn.Module) -> tuple[Tensor, Tensor]:
        labelled = nll(model(x), y).mean()
        model[1].momentum = 0.0  # the running statistics follow the labelled images alone
        count = model[1].num_batches_tracked.clone()
        p = softmax(model(x_u[0]))
        model[1].num_batches_tracked.copy_(count)
        return labelled, 0.7 * -(p * p.log()).sum(1).mean()

    assert_same(EntropyMinimisation(weight=0.7), net, batch(), expected)


def test_pi_model(net: nn.Module, x: Tensor, y: Tensor, x_u: tuple[Tensor, Tensor], batch: Make) -> None:
    def expected(model: nn.Module) -> tuple[Tensor, Tensor]:
        first, second, third = model(torch.cat([x, *x_u])).split([4, 6, 6])
        difference = (softmax(second) - softmax(third).detach()) ** 2
        return nll(first, y).mean(), 0.5 * 100.0 * difference.sum() / (6 * 3)

    assert_same(PiModel(ramp=Linear(10.0)), net, batch(2, epoch=5), expected)


def test_pi_model_weighs_as_algorithm_1_does(net: nn.Module, x_u: tuple[Tensor, Tensor], y: Tensor) -> None:
    """Sums over a batch of |B| images, the first |L| labelled, and a weight of 100 |L| / |B| (Laine and Aila)."""
    net.eval()
    first, second, share = softmax(net(x_u[0])), softmax(net(x_u[1])), 2 / 6
    theirs = nll(net(x_u[0][:2]), y[:2]).sum() / 6 + 100 * share * (first - second).square().sum() / (3 * 6)
    ours = PiModel(ramp=Constant()).loss(net, Batch(x_u[0][:2], y[:2], unlabelled=Unlabelled(x_u)))
    torch.testing.assert_close(share * ours.total, theirs)


def test_pi_model_with_another_distance(
    net: nn.Module, x: Tensor, y: Tensor, x_u: tuple[Tensor, Tensor], batch: Make
) -> None:
    def expected(model: nn.Module) -> tuple[Tensor, Tensor]:
        labelled = nll(model(x), y).mean()
        with torch.no_grad():
            p = softmax(model(x_u[1]))
        q = softmax(model(x_u[0]))
        return labelled, 2.0 * (p * (p / q).log()).sum(1).mean()

    method = PiModel(objective=KL(), weight=2.0, ramp=Constant(), batch_norm="separate")
    assert_same(method, net, batch(2), expected)


@pytest.mark.parametrize("threshold", [0.0, 0.74])
def test_pseudo_label(
    threshold: float, net: nn.Module, x: Tensor, y: Tensor, x_u: tuple[Tensor, Tensor], batch: Make
) -> None:
    kept = []

    def expected(model: nn.Module) -> tuple[Tensor, Tensor]:
        labelled, logits = nll(model(x), y).mean(), model(x_u[0])
        p = softmax(logits)
        kept.extend(i for i in range(6) if float(p[i].detach().max()) >= threshold)
        values = [-p[i, int(p[i].argmax())].log() for i in kept]
        return labelled, 0.2 * 3.0 * torch.stack(values).sum() / 6

    method = PseudoLabel(threshold=threshold, ramp=Linear(10.0))
    assert_same(method, net, batch(1, epoch=2), expected)
    assert len(kept) == 6 if threshold == 0 else 0 < len(kept) < 6


def test_fixmatch_teaches_the_sure_labels_of_weak_views_on_strong_ones(
    net: nn.Module, x: Tensor, y: Tensor, x_u: tuple[Tensor, Tensor], batch: Make
) -> None:
    kept = []

    def expected(model: nn.Module) -> tuple[Tensor, Tensor]:
        first, weak, strong = model(torch.cat([x, *x_u])).split([4, 6, 6])
        p = softmax(weak).detach()
        kept.extend(i for i in range(6) if float(p[i].max()) >= 0.74)
        values = [nll(strong[i : i + 1], p[i].argmax()[None])[0] for i in kept]
        return nll(first, y).mean(), 1.5 * torch.stack(values).sum() / 6

    assert_same(FixMatch(threshold=0.74, weight=1.5, ema_decay=None), net, batch(2), expected)
    assert 0 < len(kept) < 6


def test_fixmatch_that_is_never_sure_learns_from_labels_alone(net: nn.Module, batch: Make) -> None:
    terms = FixMatch(threshold=1.0, ema_decay=None).loss(net, batch(2))
    assert float(terms["unlabelled"].detach()) == 0


def _taught(model: nn.Module, method: MeanTeacher | ICT, x: Tensor) -> nn.ModuleDict:
    """Return parts whose teacher differs from the model."""
    parts = method.own(model, x)
    assert isinstance(parts, nn.ModuleDict)
    with torch.no_grad():
        for p in parts["ema"].model.parameters():
            p.mul_(0.5)
    return parts


def test_mean_teacher(net: nn.Module, x: Tensor, y: Tensor, x_u: tuple[Tensor, Tensor], batch: Make) -> None:
    method = MeanTeacher(weight=10.0, ramp=Constant())
    parts = _taught(net, method, x)
    teacher = copy.deepcopy(parts["ema"].model)

    def expected(model: nn.Module) -> tuple[Tensor, Tensor]:
        target = softmax(teacher(x_u[1]))  # in training mode: on the statistics of the batch
        first, second = model(torch.cat([x, x_u[0]])).split([4, 6])
        return nll(first, y).mean(), 10.0 * ((softmax(second) - target) ** 2).sum() / 18

    assert_same(method, net, batch(2), expected, parts)
    assert torch.equal(parts["ema"].model[1].running_mean, net[1].running_mean)


def test_the_teacher_runs_in_the_mode_of_the_student(net: nn.Module, x: Tensor, batch: Make) -> None:
    method = MeanTeacher(weight=10.0, ramp=Constant())
    parts = _taught(net, method, x)
    parts.eval()
    first = method.loss(copy.deepcopy(net), batch(2), parts)["unlabelled"]
    parts.train()
    torch.testing.assert_close(method.loss(copy.deepcopy(net), batch(2), parts)["unlabelled"], first)


def test_a_step_moves_the_teacher(net: nn.Module, x: Tensor, batch: Make) -> None:
    method = MeanTeacher(ema_decay=0.4)
    parts = method.own(net, x)
    assert isinstance(parts, nn.ModuleDict)
    start = net[4].weight.detach().clone()
    for value in (1.0, 2.0):  # the decays are 0 and min(0.4, 1/2)
        with torch.no_grad():
            net[4].weight.copy_(start + value)
        method.after_step(net, batch(2), parts)
    torch.testing.assert_close(parts["ema"].model[4].weight, start + 0.4 * 1 + 0.6 * 2)


def test_ict(net: nn.Module, x: Tensor, y: Tensor, x_u: tuple[Tensor, Tensor], batch: Make) -> None:
    method = ICT(weight=10.0, ramp=Constant())
    parts = _taught(net, method, x)
    teacher = copy.deepcopy(parts["ema"].model)
    streams = unlabelled_streams(batch()).fork(2)
    share, order = float(beta(1.0, streams)[0]), permutation(streams).tolist()
    assert 0.01 < share < 0.99
    assert sorted(order) == list(range(6)) != order

    def expected(model: nn.Module) -> tuple[Tensor, Tensor]:
        labelled, p, u = nll(model(x), y).mean(), softmax(teacher(x_u[0])), x_u[0]
        mixed = torch.stack([share * u[i] + (1 - share) * u[j] for i, j in enumerate(order)])
        target = torch.stack([share * p[i] + (1 - share) * p[j] for i, j in enumerate(order)])
        return labelled, 10.0 * ((softmax(model(mixed)) - target) ** 2).sum() / 18

    assert_same(method, net, batch(), expected, parts)
