"""A student from a teacher by any method, for any data: ``teacher`` and ``distill``, and what thesis 7.4 shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from aureole.core.errors import InputError, unknown_name
from aureole.core.method import Method
from aureole.core.taps import Taps
from aureole.data import Data
from aureole.distill import (
    AB,
    AT,
    BSS,
    CC,
    CRD,
    FSP,
    FT,
    HSAKD,
    KD,
    NST,
    PKT,
    RKD,
    SP,
    SSKD,
    TALD,
    VID,
    Distillation,
    FitNet,
)
from aureole.models import MODELS, ModelConfig
from aureole.recipes import distill_published
from aureole.recipes.distill_published import CROSS_STYLE, SAME_STYLE
from aureole.recipes.settings import Scale
from aureole.robust import Natural
from aureole.training.config import SGD, Evaluation, Training
from aureole.training.distillation import Distilling
from aureole.training.evaluation.sources import ForeignModel
from aureole.training.fit import CONFIG, load_config
from aureole.training.teaching import Teaching

AnyTeaching = TypeVar("AnyTeaching", bound=Teaching)
Setting = Literal["digits", "cifar10", "cifar100", "tiny-imagenet"]
Preset = Literal["default", "thesis", "authors"]
PRESETS: Mapping[Preset, TALD] = {"default": TALD(), "thesis": TALD.thesis(), "authors": TALD.authors()}
EPOCHS = 240  # of RepDistiller's scripts, which the warm-up stages belong to

METHODS: Mapping[str, Method] = {
    "none": Natural(),
    "kd": KD(),
    "fitnet": FitNet(),
    "at": AT(),
    "sp": SP(),
    "cc": CC(),
    "vid": VID(),
    "rkd": RKD(),
    "pkt": PKT(),
    "ab": AB(),
    "ft": FT(),
    "fsp": FSP(),
    "nst": NST(),
    "crd": CRD(),
    "sskd": SSKD(),
    "hsakd": HSAKD(),
    "bss": BSS.with_kd(EPOCHS),
}
_TITLES = {"none": "student alone", "bss": "KD + BSS"}
#: Cheap pairs: of one style, and of different styles with equally many maps.
CHEAP = ("resnet20-resnet8", "vgg8-mobilenet-v2")

#: Name on the hub, and mean and standard deviation of the channels.
_IMAGES: Mapping[str, tuple[str, tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": ("uoft-cs/cifar10", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ("uoft-cs/cifar100", (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "tiny-imagenet": ("zh-plus/tiny-imagenet", (0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821)),
}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a run of the scale ``small`` may cost; the other scale and the digits take no notice.

    Attributes:
        num_train: training images, class by class; None for all.
        epochs: of teacher and student, at a rate that falls to zero.
        num_test: the first so many test images; None for all.
        num_attacked: TALD's particles belong to the first so many images of a batch, as in its authors' code; None for
            all of them.
        teacher_num_train: training images of the teacher, which may know more than its student sees; None for as many.
        teacher_epochs: of the teacher; None for as many.
    """

    num_train: int | None = 10_000
    epochs: int = 8
    num_test: int | None = 5_000
    num_attacked: int | None = 10
    teacher_num_train: int | None = None
    teacher_epochs: int | None = None

    @property
    def of_teacher(self) -> Budget:
        """The same for the teacher."""
        number = self.num_train if self.teacher_num_train is None else self.teacher_num_train
        epochs = self.epochs if self.teacher_epochs is None else self.teacher_epochs
        return replace(self, num_train=number, epochs=epochs, teacher_num_train=None, teacher_epochs=None)

    @property
    def reason(self) -> str:
        """How a run differs from the paper's."""
        images = "" if self.num_train is None else f"{self.num_train:,} training images, "
        tested = "" if self.num_test is None else f", the first {self.num_test:,} test images"
        text = f"{images}{self.epochs} of {EPOCHS} epochs at a cosine rate{tested}"
        other = self.of_teacher
        if (other.num_train, other.epochs) == (self.num_train, self.epochs):
            return text
        return (
            f"{text}, a teacher from {'all' if other.num_train is None else f'{other.num_train:,}'} in {other.epochs}"
        )


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Where teacher and student learn.

    Attributes:
        setting: kind of data.
        scale: the paper's, or a cheaper one.
        data: where the data is; None for the digits that ship with the library, or the name of a hub data set.
        budget: of the scale ``small``.
    """

    setting: Setting
    scale: Scale
    data: str | None = None
    budget: Budget = Budget()

    def classifier(self, network: str) -> Training:
        """Return the run of a network that learns from the labels alone, by RepDistiller's recipe for CIFAR-100.

        Args:
            network: its name.
        """
        if self.setting == "digits":
            return _digits(network, self.data)
        source, mean, std = _IMAGES[self.setting]
        other = {"cifar10": "CIFAR-10", "cifar100": "", "tiny-imagenet": "Tiny ImageNet"}[self.setting]
        run = Training(
            data=Data(source=self.data or source, num_validation=1000),
            model=ModelConfig(name=network, mean=mean, std=std),
            optimizer=SGD(learning_rate=_rate(network), weight_decay=5e-4, milestones=(150, 180, 210)),
            epochs=EPOCHS,
            batch_size=64,
            augment="crop-flip",
            keep_best=True,
            evaluation=Evaluation(attacks=()),
            proxy_reason=f"{other} instead of CIFAR-100" if other else "",
        )
        if self.scale == "paper":
            return replace(run, paper=distill_published.alone(network) if not other else {})
        return replace(
            run,
            data=replace(run.data, num_train=self.budget.num_train),
            optimizer=replace(run.optimizer, schedule="cosine"),
            epochs=self.budget.epochs,
            evaluation=replace(run.evaluation, num_examples=self.budget.num_test),
            proxy_reason=f"{run.proxy_reason}, {self.budget.reason}".removeprefix(", "),
        )

    def distilling(self, name: str, pair: str, tald: TALD | None = None) -> Distilling:
        """Return the run that teaches a student by a method.

        Args:
            name: of the method.
            pair: names of teacher and student.
            tald: is added to the method; None for the method alone.

        Raises:
            InputError: there is no such method or pair, or TALD is to be added to no method.
        """
        teacher, student = networks(pair)
        run = self.classifier(student)
        if tald is not None and self.scale == "small" and self.setting != "digits" and self.budget.num_attacked:
            tald = replace(tald, max_images=self.budget.num_attacked)
            reason = f"TALD on the first {self.budget.num_attacked} images of a batch"
            run = replace(run, proxy_reason=f"{run.proxy_reason}, {reason}")
        if tald is not None and self.scale == "paper" and tald.search.kernel != TALD.thesis().search.kernel:
            reason = "TALD of this library, not the thesis's (the preset thesis)"
            run = replace(run, proxy_reason=f"{run.proxy_reason}, {reason}".removeprefix(", "))
        run = with_method(run, name, tald)
        if self.setting == "cifar100" and self.scale == "paper" and name != "none":
            run = replace(run, paper=distill_published.taught(name, pair) if tald is None else {})
        taught_by = replace(self, budget=self.budget.of_teacher).classifier(teacher)
        return Distilling(student=run, teacher=replace(taught_by, label=f"teacher, {teacher}"))


def _digits(network: str, data: str | None) -> Training:
    return Training(
        data=Data(source=data or "digits"),
        model=ModelConfig(name=network),
        optimizer=SGD(learning_rate=_rate(network), weight_decay=5e-4, schedule="cosine"),
        epochs=15,
        batch_size=64,
        keep_best=True,
        evaluation=Evaluation(attacks=()),
        proxy_reason="8x8 digits; the thesis has no such experiment",
    )


def _rate(network: str) -> float:
    return 0.01 if network.startswith(("mobilenet", "shufflenet")) else 0.05


def networks(pair: str) -> tuple[str, str]:
    """Return the names of teacher and student that a pair is made of.

    Raises:
        InputError: they are not two networks of this library.

    Example:
        >>> from aureole.recipes.distill import networks
        >>> networks("wrn-40-2-wrn-16-2")
        ('wrn-40-2', 'wrn-16-2')
    """
    parts = pair.split("-")
    for place in range(1, len(parts)):
        teacher, student = "-".join(parts[:place]), "-".join(parts[place:])
        if teacher in MODELS and student in MODELS:
            return teacher, student
    raise unknown_name("pair", pair, (*SAME_STYLE, *CROSS_STYLE, *CHEAP))


def method_of(name: str) -> Method:
    """Return a method with its published weights.

    Raises:
        InputError: there is none of the name; the message offers the nearest.

    Example:
        >>> from aureole.recipes.distill import method_of
        >>> method_of("sp").title
        'SP'
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[name]


