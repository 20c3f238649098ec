"""How well a segmentation matches the truth: Dice, Jaccard, 95HD and ASD as medpy computes them, and volumes.

    Dice = 2 |P and T| / (|P| + |T|),                   Jaccard = |P and T| / |P or T|
    95HD = 95th percentile of d(p, S_T), p in S_P, and d(t, S_P), t in S_T, in one pool
    ASD  = mean of d(p, S_T) over p in S_P

with P the prediction, T the truth, S the surface of a mask (its voxels with a neighbour across a face that is outside
it, or beyond the image) and d the distance to the nearest voxel of a surface. ASD goes one way, from the prediction to
the truth, as ``medpy.metric.binary.asd(prediction, truth)``; swap the two for the other way. The percentile is numpy's,
which interpolates; MONAI's 95HD, the larger of two percentiles, is another figure.

The published tables count in voxels, also where voxels are no cubes; with a spacing the distances are given in
millimetres as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Integer
from numpy.typing import NDArray
from torch import Tensor

from aureole.core.errors import InputError, unknown_name

Mask = Bool[Tensor, "*spatial"] | Bool[np.ndarray, "*spatial"]
Labels = Integer[Tensor, "*spatial"] | Integer[np.ndarray, "*spatial"]

EmptyRule = Literal["ssl4mis", "worst", "skip"]
"""What the figures are where a mask is empty, and medpy has none.

=============  ===============================  ===============================  =======================
rule           prediction empty, truth not      truth empty, prediction not      both empty
=============  ===============================  ===============================  =======================
``"ssl4mis"``  all four 0                       InputError                       all four 0
``"worst"``    overlaps 0, distances diagonal   overlaps 0, distances diagonal   overlaps 1, distances 0
``"skip"``     overlaps 0, distances NaN        overlaps 0, distances NaN        all four NaN
=============  ===============================  ===============================  =======================

