"""VAT, ALD, their Mixup forms and their presets, by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from aureole.core.balls import L2
from aureole.core.method import Batch, Unlabelled
from aureole.core.objectives import KL, SquaredDifference
from aureole.core.ramps import Linear, Sigmoid
from aureole.core.random import Streams
from aureole.particles import RBF, ParticleSearch, Probe
from aureole.semisup import ALDVAT, VAT, ALDMixup, SteinProbe, VATEntropy, VATMixup
from aureole.semisup.base import labelled_streams, unlabelled_streams
from aureole.semisup.mixup import one_mixing
from aureole.semisup.passes import BatchNorm

Make = Callable[..., Batch]


def softmax(logits: Tensor) -> Tensor:
    return logits.exp() / logits.exp().sum(1, keepdim=True)


def kl(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    p, q = softmax(p_logits), softmax(q_logits)
    return (p * (p / q).log()).sum(1)


def mse(logits: Tensor, clean: Tensor) -> Tensor:
    return (softmax(logits) - softmax(clean)).square().mean(1)


def unit(d: Tensor) -> Tensor:
    return d / d.flatten(1).norm(dim=1)[:, None, None, None]


def nll(logits: Tensor, labels: Tensor) -> Tensor:
    return -softmax(logits).log()[torch.arange(len(labels)), labels]


def _virtual(model: nn.Module, x: Tensor, streams: Streams, n: int, xi: float, radius: float) -> Tensor:
    """Algorithm 1 of Miyato et al. with one power iteration, n times."""
    noise = streams.normal((n, *x.shape), batch_dim=1).double()
    d = unit(noise.flatten(0, 1)).requires_grad_()
    copies = x.repeat(n, 1, 1, 1)
    divergence = kl(model(x).detach().repeat(n, 1), model(copies + xi * d)).sum()
    (gradient,) = torch.autograd.grad(divergence, d)
    return (copies + radius * unit(gradient)).detach()


def _vat(n: int, **fields: object) -> VAT:
    search = replace(VAT().search, ball=L2(0.2, None), num_particles=n)
    return VAT(search=search, **fields)


def test_vat_by_hand(net: nn.Module, x: Tensor, y: Tensor, x_u: tuple[Tensor, Tensor], batch: Make) -> None:
    model = copy.deepcopy(net)
    rows = _virtual(copy.deepcopy(net), x_u[0], unlabelled_streams(batch()), 3, 0.1, 0.2)
    clean = model(x_u[0]).detach().repeat(3, 1)
    expected = 2.0 * 0.25 * kl(clean, model(rows)).mean()
    terms = _vat(3, weight=2.0, ramp=Linear(8.0)).loss(net, batch(epoch=2))
    torch.testing.assert_close(terms["unlabelled"], expected, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(terms["labelled"], nll(model(x), y).mean())
    mine = torch.autograd.grad(terms["unlabelled"], list(net.parameters()))
    theirs = torch.autograd.grad(expected, list(model.parameters()))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_the_running_statistics_follow_the_labelled_images_alone(net: nn.Module, x: Tensor, batch: Make) -> None:
    alone = copy.deepcopy(net)
    alone(x)
    VAT().loss(net, batch())
    for mine, theirs in zip(net.buffers(), alone.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_running_statistics_follow_the_clean_images(
    net: nn.Module, x: Tensor, x_u: tuple[Tensor, Tensor], batch: Make
) -> None:
    both = copy.deepcopy(net)
    both(x)
    both(x_u[0])
    ALDVAT(labelled_weight=0.0).loss(net, batch())
    for mine, theirs in zip(net.buffers(), both.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_labelled_images_are_regularised_too(
    net: nn.Module, x: Tensor, x_u: tuple[Tensor, Tensor], batch: Make
) -> None:
    """Equation 5.14: the particles of both kinds come of one search, and each term has its weight."""
    model = copy.deepcopy(net)
    search = replace(ALDVAT().search, num_particles=2)
    streams = Streams(torch.cat([unlabelled_streams(batch()).keys, labelled_streams(batch()).keys]))
    x_adv = search(model, torch.cat([x_u[0], x]), generator=streams).x_adv
    target = torch.cat([model(x_u[0]), model(x)]).detach()
    values = kl(target.repeat(2, 1), model(x_adv.flatten(0, 1))).view(2, 10)
    terms = ALDVAT(search=search, weight=3.0, labelled_weight=5.0).loss(net, batch())
    torch.testing.assert_close(terms["unlabelled"], 3.0 * values[:, :6].mean())
    torch.testing.assert_close(terms["labelled_distance"], 5.0 * values[:, 6:].mean())
    mine = torch.autograd.grad(terms["labelled_distance"], list(net.parameters()))
    theirs = torch.autograd.grad(5.0 * values[:, 6:].mean(), list(model.parameters()))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)  # the clean predictions are constants


def test_one_particle_of_ald_is_vat(net: nn.Module, batch: Make) -> None:
    one = replace(ALDVAT().search, num_particles=1)
    ald = ALDVAT(search=one, labelled_weight=0.0).loss(copy.deepcopy(net), batch())
    vat = VAT().loss(copy.deepcopy(net), batch())
    torch.testing.assert_close(ald["unlabelled"], vat["unlabelled"])


def test_particles_of_ald_are_more_diverse_than_restarts(net: nn.Module, x_u: tuple[Tensor, Tensor]) -> None:
    net.eval()
    streams = lambda: Streams.of(0, torch.arange(6))  # noqa: E731
    together = replace(ALDVAT().search, ball=L2(0.5, None))(net, x_u[0], generator=streams())
    restarts = replace(VAT().search, ball=L2(0.5, None), num_particles=4)(net, x_u[0], generator=streams())
    assert float(together.squared_distance.mean()) > 1.05 * float(restarts.squared_distance.mean())


def _released(model: nn.Module, x: Tensor, streams: Streams, n: int, radius: float) -> Tensor:
    """The authors' search: SVGD on directions over all rows of the batch, with a mean over rows and classes."""
    noise = streams.uniform((n, *x.shape), batch_dim=1).double().flatten(0, 1) - 0.5
    d = unit(noise).requires_grad_()
    rows, target = len(d), model(x).detach().repeat(n, 1)
    distance = mse(model(x.repeat(n, 1, 1, 1) + 10.0 * d), target).mean()
    (score,) = torch.autograd.grad(distance, d)
    width = 1e-8 + 2 * (10.0 ** (1 - n)) ** 2
    phi = torch.zeros_like(score)
    for i in range(rows):
        for j in range(rows):
            k = torch.exp(-(d[i] - d[j]).square().sum() / width)
            phi[i] += (k * score[j] + k * (d[i] - d[j]) * 2 / width).detach() / rows
    return (x.repeat(n, 1, 1, 1) + radius * unit(phi)).detach()


