"""What tests of methods share: batches of scans, and a network whose outputs are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from aureole.core.method import Unlabelled
from aureole.core.random import Streams
from aureole.data.scans import ScanBatch
from aureole.models.segmentation import Segmenter, SegmenterOutputs


class Given(Segmenter):
    """A network whose outputs are its parameters, whatever it sees."""

    def __init__(self, logits: Tensor, others: Sequence[Tensor] = (), distances: Tensor | None = None) -> None:
        nn.Module.__init__(self)
        self.logits = nn.Parameter(logits)
        self.others = nn.ParameterList(others)
        self.distances = None if distances is None else nn.Parameter(distances)
        self.seen: list[Tensor] = []

    def outputs(self, x: Tensor) -> SegmenterOutputs:
        self.seen.append(x)
        return SegmenterOutputs(self.logits, self.logits, tuple(self.others), self.distances)

    def forward(self, x: Tensor) -> Tensor:
        return self.outputs(x).logits


def _scans(
    labelled: int = 1,
    unlabelled: int = 1,
    size: tuple[int, ...] = (16, 16),
    *,
    num_classes: int = 3,
    dtype: torch.dtype = torch.float32,
    epoch: int = 0,
    seed: int = 0,
) -> ScanBatch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand((labelled + unlabelled, 1, *size), generator=generator, dtype=dtype)
    y = torch.randint(0, num_classes, (labelled, *size), generator=generator)
    streams = [Streams.of(s, torch.arange(n)) for s, n in ((1, labelled), (2, unlabelled))]
    other = Unlabelled((x[labelled:],), streams=streams[1]) if unlabelled else None
    return ScanBatch(x[:labelled], y, epoch=epoch, streams=streams[0], unlabelled=other)


@pytest.fixture
def given() -> type[Given]:
    return Given


@pytest.fixture
def scans() -> Callable[..., ScanBatch]:
    return _scans