def with_method(run: Training, name: str, tald: TALD | None = None) -> Training:
    """Return the run with a method; a run shorter than the paper's shortens what counts epochs.

    A stage before distillation keeps its share of the epochs, at least one; the weight of boundary supporting samples
    falls over the epochs that there are. HSAKD's momentum is Nesterov's, as in its authors' code.

    Raises:
        InputError: there is no such method, or TALD is to be added to no method.
    """
    method = method_of(name)
    title = _TITLES.get(name, method.title)
    if not isinstance(method, Distillation):
        if tald is not None:
            raise InputError("TALD is added to a method; got --method none: choose one, such as kd")
        return replace(run, method=method, label=title)
    reasons = [run.proxy_reason] if run.proxy_reason else []
    if isinstance(method, HSAKD) and isinstance(run.optimizer, SGD):
        run = replace(run, optimizer=replace(run.optimizer, nesterov=True))
    if isinstance(method, BSS):
        method = replace(method, num_epochs=run.epochs)
    if method.warm_up and run.epochs < EPOCHS:
        warm_up = max(1, round(method.warm_up * run.epochs / EPOCHS))
        reasons.append(f"a stage of {warm_up} instead of {method.warm_up} epochs before distillation")
        method = replace(method, warm_up=warm_up)
    if tald is not None:
        method, title = replace(method, tald=tald), f"{title} + TALD"
    return replace(run, method=method, label=title, proxy_reason=", ".join(reasons))


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """What the student learns from.

    Attributes:
        source: the folder of a finished run, or module:function of a model of your own; None trains one.
        weights: of a model of your own, as .safetensors.
        num_classes: handed to the function by this name.
        layers: of a model of your own, which methods compare with the student's maps: names of modules, as many as the
            student has maps.
    """

    source: str | None = None
    weights: Path | None = None
    num_classes: int | None = None
    layers: tuple[str, ...] = ()

    def of(self, run: AnyTeaching) -> AnyTeaching:
        """Return the same experiment with this teacher.

        Raises:
            InputError: weights, a number of classes or layers are given without a model of your own that has them.
        """
        own = self.source is not None and ":" in self.source
        if not own and (self.weights is not None or self.num_classes is not None or self.layers):
            raise InputError(
                "weights, num_classes and layers belong to a teacher of your own, module:function; got the source "
                f"{self.source or 'none'}: name one, or leave them out"
            )
        if self.source is None:
            return run
        if not own:
            return replace(run, teacher=None, teacher_folder=str(Path(self.source).resolve()))
        weights = None if self.weights is None else str(self.weights)
        model = ForeignModel(model=self.source, weights=weights, num_classes=self.num_classes)
        return replace(run, teacher=model, teacher_taps=Taps(maps=self.layers) if self.layers else run.teacher_taps)

    def network(self) -> str | None:
        """Return the name of the network in the folder of a finished run; None where the source is no such folder.

        Raises:
            InputError: the folder holds another run.
        """
        if self.source is None or not (Path(self.source) / CONFIG).exists():
            return None
        return load_config(Path(self.source)).model.name


