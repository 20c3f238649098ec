"""How good an explanation is: what it is worth to the student, and whether it points at what it should.

Post-hoc figures compare the student's classes with the teacher's (Chen et al. 2018; thesis 4.4.4). The others compare a
map, a score for each pixel, of shape (batch, height, width), with a mask of the lesion or a box: IoU at top K, and the
pointing game. Where scores are equal, the first pixel in reading order ranks first. A map coarser than the image is
enlarged by the caller. What its pixels do to a model is in :mod:`aureole.metrics.pixel_curves`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int64, Real
from torch import Tensor

from aureole.core.checks import check_classes
from aureole.core.errors import InputError, UntrustedResult

Maps = Float[Tensor, "batch h w"]
Masks = Bool[Tensor, "batch h w"]

THESIS_COUNTS = tuple(1024 * k for k in range(1, 7))
"""The K of thesis figures 4.3 and 4.6: one to six patches of 32 x 32 pixels."""


@dataclass(frozen=True, kw_only=True)
class PostHoc:
    """Agreement of a student with its teacher, each figure in [0, 1]; see :func:`post_hoc`."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    num_examples: int

    @classmethod
    def of(cls, counts: Int64[Tensor, "classes classes"], positive: int | None = 1) -> PostHoc:
        """Return the figures of :func:`confusion_counts`; arguments and warnings as in :func:`post_hoc`."""
        num_classes, total = len(counts), int(counts.sum())
        if total == 0:
            raise InputError("post-hoc figures need at least one prediction; got none")
        if positive is not None and not 0 <= positive < num_classes:
            raise InputError(f"the positive class must be from 0 to {num_classes - 1}, or None; got {positive}")
        counts = counts.cpu()
        students, teachers = counts.sum(0), counts.sum(1)
        present = (students + teachers > 0).nonzero().flatten()
        chosen = present if positive is None else torch.tensor([positive])
        hits, students, teachers = counts.diagonal()[chosen], students[chosen], teachers[chosen]
        _warn_undefined("precision", "student", chosen[students == 0])
        _warn_undefined("recall", "teacher", chosen[teachers == 0])
        return cls(
            accuracy=int(counts.diagonal().sum()) / total,
            precision=_mean_ratio(hits, students),
            recall=_mean_ratio(hits, teachers),
            f1=_mean_ratio(2 * hits, students + teachers),
            num_examples=total,
        )


def post_hoc(student: Int[Tensor, " points"], teacher: Int[Tensor, " points"], positive: int | None = 1) -> PostHoc:
    """Return how well the student's classes agree with the teacher's, by scikit-learn's definitions.

        precision = TP / (TP + FP),    recall = TP / (TP + FN),    F1 = 2 TP / (2 TP + FP + FN)

    A division by zero gives 0, and an :class:`UntrustedResult` says so.

    Args:
        student: class that the student gives to each simplified image.
        teacher: class that the teacher gives to the image itself; it takes the place of the truth.
        positive: the class that counts as positive, against all others; None for the mean of the figures over the
            classes that either of them gives (macro).

    Returns:
        Accuracy, precision, recall and F1. The accuracy counts all classes.

    Raises:
        InputError: there are no predictions, not as many of the one as of the other, or they are no class numbers.

    Example:
        >>> from aureole.metrics import post_hoc
        >>> found = post_hoc(torch.tensor([1, 1, 0, 1]), torch.tensor([1, 0, 0, 1]))
        >>> found.accuracy, round(found.precision, 3), found.recall, found.f1
        (0.75, 0.667, 1.0, 0.8)

    Source: thesis 4.4.4; Chen et al. 2018, "Learning to explain".
    """
    given = [int(classes.max()) for classes in (student, teacher) if classes.numel()]
    num_classes = 1 + max([*given, 1, positive or 0])
    return PostHoc.of(confusion_counts(student, teacher, num_classes), positive)


def confusion_counts(
    student: Int[Tensor, " points"], teacher: Int[Tensor, " points"], num_classes: int
) -> Int64[Tensor, "classes classes"]:
    """Return how often each class of the teacher (a row) met each class of the student (a column); they add up.

    Raises:
        InputError: not as many of the one as of the other, or they are no class numbers below ``num_classes``.

    Example:
        >>> from aureole.metrics.explanation import confusion_counts
        >>> confusion_counts(torch.tensor([1, 1, 0]), torch.tensor([1, 0, 0]), 2)
        tensor([[1, 1],
                [0, 1]])
    """
    for classes in (student, teacher):
        if classes.is_floating_point() or classes.dtype == torch.bool or classes.ndim != 1:
            raise InputError(
                f"predictions must be one class number a point; got {classes.dtype} of shape {tuple(classes.shape)}:"
                " take argmax(-1) of the logits"
            )
    if student.shape != teacher.shape:
        raise InputError(f"expected as many predictions of the student as of the teacher; got {len(student)} and "
                         f"{len(teacher)}")  # fmt: skip
    if len(student):
        check_classes(student, num_classes)
        check_classes(teacher, num_classes)
    cells = teacher.long() * num_classes + student.to(teacher.device).long()
    return torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)


