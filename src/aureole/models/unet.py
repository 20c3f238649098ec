"""A symmetric U-Net: from an image to maps of the same height and width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError


class UNet(nn.Module):
    """A U-Net whose decoder brings each map to the very size of its skip, so that images of any size fit.

    Each encoder block is ``encoder_convs`` times [3x3 convolution, batch normalisation, ReLU]; its output is both the
    skip and, after 2x2 max-pooling, the input of the next block. Each decoder block, in the reverse order, enlarges its
    input to the skip's size by nearest neighbours, appends the skip, and applies ``decoder_convs`` times [3x3
    convolution, batch normalisation, ReLU]. A 1x1 convolution makes the output. From 3 channels to 1, the default has
    4,503,105 parameters.

    Args:
        in_channels: channels of an image.
        out_channels: number of maps.
        widths: channels of the encoder blocks; those of the decoder are the reverse.
        encoder_convs: convolutions of an encoder block.
        decoder_convs: convolutions of a decoder block.

    Raises:
        InputError: a number is not positive, or there is no width.

    Example:
        >>> import torch
        >>> UNet(1, widths=(8, 16))(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 1, 28, 28])

    Source: thesis 3.4.2, after Ronneberger et al. 2015. The thesis does not state: the head (here 1x1); a block between
    encoder and decoder (here none: the first decoder block takes the pooled last map); sizes that 2 does not divide,
    as 28 - 14 - 7 - 3 - 1 (here nearest neighbours to the size of the skip); biases (here none before a batch
    normalisation, which would cancel them); the first weights (here torch's).
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        widths: Sequence[int] = (32, 64, 128, 256),
        *,
        encoder_convs: int = 3,
        decoder_convs: int = 2,
    ) -> None:
        super().__init__()
        numbers = (in_channels, out_channels, *widths, encoder_convs, decoder_convs)
        if not widths or min(numbers) < 1:
            raise InputError(f"channels, widths and convolutions of a U-Net must be positive; got {numbers}")
        self.minimum = 2 ** len(widths)
        entering = (in_channels, *widths)[: len(widths)]
        self.encoder = nn.ModuleList(_block(a, b, encoder_convs) for a, b in zip(entering, widths, strict=True))
        below = (widths[-1], *reversed(widths))[: len(widths)]
        self.decoder = nn.ModuleList(
            _block(a + b, b, decoder_convs) for a, b in zip(below, reversed(widths), strict=True)
        )
        self.head = nn.Conv2d(widths[0], out_channels, 1)

    def forward(self, x: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch maps h w"]:
        """Return the maps; images smaller than 2 ** len(widths) raise InputError."""
        if min(x.shape[-2:]) < self.minimum:
            size = " x ".join(str(n) for n in x.shape[-2:])
            raise InputError(
                f"this U-Net halves an image {len(self.encoder)} times, so images must be at least {self.minimum} x"
                f" {self.minimum}; got {size}: give fewer widths"
            )
        skips = []
        for block in self.encoder:
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        for block in self.decoder:
            skip = skips.pop()
            x = block(torch.cat([F.interpolate(x, size=skip.shape[-2:], mode="nearest"), skip], dim=1))
        return self.head(x)


def _block(in_channels: int, channels: int, num_convs: int) -> nn.Sequential:
    """Return ``num_convs`` times [3x3 convolution, batch normalisation, ReLU]."""
    layers: list[nn.Module] = []
    for entering in (in_channels, *[channels] * (num_convs - 1)):
        layers += [nn.Conv2d(entering, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers)
