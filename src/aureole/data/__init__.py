"""Labelled images: read them, split them, and hand them out in batches."""

from aureole.data.augment import Augment, GaussianNoise, RandomCrop, RandomHorizontalFlip, RandomTranslation
from aureole.data.few_labels import FewLabels, FewLabelsSplits
from aureole.data.fractions import FractionData
from aureole.data.fundus import Fundus
from aureole.data.images import Images
from aureole.data.lesions import LesionPainter
from aureole.data.loader import BatchLoader
from aureole.data.masks import MaskedData, MaskedImages
from aureole.data.painted import PaintedLesions
from aureole.data.rand_augment import Cutout, RandAugment
from aureole.data.readers import read
from aureole.data.splits import Data, Splits
from aureole.data.streamed import ImageSet, Streamed
from aureole.data.two_streams import TwoStreams
from aureole.data.views import VIEWS, view

__all__ = [
    "VIEWS",
    "Augment",
    "BatchLoader",
    "Cutout",
    "Data",
    "FewLabels",
    "FewLabelsSplits",
    "FractionData",
    "Fundus",
    "GaussianNoise",
    "ImageSet",
    "Images",
    "LesionPainter",
    "MaskedData",
    "MaskedImages",
    "PaintedLesions",
    "RandAugment",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomTranslation",
    "Splits",
    "Streamed",
    "TwoStreams",
    "read",
    "view",
]
