"""A refinement as a run: its record, its resumption, its victims, and what is said when something is wrong."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from aureole.attacks import FGSM, PGD
from aureole.attacks.base import Attack
from aureole.core.balls import Linf
from aureole.core.config import from_values, to_values
from aureole.core.errors import InputError
from aureole.core.records import RefinementRow, read_record
from aureole.data import Data
from aureole.models import ModelConfig
from aureole.refine import PVAR, Detector, Marginal, Refiner
from aureole.training.config import SGD, Engine, Evaluation, Training
from aureole.training.evaluation.sources import ForeignModel
from aureole.training.fit import CONFIG, WEIGHTS, claim_folder, load_model
from aureole.training.optimizers import RAdam
from aureole.training.refinement.attacked import Attacked, attacked, pixels
from aureole.training.refinement.measure import Judge, measure
from aureole.training.refinement.run import LEARNER, Refinement, run_refinement

ENGINE = Engine(progress=False, accelerator="cpu")
TINY = Refinement(
    refiner=replace(
        LEARNER,
        method=PVAR(share=0.3, selection=Marginal()),
        data=Data(num_train=200, num_validation=40),
        model=ModelConfig(name="vulnerability-unet-small"),
        epochs=2,
        engine=ENGINE,
    ),
    victim=Training(
        data=Data(num_train=600, num_validation=40),
        optimizer=SGD(learning_rate=0.05, schedule="constant"),
        epochs=6,
        batch_size=32,
        evaluation=Evaluation(attacks=()),
        engine=ENGINE,
    ),
    sources={"pgd": PGD(ball=Linf(0.4), num_steps=5, step_size=0.15), "fgsm": FGSM(ball=Linf(0.4))},
    compare={"weak": FGSM(ball=Linf(0.05))},
    num_examples=60,
    detector=Detector(num_bootstrap=50),
    num_pictures=4,
)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refinement") / "run"
    run_refinement(TINY, folder, recipe="refine")
    return folder


@pytest.fixture
def finished(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that the test may write to: what is attacked is kept beside its victim."""
    return shutil.copytree(made, tmp_path_factory.mktemp("copied") / "run")


def row(folder: Path, attack: str, chosen: str) -> RefinementRow:
    return next(r for r in read_record(folder).refinement if (r.attack, r.pixels) == (attack, chosen))


def test_the_record_says_what_each_choice_of_pixels_is_worth(finished: Path) -> None:
    record = read_record(finished)
    assert (record.kind, record.method, record.label) == ("refinement", "PVAR", "pgd, 0.3 of the pixels")
    assert [(r.attack, r.pixels) for r in record.refinement if "fewest" not in r.pixels] == [
        ("pgd", "all"), ("pgd", "map"), ("pgd", "size"), ("pgd", "gradient"), ("pgd", "integrated gradient"),
        ("pgd", "random"), ("fgsm", "all"), ("fgsm", "map"), ("weak", "all"),
    ]  # fmt: skip
    source, refined = row(finished, "pgd", "all"), row(finished, "pgd", "map")
    assert source.num_examples == 60
    assert source.accuracy < 0.3
    assert source.accuracy <= refined.accuracy <= row(finished, "pgd", "random").accuracy + 0.2
    assert 0 < refined.changed <= 20 / 64 < source.changed  # ceil(0.3 * 64) = 20
    assert 0 < refined.l2 < source.l2
    assert refined.seconds > 0
    assert source.seconds == 0
    fewest = row(finished, "pgd", "map, fewest")
    assert fewest.num_correct <= source.num_correct
    assert fewest.changed < source.changed
    assert [h["epoch"] for h in record.history] == [1, 2]
    assert set(record.history[0]) >= {"train/refined", "validation/adversarial_accuracy", "validation/changed"}


def test_the_rows_are_those_of_the_refined_attack(finished: Path) -> None:
    """Worked out again from the weights, with the library's own parts."""
    config = from_values(to_values(TINY))
    victim, _ = load_model(finished / "victim")
    network = config.refiner.model.build(num_classes=10, image_shape=(1, 8, 8), seed=0)
    network.load_state_dict(load_file(finished / WEIGHTS))
    test = config.refiner.data.test(60)
    found = attacked(victim, config.sources["pgd"], test, finished, seed=0, progress=False)
    x_adv = config.refiner.method.refiner(network)(found.x, found.x_source)
    with torch.no_grad():
        correct = victim(x_adv).argmax(-1) == test.labels
    measured = row(finished, "pgd", "map")
    assert measured.num_correct == int(correct.sum())
    assert measured.l2 == pytest.approx(float((x_adv - found.x).flatten(1).norm(dim=1).mean()), rel=1e-5)
    assert torch.equal(found.x, pixels(test))


