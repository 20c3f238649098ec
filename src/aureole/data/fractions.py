"""A share of the training images: how much a method loses with less data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from aureole.core.errors import InputError
from aureole.core.random import mix_seed
from aureole.data.splits import Data, Splits
from aureole.data.stratify import stratified


@dataclass(frozen=True, kw_only=True)
class FractionData(Data):
    """A source of labelled images of which a share of the training images is used.

    Validation is carved first: the same images validate whatever the fraction. Every class keeps its share, to within
    one image, and with the same ``fraction_seed`` a smaller fraction is a part of a larger one.

    Attributes:
        fraction: share of the training images to use, above 0, at most 1, such as 0.25, 0.5 and 1.
        fraction_seed: of the choice of these images; ``seed`` is that of validation.

    Raises:
        InputError: the fraction is not above 0 and at most 1.

    Example:
        >>> from aureole.data.fractions import FractionData
        >>> [len(FractionData(fraction=f).train_and_validation().train) for f in (0.25, 0.5, 1.0)]
        [309, 618, 1237]

    Source:
        Thesis section 4.4.2 (Fundus-25%, Fundus-50%, Fundus-100%).
    """

    share: ClassVar[tuple[str, ...]] = (*Data.share, "fraction", "fraction_seed")

    fraction: float = 1.0
    fraction_seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise InputError(f"fraction must be above 0 and at most 1; got {self.fraction}: a quarter is 0.25")

    def train_and_validation(self) -> Splits:
        """Read the training part, split it, and keep the fraction of the images to train on.

        Raises:
            InputError: the source is unusable, or a class would be left without an image.
        """
        splits = super().train_and_validation()
        train = splits.train
        count = round(self.fraction * len(train))
        chosen, _ = stratified(train.labels, count, mix_seed(self.fraction_seed, 2))
        classes, left = len(train.labels.unique()), len(train.labels[chosen].unique())
        if left < classes:
            raise InputError(
                f"every class of {train.name} needs an image to train on; a fraction of {self.fraction} of "
                f"{len(train)} images leaves {left} of {classes} classes: take a larger one"
            )
        return replace(splits, train=train.subset(chosen))
