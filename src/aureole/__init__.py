"""aureole: adversarial local distributions in PyTorch.

ald = aureole.ALD(aureole.ParticleSearch(aureole.Linf(8 / 255), num_particles=4))
loss = F.cross_entropy(model(x), y) + ald(model, x, y).mean()
"""

from aureole.attacks import (
    APGD,
    BIM,
    FAB,
    FGSM,
    JSMA,
    MIM,
    PGD,
    RFGSM,
    Attack,
    AutoAttack,
    BrendelBethge,
    CarliniWagner,
    CornerSearch,
    DeepFool,
    MinimalAttack,
    SparseFool,
    Square,
    TargetedAPGD,
    wrap_attack,
)
from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.errors import InputError, UntrustedResult
from aureole.core.features import FeatureTap
from aureole.core.method import Batch, Method, Terms
from aureole.core.objectives import DLR, KL, CrossEntropy, Margin, Objective, SquaredDifference, Targeted
from aureole.core.random import Streams
from aureole.models import UNet
from aureole.particles import RBF, FeatureRBF, Langevin, Particles, ParticleSearch
from aureole.refine import (
    PVAR,
    Concrete,
    Detector,
    LiveSource,
    Marginal,
    RefinedAttack,
    Refiner,
    StoredSource,
    Threshold,
    fewest_pixels,
)
from aureole.robust import ADTEXP, ADTEXPAM, ALD, ALDPGD, ALDTRADES, TRADES, Madry, Natural, PGDTraining

__version__ = "0.1.0"

__all__ = [
    "ADTEXP",
    "ADTEXPAM",
    "ALD",
    "ALDPGD",
    "ALDTRADES",
    "APGD",
    "BIM",
    "DLR",
    "FAB",
    "FGSM",
    "JSMA",
    "KL",
    "L1",
    "L2",
    "MIM",
    "PGD",
    "PVAR",
    "RBF",
    "RFGSM",
    "TRADES",
    "Attack",
    "AutoAttack",
    "Ball",
    "Batch",
    "BrendelBethge",
    "CarliniWagner",
    "Concrete",
    "CornerSearch",
    "CrossEntropy",
    "DeepFool",
    "Detector",
    "FeatureRBF",
    "FeatureTap",
    "InputError",
    "Langevin",
    "Linf",
    "LiveSource",
    "Madry",
    "Margin",
    "Marginal",
    "Method",
    "MinimalAttack",
    "Natural",
    "Objective",
    "PGDTraining",
    "ParticleSearch",
    "Particles",
    "RefinedAttack",
    "Refiner",
    "SparseFool",
    "Square",
    "SquaredDifference",
    "StoredSource",
    "Streams",
    "Targeted",
    "TargetedAPGD",
    "Terms",
    "Threshold",
    "UNet",
    "UntrustedResult",
    "fewest_pixels",
    "wrap_attack",
]
