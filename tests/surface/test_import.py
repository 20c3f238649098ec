"""Loading the package is quick, and loads nothing heavy."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
# The budget is 2 s; twice that, in processor time, keeps a busy machine from failing the test.
MAX_SECONDS = 2 * 2.0
HEAVY = {
    "PIL", "captum", "datasets", "lightning", "matplotlib", "monai", "pandas", "pytorch_lightning", "sklearn",
    "tensorboard", "timm", "torchattacks", "torchdistill", "torchmetrics", "torchvision",
}  # fmt: skip
PROBE = """
import json, sys, time
start = time.process_time()
import {name}
seconds = time.process_time() - start
print(json.dumps([{name}.__file__, seconds, sorted({{module.partition(".")[0] for module in sys.modules}})]))
"""


def probe(name: str, folder: Path) -> tuple[str, float, set[str]]:
    """Import ``name`` from ``folder`` in a fresh interpreter; return its file, seconds and the packages loaded."""
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROBE.format(name=name)]
    result = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    file, seconds, packages = json.loads(result.stdout)
    return file, seconds, set(packages)


@pytest.fixture(scope="module")
def probes() -> list[tuple[str, float, set[str]]]:
    return [probe("aureole", SOURCE) for _ in range(3)]


def test_the_package_under_test_is_this_one(probes: list[tuple[str, float, set[str]]]) -> None:
    assert Path(probes[0][0]) == SOURCE / "aureole" / "__init__.py"


def test_import_is_quick(probes: list[tuple[str, float, set[str]]]) -> None:
    assert statistics.median(seconds for _, seconds, _ in probes) < MAX_SECONDS


def test_import_loads_nothing_heavy(probes: list[tuple[str, float, set[str]]]) -> None:
    assert probes[0][2] & HEAVY == set()


def test_a_slow_and_heavy_import_is_seen(tmp_path: Path) -> None:
    (tmp_path / "sklearn.py").write_text("", encoding="utf-8")
    slow = "import time, sklearn\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass\n"
    (tmp_path / "planted.py").write_text(slow, encoding="utf-8")
    _, seconds, packages = probe("planted", tmp_path)
    assert seconds >= 0.2
    assert packages & HEAVY == {"sklearn"}
