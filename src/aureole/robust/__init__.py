"""Robust training: one file a published method."""

from aureole.robust.adt_exp import ADTEXP
from aureole.robust.adt_expam import ADTEXPAM
from aureole.robust.ald import ALD, ALDPGD, ALDTRADES
from aureole.robust.madry import Madry
from aureole.robust.natural import Natural
from aureole.robust.pgd import PGDTraining
from aureole.robust.trades import TRADES

__all__ = ["ADTEXP", "ADTEXPAM", "ALD", "ALDPGD", "ALDTRADES", "TRADES", "Madry", "Natural", "PGDTraining"]
