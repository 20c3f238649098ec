"""Check the size budget and the annotations: one line an offence, exit status 1 if there is any.

A file has at most 400 lines. A function has at most 60, its decorators and docstring not counted; a nested function
counts as part of the outer one and alone. In src, every public function and method is fully annotated. There is no
list of exceptions.

    python .ci/size_limits.py [ROOT]
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FILE = 400
MAX_FUNCTION = 60
FOLDERS = ("src", "tests", "benchmarks", "examples", ".ci")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def function_lines(node: Function) -> int:
    """Return the number of lines from ``def`` to the end, without the docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node, clean=False) is not None:
        doc = node.body[0]
        lines -= (doc.end_lineno or doc.lineno) - doc.lineno + 1
    return lines


def unannotated(node: Function, *, bound: bool) -> list[str]:
    """Return what lacks an annotation: names of arguments, and "return". ``bound``: the first argument is self."""
    positional = [*node.args.posonlyargs, *node.args.args][1 if bound else 0 :]
    rest = [node.args.vararg, *node.args.kwonlyargs, node.args.kwarg]
    missing = [arg.arg for arg in [*positional, *rest] if arg is not None and arg.annotation is None]
    return missing if node.returns else [*missing, "return"]


def is_public(name: str) -> bool:
    """Return whether the name is for users: no leading underscore, or a magic method."""
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def public_functions(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, Function, bool]]:
    """Yield the dotted name, node and boundness of the public functions and methods in ``body``."""
    for node in body:
        if isinstance(node, ast.ClassDef) and is_public(node.name):
            yield from public_functions(node.body, f"{owner}{node.name}.")
        elif isinstance(node, Function) and is_public(node.name):
            static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
            yield owner + node.name, node, bool(owner) and not static
        elif isinstance(node, ast.If | ast.Try | ast.With):
            blocks = [node.body, getattr(node, "orelse", []), getattr(node, "finalbody", [])]
            blocks += [handler.body for handler in getattr(node, "handlers", [])]
            for block in blocks:
                yield from public_functions(block, owner)


def offences(path: Path, *, annotations: bool) -> Iterator[tuple[int, str]]:
    """Yield the line and the description of everything wrong with one file."""
    text = path.read_text(encoding="utf-8")
    count = len(text.splitlines())
    if count > MAX_FILE:
        yield 1, f"file has {count} lines; at most {MAX_FILE}"
    tree = ast.parse(text, filename=str(path))
    for node in ast.walk(tree):
        if isinstance(node, Function) and (lines := function_lines(node)) > MAX_FUNCTION:
            yield node.lineno, f"{node.name} has {lines} lines; at most {MAX_FUNCTION}"
    for name, node, bound in public_functions(tree.body) if annotations else ():
        if missing := unannotated(node, bound=bound):
            yield node.lineno, f"{name} lacks annotations: {', '.join(missing)}"


def main(root: Path) -> int:
    """Print every offence under ``root``; return 1 if there is any."""
    paths = [(folder, path) for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"))]
    if not any(folder == "src" for folder, _ in paths):
        print(f"{root}: no Python file under src; run this from the repository root")
        return 1
    found = 0
    for folder, path in paths:
        for line, what in offences(path, annotations=folder == "src"):
            print(f"{path.relative_to(root)}:{line}: {what}")
            found += 1
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
