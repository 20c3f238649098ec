"""A distillation as a run: the teacher, the student that learns from it, and what became of both."""

from aureole.training.distillation.run import Distilling, run_distilling

__all__ = ["Distilling", "run_distilling"]
