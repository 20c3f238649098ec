"""FixMatch: the sure label of a weakly augmented image is taught on its strongly augmented view.

    L = CE(f(x_l), y) + weight * [max softmax f(weak) >= threshold] CE(f(strong), argmax f(weak))

Sohn et al. 2020, Eqs. 3 and 4. The mean is over all unlabelled images, kept or not; the weak view gives constants;
there is no ramp. The paper evaluates a moving average of the weights (0.999), which is kept. Departure: none in the
loss; the authors' code interleaves the images of its one pass, which matters to batch statistics per device alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from aureole.core.checks import check_share
from aureole.core.method import Batch, Terms
from aureole.semisup.base import SemiSupervised
from aureole.semisup.passes import BatchNorm
from aureole.semisup.pseudo_label import confident_cross_entropy


@dataclass(frozen=True, kw_only=True)
class FixMatch(SemiSupervised):
    """Pseudo-labels from weak augmentation for strong augmentation.

    Attributes:
        weight: of the unlabelled cross-entropy.
        threshold: the least probability that a label must have, in [0, 1].
        batch_norm: ``"together"`` as the authors' code.

    Example:
        >>> from aureole.core.method import Unlabelled
        >>> from aureole.semisup import FixMatch
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> views = Unlabelled((torch.rand(8, 1, 2, 2), torch.rand(8, 1, 2, 2)))
        >>> list(FixMatch().loss(model, Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]), unlabelled=views)))
        ['labelled', 'unlabelled']
    """

    title: ClassVar[str] = "FixMatch"
    views: ClassVar[tuple[str, ...]] = ("weak", "strong")

    batch_norm: BatchNorm = "together"
    ema_decay: float | None = 0.999
    threshold: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("threshold", self.threshold)

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the cross-entropy of the labels, and that of the sure pseudo-labels."""
        weak, strong = self._views(model, batch)
        passes = self._passes(model, batch, targets=[weak], trained=[strong])
        values = confident_cross_entropy(passes.trained[0], passes.targets[0], self.threshold)
        return self._terms(batch, passes.labelled, values)
