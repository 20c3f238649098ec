"""Figures of segmentation: equal to medpy's on random masks, by hand, under each rule for empty masks, over batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import config
from medpy.metric.binary import asd, dc, hd95, jc

from aureole.core.errors import InputError
from aureole.metrics.segmentation import (
    FIGURES,
    ClassVolume,
    SegmentationScores,
    class_scores,
    class_volumes,
    mean_scores,
    scores,
)
from aureole.metrics.segmentation_metric import SegmentationMetric


@pytest.fixture
def unchecked() -> Iterator[None]:
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


def random_masks(seed: int) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Two masks of 2 or 3 axes, from a few voxels to nearly all, often at the border; and a spacing."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 14, size=2 + seed % 2))
    masks = []
    for _ in range(2):
        mask = rng.random(shape) < rng.choice([0.02, 0.2, 0.6, 0.97])
        start = [int(rng.integers(0, n)) for n in shape]
        mask[tuple(slice(a, a + int(rng.integers(1, 8))) for a in start)] = True
        masks.append(mask)
    return masks[0], masks[1], tuple(float(step) for step in rng.uniform(0.3, 9.0, len(shape)))


@pytest.mark.parametrize("seed", range(60))
def test_the_figures_are_those_of_medpy(seed: int) -> None:
    found, true, spacing = random_masks(seed)
    ours = scores(torch.from_numpy(found), torch.from_numpy(true), spacing)
    theirs = [f(found, true) for f in (dc, jc, hd95, asd)]
    theirs += [f(found, true, voxelspacing=spacing) for f in (hd95, asd)]
    assert [getattr(ours, name) for name in FIGURES] == pytest.approx(theirs, rel=1e-6, abs=1e-6)
    assert (ours.num_masks, ours.num_empty_predictions, ours.num_empty_truths) == (1, 0, 0)
    assert scores(found, true, spacing) == ours
    assert scores(found, true).hd95_mm is None


def test_anisotropic_spacing_by_hand() -> None:
    found, true = torch.zeros(2, 4, 6, 5, dtype=torch.bool)
    true[0, 1, 1] = True
    found[[0, 2], [4, 1], [1, 1]] = True  # 3 voxels of 1.5 mm away, and 2 of 10 mm
    ours = scores(found, true, (10.0, 1.5, 0.5))
    assert (ours.dice, ours.jaccard) == (0.0, 0.0)
    assert (ours.asd, ours.asd_mm) == pytest.approx((2.5, 12.25))
    assert ours.hd95 == pytest.approx(np.percentile([3, 2, 2], 95))
    assert ours.hd95_mm == pytest.approx(np.percentile([4.5, 20, 4.5], 95))
    swapped = scores(true, found, (10.0, 1.5, 0.5))
    assert (swapped.asd, swapped.asd_mm) == (2.0, 4.5), "ASD goes from the prediction to the truth"
    assert swapped.hd95 == ours.hd95


def test_a_mask_that_touches_the_border_has_its_surface_there() -> None:
    full, inner = np.ones((5, 5), dtype=bool), np.zeros((5, 5), dtype=bool)
    inner[2, 2] = True
    assert scores(inner, full).asd == 2.0
    assert scores(full, inner).asd == pytest.approx(asd(full, inner)) != 0.0


NONE, SOME = np.zeros((4, 5), dtype=bool), np.eye(4, 5, dtype=bool)
DIAGONAL, DIAGONAL_MM = 5.0, math.hypot(3 * 2.0, 4 * 0.5)
EMPTY_CASES = [
    ("ssl4mis", NONE, SOME, [0, 0, 0, 0, 0, 0]),
    ("ssl4mis", NONE, NONE, [0, 0, 0, 0, 0, 0]),
    ("worst", NONE, SOME, [0, 0, DIAGONAL, DIAGONAL, DIAGONAL_MM, DIAGONAL_MM]),
    ("worst", SOME, NONE, [0, 0, DIAGONAL, DIAGONAL, DIAGONAL_MM, DIAGONAL_MM]),
    ("worst", NONE, NONE, [1, 1, 0, 0, 0, 0]),
    ("skip", NONE, SOME, [0, 0, *[math.nan] * 4]),
    ("skip", SOME, NONE, [0, 0, *[math.nan] * 4]),
    ("skip", NONE, NONE, [math.nan] * 6),
]


@pytest.mark.parametrize(("rule", "found", "true", "expected"), EMPTY_CASES)
def test_empty_masks_by_rule(rule: Any, found: np.ndarray, true: np.ndarray, expected: list[float]) -> None:
    ours = scores(found, true, (2.0, 0.5), empty=rule)
    assert [getattr(ours, name) for name in FIGURES] == pytest.approx(expected, nan_ok=True)
    assert (ours.num_empty_predictions, ours.num_empty_truths) == (int(found is NONE), int(true is NONE))
    assert scores(found, true, empty=rule).asd_mm is None


def test_an_empty_truth_has_no_published_figure() -> None:
    with pytest.raises(InputError, match=r'the truth is empty .* "worst" or "skip"'):
        scores(SOME, NONE)
    with pytest.raises(InputError, match=r"^class 2: the truth is empty"):
        class_scores(np.array([[1, 2]]), np.array([[1, 0]]), 3)


def random_labels(num_scans: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(0, 4, (num_scans, 3, 6, 5)), torch.randint(0, 4, (num_scans, 3, 6, 5))


def test_class_scores_are_the_scores_of_each_class_without_the_background() -> None:
    found, true = (labels[0] for labels in random_labels(1))
    by_class = class_scores(found, true, 4, (2.0, 1.0, 1.0))
    assert list(by_class) == [1, 2, 3]
    for number, score in by_class.items():
        assert score == scores(found == number, true == number, (2.0, 1.0, 1.0))
    assert by_class == class_scores(found.numpy().astype(np.uint8), true.to(torch.int32), 4, (2.0, 1.0, 1.0))


def test_means_leave_nan_out_and_add_the_counts() -> None:
    one = SegmentationScores(dice=0.5, jaccard=0.25, hd95=3.0, asd=1.0, hd95_mm=6.0, asd_mm=2.0)
    other = SegmentationScores(dice=0.0, jaccard=0.0, hd95=math.nan, asd=math.nan, num_masks=2, num_empty_predictions=2)
    both = mean_scores([one, other])
    assert (both.dice, both.jaccard, both.hd95, both.asd) == (0.25, 0.125, 3.0, 1.0)
    assert (both.hd95_mm, both.asd_mm) == (None, None), "not all were measured in mm"
    assert (both.num_masks, both.num_empty_predictions, both.num_empty_truths) == (3, 2, 0)
    assert math.isnan(mean_scores([other]).hd95)
    assert mean_scores([one]) == one
    with pytest.raises(InputError, match="at least one"):
        mean_scores([])


@pytest.mark.parametrize("rule", ["worst", "skip"])
@pytest.mark.parametrize("spacing", [None, (3.0, 1.0, 0.5)])
def test_the_metric_over_batches_is_the_mean_over_scans_and_then_over_classes(rule: Any, spacing: Any) -> None:
    found, true = random_labels(5)
    found[1][found[1] == 3] = 0
    true[2:4][true[2:4] == 2] = 1
    metric = SegmentationMetric(4, empty=rule)
    metric.update(found[:2], true[:2], spacing)
    metric.update(found[2:], true[2:], spacing)
    scans = [class_scores(f, t, 4, spacing, empty=rule) for f, t in zip(found, true, strict=True)]
    by_class = {c: mean_scores([scan[c] for scan in scans]) for c in (1, 2, 3)}
    direct, values = mean_scores(list(by_class.values())), metric.compute()
    names = FIGURES if spacing else FIGURES[:4]
    assert ("hd95_mm" in values) == (spacing is not None)
    for name in names:
        assert float(values[name]) == pytest.approx(getattr(direct, name), abs=1e-12)
        for c, score in by_class.items():
            assert float(values[f"{name}_{c}"]) == pytest.approx(getattr(score, name), abs=1e-12)
    assert (int(values["empty_predictions"]), int(values["empty_truths"])) == (1, 2)
    assert (direct.num_empty_predictions, direct.num_empty_truths) == (1, 2)
    metric.reset()
    metric.update(true[:1], true[:1])
    assert float(metric.compute()["dice"]) == 1.0
    assert "hd95_mm" not in metric.compute()


def test_a_figure_that_no_scan_has_is_nan() -> None:
    metric = SegmentationMetric(3, empty="skip")
    labels = torch.tensor([[[0, 1], [1, 1]]])
    metric.update(labels, labels)
    values = metric.compute()
    assert (float(values["dice"]), float(values["dice_1"])) == (1.0, 1.0)
    assert values["dice_2"].isnan()


def test_volumes_by_hand() -> None:
    labels = torch.zeros(3, 4, 5, dtype=torch.uint8)
    labels[0, 0, :4], labels[1] = 1, 3
    volumes = class_volumes(labels, 4, (10.0, 1.5, 2.0))
    assert {number: volume.voxels for number, volume in volumes.items()} == {1: 4, 2: 0, 3: 20}
    assert [volume.millilitres for volume in volumes.values()] == pytest.approx([0.12, 0.0, 0.6])
    assert class_volumes(labels[0].numpy(), 2) == {1: ClassVolume(voxels=4)}
    with pytest.raises(InputError, match="three dimensions; got 2"):
        class_volumes(labels[0], 4, (1.0, 1.0))


BAD: Any = np.array([[0.3, 0.9]])
WURST: Any = "wurst"
MISUSE = [
    (lambda: scores(SOME, SOME[:3]), r"one shape; got \(4, 5\) and \(3, 5\)"),
    (lambda: scores(SOME[0], SOME[0]), r"two or three dimensions .* \(5,\)"),
    (lambda: scores(BAD, SOME), "masks must be boolean; got float64"),
    (lambda: scores(SOME, SOME, (1.0,)), "2 positive lengths"),
    (lambda: scores(SOME, SOME, (1.0, 0.0)), "2 positive lengths"),
    (lambda: scores(SOME, SOME, (1.0, math.nan)), "2 positive lengths"),
    (lambda: scores(SOME, SOME, empty=WURST), "unknown rule for empty masks 'wurst': did you mean 'worst'?"),
    (lambda: SegmentationMetric(2, empty=WURST), "did you mean 'worst'?"),
    (lambda: SegmentationMetric(1), "num_classes must be at least 2"),
    (lambda: SegmentationMetric(2).update(torch.ones(2, 3, 3).long(), torch.ones(1, 3, 3).long()), "got 2 and 1"),
    (lambda: class_scores(SOME, SOME, 2), "whole class numbers; got bool"),
    (lambda: class_scores(BAD, BAD, 2), "whole class numbers; got float64"),
    (lambda: class_scores(np.array([[0, 4]]), np.array([[0, 1]]), 4), "from 0 to 3; they range from 0 to 4"),
    (lambda: class_scores(np.array([[0, -1]]), np.array([[0, 1]]), 4), "they range from -1 to 0"),
    (lambda: class_scores(np.array([[0, 1]]), np.array([[0, 1]]), 1), "at least 2, with the background; got 1"),
]


@pytest.mark.parametrize("case", range(len(MISUSE)))
@pytest.mark.usefixtures("unchecked")
def test_misuse_is_one_clear_line(case: int) -> None:
    call, message = MISUSE[case]
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