``"ssl4mis"`` is what the published scripts of that family do, SS-Net's too: distances of 0 flatter a method that finds
nothing, and an empty truth stops them. The diagonal is that of the image, the largest distance in it. NaN is left
out of every mean, and empty predictions are always counted.
"""

FIGURES = ("dice", "jaccard", "hd95", "asd", "hd95_mm", "asd_mm")


@dataclass(frozen=True, kw_only=True)
class SegmentationScores:
    """Figures of one mask, or their means over several (:func:`mean_scores`).

    Attributes:
        dice: overlap in [0, 1].
        jaccard: overlap in [0, 1].
        hd95: 95HD in voxels.
        asd: ASD in voxels, from the prediction to the truth.
        hd95_mm: 95HD in millimetres; None without a spacing.
        asd_mm: ASD in millimetres; None without a spacing.
        num_masks: masks that were compared.
        num_empty_predictions: how many of them were predicted empty, whatever the rule gave them.
        num_empty_truths: how many of them have an empty truth.
    """

    dice: float
    jaccard: float
    hd95: float
    asd: float
    hd95_mm: float | None = None
    asd_mm: float | None = None
    num_masks: int = 1
    num_empty_predictions: int = 0
    num_empty_truths: int = 0


@dataclass(frozen=True, kw_only=True)
class ClassVolume:
    """The size of one class: in voxels, and in millilitres where the spacing is known."""

    voxels: int
    millilitres: float | None = None


def scores(
    prediction: Mask, truth: Mask, spacing: Sequence[float] | None = None, *, empty: EmptyRule = "ssl4mis"
) -> SegmentationScores:
    """Return Dice, Jaccard, 95HD and ASD of one mask; formulas at the top of this module.

    Args:
        prediction: boolean mask in 2 or 3 dimensions; a tensor on any device, or an array.
        truth: mask of the same shape.
        spacing: edge lengths of a voxel in mm, one an axis; None leaves out the figures in millimetres.
        empty: what counts where a mask is empty, see ``EmptyRule``.

    Returns:
        The figures. Distances in voxels ignore the spacing.

    Raises:
        InputError: the masks differ in shape, are not boolean, or have 1 or more than 3 dimensions; the spacing is not
            positive; there is no such rule; or the truth alone is empty under ``"ssl4mis"``.

    Example:
        >>> from aureole.metrics.segmentation import scores
        >>> truth, found = torch.zeros(2, 6, 6, dtype=torch.bool)
        >>> truth[1:3, 1:3], found[1:3, 1:5] = True, True
        >>> one = scores(found, truth, spacing=(1.0, 1.5))
        >>> round(one.dice, 3), one.jaccard, one.hd95, one.asd, one.asd_mm
        (0.667, 0.5, 2.0, 0.75, 1.125)

    Source: medpy 0.5, ``medpy.metric.binary`` ``dc``, ``jc``, ``hd95`` and ``asd`` with connectivity 1.
    """
    if empty not in get_args(EmptyRule):
        raise unknown_name("rule for empty masks", str(empty), get_args(EmptyRule))
    found, true = _array(prediction), _array(truth)
    for mask in (found, true):
        if mask.dtype != np.bool_:
            raise InputError(
                f"masks must be boolean; got {mask.dtype}: compare labels with a class, or threshold scores"
            )
    _check_shapes(found, true)
    steps = None if spacing is None else _checked_spacing(spacing, found.ndim)
    return _scores(found, true, steps, empty)


def class_scores(
    prediction: Labels,
    truth: Labels,
    num_classes: int,
    spacing: Sequence[float] | None = None,
    *,
    empty: EmptyRule = "ssl4mis",
) -> dict[int, SegmentationScores]:
    """Return :func:`scores` of each class but class 0, the background.

    Args:
        prediction: class of each voxel, in 2 or 3 dimensions.
        truth: true class of each voxel.
        num_classes: with the background, at least 2.
        spacing: edge lengths of a voxel in mm, one an axis; None leaves out the figures in millimetres.
        empty: what counts where a class is empty, see ``EmptyRule``.

    Returns:
        The figures by class, from 1 to ``num_classes - 1``; :func:`mean_scores` of the values is the mean over classes.

    Raises:
        InputError: as for :func:`scores`; or a label is no class, named in the message.

    Example:
        >>> from aureole.metrics.segmentation import class_scores, mean_scores
        >>> truth, found = torch.tensor([[0, 1, 1, 2]]), torch.tensor([[0, 1, 0, 0]])
        >>> by_class = class_scores(found, truth, 3)
        >>> round(by_class[1].dice, 3), by_class[2].dice, by_class[2].num_empty_predictions
        (0.667, 0.0, 1)
        >>> round(mean_scores(list(by_class.values())).dice, 3)
        0.333
    """
    found, true = _checked_labels(prediction, num_classes), _checked_labels(truth, num_classes)
    by_class = {}
    for number in range(1, num_classes):
        try:
            by_class[number] = scores(found == number, true == number, spacing, empty=empty)
        except InputError as error:
            raise InputError(f"class {number}: {error}") from None
    return by_class


def mean_scores(values: Sequence[SegmentationScores]) -> SegmentationScores:
    """Return the mean of each figure, without NaN, and the sums of the counts.

    The published figure is the mean over the scans of each class, and then the mean over the classes.

    Args:
        values: figures of single masks, or means; each counts alike.

    Returns:
        The means; NaN where no value has the figure, and None in millimetres unless all have them.

    Raises:
        InputError: there are none.

    Example:
        >>> from aureole.metrics.segmentation import SegmentationScores, mean_scores
        >>> scans = [SegmentationScores(dice=d, jaccard=0.5, hd95=h, asd=0.5) for d, h in ((0.5, 3.0), (1.0, math.nan))]
        >>> both = mean_scores(scans)
        >>> both.dice, both.hd95, both.num_masks
        (0.75, 3.0, 2)
    """
    if not values:
        raise InputError("the mean of scores needs at least one; got none")
    return SegmentationScores(
        dice=_mean([value.dice for value in values]),
        jaccard=_mean([value.jaccard for value in values]),
        hd95=_mean([value.hd95 for value in values]),
        asd=_mean([value.asd for value in values]),
        hd95_mm=_mean_or_none([value.hd95_mm for value in values]),
        asd_mm=_mean_or_none([value.asd_mm for value in values]),
        num_masks=sum(value.num_masks for value in values),
        num_empty_predictions=sum(value.num_empty_predictions for value in values),
        num_empty_truths=sum(value.num_empty_truths for value in values),
    )


def class_volumes(labels: Labels, num_classes: int, spacing: Sequence[float] | None = None) -> dict[int, ClassVolume]:
    """Return the volume of each class but class 0, the background.

        millilitres = voxels * product of the spacing / 1000

    Args:
        labels: class of each voxel; three dimensions where there is a spacing.
        num_classes: with the background, at least 2.
        spacing: edge lengths of a voxel in mm; None for voxels only.

    Raises:
        InputError: a label is no class, or the spacing is not three positive lengths.

    Example:
        >>> from aureole.metrics.segmentation import class_volumes
        >>> class_volumes(torch.ones(2, 10, 10, dtype=torch.int64), 2, spacing=(10.0, 1.5, 1.5))
        {1: ClassVolume(voxels=200, millilitres=4.5)}
    """
    found = _checked_labels(labels, num_classes)
    counts = np.bincount(found.ravel(), minlength=num_classes)
    if spacing is None:
        return {number: ClassVolume(voxels=int(counts[number])) for number in range(1, num_classes)}
    if found.ndim != 3:
        raise InputError(f"a volume in mL needs three dimensions; got {found.ndim}: leave out the spacing")
    voxel = math.prod(_checked_spacing(spacing, 3)) / 1000
    return {n: ClassVolume(voxels=int(counts[n]), millilitres=int(counts[n]) * voxel) for n in range(1, num_classes)}


def _scores(
    found: NDArray[np.bool_], true: NDArray[np.bool_], spacing: tuple[float, ...] | None, empty: EmptyRule
) -> SegmentationScores:
    """Return the figures of checked masks."""
    shape, sizes = found.shape, (int(np.count_nonzero(found)), int(np.count_nonzero(true)))
    if min(sizes) == 0:
        return _empty_scores(*sizes, shape, spacing, empty)
    box = _bounding_box(found | true)
    found, true = found[box], true[box]
    both = int(np.count_nonzero(found & true))
    surfaces = _surface(found), _surface(true)
    unit = (1.0,) * len(shape)
    hd95, asd = _distances(*surfaces, unit)
    hd95_mm, asd_mm = (None, None) if spacing is None else _distances(*surfaces, spacing)
    return SegmentationScores(
        dice=2 * both / sum(sizes),
        jaccard=both / (sum(sizes) - both),
        hd95=hd95,
        asd=asd,
        hd95_mm=hd95_mm,
        asd_mm=asd_mm,
    )


def _empty_scores(
    found: int, true: int, shape: tuple[int, ...], spacing: tuple[float, ...] | None, empty: EmptyRule
) -> SegmentationScores:
    """Return what the rule gives where a mask of this size in voxels is empty; see ``EmptyRule``."""
    if empty == "ssl4mis" and found:
        raise InputError(
            'the truth is empty and the prediction is not, where the rule "ssl4mis" has no figures: choose the rule'
            ' "worst" or "skip"'
        )
    agree, unit = not found and not true, (1.0,) * len(shape)
    overlap = {"ssl4mis": 0.0, "worst": float(agree), "skip": math.nan if agree else 0.0}[empty]

    def distance(steps: tuple[float, ...]) -> float:
        diagonal = math.hypot(*((n - 1) * step for n, step in zip(shape, steps, strict=True)))
        return {"ssl4mis": 0.0, "worst": 0.0 if agree else diagonal, "skip": math.nan}[empty]

    in_mm = None if spacing is None else distance(spacing)
    return SegmentationScores(
        dice=overlap,
        jaccard=overlap,
        hd95=distance(unit),
        asd=distance(unit),
        hd95_mm=in_mm,
        asd_mm=in_mm,
        num_empty_predictions=int(found == 0),
        num_empty_truths=int(true == 0),
    )


def _distances(found: NDArray[np.bool_], true: NDArray[np.bool_], spacing: tuple[float, ...]) -> tuple[float, float]:
    """Return 95HD and ASD of two surfaces."""
    from scipy.ndimage import distance_transform_edt

    to_true = np.asarray(distance_transform_edt(~true, sampling=spacing))[found]
    to_found = np.asarray(distance_transform_edt(~found, sampling=spacing))[true]
    return float(np.percentile(np.hstack((to_true, to_found)), 95)), float(to_true.mean())


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels of the mask with a neighbour outside it: the mask without its erosion by a cross."""
    padded, inside = np.pad(mask, 1), mask.copy()
    for axis in range(mask.ndim):
        for part in (slice(None, -2), slice(2, None)):
            inside &= padded[tuple(part if other == axis else slice(1, -1) for other in range(mask.ndim))]
    return mask & ~inside


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the smallest box with all of the mask: outside it lies no surface, so no distance changes."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        rows = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(rows[0]), int(rows[-1]) + 1))
    return tuple(box)


