"""Wide residual networks."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.taps import Taps
from aureole.models.initial import fan_out_convolutions


class WideBlock(nn.Module):
    """A pre-activation block, with a 1x1 convolution without BN as shortcut when the number of channels changes.

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        stride: stride of the first convolution.
        dropout: probability of dropping a value between the convolutions.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut = None
        if in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c2 h2 w2"]:
        """Return the sum of the two branches, before any activation."""
        active = F.relu(self.bn1(x))
        out = self.dropout(F.relu(self.bn2(self.conv1(active))))
        return self.conv2(out) + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """WRN-depth-widen_factor: three stages of pre-activation blocks, final BN and ReLU; takes images of any size.

    Args:
        depth: 6n + 4 for n blocks a stage.
        widen_factor: k; the stages have 16k, 32k and 64k channels.
        num_classes: length of the logits.
        in_channels: channels of an image.
        dropout: probability of dropping a value inside a block.

    Raises:
        InputError: the depth is not 6n + 4.

    Example:
        >>> import torch
        >>> WideResNet(10, 1)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])

    Source: Zagoruyko and Komodakis 2016; 2,255,156 parameters for WRN-40-2 at 100 classes.
    """

    def __init__(
        self,
        depth: int,
        widen_factor: int,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if depth < 10 or depth % 6 != 4:
            raise InputError(f"a wide ResNet has depth 6n + 4, such as 16, 28 or 40; got {depth}")
        count = (depth - 4) // 6
        widths = [16, 16 * widen_factor, 32 * widen_factor, 64 * widen_factor]
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.stages = nn.Sequential()
        for stage in range(3):
            before, width = widths[stage], widths[stage + 1]
            first = WideBlock(before, width, 1 if stage == 0 else 2, dropout)
            rest = (WideBlock(width, width, 1, dropout) for _ in range(count - 1))
            self.stages.append(nn.Sequential(first, *rest))
        self.bn = nn.BatchNorm2d(widths[-1])
        self.fc = nn.Linear(widths[-1], num_classes)
        # The maps are sums without activation; the BN that reads each makes the map before its ReLU.
        self.taps = Taps(
            maps=("conv1", *(f"stages.{stage}" for stage in range(3))),
            pooled="fc:input",
            before_relu=("stages.1.0.bn1", "stages.2.0.bn1", "bn"),
        )
        fan_out_convolutions(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        out = F.relu(self.bn(self.stages(self.conv1(x))))
        return self.fc(out.mean(dim=(2, 3)))
