"""What every segmentation network is made of: layers in 2-D or 3-D, an encoder of stages, a decoder of levels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError

#: How a decoder doubles the size of a map: by a linear or a nearest-neighbour enlargement, or a transposed convolution.
Upsampling = Literal["linear", "nearest", "transposed"]

#: Channels of the stages as multiples of a network's width: each stage doubles them and halves the size.
GROWTH = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Layers:
    """The layers of networks for pictures (2) or scans (3), with torch's first weights.

    Args:
        spatial_dims: 2 or 3.

    Raises:
        InputError: another number of dimensions.

    Example:
        >>> from aureole.models.segmentation.blocks import Layers
        >>> Layers(3).convolution(1, 16, 3)(torch.zeros(1, 1, 8, 8, 4)).shape
        torch.Size([1, 16, 8, 8, 4])
    """

    spatial_dims: int

    def __post_init__(self) -> None:
        if self.spatial_dims not in (2, 3):
            raise InputError(f"a segmentation network has 2 or 3 spatial dimensions; got {self.spatial_dims}")

    def convolution(self, before: int, after: int, size: int) -> nn.Module:
        """Return a convolution with bias that keeps the size of a map; ``size`` is odd."""
        return self._pick(nn.Conv2d, nn.Conv3d)(before, after, size, padding=size // 2)

    def strided(self, before: int, after: int, size: int = 2, padding: int = 0) -> nn.Module:
        """Return a convolution with bias and stride 2, which halves the size of a map."""
        return self._pick(nn.Conv2d, nn.Conv3d)(before, after, size, stride=2, padding=padding)

    def transposed(self, before: int, after: int) -> nn.Module:
        """Return a transposed convolution of size 2 and stride 2, which doubles the size of a map."""
        return self._pick(nn.ConvTranspose2d, nn.ConvTranspose3d)(before, after, 2, stride=2)

    def norm(self, channels: int) -> nn.Module:
        """Return a batch normalisation with torch's momentum (0.1) and epsilon (1e-5)."""
        return self._pick(nn.BatchNorm2d, nn.BatchNorm3d)(channels)

    def halved(self) -> nn.Module:
        """Return a max-pooling over fields of 2 positions a side."""
        return self._pick(nn.MaxPool2d, nn.MaxPool3d)(2)

    def doubled(self, how: Upsampling) -> nn.Module:
        """Return an enlargement by 2 without weights; ``"linear"`` keeps the corners in place."""
        if how == "nearest":
            return nn.Upsample(scale_factor=2, mode="nearest")
        return nn.Upsample(scale_factor=2, mode=("bilinear", "trilinear")[self.spatial_dims - 2], align_corners=True)

    def averaged(self) -> nn.Module:
        """Return the average over all positions, which leaves one."""
        return self._pick(nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)(1)

    def channel_dropout(self, rate: float) -> nn.Module:
        """Return a dropout of whole channels."""
        return self._pick(nn.Dropout2d, nn.Dropout3d)(rate)

    def _pick(self, in_2d: Callable[..., nn.Module], in_3d: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        return in_2d if self.spatial_dims == 2 else in_3d


class Encoder(nn.Module):
    """Stages one after another; each but the first halves the size.

    Args:
        stages: from the input to the bottleneck.

    Example:
        >>> from aureole.models.segmentation.blocks import Encoder
        >>> [tuple(m.shape) for m in Encoder([nn.Identity(), nn.MaxPool2d(2)])(torch.zeros(1, 1, 4, 4))]
        [(1, 1, 4, 4), (1, 1, 2, 2)]
    """

    def __init__(self, stages: Iterable[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Float[Tensor, "batch channels *spatial"]) -> tuple[Tensor, ...]:
        """Return the map of each stage, that of the bottleneck last."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)


class Decoder(nn.Module):
    """Levels from the bottleneck up: each doubles the size, joins the encoder's map of that size, and convolves.

        d_1 = block_1(join(e_{n-1}, up_1(e_n))),    d_k = block_k(join(e_{n-k}, up_k(d_{k-1})))

    Args:
        ups: enlargements, from the bottleneck up.
        blocks: convolutions, likewise.
        join: of the encoder's map and the enlarged one.

    Example:
        >>> from aureole.models.segmentation.blocks import Decoder
        >>> decoder = Decoder([nn.Upsample(scale_factor=2)], [nn.Identity()], torch.add)
        >>> decoder([torch.ones(1, 1, 2, 2), torch.ones(1, 1, 1, 1)])
        tensor([[[[2., 2.],
                  [2., 2.]]]])
    """

    def __init__(
        self, ups: Iterable[nn.Module], blocks: Iterable[nn.Module], join: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.ups, self.blocks, self.join = nn.ModuleList(ups), nn.ModuleList(blocks), join

    def levels(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the map of each level, from the coarsest to the finest; ``maps`` are the encoder's."""
        found = [maps[-1]]
        for up, block, skip in zip(self.ups, self.blocks, reversed(maps[:-1]), strict=True):
            found.append(block(self.join(skip, up(found[-1]))))
        return tuple(found[1:])

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the finest map, of the size of the input: the embedding of each pixel."""
        return self.levels(maps)[-1]


def beside(skip: Tensor, enlarged: Tensor) -> Tensor:
    """Join two maps by putting the channels of the second after those of the first.

    Example:
        >>> from aureole.models.segmentation.blocks import beside
        >>> beside(torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, 4)).shape
        torch.Size([1, 5, 4, 4])
    """
    return torch.cat([skip, enlarged], dim=1)
