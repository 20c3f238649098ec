"""The network of URPC: logits at every level of the decoder, in training from disturbed maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from aureole.models.segmentation.base import Segmenter, SegmenterOutputs
from aureole.models.segmentation.blocks import GROWTH, Layers
from aureole.models.segmentation.unet import UNET
from aureole.models.segmentation.vnet import VNET


class FeatureDropout(nn.Module):
    """In training, set to zero the positions that attract most: where the mean over channels is near its maximum.

        keep where mean_c x < u max(mean_c x),    u ~ U(low, high), one for the batch; the maximum of each image

    Args:
        low: least share of the maximum.
        high: largest share of the maximum.

    Example:
        >>> from aureole.models.segmentation.urpc import FeatureDropout
        >>> FeatureDropout()(torch.tensor([[[[1.0, 0.95, 0.6, 0.1]]]]))
        tensor([[[[0.0000, 0.0000, 0.6000, 0.1000]]]])

    Source: URPC (Luo et al. 2021), after Ouali et al. 2020.
    """

    def __init__(self, low: float = 0.7, high: float = 0.9) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Float[Tensor, "batch channels *spatial"]) -> Float[Tensor, "batch channels *spatial"]:
        """Return the map without those positions; in evaluation the map itself."""
        if not self.training:
            return x
        attention = x.mean(1, keepdim=True)
        share = torch.empty((), device=x.device, dtype=x.dtype).uniform_(self.low, self.high)
        return x * (attention < share * attention.flatten(1).amax(1).view(-1, *[1] * (x.ndim - 1)))


class FeatureNoise(nn.Module):
    """In training, multiply each value by 1 + u with u ~ U(-spread, spread), the same for every image of the batch.

    Args:
        spread: largest relative change.

    Example:
        >>> from aureole.models.segmentation.urpc import FeatureNoise
        >>> noisy = FeatureNoise()(torch.ones(2, 1, 4, 4))
        >>> bool((noisy[0] == noisy[1]).all()), bool(((noisy - 1).abs() <= 0.3).all()), bool((noisy != 1).any())
        (True, True, True)

    Source: URPC (Luo et al. 2021), after Ouali et al. 2020.
    """

    def __init__(self, spread: float = 0.3) -> None:
        super().__init__()
        self.spread = spread

    def forward(self, x: Float[Tensor, "batch channels *spatial"]) -> Float[Tensor, "batch channels *spatial"]:
        """Return the noisy map; in evaluation the map itself."""
        if not self.training:
            return x
        return x * (1 + torch.empty_like(x[0]).uniform_(-self.spread, self.spread))


class URPCSegmenter(Segmenter):
    """A U-Net with a further head on each coarser level of its decoder: 1,831,060 parameters for 4 classes.

    The levels of 128, 64 and 32 channels give logits of their own size, enlarged by nearest neighbours to that of the
    input. In training their heads see disturbed maps: dropout 0.5, :class:`FeatureDropout` and :class:`FeatureNoise`;
    the next level and the main head see the maps themselves. A head of the bottleneck is built and counted as in the
    authors' network, where nothing uses it; here it takes no gradient either.

    Args:
        num_classes: of the logits, with the background.
        in_channels: of the input.
        spatial_dims: 2; with 3 the parts are a V-Net's, our extension: the published 3-D network is another.
        width: channels of the first level and of the embedding.

    Raises:
        InputError: as for :class:`~aureole.models.segmentation.base.Segmenter`.

    Example:
        >>> from aureole.models.segmentation import URPCSegmenter
        >>> found = URPCSegmenter(num_classes=4).outputs(torch.zeros(2, 1, 32, 32))
        >>> [logits.shape for logits in found.auxiliary] == 3 * [found.logits.shape]
        True

    Source: URPC (Luo et al. 2021) as in SSL4MIS; thesis Table 6.1.
    """

    def __init__(self, *, num_classes: int, in_channels: int = 1, spatial_dims: int = 2, width: int = 16) -> None:
        family = VNET if spatial_dims == 3 else UNET
        super().__init__(
            family, num_classes=num_classes, in_channels=in_channels, spatial_dims=spatial_dims, width=width
        )
        layers, coarser = Layers(spatial_dims), [width * factor for factor in reversed(GROWTH[1:])]
        self.unused_head = family.head(layers, coarser[0], num_classes).requires_grad_(False)
        self.coarse_heads = nn.ModuleList(family.head(layers, channels, num_classes) for channels in coarser[1:])
        self.disturbances = nn.ModuleList([nn.Dropout(0.5), FeatureDropout(), FeatureNoise()])

    def outputs(self, x: Float[Tensor, "batch channels *spatial"]) -> SegmenterOutputs:
        """Return the logits and the embedding, with the logits of the coarser levels, the coarsest first."""
        *coarse, embedding = self.decoder.levels(self.encode(x))
        heads = zip(self.disturbances, self.coarse_heads, coarse, strict=True)
        auxiliary = tuple(
            F.interpolate(head(disturb(level)), size=x.shape[2:], mode="nearest") for disturb, head, level in heads
        )
        return SegmenterOutputs(self.head(embedding), embedding, auxiliary)
