"""Normalisation as the first layer of a model, so that attacks and their bounds live in pixel space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError


class Normalize(nn.Module):
    r"""Shift and scale every channel: (x - mean) / std.

    Args:
        mean: mean of each channel, in the unit of the pixels ([0, 1]).
        std: standard deviation of each channel, positive.

    Raises:
        InputError: the lengths differ, or a standard deviation is not positive.

    Example:
        >>> Normalize((0.5,), (0.25,))(torch.ones(1, 1, 1, 1))
        tensor([[[[2.]]]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or len(mean) == 0:
            raise InputError(f"mean and std need one number a channel each; got {len(mean)} and {len(std)}")
        if min(std) <= 0:
            raise InputError(f"every std must be positive; got {tuple(std)}")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        """Return the normalised images, in the shape of ``x``."""
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        """Return what ``print(model)`` shows of this layer."""
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"
