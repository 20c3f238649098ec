"""What a recipe returns, seen from the command line: something around one training run, with a folder of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from aureole.core.records import Record
from aureole.data import Splits
from aureole.training.config import Training
from aureole.training.evaluation.sources import ForeignModel, check_fit
from aureole.training.fit import load_model
from aureole.training.run import run_training


@dataclass(frozen=True, kw_only=True)
class Around(ABC):
    """An experiment around one training run.

    Attributes:
        has_options: its fields, and with them those of the training run, are options of the command line.
    """

    has_options: ClassVar[bool] = True

    @property
    @abstractmethod
    def training(self) -> Training:
        """The training run."""

    @property
    def classifier(self) -> Training | None:
        """The run of the classifier whose weights the folder holds; None where it holds something else."""
        return None

    @property
    @abstractmethod
    def title(self) -> str:
        """The row of the report."""

    @abstractmethod
    def with_trainings(self, change: Callable[[Training], Training]) -> Around:
        """Return the same experiment with every training run in it changed."""

    @abstractmethod
    def with_seed(self, seed: int) -> Around:
        """Return the same experiment under another seed."""

    def beside(self) -> Around:
        """Return the same experiment as one of several, which share what they train first: a victim, a teacher."""
        return self

    @abstractmethod
    def run(self, folder: Path, *, recipe: str = "") -> list[Record]:
        """Run it in a folder, and return its records, its own last."""

    def again(self, home: Path) -> Around:
        """Return what repeats the experiment of a record in the folder ``home``."""
        del home
        return self


def prepared(
    model: Training | ForeignModel | None, home: Path, learner: Training, splits: Splits, recipe: str
) -> nn.Module:
    """Return a network that another is trained with: its victim or its teacher, on the device of the run.

    Args:
        model: a run that trains it, on data from the same place as the learner's; a user's own model; or None for the
            finished run in ``home``.
        home: folder of its run.
        learner: the run that needs it.
        splits: of the learner.
        recipe: name of the recipe that made the configuration.

    Raises:
        InputError: there is no finished run, or the network does not fit the images.
    """
    if isinstance(model, ForeignModel):
        network = model.build()
    else:
        if model is not None:
            run_training(replace(model, data=replace(model.data, source=learner.data.source)), home, recipe=recipe)
        network, _ = load_model(home)
    check_fit(network, splits.train)
    wants_gpu = learner.engine.accelerator != "cpu" and torch.cuda.is_available()
    return network.to("cuda" if wants_gpu else "cpu").eval()
