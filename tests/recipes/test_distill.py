"""The recipes of distillation: RepDistiller's settings, the sweeps of thesis chapter 7, and a small run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from aureole.cli import main
from aureole.core.errors import InputError
from aureole.data import Data
from aureole.distill import AT, BSS, FT, HSAKD, KD, SSKD, TALD, VID, Distillation
from aureole.models import MODELS, ModelConfig
from aureole.particles.starts import Uniform
from aureole.recipes import RECIPES, find_recipe
from aureole.recipes.distill import CHEAP, METHODS, Budget, Ground, Teacher, networks, with_method
from aureole.recipes.distill_published import CROSS_STYLE, SAME_STYLE
from aureole.recipes.tald_study import FORMS
from aureole.robust import Natural
from aureole.training.config import Engine, Training
from aureole.training.distillation import Distilling
from aureole.training.evaluation.sources import ForeignModel
from aureole.training.fit import claim_folder
from aureole.training.study import DiversityStudy
from aureole.training.sweep import Experiment, Sweep, run_experiment, with_engine

SWEEPS = [
    *(name for name in RECIPES if name.startswith(("thesis-figure-7.", "thesis-table-7.")) and name[-3:] != "7.1"),
    "study-tald",
]
ENGINE = Engine(progress=False, accelerator="cpu")
PAPER = Ground(setting="cifar100", scale="paper")


def build(**given: Any) -> Distilling:
    run = find_recipe("distill").build(**given)
    assert isinstance(run, Distilling)
    return run


def sweep(name: str, **given: Any) -> dict[str, Experiment]:
    found = find_recipe(name).build(**given)
    assert isinstance(found, Sweep)
    return dict(found.runs)


def students(name: str, **given: Any) -> dict[str, Distilling]:
    return {key: run for key, run in sweep(name, **given).items() if isinstance(run, Distilling)}


def small(run: Training, num_train: int = 100) -> Training:
    return replace(
        run,
        data=Data(num_train=num_train, num_validation=20),
        model=replace(run.model, name="resnet8"),
        epochs=1,
        augment="none",
        evaluation=replace(run.evaluation, num_examples=30),
        engine=ENGINE,
    )


@pytest.mark.parametrize("scale", ["paper", "small"])
@pytest.mark.parametrize("setting", ["digits", "cifar10", "cifar100", "tiny-imagenet"])
def test_a_run_at_the_papers_scale_is_the_papers_and_any_other_says_how_it_differs(
    setting: Literal["digits", "cifar10", "cifar100", "tiny-imagenet"], scale: Literal["paper", "small"]
) -> None:
    teacher = find_recipe("teacher").build(setting, scale)
    assert isinstance(teacher, Training)
    for name in METHODS:
        run = build(setting=setting, scale=scale, method=name).student
        for each in (run, teacher):
            assert (each.proxy_reason == "") == (setting == "cifar100" and scale == "paper")
            if setting != "digits" and scale == "small":
                assert (each.data.num_train, each.epochs, each.optimizer.schedule) == (10_000, 8, "cosine")
                assert "10,000 training images, 8 of 240 epochs" in each.proxy_reason
        stage = run.method.warm_up_epochs
        assert f"a stage of {stage} instead of" in run.proxy_reason or stage == METHODS[name].warm_up_epochs
    if setting == "tiny-imagenet":
        assert teacher.proxy_reason.startswith("Tiny ImageNet instead of CIFAR-100")


def test_the_papers_scale_is_repdistillers() -> None:
    for name, method in METHODS.items():
        run = PAPER.distilling(name, "wrn-40-2-shufflenet-v1").student
        assert run.method == method
        assert (run.epochs, run.batch_size, run.augment) == (240, 64, "crop-flip")
        assert (run.optimizer.learning_rate, run.optimizer.weight_decay) == (0.01, 5e-4)
        assert (run.optimizer.schedule, run.optimizer.milestones) == ("steps", (150, 180, 210))
    assert PAPER.classifier("wrn-40-2").optimizer.learning_rate == 0.05
    assert len(METHODS) == 17
    assert len({type(method) for method in METHODS.values()}) == 17


def test_a_teacher_may_know_more_than_its_student_sees() -> None:
    def budget(**teacher: int) -> Distilling:
        spent = Budget(num_train=5000, epochs=8, **teacher)
        return Ground(setting="cifar10", scale="small", budget=spent).distilling("kd", "resnet20-resnet8")

    run = budget(teacher_num_train=20_000, teacher_epochs=15)
    assert isinstance(run.teacher, Training)
    assert (run.student.data.num_train, run.student.epochs) == (5000, 8)
    assert (run.teacher.data.num_train, run.teacher.epochs) == (20_000, 15)
    assert "a teacher from 20,000 in 15" in run.student.proxy_reason
    assert "20,000 training images, 15 of 240 epochs" in run.teacher.proxy_reason
    assert "a teacher from" not in run.teacher.proxy_reason
    usual = budget()
    assert isinstance(usual.teacher, Training)
    assert (usual.teacher.data, usual.teacher.epochs) == (usual.student.data, usual.student.epochs)
    assert "a teacher from" not in usual.student.proxy_reason


def test_a_short_run_shortens_what_counts_epochs() -> None:
    base = Ground(setting="cifar10", scale="small", budget=Budget(epochs=24)).classifier("resnet20")
    stages = {name: with_method(base, name).method.warm_up_epochs for name in METHODS}
    assert {name: n for name, n in stages.items() if n} == {"ab": 3, "ft": 3, "fsp": 3, "sskd": 6, "hsakd": 10}
    bss = with_method(base, "bss").method
    assert isinstance(bss, BSS)
    assert bss == replace(BSS.with_kd(), num_epochs=24)


def test_a_cheap_run_attacks_as_many_images_as_the_authors_do() -> None:
    def tald(**budget: int | None) -> TALD | None:
        ground = Ground(setting="cifar10", scale="small", budget=Budget(**budget))
        run = ground.distilling("kd", CHEAP[0], TALD()).student
        assert ("on the first 10 images" in run.proxy_reason) == (not budget)
        assert isinstance(run.method, Distillation)
        return run.method.tald

    assert tald() == TALD(max_images=10)
    assert tald(num_attacked=None) == TALD()
    whole = PAPER.distilling("kd", CHEAP[0], TALD()).student.method
    assert isinstance(whole, Distillation)
    assert whole.tald == TALD()


def test_published_accuracies_stand_beside_the_runs_that_they_are_of() -> None:
    def paper(name: str, pair: str, tald: TALD | None = None) -> dict[str, float]:
        return PAPER.distilling(name, pair, tald).student.paper

    assert paper("kd", "resnet56-resnet20") == {"natural": 0.7066}
    assert paper("crd", "wrn-40-2-shufflenet-v1") == {"natural": 0.7605}
    assert paper("at", "vgg13-mobilenet-v2") == {"natural": 0.5940}
    assert paper("none", "resnet32x4-resnet8x4") == {"natural": 0.7250}
    unknown = [("fsp", "wrn-40-2-wrn-40-1"), ("fsp", CROSS_STYLE[0]), ("hsakd", SAME_STYLE[0]), ("kd", CHEAP[0])]
    assert all(paper(*case) == {} for case in unknown)
    assert paper("kd", "resnet56-resnet20", TALD()) == {}
    assert PAPER.classifier("wrn-40-2").paper == {"natural": 0.7561}
    assert build(setting="cifar100", scale="small").student.paper == {}
    assert build(setting="cifar10").student.paper == {}


def test_every_named_pair_is_of_two_networks() -> None:
    for pair in (*SAME_STYLE, *CROSS_STYLE, *CHEAP):
        teacher, student = networks(pair)
        assert f"{teacher}-{student}" == pair
        assert {teacher, student} <= MODELS.keys()
    assert networks("resnet34-imagenet-resnet18-imagenet") == ("resnet34-imagenet", "resnet18-imagenet")


def test_wrong_names_offer_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown method 'sskkd': did you mean 'sskd'"):
        build(method="sskkd")
    with pytest.raises(InputError, match="unknown pair 'resnet56-resnet2': did you mean 'resnet56-resnet20'"):
        build(pair="resnet56-resnet2")
    with pytest.raises(InputError, match="TALD is added to a method"):
        build(method="none", tald=True)


def test_the_teacher_may_be_ones_own(tmp_path: Path) -> None:
    run = build(teacher=Teacher(source="my_models:network", weights=tmp_path / "w.safetensors", num_classes=10))
    assert run.teacher == ForeignModel(
        model="my_models:network", weights=str(tmp_path / "w.safetensors"), num_classes=10
    )
    run = build(teacher=Teacher(source=str(tmp_path)))
    assert (run.teacher, run.teacher_folder) == (None, str(tmp_path.resolve()))


@pytest.mark.parametrize("given", [{"weights": Path("w.safetensors")}, {"num_classes": 10}, {"layers": ("a",)}])
@pytest.mark.parametrize("source", [None, "runs/teacher"])
def test_weights_without_a_model_to_put_them_in_are_refused(given: dict[str, Any], source: str | None) -> None:
    with pytest.raises(InputError, match=f"of your own, module:function; got the source {source or 'none'}"):
        build(teacher=Teacher(source=source, **given))


def test_the_teacher_of_a_folder_must_be_the_pairs(tmp_path: Path) -> None:
    claim_folder(replace(find_recipe("teacher").build(), model=ModelConfig(name="resnet14")), tmp_path)
    mine = Teacher(source=str(tmp_path))
    with pytest.raises(InputError, match=r"teacher of the pair resnet20-resnet8 is resnet20; got resnet14 .*resnet14-"):
        build(teacher=mine, pair="resnet20-resnet8")
    assert build(teacher=mine, pair="resnet14-resnet8") == build(teacher=mine)
    published = build(setting="cifar100", teacher=mine)
    assert (published.student.model.name, published.student.paper) == ("resnet20", {})


def test_tald_has_presets() -> None:
    wanted = {"default": TALD(), "thesis": TALD.thesis(), "authors": TALD.authors()}
    for name, tald in wanted.items():
        run = build(setting="cifar100", tald=True, tald_preset=name)
        assert run.student.method == KD(tald=tald)
        assert ("not the thesis's" in run.student.proxy_reason) == (name != "thesis")
        runs = students("thesis-figure-7.4", scale="paper", tald_preset=name, particles=(2,), seeds=(0,))
        searches = [r.student.method.tald.search for key, r in runs.items() if "tald" in key]
        assert searches == 3 * [replace(tald.search, num_particles=2)]
    assert build(setting="cifar100", tald=False, tald_preset="thesis").student.method == KD()


def test_hsakd_has_the_momentum_of_its_authors() -> None:
    assert build(method="hsakd").student.optimizer.nesterov
    assert not build(method="kd").student.optimizer.nesterov


def test_the_command_line_shows_a_run_and_reaches_its_term(capsys: pytest.CaptureFixture[str]) -> None:
    line = "show distill --method sp --tald --method.tald.weight 0.5 --method.tald.fraction 0.25 --json"
    assert main(line.split()) == 0
    method = json.loads(capsys.readouterr().out)["student"]["method"]
    assert method["type"].endswith(":SP")
    assert (method["tald"]["weight"], method["tald"]["fraction"]) == (0.5, 0.25)
    assert main(["show", "distill"]) == 0
    assert "resnet8" in capsys.readouterr().out
    assert main(["show", "distill", "--method", "hskad"]) == 2
    assert "did you mean 'hsakd'" in capsys.readouterr().err


@pytest.mark.parametrize("name", SWEEPS)
@pytest.mark.parametrize("scale", ["paper", "small"])
def test_students_of_a_teacher_share_its_folder(name: str, scale: str) -> None:
    timed_or_large = name in ("thesis-table-7.2", "thesis-figure-7.5")
    runs = sweep(name) if timed_or_large else sweep(name, scale=scale)
    names, found = list(runs), 0
    for key, run in runs.items():
        if isinstance(run, Distilling) and name != "thesis-figure-7.5":
            home = run.teacher_folder.removeprefix("../")
            assert names.index(home) < names.index(key)
            assert runs[home] == run.teacher
            found += 1
    assert found or name == "thesis-figure-7.5"


def test_the_figures_have_the_methods_and_pairs_of_the_thesis() -> None:
    for name, count in (("thesis-figure-7.2", 4), ("thesis-figure-7.3", 3)):
        runs = students(name, scale="paper", seeds=(0, 1))
        assert len(runs) == count * 2 * (1 + 2 * 13)
        assert {run.student.seed for run in runs.values()} == {0, 1}
        assert {run.student.method.num_particles for run in runs.values()} == {None, 4}
        assert len({run.title for run in runs.values()}) == len(runs) / 2
    seventh = students("thesis-figure-7.7", scale="paper", seeds=(0,))
    assert len(seventh) == 2 * 3 * 5
    kinds = {type(r.student.method) for r in seventh.values() if r.student.model.name == "shufflenet-v1"}
    assert kinds == {KD, VID, FT}
    assert {run.student.method.num_particles for run in seventh.values()} == {None, 1, 2, 4, 8}
    fourth = students("thesis-figure-7.4", setting="digits", seeds=(0,), particles=(1, 4))
    assert [run.title for run in fourth.values()] == [
        f"{text}, resnet20-resnet8"
        for text in ("student alone", "KD", "KD + BSS", "KD + TALD, n = 1", "KD + TALD, n = 4")
    ]


def test_the_table_times_bss_while_it_is_at_work() -> None:
    runs = students("thesis-table-7.2")
    assert [run.student.method.num_particles for run in runs.values()] == [None, None, 1, 2, 4, 8]
    assert {run.num_boundary for run in runs.values()} == {0}
    (bss,) = (run.student.method for run in runs.values() if isinstance(run.student.method, BSS))
    assert bss.num_epochs == 240


def test_cheaper_forms_stand_beside_whole_batches() -> None:
    runs = students("study-tald", setting="digits", seeds=(0, 1), forms=("reuse 3", "fraction 0.25, shared gradient"))
    assert list(runs)[:4] == [
        "kd-without-seed0",
        "kd-whole-batch-seed0",
        "kd-reuse-3-seed0",
        "kd-fraction-0.25-shared-gradient-seed0",
    ]
    assert len(runs) == 2 * 4
    terms = [run.student.method.tald for run in list(runs.values())[:4]]
    assert (terms[0].weight, terms[1]) == (0, TALD())
    assert terms[2:] == [TALD(reuse=3), TALD(fraction=0.25, shared_gradient=True)]
    cifar = students("study-tald", seeds=(0,))
    assert {run.student.method.tald.max_images for run in cifar.values()} == {None}
    assert len(cifar) == 2 + len(FORMS)
    with pytest.raises(InputError, match="unknown form 'reuse': did you mean 'reuse 3'"):
        sweep("study-tald", forms=("reuse",))
    with pytest.raises(InputError, match="num_particles must be at least 1"):
        sweep("study-tald", num_particles=0)


def test_imagenet_has_torchdistills_settings() -> None:
    runs = sweep("thesis-figure-7.5")
    assert len(runs) == 1 + 2 * 5
    assert isinstance(runs["none-seed0"], Training)
    assert isinstance(runs["none-seed0"].method, Natural)
    wanted = {"kd": KD.imagenet(), "at": AT.imagenet(), "ft": FT.imagenet(), "sskd": SSKD.imagenet()}
    for name, method in wanted.items():
        plain, added = runs[f"{name}-seed0"], runs[f"{name}-tald-seed0"]
        assert isinstance(plain, Distilling)
        assert isinstance(added, Distilling)
        assert plain.student.method == method
        assert isinstance(added.student.method, Distillation)
        assert added.student.method.tald.search.start == Uniform(1.5)
        assert replace(added.student.method, tald=method.tald) == method
        assert isinstance(plain.teacher, ForeignModel)
        assert (plain.teacher_taps is not None, plain.student.batch_size) == (True, 256)
        assert (set(plain.student.paper), added.student.paper) == ({"natural"}, {})
        assert plain.student.optimizer.weight_decay == (5e-4 if name == "sskd" else 1e-4)


def test_a_small_sweep_runs_with_one_teacher(tmp_path: Path) -> None:
    runs = sweep("thesis-figure-7.4", setting="digits", seeds=(0,), particles=(2,))
    teacher = runs["teacher-resnet20"]
    assert isinstance(teacher, Training)
    teacher = small(teacher, 1000)
    run = runs["resnet20-resnet8-kd-tald-n2-seed0"]
    assert isinstance(run, Distilling)
    run = replace(run, student=small(run.student, 1000), teacher=teacher, num_boundary=30)
    first, record = run_experiment(Sweep(title="small", runs={"teacher-resnet20": teacher, "run": run}), tmp_path)
    assert (first.label, record.label) == ("teacher, resnet20", "KD + TALD, n = 2, resnet20-resnet8")
    assert (record.num_particles, len(record.history), len(record.boundary)) == (2, 1, 1)
    assert {"train/labelled", "train/distilled", "train/boundary"} <= record.history[0].keys()
    assert [row.role for row in record.networks] == ["teacher", "student"]
    assert not (tmp_path / "run" / "teacher").exists()


def test_a_method_with_a_stage_runs_longer(tmp_path: Path) -> None:
    run = build(method="hsakd")
    assert isinstance(run.student.method, HSAKD)
    assert isinstance(run.teacher, Training)
    method = replace(run.student.method, warm_up=1)
    student = replace(small(run.student), method=method)
    run = replace(run, student=student, teacher=small(run.teacher), num_boundary=0)
    (record,) = run_experiment(run, tmp_path)
    assert len(record.history) == 2
    assert "train/heads" in record.history[0]
    assert "train/distilled" in record.history[1]


def test_figure_7_1_compares_particles_with_bss_on_a_teacher(tmp_path: Path) -> None:
    (study,) = find_recipe("thesis-figure-7.1").build(setting="digits", particles=(2,), seeds=(0,)).runs.values()
    assert isinstance(study, DiversityStudy)
    model = replace(study.model, model=ModelConfig(name="lenet5"), epochs=2, keep_best=False)
    study = replace(study, model=with_engine(model, progress=False), num_images=6)
    *_, record = run_experiment(study, tmp_path / "study")
    rows = {row.sampler: row for row in record.diversity}
    assert list(rows) == ["Stein", "Stein, width of the thesis", "restarts", "BSS, random starts"]
    assert rows["Stein"].squared_distance > rows["restarts"].squared_distance > 0
    assert rows["BSS, random starts"].kernel is None
    assert rows["BSS, random starts"].squared_distance > 0
