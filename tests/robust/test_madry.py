"""Madry's training fits the adversarial images alone."""

from __future__ import annotations

import pytest

from aureole.core.balls import L2, Linf
from aureole.particles.search import ParticleSearch
from aureole.robust.madry import Madry


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.5)], ids=repr)
@pytest.mark.parametrize("num_particles", [1, 3])
def test_the_loss_is_the_adversarial_cross_entropy(net, x, y, batch, streams, by_hand, ball, num_particles) -> None:
    search = ParticleSearch(ball, num_particles=num_particles, num_steps=3, step_size=0.04, kernel=None)

    def expected(model):
        particles = search(model, x, y, generator=streams()).x_adv
        logits = model(particles.reshape(-1, 1, 4, 4)).reshape(num_particles, len(x), -1)
        return {"robust": sum(by_hand.cross_entropy(one, y).mean() for one in logits) / num_particles}

    terms = by_hand.assert_loss_is(Madry(search=search), net, batch, expected)
    assert terms["robust"] > by_hand.cross_entropy(net(x), y).mean() + 0.01
