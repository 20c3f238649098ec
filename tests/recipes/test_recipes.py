"""Every recipe runs when it is made small, and those of the thesis hold its settings."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import aureole.semisup
from aureole import ADTEXP, ALDPGD, ALDTRADES, TRADES, Batch, InputError, Linf, Madry, Method, Natural, PGDTraining
from aureole.core.config import to_values
from aureole.data import Data
from aureole.models import ModelConfig
from aureole.particles import InBall, Normal
from aureole.recipes import RECIPES, find_recipe
from aureole.training.config import SGD, Engine, Training
from aureole.training.experiment import Around
from aureole.training.refinement.run import Refinement
from aureole.training.segmentation import Segmenting
from aureole.training.segmentation.diversity import ScanDiversity
from aureole.training.study import DiversityStudy
from aureole.training.sweep import Experiment, Sweep, run_experiment
from aureole.training.teaching import Teaching


def experiments(experiment: Experiment | Sweep) -> Iterator[Training | DiversityStudy]:
    """Yield every run and study; of what has tests of its own, nothing, or its victim or teacher."""
    if isinstance(experiment, Sweep):
        for inner in experiment.runs.values():
            yield from experiments(inner)
    elif isinstance(experiment, Refinement | Teaching):
        beside = getattr(experiment, experiment.other)
        if isinstance(beside, Training):
            yield beside
    elif not isinstance(experiment, Segmenting | ScanDiversity):
        assert isinstance(experiment, Training | DiversityStudy)
        yield experiment


def runs(experiment: Experiment | Sweep) -> list[Training]:
    return [e.model if isinstance(e, DiversityStudy) else e for e in experiments(experiment)]


def small_method(method: Any) -> Any:
    """Return the method with few steps; the rest of it stays."""
    names = {f.name for f in fields(method)}
    changes: dict[str, Any] = {}
    if "search" in names:
        changes["search"] = replace(method.search, num_steps=2)
    if "num_steps" in names:
        changes["num_steps"] = 2
    if "width" in names:
        changes["width"] = 8
    return replace(method, **changes)


def small(run: Training) -> Training:
    return replace(
        run,
        method=small_method(run.method),
        data=Data(num_train=32, num_validation=20),
        model=ModelConfig(),
        epochs=1,
        batch_size=16,
        evaluation=replace(run.evaluation, attacks=("fgsm",), num_examples=10),
        engine=Engine(progress=False, accelerator="cpu"),
    )


def small_study(study: DiversityStudy) -> DiversityStudy:
    samplers = tuple(replace(s, search=replace(s.search, num_steps=2)) for s in study.samplers)
    model = small(study.model)
    return replace(study, model=model, samplers=samplers, particles=(2,), seeds=(0,), num_images=3, num_pictures=1)


def distinct_methods() -> dict[str, Method]:
    found: dict[str, Method] = {}
    for recipe in RECIPES.values():
        for run in runs(recipe.build()):
            if type(run.method).__module__.startswith(aureole.semisup.__name__):
                continue  # tests/semisup has a table of its own
            method = small_method(run.method)
            found[json.dumps(to_values(method))] = method
    return {f"{m.title} {i}": m for i, m in enumerate(found.values())}


METHODS = distinct_methods()


UNATTACKED = {
    "refine", "teacher", "distill", "explain", "study-few-labels", "study-tald",
    "thesis-figure-5.3", "thesis-table-5.1",
}  # fmt: skip
FOREIGN = {"thesis-figure-3.5", "thesis-figure-3.8", "thesis-figure-7.5"}  # of victims and teachers of the user's


def test_the_catalogue_is_not_empty() -> None:
    assert {"demo", "robust-pgd", "robust-ald-pgd", "thesis-table-5.3", "study-kernel"} <= RECIPES.keys()
    assert len(METHODS) >= 15
    assert {type(m).__name__ for m in METHODS.values()} == {
        "Natural", "PGDTraining", "Madry", "TRADES", "ADTEXP", "ADTEXPAM", "ALDPGD", "ALDTRADES",
    }  # fmt: skip


@pytest.mark.parametrize("scale", ["paper", "small"])
@pytest.mark.parametrize("name", RECIPES)
def test_a_network_that_comes_first_is_the_one_that_the_others_ask_for(name: str, scale: str) -> None:
    build = find_recipe(name).build
    found = build(scale=scale) if "scale" in inspect.signature(build).parameters else build()
    for run in found.runs.values() if isinstance(found, Sweep) else [found]:
        model = getattr(run, run.other) if isinstance(run, Around) and run.other else None
        if isinstance(model, Training):  # its folder holds the configuration of the first run that asked for it
            assert model.data.like(run.training.data) == model.data


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_builds_something_to_run(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    assert recipe.summary
    assert recipe.summary == recipe.summary.strip()
    assert recipe.build.__doc__
    found = runs(recipe.build())
    unattacked = name in UNATTACKED or any(f"-{k}." in name for k in (3, 4, 7)) or name.startswith("semisup")
    assert found or name in FOREIGN or name.startswith("segment-") or "-6." in name
    for run in found:
        assert run.evaluation.attacks or unattacked
        assert run.title
    if (
        name.startswith("thesis")
        and "-3." not in name
        and name not in FOREIGN
        and "5.6" not in name
        and "5.7" not in name
    ):
        assert all(e.proxy_reason for e in experiments(recipe.build()))  # the default scale is the cheap one


def test_an_unknown_recipe_offers_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'robust-trades'"):
        find_recipe("robust-tredes")


@pytest.mark.filterwarnings("ignore:the kernel is too narrow")  # the thesis's width is one of those studied
@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_the_catalogue_takes_two_steps(name: str) -> None:
    method = METHODS[name]
    splits = Data(num_train=32).train_and_validation()
    x = splits.train.batch(torch.arange(12)).float() / 255
    model: nn.Module = ModelConfig().build(num_classes=10, image_shape=(1, 8, 8), seed=0)
    parts = method.own(model, x)
    optimizers: list[torch.optim.Optimizer] = [torch.optim.SGD(model.parameters(), lr=0.05)]
    optimizers += [] if parts is None else [method.own_optimizer(parts)]
    before = [p.detach().clone() for p in model.parameters()]
    for step in range(2):
        terms = method.loss(model, Batch(x, splits.train.labels[:12], torch.arange(12), step=step), parts)
        assert all(bool(value.isfinite()) for value in terms.values())
        for optimizer in optimizers:
            optimizer.zero_grad()
        terms.total.backward()
        for optimizer in optimizers:
            optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    if parts is not None:
        assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in parts.parameters())


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("robust-")])
def test_every_robust_recipe_trains_and_is_judged(name: str, tmp_path: Path) -> None:
    config = find_recipe(name).build()
    assert isinstance(config, Training)
    (record,) = run_experiment(small(config), tmp_path / "run", recipe=name)
    assert record.recipe == name
    assert [e.attack for e in record.evaluations] == ["natural", "fgsm"]
    assert len(record.history) == 1


def test_a_study_runs_every_sampler(tmp_path: Path) -> None:
    (study,) = experiments(find_recipe("thesis-figure-5.2").build())
    assert isinstance(study, DiversityStudy)
    tiny = small_study(study)
    tiny = replace(tiny, model=replace(tiny.model, epochs=15))  # enough that some images are right
    attacked, record = run_experiment(tiny, tmp_path / "study")
    assert (attacked.kind, record.kind) == ("training", "diversity")
    assert [row.sampler for row in record.diversity] == [s.name for s in study.samplers]
    assert len({row.sampler for row in record.diversity}) == len(study.samplers) >= 10
    pictures = sorted(path.name for path in (tmp_path / "study").glob("particles-*.npz"))
    assert pictures == ["particles-0.npz", "particles-1.npz"]
    assert run_experiment(tiny, tmp_path / "study") == [attacked, record]


def test_a_sweep_checks_every_name_before_it_trains(tmp_path: Path) -> None:
    good = small(runs(find_recipe("robust-natural").build())[0])
    bad = replace(good, evaluation=replace(good.evaluation, attacks=("pgx",)))
    with pytest.raises(InputError, match="pgx"):
        run_experiment(Sweep(title="two", runs={"good": good, "bad": bad}), tmp_path)
    assert not list(tmp_path.iterdir())


def paper(name: str, setting: str) -> Training:
    run = find_recipe(f"robust-{name}").build(setting, "paper")
    assert isinstance(run, Training)
    return run


ALL = [name.removeprefix("robust-") for name in RECIPES if name.startswith("robust-")]


@pytest.mark.parametrize("name", ALL)
def test_the_thesis_on_mnist(name: str) -> None:
    """Thesis section 5.5.3."""
    run = paper(name, "mnist")
    assert run.data.num_validation == 1000
    assert run.data.num_train is None
    assert (run.model.name, run.epochs, run.batch_size, run.proxy_reason) == ("lenet5", 100, 100, "")
    assert run.optimizer == SGD(learning_rate=0.01, momentum=0.9, schedule="steps", milestones=(75, 90), factor=0.1)
    assert run.evaluation.ball == Linf(0.3)
    assert run.evaluation.attacks == ("pgd-200",)
    assert run.evaluation.num_examples is None
    method: Any = run.method
    if not isinstance(method, Natural | ADTEXP) and name != "adt-expam":
        search = method.search
        assert (search.ball, search.step_size, search.num_steps) == (Linf(0.3), 0.01, 40)
    if name in ("pgd", "ald-pgd", "trades", "ald-trades"):
        assert method.weight == 1.0


@pytest.mark.parametrize("name", ALL)
def test_the_thesis_on_cifar10(name: str) -> None:
    """Thesis section 5.5.3."""
    run = paper(name, "cifar10")
    assert run.data.num_validation == 1000
    assert (run.model.name, run.epochs, run.batch_size, run.proxy_reason) == ("resnet18", 100, 100, "")
    rates = SGD(learning_rate=0.1, momentum=0.9, weight_decay=5e-4, schedule="steps", milestones=(75, 90), factor=0.1)
    assert run.optimizer == rates
    assert run.evaluation.ball == Linf(0.031)
    assert run.evaluation.attacks == ("pgd-200",)
    method: Any = run.method
    if not isinstance(method, Natural | ADTEXP) and name != "adt-expam":
        search = method.search
        assert (search.ball, search.step_size, search.num_steps) == (Linf(0.031), 0.007, 10)
    if name in ("pgd", "ald-pgd"):
        assert method.weight == 1.0
    if name in ("trades", "ald-trades"):
        assert method.weight == 6.0


KINDS: dict[str, Callable[[Any], bool]] = {
    "natural": lambda m: isinstance(m, Natural),
    "pgd": lambda m: isinstance(m, PGDTraining) and m.search.kernel is None and m.search.start == InBall(),
    "madry": lambda m: isinstance(m, Madry) and m.search.kernel is None,
    "trades": lambda m: isinstance(m, TRADES) and m.search.kernel is None and m.search.start == Normal(1e-3),
    "ald-pgd": lambda m: isinstance(m, ALDPGD) and m.search.kernel is not None and m.search.num_particles == 4,
    "ald-trades": lambda m: isinstance(m, ALDTRADES) and m.search.kernel is not None and m.search.start == Normal(1e-3),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_recipe_trains_by_the_method_of_its_name(name: str) -> None:
    for setting in ("digits", "mnist", "cifar10"):
        assert KINDS[name](paper(name, setting).method)


def test_tables_5_2_and_5_3() -> None:
    paper_says = {
        "adt-exp": (0.83, 0.458, 0.458, 0.465),
        "adt-expam": (0.84, 0.461, 0.445, 0.458),
        "pgd": (0.852, 0.455, 0.419, 0.426),
        "ald-pgd": (0.857, 0.471, 0.436, 0.44),
        "trades": (0.834, 0.525, 0.483, 0.487),
        "ald-trades": (0.778, 0.539, 0.501, 0.506),
    }
    sweep = find_recipe("thesis-table-5.3").build(scale="paper", seeds=(0, 1))
    assert isinstance(sweep, Sweep)
    assert list(sweep.runs) == [f"{name}-seed{seed}" for seed in (0, 1) for name in paper_says]
    for folder, run in sweep.runs.items():
        name, _, seed = folder.rpartition("-seed")
        assert isinstance(run, Training)
        assert (run.seed, run.proxy_reason) == (int(seed), "")
        assert tuple(run.paper.values()) == paper_says[name]
        assert run.evaluation.attacks == tuple(run.paper)[1:] == ("pgd-200", "autoattack", "brendel-bethge-200")
        assert run.method.num_particles in (None, 4 if name.startswith("ald") else 1)
        same = replace(
            paper(name, "cifar10"), evaluation=run.evaluation, seed=run.seed, label=run.label, paper=run.paper
        )
        assert replace(run, method=same.method) == same


def test_the_figures_compare_equal_numbers() -> None:
    sweep = find_recipe("thesis-figure-5.4").build(particles=(1, 2), seeds=(0,), single_seed_particles=())
    assert isinstance(sweep, Sweep)
    numbers = {name: run.method.num_particles for name, run in sweep.runs.items() if isinstance(run, Training)}
    assert numbers == {
        "pgd-n1-seed0": 1,
        "trades-n1-seed0": 1,
        "pgd-n2-seed0": 2,
        "trades-n2-seed0": 2,
        "ald-pgd-n2-seed0": 2,
        "ald-trades-n2-seed0": 2,
    }
    assert len({run.label for run in sweep.runs.values()}) == len(numbers)


def test_a_cheaper_scale_is_declared_and_the_papers_is_not() -> None:
    for setting in ("mnist", "cifar10"):
        for name in ALL:
            small_run = find_recipe(f"robust-{name}").build(setting, "small")
            assert small_run.proxy_reason
            assert small_run.epochs < paper(name, setting).epochs
