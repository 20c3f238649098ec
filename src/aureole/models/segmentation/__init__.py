"""Networks that segment pictures and scans, and their catalogue by name."""

from aureole.models.segmentation.base import Segmenter, SegmenterOutputs
from aureole.models.segmentation.catalogue import SEGMENTERS, SegmenterConfig
from aureole.models.segmentation.discriminator import ShapeDiscriminator
from aureole.models.segmentation.heads import ContrastiveHeads
from aureole.models.segmentation.mcnet import MCNetSegmenter
from aureole.models.segmentation.sdf import SDFSegmenter
from aureole.models.segmentation.unet import UNetSegmenter
from aureole.models.segmentation.urpc import URPCSegmenter
from aureole.models.segmentation.vnet import VNetSegmenter

__all__ = [
    "SEGMENTERS",
    "ContrastiveHeads",
    "MCNetSegmenter",
    "SDFSegmenter",
    "Segmenter",
    "SegmenterConfig",
    "SegmenterOutputs",
    "ShapeDiscriminator",
    "UNetSegmenter",
    "URPCSegmenter",
    "VNetSegmenter",
]
