"""ALD: the identities that tie it to PGD training and TRADES, and its two estimators."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from aureole.core.balls import L2, Linf
from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.core.objectives import KL, CrossEntropy, Margin
from aureole.particles.kernels import RBF, FeatureRBF
from aureole.particles.search import ParticleSearch
from aureole.particles.starts import Normal, Uniform
from aureole.robust.ald import ALD, ALDPGD, ALDTRADES
from aureole.robust.pgd import PGDTraining
from aureole.robust.trades import TRADES

PGD_SEARCH = ParticleSearch(Linf(0.1), num_particles=4, num_steps=3, step_size=0.04)
TRADES_SEARCH = replace(PGD_SEARCH, objective=KL(), start=Normal(1e-3))
VARIED = replace(PGD_SEARCH, num_steps=1, start=Uniform(0.1))  # particles of different strength
KERNELS = [RBF(), RBF(0.1), RBF("thesis"), RBF(scope="batch"), FeatureRBF(nn.Flatten())]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
def test_one_particle_is_pgd_training_and_trades_bit_for_bit(net, batch, by_hand, kernel, dtype) -> None:
    model = net.to(dtype)
    cast = lambda: replace(batch(), x=batch().x.to(dtype))  # noqa: E731
    for start, ball in ((Uniform(0.05), Linf(0.1)), (Normal(1e-3), L2(0.4))):
        single = replace(PGD_SEARCH, num_particles=1, start=start, ball=ball)
        by_hand.assert_same(
            PGDTraining(search=replace(single, kernel=None)), ALDPGD(search=replace(single, kernel=kernel)), model, cast
        )
        divergence = replace(single, objective=KL())
        by_hand.assert_same(
            TRADES(search=replace(divergence, kernel=None)),
            ALDTRADES(search=replace(divergence, kernel=kernel)),
            model,
            cast,
        )


def test_without_a_kernel_it_is_training_on_independent_restarts(net, batch, by_hand) -> None:
    for alone, ald, search in ((PGDTraining, ALDPGD, PGD_SEARCH), (TRADES, ALDTRADES, TRADES_SEARCH)):
        search = replace(search, kernel=None)
        expected = alone(search=search, weight=2.0)
        by_hand.assert_loss_is(
            ald(search=search, weight=2.0), net, batch, lambda model, m=expected: dict(m.loss(model, batch()))
        )


def test_the_kernel_matters(net, batch) -> None:
    losses = [ALDPGD(search=replace(PGD_SEARCH, kernel=k)).loss(net, batch())["robust"].item() for k in (None, RBF())]
    assert abs(losses[0] - losses[1]) > 1e-4


def test_ald_pgd_is_the_mean_over_the_particles(net, x, y, batch, streams, by_hand) -> None:
    def expected(model):
        particles = PGD_SEARCH(model, x, y, generator=streams()).x_adv
        logits = model(particles.reshape(-1, 1, 4, 4)).reshape(4, len(x), -1)
        robust = sum(by_hand.cross_entropy(one, y).mean() for one in logits) / 4
        return {"clean": by_hand.cross_entropy(model(x), y).mean(), "robust": 0.5 * robust}

    by_hand.assert_loss_is(ALDPGD(search=PGD_SEARCH, weight=0.5), net, batch, expected)


def test_ald_trades_is_the_mean_divergence(net, x, y, batch, streams, by_hand) -> None:
    def expected(model):
        particles = TRADES_SEARCH(model, x, y, generator=streams()).x_adv
        clean = model(x)
        logits = model(particles.reshape(-1, 1, 4, 4)).reshape(4, len(x), -1)
        robust = sum(by_hand.kl(clean, one).mean() for one in logits) / 4
        return {"clean": by_hand.cross_entropy(clean, y).mean(), "robust": 6 * robust}

    by_hand.assert_loss_is(ALDTRADES(search=TRADES_SEARCH), net, batch, expected)


@pytest.mark.parametrize("search", [VARIED, replace(VARIED, objective=KL())], ids=["cross-entropy", "divergence"])
def test_the_covariance_estimator_has_the_sample_covariance_as_gradient(net, x, y, streams, by_hand, search) -> None:
    net.eval()
    particles = search(net, x, y, generator=streams()).x_adv
    total = [torch.zeros_like(p) for p in net.parameters()]
    for i in range(len(x)):
        values, gradients = [], []
        for particle in particles[:, i]:
            adversarial, clean = net(particle[None]), net(x[i : i + 1])
            of = by_hand.kl(clean, adversarial) if search.objective == KL() else None
            value = by_hand.cross_entropy(adversarial, y[i : i + 1]).sum() if of is None else of.sum()
            values.append(float(value.detach()))
            gradients.append(by_hand.gradients(net, value))
        mean = sum(values) / 4
        for k, into in enumerate(total):
            average = sum(g[k] for g in gradients) / 4
            into += sum((v - mean) * (g[k] - average) for v, g in zip(values, gradients, strict=True)) / 3

    values = ALD(search, "covariance")(net, x, y, generator=streams())
    assert values.shape == (len(x),)
    size = max(float(t.abs().max()) for t in total)
    assert size > 1e-8
    for mine, theirs in zip(by_hand.gradients(net, values.sum()), total, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7 * size)


def test_the_covariance_estimator_is_the_sample_variance(net, x, y, streams, by_hand) -> None:
    net.eval()
    particles = VARIED(net, x, y, generator=streams()).x_adv
    values = torch.stack([by_hand.cross_entropy(net(one), y) for one in particles])
    estimate = ALD(VARIED, "covariance")(net, x, y, generator=streams())
    torch.testing.assert_close(estimate, values.var(0, correction=1), rtol=1e-8, atol=1e-14)
    assert bool((estimate > 1e-6).all())


def test_clean_logits_that_are_at_hand_save_a_pass(net, x, y, streams, inputs_of) -> None:
    net.eval()
    seen = inputs_of(net)
    ald = ALD(TRADES_SEARCH)
    alone = ald(net, x, generator=streams())
    passes = len(seen)
    given = ald(net, x, generator=streams(), clean_logits=net(x))
    assert len(seen) == 2 * passes
    assert torch.equal(alone, given)


@pytest.mark.parametrize("mode", ["eval", "batch_statistics"])
def test_a_graph_built_before_the_search_survives_it(net, x, y, streams, mode) -> None:
    clean = nn.functional.cross_entropy(net(x), y)
    (clean + ALD(replace(PGD_SEARCH, mode=mode))(net, x, y, generator=streams()).mean()).backward()
    ALDTRADES(search=replace(TRADES_SEARCH, mode=mode)).loss(net, Batch(x, y)).total.backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in net.parameters())


def test_misuse_is_refused_before_any_work(net, x, untyped) -> None:
    single = replace(PGD_SEARCH, num_particles=1)
    for make in (lambda: ALD(single, "covariance"), lambda: ALDPGD(search=single, estimator="covariance")):
        with pytest.raises(InputError, match="at least 2 particles"):
            make()
    with pytest.raises(InputError, match="unknown estimator 'cov'"):
        ALD(PGD_SEARCH, "cov")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="ALDPGD needs a search whose objective reads labels"):
        ALDPGD(search=TRADES_SEARCH)
    with pytest.raises(InputError, match="ALDTRADES needs a search whose objective compares"):
        ALDTRADES(search=PGD_SEARCH)
    with pytest.raises(InputError, match="CrossEntropy needs labels"):
        ALD(PGD_SEARCH)(net, x)
    assert ALDPGD(search=replace(PGD_SEARCH, objective=Margin())).search.objective != CrossEntropy()
