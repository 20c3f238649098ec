"""PVAR on any model, data and attack: ``refine``, and what the experiments of thesis chapter 3 share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from aureole.attacks import AutoAttack, named_attack
from aureole.attacks.base import Attack
from aureole.attacks.gradient import BIM, PGD
from aureole.core.balls import L2, Ball, Linf
from aureole.core.errors import InputError
from aureole.data import Data
from aureole.models import ModelConfig
from aureole.recipes.settings import THREATS, Scale, method, training
from aureole.refine import PVAR, Concrete, Marginal, Selection, Threshold
from aureole.training.config import SGD, Evaluation, Training
from aureole.training.evaluation.sources import ForeignModel
from aureole.training.refinement.run import LEARNER, Refinement

Setting = Literal["digits", "mnist", "cifar10", "fundus", "imagenet"]
Form = Literal["plain", "changed", "conditioned"]
SELECTIONS: Mapping[str, Selection] = {"concrete": Concrete(), "marginal": Marginal(), "threshold": Threshold()}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kind of data, with its victim and the attacks on it.

    Attributes:
        victim: the run that trains the undefended victim, or a user's own model.
        learner: the run that trains the map; its method is set by the recipe.
        ball: of the source attacks.
        num_examples: test images; None for all.
        reason: how scale or data differ from the thesis's; empty where they do not.
    """

    victim: Training | ForeignModel
    learner: Training
    ball: Ball
    num_examples: int | None
    reason: str

    def sources(self, *names: str) -> dict[str, Attack]:
        """Return source attacks by name: ``"pgd"``, ``"bim"`` and ``"autoattack"`` as thesis 3.4.2 takes them."""
        radius = self.ball.radius
        known: dict[str, Attack] = {
            "pgd": PGD(ball=self.ball, num_steps=40, step_size=radius / 30),
            "bim": BIM(ball=self.ball, num_steps=10, step_size=radius / 5),
            "autoattack": AutoAttack(ball=self.ball, max_batch=250, stop_at_success=False),
        }
        return {name: known.get(name) or named_attack(name, self.ball, radius / 30) for name in names}


def case(setting: Setting, scale: Scale, data: str | None = None) -> Case:
    """Return a case of thesis 3.4.2, at its own scale or a cheaper one.

    Args:
        setting: kind of data.
        scale: the paper's, or the cheaper one.
        data: where the data is; None for the digits that ship with the library, or the name of a hub data set.
    """
    cases = {"digits": _digits, "mnist": _mnist, "cifar10": _cifar10, "fundus": _fundus, "imagenet": _imagenet}
    return cases[setting](scale, data)


def _digits(scale: Scale, data: str | None) -> Case:
    del scale
    victim = training("digits", "small", data)
    learner = replace(
        LEARNER, data=victim.data, model=ModelConfig(name="vulnerability-unet-small"), epochs=20, patience=5
    )
    return Case(
        victim=victim,
        learner=learner,
        ball=Linf(0.3),
        num_examples=None,
        reason="8x8 digits and a U-Net of three levels; the thesis has no such experiment",
    )


def _mnist(scale: Scale, data: str | None) -> Case:
    victim = training("mnist", scale, data)
    found = Case(
        victim=victim, learner=replace(LEARNER, data=victim.data), ball=Linf(0.3), num_examples=None, reason=""
    )
    if scale == "paper":
        return found
    victim = replace(
        victim,
        optimizer=SGD(learning_rate=0.05, schedule="cosine"),
        proxy_reason="10,000 of 59,000 training images, 6 epochs at a falling rate",
    )
    return _cheaper(found, victim, "LeNet-5", num_learned=3000, num_examples=1000)


def _cifar10(scale: Scale, data: str | None) -> Case:
    victim = replace(training("cifar10", "paper", data), model=_resnet(32))
    victim = replace(victim, evaluation=replace(victim.evaluation, ball=Linf(0.03), attacks=()))
    found = Case(
        victim=victim, learner=replace(LEARNER, data=victim.data), ball=Linf(0.03), num_examples=None, reason=""
    )
    if scale == "paper":
        return found
    victim = replace(
        victim,
        optimizer=SGD(learning_rate=0.1, weight_decay=5e-4, schedule="cosine"),
        proxy_reason="10,000 of 49,000 training images, 6 of 100 epochs",
    )
    return _cheaper(found, victim, "residual network", num_learned=2000, num_examples=500)


