"""The command line: what each command prints, and one line for each mistake."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import aureole
from aureole.cli import main
from aureole.core.records import read_record, write_record
from aureole.options import one_line
from aureole.recipes import RECIPES

#: A run that takes a moment.
FAST = (
    "--epochs", "1", "--batch-size", "16", "--method.search.num-steps", "1", "--evaluation.attacks", "fgsm",
    "--evaluation.num-examples", "10", "--data.num-train", "32", "--data.num-validation", "10", "--accelerator", "cpu",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that succeeds without a word on standard error, and return what it printed."""

    def call(*arguments: object) -> str:
        capsys.readouterr()
        status = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert (status, err) == (0, ""), err
        return out

    return call


@pytest.fixture
def fail(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that fails with one line and status 2, and return the line."""

    def call(*arguments: object) -> str:
        capsys.readouterr()
        status = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert status == 2
        assert out == ""
        assert err.startswith("aureole: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        assert "Traceback" not in err
        assert not re.search("[╭╮╰╯│─]|----", err)
        return err.strip()

    return call


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "pgd"
    assert main(["run", "robust-pgd", *FAST, "--quiet", "--output", str(folder)]) == 0
    return folder


@pytest.fixture
def run(_finished: Path, tmp_path: Path) -> Path:
    """Return a finished run, a copy for this test alone."""
    return shutil.copytree(_finished, tmp_path / "run")


# What each command prints.


def test_without_a_command_the_commands_are_explained(say: Callable[..., str]) -> None:
    text = say()
    assert text == say("--help") == say("-h")
    for command in ("list", "show", "run", "rerun", "evaluate", "report"):
        assert f"aureole {command}" in text
    assert say("--version").strip() == aureole.__version__


HELP = {
    ("list",): ("--json",),
    ("show",): ("--json", "RECIPE"),
    ("show", "robust-ald-pgd"): ("--epochs", "--method.search.num-particles"),
    ("run",): ("--output", "aureole run RECIPE --help", "aureole list"),
    ("run", "robust-pgd"): (
        "--setting",
        "--scale",
        "--seeds",
        "--output",
        "--epochs",
        "--evaluation.attacks",
        "--devices",
    ),
    ("run", "demo"): ("--output", "--devices"),
    ("run", "thesis-table-5.3"): ("--scale", "--seeds", "--output"),
    ("rerun",): ("--output", "--json", "RECORD"),
    ("evaluate",): ("--attacks", "--radius", "pgd-50x2", "RUN"),
    ("report",): ("--title", "FOLDER"),
}


@pytest.mark.parametrize("command", HELP, ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_teaches(say: Callable[..., str], command: tuple[str, ...], flag: str) -> None:
    text = say(*command, flag)
    assert "usage: aureole " + command[0] in text
    for word in HELP[command]:
        assert word in text


def test_list(say: Callable[..., str]) -> None:
    text = say("list")
    named = json.loads(say("list", "--json"))
    assert list(named) == list(RECIPES)
    for name, summary in named.items():
        assert re.search(rf"^{re.escape(name)} ", text, re.MULTILINE)
        assert summary


def test_show(say: Callable[..., str]) -> None:
    text = say("show", "robust-pgd", "--epochs", "7", "--method.search.ball.radius", "0.25")
    assert "epochs: 7" in text
    assert "radius: 0.25" in text
    values = json.loads(say("show", "robust-pgd", "--epochs", "7", "--json"))
    assert values["epochs"] == 7
    assert values["type"] == "aureole.training.config:Training"
    assert json.loads(say("show", "robust-pgd", "--json"))["epochs"] == 30
    mnist = json.loads(say("show", "robust-pgd", "--setting", "mnist", "--data.source", "FOLDER", "--json"))
    assert (mnist["epochs"], mnist["data"]["source"]) == (100, "FOLDER")
    demo = json.loads(say("show", "demo", "--json"))
    assert {"pgd", "ald-pgd"} <= demo["runs"].keys()


def test_run_prints_a_table_and_writes_a_page(say: Callable[..., str]) -> None:
    text = say("run", "robust-pgd", *FAST)
    assert "PGD" in text
    assert "natural" in text
    assert "fgsm" in text
    page = Path("runs/robust-pgd/report.html")
    assert text.rstrip().endswith(f"report: {page}")
    assert page.exists()
    record = read_record(page.parent)
    assert (record.recipe, record.data.num_train) == ("robust-pgd", 32)


def test_run_twice_does_nothing_the_second_time(
    say: Callable[..., str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aureole.training import run as running

    before = {name: (run / name).read_bytes() for name in ("record.json", "last.ckpt", "weights.safetensors")}
    monkeypatch.setattr(running, "fit", None)  # would fail
    again = say("run", "robust-pgd", *FAST, "--output", run)
    assert "PGD" in again
    assert {name: (run / name).read_bytes() for name in before} == before


def test_run_says_json_and_nothing_else(say: Callable[..., str], run: Path) -> None:
    printed = json.loads(say("run", "robust-pgd", *FAST, "--output", run, "--json"))
    assert printed["report"] == str(run / "report.html")
    assert printed["records"] == [json.loads((run / "record.json").read_text())]
    fresh = json.loads(say("run", "robust-pgd", *FAST, "--output", "fresh", "--json"))  # also where it trains
    assert fresh["records"][0]["evaluations"][0]["attack"] == "natural"


def test_several_seeds_make_a_folder_each_and_one_page(say: Callable[..., str]) -> None:
    text = say("run", "robust-pgd", *FAST, "--seeds", "0", "1", "--output", "both")
    assert [read_record(Path("both") / f"seed{seed}").seed for seed in (0, 1)] == [0, 1]
    assert [str(p) for p in Path("both").rglob("report.html")] == [str(Path("both") / "report.html")]
    (row,) = [line for line in text.splitlines() if "PGD" in line and "digits" in line]
    assert "±" in row
    histories = [read_record(Path("both") / f"seed{seed}").history for seed in (0, 1)]
    assert histories[0] != histories[1]


def test_a_rerun_reproduces_the_record_and_says_so(say: Callable[..., str], run: Path) -> None:
    text = say("rerun", run, "--quiet")
    assert re.search(r"^natural: 0\.\d{4} \(as recorded\)$", text, re.MULTILINE)
    assert re.search(r"^fgsm: 0\.\d{4} \(as recorded\)$", text, re.MULTILINE)
    before, after = read_record(run), read_record(Path("runs/rerun-run"))
    assert after.history == before.history
    assert [e.num_correct for e in after.evaluations] == [e.num_correct for e in before.evaluations]
    again = json.loads(say("rerun", run / "record.json", "--output", "other", "--json"))
    assert again["records"][0]["history"] == before.history


def test_a_rerun_that_differs_says_so(say: Callable[..., str], run: Path) -> None:
    from dataclasses import replace

    record = read_record(run)
    natural, fgsm = record.evaluations
    other = replace(natural, num_correct=10 - natural.num_correct)
    write_record(replace(record, evaluations=[other, replace(fgsm, num_examples=11)]), run)
    text = say("rerun", run, "--quiet")
    assert f"(recorded {other.accuracy:.4f})" in text
    assert re.search(r"^fgsm: .*\(recorded under other settings\)$", text, re.MULTILINE)
    assert "as recorded" not in text


def test_evaluate_adds_to_the_record(say: Callable[..., str], run: Path) -> None:
    text = say("evaluate", run, "--attacks", "bim-2", "rfgsm")
    assert [e.attack for e in read_record(run).evaluations] == ["natural", "fgsm", "bim-2", "rfgsm"]
    for word in ("natural", "bim-2", "rfgsm", "95 % interval"):
        assert word in text
    printed = json.loads(say("evaluate", run, "--attacks", "bim-2", "--num-examples", "20", "--json"))
    assert [(e["run"], e["attack"], e["num_examples"]) for e in printed] == [
        (str(run), "natural", 20),
        (str(run), "bim-2", 20),
    ]
    assert [e.num_examples for e in read_record(run).evaluations] == [20, 10, 20, 10]
    low, high = printed[0]["interval"]
    assert low <= printed[0]["accuracy"] == printed[0]["num_correct"] / 20 <= high


def test_evaluate_takes_a_folder_of_runs(say: Callable[..., str], run: Path) -> None:
    shutil.copytree(run, run.parent / "all" / "b")
    shutil.copytree(run, run.parent / "all" / "a")
    printed = json.loads(say("evaluate", "all", "--attacks", "rfgsm", "--json"))
    assert [e["run"] for e in printed[::2]] == [str(Path("all") / "a"), str(Path("all") / "b")]


def test_report(say: Callable[..., str], run: Path) -> None:
    (run / "report.html").unlink()
    assert say("report", run, "--title", "A heading") == f"report: {run / 'report.html'}\n"
    assert "A heading" in (run / "report.html").read_text(encoding="utf-8")
    assert json.loads(say("report", run, "--json")) == {"report": str(run / "report.html")}


# Mistakes.


def test_unknown_names_offer_the_nearest(fail: Callable[..., str], run: Path) -> None:
    assert "unknown command 'repot': did you mean 'report'" in fail("repot")
    assert "unknown recipe 'robust-pgb': did you mean 'robust-pgd'" in fail("run", "robust-pgb")
    assert "did you mean 'demo'" in fail("show", "dmeo")
    assert fail("run", "robust-pgd", "--epoch", "3").endswith("did you mean --epochs?")
    assert "did you mean --evaluation.attacks" in fail("run", "robust-pgd", "--evaluation.atacks", "fgsm")
    two = fail("run", "robust-pgd", "--epoch", "3", "--bach-size", "4")
    assert "--epochs" in two.partition("did you mean")[2]
    assert "--batch-size" in two.partition("did you mean")[2]
    assert fail("evaluate", run, "--atacks", "fgsm").endswith("did you mean --attacks?")
    assert fail("report", run, "--titel", "x").endswith("did you mean --title?")
    assert "unknown attack 'pgx': did you mean 'pgd'" in fail("evaluate", run, "--attacks", "pgx")
    assert "unknown attack 'fgms': did you mean 'fgsm'" in fail("run", "robust-pgd", "--evaluation.attacks", "fgms")
    assert "did you mean 'lenet5'" in fail("run", "robust-pgd", *FAST, "--model.name", "lenet6", "--output", "x")


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
    "--optimizer.schedule linear": "'steps', 'cosine', 'constant'",
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
    "--evaluation.batch-size 0": "batch_size must be at least 1",
    "--evaluation.num-examples 0": "num_examples must be at least 1",
    "--evaluation.num-examples 361": "num_examples must be 1 to 360",
    "--evaluation.attacks natural": "natural",
    "--evaluation.attacks pgd-20-3": "KIND",
    "--evaluation.attacks pgd-5x0": "num_restarts must be at least 1",
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
def test_wrong_values(fail: Callable[..., str], options: str) -> None:
    assert VALUES[options] in fail("run", "robust-pgd", *FAST, "--output", "new", *options.split())
    assert not list(Path("new").glob("*.ckpt"))  # nothing was trained


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--radius -1", "the radius of a ball must be"),
        ("--radius 0", "the radius of a ball must be"),
        ("--num-examples 0", "num_examples must be at least 1"),
        ("--num-examples 361", "num_examples must be 1 to 360"),
        ("--batch-size 0", "batch_size must be at least 1"),
        ("--step-size 0", "step_size must be positive"),
        ("--attacks natural", "natural"),
        ("--attacks pgd-2-2", "KIND"),
    ],
)
def test_wrong_evaluations(fail: Callable[..., str], run: Path, options: str, message: str) -> None:
    before = (run / "record.json").read_bytes()
    assert message in fail("evaluate", run, *options.split())
    assert (run / "record.json").read_bytes() == before


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
def test_unusable_images(fail: Callable[..., str], name: str) -> None:
    arrays, message = ARRAYS[name]
    np.savez("data.npz", **arrays)
    line = fail("run", "robust-pgd", *FAST, "--data.source", "data.npz", "--output", "new")
    assert message in line
    assert not list(Path("new").glob("*.ckpt"))


def test_unusable_files(fail: Callable[..., str]) -> None:
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
        assert message in fail("run", "robust-pgd", *FAST, "--data.source", source, "--output", "new")
        shutil.rmtree("new")


def test_a_folder_that_cannot_be_written(fail: Callable[..., str]) -> None:
    Path("file").write_text("in the way")
    for folder in ("file", "file/run"):
        assert "cannot write" in fail("run", "robust-pgd", *FAST, "--output", folder)


def test_a_folder_of_another_run(fail: Callable[..., str], run: Path) -> None:
    line = fail("run", "robust-pgd", *FAST, "--seed", "3", "--output", run)
    assert "it differs in seed" in line


def test_a_full_disk(fail: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch import Trainer

    def save(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Trainer, "save_checkpoint", save)
    assert "No space left on device" in fail("run", "robust-pgd", *FAST, "--output", "new", "--quiet")


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


def test_corrupt_records(fail: Callable[..., str], run: Path) -> None:
    (run / "record.json").write_text('{"schema": 1')
    for command in ("rerun", "evaluate", "report"):
        assert "not complete JSON" in fail(command, run)
    assert "not complete JSON" in fail("run", "robust-pgd", *FAST, "--output", run)
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


def test_corrupt_configurations(fail: Callable[..., str], run: Path) -> None:
    (run / "config.json").write_text("{")
    assert "config.json is not complete JSON" in fail("evaluate", run)
    assert "config.json is not complete JSON" in fail("run", "robust-pgd", *FAST, "--output", run)
    (run / "config.json").unlink()
    assert "config.json is missing" in fail("evaluate", run)


def test_corrupt_checkpoints(fail: Callable[..., str], run: Path) -> None:
    (run / "record.json").unlink()
    (run / "last.ckpt").write_bytes(b"xx")
    assert "last.ckpt cannot be read" in fail("run", "robust-pgd", *FAST, "--output", run)
    assert (run / "last.ckpt").read_bytes() == b"xx"
    assert "no finished run" in fail("evaluate", run)  # which is why it is not judged


def test_an_interruption(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from aureole import PGDTraining

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PGDTraining, "loss", interrupt)
        assert main(["run", "robust-pgd", *FAST, "--quiet", "--output", "new"]) == 130
    out, err = capsys.readouterr()
    assert (out, err) == ("", "aureole: interrupted; give the same command again to resume\n")
    assert main(["run", "robust-pgd", *FAST, "--quiet", "--output", "new"]) == 0


# The option parser's boxes, of either kind.

UNICODE = """\
╭─ Unrecognized options ───────────────────────────╮
│ Unrecognized options: --epoch, 3, --sed, 4       │
│ ──────────────────────────────────────────────── │
│ Arguments similar to --epoch:                    │
│     --epochs INT                                 │
│         passes over the training set.            │
│ ──────────────────────────────────────────────── │
│ Arguments similar to --sed:                      │
│     --seed INT                                   │
│ ──────────────────────────────────────────────── │
│ For full helptext, run aureole run --help        │
╰──────────────────────────────────────────────────╯
"""


def test_both_kinds_of_boxes_are_read() -> None:
    expected = "unrecognized options: --epoch, 3, --sed, 4: did you mean --epochs or --seed?"
    assert one_line(UNICODE) == expected
    ascii_box = re.sub("[╭╮╰╯│]", " ", UNICODE).replace("─", "-").replace("- Unrecognized options -", " Unrecognized ")
    assert one_line(ascii_box) == expected
    assert one_line("") == "the options cannot be read; see --help"


# As a process of its own.


def _process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    python = os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "aureole", *arguments],
        env={**os.environ, "PYTHONPATH": python, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_process_says_one_line_too() -> None:
    done = _process("run", "robust-pgd", "--epoch", "3", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "aureole: unrecognized options: --epoch, 3: did you mean --epochs?\n"


@pytest.mark.slow
def test_a_process_prints_json_alone(tmp_path: Path) -> None:
    done = _process("run", "robust-pgd", *FAST, "--json", "--output", str(tmp_path / "new"))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["records"][0]["recipe"] == "robust-pgd"
