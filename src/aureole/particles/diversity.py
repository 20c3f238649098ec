"""How different the particles of one image are: what figure 5.2 of the thesis measures, and what it leaves open."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aureole.core.model import frozen, predict
from aureole.core.objectives import Objective
from aureole.particles.kernels import squared_distances

Points = Float[Tensor, "num_particles batch *event"]


def _mean_over_pairs(matrix: Float[Tensor, "batch n n"]) -> Float[Tensor, " batch"]:
    n = matrix.shape[-1]
    off = matrix.sum((-1, -2)) - matrix.diagonal(dim1=1, dim2=2).sum(-1)
    return off / max(n * (n - 1), 1)


def pairwise_squared_distance(x_adv: Points) -> Float[Tensor, " batch"]:
    """Return the mean over pairs of |x_i - x_j|^2: the thesis's SSE, read as a mean so that it can be compared over n.

    Example:
        >>> pairwise_squared_distance(torch.tensor([[[0.0, 0.0]], [[3.0, 4.0]]]))
        tensor([25.])
    """
    return _mean_over_pairs(squared_distances(x_adv.flatten(2).transpose(0, 1)))


def pairwise_cosine(x_adv: Points, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
    """Return the mean over pairs of the cosine between the perturbations; zero for one particle.

    Example:
        >>> pairwise_cosine(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]), torch.zeros(1, 2))
        tensor([0.])
    """
    unit = nn.functional.normalize((x_adv - x).flatten(2).transpose(0, 1), dim=-1)
    return _mean_over_pairs(unit @ unit.mT)


def distinct_wrong_labels(
    predictions: Int[Tensor, "num_particles batch"], labels: Int[Tensor, " batch"]
) -> Int[Tensor, " batch"]:
    """Return how many different wrong classes the particles of each image reach.

    Example:
        >>> distinct_wrong_labels(torch.tensor([[1, 0], [2, 0], [1, 0]]), torch.tensor([0, 0]))
        tensor([2, 0])
    """
    ordered = predictions.sort(dim=0).values
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return (first & (ordered != labels)).sum(0)


@dataclass(frozen=True)
class Diversity:
    """How strong and how different the particles of each image are.

    Attributes:
        objective: value of the objective at each particle, shape (num_particles, batch).
        predictions: predicted class of each particle, shape (num_particles, batch).
        squared_distance: mean over pairs of |x_i - x_j|^2, shape (batch,).
        cosine: mean over pairs of the cosine between perturbations, shape (batch,).
        distinct_wrong_labels: number of different wrong classes reached, shape (batch,).
    """

    objective: Float[Tensor, "num_particles batch"]
    predictions: Int[Tensor, "num_particles batch"]
    squared_distance: Float[Tensor, " batch"]
    cosine: Float[Tensor, " batch"]
    distinct_wrong_labels: Int[Tensor, " batch"]


@torch.no_grad()
def diversity(
    model: nn.Module,
    x_adv: Points,
    x: Float[Tensor, "batch *event"],
    y: Int[Tensor, " batch"],
    objective: Objective,
) -> Diversity:
    """Measure the particles of each image with one more forward pass.

    Args:
        model: maps images to logits; in evaluation mode here, and left as it was.
        x_adv: particles, shape (num_particles, batch, *event).
        x: clean images.
        y: labels.
        objective: what the particles were to maximise.

    Returns:
        One value an image, or a particle of an image.

    Source:
        Thesis section 5.5.1 and figure 5.2; cosine and labels are ours.
    """
    n = len(x_adv)
    with frozen(model):
        logits = predict(model, x_adv.flatten(0, 1))
        clean = predict(model, x).repeat(n, 1) if objective.needs_clean else None
    predictions = logits.argmax(-1).view(n, -1)
    return Diversity(
        objective=objective(logits, clean, y.repeat(n)).view(n, -1),
        predictions=predictions,
        squared_distance=pairwise_squared_distance(x_adv),
        cosine=pairwise_cosine(x_adv, x),
        distinct_wrong_labels=distinct_wrong_labels(predictions, y),
    )
