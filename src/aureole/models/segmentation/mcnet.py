"""The network of MC-Net: one encoder, and decoders that differ in how they enlarge."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.models.segmentation.base import Segmenter, SegmenterOutputs
from aureole.models.segmentation.blocks import Layers
from aureole.models.segmentation.unet import UNET
from aureole.models.segmentation.vnet import VNET


class MCNetSegmenter(Segmenter):
    """A U-Net (2-D) or V-Net (3-D) with two or three decoders: 2,577,624 parameters (4 classes), 12,347,716 (2).

    Decoder A is the plain network's, and the only one that ``forward`` and ``decode`` run. Decoder B exchanges the ways
    to enlarge: transposed convolutions in 2-D; in 3-D a trilinear enlargement that keeps the corners, and a 3x3x3
    convolution. Decoder C (MC-Net+) enlarges by nearest neighbours. The decoders share no weight, nor do their heads.

    Args:
        num_classes: of the logits, with the background.
        in_channels: of the input.
        spatial_dims: 2 or 3.
        width: channels of the first level and of the embedding.
        num_decoders: 2 for MC-Net, 3 for MC-Net+.

    Raises:
        InputError: there are not 2 or 3 decoders; or as for :class:`~aureole.models.segmentation.base.Segmenter`.

    Example:
        >>> from aureole.models.segmentation import MCNetSegmenter
        >>> network = MCNetSegmenter(num_classes=4, spatial_dims=2)
        >>> found = network.outputs(torch.zeros(2, 1, 32, 32))
        >>> found.logits.shape, [logits.shape for logits in found.auxiliary]
        (torch.Size([2, 4, 32, 32]), [torch.Size([2, 4, 32, 32])])

    Source: MC-Net (Wu et al. 2021) and MC-Net+ (Wu et al. 2022); thesis Tables 6.1 and 6.2 (two decoders).
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 1,
        spatial_dims: int = 2,
        width: int = 16,
        num_decoders: int = 2,
    ) -> None:
        if num_decoders not in (2, 3):
            raise InputError(f"MC-Net has 2 decoders, MC-Net+ has 3; got num_decoders={num_decoders}")
        family = VNET if spatial_dims == 3 else UNET
        super().__init__(
            family, num_classes=num_classes, in_channels=in_channels, spatial_dims=spatial_dims, width=width
        )
        layers, ways = Layers(spatial_dims), family.upsampling[1:num_decoders]
        self.other_decoders = nn.ModuleList(family.decoder(layers, width, way) for way in ways)
        self.other_heads = nn.ModuleList(family.head(layers, width, num_classes) for _ in ways)

    def outputs(self, x: Float[Tensor, "batch channels *spatial"]) -> SegmenterOutputs:
        """Return the logits and the embedding of decoder A, with the logits of the others."""
        maps = self.encode(x)
        embedding = self.decoder(maps)
        others = zip(self.other_decoders, self.other_heads, strict=True)
        auxiliary = tuple(head(decoder(maps)) for decoder, head in others)
        return SegmenterOutputs(self.head(embedding), embedding, auxiliary)
