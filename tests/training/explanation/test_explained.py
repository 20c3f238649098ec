"""An explanation as a run: its record against its own weights, its resumption, and what is said when it cannot be."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aureole.core.config import from_values, to_values
from aureole.core.errors import InputError
from aureole.core.records import Record, read_record
from aureole.data import MaskedImages, PaintedLesions
from aureole.data.fundus import Fundus
from aureole.explain import MEDTEX, AttentionModel, ExplainedModel, GradCAM, OwnMap, TeacherLabels
from aureole.metrics import iou_at_top, post_hoc
from aureole.models import ModelConfig
from aureole.robust import Natural
from aureole.training.config import Engine, Evaluation, Training
from aureole.training.explanation import Explained
from aureole.training.fit import CHECKPOINT, load_model
from aureole.training.optimizers import Adam

DATA = PaintedLesions(num_drawn=10, num_validation=4, prepare=Fundus(size=32))
RUN = Training(
    method=MEDTEX(),
    data=DATA,
    model=ExplainedModel(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    optimizer=Adam(),
    epochs=2,
    batch_size=16,
    evaluation=Evaluation(attacks=()),
    engine=Engine(progress=False, accelerator="cpu"),
)
TEACHER = replace(RUN, method=Natural(), model=ModelConfig(name="four-blocks"), epochs=3)
TINY = Explained(
    student=RUN, teacher=TEACHER, attributions={"own": OwnMap(), "CAM": GradCAM()}, num_curves=3, num_pictures=2
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained") / "run"
    TINY.run(folder, recipe="explain")
    return folder


def pixels(images: MaskedImages) -> torch.Tensor:
    return images.batch(torch.arange(len(images))).float() / 255


def classes(folder: Path, x: torch.Tensor) -> torch.Tensor:
    network, _ = load_model(folder)
    with torch.no_grad():
        return network(x).argmax(-1)


def test_the_record_is_what_the_weights_give(made: Path) -> None:
    record, test = read_record(made), DATA.test()
    assert isinstance(test, MaskedImages)
    (agreed,), x = record.agreement, pixels(test)
    student, teacher = classes(made, x), classes(made / "teacher", x)
    with warnings.catch_warnings(record=True, action="always") as said:
        expected = post_hoc(student, teacher, 1)
    assert {str(warning.message) for warning in said} <= set(record.warnings)
    assert (agreed.num_examples, agreed.accuracy, agreed.f1) == (20, expected.accuracy, expected.f1)
    own, cam = record.explanations
    network, _ = load_model(made)
    ill = test.with_masks()
    maps = OwnMap()(network, pixels(ill))
    assert (own.attribution, own.num_masks, own.counts) == ("own", 10, [16, 32, 48, 64, 80, 96])
    assert own.iou[1] == pytest.approx(float(iou_at_top(maps, ill.masks, 32).mean()), abs=1e-6)
    assert own.iou_at_size == pytest.approx(float(iou_at_top(maps, ill.masks).mean()), abs=1e-6)
    assert own.iou != cam.iou
    assert own.num_curves == cam.num_curves == 3
    assert 0 < (own.insertion or 0) < 1
    assert [(row.role, row.name) for row in record.networks] == [
        ("teacher", "four-blocks"), ("student", "four-blocks-tiny"),
    ]  # fmt: skip


def test_a_run_is_found_again_and_taken_up(made: Path, tmp_path: Path) -> None:
    before = (made / "record.json").read_bytes()
    assert TINY.run(made)[0] == read_record(made)
    assert (made / "record.json").read_bytes() == before
    folder = shutil.copytree(made, tmp_path / "run")
    (folder / "record.json").unlink()
    assert (folder / CHECKPOINT).exists()

    def figures(record: Record) -> list[object]:
        return [record.agreement, [replace(row, milliseconds=0.0) for row in record.explanations]]

    assert figures(TINY.run(folder)[0]) == figures(read_record(made))


def test_pictures_are_kept_with_their_maps_and_masks(made: Path) -> None:
    with np.load(made / "maps.npz") as kept:
        assert kept["x"].shape == (2, 3, 32, 32)
        assert kept["maps"].shape == (2, 2, 32, 32)
        assert kept["masks"].any((1, 2)).all()
        assert kept["attributions"].tolist() == ["own", "CAM"]
        assert kept["class_names"].tolist() == ["clean", "painted"]
        x = torch.from_numpy(kept["x"])
        assert kept["teacher"].tolist() == classes(made / "teacher", x).tolist()
        assert kept["student"].tolist() == classes(made, x).tolist()


def test_every_method_runs_from_a_teacher_at_hand(made: Path, tmp_path: Path) -> None:
    again = replace(TINY, teacher=None, teacher_folder=str(made / "teacher"), num_pictures=0, num_curves=0)
    soft = replace(RUN, method=TeacherLabels(), model=AttentionModel(name="resnet8"), epochs=1)
    alone = ExplainedModel(explainer="none")
    runs = {
        "soft": replace(again, student=soft, attributions={"soft": OwnMap()}),
        "alone": replace(again, student=replace(soft, method=MEDTEX(weight=0.0), model=alone), attributions={}),
    }
    for name, run in runs.items():
        (record,) = from_values(to_values(run)).run(tmp_path / name)
        assert record.agreement[0].num_examples == 20
        assert len(record.explanations) == len(run.attributions)
        assert not (tmp_path / name / "maps.npz").exists()


def test_what_is_wrong_is_said(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="patches must be from 1 to 64"):
        replace(TINY, patches=(0,))
    with pytest.raises(InputError, match="num_pictures must be at least 0"):
        replace(TINY, num_pictures=-1)
    plain = replace(RUN, model=ModelConfig(name="resnet8"), method=TeacherLabels(), epochs=1)
    unexplained = replace(TINY, student=plain, teacher=None, teacher_folder=str(made / "teacher"))
    with pytest.raises(InputError, match="explains itself"):
        unexplained.run(tmp_path / "a")
    with pytest.raises(InputError, match="no run at"):
        replace(TINY, teacher=None, teacher_folder="nowhere").run(tmp_path / "b")
