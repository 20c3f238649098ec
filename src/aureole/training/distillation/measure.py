"""How near the decision boundaries of a student and its teacher are."""

from __future__ import annotations

import math

import torch
from torch import nn

from aureole.core.random import Streams
from aureole.core.records import BoundaryRow
from aureole.data.streamed import ImageSet
from aureole.distill import compare_boundaries


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