def teacher(setting: Setting = "digits", scale: Scale = "paper") -> Training:
    """Train a classifier that students can learn from, by RepDistiller's recipe; --model.name says which.

    MobileNet and the ShuffleNets are trained at a rate of 0.01 there: --optimizer.learning-rate 0.01.

    Args:
        setting: kind of data; your own goes into --data.source.
        scale: the paper's, or a cheaper form that fits a laptop.
    """
    network = "resnet20" if setting == "digits" else "resnet56"
    return replace(Ground(setting=setting, scale=scale).classifier(network), paper={}, label="teacher")


def distill(
    setting: Setting = "digits",
    scale: Scale = "paper",
    method: str = "kd",
    tald: bool = False,
    tald_preset: Preset = "default",
    pair: str | None = None,
    teacher: Teacher = Teacher(),
) -> Distilling:
    """Teach a small student what a large teacher knows (thesis chapter 7), and compare the two.

    Args:
        setting: the settings of thesis section 7.4.2 for this kind of data; your own goes into --data.source.
        scale: the paper's, or a cheaper form that fits a laptop.
        method: kd, fitnet, at, sp, cc, vid, rkd, pkt, ab, ft, fsp, nst, crd, sskd, hsakd, bss; none for the student
            alone.
        tald: add the term at the teacher's adversarial particles; its fields are --method.tald.
        tald_preset: its settings: of this library, with particles that repel; of the thesis, with which they do not; or
            of its authors' code.
        pair: teacher and student, such as resnet56-resnet20 or wrn-40-2-shufflenet-v1; any two networks of the library.
        teacher: what the student learns from.
    """
    usual = "resnet20-resnet8" if setting == "digits" else "resnet56-resnet20"
    student = networks(pair or usual)[1]
    found = teacher.network() or networks(pair or usual)[0]
    if pair is not None and pair != f"{found}-{student}":
        raise InputError(
            f"the teacher of the pair {pair} is {networks(pair)[0]}; got {found} in {teacher.source}: give another "
            f"folder, or --pair {found}-{student}"
        )
    ground = Ground(setting=setting, scale=scale)
    return teacher.of(ground.distilling(method, f"{found}-{student}", PRESETS[tald_preset] if tald else None))
