"""The benchmark of selections: it runs, and its streamed draws are those of the stack."""

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
    spec = importlib.util.spec_from_file_location("benchmark_selection", BENCHMARKS / "selection.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_a_run_measures_shows_and_writes(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.json"
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(module, "peak", lambda *_: 1 << 20)
    options = ["--sizes", "16", "--batch-size", "2", "--repetitions", "2", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["selection.py", *options])
    module.main()
    (found,) = json.loads(path.read_text())["measurements"]
    assert (found["size"], found["count"]) == (16, 77)
    assert found["differences"]["float64"]["gradient"] < 1e-12
    assert found["differences"]["float32"]["value"] < 1e-5
    assert set(found["times"]) == set(module.MASKS)
    assert {"unet", "top_pixels", "one_image", "one_image_folded"} < set(found["at_test"])
    assert "streamed" in capsys.readouterr().out
