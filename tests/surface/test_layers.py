"""Imports only ever point downward, and loading a module loads nothing heavy or unwanted."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "aureole"

METHODS = ("distill", "explain", "refine", "robust", "segment", "semisup")
_ONLY_CORE = {"core"}
_FOR_METHODS = {"core", "particles", "attacks", "models", "metrics"}
_FOR_TRAINING = _FOR_METHODS | {"data", *METHODS}
# Layer -> the layers it may import. Siblings (METHODS) are missing from each other's rows on purpose.
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    **dict.fromkeys(("particles", "models", "data", "metrics", "report"), _ONLY_CORE),
    "attacks": {"core", "particles"},
    **dict.fromkeys(METHODS, _FOR_METHODS),
    "training": _FOR_TRAINING,
    "recipes": _FOR_TRAINING | {"training", "report"},
    "cli": _FOR_TRAINING | {"training", "report", "recipes", "options", "the package itself"},
    "options": _ONLY_CORE,
    "__main__": {"cli"},
    "__init__": _FOR_TRAINING | {"training", "report", "recipes"},
}
HEAVY = {
    "PIL", "captum", "datasets", "h5py", "lightning", "matplotlib", "monai", "nibabel", "pytorch_lightning", "scipy",
    "sklearn", "tensorboard", "torchmetrics",
}  # fmt: skip
#: Loaded when one of their names is asked for.
_FIGURES = ("torchmetric", "boundary_metric", "explanation_metric", "segmentation_metric")
ON_DEMAND = {Path("metrics", f"{name}.py") for name in _FIGURES}
NEVER = {"timm", "torchattacks", "torchdistill", "torchvision"}


@dataclass(frozen=True)
class Import:
    """One imported dotted name; ``eager``: it runs when the module is loaded."""

    name: str
    line: int
    eager: bool


def imports(tree: ast.Module, package: list[str]) -> Iterator[Import]:
    """Yield every import in a module of ``package``, also those inside functions and those given as a string."""

    def visit(node: ast.AST, eager: bool) -> Iterator[Import]:
        for name in _imported(node, package):
            yield Import(name, getattr(node, "lineno", 0), eager)
        inside_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        lazy = list(node.body) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) else []
        for child in ast.iter_child_nodes(node):
            yield from visit(child, eager and not inside_function and child not in lazy)

    yield from visit(tree, eager=True)


def _imported(node: ast.AST, package: list[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else []
        stem = ".".join([*base, *(node.module or "").split(".")]).strip(".")
        return [f"{stem}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
        return [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return []


def target_layer(name: str) -> str:
    """Return the layer that ``aureole.<...>`` names; the bare package counts as a layer of its own."""
    layer = name.split(".")[1] if "." in name else ""
    return layer if layer in MAY_IMPORT and not layer.startswith("_") else "the package itself"


def violations(source: Path) -> list[str]:
    """Return every import under the package folder ``source`` that breaks a rule, as "file:line: why"."""
    found = []
    for path in sorted(source.rglob("*.py")):
        place = path.relative_to(source)
        layer = place.parts[0].removesuffix(".py")
        if layer not in MAY_IMPORT:
            found.append(f"{place}:1: {layer} is no layer; give it a row in MAY_IMPORT")
            continue
        package = ["aureole", *place.parent.parts]
        for item in imports(ast.parse(path.read_text(encoding="utf-8")), package):
            if why := _breach(item, layer, heavy=layer == "training" or place in ON_DEMAND):
                found.append(f"{place}:{item.line}: {why}")
    return found


def _breach(item: Import, layer: str, *, heavy: bool) -> str | None:
    root = item.name.partition(".")[0]
    if root == "aureole":
        target = target_layer(item.name)
        return None if target == layer or target in MAY_IMPORT[layer] else f"{layer} imports {target}"
    if root in NEVER:
        return f"{root} is imported; accept its objects instead"
    if root in HEAVY and item.eager and not heavy:
        return f"{root} is imported at module level; import it in the function that uses it"
    return None


def test_the_package_keeps_its_layers() -> None:
    assert violations(SOURCE) == []


def test_the_whole_package_was_looked_at() -> None:
    assert {"core", "particles", "attacks", "robust"} <= {p.parent.name for p in SOURCE.rglob("*.py")}


PLANTED = [
    ("core/a.py", "from aureole.particles import x", "core imports particles"),
    ("core/a.py", "def f():\n    import aureole.attacks.gradient", "core imports attacks"),
    ("core/a.py", "from ..robust import y", "core imports robust"),
    ("core/a.py", "from .. import robust", "core imports robust"),
    ("core/a.py", "from aureole import ALD", "core imports the package itself"),
    ("core/a.py", "import aureole", "core imports the package itself"),
    ("robust/a.py", "from aureole.semisup import vat", "robust imports semisup"),
    ("robust/a.py", "from aureole.training.loop import fit", "robust imports training"),
    ("particles/a.py", "from aureole.attacks import PGD", "particles imports attacks"),
    ("metrics/a.py", "from aureole.attacks import PGD", "metrics imports attacks"),
    ("report/a.py", "from aureole.training import loop", "report imports training"),
    ("training/a.py", "from aureole.recipes import demo", "training imports recipes"),
    ("recipes/a.py", "from aureole.cli import main", "recipes imports cli"),
    ("core/a.py", "import importlib\nimportlib.import_module('aureole.robust')", "core imports robust"),
    ("data/a.py", "import datasets", "datasets is imported at module level"),
    ("data/a.py", "try:\n    from PIL import Image\nexcept ImportError:\n    pass", "PIL is imported at module level"),
    ("metrics/a.py", "class A:\n    import sklearn.metrics", "sklearn is imported at module level"),
    ("cli.py", "from lightning import Trainer", "lightning is imported at module level"),
    ("training/a.py", "def f():\n    import torchvision.models", "torchvision is imported"),
    ("attacks/a.py", "def f():\n    from torchattacks import PGD", "torchattacks is imported"),
    ("utils/a.py", "", "utils is no layer"),
]


@pytest.mark.parametrize(("file", "code", "why"), PLANTED)
def test_a_planted_violation_is_found(tmp_path: Path, file: str, code: str, why: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(code, encoding="utf-8")
    found = violations(tmp_path)
    assert len(found) == 1
    assert why in found[0]


ALLOWED = [
    ("robust/a.py", "from aureole.attacks import PGD\nfrom aureole.core.method import Method\nfrom .b import c"),
    ("training/a.py", "import lightning\nfrom aureole.robust.pgd import A\nfrom aureole.data import B"),
    ("data/a.py", "def load():\n    import datasets"),
    ("data/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import datasets"),
    ("cli.py", "import aureole\nfrom aureole import recipes, report"),
    ("core/a.py", "from . import b\nfrom .b import c\nimport torch"),
]


@pytest.mark.parametrize(("file", "code"), ALLOWED)
def test_what_the_layers_allow_is_not_reported(tmp_path: Path, file: str, code: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(code, encoding="utf-8")
    assert violations(tmp_path) == []
