"""``aureole list | show``: the recipes, and the full configuration of one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aureole.cli.common import positional, say
from aureole.cli.configure import configured
from aureole.core.config import to_values
from aureole.options import parse, parse_known


@dataclass(frozen=True, kw_only=True)
class PlainOptions:
    """Print the recipes, or the full configuration of one.

    Attributes:
        json: print JSON, and nothing else.
    """

    json: bool = False


def list_recipes(arguments: Sequence[str]) -> None:
    """Print every recipe with its summary."""
    from rich.console import Console
    from rich.table import Table

    from aureole.recipes import RECIPES

    options = parse(PlainOptions, arguments, prog="aureole list", default=PlainOptions())
    if options.json:
        return say(json.dumps({recipe.name: recipe.summary for recipe in RECIPES.values()}, indent=1))
    table = Table(box=None, pad_edge=False)
    table.add_column("recipe")
    table.add_column("what it does")
    for recipe in RECIPES.values():
        table.add_row(recipe.name, recipe.summary)
    return Console().print(table)


def show(arguments: Sequence[str]) -> None:
    """Print the full configuration of a recipe."""
    name, rest = positional(arguments, "recipe", "show", PlainOptions())
    if "--help" in rest or "-h" in rest:
        return configured("show", name, rest)
    options, rest = parse_known(PlainOptions, rest, prog=f"aureole show {name}")
    config = configured("show", name, rest)
    values = to_values(config)
    return say(json.dumps(values, indent=1) if options.json else _indented(values))


def _indented(values: Any, depth: int = 0) -> str:
    """Return a configuration as indented lines, a field a line."""
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            kind = str(value.get("type", "")).rpartition(":")[2]
            inner = {k: v for k, v in value.items() if k != "type"}
            lines.append(f"{'  ' * depth}{key}: {kind}")
            if inner:
                lines.append(_indented(inner, depth + 1))
        elif key != "type":
            lines.append(f"{'  ' * depth}{key}: {value}")
    return "\n".join(lines)
