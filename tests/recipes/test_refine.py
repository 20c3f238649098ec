"""The recipes of thesis chapter 3: its settings, its victims, and every one of them run when it is made small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from aureole.attacks import BIM, JSMA, PGD, AutoAttack, CornerSearch, SparseFool
from aureole.core.balls import L2, Linf
from aureole.core.errors import InputError
from aureole.data import Data
from aureole.models import ModelConfig
from aureole.recipes import RECIPES, find_recipe
from aureole.recipes.refine import Victim, case, defended
from aureole.refine import PVAR, Concrete, Detector, Marginal, Threshold
from aureole.robust import TRADES, PGDTraining
from aureole.training.config import Engine, Training
from aureole.training.evaluation.sources import ForeignModel
from aureole.training.optimizers import RAdam
from aureole.training.refinement.run import Refinement, run_refinement
from aureole.training.sweep import Sweep, run_experiment, with_engine, with_seed

CHAPTER_3 = [name for name in RECIPES if "-3." in name]
ENGINE = Engine(progress=False, accelerator="cpu")


def refinements(name: str, **given: object) -> dict[str, Refinement]:
    sweep = find_recipe(name).build(**given)
    assert isinstance(sweep, Sweep)
    return {key: run for key, run in sweep.runs.items() if isinstance(run, Refinement)}


def share(run: Refinement) -> float:
    assert isinstance(run.refiner.method, PVAR)
    return run.refiner.method.share


def small(run: Training) -> Training:
    return replace(
        run,
        data=Data(num_train=100, num_validation=20),
        model=ModelConfig(),
        epochs=1,
        evaluation=replace(run.evaluation, num_examples=30),
        engine=ENGINE,
    )


def small_refinement(run: Refinement) -> Refinement:
    """Return the refinement on the digits, with attacks of a step and the fast selection."""
    assert isinstance(run.refiner.method, PVAR)
    victim = small(run.victim) if isinstance(run.victim, Training) else run.victim
    method = replace(run.refiner.method, selection=Marginal())
    network = f"vulnerability-unet-small{'-conditioned' if method.conditioned else ''}"
    learner = replace(small(run.refiner), method=method, model=ModelConfig(name=network))
    attacks = {name: PGD(ball=Linf(0.3), num_steps=1, step_size=0.3) for name in (*run.sources, *run.compare)}
    return replace(
        run,
        victim=victim,
        refiner=learner,
        sources={name: attacks[name] for name in run.sources},
        compare={name: attacks[name] for name in run.compare},
        num_examples=30,
        detector=Detector(num_bootstrap=5),
        num_pictures=2,
        rivals=False,
    )


@pytest.mark.parametrize("name", CHAPTER_3)
def test_every_recipe_of_the_chapter_holds_its_settings(name: str) -> None:
    runs = (
        refinements(name, scale="paper")
        if "imagenet" not in name and name[-3:] not in ("3.5", "3.8")
        else refinements(name)
    )
    assert runs
    for run in runs.values():
        assert isinstance(run.refiner.method, PVAR)
        assert run.refiner.method.selection == Concrete(temperature=1.0)
        assert run.refiner.optimizer == RAdam(learning_rate=1e-3, schedule="constant")
        assert (run.refiner.batch_size, run.refiner.epochs, run.refiner.patience) == (32, 300, 15)
        assert run.refiner.model.name == "vulnerability-unet"
        assert run.refiner.data.num_train == (5000 if run.refiner.data.source == "imagenet" else None)
        radius = next(iter(run.sources.values())).ball.radius
        assert radius == (0.3 if run.refiner.data.source == "ylecun/mnist" else 0.03)


def test_the_figures_sweep_attacks_and_shares() -> None:
    runs = refinements("thesis-figure-3.6")
    assert {(next(iter(r.sources)), share(r)) for r in runs.values()} == {
        (attack, beta) for attack in ("pgd", "bim", "autoattack") for beta in (0.1, 0.3, 0.5, 0.7)
    }
    assert all(r.victim_folder == "../victim" for r in runs.values())
    both = refinements("thesis-figure-3.7", depths=(32, 56))
    assert {r.victim.model.name for r in both.values() if isinstance(r.victim, Training)} == {"resnet32", "resnet56"}
    assert {r.victim_folder for r in both.values()} == {"../resnet32", "../resnet56"}


def test_maps_may_learn_from_more_images() -> None:
    for name, data in (("thesis-figure-3.6", "victim"), ("thesis-figure-3.7", "resnet32")):
        runs = refinements(name, attacks=("bim",), shares=(0.3,), form="conditioned", num_learned=6000)
        ((key, run),) = runs.items()
        assert key == f"{data}-bim-0.3-conditioned-6000-seed0"
        assert run.refiner.data.num_train == 6000
        assert run.refiner.label == "bim, 0.3 of the pixels, conditioned, 6,000 images"
        assert "the map from 6,000 images in at most" in run.refiner.proxy_reason
        with pytest.raises(InputError, match="give --scale small"):
            refinements(name, scale="paper", num_learned=6000)


def test_source_attacks_are_those_of_the_thesis() -> None:
    found = case("mnist", "paper").sources("pgd", "bim", "autoattack", "mim-10")
    assert found["pgd"] == PGD(ball=Linf(0.3), num_steps=40, step_size=0.3 / 30)
    assert found["bim"] == BIM(ball=Linf(0.3), num_steps=10, step_size=0.3 / 5)
    assert isinstance(found["autoattack"], AutoAttack)
    assert found["autoattack"].stop_at_success is False
    assert found["mim-10"].ball == Linf(0.3)
    assert case("cifar10", "small").ball == Linf(0.03)


def test_defended_victims_are_trained_in_the_ball_of_the_attack() -> None:
    for name, kind in (("pgd", PGDTraining), ("trades", TRADES)):
        victim = defended(case("cifar10", "paper"), "cifar10", "paper", name).victim  # pyright: ignore[reportArgumentType]
        assert isinstance(victim, Training)
        assert isinstance(victim.method, kind)
        assert victim.method.search.ball == Linf(0.03)
    runs = refinements("thesis-figure-3.10", setting="mnist")
    assert {r.victim_folder for r in runs.values()} == {"../victim-undefended", "../victim-pgd", "../victim-trades"}


@pytest.mark.parametrize(
    ("setting", "source", "kappa", "radius"), [("mnist", "autoattack", 1.5, 0.3), ("cifar10", "bim", 1.0, 0.03)]
)
def test_table_3_1_compares_with_the_sparse_attacks(setting: str, source: str, kappa: float, radius: float) -> None:
    runs = refinements("thesis-table-3.1", setting=setting)
    compared = [run.compare for run in runs.values() if run.compare]
    assert compared == [
        {
            "jsma": JSMA(theta=radius, gamma=0.3),
            "sparsefool": SparseFool(ball=Linf(radius), lambda_=2.0),
            "cornersearch": CornerSearch(max_pixels=0.7, kappa=kappa, num_samples=100, increment=20),
        }
    ]
    assert all(next(iter(run.sources)) == source and share(run) == 0.3 for run in runs.values())
    assert {run.refiner.seed for run in runs.values()} == {0, 1, 2}


def test_figure_3_4_shows_the_sparse_attacks_of_table_3_1() -> None:
    (table,) = refinements("thesis-table-3.1", setting="cifar10", seeds=(0,)).values()
    (figure,) = refinements("thesis-figure-3.4").values()
    assert figure.compare == table.compare
    assert (figure.num_examples, figure.refiner.proxy_reason) == (table.num_examples, table.refiner.proxy_reason)
    assert list(figure.sources) == ["autoattack"]
    (paper,) = refinements("thesis-figure-3.4", scale="paper").values()
    assert isinstance(paper.victim, Training)
    assert paper.victim.model.name == "resnet56"
    assert list(paper.compare) == ["jsma", "sparsefool", "cornersearch"]
    assert (paper.num_examples, paper.refiner.proxy_reason) == (None, "")


def test_figure_3_1_keeps_a_tenth_of_the_pixels() -> None:
    for setting, source in (("mnist", "ylecun/mnist"), ("cifar10", "uoft-cs/cifar10")):
        (run,) = refinements("thesis-figure-3.1", setting=setting).values()
        assert (share(run), list(run.sources), run.refiner.data.source) == (0.1, ["pgd"], source)


def test_maps_of_imagenet_learn_from_as_many_images_as_fit_in_memory() -> None:
    (figure,) = refinements("thesis-figure-3.5").values()
    assert list(figure.compare) == ["jsma", "sparsefool"]
    runs = refinements("thesis-figure-3.8", num_train=77)
    assert len(runs) == 4
    for run, count in [(figure, 5000), *((run, 77) for run in runs.values())]:
        assert isinstance(run.victim, ForeignModel)
        assert run.refiner.data.num_train == count
        assert f"from {count:,} images" in run.refiner.proxy_reason


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"attacks": ()}, "give --attacks one name or more"),
        ({"victim": Victim(weights=Path("some.safetensors"))}, "give --victim.source"),
        ({"victim": Victim(num_classes=3)}, "give --victim.source"),
    ],
)
def test_a_refinement_says_what_is_missing(given: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        find_recipe("refine").build(**given)


@pytest.mark.parametrize(
    ("scale", "given", "expected"),
    [("small", None, Marginal()), ("paper", None, Concrete()), ("small", "threshold", Threshold())],
)
def test_the_selection_is_the_scales_unless_one_is_named(scale: str, given: str | None, expected: object) -> None:
    run = find_recipe("refine").build("mnist", scale, selection=given)
    assert isinstance(run, Refinement)
    assert isinstance(run.refiner.method, PVAR)
    assert run.refiner.method.selection == expected


def test_table_3_3_refines_every_attack_with_every_map() -> None:
    runs = refinements("thesis-table-3.3")
    assert [next(iter(run.sources)) for run in runs.values()] == ["pgd", "autoattack", "bim"]
    assert all(set(run.sources) == {"pgd", "autoattack", "bim"} for run in runs.values())


@pytest.mark.parametrize("name", ["thesis-table-3.1", "thesis-table-3.3"])
def test_a_small_sweep_runs(name: str, tmp_path: Path) -> None:
    sweep = find_recipe(name).build(seeds=(0,))
    assert isinstance(sweep, Sweep)
    names = list(sweep.runs)[:2]  # the victim and a refinement
    runs = {}
    for key in names:
        run = sweep.runs[key]
        runs[key] = small_refinement(run) if isinstance(run, Refinement) else replace(small(run), epochs=8)  # pyright: ignore
    last = runs[names[1]]
    assert isinstance(last, Refinement)
    runs[names[1]] = replace(last, victim=runs[names[0]])
    victim, record = run_experiment(Sweep(title="small", runs=runs), tmp_path, recipe=name)
    assert (victim.kind, record.kind, record.recipe) == ("training", "refinement", name)
    attacks = [(row.attack, row.pixels) for row in record.refinement]
    expected = {"thesis-table-3.1": 5, "thesis-table-3.3": 6}[name]
    assert len(attacks) == len(set(attacks)) == expected
    assert not (tmp_path / names[1] / "victim").exists()  # the sweep's own victim was taken


def test_refine_takes_any_attack_ball_selection_and_victim(tmp_path: Path) -> None:
    run = find_recipe("refine").build(attacks=("mim-10", "fgsm"), radius=0.5, ball="l2", selection="threshold")
    assert isinstance(run, Refinement)
    assert [a.ball for a in run.sources.values()] == [L2(0.5), L2(0.5)]
    assert isinstance(run.refiner.method, PVAR)
    assert run.refiner.method.selection == Threshold()
    conditioned = find_recipe("refine").build(form="conditioned")
    assert isinstance(conditioned, Refinement)
    assert conditioned.refiner.model.name == "vulnerability-unet-small-conditioned"
    assert isinstance(conditioned.refiner.method, PVAR)
    assert (conditioned.refiner.method.conditioned, conditioned.refiner.method.among) == (True, "changed")
    with pytest.raises(InputError, match="choose a map that ends in -conditioned"):
        replace(run, refiner=replace(run.refiner, method=conditioned.refiner.method))
    own = find_recipe("refine").build(victim=Victim(source="my_models:network", num_classes=10))
    assert isinstance(own, Refinement)
    assert own.victim == ForeignModel(model="my_models:network", num_classes=10)
    folder = find_recipe("refine").build(victim=Victim(source=str(tmp_path)))
    assert isinstance(folder, Refinement)
    assert (folder.victim, folder.victim_folder) == (None, str(tmp_path.resolve()))
    with pytest.raises(InputError, match="radius of its own"):
        find_recipe("refine").build(ball="l2")
    with pytest.raises(InputError, match="my_models"):
        run_refinement(replace(small_refinement(own), victim=own.victim), tmp_path / "run")


def test_the_form_of_the_map_reaches_every_run_of_a_sweep() -> None:
    parts = [f"figure-3.{number}" for number in (1, 3, 4, 5, 6, 7, 8, 9, 10)] + ["table-3.1", "table-3.3"]
    for part in parts:
        runs = [
            run
            for run in find_recipe(f"thesis-{part}").build(form="changed").runs.values()
            if isinstance(run, Refinement)
        ]
        assert runs
        for run in runs:
            assert isinstance(run.refiner.method, PVAR)
            assert (run.refiner.method.among, run.refiner.method.conditioned) == ("changed", False)
            assert "changed" in run.title


def test_a_conditioned_map_trains(tmp_path: Path) -> None:
    run = find_recipe("refine").build(form="conditioned")
    assert isinstance(run, Refinement)
    record = run_refinement(small_refinement(run), tmp_path / "run")
    assert {row.pixels for row in record.refinement} == {"all", "map"}


def test_engine_and_seed_reach_the_map_and_the_victim() -> None:
    run = find_recipe("refine").build()
    assert isinstance(run, Refinement)
    quiet = with_engine(run, progress=False)
    assert isinstance(quiet, Refinement)
    assert isinstance(quiet.victim, Training)
    assert not quiet.refiner.engine.progress
    assert not quiet.victim.engine.progress
    seeded = with_seed(run, 3)
    assert isinstance(seeded, Refinement)
    assert seeded.refiner.seed == 3


@pytest.mark.parametrize("setting", ["mnist", "cifar10"])
def test_a_cheap_run_says_what_it_does(setting: Literal["mnist", "cifar10"]) -> None:
    found = case(setting, "small")
    assert isinstance(found.victim, Training)
    for run in (found.victim, found.learner):
        assert run.data.num_train is not None
        reason = found.reason if run is found.learner else run.proxy_reason
        assert f"{run.data.num_train:,}" in reason
        assert f"{run.epochs} " in reason
    assert f"the first {found.num_examples:,} test images" in found.reason
    assert case(setting, "paper").victim.proxy_reason == ""  # pyright: ignore[reportAttributeAccessIssue]