def _cheaper(found: Case, victim: Training, network: str, *, num_learned: int, num_examples: int) -> Case:
    """Return a case whose victim sees 10,000 images, its map fewer, both in 6 epochs and with the fast selection.

    Args:
        found: the case at the thesis's scale.
        victim: the run that trains the victim; its reason says how it differs, but for the number of test images.
        network: the victim's, in words.
        num_learned: images that the map learns from.
        num_examples: test images.
    """
    judged = f"the first {num_examples:,} test images"
    data = replace(victim.data, num_train=10_000)
    learner = replace(
        found.learner,
        method=PVAR(selection=Marginal()),
        data=replace(data, num_train=num_learned, num_validation=200),
        epochs=6,
        patience=3,
    )
    return replace(
        found,
        victim=replace(
            victim,
            data=data,
            epochs=6,
            evaluation=replace(victim.evaluation, attacks=(), num_examples=num_examples),
            proxy_reason=f"{victim.proxy_reason}, {judged}",
        ),
        learner=learner,
        num_examples=num_examples,
        reason=(
            f"a {network} from 10,000 images in 6 epochs; the map from {num_learned:,} images in at most 6 epochs"
            f" instead of all in at most 300; {judged}"
        ),
    )


def _fundus(scale: Scale, data: str | None) -> Case:
    """Return the case of thesis 3.4.8: photographs of the retina, normal or pathological."""
    victim = Training(
        data=Data(source=data or "palm", num_validation=50),
        model=_resnet(8),
        optimizer=SGD(learning_rate=0.05, weight_decay=5e-4, schedule="cosine"),
        epochs=100 if scale == "paper" else 8,
        batch_size=16,
        evaluation=Evaluation(ball=Linf(0.03), attacks=()),
    )
    learner = replace(LEARNER, data=victim.data)
    if scale == "small":
        small, seen = ModelConfig(name="vulnerability-unet-small"), replace(victim.data, num_train=100)
        learner = replace(learner, method=PVAR(selection=Marginal()), data=seen, model=small, epochs=12)
    return Case(
        victim=victim,
        learner=learner,
        ball=Linf(0.03),
        num_examples=None if scale == "paper" else 100,
        reason=(
            "public photographs alone, of 224x224 pixels; a ResNet-8 instead of a ResNet-50"
            + ("" if scale == "paper" else "; 8 epochs; a U-Net of three levels, from 100 images in at most 12 epochs")
        ),
    )


def _imagenet(scale: Scale, data: str | None) -> Case:
    """Return the case of thesis figure 3.8; its victim is a model of the user's, such as a DenseNet-169."""
    del scale
    images = Data(source=data or "imagenet", num_validation=1000)
    return Case(
        victim=ForeignModel(model="my_models:densenet169", data=images),
        learner=replace(LEARNER, data=images),
        ball=Linf(0.03),
        num_examples=1000,
        reason="",
    )


