"""``aureole evaluate``: what it prints and keeps, for runs and for any model, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from aureole.cli import main
from aureole.core.records import read_record

MODULE = """
import torch
from torch import nn


def network(num_classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, num_classes))


def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def chatty():
    print("loading")
    return plain()


def needs(more):
    return plain()


def pair():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    return Pair()


def text():
    return "no module"


def convolution():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(10))
"""


@pytest.fixture
def mine() -> Path:
    """Write a module with models, and weights that know the digits a little."""
    from aureole.data import Data

    Path("my_models.py").write_text(MODULE)
    train = Data().train_and_validation().train
    x, y = train.images.float() / 255, train.labels  # pyright: ignore[reportAttributeAccessIssue]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    save_file(model.state_dict(), "mine.safetensors")
    return Path("mine.safetensors")


FOREIGN = ("evaluate", "--model", "my_models:network", "--weights", "mine.safetensors", "--data", "digits")
QUICK = ("--attack", "pgd-3", "--num-examples", "60", "--radius", "0.1")


# Runs.


def test_evaluate_adds_to_the_record(say: Callable[..., str], run: Path) -> None:
    text = say("evaluate", run, "--attack", "bim-5", "rfgsm")
    assert [e.attack for e in read_record(run).evaluations] == ["natural", "fgsm", "bim-5", "rfgsm", "worst case"]
    for word in (f"{run}: 10 images", "natural", "bim-5", "rfgsm", "worst case", "95 % interval", "L0", "s/image"):
        assert word in text
    printed = json.loads(say("evaluate", run, "--attacks", "bim-5", "--num-examples", "20", "--json"))
    assert [(e["run"], e["attack"], e["num_examples"]) for e in printed] == [
        (str(run), "natural", 20),
        (str(run), "bim-5", 20),
    ]
    assert [e.num_examples for e in read_record(run).evaluations] == [20, 10, 20, 10, 10]
    low, high = printed[0]["interval"]
    assert low <= printed[0]["accuracy"] == printed[0]["num_correct"] / 20 <= high
    assert printed[1]["seconds_per_image"] == printed[1]["seconds"] / 20
    with np.load(printed[1]["outcomes"]) as outcomes:
        assert int(outcomes["bim-5/robust"].sum()) == printed[1]["num_correct"]


def test_evaluate_takes_a_folder_of_runs(say: Callable[..., str], run: Path) -> None:
    shutil.copytree(run, run.parent / "all" / "b")
    shutil.copytree(run, run.parent / "all" / "a")
    printed = json.loads(say("evaluate", "all", "--attack", "rfgsm", "--json"))
    assert [e["run"] for e in printed if e["attack"] == "rfgsm"] == [str(Path("all") / "a"), str(Path("all") / "b")]
    assert not list(Path("all").rglob("journal"))


def test_several_radii_make_a_curve(say: Callable[..., str], run: Path) -> None:
    printed = json.loads(say("evaluate", run, "--attack", "pgd-5", "--radius", "0.05", "0.15", "0.3", "--json"))
    rows = [(e["attack"], e["radius"]) for e in printed if e["attack"].startswith("pgd")]
    assert rows == [("pgd-5@0.05", 0.05), ("pgd-5", 0.15), ("pgd-5@0.3", 0.3)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--radius -1", "the radius of a ball must be"),
        ("--radius 0", "the radius of a ball must be"),
        ("--radius 8", "the radius 8 is larger than the range of the data"),
        ("--radius 0.1 1.01", "the radius 1.01 is larger than the range of the data"),
        ("--ball l2", "needs a radius of its own"),
        ("--ball l2 --radius 9", "differ by at most 8 in L2"),
        ("--ball l3", "invalid choice 'l3'"),
        ("--num-examples 0", "num_examples must be at least 1"),
        ("--num-examples 361", "num_examples must be 1 to 360"),
        ("--batch-size 0", "batch_size must be at least 1"),
        ("--step-size 0", "step_size must be positive"),
        ("--devices 0", "devices must be at least 1"),
        ("--attack natural", "natural"),
        ("--attack pgx", "unknown attack 'pgx': did you mean 'pgd'"),
        ("--attacks pgd-2-2", "KIND"),
        ("--weights x", "give a run or --model, not both"),
        ("--data digits", "give a run or --model, not both"),
    ],
)
def test_wrong_evaluations(fail: Callable[..., str], run: Path, options: str, message: str) -> None:
    before = (run / "record.json").read_bytes()
    line = fail("evaluate", run, *options.split())
    assert message in line
    assert (run / "record.json").read_bytes() == before


def test_memory_that_does_not_suffice(
    fail: Callable[..., str], fast: tuple[str, ...], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aureole import FGSM
    from aureole.training import run as running

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to\nallocate 9")

    monkeypatch.setattr(FGSM, "__call__", refuse)
    line = fail("evaluate", run, "--attack", "fgsm", "--batch-size", "50")
    assert line.endswith("for batches of 50 images: give a smaller --batch-size, such as 25")
    monkeypatch.setattr(running, "fit", refuse)
    assert "give a smaller --batch-size" in fail("run", "robust-pgd", *fast, "--output", "new")


# Any model.


def test_a_model_of_the_users_own(say: Callable[..., str], mine: Path) -> None:
    printed = json.loads(say(*FOREIGN, *QUICK, "--num-classes", "10", "--json"))
    assert [e["attack"] for e in printed] == ["natural", "pgd-3@0.1"]
    assert printed[0]["accuracy"] > 0.5
    assert printed[1]["accuracy"] < printed[0]["accuracy"]
    assert printed[1]["linf"] == pytest.approx(0.1, abs=0.01)  # steps of a quarter of the radius, three of them
    assert 0.3 < printed[1]["l0"] <= 1
    folder = Path("runs/evaluate-network")
    record = read_record(folder)
    assert (record.kind, record.label, record.data.num_test, record.data.num_train) == ("evaluation", "network", 60, 0)
    assert (folder / "outcomes-60.npz").exists()
    more = say("evaluate", folder, "--attack", "mim-5", "--radius", "0.1", "0.2")  # the record knows its model
    assert "mim-5@0.2" in more
    assert [e.attack for e in read_record(folder).evaluations] == [
        "natural", "pgd-3@0.1", "mim-5@0.1", "mim-5@0.2", "worst case@0.1",
    ]  # fmt: skip
    say("report", "runs")
    assert "mim-5@0.2" in Path("runs/report.html").read_text(encoding="utf-8")
    again = json.loads(say("rerun", folder, "--json", "--output", "again"))
    assert set(again["verdicts"].values()) == {"as recorded"}
    assert set(again["verdicts"]) == {e.attack for e in read_record(folder).evaluations}


def test_an_interruption_is_resumed_and_a_changed_model_refused(
    say: Callable[..., str],
    fail: Callable[..., str],
    mine: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from aureole import PGD

    command = (*FOREIGN, "--attack", "pgd-4", "--num-examples", "40", "--batch-size", "10")
    whole = json.loads(say(*command, "--json", "--output", "whole"))
    original, calls = PGD.__call__, 0

    def interrupt(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return original(*arguments, **more)

    monkeypatch.setattr(PGD, "__call__", interrupt)
    assert main([*command, "--quiet"]) == 130
    assert "give the same command again to resume" in capsys.readouterr().err
    weights = load_file(mine)
    save_file({name: value + 0.01 for name, value in weights.items()}, mine)
    line = fail(*command)
    assert "the model's weights changed" in line
    assert "--restart" in line
    save_file(weights, mine)
    json.loads(say(*command, "--json", "--num-examples", "10", "--output", "runs/evaluate-network"))  # a quick look
    assert Path("runs/evaluate-network/journal").exists()
    calls = 3
    again = json.loads(say(*command, "--json"))
    assert calls == 3 + 2  # two of the four batches were decided
    assert not Path("runs/evaluate-network/journal").exists()
    varies = dict.fromkeys(("seconds", "seconds_per_image", "run", "outcomes"))
    assert [e | varies for e in whole] == [e | varies for e in again]


def test_weights_that_torch_saved(say: Callable[..., str], mine: Path) -> None:
    torch.save({"state_dict": load_file(mine), "epoch": 3}, "mine.pt")
    first = json.loads(say(*FOREIGN, *QUICK, "--json"))
    second = json.loads(say(*(a.replace("safetensors", "pt") for a in FOREIGN), *QUICK, "--json", "--output", "other"))
    assert [e["num_correct"] for e in first] == [e["num_correct"] for e in second]


def test_what_a_model_prints_is_no_result(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--model", "my_models:chatty", "--data", "digits", *QUICK, "--json"]) == 0
    out, err = capsys.readouterr()
    assert (len(json.loads(out)), err) == (2, "loading\n")


def _changed(**changes: torch.Tensor | None) -> str:
    weights = {**load_file("mine.safetensors"), **{name.replace("_", "."): value for name, value in changes.items()}}
    save_file({name: value for name, value in weights.items() if value is not None}, "changed.safetensors")
    return "changed.safetensors"


def test_unusable_models(fail: Callable[..., str], mine: Path) -> None:
    Path("broken.py").write_text("1 / 0")
    Path("needy.py").write_text("import not_installed_at_all")
    data = ("--data", "digits", *QUICK)
    for model, message in {
        "my_models": "named module:function",
        "my_models.py:network": "there is no module 'my_models.py'",
        "my_modles:network": "there is no module 'my_modles'",
        "my_models:netwrok": "unknown function of my_models 'netwrok': did you mean 'network'?",
        "broken:x": "ZeroDivisionError",
        "needy:x": "No module named 'not_installed_at_all'",
        "my_models:needs": "failed when called as needs()",
        "my_models:text": "must return a torch.nn.Module; it returned str",
        "my_models:pair": "must return logits",
        "my_models:convolution": "cannot take images of shape (1, 8, 8)",
    }.items():
        assert message in fail("evaluate", "--model", model, *data), model
    assert "--model needs --data" in fail("evaluate", "--model", "my_models:plain")
    assert "the model has 7 classes, the data 10" in fail(*FOREIGN[:3], *data, "--num-classes", "7")
    assert "failed when called as plain(num_classes=7)" in fail(
        "evaluate", "--model", "my_models:plain", *data, "--num-classes", "7"
    )
    assert "--ball l2 needs a --radius" in fail(*FOREIGN, "--ball", "l2")
    assert not Path("runs").exists()


def test_unusable_weights(fail: Callable[..., str], mine: Path) -> None:
    whole, model = mine.read_bytes(), (*FOREIGN[:3], "--data", "digits", *QUICK, "--weights")
    Path("cut.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in fail(*model, "cut.safetensors")
    assert "there are no weights at nowhere" in fail(*model, "nowhere.safetensors")
    torch.save([1, 2], "list.pt")
    assert "holds no weights" in fail(*model, "list.pt")
    Path("foreign.pt").write_text("hello")
    assert "cannot be read" in fail(*model, "foreign.pt")
    missing = fail(*model, _changed(**{"1_weight": None, "extra_bias": torch.zeros(3)}))
    assert "1 are missing, such as '1.weight'; 1 are unexpected, such as 'extra.bias'" in missing
    shapes = fail(*model, _changed(**{"3_bias": torch.zeros(7)}))
    assert "'3.bias' has the shape (7,), the model wants (10,)" in shapes


def test_a_folder_of_another_model(fail: Callable[..., str], say: Callable[..., str], mine: Path, run: Path) -> None:
    say(*FOREIGN, *QUICK)
    other = fail(
        "evaluate", "--model", "my_models:plain", "--data", "digits", *QUICK, "--output", "runs/evaluate-network"
    )
    assert "another model or other data: choose another --output" in other
    shutil.copy(_changed(**{"3_bias": torch.ones(10)}), mine)
    assert "other weights of this model: choose another --output" in fail(*FOREIGN, *QUICK)
    assert "holds a run" in fail(*FOREIGN, *QUICK, "--output", run)
