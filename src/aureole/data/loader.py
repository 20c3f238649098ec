"""Batches of images in an order, and with random numbers, that depend on seed, epoch and example alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.core.random import Streams, mix_seed
from aureole.data.augment import Augment
from aureole.data.images import Images
from aureole.data.passes import Passes, check_processes, fetch, to_unit
from aureole.data.stratify import permutation
from aureole.data.streamed import ImageSet


@dataclass(eq=False, repr=False)
class BatchLoader(Passes):
    """Iterate over batches: one pass an epoch, each with its own order.

    Images in memory are copied to the device once, as uint8; others are read by worker processes. Over several
    processes every global batch is split into equal contiguous shares, so that the mean of the processes' gradients is
    the gradient of one process.

    A pass begins with the first ``next``, at the epoch and step that the loader then has. The epoch counter moves on as
    the last batch is handed out. A pass that is given up midway begins again at step 0 of its epoch, unless
    ``set_epoch`` moved on.

    Args:
        images: the set; a batch's ``index`` counts its images.
        batch_size: images in a global batch, over all processes; the last batch of an epoch may be smaller.
        seed: of order, augmentation and the streams that a batch carries.
        shuffle: whether each epoch has a random order.
        augment: what changes the images at random, in this order.
        device: where the batches are.
        rank: which of the processes this is, from 0.
        world_size: number of processes.
        drop_last: whether a smaller last batch is left out. It always is when it cannot be split evenly.
        memory_format: of ``x``, such as ``torch.channels_last``.
        num_workers: processes that read images that are not in memory.

    Raises:
        InputError: the batch size does not fit the number of processes or of images.

    Example:
        >>> from aureole.data import Data
        >>> loader = BatchLoader(Data(num_train=100).train_and_validation().train, batch_size=32, seed=0)
        >>> [len(batch) for batch in loader]
        [32, 32, 32, 4]
    """

    images: ImageSet
    _: KW_ONLY
    batch_size: int
    seed: int
    shuffle: bool = True
    augment: Sequence[Augment] = ()
    device: torch.device | str = "cpu"
    rank: int = 0
    world_size: int = 1
    drop_last: bool = False
    memory_format: torch.memory_format = torch.contiguous_format
    num_workers: int = 0

    def __post_init__(self) -> None:
        check_processes(self.batch_size, self.rank, self.world_size)
        count = len(self.images)
        full, partial = divmod(count, self.batch_size)
        keep_partial = partial > 0 and not self.drop_last and partial % self.world_size == 0
        self._num_examples = count if keep_partial else full * self.batch_size
        if self._num_examples == 0:
            raise InputError(
                f"batch_size must be at most {count}, the images of {self.images.name}, "
                f"as a smaller batch is left out here; got {self.batch_size}"
            )
        self.device = torch.device(self.device)
        self._labels = self.images.labels.to(self.device)
        if isinstance(self.images, Images):
            self.images = replace(self.images, images=self.images.images.to(self.device), labels=self._labels)

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""
        return math.ceil(self._num_examples / self.batch_size)

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        shares = self._shares(epoch)[start:]
        pixels = fetch(self.images, shares, torch.device(self.device), self.num_workers)
        for step, (index, share) in enumerate(zip(shares, pixels, strict=True), start):
            yield self._batch(epoch, step, index.to(self.device), share)

    def _shares(self, epoch: int) -> list[Int64[Tensor, " share"]]:
        """Return this process's share of each global batch of an epoch."""
        count = len(self.images)
        order = permutation(count, mix_seed(self.seed, epoch)) if self.shuffle else torch.arange(count)
        if isinstance(self.images, Images):
            order = order.to(self.device)  # once an epoch, so that no batch waits for a copy
        batches = order[: self._num_examples].split(self.batch_size)
        return [batch.view(self.world_size, -1)[self.rank] for batch in batches]

    def _batch(self, epoch: int, step: int, index: Tensor, pixels: Tensor) -> Batch:
        streams = Streams.of(mix_seed(self.seed, 1, epoch), index)
        for augment in self.augment:
            pixels = augment(pixels, streams)
        x = to_unit(pixels, self.memory_format)
        return Batch(x=x, y=self._labels[index], index=index, epoch=epoch, step=step, streams=streams)
