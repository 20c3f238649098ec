"""MED-TEX: a small student, and a map of the pixels that explain its teacher (thesis chapter 4); and its rivals."""

from aureole.core.folding import folded, keep_memory
from aureole.explain.attention import Attention, LastMap, PatchScores
from aureole.explain.attributions import IntegratedGradients, OwnMap
from aureole.explain.base import Attribution, Explaining, FromTeacher, Taught, output_loss, own_map
from aureole.explain.explainer import ExplainedStudent, ExplainerUNet, PassThrough
from aureole.explain.grad_cam import GradCAM
from aureole.explain.l2x import PatchExplainer, PatchStudent
from aureole.explain.medtex import MEDTEX, Reduction, Transfer, VariationalHead, gaussian_nll
from aureole.explain.networks import AttentionModel, ExplainedModel
from aureole.explain.perturbed import RISE, Occlusion
from aureole.explain.teacher_labels import TeacherLabels

__all__ = [
    "MEDTEX", "RISE", "Attention", "AttentionModel", "Attribution", "ExplainedModel", "ExplainedStudent",
    "ExplainerUNet", "Explaining", "FromTeacher", "GradCAM", "IntegratedGradients", "LastMap", "Occlusion", "OwnMap",
    "PassThrough", "PatchExplainer", "PatchScores", "PatchStudent", "Reduction", "Taught", "TeacherLabels", "Transfer",
    "VariationalHead", "folded", "gaussian_nll", "keep_memory",
    "output_loss", "own_map",
]  # fmt: skip
