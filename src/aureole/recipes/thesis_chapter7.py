"""The experiments of thesis chapter 7: students of many methods, with and without TALD.

The text names the architectures (Table 7.1) and the pairs of figures 7.6 and 7.7; those of figures 7.2 to 7.4 are in
the pictures alone, so that ours are the published pairs of these architectures. A teacher is trained once, and all runs
of its students share it. At the scale ``small`` networks are cheaper too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

from aureole.attacks import BSSAttack
from aureole.core.method import Method
from aureole.data import Data
from aureole.distill import AT, BSS, FT, KD, SSKD, TALD
from aureole.models import ModelConfig
from aureole.particles import RBF
from aureole.particles.starts import Uniform
from aureole.recipes.distill import (
    CHEAP,
    EPOCHS,
    PRESETS,
    Budget,
    Ground,
    Preset,
    Setting,
    Teacher,
    networks,
    with_method,
)
from aureole.recipes.distill_published import on_imagenet
from aureole.recipes.settings import Scale
from aureole.robust import Natural
from aureole.training.config import SGD, Evaluation, Training
from aureole.training.distillation import Distilling
from aureole.training.study import DiversityStudy, Sampler
from aureole.training.sweep import Experiment, Sweep, with_seed

Style = Literal["same", "cross"]
PAIRS: dict[Style, tuple[str, ...]] = {
    "same": ("wrn-40-2-wrn-16-2", "wrn-40-2-wrn-40-1", "resnet56-resnet20", "resnet32x4-resnet8x4"),
    "cross": ("resnet50-mobilenet-v2", "resnet32x4-shufflenet-v1", "wrn-40-2-shufflenet-v1"),
}
#: Thesis section 7.4.2.
METHODS = ("kd", "fitnet", "at", "sp", "cc", "vid", "rkd", "pkt", "ab", "ft", "nst", "crd", "hsakd")
FEWER = ("kd", "at", "sp", "vid")
_BUDGET = Budget()
_RESNET34 = Teacher(source="my_models:resnet34", layers=("maxpool", "layer1", "layer2", "layer3", "layer4"))


class Case(NamedTuple):
    """A student: of which pair, by which method, with how many particles of TALD; 0 leaves TALD out."""

    pair: str
    method: str
    particles: int = 0


def with_particles(number: int, preset: Preset = "default") -> TALD | None:
    """Return TALD with so many particles; None for 0.

    Example:
        >>> from aureole.recipes.thesis_chapter7 import with_particles
        >>> with_particles(2).search.num_particles, with_particles(0)
        (2, None)
    """
    tald = PRESETS[preset]
    return replace(tald, search=replace(tald.search, num_particles=number)) if number else None


def _sweep(
    title: str, ground: Ground, cases: Iterable[Case], seeds: tuple[int, ...], preset: Preset = "default"
) -> Sweep:
    """Return each teacher, then its students; a teacher is the same for every seed."""
    runs: dict[str, Experiment] = {}
    for case in dict.fromkeys(cases):
        run = ground.distilling(case.method, case.pair, with_particles(case.particles, preset))
        home = f"teacher-{networks(case.pair)[0]}"
        assert isinstance(run.teacher, Training)
        runs.setdefault(home, run.teacher)
        run = replace(run, student=_labelled(run.student, case), teacher_folder=f"../{home}")
        for seed in seeds:
            runs[f"{_name(case)}-seed{seed}"] = with_seed(run, seed)
    return Sweep(title=f"{title}, {ground.setting}", runs=runs)


def _labelled(run: Training, case: Case) -> Training:
    number = f", n = {case.particles}" if case.particles else ""
    return replace(run, label=f"{run.label}{number}, {case.pair}")


def _name(case: Case) -> str:
    return f"{case.pair}-{case.method}{f'-tald-n{case.particles}' if case.particles else ''}"


def styled(style: Style) -> Callable[..., Sweep]:
    """Return a recipe that compares methods with and without TALD on pairs of one style, or of different styles."""

    def build(
        data: str | None = None,
        setting: Setting = "cifar100",
        scale: Scale = "small",
        seeds: tuple[int, ...] = (0, 1, 2),
        pairs: tuple[str, ...] = (),
        methods: tuple[str, ...] = (),
        tald_preset: Preset = "default",
        budget: Budget = _BUDGET,
    ) -> Sweep:
        """Students of many methods, each with and without TALD, and the student alone.

        Args:
            data: folder of the data.
            setting: kind of data; the thesis has CIFAR-100.
            scale: the paper's, or a declared cheaper one.
            seeds: of the students.
            pairs: teachers and students; by default those of the thesis's architectures, or a cheap one.
            methods: by name, as in ``distill``; by default the thesis's thirteen, or kd, at, sp and vid.
            tald_preset: TALD of this library, of the thesis, or of its authors' code.
            budget: of the scale small.
        """
        small = scale == "small"
        chosen = methods or (FEWER if small else METHODS)
        return _sweep(
            f"Distillation with and without TALD, {style} style",
            Ground(setting=setting, scale=scale, data=data, budget=budget),
            _with_and_without(pairs or ((CHEAP[style == "cross"],) if small else PAIRS[style]), chosen),
            seeds,
            tald_preset,
        )

    return build


def _with_and_without(pairs: tuple[str, ...], methods: tuple[str, ...]) -> Iterator[Case]:
    for pair in pairs:
        yield Case(pair, "none")
        for method in methods:
            yield Case(pair, method)
            if method != "none":
                yield Case(pair, method, 4)


def figure_7_1(
    data: str | None = None,
    setting: Setting = "cifar100",
    scale: Scale = "small",
    seeds: tuple[int, ...] = (0, 1, 2),
    particles: tuple[int, ...] = (2, 4, 8),
    teacher: str | None = None,
    budget: Budget = _BUDGET,
) -> Sweep:
    """Diversity of a teacher's particles beside BSS with random starts, both in a ball of 0.3.

    Args:
        data: folder of the data.
        setting: kind of data; the thesis has CIFAR-100.
        scale: the paper's (200 steps), or a declared cheaper one (40).
        seeds: of the samplers.
        particles: numbers of particles.
        teacher: its network; the thesis has resnet32x4 and wrn-40-2.
        budget: of the scale small.
    """
    ground = Ground(setting=setting, scale=scale, data=data, budget=budget)
    model = ground.classifier(teacher or ("resnet32x4" if scale == "paper" else networks(CHEAP[0])[0]))
    steps = 200 if scale == "paper" else 40
    stein = replace(TALD().search, num_steps=steps, step_size=2 / steps, start=Uniform(0.3))
    letter = replace(stein, kernel=RBF(1e-3), balance=None, temperature=1.0)
    study = DiversityStudy(
        model=model,
        samplers=(
            Sampler(name="Stein", search=stein),
            Sampler(name="Stein, width of the thesis", search=letter),
            Sampler(name="restarts", search=replace(stein, kernel=None)),
            Sampler(name="BSS, random starts", search=BSSAttack.thesis(), objective=stein.objective),
        ),
        particles=particles,
        seeds=seeds,
        label=f"diversity of a teacher's particles, {setting}",
        proxy_reason=model.proxy_reason
        and f"{model.proxy_reason}, {steps} of 200 steps".replace(", 200 of 200 steps", ""),
    )
    return Sweep(title=f"Diversity of a teacher's particles, {setting}", runs={"study": study})


def figure_7_4(
    data: str | None = None,
    setting: Setting = "cifar100",
    scale: Scale = "small",
    seeds: tuple[int, ...] = (0, 1, 2),
    pairs: tuple[str, ...] = (),
    particles: tuple[int, ...] = (4,),
    tald_preset: Preset = "default",
    budget: Budget = _BUDGET,
) -> Sweep:
    """KD, KD + BSS and KD + TALD: accuracy (figure 7.4), MagSim and AngSim to the teacher (figure 7.6).

    Args:
        data: folder of the data.
        setting: kind of data; the thesis has CIFAR-100.
        scale: the paper's, or a declared cheaper one.
        seeds: of the students.
        pairs: teachers and students; by default those of figure 7.6, or a cheap one.
        particles: numbers of TALD's particles.
        tald_preset: TALD of this library, of the thesis, or of its authors' code.
        budget: of the scale small.
    """
    thesis = ("wrn-40-2-wrn-16-2", "resnet56-resnet20", "resnet32x4-resnet8x4")
    cases = [
        case
        for pair in pairs or (CHEAP[:1] if scale == "small" else thesis)
        for case in (*(Case(pair, name) for name in ("none", "kd", "bss")), *(Case(pair, "kd", n) for n in particles))
    ]
    ground = Ground(setting=setting, scale=scale, data=data, budget=budget)
    return _sweep("KD, BSS and TALD", ground, cases, seeds, tald_preset)


def figure_7_7(
    data: str | None = None,
    setting: Setting = "cifar100",
    scale: Scale = "small",
    seeds: tuple[int, ...] = (0, 1, 2),
    pairs: tuple[str, ...] = (),
    particles: tuple[int, ...] = (0, 1, 2, 4, 8),
    tald_preset: Preset = "default",
    budget: Budget = _BUDGET,
) -> Sweep:
    """Accuracy against the number of TALD's particles; 0 is the method alone.

    Args:
        data: folder of the data.
        setting: kind of data; the thesis has CIFAR-100.
        scale: the paper's, or a declared cheaper one.
        seeds: of the students.
        pairs: one that learns by kd, at and sp, and one that learns by kd, vid and ft; by default resnet56-resnet20 and
            wrn-40-2-shufflenet-v1, or two cheap ones.
        particles: their numbers.
        tald_preset: TALD of this library, of the thesis, or of its authors' code.
        budget: of the scale small.
    """
    chosen = pairs or (CHEAP if scale == "small" else ("resnet56-resnet20", "wrn-40-2-shufflenet-v1"))
    each = zip(chosen, (("kd", "at", "sp"), ("kd", "vid", "ft")), strict=False)
    cases = [Case(pair, name, n) for pair, names in each for name in names for n in particles]
    ground = Ground(setting=setting, scale=scale, data=data, budget=budget)
    return _sweep("Accuracy against the number of particles", ground, cases, seeds, tald_preset)


def table_7_2(
    data: str | None = None,
    setting: Setting = "cifar100",
    pair: str = "resnet56-resnet20",
    particles: tuple[int, ...] = (1, 2, 4, 8),
    epochs: int = 2,
    num_train: int = 2_000,
) -> Sweep:
    """Time of an epoch of KD, KD + BSS, and KD + TALD with several numbers of particles.

    The thesis has minutes: 19.1 for BSS; 22.01, 26.35, 32.35 and 49.01 for TALD with 1, 2, 4 and 8 particles.

    Args:
        data: folder of the data.
        setting: kind of data; the thesis has CIFAR-100.
        pair: teacher and student; the thesis does not say which.
        particles: numbers of TALD's particles.
        epochs: timed; the digits take their own number.
        num_train: training images; the digits take all of theirs.
    """
    budget = Budget(num_train=num_train, epochs=epochs, num_test=100)
    cases = [Case(pair, "kd"), Case(pair, "bss"), *(Case(pair, "kd", n) for n in particles)]
    timed = _sweep("Time of an epoch", Ground(setting=setting, scale="small", data=data, budget=budget), cases, (0,))
    return replace(timed, runs={name: _timed(run) for name, run in timed.runs.items()})


def _timed(run: Experiment) -> Experiment:
    """Return the run with the decision boundaries left out, and with BSS as busy as early in a whole run."""
    if not isinstance(run, Distilling):
        return run
    method: Method = run.student.method
    if isinstance(method, BSS):
        method = replace(method, num_epochs=EPOCHS)
    return replace(run, student=replace(run.student, method=method), num_boundary=0)


def figure_7_5(
    teacher: Teacher = _RESNET34,
    data: str = "imagenet",
    seeds: tuple[int, ...] = (0,),
    methods: tuple[str, ...] = ("kd", "at", "ft", "crd", "sskd"),
    tald_preset: Preset = "default",
) -> Sweep:
    """ResNet-18 from ResNet-34 on ImageNet by torchdistill's settings, each method with and without TALD.

    Args:
        teacher: a model of your own that normalises inside, or the folder of a finished run; its layers are the stem,
            then the stages.
        data: folder or hub name of images of one size, 224x224.
        seeds: of the students.
        methods: by name.
        tald_preset: TALD of this library, of the thesis, or of its authors' code.
    """
    chosen = PRESETS[tald_preset]
    if tald_preset != "authors":  # thesis section 7.4.3
        chosen = replace(chosen, search=replace(chosen.search, step_size=0.2, start=Uniform(5 * 0.3)))
    student = _on_imagenet(data)
    alone = replace(student, method=Natural(), label="student alone", paper=on_imagenet("none"))
    runs: dict[str, Experiment] = {f"none-seed{seed}": with_seed(alone, seed) for seed in seeds}
    for name in methods:
        for tald in (None, chosen):
            run = _by_torchdistill(student, name, tald)
            around = teacher.of(Distilling(student=run))
            for seed in seeds:
                runs[f"{name}{'-tald' if tald else ''}-seed{seed}"] = with_seed(around, seed)
    return Sweep(title="Distillation with and without TALD, ImageNet", runs=runs)


def _on_imagenet(data: str) -> Training:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return Training(
        data=Data(source=data, num_validation=1000),
        model=ModelConfig(name="resnet18-imagenet", mean=mean, std=std),
        optimizer=SGD(learning_rate=0.1, weight_decay=1e-4, milestones=(30, 60, 90)),
        epochs=100,
        batch_size=256,
        augment="crop-flip",
        evaluation=Evaluation(attacks=()),
        proxy_reason="images of one size are padded by 4 and cropped, not cropped and resized at random",
    )


def _by_torchdistill(student: Training, name: str, tald: TALD | None) -> Training:
    """Return the run of a student with a method, and with torchdistill's settings where it has its own."""
    run = with_method(student, name, tald)
    run = replace(run, paper=on_imagenet(name) if tald is None else {})
    presets = {"kd": KD.imagenet(), "at": AT.imagenet(), "ft": FT.imagenet(), "sskd": SSKD.imagenet()}
    if name not in presets:
        return run
    method = presets[name] if tald is None else replace(presets[name], tald=tald)
    run = replace(run, method=method, proxy_reason=student.proxy_reason)
    if name == "ft":  # the first stage of its own there has a rate of 0.01
        reason = f"{student.proxy_reason}, the paraphraser learns at the student's rate"
        return replace(run, epochs=90, proxy_reason=reason)
    decay = 5e-4 if name == "sskd" else run.optimizer.weight_decay
    return replace(run, optimizer=replace(run.optimizer, weight_decay=decay))
