"""Likeness of decision boundaries as a ``torchmetrics.Metric``, for loops and loggers that take such metrics."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics import Metric

from aureole.metrics.boundary import angle_similarities, magnitude_similarities


class BoundarySimilarity(Metric):
    """MagSim and AngSim over batches and processes; see :mod:`aureole.metrics.boundary`.

    Example:
        >>> from aureole.metrics.boundary_metric import BoundarySimilarity
        >>> metric = BoundarySimilarity()
        >>> metric.update(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 1.0]]))
        >>> {name: round(float(value), 4) for name, value in metric.compute().items()}
        {'magnitude': 0.2, 'angle': 0.8}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    magnitude: Tensor
    angle: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("magnitude", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("angle", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("total", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self,
        first: Float[Tensor, "batch *event"],
        second: Float[Tensor, "batch *event"],
        mask: Bool[Tensor, " batch"] | None = None,
    ) -> None:
        """Add the changes of one batch; arguments as in :func:`aureole.metrics.boundary.magnitude_similarity`."""
        counted = torch.ones(len(first), dtype=torch.bool, device=first.device) if mask is None else mask
        self.magnitude += magnitude_similarities(first, second)[counted].sum()
        self.angle += angle_similarities(first, second)[counted].sum()
        self.total += counted.sum()

    def compute(self) -> dict[str, Float[Tensor, ""]]:
        """Return the means over all images so far: ``magnitude`` and ``angle``."""
        return {"magnitude": self.magnitude / self.total, "angle": self.angle / self.total}
