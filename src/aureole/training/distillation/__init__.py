"""A distillation as a run: the teacher, the student that learns from it, and what became of both."""

from aureole.training.distillation.run import Distilling

__all__ = ["Distilling"]
