"""ALD under each kernel, temperature and balance: what the library's default rests on."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Literal

from aureole.particles import RBF
from aureole.recipes.settings import THREATS, Scale, Setting, method, training
from aureole.robust import ALDPGD, ALDTRADES
from aureole.training.sweep import Experiment, Sweep


def kernel_study(
    data: str | None = None,
    setting: Setting = "mnist",
    scale: Scale = "small",
    seeds: tuple[int, ...] = (0, 1, 2),
    num_particles: int = 4,
    regulariser: Literal["pgd", "trades"] = "pgd",
    temperatures: tuple[float, ...] = (1.0, 1 / 10, 1 / 30, 1 / 100),
    balances: tuple[float, ...] = (1.0, 0.3, 0.1),
) -> Sweep:
    """ALD with the median bandwidth at several temperatures and balances, and with the bandwidth of the thesis.

    Judged on the validation images, for it chooses a setting; the same method with as many restarts stands beside. The
    bandwidth of the thesis runs with the first seed alone: it equals restarts image for image.

    Args:
        data: where the data is.
        setting: kind of data.
        scale: the paper's, or a declared cheaper one.
        seeds: of the runs.
        num_particles: particles.
        regulariser: ALD-PGD beside PGD, or ALD-TRADES beside TRADES.
        temperatures: multiply the repulsion.
        balances: lengths of the repulsion beside a drive of unit length.
    """
    threat, run = THREATS[setting, scale], training(setting, scale, data)
    run = replace(run, evaluation=replace(run.evaluation, part="validation", attacks=("pgd-50",)))
    restarts, ald = method(regulariser, threat, num_particles), method(f"ald-{regulariser}", threat, num_particles)
    assert isinstance(ald, ALDPGD | ALDTRADES)
    changes: dict[str, dict[str, object]] = {"thesis width": {"kernel": RBF("thesis"), "temperature": 1.0}}
    changes |= {f"median, T = {_fraction(t)}": {"temperature": t} for t in temperatures}
    changes |= {f"balanced, {b:g}": {"balance": b, "temperature": 1.0} for b in balances}
    runs: dict[str, Experiment] = {}
    for seed in seeds:
        runs[f"restarts-seed{seed}"] = replace(run, method=restarts, seed=seed, label=f"{restarts.title}, restarts")
        for name, fields in changes.items():
            if name == "thesis width" and seed != seeds[0]:
                continue
            search = replace(ald.search, **fields)  # pyright: ignore[reportArgumentType]
            folder = "".join(c if c.isalnum() else "-" for c in f"{name}-seed{seed}")
            runs[folder] = replace(run, method=replace(ald, search=search), seed=seed, label=f"{ald.title}, {name}")
    return Sweep(title=f"Kernel, temperature and balance of {ald.title}, n = {num_particles}, {setting}", runs=runs)


def _fraction(number: float) -> str:
    return str(Fraction(number).limit_denominator(10_000))
