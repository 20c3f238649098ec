"""MobileNetV2 for small images."""

from __future__ import annotations

import math
from collections import OrderedDict

from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.taps import Taps
from aureole.models.initial import fan_out_convolutions, small_linear

#: Expansion, channels at width 1, number of blocks, and stride of the first, of each stage.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_LAST = 1280


def _layer(in_channels: int, channels: int, size: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, size, stride=stride, padding=size // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(channels), relu=nn.ReLU()))


class InvertedResidual(nn.Module):
    """Expand by a 1x1 convolution, filter each channel by a 3x3, project by a 1x1; no activation after the last.

    The input is added where the shape stays.

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        stride: stride of the 3x3 convolution.
        expansion: channels inside for each channel of the input.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = in_channels * expansion
        self.expand = _layer(in_channels, inside)
        self.filter = _layer(inside, inside, 3, stride, groups=inside)
        self.project = nn.Conv2d(inside, channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.keeps_shape = stride == 1 and in_channels == channels

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c2 h2 w2"]:
        """Return the block's output, which is linear in the last convolution."""
        out = self.bn(self.project(self.filter(self.expand(x))))
        return x + out if self.keeps_shape else out


class MobileNetV2(nn.Module):
    """Seven stages of inverted residuals between linear bottlenecks; takes images of any size.

    812,836 parameters at width 0.5 and 100 classes. ReLU where the paper has ReLU6, no dropout, and the last
    convolution has 1,280 channels at any width.

    Args:
        num_classes: length of the logits.
        width: factor of the channels of the stem and of the stages, rounded down.
        in_channels: channels of an image.
        stem_stride: 2 as in RepDistiller and SSKD; HSAKD takes 1, so that its accuracies are no match for theirs.

    Raises:
        InputError: the width leaves a stage without channels, or there is no such stride.

    Example:
        >>> MobileNetV2(num_classes=10)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])

    Source: Sandler et al. 2018; strides, width and initial weights as in Tian et al. 2020 (RepDistiller).
    """

    def __init__(
        self, num_classes: int = 10, *, width: float = 0.5, in_channels: int = 3, stem_stride: int = 2
    ) -> None:
        super().__init__()
        if not 1 / 16 <= width < math.inf or stem_stride not in (1, 2):
            raise InputError(
                "MobileNetV2 needs a width of at least 1/16, and 1 or 2 as stride of its stem; got"
                f" {width} and {stem_stride}"
            )
        before = int(32 * width)
        self.stem = _layer(in_channels, before, 3, stem_stride)
        self.stages = nn.Sequential()
        for expansion, full, count, stride in _STAGES:
            channels = int(full * width)
            first = InvertedResidual(before, channels, stride, expansion)
            rest = (InvertedResidual(channels, channels, 1, expansion) for _ in range(count - 1))
            self.stages.append(nn.Sequential(first, *rest))
            before = channels
        self.head = _layer(before, _LAST)
        self.fc = nn.Linear(_LAST, num_classes)
        maps = tuple(f"stages.{stage}" for stage in (1, 2, 4, 6))
        self.taps = Taps(maps=("stem", *maps), pooled="fc:input", before_relu=maps)
        fan_out_convolutions(self)
        small_linear(self.fc)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        return self.fc(self.head(self.stages(self.stem(x))).mean(dim=(2, 3)))
