"""The recipes of thesis chapter 4: what they train, and on which share of the images."""

from __future__ import annotations

from pathlib import Path

import pytest

from aureole.cli import main
from aureole.core.config import from_values, to_values
from aureole.core.errors import InputError
from aureole.core.records import read_record
from aureole.data import MaskedData, PaintedLesions
from aureole.explain import MEDTEX, AttentionModel, ExplainedModel, GradCAM, OwnMap, TeacherLabels
from aureole.models import ModelConfig
from aureole.recipes import RECIPES, find_recipe
from aureole.recipes.explain import ATTRIBUTIONS, METHODS, Ground
from aureole.recipes.thesis_chapter4 import PAPER
from aureole.training.config import Training
from aureole.training.explanation import Explained
from aureole.training.optimizers import Adam
from aureole.training.sweep import Sweep

CHAPTER = [name for name in RECIPES if name.startswith(("thesis-table-4", "thesis-figure-4"))]

FISH = ("thesis-table-4.7", "thesis-figure-4.7", "thesis-figure-4.8", "thesis-figure-4.9")


def test_every_table_and_figure_has_a_recipe() -> None:
    assert sorted(CHAPTER) == sorted(
        [f"thesis-table-4.{k}" for k in range(4, 8)] + [f"thesis-figure-4.{k}" for k in range(3, 10)]
    )


@pytest.mark.parametrize("name", CHAPTER)
@pytest.mark.parametrize("scale", ["paper", "small"])
def test_a_comparison_trains_the_teacher_once_and_every_student_on_its_share(name: str, scale: str) -> None:
    sweep = find_recipe(name).build(scale=scale, seeds=(0, 1))
    assert isinstance(sweep, Sweep)
    teacher = sweep.runs["teacher"]
    assert isinstance(teacher, Training)
    assert teacher.model == ModelConfig(name="four-blocks")
    assert teacher.data.fraction == 1.0  # pyright: ignore[reportAttributeAccessIssue]
    students = {key: run for key, run in sweep.runs.items() if key != "teacher"}
    for key, run in students.items():
        assert isinstance(run, Explained)
        method, share, seed = key.rsplit("-", 2)
        data = run.student.data
        assert isinstance(data, PaintedLesions | MaskedData)
        assert (data.fraction, data.fraction_seed) == (int(share) / 100, int(seed.removeprefix("seed")))
        assert run.student.seed == data.fraction_seed
        assert run.student.label == f"{METHODS[method]}, {share}% of the images"
        assert run.student.optimizer == Adam(schedule="constant" if scale == "paper" else "cosine")
        assert run.teacher_folder == "../teacher"
        as_published = scale == "paper" and name in FISH  # the photographs of the thesis are not public
        assert bool(run.student.proxy_reason) == (not as_published)
        assert from_values(to_values(run)) == run


def test_the_methods_differ_where_the_thesis_says() -> None:
    ground = Ground(setting="fundus", scale="paper")
    runs = {name: ground.explained(name) for name in METHODS}
    assert {name for name, run in runs.items() if isinstance(run.student.method, TeacherLabels)} == {
        "gradcam", "soft-attention", "hard-attention",
    }  # fmt: skip
    weights = {n: r.student.method.weight for n, r in runs.items() if isinstance(r.student.method, MEDTEX)}
    assert weights == {"medtex": 0.001, "medex": 0.0, "student": 0.0, "l2x": 0.0}
    explainers = {n: r.student.model.explainer for n, r in runs.items() if isinstance(r.student.model, ExplainedModel)}
    assert explainers == {"medtex": "unet", "medex": "unet", "student": "none", "l2x": "patches"}
    kinds = {n: r.student.model.kind for n, r in runs.items() if isinstance(r.student.model, AttentionModel)}
    assert kinds == {"soft-attention": "soft", "hard-attention": "hard"}
    assert all(run.student.batch_size == 64 for run in runs.values())
    maps = {name: list(run.attributions.values()) for name, run in runs.items()}
    assert maps.pop("student") == []
    assert maps.pop("gradcam") == [GradCAM()]
    assert all(found == [OwnMap()] for found in maps.values())


def test_published_figures_stand_at_the_papers_scale() -> None:
    assert all(set(rows) == set(METHODS) for rows in PAPER.values())
    runs = find_recipe("thesis-table-4.4").build(scale="paper", seeds=(0,)).runs
    assert runs["medtex-25-seed0"].student.paper == {"post-hoc": 0.915}
    assert runs["student-100-seed0"].student.paper == {"post-hoc": 0.927}
    assert find_recipe("thesis-table-4.4").build(seeds=(0,)).runs["medtex-25-seed0"].student.paper == {}


def test_maps_can_be_added_and_names_are_checked() -> None:
    run = find_recipe("explain").build(by=("rise", "occlusion"))
    assert isinstance(run, Explained)
    assert list(run.attributions) == ["MED-TEX", "rise", "occlusion"]
    assert run.attributions["rise"] == ATTRIBUTIONS["rise"]
    with pytest.raises(InputError, match="unknown attribution 'rice': did you mean 'rise'"):
        find_recipe("explain").build(by=("rice",))
    with pytest.raises(InputError, match="unknown method 'medtext': did you mean 'medtex'"):
        find_recipe("explain").build(method="medtext")


def test_the_command_explains_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--epochs", "1", "--data.num-drawn", "6", "--data.num-validation", "2", "--data.prepare.size", "32"]
    assert main(["run", "explain", *small, "--num-curves", "2", "--num-pictures", "1", "--quiet", "--accelerator",
                 "cpu", "--output", "run"]) == 0  # fmt: skip
    record = read_record(Path("run"))
    assert (record.recipe, record.method, record.explanations[0].attribution) == ("explain", "MED-TEX", "MED-TEX")
    assert record.agreement[0].num_examples == 12
    assert Path("run/maps.npz").exists()
    assert main(["export", "run"]) == 0
