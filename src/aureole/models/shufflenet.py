"""ShuffleNet, versions 1 and 2, for small images."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.taps import Taps

_STEM = 24


def shuffle(x: Float[Tensor, "batch c h w"], groups: int) -> Float[Tensor, "batch c h w"]:
    """Return the channels reordered, so that each group hands on equally many channels to every group.

    Args:
        x: a map whose channels lie group by group.
        groups: divides the number of channels.

    Example:
        >>> from aureole.models.shufflenet import shuffle
        >>> shuffle(torch.arange(6.0).view(1, 6, 1, 1), 2).flatten().tolist()
        [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
    """
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def _pointwise(in_channels: int, channels: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, 1, groups=groups, bias=False)


def _depthwise(channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)


def _layer(in_channels: int, channels: int) -> nn.Sequential:
    conv = _pointwise(in_channels, channels)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(channels), relu=nn.ReLU()))


def _taps(stages: nn.Sequential) -> Taps:
    """Return the stem and the output of each stage, and what goes into the last ReLU of each."""
    names = [f"stages.{index}" for index in range(len(stages))]
    last = [f"{name}.{len(list(stage.children())) - 1}" for name, stage in zip(names, stages, strict=True)]
    return Taps(maps=("stem", *names), pooled="fc:input", before_relu=tuple(f"{block}.relu:input" for block in last))


class GroupedUnit(nn.Module):
    """Two 1x1 convolutions in groups, with a shuffle and a 3x3 convolution of each channel between them.

    With stride 2 the output is relu([f(x), pool(x)]), the input averaged over 3x3 pixels beside the branch; else
    relu(f(x) + x).

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        stride: 1, where ``channels`` equals ``in_channels``, or 2.
        groups: of the 1x1 convolutions; the first has one group where it reads the stem.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, groups: int) -> None:
        super().__init__()
        branch = channels - in_channels if stride == 2 else channels
        inside = branch // 4
        self.groups = 1 if in_channels == _STEM else groups
        self.conv1, self.bn1 = _pointwise(in_channels, inside, self.groups), nn.BatchNorm2d(inside)
        self.conv2, self.bn2 = _depthwise(inside, stride), nn.BatchNorm2d(inside)
        self.conv3, self.bn3 = _pointwise(inside, branch, groups), nn.BatchNorm2d(branch)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.relu = nn.ReLU()

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c2 h2 w2"]:
        """Return the unit's output, after the last ReLU."""
        out = shuffle(F.relu(self.bn1(self.conv1(x))), self.groups)
        out = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(out)))))
        return self.relu(out + x if self.pool is None else torch.cat([out, self.pool(x)], 1))


class ShuffleNetV1(nn.Module):
    """Three stages of units with grouped 1x1 convolutions; takes images of any size.

    949,258 parameters at 100 classes: 240, 480 and 960 channels, 4, 8 and 4 units, 3 groups. Torch's initial weights.

    Args:
        num_classes: length of the logits.
        in_channels: channels of an image.

    Example:
        >>> ShuffleNetV1(num_classes=10)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])

    Source: Zhang et al. 2018; 1x1 stem, and a ReLU after the 3x3 convolutions that the paper leaves out, as in Tian et
        al. 2020 (RepDistiller).
    """

    def __init__(self, num_classes: int = 10, *, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = _layer(in_channels, _STEM)
        self.stages = nn.Sequential()
        before = _STEM
        for channels, count in ((240, 4), (480, 8), (960, 4)):
            rest = (GroupedUnit(channels, channels, 1, 3) for _ in range(count - 1))
            self.stages.append(nn.Sequential(GroupedUnit(before, channels, 2, 3), *rest))
            before = channels
        self.fc = nn.Linear(before, num_classes)
        self.taps = _taps(self.stages)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        return self.fc(self.stages(self.stem(x)).mean(dim=(2, 3)))


class SplitUnit(nn.Module):
    """One half of the channels passes as it is, the other through three convolutions; both are shuffled.

    The last ReLU acts on both halves after the shuffle: the first half is not negative already, so that this equals
    a ReLU on the second half alone.

    Args:
        channels: channels of input and output, even; the input is not negative.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1 = _pointwise(half, half), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = _depthwise(half), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = _pointwise(half, half), nn.BatchNorm2d(half)
        self.relu = nn.ReLU()

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h w"]:
        """Return the unit's output, after the last ReLU."""
        kept, out = x.chunk(2, 1)
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(out)))))
        return self.relu(shuffle(torch.cat([kept, self.bn3(self.conv3(out))], 1), 2))


class DownUnit(nn.Module):
    """Two branches that halve the resolution, side by side and shuffled.

    Args:
        in_channels: channels of the input.
        channels: channels of the output, half of them from each branch.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1 = _depthwise(in_channels, 2), nn.BatchNorm2d(in_channels)
        self.conv2, self.bn2 = _pointwise(in_channels, half), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = _pointwise(in_channels, half), nn.BatchNorm2d(half)
        self.conv4, self.bn4 = _depthwise(half, 2), nn.BatchNorm2d(half)
        self.conv5, self.bn5 = _pointwise(half, half), nn.BatchNorm2d(half)
        self.relu = nn.ReLU()

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c2 h2 w2"]:
        """Return the unit's output, after the last ReLU."""
        one = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        other = self.bn4(self.conv4(F.relu(self.bn3(self.conv3(x)))))
        return self.relu(shuffle(torch.cat([one, self.bn5(self.conv5(other))], 1), 2))


class ShuffleNetV2(nn.Module):
    """Three stages of units that split their channels, and a 1x1 convolution; takes images of any size.

    1,355,528 parameters at 100 classes: 116, 232 and 464 channels, 4, 8 and 4 units, 1,024 features. Torch's initial
    weights.

    Args:
        num_classes: length of the logits.
        in_channels: channels of an image.

    Example:
        >>> ShuffleNetV2(num_classes=10)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])

    Source: Ma et al. 2018, width 1; 1x1 stem as in Tian et al. 2020 (RepDistiller), whose maps before the last ReLU are
        not shuffled yet.
    """

    def __init__(self, num_classes: int = 10, *, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = _layer(in_channels, _STEM)
        self.stages = nn.Sequential()
        before = _STEM
        for channels, count in ((116, 4), (232, 8), (464, 4)):
            rest = (SplitUnit(channels) for _ in range(count - 1))
            self.stages.append(nn.Sequential(DownUnit(before, channels), *rest))
            before = channels
        self.head = _layer(before, 1024)
        self.fc = nn.Linear(1024, num_classes)
        self.taps = _taps(self.stages)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        return self.fc(self.head(self.stages(self.stem(x))).mean(dim=(2, 3)))
