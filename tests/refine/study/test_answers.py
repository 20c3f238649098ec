"""Answers: what is refused, and table 3.2 by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aureole.core.errors import InputError
from aureole.core.records import wilson_interval
from aureole.refine.study import Session, Study, StudyKey, perceptibility, read_session, read_sessions

Answered = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def key(made_up: Callable[..., Study]) -> StudyKey:
    return made_up().key  # BIM 0, 1, 2; PGD 0, 1, 2


@pytest.fixture
def written(key: StudyKey, answered: Answered, tmp_path: Path) -> Callable[..., Path]:
    def write(session: str, choices: str, **changes: Any) -> Path:
        path = tmp_path / f"answers-{session}.json"
        path.write_text(json.dumps(answered(key, session, [c == "s" for c in choices]) | changes))
        return path

    return write


def test_the_table_by_hand(key: StudyKey, written: Callable[..., Path]) -> None:
    files = [written("1", "sssrrr"), written("2", "sssrrs"), written("3", "rrsrss")]
    sessions = read_sessions(files, key)
    rows = perceptibility(key, sessions)
    assert [(row.attack, row.kind) for row in rows] == [
        ("BIM", "source"), ("BIM", "refined"), ("PGD", "source"), ("PGD", "refined"),
    ]  # fmt: skip
    assert [row.share for row in rows] == pytest.approx([7 / 9, 2 / 9, 3 / 9, 6 / 9])
    # Persons: 1, 1, 1/3 for BIM; 0, 1/3, 2/3 for PGD.
    assert [row.spread for row in rows] == pytest.approx([math.sqrt(4 / 27)] * 2 + [1 / 3] * 2)
    assert [row.interval for row in rows] == [wilson_interval(count, 9) for count in (7, 2, 3, 6)]
    assert {(row.num_persons, row.num_images, row.num_choices) for row in rows} == {(3, 3, 9)}


def test_one_person_has_no_spread(key: StudyKey, written: Callable[..., Path]) -> None:
    rows = perceptibility(key, [read_session(written("1", "ssrsss"), key)])
    assert [row.spread for row in rows] == [None] * 4
    assert rows[0].share == pytest.approx(2 / 3)


def test_missing_answers_are_refused_or_left_out(key: StudyKey, written: Callable[..., Path]) -> None:
    whole, part, nothing = written("1", "rrrsss"), written("2", "ss"), written("3", "")
    with pytest.raises(InputError, match=r"answers-2.json lacks 4 of 6 answers: .*--allow-incomplete"):
        read_sessions([whole, part], key)
    sessions = read_sessions([whole, part, nothing], key, allow_incomplete=True)
    assert [session.session for session in sessions] == ["1", "2"]
    bim, _, pgd, _ = perceptibility(key, sessions)
    assert (bim.num_persons, bim.num_images, bim.num_choices) == (2, 3, 5)
    assert (pgd.num_persons, pgd.num_images, pgd.num_choices) == (1, 3, 3)
    assert bim.share == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)  # over the images, not 2 of 5
    assert bim.interval == wilson_interval(2, 5)
    assert (pgd.share, pgd.spread) == (1.0, None)
    assert [row.attack for row in perceptibility(key, sessions[1:])] == ["BIM", "BIM"]
    with pytest.raises(InputError, match="no answer at all"):
        read_sessions([nothing], key, allow_incomplete=True)


def test_another_study_is_refused_with_both_names(key: StudyKey, written: Callable[..., Path]) -> None:
    path = written("1", "ssssss", study="0123456789ab")
    with pytest.raises(InputError, match=f"answers study '0123456789ab', and this is '{key.study}'"):
        read_session(path, key)


def test_a_session_counts_once(key: StudyKey, written: Callable[..., Path], tmp_path: Path) -> None:
    path = written("1", "ssssss")
    copy = tmp_path / "copy.json"
    copy.write_text(path.read_text())
    with pytest.raises(InputError, match=r"copy\.json holds the same session as .*answers-1\.json"):
        read_sessions([path, copy], key)
    with pytest.raises(InputError, match="the same session"):
        read_sessions([path, path], key)


def test_a_folder_stands_for_its_files(key: StudyKey, written: Callable[..., Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "study.json").write_text("the key is no answer")
    with pytest.raises(InputError, match=r"no files of answers in .*empty"):
        read_sessions([empty], key)
    with pytest.raises(InputError, match=r"no file of answers at .*nowhere"):
        read_sessions([tmp_path / "nowhere"], key)
    with pytest.raises(InputError, match="at least one person"):
        read_sessions([], key)
    written("2", "ssssss"), written("1", "rrrrrr")
    (tmp_path / "study.json").write_text("the key is no answer")
    assert [session.session for session in read_sessions([tmp_path], key)] == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not complete JSON"),
        ("{'format': 1}", "not complete JSON"),
        ("[]", "is not a file of answers"),
        ('{"study": "x"}', "expected an object with a field 'format'"),
        ('{"format": 7, "study": "x"}', "has format 7; this version reads 1"),
        ('{"format": true, "study": "x"}', "has format True"),
        ('{"format": 1}', "answers study None"),
    ],
)
def test_a_file_that_holds_no_answers_is_refused(key: StudyKey, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "answers.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_session(path, key)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pair": "ffff"}, "unknown pair 'ffff'"),
        ({"pair": 1}, r"field answers\[1\]\.pair must be a text"),
        ({"left": "ffff"}, "shown with pictures that it does not have"),
        ({"attack": "FGSM"}, "is of attack 'BIM'; got 'FGSM'"),
        ({"choice": "both"}, "must be one of 'left', 'right'; got 'both'"),
        ({"choice": None}, "must be one of 'left', 'right'; got None"),
        ({"milliseconds": -1}, "milliseconds .* must be at least 0; got -1"),
        ({"milliseconds": "NaN"}, "milliseconds .* must be at least 0; got nan"),
        ({"more": 1}, r"unknown field answers\[1\]\.more"),
    ],
)
def test_an_answer_that_the_page_cannot_have_given_is_refused(
    key: StudyKey, answered: Answered, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    values = answered(key, "1", [True] * 6)
    values["answers"][1].update(change)
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=message) as caught:
        read_session(path, key)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_the_same_pair_twice_and_missing_fields_are_refused(key: StudyKey, answered: Answered, tmp_path: Path) -> None:
    path, values = tmp_path / "answers.json", answered(key, "1", [True] * 6)
    twice = values | {"answers": [*values["answers"], values["answers"][2]]}
    for wrong, message in [
        (twice, f"pair '{key.pairs[2].pair}' is answered twice"),
        (values | {"session": ""}, "field session must name the session"),
        ({name: values[name] for name in ("format", "study", "answers")}, "field session is missing"),
    ]:
        path.write_text(json.dumps(wrong))
        with pytest.raises(InputError, match=message):
            read_session(path, key)
    path.write_text(json.dumps(values))
    assert isinstance(read_session(path, key), Session)
