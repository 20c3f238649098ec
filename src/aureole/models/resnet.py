"""Residual networks for small images: the CIFAR family of depth 6n + 2, and ResNet-18 with a 3x3 stem."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: relu(f(x) + x), with 1x1 convolution and BN where the shape changes.

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        stride: stride of the first convolution.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c2 h2 w2"]:
        """Return the block's output, after the last ReLU."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network with a 3x3 stem and no pooling before the last layer; takes images of any size.

    The convolutions start from Kaiming's normal distribution over the fan-out. (The ResNet-18 of the robust-training
    codebases keeps torch's initial weights instead.)

    Args:
        blocks: number of basic blocks in each stage; every stage but the first halves the resolution.
        widths: channels of each stage; the stem has as many as the first.
        num_classes: length of the logits.
        in_channels: channels of an image.

    Example:
        >>> import torch
        >>> ResNet.cifar(20, num_classes=10)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])

    Source: He et al. 2016. 1x1 shortcuts with BN as in Tian et al. 2020 (RepDistiller), 472,756 parameters for depth 32
    and 861,620 for depth 56 at 100 classes.
    """

    def __init__(
        self, blocks: Sequence[int], widths: Sequence[int], *, num_classes: int = 10, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        before = [widths[0], *widths[:-1]]
        self.stages = nn.Sequential()
        for stage, (count, last, width) in enumerate(zip(blocks, before, widths, strict=True)):
            first = BasicBlock(last, width, stride=1 if stage == 0 else 2)
            self.stages.append(nn.Sequential(first, *(BasicBlock(width, width) for _ in range(count - 1))))
        self.fc = nn.Linear(widths[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        out = self.stages(F.relu(self.bn1(self.conv1(x))))
        return self.fc(out.mean(dim=(2, 3)))

    @classmethod
    def cifar(cls, depth: int, *, num_classes: int = 10, in_channels: int = 3) -> ResNet:
        """Return the CIFAR network of depth 6n + 2: three stages of n blocks with 16, 32 and 64 channels.

        Raises:
            InputError: the depth is not 6n + 2.
        """
        if depth < 8 or depth % 6 != 2:
            raise InputError(f"a CIFAR ResNet has depth 6n + 2, such as 20, 32 or 56; got {depth}")
        return cls([(depth - 2) // 6] * 3, [16, 32, 64], num_classes=num_classes, in_channels=in_channels)

    @classmethod
    def resnet18(cls, *, num_classes: int = 10, in_channels: int = 3) -> ResNet:
        """Return ResNet-18 for small images: four stages of two blocks; 11,173,962 parameters at 10 classes."""
        return cls([2, 2, 2, 2], [64, 128, 256, 512], num_classes=num_classes, in_channels=in_channels)
