"""Each mistake is one clear line on standard error, with exit status 2 and nothing lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aureole.cli import main

# Mistakes.


def test_unknown_names_offer_the_nearest(fast: tuple[str, ...], fail: Callable[..., str], run: Path) -> None:
    assert "unknown command 'repot': did you mean 'report'" in fail("repot")
    assert "unknown recipe 'robust-pgb': did you mean 'robust-pgd'" in fail("run", "robust-pgb")
    assert "did you mean 'demo'" in fail("show", "dmeo")
    assert fail("run", "robust-pgd", "--epoch", "3").endswith("did you mean --epochs or --steps-per-epoch?")
    assert "did you mean --evaluation.attacks" in fail("run", "robust-pgd", "--evaluation.atacks", "fgsm")
    two = fail("run", "robust-pgd", "--epoch", "3", "--bach-size", "4")
    assert "--epochs" in two.partition("did you mean")[2]
    assert "--batch-size" in two.partition("did you mean")[2]
    assert "did you mean --attack" in fail("evaluate", run, "--atack", "fgsm")
    assert fail("run", "robust-ald-pgd", "--bandwith", "3").endswith("did you mean --bandwidth?")  # the recipe's own
    assert fail("run", "robust-pgd", "--sead", "3", "--scail", "small").endswith("--scale or --seed?")
    assert fail("run", "thesis-figure-5.4", "--particels", "3").endswith("did you mean --particles?")
    assert fail("run", "robust-pgd", "--outptu", "x").endswith("did you mean --output?")
    assert fail("report", run, "--titel", "x").endswith("did you mean --title?")
    assert "unknown attack 'pgx': did you mean 'pgd'" in fail("evaluate", run, "--attacks", "pgx")
    assert "unknown attack 'fgms': did you mean 'fgsm'" in fail("run", "robust-pgd", "--evaluation.attacks", "fgms")
    assert "did you mean 'lenet5'" in fail("run", "robust-pgd", *fast, "--model.name", "lenet6", "--output", "x")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run",), "needs recipe first"),
        (("show",), "needs recipe first"),
        (("rerun",), "needs record first"),
        (("evaluate",), "needs run first"),
        (("report",), "needs folder first"),
        (("evaluate", "--attacks", "fgsm"), "needs run first"),
        (("list", "more"), "more"),
        (("show", "robust-pgd", "more"), "more"),
        (("run", "demo", "--epochs", "3"), "--epochs"),
    ],
)
def test_wrong_arguments(fail: Callable[..., str], arguments: tuple[str, ...], message: str) -> None:
    assert message in fail(*arguments)


VALUES = {
    "--epochs three": "--epochs: ",
    "--epochs 2.5": "--epochs: ",
    "--epochs 0": "epochs must be at least 1; got 0",
    "--epochs": "--epochs",
    "--batch-size 0": "batch_size must be at least 1",
    "--setting svhn": "'digits', 'mnist', 'cifar10'",
    "--scale big": "'paper', 'small'",
    "--seeds one": "--seeds",
    "--augment flip": "'none', 'crop-flip'",
    "--optimizer.schedule linear": "'steps', 'iterations', 'cosine', 'constant'",
    "--optimizer.learning-rate -1": "learning_rate must be positive",
    "--optimizer.learning-rate nan": "learning_rate must be positive",
    "--optimizer.momentum 1": "momentum must lie in [0, 1)",
    "--clip-norm 0": "clip_norm must be positive",
    "--ema-decay 1.5": "ema_decay must lie in [0, 1)",
    "--method.search.num-particles 0": "num_particles must be an integer of at least 1",
    "--method.search.step-size -1": "must be positive",
    "--method.search.ball.radius 0": "the radius of a ball must be a positive finite number",
    "--evaluation.ball.radius 0": "the radius of a ball must be a positive finite number",
    "--evaluation.ball.radius -1": "the radius of a ball must be a positive finite number",
    "--evaluation.ball.radius nan": "the radius of a ball must be a positive finite number",
    "--evaluation.step-size 0": "step_size must be positive",
    "--evaluation.ball.radius 8": "the radius 8 is larger than the range of the data",
    "--evaluation.batch-size 0": "batch_size must be at least 1",
    "--evaluation.num-examples 0": "num_examples must be at least 1",
    "--evaluation.num-examples 361": "num_examples must be 1 to 360",
    "--evaluation.attacks natural": "natural",
    "--evaluation.attacks pgd-20-3": "KIND",
    "--evaluation.attacks pgd-5x0": "at least 1 is needed",
    "--data.num-train 5000": "num_train must be 1 to 1427",
    "--data.num-train 0": "num_train must be 1 to 1427",
    "--data.num-validation 1437": "num_validation must be 1 to 1436",
    "--data.source nowhere": "there is nothing at nowhere",
    "--model.mean 0.5": "std needs one number",
    "--model.name small-cnn": "small-cnn needs images",
    "--devices 0": "batch_size must divide among the devices",
    "--devices 3": "batch_size must divide among the devices",
    "more": "more",
}


@pytest.mark.parametrize("options", VALUES)
def test_wrong_values(fast: tuple[str, ...], fail: Callable[..., str], options: str) -> None:
    assert VALUES[options] in fail("run", "robust-pgd", *fast, "--output", "new", *options.split())
    assert not list(Path("new").glob("*.ckpt"))  # nothing was trained


IMAGES = np.random.default_rng(0).random((60, 8, 8)).astype(np.float32)
LABELS = np.arange(60) % 3


def _with_nan() -> np.ndarray:
    images = IMAGES.copy()
    images[3, 2, 1] = np.nan
    return images


ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "out of bounds": ({"images": IMAGES * 255, "labels": LABELS}, "must lie in [0, 1]; got"),
    "negative": ({"images": IMAGES - 0.5, "labels": LABELS}, "must lie in [0, 1]; got"),
    "NaN": ({"images": _with_nan(), "labels": LABELS}, "must lie in [0, 1]; got nan"),
    "integers": ({"images": (IMAGES * 255).astype(np.int32), "labels": LABELS}, "must be uint8, or floats"),
    "negative labels": ({"images": IMAGES, "labels": LABELS - 1}, "got -1 at row 0"),
    "labels that training lacks": (
        {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS + 5},
        "must lie in 0 to 2; got 5",
    ),
    "floating-point labels": ({"images": IMAGES, "labels": LABELS / 2}, "must be integers"),
    "too few labels": ({"images": IMAGES, "labels": LABELS[:50]}, "needs a label an image"),
    "no images": ({"images": IMAGES[:0], "labels": LABELS[:0]}, "has no images"),
    "no test images": (
        {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:0], "y_test": LABELS[:0]},
        "has no images",
    ),
    "other names": ({"pictures": IMAGES}, "must hold the arrays"),
    "one image": ({"images": IMAGES[:1], "labels": LABELS[:1]}, "num_validation must be"),
    "flat images": ({"images": IMAGES.reshape(60, 64), "labels": LABELS}, "must have the shape"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_unusable_images(fast: tuple[str, ...], fail: Callable[..., str], name: str) -> None:
    arrays, message = ARRAYS[name]
    np.savez("data.npz", **arrays)
    line = fail("run", "robust-pgd", *fast, "--data.source", "data.npz", "--output", "new")
    assert message in line
    assert not list(Path("new").glob("*.ckpt"))


def test_unusable_files(fast: tuple[str, ...], fail: Callable[..., str]) -> None:
    np.savez("whole.npz", images=IMAGES, labels=LABELS)
    Path("cut.npz").write_bytes(Path("whole.npz").read_bytes()[:900])
    Path("foreign.npz").write_text("hello")
    Path("table.csv").write_text("a,b")
    Path("empty").mkdir()
    for source, message in {
        "cut.npz": "cannot be read",
        "foreign.npz": "cannot be read",
        "table.csv": "is a .csv file",
        "missing.npz": "there is nothing at missing.npz",
        "nowhere/": "there is nothing at nowhere/",
        "empty": "empty",
    }.items():
        assert message in fail("run", "robust-pgd", *fast, "--data.source", source, "--output", "new")
        shutil.rmtree("new")


def test_a_folder_that_cannot_be_written(fast: tuple[str, ...], fail: Callable[..., str]) -> None:
    Path("file").write_text("in the way")
    for folder in ("file", "file/run"):
        assert "cannot write" in fail("run", "robust-pgd", *fast, "--output", folder)


def test_a_folder_of_another_run(fast: tuple[str, ...], fail: Callable[..., str], run: Path) -> None:
    line = fail("run", "robust-pgd", *fast, "--seed", "3", "--output", run)
    assert "it differs in seed" in line


def test_a_full_disk(fast: tuple[str, ...], fail: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch import Trainer

    def save(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Trainer, "save_checkpoint", save)
    assert "No space left on device" in fail("run", "robust-pgd", *fast, "--output", "new", "--quiet")


def test_a_system_error_is_one_line(fail: Callable[..., str], run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aureole import report

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "report.html")

    monkeypatch.setattr(report, "report", refuse)
    assert fail("report", run) == "aureole: Permission denied: report.html"


def test_what_is_no_run(fail: Callable[..., str]) -> None:
    Path("empty").mkdir()
    for command in ("rerun", "evaluate", "report"):
        for path in ("empty", "missing"):
            assert path in fail(command, path)


def _change_record(run: Path, **changes: object) -> None:
    values = json.loads((run / "record.json").read_text())
    (run / "record.json").write_text(json.dumps(values | changes))


def test_corrupt_records(fast: tuple[str, ...], fail: Callable[..., str], run: Path) -> None:
    (run / "record.json").write_text('{"schema": 1')
    for command in ("rerun", "evaluate", "report"):
        assert "not complete JSON" in fail(command, run)
    assert "not complete JSON" in fail("run", "robust-pgd", *fast, "--output", run)
    (run / "record.json").write_bytes(b"\xff\xfe\x00")
    assert "not complete JSON" in fail("report", run)
    (run / "record.json").write_text("[]")
    assert "not a run record" in fail("report", run)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "os:system", "command": "true"}, "which this version of aureole does not have"),
        ({"epochs": 1}, "holds no configuration of a run"),
        ({"type": "aureole.core.balls:Linf", "radius": 0.1}, "holds no configuration of a run"),
        ({"type": "aureole.training.config:Training", "colour": 1}, "does not fit this version"),
    ],
)
def test_records_of_nothing_that_can_be_run(
    fail: Callable[..., str], run: Path, config: dict[str, Any], message: str
) -> None:
    _change_record(run, config=config)
    assert message in fail("rerun", run, "--output", "again")


def test_a_run_is_not_its_own_rerun(fail: Callable[..., str], run: Path) -> None:
    assert "choose another --output" in fail("rerun", run, "--output", run)


def test_corrupt_weights(fail: Callable[..., str], run: Path) -> None:
    path = run / "weights.safetensors"
    whole = path.read_bytes()
    for content in (b"", b"xx", whole[: len(whole) // 2], b"x" * len(whole)):
        path.write_bytes(content)
        assert "weights.safetensors cannot be read" in fail("evaluate", run)
    path.unlink()
    assert "is not finished" in fail("evaluate", run)


def test_weights_of_another_network(fail: Callable[..., str], run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["model"]["name"] = "resnet8"
    (run / "config.json").write_text(json.dumps(config))
    assert "weights.safetensors cannot be read" in fail("evaluate", run)


def test_corrupt_configurations(fast: tuple[str, ...], fail: Callable[..., str], run: Path) -> None:
    (run / "config.json").write_text("{")
    assert "config.json is not complete JSON" in fail("evaluate", run)
    assert "config.json is not complete JSON" in fail("run", "robust-pgd", *fast, "--output", run)
    (run / "config.json").unlink()
    assert "config.json is missing" in fail("evaluate", run)


def test_corrupt_checkpoints(fast: tuple[str, ...], fail: Callable[..., str], run: Path) -> None:
    (run / "record.json").unlink()
    (run / "last.ckpt").write_bytes(b"xx")
    assert "last.ckpt cannot be read" in fail("run", "robust-pgd", *fast, "--output", run)
    assert (run / "last.ckpt").read_bytes() == b"xx"
    assert "no finished run" in fail("evaluate", run)  # which is why it is not judged


def test_an_interruption(
    fast: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from aureole import PGDTraining

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PGDTraining, "loss", interrupt)
        assert main(["run", "robust-pgd", *fast, "--quiet", "--output", "new"]) == 130
    out, err = capsys.readouterr()
    assert (out, err) == ("", "aureole: interrupted; give the same command again to resume\n")
    assert main(["run", "robust-pgd", *fast, "--quiet", "--output", "new"]) == 0
