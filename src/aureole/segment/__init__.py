"""Segmentation from few labelled scans: Cross-ALD, and the methods that it is compared with."""

from __future__ import annotations

from aureole.segment.base import Segmentation
from aureole.segment.contrast import Contrast
from aureole.segment.cross_ald import SVGD, SVGDF, CrossALD, RandomMixup, SSNet, SVGDFContrast, VATMixup
from aureole.segment.dice import SoftDice
from aureole.segment.dtc import DTC
from aureole.segment.entropy import EntropyMinimisation
from aureole.segment.mc_net import MCNet
from aureole.segment.mean_teacher import MeanTeacher
from aureole.segment.sassnet import SASSNet
from aureole.segment.supervised import Supervised
from aureole.segment.ua_mt import UAMT
from aureole.segment.urpc import URPC
from aureole.segment.vat import VAT

__all__ = [
    "DTC",
    "SVGD",
    "SVGDF",
    "UAMT",
    "URPC",
    "VAT",
    "Contrast",
    "CrossALD",
    "EntropyMinimisation",
    "MCNet",
    "MeanTeacher",
    "RandomMixup",
    "SASSNet",
    "SSNet",
    "SVGDFContrast",
    "Segmentation",
    "SoftDice",
    "Supervised",
    "VATMixup",
]