def test_pairs_are_kept_for_pictures_and_people(finished: Path) -> None:
    with np.load(finished / "pairs.npz") as pairs:
        assert 1 <= len(pairs["x"]) <= 4
        assert pairs["x"].shape == pairs["x_source"].shape == pairs["x_refined"].shape
        assert pairs["map"].shape == (len(pairs["x"]), 8, 8)
        assert (pairs["x_refined"] != pairs["x"]).any(1).reshape(len(pairs["x"]), -1).sum(1).max() <= 20
        assert str(pairs["attack"]) == "pgd"
        assert (pairs["predicted"] == pairs["labels"]).all()
        assert (pairs["predicted_source"] != pairs["labels"]).all()
        assert (pairs["predicted_refined"] != pairs["labels"]).all()
        assert pairs["compared"].tolist() == ["weak"]
        victim, _ = load_model(finished / "victim")
        x, labels = torch.from_numpy(pairs["x"]), torch.from_numpy(pairs["labels"])
        expected = TINY.compare["weak"](victim, x, labels)
        assert torch.equal(torch.from_numpy(pairs["x_compared"]), expected[None])
        assert pairs["predicted_compared"].tolist() == [victim(expected).argmax(-1).tolist()]


def test_nothing_is_compared_where_no_attack_is(finished: Path, tmp_path: Path) -> None:
    alone = replace(TINY, victim=None, victim_folder=str(finished / "victim"), compare={}, num_pictures=1, rivals=False)
    run_refinement(alone, tmp_path / "run")
    with np.load(tmp_path / "run" / "pairs.npz") as pairs:
        assert len(pairs["compared"]) == 0
        assert "x_compared" not in pairs.files


class _Faint(torch.nn.Module):
    """A victim with three classes that has no finite answer to a dark image."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.flatten(1)) / (x.flatten(1).sum(1, keepdim=True) > 0)


def test_too_few_examples_leave_no_detection_and_any_other_mistake_is_said() -> None:
    x, y = torch.rand(20, 1, 2, 2) + 0.1, torch.zeros(20, dtype=torch.int64)
    victim = _Faint()
    judge = Judge(victim, Detector(), Detector().reference(victim, x))
    few = judge.row("none", "all", 1.0, x, x, y, 0.0, 0.0)  # nothing is fooled
    assert (few.detection, few.detection_pairs) == (None, 0)
    with pytest.raises(InputError, match="must be finite"):
        judge.row("dark", "all", 1.0, x, torch.zeros_like(x), y, 0.0, 0.0)


def test_a_finished_run_is_returned_and_another_refused(finished: Path) -> None:
    before = (finished / "record.json").read_bytes()
    assert run_refinement(TINY, finished) == read_record(finished)
    assert (finished / "record.json").read_bytes() == before
    with pytest.raises(InputError, match=r"differs in .*share"):
        run_refinement(
            replace(TINY, refiner=replace(TINY.refiner, method=PVAR(share=0.5, selection=Marginal()))), finished
        )


def test_images_of_an_attack_are_found_again(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim, _ = load_model(finished / "victim")
    test = TINY.refiner.data.test(60)
    home = finished / "victim" / "attacked"
    files = {path.name: path.stat().st_mtime_ns for path in home.iterdir()}
    assert len(files) == 5  # train, validation and test of one attack, test of two others

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("attacked again")

    monkeypatch.setattr(PGD, "__call__", fail)
    kept = attacked(victim, TINY.sources["pgd"], test, home, seed=0, name="pgd-test", progress=False)
    assert kept.x_source.shape == kept.x.shape
    for path in home.iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(AssertionError, match="attacked again"):
        attacked(victim, TINY.sources["pgd"], test, home, seed=0, name="pgd-test", progress=False)


def test_other_weights_are_attacked_anew(finished: Path, tmp_path: Path) -> None:
    victim, _ = load_model(finished / "victim")
    test = TINY.refiner.data.test(20)
    attack = TINY.sources["fgsm"]
    first = attacked(victim, attack, test, tmp_path, seed=0, progress=False)
    with torch.no_grad():
        next(victim.parameters()).mul_(-1)
    second = attacked(victim, attack, test, tmp_path, seed=0, progress=False)
    assert not torch.equal(first.x_source, second.x_source)
    assert len(list(tmp_path.iterdir())) == 2


SCRIPT = """
import os, signal, sys
import aureole.training.module as module
from aureole.training.refinement.run import run_refinement
from tests.training.refinement.test_refinement import TINY
steps, step = [], module.TrainingModule.training_step
def deadly(self, batch, batch_idx):
    if isinstance(self.config.method, type(TINY.refiner.method)):
        steps.append(0)
        if len(steps) > 9:
            os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)
