"""URPC and MC-Net: consistency of several outputs, against its formula position by position."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.ramps import Constant, Sigmoid
from aureole.models.segmentation import MCNetSegmenter, UNetSegmenter, URPCSegmenter
from aureole.segment import URPC, MCNet
from aureole.segment.dice import dice_loss
from aureole.segment.mc_net import sharpened

SIZE = (2, 3)


def several(given: Any, count: int, rows: int = 3, scale: float = 1.0) -> Any:
    generator = torch.Generator().manual_seed(0)
    levels = [scale * torch.randn(rows, 3, *SIZE, generator=generator, dtype=torch.float64) for _ in range(count)]
    return given(levels[0], levels[1:])


def levels_of(model: Any) -> list[Tensor]:
    return [model.logits, *model.others]


def places(rows: range) -> list[tuple[int, int, int]]:
    return list(itertools.product(rows, *map(range, SIZE)))


def urpc_by_hand(levels: list[Tensor], rows: range) -> Tensor:
    """The consistency of URPC as sums of single numbers, which autograd can follow."""
    p = [level.exp() / level.exp().sum(1, keepdim=True) for level in levels]
    mean = sum(p, torch.zeros_like(p[0])) / len(p)
    total = torch.zeros((), dtype=torch.float64)
    for own in p:
        v, squared = [], []
        for i, j, k in places(rows):
            q, r = mean[i, :, j, k], own[i, :, j, k]
            v.append((q * (q.log() - r.log())).sum())
            squared.append(((q - r) ** 2 * (-v[-1]).exp()).mean())
        certain = torch.stack(v).neg().exp().mean()
        total = total + torch.stack(squared).mean() / (certain + 1e-8) + torch.stack(v).mean()
    return total / len(p)


def test_urpc_is_its_formula_with_the_gradient_of_the_mean(given: Any, scans: Any) -> None:
    model, batch = several(given, 4), scans(1, 2, SIZE, dtype=torch.float64)
    found = URPC(weight=1.0, ramp=Constant()).loss(model, batch)["consistency"]
    expected = urpc_by_hand(levels_of(model), range(1, 3))
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(x, levels_of(model)) for x in (found, expected)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
        assert bool((a[0] == 0).all())  # the labelled image
        assert bool((a[1:] != 0).all())
    ramped = URPC().loss(model, batch)["consistency"]
    assert ramped.item() == pytest.approx(0.1 * math.exp(-5) * found.item())


def test_urpc_in_two_numbers(given: Any, scans: Any) -> None:
    """Two levels and one position: everything by hand."""
    p = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.6, 0.4]], dtype=torch.float64)[:, :, None, None]
    model = given(torch.stack([p[0], p[1]]).log(), [torch.stack([p[0], p[2]]).log()])
    batch = scans(1, 1, (1, 1), num_classes=2, dtype=torch.float64)
    found = URPC(weight=1.0, ramp=Constant()).loss(model, batch)["consistency"].item()
    v = [0.75 * math.log(0.75 / q) + 0.25 * math.log(0.25 / (1 - q)) for q in (0.9, 0.6)]
    squared = 0.15**2  # of either class and either level
    expected = [squared * math.exp(-x) / (math.exp(-x) + 1e-8) + x for x in v]
    assert found == pytest.approx(sum(expected) / 2)


def test_all_levels_of_urpc_are_supervised(given: Any, scans: Any) -> None:
    model, batch = several(given, 4), scans(1, 2, SIZE, dtype=torch.float64)
    found = URPC().loss(model, batch)["labelled"]
    total = torch.zeros((), dtype=torch.float64)
    for level in levels_of(model):
        logits = level[:1]
        log_p = logits - logits.exp().sum(1, keepdim=True).log()
        total = total - sum(log_p[0, batch.y[0, j, k], j, k] for _, j, k in places(range(1))) / 6
        total = total + dice_loss(logits, batch.y, smooth=1e-5)
    torch.testing.assert_close(found, total / 8)
    for gradient in torch.autograd.grad(found, levels_of(model)):
        assert bool((gradient[0] != 0).all())
        assert bool((gradient[1:] == 0).all())


def test_extreme_logits_have_finite_gradients(given: Any, scans: Any) -> None:
    batch = scans(1, 2, SIZE, dtype=torch.float32)
    for method, count in ((URPC(weight=1.0, ramp=Constant()), 4), (MCNet(weight=1.0, ramp=Constant()), 3)):
        model = several(given, count, scale=300.0).float()
        method.loss(model, batch).total.backward()
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_sharpening(temperature: float) -> None:
    p = torch.tensor([0.01, 0.3, 0.5, 0.55, 0.9, 0.999], dtype=torch.float64)
    powers = [(q ** (1 / temperature), (1 - q) ** (1 / temperature)) for q in p.tolist()]
    assert sharpened(p, temperature).tolist() == pytest.approx([a / (a + b) for a, b in powers])
    ends = torch.tensor([0.0, 1.0], requires_grad=True)
    sharp = sharpened(ends, temperature)
    torch.testing.assert_close(sharp.detach(), torch.tensor([0.0, 1.0]), atol=1e-6, rtol=0)
    sharp.sum().backward()
    assert ends.grad is not None
    assert bool(ends.grad.isfinite().all())


def mc_by_hand(levels: list[Tensor]) -> Tensor:
    p = [level.exp() / level.exp().sum(1, keepdim=True) for level in levels]
    total = torch.zeros((), dtype=torch.float64)
    for i, j in itertools.product(range(len(p)), repeat=2):
        if i != j:
            total = total + ((p[i] - p[j] ** 10 / (p[j] ** 10 + (1 - p[j]) ** 10)) ** 2).sum() / p[i].numel()
    return total


@pytest.mark.parametrize("decoders", [2, 3])
def test_mc_net_is_its_formula_with_the_gradient_of_the_targets(decoders: int, given: Any, scans: Any) -> None:
    model, batch = several(given, decoders), scans(1, 2, SIZE, dtype=torch.float64)
    terms = MCNet(weight=1.0, ramp=Constant()).loss(model, batch)
    expected = mc_by_hand(levels_of(model))
    torch.testing.assert_close(terms["consistency"], expected)
    gradients = [torch.autograd.grad(x, levels_of(model)) for x in (terms["consistency"], expected)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
        assert all(bool((rows != 0).any()) for rows in a)  # labelled images too
    losses = [dice_loss(level[:1], batch.y) for level in levels_of(model)]
    torch.testing.assert_close(terms["labelled"], torch.stack(losses).sum())
    halved = MCNet(labelled_weight=0.5).loss(model, batch)
    torch.testing.assert_close(halved["labelled"], terms["labelled"] / 2)
    ramped = MCNet(weight=2.0, ramp=Sigmoid(40.0)).loss(model, replace(batch, epoch=20))["consistency"]
    assert ramped.item() == pytest.approx(2 * math.exp(-1.25) * expected.item())


def test_mc_net_at_one_position(given: Any, scans: Any) -> None:
    p = torch.tensor([[0.6, 0.4], [0.8, 0.2]], dtype=torch.float64)[:, None, :, None, None]
    model, batch = given(p[0].log(), [p[1].log()]), scans(1, 0, (1, 1), num_classes=2, dtype=torch.float64)
    with pytest.raises(InputError, match="MC-Net learns from unlabelled images"):
        MCNet().loss(model, batch)
    model = given(p[0].log().repeat(2, 1, 1, 1), [p[1].log().repeat(2, 1, 1, 1)])
    found = MCNet(weight=1.0, ramp=Constant()).loss(model, scans(1, 1, (1, 1), num_classes=2, dtype=torch.float64))
    sharp = [q**10 / (q**10 + (1 - q) ** 10) for q in (0.6, 0.8)]
    assert found["consistency"].item() == pytest.approx((0.6 - sharp[1]) ** 2 + (0.8 - sharp[0]) ** 2)


@pytest.mark.parametrize("decoders", [2, 3])
def test_every_decoder_of_mc_net_really_trains(decoders: int, scans: Any) -> None:
    torch.manual_seed(0)
    model = MCNetSegmenter(num_classes=3, spatial_dims=2, width=4, num_decoders=decoders).train()
    method, batch = MCNet(weight=1.0, ramp=Constant()), scans(2, 2, (32, 32))
    others = [  # biases before a batch normalisation are not learned
        p for part in (model.other_decoders, model.other_heads) for p in part.parameters() if p.ndim > 1
    ]
    terms = method.loss(model, batch)
    for term in terms.values():  # both terms teach every decoder
        gradients = torch.autograd.grad(term, others, retain_graph=True)
        assert all(bool((g != 0).any()) for g in gradients)
    for k in range(decoders - 1):  # and of a decoder's labels learns that decoder alone
        loss = dice_loss(model.outputs(batch.x).auxiliary[k], batch.y)
        gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        learning = {n for (n, _), g in zip(model.named_parameters(), gradients, strict=True) if g is not None}
        assert any(n.startswith(f"other_decoders.{k}.") for n in learning)
        assert all(n.startswith(("encoder.", f"other_decoders.{k}.", f"other_heads.{k}.")) for n in learning)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    before, totals = [p.clone() for p in others], []
    for _ in range(12):
        optimizer.zero_grad()
        total = method.loss(model, batch).total
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert all(not torch.equal(a, b) for a, b in zip(before, others, strict=True))
    assert totals[-1] < totals[0]


def test_every_head_of_urpc_that_is_used_trains(scans: Any) -> None:
    torch.manual_seed(0)
    model = URPCSegmenter(num_classes=3, spatial_dims=2, width=4).train()
    terms = URPC(weight=1.0, ramp=Constant()).loss(model, scans(2, 2, (32, 32)))
    for term in terms.values():
        heads = [*model.coarse_heads.parameters(), *model.head.parameters()]
        assert all(bool((g != 0).any()) for g in torch.autograd.grad(term, heads, retain_graph=True))
    assert not any(p.requires_grad for p in model.unused_head.parameters())


@pytest.mark.parametrize(("kind", "names"), [(URPC, "urpc"), (MCNet, "mcnet or mcnet-plus")])
def test_misuse(kind: type[Any], names: str, scans: Any) -> None:
    for model in (UNetSegmenter(num_classes=3, width=4), nn.Sequential(nn.Conv2d(1, 3, 1))):
        with pytest.raises(InputError, match=f"{kind.title} needs a network with several outputs: choose {names}"):
            kind().loss(model, scans())
    with pytest.raises(InputError, match="temperature must be positive"):
        MCNet(temperature=0.0)
    with pytest.raises(InputError, match="labelled_weight must be"):
        MCNet(labelled_weight=-1.0)
