"""A tiny problem in double precision, and the losses of the methods written out by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from jaxtyping import config
from torch import Tensor, nn

from aureole.core.method import Batch, Method, Terms
from aureole.core.random import Streams

BATCH, CLASSES = 6, 3


@pytest.fixture
def net() -> nn.Module:
    """A network with batch normalisation, in training mode, with running statistics that are not those of the batch."""
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, CLASSES)
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.4)
        model[1].running_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
        model[1].running_var.copy_(torch.tensor([0.5, 1.5, 1.0, 0.8]))
    return model


@pytest.fixture
def x() -> Tensor:
    """Images in [0, 1], some of them at the bounds."""
    images = torch.rand(BATCH, 1, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    images[0, 0, 0], images[1, 0, 1] = 0.0, 1.0
    return images


@pytest.fixture
def y() -> Tensor:
    """Labels."""
    return torch.tensor([0, 1, 2, 2, 1, 0])


@pytest.fixture
def streams() -> Callable[[], Streams]:
    """A function that returns the same fresh streams at every call."""
    return lambda: Streams.of(5, torch.arange(BATCH))


@pytest.fixture
def batch(x: Tensor, y: Tensor, streams: Callable[[], Streams]) -> Callable[[], Batch]:
    """A function that returns the same batch, with fresh streams, at every call."""
    return lambda: Batch(x, y, streams=streams())


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log(exp(z_y) / sum_k exp(z_k)) of each row, term by term."""
    powers = logits.exp()
    return torch.stack([-(row[label] / row.sum()).log() for row, label in zip(powers, labels, strict=True)])


def _kl(clean: Tensor, adversarial: Tensor) -> Tensor:
    """Sum_k p_k log(p_k / q_k) of each row."""
    p = clean.exp() / clean.exp().sum(1, keepdim=True)
    q = adversarial.exp() / adversarial.exp().sum(1, keepdim=True)
    return (p * (p / q).log()).sum(1)


def _gradients(model: nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def _assert_loss_is(
    method: Method, model: nn.Module, batch: Callable[[], Batch], expected: Callable[[nn.Module], dict[str, Tensor]]
) -> Terms:
    """Compare terms and gradients of a method with those that ``expected`` computes, each on its own copy."""
    first, second = copy.deepcopy(model), copy.deepcopy(model)
    terms, wanted = method.loss(first, batch()), expected(second)
    assert list(terms) == list(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(terms.total, sum(wanted.values()), rtol=1e-9, atol=1e-12)
    gradients = _gradients(second, torch.stack(list(wanted.values())).sum())
    assert max(float(g.abs().max()) for g in gradients) > 1e-3
    for mine, theirs in zip(_gradients(first, terms.total), gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9)
    return terms


def _assert_same(first: Method, second: Method, model: nn.Module, batch: Callable[[], Batch]) -> None:
    """Check that two methods have the same terms, gradients and effect on the buffers, bit for bit."""
    copies = copy.deepcopy(model), copy.deepcopy(model)
    terms = [method.loss(copied, batch()) for method, copied in zip((first, second), copies, strict=True)]
    assert list(terms[0]) == list(terms[1])
    for name in terms[0]:
        assert torch.equal(terms[0][name], terms[1][name]), name
    gradients = [_gradients(copied, t.total) for copied, t in zip(copies, terms, strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(copies[0].buffers(), copies[1].buffers(), strict=True))


@pytest.fixture
def by_hand() -> SimpleNamespace:
    """The losses written out, and comparisons with them."""
    return SimpleNamespace(
        cross_entropy=_cross_entropy,
        kl=_kl,
        gradients=_gradients,
        assert_loss_is=_assert_loss_is,
        assert_same=_assert_same,
    )


@pytest.fixture
def untyped() -> Iterator[None]:
    """No checks of annotations, as for a user: what a misuse raises then."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture
def inputs_of() -> Callable[[nn.Module], list[Tensor]]:
    """A function that returns a list, to which every later input of a module is added."""

    def watch(model: nn.Module) -> list[Tensor]:
        seen: list[Tensor] = []
        model.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
        return seen

    return watch
