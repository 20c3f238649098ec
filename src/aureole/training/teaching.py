"""A student that learns from a teacher as a run: the teacher, trained or given, the student, and the two compared."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import tyro
from torch import nn

from aureole.core.errors import UntrustedResult
from aureole.core.random import mix_seed
from aureole.core.records import RECORD_NAME, Record, read_record
from aureole.core.taps import Taps
from aureole.data import ImageSet, Splits
from aureole.distill import Distillation
from aureole.explain import FromTeacher
from aureole.training.config import Training
from aureole.training.describe import describe
from aureole.training.evaluation.sources import ForeignModel, judged_images
from aureole.training.evaluation.trials import check_radius
from aureole.training.experiment import Around, prepared
from aureole.training.fit import build, claim_folder, fit, load_config
from aureole.training.recording import Stopwatch
from aureole.training.run import conclude


@dataclass(frozen=True, kw_only=True)
class Teaching(Around):
    """Teach a student what a teacher knows, and compare the two.

    Attributes:
        student: the run that trains the student.
        teacher: a run that trains the teacher, on the student's data but for how many of the training images it sees,
            or a user's own model; None takes the finished run in ``teacher_folder``.
        teacher_folder: of the teacher, seen from the folder of this run.
        student_taps: layers of the student that are compared; None takes its own.
        teacher_taps: layers of the teacher that are compared; None takes its own.
    """

    main: ClassVar[str] = "student"
    other: ClassVar[str] = "teacher"

    student: Annotated[Training, tyro.conf.arg(name="")] = Training()  # its fields have no prefix
    teacher: Annotated[Training | ForeignModel | None, tyro.conf.Suppress] = None
    teacher_folder: str = "teacher"
    student_taps: Annotated[Taps | None, tyro.conf.Suppress] = None
    teacher_taps: Annotated[Taps | None, tyro.conf.Suppress] = None

    @property
    def classifier(self) -> Training:
        """The student, whose weights the folder holds."""
        return self.student

    @property
    def title(self) -> str:
        """The row of the report."""
        return self.student.title

    def run(self, folder: Path, *, recipe: str = "") -> list[Record]:
        """Run it; see :func:`run_teaching`."""
        return [run_teaching(self, folder, recipe=recipe)]

    @abstractmethod
    def measured(self, student: nn.Module, teacher: nn.Module, images: ImageSet, folder: Path) -> dict[str, Any]:
        """Return what else the record says of a finished student, by its fields.

        Args:
            student: maps images to logits; on the CPU, as the teacher.
            teacher: the same.
            images: test images.
            folder: of the run.
        """


def run_teaching(config: Teaching, folder: Path, *, recipe: str = "") -> Record:
    """Train the teacher if need be, then the student; judge both and record; a finished run is returned as it is.

    Args:
        config: the run.
        folder: where it lives; made when it does not exist.
        recipe: name of the recipe that made the configuration.

    Returns:
        The record that ``folder/record.json`` holds.

    Raises:
        InputError: data, a model or the folder cannot be used, or student and teacher cannot be compared.
    """
    claim_folder(config, folder)
    if (folder / RECORD_NAME).exists():
        return read_record(folder)
    watch, run = Stopwatch(), config.student
    splits = run.data.train_and_validation()
    images, _ = judged_images(run.data, run.evaluation, splits)
    check_radius(run.evaluation.ball, splits.train.image_shape)
    if isinstance(config.teacher, Training):
        _pair(config, build(config.teacher, splits), splits)  # what cannot be compared is said before any training
    teacher = prepared(config.teacher, folder / config.teacher_folder, run, splits, recipe)
    fitted = fit(run, folder, splits, _pair(config, teacher, splits))
    network, teacher = fitted[0].eval(), teacher.cpu()
    networks = [
        describe(teacher, images, role="teacher", name=_name(config.teacher, folder / config.teacher_folder)),
        describe(network, images, role="student", name=run.model.name),
    ]
    with warnings.catch_warnings(record=True, action="always", category=UntrustedResult) as said:
        measured = config.measured(network, teacher, images, folder)
    notes = [str(warning.message) for warning in said]
    return conclude(
        config, run, folder, splits, watch, fitted, recipe=recipe, notes=notes, networks=networks, **measured
    )


def _pair(config: Teaching, teacher: nn.Module, splits: Splits) -> nn.Module | None:
    """Return what the method needs beside the student, on the CPU; None where it has no use for a teacher.

    What it learns starts where the run's seed says, on any device.
    """
    method, train = config.student.method, splits.train
    if not isinstance(method, Distillation | FromTeacher):
        return None
    remembered = {"num_examples": len(train)} if isinstance(method, Distillation) else {}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(mix_seed(config.student.seed, 3))
        return method.pair(
            build(config.student, splits),  # of the student's shapes
            teacher,
            torch.zeros(2, *train.image_shape),
            student_taps=config.student_taps,
            teacher_taps=config.teacher_taps,
            **remembered,
        )


def _name(teacher: Training | ForeignModel | None, home: Path) -> str:
    if isinstance(teacher, ForeignModel):
        return teacher.title
    return (teacher or load_config(home)).model.name
