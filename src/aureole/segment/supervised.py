"""Learning from the labelled scans alone: what every other method is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aureole.segment.base import Segmentation


@dataclass(frozen=True, kw_only=True)
class Supervised(Segmentation):
    """Soft Dice on labelled images; unlabelled ones are not looked at.

    Example:
        >>> from aureole.data.scans import ScanBatch
        >>> from aureole.models.segmentation import UNetSegmenter
        >>> from aureole.segment import Supervised
        >>> batch = ScanBatch(torch.rand(2, 1, 32, 32), torch.zeros(2, 32, 32, dtype=torch.int64))
        >>> list(Supervised().loss(UNetSegmenter(num_classes=3, width=4), batch))
        ['labelled']

    Source: "U-Net" and "V-Net" of thesis Tables 6.1 and 6.2.
    """

    title: ClassVar[str] = "Supervised"
    uses_unlabelled: ClassVar[bool] = False
