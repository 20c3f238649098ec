"""MED-TEX: a small student, and a map of the pixels that explain its teacher (thesis chapter 4)."""

from aureole.explain.base import Attribution, Explaining, Taught, output_loss, own_map
from aureole.explain.explainer import ExplainedStudent, ExplainerUNet, PassThrough
from aureole.explain.medtex import MEDTEX, Reduction, Transfer, VariationalHead, gaussian_nll

__all__ = [
    "MEDTEX", "Attribution", "ExplainedStudent", "ExplainerUNet", "Explaining", "PassThrough", "Reduction", "Taught",
    "Transfer", "VariationalHead", "gaussian_nll", "output_loss", "own_map",
]  # fmt: skip
