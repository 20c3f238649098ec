"""Distillation: a small student learns what a large teacher knows (thesis chapter 7)."""

from aureole.distill.base import Distillation, FeatureLoss, Pair, softened_kl
from aureole.distill.kd import KD

__all__ = ["KD", "Distillation", "FeatureLoss", "Pair", "softened_kl"]
