"""The V-Net of semi-supervised segmentation: strided convolutions, and added skips."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from aureole.models.segmentation.base import Family, Segmenter
from aureole.models.segmentation.blocks import GROWTH, Decoder, Encoder, Layers, Upsampling
from aureole.models.segmentation.heads import ContrastiveHeads

#: Convolutions of each level of the encoder, and of each level of the decoder from the bottleneck up.
ENCODER_CONVS, DECODER_CONVS = (1, 2, 3, 3, 3), (3, 3, 2, 1)

#: Of whole channels, at the bottleneck and after the last level of the decoder.
DROPOUT = 0.5


def _normed(layers: Layers, convolution: nn.Module, channels: int) -> list[nn.Module]:
    return [convolution, layers.norm(channels), nn.ReLU(inplace=True)]


def _block(layers: Layers, before: int, after: int, convs: int) -> list[nn.Module]:
    """Return so many times [3x3x3 convolution, batch normalisation, ReLU]."""
    entering = (before, *[after] * (convs - 1))
    return [layer for n in entering for layer in _normed(layers, layers.convolution(n, after, 3), after)]


def _encoder(layers: Layers, in_channels: int, width: int) -> Encoder:
    widths = [width * factor for factor in GROWTH]
    stages = [_block(layers, in_channels, width, ENCODER_CONVS[0])]
    for before, after, convs in zip(widths[:-1], widths[1:], ENCODER_CONVS[1:], strict=True):
        down = _normed(layers, layers.strided(before, after), after)
        stages.append([*down, *_block(layers, after, after, convs)])
    stages[-1].append(layers.channel_dropout(DROPOUT))
    return Encoder(nn.Sequential(*stage) for stage in stages)


def _up(layers: Layers, before: int, after: int, how: Upsampling) -> nn.Module:
    if how == "transposed":
        return nn.Sequential(*_normed(layers, layers.transposed(before, after), after))
    return nn.Sequential(layers.doubled(how), *_block(layers, before, after, 1))


def _decoder(layers: Layers, width: int, how: Upsampling) -> Decoder:
    widths = [width * factor for factor in reversed(GROWTH)]
    ups = [_up(layers, before, after, how) for before, after in pairwise(widths)]
    blocks = [_block(layers, n, n, convs) for n, convs in zip(widths[1:], DECODER_CONVS, strict=True)]
    blocks[-1].append(layers.channel_dropout(DROPOUT))
    return Decoder(ups, (nn.Sequential(*block) for block in blocks), torch.add)


#: The parts: as UA-MT, SASSNet, DTC, MC-Net and SS-Net use them in 3-D.
VNET = Family(
    encoder=_encoder,
    decoder=_decoder,
    head=lambda layers, width, maps: layers.convolution(width, maps, 1),
    upsampling=("transposed", "linear", "nearest"),
)


class VNetSegmenter(Segmenter):
    """A V-Net of five levels with 16 to 256 channels: 9,448,866 parameters for 2 classes.

    Not the first V-Net: 3x3x3 convolutions (1, 2, 3, 3, 3 in the encoder's levels, 3, 3, 2, 1 in the decoder's), each
    with batch normalisation and ReLU, and no residual sums. Down: 2x2x2 convolution of stride 2; up: the same
    transposed, both with batch normalisation and ReLU; the skip is added. Dropout of whole channels, 0.5, at the
    bottleneck and on the embedding. A 1x1x1 convolution gives the logits. All convolutions have biases; the first
    weights are torch's.

    Args:
        num_classes: of the logits, with the background.
        in_channels: of the input.
        spatial_dims: 3, or 2 for the same network with 2-D layers.
        width: channels of the first level and of the embedding.
        contrastive: hold SS-Net's heads as ``contrastive`` (9,457,318 parameters for 2 classes); else it is None.

    Raises:
        InputError: as for :class:`~aureole.models.segmentation.base.Segmenter`.

    Example:
        >>> from aureole.models.segmentation import VNetSegmenter
        >>> network = VNetSegmenter(num_classes=2)
        >>> sum(p.numel() for p in network.parameters()), network.eval()(torch.zeros(1, 1, 16, 16, 16)).shape
        (9448866, torch.Size([1, 2, 16, 16, 16]))

    Source: UA-MT (Yu et al. 2019) and SS-Net (Wu et al. 2022), after Milletari et al. 2016; thesis Table 6.2.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 1,
        spatial_dims: int = 3,
        width: int = 16,
        contrastive: bool = False,
    ) -> None:
        super().__init__(VNET, num_classes=num_classes, in_channels=in_channels, spatial_dims=spatial_dims, width=width)
        self.contrastive = ContrastiveHeads(num_classes, width) if contrastive else None