def top_mask(maps: Maps, count: int | Int[Tensor, " batch"]) -> Masks:
    """Return the mask of the ``count`` pixels of the highest scores, the first in reading order where scores are equal.

    Args:
        maps: a finite score for each pixel.
        count: K, how many pixels to select, from 1 to all; one number, or one for each image.

    Returns:
        A mask with exactly K pixels set in each image.

    Raises:
        InputError: K is out of range, or a score is not finite.

    Example:
        >>> from aureole.metrics import top_mask
        >>> top_mask(torch.tensor([[[0.0, 2.0], [2.0, 2.0]]]), 2)
        tensor([[[False,  True],
                 [ True, False]]])
    """
    check_maps(maps)
    counts = torch.as_tensor(count, device=maps.device)
    if counts.is_floating_point() or counts.shape not in ((), (len(maps),)):
        raise InputError(f"K must be a whole number, or one for each of {len(maps)} maps; got {count}")
    pixels = maps.shape[1] * maps.shape[2]
    wrong = counts[(counts < 1) | (counts > pixels)].flatten()
    if wrong.numel():
        raise InputError(
            f"K must be from 1 to {pixels}, the pixels of a map of {maps.shape[1]} x {maps.shape[2]}; got {wrong[0]}"
        )
    return (ranks_of(maps) < counts.view(-1, 1)).view_as(maps)


def iou(selected: Masks, masks: Masks) -> Float[Tensor, " batch"]:
    """Return intersection over union of the selected pixels and the mask of each image, in [0, 1].

    Raises:
        InputError: a mask is empty, of another size, or not boolean.

    Example:
        >>> from aureole.metrics import iou
        >>> iou(torch.tensor([[[True, True, False]]]), torch.tensor([[[False, True, True]]]))
        tensor([0.3333])
    """
    _check_masks(masks, selected)
    both, either = (m.flatten(1).sum(1) for m in (selected & masks, selected | masks))
    return both / either


def iou_at_top(maps: Maps, masks: Masks, count: int | None = None) -> Float[Tensor, " batch"]:
    """Return the IoU of the top K pixels of each map with its mask, in [0, 1].

        |top_K and mask| / |top_K or mask|

    With K below (above) the size of the mask, no map gets more than K / size (size / K).

    Args:
        maps: a finite score for each pixel.
        masks: the pixels of the lesion, or of a box (:func:`box_masks`); not empty.
        count: K, such as those of ``THESIS_COUNTS``; None for the size of each image's own mask (thesis table 4.6).

    Returns:
        One value an image; their mean is the thesis's average.

    Raises:
        InputError: K is larger than the image, a map has NaN, or a mask is empty, of another size, or not boolean.

    Example:
        >>> from aureole.metrics import iou_at_top
        >>> maps, masks = torch.tensor([[[0.1, 0.9, 0.5]]]), torch.tensor([[[False, True, False]]])
        >>> iou_at_top(maps, masks, 2), iou_at_top(maps, masks)
        (tensor([0.5000]), tensor([1.]))
    """
    check_maps(maps)
    _check_masks(masks, maps)
    return iou(top_mask(maps, masks.flatten(1).sum(1) if count is None else count), masks)


def thesis_iou_at_top(maps: Maps, masks: Masks, count: int | None = None) -> Float[Tensor, " batch"]:
    """Return "IoU" as the thesis writes it: twice :func:`iou_at_top`, in [0, 2]; arguments as there.

        2 |top_K and mask| / |top_K or mask|

    It is neither the standard IoU, which has no factor 2, nor Dice, which divides by the sum of the two sizes: a
    perfect map gets 2.

    Example:
        >>> from aureole.metrics import thesis_iou_at_top
        >>> thesis_iou_at_top(torch.tensor([[[0.1, 0.9, 0.5]]]), torch.tensor([[[False, True, False]]]), 2)
        tensor([1.])

    Source: thesis Eq. 4.14.
    """
    return 2 * iou_at_top(maps, masks, count)


