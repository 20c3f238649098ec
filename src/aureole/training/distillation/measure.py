"""What became of a student and its teacher: accuracy, size, time, and how near their decision boundaries are."""

from __future__ import annotations

import math
import time
from statistics import median

import torch
from torch import nn

from aureole.core.model import frozen, predict
from aureole.core.random import Streams
from aureole.core.records import BoundaryRow, NetworkRow
from aureole.data.streamed import ImageSet
from aureole.distill import compare_boundaries

_BATCH = 250
_TIMED = 30  # passes of one image, after a few that warm the network up


@torch.no_grad()
def describe(network: nn.Module, images: ImageSet, *, role: str, name: str) -> NetworkRow:
    """Return size, time and accuracy of a network.

    Args:
        network: maps images to logits.
        images: test images, at least one.
        role: what it is in the run.
        name: of the network.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with frozen(network):
        parts = torch.arange(len(images)).split(_BATCH)
        hits = [(_predicted(network, images, part, device) == images.labels[part]).sum() for part in parts]
        seconds = _passes(network, images.batch(torch.zeros(1, dtype=torch.int64)).float().div(255).to(device))
    stored = [*network.parameters(), *network.buffers()]
    return NetworkRow(
        role=role,
        name=name,
        num_parameters=sum(p.numel() for p in network.parameters()),
        megabytes=sum(value.numel() * value.element_size() for value in stored) / 1e6,
        milliseconds=1000 * seconds,
        num_examples=len(images),
        num_correct=int(torch.stack(hits).sum()),
    )


def _predicted(network: nn.Module, images: ImageSet, part: torch.Tensor, device: torch.device) -> torch.Tensor:
    return predict(network, images.batch(part).float().div(255).to(device)).argmax(-1).cpu()


def _passes(network: nn.Module, x: torch.Tensor) -> float:
    """Return the median time of a pass."""
    taken = []
    for _ in range(_TIMED + 5):
        clock = time.perf_counter()
        predict(network, x).sum().item()  # waits for the device
        taken.append(time.perf_counter() - clock)
    return median(taken[5:])


def boundary(student: nn.Module, teacher: nn.Module, images: ImageSet, *, seed: int) -> BoundaryRow:
    """Return MagSim and AngSim on some images.

    Args:
        student: maps images to logits.
        teacher: the same, on the same device.
        images: test images.
        seed: of the classes that the attacks go to.
    """
    device = next((p.device for p in student.parameters()), torch.device("cpu"))
    place = torch.arange(len(images))
    x, y = images.batch(place).float().div(255).to(device), images.labels.to(device)
    found = compare_boundaries(student, teacher, x, y, generator=Streams.of(seed, place))
    return BoundaryRow(
        magnitude=_known(found.magnitude),
        angle=_known(found.angle),
        student_fooled=_known(found.student_fooled),
        teacher_fooled=_known(found.teacher_fooled),
        num_images=found.num_images,
        num_attacked=found.num_attacked,
        num_compared=found.num_attacked - found.num_skipped,
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
