"""The largest of many relaxed categorical draws, without holding the draws (thesis Eqs. 3.6 to 3.8).

    u^m_i = exp((l_i + G^m_i) / T) / sum_j exp((l_j + G^m_j) / T),    z_i = max_m u^m_i,    m = 1..M

Every draw needs Gumbel noise for all pixels, so the plain stack of draws takes M x pixels numbers: 3 GB for an image of
224 x 224 at M = 15,053. Here the draws come in chunks, of which only the running maximum, the winning draw of each
pixel and the normaliser of each draw are kept. The noise of draw m at pixel i is a hash of the example's key, m and i;
the backward pass computes it again. With w(i) the draw that wins pixel i, and g the gradient that comes in,

    dz_i / dl_j = u^w(i)_i (1[i = j] - u^w(i)_j) / T
    grad_j      = (g_j z_j - sum_m a_m u^m_j) / T,    a_m = sum of g_i z_i over the pixels that m wins

which is one product of a vector with each chunk. Time O(M x pixels), memory O(chunk), exact in both.

Gumbel noise is -log E with E exponential. So exp(l + G) = exp(l) / E, and at T = 1 a draw is a race of exponential
clocks, which needs one logarithm a number and no exponential.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from aureole.core.errors import InputError
from aureole.core.random import Streams, mix_seed

_MIX_1 = -0x40A7B892E31B1A47  # the factors of splitmix64, as signed numbers
_MIX_2 = -0x6B2FB644ECCEEE15
_POSITIVE = 0x7FFFFFFF7FFFFFFF  # clears the sign of both halves
_LABEL = 0x6C617267  # parts this noise from what else is drawn from a stream
_UNIT = 2.0**-31 * (1 - 2.0**-24)  # takes 31 bits below 1, also after rounding to float32
_CHUNK = {"cpu": 2**19}  # numbers of noise at a time: fastest where a core's cache still holds them
_CHUNK_ELSEWHERE = 2**24


def largest_of_draws(
    logits: Float[Tensor, "batch pixels"], count: int, temperature: float, streams: Streams
) -> Float[Tensor, "batch pixels"]:
    """Return z_i = max_m softmax((logits + G_m) / temperature)_i over ``count`` draws of Gumbel noise G_m.

    Differentiable to the logits, once. Uses memory for a chunk of draws only, in the forward and the backward pass.

    Args:
        logits: unnormalised log-probabilities of the pixels; computed in float32 or better.
        count: number of draws M, at least 1.
        temperature: T > 0; the smaller, the closer is each draw to a one-hot vector.
        streams: one stream an example; every stream moves on by one.

    Returns:
        The largest relaxed draw of each pixel, in (0, 1]; an example's depends on its own logits and stream alone.

    Raises:
        InputError: the count or the temperature is not positive, or there is not one stream an example.

    Example:
        >>> import torch
        >>> from aureole.core.random import Streams
        >>> streams = Streams.of(seed=0, indices=torch.arange(2))
        >>> z = largest_of_draws(torch.zeros(2, 784), 236, 1.0, streams)
        >>> z.shape, bool((z.mean() > 0.1) & (z.mean() < 0.115))
        (torch.Size([2, 784]), True)

    Source: thesis Eqs. 3.6 to 3.8, with (log theta + gamma) / tau in Eq. 3.6; Maddison et al. 2017; Jang et al. 2017.
    """
    if count < 1:
        raise InputError(f"the number of draws must be at least 1; got {count}")
    if not temperature > 0:
        raise InputError(f"the temperature must be positive; got {temperature}")
    if len(streams) != len(logits):
        raise InputError(f"expected one random stream an example, {len(logits)}; got {len(streams)}")
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if not precise.numel():
        return precise
    chunk = _CHUNK.get(logits.device.type, _CHUNK_ELSEWHERE)
    return _LargestOfDraws.apply(precise, count, temperature, _keys(streams), chunk)


def _keys(streams: Streams) -> Tensor:
    """Return a key an example for the noise of one call; the streams move on by one."""
    keys = streams.fork(mix_seed(_LABEL, streams.draws)).keys
    streams.draws += 1
    return keys


class _Race:
    """The relaxed draws of one example, not normalised: a chunk of them at a time, in memory that is used again.

    Args:
        logits: shape (pixels,).
        count: number of draws.
        temperature: T.
        key: of the noise.
        chunk: how many numbers to hold.
    """

    def __init__(self, logits: Tensor, count: int, temperature: float, key: Tensor, chunk: int) -> None:
        self.temperature = temperature
        pairs = (len(logits) + 1) // 2  # one hash makes the noise of two pixels
        columns, rows = torch.arange(pairs, device=key.device), torch.arange(count, device=key.device)
        indices = torch.cat([2 * columns, 2 * rows + 1])
        self.columns, self.rows = Streams(key.expand(len(indices))).fork(indices).keys.split([pairs, count])
        size = max(1, min(count, chunk // (2 * pairs)))
        self.parts = [slice(first, min(first + size, count)) for first in range(0, count, size)]
        self.bits, self.shifted = (torch.empty(size, pairs, dtype=torch.int64, device=key.device) for _ in range(2))
        self.values = logits.new_empty(size, 2 * pairs)
        self.places = torch.arange(size, dtype=logits.dtype, device=key.device)[:, None]
        scaled = (logits - logits.max()) / temperature
        self.scaled = torch.nn.functional.pad(scaled, (0, 2 * pairs - len(logits)), value=-torch.inf)
        self.negated = -self.scaled.exp()

    def clocks(self, part: slice) -> Tensor:
        """Return -E, minus standard exponential numbers, for a chunk of draws: shape (draws, pixels or one more)."""
        rows = self.rows[part]
        z, shifted, values = self.bits[: len(rows)], self.shifted[: len(rows)], self.values[: len(rows)]
        torch.add(rows[:, None], self.columns, out=z)
        for shift, factor in ((30, _MIX_1), (27, _MIX_2)):  # splitmix64; the shifts keep the sign, which costs a bit
            torch.bitwise_right_shift(z, shift, out=shifted)
            z.bitwise_xor_(shifted).mul_(factor)
        torch.bitwise_right_shift(z, 31, out=shifted)
        z.bitwise_xor_(shifted).bitwise_and_(_POSITIVE)
        return values.copy_(z.view(torch.int32)).mul_(-_UNIT).sub_(0.5 * _UNIT).log1p_()

    def log_draws(self, part: slice) -> Tensor:
        """Return (l + G) / T of a chunk of draws, up to a constant."""
        return self.clocks(part).neg_().log_().div_(-self.temperature).add_(self.scaled)


def _draws(race: _Race, part: slice) -> tuple[Tensor, Tensor]:
    """Return a chunk of draws, and the normaliser of each: the sum at T = 1, the logarithm of the sum otherwise."""
    if race.temperature == 1:
        clocks = race.clocks(part)
        draws = torch.div(race.negated, clocks, out=clocks)
        total = draws.sum(-1)
        return draws.mul_(total.reciprocal()[:, None]), total
    logs = race.log_draws(part)
    top = logs.amax(-1)
    draws = logs.sub_(top[:, None]).exp_()
    total = draws.sum(-1)
    return draws.mul_(total.reciprocal()[:, None]), top.add_(total.log_())


def _mixture(race: _Race, part: slice, normalisers: Tensor, weights: Tensor) -> Tensor:
    """Return sum_m weights_m u^m over a chunk of draws, whose normalisers are known."""
    if race.temperature == 1:
        weights = weights[part] / normalisers[part]
        return (weights @ race.clocks(part).reciprocal_()).mul_(race.negated)
    return weights[part] @ race.log_draws(part).sub_(normalisers[part, None]).exp_()


class _Largest(NamedTuple):
    """Of one example: the largest draw of each pixel, which one it is, and the normalisers of the draws."""

    z: Tensor
    winners: Tensor
    normalisers: Tensor


def _largest(race: _Race) -> _Largest:
    """Run over all draws."""
    z = torch.zeros_like(race.scaled)
    winners = torch.zeros(len(z), dtype=torch.int64, device=z.device)
    normalisers = z.new_empty(len(race.rows))
    for part in race.parts:
        draws, normalisers[part] = _draws(race, part)
        best = draws.amax(0)
        columns = (best > z).nonzero()[:, 0]
        z = torch.maximum(z, best)
        hits = draws.index_select(1, columns).eq_(best[columns])  # 0 or 1, in the type of the draws: fastest
        winners[columns] = hits.mul_(race.places[: len(hits)]).amax(0).long() + part.start
    return _Largest(z, winners, normalisers)


class _LargestOfDraws(torch.autograd.Function):
    """The function of the module's first lines, with its gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, count: int, temperature: float, keys: Tensor, chunk: int) -> Tensor:
        found = [_largest(_Race(row, count, temperature, key, chunk)) for row, key in zip(logits, keys, strict=True)]
        z, winners, normalisers = (torch.stack(part) for part in zip(*found, strict=True))
        ctx.save_for_backward(logits, keys, z, winners, normalisers)
        ctx.settings = (count, temperature, chunk)
        return z[:, : logits.shape[1]]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        logits, keys, z, winners, normalisers = ctx.saved_tensors
        count, temperature, chunk = ctx.settings
        pixels = logits.shape[1]
        own = gradients[0] * z[:, :pixels]
        weights = torch.zeros_like(normalisers).scatter_add_(1, winners[:, :pixels], own)
        result = torch.empty_like(logits)
        with torch.autocast(logits.device.type, enabled=False):
            for i, (row, key) in enumerate(zip(logits, keys, strict=True)):
                race = _Race(row, count, temperature, key, chunk)
                shared = torch.zeros_like(race.scaled)
                for part in race.parts:
                    shared += _mixture(race, part, normalisers[i], weights[i])
                result[i] = (own[i] - shared[:pixels]) / temperature
        return result, None, None, None, None


def _stacked(logits: Tensor, count: int, temperature: float, keys: Tensor) -> Tensor:
    """Return z as the plain stack of all draws with the same noise: what the streaming is compared with."""
    gumbel = []
    for row, key in zip(logits.detach(), keys, strict=True):
        race = _Race(row, count, temperature, key, chunk=count * (len(row) + 1))
        gumbel.append(-(-race.clocks(race.parts[0])[:, : len(row)]).log())
    return ((logits[:, None] + torch.stack(gumbel)) / temperature).softmax(-1).amax(1)
