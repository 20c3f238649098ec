"""Figures that make a robustness claim believable."""

from aureole.metrics.robustness import Accuracy, AttackLike, Outcome, attack_success, evaluate

__all__ = ["Accuracy", "AttackLike", "Outcome", "attack_success", "evaluate"]
