"""Batches of labelled slices or crops with unlabelled ones beside them, iteration by iteration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from aureole.core.errors import InputError
from aureole.core.method import Batch, Unlabelled
from aureole.core.random import Streams, mix_seed
from aureole.data.passes import Passes, check_processes
from aureole.data.scans.crop_augment import CropAugment
from aureole.data.scans.slice_augment import SliceAugment
from aureole.data.scans.training_scans import TrainingScans
from aureole.data.stratify import permutation


@dataclass(frozen=True)
class ScanBatch(Batch):
    """Labelled images with a class for each voxel, and unlabelled images beside them.

    Attributes:
        x: labelled images, shape (batch, channels, *patch), in the units of the scans.
        y: class of each voxel, int64, shape (batch, *patch).

    Example:
        >>> from aureole.data.scans import ScanBatch
        >>> y = torch.zeros(2, 8, 8, dtype=torch.int64)
        >>> ScanBatch(torch.rand(2, 1, 8, 8), y).everything.shape
        torch.Size([2, 1, 8, 8])
    """

    y: Int64[Tensor, "batch *patch"]

    @property
    def everything(self) -> Float[Tensor, "all channels *patch"]:
        """All images in one tensor, the labelled ones first, as the published code passes them on."""
        return self.x if self.unlabelled is None else torch.cat([self.x, self.unlabelled.views[0]])

    @property
    def all_streams(self) -> Streams | None:
        """One random stream for each image of :attr:`everything`; None where nobody gave any."""
        other = None if self.unlabelled is None else self.unlabelled.streams
        if self.streams is None or other is None:
            return self.streams if self.unlabelled is None else None
        return Streams(torch.cat([self.streams.keys, other.keys]))


@dataclass(eq=False, repr=False)
class ScanBatches(Passes):
    """Iterate over labelled images that carry unlabelled ones: the two-stream batches of SSL4MIS, counted in steps.

    The labelled items come in groups of ``labelled_batch_size``, a new order for each pass, what does not fill a last
    group left out: other items in each pass. The unlabelled items come in one new order after the other without a gap.
    Both go on over the ends of epochs, so that an epoch is nothing but a number of steps. The batch of a step depends
    on the seed and the number of the step alone; what happens to an item, on the seed, the item and its pass.

    Resuming and sharing out over processes are those of :class:`~aureole.data.loader.BatchLoader`.

    Args:
        scans: what to train on.
        labelled_batch_size: labelled images in a global batch, over all processes.
        unlabelled_batch_size: unlabelled images in a global batch, over all processes; 0 for none, for a method that
            learns from labels alone in the same number of steps.
        seed: of orders, augmentation and the streams that a batch carries.
        augment: what makes images of one size; :class:`SliceAugment` for slices, :class:`CropAugment` for volumes.
        steps_per_epoch: batches in an epoch; None for one pass over the labelled items.
        device: where the scans are held and the batches are.
        rank: which of the processes this is, from 0.
        world_size: number of processes.

    Raises:
        InputError: a batch is larger than its part of the scans or cannot be shared out evenly, there are no unlabelled
            items, or the augmentation is for other dimensions.

    Example:
        >>> from aureole.data.scans import ScanBatches, ScanData, SliceAugment
        >>> scans = ScanData(num_labelled=2).train_and_validation().train
        >>> batches = ScanBatches(
        ...     scans, labelled_batch_size=4, unlabelled_batch_size=6, seed=0, augment=SliceAugment(patch_size=(32, 32))
        ... )
        >>> batch = next(iter(batches))
        >>> batch.everything.shape, batch.y.shape
        (torch.Size([10, 1, 32, 32]), torch.Size([4, 32, 32]))

    Source: ``TwoStreamBatchSampler`` of SSL4MIS, after Tarvainen and Valpola 2017.
    """

    scans: TrainingScans
    _: KW_ONLY
    labelled_batch_size: int
    unlabelled_batch_size: int
    seed: int
    augment: SliceAugment | CropAugment
    steps_per_epoch: int | None = None
    device: torch.device | str = "cpu"
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        self._check()
        self._groups = self.scans.num_labelled // self.labelled_batch_size
        self._steps = self._groups if self.steps_per_epoch is None else self.steps_per_epoch
        self.scans = self.scans.to(self.device)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return self._steps

    def _check(self) -> None:
        check_processes(self.labelled_batch_size, self.rank, self.world_size, "labelled_batch_size")
        labelled, unlabelled = self.scans.num_labelled, len(self.scans) - self.scans.num_labelled
        if self.labelled_batch_size > labelled:
            raise InputError(
                f"labelled_batch_size must be at most {labelled}, the labelled items of {self.scans.name}; "
                f"got {self.labelled_batch_size}"
            )
        if self.unlabelled_batch_size:
            check_processes(self.unlabelled_batch_size, self.rank, self.world_size, "unlabelled_batch_size")
        if self.unlabelled_batch_size > unlabelled:
            raise InputError(
                f"unlabelled_batch_size must be at most {unlabelled}, the unlabelled items of {self.scans.name}; "
                f"got {self.unlabelled_batch_size}: label fewer patients, or set it to 0"
            )
        if self.steps_per_epoch is not None and self.steps_per_epoch < 1:
            raise InputError(f"steps_per_epoch must be at least 1; got {self.steps_per_epoch}")
        wanted = SliceAugment if self.scans.dimensions == 2 else CropAugment
        if not isinstance(self.augment, wanted):
            raise InputError(
                f"{self.scans.name} has {self.scans.dimensions} dimensions and needs {wanted.__name__}; "
                f"got {type(self.augment).__name__}"
            )

    def _batches(self, epoch: int, start: int) -> Iterator[ScanBatch]:
        for step in range(start, len(self)):
            index, streams = self._labelled(epoch * len(self) + step)
            x, y = self.augment(self.scans, index, streams.fork(0))
            assert y is not None
            yield ScanBatch(
                x=x,
                y=y,
                index=index.to(x.device),
                epoch=epoch,
                step=step,
                streams=self._carried(streams),
                unlabelled=self._unlabelled(epoch * len(self) + step) if self.unlabelled_batch_size else None,
            )

    def _labelled(self, step: int) -> tuple[Int64[Tensor, " share"], Streams]:
        """Return this process's labelled items of a step, counted from the first epoch's, with their streams."""
        cycle, group = divmod(step, self._groups)
        order = permutation(self.scans.num_labelled, mix_seed(self.seed, 0, cycle))
        index = self._share(order[group * self.labelled_batch_size :][: self.labelled_batch_size])
        return index, Streams.of(mix_seed(self.seed, 1, cycle), index)

    def _unlabelled(self, step: int) -> Unlabelled:
        labelled, size = self.scans.num_labelled, self.unlabelled_batch_size
        count = len(self.scans) - labelled
        cycle, place = divmod(step * size, count)
        orders = [permutation(count, mix_seed(self.seed, 2, cycle + later)) for later in (0, 1)]
        index = self._share(labelled + torch.cat(orders)[place : place + size])
        cycles = self._share(cycle + (torch.arange(place, place + size) >= count).long())
        streams = Streams.of(mix_seed(self.seed, 3), index).fork(cycles)
        x, _ = self.augment(self.scans, index, streams.fork(0), with_label=False)
        return Unlabelled((x,), index.to(x.device), self._carried(streams))

    def _share(self, values: Int64[Tensor, " global"]) -> Int64[Tensor, " share"]:
        return values.view(self.world_size, -1)[self.rank]

    def _carried(self, streams: Streams) -> Streams:
        return Streams(streams.fork(1).keys.to(self.device))
