"""One LightningModule that hosts any method.

Every step draws from streams that derive from (seed, epoch, step), dropout included, so a run that is killed and
resumed in the middle of an epoch ends with the same weights, bit for bit on the CPU.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from aureole.core.method import Batch, Method
from aureole.core.random import mix_seed
from aureole.data import BatchLoader, FewLabelsSplits, RandomCrop, RandomHorizontalFlip, Splits, TwoStreams
from aureole.data.passes import Passes
from aureole.training.config import Engine, Training
from aureole.training.optimizers import Optimizer

_AUGMENT = {"none": (), "crop-flip": (RandomCrop(4), RandomHorizontalFlip())}


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value if name in sums else value


@runtime_checkable
class Loop(Protocol):
    """What the loop asks of a run, whatever it trains; see :class:`~aureole.training.config.Training`."""

    @property
    def title(self) -> str: ...
    @property
    def method(self) -> Method: ...
    @property
    def optimizer(self) -> Optimizer: ...
    @property
    def epochs(self) -> int: ...
    @property
    def patience(self) -> int | None: ...
    @property
    def clip_norm(self) -> float | None: ...
    @property
    def ema_decay(self) -> float | None: ...
    @property
    def keep_best(self) -> bool: ...
    @property
    def seed(self) -> int: ...
    @property
    def engine(self) -> Engine: ...


Config = TypeVar("Config", bound=Loop)


class LoopModule(LightningModule, Generic[Config]):
    """Train a network by the method of a run; what is trained on and validated on is the subclass's.

    Args:
        config: the run.
        network: maps images to logits.
        example: a batch of two images, for parts of the method that depend on their shape.
        parts: what the method uses beside the network; None asks the method for its own.
        keep: handed the network after each epoch of a new highest validation score.

    Attributes:
        history: one dictionary an epoch: ``epoch``, mean of each term as ``train/NAME``, ``train/loss``,
            and the mean of each measure as ``validation/NAME``.
        seconds: training time of each epoch, without validation.
        validate_every: so many epochs.
    """

    validate_every = 1

    def __init__(
        self,
        config: Config,
        network: nn.Module,
        example: Tensor,
        parts: nn.Module | None = None,
        keep: Callable[[nn.Module], None] | None = None,
    ) -> None:
        super().__init__()
        self.keep = keep
        self.automatic_optimization = False
        self.config, self.network = config, network
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(mix_seed(config.seed, 3))
            self.parts = config.method.own(network, example) if parts is None else parts
        self.history: list[dict[str, float]] = []
        self.seconds: list[float] = []
        self._sums: dict[str, Tensor] = {}
        self._judged: dict[str, Tensor] = {}
        self._elapsed = 0.0
        self._tick = 0.0

    @abstractmethod
    def train_dataloader(self) -> Passes:
        """Return this process's share of the training batches."""

    @abstractmethod
    def val_dataloader(self) -> Any:
        """Return this process's share of what is validated on."""

    def configure_optimizers(self) -> Any:
        """Return the network's optimiser with its schedule, and that of the method's own parts."""
        c = self.config
        main = c.optimizer.build([*self.network.parameters(), *c.method.own_parameters(self.parts)])
        own = None if self.parts is None else c.method.own_optimizer(self.parts)
        return [main] if own is None else [main, own], [c.optimizer.build_schedule(main, c.epochs)]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Return the batch as it is: the loader keeps it on the device."""
        return batch

    def on_train_start(self) -> None:
        """Start the clock, also in mid-epoch; leave a run alone that had stopped at its last checkpoint."""
        self._tick = time.perf_counter()
        self.trainer.should_stop = bool(self.history) and self._has_converged()

    def on_train_epoch_start(self) -> None:
        """Start the clock, and tell the loader which epoch it is: a resumed run may begin with any."""
        loader = self.trainer.train_dataloader
        assert isinstance(loader, Passes)
        loader.set_epoch(self.current_epoch)
        self._tick = time.perf_counter()

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Take one step of every optimiser along the gradient of the method's total."""
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(mix_seed(self.config.seed, 2, int(batch.epoch or 0), batch.step, self.global_rank))
            terms = self.config.method.loss(self.network, batch, self.parts)
            total = terms.total
            for optimizer in optimizers:
                optimizer.zero_grad()
            self.manual_backward(total)
        if self.config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        for optimizer in optimizers:
            optimizer.step()
        if self.config.optimizer.schedule == "iterations":
            self._next_rate()
        self.config.method.after_step(self.network, batch, self.parts)
        for name, value in {**terms, "loss": total, "examples": torch.ones_like(total)}.items():
            _add(self._sums, name, value.detach() * len(batch))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the time of this epoch."""
        now = time.perf_counter()
        self._elapsed, self._tick = self._elapsed + now - self._tick, now

    def on_train_epoch_end(self) -> None:
        """Move the schedule on, and write down the epoch's means (after its validation)."""
        if self.config.optimizer.schedule != "iterations":
            self._next_rate()
        row = {"epoch": float(self.current_epoch + 1)}
        row |= {f"train/{name}": value for name, value in self._means(self._sums).items()}
        row |= {f"validation/{name}": value for name, value in self._means(self._judged).items()}
        self.history.append(row)
        self.seconds.append(self._elapsed)
        self._sums, self._judged, self._elapsed = {}, {}, 0.0
        self.trainer.should_stop = self.trainer.should_stop or self._has_converged()
        if self.keep is not None and self.trainer.is_global_zero and self._is_best():
            self.keep(self.config.method.trained(self.network, self.parts))
        for logger in self.loggers:
            logger.log_metrics({k: v for k, v in row.items() if k != "epoch"}, step=self.current_epoch + 1)

    def _next_rate(self) -> None:
        """Move the schedule on, after a stage of the method."""
        schedulers = self.lr_schedulers()
        assert isinstance(schedulers, torch.optim.lr_scheduler.LRScheduler)
        if self.current_epoch >= self.config.method.warm_up_epochs:
            schedulers.step()  # pyright: ignore[reportCallIssue]

    def _means(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the means of what was summed, over all processes; none where there was nothing."""
        if not sums:
            return {}
        gathered = {name: self._over_processes(value) for name, value in sorted(sums.items())}
        count = gathered.pop("examples")
        return {name: float(value / count) for name, value in gathered.items()}

    def _has_converged(self) -> bool:
        """Say whether the loss has not fallen for as many epochs as the run waits, after a stage of the method."""
        patience, before = self.config.patience, self.config.method.warm_up_epochs
        losses = [row["train/loss"] for row in self.history[before:]]
        return patience is not None and bool(losses) and len(losses) - 1 - losses.index(min(losses)) >= patience

    def _is_best(self) -> bool:
        """Say whether no epoch before had as high a validation accuracy, of what the run is for."""
        names = ("validation/ema_accuracy", "validation/accuracy")
        found = [next((row[name] for name in names if name in row), 0.0) for row in self.history]
        return all(value < found[-1] for value in found[:-1])

    def _over_processes(self, value: Tensor) -> Tensor:
        """Return the sum of a value over all processes."""
        gathered = self.all_gather(value)
        assert isinstance(gathered, Tensor)
        return gathered.sum()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what the epoch has summed so far."""
        state = {"history": self.history, "seconds": self.seconds, "sums": self._sums, "elapsed": self._elapsed}
        checkpoint["aureole"] = state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what the epoch had summed."""
        state = checkpoint["aureole"]
        self.history, self.seconds, self._elapsed = list(state["history"]), list(state["seconds"]), state["elapsed"]
        self._sums = {name: value.to(self.device) for name, value in state["sums"].items()}


class TrainingModule(LoopModule[Training]):
    """Train a classifier by a :class:`~aureole.training.config.Training`.

    Args:
        config: the run.
        network: maps images to logits.
        splits: training and validation images.
        parts: what the method uses beside the network; None asks the method for its own.
        keep: handed the network after each epoch of a new highest validation accuracy.
    """

    def __init__(
        self,
        config: Training,
        network: nn.Module,
        splits: Splits,
        parts: nn.Module | None = None,
        keep: Callable[[nn.Module], None] | None = None,
    ) -> None:
        super().__init__(config, network, torch.zeros(2, *splits.train.image_shape), parts, keep)
        self.splits = splits

    def _loader(self, part: str) -> BatchLoader:
        channels_last = self.config.engine.channels_last
        return BatchLoader(
            self.splits.train if part == "train" else self.splits.validation,
            batch_size=self.config.batch_size,
            seed=mix_seed(self.config.seed, 0 if part == "train" else 1),
            shuffle=part == "train",
            augment=_AUGMENT[self.config.augment] if part == "train" else (),
            device=self.device,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            memory_format=torch.channels_last if channels_last else torch.contiguous_format,
        )

    def train_dataloader(self) -> Passes:
        """Return this process's share of the training batches; with unlabelled images beside, where there are any."""
        if not isinstance(self.splits, FewLabelsSplits):
            return self._loader("train")
        config = self.config
        return TwoStreams(
            self.splits.labelled,
            self.splits.unlabelled,
            batch_size=config.batch_size,
            unlabelled_batch_size=config.unlabelled_batch_size,
            seed=mix_seed(config.seed, 0),
            views=config.method.views,
            kind=config.views,
            steps_per_epoch=config.steps_per_epoch,
            device=self.device,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            memory_format=torch.channels_last if config.engine.channels_last else torch.contiguous_format,
        )

    def val_dataloader(self) -> BatchLoader:
        """Return this process's share of the validation batches."""
        return self._loader("validation")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Sum the method's measures over one validation batch."""
        measures = self.config.method.judge(self.network, batch, self.parts)
        for name, values in {**measures, "examples": torch.ones(len(batch), device=self.device)}.items():
            _add(self._judged, name, values.sum())
