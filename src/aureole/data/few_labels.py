"""Which few images carry a label, which teach without one, and which choose the model."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aureole.core.errors import InputError
from aureole.core.random import mix_seed
from aureole.data.readers import read
from aureole.data.splits import Data, Splits
from aureole.data.stratify import balanced, stratified
from aureole.data.streamed import ImageSet


@dataclass(frozen=True)
class FewLabelsSplits(Splits):
    """Labelled images to train on, unlabelled ones beside them, and others to choose a model on.

    Attributes:
        train: the labelled images.
        validation: the images to validate on; none of them is in ``train``.
        unlabelled: the images whose labels nobody looks at.
        labelled_index: place in the training part of the source of each image of ``train``, ascending: store it, and
            ``read(source, "train").subset(torch.tensor(labelled_index))`` finds the same images again.

    Raises:
        InputError: the parts differ in the shape of their images, or train and validation in their classes.
    """

    unlabelled: ImageSet
    labelled_index: tuple[int, ...]

    def __post_init__(self) -> None:
        check_classes_agree(self.train, self.validation)
        check_shapes_agree(self.train, self.validation)
        check_shapes_agree(self.train, self.unlabelled)

    @property
    def labelled(self) -> ImageSet:
        """The labelled images: ``train`` by its other name."""
        return self.train


@dataclass(frozen=True, kw_only=True)
class FewLabels(Data):
    """A source of labelled images of which only a few, equally many of each class, keep their label.

    Validation is carved from the training part first: the same images validate whatever the number of labels. With the
    same ``labelled_seed``, fewer labels are a part of more.

    Attributes:
        num_train: how many images of the training part to use at all, labelled and unlabelled together.
        num_labelled: how many of them keep their label: as equal a number of each class as the classes allow.
        labelled_seed: of the choice of the labelled images; ``seed`` is that of validation.
        unlabelled_with_labelled: whether the labelled images are among the unlabelled too, as in most papers.
        unlabelled_source: where the unlabelled images come from, all of its training part; None for the same source.

    Example:
        >>> from aureole.data import FewLabels
        >>> splits = FewLabels(num_labelled=30).train_and_validation()
        >>> len(splits.labelled), len(splits.unlabelled), len(splits.validation)
        (30, 1237, 200)
        >>> splits.labelled.labels.bincount().tolist()
        [3, 3, 3, 3, 3, 3, 3, 3, 3, 3]
    """

    num_labelled: int = 100
    labelled_seed: int = 0
    unlabelled_with_labelled: bool = True
    unlabelled_source: str | None = None

    def train_and_validation(self) -> FewLabelsSplits:
        """Read the training part and split it; the test files are not opened.

        Raises:
            InputError: a source is unusable, it has too few images, a class has no image to label, or the unlabelled
                images have another shape.
        """
        whole = read(self.source, "train")
        self._check(len(whole))
        validation, rest = stratified(whole.labels, self.num_validation, mix_seed(self.seed, 0))
        if self.num_train is not None:
            rest = rest[stratified(whole.labels[rest], self.num_train, mix_seed(self.seed, 1))[0]]
        labels = whole.labels[rest]
        self._check_labelled(labels, whole)
        chosen, others = balanced(labels, self.num_labelled, mix_seed(self.labelled_seed, 2))
        return FewLabelsSplits(
            train=whole.subset(rest[chosen]),
            validation=whole.subset(validation),
            unlabelled=self._unlabelled(whole, rest if self.unlabelled_with_labelled else rest[others]),
            labelled_index=tuple(rest[chosen].tolist()),
        )

    def _unlabelled(self, whole: ImageSet, places: torch.Tensor) -> ImageSet:
        if self.unlabelled_source is not None:
            if self.unlabelled_source == self.source:
                raise InputError(
                    f"unlabelled_source must be another source than {self.source}, as its validation images would be "
                    "among the unlabelled: leave it out to take the unlabelled images from the same source"
                )
            return read(self.unlabelled_source, "train")
        if len(places) == 0:
            raise InputError(
                f"no image of {self.source} is left without a label; lower num_labelled, now {self.num_labelled}, "
                "or set unlabelled_with_labelled"
            )
        return whole.subset(places)

    def _check_labelled(self, labels: torch.Tensor, whole: ImageSet) -> None:
        classes, available = whole.num_classes, len(labels)
        if self.num_labelled < classes:
            raise InputError(
                f"num_labelled must be at least {classes}, one image for each class of {whole.name}; "
                f"got {self.num_labelled}"
            )
        if self.num_labelled > available:
            raise InputError(
                f"num_labelled must be at most {available}, the training images of {whole.name} that validation "
                f"and num_train leave; got {self.num_labelled}"
            )
        empty = (labels.bincount(minlength=classes) == 0).nonzero().flatten().tolist()
        if empty:
            raise InputError(
                f"every class of {whole.name} needs an image to label; class {whole.class_names[empty[0]]!r} has none "
                "among the training images: leave the class out, or lower num_validation"
            )


def check_classes_agree(one: ImageSet, other: ImageSet) -> None:
    """Check that two sets have the same number of classes.

    Raises:
        InputError: they have not.

    Example:
        >>> from aureole.data import read
        >>> check_classes_agree(read("digits", "train"), read("digits", "test"))
    """
    if one.num_classes != other.num_classes:
        raise InputError(
            f"all parts must have the same classes; {one.name} has {one.num_classes} and {other.name} "
            f"{other.num_classes}: make the class folders, or the labels, of both the same"
        )


def check_shapes_agree(one: ImageSet, other: ImageSet) -> None:
    """Check that the images of two sets have the same channels, height and width.

    Raises:
        InputError: they have not.

    Example:
        >>> from aureole.data import read
        >>> check_shapes_agree(read("digits", "train"), read("digits", "test"))
    """
    if one.image_shape != other.image_shape:
        raise InputError(
            f"labelled and unlabelled images, and those to validate on, must have one shape; "
            f"{one.name} has {one.image_shape} and {other.name} {other.image_shape}: resize them beforehand"
        )
