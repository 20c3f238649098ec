"""Robust training by each method, for any data: ``robust-*``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aureole.recipes.settings import THREATS, Scale, Setting, method, training
from aureole.training.config import Training

SUMMARIES = {
    "natural": "the undefended classifier that the others are compared with",
    "pgd": "clean and adversarial cross-entropy, as the thesis trains PGD",
    "madry": "adversarial cross-entropy alone (Madry et al. 2018)",
    "trades": "clean cross-entropy and KL divergence (Zhang et al. 2019)",
    "adt-exp": "perturbations from a fitted explicit distribution (Dong et al. 2020)",
    "adt-expam": "perturbations from an amortised explicit distribution (Dong et al. 2020)",
    "ald-pgd": "cross-entropy over Stein particles (thesis chapter 5, Our_PGD)",
    "ald-trades": "KL divergence over Stein particles (thesis chapter 5, Our_TRADES)",
}
_SEARCHES_MANY = ("ald-pgd", "ald-trades")


def robust(name: str) -> Callable[..., Training]:
    """Return the recipe ``robust-NAME``."""

    def build(setting: Setting = "digits", scale: Scale = "paper") -> Training:
        """Return the configuration; any of its fields can be changed.

        Args:
            setting: the settings of thesis section 5.5.3 for this kind of data (radius, steps, network, schedule);
                your own data goes into --data.source.
            scale: the paper's, or a cheaper form that fits a laptop.
        """
        num_particles = 4 if name in _SEARCHES_MANY else 1
        return replace(training(setting, scale), method=method(name, THREATS[setting, scale], num_particles))

    build.__doc__ = (
        f"{SUMMARIES[name][0].upper()}{SUMMARIES[name][1:]}.\n\n{(build.__doc__ or '').partition(chr(10))[2]}"
    )
    return build
