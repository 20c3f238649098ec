"""Batches of labelled images with unlabelled ones beside them, each stream with a batch size of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from itertools import repeat

import torch
from jaxtyping import Int64
from torch import Tensor

from aureole.core.errors import InputError
from aureole.core.method import Batch, Unlabelled
from aureole.core.random import Streams, mix_seed
from aureole.data.few_labels import check_shapes_agree
from aureole.data.images import Images
from aureole.data.passes import Passes, check_processes, fetch, to_unit
from aureole.data.streamed import ImageSet
from aureole.data.views import Chain, view


@dataclass(frozen=True)
class _Share:
    """Places of images in their set; ``cycle`` counts the passes over the set before, for each of them."""

    index: Int64[Tensor, " share"]
    cycle: Int64[Tensor, " share"]


@dataclass(eq=False, repr=False)
class TwoStreams(Passes):
    """Iterate over labelled batches that carry unlabelled images, in one or several views.

    An epoch is a number of steps, and all batches are full. Each epoch begins both streams with a new order; a stream
    that comes to the end of its set goes on with another order of it. What happens to an image depends on the seed,
    the epoch, the image, and how often it came before in this epoch: not on the batch sizes, on the number of
    processes, nor on the other views, so that methods with other views still see the same labelled batches.

    Resuming, sharing out over processes and the place of the images are those of
    :class:`~aureole.data.loader.BatchLoader`.

    Args:
        labelled: the labelled images; a batch's ``index`` counts them.
        unlabelled: the images whose labels are not looked at; the ``index`` of a batch's ``unlabelled`` counts them.
        batch_size: labelled images in a global batch, over all processes.
        unlabelled_batch_size: unlabelled images in a global batch, over all processes.
        seed: of orders, augmentation and the streams that a batch carries.
        views: names of the views that are made of each unlabelled image, each with random numbers of its own; none
            leaves ``unlabelled`` out, for a method that learns from labels alone in the same number of steps.
        labelled_view: name of the view of the labelled images.
        kind: of picture, which says what makes a view (:data:`aureole.data.views.VIEWS`), or one's own views by name.
        steps_per_epoch: batches in an epoch; None for one pass over the unlabelled images, the images that do not fill
            a last batch left out: others in each epoch.
        device: where the batches are.
        rank: which of the processes this is, from 0.
        world_size: number of processes.
        memory_format: of all images, such as ``torch.channels_last``.
        num_workers: processes that read images that are not in memory, for each stream.

    Raises:
        InputError: a batch is larger than its set or cannot be shared out evenly, the images of the two sets differ in
            shape, or a name is unknown.

    Example:
        >>> from aureole.data import FewLabels
        >>> splits = FewLabels(num_labelled=50).train_and_validation()
        >>> loader = TwoStreams(
        ...     splits.labelled,
        ...     splits.unlabelled,
        ...     batch_size=20,
        ...     unlabelled_batch_size=100,
        ...     seed=0,
        ...     views=("weak", "strong"),
        ...     kind="digits",
        ... )
        >>> batch = next(iter(loader))
        >>> len(loader), len(batch), len(batch.unlabelled), len(batch.unlabelled.views)
        (12, 20, 100, 2)
    """

    labelled: ImageSet
    unlabelled: ImageSet
    _: KW_ONLY
    batch_size: int
    unlabelled_batch_size: int
    seed: int
    views: tuple[str, ...] = ("weak",)
    labelled_view: str = "weak"
    kind: str | Mapping[str, Chain] = "photos"
    steps_per_epoch: int | None = None
    device: torch.device | str = "cpu"
    rank: int = 0
    world_size: int = 1
    memory_format: torch.memory_format = torch.contiguous_format
    num_workers: int = 0

    def __post_init__(self) -> None:
        self._check()
        steps = self.steps_per_epoch
        self._steps = len(self.unlabelled) // self.unlabelled_batch_size if steps is None else steps
        self._chain = view(self.labelled_view, self.kind)
        self._chains = [view(name, self.kind) for name in self.views]
        self.device = torch.device(self.device)
        self._labels = self.labelled.labels.to(self.device)
        self.labelled = _place(self.labelled, self.device)
        self.unlabelled = _place(self.unlabelled, self.device)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return self._steps

    def _check(self) -> None:
        check_processes(self.batch_size, self.rank, self.world_size)
        check_processes(self.unlabelled_batch_size, self.rank, self.world_size, "unlabelled_batch_size")
        check_shapes_agree(self.labelled, self.unlabelled)
        if self.batch_size > len(self.labelled):
            raise InputError(
                f"batch_size must be at most {len(self.labelled)}, the labelled images of {self.labelled.name}; "
                f"got {self.batch_size}"
            )
        if self.unlabelled_batch_size > len(self.unlabelled):
            raise InputError(
                f"unlabelled_batch_size must be at most {len(self.unlabelled)}, the unlabelled images of "
                f"{self.unlabelled.name}; got {self.unlabelled_batch_size}"
            )
        if self.steps_per_epoch is not None and self.steps_per_epoch < 1:
            raise InputError(f"steps_per_epoch must be at least 1; got {self.steps_per_epoch}")

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        labelled = self._read(self.labelled, self.batch_size, mix_seed(self.seed, 0, epoch), start)
        unlabelled = repeat(None, len(self) - start)
        if self.views:
            unlabelled = self._read(self.unlabelled, self.unlabelled_batch_size, mix_seed(self.seed, 1, epoch), start)
        for step, ((share, pixels), other) in enumerate(zip(labelled, unlabelled, strict=True), start):
            streams = self._streams(2, epoch, share)
            yield Batch(
                x=self._view(self._chain, pixels, streams),
                y=self._labels[share.index],
                index=share.index,
                epoch=epoch,
                step=step,
                streams=streams,
                unlabelled=None if other is None else self._unlabelled(epoch, *other),
            )

    def _read(self, images: ImageSet, size: int, seed: int, start: int) -> Iterator[tuple[_Share, Tensor]]:
        """Yield this process's share of each batch of an epoch from step ``start`` on, with its images."""
        device = torch.device(self.device)
        count, needed = len(images), len(self) * size
        keys = Streams.of(seed, torch.arange(math.ceil(needed / count) * count)).keys
        index = keys.view(-1, count).argsort(dim=1, stable=True).flatten()[:needed]
        cycle = (torch.arange(needed) // count).to(device)
        if isinstance(images, Images):
            index = index.to(device)  # once an epoch, so that no batch waits for a copy
        index, cycle = (places.view(len(self), self.world_size, -1)[start:, self.rank] for places in (index, cycle))
        pixels = fetch(images, index.unbind(), device, self.num_workers)
        for places, cycles, part in zip(index, cycle, pixels, strict=True):
            yield _Share(places.to(device), cycles), part

    def _streams(self, purpose: int, epoch: int, share: _Share) -> Streams:
        return Streams.of(mix_seed(self.seed, purpose, epoch), share.index).fork(share.cycle)

    def _view(self, chain: Chain, pixels: Tensor, streams: Streams) -> Tensor:
        for augment in chain:
            pixels = augment(pixels, streams)
        return to_unit(pixels, self.memory_format)

    def _unlabelled(self, epoch: int, share: _Share, pixels: Tensor) -> Unlabelled:
        streams = self._streams(3, epoch, share)
        views = tuple(self._view(chain, pixels, streams.fork(place)) for place, chain in enumerate(self._chains))
        return Unlabelled(views, share.index, self._streams(4, epoch, share))


def _place(images: ImageSet, device: torch.device) -> ImageSet:
    """Return a set in memory on the device, and any other as it is."""
    if not isinstance(images, Images):
        return images
    return replace(images, images=images.images.to(device), labels=images.labels.to(device))
