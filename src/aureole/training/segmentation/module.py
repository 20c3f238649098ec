"""The training loop of segmentation: two-stream batches in, mean Dice over the validation scans out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from aureole.core.random import mix_seed
from aureole.data.scans import ScanBatches, ScanSplits, TrainingScans
from aureole.training.module import LoopModule
from aureole.training.segmentation.config import Segmenting
from aureole.training.segmentation.measure import mean_dice

_DICE = "validation/dice"


def batches(
    config: Segmenting,
    scans: TrainingScans,
    *,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
) -> ScanBatches:
    """Return the batches that a run trains on.

    Args:
        config: the run.
        scans: to train on.
        device: where the batches are.
        rank: which of the processes this is, from 0.
        world_size: number of processes.

    Raises:
        InputError: there are too few scans for a batch, or they have other dimensions than the patches.
    """
    return ScanBatches(
        scans,
        labelled_batch_size=config.labelled_batch_size,
        unlabelled_batch_size=config.unlabelled_batch_size,
        seed=mix_seed(config.seed, 0),
        augment=config.augment,
        steps_per_epoch=config.steps_per_epoch,
        device=device,
        rank=rank,
        world_size=world_size,
    )


class SegmentingModule(LoopModule[Segmenting]):
    """Train a network by the method of a :class:`~aureole.training.segmentation.Segmenting`.

    Args:
        config: the run.
        network: maps patches to logits of each position.
        splits: scans to train on, and to validate on where there are any.
        keep: handed the network after each epoch of a new highest validation Dice.
    """

    def __init__(
        self,
        config: Segmenting,
        network: nn.Module,
        splits: ScanSplits,
        keep: Callable[[nn.Module], None] | None = None,
    ) -> None:
        example = torch.zeros(2, splits.train.num_channels, *config.patch_size)
        super().__init__(config, network, example, None, keep)
        self.splits, self.validate_every = splits, config.validate_every

    def train_dataloader(self) -> ScanBatches:
        """Return this process's share of the training batches."""
        trainer = self.trainer
        return batches(
            self.config,
            self.splits.train,
            device=self.device,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )

    def val_dataloader(self) -> range:
        """Return the first place of each group of validation scans, one scan a process."""
        return range(0, 0 if self.splits.validation is None else len(self.splits.validation), self.trainer.world_size)

    def validation_step(self, batch: int, batch_idx: int) -> None:
        """Add the mean Dice of one validation scan; the last group may have none for this process."""
        scans, place = self.splits.validation, batch + self.trainer.global_rank
        assert scans is not None
        dice = None
        if place < len(scans):
            scan = scans[place]
            network = self.config.method.trained(self.network, self.parts)
            found = self.config.segment(network, scan.image, slice_axis=scan.slice_axis)
            assert scan.label is not None
            dice = mean_dice(found, scan.label, scans.num_classes)
        for name, value in {"dice": dice or 0.0, "examples": float(dice is not None)}.items():
            before = self._judged.get(name, torch.zeros((), device=self.device))
            self._judged[name] = before + value

    def _is_best(self) -> bool:
        """Say whether no epoch before had as high a validation Dice."""
        found = [row[_DICE] for row in self.history if _DICE in row]
        return _DICE in self.history[-1] and all(value < found[-1] for value in found[:-1])