@pytest.mark.parametrize("n", [1, 2])
def test_the_released_code(n: int, net: nn.Module, x_u: tuple[Tensor, Tensor], batch: Make) -> None:
    method = ALDVAT.probe(radius=0.3, num_particles=n)
    method = replace(method, search=replace(method.search, ball=L2(0.3, None)))
    rows = _released(copy.deepcopy(net), x_u[0], unlabelled_streams(batch()), n, 0.3)
    found = method.search(copy.deepcopy(net), x_u[0], generator=unlabelled_streams(batch())).x_adv
    torch.testing.assert_close(found.flatten(0, 1), rows, rtol=0, atol=1e-7)
    model = copy.deepcopy(net)
    target = model(x_u[0]).detach().repeat(n, 1)
    terms = method.loss(net, batch(epoch=0))
    torch.testing.assert_close(terms["unlabelled"], 30 * torch.tensor(-5.0).exp() * mse(model(rows), target).mean())
    assert list(terms) == ["labelled", "unlabelled"]


def test_in_the_released_code_one_particle_repels_other_images(net: nn.Module, x_u: tuple[Tensor, Tensor]) -> None:
    streams = lambda: Streams.of(0, torch.arange(6))  # noqa: E731
    search = replace(ALDVAT.probe(num_particles=1).search, ball=L2(0.3, None))
    apart = replace(search, start=SteinProbe(10.0, kernel=RBF("thesis")))
    first, second = (s(net, x_u[0], generator=streams()).x_adv - x_u[0] for s in (search, apart))
    assert bool((nn.functional.cosine_similarity(first.flatten(2), second.flatten(2), dim=-1) < 0.9).any())


