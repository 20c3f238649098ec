"""The size budget is enforced by `.ci/size_limits.py`; here, that it can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "size_limits.py"
ANNOTATED = "def f(x: int) -> int:\n"


def run(root: Path, file: str, code: str) -> tuple[int, list[str]]:
    """Write one file beside a harmless one and return the exit status and the lines printed."""
    (root / "src").mkdir(exist_ok=True)
    (root / "src" / "harmless.py").write_text("X = 1\n", encoding="utf-8")
    (root / file).parent.mkdir(exist_ok=True)
    (root / file).write_text(code, encoding="utf-8")
    result = subprocess.run([sys.executable, SCRIPT, root], check=False, capture_output=True, text=True)
    assert result.stderr == ""
    return result.returncode, result.stdout.splitlines()


def body(lines: int) -> str:
    return "    x = 1\n" * lines


BAD = [
    ("src/a.py", "x = 1\n" * 401, "file has 401 lines; at most 400"),
    ("tests/a.py", ANNOTATED + body(60), "f has 61 lines; at most 60"),
    ("benchmarks/a.py", "class C:\n  " + ANNOTATED + body(60), "f has 61 lines"),
    ("examples/a.py", ANNOTATED + "    def g():\n" + "        x = 1\n" * 59, "f has 61 lines"),
    (".ci/a.py", ANNOTATED + body(60), "f has 61 lines"),
    ("src/a.py", "def f(x) -> int: ...\n", "f lacks annotations: x"),
    ("src/a.py", "def f(x: int, *y, z=1, **w): ...\n", "f lacks annotations: y, z, w, return"),
    ("src/a.py", "class C:\n    def __init__(self, x) -> None: ...\n", "C.__init__ lacks annotations: x"),
    ("src/a.py", "class C:\n    @staticmethod\n    def f(x) -> None: ...\n", "C.f lacks annotations: x"),
    ("src/a.py", "if True:\n    def f(x) -> None: ...\n", "f lacks annotations: x"),
]


@pytest.mark.parametrize(("file", "code", "what"), BAD)
def test_a_planted_offence_is_one_line_and_fails(tmp_path: Path, file: str, code: str, what: str) -> None:
    status, lines = run(tmp_path, file, code)
    assert status == 1
    assert len(lines) == 1
    assert lines[0].startswith(f"{file}:")
    assert what in lines[0]


GOOD = [
    ("src/a.py", "x = 1\n" * 400),
    ("src/a.py", "@g\n@h\n" + ANNOTATED + '    """One.\n\n    Two.\n    """\n' + body(59)),
    ("src/a.py", "def _private(x): ...\n\n\nclass _P:\n    def f(self, x): ...\n"),
    ("src/a.py", "class C:\n    @classmethod\n    def f(cls, x: int) -> None: ...\n"),
    ("tests/a.py", "def f(x): ...\n"),
]


@pytest.mark.parametrize(("file", "code"), GOOD)
def test_what_is_within_the_budget_passes(tmp_path: Path, file: str, code: str) -> None:
    assert run(tmp_path, file, code) == (0, [])


def test_an_empty_tree_is_not_a_pass(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, SCRIPT, tmp_path], check=False, capture_output=True, text=True)
    assert result.returncode == 1
