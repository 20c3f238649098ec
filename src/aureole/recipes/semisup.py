"""A classifier from few labels by each method, for any data: ``semisup-*``; thesis figure 5.3 and table 5.1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from aureole.core.errors import unknown_name
from aureole.core.method import Method
from aureole.core.ramps import Linear, Sigmoid
from aureole.data import FewLabels
from aureole.models import ModelConfig
from aureole.recipes.settings import Scale
from aureole.semisup import (
    ALDVAT,
    ICT,
    VAT,
    ALDMixup,
    EntropyMinimisation,
    FixMatch,
    MeanTeacher,
    MixMatch,
    PiModel,
    PseudoLabel,
    Supervised,
    TemporalEnsembling,
    VATEntropy,
    VATMixup,
)
from aureole.semisup.base import SemiSupervised
from aureole.training.config import SGD, Evaluation, Training
from aureole.training.sweep import Experiment, Sweep

Setting = Literal["digits", "mnist", "cifar10"]
Preset = Literal["default", "probe", "algorithm"]
RADII: Mapping[Setting, tuple[float, float]] = {"digits": (0.01, 1.0), "mnist": (0.01, 1.0), "cifar10": (5e-4, 0.2)}
"""The thesis's radius in its units, and what such a unit is in images of [0, 1]: it normalises CIFAR-10 first."""
PAPER: Mapping[tuple[str, int], Mapping[int, float]] = {
    ("vat", 1000): {4: 0.757},
    ("ald", 1000): {4: 0.779},
    ("vat", 4000): {1: 0.8601, 2: 0.8611, 4: 0.858, 8: 0.856},
    ("ald", 4000): {1: 0.867, 2: 0.876, 4: 0.883, 8: 0.872},
    ("vat-mixup", 4000): {1: 0.870, 2: 0.887, 4: 0.9013, 8: 0.893},
    ("ald-mixup", 4000): {1: 0.913, 2: 0.925, 4: 0.930, 8: 0.927},
}
"""Accuracies of the thesis on CIFAR-10, by method, labels and particles: the text on figure 5.3, and table 5.1."""

METHODS: Mapping[str, Method] = {
    "supervised": Supervised(),
    "vat": VAT(),
    "ald": ALDVAT(),
    "vat-mixup": VATMixup(),
    "ald-mixup": ALDMixup(),
    "entropy": EntropyMinimisation(),
    "vat-entropy": VATEntropy(),
    "pi-model": PiModel(),
    "temporal-ensembling": TemporalEnsembling(),
    "mean-teacher": MeanTeacher(),
    "pseudo-label": PseudoLabel(),
    "ict": ICT(),
    "mixmatch": MixMatch(),
    "fixmatch": FixMatch(),
}
SUMMARIES: Mapping[str, str] = {
    "supervised": "the labels alone: what the others are compared with",
    "vat": "virtual adversarial training (Miyato et al. 2019)",
    "ald": "VAT with Stein particles (thesis chapter 5)",
    "vat-mixup": "VAT on mixed particles",
    "ald-mixup": "ALD on mixed particles (thesis table 5.1)",
    "entropy": "entropy minimisation (Grandvalet and Bengio 2005)",
    "vat-entropy": "VAT and entropy minimisation (Miyato et al. 2019)",
    "pi-model": "two views, one prediction (Laine and Aila 2017)",
    "temporal-ensembling": "agree with the average of one's own predictions (Laine and Aila 2017)",
    "mean-teacher": "agree with the average of one's own weights (Tarvainen and Valpola 2017)",
    "pseudo-label": "take the likeliest class for the label (Lee 2013)",
    "ict": "interpolated images, interpolated predictions (Verma et al. 2019)",
    "mixmatch": "guessed, sharpened and mixed labels (Berthelot et al. 2019)",
    "fixmatch": "confident labels from weak views for strong ones (Sohn et al. 2020)",
}


PRESETTABLE = ("vat", "ald", "vat-mixup", "ald-mixup")


