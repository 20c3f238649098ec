"""What cannot be trained on or judged is said in one line, or left out and named."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aureole.core.errors import InputError
from aureole.data.scans import Layout, Scan, ScanData
from aureole.data.scans.scans import Entry
from aureole.metrics.segmentation import class_scores, mean_scores
from aureole.models.segmentation import SegmenterConfig
from aureole.segment.vat import VAT
from aureole.training.config import Engine
from aureole.training.segmentation import Segmenting, run_segmenting
from aureole.training.segmentation.measure import _class_scores, mean_dice
from aureole.training.segmentation.module import SegmentingModule

Make = Callable[..., Segmenting]


@pytest.fixture
def relaid(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Change what the source of the scans holds, part by part: each given function takes and returns entries."""
    original = ScanData.layout

    def change(**parts: Callable[[tuple[Entry, ...]], tuple[Entry, ...] | None]) -> None:
        def layout(self: ScanData) -> Layout:
            found = original(self)
            return replace(found, **{name: change(getattr(found, name)) for name, change in parts.items()})

        monkeypatch.setattr(ScanData, "layout", layout)

    return change


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a step is taken."""

    def refuse(*_: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(SegmentingModule, "training_step", refuse)


def broken(entry: Entry) -> Entry:
    def load(*, with_label: bool = True) -> Scan:
        raise InputError(f"{entry.name} cannot be read as HDF5")

    return replace(entry, load=load)


def edited(entry: Entry, edit: Callable[[Scan], Scan]) -> Entry:
    return replace(entry, load=lambda with_label=True: edit(entry.load(with_label=with_label)))


def first(change: Callable[[Entry], Entry]) -> Callable[[tuple[Entry, ...]], tuple[Entry, ...]]:
    return lambda entries: (change(entries[0]), *entries[1:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1; got 0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be at least 1"),
        ({"labelled_batch_size": 0}, "labelled_batch_size must be at least 1"),
        ({"unlabelled_batch_size": -1}, "unlabelled_batch_size must be at least 0"),
        ({"validate_every": 0}, "validate_every must be at least 1"),
        ({"num_test_scans": 0}, "num_test_scans must be at least 1"),
        ({"slices_per_call": 0}, "slices_per_call must be at least 1"),
        ({"clip_norm": 0.0}, "clip_norm must be positive"),
        ({"patch_size": (32,)}, "2 lengths for slices or 3 for crops"),
        ({"patch_size": (32, 0)}, "patch_size of slices must be"),
        ({"patch_size": (16, 16, 16)}, r"stride must be 1 to patch_size along each axis; got \(18, 18, 4\)"),
        ({"rotate": 0.6}, "turn and rotate must be probabilities"),
        ({"engine": Engine(devices=2)}, "must divide among the devices; got 3, 4 and 2"),
        ({"method": VAT(), "unlabelled_batch_size": 0}, "VAT learns from unlabelled scans"),
    ],
)
def test_numbers_that_cannot_be_are_refused(flat: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        flat(**changes)
    assert "\n" not in str(caught.value)


def test_an_unknown_rule_is_refused(flat: Make) -> None:
    run = flat()
    object.__setattr__(run, "empty", "monai")  # past the check of types in tests
    with pytest.raises(InputError, match="unknown rule for empty masks 'monai'"):
        run.__post_init__()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": (16, 16, 16), "stride": (8, 8, 8)}, "patch_size must have 2 lengths.*got .16, 16, 16."),
        ({"patch_size": (40, 40)}, "every size must be a multiple of 16; got 40 x 40"),
        ({"model": SegmenterConfig(name="unetr")}, "segmentation network"),
        ({"labelled_batch_size": 60}, "labelled_batch_size must be at most 38"),
        ({"unlabelled_batch_size": 60}, "unlabelled_batch_size must be at most 34"),
        ({"num_test_scans": 9}, "num_scans must be 1 to 4"),
        ({"data": ScanData(source="no/such/folder")}, "no/such/folder"),
    ],
)
@pytest.mark.usefixtures("untouched")
def test_a_run_that_does_not_fit_its_scans_is_refused_before_training(
    flat: Make, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        run_segmenting(flat(**changes), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("untouched")
def test_a_broken_scan_to_train_or_validate_on_stops_the_run(
    flat: Make, tmp_path: Path, relaid: Callable[..., None]
) -> None:
    relaid(volumes=first(broken))
    with pytest.raises(InputError, match="patient000_frame01 cannot be read as HDF5"):
        run_segmenting(flat(), tmp_path)


def test_a_broken_scan_without_label_is_left_out_and_named(
    labels_alone: Make, tmp_path: Path, relaid: Callable[..., None]
) -> None:
    relaid(volumes=lambda entries: (*entries[:-1], broken(entries[-1])))
    record = run_segmenting(labels_alone(steps_per_epoch=1), tmp_path)
    (warning,) = record.warnings
    assert warning.startswith("the scan to train on patient003_frame02 is left out: ")


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("validation", broken, "patient004_frame01 cannot be read"),
        ("validation", lambda e: replace(e, has_label=False), "patient004_frame01 has no label to compare"),
        ("volumes", lambda e: replace(e, has_label=False), "patient000_frame01 is to be labelled and has no label"),
        ("volumes", lambda e: edited(e, _two_channels), "2-D networks label scans of one channel"),
    ],
)
@pytest.mark.usefixtures("untouched")
def test_scans_that_cannot_be_used_in_training_stop_the_run(
    flat: Make, tmp_path: Path, relaid: Callable[..., None], part: str, change: Callable[[Entry], Entry], message: str
) -> None:
    everything = "channel" in message
    relaid(**{part: (lambda entries: tuple(map(change, entries))) if everything else first(change)})
    with pytest.raises(InputError, match=message) as caught:
        run_segmenting(flat(), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_class_that_a_scan_lacks_counts_for_no_network(
    labels_alone: Make, tmp_path: Path, relaid: Callable[..., None]
) -> None:
    """Whether it is predicted there or not: the others of the scan are compared all the same."""

    def spoilt(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        def without(scan: Scan) -> Scan:
            return scan if scan.label is None else replace(scan, label=scan.label.where(scan.label != 2, 0))

        return (edited(entries[0], without), entries[1])

    relaid(test=spoilt)
    run = labels_alone(steps_per_epoch=1, num_test_scans=None)
    record = run_segmenting(run, tmp_path / "run")
    names = [row.class_name for row in record.segmentations]
    first, second, third, mean = record.segmentations
    assert f"the class {names[1]} is missing in patient005_frame01, which its figures leave out" in record.warnings
    assert second.dice_by_scan[0] is None
    assert second.dice == second.dice_by_scan[1]
    assert (second.num_empty_truths, first.num_empty_truths) == (1, 0)
    assert mean.dice_by_scan[0] == pytest.approx((first.dice_by_scan[0] + third.dice_by_scan[0]) / 2)
    scan = next(iter(run.data.test(1)))
    for predicted in (0, 2):  # nothing of the class that the truth lacks, or all voxels
        found = torch.full_like(scan.label, predicted)
        shown = _class_scores(found, scan, 4, "ssl4mis")
        assert [math.isnan(score.dice) for score in shown] == [False, True, False]
        assert [score.num_empty_predictions for score in shown] == [1, int(predicted == 0), 1]
    assert first.dice_by_scan[0] is not None


def _two_channels(scan: Scan) -> Scan:
    return replace(scan, image=scan.image.expand(2, -1, -1, -1).clone())


def test_without_a_validation_list_nothing_is_validated(
    labels_alone: Make, tmp_path: Path, relaid: Callable[..., None]
) -> None:
    relaid(validation=lambda _: None)
    record = run_segmenting(labels_alone(steps_per_epoch=1), tmp_path / "run")
    assert record.history[0].keys() == {"epoch", "train/labelled", "train/loss"}
    assert record.data.num_validation == 0
    with pytest.raises(InputError, match="keep_best needs validation scans and phantom-heart lists none"):
        run_segmenting(labels_alone(keep_best=True), tmp_path / "best")
    relaid(test=lambda _: None)
    with pytest.raises(InputError, match="names no test scans"):
        run_segmenting(labels_alone(num_test_scans=None), tmp_path / "untested")


def test_unusable_test_scans_are_left_out_and_named(
    labels_alone: Make, tmp_path: Path, relaid: Callable[..., None]
) -> None:
    def spoilt(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        one, two, three, four = entries
        without = edited(three, lambda scan: replace(scan, label=scan.label * 0 if scan.label is not None else None))
        flat = edited(four, lambda scan: Scan(name=scan.name, image=scan.image[:, 4]))
        return (broken(one), two, without, flat, replace(one, name="unlabelled", has_label=False))

    relaid(test=spoilt)
    run = labels_alone(steps_per_epoch=1, num_test_scans=None)
    record = run_segmenting(run, tmp_path)
    assert record.data.num_test == 1
    assert record.segmentations[0].scans == ["patient005_frame02"]
    wanted = {
        "patient005_frame01": "HDF5",
        "patient006_frame01": "is empty, where the rule",
        "patient006_frame02": "a single slice",
        "unlabelled": "no label",
    }
    for warning, (name, reason) in zip(record.warnings, wanted.items(), strict=True):
        assert warning.startswith(f"the test scan {name} is left out: ")
        assert reason in warning
    with np.load(tmp_path / "masks.npz") as masks:
        assert masks["scans"].tolist() == ["patient005_frame02"]


def test_no_test_scan_is_opened_before_training_is_over_and_one_must_be_usable(
    labels_alone: Make, tmp_path: Path, relaid: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, opened = list[int](), list[int]()
    step = SegmentingModule.training_step

    def counted(self: Any, batch: Any, batch_idx: int) -> None:
        steps.append(0)
        step(self, batch, batch_idx)

    def load(*, with_label: bool = True) -> Scan:
        opened.append(len(steps))
        raise InputError("it is gone")

    monkeypatch.setattr(SegmentingModule, "training_step", counted)
    relaid(test=lambda entries: tuple(replace(entry, load=load) for entry in entries))
    with pytest.raises(InputError, match=r"none of the 1 test scans of phantom-heart can be used; .*: it is"):
        run_segmenting(labels_alone(), tmp_path)
    assert opened == [3]
    assert not (tmp_path / "record.json").exists()
    relaid()
    monkeypatch.undo()
    assert run_segmenting(labels_alone(), tmp_path).history  # judged anew, without training anew
    assert len(steps) == 3


def test_what_the_data_warn_of_stays_in_the_record(labels_alone: Make, tmp_path: Path) -> None:
    run = labels_alone(steps_per_epoch=1)
    record = run_segmenting(replace(run, data=replace(run.data, validate_on_test=True)), tmp_path)
    assert [w for w in record.warnings if "models are chosen on the test scans" in w] == list(record.warnings)


def test_mean_dice_is_that_of_the_rule_skip() -> None:
    generator = torch.Generator().manual_seed(0)
    for classes in (2, 3, 5):
        found, truth = torch.randint(0, classes - 1, (2, 3, 4, 5), generator=generator)
        scores = class_scores(found, truth, classes, empty="skip")
        wanted = mean_scores(list(scores.values())).dice
        got = mean_dice(found, truth, classes)
        assert got == (None if np.isnan(wanted) else pytest.approx(wanted))
    assert mean_dice(torch.zeros(2, 2, 2).long(), torch.zeros(2, 2, 2).long(), 3) is None
