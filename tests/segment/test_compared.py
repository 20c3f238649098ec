"""The compared methods with the networks that they are for: what unlabelled images teach, sizes, dimensions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.core.ramps import Constant
from aureole.models.segmentation import SegmenterConfig
from aureole.segment import DTC, UAMT, URPC, EntropyMinimisation, MCNet, MeanTeacher, SASSNet, Segmentation, Supervised

#: Each method with the networks it is for.
NETWORKS: list[tuple[type[Any], str]] = [
    (EntropyMinimisation, "unet"),
    (MeanTeacher, "unet"),
    (UAMT, "unet"),
    (SASSNet, "unet-sdf"),
    (DTC, "unet-sdf"),
    (URPC, "urpc"),
    (MCNet, "mcnet"),
    (MCNet, "mcnet-plus"),
]


def network(name: str, size: tuple[int, ...] = (32, 32), width: int = 4) -> nn.Module:
    model = SegmenterConfig(name=name, width=width).build(num_classes=3, image_shape=(1, *size), seed=0)
    with torch.no_grad():  # a network that is certain here and there, so that UA-MT keeps some positions
        for p in model.head.parameters():
            p.mul_(20)
    return model


def built(kind: type[Any]) -> Any:
    options = {"width": 4} if kind is SASSNet else {}
    return kind(weight=1.0, ramp=Constant(), **options)


def owned(method: Segmentation, model: nn.Module, x: Tensor) -> nn.Module | None:
    torch.manual_seed(1)
    return method.own(model, x)


def learned(model: nn.Module, method: Segmentation, batch: Any) -> list[Tensor]:
    own = owned(method, model, batch.x)
    model.zero_grad()
    torch.manual_seed(5)
    method.loss(model, batch, own).total.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize(("kind", "name"), NETWORKS)
def test_unlabelled_images_matter(kind: type[Any], name: str, scans: Any) -> None:
    batch = scans(2, 3, (32, 32))
    other = replace(batch.unlabelled, views=(batch.unlabelled.views[0].flip(-1) * 0.5,))
    found = []
    for given in (batch, batch, replace(batch, unlabelled=other)):
        model = network(name).train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()  # images do not meet in batch normalisations: only the terms tell of the others
        found.append(learned(model, built(kind), given))
    assert all(bool(g.isfinite().all()) for g in found[0])
    for a, b in zip(found[0], found[1], strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)
    assert any((a - b).abs().max() > 1e-6 for a, b in zip(found[0], found[2], strict=True))


def test_unlabelled_images_do_not_matter_to_supervised(scans: Any) -> None:
    batch = scans(2, 3, (32, 32))
    other = replace(batch.unlabelled, views=(batch.unlabelled.views[0].flip(-1) * 0.5,))
    found = [learned(network("unet"), Supervised(), x) for x in (batch, replace(batch, unlabelled=other))]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(("kind", "name"), [(Supervised, "unet"), *NETWORKS])
@pytest.mark.parametrize("width", [32, 48])
def test_a_batch_of_one(kind: type[Any], name: str, width: int, scans: Any) -> None:
    method, batch = built(kind), scans(1, 1, (32, width))
    model = network(name, (32, width)).train()
    terms = method.loss(model, batch, owned(method, model, batch.x))
    terms.total.backward()
    assert all(value.shape == () and value.isfinite() for value in terms.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert method.trained(model, None) is model


@pytest.mark.parametrize(("kind", "name"), [(Supervised, "vnet"), *NETWORKS])
def test_volumes(kind: type[Any], name: str, scans: Any) -> None:
    method, batch = built(kind), scans(2, 2, (16, 16, 16))
    model = network(name.replace("unet", "vnet"), (16, 16, 16), width=2).train()
    terms = method.loss(model, batch, owned(method, model, batch.x))
    terms.total.backward()
    assert bool(terms.total.isfinite())
    assert any(p.grad is not None and bool((p.grad != 0).any()) for p in model.parameters())
    assert next(iter(terms)) == "labelled"
    assert len(terms) == {Supervised: 1, SASSNet: 3}.get(kind, 2)


@pytest.mark.parametrize(("kind", "name"), NETWORKS)
def test_a_weight_of_nothing_leaves_the_labels(kind: type[Any], name: str, scans: Any) -> None:
    batch, method = scans(2, 2, (32, 32)), replace(built(kind), weight=0.0)
    model = network(name).eval()
    own = owned(method, model, batch.x)
    parameters = [p for p in model.parameters() if p.requires_grad]
    terms = method.loss(model, batch, own)
    wanted = torch.autograd.grad(terms["labelled"], parameters, retain_graph=True, allow_unused=True)
    terms.total.backward()
    for p, gradient in zip(parameters, wanted, strict=True):
        found = torch.zeros_like(p) if p.grad is None else p.grad
        torch.testing.assert_close(found, torch.zeros_like(p) if gradient is None else gradient)


def test_titles_and_published_numbers() -> None:
    titles = ["Entropy minimisation", "Mean Teacher", "UA-MT", "SASSNet", "DTC", "URPC", "MC-Net", "MC-Net"]
    assert [kind.title for kind, _ in NETWORKS] == titles
    assert Supervised.title == "Supervised"
    assert not Supervised.uses_unlabelled
    assert all(kind.uses_unlabelled for kind, _ in NETWORKS)
    assert (MeanTeacher().ema_decay, MeanTeacher().noise, UAMT().num_passes) == (0.99, 0.1, 8)
    assert (DTC().steepness, SASSNet().learning_rate, MCNet().temperature) == (1500.0, 1e-4, 0.1)
    assert (URPC().cross_entropy, MCNet().labelled_weight) == (0.5, 1.0)
    assert [kind().weight for kind in (MeanTeacher, UAMT, URPC, MCNet, EntropyMinimisation)] == [0.1] * 5
