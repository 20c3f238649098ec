"""How alike the decision boundaries of two networks are, by what takes an image across each of them.

    MagSim = mean_i min(|v_i|, |w_i|) / max(|v_i|, |w_i|),    AngSim = mean_i <v_i, w_i> / (|v_i| |w_i|)

with v_i and w_i the changes that take image i across the one and the other boundary, towards the same class. Heo et al.
2019, section 5.3; thesis section 7.4.4, which says that both lie in [0, 1]: AngSim is a cosine, and may be negative. A
change of length zero has no direction, and counts 0 in both.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aureole.core.errors import InputError

Changes = Float[Tensor, "batch *event"]


def magnitude_similarities(first: Changes, second: Changes) -> Float[Tensor, " batch"]:
    """Return the shorter length by the longer for each pair of changes, in [0, 1], in float32 or better.

    Example:
        >>> from aureole.metrics.boundary import magnitude_similarities
        >>> magnitude_similarities(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 1.0]]))
        tensor([0.2000])
    """
    one, other = _flat(first, second)
    largest = torch.maximum(_largest(one), _largest(other))  # taken out first, so that no square underflows
    lengths = torch.stack([torch.linalg.vector_norm(v / largest, dim=1) for v in (one, other)])
    return lengths.amin(0) / lengths.amax(0).clamp_min(torch.finfo(lengths.dtype).tiny)


def angle_similarities(first: Changes, second: Changes) -> Float[Tensor, " batch"]:
    """Return the cosine between each pair of changes, in [-1, 1], in float32 or better.

    Example:
        >>> from aureole.metrics.boundary import angle_similarities
        >>> angle_similarities(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 1.0]]))
        tensor([0.8000])
    """
    one, other = (_unit(v) for v in _flat(first, second))
    return (one * other).sum(1).clamp(-1, 1)


def magnitude_similarity(
    first: Changes, second: Changes, mask: Bool[Tensor, " batch"] | None = None
) -> Float[Tensor, ""]:
    """Return MagSim: the mean of :func:`magnitude_similarities`.

    Args:
        first: what takes each image across the boundary of one network, x_adv - x.
        second: what takes it across that of the other.
        mask: the images that count; None for all. NaN where none does.

    Raises:
        InputError: the two have different shapes.

    Example:
        >>> from aureole.metrics.boundary import magnitude_similarity
        >>> magnitude_similarity(torch.tensor([[2.0], [1.0]]), torch.tensor([[4.0], [-1.0]]))
        tensor(0.7500)
    """
    return _mean(magnitude_similarities(first, second), mask)


def angle_similarity(first: Changes, second: Changes, mask: Bool[Tensor, " batch"] | None = None) -> Float[Tensor, ""]:
    """Return AngSim: the mean of :func:`angle_similarities`; arguments as in :func:`magnitude_similarity`.

    Example:
        >>> from aureole.metrics.boundary import angle_similarity
        >>> first, second = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 5.0]])
        >>> angle_similarity(first, second), angle_similarity(first, second, torch.tensor([True, False]))
        (tensor(0.5000), tensor(1.))
    """
    return _mean(angle_similarities(first, second), mask)


def _flat(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    if first.shape != second.shape:
        raise InputError(f"expected two changes of each image; got shapes {tuple(first.shape)}, {tuple(second.shape)}")
    dtype = torch.promote_types(first.dtype, torch.float32)
    return first.flatten(1).to(dtype), second.flatten(1).to(dtype)


def _largest(v: Tensor) -> Tensor:
    largest = v.abs().amax(1, keepdim=True)
    return torch.where(largest > 0, largest, 1)


def _unit(v: Tensor) -> Tensor:
    scaled = v / _largest(v)
    return scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True).clamp_min(1)


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    return values.mean() if mask is None else values[mask].mean()
