"""Mean Teacher: the student agrees with the moving average of its weights on noisy images.

    l = mean over unlabelled positions and classes of (softmax f(x) - softmax f'(x + noise))^2
    noise = clamp(0.1 N(0, 1), -0.2, 0.2),    theta' <- a theta' + (1 - a) theta,    a = min(decay, 1 - 1 / (t + 1))

The teacher never gets a gradient, and runs in the student's mode, with dropout of its own. Its batch normalisations use
the statistics of its own noisy batch; in the published code their running ones follow those batches, here they are the
student's (``ema_buffers``). Nothing reads them but an evaluation of the teacher, and what is judged is the student.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from aureole.core import checks
from aureole.core.errors import InputError
from aureole.core.model import quiet
from aureole.core.random import Streams
from aureole.segment.base import Segmentation, Step


@dataclass(frozen=True, kw_only=True)
class Taught(Segmentation):
    """A method with a teacher: the moving average of the network, ``modules["ema"]``.

    Attributes:
        ema_decay: of the teacher, in [0, 1).
        noise: standard deviation of what is added to the teacher's images, cut off at twice that.
    """

    ema_decay: float | None = 0.99
    noise: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.check_weight("noise", self.noise)
        if self.ema_decay is None:
            raise InputError(f"{self.title} needs its teacher: ema_decay must be a number in [0, 1); got None")

    def _teach(
        self, step: Step, x: Float[Tensor, "rows channels *spatial"], streams: Streams
    ) -> Float[Tensor, "rows classes *spatial"]:
        """Return the teacher's logits on noisy images, in the student's mode."""
        teacher = self._ema(step.modules).model
        for mine, theirs in zip(teacher.modules(), step.model.modules(), strict=True):
            mine.training = theirs.training
        noise = (self.noise * streams.normal(tuple(x.shape))).clamp(-2 * self.noise, 2 * self.noise)
        return quiet(teacher, x + noise.to(x.dtype), positions=True)

    def _streams(self, step: Step) -> Streams:
        """Return a stream for each unlabelled image."""
        return Streams(step.streams.keys[step.num_labelled :]).fork(0)


@dataclass(frozen=True, kw_only=True)
class MeanTeacher(Taught):
    """Consistency between a student and its moving average.

    Example:
        >>> from aureole.data.scans import ScanBatch
        >>> from aureole.models.segmentation import UNetSegmenter
        >>> from aureole.segment import MeanTeacher
        >>> model, method = UNetSegmenter(num_classes=3, width=4), MeanTeacher()
        >>> y = torch.zeros(2, 32, 32, dtype=torch.int64)
        >>> x_u = Unlabelled((torch.rand(3, 1, 32, 32),))
        >>> batch = ScanBatch(torch.rand(2, 1, 32, 32), y, epoch=0, unlabelled=x_u)
        >>> list(method.loss(model, batch, method.own(model, batch.x)))
        ['labelled', 'consistency']

    Source: Tarvainen and Valpola 2017, as in SSL4MIS.
    """

    title: ClassVar[str] = "Mean Teacher"

    def _terms(self, step: Step) -> dict[str, Tensor]:
        student = step.outputs.logits[step.num_labelled :].softmax(1)
        teacher = self._teach(step, step.unlabelled, self._streams(step)).softmax(1)
        return {"consistency": (student - teacher).square().mean()}
