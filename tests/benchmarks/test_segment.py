"""The benchmark of segmentation: every method is in it, and its loop over windows is the published one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from aureole.recipes.segment import METHODS
from aureole.segment.inference import sliding_window

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    spec = importlib.util.spec_from_file_location("benchmark_segment", BENCHMARKS / "segment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_every_method_takes_a_step(module: ModuleType) -> None:
    assert {type(method) for method, _ in module.METHODS.values()} == {kind for kind, _ in METHODS.values()}
    load = module.Load("unet", (32, 32), 2, 3)
    for name in module.METHODS:
        module.step(load, name)()


def test_one_window_after_the_other_gives_the_same_mask(module: ModuleType) -> None:
    torch.manual_seed(0)
    model, volume = nn.Conv3d(1, 2, 3, padding=1).eval(), torch.randn(13, 10, 9)
    patch, stride = (8, 8, 8), (3, 4, 2)
    expected = module.one_by_one(model, volume, patch, stride)
    assert 0 < int(expected.sum()) < expected.numel()
    assert torch.equal(sliding_window(model, volume, patch, stride), expected)
