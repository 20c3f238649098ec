"""The study of particles of scans: figure 6.2 on a tiny network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aureole.core.records import read_record
from aureole.data.scans import Phantoms
from aureole.recipes.thesis_chapter6 import figure_6_2
from aureole.training.config import Engine
from aureole.training.segmentation.diversity import ScanDiversity


@pytest.fixture
def study() -> ScanDiversity:
    found = figure_6_2(particles=(2, 3), seeds=(0, 1)).runs["study"]
    assert isinstance(found, ScanDiversity)
    run = replace(
        found.model,
        data=replace(found.model.data, num_labelled=2, phantoms=Phantoms(num_train=3, num_test=1, size=32)),
        model=replace(found.model.model, width=2),
        patch_size=(32, 32),
        epochs=1,
        steps_per_epoch=2,
        num_test_scans=1,
        engine=Engine(progress=False, accelerator="cpu"),
    )
    return replace(found, model=run, num_images=2)


def test_every_search_with_every_number_and_seed(study: ScanDiversity, tmp_path: Path) -> None:
    trained, record = study.run(tmp_path)
    assert (trained.kind, record.kind) == ("training", "diversity")
    assert [(row.sampler, row.num_particles, row.seed) for row in record.diversity] == [
        (name, number, seed) for name in study.methods for number in (2, 3) for seed in (0, 1)
    ]
    radius = study.methods["SVGD"].search.ball.radius
    for row in record.diversity:
        assert 0 < row.squared_distance <= (2 * radius) ** 2
        assert row.squared_distance == pytest.approx(2 * radius**2 * (1 - row.cosine), rel=1e-3)  # all lie on the edge
        assert (row.kernel is None) is row.sampler.startswith("VAT")
        assert 0 <= row.adversarial_accuracy <= 1
    assert study.run(tmp_path) == [trained, record]
    assert read_record(tmp_path) == record


def test_repulsion_spreads_the_particles(study: ScanDiversity, tmp_path: Path) -> None:
    record = study.run(tmp_path)[-1]

    def spread(name: str) -> float:
        rows = [row.squared_distance for row in record.diversity if row.sampler == name]
        return sum(rows) / len(rows)

    assert spread("SVGD") > spread("VAT, random starts")
