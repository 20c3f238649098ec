"""A distillation as a run: its record, its teacher, its resumption, and what is said when something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from aureole import Natural
from aureole.core.config import to_values
from aureole.core.errors import InputError
from aureole.core.records import Record, read_record
from aureole.data import Data
from aureole.distill import AT, CRD, FSP, FT, KD, TALD, Contrast
from aureole.models import ModelConfig
from aureole.training.config import Training
from aureole.training.distillation import Distilling
from aureole.training.experiment import Around
from aureole.training.fit import CHECKPOINT, WEIGHTS, load_model
from aureole.training.refinement import Refinement
from aureole.training.sweep import over_seeds
from aureole.training.teaching import run_teaching

pytestmark = pytest.mark.filterwarnings("ignore:no boundary was compared")  # by networks that know next to nothing
STEPS = 5  # of an epoch
METHODS = {
    "kd": KD(tald=TALD(weight=0.1)),
    "ft": FT(warm_up=1),
    "crd": CRD(contrast=Contrast(size=8, num_negatives=16)),
}
DEATHS = {"ft": STEPS + 2, "crd": STEPS + 2}  # the step that does not end; for FT the second behind its first stage


@dataclass(frozen=True)
class Done:
    """Runs that share a teacher, whose folder is beside theirs."""

    home: Path
    runs: dict[str, Distilling]
    records: dict[str, Record]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Training]) -> Done:
    """Train a teacher and three students, from another global random state each."""
    home = tmp_path_factory.mktemp("distillation")
    base = tiny(data=Data(num_train=16 * STEPS, num_validation=20), epochs=2)
    base = replace(base, evaluation=replace(base.evaluation, num_examples=80, attacks=()))
    teacher = replace(base, method=Natural(), model=ModelConfig(name="resnet14"), epochs=6)
    runs = {
        name: Distilling(
            student=replace(base, method=method, model=ModelConfig(name="resnet8")),
            teacher=teacher,
            teacher_folder="../teacher",
            num_boundary=60,
        )
        for name, method in METHODS.items()
    }
    records = {}
    for number, (name, run) in enumerate(runs.items()):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            before = torch.get_rng_state()
            records[name] = run_teaching(run, home / name, recipe="distill")
            assert torch.equal(torch.get_rng_state(), before)
    return Done(home, runs, records)


@pytest.mark.parametrize("name", METHODS)
def test_a_run_records_both_networks_and_their_boundaries(done: Done, name: str) -> None:
    record = read_record(done.home / name)
    assert record == done.records[name]
    assert (record.kind, record.recipe, record.method) == ("training", "distill", METHODS[name].title)
    teacher, student = record.networks
    assert [(n.role, n.name) for n in record.networks] == [("teacher", "resnet14"), ("student", "resnet8")]
    assert teacher.num_parameters > student.num_parameters > 0
    assert all(n.num_examples == 80 and 0 <= n.num_correct <= 80 and n.milliseconds > 0 for n in record.networks)
    network, config = load_model(done.home / name)
    student_run = done.runs[name].student
    assert (config.model, config.method, config.epochs) == (student_run.model, student_run.method, 2)
    assert student.num_parameters == sum(p.numel() for p in network.parameters())
    natural = next(row for row in record.evaluations if row.attack == "natural")
    assert (natural.num_correct, natural.num_examples) == (student.num_correct, 80)
    (boundary,) = record.boundary
    assert boundary.num_images == 60
    assert 0 <= boundary.num_compared <= boundary.num_attacked <= min(n.num_correct for n in record.networks)
    for similarity in (boundary.angle, boundary.magnitude):
        assert (similarity is None) == (boundary.num_compared == 0)
        assert similarity is None or -1 <= similarity <= 1
    assert record.num_particles == (4 if name == "kd" else None)


def test_boundaries_are_really_compared(done: Done) -> None:
    assert any(record.boundary[0].num_compared for record in done.records.values())


def test_the_history_has_the_stage_before_distillation(done: Done) -> None:
    terms = [
        {key.removeprefix("train/") for key in row if key.startswith("train/")} - {"loss"}
        for row in done.records["ft"].history
    ]
    assert terms == [{"reconstruction"}, {"labelled", "features"}, {"labelled", "features"}]
    assert [row["epoch"] for row in done.records["ft"].history] == [1, 2, 3]
    assert len(done.records["ft"].seconds_per_epoch) == 3
    kd = [{"labelled", "distilled", "boundary"} <= {k[6:] for k in row} for row in done.records["kd"].history]
    assert kd == [True, True]


def test_a_stage_without_the_student_leaves_it_alone(done: Done) -> None:
    """Its running statistics, too: their counter has seen the epochs behind the stage alone."""
    state = load_file(done.home / "ft" / WEIGHTS)
    counters = {int(value) for name, value in state.items() if name.endswith("num_batches_tracked")}
    assert counters == {2 * STEPS}


@pytest.mark.usefixtures("no_training")
def test_the_teacher_is_shared_and_not_trained_again(done: Done, tmp_path: Path) -> None:
    before = (done.home / "teacher" / WEIGHTS).stat().st_mtime_ns
    run = replace(done.runs["kd"], student=replace(done.runs["kd"].student, epochs=1, seed=1), num_boundary=0)
    record = run_teaching(run, done.home / "kd-again")
    assert replace(record.networks[0], milliseconds=0.0) == replace(done.records["kd"].networks[0], milliseconds=0.0)
    found = replace(run, teacher=None, teacher_folder=str(done.home / "teacher"))
    other = run_teaching(found, tmp_path / "run")
    assert other.history == record.history
    assert (done.home / "teacher" / WEIGHTS).stat().st_mtime_ns == before
    assert run_teaching(run, done.home / "kd-again") == record  # finished: as it is


def test_a_student_alone_has_no_use_for_the_teacher_but_is_compared_with_it(done: Done, tmp_path: Path) -> None:
    student = replace(done.runs["kd"].student, method=Natural(), epochs=1)
    run = Distilling(student=student, teacher_folder=str(done.home / "teacher"), num_boundary=0)
    record = run_teaching(run, tmp_path / "run")
    assert [n.role for n in record.networks] == ["teacher", "student"]
    assert list(record.boundary) == []
    assert {k for k in record.history[0] if k.startswith("train/")} == {"train/clean", "train/loss"}


KILLER = """
import json, os, signal, sys
from pathlib import Path
import lightning.pytorch, torch
from aureole.core.config import from_values
from aureole.training.teaching import run_teaching
from aureole.training.module import TrainingModule
torch.set_num_threads(1)
step = TrainingModule.training_step
def deadly(last):
    taken = []
    def training_step(self, batch, batch_idx):
        taken.append(0)
        if len(taken) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch, batch_idx)
    return training_step
