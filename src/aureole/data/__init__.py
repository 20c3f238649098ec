"""Labelled images: read them, split them, and hand them out in batches."""

from aureole.data.augment import Augment, RandomCrop, RandomHorizontalFlip
from aureole.data.images import Images
from aureole.data.loader import BatchLoader
from aureole.data.readers import read
from aureole.data.splits import Data, Splits
from aureole.data.streamed import ImageSet, Streamed

__all__ = [
    "Augment",
    "BatchLoader",
    "Data",
    "ImageSet",
    "Images",
    "RandomCrop",
    "RandomHorizontalFlip",
    "Splits",
    "Streamed",
    "read",
]
