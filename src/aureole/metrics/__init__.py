"""Figures that make a robustness claim believable."""

from typing import TYPE_CHECKING, Any

from aureole.metrics.robustness import Accuracy, AttackLike, Outcome, attack_success, evaluate

if TYPE_CHECKING:
    from aureole.metrics.torchmetric import RobustAccuracy

__all__ = ["Accuracy", "AttackLike", "Outcome", "RobustAccuracy", "attack_success", "evaluate"]


def __getattr__(name: str) -> Any:
    """Import what stands on torchmetrics when it is asked for: the library itself loads without."""
    if name == "RobustAccuracy":
        from aureole.metrics.torchmetric import RobustAccuracy

        return RobustAccuracy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
