from __future__ import annotations

import pytest

from aureole.core.records import RefinementRow
from aureole.report.curves import curves


def titles(section):
    return [panel.title for block in section.blocks for panel in block.panels]


def sentence(section):
    (block,) = section.blocks
    return block.sentence


@pytest.fixture
def learned(make_record):
    """Return the record of a learned map that ends at some adversarial accuracy."""

    def make(share, accuracy):
        row = RefinementRow(
            attack="pgd", pixels="map", share=share, num_examples=4, num_correct=1, changed=0.1, changed_fooled=None,
            l2=1.0, l2_fooled=None, detection=None, detection_low=None, detection_high=None, detection_pairs=0,
            source_seconds=0.1, seconds=0.1,
        )  # fmt: skip
        history = [
            {"epoch": float(e), "train/loss": 1.0 / e, "train/refined": 1.0 / e, "validation/adversarial_accuracy": a}
            for e, a in ((1, 0.9), (2, accuracy))
        ]
        config = {"refiner": {"method": {"share": share}}, "victim_folder": "v", "sources": {"pgd": {}}}
        return make_record(
            kind="refinement", method="PVAR", label=f"{share:g}", config=config, history=history, refinement=[row]
        )

    return make


def test_of_an_attack_the_lowest_accuracy_is_notable(learned):
    found = curves([learned(0.3, 0.125), learned(0.5, 0.25)], {})
    assert sentence(found) == "At the last epoch, the lowest validation/adversarial_accuracy is 0.125 (0.3)."


def test_of_a_model_the_highest_accuracy_is_notable(make_record):
    runs = [
        make_record(label=name, history=[{"epoch": 1.0, "validation/adversarial_accuracy": value}])
        for name, value in (("weak", 0.125), ("strong", 0.25))
    ]
    assert sentence(curves(runs, {"ALD": 0})) == (
        "At the last epoch, the highest validation/adversarial_accuracy is 0.25 (strong)."
    )


def test_term_that_is_the_loss_is_drawn_once(learned):
    found = titles(curves([learned(0.3, 0.125)], {}))
    assert found == ["validation/adversarial_accuracy", "train/loss"]


def test_term_that_differs_in_one_run_is_drawn(make_record):
    alone = [{"epoch": 1.0, "train/loss": 0.5, "train/labelled": 0.5}, {"epoch": 2.0, "train/loss": float("nan")}]
    alone[1]["train/labelled"] = float("nan")
    runs = [make_record(label="alone", history=alone)]
    assert titles(curves(runs, {"ALD": 0})) == ["train/loss"]
    both = [{"epoch": 1.0, "train/loss": 0.75, "train/labelled": 0.5, "train/unlabelled": 0.25}]
    runs.append(make_record(label="both", history=both))
    assert titles(curves(runs, {"ALD": 0})) == ["train/loss", "train/labelled", "train/unlabelled"]
