"""Attacks that change few pixels: JSMA, SparseFool and CornerSearch."""

from aureole.attacks.sparse.box import SparseAttack, whole_box
from aureole.attacks.sparse.cornersearch import CornerSearch, sigma_map
from aureole.attacks.sparse.jsma import JSMA
from aureole.attacks.sparse.sparsefool import SparseFool

__all__ = ["JSMA", "CornerSearch", "SparseAttack", "SparseFool", "sigma_map", "whole_box"]
