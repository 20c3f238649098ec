"""Figures that make a claim believable: of robustness, and of explanations."""

from typing import TYPE_CHECKING, Any

from aureole.metrics.boundary import angle_similarity, magnitude_similarity
from aureole.metrics.evaluation import Outcomes, evaluate, worst_case
from aureole.metrics.explanation import (
    THESIS_COUNTS,
    PostHoc,
    box_masks,
    iou,
    iou_at_top,
    pointing_game,
    post_hoc,
    thesis_iou_at_top,
    top_mask,
)
from aureole.metrics.journal import FileJournal, model_fingerprint
from aureole.metrics.outcomes import OutcomeTable
from aureole.metrics.pixel_curves import Deletion, Insertion, PixelCurve
from aureole.metrics.robustness import AttackLike, Change, Outcome, attack_success, change

if TYPE_CHECKING:
    from aureole.metrics.boundary_metric import BoundarySimilarity
    from aureole.metrics.explanation_metric import PostHocAgreement, TopIoU
    from aureole.metrics.torchmetric import RobustAccuracy

__all__ = [
    "THESIS_COUNTS",
    "AttackLike",
    "BoundarySimilarity",
    "Change",
    "Deletion",
    "FileJournal",
    "Insertion",
    "Outcome",
    "OutcomeTable",
    "Outcomes",
    "PixelCurve",
    "PostHoc",
    "PostHocAgreement",
    "RobustAccuracy",
    "TopIoU",
    "angle_similarity",
    "attack_success",
    "box_masks",
    "change",
    "evaluate",
    "iou",
    "iou_at_top",
    "magnitude_similarity",
    "model_fingerprint",
    "pointing_game",
    "post_hoc",
    "thesis_iou_at_top",
    "top_mask",
    "worst_case",
]


def __getattr__(name: str) -> Any:
    """Import what stands on torchmetrics when it is asked for: the library itself loads without."""
    if name == "RobustAccuracy":
        from aureole.metrics.torchmetric import RobustAccuracy

        return RobustAccuracy
    if name == "BoundarySimilarity":
        from aureole.metrics.boundary_metric import BoundarySimilarity

        return BoundarySimilarity
    if name in ("PostHocAgreement", "TopIoU"):
        from aureole.metrics import explanation_metric

        return getattr(explanation_metric, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
