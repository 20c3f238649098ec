"""``aureole export``: the program does what the network does, for batches of any size, and mistakes are one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from aureole.cli import programs
from aureole.cli.programs import check_format, write_program
from aureole.core.config import to_values
from aureole.core.errors import InputError
from aureole.distill import KD
from aureole.training.config import Training
from aureole.training.distillation import Distilling
from aureole.training.fit import load_model

HAS_ONNX = all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


def logits(path: Path, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.export.load(path).module()(x)


def test_program_does_what_the_network_does(say: Callable[..., str], run: Path) -> None:
    (found,) = json.loads(say("export", run, "--json"))
    network, _ = load_model(run)
    assert found["file"] == str(run / "model.pt2")
    assert found["image_shape"] == [1, 8, 8]
    assert found["difference"] < 1e-4
    assert min(found["milliseconds"], found["network_milliseconds"]) > 0
    assert found["network_megabytes"] == pytest.approx(sum(p.numel() for p in network.parameters()) * 4 / 1e6)
    assert found["megabytes"] == pytest.approx((run / "model.pt2").stat().st_size / 1e6)
    for size in (1, 3, 8):
        x = torch.rand(size, 1, 8, 8)
        torch.testing.assert_close(logits(run / "model.pt2", x), network(x).detach())
    assert sorted(path.name for path in run.glob("*model*")) == ["model.pt2"]


def test_student_of_a_distillation_is_what_is_exported(say: Callable[..., str], run: Path) -> None:
    _, config = load_model(run)
    student = Training(method=KD(), data=config.data, model=config.model)
    (run / "config.json").write_text(json.dumps(to_values(Distilling(student=student))))
    printed = say("export", run, "--output", run / "new" / "student.bin")
    assert "network" in printed
    assert "program" in printed
    assert "logits of random images differ by at most" in printed
    network, _ = load_model(run)
    x = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(logits(run / "new" / "student.bin", x), network(x).detach())


def test_several_runs_at_once(say: Callable[..., str], fail: Callable[..., str], run: Path) -> None:
    other = shutil.copytree(run, run.with_name("other"))
    assert [row["run"] for row in json.loads(say("export", run, other, "--json"))] == [str(run), str(other)]
    assert "--output names one file, and there are 2 runs" in fail("export", run, other, "--output", "x.pt2")


def test_mistakes_are_one_line(fail: Callable[..., str], run: Path, tmp_path: Path) -> None:
    assert "needs run first" in fail("export")
    assert "needs run first" in fail("export", "--format", "pt2")
    assert "no run at nowhere" in fail("export", "nowhere")
    assert "unknown format 'onx': did you mean 'onnx'" in fail("export", run, "--format", "onx")
    assert "did you mean --format" in fail("export", run, "--formt", "pt2")
    assert "it is a folder" in fail("export", run, "--output", tmp_path)
    assert "cannot write" in fail("export", run, "--output", run / "config.json" / "model.pt2")
    (run / "weights.safetensors").unlink()
    assert "is not finished" in fail("export", run)
    assert not (run / "model.pt2").exists()


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, fail: Callable[..., str], run: Path) -> None:
    monkeypatch.setattr(programs, "find_spec", lambda name: None if name == "onnxscript" else object())
    text = fail("export", run, "--format", "onnx")
    assert text.endswith("needs onnxscript: pip install aureole[onnx]; or give --format pt2")
    check_format("pt2")


class Changing(nn.Module):
    """What it does depends on where it runs: a program keeps one of the two."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) * (2.0 if torch.compiler.is_exporting() else 1.0)


class Branching(nn.Module):
    """It looks at the values, so that no program can be made of it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


def test_program_that_is_not_the_network_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    path.write_text("before")
    with pytest.raises(InputError, match="its logits differ by"):
        write_program(Changing(), (1, 2, 2), path, kind="pt2")
    with pytest.raises(InputError, match="cannot be exported as pt2"):
        write_program(Branching(), (1, 2, 2), path, kind="pt2")
    assert [found.name for found in tmp_path.iterdir()] == ["model.pt2"]
    assert path.read_text() == "before"


@pytest.mark.skipif(not HAS_ONNX, reason="onnx, onnxscript and onnxruntime are not all installed")
def test_onnx_does_what_the_network_does(say: Callable[..., str], run: Path) -> None:
    (found,) = json.loads(say("export", run, "--format", "onnx", "--json"))
    assert found["file"] == str(run / "model.onnx")
    assert found["difference"] < 1e-4
    assert found["megabytes"] >= found["network_megabytes"]
