"""An explanation as a run: the teacher, the student that explains it, and what its maps are worth."""

from aureole.training.explanation.run import Explained

__all__ = ["Explained"]
