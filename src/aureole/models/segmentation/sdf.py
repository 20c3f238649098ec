"""The network of SASSNet and DTC: beside the classes, it predicts how far each pixel is from their boundaries."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aureole.models.segmentation.base import Segmenter, SegmenterOutputs
from aureole.models.segmentation.blocks import Layers
from aureole.models.segmentation.unet import UNET
from aureole.models.segmentation.vnet import VNET


class SDFSegmenter(Segmenter):
    """A network with two heads on its embedding: logits, and signed distances by a tanh.

        logits = (0, W e + b),    distances = tanh(V e + c)

    Neither head has a map for class 0: its logit is zero, so that for 2 classes the softmax of class 1 is the sigmoid
    of the published network's only logit. A V-Net with both heads has as many parameters as without: 9,448,866.

    Args:
        num_classes: of the logits, with the background; each but the background has a distance.
        in_channels: of the input.
        spatial_dims: 3, or 2.
        width: channels of the first level and of the embedding.
        vnet: whether the parts are a V-Net's or a U-Net's; None takes a V-Net's in 3-D and a U-Net's in 2-D.

    Raises:
        InputError: as for :class:`~aureole.models.segmentation.base.Segmenter`.

    Example:
        >>> from aureole.models.segmentation import SDFSegmenter
        >>> found = SDFSegmenter(num_classes=4, spatial_dims=2).outputs(torch.zeros(2, 1, 32, 32))
        >>> found.logits.shape, found.distances.shape
        (torch.Size([2, 4, 32, 32]), torch.Size([2, 3, 32, 32]))

    Source: SASSNet (Li et al. 2020) and DTC (Luo et al. 2021), both with one class of foreground in 3-D; one map a
    class of foreground is our reading for several classes.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 1,
        spatial_dims: int = 3,
        width: int = 16,
        vnet: bool | None = None,
    ) -> None:
        family = VNET if (spatial_dims == 3 if vnet is None else vnet) else UNET
        super().__init__(
            family, num_classes=num_classes, in_channels=in_channels, spatial_dims=spatial_dims, width=width
        )
        layers = Layers(spatial_dims)
        self.head = nn.Sequential(family.head(layers, width, num_classes - 1), _ZeroBackground())
        self.distance = nn.Sequential(family.head(layers, width, num_classes - 1), nn.Tanh())

    def outputs(self, x: Float[Tensor, "batch channels *spatial"]) -> SegmenterOutputs:
        """Return the logits, the embedding and the signed distances."""
        embedding = self.decoder(self.encode(x))
        return SegmenterOutputs(self.head(embedding), embedding, distances=self.distance(embedding))


class _ZeroBackground(nn.Module):
    """Put a logit of zero for class 0 before the others."""

    def forward(self, logits: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
