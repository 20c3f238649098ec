"""``aureole study``: from the pairs of a run to a page, and from answers to the table."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aureole.cli.studying import study
from aureole.core.errors import InputError


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """A run's folder, and a file, of four pairs each."""
    rng = np.random.default_rng(0)
    for name, path in (("BIM", tmp_path / "refine-bim" / "pairs.npz"), ("[PGD]", tmp_path / "pgd.npz")):
        path.parent.mkdir(exist_ok=True)
        x = rng.random((4, 3, 8, 8), np.float32)
        np.savez(path, x=x, x_source=1 - x, x_refined=np.round(x), attack=np.array(name))
    return [tmp_path / "refine-bim", tmp_path / "pgd.npz"]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: object) -> str:
        capsys.readouterr()
        study([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return run


def _answers(folder: Path, session: str, sources: str, count: int | None = None) -> Path:
    """Write what a person saves who prefers the source's pictures of some attacks."""
    key = json.loads((folder / "study.json").read_text())
    answers = [
        {
            "pair": pair["pair"], "attack": pair["attack"], "left": pair["refined"], "right": pair["source"],
            "choice": "right" if pair["attack"] in sources else "left", "milliseconds": 1000,
        }
        for pair in key["pairs"][:count]
    ]  # fmt: skip
    path = folder.parent / "answers" / f"{session}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"format": 1, "study": key["study"], "session": session, "answers": answers}))
    return path


def test_from_pairs_to_the_table(runs: list[Path], call: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "study"
    out = call("make", *runs, "--output", folder, "--title", "Two attacks", "--num-images", 3)
    assert out.splitlines()[:2] == ["BIM: 3 pairs", "[PGD]: 3 pairs"]
    assert "Two attacks" in (folder / "study.html").read_text(encoding="utf-8")
    _answers(folder, "1", "BIM [PGD]"), _answers(folder, "2", "BIM"), _answers(folder, "3", "BIM")
    lines = call("read", folder, tmp_path / "answers").splitlines()
    assert lines[0].startswith("Two attacks (study ")
    assert lines[0].endswith("): 3 persons")
    assert lines[1].split() == ["attack", "chosen", "95", "%", "interval", "persons", "images", "choices"]
    table = [" ".join(line.split()) for line in lines[2:6]]
    assert table == [
        "BIM 100.00 % ± 0.00 70.1 to 100.0 % 3 3 9",
        "Refined BIM 0.00 % ± 0.00 0.0 to 29.9 % 3 3 9",
        "[PGD] 33.33 % ± 57.74 12.1 to 64.6 % 3 3 9",
        "Refined [PGD] 66.67 % ± 57.74 35.4 to 87.9 % 3 3 9",
    ]
    assert len({line.index("±") for line in lines[2:6]}) == 1  # they line up
    assert "standard deviation over the persons" in lines[-2]


def test_machines_read_json(runs: list[Path], call: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "study"
    made = json.loads(call("make", runs[0], "--output", folder, "--seed", 3, "--show-clean", "--json"))
    assert made["pairs"] == {"BIM": 4}
    assert Path(made["page"]) == folder / "study.html"
    assert Path(made["key"]) == folder / "study.json"
    assert "The undisturbed picture" in (folder / "study.html").read_text(encoding="utf-8")
    read = json.loads(call("read", folder / "study.json", _answers(folder, "1", "BIM"), "--json"))
    assert (read["study"], read["title"], read["persons"]) == (made["study"], "A study of pictures", 1)
    assert [(row["attack"], row["kind"], row["share"], row["spread"]) for row in read["rows"]] == [
        ("BIM", "source", 1.0, None), ("BIM", "refined", 0.0, None),
    ]  # fmt: skip


def test_fewer_pairs_than_asked_for_are_said(runs: list[Path], call: Callable[..., str], tmp_path: Path) -> None:
    assert "BIM: 4 pairs (of 15 asked for)" in call("make", runs[0], "--output", tmp_path / "study")


def test_options_stand_before_or_after_the_paths(runs: list[Path], call: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "study"
    call("make", "--output", folder, *runs)
    whole, part = _answers(folder, "1", "BIM"), _answers(folder, "2", "BIM", count=2)
    with pytest.raises(InputError, match=r"2\.json lacks 6 of 8 answers"):
        call("read", folder, whole, part)
    assert "2 persons" in call("read", "--allow-incomplete", folder, whole, part)
    assert "2 persons" in call("read", folder, whole, part, "--allow-incomplete")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mak"], "unknown command of 'aureole study' 'mak': did you mean 'make'"),
        (["make"], "needs pairs first"),
        (["read"], "needs study and answers first"),
        (["read", "study"], "needs study and answers first"),
        (["make", "nowhere.npz"], "no pairs at nowhere.npz"),
        (["make", "nowhere.npz", "--titel", "x"], "did you mean --title?"),
        (["make", "nowhere.npz", "--num-images", "few"], "--num-images: "),
        (["read", "nowhere", "answers.json"], "cannot read nowhere as the key of a study"),
    ],
)
def test_a_mistake_is_one_line(call: Callable[..., Any], arguments: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_pairs_are_refused(runs: list[Path], call: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has attack 'BIM', as a file before it: make a study for each data set"):
        call("make", runs[0], runs[0] / "pairs.npz", "--output", tmp_path / "study")
    with pytest.raises(InputError, match="num_images must be at least 1; got 0"):
        call("make", runs[0], "--num-images", 0)
    call("make", runs[0], "--output", tmp_path / "study")
    with pytest.raises(InputError, match="choose another folder"):
        call("make", runs[1], "--output", tmp_path / "study")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["make", "--help"], ["read", "--help"]])
def test_help_is_printed(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with contextlib.suppress(SystemExit):
        study(arguments)
    out = capsys.readouterr().out
    assert "aureole study" in out
    assert not arguments[1:] or "--json" in out
