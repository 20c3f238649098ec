"""What interpolates images: Beta-distributed shares and permutations, drawn from the streams of the examples."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from aureole.core.random import Streams

_CANDIDATES = 16  # each is accepted with a probability above 0.95


def beta(alpha: float, streams: Streams) -> Float[Tensor, " batch"]:
    """Draw one number an example from Beta(alpha, alpha), in float32.

    G1 / (G1 + G2) with two gamma variables (Marsaglia and Tsang 2000, for alpha < 1 with their boost by u^(1/alpha)).
    As many candidates are drawn at once as will do, so that nothing waits for the device.

    Args:
        alpha: positive; below 1 the numbers lie near 0 and 1.
        streams: one an example.

    Example:
        >>> from aureole.core.mixing import beta
        >>> share = beta(0.5, Streams.of(0, torch.arange(1000)))
        >>> bool((share.mean() - 0.5).abs() < 0.03), bool((share.var() - 0.125).abs() < 0.01)
        (True, True)
    """
    first, second = _log_gamma(alpha, streams), _log_gamma(alpha, streams)
    return torch.sigmoid(first - second).float()


def _log_gamma(alpha: float, streams: Streams) -> Tensor:
    """Draw logarithms of Gamma(alpha, 1) variables: for small alpha the variables themselves underflow."""
    shape = (len(streams), _CANDIDATES)
    d = alpha + 2 / 3
    x = streams.normal(shape).double()
    v = (1 + x / math.sqrt(9 * d)) ** 3
    log_v = v.clamp_min(1e-300).log()
    log_u = _log_uniform(streams, shape)
    accepted = (v > 0) & (log_u < x.square() / 2 + d - d * v + d * log_v)
    first = accepted.long().argmax(-1, keepdim=True)
    boost = _log_uniform(streams, (len(streams), 1)) / alpha
    return (math.log(d) + log_v.gather(-1, first) + boost).squeeze(-1)


def _log_uniform(streams: Streams, shape: tuple[int, ...]) -> Tensor:
    return (streams.uniform(shape).double() + 2.0**-25).log()


def permutation(streams: Streams, copies: int = 1) -> Tensor:
    """Draw an order of all examples, each of them ``copies`` times (the copies of the whole batch in turn)."""
    return streams.uniform((copies, len(streams)), batch_dim=1).flatten().argsort(stable=True)


class Mixing(NamedTuple):
    """One partner and one share for each row.

    Attributes:
        share: of the row itself, in [0, 1]: one number, or one a row.
        order: the partner of each row.
    """

    share: Float[Tensor, "..."]
    order: Tensor

    def __call__(self, rows: Float[Tensor, "rows *rest"]) -> Float[Tensor, "rows *rest"]:
        """Return share * row + (1 - share) * partner."""
        return self.between(rows, rows[self.order])

    def between(
        self, own: Float[Tensor, "rows *rest"], partner: Float[Tensor, "rows *rest"]
    ) -> Float[Tensor, "rows *rest"]:
        """Return share * own + (1 - share) * partner."""
        share = self.share.to(own.dtype)
        return torch.lerp(partner, own, share.view(-1, *(1,) * (own.ndim - 1)) if share.ndim else share)
