"""Which images train, which choose the model, and which are looked at once, at the end."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import ClassVar

import torch

from aureole.core.errors import InputError
from aureole.core.random import mix_seed
from aureole.data.readers import read
from aureole.data.stratify import stratified
from aureole.data.streamed import ImageSet


@dataclass(frozen=True)
class Splits:
    """Images to train on, and others of the same training part to choose a model on.

    Attributes:
        train: the images to train on.
        validation: the images to validate on; none of them is in ``train``.
    """

    train: ImageSet
    validation: ImageSet


@dataclass(frozen=True, kw_only=True)
class Data:
    """A source of labelled images, and how its training part is split.

    Attributes:
        source: what :func:`aureole.data.read` takes: ``"digits"``, a folder, an ``.npz`` file or a name on the hub.
        num_train: how many images to train on, class by class; None for all that validation leaves.
        num_validation: how many images of the training part to validate on, class by class; at least 1.
        seed: of the split; the seed of a training run does not change it.

    Example:
        >>> splits = Data(num_train=100).train_and_validation()
        >>> len(splits.train), len(splits.validation)
        (100, 200)
    """

    #: Fields that say how many of the training images are used, and for what.
    share: ClassVar[tuple[str, ...]] = ("num_train", "num_validation")

    source: str = "digits"
    num_train: int | None = None
    num_validation: int = 200
    seed: int = 0

    def like(self, other: Data) -> Data:
        """Return data with the fields of another, but for how many of the training images are used.

        Example:
            >>> Data(num_train=100).like(Data(source="mnist", num_train=5, seed=3))
            Data(source='mnist', num_train=100, num_validation=200, seed=3)
        """
        names = [field.name for field in fields(self) if field.name not in self.share and hasattr(other, field.name)]
        return replace(self, **{name: getattr(other, name) for name in names})

    def train_and_validation(self) -> Splits:
        """Read the training part and split it; the test files are not opened.

        Validation is chosen first: the same images validate whatever ``num_train`` is.

        Raises:
            InputError: the source is unusable, or it has too few images.
        """
        whole = self._read("train")
        self._check(len(whole))
        validation, rest = stratified(whole.labels, self.num_validation, mix_seed(self.seed, 0))
        if self.num_train is not None:
            rest = rest[stratified(whole.labels[rest], self.num_train, mix_seed(self.seed, 1))[0]]
        return Splits(train=whole.subset(rest), validation=whole.subset(validation))

    def test(self, num_examples: int | None = None) -> ImageSet:
        """Read the test part: its first ``num_examples`` images, in their order, or all.

        Raises:
            InputError: the source is unusable, its test part has other classes than its training part, or it has fewer
                images.
        """
        whole = self._read("test")
        if num_examples is None:
            return whole
        if not 1 <= num_examples <= len(whole):
            raise InputError(
                f"num_examples must be 1 to {len(whole)}, the test images of {whole.name}; got {num_examples}"
            )
        return whole.subset(torch.arange(num_examples))

    def _read(self, part: str) -> ImageSet:
        return read(self.source, part)

    def _check(self, available: int) -> None:
        if not 1 <= self.num_validation < available:
            raise InputError(
                f"num_validation must be 1 to {available - 1}, as {self.source} has {available} training images; "
                f"got {self.num_validation}"
            )
        left = available - self.num_validation
        if self.num_train is not None and not 1 <= self.num_train <= left:
            raise InputError(
                f"num_train must be 1 to {left}: {available} training images of {self.source} "
                f"less {self.num_validation} for validation; got {self.num_train}"
            )
