"""What a finished run leaves behind, what stops one, and what an evaluation adds."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from aureole import InputError
from aureole.core.records import read_record
from aureole.training.config import SGD, Training
from aureole.training.fit import CHECKPOINT, WEIGHTS, load_model
from aureole.training.run import check_names, run_training


@pytest.fixture
def finished(tiny: Callable[..., Training], folder: Path) -> Path:
    run_training(tiny(epochs=1), folder, recipe="robust-pgd")
    return folder


def test_a_finished_run_is_its_record(tiny: Callable[..., Training], finished: Path, no_training: None) -> None:
    record = run_training(tiny(epochs=1), finished)
    assert record == read_record(finished)
    assert (record.kind, record.recipe, record.method, record.num_particles) == ("training", "robust-pgd", "PGD", 1)
    assert (record.data.num_train, record.data.num_validation, record.data.num_test) == (48, 20, 20)
    assert [e.attack for e in record.evaluations] == ["natural", "fgsm"]
    assert record.evaluations[1].settings["attack"]["ball"]["radius"] == 0.15
    assert record.warnings == []


def test_the_model_on_the_disk_is_the_one_that_was_judged(finished: Path) -> None:
    model, config = load_model(finished)
    assert not model.training
    images = config.data.test(20)
    x = images.batch(torch.arange(20)).float() / 255
    correct = int((model(x).argmax(-1) == images.labels).sum())
    assert correct == read_record(finished).evaluations[0].num_correct


def test_the_folder_cannot_be_made(tiny: Callable[..., Training], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot write .*config\.json"):
        run_training(tiny(), tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_examples": 361}, "num_examples must be 1 to 360"),
        ({"num_examples": 0}, "num_examples must be at least 1"),
        ({"step_size": 0.0}, "step_size must be positive"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_an_impossible_evaluation_is_refused_before_training(
    tiny: Callable[..., Training], folder: Path, no_training: None, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run_training(tiny(evaluation=replace(tiny().evaluation, **change)), folder)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"momentum": 1.0},
        {"weight_decay": -1.0},
        {"nesterov": True, "momentum": 0.0},
    ],
)
def test_an_impossible_optimiser_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        SGD(**change)


@pytest.mark.parametrize(
    "change", [{"epochs": 0}, {"batch_size": 0}, {"clip_norm": 0.0}, {"ema_decay": 1.0}, {"ema_decay": -0.1}]
)
def test_an_impossible_run_is_refused(tiny: Callable[..., Training], change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        tiny(**change)


def test_a_missing_device_is_one_line(tiny: Callable[..., Training], folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    config = tiny(engine=replace(tiny().engine, accelerator="cuda"))
    with pytest.raises(InputError, match="this machine cannot run on 1 x cuda"):
        run_training(config, folder)


def test_names_of_attacks_are_checked() -> None:
    check_names(("fgsm", "pgd-50x2"))
    for name in ("natural", "pgx", "pgd-2-3"):
        with pytest.raises(InputError):
            check_names((name,))


FULL = (
    OSError(errno.ENOSPC, "No space left on device"),
    RuntimeError("[enforce fail at inline_container.cc:626]\nmore"),
)


@pytest.mark.parametrize("error", FULL, ids=["the system's", "torch's"])
def test_a_full_disk_is_one_line_and_keeps_the_last_checkpoint(
    tiny: Callable[..., Training], folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from lightning.pytorch import Trainer

    original, count = Trainer.save_checkpoint, 0

    def save(self: Any, path: Any, *rest: Any) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise error
        original(self, path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save_checkpoint", save)
        with pytest.raises(InputError, match=r"cannot write the checkpoint .*resume") as caught:
            run_training(tiny(), folder)
    assert "\n" not in str(caught.value)
    assert (folder / CHECKPOINT).exists()
    record = run_training(tiny(), folder)  # there is room again
    assert record.history == run_training(tiny(), folder.with_name("whole")).history


@pytest.mark.parametrize("error", FULL, ids=["the system's", "torch's"])
def test_a_disk_that_fills_within_a_write(
    tiny: Callable[..., Training], folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The half-written file is not the checkpoint."""
    run_training(tiny(epochs=1), folder)
    (folder / "record.json").unlink()
    (folder / "config.json").unlink()
    before = (folder / CHECKPOINT).read_bytes()

    def save(_: object, file: Any, *args: Any, **kwargs: Any) -> None:
        file.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(InputError, match="cannot write the checkpoint"):
        run_training(tiny(epochs=2), folder)
    assert (folder / CHECKPOINT).read_bytes() == before


def test_weights_that_do_not_fit_the_disk(
    tiny: Callable[..., Training], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    def save(_: object, path: Path, **about: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", save)
        with pytest.raises(InputError, match=r"cannot write .*weights\.safetensors .*No space left"):
            run_training(tiny(epochs=1), folder)
    assert not list(folder.glob("weights*"))
    run_training(tiny(epochs=1), folder)
    assert (folder / WEIGHTS).exists()


def test_training_that_diverged_says_so(tiny: Callable[..., Training], folder: Path) -> None:
    record = run_training(tiny(epochs=2, optimizer=SGD(learning_rate=1e30)), folder)
    assert any("not finite from epoch 1" in warning for warning in record.warnings)


def test_an_interruption_stays_one(
    tiny: Callable[..., Training], folder: Path, on_each_step: Callable[..., list[Any]]
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    on_each_step(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_training(tiny(), folder)
    assert signal.getsignal(signal.SIGINT) is before
