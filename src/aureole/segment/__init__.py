"""Segmentation from few labelled scans: Cross-ALD, and the methods that it is compared with."""

from __future__ import annotations

from aureole.segment.base import Segmentation
from aureole.segment.contrast import Contrast
from aureole.segment.cross_ald import SVGD, SVGDF, CrossALD, RandomMixup, SSNet, SVGDFContrast, VATMixup
from aureole.segment.dice import SoftDice
from aureole.segment.vat import VAT

__all__ = [
    "SVGD",
    "SVGDF",
    "VAT",
    "Contrast",
    "CrossALD",
    "RandomMixup",
    "SSNet",
    "SVGDFContrast",
    "Segmentation",
    "SoftDice",
    "VATMixup",
]
