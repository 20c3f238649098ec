"""Random orders and class-balanced choices that depend on a seed alone, on any device and with any torch."""

from __future__ import annotations

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from aureole.core.random import Streams


def permutation(count: int, seed: int) -> Int64[Tensor, " count"]:
    """Return the numbers 0 to count - 1 in a random order: sorted by a 64-bit hash of seed and number.

    Example:
        >>> sorted(permutation(4, seed=0).tolist())
        [0, 1, 2, 3]
    """
    return Streams.of(seed, torch.arange(count)).keys.argsort(stable=True)


def stratified(
    labels: Int64[Tensor, " n"], count: int, seed: int
) -> tuple[Int64[Tensor, " count"], Int64[Tensor, " rest"]]:
    """Choose ``count`` examples at random so that every class has its share, to within one example.

    In a random order, the r-th of the n_c examples of class c gets the key (r + 1/2) / n_c; the smallest keys win.

    Args:
        labels: class of each example.
        count: how many to choose, from 0 to n.
        seed: of the choice.

    Returns:
        The chosen indices and the others, each in ascending order.

    Example:
        >>> chosen, rest = stratified(torch.tensor([0, 0, 0, 0, 1, 1]), 3, seed=0)
        >>> (chosen < 4).sum().item(), len(rest)
        (2, 3)
    """
    order, rank, counts = _ranks(labels, seed)
    return _smallest(count, (rank + 0.5) / counts[labels].double(), order)


def balanced(
    labels: Int64[Tensor, " n"], count: int, seed: int
) -> tuple[Int64[Tensor, " count"], Int64[Tensor, " rest"]]:
    """Choose ``count`` examples at random, equally many of every class, to within one.

    In a random order, the r-th example of its class gets the key r; the smallest keys win. So a smaller choice with the
    same seed is a part of a larger one, and a class that has too few examples gives all that it has.

    Args:
        labels: class of each example.
        count: how many to choose, from 0 to n.
        seed: of the choice.

    Returns:
        The chosen indices and the others, each in ascending order.

    Example:
        >>> chosen, rest = balanced(torch.tensor([0, 0, 0, 0, 1, 1]), 4, seed=0)
        >>> (chosen < 4).sum().item(), len(rest)
        (2, 2)
    """
    order, rank, _ = _ranks(labels, seed)
    return _smallest(count, rank, order)


def _smallest(
    count: int, keys: Shaped[Tensor, " n"], order: Int64[Tensor, " n"]
) -> tuple[Int64[Tensor, " count"], Int64[Tensor, " rest"]]:
    """Return the examples with the smallest keys, the first in ``order`` among equal ones, and the others; sorted."""
    ranked = order[keys[order].argsort(stable=True)]
    return ranked[:count].sort().values, ranked[count:].sort().values


def _ranks(
    labels: Int64[Tensor, " n"], seed: int
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"], Int64[Tensor, " classes"]]:
    """Return a random order, the place of each example in that order among its class, and the size of each class."""
    order = permutation(len(labels), seed)
    by_class = order[labels[order].argsort(stable=True)]
    counts = labels.bincount()
    starts = counts.cumsum(0) - counts
    rank = torch.empty_like(labels)
    rank[by_class] = torch.arange(len(labels)) - starts[labels[by_class]]
    return order, rank, counts
