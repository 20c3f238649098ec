"""An explanation as a run: a student that learns from a teacher, and maps of the pixels that matter to both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from torch import nn

from aureole.core.errors import InputError
from aureole.data import ImageSet
from aureole.explain import MEDTEX, Attribution, ExplainedModel, OwnMap
from aureole.training.config import Evaluation, Training
from aureole.training.explanation.measure import agreement, judge_maps, write_maps
from aureole.training.optimizers import Adam
from aureole.training.teaching import Teaching

#: The settings of thesis 4.4.3, but for the number of epochs, which it does not state.
LEARNER = Training(
    method=MEDTEX(),
    model=ExplainedModel(),
    optimizer=Adam(),
    epochs=50,
    batch_size=64,
    evaluation=Evaluation(attacks=()),
)


@dataclass(frozen=True, kw_only=True)
class Explained(Teaching):
    """Learn a small student that repeats a teacher, and judge the maps that say which pixels matter.

    Attributes:
        student: the run that trains the student; its method learns from a teacher, and its network explains itself, or
            is any classifier that attributions explain.
        attributions: what maps the pixels, by the name in the report; the first one is drawn. None of them makes a run
            that judges the student alone.
        patches: K of the overlap with masks, as multiples of a 64th of the image: of a patch in a grid of 8 x 8, which
            are the thesis's 1,024 pixels where an image has 256 x 256.
        num_curves: the first so many test images of insertion and deletion; 0 leaves them out.
        num_pictures: test images whose maps are kept for the report.
    """

    student: Annotated[Training, tyro.conf.arg(name="")] = LEARNER
    attributions: Annotated[Mapping[str, Attribution], tyro.conf.Suppress] = field(
        default_factory=lambda: {"own map": OwnMap()}
    )
    patches: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    num_curves: int = 50
    num_pictures: int = 8

    def __post_init__(self) -> None:
        if not all(1 <= k <= 64 for k in self.patches):
            raise InputError(f"patches must be from 1 to 64, of a grid of 8 x 8; got {self.patches}")
        for name in ("num_curves", "num_pictures"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be at least 0 images; got {getattr(self, name)}")

    def measured(self, student: nn.Module, teacher: nn.Module, images: ImageSet, folder: Path) -> dict[str, Any]:
        """Return how well the student repeats its teacher, and what the maps are worth."""
        plan = self.student.evaluation
        rows = [
            judge_maps(name, attribution, student, teacher, images, self.patches, self.num_curves)
            for name, attribution in self.attributions.items()
        ]
        if self.attributions and self.num_pictures:
            write_maps(self.attributions, student, teacher, images, self.num_pictures, folder / "maps.npz")
        return {"agreement": [agreement(student, teacher, images, plan.batch_size)], "explanations": rows}
