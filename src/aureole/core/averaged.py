"""A method that may keep a moving average of the model: a teacher, or what is judged in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.ema import EMA, Buffers, check_decay
from aureole.core.errors import InputError, unknown_name
from aureole.core.method import Batch, Method
from aureole.core.model import frozen, predict


@dataclass(frozen=True, kw_only=True)
class Averaged(Method):
    """A method that may keep a moving average of the model beside it.

    Attributes:
        views: what the method wants of the unlabelled images: ``"plain"`` (as they are), ``"weak"`` or ``"strong"``
            (augmented), in this order.
        ema_decay: of the moving average, in [0, 1); None keeps none. The average is ``modules["ema"]``, and what a run
            stores and judges.
        ema_buffers: whether the average copies the model's running statistics, or averages them too.
    """

    ema_decay: float | None = None
    ema_buffers: Buffers = "copy"

    def __post_init__(self) -> None:
        if self.ema_decay is not None:
            check_decay(self.ema_decay)
        if self.ema_buffers not in get_args(Buffers):
            raise unknown_name("ema_buffers", str(self.ema_buffers), get_args(Buffers))

    def own(self, model: nn.Module, x: Float[Tensor, "batch *event"]) -> nn.Module | None:
        """Return the parts by name in a ``ModuleDict``; None where there are none."""
        parts = self._parts(model, x)
        return nn.ModuleDict(parts) if parts else None

    def own_optimizer(self, modules: nn.Module) -> torch.optim.Optimizer | None:
        """Return None: an average and a memory are not trained."""
        return None

    def after_step(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> None:
        """Move the average on."""
        if self.ema_decay is not None:
            self._ema(modules).update(model)

    def judge(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> dict[str, Tensor]:
        """Return the accuracy, and that of the average where there is one."""
        measures = super().judge(model, batch, modules)
        if self.ema_decay is not None:
            average = self._ema(modules).model
            with torch.no_grad(), frozen(average):
                measures["ema_accuracy"] = (predict(average, batch.x).argmax(-1) == batch.y).float()
        return measures

    def trained(self, model: nn.Module, modules: nn.Module | None = None) -> nn.Module:
        """Return the average, which is what the papers judge, where there is one; otherwise the model."""
        return model if self.ema_decay is None else self._ema(modules).model

    def _parts(self, model: nn.Module, x: Tensor) -> dict[str, nn.Module]:
        return {} if self.ema_decay is None else {"ema": EMA(model, self.ema_decay, buffers=self.ema_buffers)}

    def _part(self, name: str, modules: nn.Module | None) -> nn.Module:
        if not isinstance(modules, nn.ModuleDict) or name not in modules:
            raise InputError(
                f"{self.title} keeps parts beside the model: pass what own(model, x) returned as `modules`"
            )
        return modules[name]

    def _ema(self, modules: nn.Module | None) -> EMA:
        part = self._part("ema", modules)
        assert isinstance(part, EMA)
        return part
