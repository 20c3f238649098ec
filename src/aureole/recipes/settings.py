"""The settings of thesis section 5.5.3 for each kind of data, at the paper's scale and at a declared cheaper one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from aureole.core.balls import Linf
from aureole.core.method import Method
from aureole.core.objectives import KL
from aureole.data import Data
from aureole.models import ModelConfig
from aureole.particles import RBF, InBall, Normal, ParticleSearch
from aureole.robust import ADTEXP, ADTEXPAM, ALDPGD, ALDTRADES, TRADES, Madry, Natural, PGDTraining
from aureole.training.config import SGD, Evaluation, Training

Setting = Literal["digits", "mnist", "cifar10"]
Scale = Literal["paper", "small"]


@dataclass(frozen=True, kw_only=True)
class Threat:
    """What the model is to withstand, how the search looks for it, and the weight of a divergence.

    Attributes:
        ball: where adversarial images lie.
        step_size: of a search, in the units of the images.
        num_steps: of a search in training.
        trades_weight: weight of the KL term.
    """

    ball: Linf
    step_size: float
    num_steps: int
    trades_weight: float


#: Thesis section 5.5.3; the digits' settings are ours.
THREATS: dict[tuple[Setting, Scale], Threat] = {
    ("digits", "paper"): Threat(ball=Linf(0.15), step_size=0.03, num_steps=10, trades_weight=3.0),
    ("digits", "small"): Threat(ball=Linf(0.15), step_size=0.03, num_steps=10, trades_weight=3.0),
    ("mnist", "paper"): Threat(ball=Linf(0.3), step_size=0.01, num_steps=40, trades_weight=1.0),
    ("mnist", "small"): Threat(ball=Linf(0.3), step_size=0.08, num_steps=8, trades_weight=1.0),
    ("cifar10", "paper"): Threat(ball=Linf(0.031), step_size=0.007, num_steps=10, trades_weight=6.0),
    ("cifar10", "small"): Threat(ball=Linf(0.031), step_size=0.01, num_steps=5, trades_weight=6.0),
}


def search(threat: Threat, num_particles: int, **changes: object) -> ParticleSearch:
    """Return the search of a threat: cross-entropy, from uniform points of the ball, with the library's kernel."""
    base = ParticleSearch(
        threat.ball,
        num_particles=num_particles,
        num_steps=threat.num_steps,
        step_size=threat.step_size,
        start=InBall(),
        kernel=RBF(),
    )
    return replace(base, **changes)  # pyright: ignore[reportArgumentType]


def method(name: str, threat: Threat, num_particles: int = 1) -> Method:
    """Return a method by the name of its recipe, set for a threat.

    Args:
        name: such as ``"ald-pgd"``.
        threat: what it is trained against.
        num_particles: particles, or restarts, of the methods that search.
    """
    divergence = search(threat, num_particles, objective=KL(), start=Normal(1e-3))
    cross_entropy = search(threat, num_particles)
    weight = threat.trades_weight
    return {
        "natural": Natural(),
        "pgd": PGDTraining(search=replace(cross_entropy, kernel=None)),
        "madry": Madry(search=replace(cross_entropy, kernel=None)),
        "trades": TRADES(search=replace(divergence, kernel=None), weight=weight),
        "adt-exp": ADTEXP(ball=threat.ball),
        "adt-expam": ADTEXPAM(ball=threat.ball),
        "ald-pgd": ALDPGD(search=cross_entropy),
        "ald-trades": ALDTRADES(search=divergence, weight=weight),
    }[name]


def training(setting: Setting, scale: Scale, data: str | None = None) -> Training:
    """Return the run of natural training for a kind of data; recipes replace its method.

    Args:
        setting: kind of data.
        scale: the paper's, or the cheaper one.
        data: where the data is; None for the digits that ship with the library, or the name of a hub data set.
    """
    threat = THREATS[setting, scale]
    plan = Evaluation(ball=threat.ball, step_size=THREATS[setting, "paper"].step_size, attacks=("pgd-200",))
    return {"digits": _digits, "mnist": _mnist, "cifar10": _cifar10}[setting](scale, data, plan)


def _digits(scale: Scale, data: str | None, plan: Evaluation) -> Training:
    """Return the same run at either scale: it takes seconds."""
    del scale
    return Training(
        data=Data(source=data or "digits"),
        optimizer=SGD(learning_rate=0.05, milestones=(24, 28)),
        epochs=30,
        batch_size=64,
        evaluation=replace(plan, attacks=("fgsm", "pgd-20", "pgd-200")),
        proxy_reason="8x8 digits; the thesis has no such experiment",
    )


def _mnist(scale: Scale, data: str | None, plan: Evaluation) -> Training:
    run = Training(
        data=Data(source=data or "ylecun/mnist", num_validation=1000),
        optimizer=SGD(learning_rate=0.01, milestones=(75, 90)),
        epochs=100,
        batch_size=100,
        evaluation=plan,
    )
    if scale == "paper":
        return run
    return replace(
        run,
        data=replace(run.data, num_train=2500),
        optimizer=SGD(learning_rate=0.05, milestones=(7, 8)),
        epochs=8,
        batch_size=50,
        evaluation=replace(plan, num_examples=1000),
        proxy_reason=(
            "2,500 of 59,000 training images, 8 of 100 epochs of batches of 50 at a rate of 0.05, 8 search steps of"
            " 0.08 instead of 40 of 0.01, the first 1,000 test images"
        ),
    )


def _cifar10(scale: Scale, data: str | None, plan: Evaluation) -> Training:
    run = Training(
        data=Data(source=data or "uoft-cs/cifar10", num_validation=1000),
        model=ModelConfig(name="resnet18"),
        optimizer=SGD(learning_rate=0.1, weight_decay=5e-4, milestones=(75, 90)),
        epochs=100,
        batch_size=100,
        augment="crop-flip",
        evaluation=plan,
    )
    if scale == "paper":
        return run
    return replace(
        run,
        data=replace(run.data, num_train=2500),
        model=ModelConfig(name="lenet5", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        optimizer=SGD(learning_rate=0.02, milestones=(9, 10)),
        epochs=10,
        batch_size=50,
        augment="none",
        evaluation=replace(plan, num_examples=500),
        proxy_reason=(
            "LeNet-5 instead of ResNet-18, 2,500 of 49,000 training images, 10 of 100 epochs of batches of 50 at a rate"
            " of 0.02 without augmentation, 5 search steps of 0.01 instead of 10 of 0.007, the first 500 test images"
        ),
    )
