"""VAT, SVGD, SVGDF, crossing and contrast: each term against its formula, and what each learns from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.core.errors import InputError
from aureole.core.method import Unlabelled
from aureole.core.ramps import Constant
from aureole.core.random import Streams
from aureole.data.scans import ScanBatch
from aureole.models.segmentation import Segmenter, UNetSegmenter, VNetSegmenter
from aureole.segment import SVGD, SVGDF, VAT, Contrast, CrossALD, RandomMixup, SSNet, SVGDFContrast, VATMixup
from aureole.segment.contrast import PixelMemory
from aureole.segment.crossing import Crossing
from aureole.segment.dice import dice_distance
from aureole.segment.network import outputs_of

ALL: list[type[Any]] = [VAT, VATMixup, SVGD, SVGDF, SVGDFContrast, CrossALD, SSNet, RandomMixup]


def network(**options: Any) -> Segmenter:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNetSegmenter(num_classes=3, width=4, **options)


def batch(seed: int = 0, *, labelled: int = 2, unlabelled: int = 3, size: tuple[int, ...] = (16, 16)) -> ScanBatch:
    generator = torch.Generator().manual_seed(seed)
    total = labelled + unlabelled
    x = torch.rand((total, 1, *size), generator=generator)
    y = torch.randint(0, 3, (labelled, *size), generator=generator)
    streams = [Streams.of(s, torch.arange(n)) for s, n in ((1, labelled), (2, unlabelled))]
    other = Unlabelled((x[labelled:],), streams=streams[1])
    return ScanBatch(x[:labelled], y, epoch=0, streams=streams[0], unlabelled=other)


def gradients(model: nn.Module, method: Any, given: ScanBatch, modules: nn.Module | None) -> list[Tensor]:
    model.zero_grad()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        method.loss(model, given, modules).total.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def owned(method: Any, model: nn.Module) -> nn.Module | None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return method.own(model, batch().x)


@pytest.mark.parametrize("kind", ALL)
def test_unlabelled_images_matter(kind: type[Any]) -> None:
    method, given = kind(weight=1.0, ramp=Constant()), batch()
    assert given.unlabelled is not None
    other = replace(given, unlabelled=replace(given.unlabelled, views=(given.unlabelled.views[0].flip(-1) * 0.5,)))
    found = []
    for x in (given, given, other):
        model = network().eval()  # in evaluation mode the images do not meet in batch normalisations
        found.append(gradients(model, method, x, owned(method, model)))
    assert all(torch.isfinite(g).all() for g in found[0])
    for a, b in zip(found[0], found[1], strict=True):
        torch.testing.assert_close(a, b)
    assert any((a - b).abs().max() > 1e-7 for a, b in zip(found[0], found[2], strict=True))


def test_vat_is_the_distance_at_the_edge_of_the_ball() -> None:
    model, given = network().eval(), batch()
    x = given.everything
    method = VAT(weight=1.0, ramp=Constant())
    found = method.loss(model, given)["consistency"]
    assert given.all_streams is not None
    streams = given.all_streams.fork(0)
    with torch.no_grad():
        clean = model(x)
    x_adv = method.search(model, x, clean=clean, generator=streams).x_adv[0]
    torch.testing.assert_close((x_adv - x).flatten(1).norm(dim=1), torch.full((5,), 6.0))
    expected = dice_distance(model(x_adv).softmax(1), clean.softmax(1), scope="batch")[0]
    torch.testing.assert_close(found, expected)


def test_one_direction_is_power_iteration() -> None:
    """The search's direction is the gradient of the batch's Dice distance at 10 times the first direction."""
    model, given = network().eval(), batch()
    x, search = given.everything, VAT().search
    streams = Streams.of(3, torch.arange(len(x)))
    d = F.normalize(Streams.of(3, torch.arange(len(x))).normal((1, *x.shape), batch_dim=1)[0].flatten(1), dim=1)
    probe = (x + 10 * d.view_as(x)).requires_grad_()
    clean = model(x).detach().softmax(1)
    gradient = torch.autograd.grad(dice_distance(model(probe).softmax(1), clean, scope="batch").sum(), probe)[0]
    expected = x + 6 * F.normalize(gradient.flatten(1), dim=1).view_as(x)
    torch.testing.assert_close(search(model, x, generator=streams).x_adv[0], expected, atol=1e-4, rtol=0)


def test_memory_of_one_particle_has_the_same_gradient() -> None:
    for kind in (SVGDF, CrossALD):
        found = []
        for spared in (False, True):
            model, method = network().train(), kind(weight=1.0, ramp=Constant(), checkpoint=spared)
            found.append(gradients(model, method, batch(), owned(method, model)))
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b)


def test_running_statistics_follow_the_steps_own_pass_alone() -> None:
    given = batch()
    kept, twice, once = network().train(), network().train(), network().train()
    VAT().loss(kept, given)
    VAT(second_pass=True).loss(twice, given)
    once(given.everything)
    tracked = [{n: b for n, b in m.named_buffers() if "num_batches" in n} for m in (kept, twice, once)]
    assert all(int(v) == 1 for v in tracked[0].values())
    assert all(int(v) == 2 for v in tracked[1].values())
    assert tracked[0] == tracked[2]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_particles_of_one_image_differ_and_stay_in_the_ball(count: int) -> None:
    model, x = network().train(), batch().everything
    method = SVGDF(search=replace(SVGDF().search, num_particles=count))
    x_adv = method.search_on(model)(model, x, generator=Streams.of(0, torch.arange(len(x)))).x_adv
    assert x_adv.shape == (count, *x.shape)
    assert bool(((x_adv - x).flatten(2).norm(dim=-1) <= 6.0 + 1e-4).all())
    assert count == 1 or bool(((x_adv[0] - x_adv[-1]).flatten(1).norm(dim=1) > 0.1).all())


def test_crossed_particles() -> None:
    x = torch.rand(5, 1, 4, 4)
    x_adv = x + torch.rand(3, 5, 1, 4, 4)
    crossing = Crossing.draw(0.5, Streams.of(0, torch.arange(5)), 3)
    share, order = crossing.mixing
    assert sorted(order.tolist()) == list(range(5))
    assert bool((order != torch.arange(5)).all())
    assert 0 <= float(share) <= 1
    assert set(crossing.partners.tolist()) <= {0, 1, 2}
    for n in range(3):
        for i in range(5):
            j, m = int(order[i]), int(crossing.partners[n])
            expected = share * x_adv[n, i] + (1 - share) * x_adv[m, j]
            torch.testing.assert_close(crossing.particles(x_adv)[n, i], expected)
            torch.testing.assert_close(crossing.images(x)[i], share * x[i] + (1 - share) * x[j])


def test_cross_ald_is_the_distance_of_mixtures() -> None:
    model, given = network().eval(), batch()
    x, method = given.everything, CrossALD(weight=1.0, ramp=Constant(), contrast=None)
    found = method.loss(model, given)["consistency"]
    streams = given.all_streams
    assert streams is not None
    crossing = Crossing.draw(0.5, streams.fork(1), 2)
    with torch.no_grad():
        clean, target = model(x), model(crossing.images(x)).softmax(1)
    particles = method.search_on(model)(model, x, clean=clean, generator=streams.fork(0)).x_adv
    mixed = crossing.particles(particles)
    values = [dice_distance(model(rows).softmax(1), target, scope="batch")[0] for rows in mixed]
    torch.testing.assert_close(found, torch.stack(values).mean())


def test_random_mixup_is_the_distance_from_mixed_predictions() -> None:
    model, given = network().eval(), batch()
    x, streams = given.everything, given.all_streams
    assert streams is not None
    mixing = Crossing.draw(0.5, streams.fork(1)).mixing
    expected = dice_distance(model(mixing(x)).softmax(1), mixing(model(x).softmax(1)), scope="batch")[0]
    torch.testing.assert_close(RandomMixup(weight=1.0, ramp=Constant()).loss(model, given)["consistency"], expected)


def _attraction(memory: PixelMemory, rows: Tensor, classes: Tensor) -> Tensor:
    """l_cs with the table of pixels times memory, pixel by pixel."""
    v = memory.heads.prediction(memory.heads.projection(rows))
    total = torch.zeros(())
    for c in range(len(memory.counts)):
        mine, kept = v[classes == c], memory.vectors[c, : int(memory.counts[c])]
        if len(kept) < 2 or len(mine) < 2:
            continue
        table = 1 - F.cosine_similarity(mine[:, None], kept[None], dim=-1)
        a = memory.heads.selectors[c](mine).sigmoid()
        b = torch.ones(len(kept))
        if memory.contrast.memory_attention:
            score = memory.heads.memory_selectors[c](F.normalize(kept, dim=-1)).sigmoid().squeeze(-1)
            b = score * len(kept) / score.sum()
        total = total + (table * (a * len(mine) / a.sum()) * b).mean()
    return total / len(memory.counts)


@pytest.mark.parametrize("contrast", [Contrast(size=4), Contrast(size=4, memory_attention=True)])
def test_the_contrast_is_its_table(contrast: Contrast) -> None:
    torch.manual_seed(0)
    memory = PixelMemory(3, 8, contrast).eval()
    embedding, logits, y = torch.randn(2, 8, 5, 5), torch.randn(2, 3, 5, 5), torch.randint(0, 3, (2, 5, 5))
    memory.remember(embedding, logits, y)
    assert memory.counts.tolist() == [0, 4, 4]
    rows = embedding.movedim(1, -1).flatten(0, -2)
    torch.testing.assert_close(memory(embedding, y), _attraction(memory, rows, y.flatten()))


@pytest.mark.parametrize("keep", ["lowest", "highest"])
def test_the_memory_holds_the_pixels_that_were_right(keep: Any) -> None:
    torch.manual_seed(0)
    memory = PixelMemory(3, 8, Contrast(size=3, keep=keep)).eval()
    embedding, y = torch.randn(1, 8, 6, 6), torch.zeros(1, 6, 6, dtype=torch.int64)
    y[0, :3] = 1
    logits = F.one_hot(y, 3).movedim(-1, 1).float()
    logits[0, :, 0] = torch.tensor([1.0, 0.0, 0.0])[:, None]  # the first row of pixels is missed
    memory.remember(embedding, logits, y)
    with torch.no_grad():
        candidates = memory.heads.projection(embedding[0, :, 1:3].flatten(1).T)
        order = memory.heads.selectors[1](candidates).squeeze(-1).argsort(descending=keep == "highest")
    torch.testing.assert_close(memory.vectors[1], candidates[order[:3]])
    assert memory.counts.tolist() == [0, 3, 0]
    before = memory.vectors[1].clone()
    memory.remember(embedding, logits, torch.zeros_like(y))  # class 1 is absent: it keeps what it had
    torch.testing.assert_close(memory.vectors[1], before)


def test_the_heads_learn_and_the_memory_is_stored() -> None:
    model, method = network().train(), SSNet(weight=1.0, ramp=Constant())
    own = method.own(model, batch().x)
    assert own is not None
    parameters = list(method.own_parameters(own))
    assert sum(p.numel() for p in parameters) > 0
    assert any(name.endswith("vectors") for name in own.state_dict())
    assert isinstance(method.loss(model, batch(), own).total, Tensor)
    for step in range(3):
        model.zero_grad()
        method.loss(model, batch(step), own).total.backward()
    memory = own["contrast"]  # pyright: ignore[reportIndexIssue]
    learned = {name for name, p in memory.heads.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert {"projection.0.weight", "prediction.3.weight", "selectors.1.3.weight"} <= learned
    assert not any(name.startswith(("memory_selectors", "selectors.0")) for name in learned)


def test_volumes() -> None:
    model = VNetSegmenter(num_classes=3, width=2).train()
    given = batch(labelled=1, unlabelled=1, size=(16, 16, 16))
    method = CrossALD()
    terms = method.loss(model, given, method.own(model, given.x))
    assert bool(terms.total.isfinite())


class Foreign(nn.Module):
    """A network from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        self.last = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x))


