"""The recipes of segmentation: settings of the published code, and what the tables hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aureole.core.errors import InputError
from aureole.core.ramps import Sigmoid
from aureole.particles.starts import Probe
from aureole.recipes import thesis_chapter6
from aureole.recipes.segment import METHODS, SUMMARIES, Clinic, segment
from aureole.segment import VAT, MCNet, SSNet
from aureole.training.segmentation import Segmenting
from aureole.training.segmentation.diversity import ScanDiversity


def test_every_method_has_a_line() -> None:
    assert list(METHODS) == list(SUMMARIES)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("setting", ["acdc", "la"])
def test_every_method_in_two_and_three_dimensions(name: str, setting: Any) -> None:
    run = segment(name)(setting=setting)
    assert run.dimensions == {"acdc": 2, "la": 3}[setting]
    assert run.title == run.method.title
    assert (run.unlabelled_batch_size > 0) is (name != "supervised")
    network = run.model.build(num_classes=2, image_shape=(1, *run.patch_size), seed=0)
    assert network.width == {"acdc": 8, "la": 4}[setting]


def test_the_papers_numbers() -> None:
    heart = Clinic(setting="acdc", scale="paper", data="x").run("ss-net")
    assert (heart.epochs * heart.steps_per_epoch, heart.labelled_batch_size) == (30_000, 12)
    assert (heart.patch_size, heart.method.weight, heart.method.ramp) == ((256, 256), 0.1, Sigmoid(200.0))
    assert isinstance(heart.method, SSNet)
    assert (heart.method.search.ball.radius, heart.method.search.start) == (6.0, Probe(10.0))
    assert (heart.method.background, heart.method.form, heart.method.smooth) == (True, "classes", 1e-10)
    assert not heart.proxy_reason
    atrium = Clinic(setting="la", scale="paper", data="x").run("cross-ald")
    assert (atrium.epochs * atrium.steps_per_epoch, atrium.labelled_batch_size) == (15_000, 2)
    assert (atrium.patch_size, atrium.method.weight, atrium.method.ramp) == ((112, 112, 80), 1.0, Sigmoid(40.0))
    assert isinstance(atrium.method, VAT)
    assert atrium.method.search.ball.radius == 10.0
    assert atrium.method.search.objective == Clinic(setting="la", scale="paper").run("ss-net").method.search.objective  # pyright: ignore
    assert (atrium.method.background, atrium.method.form, atrium.method.smooth) == (False, "joint", 1e-8)
    assert atrium.method.cross_entropy == 0
    decoders = Clinic(setting="la", scale="paper").run("mc-net").method
    assert isinstance(decoders, MCNet)
    assert (decoders.labelled_weight, decoders.weight, decoders.form) == (0.5, 1.0, "joint")
    assert Clinic(setting="acdc", scale="paper").run("mc-net").method.labelled_weight == 1.0  # pyright: ignore[reportAttributeAccessIssue]
    distances = Clinic(setting="la", scale="paper").run("dtc").method
    assert (distances.form, distances.smooth) == ("classes", 1e-5)
    assert atrium.optimizer.milestones == (2500, 5000, 7500, 10_000, 12_500)


def test_a_cheaper_run_shrinks_the_ball_with_the_images_and_says_so() -> None:
    run = Clinic(setting="acdc", scale="small", data="x").run("vat")
    assert isinstance(run.method, VAT)
    assert run.method.search.ball.radius == pytest.approx(6 * 96 / 256)
    assert run.proxy_reason == "patches of 96x96 instead of 256x256, half the channels or fewer, 1,000 steps"
    assert run.method.ramp == Sigmoid(float(run.epochs))


def test_a_run_says_how_it_differs_from_the_papers() -> None:
    drawn = segment("supervised")(scale="paper")
    assert (drawn.proxy_reason, drawn.departure) == ("", "drawn scans")
    read = replace(drawn, data=replace(drawn.data, source="ACDC"))
    assert read.departure == ""
    short = segment("supervised")(scale="paper", steps=300)
    assert short.departure == "drawn scans, 300 of 30,000 steps"
    assert (short.epochs, short.steps_per_epoch) == (2, 150)


@pytest.mark.parametrize(("steps", "epochs", "of_each"), [(20, 1, 20), (50, 1, 50), (150, 3, 50), (None, 20, 50)])
def test_as_many_steps_as_asked_for(steps: int | None, epochs: int, of_each: int) -> None:
    run = segment("vat")(steps=steps)
    assert (run.epochs, run.steps_per_epoch) == (epochs, of_each)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"steps": -5}, "steps must be a multiple of 50, or from 1 to 50; got -5"),
        ({"steps": 0}, "got 0"),
        ({"steps": 75}, "got 75"),
        ({"steps": 200, "scale": "paper"}, "a multiple of 150"),
        ({"num_labelled": 0}, "num_labelled must be at least 1; got 0"),
        ({"particles": 0}, "num_particles"),
    ],
)
def test_numbers_out_of_range(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        segment("cross-ald")(**given)


def test_particles() -> None:
    assert segment("cross-ald")(particles=3).method.num_particles == 3
    assert segment("cross-ald")().method.num_particles == 2


def test_the_tables() -> None:
    runs = thesis_chapter6.table_6_1(data="x", scale="paper").runs
    assert len(runs) == 8 * 2 * 3
    ours, table = runs["cross-ald-3-seed0"], thesis_chapter6.COMPARED
    assert isinstance(ours, Segmenting)
    assert ours.paper == pytest.approx({"dice": 0.806, "jaccard": 0.6908, "hd95": 5.96, "asd": 1.9})
    assert all(runs[f"{name}-3-seed1"].title.endswith(", 3 labelled") for name in table["acdc", 3])
    assert len(thesis_chapter6.table_6_2(data="x").runs) == 8 * 2 * 3
    rungs = thesis_chapter6.table_6_3(data="x", scale="paper", setting="la", seeds=(0,)).runs
    assert rungs["svgdf-4-seed0"].paper["dice"] == pytest.approx(0.863)  # pyright: ignore[reportAttributeAccessIssue]
    numbers = thesis_chapter6.table_6_4(data="x", scale="paper", seeds=(0,)).runs
    assert [run.method.num_particles for run in numbers.values()] == [1, 2, 3, 4]  # pyright: ignore
    assert numbers["cross-ald-n4-3-seed0"].paper["hd95"] == 6.16  # pyright: ignore[reportAttributeAccessIssue]
    assert list(thesis_chapter6.figure_6_3().runs) == [
        f"{name}-3-seed0" for name in ("supervised", "vat", "ss-net", "cross-ald")
    ]


def test_the_diversity_study() -> None:
    study = thesis_chapter6.figure_6_2(setting="la").runs["study"]
    assert isinstance(study, ScanDiversity)
    assert list(study.methods) == ["VAT, random starts", "SVGD", "SVGDF", "SVGDF, decoder"]


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(InputError, match="did you mean 'cross-ald'"):
        thesis_chapter6.table_6_3(methods=("cross-adl",))
