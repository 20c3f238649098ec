"""Runs of segmentation that take a moment: drawn scans of 24 voxels, small networks, 2 epochs of 3 steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from aureole.core.records import Record
from aureole.data.scans import Phantoms, ScanData
from aureole.models.segmentation import SegmenterConfig
from aureole.segment.base import Segmentation
from aureole.segment.cross_ald import RandomMixup
from aureole.segment.vat import VAT
from aureole.training.config import Engine
from aureole.training.optimizers import SGD
from aureole.training.segmentation import Segmenting, run_segmenting

PHANTOMS = Phantoms(num_train=4, num_validation=1, num_test=2, size=24)


@dataclass(frozen=True, kw_only=True)
class Alone(Segmentation):
    """Labelled images alone."""

    title: ClassVar[str] = "alone"
    uses_unlabelled: ClassVar[bool] = False


FLAT = Segmenting(
    method=VAT(),
    data=ScanData(num_labelled=2, phantoms=PHANTOMS),
    model=SegmenterConfig(name="unet-small"),
    epochs=2,
    steps_per_epoch=3,
    labelled_batch_size=3,
    unlabelled_batch_size=4,
    patch_size=(32, 32),
    num_pictures=3,
    engine=Engine(accelerator="cpu", progress=False),
)
DEEP = replace(
    FLAT,
    method=RandomMixup(),
    data=ScanData(source="phantom-atrium", num_labelled=2, phantoms=PHANTOMS),
    model=SegmenterConfig(name="vnet-small"),
    optimizer=SGD(schedule="iterations", milestones=(2, 4)),
    labelled_batch_size=1,
    unlabelled_batch_size=1,
    patch_size=(16, 16, 16),
    stride=(12, 12, 12),
    keep_best=True,
)
LABELS_ALONE = replace(FLAT, method=Alone(), unlabelled_batch_size=0, epochs=1, num_test_scans=1)


@pytest.fixture(scope="session")
def flat() -> Callable[..., Segmenting]:
    """Return a short 2-D run with some fields changed."""
    return lambda **changes: replace(FLAT, **changes)


@pytest.fixture(scope="session")
def deep() -> Callable[..., Segmenting]:
    """Return a short 3-D run with some fields changed."""
    return lambda **changes: replace(DEEP, **changes)


@pytest.fixture(scope="session")
def labels_alone() -> Callable[..., Segmenting]:
    """Return a shorter 2-D run without unlabelled images, with some fields changed."""
    return lambda **changes: replace(LABELS_ALONE, **changes)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Segmenting, Path, Record]]:
    """Finished runs with their folders and records; not to be changed."""
    home = tmp_path_factory.mktemp("segmenting")
    runs = {"2-D": FLAT, "3-D": DEEP}
    return {name: (run, home / name, run_segmenting(run, home / name, recipe="tests")) for name, run in runs.items()}
