"""CornerSearch: rank all changes of one pixel by the model's answers, then try random sets of the best ones.

1. Every pixel to every corner of its box, 2^channels of them: where one fools the model, it is done.
2. For each class c, the changes in the order of z_y - z_c; for all together, in the order of z_y - max_c z_c.
3. For k = 1 + increment, ... max_pixels, and for each order: ``num_samples`` times k of the ``num_best`` first changes,
   drawn with a chance that falls linearly with the rank; the first set that fools the model is the answer.

Croce and Hein 2019, Algorithm 1 and section 3; thesis section 3.4.2. It asks for logits alone, no gradients. With
``kappa`` a pixel has two changes instead, along the map sigma of how much its neighbourhood varies: x (1 +- kappa
sigma) in colour, which changes the intensity alone, and x +- kappa sigma for one channel. The authors' code departs
from that: its second change starts from the first one (so that x + kappa sigma is x itself), and in step 3 colours
change by +- kappa sigma; it also stops one pixel early. We take the paper's formulas throughout.

The scores are streamed: of each order only the best changes are kept, so that memory does not grow with the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aureole.attacks.fields import check_counts, check_numbers
from aureole.attacks.sparse.box import SparseAttack
from aureole.core.errors import InputError
from aureole.core.model import predict
from aureole.core.random import Streams

_MAX_CHANNELS = 8


def sigma_map(x: Float[Tensor, "*many height width"]) -> Float[Tensor, "*many height width"]:
    """Return how much the neighbourhood of each pixel varies, for each channel.

    It is the square root of the lesser standard deviation of the pixel with its two neighbours in its row, and with
    those in its column; images go on beyond the border with their last value (Croce and Hein 2019, section 2.3).

    Example:
        >>> flat, edge = torch.zeros(4, 4), torch.eye(4)
        >>> sigma_map(flat).amax(), sigma_map(edge)[1, 1] == (2 / 9) ** 0.25
        (tensor(0.), tensor(True))
    """
    rows = torch.cat([x[..., :1, :], x, x[..., -1:, :]], -2)
    columns = torch.cat([x[..., :1], x, x[..., -1:]], -1)
    down = torch.stack([rows[..., :-2, :], x, rows[..., 2:, :]]).std(0, correction=0)
    across = torch.stack([columns[..., :-2], x, columns[..., 2:]]).std(0, correction=0)
    return torch.minimum(down, across).sqrt()


@dataclass(frozen=True, kw_only=True)
class CornerSearch(SparseAttack):
    """Few pixels by ranking and sampling (Croce and Hein 2019).

    The thesis takes ``max_pixels=0.7`` (ceil(0.7 H W) pixels) with ``kappa=1.5`` on MNIST and 1.0 on CIFAR-10.

    Attributes:
        ball: the box whose corners are tried: ``Linf(1.0)`` for any change ("L0"), ``Linf(radius)`` for those of
            x +- radius ("L0 + Linf").
        max_pixels: the limit: an integer is a number of pixels, a fraction in (0, 1] a share, rounded up.
        kappa: change along the map sigma, by so much ("L0 + sigma"); None for corners.
        num_samples: sets tried for each number of pixels and each order.
        num_best: changes of each order that sets are drawn from.
        increment: by how much the number of pixels grows.
        num_candidates: classes with an order of their own, the likeliest ones; None for all.
        max_batch: most images in one pass through the model. The random draws do not depend on it.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> x = torch.rand(2, 1, 4, 4)
        >>> x_adv = CornerSearch(max_pixels=3, num_samples=20)(model, x)
        >>> bool(((x_adv != x).flatten(1).sum(1) <= 3).all())
        True
    """

    max_pixels: int | float = 10
    kappa: float | None = None
    num_samples: int = 1000
    num_best: int = 100
    increment: int = 1
    num_candidates: int | None = None
    max_batch: int | None = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, num_samples=1, num_best=1, increment=1, num_candidates=1)
        check_numbers(self, "max_pixels", *(() if self.kappa is None else ("kappa",)))
        if isinstance(self.max_pixels, float) and self.max_pixels > 1:
            raise InputError(f"max_pixels is an integer, or a share of the pixels up to 1.0; got {self.max_pixels}")

    def _minimize(self, model: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        if x.ndim != 4 or (self.kappa is None and x.shape[1] > _MAX_CHANNELS):
            raise InputError(
                f"CornerSearch needs images (batch, channels, height, width) with at most {_MAX_CHANNELS} channels,"
                f" or any number with kappa; got {tuple(x.shape)}"
            )
        x_adv = x.clone()
        for i in range(len(x)):
            one = slice(i, i + 1)
            found = _Search(self, model, x[one], int(y[i])).run(streams.select(one))
            if found is not None:
                x_adv[i] = found
        return x_adv

    def changes(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "changes batch *event"]:
        """Return the values that each pixel may take: one image for each kind of change, all pixels changed."""
        low, high = self._box(x)
        channels = x.shape[1]
        if self.kappa is None:
            corners = torch.arange(2**channels, device=x.device)
            bits = (corners[:, None] >> torch.arange(channels, device=x.device)).bitwise_and(1).bool()
            return torch.where(bits[:, None, :, None, None], high, low)
        width = self.kappa * sigma_map(x) * (x if channels > 1 else 1)
        return torch.stack([x - width, x + width]).clamp(low, high)


class _Search:
    """The search on one image. Change number i is kind i % kinds of pixel i // kinds."""

    def __init__(self, attack: CornerSearch, model: nn.Module, x: Tensor, y: int) -> None:
        self.attack, self.model, self.y, self.shape = attack, model, y, x.shape[1:]
        self.values = torch.cat([x, attack.changes(x)[:, 0]]).flatten(2)  # kind 0 of these is no change
        self.kinds, self.num_pixels = len(self.values) - 1, self.values.shape[2]
        clean = predict(model, x)[0]
        likeliest = clean.argsort(descending=True, stable=True)
        self.classes = likeliest[likeliest != y][: attack.num_candidates]

    def run(self, streams: Streams) -> Tensor | None:
        """Return the first image found that fools the model, or None."""
        total = self.kinds * self.num_pixels
        scores = self.values.new_zeros(len(self.classes) + 1, 0)
        orders = scores, torch.zeros_like(scores, dtype=torch.int64)
        for picks in torch.arange(total, device=self.values.device).split(self.attack.max_batch or total):
            found, logits = self._try(picks[:, None])
            if found is not None:
                return found
            orders = self._merge(orders, logits, picks)
        for picks in self._sets(orders[1], streams):
            found, _ = self._try(picks)
            if found is not None:
                return found
        return None

    def _try(self, picks: Tensor) -> tuple[Tensor | None, Tensor]:
        """Make the changes of each row of ``picks``: return the first image that fools the model, and the logits."""
        images = self._paint(picks)
        logits = predict(self.model, images)
        fooled = logits.argmax(-1) != self.y
        return (images[fooled][0] if bool(fooled.any()) else None), logits

    def _paint(self, picks: Tensor) -> Tensor:
        """Return the image with each row's changes; of two changes of a pixel, the later wins."""
        pixel, kind = picks // self.kinds, picks % self.kinds + 1
        base = self.kinds + 1
        stamp = torch.arange(picks.shape[1], device=picks.device) * base + kind
        layer = picks.new_zeros(len(picks), self.num_pixels).scatter_reduce_(1, pixel, stamp, "amax") % base
        return self.values.gather(0, layer[:, None].expand(-1, self.shape[0], -1)).view(-1, *self.shape)

    def _merge(self, orders: tuple[Tensor, Tensor], logits: Tensor, picks: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best scores and changes of each order, from those so far and these."""
        gaps = logits[:, self.y, None] - logits
        gaps[:, self.y] = torch.inf
        scores = torch.cat([gaps.amin(1, keepdim=True), gaps[:, self.classes]], 1).T
        scores = torch.cat([orders[0], scores], 1)
        changes = torch.cat([orders[1], picks.expand(len(scores), -1)], 1)
        scores, at = scores.sort(dim=1, stable=True)
        best = slice(self.attack.num_best)
        return scores[:, best], changes.gather(1, at[:, best])

    def _sets(self, orders: Tensor, streams: Streams) -> Iterator[Tensor]:
        """Yield random sets of changes, smaller sets first, in portions for one pass: shape (sets, changes)."""
        attack, length = self.attack, orders.shape[1]
        limit = attack.max_pixels
        limit = math.ceil(limit * self.num_pixels) if isinstance(limit, float) else limit
        for count in range(1 + attack.increment, limit + 1, attack.increment):
            for order in orders:
                share = streams.uniform((1, attack.num_samples, count))[0].sqrt()
                rank = (length - 1 - (length * share).long()).clamp_min(0)
                yield from order[rank].split(attack.max_batch or len(rank))
