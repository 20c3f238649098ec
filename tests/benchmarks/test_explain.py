"""The benchmark of explanations: what it compares, and that its tables and its file agree."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    spec = importlib.util.spec_from_file_location("benchmark_explain", BENCHMARKS / "explain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_the_networks_are_those_of_the_thesis(module: ModuleType) -> None:
    counts = {row.case: row.values[0] for row in module.sizes() if row.unit == "parameters"}
    assert (counts["teacher"], counts["student alone"]) == (390_466, 1_726)
    assert counts["explained student"] == 1_726 + 44_430


def test_the_fast_map_is_the_map(module: ModuleType) -> None:
    assert module.difference(module.Load(size=48)) < 1e-5


def test_a_run_measures_shows_and_writes(
    module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.json"
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    options = ["--quick", "--size", "32", "--repetitions", "2", "--no-memory", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["explain.py", *options])
    module.main()
    written = json.loads(path.read_text())
    rows = written["measurements"]
    parts = [row["part"].split(" / ")[0] for row in rows]
    assert parts == (
        ["one map, memory given back"] * 3
        + ["one map"] * 3
        + ["one prediction"] * 4
        + ["a map of the teacher"] * 5
        + ["parameters"] * 4
        + ["bytes stored"] * 4
    )
    assert all(row["value"]["least"] > 0 for row in rows)
    assert all(row["ratio"]["median"] == 1 for row in rows if row["case"] == row["compared_with"])
    assert written["difference"] < 1e-5
    shown = capsys.readouterr().out
    assert "the bound is 30 ms on 2 cores" in " ".join(shown.split())


def test_rise_is_scaled_to_all_its_masks(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "timed", lambda calls, repetitions: {name: [1.0] for name in calls})
    values = {row.case: row.values for row in module.attributions(module.Load(size=32, num_masks=100))}
    assert values.pop("RISE, 4000 masks") == [40.0]
    assert all(value == [1.0] for value in values.values())