def test_algorithm_5_1_to_the_letter(net: nn.Module, x_u: tuple[Tensor, Tensor]) -> None:
    search = replace(ALDVAT.algorithm(radius=0.05, num_particles=2).search, ball=L2(0.05, None))
    streams = Streams.of(0, torch.arange(6))
    x, model = x_u[0], copy.deepcopy(net)
    noise = streams.uniform((2, *x.shape), batch_dim=1).double() * 2 - 1
    start = [x + 0.05 * unit(10 * each) for each in noise]  # longer than the radius, so projected on its edge
    clean, scores = model(x).detach(), []
    rows = torch.cat(start).requires_grad_()
    (gradient,) = torch.autograd.grad(kl(model(rows), clean.repeat(2, 1)).sum(), rows)
    scores = gradient.view(2, *x.shape)
    ends = []
    for i in range(2):
        phi = torch.zeros_like(x)
        for j in range(2):
            k = torch.exp(-(start[i] - start[j]).square().flatten(1).sum(1) / (2 * 0.1**2 + 1e-8))[:, None, None, None]
            phi += 0.5 * k * (scores[j] + (start[i] - start[j]) / (0.1**2 + 5e-9))
        end = start[i] + 0.01 * unit(phi) - x
        length = end.flatten(1).norm(dim=1)[:, None, None, None]
        ends.append(x + end * (0.05 / length).clamp_max(1))
    found = search(net, x, generator=Streams.of(0, torch.arange(6))).x_adv
    torch.testing.assert_close(found, torch.stack(ends).detach(), rtol=0, atol=1e-8)


def test_the_presets_have_the_settings_of_the_thesis() -> None:
    for method in (VAT.thesis(), ALDVAT.probe(), ALDVAT.algorithm(), VATMixup.thesis(), ALDMixup.probe()):
        assert (method.weight, method.ramp, method.batch_norm) == (30.0, Sigmoid(30.0), "clean")
        assert method.search.ball == L2(0.01)
    assert isinstance(ALDMixup.probe(), ALDMixup)
    assert ALDVAT.algorithm().search.objective == KL("adversarial||clean")
    assert ALDVAT.probe().search.objective == VAT.thesis().search.objective == SquaredDifference()
    assert (ALDVAT.probe().labelled_weight, ALDVAT.algorithm().labelled_weight) == (0.0, 30.0)
    assert VAT.thesis(num_particles=8).num_particles == 8


@pytest.mark.parametrize("labelled_weight", [0.0, 1.0])
def test_mixup_by_hand(
    labelled_weight: float, net: nn.Module, x: Tensor, x_u: tuple[Tensor, Tensor], batch: Make
) -> None:
    """One share for the batch, one permutation over all its particles; each mixed image has two targets."""
    search = replace(VAT().search, ball=L2(0.5, None), num_particles=2)
    model, centres, keys = copy.deepcopy(net), x_u[0], unlabelled_streams(batch()).keys
    target = model(x_u[0])
    if labelled_weight:
        centres, keys = torch.cat([x_u[0], x]), torch.cat([keys, labelled_streams(batch()).keys])
        target = torch.cat([target, model(x)])
    rows = search(model, centres, generator=Streams(keys)).x_adv.flatten(0, 1)
    share, order = one_mixing(0.5, Streams(keys), 2)
    s, partner = float(share), order.tolist()
    assert sorted(partner) == list(range(len(rows))) != partner
    logits = model(torch.stack([s * rows[i] + (1 - s) * rows[j] for i, j in enumerate(partner)]))
    t = target.detach().repeat(2, 1)
    values = s * kl(t, logits) + (1 - s) * kl(t[order], logits)
    terms = VATMixup(search=search, labelled_weight=labelled_weight).loss(net, batch())
    torch.testing.assert_close(terms["unlabelled"], values.view(2, -1)[:, :6].mean(), rtol=1e-6, atol=1e-9)


