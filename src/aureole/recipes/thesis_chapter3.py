"""The experiments of thesis chapter 3: refinement of attacks on undefended and on defended victims."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from aureole.attacks.base import Attack
from aureole.attacks.sparse import JSMA, CornerSearch, SparseFool
from aureole.recipes.refine import Case, Form, case, defended, formed, learning_from, refinement
from aureole.recipes.settings import Scale
from aureole.training.config import Training
from aureole.training.evaluation.sources import ForeignModel
from aureole.training.refinement.run import Refinement
from aureole.training.sweep import Experiment, Sweep, with_seed

Setting = Literal["mnist", "cifar10"]
SHARES = (0.1, 0.3, 0.5, 0.7)


def _sweep(
    title: str,
    found: Case,
    sources: tuple[str, ...],
    shares: tuple[float, ...],
    seeds: tuple[int, ...],
    victim: str = "victim",
    form: Form = "plain",
    num_learned: int | None = None,
) -> Sweep:
    """Return the victim, and a refinement for each attack, share and seed; a share of 1 is a row of each."""
    found, more = learning_from(found, num_learned), "" if num_learned is None else f"-{num_learned}"
    assert isinstance(found.victim, Training)
    runs: dict[str, Experiment] = {victim: found.victim}
    for seed in seeds:
        for source in sources:
            for share in shares:
                run = refinement(formed(found, form), share, source, victim_folder=f"../{victim}")
                if num_learned is not None:
                    label = f"{run.refiner.label}, {num_learned:,} images"
                    run = replace(run, refiner=replace(run.refiner, label=label))
                runs[_name(victim, source, share, form, seed, more)] = with_seed(run, seed)
    return Sweep(title=title, runs=runs)


def _name(victim: str, source: str, share: float, form: Form, seed: int, more: str = "") -> str:
    return f"{victim}-{source}-{share:g}{'' if form == 'plain' else f'-{form}'}{more}-seed{seed}"


def figure_3_6(
    data: str | None = None,
    scale: Scale = "small",
    seeds: tuple[int, ...] = (0,),
    attacks: tuple[str, ...] = ("pgd", "bim", "autoattack"),
    shares: tuple[float, ...] = SHARES,
    form: Form = "plain",
    num_learned: int | None = None,
) -> Sweep:
    """AdvAcc, DetAUC and l2 of refined attacks against the share of pixels, LeNet on MNIST.

    Args:
        data: folder of MNIST.
        scale: the paper's, or a declared cheaper one.
        seeds: of the maps.
        attacks: the source attacks.
        shares: beta; 1 is the source attack itself, a row of every run.
        form: of the map: plain, changed or conditioned; see ``aureole run refine --help``.
        num_learned: images that the maps learn from at the cheaper scale; None takes 3,000 (MNIST) or 2,000 (CIFAR-10).
    """
    return _sweep(
        "Refined attacks on LeNet, MNIST",
        case("mnist", scale, data),
        attacks,
        shares,
        seeds,
        form=form,
        num_learned=num_learned,
    )


def figure_3_7(
    data: str | None = None,
    scale: Scale = "small",
    seeds: tuple[int, ...] = (0,),
    attacks: tuple[str, ...] = ("pgd", "bim", "autoattack"),
    shares: tuple[float, ...] = SHARES,
    depths: tuple[int, ...] = (32,),
    form: Form = "plain",
    num_learned: int | None = None,
) -> Sweep:
    """AdvAcc, DetAUC and l2 of refined attacks against the share of pixels, residual networks on CIFAR-10.

    Args:
        data: folder of CIFAR-10.
        scale: the paper's, or a declared cheaper one.
        seeds: of the maps.
        attacks: the source attacks.
        shares: beta; 1 is the source attack itself, a row of every run.
        depths: of the victims; the thesis has 32 and 56.
        form: of the map: plain, changed or conditioned; see ``aureole run refine --help``.
        num_learned: images that the maps learn from at the cheaper scale; None takes 3,000 (MNIST) or 2,000 (CIFAR-10).
    """
    runs: dict[str, Experiment] = {}
    for depth in depths:
        found = case("cifar10", scale, data)
        assert isinstance(found.victim, Training)
        model = replace(found.victim.model, name=f"resnet{depth}")
        found = replace(found, victim=replace(found.victim, model=model))
        runs |= _sweep(
            "", found, attacks, shares, seeds, victim=f"resnet{depth}", form=form, num_learned=num_learned
        ).runs
    return Sweep(title="Refined attacks on residual networks, CIFAR-10", runs=runs)


def figure_3_10(
    data: str | None = None,
    setting: Setting = "mnist",
    scale: Scale = "small",
    seeds: tuple[int, ...] = (0,),
    attacks: tuple[str, ...] = ("pgd", "bim"),
    shares: tuple[float, ...] = SHARES,
    form: Form = "plain",
) -> Sweep:
    """Refined attacks on victims trained with PGD and with TRADES, beside the undefended one.

    Args:
        data: folder of the data.
        setting: kind of data.
        scale: the paper's, or a declared cheaper one.
        seeds: of the maps.
        attacks: the source attacks.
        shares: beta; 1 is the source attack itself, a row of every run.
        form: of the map: plain, changed or conditioned; see ``aureole run refine --help``.
    """
    found = case(setting, scale, data)
    cases = {"undefended": found} | {name: defended(found, setting, scale, name) for name in ("pgd", "trades")}
    runs: dict[str, Experiment] = {}
    for name, each in cases.items():
        runs |= _sweep("", each, attacks, shares, seeds, victim=f"victim-{name}", form=form).runs
    return Sweep(title=f"Refined attacks on defended victims, {setting}", runs=runs)


def table_3_1(
    data: str | None = None,
    setting: Setting = "mnist",
    scale: Scale = "small",
    seeds: tuple[int, ...] = (0, 1, 2),
    share: float = 0.3,
    form: Form = "plain",
) -> Sweep:
    """Refined attacks beside JSMA, SparseFool and CornerSearch: AdvAcc, DetAUC, l2 and time.

    Args:
        data: folder of the data.
        setting: kind of data.
        scale: the paper's, or a declared cheaper one.
        seeds: of the maps; the sparse attacks run with the first alone.
        share: beta.
        form: of the map: plain, changed or conditioned; see ``aureole run refine --help``.
    """
    source = "autoattack" if setting == "mnist" else "bim"
    found, sparse = _beside_sparse(setting, case(setting, scale, data), scale)
    title = f"Refined and sparse attacks, {setting}"
    return _comparing(_sweep(title, found, (source,), (share,), seeds, form=form), sparse)


def _beside_sparse(setting: Setting, found: Case, scale: Scale) -> tuple[Case, dict[str, Attack]]:
    """Return JSMA, SparseFool and CornerSearch for a case, and the case, at the small scale on fewer test images."""
    corner = CornerSearch(max_pixels=0.7, kappa=1.5 if setting == "mnist" else 1.0)
    if scale == "small":
        corner = replace(corner, num_samples=100, increment=20)
        number = 200 if setting == "mnist" else 100
        reason = f"{found.reason.rpartition('; ')[0]}; {number} test images; CornerSearch with 100 sets in steps of 20"
        found = replace(found, num_examples=number, reason=reason)
    return found, {
        "jsma": JSMA(theta=found.ball.radius, gamma=0.3),
        "sparsefool": SparseFool(ball=found.ball, lambda_=2.0),
        "cornersearch": corner,
    }


def _comparing(sweep: Sweep, attacks: dict[str, Attack]) -> Sweep:
    """Return a sweep whose first refinement judges other attacks beside."""
    first, run = next((name, run) for name, run in sweep.runs.items() if isinstance(run, Refinement))
    return replace(sweep, runs={**sweep.runs, first: replace(run, compare=attacks)})


def table_3_3(
    data: str | None = None,
    setting: Setting = "cifar10",
    scale: Scale = "small",
    seeds: tuple[int, ...] = (0,),
    share: float = 0.3,
    attacks: tuple[str, ...] = ("pgd", "autoattack", "bim"),
    form: Form = "plain",
) -> Sweep:
    """Maps learned from one attack, used to refine the others.

    Args:
        data: folder of the data.
        setting: kind of data.
        scale: the paper's, or a declared cheaper one.
        seeds: of the maps.
        share: beta.
        attacks: each teaches a map, and is refined with every map.
        form: of the map: plain, changed or conditioned; see ``aureole run refine --help``.
    """
    found = formed(case(setting, scale, data), form)
    assert isinstance(found.victim, Training)
    runs: dict[str, Experiment] = {"victim": found.victim}
    for seed in seeds:
        for source in attacks:
            run = refinement(found, share, source, *(a for a in attacks if a != source))
            runs[_name("victim", source, share, form, seed)] = with_seed(run, seed)
    return Sweep(title=f"Transfer of vulnerability maps, {setting}", runs=runs)


def figure_3_8(
    victim: str = "my_models:densenet169",
    weights: str | None = None,
    data: str = "imagenet",
    seeds: tuple[int, ...] = (0,),
    shares: tuple[float, ...] = SHARES,
    num_train: int = 5000,
    form: Form = "plain",
) -> Sweep:
    """AdvAcc and l2 of refined BIM against the share of pixels, on ImageNet.

    Args:
        victim: function of a model of your own, as module:function, that normalises inside.
        weights: of that model, as .safetensors.
        data: folder or hub name of images of one size, 224x224.
        seeds: of the maps.
        shares: beta; 1 is the source attack itself, a row of every run.
        num_train: images that the maps learn from; each needs 1.2 MB of memory, with its attacked version.
        form: of the map: plain, changed or conditioned; see ``aureole run refine --help``.
    """
    found = formed(_imagenet(victim, weights, data, num_train), form)
    runs: dict[str, Experiment] = {}
    for seed in seeds:
        for share in shares:
            run = refinement(found, share, "bim")
            runs[f"bim-{share:g}-seed{seed}"] = with_seed(run, seed)
    return Sweep(title="Refined BIM, ImageNet", runs=runs)


def figure_3_5(
    victim: str = "my_models:densenet169",
    weights: str | None = None,
    data: str = "imagenet",
    share: float = 0.3,
    num_train: int = 5000,
    form: Form = "plain",
) -> Sweep:
    """Show refined images of ImageNet beside those of JSMA and SparseFool.

    Args:
        victim: function of a model of your own, as module:function, that normalises inside.
        weights: of that model, as .safetensors.
        data: folder or hub name of images of one size, 224x224.
        share: beta.
        num_train: images that the map learns from; each needs 1.2 MB of memory, with its attacked version.
        form: of the map: plain, changed or conditioned; see ``aureole run refine --help``.
    """
    found = formed(_imagenet(victim, weights, data, num_train), form)
    sweep = Sweep(title="Vulnerability maps, ImageNet", runs={f"bim-{share:g}-seed0": refinement(found, share, "bim")})
    _, sparse = _beside_sparse("cifar10", found, "paper")
    return _comparing(sweep, {name: sparse[name] for name in ("jsma", "sparsefool")})


def _imagenet(victim: str, weights: str | None, data: str, num_train: int) -> Case:
    """Return the case of ImageNet with the user's own victim, its map learned from so many images."""
    found = case("imagenet", "paper", data)
    images = replace(found.learner.data, num_train=num_train)
    return replace(
        found,
        victim=ForeignModel(model=victim, weights=weights, data=images),
        learner=replace(found.learner, data=images),
        reason=f"the map from {num_train:,} images instead of all",
    )


