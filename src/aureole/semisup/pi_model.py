"""Pi-model: two looks at the same image, each through its own augmentation and dropout, are to agree.

    L = CE(f(x_l), y) + weight * ramp(epoch) * mean_k (softmax f(x_u) - softmax f(x_u'))^2

Laine and Aila 2017, Algorithm 1. The weight grows to 100 over 80 epochs: the paper's is 100 M / N for M labels among N
images, but its cross-entropy is a sum over the labelled images of a batch divided by the size of the whole batch, M / N
of the mean here, so that the share cancels. Departures: the second look is a constant, as in most later codes (in the
paper both are trained, which doubles the gradient of the difference); and the difference is taken on unlabelled images
alone (in the paper on all): let the loader draw labelled ones among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from aureole.core.method import Batch, Terms
from aureole.core.objectives import Objective, SquaredDifference
from aureole.core.ramps import Ramp, Sigmoid
from aureole.semisup.base import SemiSupervised, check_compares
from aureole.semisup.passes import BatchNorm


@dataclass(frozen=True, kw_only=True)
class PiModel(SemiSupervised):
    """Consistency between two noisy passes of one model.

    Attributes:
        objective: compares the two predictions.
        weight: of the comparison.
        batch_norm: ``"together"`` as the authors' code.

    Example:
        >>> from aureole.core.method import Unlabelled
        >>> from aureole.semisup import PiModel
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> views = Unlabelled((torch.rand(8, 1, 2, 2), torch.rand(8, 1, 2, 2)))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]), epoch=0, unlabelled=views)
        >>> list(PiModel().loss(model, batch))
        ['labelled', 'unlabelled']
    """

    title: ClassVar[str] = "Pi-model"
    views: ClassVar[tuple[str, ...]] = ("weak", "weak")

    objective: Objective = SquaredDifference()
    weight: float = 100.0
    ramp: Ramp = Sigmoid(80.0)
    batch_norm: BatchNorm = "together"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_compares(self.title, self.objective)

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the cross-entropy and the difference between the two looks."""
        first, second = self._views(model, batch)
        passes = self._passes(model, batch, targets=[second], trained=[first])
        return self._terms(batch, passes.labelled, self.objective(passes.trained[0], passes.targets[0]))
