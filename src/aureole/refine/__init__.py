"""PVAR: which pixels of an image are vulnerable, and any dense attack cut down to them (thesis chapter 3)."""

from aureole.core.selection import (
    Concrete,
    Marginal,
    Selection,
    Threshold,
    drawn_pixels,
    num_pixels,
    top_pixels,
)
from aureole.refine.attack import RefinedAttack
from aureole.refine.detector import DetectionAUC, Detector
from aureole.refine.fewest import Fewest, fewest_pixels
from aureole.refine.pvar import PVAR, LiveSource, Source, StoredSource
from aureole.refine.rankings import at_random, by_gradient, by_size
from aureole.refine.refiner import Refiner, changed_share, refined, soft_cross_entropy

__all__ = [
    "PVAR", "Concrete", "DetectionAUC", "Detector", "Fewest", "LiveSource", "Marginal", "RefinedAttack", "Refiner",
    "Selection", "Source", "StoredSource", "Threshold", "at_random", "by_gradient", "by_size", "changed_share",
    "drawn_pixels", "fewest_pixels", "num_pixels", "refined", "soft_cross_entropy", "top_pixels",
]  # fmt: skip
