"""Residual networks: the CIFAR family of depth 6n + 2, ResNet-18 and -50 with a 3x3 stem, and those for ImageNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.taps import Taps
from aureole.models.initial import fan_out_convolutions


def _shortcut(in_channels: int, channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels))


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
        self.shortcut = _shortcut(in_channels, channels, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c2 h2 w2"]:
        """Return the block's output, after the last ReLU."""
        out = F.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1, the first to a quarter of the channels: relu(f(x) + x).

    Args:
        in_channels: channels of the input.
        channels: channels of the output, a multiple of 4.
        stride: stride of the 3x3 convolution.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        inside = channels // 4
        self.conv1 = nn.Conv2d(in_channels, inside, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv2 = nn.Conv2d(inside, inside, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inside)
        self.conv3 = nn.Conv2d(inside, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c2 h2 w2"]:
        """Return the block's output, after the last ReLU."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return self.relu(self.bn3(self.conv3(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network; takes images of any size.

    The convolutions start from Kaiming's normal distribution over the fan-out. (The ResNet-18 of the robust-training
    codebases keeps torch's initial weights instead.)

    Args:
        blocks: number of blocks in each stage; every stage but the first halves the resolution.
        widths: channels of each stage.
        num_classes: length of the logits.
        in_channels: channels of an image.
        stem: channels of the first convolution; None takes those of the first stage.
        block: what the stages are made of.
        downsample: begin as for ImageNet, with a 7x7 convolution of stride 2 and a max-pooling of stride 2, in place of
            a 3x3 convolution.

    Example:
        >>> import torch
        >>> ResNet.cifar(20, num_classes=10)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])

    Source: He et al. 2016. 1x1 shortcuts with BN as in Tian et al. 2020 (RepDistiller), 472,756 parameters for depth 32
    and 861,620 for depth 56 at 100 classes.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        stem: int | None = None,
        block: type[BasicBlock] | type[Bottleneck] = BasicBlock,
        downsample: bool = False,
    ) -> None:
        super().__init__()
        stem, (size, stride) = widths[0] if stem is None else stem, (7, 2) if downsample else (3, 1)
        self.conv1 = nn.Conv2d(in_channels, stem, size, stride=stride, padding=size // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1) if downsample else nn.Identity()
        before = [stem, *widths[:-1]]
        self.stages = nn.Sequential()
        for stage, (count, last, width) in enumerate(zip(blocks, before, widths, strict=True)):
            first = block(last, width, stride=1 if stage == 0 else 2)
            self.stages.append(nn.Sequential(first, *(block(width, width) for _ in range(count - 1))))
        self.fc = nn.Linear(widths[-1], num_classes)
        self.taps = Taps(
            maps=("stages:input", *(f"stages.{stage}" for stage in range(len(blocks)))),
            pooled="fc:input",
            before_relu=tuple(f"stages.{stage}.{count - 1}.relu:input" for stage, count in enumerate(blocks)),
        )
        fan_out_convolutions(self)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        out = self.stages(self.pool(F.relu(self.bn1(self.conv1(x)))))
        return self.fc(out.mean(dim=(2, 3)))

    @classmethod
    def cifar(cls, depth: int, *, wide: bool = False, num_classes: int = 10, in_channels: int = 3) -> ResNet:
        """Return the CIFAR network of depth 6n + 2: three stages of n blocks with 16, 32 and 64 channels.

        Args:
            depth: 8, 14, 20 and so on.
            wide: 4 times the channels in the stages and 32 in the stem, as resnet8x4 (1,233,540 parameters at 100
                classes) and resnet32x4 (7,433,860).
            num_classes: length of the logits.
            in_channels: channels of an image.

        Raises:
            InputError: the depth is not 6n + 2.
        """
        if depth < 8 or depth % 6 != 2:
            raise InputError(f"a CIFAR ResNet has depth 6n + 2, such as 20, 32 or 56; got {depth}")
        stem, widths = (32, [64, 128, 256]) if wide else (16, [16, 32, 64])
        return cls([(depth - 2) // 6] * 3, widths, num_classes=num_classes, in_channels=in_channels, stem=stem)

    @classmethod
    def resnet18(cls, *, num_classes: int = 10, in_channels: int = 3) -> ResNet:
        """Return ResNet-18 for small images: four stages of two blocks; 11,173,962 parameters at 10 classes."""
        return cls([2, 2, 2, 2], [64, 128, 256, 512], num_classes=num_classes, in_channels=in_channels)

    @classmethod
    def resnet50(cls, *, num_classes: int = 10, in_channels: int = 3) -> ResNet:
        """Return ResNet-50 for small images: stages of 3, 4, 6 and 3 bottlenecks; 23,705,252 parameters at 100 classes.

        Source: Tian et al. 2020 (RepDistiller).
        """
        widths = [256, 512, 1024, 2048]
        return cls([3, 4, 6, 3], widths, num_classes=num_classes, in_channels=in_channels, stem=64, block=Bottleneck)

    @classmethod
    def imagenet(cls, depth: int, *, num_classes: int = 1000, in_channels: int = 3) -> ResNet:
        """Return ResNet-18 or ResNet-34 for images of 224x224: 11,689,512 or 21,797,672 parameters at 1,000 classes.

        Raises:
            InputError: the depth is neither 18 nor 34.

        Source: He et al. 2016; layers and initial weights as in torchvision.
        """
        blocks = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3]}
        if depth not in blocks:
            raise InputError(f"a ResNet for ImageNet has depth 18 or 34; got {depth}")
        widths = [64, 128, 256, 512]
        return cls(blocks[depth], widths, num_classes=num_classes, in_channels=in_channels, downsample=True)
