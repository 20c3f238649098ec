"""A set of labelled images in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from aureole.core.errors import InputError


def check_labels(labels: Tensor, num_classes: int, name: str) -> None:
    """Raise unless there are labels, int64 of shape (n,), all in [0, num_classes)."""
    if labels.dtype != torch.int64 or labels.ndim != 1:
        raise InputError(f"labels of {name} must be int64 of shape (n,); got {labels.dtype} {tuple(labels.shape)}")
    if len(labels) == 0:
        raise InputError(f"{name} has no images; at least one is needed")
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise InputError(
            f"labels of {name} must lie in 0 to {num_classes - 1}; got {int(labels[row])} at row {row}: "
            "leave out unlabelled images, and number the classes from 0"
        )


def check_indices(indices: Tensor, count: int, name: str) -> None:
    """Raise unless the indices are int64 of shape (m,), at least one, all in [0, count)."""
    if indices.dtype != torch.int64 or indices.ndim != 1 or len(indices) == 0:
        raise InputError(
            f"indices into {name} must be int64 of shape (m,), m >= 1; got {indices.dtype} {tuple(indices.shape)}"
        )
    if int(indices.min()) < 0 or int(indices.max()) >= count:
        raise InputError(
            f"indices into {name} must lie in 0 to {count - 1}; got {int(indices.min())} to {int(indices.max())}"
        )


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images in memory.

    Attributes:
        images: uint8 in 0 to 255, shape (n, channels, height, width), n >= 1.
        labels: int64 in 0 to the number of classes - 1, shape (n,).
        class_names: a name for each class.
        name: what a person calls the set.

    Raises:
        InputError: a shape, a type or a label is not as above.

    Example:
        >>> images = Images(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 1, 0]), ("cat", "dog"))
        >>> len(images), images.num_classes, images.image_shape
        (4, 2, (1, 8, 8))
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    name: str = "images"

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or 0 in self.images.shape[1:]:
            raise InputError(
                f"images of {self.name} must be uint8 of shape (n, channels, height, width); "
                f"got {self.images.dtype} {tuple(self.images.shape)}"
            )
        if len(self.labels) != len(self.images):
            raise InputError(f"{self.name} needs a label an image; got {len(self.images)} and {len(self.labels)}")
        check_labels(self.labels, len(self.class_names), self.name)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of shape, pixels, labels and class names."""
        digest = hashlib.sha256(repr((tuple(self.images.shape), self.class_names)).encode())
        digest.update(self.images.cpu().contiguous().numpy().data)
        digest.update(self.labels.cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def batch(self, indices: Int64[Tensor, " batch"]) -> UInt8[Tensor, "batch channels height width"]:
        """Return the images at these places."""
        return self.images[indices]

    def subset(self, indices: Int64[Tensor, " m"]) -> Images:
        """Return the set of the images at these places, in this order."""
        check_indices(indices, len(self), self.name)
        return replace(self, images=self.images[indices], labels=self.labels[indices])
