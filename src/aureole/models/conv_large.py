"""Conv-Large: the convolutional network of the semi-supervised papers ("ConvNet-13")."""

from __future__ import annotations

from collections import OrderedDict

from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.taps import Taps


def _block(in_channels: int, channels: int, kernel_size: int = 3, padding: int = 1) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, channels, kernel_size, padding=padding),
            bn=nn.BatchNorm2d(channels),
            relu=nn.LeakyReLU(0.1),
        )
    )


class ConvLarge(nn.Module):
    """Nine convolutions with batch normalisation and leaky ReLU, two of them halving with dropout, and a linear layer.

    3,123,850 parameters for colour images and 10 classes. Widths 3 x 128, 3 x 256, 512 (unpadded), 256 and 128 (1x1),
    then the mean over the pixels.

    Args:
        num_classes: length of the logits.
        in_channels: channels of an image.
        image_size: height and width of an image, at least 12 pixels each.
        dropout: probability of dropping a value after each of the two poolings.

    Raises:
        InputError: the images are too small.

    Example:
        >>> from aureole.models.conv_large import ConvLarge
        >>> sum(parameter.numel() for parameter in ConvLarge(10).parameters())
        3123850

    Source: Laine and Aila 2017, table 5; Miyato et al. 2019, table 6. The convolutions have biases, as in the code that
        the thesis builds on; there is no noise layer, which that code makes and never uses, and the initial weights are
        PyTorch's own.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        in_channels: int = 3,
        image_size: tuple[int, int] = (32, 32),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if min(image_size) < 12:
            raise InputError(
                f"conv-large needs images of at least 12x12 pixels; got {image_size[0]}x{image_size[1]}: choose"
                " lenet5, or enlarge the images"
            )
        self.stage1 = nn.Sequential(_block(in_channels, 128), _block(128, 128), _block(128, 128))
        self.stage2 = nn.Sequential(_block(128, 256), _block(256, 256), _block(256, 256))
        self.stage3 = nn.Sequential(_block(256, 512, padding=0), _block(512, 256, 1, 0), _block(256, 128, 1, 0))
        self.pool, self.dropout = nn.MaxPool2d(2), nn.Dropout(dropout)
        self.fc = nn.Linear(128, num_classes)
        stages = ("stage1", "stage2", "stage3")
        self.taps = Taps(
            maps=("stage1.0", *stages), pooled="fc:input", before_relu=tuple(f"{stage}.2.bn" for stage in stages)
        )

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        out = self.dropout(self.pool(self.stage1(x)))
        out = self.dropout(self.pool(self.stage2(out)))
        return self.fc(self.stage3(out).mean(dim=(2, 3)))
