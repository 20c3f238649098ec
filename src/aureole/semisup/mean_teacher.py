"""Mean Teacher: a student is to agree with the moving average of its own weights.

    L = CE(f(x_l), y) + weight * ramp(epoch) * mean_k (softmax f(x_u) - softmax f'(x_u'))^2
    theta' <- a theta' + (1 - a) theta,    a = min(decay, 1 - 1 / (t + 1))

with two views of each image, one a model. Tarvainen and Valpola 2017, section 2. The teacher runs in the student's
mode, without a trace in its running statistics, which are the student's (``ema_buffers``); in the authors' PyTorch
code they follow the teacher's own passes. Departure: the difference is taken on unlabelled images alone (theirs, on
all). The teacher is what the paper evaluates, and what a run stores; in validation it is ``ema_accuracy``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.method import Batch, Terms
from aureole.core.model import quiet
from aureole.core.objectives import Objective, SquaredDifference
from aureole.core.ramps import Ramp, Sigmoid
from aureole.semisup.base import SemiSupervised, check_compares
from aureole.semisup.passes import BatchNorm


@dataclass(frozen=True, kw_only=True)
class Taught(SemiSupervised):
    """A method with a teacher: the moving average of the model, ``modules["ema"]``.

    Attributes:
        objective: compares student and teacher.
        ema_decay: of the teacher, in [0, 1).
    """

    objective: Objective = SquaredDifference()
    ema_decay: float | None = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        check_compares(self.title, self.objective)
        if self.ema_decay is None:
            raise InputError(f"{self.title} needs its teacher: ema_decay must be a number in [0, 1); got None")

    def _teach(
        self, model: nn.Module, modules: nn.Module | None, x: Float[Tensor, "rows *event"]
    ) -> Float[Tensor, "rows classes"]:
        """Return the teacher's logits, in the student's mode."""
        teacher = self._ema(modules).model
        for mine, theirs in zip(teacher.modules(), model.modules(), strict=True):
            mine.training = theirs.training
        with torch.no_grad():
            return quiet(teacher, x)


@dataclass(frozen=True, kw_only=True)
class MeanTeacher(Taught):
    """Consistency between a student and its moving average.

    Attributes:
        weight: of the comparison; 100 in the authors' code for CIFAR-10 with a difference that is a mean over classes.
        ramp: over 5 epochs there.
        batch_norm: ``"together"`` as the authors' code.

    Example:
        >>> from aureole.core.method import Unlabelled
        >>> from aureole.semisup import MeanTeacher
        >>> model, method = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), MeanTeacher()
        >>> views = Unlabelled((torch.rand(8, 1, 2, 2), torch.rand(8, 1, 2, 2)))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]), epoch=0, unlabelled=views)
        >>> list(method.loss(model, batch, method.own(model, batch.x)))
        ['labelled', 'unlabelled']
    """

    title: ClassVar[str] = "Mean Teacher"
    views: ClassVar[tuple[str, ...]] = ("weak", "weak")

    weight: float = 100.0
    ramp: Ramp = Sigmoid(5.0)
    batch_norm: BatchNorm = "together"

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the cross-entropy, and the difference between student and teacher."""
        first, second = self._views(model, batch)
        target = self._teach(model, modules, second)
        passes = self._passes(model, batch, trained=[first])
        return self._terms(batch, passes.labelled, self.objective(passes.trained[0], target))