def few_labels(
    setting: Setting, scale: Scale, num_labelled: int | None, data: str | None = None, steps: int = 1000
) -> Training:
    """Return the run of a setting of thesis section 5.5.2; recipes replace its method.

    Args:
        setting: kind of data.
        scale: the paper's, or a cheaper one.
        num_labelled: labelled images, equally many of each class; None takes 50, 300 or 1000.
        data: where the data is; None for the digits that ship with the library, or the name of a hub data set.
        steps: of training at the cheaper scale, in ten epochs.
    """
    labels = num_labelled or {"digits": 50, "mnist": 300, "cifar10": 1000}[setting]
    if setting == "digits":
        return Training(
            data=FewLabels(source=data or "digits", num_labelled=labels),
            model=ModelConfig(name="resnet8"),
            optimizer=SGD(learning_rate=0.05, schedule="cosine"),
            epochs=15,
            batch_size=50,
            unlabelled_batch_size=100,
            views="digits",
            evaluation=Evaluation(attacks=()),
            proxy_reason="8x8 digits; the thesis has no such experiment",
        )
    photos = setting == "cifar10"
    run = Training(
        data=FewLabels(
            source=data or {"mnist": "ylecun/mnist", "cifar10": "uoft-cs/cifar10"}[setting],
            num_validation=1000,
            num_labelled=labels,
        ),
        optimizer=SGD(learning_rate=0.1, weight_decay=5e-4, nesterov=True, schedule="cosine"),
        epochs=600 if photos else 400,
        batch_size=64,
        unlabelled_batch_size=64,
        views="photos" if photos else "digits",
        evaluation=Evaluation(attacks=()),
    )
    if photos:
        mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
        run = replace(run, model=ModelConfig(name="conv-large", mean=mean, std=std))
    if scale == "paper":
        return run
    per_epoch = max(1, round(steps / 10))
    return replace(
        run,
        model=replace(run.model, name="small-cnn" if photos else "lenet5"),
        optimizer=SGD(learning_rate=0.05, schedule="cosine"),
        epochs=10,
        steps_per_epoch=per_epoch,
        proxy_reason=(
            f"{'a small CNN instead of Conv-Large, ' if photos else ''}{10 * per_epoch:,} steps of 64 labelled and"
            f" 64 unlabelled images at a rate of 0.05 instead of {600 if photos else 400} epochs"
        ),
    )


def semisup(name: str) -> Callable[..., Training]:
    """Return the recipe ``semisup-NAME``; VAT, ALD and their mixed forms have presets."""
    if name in PRESETTABLE:
        return _with_presets(name)

    def build(setting: Setting = "digits", scale: Scale = "paper", num_labelled: int | None = None) -> Training:
        """Return the configuration; any of its fields can be changed.

        Args:
            setting: the settings of thesis section 5.5.2 for this kind of data; your own goes into --data.source.
            scale: the paper's, or a cheaper form that fits a laptop.
            num_labelled: labelled images, equally many of each class; None takes 50, 300 or 1000.
        """
        return with_method(few_labels(setting, scale, num_labelled), name)

    return _described(build, name)


def _with_presets(name: str) -> Callable[..., Training]:
    def build(
        setting: Setting = "digits",
        scale: Scale = "paper",
        num_labelled: int | None = None,
        preset: Preset = "default",
    ) -> Training:
        """Return the configuration; any of its fields can be changed.

        Args:
            setting: the settings of thesis section 5.5.2 for this kind of data; your own goes into --data.source.
            scale: the paper's, or a cheaper form that fits a laptop.
            num_labelled: labelled images, equally many of each class; None takes 50, 300 or 1000.
            preset: the library's own radius, distance and weight (default), those of the thesis as its released code
                reads them (probe), or Algorithm 5.1 to the letter (algorithm; it is about ALD, and VAT's are the
                code's).
        """
        return with_preset(with_method(few_labels(setting, scale, num_labelled), name), preset, setting)

    return _described(build, name)


def _described(build: Callable[..., Training], name: str) -> Callable[..., Training]:
    summary = SUMMARIES[name][0].upper() + SUMMARIES[name][1:]
    build.__doc__ = f"{summary}.\n{(build.__doc__ or '').partition(chr(10))[2]}"
    return build


