"""Attacks: frozen values that turn images into adversarial images."""

from aureole.attacks.base import Attack
from aureole.attacks.gradient import BIM, FGSM, MIM, PGD, RFGSM
from aureole.attacks.named import named_attack

__all__ = ["BIM", "FGSM", "MIM", "PGD", "RFGSM", "Attack", "named_attack"]
