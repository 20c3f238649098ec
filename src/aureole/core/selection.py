"""Which pixels of an attack are kept: relaxed masks to learn with, and hard masks to attack with (thesis 3.3.3).

A map of logits l gives every pixel the probability p = softmax(l). The thesis keeps the pixels that M draws from p pick
at least once. Three relaxations of that, all differentiable to the logits:

    Concrete    z_i = max_m softmax((l + G^m) / T)_i, M draws with Gumbel noise (the thesis)    O(M x pixels)
    Marginal    q_i = 1 - (1 - p_i)^M, the probability that a pixel is picked                   O(pixels)
    Threshold   z_i = sigmoid((l_i + G_i - t) / T), with t such that the mask sums to M         O(pixels)

M draws pick fewer than M different pixels: about 1 - exp(-M / pixels) of them where the map is flat. :func:`top_pixels`
keeps exactly the M largest.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aureole.core.errors import InputError
from aureole.core.random import Streams
from aureole.core.streaming import largest_of_draws

_HALVINGS = 60


def num_pixels(share: float, height: int, width: int) -> int:
    """Return M = ceil(share * height * width), where 0.3 of 1000 pixels is 300 whatever the rounding of 0.3.

    Args:
        share: share of the pixels, in (0, 1].
        height: rows of the image.
        width: columns of the image.

    Returns:
        The number of pixels, at least 1.

    Raises:
        InputError: the share is outside (0, 1].

    Example:
        >>> num_pixels(0.3, 28, 28), num_pixels(0.3, 10, 100)
        (236, 300)

    Source: thesis 3.3.3.
    """
    if not 0 < share <= 1:
        raise InputError(f"the share of pixels must be in (0, 1]; got {share}")
    return max(1, math.ceil(round(share * height * width, 6)))


def top_pixels(scores: Float[Tensor, "batch h w"], count: int) -> Bool[Tensor, "batch h w"]:
    """Return the mask of the ``count`` pixels of the highest scores, the first in reading order where scores are equal.

    Args:
        scores: a finite score for each pixel.
        count: how many pixels to keep, from 1 to all.

    Returns:
        A mask with exactly ``count`` pixels set in each image.

    Raises:
        InputError: the count is out of range, or a score is not finite.

    Example:
        >>> import torch
        >>> top_pixels(torch.tensor([[[0.0, 2.0], [2.0, 2.0]]]), 2)
        tensor([[[False,  True],
                 [ True, False]]])
    """
    _check(scores, count)
    flat = scores.detach().flatten(1)
    least = flat.topk(count, sorted=False).values.amin(-1, keepdim=True)
    above, equal = flat > least, flat == least
    room = count - above.sum(-1, keepdim=True)
    return (above | (equal & (equal.cumsum(-1) <= room))).view_as(scores)


def drawn_pixels(logits: Float[Tensor, "batch h w"], count: int, streams: Streams) -> Bool[Tensor, "batch h w"]:
    """Return the mask of the pixels that ``count`` independent draws from softmax(logits) pick at least once.

    Args:
        logits: the map; softmax runs over all pixels of an image.
        count: number of draws M, from 1 to the number of pixels.
        streams: one stream an example; every stream moves on by two.

    Returns:
        A mask with from 1 to ``count`` pixels set in each image.

    Raises:
        InputError: the count is out of range, or a logit is not finite.

    Example:
        >>> import torch
        >>> from aureole.core.random import Streams
        >>> mask = drawn_pixels(torch.zeros(1, 28, 28), 236, Streams.of(seed=0, indices=torch.arange(1)))
        >>> 180 < int(mask.sum()) < 236
        True

    Source: thesis Eq. 3.5.
    """
    _check(logits, count)
    edges = logits.detach().flatten(1).double().softmax(-1).cumsum(-1)
    shape = (len(logits), count)
    unit = streams.uniform(shape).double() + streams.uniform(shape).double() * 2.0**-24  # 48 bits: one pixel of many
    picked = torch.searchsorted(edges, unit * edges[:, -1:], right=True).clamp_(max=edges.shape[1] - 1)
    return torch.zeros_like(edges, dtype=torch.bool).scatter_(1, picked, True).view_as(logits)


def _check(logits: Tensor, count: int) -> None:
    pixels = logits[0].numel() if len(logits) else logits.shape[-1] * logits.shape[-2]
    if not 1 <= count <= pixels:
        raise InputError(f"the number of pixels to select must be from 1 to {pixels}; got {count}")
    if not bool(logits.isfinite().all()):
        wrong = int((~logits.isfinite()).sum())
        raise InputError(f"the map must be finite; {wrong} of {logits.numel()} values are NaN or infinite")


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise InputError(f"the temperature must be positive and finite; got {temperature}")


def _precise(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _hardened(z: Tensor, scores: Tensor, count: int) -> Tensor:
    """Return the hard mask of the highest scores, with the gradient of ``z``."""
    return top_pixels(scores, count).to(z.dtype) + (z - z.detach())


@dataclass(frozen=True, kw_only=True)
class Selection(ABC):
    """A relaxed mask of about M pixels that a map of logits decides."""

    @abstractmethod
    def __call__(self, logits: Float[Tensor, "batch h w"], count: int, streams: Streams) -> Float[Tensor, "batch h w"]:
        """Return the mask.

        Args:
            logits: the map of each image; finite.
            count: how many pixels to select, M, from 1 to all.
            streams: one random stream an example.

        Returns:
            z in [0, 1] in float32 or better, differentiable (once) to the logits.

        Raises:
            InputError: the count is out of range, or a logit is not finite.
        """


@dataclass(frozen=True, kw_only=True)
class Concrete(Selection):
    """The largest of M relaxed categorical draws: the thesis's own mask.

    At T = 1 the mask is faint until the map is peaked: on a flat map of 784 pixels its mean is 0.106 at M = 236.

    Args:
        temperature: T; the thesis takes 1.

    Example:
        >>> import torch
        >>> from aureole.core.random import Streams
        >>> z = Concrete()(torch.zeros(1, 28, 28), 236, Streams.of(seed=0, indices=torch.arange(1)))
        >>> z.shape, bool(z.max() < 1)
        (torch.Size([1, 28, 28]), True)

    Source: thesis Eqs. 3.6 to 3.8.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check_temperature(self.temperature)

    def __call__(self, logits: Float[Tensor, "batch h w"], count: int, streams: Streams) -> Float[Tensor, "batch h w"]:
        _check(logits, count)
        return largest_of_draws(logits.flatten(1), count, self.temperature, streams).view(logits.shape)


