"""Teacher and student of MED-TEX: four convolutions with ReLU, of which the student has a sixteenth of the channels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from aureole.core.errors import InputError
from aureole.core.taps import Taps


class FourBlocks(nn.Sequential):
    """Four blocks of a 3x3 convolution and a ReLU, with 2x2 max-pooling between, and one linear layer.

    The linear layer reads the last map averaged over 2 x 2 fields, so the number of parameters does not depend on the
    size of the images: 390,466 with the teacher's widths and 1,726 with the student's, for 3 channels and 2 classes.

    Args:
        widths: channels of the blocks; the teacher's by default, the student has 2, 4, 8 and 16.
        num_classes: length of the logits.
        in_channels: channels of an image.
        image_size: height and width of an image, at least 8 pixels each; other sizes from 8 on fit the network too.

    Raises:
        InputError: a width is not positive, there are not four, or the images are too small.

    Example:
        >>> import torch
        >>> FourBlocks((2, 4, 8, 16))(torch.zeros(5, 3, 64, 48)).shape
        torch.Size([5, 2])

    Source: thesis Table 4.1. It does not say what the fully connected layer reads. Its counts, 390.5k and 1.7k, or 226
    to 1, are met by 2 x 2 positions of the last map; global average pooling would give 388.9k and 1.6k, and all 32 x 32
    positions of an image of 256 x 256 pixels 912.7k and 34.4k. That the positions are averages is our choice.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 256),
        num_classes: int = 2,
        in_channels: int = 3,
        image_size: tuple[int, int] = (256, 256),
    ) -> None:
        if len(widths) != 4 or min(*widths, num_classes, in_channels) < 1:
            raise InputError(
                f"four-blocks needs four widths, classes and channels, all positive; got {tuple(widths)}, {num_classes}"
                f" and {in_channels}"
            )
        if min(image_size) < 8:
            raise InputError(
                f"four-blocks needs images of at least 8x8 pixels; got {image_size[0]}x{image_size[1]}: enlarge them"
            )
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for k, (before, width) in enumerate(zip((in_channels, *widths[:3]), widths, strict=True), 1):
            conv = nn.Conv2d(before, width, 3, padding=1)
            layers[f"b{k}"] = nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU()))
            layers[f"pool{k}"] = nn.MaxPool2d(2) if k < 4 else nn.AdaptiveAvgPool2d(2)
        super().__init__(
            OrderedDict(**layers, flatten=nn.Flatten(), fc=nn.Linear(4 * widths[-1], num_classes)),
        )
        self.taps = Taps(
            maps=("b1", "b2", "b3", "b4"), pooled="fc:input", before_relu=("b2.conv", "b3.conv", "b4.conv")
        )
