"""The benchmark of distillation: what it compares, and that its tables line up."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    spec = importlib.util.spec_from_file_location("benchmark_distill", BENCHMARKS / "distill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def load(module: ModuleType) -> Any:
    return module.Load(teacher="resnet8", batch_size=4, repetitions=2, num_examples=40)


def test_every_method_has_a_row(module: ModuleType) -> None:
    import aureole.distill as ours

    exported = [getattr(ours, name) for name in ours.__all__]
    methods = {m for m in exported if isinstance(m, type) and issubclass(m, ours.Distillation)} - {ours.Distillation}
    assert {type(method) for method in module.TRAINED.values()} == methods
    assert len(methods) == 16
    assert {type(method).title for method in module.STAGES.values()} == {"AB", "FT", "FSP", "SSKD", "HSAKD"}
    assert [m.num_particles for m in module.FORMS.values() if m.tald.weight] == [1, 2] + [4] * 7


def test_both_networks_classify_the_batch_so_that_bss_has_images(module: ModuleType, load: Any) -> None:
    (teacher, student), batch = load.networks(), load.batch()
    assert torch.equal(teacher(batch.x).argmax(-1), batch.y)
    assert torch.equal(student(batch.x).argmax(-1), batch.y)
    walk = module.steps_of_bss(load)
    assert walk["images"] == 4
    assert 1 <= walk["steps"] <= 10


def test_a_run_measures_shows_and_writes(
    module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names, path = ["KD", "KD + BSS", "N = 4, reuse 3", "AB, stage before"], tmp_path / "out.json"
    options = ["--pair", "resnet8", "resnet8", "--batch-size", "4", "--repetitions", "2", "--no-memory"]
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(sys, "argv", ["distill.py", *options, "--json", str(path), "--only", *names])
    module.main()
    rows = json.loads(path.read_text())["measurements"]
    parts = [row["part"].split(":")[0] for row in rows]
    assert parts == ["step / student alone"] * 5 + ["step / KD"] * 3 + ["step / KD + BSS"] * 3
    assert all(row["value"]["least"] > 0 and row["repetitions"] == 2 for row in rows)
    assert all(row["ratio"]["median"] == 1 for row in rows if row["case"] == row["compared_with"])
    tables = capsys.readouterr().out.split("step / ")[1:]
    assert len(tables) == 3
    for table in tables:
        lines = [line for line in table.splitlines() if line[:1] in ("┃", "│")]
        assert {tuple(i for i, mark in enumerate(line) if mark in "┃│") for line in lines} == {
            tuple(i for i, mark in enumerate(lines[0]) if mark == "┃")
        }
    shown = [line.split("│")[1].strip() for line in tables[0].splitlines() if line[:1] == "│"]
    assert shown == ["student alone", *names]


def test_reuse_is_measured_over_a_search_and_its_reuses(module: ModuleType, load: Any) -> None:
    cases = module.fitting(load, ("KD", "N = 4, reuse 3"))
    calls = dict.fromkeys(cases, 0)

    def count(name: str) -> Any:
        def call() -> None:
            calls[name] += 1

        return module.Case(call, cases[name].steps)

    times = module.timed({name: count(name) for name in cases}, load)
    assert calls == {"KD": 3, "N = 4, reuse 3": 12}
    assert all(len(values) == 2 for values in times.values())


def test_a_method_that_does_not_fit_the_pair_is_left_out(
    module: ModuleType, load: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    load = module.replace(load, teacher="wrn-16-2")
    assert list(module.fitting(load, ("KD", "FSP"))) == ["KD"]
    assert "FSP is left out" in capsys.readouterr().err