def with_method(run: Training, name: str) -> Training:
    """Return the run with a method; a run shorter than the paper's shortens what counts epochs or steps.

    A ramp takes a quarter of the epochs at most (the 80 of a paper would leave a run of 10 with the labels alone), and
    an average of weights looks back on 20 steps, not on 1,000, which is all that there are.
    """
    method = METHODS[name]
    if not run.proxy_reason or not isinstance(method, SemiSupervised):
        return replace(run, method=method)
    reasons = [run.proxy_reason]
    if isinstance(method.ramp, Linear | Sigmoid):
        ramp = replace(method.ramp, length=min(method.ramp.length, run.epochs / 4))
        reasons.append(f"a ramp over {ramp.length:g} epochs instead of {method.ramp.length:g}")
        method = replace(method, ramp=ramp)
    if method.ema_decay is not None:
        reasons.append(f"weights averaged at 0.95 instead of {method.ema_decay:g}")
        method = replace(method, ema_decay=0.95)
    if isinstance(method, MeanTeacher):
        reasons.append("a weight of 30 instead of 100, chosen on validation images")
        method = replace(method, weight=30.0)
    if isinstance(method, MixMatch) and run.data.source == "digits":
        reasons.append("a weight of 10 instead of 75, which 180 steps do not bear")
        method = replace(method, weight=10.0)
    return replace(run, method=method, proxy_reason=", ".join(reasons))


def with_preset(run: Training, preset: Preset, setting: Setting) -> Training:
    """Return a run of VAT, ALD or a mixed form of them in one reading of the thesis; other methods have no presets.

    Args:
        run: with the library's own settings; its number of particles is kept.
        preset: ``"default"`` keeps these settings, and says so; for the others see :mod:`aureole.semisup.ald`.
        setting: kind of data, which decides on the radius.
    """
    method, (radius, unit) = run.method, RADII[setting]
    if not isinstance(method, VAT) or isinstance(method, VATEntropy):
        return run
    if preset == "default":
        reasons = [run.proxy_reason, "the library's own radius, distance and weight instead of the thesis's"]
        return run if setting == "digits" else replace(run, proxy_reason=", ".join(filter(None, reasons)))
    if not isinstance(method, ALDVAT):
        return replace(run, method=type(method).thesis(radius, method.num_particles, unit))
    read = type(method).probe if preset == "probe" else type(method).algorithm
    return replace(run, method=read(radius, method.num_particles, unit))


def with_particles(method: VAT, num_particles: int) -> VAT:
    """Return VAT, ALD or a mixed form of them with another number of directions or particles."""
    return replace(method, search=replace(method.search, num_particles=num_particles))


def _comparison(
    names: tuple[str, ...],
    run: Training,
    particles: tuple[int, ...],
    seeds: tuple[int, ...],
    *,
    setting: Setting,
    preset: Preset,
    suffix: str = "",
) -> dict[str, Experiment]:
    """Return every method from the same labels, and the labels alone.

    Args:
        names: of the methods.
        run: what they share.
        particles: of VAT, ALD and their mixed forms.
        seeds: of the runs, and of the labels.
        setting: kind of data.
        preset: of VAT, ALD and their mixed forms.
        suffix: of the names of the runs, which says how many labels they have.
    """
    runs: dict[str, Experiment] = {}
    for seed in seeds:
        assert isinstance(run.data, FewLabels)
        seeded = replace(run, seed=seed, data=replace(run.data, labelled_seed=seed))
        runs[f"supervised{suffix}-seed{seed}"] = replace(seeded, method=METHODS["supervised"])
        for name in names:
            found = with_method(seeded, name)
            for number in particles if isinstance(found.method, VAT) else (1,):
                chosen = found
                if isinstance(found.method, VAT):
                    chosen = with_preset(replace(found, method=with_particles(found.method, number)), preset, setting)
                label = f"{chosen.method.title}{suffix and f', {suffix.removeprefix(chr(45))} labels'}"
                paper = _published(name, number, run.data.num_labelled) if _as_published(seeded, setting) else {}
                runs[f"{name}-n{number}{suffix}-seed{seed}"] = replace(chosen, label=label, paper=paper)
    return runs


def _as_published(run: Training, setting: Setting) -> bool:
    return setting == "cifar10" and not run.proxy_reason


def _published(name: str, particles: int, labels: int) -> dict[str, float]:
    """Return the thesis's accuracy on CIFAR-10; empty where it has none."""
    found = PAPER.get((name, labels), {}).get(particles)
    return {} if found is None else {"natural": found}


def _preset(preset: Preset | None, scale: Scale) -> Preset:
    return preset or ("probe" if scale == "paper" else "default")


