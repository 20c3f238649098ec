"""What the tests of the command line share: a folder of their own, one finished run, and how to say or fail."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from aureole.cli import main

#: A run that takes a moment.
FAST = (
    "--epochs", "1", "--batch-size", "16", "--method.search.num-steps", "1", "--evaluation.attacks", "fgsm",
    "--evaluation.num-examples", "10", "--data.num-train", "32", "--data.num-validation", "10", "--accelerator", "cpu",
)  # fmt: skip


@pytest.fixture
def fast() -> tuple[str, ...]:
    return FAST


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that succeeds without a word on standard error, and return what it printed."""

    def call(*arguments: object) -> str:
        capsys.readouterr()
        status = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert (status, err) == (0, ""), err
        return out

    return call


@pytest.fixture
def fail(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that fails with one line and status 2, and return the line."""

    def call(*arguments: object) -> str:
        capsys.readouterr()
        status = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert status == 2
        assert out == ""
        assert err.startswith("aureole: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        assert "Traceback" not in err
        assert not re.search("[╭╮╰╯│─]|----", err)
        return err.strip()

    return call


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "pgd"
    assert main(["run", "robust-pgd", *FAST, "--quiet", "--output", str(folder)]) == 0
    return folder


@pytest.fixture
def run(_finished: Path, tmp_path: Path) -> Path:
    """Return a finished run, a copy for this test alone."""
    return shutil.copytree(_finished, tmp_path / "run")
