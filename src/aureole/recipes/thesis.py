"""The figures and tables of thesis chapter 5, robust part, at the paper's scale and at a declared cheaper one.

The thesis does not say how many particles tables 5.2 and 5.3 use; we take 4, the default of its code. Its figures 5.4
and 5.5 give PGD and TRADES as many restarts as ALD has particles, under a mean loss; so do we.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aureole.core.balls import Linf
from aureole.particles import RBF, InBall, Langevin, ParticleSearch, Steepest
from aureole.recipes.settings import THREATS, Scale, Setting, method, training
from aureole.robust import ADTEXPAM
from aureole.training.config import Training
from aureole.training.study import DiversityStudy, Sampler
from aureole.training.sweep import Experiment, Sweep

#: Thesis tables 5.2 (natural) and 5.3, CIFAR-10, ResNet-18: natural, then under each attack.
_COLUMNS = ("natural", "pgd-200", "autoattack", "brendel-bethge-200")
_PAPER = {
    "adt-exp": (0.83, 0.458, 0.458, 0.465),
    "adt-expam": (0.84, 0.461, 0.445, 0.458),
    "pgd": (0.852, 0.455, 0.419, 0.426),
    "ald-pgd": (0.857, 0.471, 0.436, 0.44),
    "trades": (0.834, 0.525, 0.483, 0.487),
    "ald-trades": (0.778, 0.539, 0.501, 0.506),
}
_FOUR = ("pgd", "trades", "ald-pgd", "ald-trades")


def _run(setting: Setting, scale: Scale, data: str | None, name: str, num_particles: int, seed: int) -> Training:
    trained = method(name, THREATS[setting, scale], num_particles)
    many = trained.num_particles is not None and name != "natural"
    label = f"{trained.title}, n = {num_particles}" if many else trained.title
    return replace(training(setting, scale, data), method=trained, seed=seed, label=label)


def accuracy_against_particles(
    setting: Setting,
    *,
    data: str | None = None,
    scale: Scale = "small",
    seeds: tuple[int, ...] = (0, 1, 2),
    particles: tuple[int, ...] = (1, 4),
    single_seed_particles: tuple[int, ...] = (2, 8),
) -> Sweep:
    """Return PGD, TRADES and their ALD forms at several numbers of particles.

    With one particle the ALD forms are PGD and TRADES to the bit, so those runs are not repeated.

    Args:
        setting: kind of data.
        data: where the data is.
        scale: the paper's, or a declared cheaper one.
        seeds: of the runs.
        particles: numbers of particles, each with every seed.
        single_seed_particles: numbers of particles with the first seed alone.
    """
    runs: dict[str, Experiment] = {}
    grid = [(n, seed) for n in particles for seed in seeds] + [(n, seeds[0]) for n in single_seed_particles]
    for num_particles, seed in grid:
        for name in _FOUR:
            if num_particles > 1 or not name.startswith("ald"):
                folder = f"{name}-n{num_particles}-seed{seed}"
                runs[folder] = _run(setting, scale, data, name, num_particles, seed)
    return Sweep(title=f"Accuracy against the number of particles, {setting}", runs=runs)


def figure_5_4(
    data: str | None = None,
    scale: Scale = "small",
    seeds: tuple[int, ...] = (0, 1, 2),
    particles: tuple[int, ...] = (1, 4),
    single_seed_particles: tuple[int, ...] = (2, 8),
) -> Sweep:
    """Natural and PGD-200 accuracy against the number of particles, MNIST, LeNet.

    Args:
        data: where the data is: a folder, an .npz file, or a name on the hub.
        scale: the paper's, or a declared cheaper one.
        seeds: of the runs.
        particles: numbers of particles, each with every seed.
        single_seed_particles: numbers of particles with the first seed alone.
    """
    return accuracy_against_particles(
        "mnist", data=data, scale=scale, seeds=seeds, particles=particles, single_seed_particles=single_seed_particles
    )


def figure_5_5(
    data: str | None = None,
    scale: Scale = "small",
    seeds: tuple[int, ...] = (0, 1, 2),
    particles: tuple[int, ...] = (1, 4),
    single_seed_particles: tuple[int, ...] = (2,),
) -> Sweep:
    """Natural and PGD-200 accuracy against the number of particles, CIFAR-10, ResNet-18.

    Args:
        data: where the data is: a folder, an .npz file, or a name on the hub.
        scale: the paper's, or a declared cheaper one.
        seeds: of the runs.
        particles: numbers of particles, each with every seed.
        single_seed_particles: numbers of particles with the first seed alone.
    """
    return accuracy_against_particles(
        "cifar10", data=data, scale=scale, seeds=seeds, particles=particles, single_seed_particles=single_seed_particles
    )


def table_5_3(data: str | None = None, scale: Scale = "small", seeds: tuple[int, ...] = (0, 1, 2)) -> Sweep:
    """Natural and robust accuracy of ADT, PGD, TRADES and their ALD forms, CIFAR-10 (tables 5.2 and 5.3).

    Each model meets PGD-200, AutoAttack, and Brendel and Bethge with 200 steps; the thesis gives the last two the first
    1,000 test images alone.

    Args:
        data: where the data is: a folder, an .npz file, or a name on the hub.
        scale: the paper's, or a declared cheaper one.
        seeds: of the runs.
    """
    runs: dict[str, Experiment] = {}
    for seed in seeds:
        for name in ("adt-exp", "adt-expam", "pgd", "ald-pgd", "trades", "ald-trades"):
            run = _run("cifar10", scale, data, name, 4 if name.startswith("ald") else 1, seed)
            if scale == "small" and isinstance(run.method, ADTEXPAM):
                reason = f"{run.proxy_reason}, a generator of 32 channels instead of 256"
                run = replace(run, method=replace(run.method, width=32), proxy_reason=reason)
            plan = replace(run.evaluation, attacks=_COLUMNS[1:])
            paper = dict(zip(_COLUMNS, _PAPER[name], strict=True))
            runs[f"{name}-seed{seed}"] = replace(run, label=run.method.title, paper=paper, evaluation=plan)
    return Sweep(title="Natural and robust accuracy, CIFAR-10", runs=runs)


def figure_5_6(data: str | None = None, setting: Setting = "mnist", epochs: int = 2) -> Sweep:
    """Time of an epoch with one particle: natural, PGD, TRADES and the ALD forms.

    Args:
        data: where the data is: a folder, an .npz file, or a name on the hub.
        setting: kind of data.
        epochs: timed.
    """
    return _timing(setting, data, epochs, dict.fromkeys(("natural", *_FOUR), (1,)))


def figure_5_7(
    data: str | None = None, setting: Setting = "mnist", epochs: int = 2, particles: tuple[int, ...] = (1, 2, 4, 8)
) -> Sweep:
    """Time of an epoch of ALD against the number of particles.

    Args:
        data: where the data is: a folder, an .npz file, or a name on the hub.
        setting: kind of data.
        epochs: timed.
        particles: numbers of particles, each with every seed.
    """
    return _timing(setting, data, epochs, {"ald-pgd": particles, "ald-trades": particles})


def _timing(setting: Setting, data: str | None, epochs: int, grid: dict[str, Sequence[int]]) -> Sweep:
    runs: dict[str, Experiment] = {}
    for name, numbers in grid.items():
        for num_particles in numbers:
            run = _run(setting, "small", data, name, num_particles, 0)
            plan = replace(run.evaluation, attacks=("fgsm",), num_examples=100)
            runs[f"{name}-n{num_particles}"] = replace(run, epochs=epochs, evaluation=plan)
    return Sweep(title=f"Time of an epoch, {setting}", runs=runs)


def _samplers(ball: Linf, step_size: float, num_steps: int) -> tuple[Sampler, ...]:
    """Return Stein with several kernels, restarts and Langevin, at the same steps; the first and last are pictured."""
    base = ParticleSearch(ball, num_steps=num_steps, step_size=step_size, kernel=RBF(), temperature=1.0, start=InBall())

    def sampler(name: str, **changes: object) -> Sampler:
        return Sampler(name=name, search=replace(base, **changes))  # pyright: ignore[reportArgumentType]

    return (
        sampler("Stein, median"),
        *(sampler(f"Stein, median, temperature 1/{t}", temperature=1 / t) for t in (10, 30, 100)),
        *(sampler(f"Stein, width {w:g}", kernel=RBF(w)) for w in (1.0, 0.1)),
        sampler("Stein, width of the thesis", kernel=RBF("thesis")),
        *(sampler(f"Stein, balanced, {b:g}", balance=b) for b in (1.0, 0.3)),
        *(sampler(f"Langevin, noise {n:g}", kernel=None, step=Langevin(n, Steepest())) for n in (1.0, 3.0)),
        sampler("restarts", kernel=None),
    )


def diversity(
    setting: Setting, *, data: str | None, scale: Scale, particles: tuple[int, ...], seeds: tuple[int, ...]
) -> Sweep:
    """Return the study of samplers on a naturally trained model.

    Args:
        setting: kind of data.
        data: where the data is.
        scale: the paper's (200 steps), or 40 steps and a model trained on less.
        particles: numbers of particles.
        seeds: of the samplers.
    """
    ball = {"mnist": Linf(0.1), "cifar10": Linf(8 / 255), "digits": Linf(0.15)}[setting]
    num_steps = 200 if scale == "paper" else 40
    model = _run(setting, scale, data, "natural", 1, 0)
    if scale == "small" and setting != "digits":
        enlarged = replace(model.data, num_train=10_000)
        model = replace(model, data=enlarged, evaluation=replace(model.evaluation, ball=ball, attacks=("pgd-20",)))
    study = DiversityStudy(
        model=model,
        samplers=_samplers(ball, ball.radius / 10, num_steps),
        particles=particles,
        seeds=seeds,
        label=f"diversity, {setting}",
        proxy_reason="" if scale == "paper" else f"{num_steps} of 200 steps; {model.proxy_reason}",
    )
    return Sweep(title=f"Diversity of particles, {setting}", runs={"study": study})


def figure_5_2(
    data: str | None = None,
    setting: Setting = "mnist",
    scale: Scale = "small",
    particles: tuple[int, ...] = (2, 4, 8, 16),
    seeds: tuple[int, ...] = (0, 1, 2),
) -> Sweep:
    """Diversity and strength of the particles of each sampler; figure 5.1 is its pictures.

    Args:
        data: where the data is: a folder, an .npz file, or a name on the hub.
        setting: kind of data.
        scale: the paper's, or a declared cheaper one.
        particles: numbers of particles, each with every seed.
        seeds: of the runs.
    """
    return diversity(setting, data=data, scale=scale, particles=particles, seeds=seeds)


def figure_5_1(data: str | None = None, setting: Setting = "mnist", scale: Scale = "small") -> Sweep:
    """Pictures of three particles of the same image, by Stein and by restarts.

    Args:
        data: where the data is: a folder, an .npz file, or a name on the hub.
        setting: kind of data.
        scale: the paper's, or a declared cheaper one.
    """
    return diversity(setting, data=data, scale=scale, particles=(3,), seeds=(0,))