def _numbers(particles: tuple[int, ...], scale: Scale) -> tuple[int, ...]:
    return particles or ((1, 2, 4, 8, 24) if scale == "paper" else (1, 2, 4, 8))


def figure_5_3(
    data: str | None = None,
    setting: Literal["mnist", "cifar10"] = "mnist",
    scale: Scale = "small",
    seeds: tuple[int, ...] = (0, 1, 2),
    particles: tuple[int, ...] = (),
    num_labelled: tuple[int, ...] = (),
    steps: int = 1000,
    preset: Preset | None = None,
) -> Sweep:
    """Accuracy from few labels against the number of particles: VAT with restarts beside ALD.

    Args:
        data: folder of the data.
        setting: kind of data.
        scale: the paper's, or a declared cheaper one.
        seeds: of the runs and of the choice of labels.
        particles: numbers of particles; by default 1, 2, 4 and 8, and 24 at the paper's scale.
        num_labelled: numbers of labels; by default those of the thesis, 300 and 500, or 1000 and 4000.
        steps: of training at the cheaper scale, in ten epochs.
        preset: settings of VAT and ALD, as of semisup-ald; None takes the thesis's as its released code reads them
            (probe) at the paper's scale, and the library's own (default) at the cheaper one.
    """
    runs: dict[str, Experiment] = {}
    for labels in num_labelled or {"mnist": (300, 500), "cifar10": (1000, 4000)}[setting]:
        run = few_labels(setting, scale, labels, data, steps)
        runs |= _comparison(
            ("vat", "ald"),
            run,
            _numbers(particles, scale),
            seeds,
            setting=setting,
            preset=_preset(preset, scale),
            suffix=f"-{labels}",
        )
    return Sweep(title=f"Learning from few labels, {setting}", runs=runs)


def table_5_1(
    data: str | None = None,
    setting: Literal["mnist", "cifar10"] = "cifar10",
    scale: Scale = "small",
    seeds: tuple[int, ...] = (0, 1, 2),
    particles: tuple[int, ...] = (),
    steps: int = 1000,
    preset: Preset | None = None,
) -> Sweep:
    """VAT and ALD, each with and without Mixup, against the number of particles (CIFAR10-4000 in the thesis).

    Args:
        data: folder of the data.
        setting: kind of data.
        scale: the paper's, or a declared cheaper one.
        seeds: of the runs and of the choice of labels.
        particles: numbers of particles; by default 1, 2, 4 and 8, and 24 at the paper's scale.
        steps: of training at the cheaper scale, in ten epochs.
        preset: settings of VAT and ALD, as of semisup-ald; None takes the thesis's as its released code reads them
            (probe) at the paper's scale, and the library's own (default) at the cheaper one.
    """
    run = few_labels(setting, scale, 4000 if setting == "cifar10" else 500, data, steps)
    numbers = _numbers(particles, scale)
    runs = _comparison(PRESETTABLE, run, numbers, seeds, setting=setting, preset=_preset(preset, scale))
    return Sweep(title=f"Mixup of particles, {setting}", runs=runs)


def few_labels_study(
    data: str | None = None,
    setting: Setting = "mnist",
    scale: Scale = "small",
    seeds: tuple[int, ...] = (0, 1, 2),
    methods: tuple[str, ...] = tuple(METHODS)[1:],
    particles: int = 4,
    num_labelled: int | None = None,
    steps: int = 1000,
) -> Sweep:
    """Every method from the same few labels, in as many steps, beside training on the labels alone.

    Args:
        data: folder of the data.
        setting: kind of data.
        scale: the paper's, or a declared cheaper one.
        seeds: of the runs and of the choice of labels.
        methods: names, as in the recipes semisup-NAME.
        particles: of VAT, ALD and their mixed forms.
        num_labelled: labelled images, equally many of each class; None takes 50, 300 or 1000.
        steps: of training at the cheaper scale, in ten epochs.
    """
    for name in methods:
        if name not in METHODS:
            raise unknown_name("method", name, METHODS)
    run = few_labels(setting, scale, num_labelled, data, steps)
    suffix = f"-{run.data.num_labelled}" if isinstance(run.data, FewLabels) else ""
    names = tuple(name for name in methods if name != "supervised")
    runs = _comparison(names, run, (particles,), seeds, setting=setting, preset="default", suffix=suffix)
    return Sweep(title=f"Learning from few labels, every method, {setting}", runs=runs)
