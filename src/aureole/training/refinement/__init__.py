"""A refinement as a run: the victim, the attacked images, the map, and what the refined attack is worth."""

from aureole.training.refinement.run import LEARNER, Refinement, run_refinement

__all__ = ["LEARNER", "Refinement", "run_refinement"]
