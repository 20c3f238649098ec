"""What every segmentation network shares: its parts, its sizes, what it gives beside the logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.taps import Taps
from aureole.models.segmentation.blocks import Decoder, Encoder, Layers, Upsampling


class SegmenterOutputs(NamedTuple):
    """All that a segmentation network gives for a batch in one pass.

    Attributes:
        logits: of the network's main decoder, shape (batch, classes, *spatial); what ``forward`` returns.
        embedding: the last map of the main decoder, shape (batch, width, *spatial).
        auxiliary: further logits of the same shape: of the other decoders (MC-Net) or of the coarser levels (URPC).
        distances: signed distances in (-1, 1) of each class but class 0, negative inside, shape
            (batch, classes - 1, *spatial); None where the network predicts none.

    Example:
        >>> from aureole.models.segmentation import SegmenterOutputs
        >>> SegmenterOutputs(torch.zeros(2, 4, 32, 32), torch.zeros(2, 16, 32, 32)).auxiliary
        ()
    """

    logits: Float[Tensor, "batch classes *spatial"]
    embedding: Float[Tensor, "batch width *spatial"]
    auxiliary: tuple[Tensor, ...] = ()
    distances: Float[Tensor, "batch foreground *spatial"] | None = None


@dataclass(frozen=True, kw_only=True)
class Family:
    """The parts of U-Nets or of V-Nets.

    Attributes:
        encoder: from the layers, the channels of the input and the width.
        decoder: from the layers, the width and the way to enlarge.
        head: from the layers, the width and the number of maps.
        upsampling: the ways to enlarge: of the main decoder first, then of MC-Net's others.

    Example:
        >>> from aureole.models.segmentation.unet import UNET
        >>> UNET.upsampling
        ('linear', 'transposed', 'nearest')
    """

    encoder: Callable[[Layers, int, int], Encoder]
    decoder: Callable[[Layers, int, Upsampling], Decoder]
    head: Callable[[Layers, int, int], nn.Module]
    upsampling: tuple[Upsampling, Upsampling, Upsampling]


class Segmenter(nn.Module):
    """An encoder, a decoder and a head: from a picture or a scan to logits of the same size.

        maps = encode(x),    logits = decode(maps),    forward(x) = decode(encode(x)) = outputs(x).logits

    ``taps`` names the bottleneck and the last map of the main decoder, in this order. ``encode`` runs the encoder
    alone, and its last map is the bottleneck.

    Args:
        family: the parts.
        num_classes: of the logits, with the background as class 0; at least 2.
        in_channels: of the input.
        spatial_dims: 2 or 3.
        width: channels of the embedding; the bottleneck has 16 times as many.

    Attributes:
        multiple: what the sizes of the input must be multiples of.

    Raises:
        InputError: a number is too small, or there are not 2 or 3 spatial dimensions.

    Example:
        >>> from aureole.models.segmentation import UNetSegmenter
        >>> network = UNetSegmenter(num_classes=4, width=4)
        >>> network.encode(torch.zeros(2, 1, 32, 32))[-1].shape
        torch.Size([2, 64, 2, 2])
        >>> network(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 4, 32, 32])
    """

    def __init__(self, family: Family, *, num_classes: int, in_channels: int, spatial_dims: int, width: int) -> None:
        super().__init__()
        if num_classes < 2 or in_channels < 1 or width < 1:
            raise InputError(
                "a segmentation network needs at least 2 classes, with the background as one, and a channel and a width"
                f" of at least 1; got num_classes={num_classes}, in_channels={in_channels}, width={width}"
            )
        layers = Layers(spatial_dims)
        self.in_channels, self.spatial_dims, self.width = in_channels, spatial_dims, width
        self.encoder = family.encoder(layers, in_channels, width)
        self.decoder = family.decoder(layers, width, family.upsampling[0])
        self.head = family.head(layers, width, num_classes)
        depth = len(self.decoder.blocks)
        self.multiple = 2**depth
        self.taps = Taps(maps=(f"encoder.stages.{depth}", f"decoder.blocks.{depth - 1}"))

    def check_shape(self, shape: Sequence[int]) -> None:
        """Refuse an input of this shape (channels, *spatial) that the network cannot take; raises InputError."""
        size = " x ".join(map(str, shape[1:]))
        if len(shape) != self.spatial_dims + 1 or shape[0] != self.in_channels:
            raise InputError(
                f"expected {self.spatial_dims}-D inputs of {self.in_channels} channels; got {shape[0]} channels of"
                f" {size}: build the network with image_shape=(channels, *spatial) of the data"
            )
        if any(n < 1 or n % self.multiple for n in shape[1:]):
            raise InputError(
                f"this network halves its input {len(self.decoder.blocks)} times, so every size must be a multiple of"
                f" {self.multiple}; got {size}: resize, pad or crop it"
            )

    def encode(self, x: Float[Tensor, "batch channels *spatial"]) -> tuple[Tensor, ...]:
        """Return the encoder's maps, from the finest to the bottleneck.

        Raises:
            InputError: the input is not of the network's channels and dimensions, or a size is no such multiple.
        """
        self.check_shape(x.shape[1:])
        return self.encoder(x)

    def decode(self, maps: Sequence[Tensor]) -> Float[Tensor, "batch classes *spatial"]:
        """Return the logits of the encoder's maps."""
        return self.head(self.decoder(maps))

    def outputs(self, x: Float[Tensor, "batch channels *spatial"]) -> SegmenterOutputs:
        """Return the logits with all else that the network gives, in one pass."""
        embedding = self.decoder(self.encode(x))
        return SegmenterOutputs(self.head(embedding), embedding)

    def forward(self, x: Float[Tensor, "batch channels *spatial"]) -> Float[Tensor, "batch classes *spatial"]:
        """Return the logits; InputError as for :meth:`encode`."""
        return self.decode(self.encode(x))
