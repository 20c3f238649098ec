"""What happens around the steps: a checkpoint every so often, and a bar that says how long it will take."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aureole.core.errors import InputError, first_line


def progress_bar(*, enabled: bool = True) -> Progress:
    """Return a bar with count and time left, on standard error; silent where that is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not (enabled and console.is_terminal),
    )


class SaveOften(Checkpoint):
    """Write ``last.ckpt`` after every epoch, and in mid-epoch when the last one is old enough; each write is atomic.

    Lightning calls a ``Checkpoint`` after the module's own end of an epoch, so what the epoch changed there (the
    schedule, the history) is in the file.

    Args:
        path: of the checkpoint.
        seconds: the age from which it is written anew.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self.path, self.seconds, self.written = path, seconds, time.monotonic()

    def _save(self, trainer: Trainer) -> None:
        try:
            trainer.save_checkpoint(self.path)
        except (OSError, RuntimeError) as error:  # torch's writer says RuntimeError where the disk is full
            raise InputError(
                f"cannot write the checkpoint {self.path} ({first_line(error)}): the one before it is kept; mend the"
                " cause, and give the same command again to resume"
            ) from error
        self.written = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a checkpoint if the last is old; the first process decides for all."""
        old = time.monotonic() - self.written > self.seconds and not trainer.is_last_batch
        if trainer.strategy.broadcast(old) if trainer.world_size > 1 else old:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last checkpoint."""
        self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write a checkpoint after each epoch."""
        self._save(trainer)


class Bar(Callback):
    """A bar over all steps of the run."""

    def __init__(self, title: str, *, enabled: bool) -> None:
        self.title = title
        self.progress = progress_bar(enabled=enabled)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar, from where the run stands."""
        steps = int(trainer.num_training_batches)
        done = trainer.current_epoch * steps + trainer.fit_loop.epoch_loop.batch_progress.current.completed
        self.task = self.progress.add_task(self.title, total=steps * (trainer.max_epochs or 1), completed=done, note="")
        if trainer.is_global_zero:
            self.progress.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on by one step."""
        self.progress.advance(self.task)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how well the model does."""
        note = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.progress.update(self.task, note=note)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the bar away, also after an exception."""
        self.progress.stop()