def test_entropy_beside_vat(net: nn.Module, x_u: tuple[Tensor, Tensor], batch: Make) -> None:
    p = softmax(copy.deepcopy(net)(x_u[0]))
    vat = VAT().loss(copy.deepcopy(net), batch())
    terms = VATEntropy(entropy_weight=0.3).loss(net, batch())
    torch.testing.assert_close(terms["entropy"], -0.3 * (p * p.log()).sum(1).mean())
    torch.testing.assert_close(terms["unlabelled"], vat["unlabelled"])
    assert int(net[1].num_batches_tracked) == 1


def test_there_is_no_graph_of_second_order(net: nn.Module, batch: Make) -> None:
    """A function whose second derivative does not exist passes through the search and the loss."""

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: object, *gradients: Tensor) -> Tensor:
            return gradients[0]

    class Through(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out = Once.apply(x)
            assert isinstance(out, Tensor)
            return out

    net.insert(0, Through())
    terms = VAT().loss(net, batch())
    terms.total.backward()
    assert float(terms["unlabelled"].detach()) > 0


@pytest.mark.parametrize("batch_norm", ["clean", "labelled"])
def test_no_pass_sees_more_than_max_batch_images(batch_norm: BatchNorm, net: nn.Module, batch: Make, x: Tensor) -> None:
    search = replace(ALDVAT().search, mode="eval", max_batch=6)
    whole = replace(search, max_batch=None)
    net[1].eval()  # no image sees its neighbours, so that parts are the same as the whole
    at_once = ALDVAT(search=whole, batch_norm=batch_norm).loss(net, batch())
    expected = torch.autograd.grad(at_once.total, list(net.parameters()))
    sizes: list[int] = []
    net.register_forward_pre_hook(lambda _m, inputs: sizes.append(len(inputs[0])))
    bounded = ALDVAT(search=search, batch_norm=batch_norm).loss(net, batch())
    before = len(sizes)
    found = torch.autograd.grad(bounded.total, list(net.parameters()))
    assert max(sizes) == 6
    assert sum(sizes[before:]) == 4 * 10  # the trained pass, again
    torch.testing.assert_close(dict(bounded), dict(at_once))
    torch.testing.assert_close(found, expected)
    images = torch.cat([x, x])
    first, second = (s(net, images, generator=Streams.of(0, torch.arange(8))).x_adv for s in (search, whole))
    torch.testing.assert_close(first, second)


def test_parts_that_are_run_again_leave_running_statistics_alone(net: nn.Module, batch: Make) -> None:
    method = ALDVAT(search=replace(ALDVAT().search, mode="eval", max_batch=6), batch_norm="labelled")
    other = copy.deepcopy(net)
    method.loss(net, batch()).total.backward()
    other(batch().x)
    assert int(net[1].num_batches_tracked) == 1
    torch.testing.assert_close(net[1].running_mean, other[1].running_mean)
    torch.testing.assert_close(net[1].running_var, other[1].running_var)


@pytest.mark.parametrize("labelled_weight", [0.0, 1.0])
def test_the_passes_of_a_step(labelled_weight: float, net: nn.Module, batch: Make) -> None:
    """Images through the model: n forward-backward for the search, its target, and the training passes."""
    rows: list[int] = []
    net.register_forward_pre_hook(lambda _m, inputs: rows.append(len(inputs[0])))
    searched = 6 + (4 if labelled_weight else 0)
    ALDVAT(labelled_weight=labelled_weight).loss(net, batch())
    training = 4 + 6 + 4 * searched
    assert sum(rows) - training in (searched + 4 * searched, searched + 8 * searched)


def test_random_numbers_belong_to_the_images(net: nn.Module, x_u: tuple[Tensor, Tensor], batch: Make) -> None:
    """Of a model without batch statistics, the term of a batch is the mean over its halves."""
    net.eval()
    whole = VAT().loss(net, batch())["unlabelled"]
    halves = []
    for part in (slice(0, 3), slice(3, 6)):
        streams = Streams.of(7, torch.arange(6)).select(part)
        halves.append(VAT().loss(net, replace(batch(), unlabelled=Unlabelled((x_u[0][part],), streams=streams))))
    torch.testing.assert_close(whole, (halves[0]["unlabelled"] + halves[1]["unlabelled"]) / 2)


def test_vat_is_a_search_with_a_probe() -> None:
    search = VAT().search
    assert isinstance(search, ParticleSearch)
    assert (search.start, search.num_steps, search.kernel) == (Probe(0.1), 0, None)
