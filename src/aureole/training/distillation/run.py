"""A distillation as a run: a student that learns from a teacher, and how near their decision boundaries are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import nn

from aureole.core.errors import InputError
from aureole.data import ImageSet
from aureole.distill import KD
from aureole.training.config import Training
from aureole.training.distillation.measure import boundary
from aureole.training.teaching import Teaching


@dataclass(frozen=True, kw_only=True)
class Distilling(Teaching):
    """Teach a student what a teacher knows, and compare the two.

    Attributes:
        student: the run that trains the student; its method is a distillation, or any other for the student alone.
        num_boundary: the first so many test images, on which the decision boundaries are compared; 0 leaves that out.
    """

    student: Annotated[Training, tyro.conf.arg(name="")] = Training(method=KD())
    num_boundary: int = 500

    def __post_init__(self) -> None:
        if self.num_boundary < 0:
            raise InputError(f"num_boundary must be at least 0 images; got {self.num_boundary}")

    def measured(self, student: nn.Module, teacher: nn.Module, images: ImageSet, folder: Path) -> dict[str, Any]:
        """Return how near the decision boundaries are."""
        del folder
        if not self.num_boundary:
            return {}
        some = images.subset(torch.arange(min(self.num_boundary, len(images))))
        return {"boundary": [boundary(student, teacher, some, seed=self.student.evaluation.seed)]}
