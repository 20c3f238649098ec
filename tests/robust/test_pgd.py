"""PGD training is half clean and half adversarial."""

from __future__ import annotations

import torch

from aureole.core.balls import Linf
from aureole.particles.search import ParticleSearch
from aureole.robust.pgd import PGDTraining

SEARCH = ParticleSearch(Linf(0.1), num_particles=2, num_steps=3, step_size=0.04, kernel=None)


def test_the_loss_is_the_clean_and_the_weighted_adversarial_cross_entropy(net, x, y, batch, streams, by_hand) -> None:
    def expected(model):
        first, second = SEARCH(model, x, y, generator=streams()).x_adv
        adversarial = by_hand.cross_entropy(model(torch.cat([first, second])), torch.cat([y, y])).mean()
        return {"clean": by_hand.cross_entropy(model(x), y).mean(), "robust": 0.7 * adversarial}

    terms = by_hand.assert_loss_is(PGDTraining(search=SEARCH, weight=0.7), net, batch, expected)
    assert terms["robust"] / 0.7 > terms["clean"] + 0.01


def test_clean_and_adversarial_images_pass_separately(net, batch, inputs_of) -> None:
    seen = inputs_of(net)
    PGDTraining(search=SEARCH).loss(net, batch())
    assert [len(rows) for rows in seen] == [12, 12, 12, 12, 6]
    assert int(net[1].num_batches_tracked) == 2