for values, folder, last in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        TrainingModule.training_step = deadly(last)
        run_teaching(from_values(values), Path(folder))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, folder
"""


def test_a_killed_run_resumes_to_the_same_weights(done: Done) -> None:
    """One with a memory of the training set, and one with heads and a stage before distillation."""
    often = {
        name: replace(done.runs[name], student=replace(student, engine=replace(student.engine, checkpoint_seconds=0.0)))
        for name, student in ((name, done.runs[name].student) for name in DEATHS)
    }
    folders = {name: done.home / f"{name}-killed" for name in DEATHS}
    jobs = [(to_values(often[name]), str(folders[name]), last) for name, last in DEATHS.items()]
    python = os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH")]))
    killed = subprocess.run(
        [sys.executable, "-c", KILLER, json.dumps(jobs)],
        env={**os.environ, "PYTHONPATH": python, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert killed.returncode == 0, killed.stderr
    for name, folder in folders.items():
        assert (folder / CHECKPOINT).exists()
        assert not (folder / "record.json").exists()
        assert int(torch.load(folder / CHECKPOINT, weights_only=True)["global_step"]) == DEATHS[name] - 1
        got, wanted = run_teaching(often[name], folder), done.records[name]
        one, other = load_file(folder / WEIGHTS), load_file(done.home / name / WEIGHTS)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
        assert got.history == wanted.history
        assert got.boundary == wanted.boundary
        assert [n.num_correct for n in got.networks] == [n.num_correct for n in wanted.networks]


def _change(run: Distilling, **student: Any) -> Distilling:
    return replace(run, student=replace(run.student, **student))


@pytest.mark.usefixtures("no_training")
def test_what_cannot_be_is_said_in_one_line(done: Done, tmp_path: Path) -> None:
    run = replace(done.runs["kd"], teacher=None)
    here, lenet = str(done.home / "teacher"), ModelConfig(name="lenet5")
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "config.json").write_text((done.home / "teacher" / "config.json").read_text())
    unmatched = _change(replace(run, teacher_folder=here), method=AT(), model=lenet)
    cases = {
        "no run at .*nobody": replace(run, teacher_folder="../nobody"),
        "is not finished": replace(run, teacher_folder="../unfinished"),
        "equally many maps, at least one; got 2 and 4": unmatched,
        # said before the teacher is trained, which would fail here
        "equally many maps, at least one; got 2 and [4]": replace(
            unmatched, teacher=done.runs["kd"].teacher, teacher_folder="../new"
        ),
        "FSP needs two or more maps with the same channels": replace(
            _change(run, method=FSP()), teacher=replace(run.student, model=ModelConfig(name="resnet8x4"))
        ),
        "no stage before distillation": _change(replace(run, teacher_folder=here), method=KD(warm_up=1)),
    }
    for number, (message, case) in enumerate(cases.items()):
        with pytest.raises(InputError, match=message) as caught:
            run_teaching(case, tmp_path / str(number))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / str(number) / "record.json").exists()
    with pytest.raises(InputError, match="at least 0 images; got -1"):
        Distilling(num_boundary=-1)


def test_several_seeds_share_a_teacher_or_a_victim() -> None:
    for run in (Distilling(), Refinement()):
        (first, second), folder = over_seeds(run, (3, 5)).runs.values(), "teacher_folder"
        folder = folder if isinstance(run, Distilling) else "victim_folder"
        assert isinstance(first, Around)
        assert isinstance(second, Around)
        assert (first.training.seed, second.training.seed) == (3, 5)
        assert getattr(first, folder) == getattr(second, folder) == f"../{getattr(run, folder)}"
        there = replace(run, **{folder: "/somewhere/else"})
        assert getattr(there.beside(), folder) == "/somewhere/else"
