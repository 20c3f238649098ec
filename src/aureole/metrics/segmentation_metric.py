"""Dice, Jaccard, 95HD and ASD as a ``torchmetrics.Metric``, for loops and loggers that take such metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torchmetrics import Metric

from aureole.core.errors import InputError, unknown_name
from aureole.metrics.segmentation import FIGURES, EmptyRule, class_scores


class SegmentationMetric(Metric):
    """Figures of :func:`aureole.metrics.segmentation.class_scores` over batches and processes.

    Each class is averaged over the scans, and then the classes are averaged, as in the published tables. NaN of the
    rule ``"skip"`` is left out of both.

    Args:
        num_classes: with the background, at least 2.
        empty: what counts where a class is empty; see :data:`aureole.metrics.segmentation.EmptyRule`.

    Raises:
        InputError: there are too few classes, or there is no such rule.

    Example:
        >>> from aureole.metrics.segmentation_metric import SegmentationMetric
        >>> metric = SegmentationMetric(3)
        >>> metric.update(torch.tensor([[[0, 1, 1, 2]]]), torch.tensor([[[0, 1, 1, 2]]]))
        >>> metric.update(torch.tensor([[[0, 1, 1, 0]]]), torch.tensor([[[0, 1, 1, 2]]]))
        >>> values = metric.compute()
        >>> [float(values[name]) for name in ("dice", "dice_1", "dice_2", "empty_predictions")]
        [0.75, 1.0, 0.5, 1.0]
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    empty: EmptyRule
    sums: Tensor
    known: Tensor
    empty_predictions: Tensor
    empty_truths: Tensor
    total: Tensor
    spaced: Tensor

    def __init__(self, num_classes: int, empty: EmptyRule = "ssl4mis") -> None:
        super().__init__()
        if num_classes < 2:
            raise InputError(f"num_classes must be at least 2, with the background; got {num_classes}")
        if empty not in get_args(EmptyRule):
            raise unknown_name("rule for empty masks", str(empty), get_args(EmptyRule))
        self.num_classes, self.empty = num_classes, empty
        classes = num_classes - 1
        self.add_state("sums", torch.zeros(classes, len(FIGURES), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("known", torch.zeros(classes, len(FIGURES), dtype=torch.int64), dist_reduce_fx="sum")
        for name in ("empty_predictions", "empty_truths"):
            self.add_state(name, torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")
        for name in ("total", "spaced"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self,
        prediction: Integer[Tensor, "batch *spatial"],
        truth: Integer[Tensor, "batch *spatial"],
        spacing: Sequence[float] | None = None,
    ) -> None:
        """Add a batch of scans, or of slices; the spacing in mm, one an axis, holds for all of them."""
        if len(prediction) != len(truth):
            raise InputError(f"expected as many predictions as truths; got {len(prediction)} and {len(truth)}")
        scans = [
            class_scores(one, true, self.num_classes, spacing, empty=self.empty)
            for one, true in zip(prediction, truth, strict=True)
        ]
        for scan in scans:
            rows = [[getattr(score, name) for name in FIGURES] for score in scan.values()]
            values = torch.tensor([[torch.nan if v is None else v for v in row] for row in rows], dtype=torch.float64)
            self.sums += values.nan_to_num(0.0).to(self.sums.device)
            self.known += values.isfinite().to(self.known.device)
            for name in ("empty_predictions", "empty_truths"):
                counts = torch.tensor([getattr(score, f"num_{name}") for score in scan.values()])
                setattr(self, name, getattr(self, name) + counts.to(self.sums.device))
        self.total += len(scans)
        self.spaced += 0 if spacing is None else len(scans)

    def compute(self) -> dict[str, Float[Tensor, ""]]:
        """Return the means: ``dice``, and ``dice_1`` for class 1 and so on, and the numbers of empty masks.

        ``hd95_mm`` and ``asd_mm`` are there where every scan came with a spacing.
        """
        by_class = self.sums / self.known  # 0 / 0, where no scan has the figure, is NaN
        means = by_class.nanmean(0)
        names = FIGURES if int(self.spaced) == int(self.total) else FIGURES[:4]
        values = {}
        for place, name in enumerate(names):
            values[name] = means[place]
            values.update({f"{name}_{c + 1}": by_class[c, place] for c in range(self.num_classes - 1)})
        for name in ("empty_predictions", "empty_truths"):
            values[name] = getattr(self, name).sum().double()
        return values
