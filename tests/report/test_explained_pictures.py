"""Sheets of maps: what is drawn is what the arrays say."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from aureole.core.errors import InputError
from aureole.core.records import AgreementRow, DataRecord, write_record
from aureole.report import report
from aureole.report.drawing import (
    MASK_COLOUR,
    TOP_COLOUR,
    fitted,
    heat,
    outlined,
    overlay,
    pixels_of,
    png,
    scaled,
    top_pixels,
)
from aureole.report.explained_pictures import explanation_sheets, read_maps

GREEN, BLUE = ([round(255 * value) for value in colour] for colour in (MASK_COLOUR, TOP_COLOUR))
LESIONS = DataRecord(name="painted lesions on drawn fundi", fingerprint="01", num_train=4, num_validation=2, num_test=2)


def pixels(shown):
    data = shown.picture.source.removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


def save_maps(folder, name="MED-TEX", **changes):
    """Two grey images of 8 x 8 pixels; the first has a mask of its left two columns, the map is high in the first."""
    maps, masks = np.zeros((1, 2, 8, 8), dtype="float32"), np.zeros((2, 8, 8), dtype=bool)
    maps[..., 0], masks[0, :, :2] = 1.0, True
    arrays = {
        "x": np.full((2, 1, 8, 8), 0.5, dtype="float32"), "labels": np.array([1, 0]), "index": np.array([3, 4]),
        "teacher": np.array([1, 0]), "student": np.array([1, 1]), "maps": maps, "masks": masks,
        "attributions": np.array([name]), "class_names": np.array(["clean", "painted"]),
    }  # fmt: skip
    arrays |= changes
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "maps.npz", **{name: array for name, array in arrays.items() if array is not None})


@pytest.fixture
def explained(make_record):
    def make(method="MED-TEX", share=1.0, seed=0):
        row = AgreementRow(num_examples=2, accuracy=1.0, precision=1.0, recall=1.0, f1=1.0)
        config = {"student": {"data": {"fraction": share}}}
        return make_record(label=method, method=method, seed=seed, data=LESIONS, config=config, agreement=[row])

    return make


def test_a_sheet_shows_the_arrays(tmp_path, explained):
    save_maps(tmp_path)
    (sheet,) = explanation_sheets([(tmp_path / "record.json", explained())])
    assert sheet.title == "from 100 % of the images, seed 0"
    assert list(sheet.head) == ["image", "MED-TEX"]
    assert len(sheet.rows) == 4
    (image, heats), (plain, tops) = sheet.rows[:2]
    assert [shown.words for shown in (image, heats, plain, tops)] == [
        "painted; teacher: painted", "painted", "K = 16 pixels", "IoU 0.45",  # 10 of 22: ties go by reading order
    ]  # fmt: skip
    assert image.picture.words == "Image of class painted, painted lesions outlined in green"
    assert pixels(image).shape == (128, 128, 3)
    assert pixels(image)[5, 0].tolist() == GREEN
    assert pixels(image)[5, 40].tolist() == [128] * 3
    assert (pixels(plain) == 128).all()
    assert pixels(heats)[0, 0].sum() > pixels(heats)[0, 20].sum()
    assert pixels(tops)[100, 0].tolist() == BLUE
    assert [shown.fooled for shown in sheet.rows[2]] == [False, True]  # the student differs from the teacher
    assert sheet.rows[3][0].words == "K = 4 pixels"  # no mask: a sixteenth
    assert "contour of the painted lesions" in sheet.note


def test_methods_stand_side_by_side_and_shares_have_a_sheet(tmp_path, explained):
    found = []
    for share in (0.25, 1.0):
        for method in ("L2X", "MED-TEX"):
            folder = tmp_path / f"{method}{share}"
            save_maps(folder, method)
            found.append((folder / "record.json", explained(method, share)))
    first, second, over = explanation_sheets(found)
    assert list(first.head) == list(second.head) == ["image", "MED-TEX", "L2X"]
    assert second.title == "from 25 % of the images, seed 0"
    assert over.title == "MED-TEX from 100 % and 25 % of the images"
    assert list(over.head) == ["image", "MED-TEX, 100 %", "MED-TEX, 25 %"]
    assert all(len(row) == 3 for row in over.rows)


def test_what_cannot_be_shown_is_said(tmp_path, explained):
    save_maps(tmp_path / "a")
    save_maps(tmp_path / "b", "L2X", index=np.array([5, 6]))
    runs = [(tmp_path / "a" / "record.json", explained()), (tmp_path / "b" / "record.json", explained("L2X"))]
    (sheet,) = explanation_sheets(runs)
    assert list(sheet.head) == ["image", "MED-TEX"]
    assert sheet.note.endswith("Left out: L2X: its images are others.")
    (tmp_path / "a" / "maps.npz").write_bytes(b"PK")
    (sheet,) = explanation_sheets(runs[:1])
    assert sheet.rows == ()
    assert "maps.npz is not a complete npz file" in sheet.note
    assert explanation_sheets([(tmp_path / "none" / "record.json", explained())]) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": None}, "no array 'maps'"),
        ({"x": np.zeros((2, 8, 8))}, "x must have the shape"),
        ({"masks": np.zeros((2, 4, 4), dtype=bool)}, r"masks must have the shape \(2, 8, 8\)"),
        ({"student": np.zeros(3, dtype=int)}, r"student must have the shape \(2,\)"),
    ],
)
def test_files_that_are_not_maps_are_refused(tmp_path, changes, message):
    save_maps(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        read_maps(tmp_path / "maps.npz")


def test_images_without_masks_get_a_sixteenth(tmp_path, explained):
    save_maps(tmp_path, masks=None)
    (sheet,) = explanation_sheets([(tmp_path / "record.json", explained())])
    assert [shown.words for shown in sheet.rows[1]] == ["K = 4 pixels", ""]
    assert "a sixteenth of the pixels" in sheet.note
    write_record(explained(), tmp_path)
    page = report(tmp_path).read_text()
    assert page.count('<section id="explained"') == 1
    assert 'id="maps"' not in page


def test_drawing_by_hand():
    ramp = np.arange(16.0).reshape(4, 4)
    assert scaled(ramp).max() == 1.0
    assert top_pixels(ramp, 3).sum() == 3
    assert top_pixels(ramp, 3)[3].tolist() == [False, True, True, True]
    rim = outlined(np.zeros((4, 4, 3)), np.ones((4, 4), dtype=bool), (1.0, 0.0, 0.0))[..., 0]
    assert rim.tolist() == [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    assert fitted(ramp, 9).shape == (8, 8)
    assert fitted(ramp[..., None].repeat(3, -1), 2).shape == (2, 2, 3)
    assert fitted(ramp, 2)[0, 0] == pytest.approx(np.mean([0, 1, 4, 5]))
    grey = np.full((4, 4, 3), 0.5)
    assert np.allclose(overlay(grey, ramp, 0.0), grey)
    assert np.allclose(overlay(grey, ramp, 1.0), heat(ramp))
    assert Image.open(io.BytesIO(png(scaled(ramp)))).mode == "L"
    assert pixels_of(np.zeros((3, 5, 7))).shape == pixels_of(np.zeros((1, 5, 7))).shape == (5, 7, 3)
