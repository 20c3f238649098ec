"""What a study is made of: checks of its pairs, names that tell nothing, and the files it is made from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aureole.core.errors import InputError
from aureole.core.schema import to_json
from aureole.refine.study import Study, StudyPair, read_key, read_pairs

BLACK, WHITE = torch.zeros(1, 4, 5), torch.ones(1, 4, 5)


def pair(**changes: Any) -> StudyPair:
    return StudyPair(**{"name": "0", "attack": "BIM", "source": BLACK, "refined": WHITE, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"refined": torch.ones(1, 4, 4)}, r"shape of the source, \(1, 4, 5\); got \(1, 4, 4\)"),
        ({"clean": torch.ones(3, 4, 5)}, "clean of pair '0' must have the shape of the source"),
        ({"source": torch.zeros(2, 4, 5)}, "1 or 3 channels"),
        ({"source": torch.zeros(1, 1, 4, 5)}, "1 or 3 channels"),
        ({"refined": 255 * WHITE}, r"must lie in \[0, 1\]; got values from 255 to 255"),
        ({"refined": WHITE * float("nan")}, r"must lie in \[0, 1\]"),
        ({"refined": BLACK + 0.001}, "shows the same picture twice"),
        ({"name": " "}, "name of a pair"),
        ({"attack": ""}, "attack of a pair"),
    ],
)
def test_a_pair_that_cannot_be_shown_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pair(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": []}, "must not be empty"),
        ({"title": ""}, "title of a study"),
        ({"pairs": [pair(), pair()]}, "'BIM' has '0' twice"),
        ({"show_clean": True}, "'0' has none"),
    ],
)
def test_a_study_that_cannot_be_asked_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Study(**{"title": "Pictures", "pairs": [pair()], **changes})


def test_the_identifier_follows_what_is_asked(made_up: Callable[..., Study]) -> None:
    study = made_up()
    assert made_up(title="Another").identifier == study.identifier == made_up().identifier
    swapped = [StudyPair(name=p.name, attack=p.attack, source=p.refined, refined=p.source) for p in study.pairs]
    others = [made_up(seed=1), made_up(show_clean=True), made_up(num_images=2), Study(title="Pictures", pairs=swapped)]
    assert len({study.identifier, *(other.identifier for other in others)}) == 5


def test_the_names_do_not_tell_which_picture_is_refined(made_up: Callable[..., Study]) -> None:
    study = made_up(num_images=40)
    first = sum(key.source < key.refined for key in study.key.pairs)
    assert 20 < first < 60  # of 80; a coin leaves this range once in 100,000 studies
    names = [name for key in study.key.pairs for name in (key.pair, key.source, key.refined)]
    assert len(set(names)) == len(names)
    swapped = [StudyPair(name=p.name, attack=p.attack, source=p.refined, refined=p.source) for p in study.pairs]
    for key, other in zip(study.key.pairs, Study(title="Pictures", pairs=swapped).key.pairs, strict=True):
        assert (key.pair, key.source, key.refined) == (other.pair, other.refined, other.source)


def test_the_key_comes_back(made_up: Callable[..., Study], tmp_path: Path) -> None:
    key = made_up().key
    (tmp_path / "study.json").write_text(to_json(key))
    assert read_key(tmp_path) == read_key(tmp_path / "study.json") == key
    assert "data:" not in to_json(key)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read .* as the key of a study"),
        ("{", "not complete JSON"),
        ("[]", "expected an object with a field 'format'"),
        ('{"format": 2}', "has format 2; this version reads 1"),
        ('{"format": 1, "study": "a", "title": "b"}', "not the key of a study: field pairs is missing"),
        ('{"format": 1, "study": "a", "title": "b", "pairs": []}', "has no pairs"),
    ],
)
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "study.json").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_key(tmp_path)
    assert "\n" not in str(caught.value)


# Files of pairs.


def arrays(num_pairs: int = 4) -> dict[str, Any]:
    x = np.full((num_pairs, 1, 3, 4), 0.5, np.float32)
    moved = np.arange(num_pairs, dtype=np.float32).reshape(-1, 1, 1, 1) / 10  # the first pair shows no difference
    return {"x": x, "x_source": x + moved, "x_refined": x.copy(), "attack": np.array("bim")}


def test_the_first_pairs_that_differ_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "pairs.npz"
    np.savez(file, **arrays())
    pairs = read_pairs(tmp_path, num_images=2)
    assert [(p.attack, p.name) for p in pairs] == [("bim", "1"), ("bim", "2")]
    assert torch.equal(pairs[1].source, torch.full((1, 3, 4), 0.7))
    assert torch.equal(pairs[1].refined, torch.full((1, 3, 4), 0.5))
    assert torch.equal(pairs[1].clean, pairs[1].refined)
    np.savez(file, **arrays(), names=np.array(["a", "b", "c", "d"]))
    assert [p.name for p in read_pairs(file)] == ["b", "c", "d"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_refined": None}, "no array 'x_refined'; it holds attack, x, x_source"),
        ({"attack": None}, "no array 'attack'"),
        ({"attack": np.array(3)}, "attack must be a text"),
        ({"attack": np.array(["bim", "pgd"])}, "attack must be a text"),
        ({"x_source": np.zeros((4, 1, 3, 3))}, r"shape of x, \(4, 1, 3, 4\); got \(4, 1, 3, 3\)"),
        ({"x": np.zeros((4, 3, 4))}, "1 or 3 channels"),
        ({"x": np.zeros((4, 2, 3, 4))}, "1 or 3 channels"),
        ({"x": np.zeros((0, 1, 3, 4))}, "1 or 3 channels"),
        ({"x": np.zeros((4, 1, 3, 4), complex)}, "got complex128"),
        ({"x_source": np.full((4, 1, 3, 4), 255, np.uint8)}, "rescale the images"),
        ({"x_source": np.full((4, 1, 3, 4), np.nan)}, r"must lie in \[0, 1\]"),
        ({"x_source": np.full((4, 1, 3, 4), 0.5005)}, "look the same in every pair"),
        ({"names": np.array(["a", "b"])}, "4 different texts; got 2"),
        ({"names": np.array(["a", "b", "b", "c"])}, "4 different texts; got 3"),
    ],
)
def test_a_file_without_pairs_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    values = {name: value for name, value in {**arrays(), **changes}.items() if value is not None}
    np.savez(tmp_path / "pairs.npz", **values)
    with pytest.raises(InputError, match=message) as caught:
        read_pairs(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no pairs at .*: give an \.npz file, or a run's folder"):
        read_pairs(tmp_path)
    (tmp_path / "pairs.npz").write_bytes(b"PK\3\4 but no more")
    with pytest.raises(InputError, match="not a complete npz file"):
        read_pairs(tmp_path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InputError, match="not a complete npz file"):
        read_pairs(tmp_path / "one.npy")
    np.savez(tmp_path / "pairs.npz", **arrays())
    with pytest.raises(InputError, match="num_images must be at least 1; got 0"):
        read_pairs(tmp_path, 0)
