"""What a run writes down is enough to repeat it, and reading it runs nothing foreign."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from aureole import L1, L2, RBF, FeatureRBF, InputError, Langevin, Linf, ParticleSearch
from aureole.core.config import from_values, to_values
from aureole.core.selection import Marginal
from aureole.recipes import RECIPES
from aureole.training.config import Training
from aureole.training.sweep import Sweep


def through_json(config: Any) -> Any:
    return from_values(json.loads(json.dumps(to_values(config), allow_nan=False)))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_comes_back_as_it_was(name: str) -> None:
    config = RECIPES[name].build()
    again = through_json(config)
    assert type(again) is type(config)
    assert again == config
    assert to_values(again) == to_values(config)


@pytest.mark.parametrize("setting", ["digits", "mnist", "cifar10"])
def test_every_setting_comes_back_as_it_was(setting: str) -> None:
    recipes = [name for name in RECIPES if name.startswith("robust-")]
    assert recipes
    for name in recipes:
        for scale in ("paper", "small"):
            config = RECIPES[name].build(setting, scale)
            assert through_json(config) == config


def test_other_values_come_back() -> None:
    bounds = ((0.0, 0.0, 0.0), (1.0, 1.0, 0.5))
    for ball in (Linf(0.5, bounds=bounds), L2(1.0, bounds=None), L1(3.0)):
        search = ParticleSearch(ball, kernel=RBF(0.5), step=Langevin(2.0), max_batch=7)
        assert through_json(search) == search
    run = Training(paper={"pgd-200": 0.5}, clip_norm=1.0, label="a name")
    assert through_json(run) == run


def test_a_changed_field_is_seen() -> None:
    """Otherwise equality above would say nothing."""
    config = RECIPES["robust-pgd"].build()
    assert isinstance(config, Training)
    values = to_values(config)
    values["method"]["search"]["ball"]["radius"] = 0.25
    again = from_values(values)
    assert again != config
    assert again.method.search.ball.radius == 0.25
    assert replace(config, seed=5) == from_values(to_values(config) | {"seed": 5})


def test_a_path_is_written_as_text() -> None:
    assert to_values({"a": Path("b") / "c"}) == {"a": str(Path("b") / "c")}


@dataclass
class Foreign:
    x: int = 0


def refuse_to_run(*_: object) -> None:
    raise AssertionError("ran")


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "builtins:eval",
        "subprocess:Popen",
        "torch.nn:Linear",
        f"{__name__}:Foreign",
        "aureolex.core:Linf",
        "aureole.core.nowhere:Linf",
        "aureole.core.balls:Nowhere",
        "aureole.core.balls:math",
        "aureole.core.config:from_values",
        "aureole.core.errors:InputError",
        "aureole.training.fit:Path",
        "aureole.core.balls",
        ":",
        "",
    ],
)
def test_only_configurations_of_this_library_are_made(name: str) -> None:
    with pytest.raises(InputError, match="which this version of aureole does not have"):
        from_values({"type": name, "command": "true"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"type": "aureole.core.balls:Linf", "radius": 0.5, "colour": 1}, "Linf does not fit .*colour"),
        ({"type": "aureole.core.balls:Linf"}, "Linf does not fit .*radius"),
        ({"type": "aureole.core.balls:Linf", "radius": -1.0}, "radius of a ball must be a positive"),
        ({"type": "aureole.training.config:Training", "epochs": None}, "Training does not fit"),
        ({"type": "aureole.core.balls:Ball", "radius": 1.0}, "Ball does not fit"),
    ],
)
def test_fields_that_do_not_fit(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_values(values)
    with pytest.raises(InputError, match=message):
        from_values({"inner": [values]})


@pytest.mark.parametrize("thing", [nn.Linear(2, 2), torch.zeros(1), {1, 2}, Linf, print, 1j])
def test_what_cannot_be_written_down(thing: object) -> None:
    with pytest.raises(InputError, match="plain values"):
        to_values({"field": thing})


def test_a_search_with_a_network_cannot_be_written_down() -> None:
    search = ParticleSearch(Linf(0.1), kernel=FeatureRBF(nn.Flatten()))
    with pytest.raises(InputError, match="plain values"):
        to_values(search)


def test_what_a_sweep_holds_is_written_down() -> None:
    sweep = RECIPES["thesis-table-5.3"].build()
    assert isinstance(sweep, Sweep)
    assert list(to_values(sweep)["runs"]) == list(sweep.runs)


def test_a_class_that_has_moved_is_found_by_its_older_name() -> None:
    assert from_values({"type": "aureole.refine.selection:Marginal"}) == Marginal()
    assert to_values(Marginal())["type"] == "aureole.core.selection:Marginal"
