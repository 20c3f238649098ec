"""The particle engine: kernels, step rules, starts, and the search itself."""

from aureole.particles.diversity import Diversity, diversity
from aureole.particles.kernels import RBF, FeatureRBF, Kernel
from aureole.particles.search import Particles, ParticleSearch
from aureole.particles.starts import AtImage, InBall, Normal, Probe, SignedNormal, Start, Uniform
from aureole.particles.steps import Langevin, Momentum, Sign, Steepest, StepRule, UnitL2

__all__ = [
    "RBF",
    "AtImage",
    "Diversity",
    "FeatureRBF",
    "InBall",
    "Kernel",
    "Langevin",
    "Momentum",
    "Normal",
    "ParticleSearch",
    "Particles",
    "Probe",
    "Sign",
    "SignedNormal",
    "Start",
    "Steepest",
    "StepRule",
    "Uniform",
    "UnitL2",
    "diversity",
]
