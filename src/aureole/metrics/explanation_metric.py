"""Figures of an explanation as ``torchmetrics.Metric``, for loops and loggers that take such metrics."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric

from aureole.core.errors import InputError
from aureole.metrics.explanation import Maps, Masks, PostHoc, confusion_counts, iou_at_top


class PostHocAgreement(Metric):
    """Post-hoc figures of a student over batches and processes; see :func:`aureole.metrics.post_hoc`.

    Args:
        num_classes: of the teacher, at least 2.
        positive: the class that counts as positive; None for the mean over classes.

    Raises:
        InputError: there is no such class.

    Example:
        >>> from aureole.metrics import PostHocAgreement
        >>> metric = PostHocAgreement(2)
        >>> metric.update(torch.tensor([1, 1]), torch.tensor([1, 0]))
        >>> metric.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
        >>> {name: round(float(value), 3) for name, value in metric.compute().items()}
        {'accuracy': 0.75, 'precision': 0.667, 'recall': 1.0, 'f1': 0.8}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    counts: Tensor

    def __init__(self, num_classes: int, positive: int | None = 1) -> None:
        super().__init__()
        if num_classes < 2 or not 0 <= (positive or 0) < num_classes:
            raise InputError(
                f"expected num_classes of at least 2, and positive below it or None; got {num_classes} and {positive}"
            )
        self.num_classes, self.positive = num_classes, positive
        zeros = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("counts", default=zeros, dist_reduce_fx="sum")

    def update(self, student: Int[Tensor, " batch"], teacher: Int[Tensor, " batch"]) -> None:
        """Add the classes that both give to one batch."""
        self.counts += confusion_counts(student, teacher, self.num_classes)

    def compute(self) -> dict[str, Float[Tensor, ""]]:
        """Return ``accuracy``, ``precision``, ``recall`` and ``f1`` over all images so far."""
        found = PostHoc.of(self.counts, self.positive)
        names = ("accuracy", "precision", "recall", "f1")
        return {name: torch.tensor(getattr(found, name), device=self.counts.device) for name in names}


class TopIoU(Metric):
    """Mean IoU of the top K pixels over batches and processes, the standard one and the thesis's.

    Args:
        count: K in pixels; None for the size of each image's own mask.

    Example:
        >>> from aureole.metrics import TopIoU
        >>> metric = TopIoU(2)
        >>> metric.update(torch.tensor([[[0.1, 0.9, 0.5]]]), torch.tensor([[[False, True, False]]]))
        >>> {name: float(value) for name, value in metric.compute().items()}
        {'iou': 0.5, 'thesis_iou': 1.0}

    Source: thesis Eq. 4.14.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    summed: Tensor
    total: Tensor

    def __init__(self, count: int | None = None) -> None:
        super().__init__()
        self.count = count
        self.add_state("summed", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("total", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, maps: Maps, masks: Masks) -> None:
        """Add the images of one batch; see :func:`aureole.metrics.iou_at_top`."""
        self.summed += iou_at_top(maps, masks, self.count).sum()
        self.total += len(maps)

    def compute(self) -> dict[str, Float[Tensor, ""]]:
        """Return the means over all images so far: ``iou``, and twice that, ``thesis_iou``; NaN where there is none."""
        mean = self.summed / self.total
        return {"iou": mean, "thesis_iou": 2 * mean}
