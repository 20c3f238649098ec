from __future__ import annotations

import math

import pytest

from aureole.report.aggregate import (
    attack_names,
    comparison_notes,
    diversity_lines,
    group_runs,
    particle_lines,
    split,
    statistic,
)


def test_statistic_by_hand():
    value = statistic([0.5, 0.75, 1.0])
    assert (value.mean, value.spread, value.count) == (0.75, 0.25, 3)
    assert value.bounds == (0.5, 1.0)


def test_statistic_of_one_value_has_no_spread():
    assert statistic([2.0]).spread is None
    assert statistic([2.0]).bounds == (2.0, 2.0)


def test_statistic_of_a_value_that_is_not_finite_is_not_finite():
    assert math.isnan(statistic([1.0, math.inf]).mean)
    assert math.isnan(statistic([1.0, math.nan]).spread)


def test_accuracy_over_seeds(make_record, make_evaluation):
    counts = [200, 300, 400]
    records = [make_record(seed=s, evaluations=[make_evaluation("FGSM", c)]) for s, c in enumerate(counts)]
    (group,) = group_runs(records)
    value = group.accuracy("FGSM")
    assert (value.mean, value.spread, value.count) == (0.75, 0.25, 3)
    assert value.interval is None
    assert value.num_examples == (400,)
    assert group.accuracy("PGD-50") is None


def test_accuracy_of_a_single_run_has_its_interval(make_record, make_evaluation):
    evaluation = make_evaluation("FGSM", 300)
    (group,) = group_runs([make_record(evaluations=[evaluation])])
    assert group.accuracy("FGSM").interval == evaluation.interval
    assert group.accuracy("FGSM").bounds == evaluation.interval


def test_labels_that_hide_particles_are_told_apart(make_record, make_evaluation):
    tried = [make_evaluation("natural", 300)]
    groups = group_runs([make_record(num_particles=n, evaluations=tried) for n in (4, 1, None)])
    words = ["no particles", "1 particle", "4 particles"]
    assert [group.name for group in groups] == [f"ALD (ALD, {word})" for word in words]


def test_groups_stand_by_method_then_by_particles(make_record, make_evaluation):
    tried = [make_evaluation("natural", 300)]
    order = [("B", 8), ("A", 1), ("B", 1), ("A", 16)]
    groups = group_runs([make_record(method=m, label=f"{m}{n}", num_particles=n, evaluations=tried) for m, n in order])
    assert [group.label for group in groups] == ["B1", "B8", "A1", "A16"]


def test_records_without_results_make_no_group(make_record, make_row):
    assert group_runs([make_record(kind="diversity", diversity=[make_row()])]) == []


def test_natural_is_the_first_attack_and_the_others_keep_their_order(make_record, make_evaluation):
    first = make_record(label="a", evaluations=[make_evaluation("Z", 1), make_evaluation("natural", 1)])
    second = make_record(label="b", evaluations=[make_evaluation("A", 1), make_evaluation("Z", 1)])
    assert attack_names(group_runs([first, second])) == ["natural", "Z", "A"]


def test_curve_over_seeds_of_different_length(make_record):
    long = [{"epoch": 0.0, "train/clean": 2.0}, {"epoch": 1.0, "train/clean": 1.0}]
    records = [make_record(seed=0, history=long), make_record(seed=1, history=[{"epoch": 0.0, "train/clean": 4.0}])]
    (group,) = group_runs(records)
    curve = group.curve("train/clean")
    assert list(curve) == [0, 1]
    assert (curve[0].mean, curve[0].spread) == (3.0, math.sqrt(2.0))
    assert (curve[1].mean, curve[1].spread) == (1.0, None)


def test_time_is_the_mean_of_the_median_epochs(make_record):
    seconds = ([9.0, 1.0, 2.0], [4.0, 4.0, 2.0, 9.0], [])
    history = [{"train/clean": 1.0}]
    (group,) = group_runs([make_record(seed=s, seconds_per_epoch=v, history=history) for s, v in enumerate(seconds)])
    value = group.seconds_per_epoch()
    assert (value.mean, value.count) == (3.0, 2)


def test_data_and_devices_are_kept_apart(make_record):
    records = [make_record(device="CPU"), make_record(device="GPU")]
    assert len(split(records)) == 1
    assert [part[0].device for part in split(records, by_device=True)] == ["CPU", "GPU"]


@pytest.fixture
def make_groups(make_record, make_evaluation):
    def make(*runs):
        tried = [make_evaluation("natural", 300)]
        return group_runs(
            [make_record(method=m, label=label, num_particles=n, evaluations=tried) for m, label, n in runs]
        )

    return make


def test_one_line_a_method(make_groups):
    lines = particle_lines(make_groups(("ALD", "four", 4), ("ALD", "one", 1), ("PGD", "pgd", None)))
    assert {name: [g.num_particles for g in line] for name, line in lines.items()} == {"ALD": [1, 4]}


def test_variants_of_a_method_get_a_line_each(make_groups):
    labels = {1: "1 particle", 10: "10 particles"}
    runs = [("ALD", f"{kind} 0.1, {words}", n) for n, words in labels.items() for kind in ("wide", "thin")]
    lines = particle_lines(make_groups(*runs, ("PGD", "PGD", 1)))
    assert {name: [group.num_particles for group in line] for name, line in lines.items()} == {
        "wide 0.1, N particles": [1, 10],
        "thin 0.1, N particles": [1, 10],
        "PGD": [1],
    }


def test_diversity_by_sampler_and_particles(make_record, make_row):
    rows = [make_row(num_particles=4), make_row(num_particles=2), make_row(sampler="restarts")]
    lines = diversity_lines([make_record(diversity=rows), make_record(diversity=[make_row(num_particles=4, seed=1)])])
    assert {name: {n: len(r) for n, r in line.items()} for name, line in lines.items()} == {
        "Stein": {2: 1, 4: 2},
        "restarts": {2: 1},
    }


def test_fair_comparison_has_no_notes(make_record, make_evaluation):
    records = [
        make_record(seed=s, config={"seed": s, "a": 1}, evaluations=[make_evaluation("PGD", 300, steps=50, seed=s)])
        for s in range(2)
    ]
    assert comparison_notes(group_runs(records)) == []


def test_unfair_comparison_is_named(make_record, make_evaluation):
    records = [
        make_record(seed=0, config={"search": {"steps": 10}}, evaluations=[make_evaluation("PGD", 300, steps=50)]),
        make_record(seed=0, config={"search": {"steps": 20}}, evaluations=[make_evaluation("PGD", 300, steps=10)]),
    ]
    notes = comparison_notes(group_runs(records))
    assert len(notes) == 3
    assert "a seed occurs more than once" in notes[0]
    assert "search.steps" in notes[1]
    assert notes[2].startswith("PGD: the attack's settings differ")
