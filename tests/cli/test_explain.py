"""``aureole explain``: the PNGs and the page say what the networks see, and a bad picture stops nobody else."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aureole.cli import main
from aureole.core.errors import UntrustedResult
from aureole.data import PaintedLesions
from aureole.data.fundus import Fundus
from aureole.recipes.explain import Ground
from aureole.training.config import Training
from aureole.training.fit import load_model
from aureole.training.sweep import run_experiment

DATA = PaintedLesions(num_drawn=4, num_validation=2, prepare=Fundus(size=48))


def _short(run: Training) -> Training:
    engine = replace(run.engine, accelerator="cpu", progress=False)
    return replace(run, data=DATA, epochs=1, batch_size=6, engine=engine)


@pytest.fixture(scope="module")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of one epoch, beside its teacher."""
    run = Ground(setting="painted", scale="small", epochs=1).explained("medtex")
    run = replace(run, student=_short(run.student), teacher=_short(run.teacher), attributions={}, num_curves=0)
    folder = tmp_path_factory.mktemp("explain") / "medtex"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrustedResult)  # a teacher of one epoch may know one class
        run_experiment(run, folder)
    return folder


@pytest.fixture
def run(_trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(_trained, tmp_path / "medtex")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Three drawn photographs, two of one name in folders of their own."""
    folder = tmp_path / "photographs"
    for name in ("one.png", "left/two.png", "right/two.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(60, 200, (3, 48, 48), generator=torch.Generator().manual_seed(len(name)))
        Image.fromarray(pixels.to(torch.uint8).permute(1, 2, 0).numpy()).save(folder / name)
    return folder


def grey(path: str) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image)


def test_pictures_and_page_show_what_the_networks_see(say: Callable[..., str], run: Path, photographs: Path) -> None:
    found = json.loads(say("explain", photographs, "--run", run, "--patches", 8, "--output", "out", "--json"))
    assert found["by"] == "own"
    assert found["failed"] == []
    assert [Path(row["image"]).name for row in found["pictures"]] == ["one.png", "two.png", "two.jpg"]
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(
        ["index.html", *(f"{n}-{k}.png" for n in ("one", "two", "two-2") for k in ("map", "heat", "overlay", "top"))]
    )
    row = found["pictures"][0]
    assert (row["num_pixels"], row["pixel_share"]) == (288, 0.125)
    for path in row["files"].values():
        with Image.open(path) as image:
            assert image.size == (48, 48)
    with Image.open(photographs / "one.png") as image:
        picture = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    x = DATA.prepare(picture, "one")[None] / 255
    network, _ = load_model(run)
    scores = network.map(x)[0].detach()
    expected = (scores - scores.min()) / (scores.max() - scores.min())
    assert np.abs(grey(row["files"]["map"]) - 255 * expected.numpy()).max() <= 1
    assert set(row["predictions"]) == {"student", "teacher"}
    probabilities = network(x)[0].softmax(-1).tolist()
    assert row["predictions"]["student"]["probabilities"] == pytest.approx(
        dict(zip(("clean", "painted"), probabilities, strict=True)), abs=1e-5
    )
    page = Path("out/index.html").read_text()
    assert page.count("data:image/png;base64,") == 15
    assert "http" not in page
    assert page.count(">teacher</th>") == 3
    assert "Within the contour: 288 of 48x48 pixels (12.5 %)." in page


def test_a_bad_picture_stops_nobody_else(run: Path, photographs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photographs / "corrupt.png").write_bytes(b"\x89PNG nothing")
    Image.new("CMYK", (48, 48)).save(photographs / "print.jpg")
    Image.new("I;16", (48, 48)).save(photographs / "deep.png")
    assert main(["explain", str(photographs), "--run", str(run), "--output", "out"]) == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert len(lines) == 4
    assert "corrupt.png cannot be decoded" in lines[0]
    assert "8 bits a channel" in lines[1]
    assert "got CMYK" in lines[2]
    assert lines[3].startswith("aureole: 3 of 6 pictures could not be explained: ")
    assert all(name in lines[3] for name in ("corrupt.png", "deep.png", "print.jpg"))
    assert "page: out/index.html" in out
    assert Path("out/one-map.png").exists()
    page = Path("out/index.html").read_text()
    assert page.count("<figure>") == 15
    assert "corrupt.png cannot be decoded" in page


def test_other_attributions_and_sizes(say: Callable[..., str], run: Path, photographs: Path) -> None:
    text = say("explain", photographs / "one.png", "--run", run, "--by", "occlusion")
    assert "pictures were cropped and resized as the run's own pictures" in text
    assert "page: runs/explain-medtex/index.html" in text
    first = grey("runs/explain-medtex/one-map.png")
    say("explain", photographs / "one.png", "--run", run)  # its own folder is written again
    assert not np.array_equal(first, grey("runs/explain-medtex/one-map.png"))


def test_without_a_teacher_the_student_is_explained(
    run: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run / "teacher")
    assert main(["explain", str(photographs / "one.png"), "--run", str(run), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("aureole: the teacher is left out: no run at")
    assert err.count("\n") == 1
    assert list(json.loads(out)["pictures"][0]["predictions"]) == ["student"]


def test_a_plain_classifier_needs_a_choice(
    say: Callable[..., str], fail: Callable[..., str], run: Path, photographs: Path
) -> None:
    text = fail("explain", photographs, "--run", run / "teacher")
    assert "does not explain itself: choose what maps its pixels, --by gradcam, integrated-gradients" in text
    assert "does not explain itself" in fail("explain", photographs, "--run", run / "teacher", "--by", "own")
    found = json.loads(say("explain", photographs / "one.png", "--run", run / "teacher", "--by", "gradcam", "--json"))
    assert list(found["pictures"][0]["predictions"]) == ["network"]


def test_pictures_of_another_size_are_resized_where_nothing_prepares_them(
    say: Callable[..., str], run: Path, photographs: Path
) -> None:
    from aureole.cli.explainers import Explainer

    explainer = replace(Explainer.of(run, "own"), prepare=None)
    picture = explainer.explain(photographs / "one.png", 64)
    assert (picture.prepared, picture.pixel_share) == ("", 1.0)
    Image.new("L", (30, 20), 100).save(photographs / "small.png")
    picture = explainer.explain(photographs / "small.png", 1)
    assert picture.prepared == "resized to 48x48 pixels"
    assert picture.pixels.shape == (48, 48, 3)
    assert picture.count == 36


def test_mistakes_are_one_line(fail: Callable[..., str], run: Path, photographs: Path, tmp_path: Path) -> None:
    assert "needs image first" in fail("explain", "--run", run)
    assert "needs the run that explains" in fail("explain", photographs)
    assert "unknown attribution 'gradcan': did you mean 'gradcam'?" in fail(
        "explain", photographs, "--run", run, "--by", "gradcan"
    )
    assert "--patches must be 1 to 64, as a picture has 64 of them; got 65" in fail(
        "explain", photographs, "--run", run, "--patches", 65
    )
    assert "no run at nowhere" in fail("explain", photographs, "--run", "nowhere")
    assert "no picture and no folder at nothing.png" in fail("explain", "nothing.png", "--run", run)
    (tmp_path / "empty").mkdir()
    assert "no pictures in" in fail("explain", tmp_path / "empty", "--run", run)
    assert "holds other files" in fail("explain", photographs, "--run", run, "--output", photographs)
    assert "it is a file" in fail("explain", photographs, "--run", run, "--output", run / "config.json")
    assert not (photographs / "index.html").exists()
