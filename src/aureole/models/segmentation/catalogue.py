"""The segmentation networks by name, and the configuration that builds one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from aureole.core.errors import InputError, unknown_name
from aureole.models.catalogue import build_seeded
from aureole.models.segmentation.base import Segmenter
from aureole.models.segmentation.mcnet import MCNetSegmenter
from aureole.models.segmentation.sdf import SDFSegmenter
from aureole.models.segmentation.unet import UNetSegmenter
from aureole.models.segmentation.urpc import URPCSegmenter
from aureole.models.segmentation.vnet import VNetSegmenter

#: Makes a network from the number of classes, the shape (channels, *spatial) of an input, in 2-D or 3-D, and the
#: channels of its first level (None for the network's own number).
Builder = Callable[[int, tuple[int, ...], int | None], Segmenter]


def _of(network: Callable[..., Segmenter], **options: int | bool) -> Builder:
    def build(classes: int, shape: tuple[int, ...], width: int | None) -> Segmenter:
        sizes = options if width is None else {**options, "width": width}
        return network(num_classes=classes, in_channels=shape[0], spatial_dims=len(shape) - 1, **sizes)

    return build


#: The segmentation networks by name: pictures or scans to logits of each pixel. Small: a quarter of the channels.
SEGMENTERS: Mapping[str, Builder] = MappingProxyType(
    {
        "unet": _of(UNetSegmenter),
        "unet-contrastive": _of(UNetSegmenter, contrastive=True),
        "unet-sdf": _of(SDFSegmenter, vnet=False),
        "unet-small": _of(UNetSegmenter, width=4),
        "vnet": _of(VNetSegmenter),
        "vnet-contrastive": _of(VNetSegmenter, contrastive=True),
        "vnet-sdf": _of(SDFSegmenter, vnet=True),
        "vnet-small": _of(VNetSegmenter, width=4),
        "mcnet": _of(MCNetSegmenter),
        "mcnet-plus": _of(MCNetSegmenter, num_decoders=3),
        "urpc": _of(URPCSegmenter),
    }
)


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """Which segmentation network.

    Attributes:
        name: a key of ``SEGMENTERS``; ``"mcnet"``, ``"mcnet-plus"`` and ``"urpc"`` have a U-Net's parts in 2-D and a
            V-Net's in 3-D, the others are what they are called in both.
        width: channels of the first level; None for the network's own number, 16 in the published ones.

    Example:
        >>> from aureole.models.segmentation import SegmenterConfig
        >>> network = SegmenterConfig(name="unet").build(num_classes=4, image_shape=(1, 256, 256), seed=0)
        >>> sum(p.numel() for p in network.parameters())
        1813764
    """

    name: str = "unet"
    width: int | None = None

    def build(self, *, num_classes: int, image_shape: tuple[int, ...], seed: int) -> Segmenter:
        """Return a new network on the CPU, whose initial weights depend on the seed alone.

        The global random state is left as it was. With the same seed, networks of the same parts start from the same
        encoder and main decoder, whatever they have beside.

        Args:
            num_classes: of the logits, with the background; at least 2.
            image_shape: channels and sizes of an input (a patch), such as (1, 256, 256) or (1, 112, 112, 80).
            seed: of the initial weights.

        Returns:
            A module that maps inputs (batch, channels, *spatial) to logits (batch, classes, *spatial).

        Raises:
            InputError: the name is unknown, or the network cannot take such inputs.
        """
        if self.name not in SEGMENTERS:
            raise unknown_name("segmentation network", self.name, SEGMENTERS)
        if len(image_shape) not in (3, 4):
            raise InputError(
                "image_shape must be (channels, height, width) or (channels, height, width, depth); got"
                f" {image_shape}: put the channels, often 1, before the sizes"
            )
        network = build_seeded(lambda: SEGMENTERS[self.name](num_classes, image_shape, self.width), seed)
        network.check_shape(image_shape)
        return network
