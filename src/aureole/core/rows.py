"""The rows of a run record: one a measurement. Plain data, as :mod:`aureole.core.records`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from aureole.core.errors import InputError

_NORMAL_QUANTILE = 1.959963984540054  # of probability 0.975


def wilson_interval(num_correct: int, num_examples: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion.

        (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n),    p = num_correct / num_examples, z = 1.96

    Args:
        num_correct: number of successes, between 0 and ``num_examples``.
        num_examples: number of trials, at least 1.

    Returns:
        The lower and the upper bound, both in [0, 1].

    Raises:
        InputError: the counts are not possible.

    Example:
        >>> [round(bound, 3) for bound in wilson_interval(8, 10)]
        [0.49, 0.943]

    Source:
        Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if num_examples < 1 or not 0 <= num_correct <= num_examples:
        raise InputError(
            f"num_correct must be between 0 and num_examples, which is at least 1; got {num_correct} of {num_examples}"
        )
    share, per_example = num_correct / num_examples, _NORMAL_QUANTILE**2 / num_examples
    centre = share + per_example / 2
    half = math.sqrt(per_example * share * (1 - share) + per_example**2 / 4)
    scale = 1 + per_example
    low = 0.0 if num_correct == 0 else (centre - half) / scale
    high = 1.0 if num_correct == num_examples else (centre + half) / scale
    return low, high


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The accuracy of one model under one attack (``"natural"``: under none).

    Args:
        attack: name of the attack, a column of the report.
        num_examples: how many examples were tried, at least 1.
        num_correct: how many of them the model still classified correctly.
        seconds: wall time of the evaluation.
        settings: the attack's full configuration, as plain JSON values.
        series: what the attack is called at every radius, a line of the security curve; empty where there is none.
        radius: of the ball, in the units of the images; None where there is none.
        l0: mean share of changed pixels over the examples that the attack fooled; None where it fooled none, or where
            nobody measured. A pixel counts once over its channels.
        l2: mean Euclidean norm of these changes.
        linf: mean largest absolute change.
        confusion: number of examples of each true class (a row) that the model put into each class (a column); empty
            where nobody counted.

    Raises:
        InputError: the counts are not possible, or the confusion is not square or contradicts them.

    Example:
        >>> Evaluation(attack="PGD-50", num_examples=200, num_correct=150, seconds=3.0).accuracy
        0.75
    """

    attack: str
    num_examples: int
    num_correct: int
    seconds: float
    settings: dict[str, Any] = field(default_factory=dict)
    series: str = ""
    radius: float | None = None
    l0: float | None = None
    l2: float | None = None
    linf: float | None = None
    confusion: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        wilson_interval(self.num_correct, self.num_examples)
        if self.confusion:
            _check_confusion(self.confusion, self.num_correct, self.num_examples)

    @property
    def seconds_per_image(self) -> float:
        """Wall time of the evaluation for each example."""
        return self.seconds / self.num_examples

    @property
    def accuracy(self) -> float:
        """The share of correct examples, in [0, 1]."""
        return self.num_correct / self.num_examples

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the accuracy."""
        return wilson_interval(self.num_correct, self.num_examples)


def _check_confusion(confusion: list[list[int]], num_correct: int, num_examples: int) -> None:
    lengths = sorted({len(row) for row in confusion})
    if lengths != [len(confusion)]:
        raise InputError(f"confusion must be square: {len(confusion)} rows need as many columns; got rows of {lengths}")
    least = min(min(row) for row in confusion)
    if least < 0:
        raise InputError(f"confusion must hold numbers of examples, at least 0; got {least}")
    total, right = sum(map(sum, confusion)), sum(row[place] for place, row in enumerate(confusion))
    if (total, right) != (num_examples, num_correct):
        raise InputError(
            f"confusion must hold all {num_examples} examples, {num_correct} of them on its diagonal; got {total} and"
            f" {right}: rows are true classes, columns predicted ones"
        )


@dataclass(frozen=True, kw_only=True)
class DiversityRow:
    """How far apart and how strong the particles of one sampler are, as means over examples.

    Args:
        sampler: name of the sampler, a line of the report.
        num_particles: particles per example, at least 1.
        seed: seed of the sampler.
        squared_distance: mean squared distance of two particles of one example (the thesis's SSE).
        cosine: mean cosine of two perturbations of one example, in [-1, 1].
        distinct_wrong_labels: mean number of different wrong classes that the particles of one example reach.
        objective: mean objective of a particle.
        adversarial_accuracy: share of examples that every particle leaves correct, in [0, 1].
        kernel: mean kernel value of two particles; None for a sampler without a kernel.
        seconds: wall time of the search.

    Source:
        Thesis, Figure 5.2.
    """

    sampler: str
    num_particles: int
    seed: int
    squared_distance: float
    cosine: float
    distinct_wrong_labels: float
    objective: float
    adversarial_accuracy: float
    kernel: float | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RefinementRow:
    """What an attack is worth when only some of its pixels are kept.

    Args:
        attack: name of the source attack.
        pixels: which of its pixels are kept: ``"all"``, those of the learned ``"map"``, those of another ranking such
            as ``"size"``, or ``"..., fewest"``, as few as suffice for each image.
        share: greatest share of the pixels that may change.
        num_examples: test images.
        num_correct: of them, still classified correctly.
        changed: mean share of the pixels that really differ, over all images.
        changed_fooled: over those that it turned from right to wrong; None where there is none.
        l2: mean Euclidean norm of the perturbation, over all images.
        l2_fooled: over those that it turned from right to wrong; None where there is none.
        detection: area under the ROC curve of a detector fitted to this very attack; None where too few succeeded.
        detection_low: lower end of its 95 % interval.
        detection_high: upper end.
        detection_pairs: pairs of images that it was judged on.
        source_seconds: of the source attack, for each image.
        seconds: of picking the pixels, for each image.

    Source:
        Thesis, section 3.4.1.
    """

    attack: str
    pixels: str
    share: float
    num_examples: int
    num_correct: int
    changed: float
    changed_fooled: float | None
    l2: float
    l2_fooled: float | None
    detection: float | None
    detection_low: float | None
    detection_high: float | None
    detection_pairs: int
    source_seconds: float
    seconds: float

    @property
    def accuracy(self) -> float:
        """The share of images that are still classified correctly, in [0, 1]."""
        return self.num_correct / self.num_examples

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the accuracy."""
        return wilson_interval(self.num_correct, self.num_examples)


@dataclass(frozen=True, kw_only=True)
class NetworkRow:
    """A network beside another: the teacher of a student, or the student itself.

    Args:
        role: what it is in the run, such as ``"teacher"``.
        name: of the network.
        num_parameters: numbers that were learned.
        megabytes: of the stored weights, buffers included (10^6 bytes).
        milliseconds: median time of one image in a batch of one, on the device of the record.
        num_examples: test images.
        num_correct: of them, classified correctly.
    """

    role: str
    name: str
    num_parameters: int
    megabytes: float
    milliseconds: float
    num_examples: int
    num_correct: int

    def __post_init__(self) -> None:
        wilson_interval(self.num_correct, self.num_examples)

    @property
    def accuracy(self) -> float:
        """The share of test images that are classified correctly, in [0, 1]."""
        return self.num_correct / self.num_examples


@dataclass(frozen=True, kw_only=True)
class BoundaryRow:
    """How near a student's decision boundaries are to its teacher's.

    Args:
        magnitude: mean ratio of the shorter to the longer way across, in [0, 1] (MagSim); None where none was compared.
        angle: mean cosine of the two ways, in [-1, 1] (AngSim); None where none was compared.
        student_fooled: share of the attacked images whose attack crossed the student's boundary.
        teacher_fooled: share of them whose attack crossed the teacher's.
        num_images: images that were looked at.
        num_attacked: those that both classify correctly.
        num_compared: those that crossed both boundaries.

    Source:
        Thesis, section 7.4.4.
    """

    magnitude: float | None
    angle: float | None
    student_fooled: float | None
    teacher_fooled: float | None
    num_images: int
    num_attacked: int
    num_compared: int


@dataclass(frozen=True, kw_only=True)
class AgreementRow:
    """How often a student that sees simplified images says what its teacher says of the images themselves.

    Args:
        num_examples: test images.
        accuracy: share of them with the teacher's class.
        precision: of the positive class, or the mean over the classes where none is; the teacher's class is the truth.
        recall: likewise.
        f1: likewise.

    Source:
        Thesis, section 4.4.4; Chen et al. 2018, "Learning to explain".
    """

    num_examples: int
    accuracy: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True)
