"""Figures that make a robustness claim believable."""

from typing import TYPE_CHECKING, Any

from aureole.metrics.boundary import angle_similarity, magnitude_similarity
from aureole.metrics.evaluation import Outcomes, evaluate, worst_case
from aureole.metrics.journal import FileJournal, model_fingerprint
from aureole.metrics.outcomes import OutcomeTable
from aureole.metrics.robustness import AttackLike, Change, Outcome, attack_success, change

if TYPE_CHECKING:
    from aureole.metrics.boundary_metric import BoundarySimilarity
    from aureole.metrics.torchmetric import RobustAccuracy

__all__ = [
    "AttackLike",
    "BoundarySimilarity",
    "Change",
    "FileJournal",
    "Outcome",
    "OutcomeTable",
    "Outcomes",
    "RobustAccuracy",
    "angle_similarity",
    "attack_success",
    "change",
    "evaluate",
    "magnitude_similarity",
    "model_fingerprint",
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
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
