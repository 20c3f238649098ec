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


class Runnable(ABC):
    """An experiment that knows how to run itself in a folder of its own.

    Attributes:
        has_options: its fields are options of the command line.
    """

    has_options: ClassVar[bool] = True

    @property
    @abstractmethod
    def title(self) -> str:
        """The row of the report."""

    @property
    def attacks(self) -> tuple[str, ...]:
        """Names of the attacks that judge what it trains."""
        return ()

    @property
    def classifier(self) -> Training | None:
        """The run of the classifier whose weights the folder holds; None where it holds something else."""
        return None

    @abstractmethod
    def run(self, folder: Path, *, recipe: str = "") -> list[Record]:
        """Run it in a folder, and return its records, its own last."""

    @abstractmethod
    def with_engine(self, **changes: object) -> Runnable:
        """Return the same experiment with fields of its :class:`~aureole.training.config.Engine` changed."""

    @abstractmethod
    def with_seed(self, seed: int) -> Runnable:
        """Return the same experiment under another seed."""

    def beside(self) -> Runnable:
        """Return the same experiment as one of several, which share what they train first, in the folder above."""
        return self

    def again(self, home: Path) -> Runnable:
        """Return what repeats the experiment of a record in the folder ``home``."""
        return self


@dataclass(frozen=True, kw_only=True)
class Around(Runnable):
    """An experiment around one training run, which may need a network that is trained first: a victim, a teacher.

    Attributes:
        main: name of the field that holds the training run.
        other: name of the field that holds the run, or the user's own model, of the network that comes first; the field
            ``OTHER_folder`` says where it lives, seen from the folder of this one. Empty where there is none.
        has_options: its fields, and with them those of the training run, are options of the command line.
    """

    main: ClassVar[str]
    other: ClassVar[str] = ""

    @property
    def training(self) -> Training:
        """The training run."""
        return getattr(self, self.main)

    @property
    def attacks(self) -> tuple[str, ...]:
        """Names of the attacks that judge what it trains."""
        return self.training.evaluation.attacks

    def with_engine(self, **changes: object) -> Around:
        """Return the same experiment with fields of every :class:`~aureole.training.config.Engine` in it changed."""
        return self.with_trainings(lambda run: replace(run, engine=replace(run.engine, **changes)))

    def with_trainings(self, change: Callable[[Training], Training]) -> Around:
        """Return the same experiment with every training run in it changed."""
        found = {name: getattr(self, name) for name in (self.main, self.other) if name}
        return replace(self, **{name: change(run) for name, run in found.items() if isinstance(run, Training)})

    def carrying(self, before: Around) -> Around:
        """Return the same experiment with what changed in the data of the training run changed for the other network.

        The number of images that the other learns from stays its own; that of validation changes with the run's.

        Args:
            before: the experiment without the changes.
        """
        model = getattr(self, self.other) if self.other else None
        old, new = before.training.data, self.training.data
        if not isinstance(model, Training) or old == new:
            return self
        data = model.data.like(new)
        if new.num_validation != old.num_validation:
            data = replace(data, num_validation=new.num_validation)
        return replace(self, **{self.other: replace(model, data=data)})

    def with_seed(self, seed: int) -> Around:
        """Return the same experiment with another seed of its training run."""
        return replace(self, **{self.main: replace(self.training, seed=seed)})

    def beside(self) -> Around:
        """Return the same experiment as one of several, which share what they train first, in the folder above."""
        return self._in(lambda folder: str(Path("..") / folder))

    def again(self, home: Path) -> Around:
        """Return what repeats the experiment of a record in the folder ``home``.

        The network that comes first is trained anew inside, or found where it was.
        """
        anew = bool(self.other) and getattr(self, self.other) is not None
        return self._in(lambda folder: self.other if anew else str((home / folder).resolve()))

    def _in(self, place: Callable[[str], str]) -> Around:
        name = f"{self.other}_folder"
        return replace(self, **{name: place(getattr(self, name))}) if self.other else self


def prepared(
    model: Training | ForeignModel | None, home: Path, learner: Training, splits: Splits, recipe: str
) -> nn.Module:
    """Return a network that another is trained with: its victim or its teacher, on the device of the run.

    Args:
        model: a run that trains it, on the learner's data but for how many of the training images it sees; a user's
            own model; or None for the finished run in ``home``.
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
            run_training(replace(model, data=model.data.like(learner.data)), home, recipe=recipe)
        network, _ = load_model(home)
    check_fit(network, splits.train)
    wants_gpu = learner.engine.accelerator != "cpu" and torch.cuda.is_available()
    return network.to("cuda" if wants_gpu else "cpu").eval()
