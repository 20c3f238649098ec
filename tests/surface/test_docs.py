"""What the documentation says is run: its Python blocks, its commands, its counts of passes, its links."""

from __future__ import annotations

import re
import sys
import textwrap
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import aureole as au
from aureole.cli import (
    EvaluateOptions,
    ExplainOptions,
    ExportOptions,
    ReportOptions,
    RunOptions,
    SegmentOptions,
    StudyMakeOptions,
    StudyReadOptions,
    main,
)
from aureole.options import parse, parse_known

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: What makes a page's blocks quick, each by its text in the page.
REDUCED = {"robust.md": {"range(10)": "range(1)", "x[:1400], y[:1400]": "x[:192], y[:192]"}}
#: Names that a block may take from its reader.
GIVEN = {"README.md": {"F": F, "model": nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), "x": torch.rand(2, 3, 2, 2)}}
GIVEN["README.md"]["y"] = torch.tensor([0, 2])


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language, also those indented in a list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(body) for _, body in found]


def python_pages() -> list[Path]:
    return [page for page in PAGES if blocks(page.read_text(encoding="utf-8"), "python")]


@pytest.mark.parametrize("page", python_pages(), ids=lambda page: page.name)
def test_the_blocks_of_a_page_run_one_after_the_other(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.read_text(encoding="utf-8")
    for long, short in REDUCED.get(page.name, {}).items():
        assert long in text
        text = text.replace(long, short)
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    module.__dict__.update(GIVEN.get(page.name, {}))
    for block in blocks(text, "python"):
        exec(compile(block, page.name, "exec", dont_inherit=True), module.__dict__)


def test_the_tutorial_the_mathematics_and_the_example_have_blocks() -> None:
    assert {"README.md", "robust.md", "particles.md", "add-a-method.md"} <= {page.name for page in python_pages()}


def commands() -> list[str]:
    """Return every command line in a block that is not Python."""
    texts = [block for page in PAGES for block in blocks(page.read_text(encoding="utf-8"), "")]
    lines = [line.removeprefix("$ ").partition(" #")[0].strip() for text in texts for line in text.splitlines()]
    return sorted({line for line in lines if line.startswith("aureole ")})


def check_command(arguments: list[str]) -> None:
    """Parse a command as the command line does, without running it."""
    command, *rest = arguments
    if command in ("run", "show"):
        name, fields = rest[0], rest[1:]
        if command == "run":
            _, fields = parse_known(RunOptions, fields, prog="aureole run")
        assert main(["show", name, *fields]) == 0
    elif command in ("evaluate", "export", "report", "rerun"):
        kind = {"evaluate": EvaluateOptions, "export": ExportOptions, "report": ReportOptions, "rerun": RunOptions}[
            command
        ]
        options = rest if rest[0].startswith("--") else rest[1:]  # evaluate takes a model in place of a run
        parse(kind, options, prog="aureole", default=kind())
    elif command == "study":
        kind = {"make": StudyMakeOptions, "read": StudyReadOptions}[rest[0]]
        parse(kind, rest[1:], prog="aureole study", default=kind())
    elif command in ("explain", "segment"):
        assert not rest[0].startswith("--")
        first = next(place for place, text in enumerate(rest) if text.startswith("--"))
        kind = {"explain": ExplainOptions, "segment": SegmentOptions}[command]
        parse(kind, rest[first:], prog=f"aureole {command}", default=kind())
    else:
        assert command in ("list", "--version")


@pytest.mark.parametrize("line", commands())
def test_every_command_of_the_pages_can_be_read(line: str) -> None:
    check_command(line.split()[1:])


def test_every_command_is_on_its_page() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    for command in ("list", "show", "run", "rerun", "evaluate", "report"):
        assert f"$ aureole {command}" in page


class Counted(nn.Module):
    """A model that counts the images of each kind of pass."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        self.seen: Counter[str] = Counter()

    def forward(self, x: Tensor) -> Tensor:
        trains = any(parameter.requires_grad for parameter in self.parameters())
        kind = "look" if not torch.is_grad_enabled() else "training" if trains else "search"
        self.seen[kind] += len(x)
        return self.body(x)


def costs() -> dict[str, list[str]]:
    text = (ROOT / "docs" / "choose-a-method.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| `([^`]+)` \| `([^`]+)` \|$", text, re.MULTILINE)
    return {name: formulas for name, *formulas in rows}


def test_passes_of_every_method_are_those_of_the_table() -> None:
    search = au.ParticleSearch(au.Linf(0.1), num_particles=3, num_steps=2, step_size=0.05)
    methods = [
        au.Natural(), au.PGDTraining(search=search), au.Madry(search=search), au.ADTEXP(), au.ADTEXPAM(width=8),
        au.ALDPGD(search=search),
        *(kind(search=au.ParticleSearch(au.Linf(0.1), num_particles=3, num_steps=2, objective=au.KL()))
          for kind in (au.TRADES, au.ALDTRADES)),
    ]  # fmt: skip
    assert {type(method).__name__ for method in methods} == set(costs())
    x, y = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])
    for method in methods:
        model = Counted()
        method.loss(model, au.Batch(x, y), method.own(model, x))
        formulas = costs()[type(method).__name__]
        wanted = [eval(formula, {"n": 3, "K": 2}) for formula in formulas]
        assert [model.seen[kind] / 4 for kind in ("look", "search", "training")] == wanted, type(method).__name__


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_page_is_on_the_map() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if page.name != "index.md" and f"({page.name})" not in index] == []


def test_the_results_page_is_what_the_records_say() -> None:
    from aureole.report.markdown import results_page

    if not any((ROOT / "results").rglob("record.json")):
        pytest.skip("there are no records yet")
    page = ROOT / "docs" / "results.md"
    again = "aureole report results --markdown docs/results.md"
    assert page.exists(), f"make it with: {again}"
    assert page.read_text(encoding="utf-8") == results_page(ROOT / "results"), f"it is out of date; run: {again}"
