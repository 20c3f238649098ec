"""Signed distances, DTC and SASSNet: against distances by brute force, and who learns from which term."""

from __future__ import annotations

import itertools
import math
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.core.errors import InputError
from aureole.core.ramps import Constant, Sigmoid
from aureole.models.segmentation import SDFSegmenter, ShapeDiscriminator, UNetSegmenter
from aureole.segment import DTC, SASSNet
from aureole.segment.dice import dice_loss
from aureole.segment.signed_distance import signed_distances


def by_brute_force(mask: Tensor) -> Tensor:
    """The scaled signed distance of one mask, from all pairs of positions."""
    places = list(itertools.product(*map(range, mask.shape)))
    inside = [p for p in places if mask[p]]
    outside = [p for p in places if not mask[p]]
    found = torch.zeros(mask.shape, dtype=torch.float64)
    if not inside or not outside:
        return found
    to_inside = {p: min(math.dist(p, q) for q in inside) for p in places}
    to_outside = {p: min(math.dist(p, q) for q in outside) for p in places}
    for p in places:
        at_border = mask[p] and any(q in to_outside and math.dist(p, q) == 1 for q in outside)
        value = to_inside[p] / max(to_inside.values()) - to_outside[p] / max(to_outside.values())
        found[p] = 0.0 if at_border else value
    return found


@pytest.mark.parametrize("size", [(9, 7), (5, 6, 4)])
def test_signed_distances_are_those_of_all_pairs(size: tuple[int, ...]) -> None:
    blobs = torch.rand(3, 1, *size, generator=torch.Generator().manual_seed(0))
    pool = F.avg_pool2d if len(size) == 2 else F.avg_pool3d
    y = ((pool(blobs, 3, 1, 1)[:, 0] - 0.3) * 15).long().clamp(0, 2)
    assert y.unique().tolist() == [0, 1, 2]
    found = signed_distances(y, 3)
    assert found.shape == (3, 2, *size)
    for i, c in itertools.product(range(3), (1, 2)):
        torch.testing.assert_close(found[i, c - 1].double(), by_brute_force(y[i] == c), atol=1e-6, rtol=0)


def test_signed_distances_by_hand() -> None:
    y = torch.zeros(1, 7, 7, dtype=torch.int64)
    y[0, 1:6, 1:6] = 1
    found = signed_distances(y, 2)[0, 0]
    assert found[3, 3] == -1  # the middle, three from the outside
    assert found[2, 2].item() == pytest.approx(-2 / 3)
    assert bool((found[1, 1:6] == 0).all())
    assert found[0, 0].item() == pytest.approx(1)  # a corner, the square root of 2 from the class
    assert found[0, 3].item() == pytest.approx(1 / math.sqrt(2))
    filled = torch.ones(1, 4, 4, dtype=torch.int64)
    assert bool((signed_distances(filled, 3) == 0).all())  # class 1 fills the image, class 2 is not in it
    filled[0, :, 0] = 0
    edge = signed_distances(filled, 2)[0, 0, 0]
    assert edge.tolist() == pytest.approx([1, 0, -2 / 3, -1])  # the image's edge is no border


def test_signed_distances_without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    with pytest.raises(InputError, match=r"need SciPy, which is missing: pip install 'aureole\[medical\]'"):
        signed_distances(torch.tensor([[[0, 1]]]), 2)