@dataclass(frozen=True, kw_only=True)
class Marginal(Selection):
    """The probability that M draws pick a pixel, q = 1 - (1 - p)^M with p = softmax(logits); without noise.

    Args:
        straight_through: give the hard mask of the M highest logits, with the gradient of q.

    Example:
        >>> import torch
        >>> from aureole.core.random import Streams
        >>> streams = Streams.of(seed=0, indices=torch.arange(1))
        >>> Marginal(straight_through=False)(torch.zeros(1, 2, 2), 2, streams)[0, 0, 0]  # 1 - (3 / 4)^2
        tensor(0.4375)
    """

    straight_through: bool = True

    def __call__(self, logits: Float[Tensor, "batch h w"], count: int, streams: Streams) -> Float[Tensor, "batch h w"]:
        _check(logits, count)
        p = _precise(logits).flatten(1).softmax(-1)
        p = p.clamp(max=1 - torch.finfo(p.dtype).eps)
        q = -torch.expm1(count * torch.log1p(-p)).view(logits.shape)
        return _hardened(q, logits, count) if self.straight_through else q


@dataclass(frozen=True, kw_only=True)
class Threshold(Selection):
    """A sigmoid around a threshold t for each image, z = sigmoid((l + G - t) / T), whose sum is M.

    The threshold follows the logits: dz_i / dl_j = s_i (1[i = j] - s_j / sum_k s_k) with s = z (1 - z) / T, so the sum
    stays M. With Gumbel noise G, the M highest of l + G are M draws without replacement.

    Args:
        temperature: T; the smaller, the harder the mask.
        noise: add Gumbel noise.
        straight_through: give the hard mask of the M highest l + G, with the gradient of z.

    Example:
        >>> import torch
        >>> from aureole.core.random import Streams
        >>> z = Threshold()(torch.zeros(1, 28, 28), 236, Streams.of(seed=0, indices=torch.arange(1)))
        >>> round(float(z.sum()), 2)
        236.0

    Source: the entropy-regularised top-M of Xie et al. 2020; Gumbel top-M of Kool et al. 2019.
    """

    temperature: float = 0.1
    noise: bool = True
    straight_through: bool = False

    def __post_init__(self) -> None:
        _check_temperature(self.temperature)

    def __call__(self, logits: Float[Tensor, "batch h w"], count: int, streams: Streams) -> Float[Tensor, "batch h w"]:
        _check(logits, count)
        scores = _precise(logits)
        if self.noise:
            scores = scores + _gumbel(tuple(logits.shape), streams).to(scores.dtype)
        z = _summing_to(scores.flatten(1), count, self.temperature).view(logits.shape)
        return _hardened(z, scores, count) if self.straight_through else z


def _gumbel(shape: tuple[int, ...], streams: Streams) -> Tensor:
    inside = streams.uniform(shape).double() + 2.0**-25  # strictly inside (0, 1)
    return -(-inside.log()).log()


def _summing_to(scores: Tensor, count: int, temperature: float) -> Tensor:
    """Return sigmoid((scores - t) / temperature), shape (batch, pixels), with the t of each row that sums to count."""
    exact = scores.detach().double() / temperature
    exact -= exact.amax(-1, keepdim=True)
    pixels = exact.shape[1]
    target = min(count, pixels - 0.1)  # all pixels would need t at minus infinity
    shift = math.log(target / (pixels - target))  # at score - shift, a pixel is the share target / pixels
    low, high = exact.amin(-1, keepdim=True) - shift, exact.amax(-1, keepdim=True) - shift
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = (exact - middle).sigmoid().sum(-1, keepdim=True) > target
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    z = (exact - high).sigmoid()
    slope = z * (1 - z)
    share = slope / slope.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    change = (scores - scores.detach()) / temperature  # zero, with the gradient of the scores
    moved = change - (share.to(scores.dtype) * change).sum(-1, keepdim=True)
    return z.to(scores.dtype) + slope.to(scores.dtype) * moved
