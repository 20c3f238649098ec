"""The U-Net of semi-supervised segmentation: two convolutions a level, and concatenated skips."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from aureole.models.segmentation.base import Family, Segmenter
from aureole.models.segmentation.blocks import GROWTH, Decoder, Encoder, Layers, Upsampling, beside
from aureole.models.segmentation.heads import ContrastiveHeads

#: Of each level of the encoder; the decoder has no dropout.
DROPOUT = (0.05, 0.1, 0.2, 0.3, 0.5)


def _block(layers: Layers, before: int, after: int, dropout: float = 0.0) -> nn.Sequential:
    """Return twice [3x3 convolution, batch normalisation, leaky ReLU], with dropout of single values between."""

    def half(entering: int) -> list[nn.Module]:
        return [layers.convolution(entering, after, 3), layers.norm(after), nn.LeakyReLU(0.01, inplace=True)]

    between = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*half(before), *between, *half(after))


def _encoder(layers: Layers, in_channels: int, width: int) -> Encoder:
    widths = [width * factor for factor in GROWTH]
    blocks = [
        _block(layers, before, after, rate)
        for before, after, rate in zip((in_channels, *widths[:-1]), widths, DROPOUT, strict=True)
    ]
    return Encoder([blocks[0], *(nn.Sequential(layers.halved(), block) for block in blocks[1:])])


def _up(layers: Layers, before: int, after: int, how: Upsampling) -> nn.Module:
    if how == "transposed":
        return layers.transposed(before, after)
    return nn.Sequential(layers.convolution(before, after, 1), layers.doubled(how))


def _decoder(layers: Layers, width: int, how: Upsampling) -> Decoder:
    widths = [width * factor for factor in reversed(GROWTH)]
    steps = list(pairwise(widths))
    return Decoder(
        [_up(layers, before, after, how) for before, after in steps],
        [_block(layers, 2 * after, after) for _, after in steps],
        beside,
    )


#: The parts: as SS-Net, MC-Net and URPC use them in 2-D.
UNET = Family(
    encoder=_encoder,
    decoder=_decoder,
    head=lambda layers, width, maps: layers.convolution(width, maps, 3),
    upsampling=("linear", "transposed", "nearest"),
)


class UNetSegmenter(Segmenter):
    """A U-Net of five levels with 16 to 256 channels: 1,813,764 parameters for 4 classes.

    Level: [3x3 convolution, batch normalisation, leaky ReLU 0.01, dropout, 3x3 convolution, batch normalisation, leaky
    ReLU], after 2x2 max-pooling; dropout 0.05, 0.1, 0.2, 0.3, 0.5 in the encoder, none in the decoder. Up: 1x1
    convolution, bilinear enlargement that keeps the corners, concatenated after the skip. A 3x3 convolution gives the
    logits. All convolutions have biases; the first weights are torch's.

    Args:
        num_classes: of the logits, with the background.
        in_channels: of the input.
        spatial_dims: 2, or 3 for the same network with 3-D layers.
        width: channels of the first level and of the embedding.
        contrastive: hold SS-Net's heads as ``contrastive`` (1,826,828 parameters for 4 classes); else it is None.

    Raises:
        InputError: as for :class:`~aureole.models.segmentation.base.Segmenter`.

    Example:
        >>> from aureole.models.segmentation import UNetSegmenter
        >>> network = UNetSegmenter(num_classes=4)
        >>> sum(p.numel() for p in network.parameters()), network(torch.zeros(1, 1, 32, 32)).shape
        (1813764, torch.Size([1, 4, 32, 32]))

    Source: SS-Net (Wu et al. 2022) and SSL4MIS; thesis Table 6.1.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 1,
        spatial_dims: int = 2,
        width: int = 16,
        contrastive: bool = False,
    ) -> None:
        super().__init__(UNET, num_classes=num_classes, in_channels=in_channels, spatial_dims=spatial_dims, width=width)
        self.contrastive = ContrastiveHeads(num_classes, width) if contrastive else None