def test_any_network_by_the_name_of_a_layer() -> None:
    model = Foreign().train()
    method = CrossALD(features="body", layer="body")
    terms = method.loss(model, batch(), method.own(model, batch().x))
    assert list(terms) == ["labelled", "consistency", "contrast"]
    assert bool(terms.total.isfinite())
    model.body.append(nn.AvgPool2d(2)).append(nn.Upsample(scale_factor=2))
    with pytest.raises(InputError, match=r"the 16 x 16 positions of the logits; the layer 'body\.2' has 8 x 8"):
        outputs_of(model, batch().x, "body.2")
    with pytest.raises(InputError, match=r"give its name, one of model\.named_modules"):
        SSNet().own(model, batch().x)
    with pytest.raises(InputError, match="bottleneck of the network; Foreign does not say"):
        SVGDF().loss(model, batch())


def test_misuse() -> None:
    model, given = network(), batch()
    with pytest.raises(InputError, match="the batch has none: set unlabelled_batch_size"):
        VAT().loss(model, replace(given, unlabelled=None))
    with pytest.raises(InputError, match="labels must be from 0 to 2; they range from 3 to 3"):
        VAT().loss(model, replace(given, y=torch.full_like(given.y, 3)))
    with pytest.raises(InputError, match="unlabelled images must be like the labelled ones"):
        VAT().loss(model, replace(given, unlabelled=Unlabelled((torch.rand(2, 1, 32, 32),))))
    with pytest.raises(InputError, match="NaN or infinite"):
        VAT().loss(model, replace(given, x=given.x * torch.nan))
    with pytest.raises(InputError, match="at least 2 vectors"):
        Contrast(size=1)
    with pytest.raises(InputError, match="alpha must be positive"):
        CrossALD(alpha=0.0)
    with pytest.raises(InputError, match="pass what own"):
        SSNet().loss(model, given)
