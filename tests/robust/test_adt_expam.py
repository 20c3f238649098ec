"""ADT-EXPAM: one backward pass in which the classifier descends and the generator ascends."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from aureole.core.balls import L2, Linf
from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.robust.adt_expam import ADTEXPAM, PerturbationGenerator

METHOD = ADTEXPAM(ball=Linf(0.1), width=8, entropy_weight=0.3)


@pytest.fixture
def generator(net, x) -> nn.Module:
    """A generator whose distributions are not all alike."""
    source = torch.Generator().manual_seed(7)
    modules = METHOD.own(net, x)
    with torch.no_grad():
        for parameter in modules.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source, dtype=parameter.dtype) * 0.2)
    return modules


def _input_gradient(model, x, y):
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(model(x), y, reduction="sum"), x)
    return gradient


def _forward(model, generator, x, y, streams, by_hand):
    """Return the cross-entropy without reversal, and the entropy, written out."""
    model.eval()
    first = _input_gradient(model, x, y)
    second = _input_gradient(model, (x + 0.1 * first.sign()).clamp(0, 1), y)
    scaled = [torch.stack([one / one.abs().max() for one in gradient]) for gradient in (first, second)]
    model.train()
    phi = generator.body(torch.cat([x, *scaled], dim=1))
    mu, sigma = phi[:, :1], (1 + phi[:, 1:].exp()).log()
    noise = streams.normal(tuple(x.shape)).to(x.dtype)
    unit = (mu + sigma * noise).tanh()
    entropy = (noise**2 / 2 + (sigma + 1e-8).log() + (1 - unit**2 + 1e-8).log()).mean()
    return by_hand.cross_entropy(model((x + 0.1 * unit).clamp(0, 1)), y).mean(), entropy


def test_terms_equal_the_formula(net, x, y, batch, streams, generator, by_hand) -> None:
    cross_entropy, entropy = _forward(copy.deepcopy(net), generator, x, y, streams(), by_hand)
    terms = METHOD.loss(net, batch(), generator)
    assert list(terms) == ["robust", "entropy"]
    torch.testing.assert_close(terms["robust"], cross_entropy, rtol=1e-9, atol=0)
    torch.testing.assert_close(terms["entropy"], -0.3 * entropy, rtol=1e-9, atol=0)


def test_the_generator_ascends_the_cross_entropy_and_the_entropy(net, x, y, batch, streams, generator, by_hand) -> None:
    cross_entropy, entropy = _forward(copy.deepcopy(net), generator, x, y, streams(), by_hand)
    of_loss = torch.autograd.grad(cross_entropy, list(generator.parameters()), retain_graph=True)
    of_entropy = torch.autograd.grad(entropy, list(generator.parameters()))
    assert min(float(g.abs().max()) for g in of_loss) > 1e-9
    METHOD.loss(net, batch(), generator).total.backward()
    for parameter, a, b in zip(generator.parameters(), of_loss, of_entropy, strict=True):
        torch.testing.assert_close(parameter.grad, -a - 0.3 * b, rtol=1e-6, atol=1e-10)


def test_the_classifier_descends_the_cross_entropy_at_the_perturbed_images(
    net, x, y, batch, generator, inputs_of
) -> None:
    plain = copy.deepcopy(net)
    seen = inputs_of(net)
    METHOD.loss(net, batch(), generator).total.backward()
    assert len(seen) == 3
    assert bool(METHOD.ball.contains(seen[-1], x).all())
    nn.functional.cross_entropy(plain(seen[-1]), y).backward()
    for mine, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-6, atol=1e-10)


def test_the_generators_own_steps_raise_the_loss(net, batch, generator) -> None:
    method = replace(METHOD, entropy_weight=0.0, learning_rate=0.01)
    net.eval()
    optimizer = method.own_optimizer(generator)
    assert optimizer.defaults["betas"] == (0.5, 0.999)
    values = []
    for _ in range(20):
        terms = method.loss(net, batch(), generator)
        values.append(terms["robust"].item())
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
    assert values[-1] > values[0] + 0.05


def test_the_generator_takes_each_image_alone(net, x, generator) -> None:
    rows = torch.cat([x, x, x], dim=1)
    for many, one in zip(generator(rows), generator(rows[3:4]), strict=True):
        torch.testing.assert_close(many[3:4], one)


def test_misuse_is_refused(net, x, y, untyped) -> None:
    with pytest.raises(InputError, match=r"pass what own\(model, x\) returned"):
        METHOD.loss(net, Batch(x, y))
    with pytest.raises(InputError, match="multiple of 8"):
        PerturbationGenerator(1, width=12)
    with pytest.raises(InputError, match=r"got the shape \(6, 16\)"):
        METHOD.own(net, x.flatten(1))
    with pytest.raises(InputError, match="in an Linf ball"):
        ADTEXPAM(ball=L2(0.5))  # pyright: ignore[reportArgumentType]
