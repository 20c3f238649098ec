"""The command line as a new user meets it: what each command prints."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import aureole
from aureole.cli.configure import configured
from aureole.core.records import read_record, write_record
from aureole.options import one_line
from aureole.recipes import RECIPES

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
    ("evaluate",): ("--attack", "--radius", "pgd-50x2", "RUN", "--model", "--restart"),
    ("report",): ("--title", "FOLDER"),
}


@pytest.mark.parametrize("command", HELP, ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_teaches(say: Callable[..., str], command: tuple[str, ...], flag: str) -> None:
    text = say(*command, flag)
    assert "usage: aureole " + command[0] in text
    assert not re.search(r"``|:\w+:`", text)  # the markup of docstrings is for other readers
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


def test_run_prints_a_table_and_writes_a_page(fast: tuple[str, ...], say: Callable[..., str]) -> None:
    text = say("run", "robust-pgd", *fast)
    assert "PGD" in text
    assert "natural" in text
    assert "fgsm" in text
    page = Path("runs/robust-pgd/report.html")
    assert text.rstrip().endswith(f"report: {page}")
    assert page.exists()
    record = read_record(page.parent)
    assert (record.recipe, record.data.num_train) == ("robust-pgd", 32)


def test_run_twice_does_nothing_the_second_time(
    fast: tuple[str, ...], say: Callable[..., str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aureole.training import run as running

    before = {name: (run / name).read_bytes() for name in ("record.json", "last.ckpt", "weights.safetensors")}
    monkeypatch.setattr(running, "fit", None)  # would fail
    again = say("run", "robust-pgd", *fast, "--output", run)
    assert "PGD" in again
    assert {name: (run / name).read_bytes() for name in before} == before


def test_run_says_json_and_nothing_else(fast: tuple[str, ...], say: Callable[..., str], run: Path) -> None:
    printed = json.loads(say("run", "robust-pgd", *fast, "--output", run, "--json"))
    assert printed["report"] == str(run / "report.html")
    assert printed["records"] == [json.loads((run / "record.json").read_text())]
    fresh = json.loads(say("run", "robust-pgd", *fast, "--output", "fresh", "--json"))  # also where it trains
    assert fresh["records"][0]["evaluations"][0]["attack"] == "natural"


def test_several_seeds_make_a_folder_each_and_one_page(fast: tuple[str, ...], say: Callable[..., str]) -> None:
    text = say("run", "robust-pgd", *fast, "--seeds", "0", "1", "--output", "both")
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
    assert again["verdicts"] == {"natural": "as recorded", "fgsm": "as recorded"}


def test_a_rerun_that_differs_says_so(say: Callable[..., str], run: Path) -> None:
    from dataclasses import replace

    record = read_record(run)
    natural, fgsm = record.evaluations
    other = replace(natural, num_correct=10 - natural.num_correct, confusion=[])
    write_record(replace(record, evaluations=[other, replace(fgsm, num_examples=11)]), run)
    text = say("rerun", run, "--quiet")
    assert f"(recorded {other.accuracy:.4f})" in text
    assert re.search(r"^fgsm: .*\(recorded under other settings\)$", text, re.MULTILINE)
    assert "as recorded" not in text


def test_report(say: Callable[..., str], run: Path) -> None:
    (run / "report.html").unlink()
    assert say("report", run, "--title", "A heading") == f"report: {run / 'report.html'}\n"
    assert "A heading" in (run / "report.html").read_text(encoding="utf-8")
    assert json.loads(say("report", run, "--json")) == {"report": str(run / "report.html")}


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
    assert done.stderr == "aureole: unrecognized options: --epoch, 3: did you mean --epochs or --steps-per-epoch?\n"


@pytest.mark.slow
def test_a_process_prints_json_alone(fast: tuple[str, ...], tmp_path: Path) -> None:
    done = _process("run", "robust-pgd", *fast, "--json", "--output", str(tmp_path / "new"))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["records"][0]["recipe"] == "robust-pgd"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("robust-pgd --setting cifar10", ""),
        ("robust-pgd --setting cifar10 --data.source HERE --evaluation.num-examples 5 --label mine", ""),
        ("robust-pgd --setting cifar10 --epochs 3 --batch-size 7", "settings of its own: batch_size, epochs"),
        ("semisup-pi-model --setting mnist --method.weight 3", "settings of its own: method.weight"),
        ("refine --setting mnist --epochs 3", "settings of its own: epochs"),
        ("segment-vat --steps-per-epoch 3", "settings of its own: steps_per_epoch"),
    ],
)
def test_a_run_says_which_settings_are_not_its_recipes(command: str, reason: str) -> None:
    name, *arguments = command.split()
    found = configured("run", name, arguments)
    plain = configured("run", name, arguments[:2] if "--setting" in arguments else [])
    mine, before = (getattr(run, getattr(run, "main", ""), run).proxy_reason for run in (found, plain))
    assert mine.removeprefix(before).lstrip("; ") == reason
    several = configured("run", name, [*arguments, "--seeds", "1", "2"])
    assert len(several.runs) == 2
    for run in several.runs.values():
        assert getattr(run, getattr(run, "main", ""), run).proxy_reason == mine
