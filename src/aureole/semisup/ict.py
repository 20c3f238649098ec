"""ICT: the prediction between two images is to lie between the teacher's predictions of them.

    x_mix = lambda x_i + (1 - lambda) x_j,    target = lambda softmax f'(x_i) + (1 - lambda) softmax f'(x_j)
    L = CE(f(x_l), y) + weight * ramp(epoch) * mean_k (softmax f(x_mix) - target)^2

with j a permutation of the unlabelled batch, one lambda ~ Beta(alpha, alpha) a batch, and f' the moving average of f.
Verma et al. 2019, Eq. 1 and Algorithm 1 (100, Beta(1, 1) and a ramp over 100 epochs on CIFAR-10). Departure: the
labelled loss is the paper's plain cross-entropy; the authors' code mixes labelled images too. The teacher is as in
:mod:`aureole.semisup.mean_teacher`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from aureole.core.checks import check_positive
from aureole.core.method import Batch, Terms
from aureole.core.ramps import Ramp, Sigmoid
from aureole.semisup.base import as_logits, unlabelled_streams
from aureole.semisup.mean_teacher import Taught
from aureole.semisup.mixup import one_mixing
from aureole.semisup.passes import BatchNorm


@dataclass(frozen=True, kw_only=True)
class ICT(Taught):
    """Interpolation consistency training.

    Attributes:
        weight: of the comparison.
        alpha: of the Beta distribution; positive.
        batch_norm: ``"separate"`` as the authors' code.

    Example:
        >>> from aureole.core.method import Unlabelled
        >>> from aureole.semisup import ICT
        >>> model, method = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), ICT()
        >>> x_u = Unlabelled((torch.rand(8, 1, 2, 2),))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]), epoch=0, unlabelled=x_u)
        >>> list(method.loss(model, batch, method.own(model, batch.x)))
        ['labelled', 'unlabelled']
    """

    title: ClassVar[str] = "ICT"

    weight: float = 100.0
    ramp: Ramp = Sigmoid(100.0)
    batch_norm: BatchNorm = "separate"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("alpha", self.alpha)

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the cross-entropy, and the difference from the interpolated prediction of the teacher."""
        (x,) = self._views(model, batch)
        mixing = one_mixing(self.alpha, unlabelled_streams(batch), 1)
        target = mixing(self._teach(model, modules, x).softmax(-1))
        passes = self._passes(model, batch, trained=[mixing(x)])
        return self._terms(batch, passes.labelled, self.objective(passes.trained[0], as_logits(target)))
