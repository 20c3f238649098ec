"""What a detector looks at (thesis 3.4.1): the density of the last hidden layer, and the entropy of the other classes.

The bandwidth of the density is a number or one of two rules. ``"nearest"`` is the one to use: in the many dimensions of
a hidden layer, the bandwidth of the largest leave-one-out likelihood (Feinman et al. search it by cross-validation) is
so small that the nearest point makes the density, and then it is the root mean square distance of nearest neighbours
over the root of the number of features. The usual ``"median"`` of all distances is much wider, and sees little more
than the distance from the mean of the class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Classes = Sequence[Float[Tensor, "_ features"]]
Rule = Literal["nearest", "median"]

#: Feinman et al.'s bandwidths, found by cross-validation for their own networks.
MNIST_BANDWIDTH = 1.2
CIFAR_BANDWIDTH = 0.26

_CHUNK = 2**22  # distances held at a time


def non_maximal_entropy(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, " batch"]:
    """Return the entropy of the probabilities without the largest one, normalised; in nats, from 0 to log(classes - 1).

    -sum_{i != y^} q_i log q_i,  q_i = p_i / sum_{j != y^} p_j,  y^ = argmax p

    It is exact also where the probabilities underflow: the largest logit is masked, and not its probability.

    Returns:
        One number an image, in float64.

    Example:
        >>> import torch
        >>> from aureole.refine.density import non_maximal_entropy
        >>> non_maximal_entropy(torch.tensor([[900.0, 1.0, 1.0]]))
        tensor([0.6931], dtype=torch.float64)

    Source: Pang et al. 2018.
    """
    logits = logits.double()
    others = logits.scatter(1, logits.argmax(1, keepdim=True), -math.inf)
    return torch.special.entr(others.softmax(1)).sum(1)


def log_density(
    points: Float[Tensor, "batch features"], reference: Float[Tensor, "n features"], bandwidth: float
) -> Float[Tensor, " batch"]:
    """Return the log of a Gaussian kernel density at some points, in bounded memory.

    log 1/n sum_j (2 pi h^2)^(-d/2) exp(-|z - z_j|^2 / (2 h^2))

    Args:
        points: where the density is wanted, in d dimensions.
        reference: the points that make it.
        bandwidth: h, positive.

    Returns:
        One number a point, in float64.

    Example:
        >>> import torch
        >>> from aureole.refine.density import log_density
        >>> log_density(torch.zeros(1, 2), torch.zeros(3, 2), 1.0)
        tensor([-1.8379], dtype=torch.float64)

    Source: Feinman et al. 2017.
    """
    constant = math.log(len(reference)) + points.shape[1] * math.log(bandwidth * math.sqrt(2 * math.pi))
    rows = max(1, _CHUNK // len(reference))
    exponents = (_squared_distances(part, reference) / (-2 * bandwidth**2) for part in points.split(rows))
    return torch.cat([part.logsumexp(1) for part in exponents]) - constant


def nearest_bandwidth(classes: Classes) -> float:
    """Return the root mean square distance to the nearest other point of the class, over the root of the dimension.

    h^2 = mean_i min_{j != i} |z_i - z_j|^2 / d

    Args:
        classes: the points of each class, shape (points, d); classes of fewer than two points do not count.

    Returns:
        The bandwidth; NaN where no class has two points.

    Example:
        >>> import torch
        >>> from aureole.refine.density import nearest_bandwidth
        >>> nearest_bandwidth([torch.tensor([[0.0], [2.0]]), torch.tensor([[7.0], [9.0]])])
        2.0
    """
    nearest = [_between(points).fill_diagonal_(math.inf).amin(1) for points in classes if len(points) > 1]
    return math.sqrt(float(torch.cat(nearest).mean()) / classes[0].shape[1]) if nearest else math.nan


def median_bandwidth(classes: Classes) -> float:
    """Return the median distance of two points of a class, averaged over the classes; arguments as for the other rule.

    Example:
        >>> import torch
        >>> from aureole.refine.density import median_bandwidth
        >>> median_bandwidth([torch.tensor([[0.0], [3.0]]), torch.tensor([[0.0], [1.0]])])
        2.0
    """
    medians = [_off_diagonal(_between(points)).median().sqrt() for points in classes if len(points) > 1]
    return float(torch.stack(medians).mean()) if medians else math.nan


def _squared_distances(points: Tensor, reference: Tensor) -> Tensor:
    """Return |z_i - z_j|^2 in float64, by a product of the centred points."""
    centre = reference.double().mean(0)
    points, reference = points.double() - centre, reference.double() - centre
    square = points.square().sum(1)[:, None] + reference.square().sum(1)
    return torch.addmm(square, points, reference.mT, alpha=-2).clamp_min_(0)


def _between(points: Tensor) -> Tensor:
    return _squared_distances(points, points)


def _off_diagonal(square: Tensor) -> Tensor:
    rows, columns = torch.triu_indices(len(square), len(square), offset=1)
    return square[rows, columns]


#: Each rule for the bandwidth by name.
RULES: dict[str, Callable[[Classes], float]] = {"nearest": nearest_bandwidth, "median": median_bandwidth}
