"""Every example runs, with its reduced setting, and shows what it says."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tested


def test_own_loop(capsys: pytest.CaptureFixture[str]) -> None:
    results = load("own_loop").main(quick=True)
    assert results["ALD"]["pgd"] > results["natural"]["pgd"] + 0.05
    assert results["ALD"]["natural"] > 0.7
    assert capsys.readouterr().out.count("under PGD") == 2


def test_attack_any_model(capsys: pytest.CaptureFixture[str]) -> None:
    results = load("attack_any_model").main(quick=True)
    robust = {name: value for name, value in results.items() if name[:2] in ("Li", "L2", "L1")}
    assert len(robust) == 5
    assert max(robust.values()) < results["natural"]
    assert results["Linf 0.1, 5 restarts"] <= results["Linf 0.1"]
    assert results["target reached"] > 0
    assert capsys.readouterr().out.count("\n") == 7


def test_particles_compared(capsys: pytest.CaptureFixture[str]) -> None:
    results = load("particles_compared").main(quick=True)
    restarts, thesis = results["restarts"], results["Stein, width of the thesis"]
    assert thesis["spread"] == pytest.approx(restarts["spread"], rel=1e-3)
    assert thesis["loss"] == pytest.approx(restarts["loss"], rel=1e-3)
    assert results["Stein, median, T = 1"]["spread"] > 2 * restarts["spread"]
    assert results["Stein, median, T = 1"]["loss"] < restarts["loss"]
    assert results["Langevin"]["spread"] != restarts["spread"]
    assert math.isnan(restarts["kernel"])
    assert capsys.readouterr().out.count("\n") == 7


def test_refine_an_attack(capsys: pytest.CaptureFixture[str]) -> None:
    results = load("refine_an_attack").main(quick=True)
    accuracy = {name: values[0] for name, values in results.items()}
    assert accuracy["the attack"] < 0.1 < accuracy["the map"] < accuracy["nothing changed"]
    assert accuracy["the map, fewest"] == accuracy["the attack"]
    assert results["the map"][1] <= 20 / 64 < results["the attack"][1]
    assert len(capsys.readouterr().out.splitlines()) == len(results) + 1
