"""Rankings of the pixels of an attack that need no network: what a learned map must beat."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aureole.core.model import predict, searched
from aureole.core.random import Streams


def by_size(
    x: Float[Tensor, "batch channels height width"], x_source: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, "batch height width"]:
    """Return the Euclidean length of each pixel's perturbation.

    Example:
        >>> from aureole.refine.rankings import by_size
        >>> by_size(torch.zeros(1, 2, 1, 1), torch.tensor([3.0, 4.0]).view(1, 2, 1, 1))
        tensor([[[5.]]])
    """
    return (x_source - x).norm(dim=1)


def by_gradient(
    victim: nn.Module,
    x: Float[Tensor, "batch channels height width"],
    x_source: Float[Tensor, "batch channels height width"],
    y: Int[Tensor, " batch"],
    *,
    num_points: int = 1,
) -> Float[Tensor, "batch height width"]:
    """Return how much each pixel's perturbation pushes the victim from the label to what the attack made of it.

        score = sum over channels of (x_source - x) * mean over points of grad (logit_source - logit_y)

    The gradient is taken at ``num_points`` points, each in the middle of an equal part of the way from the image to the
    attack's (one: half way; many: integrated gradients). Where the attack failed, the strongest wrong class counts.

    Args:
        victim: maps images to logits; frozen meanwhile.
        x: images.
        x_source: images of the attack.
        y: labels.
        num_points: gradients to average, at least 1.

    Example:
        >>> from aureole.refine.rankings import by_gradient
        >>> victim = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> x, x_source = torch.rand(1, 1, 2, 2), torch.rand(1, 1, 2, 2)
        >>> score = by_gradient(victim, x, x_source, torch.tensor([0]))
        >>> weight = victim[1].weight[1] - victim[1].weight[0]
        >>> torch.allclose(score.flatten(), weight * (x_source - x).flatten(), atol=1e-6)
        True
    """
    with searched(victim, x) as images:
        wrong = predict(victim, x_source).scatter(1, y[:, None], -torch.inf).argmax(-1)
        total = torch.zeros_like(images)
        for point in range(num_points):
            share = (point + 0.5) / num_points
            with torch.enable_grad():
                here = images.lerp(x_source, share).detach().requires_grad_()
                logits = predict(victim, here)
                ahead = logits.gather(1, wrong[:, None]) - logits.gather(1, y[:, None])
                total += torch.autograd.grad(ahead.sum(), here)[0]
    return (total * (x_source - x)).sum(1) / num_points


def at_random(x: Float[Tensor, "batch channels height width"], streams: Streams) -> Float[Tensor, "batch height width"]:
    """Return uniform numbers.

    Example:
        >>> from aureole.refine.rankings import at_random
        >>> at_random(torch.zeros(2, 3, 4, 4), Streams.of(0, torch.arange(2))).shape
        torch.Size([2, 4, 4])
    """
    return streams.uniform((len(x), *x.shape[2:]))
