"""What every loader of batches does: it counts epochs and steps, shares a batch out, and fetches its images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.data.images import Images
from aureole.data.streamed import ImageSet, Streamed


class Passes(ABC):
    """Iterate over batches: one pass an epoch, which can be left and taken up again at any step.

    A pass begins with the first ``next``, at the epoch and step that the loader then has. The epoch counter moves on as
    the last batch is handed out. A pass that is given up midway begins again at step 0 of its epoch, unless
    ``set_epoch`` moved on.
    """

    _epoch = 0
    _start = 0
    _step = 0

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""

    @abstractmethod
    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """Yield the batches of an epoch from step ``start`` on."""

    def __iter__(self) -> Iterator[Batch]:
        epoch, start = self._epoch, self._start
        self._start = 0
        for step, batch in enumerate(self._batches(epoch, start), start):
            done = step + 1 == len(self)
            self._epoch, self._step = (epoch + 1, 0) if done else (epoch, step + 1)
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be that of ``epoch``, from its beginning; without effect if it is already its turn."""
        if epoch != self._epoch:
            self._epoch, self._start, self._step = epoch, 0, 0

    def state_dict(self) -> dict[str, int]:
        """Return the epoch, and how many of its batches were handed out."""
        return {"epoch": self._epoch, "step": self._step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass hand out the batches that remained when ``state`` was taken.

        Raises:
            InputError: an epoch has no such step: the state is that of another loader.
        """
        if not 0 <= state["step"] < len(self):
            raise InputError(
                f"step must be 0 to {len(self) - 1}, as an epoch has {len(self)} batches; got {state['step']}"
            )
        self._epoch = state["epoch"]
        self._start = self._step = state["step"]


class _Batches(Dataset["Tensor | InputError"]):
    """The batches of a pass over images that are read on demand; workers take one batch each."""

    def __init__(self, images: Streamed, indices: Sequence[Tensor]) -> None:
        self.images = images
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, step: int) -> Tensor | InputError:
        try:
            return self.images.batch(self.indices[step])
        except InputError as error:
            # Raised from a worker, it would arrive with a traceback in its message.
            return error


def fetch(
    images: ImageSet, shares: Sequence[Tensor], device: torch.device, num_workers: int
) -> Iterator[UInt8[Tensor, "share channels height width"]]:
    """Yield the images of each share on the device: gathered there, or read by workers.

    Args:
        images: the set; one in memory lies on ``device`` already, and so do its shares.
        shares: places in the set, one tensor a batch.
        device: where the batches are.
        num_workers: processes that read images that are not in memory.

    Raises:
        InputError: an image is unreadable.
    """
    if isinstance(images, Images):
        return (images.batch(share) for share in shares)
    pin = device.type == "cuda"
    reader = DataLoader(_Batches(images, shares), batch_size=None, num_workers=num_workers, pin_memory=pin)
    return (_unwrap(pixels).to(device, non_blocking=pin) for pixels in reader)


def _unwrap(pixels: Tensor | InputError) -> Tensor:
    if isinstance(pixels, InputError):
        raise pixels
    return pixels


def to_unit(
    pixels: UInt8[Tensor, "batch channels height width"], memory_format: torch.memory_format
) -> Float[Tensor, "batch channels height width"]:
    """Return the images as floats in [0, 1], in a memory format of their own."""
    return pixels.float().div_(255).contiguous(memory_format=memory_format)


def check_processes(batch_size: int, rank: int, world_size: int, name: str = "batch_size") -> None:
    """Check that a process is one of ``world_size``, and that a batch has an equal share for each of them.

    Raises:
        InputError: it is not, or it has not.
    """
    if world_size < 1 or not 0 <= rank < world_size:
        raise InputError(f"rank must be 0 to world_size - 1; got rank {rank} of {world_size}")
    if batch_size < 1 or batch_size % world_size:
        raise InputError(
            f"{name} counts the images of all {world_size} processes and must be a multiple of it; got {batch_size}"
        )