def outputs(given: Any, rows: int, size: tuple[int, ...], spread: float = 0.001) -> Any:
    """A network of three classes whose distances are near the borders, where DTC's step is not flat."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, 3, *size, generator=generator, dtype=torch.float64)
    z = spread * torch.randn(rows, 2, *size, generator=generator, dtype=torch.float64)
    return given(logits, distances=z)


def test_dtc_is_the_difference_of_mask_and_distances(given: Any, scans: Any) -> None:
    model, batch = outputs(given, 3, (3, 4)), scans(1, 2, (3, 4), dtype=torch.float64)
    terms = DTC(weight=1.0, ramp=Constant()).loss(model, batch)
    p, z, total = model.logits.detach().softmax(1), model.distances.detach(), 0.0
    for i, c, j, k in itertools.product(range(3), range(2), range(3), range(4)):
        total += (1 / (1 + math.exp(1500 * float(z[i, c, j, k]))) - float(p[i, c + 1, j, k])) ** 2
    assert terms["consistency"].item() == pytest.approx(total / (3 * 2 * 3 * 4))
    for of in (model.logits, model.distances):  # both heads learn, on labelled and on unlabelled images
        (gradient,) = torch.autograd.grad(terms["consistency"], of, retain_graph=True)
        assert all(bool((rows != 0).any()) for rows in gradient)
    ramped = DTC(weight=2.0, ramp=Sigmoid(40.0)).loss(model, batch)["consistency"]
    assert ramped.item() == pytest.approx(2 * math.exp(-5) * terms["consistency"].item())


@pytest.mark.parametrize("weight", [0.0, 0.3, 2.0])
def test_labelled_images_teach_the_distances(weight: float, given: Any, scans: Any) -> None:
    model, batch = outputs(given, 3, (3, 4), spread=1.0), scans(1, 2, (3, 4), dtype=torch.float64)
    found = DTC(distance_weight=weight).loss(model, batch)["labelled"]
    target = torch.stack([by_brute_force(batch.y[0] == c) for c in (1, 2)])
    squared = (model.distances[0] - target).square().sum() / 24
    expected = dice_loss(model.logits[:1], batch.y, smooth=1e-5) + weight * squared
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    (gradient,) = torch.autograd.grad(found, model.distances, retain_graph=True)
    assert bool((gradient[1:] == 0).all())
    assert bool((gradient[0] != 0).any()) is (weight > 0)
    assert DTC().distance_weight == SASSNet().distance_weight == 0.3


def adversaries(given: Any, scans: Any, labelled: int = 2) -> tuple[Any, Any, SASSNet, Any]:
    torch.manual_seed(0)
    model = outputs(given, labelled + 3, (16, 16), spread=0.5).float()
    batch, method = scans(labelled, 3), SASSNet(weight=0.5, ramp=Constant(), width=4)
    return model, batch, method, method.own(model, batch.x)


def gradients(term: Tensor, module: nn.Module) -> list[Tensor | None]:
    return list(torch.autograd.grad(term, list(module.parameters()), retain_graph=True, allow_unused=True))


@pytest.mark.parametrize("labelled", [1, 2])
def test_sassnet_is_two_cross_entropies(labelled: int, given: Any, scans: Any) -> None:
    model, batch, method, own = adversaries(given, scans, labelled)
    for stage in own["discriminator"].modules():
        if isinstance(stage, nn.Dropout2d):
            stage.p = 0.0  # so that training and evaluation say the same
    terms = method.loss(model, batch, own)
    assert list(terms) == ["labelled", "shape", "discriminator"]
    said = own["discriminator"](model.distances, batch.everything).log_softmax(1)
    fooled = -said[labelled:, 1].mean()
    told = -(said[:labelled, 1].sum() + said[labelled:, 0].sum()) / (labelled + 3)
    torch.testing.assert_close(terms["shape"], 0.5 * fooled)
    torch.testing.assert_close(terms["discriminator"], told)
    ramped = SASSNet(weight=0.0, ramp=Sigmoid(40.0), width=4).loss(model, batch, own)
    assert ramped["shape"] == 0
    torch.testing.assert_close(ramped["discriminator"], told)  # not weighted: it always learns


def test_neither_adversary_learns_from_the_others_term(given: Any, scans: Any) -> None:
    model, batch, method, own = adversaries(given, scans)
    torch.manual_seed(3)
    terms = method.loss(model, batch, own)
    for name in ("labelled", "shape"):
        assert terms[name].requires_grad
        assert all(g is None for g in gradients(terms[name], own))
    assert all(g is None for g in gradients(terms["discriminator"], model))
    (shape,) = torch.autograd.grad(terms["shape"], model.distances, retain_graph=True)
    assert bool((shape[:2] == 0).all())
    assert all(bool((rows != 0).any()) for rows in shape[2:])
    expected = [gradients(terms["discriminator"], own), gradients(terms["labelled"] + terms["shape"], model)]
    terms.total.backward()  # one backward pass gives each its own gradient
    for module, wanted in zip((own, model), expected, strict=True):
        for p, gradient in zip(module.parameters(), wanted, strict=True):
            assert gradient is not None
            assert bool((gradient != 0).any())
            torch.testing.assert_close(p.grad, gradient)


def test_the_discriminator_judges_in_evaluation_and_learns_in_training(given: Any, scans: Any) -> None:
    model, batch, method, own = adversaries(given, scans)
    modes: list[bool] = []
    own["discriminator"].register_forward_hook(lambda module, *_: modes.append(module.training))
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(method.loss(model, batch, own))
    assert modes == [False, True, True] * 2
    assert torch.equal(found[0]["shape"], found[1]["shape"])
    assert not torch.equal(found[0]["discriminator"], found[1]["discriminator"])  # by dropout
    assert own["discriminator"].training
    assert all(p.requires_grad for p in own.parameters())


def test_the_discriminator_really_trains(given: Any, scans: Any) -> None:
    """Labelled shapes are discs, unlabelled ones are not: it learns to tell, while the network stays."""
    model, batch, method, own = adversaries(given, scans)
    disc = torch.linspace(-1, 1, 16).square()[:, None] + torch.linspace(-1, 1, 16).square() - 0.5
    model.distances.data[:2] = disc
    model.distances.data[2:] = -disc
    optimizer = torch.optim.Adam(own.parameters(), 3e-3)
    before = [p.clone() for p in own.parameters()], model.distances.clone()
    for _ in range(40):
        optimizer.zero_grad()
        method.loss(model, batch, own).total.backward()
        optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(before[0], own.parameters(), strict=True))
    assert torch.equal(before[1], model.distances)
    said = own.eval()["discriminator"](model.distances, batch.everything).argmax(1)
    assert said.tolist() == [1, 1, 0, 0, 0]


def test_the_network_learns_to_fool_a_discriminator_that_stays(given: Any, scans: Any) -> None:
    model, batch, method, own = adversaries(given, scans)
    own["discriminator"].linear.weight.data.mul_(10)
    before = {name: value.clone() for name, value in own.state_dict().items()}
    optimizer, shapes = torch.optim.Adam(model.parameters(), 0.1), []
    for _ in range(10):
        optimizer.zero_grad()
        terms = method.loss(model, batch, own)
        terms.total.backward()
        optimizer.step()
        shapes.append(terms["shape"].item())
    assert shapes[-1] < 0.9 * shapes[0]
    assert all(torch.equal(before[name], value) for name, value in own.state_dict().items())


def test_the_discriminators_optimiser_has_its_weights_alone(given: Any, scans: Any) -> None:
    model, batch, _, _ = adversaries(given, scans)
    method = SASSNet()
    own = method.own(model, batch.x)
    assert own is not None
    optimizer = method.own_optimizer(own)
    assert isinstance(optimizer, torch.optim.Adam)
    assert (optimizer.defaults["lr"], optimizer.defaults["betas"]) == (1e-4, (0.9, 0.99))
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in own.parameters()}
    assert list(method.own_parameters(own)) == []
    expected = ShapeDiscriminator(num_classes=3, spatial_dims=2)
    assert [p.shape for p in own.parameters()] == [p.shape for p in expected.parameters()]


@pytest.mark.parametrize("kind", [DTC, SASSNet])
def test_misuse(kind: type[Any], scans: Any) -> None:
    batch, plain = scans(), UNetSegmenter(num_classes=3, width=4).eval()
    message = "needs a network that predicts signed distances too.*unet-sdf or vnet-sdf"
    for model in (plain, nn.Sequential(nn.Conv2d(1, 3, 1))):
        with pytest.raises(InputError, match=f"{kind.title} {message}"):
            kind().loss(model, batch, kind().own(model, batch.x))
    with pytest.raises(InputError, match="distance_weight must be"):
        kind(distance_weight=-1.0)


def test_misuse_of_sassnet(scans: Any) -> None:
    model = SDFSegmenter(num_classes=3, spatial_dims=2, width=4).eval()
    with pytest.raises(InputError, match="pass what own"):
        SASSNet().loss(model, scans())
    with pytest.raises(InputError, match=r"learning_rate.*0"):
        SASSNet(learning_rate=0.0)
    with pytest.raises(InputError, match="width"):
        SASSNet(width=0)
