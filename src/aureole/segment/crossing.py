"""Mixing particles of two images: Eq. 6.7 of the thesis.

    x_mix = g x_i^(n) + (1 - g) x_j^(m),    target f(g x_i + (1 - g) x_j),    g ~ Beta(alpha, alpha)

The thesis says no more of i, j, n and m. Here every image i has one other image j (the next in a random order, so that
none meets itself), every particle n of all images one random particle m, and one g holds for the batch, as in the
authors' Mixup code for classification. So n particles give n mixed images an image, all with the same target, which is
the prediction of the mixed clean image and no mixture of predictions (sheet: Eq. 6.4 mixes distributions, 6.7 samples).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from aureole.core.mixing import Mixing, beta, permutation
from aureole.core.random import Streams


class Crossing(NamedTuple):
    """Who is mixed with whom, and how much.

    Attributes:
        mixing: the share of an image itself, and its partner.
        partners: the particle of the partner for each particle, shape (num_particles,).
    """

    mixing: Mixing
    partners: Tensor

    @classmethod
    def draw(cls, alpha: float, streams: Streams, num_particles: int = 1) -> Crossing:
        """Draw the share, the partners of images and those of particles.

        Args:
            alpha: of the Beta distribution; positive.
            streams: one an image.
            num_particles: of each image.

        Example:
            >>> from aureole.segment.crossing import Crossing
            >>> crossing = Crossing.draw(0.5, Streams.of(0, torch.arange(4)))
            >>> bool((crossing.mixing.order != torch.arange(4)).all())
            True
        """
        share = beta(alpha, streams)[0]
        order = permutation(streams)
        following = torch.empty_like(order)
        following[order] = order.roll(-1)
        drawn = streams.uniform((len(streams), num_particles))[0]
        return cls(Mixing(share, following), (drawn * num_particles).long())

    def images(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Return mixed images."""
        return self.mixing(x)

    def particles(
        self, x_adv: Float[Tensor, "num_particles batch *event"]
    ) -> Float[Tensor, "num_particles batch *event"]:
        """Return mixed particles."""
        return self.mixing.between(x_adv, x_adv[self.partners][:, self.mixing.order])