def _resnet(depth: int) -> ModelConfig:
    return ModelConfig(name=f"resnet{depth}", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def defended(found: Case, setting: Literal["mnist", "cifar10"], scale: Scale, name: Literal["pgd", "trades"]) -> Case:
    """Return a case whose victim is trained against attacks (thesis 3.5)."""
    assert isinstance(found.victim, Training)
    assert isinstance(found.ball, Linf)
    threat = replace(THREATS[setting, scale], ball=found.ball)
    return replace(found, victim=replace(found.victim, method=method(name, threat, 1)))


def formed(found: Case, form: Form) -> Case:
    """Return a case whose map is of another form than the thesis's ``"plain"`` one.

    Args:
        found: the case.
        form: ``"changed"`` chooses among the pixels that the attack changed; ``"conditioned"`` shows the network the
            perturbation besides.
    """
    if form == "plain":
        return found
    assert isinstance(found.learner.method, PVAR)
    learner = replace(found.learner, method=replace(found.learner.method, among="changed"))
    if form == "conditioned":
        name = f"{learner.model.name}-conditioned"
        method = replace(found.learner.method, among="changed", conditioned=True)
        learner = replace(learner, method=method, model=replace(learner.model, name=name))
    return replace(found, learner=learner)


def learning_from(found: Case, num_learned: int | None) -> Case:
    """Return a case of the cheaper scale whose map learns from another number of images; None leaves it as it is.

    Raises:
        InputError: it is the paper's scale, where the map learns from all.
    """
    if num_learned is None:
        return found
    usual = found.learner.data.num_train
    if usual is None:
        raise InputError("the paper's maps learn from all images: give --scale small for num_learned")
    return replace(
        found,
        learner=replace(found.learner, data=replace(found.learner.data, num_train=num_learned)),
        reason=found.reason.replace(f"the map from {usual:,} images", f"the map from {num_learned:,} images"),
    )


def _learner(found: Case, method: PVAR, **changes: object) -> Training:
    """Return the run that trains the map, which says how it differs from the thesis's."""
    other = "" if isinstance(method.selection, Concrete) else f"; {type(method.selection).__name__} for Concrete"
    reason = (found.reason + other).removeprefix("; ")
    return replace(found.learner, method=method, proxy_reason=reason, **changes)  # pyright: ignore[reportArgumentType]


def refinement(
    found: Case, share: float, *sources: str, victim_folder: str = "../victim", **changes: object
) -> Refinement:
    """Return the refinement of some attacks on the victim of a case; the first is what the map learns from."""
    assert isinstance(found.learner.method, PVAR)
    method = replace(found.learner.method, share=share)
    form = ", conditioned" if method.conditioned else ", of the changed ones" if method.among == "changed" else ""
    run = Refinement(
        refiner=_learner(found, method, label=f"{sources[0]}, {share:g} of the pixels{form}"),
        victim=found.victim,
        victim_folder=victim_folder,
        sources=found.sources(*sources),
        num_examples=found.num_examples,
    )
    return replace(run, **changes)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, kw_only=True)
class Victim:
    """The attacked classifier.

    Attributes:
        source: the folder of a finished run, or module:function of a model of your own; None trains one.
        weights: of a model of your own, as .safetensors.
        num_classes: handed to the function by this name.
    """

    source: str | None = None
    weights: Path | None = None
    num_classes: int | None = None


def refine(
    setting: Setting = "digits",
    scale: Scale = "paper",
    attacks: tuple[str, ...] = ("pgd",),
    radius: float | None = None,
    ball: Literal["linf", "l2"] = "linf",
    selection: Literal["concrete", "marginal", "threshold"] | None = None,
    form: Form = "plain",
    victim: Victim = Victim(),
) -> Refinement:
    """Learn which pixels of a victim's images are vulnerable, and cut attacks down to them (PVAR, thesis chapter 3).

    Args:
        setting: the settings of thesis section 3.4.2 for this kind of data; your own data goes into --data.source.
        scale: the paper's, or a cheaper form that fits a laptop.
        attacks: the map learns from the first, and all are refined with it: pgd, bim, autoattack, or any other name of
            an attack, such as mim-10.
        radius: of the attacks; None takes the setting's (0.3, or 0.03 for CIFAR-10).
        ball: where the attacks' images lie.
        selection: how pixels are chosen in training; None takes the scale's, concrete or (the quickest) marginal.
        form: plain, as in the thesis: one map of the image serves every attack; changed chooses among the pixels that
            the attack changed; conditioned shows the network the perturbation besides, for a map of each attack.
        victim: the attacked classifier.
    """
    if not attacks:
        raise InputError("a map learns from an attack: give --attacks one name or more, such as pgd")
    if victim.source is None and (victim.weights is not None or victim.num_classes is not None):
        raise InputError(
            "--victim.weights and --victim.num-classes belong to a model of your own: give --victim.source"
        )
    found = case(setting, scale)
    if radius is not None or ball == "l2":
        kind: Callable[..., Ball] = {"linf": Linf, "l2": L2}[ball]
        if radius is None:
            raise InputError("an L2 ball needs a radius of its own: give --radius")
        found = replace(found, ball=kind(radius))
    if selection is not None:
        found = replace(found, learner=replace(found.learner, method=PVAR(selection=SELECTIONS[selection])))
    run = refinement(formed(found, form), PVAR().share, *attacks, victim_folder="victim")
    run = replace(run, refiner=replace(run.refiner, label=""))
    if victim.source is None:
        return run
    if ":" in victim.source:
        weights = None if victim.weights is None else str(victim.weights)
        return replace(run, victim=ForeignModel(model=victim.source, weights=weights, num_classes=victim.num_classes))
    return replace(run, victim=None, victim_folder=str(Path(victim.source).resolve()))
