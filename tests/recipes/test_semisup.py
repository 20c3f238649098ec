"""The recipes of learning from few labels: settings of the thesis, and every method trained for a moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from aureole.core.errors import InputError
from aureole.core.ramps import Constant
from aureole.data import FewLabels
from aureole.models import ModelConfig
from aureole.recipes import find_recipe
from aureole.recipes.semisup import METHODS, SUMMARIES
from aureole.semisup import ALDVAT, VAT, ALDMixup, Supervised, VATMixup
from aureole.semisup.base import SemiSupervised
from aureole.training.config import SGD, Engine, Training
from aureole.training.sweep import Sweep, run_experiment, with_engine


def trainings(name: str, **given: object) -> dict[str, Training]:
    sweep = find_recipe(name).build(**given)
    assert isinstance(sweep, Sweep)
    runs = {key: run for key, run in sweep.runs.items() if isinstance(run, Training)}
    assert len(runs) == len(sweep.runs)
    return runs


def test_every_method_has_a_summary() -> None:
    assert METHODS.keys() == SUMMARIES.keys()
    assert len({type(method) for method in METHODS.values()}) == len(METHODS) == 14


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_on_the_digits(name: str, tmp_path: Path) -> None:
    run = find_recipe(f"semisup-{name}").build()
    assert isinstance(run, Training)
    engine = Engine(progress=False, accelerator="cpu")
    tiny = replace(run, epochs=2, steps_per_epoch=3, batch_size=20, unlabelled_batch_size=30, engine=engine)
    (record,) = run_experiment(tiny, tmp_path / "run", recipe=f"semisup-{name}")
    assert [e.attack for e in record.evaluations] == ["natural"]
    assert len(record.data.labelled_index) == 50
    assert len(record.history) == 2
    if name != "supervised":
        assert "train/unlabelled" in record.history[0]


def test_the_digits_are_learned_and_unlabelled_ones_help(tmp_path: Path) -> None:
    found = {}
    for name in ("supervised", "vat", "mixmatch"):
        run = with_engine(find_recipe(f"semisup-{name}").build(), progress=False, accelerator="cpu")
        (record,) = run_experiment(run, tmp_path / name, recipe=f"semisup-{name}")
        found[name] = record.evaluations[0].accuracy
    assert found["supervised"] > 0.65
    assert found["vat"] > found["supervised"] + 0.03
    assert found["mixmatch"] > found["supervised"]


@pytest.mark.parametrize("preset", ["probe", "algorithm"])
@pytest.mark.parametrize(("setting", "epochs", "model"), [("mnist", 400, "lenet5"), ("cifar10", 600, "conv-large")])
def test_the_thesis_scale(setting: Literal["mnist", "cifar10"], epochs: int, model: str, preset: str) -> None:
    """Thesis section 5.5.2."""
    run = find_recipe("semisup-ald").build(setting, "paper", preset=preset)
    assert isinstance(run, Training)
    assert (run.epochs, run.model.name, run.optimizer.learning_rate) == (epochs, model, 0.1)
    assert run.batch_size + run.unlabelled_batch_size == 128
    assert run.optimizer.schedule == "cosine"
    assert isinstance(run.optimizer, SGD)
    assert (run.optimizer.nesterov, run.optimizer.weight_decay) == (True, 5e-4)
    assert run.proxy_reason == ""
    assert isinstance(run.method, ALDVAT)
    assert run.method.search.ball.radius == (0.01 if setting == "mnist" else 1e-4)  # 5e-4 of normalised images
    assert run.method.weight == 30
    own = find_recipe("semisup-ald").build(setting, "paper")
    assert isinstance(own, Training)
    assert own.method == ALDVAT()
    assert "instead of the thesis's" in own.proxy_reason


@pytest.mark.parametrize(
    ("name", "preset", "kind"),
    [
        ("vat", "probe", VAT.thesis),
        ("vat", "algorithm", VAT.thesis),
        ("vat-mixup", "probe", VATMixup.thesis),
        ("ald", "probe", ALDVAT.probe),
        ("ald", "algorithm", ALDVAT.algorithm),
        ("ald-mixup", "algorithm", ALDMixup.algorithm),
    ],
)
def test_presets_are_those_of_the_methods(name: str, preset: str, kind: Callable[..., VAT]) -> None:
    run = find_recipe(f"semisup-{name}").build("mnist", "small", preset=preset)
    assert isinstance(run, Training)
    assert run.method == kind(0.01, METHODS[name].num_particles)
    assert "library's own" not in run.proxy_reason


def test_the_thesis_is_compared_with_its_own_settings_and_numbers_at_its_own_scale() -> None:
    runs = trainings("thesis-table-5.1", scale="paper", seeds=(0,))
    assert {run.method.num_particles for run in runs.values() if isinstance(run.method, VAT)} == {1, 2, 4, 8, 24}
    assert runs["ald-n4-seed0"].method == ALDVAT.probe(5e-4, 4, 0.2)
    assert runs["vat-mixup-n2-seed0"].method == VATMixup.thesis(5e-4, 2, 0.2)
    assert runs["ald-mixup-n4-seed0"].paper == {"natural": 0.93}
    assert runs["ald-n24-seed0"].paper == {}
    figure = trainings("thesis-figure-5.3", scale="paper", setting="cifar10", seeds=(0,), particles=(4,))
    assert figure["ald-n4-1000-seed0"].paper == {"natural": 0.779}
    assert not any(run.proxy_reason for run in [*runs.values(), *figure.values()])
    small = trainings("thesis-figure-5.3", seeds=(0,), particles=(4,))
    assert small["ald-n4-300-seed0"].paper == {}
    assert "library's own" in small["ald-n4-300-seed0"].proxy_reason
    assert "library's own" not in small["supervised-300-seed0"].proxy_reason


@pytest.mark.parametrize(("setting", "quarter"), [("digits", 3.75), ("mnist", 2.5), ("cifar10", 2.5)])
def test_a_short_run_does_not_end_before_its_ramp(setting: Literal["digits", "mnist"], quarter: float) -> None:
    ramped = {name: method.ramp for name, method in METHODS.items() if isinstance(method, SemiSupervised)}
    ramped = {name: ramp for name, ramp in ramped.items() if not isinstance(ramp, Constant)}
    assert len(ramped) == 6
    for name in ramped:
        run = find_recipe(f"semisup-{name}").build(setting, "small")
        assert isinstance(run, Training)
        assert isinstance(run.method, SemiSupervised)
        assert run.method.ramp == type(ramped[name])(quarter)
        usual = METHODS[name]
        assert isinstance(usual, SemiSupervised)
        weight = {("mixmatch", "digits"): 10.0, ("mean-teacher", setting): 30.0}.get((name, setting), usual.weight)
        plain = replace(run.method, ramp=usual.ramp, ema_decay=usual.ema_decay)
        assert (run.method.weight, replace(plain, weight=usual.weight)) == (weight, usual)
        assert (weight == usual.weight) is ("a weight of" not in run.proxy_reason)
        assert f"a ramp over {quarter} epochs instead of" in run.proxy_reason


def test_a_short_run_averages_over_fewer_steps() -> None:
    averaged = [name for name, method in METHODS.items() if getattr(method, "ema_decay", None) is not None]
    assert sorted(averaged) == ["fixmatch", "ict", "mean-teacher", "mixmatch"]
    for name in averaged:
        run = find_recipe(f"semisup-{name}").build("mnist", "small")
        assert isinstance(run, Training)
        assert getattr(run.method, "ema_decay", None) == 0.95
        assert "weights averaged at 0.95 instead of 0.999" in run.proxy_reason


@pytest.mark.parametrize("name", METHODS)
def test_the_paper_scale_has_the_ramps_of_the_papers(name: str) -> None:
    run = find_recipe(f"semisup-{name}").build("mnist", "paper")
    assert isinstance(run, Training)
    assert run.method == METHODS[name]


def test_figure_5_3_compares_restarts_and_particles_at_equal_steps() -> None:
    runs = trainings("thesis-figure-5.3")
    assert len(runs) == 2 * 3 * (1 + 2 * 4)
    assert {run.data.num_labelled for run in runs.values() if isinstance(run.data, FewLabels)} == {300, 500}
    assert {(run.epochs, run.steps_per_epoch, run.batch_size) for run in runs.values()} == {(10, 100, 64)}
    kinds = {type(run.method) for run in runs.values()}
    assert kinds == {Supervised, VAT, ALDVAT}
    for key, run in runs.items():
        if isinstance(run.method, VAT):
            assert f"-n{run.method.search.num_particles}-" in key
        assert isinstance(run.data, FewLabels)
        assert run.data.labelled_seed == run.seed


@pytest.mark.parametrize("name", ["thesis-figure-5.3", "thesis-table-5.1", "study-few-labels"])
def test_the_comparisons_run_for_as_many_steps_as_asked(name: str) -> None:
    runs = trainings(name, seeds=(0,), steps=3000)
    assert {(run.epochs, run.steps_per_epoch) for run in runs.values()} == {(10, 300)}
    assert all("3,000 steps" in run.proxy_reason for run in runs.values())


def test_table_5_1_has_the_mixed_forms() -> None:
    runs = trainings("thesis-table-5.1", seeds=(0,), particles=(1, 2))
    assert sorted(runs) == sorted(
        ["supervised-seed0", *(f"{m}-n{n}-seed0" for m in ("vat", "ald", "vat-mixup", "ald-mixup") for n in (1, 2))]
    )
    assert {run.data.num_labelled for run in runs.values() if isinstance(run.data, FewLabels)} == {4000}


def test_the_study_trains_every_method_from_the_same_labels_as_its_own_recipe_does() -> None:
    runs = trainings("study-few-labels", seeds=(3,))
    assert len(runs) == len(METHODS)
    for run in runs.values():
        assert isinstance(run.data, FewLabels)
        assert (run.data.num_labelled, run.data.labelled_seed, run.seed) == (300, 3, 3)
    teacher, alone = runs["mean-teacher-n1-300-seed3"], find_recipe("semisup-mean-teacher").build("mnist", "small")
    assert isinstance(alone, Training)
    assert (teacher.method, teacher.proxy_reason) == (alone.method, alone.proxy_reason)
    with pytest.raises(InputError, match="did you mean 'fixmatch'"):
        find_recipe("study-few-labels").build(methods=("fixmatsch",))


def test_conv_large_is_the_thesiss() -> None:
    network = ModelConfig(name="conv-large").build(num_classes=10, image_shape=(3, 32, 32), seed=0)
    assert sum(p.numel() for p in network.parameters()) == 3_123_850
