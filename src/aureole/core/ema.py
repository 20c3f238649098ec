"""An exponential moving average of a model: the teacher of Mean Teacher, and a steadier model to deploy.

    average <- a average + (1 - a) model,    a = min(decay, 1 - 1 / (t + 1)) at the t-th update from 0

The first update copies the model, and until the decay is reached the average is the plain mean of what it has seen.
"""

from __future__ import annotations

import copy
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from aureole.core.errors import InputError, unknown_name

Buffers = Literal["copy", "average"]


class EMA(nn.Module):
    """A copy of a model that follows it slowly; never trained, and stored with its count of updates.

    Args:
        model: any module; it is copied, and may go on to change.
        decay: share that the average keeps at an update, in [0, 1).
        buffers: ``"copy"`` takes the model's running statistics as they are, ``"average"`` averages them like the
            parameters. Integer buffers are always copied.
        warm_up: let the decay grow as 1 - 1 / (t + 1); otherwise it is the same from the first update on.

    Raises:
        InputError: the decay is out of range, or the name of ``buffers`` is unknown.

    Example:
        >>> from aureole.core.ema import EMA
        >>> model = nn.Linear(1, 1, bias=False)
        >>> average = EMA(model, 0.9, warm_up=False)
        >>> before = model.weight.item()
        >>> with torch.no_grad():
        ...     _ = model.weight.add_(1.0)
        >>> average.update(model)
        >>> round(average.model.weight.item() - before, 4)
        0.1

    Source: Tarvainen and Valpola 2017, Eq. 2.
    """

    steps: Tensor

    def __init__(
        self, model: nn.Module, decay: float = 0.999, *, buffers: Buffers = "copy", warm_up: bool = True
    ) -> None:
        super().__init__()
        check_decay(decay)
        if buffers not in get_args(Buffers):
            raise unknown_name("treatment of buffers", str(buffers), get_args(Buffers))
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay, self.buffers_by, self.warm_up = decay, buffers, warm_up
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model, which has the same layers."""
        keep: float | Tensor = self.decay
        if self.warm_up:
            keep = (1 - 1 / (self.steps + 1)).clamp_max(self.decay)
        for mine, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            _follow(mine, theirs, keep)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            if self.buffers_by == "average" and mine.is_floating_point():
                _follow(mine, theirs, keep)
            else:
                mine.copy_(theirs)
        self.steps += 1

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the averaged model returns."""
        return self.model(*args, **kwargs)


def check_decay(decay: float | int) -> None:
    """Check the share that an average keeps at each update.

    Raises:
        InputError: it is not in [0, 1).
    """
    if not 0 <= decay < 1:
        raise InputError(f"the decay of a moving average must be in [0, 1); got {decay}")


def _follow(mine: Tensor, theirs: Tensor, keep: float | Tensor) -> None:
    mine.lerp_(theirs.detach().to(mine.dtype), (1 - keep).to(mine) if isinstance(keep, Tensor) else 1 - keep)