module.TrainingModule.training_step = deadly
from pathlib import Path
run_refinement(TINY, Path(sys.argv[1]))
"""


def test_a_killed_run_resumes_to_the_same_map(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)], env=environment, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    assert (folder / "last.ckpt").exists()
    assert not (folder / "record.json").exists()
    run_refinement(TINY, folder)
    one, other = (load_file(path / WEIGHTS) for path in (finished, folder))
    assert all(torch.equal(one[name], other[name]) for name in one)
    rows = [
        [replace(r, seconds=0.0, source_seconds=0.0) for r in read_record(p).refinement] for p in (finished, folder)
    ]
    assert rows[0] == rows[1]
    assert all(0 < seconds < 60 for seconds in read_record(folder).seconds_per_epoch)  # the clock was taken up, too


def test_a_model_of_the_users_own(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_victims.py").write_text(
        "from aureole.models import LeNet5\n\ndef network(num_classes):\n"
        "    return LeNet5(num_classes, in_channels=1, image_size=(8, 8))\n"
    )
    save_file(load_file(finished / "victim" / WEIGHTS), "own.safetensors")
    own = ForeignModel(model="own_victims:network", weights="own.safetensors", num_classes=10)
    record = run_refinement(replace(TINY, victim=own), tmp_path / "run")
    rows = [r.num_correct for r in record.refinement]
    assert rows == [r.num_correct for r in read_record(finished).refinement]


class _Nothing(FGSM):
    """An attack that changes nothing."""

    def __call__(self, model: torch.nn.Module, x: torch.Tensor, y: object = None, **_: object) -> torch.Tensor:
        return x.clone()


def test_what_is_wrong_is_said(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs at least one attack"):
        replace(TINY, sources={})
    with pytest.raises(InputError, match="trains a PVAR"):
        replace(TINY, refiner=Training())
    for name, message in (("lenet5", "lenet5 is a classifier: choose one of vulnerability-unet"),
                          ("vulnerability-net", "unknown map network 'vulnerability-net': did you mean")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            replace(TINY, refiner=replace(TINY.refiner, model=ModelConfig(name=name)))
    with pytest.raises(InputError, match="vulnerability-unet makes a map of pixels, and natural trains a classifier"):
        Training(model=ModelConfig(name="vulnerability-unet"))
    with pytest.raises(InputError, match="num_examples"):
        replace(TINY, num_examples=0)
    with pytest.raises(InputError, match="num_pictures must be at least 1; got -3"):
        replace(TINY, num_pictures=-3)
    with pytest.raises(InputError, match="nothing reaches a class to be refined"):
        replace(TINY, refiner=replace(TINY.refiner, method=PVAR(targeted=True)))
    with pytest.raises(InputError, match="no run at"):
        run_refinement(replace(TINY, victim=None, victim_folder="nowhere"), tmp_path / "a")
    unet = replace(TINY.refiner, model=ModelConfig(name="vulnerability-unet"))
    with pytest.raises(InputError, match="16"):
        run_refinement(replace(TINY, refiner=unet, victim=None, victim_folder=str(finished / "victim")), tmp_path / "b")


def test_a_detector_without_its_layer_is_told_before_any_work_and_leaves_the_folder_free(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = replace(TINY, victim=None, victim_folder=str(finished / "victim"))
    monkeypatch.setattr("aureole.training.refinement.run.attacked", lambda *_, **__: pytest.fail("attacked first"))
    with pytest.raises(InputError, match="nosuch"):
        run_refinement(replace(run, detector=Detector(hidden_layer="nosuch")), tmp_path / "run")
    assert not (tmp_path / "run" / CONFIG).exists()
    claim_folder(run, tmp_path / "run")
    with pytest.raises(InputError, match="holds another run"):
        run_refinement(replace(run, detector=Detector(hidden_layer="nosuch")), tmp_path / "run")
    assert (tmp_path / "run" / CONFIG).exists()


@pytest.mark.parametrize("among", ["all", "changed"])
def test_rivals_choose_among_the_pixels_that_the_map_may_choose(
    among: Literal["all", "changed"], finished: Path
) -> None:
    victim, _ = load_model(finished / "victim")
    test = TINY.refiner.data.test(60)
    x = pixels(test)
    some = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.2
    x_source = (x + 0.3 * some).clamp(0, 1)
    refiner = Refiner(torch.nn.Conv2d(1, 1, 1), share=0.1, among=among)
    judge = Judge.of(victim, Detector(num_bootstrap=2), x, test.labels)
    rows = measure(judge, refiner, {"noise": Attacked(x, x_source, 0.0)}, test.labels)
    found = {row.pixels: row.changed for row in rows}
    changed = (x_source != x).flatten(1).sum(1).double() / 64
    most = changed.clamp(max=refiner.count(x) / 64).mean().item()
    for label in ("map", "gradient", "integrated gradient", "random"):
        assert (found[label] == pytest.approx(most)) is (among == "changed")
    assert found["size"] == pytest.approx(most)  # unchanged pixels are the smallest anyway


def test_an_attack_that_changes_nothing_is_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FGSM, "__call__", _Nothing.__call__)
    sources: dict[str, Attack] = {"fgsm": FGSM(ball=Linf(0.123))}
    with pytest.raises(InputError, match="changes none of the 200 images"):
        run_refinement(
            replace(TINY, victim=None, victim_folder=str(finished / "victim"), sources=sources), tmp_path / "run"
        )


def test_the_optimiser_is_the_thesiss() -> None:
    assert LEARNER.optimizer == RAdam(learning_rate=1e-3, schedule="constant")
    assert (LEARNER.batch_size, LEARNER.epochs, LEARNER.patience) == (32, 300, 15)