def _array(values: Tensor | np.ndarray) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _check_shapes(found: np.ndarray, true: np.ndarray) -> None:
    if found.shape != true.shape:
        raise InputError(f"the prediction and the truth must have one shape; got {found.shape} and {true.shape}")
    if found.ndim not in (2, 3) or found.size == 0:
        raise InputError(
            f"masks must have two or three dimensions and not be empty arrays; got the shape {found.shape}"
        )


def _checked_spacing(spacing: Sequence[float], ndim: int) -> tuple[float, ...]:
    steps = tuple(float(step) for step in spacing)
    if len(steps) != ndim or not all(0 < step < math.inf for step in steps):
        raise InputError(f"the spacing must be {ndim} positive lengths in mm, one an axis; got {steps}")
    return steps


def _checked_labels(labels: Tensor | np.ndarray, num_classes: int) -> np.ndarray:
    if num_classes < 2:
        raise InputError(f"num_classes must be at least 2, with the background; got {num_classes}")
    found = _array(labels)
    if not np.issubdtype(found.dtype, np.integer):
        raise InputError(f"labels must be whole class numbers; got {found.dtype}: take the argmax of the logits")
    if found.size and (found.min() < 0 or found.max() >= num_classes):
        raise InputError(f"labels must be from 0 to {num_classes - 1}; they range from {found.min()} to {found.max()}")
    return found


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if len(known) == len(values) else None
