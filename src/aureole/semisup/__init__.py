"""Learning from few labels: one file a published method."""

from aureole.core.averaged import Averaged
from aureole.semisup.ald import ALDVAT
from aureole.semisup.base import SemiSupervised
from aureole.semisup.entropy import EntropyMinimisation, VATEntropy
from aureole.semisup.fixmatch import FixMatch
from aureole.semisup.ict import ICT
from aureole.semisup.mean_teacher import MeanTeacher
from aureole.semisup.mixmatch import MixMatch
from aureole.semisup.mixup import ALDMixup, VATMixup
from aureole.semisup.pi_model import PiModel
from aureole.semisup.probe import SteinProbe
from aureole.semisup.pseudo_label import PseudoLabel
from aureole.semisup.supervised import Supervised
from aureole.semisup.temporal_ensembling import PredictionMemory, TemporalEnsembling
from aureole.semisup.vat import VAT

__all__ = [
    "ALDVAT",
    "ICT",
    "VAT",
    "ALDMixup",
    "Averaged",
    "EntropyMinimisation",
    "FixMatch",
    "MeanTeacher",
    "MixMatch",
    "PiModel",
    "PredictionMemory",
    "PseudoLabel",
    "SemiSupervised",
    "SteinProbe",
    "Supervised",
    "TemporalEnsembling",
    "VATEntropy",
    "VATMixup",
]
