from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from aureole.core.errors import InputError
from aureole.core.records import RefinementRow, write_record
from aureole.report import report
from aureole.report.refined_pictures import read_pairs, sheets


def pixels(shown):
    data = shown.picture.source.removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


def save_pairs(folder, **changes):
    """Two images of 2 x 2 pixels: the attack changes two pixels, the refinement keeps one."""
    x = np.full((2, 1, 2, 2), 0.5, dtype="float32")
    x_source, x_refined = x.copy(), x.copy()
    x_source[:, 0, 0] = [0.75, 0.25]
    x_refined[:, 0, 0, 0] = 0.75
    arrays = {
        "x": x, "x_source": x_source, "x_refined": x_refined,
        "map": np.array([[[3.0, 1.0], [0.0, 0.0]]] * 2, dtype="float32"),
        "labels": np.array([0, 1]), "predicted": np.array([0, 1]), "predicted_source": np.array([2, 2]),
        "predicted_refined": np.array([2, 1]), "class_names": np.array(["cat", "dog", "frog"]),
    }  # fmt: skip
    arrays.update(changes)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "pairs.npz", **{name: array for name, array in arrays.items() if array is not None})


@pytest.fixture
def refined(make_record):
    def make(attack="pgd", share=0.3, seed=0, victim="victim"):
        row = RefinementRow(
            attack=attack, pixels="map", share=share, num_examples=9, num_correct=1, changed=0.25, changed_fooled=0.25,
            l2=1.0, l2_fooled=1.0, detection=None, detection_low=None, detection_high=None, detection_pairs=0,
            source_seconds=0.1, seconds=0.1,
        )  # fmt: skip
        config = {"refiner": {"method": {"share": share}}, "victim_folder": victim, "sources": {attack: {}}}
        return make_record(kind="refinement", method="PVAR", seed=seed, config=config, refinement=[row])

    return make


def test_a_row_shows_the_arrays(tmp_path, refined):
    save_pairs(tmp_path)
    (sheet,) = sheets([(tmp_path / "record.json", refined())])
    assert sheet.title == "victim: pgd, 0.3 of the pixels, seed 0"
    assert len(sheet.rows) == 2
    image, delta, attacked, heat, kept, result = sheet.rows[0]
    assert (pixels(image) == 128).all()
    assert pixels(attacked)[0, :, 0].tolist() == [191, 64]
    assert pixels(result)[0, :, 0].tolist() == [191, 128]
    assert pixels(delta)[0, 0, 0] > pixels(delta)[0, 0, 2] + 100  # up
    assert pixels(delta)[0, 1, 2] > pixels(delta)[0, 1, 0] + 100  # down
    assert (pixels(kept)[0, 0] == pixels(delta)[0, 0]).all()
    assert (pixels(kept)[0, 1] == pixels(delta)[1, 1]).all()  # left out: as a pixel without a change
    assert pixels(heat).sum(axis=-1)[0, 0] > pixels(heat).sum(axis=-1)[0, 1] > pixels(heat).sum(axis=-1)[1, 0]
    assert [shown.words for shown in sheet.rows[0]] == ["cat", "", "frog", "", "25 % of pixels", "frog"]
    assert [shown.fooled for shown in sheet.rows[1]] == [False, False, True, False, False, False]
    assert "a change of 0.25," in sheet.note
    assert "both fool" not in sheet.note  # the second refined image is classified correctly


def test_other_attacks_stand_beside(tmp_path, refined):
    x_compared = np.full((2, 2, 1, 2, 2), 0.5, dtype="float32")
    x_compared[1, :, 0, 1] = [1.0, 0.0]
    names, classes = np.array(["jsma", "sparsefool"]), np.array([[0, 1], [2, 1]])
    save_pairs(tmp_path, compared=names, x_compared=x_compared, predicted_compared=classes)
    (sheet,) = sheets([(tmp_path / "record.json", refined())])
    assert list(sheet.head)[5:] == ["refined", "jsma", "sparsefool"]
    assert [[shown.words for shown in row[6:]] for row in sheet.rows] == [
        ["cat (0 %)", "frog (50 %)"],
        ["dog (0 %)", "dog (50 %)"],
    ]
    assert [[shown.fooled for shown in row[6:]] for row in sheet.rows] == [[False, True], [False, False]]
    assert "the images of jsma and sparsefool, with the share" in sheet.note
    assert pixels(sheet.rows[0][7])[..., 0].tolist() == [[128, 128], [255, 0]]