def figure_3_4(
    data: str | None = None,
    scale: Scale = "small",
    attack: str = "autoattack",
    share: float = 0.3,
    form: Form = "plain",
) -> Sweep:
    """Show refined images of a residual network's beside those of JSMA, SparseFool and CornerSearch, CIFAR-10.

    Args:
        data: folder of the data.
        scale: the paper's, or a declared cheaper one.
        attack: the source attack.
        share: beta.
        form: of the map: plain, changed or conditioned; see ``aureole run refine --help``.
    """
    found, sparse = _beside_sparse("cifar10", case("cifar10", scale, data), scale)
    assert isinstance(found.victim, Training)
    if scale == "paper":
        found = replace(found, victim=replace(found.victim, model=replace(found.victim.model, name="resnet56")))
    return _comparing(_sweep("Vulnerability maps, cifar10", found, (attack,), (share,), (0,), form=form), sparse)


def figure_3_1(
    data: str | None = None,
    setting: Setting = "cifar10",
    scale: Scale = "small",
    attack: str = "pgd",
    share: float = 0.1,
    form: Form = "plain",
) -> Sweep:
    """Show images, perturbations, maps and images refined to a tenth of the pixels.

    Args:
        data: folder of the data.
        setting: kind of data; the thesis shows both.
        scale: the paper's, or a declared cheaper one.
        attack: the source attack.
        share: beta.
        form: of the map: plain, changed or conditioned; see ``aureole run refine --help``.
    """
    return pictures(setting, attack)(data, scale, attack, share, form)


def pictures(setting: Literal["mnist", "cifar10", "fundus"], attack: str) -> Callable[..., Sweep]:
    """Return a recipe whose report shows images, perturbations, maps and refined images."""

    def build(
        data: str | None = None,
        scale: Scale = "small",
        attack: str = attack,
        share: float = 0.3,
        form: Form = "plain",
    ) -> Sweep:
        """Show images, perturbations, vulnerability maps, selected perturbations and refined images.

        Args:
            data: folder of the data.
            scale: the paper's, or a declared cheaper one.
            attack: the source attack.
            share: beta.
            form: of the map: plain, changed or conditioned; see ``aureole run refine --help``.
        """
        found = case(setting, scale, data)
        return _sweep(f"Vulnerability maps, {setting}", found, (attack,), (share,), (0,), form=form)

    return build