def box_masks(boxes: Real[Tensor, "batch 4"], height: int, width: int) -> Bool[Tensor, "batch {height} {width}"]:
    """Return the masks of bounding boxes; what lies outside the image is cut off.

    Args:
        boxes: left, top, right and bottom in pixels; the last column and row belong to the box.
        height: rows of the image.
        width: columns of the image.

    Raises:
        InputError: a box has no pixel in the image, or the boxes have another shape.

    Example:
        >>> from aureole.metrics import box_masks
        >>> box_masks(torch.tensor([[1, 0, 2, 0]]), 2, 3).int()
        tensor([[[0, 1, 1],
                 [0, 0, 0]]], dtype=torch.int32)
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype == torch.bool:
        raise InputError(
            f"boxes must be numbers (left, top, right, bottom), shape (batch, 4); got {boxes.dtype} of shape"
            f" {tuple(boxes.shape)}"
        )
    left, top, right, bottom = (side.view(-1, 1) for side in boxes.unbind(1))
    row, column = torch.arange(height, device=boxes.device), torch.arange(width, device=boxes.device)
    masks = ((row >= top) & (row <= bottom))[:, :, None] & ((column >= left) & (column <= right))[:, None]
    empty = ~masks.flatten(1).any(1)
    if bool(empty.any()):
        first = boxes[empty][0].tolist()
        raise InputError(f"a box must be (left, top, right, bottom) in an image of {height} x {width}; got {first}")
    return masks


def pointing_game(maps: Maps, regions: Masks | Real[Tensor, "batch 4"], tolerance: int = 0) -> Bool[Tensor, " batch"]:
    """Say for which images the highest score of the map lies in the region, or near enough.

    Args:
        maps: a finite score for each pixel; of equal ones, the first in reading order counts.
        regions: masks, or boxes as :func:`box_masks` takes them.
        tolerance: greatest Euclidean distance to the nearest pixel of the region, in pixels; 15 in the paper.

    Returns:
        Whether it is a hit, for each image; their mean is the accuracy.

    Raises:
        InputError: a map has NaN, a region is empty or of another size, or the tolerance is negative.

    Example:
        >>> from aureole.metrics import pointing_game
        >>> maps, boxes = torch.tensor([[[0.0, 0.2, 0.9]]]), torch.tensor([[0, 0, 1, 0]])
        >>> pointing_game(maps, boxes), pointing_game(maps, boxes, tolerance=1)
        (tensor([False]), tensor([True]))

    Source: Zhang et al. 2018, "Top-down neural attention by excitation backprop", section 4.2.
    """
    check_maps(maps)
    if tolerance < 0:
        raise InputError(f"the tolerance must be at least 0 pixels; got {tolerance}")
    height, width = maps.shape[1:]
    masks = box_masks(regions, height, width) if regions.ndim == 2 else regions
    _check_masks(masks, maps)
    place = maps.flatten(1).argmax(1).view(-1, 1, 1)
    row, column = torch.arange(height, device=maps.device), torch.arange(width, device=maps.device)
    squared = (row.view(-1, 1) - place // width) ** 2 + (column - place % width) ** 2
    return (masks & (squared <= tolerance**2)).flatten(1).any(1)


def ranks_of(maps: Maps) -> Int64[Tensor, "batch pixels"]:
    """Return the place of each pixel in the order of its map: 0 for the highest score, ties in reading order.

    Example:
        >>> from aureole.metrics.explanation import ranks_of
        >>> ranks_of(torch.tensor([[[0.0, 2.0], [2.0, 3.0]]]))
        tensor([[3, 1, 2, 0]])
    """
    order = (maps.detach().flatten(1) + 0).argsort(dim=1, descending=True, stable=True)  # + 0: -0 is 0
    places = torch.arange(order.shape[1], device=maps.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def check_maps(maps: Maps) -> None:
    """Check that every image has a finite score for each pixel.

    Raises:
        InputError: it has not.
    """
    if not maps.is_floating_point() or maps.ndim != 3 or 0 in maps.shape[1:]:
        raise InputError(
            f"maps must be floating-point scores of shape (batch, height, width); got {maps.dtype} of shape"
            f" {tuple(maps.shape)}"
        )
    wrong = int((~maps.isfinite()).sum())
    if wrong:
        raise InputError(f"maps must be finite; {wrong} of {maps.numel()} scores are NaN or infinite")


def _check_masks(masks: Tensor, maps: Tensor) -> None:
    if masks.dtype != torch.bool:
        raise InputError(f"masks must be boolean; got {masks.dtype}: compare with a threshold, such as mask > 0")
    if masks.shape != maps.shape:
        raise InputError(
            f"expected a mask for each map and of its size, {tuple(maps.shape)}; got {tuple(masks.shape)}: resize both"
            " to the image, masks by the nearest neighbour"
        )
    if masks.device != maps.device:
        raise InputError(f"maps are on {maps.device} and masks on {masks.device}: move them to one device")
    empty = (~masks.flatten(1).any(1)).nonzero().flatten().tolist()
    if empty:
        raise InputError(
            f"masks must not be empty; {len(empty)} of {len(masks)} are, the first is number {empty[0]}: leave out"
            " images without a lesion"
        )


def _warn_undefined(figure: str, who: str, classes: Tensor) -> None:
    if len(classes):
        names = ", ".join(map(str, classes.tolist()))
        warnings.warn(
            f"the {who} never gives class {names}: its {figure} is undefined and counts as 0",
            UntrustedResult,
            stacklevel=4,
        )


def _mean_ratio(part: Tensor, whole: Tensor) -> float:
    return float((part.double() / whole.clamp_min(1)).mean())  # where the whole is 0, so is the part