def test_a_run_that_compared_nothing_has_no_further_columns(tmp_path, refined):
    save_pairs(tmp_path, compared=np.array([], dtype=str))
    (sheet,) = sheets([(tmp_path / "record.json", refined())])
    assert len(sheet.head) == len(sheet.rows[0]) == 6


def test_what_is_left_out_is_said(tmp_path, refined):
    save_pairs(tmp_path)
    with np.load(tmp_path / "pairs.npz") as stored:
        arrays = {name: np.repeat(stored[name], 4, axis=0) for name in stored.files if name != "class_names"}
    save_pairs(tmp_path, **{**arrays, "class_names": None, "predicted_refined": np.full(8, 2)})
    (sheet,) = sheets([(tmp_path / "record.json", refined())])
    assert len(sheet.rows) == 6
    assert sheet.rows[0][2].words == "2"
    assert "the first 6 of 8" in sheet.note
    assert "both fool" in sheet.note


def test_one_sheet_a_victim_and_attack_nearest_to_the_share_of_the_thesis(tmp_path, refined):
    found = []
    for place, (attack, share, seed, victim) in enumerate(
        [("pgd", 0.1, 0, "a"), ("pgd", 0.3, 1, "a"), ("pgd", 0.3, 0, "a"), ("bim", 0.7, 0, "a"), ("pgd", 0.5, 0, "b")]
    ):
        save_pairs(tmp_path / str(place))
        found.append((tmp_path / str(place) / "record.json", refined(attack, share, seed, victim)))
    assert [sheet.title for sheet in sheets(found)] == [
        "a: pgd, 0.3 of the pixels, seed 0", "a: bim, 0.7 of the pixels, seed 0", "b: pgd, 0.5 of the pixels, seed 0",
    ]  # fmt: skip


def test_many_sheets_are_capped(tmp_path, refined):
    save_pairs(tmp_path)
    found = [(tmp_path / "record.json", refined(f"attack{place}")) for place in range(14)]
    assert len(sheets(found)) == 12


def test_missing_file_is_no_sheet(tmp_path, refined):
    write_record(refined(), tmp_path)
    assert sheets([(tmp_path / "record.json", refined())]) == []
    assert 'id="maps"' not in report(tmp_path).read_text(encoding="utf-8")


def test_broken_file_is_a_note_on_the_page(tmp_path, refined):
    write_record(refined(), tmp_path)
    save_pairs(tmp_path)
    path = tmp_path / "pairs.npz"
    path.write_bytes(path.read_bytes()[:200])
    text = report(tmp_path).read_text(encoding="utf-8")
    assert "There are no pictures: pairs.npz is not a complete npz file" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"map": None}, "has no array 'map'"),
        ({"x": np.zeros((2, 2, 2))}, "x must have the shape"),
        ({"map": np.zeros((2, 1, 2, 2))}, "map must have the shape"),
        ({"predicted_source": np.zeros(3, dtype=int)}, "predicted_source must have the shape"),
        ({"labels": np.array(["a", "b"])}, "labels must hold numbers"),
        ({"compared": np.array(["jsma"])}, "has no array 'x_compared'"),
        (
            {
                "compared": np.array("jsma"),
                "x_compared": np.zeros((2, 1, 2, 2)),
                "predicted_compared": np.zeros(2, int),
            },
            "x_compared must have the shape",
        ),
        ({"x_refined": np.array([{}, {}], dtype=object)}, "without objects"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, changes, message):
    save_pairs(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        read_pairs(tmp_path / "pairs.npz")


def test_page_with_pictures_is_self_contained(tmp_path, refined):
    write_record(refined(), tmp_path)
    save_pairs(tmp_path, class_names=np.array(["<b>cat", "dog", "frog"]))
    text = report(tmp_path).read_text(encoding="utf-8")
    assert text.count("<img") == 12
    assert "&lt;b&gt;cat" in text
    assert "<b>cat" not in text
    assert not [line for line in text.splitlines() if 'src="' in line and 'src="data:' not in line]
