"""The public surface: the names that `aureole` exports are a decision, and every public thing says what it is."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import aureole

SOURCE = Path(__file__).parents[2] / "src" / "aureole"
PUBLIC_NAMES = Path(__file__).with_name("public_names.txt")


def undocumented(source: Path) -> list[str]:
    """Return every module, and every public class or function of a module, that has no docstring."""
    found = []
    for path in sorted(source.rglob("*.py")):
        place = path.relative_to(source).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not ast.get_docstring(tree):
            found.append(place)
        for node in tree.body:
            named = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if named and not node.name.startswith("_") and not ast.get_docstring(node):
                found.append(f"{place}: {node.name}")
    return found


def undemonstrated(package: ModuleType | SimpleNamespace) -> list[str]:
    """Return every exported name that has no docstring, or is a class or function without an ``Example:`` section."""
    found = []
    for name in package.__all__:
        if name == "__version__":
            continue
        thing = getattr(package, name)
        doc = inspect.getdoc(thing) or ""
        lines = [line.strip() for line in doc.splitlines()]
        if not doc or (not isinstance(thing, ModuleType) and "Example:" not in lines):
            found.append(name)
    return found


def test_the_exported_names_are_the_checked_in_ones() -> None:
    wanted = PUBLIC_NAMES.read_text(encoding="utf-8").split()
    # After a decision to add or drop a name, write sorted(aureole.__all__) to public_names.txt, a name a line.
    assert sorted(aureole.__all__) == wanted
    assert len(set(wanted)) == len(wanted)


def test_every_exported_name_exists_and_has_an_example() -> None:
    assert undemonstrated(aureole) == []


def test_every_public_thing_has_a_docstring() -> None:
    assert undocumented(SOURCE) == []


PLANTED = [
    ("", ["a.py"]),
    ('"""A."""\ndef f():\n    return 1', ["a.py: f"]),
    ('"""A."""\nclass C:\n    x = 1', ["a.py: C"]),
    ('"""A."""\nclass C:\n    """C."""\ndef _f():\n    return 1', []),
]


@pytest.mark.parametrize(("code", "found"), PLANTED)
def test_a_missing_docstring_is_found(tmp_path: Path, code: str, found: list[str]) -> None:
    (tmp_path / "a.py").write_text(code, encoding="utf-8")
    assert undocumented(tmp_path) == found


def test_a_missing_example_is_found() -> None:
    def shown() -> None:
        """Show.

        Example:
            >>> 1
            1
        """

    def told() -> None:
        """Tell, with no example: that word in a sentence does not count."""

    def mute() -> None:
        pass

    package = SimpleNamespace(__all__=["shown", "told", "mute"], shown=shown, told=told, mute=mute)
    assert undemonstrated(package) == ["told", "mute"]
