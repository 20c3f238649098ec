"""TRADES: clean cross-entropy, and the divergence from clean to adversarial predictions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from aureole.core.balls import Linf
from aureole.core.errors import InputError
from aureole.core.objectives import KL
from aureole.particles.search import ParticleSearch
from aureole.particles.starts import Normal
from aureole.robust.trades import TRADES

SEARCH = ParticleSearch(
    Linf(0.1), num_particles=1, num_steps=3, step_size=0.04, objective=KL(), kernel=None, start=Normal(1e-3)
)


@pytest.mark.parametrize("num_particles", [1, 3])
def test_the_loss_is_cross_entropy_and_weighted_divergence(net, x, y, batch, streams, by_hand, num_particles) -> None:
    search = replace(SEARCH, num_particles=num_particles)

    def expected(model):
        x_adv = search(model, x, generator=streams()).x_adv
        clean, adversarial = model(x), model(x_adv.reshape(-1, 1, 4, 4))
        divergence = by_hand.kl(torch.cat([clean] * num_particles), adversarial).mean()
        return {"clean": by_hand.cross_entropy(clean, y).mean(), "robust": 6 * divergence}

    terms = by_hand.assert_loss_is(TRADES(search=search), net, batch, expected)
    assert terms["robust"] > 0.02


def test_the_other_direction_of_the_divergence_is_trained_when_the_search_asks_for_it(
    net, x, y, batch, streams, by_hand
) -> None:
    search = replace(SEARCH, objective=KL("adversarial||clean"))

    def expected(model):
        x_adv = search(model, x, generator=streams()).x_adv[0]
        clean, adversarial = model(x), model(x_adv)
        return {
            "clean": by_hand.cross_entropy(clean, y).mean(),
            "robust": 6 * by_hand.kl(adversarial, clean).mean(),
        }

    by_hand.assert_loss_is(TRADES(search=search), net, batch, expected)


def test_the_search_ends_far_from_its_start(net, x, y, streams) -> None:
    x_adv = SEARCH(net, x, generator=streams()).x_adv[0]
    assert bool((SEARCH.ball.distance(x_adv, x) > 0.09).all())


def test_a_search_that_would_make_pgd_training_of_it_is_refused() -> None:
    with pytest.raises(InputError, match=r"TRADES needs a search whose objective compares .* objective=KL\(\)"):
        TRADES(search=ParticleSearch(Linf(0.1)))
