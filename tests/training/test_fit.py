"""What the loop does with the gradient, the schedule, the average and the precision."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from aureole import KL, TRADES, Linf, Natural, ParticleSearch
from aureole.core.errors import InputError
from aureole.core.records import Record, read_record
from aureole.data import Data
from aureole.models import ModelConfig
from aureole.particles import Normal
from aureole.training.config import SGD, Training
from aureole.training.fit import BEST, CONFIG, WEIGHTS, build, claim_folder
from aureole.training.run import run_training

GOLDEN = Path(__file__).parents[1] / "golden" / "training.json"


def flat(state: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([state[name].flatten().double() for name in sorted(state)])


def weights(folder: Path) -> torch.Tensor:
    return flat(load_file(folder / WEIGHTS))


def test_a_folder_of_an_earlier_version_is_still_the_runs_own(tiny: Callable[..., Training], folder: Path) -> None:
    run = tiny(seed=3)
    claim_folder(run, folder)
    written = json.loads((folder / CONFIG).read_text())
    del written["keep_best"], written["evaluation"]["seed"]  # fields that an earlier version did not have
    (folder / CONFIG).write_text(json.dumps(written))
    claim_folder(run, folder)
    with pytest.raises(InputError, match=r"differs in evaluation\.seed, keep_best"):
        claim_folder(replace(run, keep_best=True, evaluation=replace(run.evaluation, seed=1)), folder)


def test_a_folder_of_an_unknown_configuration_is_not(tiny: Callable[..., Training], folder: Path) -> None:
    run = tiny()
    claim_folder(run, folder)
    written = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(written | {"from_the_future": 1}))
    with pytest.raises(InputError, match=r"differs in from_the_future"):
        claim_folder(run, folder)


@pytest.mark.parametrize("norm", [1e-3, 0.5])
def test_clipping_bounds_the_step(tiny: Callable[..., Training], folder: Path, norm: float) -> None:
    plain = SGD(learning_rate=1.0, momentum=0.0, schedule="constant")
    config = tiny(epochs=1, batch_size=48, optimizer=plain)
    start = flat(build(config, config.data.train_and_validation()).state_dict())
    run_training(config, folder)
    gradient = float((weights(folder) - start).norm())
    assert gradient > 0.01
    run_training(replace(config, clip_norm=norm), folder.with_name("clipped"))
    step = float((weights(folder.with_name("clipped")) - start).norm())
    assert step == pytest.approx(min(norm, gradient), rel=1e-3)


RATES = {
    "steps": ([1.0, 1.0, 0.1, 0.1, 0.01], {"milestones": (2, 4), "factor": 0.1}),
    "constant": ([1.0] * 5, {}),
    "cosine": ([(1 + math.cos(math.pi * epoch / 5)) / 2 for epoch in range(5)], {}),
}


@pytest.mark.parametrize("schedule", RATES)
def test_the_learning_rate_of_each_epoch(
    tiny: Callable[..., Training], folder: Path, on_each_step: Callable[..., list[Any]], schedule: Any
) -> None:
    expected, settings = RATES[schedule]
    seen = on_each_step(lambda module: module.optimizers().param_groups[0]["lr"])
    optimizer = SGD(learning_rate=0.02, schedule=schedule, **settings)
    run_training(tiny(epochs=5, batch_size=24, optimizer=optimizer), folder)
    assert seen == pytest.approx([0.02 * rate for rate in expected for _ in range(2)], rel=1e-6)


def test_the_average_averages_and_is_what_is_kept(
    tiny: Callable[..., Training], folder: Path, on_each_step: Callable[..., list[Any]]
) -> None:
    seen = on_each_step(lambda module: flat({k: v.clone() for k, v in module.network.state_dict().items()}))
    run_training(tiny(epochs=2, ema_decay=0.5), folder)
    average = seen[0]
    for value in seen[1:]:
        average = 0.5 * average + 0.5 * value
    assert len(seen) == 6
    assert torch.allclose(weights(folder), average, atol=1e-6)
    assert not torch.allclose(weights(folder), seen[-1], atol=1e-4)


def test_the_best_epoch_is_kept_beside_the_last(tiny: Callable[..., Training], folder: Path) -> None:
    constant = SGD(learning_rate=0.3, schedule="constant")
    config = tiny(method=Natural(), optimizer=constant, epochs=5, keep_best=True)
    history = run_training(config, folder).history
    accuracies = [row["validation/accuracy"] for row in history]
    best = accuracies.index(max(accuracies)) + 1
    assert best < 5  # otherwise this run could not tell the two apart
    run_training(replace(config, epochs=best, keep_best=False), folder.with_name("shorter"))
    assert torch.equal(flat(load_file(folder / BEST)), weights(folder.with_name("shorter")))
    assert not torch.equal(flat(load_file(folder / BEST)), weights(folder))
    assert not (folder.with_name("shorter") / BEST).exists()
    with pytest.raises(InputError, match="leave ema_decay or keep_best out"):
        replace(config, ema_decay=0.9)


def test_what_is_logged_is_what_is_summed(tiny: Callable[..., Training], folder: Path) -> None:
    record = run_training(tiny(), folder)
    for row in record.history:
        terms = [value for name, value in row.items() if name.startswith("train/") and name != "train/loss"]
        assert len(terms) == 2
        assert row["train/loss"] == pytest.approx(sum(terms), rel=1e-5)
        assert 0 <= row["validation/accuracy"] <= 1
    assert record.history[2]["train/loss"] < record.history[0]["train/loss"]


def test_bfloat16_is_near_float32_and_not_equal(tiny: Callable[..., Training], folder: Path) -> None:
    mixed = replace(tiny().engine, precision="bf16-mixed")
    a, b = run_training(tiny(epochs=1), folder), run_training(tiny(epochs=1, engine=mixed), folder.with_name("mixed"))
    assert a.history[0]["train/loss"] != b.history[0]["train/loss"]
    assert a.history[0]["train/loss"] == pytest.approx(b.history[0]["train/loss"], rel=0.01)
    assert {value.dtype for value in load_file(folder.with_name("mixed") / WEIGHTS).values()} == {torch.float32}


def _network_weights(config: Training, folder: Path) -> torch.Tensor:
    run_training(config, folder)
    return weights(folder)


def test_memory_format_changes_no_result(tiny: Callable[..., Training], folder: Path) -> None:
    config = tiny(epochs=1, model=ModelConfig(name="resnet8"), method=Natural())  # sign steps enlarge rounding
    contiguous = replace(config, engine=replace(config.engine, channels_last=False))
    a, b = _network_weights(config, folder), _network_weights(contiguous, folder.with_name("contiguous"))
    assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own imports
def test_a_compiled_model_trains_alike(tiny: Callable[..., Training], folder: Path) -> None:
    config = tiny(epochs=1)
    compiled = replace(config, engine=replace(config.engine, compile=True))
    a, b = _network_weights(config, folder), _network_weights(compiled, folder.with_name("compiled"))
    assert torch.allclose(a, b, atol=1e-4)


def test_the_losses_of_a_short_run_are_the_stored_ones(tiny: Callable[..., Training], folder: Path) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    search = ParticleSearch(Linf(0.15), num_particles=1, num_steps=2, step_size=0.1, objective=KL(), kernel=None)
    methods = {"pgd": tiny().method, "trades": TRADES(search=replace(search, start=Normal(1e-3)))}
    assert golden.keys() == methods.keys()
    for name, method in methods.items():
        record = run_training(tiny(method=method, data=Data(num_train=128)), folder / name)
        assert [row.keys() for row in record.history] == [row.keys() for row in golden[name]]
        for got, wanted in zip(record.history, golden[name], strict=True):
            wanted.pop("validation/accuracy")  # one image more or less is more than the tolerance
            # a divergence of 3e-5 is a difference of logarithms: no processor knows it better than to 1e-6
            assert {k: got[k] for k in wanted} == pytest.approx(wanted, rel=1e-4, abs=1e-6)


_OPTIONS = (
    "--quiet", "--batch-size", "32", "--data.num-train", "320", "--evaluation.attacks", "fgsm", "pgd-5",
    "--accelerator", "cpu",
)  # fmt: skip


def _command_line(*arguments: str) -> None:
    python = os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "aureole", "run", *arguments, *_OPTIONS],
        env={**os.environ, "PYTHONPATH": python, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def _assert_same(one: Path, other: Path) -> None:
    assert torch.allclose(weights(one), weights(other), atol=1e-5, rtol=0)
    a, b = read_record(one), read_record(other)
    for row, counterpart in zip(a.history, b.history, strict=True):
        assert row == pytest.approx(counterpart, rel=1e-4)
    assert _counts(a) == _counts(b)


def _counts(record: Record) -> list[tuple[str, int, int]]:
    return [(e.attack, e.num_correct, e.num_examples) for e in record.evaluations]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["robust-natural", "robust-pgd"])
def test_two_processes_give_the_weights_of_one(tmp_path: Path, recipe: str) -> None:
    for devices in ("1", "2"):
        _command_line(recipe, "--epochs", "2", "--devices", devices, "--output", str(tmp_path / devices))
    _assert_same(tmp_path / "1", tmp_path / "2")


@pytest.mark.slow
def test_several_runs_on_two_processes(tmp_path: Path) -> None:
    for devices in ("1", "2"):
        several = ("robust-natural", "--epochs", "1", "--seeds", "0", "1", "--devices", devices)
        _command_line(*several, "--output", str(tmp_path / devices))
    for seed in ("seed0", "seed1"):
        _assert_same(tmp_path / "1" / seed, tmp_path / "2" / seed)
