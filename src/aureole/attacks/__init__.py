"""Attacks: frozen values that turn images into adversarial images."""

from aureole.attacks.adapters import wrap_attack
from aureole.attacks.apgd import APGD, TargetedAPGD
from aureole.attacks.autoattack import AutoAttack
from aureole.attacks.base import Attack
from aureole.attacks.brendel_bethge import BrendelBethge
from aureole.attacks.bss import BSSAttack
from aureole.attacks.carlini_wagner import CarliniWagner
from aureole.attacks.deepfool import DeepFool
from aureole.attacks.fab import FAB
from aureole.attacks.gradient import BIM, FGSM, MIM, PGD, RFGSM
from aureole.attacks.minimal import MinimalAttack
from aureole.attacks.named import attack_names, named_attack
from aureole.attacks.sparse import JSMA, CornerSearch, SparseFool
from aureole.attacks.square import Square

__all__ = [
    "APGD",
    "BIM",
    "FAB",
    "FGSM",
    "JSMA",
    "MIM",
    "PGD",
    "RFGSM",
    "Attack",
    "AutoAttack",
    "BSSAttack",
    "BrendelBethge",
    "CarliniWagner",
    "CornerSearch",
    "DeepFool",
    "MinimalAttack",
    "SparseFool",
    "Square",
    "TargetedAPGD",
    "attack_names",
    "named_attack",
    "wrap_attack",
]
