"""Distillation: a small student learns what a large teacher knows (thesis chapter 7)."""

from aureole.distill.activation_boundary import AB, ABLoss
from aureole.distill.attention_transfer import AT, AttentionLoss
from aureole.distill.base import Distillation, FeatureLoss, Pair, softened_kl
from aureole.distill.boundary import BoundaryComparison, compare_boundaries, fooling_rate
from aureole.distill.bss import BSS, Supporting
from aureole.distill.contrastive import CRD, Contrast, CRDLoss
from aureole.distill.correlation import CC, CorrelationLoss
from aureole.distill.factor_transfer import FT, FactorLoss
from aureole.distill.fitnet import FitNet, HintLoss
from aureole.distill.fsp import FSP, FSPLoss
from aureole.distill.hsakd import HSAKD, AuxiliaryLoss
from aureole.distill.kd import KD
from aureole.distill.nst import NST, NSTLoss
from aureole.distill.pkt import PKT, PKTLoss
from aureole.distill.relational import RKD, RKDLoss
from aureole.distill.similarity import SP, SimilarityLoss
from aureole.distill.sskd import SSKD, RotationLoss
from aureole.distill.tald import TALD
from aureole.distill.vid import VID, VIDLoss

__all__ = [
    "AB",
    "AT",
    "BSS",
    "CC",
    "CRD",
    "FSP",
    "FT",
    "HSAKD",
    "KD",
    "NST",
    "PKT",
    "RKD",
    "SP",
    "SSKD",
    "TALD",
    "VID",
    "ABLoss",
    "AttentionLoss",
    "AuxiliaryLoss",
    "BoundaryComparison",
    "CRDLoss",
    "Contrast",
    "CorrelationLoss",
    "Distillation",
    "FSPLoss",
    "FactorLoss",
    "FeatureLoss",
    "FitNet",
    "HintLoss",
    "NSTLoss",
    "PKTLoss",
    "Pair",
    "RKDLoss",
    "RotationLoss",
    "SimilarityLoss",
    "Supporting",
    "VIDLoss",
    "compare_boundaries",
    "fooling_rate",
    "softened_kl",
]
