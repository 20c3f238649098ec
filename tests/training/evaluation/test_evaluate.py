"""Judging a finished run: a row for every setting, distances, worst cases, doubts, and what is kept meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aureole import L2, InputError
from aureole.core.records import Evaluation, read_record, write_record
from aureole.training.evaluation import judge as judging
from aureole.training.evaluation.evaluate import evaluate_run
from aureole.training.evaluation.notes import merged, rising
from aureole.training.evaluation.trials import Changes


def change(**changes: Any) -> Changes:
    return Changes(**{"attacks": ("fgsm",), "progress": False, **changes})


def by_name(folder: Path) -> dict[str, Evaluation]:
    return {e.attack: e for e in read_record(folder).evaluations}


# Rows.


def test_an_evaluation_is_added_to_the_record(judgeable: Path) -> None:
    before = read_record(judgeable)
    judged = evaluate_run(judgeable, change(attacks=("bim-5",)))
    assert [e.attack for e in judged.rows] == ["natural", "bim-5", "worst case"]
    after = by_name(judgeable)
    assert list(after) == ["natural", "fgsm", "bim-5", "worst case"]
    assert after["bim-5"] == judged.rows[1]
    assert after["natural"].num_correct == before.evaluations[0].num_correct
    assert replace(read_record(judgeable), evaluations=before.evaluations) == before


def test_an_evaluation_replaces_one_of_its_name_but_not_by_fewer_images(judgeable: Path) -> None:
    evaluate_run(judgeable, change(num_examples=80))
    assert [e.num_examples for e in read_record(judgeable).evaluations] == [80, 80]
    natural, fgsm = evaluate_run(judgeable, change(num_examples=10)).rows
    assert natural.num_examples == fgsm.num_examples == 10
    assert [e.num_examples for e in read_record(judgeable).evaluations] == [80, 80]
    assert list(by_name(judgeable)) == ["natural", "fgsm"]


def test_another_setting_is_a_row_of_its_own(judgeable: Path) -> None:
    own = evaluate_run(judgeable, change(attacks=("pgd-4",))).rows[1]
    for changes, name in (
        ({"radius": (0.3,)}, "pgd-4@0.3"),
        ({"step_size": 0.06}, "pgd-4, step 0.06"),
        ({"radius": (0.3,), "step_size": 0.06, "seed": 3}, "pgd-4@0.3, step 0.06, seed 3"),
        ({"seed": 3}, "pgd-4, seed 3"),
        ({"geometry": L2, "radius": (1.0,)}, "pgd-4@L2 1"),
    ):
        row = evaluate_run(judgeable, change(attacks=("pgd-4",), **changes)).rows[1]
        assert row.attack == name
        assert by_name(judgeable)[name] == row
        assert by_name(judgeable)["pgd-4"] == own
        with np.load(judgeable / "outcomes-60.npz") as outcomes:
            assert int(outcomes[f"{name}/robust"].sum()) == row.num_correct
    assert by_name(judgeable)["pgd-4@0.3"].settings["attack"]["ball"]["radius"] == 0.3
    same = evaluate_run(judgeable, change(attacks=("pgd-4",), step_size=0.05, seed=0, radius=(0.15,))).rows[1]
    assert (same.attack, same.num_correct) == ("pgd-4", own.num_correct)


def test_a_step_keeps_its_share_of_the_radius(judgeable: Path) -> None:
    rows = evaluate_run(judgeable, change(attacks=("pgd-4",), radius=(0.075, 0.3))).rows
    assert [r.settings["attack"]["step_size"] for r in rows[1:3]] == pytest.approx([0.025, 0.1])
    assert [(r.series, r.radius) for r in rows[1:3]] == [("pgd-4", 0.075), ("pgd-4", 0.3)]
    single = evaluate_run(judgeable, change(attacks=("fgsm",), step_size=0.001)).rows[1]
    assert single.attack == "fgsm"  # which has no step to choose


def test_rows_hold_distances_and_the_worst_case_what_all_leave(judgeable: Path) -> None:
    rows = {r.attack: r for r in evaluate_run(judgeable, change(attacks=("pgd-4", "mim-4"), seed=5)).rows}
    assert list(rows) == ["natural", "pgd-4, seed 5", "mim-4, seed 5", "worst case"]
    pgd, worst = rows["pgd-4, seed 5"], rows["worst case"]
    assert pgd.num_correct < rows["natural"].num_correct
    assert pgd.linf == pytest.approx(0.15, abs=1e-3)
    assert pgd.l2 is not None
    assert pgd.l0 is not None
    assert 0.15 < pgd.l2 <= 0.15 * 8
    assert 0.1 < pgd.l0 <= 1
    assert (rows["natural"].l2, worst.l2, worst.radius) == (None, None, 0.15)
    with np.load(judgeable / "outcomes-60.npz") as outcomes:
        stood = outcomes["fgsm/robust"] & outcomes["pgd-4, seed 5/robust"] & outcomes["mim-4, seed 5/robust"]
        assert int(stood.sum()) == worst.num_correct <= min(r.num_correct for r in rows.values())
        assert int(outcomes["natural"].sum()) == rows["natural"].num_correct
    assert worst.settings["attacks"] == ["fgsm", "mim-4, seed 5", "pgd-4, seed 5"]


def test_new_weights_leave_no_old_outcomes(judgeable: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = judgeable / "weights.safetensors"
    save_file({name: value * 0.9 for name, value in load_file(path).items()}, path)
    evaluate_run(judgeable, change(attacks=("bim-5",)))
    with np.load(judgeable / "outcomes-60.npz") as outcomes:
        assert "fgsm/robust" not in outcomes


@pytest.mark.parametrize(
    "changes",
    [
        {"radius": (0.0,)}, {"radius": (1.5,)}, {"num_examples": 0}, {"num_examples": 361}, {"step_size": 0.0},
        {"batch_size": 0}, {"devices": 0}, {"geometry": L2},
    ],
)  # fmt: skip
def test_what_is_impossible_changes_nothing(judgeable: Path, changes: dict[str, Any]) -> None:
    before = (judgeable / "record.json").read_bytes()
    with pytest.raises(InputError):
        evaluate_run(judgeable, change(**changes))
    assert (judgeable / "record.json").read_bytes() == before
    assert not (judgeable / "journal").exists()


# Doubts.


def test_an_attack_that_is_too_weak_says_so(judgeable: Path) -> None:
    weak = evaluate_run(judgeable, change(attacks=("bim-2",), step_size=0.01))
    (note,) = weak.notes
    assert note.startswith("bim-2, step 0.01: all its steps together (0.02) are shorter than the radius (0.15)")
    assert read_record(judgeable).warnings == [note]
    evaluate_run(judgeable, change(attacks=("bim-2",), step_size=0.01))
    assert read_record(judgeable).warnings == [note]  # once
    huge = evaluate_run(judgeable, change(attacks=("bim-2",), radius=(0.6,), step_size=1e-6)).notes
    assert any("every image can be made the same picture" in note for note in huge)
    write_record(replace(read_record(judgeable), warnings=["bim-2, step 0.01: of old", "other"]), judgeable)
    evaluate_run(judgeable, change(attacks=("bim-2",), step_size=0.01))
    assert read_record(judgeable).warnings == ["other", note]


def test_an_accuracy_that_rises_with_the_radius_is_named() -> None:
    def row(radius: float, num_correct: int, series: str = "pgd", num_examples: int = 10) -> Evaluation:
        return Evaluation(
            attack=f"{series}@{radius}", num_examples=num_examples, num_correct=num_correct, seconds=1.0,
            series=series, radius=radius,
        )  # fmt: skip

    assert rising([row(0.1, 5), row(0.2, 5), row(0.3, 1), row(0.2, 9, "fgsm")]) == []
    assert rising([row(0.1, 5), row(0.3, 9, num_examples=9)]) == []  # other images
    (line,) = rising([row(0.3, 6), row(0.1, 7), row(0.2, 5), row(0.2, 9, "fgsm")])
    assert line.startswith("pgd: the accuracy rises from 0.500 at the radius 0.2 to 0.600 at 0.3")


def test_messages_that_differ_in_counts_alone_are_summed() -> None:
    assert merged(["3 of 10 are", "2 of 5 are", "else", "1 of 2, 3 of 4", "else"]) == [
        "5 of 15 are",
        "else",
        "1 of 2, 3 of 4",
    ]
    assert merged([]) == []


# What is kept.


def test_a_finished_evaluation_leaves_no_journal(judgeable: Path) -> None:
    evaluate_run(judgeable, change(attacks=("bim-5",)))
    assert not (judgeable / "journal").exists()


def test_what_another_evaluation_decided_is_refused_and_dropped_on_demand(
    judgeable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(judging, "_attack_row", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate_run(judgeable, change(attacks=("pgd-4",)))
    from safetensors.torch import load_file, save_file

    path = judgeable / "weights.safetensors"
    save_file({name: value * 0.9 for name, value in load_file(path).items()}, path)
    with pytest.raises(InputError, match=r"the model's weights changed.*--restart"):
        evaluate_run(judgeable, change(attacks=("pgd-4",)))
    evaluate_run(judgeable, change(attacks=("mim-4",)))  # another attack has nothing to do with it
    rows = evaluate_run(judgeable, change(attacks=("pgd-4",), restart=True)).rows
    assert rows[1].attack == "pgd-4"
