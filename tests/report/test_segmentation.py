"""Segmentations in the report: numbers that a person can check by hand, and pictures from the files of runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.report.conftest import DATA, made_up_record

from aureole.core.errors import InputError
from aureole.core.records import SegmentationRow, write_record
from aureole.report import report, segmentation_table
from aureole.report.segmentation import findings, opening, segmentation, tables_of
from aureole.report.segmented_boxes import draw_boxes, quartiles
from aureole.report.segmented_pictures import read_masks, segmentation_sheets
from aureole.report.segmented_rows import clinics
from aureole.report.segmented_surfaces import surface

SCANS = replace(DATA, name="hearts", labelled_patients=["a", "b"])


def row(class_name: str, dice: float, hd95: float = 5.0, *, empty: int = 0) -> SegmentationRow:
    both: list[float | None] = [dice - 0.1, dice + 0.1]
    distances: list[float | None] = [hd95, None]
    return SegmentationRow(
        class_name=class_name, num_scans=2, dice=dice, jaccard=dice / 2, hd95=hd95, asd=1.0,
        num_empty_predictions=empty, num_empty_truths=0, rule="ssl4mis", scans=["x", "y"],
        dice_by_scan=both, jaccard_by_scan=both, hd95_by_scan=distances, asd_by_scan=distances,
    )  # fmt: skip


def record(method: str, seed: int, dice: float, **changes: Any) -> Any:
    rows = [row("RV", dice - 0.2, empty=1), row("LV", dice + 0.2), row("mean", dice, empty=1)]
    history = [{"epoch": 1.0, "train/loss": 0.5, "validation/dice": dice}]
    values = {"method": method, "label": method, "seed": seed, "data": SCANS, "segmentations": rows, "history": history}
    return made_up_record(**{**values, "wall_seconds": 60.0, **changes})


@pytest.fixture
def records() -> list[Any]:
    dice = {"Supervised": (0.5, 0.6), "SS-Net": (0.7, 0.6), "Cross-ALD": (0.8, 0.75)}
    return [record(name, seed, value) for name, values in dice.items() for seed, value in enumerate(values)]


def test_the_table_has_means_spreads_and_empty_masks(records: list[Any]) -> None:
    records[4] = replace(records[4], paper={"dice": 0.806})
    (clinic,) = clinics(records)
    table, *classes = tables_of(clinic)
    cells = {line[0].text: line for line in table.rows}
    ours = cells["Cross-ALD"]
    assert (ours[2].text, ours[2].best, ours[2].details) == ("0.775 ± 0.035", True, ("paper 0.806",))
    assert cells["Supervised"][6].text == "2 of 8"
    assert "flatters" in table.caption
    assert [table.caption for table in classes] == ["The class RV", "The class LV"]
    assert classes[0].rows[2][2].text == "0.575 ± 0.035"


def test_what_one_method_has_over_another(records: list[Any]) -> None:
    (clinic,) = clinics(records)
    said = findings(clinic)
    assert "Cross-ALD less SS-Net: +12.50 ± 3.54 points of Dice; higher in 2 of 2 seeds." in said
    assert "SS-Net less Supervised: +10.00 ± 14.14 points of Dice; higher in 1 of 2 seeds." in said
    assert "on 2 test scans, from 2 labelled patients: Cross-ALD" in opening(clinic)


def test_different_numbers_of_labels_are_blocks_of_their_own(records: list[Any]) -> None:
    other = replace(SCANS, labelled_patients=["a", "b", "c"], fingerprint="1123456789abcdef")
    found = segmentation([*records, record("SS-Net", 0, 0.9, data=other)])
    assert found is not None
    assert [block.heading for block in found.blocks] == [
        "hearts (2 labelled patients)", "hearts (3 labelled patients)"
    ]  # fmt: skip


def test_without_segmentations_there_is_no_section() -> None:
    assert segmentation([made_up_record()]) is None
    assert segmentation_table([made_up_record()]).row_count == 0


def test_boxes() -> None:
    assert quartiles([0.0, 1.0]) == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert quartiles([2.0]) == (2.0,) * 5
    from aureole.report.layout import Style

    drawn = draw_boxes({"a <b>": [0.0, 0.0], "c": [1.0, 3.0]}, {"a <b>": Style(), "c": Style(colour=1)}, label="95HD")
    assert drawn.count("<rect") == 2
    assert "a &lt;b&gt;: median 0" in drawn
    assert "c: median 2" in drawn


def save(folder: Path, method: str, *, volume: bool = False, **changes: Any) -> tuple[Path, Any]:
    folder.mkdir(parents=True)
    truth = np.zeros((2, 12, 10), dtype=np.uint8)
    truth[:, 3:7, 3:7] = 1
    found = truth if method == "Cross-ALD" else np.roll(truth, 2, axis=1)
    arrays: dict[str, Any] = {
        "images": np.linspace(0, 1, truth.size, dtype=np.float32).reshape(truth.shape), "truth": truth,
        "prediction": found, "scans": np.array(["x", "y"]), "slices": np.array([4, 5]),
        "class_names": np.array(["background", "RV"]),
    }  # fmt: skip
    if volume:
        arrays |= {"surface_truth": truth, "surface_prediction": found}
    np.savez(folder / "masks.npz", **{**arrays, **changes})
    run = record(method, 0, 0.7)
    write_record(run, folder)
    return folder / "record.json", run


def test_masks_of_all_methods_beside_the_truth(tmp_path: Path) -> None:
    found = [save(tmp_path / name, name, volume=True) for name in ("SS-Net", "Cross-ALD")]
    masks, surfaces = segmentation_sheets(found)
    assert masks.head == ("image", "truth", "SS-Net", "Cross-ALD")
    assert [shown.words for shown in masks.rows[0]] == ["x, slice 5", "", "Dice 0.50", "Dice 1.00"]
    assert masks.rows[0][2].picture.source != masks.rows[0][3].picture.source
    assert "RV orange" in masks.note
    assert surfaces.head == ("truth", "SS-Net", "Cross-ALD")
    assert surfaces.rows[0][0].picture.source == surfaces.rows[0][2].picture.source
    page = report(tmp_path).read_text()
    assert "Masks in pictures" in page
    assert page.count("Dice 1.00") == 2


def test_files_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    good = save(tmp_path / "a", "SS-Net")
    bad = save(tmp_path / "b", "Cross-ALD")
    (tmp_path / "b" / "masks.npz").write_bytes(b"no zip")
    (sheet,) = segmentation_sheets([good, bad])
    assert sheet.head == ("image", "truth", "SS-Net")
    assert "Left out: Cross-ALD: masks.npz is not a complete npz file" in sheet.note
    (none,) = segmentation_sheets([bad])
    assert none.note.startswith("There are no pictures.")
    other = save(tmp_path / "c", "Cross-ALD", scans=np.array(["x", "z"]))
    assert "Cross-ALD: its slices are others" in segmentation_sheets([good, other])[0].note
    np.savez(tmp_path / "short.npz", images=np.zeros((1, 2, 2)))
    with pytest.raises(InputError, match="has no array 'truth'"):
        read_masks(tmp_path / "short.npz")


def test_a_surface_is_lit_by_its_slope() -> None:
    ball = np.sum((np.indices((21, 21, 21)) - 10) ** 2, axis=0) <= 64
    drawn = surface(ball, 0)
    assert drawn.shape == (224, 224, 3)
    assert np.allclose(drawn[0, 0], 0.96)
    inside = drawn[60:150, 60:150, 0]
    assert inside.max() - inside.min() > 0.2
    assert np.allclose(surface(np.zeros((4, 5, 6), dtype=bool), 1), 0.96)


def test_a_table_for_the_terminal(records: list[Any]) -> None:
    import io

    from rich.console import Console

    console = Console(file=io.StringIO(), width=200)
    console.print(segmentation_table(records))
    (line,) = (line for line in console.file.getvalue().splitlines() if "Cross-ALD" in line)  # pyright: ignore
    assert "0.775 \N{PLUS-MINUS SIGN} 0.035" in line
    assert "hearts, 2 labelled patients" in line
    assert "2 of 8" in line
