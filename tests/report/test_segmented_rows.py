"""Segmentations with gaps: figures that are not known, empty masks, several numbers of particles, one run."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.report.conftest import DATA, made_up_record

from aureole.core.errors import InputError
from aureole.core.records import SegmentationRow, write_record
from aureole.report import report
from aureole.report.curves import curves
from aureole.report.markdown import results_page
from aureole.report.sections import colours_of
from aureole.report.segmentation import findings, opening, remarks, segmentation, tables_of
from aureole.report.segmented_overlays import overlaid, window
from aureole.report.segmented_pictures import read_masks, segmentation_sheets
from aureole.report.segmented_rows import clinics

SCANS = replace(DATA, name="hearts", labelled_patients=["a"])
UNKNOWN: list[float | None] = [None, None]


def row(dice: float, hd95: float, *, name: str = "mean", empty: int = 0, rule: str = "ssl4mis") -> SegmentationRow:
    known: list[float | None] = [dice, dice]
    distances: list[float | None] = [hd95, hd95] if math.isfinite(hd95) else UNKNOWN
    return SegmentationRow(
        class_name=name, num_scans=2, dice=dice, jaccard=dice, hd95=hd95, asd=hd95, hd95_mm=2 * hd95,
        num_empty_predictions=empty, num_empty_truths=0, rule=rule, scans=["x", "y"], dice_by_scan=known,
        jaccard_by_scan=known, hd95_by_scan=distances, asd_by_scan=distances,
    )  # fmt: skip


def record(method: str, dice: float, hd95: float, *, seed: int = 0, empty: int = 0, **changes: Any) -> Any:
    rows = [row(dice, hd95, name=name, empty=empty) for name in ("LV", "mean")]
    values = {"method": method, "label": f"{method}, 1 labelled", "seed": seed, "data": SCANS, "segmentations": rows}
    config = {"epochs": 3, "steps_per_epoch": 20, "seed": seed}
    return made_up_record(
        **{**values, "config": config, "history": [{"epoch": 0.0, "validation/dice": 0.5}], **changes}
    )


def cells(records: list[Any], place: int = 0) -> dict[str, Any]:
    (clinic,) = clinics(records)
    return {line[0].text: line for line in tables_of(clinic)[place].rows}


def test_methods_stand_in_the_thesis_s_order_under_short_names() -> None:
    found = cells([record(name, 0.5, 4.0) for name in ("Cross-ALD", "My own", "VAT", "Supervised")])
    assert list(found) == ["Supervised", "VAT", "Cross-ALD", "My own"]


def test_numbers_of_particles_are_rows_and_are_compared() -> None:
    dice = {1: 0.5, 2: 0.6, 4: 0.7}
    runs = [record("Cross-ALD", value, 4.0, num_particles=number) for number, value in dice.items()]
    runs += [record("SVGD", 0.55, 4.0, num_particles=2), record("SVGDF", 0.58, 4.0, num_particles=2)]
    found = [*runs, record("SS-Net", 0.4, 4.0, num_particles=1)]
    assert "Cross-ALD, 4 particles" in cells(found)
    (clinic,) = clinics(found)
    said = findings(clinic)
    assert "SVGDF less SVGD: +3.00 points of Dice; higher in 1 of 1 seed." in said
    assert "Cross-ALD, 4 particles less Cross-ALD, 1 particle: +20.00 points of Dice; higher in 1 of 1 seed." in said
    assert sum("less SS-Net" in sentence for sentence in said) == 3


def test_distances_of_empty_masks_are_never_the_best() -> None:
    records = [record("Supervised", 0.2, 0.0, empty=2), record("VAT", 0.6, 9.0), record("SS-Net", 0.7, 8.0)]
    found = cells(records)
    assert [found[name][4].best for name in found] == [False, False, True]
    assert found["Supervised"][6].text == "2 of 2"
    (clinic,) = clinics(records)
    assert "Supervised 2 of 2" in remarks(clinic)[-1]
    fair = [replace(r, segmentations=[replace(x, rule="worst") for x in r.segmentations]) for r in records]
    assert cells(fair)["Supervised"][4].best
    assert remarks(clinics(fair)[0]) == []


def test_figures_that_are_not_known() -> None:
    records = [record("VAT", 0.6, math.nan), record("VAT", 0.8, 4.0, seed=1), record("SS-Net", math.nan, math.nan)]
    found = cells(records)
    assert (found["VAT"][4].text, found["VAT"][4].details) == ("4", ("8 mm", "1 of 2 runs"))
    assert (found["SS-Net"][2].text, found["SS-Net"][4].text) == ("\N{EM DASH}", "\N{EM DASH}")
    part = segmentation(records)
    assert part is not None
    drawn = part.blocks[0].panels[2].drawing
    assert "VAT: median 4" in drawn
    assert "SS-Net" not in drawn
    assert "VAT" in opening(clinics(records)[0])
    assert opening(clinics(records[2:])[0]).startswith("No Dice is known on 2 test scans")


def test_steps_and_seconds() -> None:
    more = {"config": {"epochs": 6, "steps_per_epoch": 20, "seed": 1}, "wall_seconds": 37.5}
    records = [record("VAT", 0.6, 4.0), record("VAT", 0.6, 4.0, seed=1, **more), record("SS-Net", 0.6, 4.0, config={})]
    found = cells(records)
    assert [cell.text for cell in found["VAT"][7:]] == ["60\N{EN DASH}120", "25"]
    assert found["SS-Net"][7].text == "\N{EM DASH}"
    assert "The methods differ in their number of training steps." in remarks(clinics(records)[0])


def test_one_run_is_a_page(tmp_path: Path) -> None:
    write_record(record("VAT", 0.5, math.nan), tmp_path)
    page, text = report(tmp_path).read_text(), results_page(tmp_path)
    assert "Highest mean Dice on 2 test scans, from 1 labelled patient: VAT, 0.500" in page
    assert "Masks in pictures" not in page
    assert "| VAT | 1 | 0.500 | 0.500 | \N{EM DASH} | \N{EM DASH} | 0 of 2 | 60 | 12.5 |" in text


def test_boxes_have_the_colours_of_the_curves() -> None:
    records = [record(name, 0.5, 4.0) for name in ("VAT", "Supervised")]
    part = segmentation(records, colours_of(records))
    assert part is not None
    drawn = part.blocks[0].panels[0].drawing
    assert drawn.index("var(--s2)") < drawn.index("var(--s1)")  # Supervised stands above, and came second


def test_more_lines_than_colours_differ_in_their_dashes() -> None:
    records = [record(f"method {place}", 0.5, 4.0) for place in range(9)]
    part = curves(records, colours_of(records))
    assert part is not None
    swatches = [str(swatch) for swatch, _ in part.blocks[0].legend]
    assert len(set(swatches)) == 9


def masks(folder: Path, method: str, **changes: Any) -> tuple[Path, Any]:
    folder.mkdir(parents=True)
    truth = np.zeros((1, 90, 80), dtype=np.uint8)
    truth[:, 30:50, 30:50] = 1
    arrays: dict[str, Any] = {
        "images": np.full(truth.shape, 0.5, dtype=np.float32), "truth": truth, "prediction": truth,
        "scans": np.array(["x"]), "slices": np.array([4]), "class_names": np.array(["background", "LV"]),
    }  # fmt: skip
    np.savez(folder / "masks.npz", **{**arrays, **changes})
    run = record(method, 0.7, 4.0)
    write_record(run, folder)
    return folder / "record.json", run


def test_what_lies_far_off_is_not_cut_away(tmp_path: Path) -> None:
    truth = np.zeros((90, 80), dtype=np.uint8)
    truth[30:50, 30:50] = 1
    far = truth.copy()
    far[88, 2] = 1
    assert window([truth]) == (slice(16, 64), slice(16, 64))
    rows, columns = window([truth, far])
    assert (rows.stop, columns.start) == (90, 0)
    drawn = overlaid(np.zeros((90, 80)), far)
    assert drawn[215:223, 3:9].max() > 0.5
    assert overlaid(np.full((3, 4), np.nan)).max() == 0


def test_an_empty_prediction_and_its_legend(tmp_path: Path) -> None:
    nothing = np.zeros((1, 90, 80), dtype=np.uint8)
    found = [masks(tmp_path / "a", "VAT"), masks(tmp_path / "b", "SS-Net", prediction=nothing)]
    (sheet,) = segmentation_sheets(found)
    assert [shown.words for shown in sheet.rows[0]] == ["x, slice 5", "", "Dice 1.00", "Dice 0.00"]
    assert sheet.rows[0][3].picture.source == sheet.rows[0][0].picture.source
    assert [name for _, name in sheet.legend] == ["LV"]
    assert 'aria-label="Legend"' in report(tmp_path).read_text()


def test_files_without_pictures_or_with_wrong_shapes(tmp_path: Path) -> None:
    none = dict.fromkeys(("images", "truth", "prediction"), np.zeros((0, 0, 0), dtype=np.uint8))
    run = masks(tmp_path / "a", "VAT", **none, scans=np.array([], dtype=str), slices=np.array([], dtype=int))
    (sheet,) = segmentation_sheets([run])
    assert (sheet.note, sheet.rows) == ("There are no pictures.", ())
    masks(tmp_path / "b", "VAT", slices=np.array([4, 5]))
    with pytest.raises(InputError, match="scans and slices must have one entry a slice"):
        read_masks(tmp_path / "b" / "masks.npz")
    masks(tmp_path / "c", "VAT", surface_truth=np.zeros((2, 2, 2)))
    with pytest.raises(InputError, match="surface_truth and surface_prediction must be volumes"):
        read_masks(tmp_path / "c" / "masks.npz")