class ExplanationRow:
    """What a map of the pixels that matter is worth.

    Args:
        attribution: what made the map.
        num_masks: test images with a mask; 0 where the data has none, and then nothing is known of what needs one.
        counts: numbers of pixels K.
        iou: mean overlap of the K highest scores with the mask, intersection over union, for each of ``counts``.
        iou_at_size: the same with K = the number of pixels of each image's own mask.
        pointing: share of the images whose highest score lies in the mask.
        num_curves: test images of the next two.
        insertion: mean area under the teacher's probability of its class while pixels come in; the larger, the better.
        deletion: the same while they go; the smaller, the better.
        milliseconds: of one map, images one by one.

    Source:
        Thesis, section 4.4.4 (its IoU is twice this one); Petsiuk et al. 2018, "RISE"; Zhang et al. 2018.
    """

    attribution: str
    num_masks: int = 0
    counts: list[int] = field(default_factory=list)
    iou: list[float] = field(default_factory=list)
    iou_at_size: float | None = None
    pointing: float | None = None
    num_curves: int = 0
    insertion: float | None = None
    deletion: float | None = None
    milliseconds: float


@dataclass(frozen=True, kw_only=True)
class SegmentationRow:
    """How well a network segments one class, or the mean over the classes but the background's.

    The means leave out scans without the figure, as the rule ``"skip"`` does where a mask is empty.

    Args:
        class_name: of the class; ``"mean"`` for the mean over the classes, the last row of a run.
        num_scans: test scans.
        dice: mean over the scans, in [0, 1].
        jaccard: mean over the scans, in [0, 1].
        hd95: mean over the scans, in voxels.
        asd: mean over the scans, in voxels, from the prediction to the truth.
        hd95_mm: in millimetres; None unless the spacing of every scan is known.
        asd_mm: in millimetres; None likewise.
        num_empty_predictions: masks that were predicted empty; in the row ``"mean"`` of all classes together.
        num_empty_truths: masks whose truth is empty; likewise.
        rule: what the figures are where a mask is empty, such as ``"ssl4mis"``.
        scans: names of the test scans.
        dice_by_scan: one value a scan; None where the rule leaves it out. In the row ``"mean"`` over its classes.
        jaccard_by_scan: likewise.
        hd95_by_scan: likewise, in voxels.
        asd_by_scan: likewise, in voxels.

    Source:
        Thesis, section 6.3.2; :mod:`aureole.metrics.segmentation`.
    """

    class_name: str
    num_scans: int
    dice: float
    jaccard: float
    hd95: float
    asd: float
    hd95_mm: float | None = None
    asd_mm: float | None = None
    num_empty_predictions: int
    num_empty_truths: int
    rule: str
    scans: list[str]
    dice_by_scan: list[float | None]
    jaccard_by_scan: list[float | None]
    hd95_by_scan: list[float | None]
    asd_by_scan: list[float | None]

    def __post_init__(self) -> None:
        for name in ("scans", "dice_by_scan", "jaccard_by_scan", "hd95_by_scan", "asd_by_scan"):
            if len(getattr(self, name)) != self.num_scans:
                raise InputError(f"{name} must have {self.num_scans} entries; got {len(getattr(self, name))}")
