"""Judge a model under several attacks: one row an attack, outcomes point by point, resumable, by several processes."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aureole.attacks.base import Attack
from aureole.attacks.gradient import GradientAttack
from aureole.core import records
from aureole.core.balls import Ball
from aureole.core.config import to_values
from aureole.core.errors import InputError, UntrustedResult
from aureole.core.method import Batch
from aureole.core.model import logits_of
from aureole.core.random import Streams, mix_seed
from aureole.data import BatchLoader
from aureole.metrics import FileJournal, Outcomes, OutcomeTable, evaluate, model_fingerprint
from aureole.training.config import Evaluation
from aureole.training.evaluation.notes import merged
from aureole.training.evaluation.progress import Bars
from aureole.training.evaluation.sources import ForeignModel, Subject, TrainedRun
from aureole.training.evaluation.trials import WORST_CASE, Trial, at_radius, check_radius, reaches_one_picture

JOURNALS = "journal"
_MOST_CLASSES = 20  # of a confusion that goes into a record


@dataclass(frozen=True, kw_only=True)
class Job:
    """An evaluation as a value: what several processes, or a later start, need to know of it.

    Attributes:
        source: where the model comes from.
        trials: the attacks.
        plan: which images, and how many at once; the attacks, their balls, steps and seeds are in the trials.
        own: the plan that needs no name in a row; None names every radius.
        devices: processes that share the images.
        progress: show a bar.
        worst_case: add a row for the images that no attack fooled.
        fingerprint: of the model's weights, where they are known.
    """

    source: TrainedRun | ForeignModel
    trials: tuple[Trial, ...]
    plan: Evaluation
    own: Evaluation | None = None
    devices: int = 1
    progress: bool = True
    worst_case: bool = True
    fingerprint: str = ""


@dataclass(frozen=True)
class Judged:
    """What came out.

    Attributes:
        rows: natural accuracy, one row an attack, and the worst cases.
        notes: what makes a row hard to believe, one line each, after the row's name.
        num_examples: images judged.
        job: what was asked for.
        outcomes: the file of the outcomes of every point.
    """

    rows: list[records.Evaluation]
    notes: list[str]
    num_examples: int
    job: Job
    outcomes: Path


def judge(job: Job, subject: Subject, folder: Path) -> Judged:
    """Judge a model: its natural accuracy, then each attack.

    What is decided lies in ``folder/journal`` until :func:`forget`: an interrupted evaluation that is given again
    attacks no point twice. The outcomes of all points lie in ``folder/outcomes-N.npz``, N the number of images, beside
    those of earlier attacks on the same images and weights.

    Args:
        job: the attacks, and how they run.
        subject: the model and the images.
        folder: of the run.

    Returns:
        The rows and what speaks against them.

    Raises:
        InputError: an attack does not fit the model, the memory does not suffice, or the folder holds a part of an
            evaluation of another model, other data or other settings.
    """
    for trial in job.trials:
        check_radius(trial.attack.ball, subject.images.image_shape)
    device = device_of(subject, 0)
    subject = replace(subject, network=subject.network.to(device).eval())
    keys = {trial.label: key_of(trial, subject) for trial in job.trials}
    with memory_errors(job.plan.batch_size), Bars(subject.title, enabled=job.progress) as bars:
        clock = time.perf_counter()
        with _listening(subject.network) as heard:
            natural = evaluate(subject.network, batches(subject, job.plan.seed, job.plan.batch_size, device), None)
        confusion = _confusion(natural.labels, heard) if isinstance(job.source, TrainedRun) else []
        settings = {"seed": job.plan.seed}
        rows = [_row("natural", natural, time.perf_counter() - clock, settings, confusion=confusion)]
        table = OutcomeTable.of(natural, about=_about(subject))
        if job.devices > 1 and job.trials:
            from aureole.training.evaluation.processes import share

            share(job, folder, bars, len(subject.images))
        notes = list[str]()
        for trial in job.trials:
            with FileJournal(journal_of(folder, trial), keys[trial.label], watch=bars.of(trial.label)) as journal:
                outcomes = attack_points(trial, job, subject, device, journal)
                rows.append(_attack_row(trial, outcomes, journal.seconds))
                found = [*merged(journal.heard), *_doubts(trial, outcomes, subject)]
                notes += [f"{trial.label}: {note}" for note in found]
            bars.end()
            table = table.with_attack(trial.label, outcomes, threat=_threat(trial.attack.ball))
    path = folder / f"outcomes-{len(natural)}.npz"
    table = table.merged(OutcomeTable.read(path))
    table.save(path)
    return Judged(rows + (_worst_cases(table, job, rows) if job.worst_case else []), notes, len(natural), job, path)


def forget(job: Job, folder: Path, num_examples: int | None = None) -> None:
    """Delete what an evaluation has kept to be resumed.

    Args:
        job: the evaluation; its rows are in the record, or it is to start over.
        folder: of the run.
        num_examples: it was on so many images: what an interrupted one has decided of more stays. None deletes all.
    """
    for trial in job.trials:
        FileJournal.drop(journal_of(folder, trial), below=num_examples)
    place = folder / JOURNALS
    if place.is_dir() and not any(place.iterdir()):
        place.rmdir()


def attack_points(
    trial: Trial, job: Job, subject: Subject, device: str, journal: FileJournal, rank: int = 0, world_size: int = 1
) -> Outcomes:
    """Attack the points that are a process's share, and keep in the journal what it was warned of."""
    points = batches(subject, trial.seed, job.plan.batch_size, device, rank, world_size)
    total = len(range(rank, len(subject.images), world_size))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UntrustedResult)
        try:
            attack = bounded(trial.attack, job.plan.batch_size)
            return evaluate(subject.network, points, attack, name=trial.label, journal=journal, num_examples=total)
        finally:
            journal.warnings += [str(w.message) for w in caught if issubclass(w.category, UntrustedResult)]


