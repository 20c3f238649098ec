"""Robust training by each method, for any data: ``robust-*``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from aureole.core.balls import Linf
from aureole.particles import RBF
from aureole.recipes.settings import THREATS, Scale, Setting, Threat, method, training
from aureole.robust import ALDPGD, ALDTRADES
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


def robust(name: str) -> Callable[..., Training]:
    """Return the recipe ``robust-NAME``; those of ALD also take a kernel."""

    def build(setting: Setting = "digits", scale: Scale = "paper", radius: float | None = None) -> Training:
        """Return the configuration; any of its fields can be changed.

        Args:
            setting: the settings of thesis section 5.5.3 for this kind of data (radius, steps, network, schedule);
                your own data goes into --data.source.
            scale: the paper's, or a cheaper form that fits a laptop.
            radius: of the ball in training and in evaluation; None takes the setting's.
        """
        threat: Threat = THREATS[setting, scale]
        run = training(setting, scale)
        if radius is not None:
            threat = replace(threat, ball=Linf(radius))
            run = replace(run, evaluation=replace(run.evaluation, ball=threat.ball))
        return replace(run, method=method(name, threat, 4 if name.startswith("ald") else 1))

    def build_with_kernel(
        setting: Setting = "digits",
        scale: Scale = "paper",
        radius: float | None = None,
        bandwidth: Literal["median", "thesis", "none"] | float = "median",
    ) -> Training:
        """Return the configuration; any of its fields can be changed.

        Args:
            setting: the settings of thesis section 5.5.3 for this kind of data (radius, steps, network, schedule);
                your own data goes into --data.source.
            scale: the paper's, or a cheaper form that fits a laptop.
            radius: of the ball in training and in evaluation; None takes the setting's.
            bandwidth: of the kernel: the median rule, the thesis's rule, a number, or none for independent restarts.
        """
        run = build(setting, scale, radius)
        assert isinstance(run.method, ALDPGD | ALDTRADES)
        kernel = None if bandwidth == "none" else RBF(bandwidth)
        return replace(run, method=replace(run.method, search=replace(run.method.search, kernel=kernel)))

    chosen = build_with_kernel if name.startswith("ald") else build
    summary = SUMMARIES[name][0].upper() + SUMMARIES[name][1:]
    chosen.__doc__ = f"{summary}.\n{(chosen.__doc__ or '').partition(chr(10))[2]}"
    return chosen
