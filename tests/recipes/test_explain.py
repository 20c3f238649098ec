"""The recipes of thesis chapter 4: what they train, and on which share of the images."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aureole.cli import main
from aureole.core.config import from_values, to_values
from aureole.core.errors import InputError, UntrustedResult
from aureole.core.records import read_record
from aureole.data import MaskedData, PaintedLesions
from aureole.explain import MEDTEX, AttentionModel, ExplainedModel, GradCAM, OwnMap, TeacherLabels
from aureole.models import ModelConfig
from aureole.recipes import RECIPES, find_recipe
from aureole.recipes.explain import ATTRIBUTIONS, METHODS, Ground
from aureole.recipes.thesis_chapter4 import PAPER
from aureole.training.config import Training
from aureole.training.explanation import Explained
from aureole.training.fit import load_config, load_inputs
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


def test_a_recipe_says_nothing_of_a_source_that_it_does_not_know() -> None:
    for setting in ("painted", "fundus", "folder"):
        reason = find_recipe("explain").build(setting=setting, epochs=3).student.proxy_reason
        assert reason
        assert not any(word in reason for word in ("drawn", "iChallenge", "40 epochs"))
        assert "3 epochs" in reason
    run = find_recipe("explain").build(epochs=3)
    assert (run.student.epochs, run.teacher.epochs) == (3, 3)


def class_folders(folder: Path, channels: int, names: tuple[str, ...] = ("cat", "dog", "eel"), count: int = 4) -> str:
    """Write small images of classes that differ in their brightness; return the folder's name."""
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for number, name in enumerate(names):
            home = folder / part / name
            home.mkdir(parents=True)
            for row in range(count):
                shape = (16, 16) if channels == 1 else (16, 16, 3)
                pixels = rng.integers(60 * number, 60 * number + 60, shape).astype(np.uint8)
                Image.fromarray(pixels).save(home / f"{row}.png")
    return str(folder)


@pytest.mark.parametrize("channels", [1, 3])
def test_any_folder_of_images_is_explained_and_its_teacher_sees_the_same_classes(
    channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = class_folders(tmp_path / "images", channels)
    plain = ["--num-curves", "0", "--num-pictures", "0", "--quiet", "--accelerator", "cpu", "--epochs", "1"]
    own = ["--data.source", source, "--data.num-validation", "2", "--data.classes", "eel", "cat"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrustedResult)
        assert main(["run", "explain", "--setting", "folder", *own, *plain, "--output", "run"]) == 0
    for folder in (Path("run"), Path("run/teacher")):
        assert load_inputs(folder) == ((channels, 16, 16), ("eel", "cat"))
    teacher = load_config(Path("run/teacher")).data
    assert isinstance(teacher, MaskedData)
    assert (teacher.classes, teacher.num_validation, teacher.source) == (("eel", "cat"), 2, source)
    shutil.move(source, "elsewhere")  # a picture is explained without the data
    picture = "elsewhere/test/cat/0.png"
    assert main(["explain", picture, "--run", "run", "--output", "out"]) == 0
    assert main(["export", "run"]) == 0


def test_a_teacher_of_ones_own_names_its_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    layers = "".join(f"nn.Conv2d({3 if not k else 4}, 4, 3, 2, 1), nn.ReLU(), " for k in range(4))
    Path("their_models.py").write_text(
        f"from torch import nn\n\n\ndef network():\n"
        f"    return nn.Sequential({layers}nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))\n"
    )
    source = class_folders(tmp_path / "images", 3)
    line = ["run", "explain", "--setting", "folder", "--data.source", source, "--data.num-validation", "3", "--epochs",
            "1", "--num-curves", "0", "--quiet", "--accelerator", "cpu"]  # fmt: skip
    line += ["--teacher.source", "their_models:network"]
    assert main([*line, "--output", "without"]) == 2
    assert (
        "got 4 and 0: name layers with Taps(maps=...), on the command line --teacher.layers" in capsys.readouterr().err
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrustedResult)
        assert main([*line, "--teacher.layers", "1", "3", "5", "7", "--output", "run"]) == 0
    record = read_record(Path("run"))
    assert record.history[0]["train/transfer"] != 0


@pytest.mark.parametrize("line", ["explain --setting fundus", "thesis-table-4.4", "explain --setting folder"])
def test_photographs_must_be_named(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "not-asked-for", 3)
    assert main(["run", *line.split(), "--quiet"]) == 2
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith("must be named: --data.source, or --data of a thesis's recipe; got none")
    )


def test_help_follows_the_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "explain", "--help"]) == 0
    assert "--data.mask-folder {None}|STR" not in capsys.readouterr().out
    assert main(["run", "explain", "--setting", "fundus", "--help"]) == 0
    assert "--data.mask-folder {None}|STR" in capsys.readouterr().out


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