def batches(
    subject: Subject, seed: int, batch_size: int, device: str, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """Return the batches of the images whose number is ``rank`` modulo ``world_size``; streams go by the number."""
    numbers = torch.arange(rank, len(subject.images), world_size)
    images = subject.images.subset(numbers)
    size = min(batch_size, len(images))
    for batch in BatchLoader(images, batch_size=size, seed=seed, shuffle=False, device=device):
        assert batch.index is not None
        index = numbers.to(device)[batch.index]
        # The loader's own streams of epoch 0, by the number in the data set instead of in the share.
        yield replace(batch, index=index, streams=Streams.of(mix_seed(seed, 1, 0), index))


def bounded(attack: Attack, batch_size: int) -> Attack:
    """Return an attack on all points at once with the batch size that the user chose, where it has none of its own."""
    if hasattr(attack, "run") and getattr(attack, "max_batch", 0) is None:
        return replace(attack, max_batch=batch_size)  # pyright: ignore[reportCallIssue]
    return attack


def device_of(subject: Subject, rank: int) -> str:
    """Return the device of a process."""
    wants_gpu = subject.accelerator != "cpu" and torch.cuda.is_available()
    return f"cuda:{rank % torch.cuda.device_count()}" if wants_gpu else "cpu"


def journal_of(folder: Path, trial: Trial) -> Path:
    """Return where the journals of a trial lie, without their endings."""
    return folder / JOURNALS / "".join(c if c.isalnum() or c in "-_.@" else "_" for c in trial.label)


def key_of(trial: Trial, subject: Subject) -> dict[str, Any]:
    """Return everything that the outcome of a point depends on."""
    return {
        "the model's weights": model_fingerprint(subject.network),
        "the model's layers": hashlib.sha256(repr(subject.network).encode()).hexdigest()[:16],
        "the data": subject.data,
        "seed": trial.seed,
        "attack": _less_batch(to_values(trial.attack)),
    }


def _less_batch(values: Any) -> Any:
    """Drop what changes no result."""
    if isinstance(values, dict):
        return {key: _less_batch(value) for key, value in values.items() if key != "max_batch"}
    return values


def _about(subject: Subject) -> str:
    return json.dumps({"model": model_fingerprint(subject.network), "data": subject.images.fingerprint})


def _threat(ball: Ball) -> str:
    return json.dumps(to_values(ball))


@contextmanager
def _listening(network: nn.Module) -> Iterator[list[Tensor]]:
    """Keep the logits of few classes that a network returns: each image once, in order, where nothing attacks."""
    heard: list[Tensor] = []

    def listen(_: nn.Module, __: Any, output: Any) -> None:
        logits = logits_of(output)
        if logits.shape[1] <= _MOST_CLASSES:
            heard.append(logits)

    handle = network.register_forward_hook(listen)
    try:
        yield heard
    finally:
        handle.remove()


def _confusion(labels: Tensor, heard: Sequence[Tensor]) -> list[list[int]]:
    """Count the images of each true class (a row) in each predicted class (a column); empty where nothing was kept."""
    if not heard:
        return []
    classes = heard[0].shape[1]
    predicted = torch.cat([logits.argmax(-1) for logits in heard]).cpu()
    return (labels.cpu() * classes + predicted).bincount(minlength=classes**2).view(classes, classes).tolist()


def _row(attack: str, outcomes: Outcomes, seconds: float, settings: dict[str, Any], **more: Any) -> records.Evaluation:
    return records.Evaluation(
        attack=attack,
        num_examples=outcomes.num_examples,
        num_correct=outcomes.num_correct,
        seconds=seconds,
        settings=settings,
        **more,
    )


def _attack_row(trial: Trial, outcomes: Outcomes, seconds: float) -> records.Evaluation:
    measured = {measure: outcomes.mean(measure) for measure in ("l0", "l2", "linf")}
    settings = {"seed": trial.seed, "attack": to_values(trial.attack)}
    return _row(
        trial.label, outcomes, seconds, settings, series=trial.series, radius=trial.attack.ball.radius, **measured
    )


def _worst_cases(table: OutcomeTable, job: Job, rows: Sequence[records.Evaluation]) -> list[records.Evaluation]:
    """Return a row for each ball that this evaluation and earlier ones tried several attacks in."""
    seconds = {row.attack: row.seconds for row in rows}
    found = []
    for ball in dict.fromkeys(trial.attack.ball for trial in job.trials):
        attacks = table.attacks(_threat(ball))
        if len(attacks) > 1:
            stood = table.worst_case(_threat(ball))
            found.append(
                records.Evaluation(
                    attack=WORST_CASE + at_radius(ball, job.own),
                    num_examples=len(stood),
                    num_correct=int(stood.sum()),
                    seconds=sum(seconds.get(attack, 0.0) for attack in attacks),
                    settings={"attacks": sorted(attacks), "ball": to_values(ball)},
                    series=WORST_CASE,
                    radius=ball.radius,
                )
            )
    return found


def _doubts(trial: Trial, outcomes: Outcomes, subject: Subject) -> list[str]:
    """Say where an attack cannot cross its ball, and where more images stand than can."""
    attack, found = trial.attack, []
    if not isinstance(attack, GradientAttack) or attack.targeted:
        return []
    radius, reach = attack.ball.radius, attack.search.num_steps * attack.search.step_size
    if reach < 0.999 * radius * (1 - getattr(attack, "start_fraction", 0.0)):
        found.append(
            f"all its steps together ({reach:.3g}) are shorter than the radius ({radius:g}): it does not reach the edge"
            " of the ball; give it more steps, or a larger --step-size"
        )
    largest = float(outcomes.labels.bincount().max()) / len(outcomes)
    stood = outcomes.num_correct / len(outcomes)
    if stood > largest and reaches_one_picture(attack.ball, subject.images.image_shape):
        found.append(
            f"at the radius {radius:g} every image can be made the same picture, so that at most {largest:.3f} (the"
            f" largest class) can stay correct, and {stood:.3f} did: the attack fails here"
        )
    return found


@contextmanager
def memory_errors(batch_size: int) -> Iterator[None]:
    """Say in one line, with the mend, that the memory does not suffice.

    Raises:
        InputError: it does not.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        smaller = f", such as {batch_size // 2}" if batch_size > 1 else ""
        raise InputError(
            f"the memory does not suffice for batches of {batch_size} images: give a smaller --batch-size{smaller}"
        ) from error


def out_of_memory(error: BaseException) -> bool:
    """Say whether an exception means that memory ran out, on the host or on a device.

    Example:
        >>> out_of_memory(MemoryError()), out_of_memory(RuntimeError("shapes differ"))
        (True, False)
    """
    words = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error).lower() for word in words)
