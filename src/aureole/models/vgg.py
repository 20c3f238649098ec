"""VGG networks with batch normalisation for small images."""

from __future__ import annotations

from collections import OrderedDict

from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.taps import Taps
from aureole.models.initial import fan_out_convolutions, small_linear

_WIDTHS = (64, 128, 256, 512, 512)

#: Convolutions in each of the five stages, by depth.
_COUNTS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def _layer(in_channels: int, channels: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, 3, padding=1)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(channels), relu=nn.ReLU()))


def _stage(count: int, in_channels: int, channels: int, *, halved: bool) -> nn.Sequential:
    layers = OrderedDict[str, nn.Module](pool=nn.MaxPool2d(2)) if halved else OrderedDict[str, nn.Module]()
    for index in range(count):
        layers[f"layer{index}"] = _layer(channels if index else in_channels, channels)
    return nn.Sequential(layers)


class VGG(nn.Module):
    """Five stages of 3x3 convolutions with BN and ReLU, the mean over the pixels, and one linear layer.

    The second, third and fourth stage halve the resolution first; the fifth does so for images of 64 pixels and more.
    Parameters at 100 classes: 3,965,028 (depth 8), 9,277,284 (11), 9,462,180 (13), 14,774,436 (16), 20,086,692 (19).

    Args:
        depth: 8, 11, 13, 16 or 19.
        num_classes: length of the logits.
        in_channels: channels of an image.
        image_size: height and width of an image, at least 8 pixels each.

    Raises:
        InputError: there is no such depth, or the images are too small.

    Example:
        >>> VGG(8, num_classes=10)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])

    Source: Simonyan and Zisserman 2015; depth 8, the single linear layer and the initial weights as in Tian et al. 2020
        (RepDistiller), whose fifth stage halves images of exactly 64 pixels.
    """

    def __init__(
        self, depth: int, *, num_classes: int = 10, in_channels: int = 3, image_size: tuple[int, int] = (32, 32)
    ) -> None:
        super().__init__()
        if depth not in _COUNTS:
            raise InputError(f"a VGG has depth {', '.join(map(str, _COUNTS))}; got {depth}")
        if min(image_size) < 8:
            raise InputError(
                f"vgg{depth} needs images of at least 8x8 pixels; got {image_size[0]}x{image_size[1]}: choose a ResNet,"
                " or enlarge the images"
            )
        counts, before = _COUNTS[depth], (in_channels, *_WIDTHS[:-1])
        halved = (False, True, True, True, min(image_size) >= 64)
        stages = zip(counts, before, _WIDTHS, halved, strict=True)
        self.stages = nn.Sequential(*(_stage(n, last, width, halved=half) for n, last, width, half in stages))
        self.fc = nn.Linear(_WIDTHS[-1], num_classes)
        self.taps = Taps(
            maps=tuple(f"stages.{stage}" for stage in range(5)),
            pooled="fc:input",
            before_relu=tuple(f"stages.{stage}.layer{counts[stage] - 1}.bn" for stage in range(1, 5)),
        )
        fan_out_convolutions(self)
        small_linear(self.fc)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        return self.fc(self.stages(x).mean(dim=(2, 3)))
