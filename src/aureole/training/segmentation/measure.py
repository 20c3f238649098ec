"""What a network that segments is worth: its figures on the test scans, and pictures of them for the report."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor, nn

from aureole.core.errors import InputError, first_line
from aureole.core.records import SegmentationRow
from aureole.data.scans import Scan, Scans
from aureole.metrics.segmentation import EmptyRule, SegmentationScores, class_scores, mean_scores
from aureole.training.callbacks import progress_bar
from aureole.training.segmentation.config import Segmenting

MASKS = "masks.npz"
MEAN = "mean"


@dataclass(frozen=True)
class Picture:
    """The middle slice of a scan.

    Attributes:
        name: of the scan.
        place: of the slice.
        image: in [0, 1], shape (h, w).
        truth: class of each pixel.
        prediction: class of each pixel.
    """

    name: str
    place: int
    image: Tensor
    truth: Tensor
    prediction: Tensor


@dataclass
class Judged:
    """What came out of judging a network on scans.

    Attributes:
        class_names: of the classes but the background.
        scores: of each scan that could be judged, by its name: the figures of each class.
        failed: name of each scan that could not, and why.
        pictures: of the first scans.
        surface: truth and prediction of the first scan.
    """

    class_names: tuple[str, ...]
    scores: dict[str, list[SegmentationScores]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    surface: tuple[Tensor, Tensor] | None = None

    @property
    def warnings(self) -> list[str]:
        """What is to be known of the figures."""
        notes = [f"the test scan {name} is left out: {reason}" for name, reason in self.failed.items()]
        for number, name in enumerate(self.class_names):
            left_out = [scan for scan, values in self.scores.items() if math.isnan(values[number].dice)]
            if left_out:
                notes.append(f"the class {name} is missing in {', '.join(left_out)}, which its figures leave out")
        return notes

    def rows(self, rule: str) -> list[SegmentationRow]:
        """Return one row a class, and their mean: over the scans of each class first, then over the classes."""
        scans = list(self.scores)
        by_class = [list(column) for column in zip(*self.scores.values(), strict=True)]
        rows = [
            _row(name, mean_scores(values), scans, values, rule)
            for name, values in zip(self.class_names, by_class, strict=True)
        ]
        whole = mean_scores([mean_scores(values) for values in by_class])
        return [*rows, _row(MEAN, whole, scans, [mean_scores(values) for values in self.scores.values()], rule)]


def judge_scans(config: Segmenting, network: nn.Module, scans: Scans) -> Judged:
    """Return how well a network segments; a scan that cannot be used is left out, and named.

    Args:
        config: the run of the network.
        network: on any device.
        scans: with labels.

    Raises:
        InputError: no scan can be used.
    """
    judged = Judged(scans.class_names[1:])
    with progress_bar(enabled=config.engine.progress) as bar:
        task = bar.add_task("test scans", total=len(scans), note="")
        for place, name in enumerate(scans.names):
            try:
                _judge(config, network, scans.read(place), judged)
            except InputError as error:
                judged.failed[name] = str(error)
            bar.update(task, advance=1, note=name)
    if not judged.scores:
        name, reason = next(iter(judged.failed.items()))
        raise InputError(f"none of the {len(scans)} {scans.name} can be used; {name}: {reason}")
    return judged


def _judge(config: Segmenting, network: nn.Module, scan: Scan, judged: Judged) -> None:
    check_labelled(scan)
    assert scan.label is not None
    found = config.segment(network, scan.image, slice_axis=scan.slice_axis)
    scores = _class_scores(found, scan, len(judged.class_names) + 1, config.empty)
    if config.dimensions == 3 and not judged.scores:
        judged.surface = scan.label, found
    judged.scores[scan.name] = scores
    if len(judged.pictures) < config.num_pictures:
        judged.pictures.append(_picture(scan, found))


def _class_scores(found: Tensor, scan: Scan, num_classes: int, rule: EmptyRule) -> list[SegmentationScores]:
    """Return the figures of each class but the background.

    The published rule has none where the truth lacks a class that is predicted: the class counts for no network then,
    so that all are compared on the same masks.
    """
    truth = scan.label
    assert truth is not None
    missing = [c for c in range(1, num_classes) if rule == "ssl4mis" and not bool((truth == c).any())]
    if len(missing) == num_classes - 1:
        raise InputError(f'the truth of {scan.name} is empty, where the rule "{rule}" has no figures')
    shared = torch.where(torch.isin(found, torch.tensor(missing, dtype=found.dtype)), 0, found)
    by_class = class_scores(shared, truth, num_classes, scan.spacing, empty=rule)
    for c in missing:
        none = dict.fromkeys(("dice", "jaccard", "hd95", "asd"), math.nan)
        if scan.spacing is not None:
            none |= {"hd95_mm": math.nan, "asd_mm": math.nan}
        by_class[c] = replace(by_class[c], **none, num_empty_predictions=int(not bool((found == c).any())))
    return list(by_class.values())


def check_labelled(scan: Scan) -> None:
    """Check that a scan is a volume with a label, to compare a prediction with.

    Raises:
        InputError: it is not.
    """
    if len(scan.shape) != 3:
        raise InputError(f"{scan.name} is a single slice; volumes are what a network is judged on")
    if scan.label is None:
        raise InputError(f"{scan.name} has no label to compare the prediction with: draw one, or leave it out")


def mean_dice(found: Integer[Tensor, "d1 d2 d3"], truth: Integer[Tensor, "d1 d2 d3"], num_classes: int) -> float | None:
    """Return the mean Dice of the classes but class 0 that either mask has; None where neither has any.

        Dice = 2 |P and T| / (|P| + |T|)

    Example:
        >>> from aureole.training.segmentation.measure import mean_dice
        >>> mean_dice(torch.tensor([[[1, 0, 2]]]), torch.tensor([[[1, 1, 0]]]), 4)
        0.3333333333333333
    """
    pairs = torch.bincount((found * num_classes + truth).flatten(), minlength=num_classes**2)
    table = pairs.view(num_classes, num_classes)
    both, sizes = table.diagonal()[1:].tolist(), (table.sum(0) + table.sum(1))[1:].tolist()
    dice = [2 * overlap / size for overlap, size in zip(both, sizes, strict=True) if size]
    return math.fsum(dice) / len(dice) if dice else None


def write_masks(judged: Judged, class_names: Sequence[str], path: Path) -> None:
    """Keep the pictures for the report, on a common size with zeros around, and the surface of a 3-D run.

    Raises:
        InputError: the file cannot be written.
    """
    pictures = judged.pictures
    arrays: dict[str, Any] = {
        "images": _stacked(pictures, lambda picture: picture.image, np.float32),
        "truth": _stacked(pictures, lambda picture: picture.truth, np.uint8),
        "prediction": _stacked(pictures, lambda picture: picture.prediction, np.uint8),
        "scans": np.array([picture.name for picture in pictures], dtype=str),
        "slices": np.array([picture.place for picture in pictures], dtype=np.int64),
        "class_names": np.array(list(class_names)),
    }
    if judged.surface is not None:
        truth, prediction = (mask.numpy().astype(np.uint8) for mask in judged.surface)
        arrays |= {"surface_truth": truth, "surface_prediction": prediction}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
    try:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"cannot write {path} ({first_line(error)}): choose a folder that can be written") from error


def _row(
    name: str, mean: SegmentationScores, scans: list[str], values: list[SegmentationScores], rule: str
) -> SegmentationRow:
    return SegmentationRow(
        class_name=name,
        num_scans=len(scans),
        dice=mean.dice,
        jaccard=mean.jaccard,
        hd95=mean.hd95,
        asd=mean.asd,
        hd95_mm=mean.hd95_mm,
        asd_mm=mean.asd_mm,
        num_empty_predictions=mean.num_empty_predictions,
        num_empty_truths=mean.num_empty_truths,
        rule=rule,
        scans=scans,
        dice_by_scan=[_known(value.dice) for value in values],
        jaccard_by_scan=[_known(value.jaccard) for value in values],
        hd95_by_scan=[_known(value.hd95) for value in values],
        asd_by_scan=[_known(value.asd) for value in values],
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _picture(scan: Scan, found: Tensor) -> Picture:
    image, label = scan.slices()
    assert label is not None
    place = len(image) // 2
    shown = image[place, 0]
    low, high = shown.aminmax()
    unit = (shown - low) / (high - low).clamp_min(1e-12)
    return Picture(scan.name, place, unit, label[place], found.movedim(scan.slice_axis, 0)[place])


def _stacked(pictures: Sequence[Picture], part: Callable[[Picture], Tensor], dtype: Any) -> np.ndarray:
    """Return one part of all pictures, each in the middle of a frame that fits the largest."""
    parts = [part(picture).numpy() for picture in pictures]
    frame = [max((array.shape[axis] for array in parts), default=0) for axis in (0, 1)]
    stacked = np.zeros((len(parts), *frame), dtype)
    for target, array in zip(stacked, parts, strict=True):
        top, left = ((frame[axis] - array.shape[axis]) // 2 for axis in (0, 1))
        target[top : top + array.shape[0], left : left + array.shape[1]] = array
    return stacked
