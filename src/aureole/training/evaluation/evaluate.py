"""Judge a model that is trained: a finished run, or any model of the user's; the rows go into its record."""

from __future__ import annotations

import platform
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn

from aureole.core.config import from_values, to_values
from aureole.core.errors import InputError
from aureole.core.records import RECORD_NAME, DataRecord, Record, environment, git_commit, read_record, write_record
from aureole.metrics import model_fingerprint
from aureole.training.config import Evaluation, Training
from aureole.training.evaluation.judge import Job, Judged, forget, judge
from aureole.training.evaluation.notes import rising
from aureole.training.evaluation.sources import ForeignModel, Subject, TrainedRun, subject
from aureole.training.evaluation.trials import WORST_CASE, Changes, plans, trials
from aureole.training.fit import load_model


def describe_device(accelerator: str, devices: int) -> str:
    """Return the device in words, without naming the host."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return f"{devices} x {torch.cuda.get_device_name()}"
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads, {devices} processes)"


def run_attacks(network: nn.Module, config: Training, plan: Evaluation, folder: Path) -> Judged:
    """Judge the network of a run: natural accuracy, then each attack of the plan.

    Args:
        network: maps images to logits.
        config: the run that the network comes from: its data and its device.
        plan: attacks, number of images, seed.
        folder: of the run.

    Returns:
        One row an attack, what makes them hard to believe, and the number of images used.

    Raises:
        InputError: as :func:`aureole.training.evaluation.judge.judge`.
    """
    judged = subject(config.title, network, config.data, plan, accelerator=config.engine.accelerator)
    job = Job(
        source=TrainedRun(folder=str(folder)),
        trials=tuple(trials([plan], plan)),
        plan=plan,
        own=plan,
        progress=config.engine.progress,
        worst_case=False,
    )
    return judge(job, judged, folder)


def evaluate_run(folder: Path, changes: Changes, *, keep: bool = False) -> Judged:
    """Evaluate a finished run anew, and add the results to its record.

    Args:
        folder: the run's folder; or that of an evaluation of a user's model, which is then evaluated further.
        changes: what differs from the run's own plan.
        keep: what is decided, until :func:`~aureole.training.evaluation.judge.forget`: the run is one of several.

    Returns:
        The new rows, natural accuracy first, and what makes them hard to believe. They replace those of the same name
        on no more images.

    Raises:
        InputError: there is no finished run, an attack's name is unknown, or an evaluation that was interrupted differs
            from this one.
    """
    record = read_record(folder)
    if record.kind == "evaluation":
        before = job_of(record, folder)
        assert isinstance(before.source, ForeignModel)
        return evaluate_model(before.source, before.plan, changes, folder, keep=keep)
    network, config = load_model(folder)
    job = _job(TrainedRun(folder=str(folder)), config.evaluation, plans(config.evaluation, changes), changes)
    if changes.restart:
        forget(job, folder)
    found = subject(config.title, network, config.data, job.plan, accelerator=config.engine.accelerator)
    judged = judge(job, found, folder)
    record, judged = _with_rows(record, judged)
    write_record(record, folder)
    if not keep:
        forget(job, folder, judged.num_examples)
    return judged


def evaluate_model(
    source: ForeignModel, plan: Evaluation, changes: Changes, folder: Path, *, keep: bool = False
) -> Judged:
    """Evaluate a model of the user's, and write or extend the record of its evaluation.

    Args:
        source: the model and the data.
        plan: ball, step and seed where ``changes`` names none.
        changes: the attacks, and what differs from the plan.
        folder: where the record lies; made when it does not exist.
        keep: as in :func:`evaluate_run`.

    Returns:
        As :func:`evaluate_run`.

    Raises:
        InputError: the model or the data cannot be used, the folder holds something else, or as :func:`evaluate_run`.
    """
    job = _job(source, None, plans(plan, changes), changes)
    if changes.restart:
        forget(job, folder)
    return run_job(job, folder, keep=keep)


def run_job(job: Job, folder: Path, *, keep: bool = False) -> Judged:
    """Evaluate a model of the user's as a job describes, and write or extend its record.

    Raises:
        InputError: as :func:`evaluate_model`.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    before = read_record(folder) if (folder / RECORD_NAME).exists() else None
    if before is not None and job_of(before, folder).source != job.source:
        raise InputError(f"{folder} holds the evaluation of another model or other data: choose another --output")
    found = job.source.load(job.plan)
    job = replace(job, fingerprint=model_fingerprint(found.network))
    if before is not None and job_of(before, folder).fingerprint != job.fingerprint:
        raise InputError(f"{folder} holds the evaluation of other weights of this model: choose another --output")
    judged = judge(job, found, folder)
    record = before or _empty_record(job, found, started.isoformat(timespec="seconds"))
    record, judged = _with_rows(_with_job(record, job, found), judged)
    write_record(replace(record, wall_seconds=record.wall_seconds + time.perf_counter() - clock), folder)
    if not keep:
        forget(job, folder, judged.num_examples)
    return judged


def job_of(record: Record, folder: Path) -> Job:
    """Return what a record of an evaluation describes.

    Raises:
        InputError: the record is not one of an evaluation.
    """
    job = from_values(record.config) if record.kind == "evaluation" else None
    if not isinstance(job, Job):
        raise InputError(f"{folder} holds a run, not the evaluation of a user's model: choose another --output")
    return job


def _job(source: TrainedRun | ForeignModel, own: Evaluation | None, wanted: list[Evaluation], changes: Changes) -> Job:
    found = tuple(trials(wanted, own))
    devices, progress = changes.devices, changes.progress
    return Job(source=source, trials=found, plan=wanted[0], own=own, devices=devices, progress=progress)


def _empty_record(job: Job, found: Subject, started: str) -> Record:
    commit, dirty = git_commit()
    return Record(
        kind="evaluation",
        recipe="evaluate",
        method=found.title,
        label=found.title,
        seed=job.plan.seed,
        config={},
        versions=environment(),
        commit=commit,
        dirty=dirty,
        device=describe_device(found.accelerator, job.devices),
        data=DataRecord(name="", fingerprint="", num_train=0, num_validation=0, num_test=0),
        started=started,
        wall_seconds=0.0,
    )


def _with_job(record: Record, job: Job, found: Subject) -> Record:
    """Return the record of a user's model with the trials of one job more, and the larger set of images."""
    images = found.images
    before = from_values(record.config) if record.config else job
    more = len(images) >= record.data.num_test
    named = {trial.label: trial for trial in (*before.trials, *job.trials)}
    merged = replace(job if more else before, trials=tuple(named.values()), devices=1, progress=True)
    data = DataRecord(
        name=images.name, fingerprint=images.fingerprint, num_train=0, num_validation=0, num_test=len(images)
    )
    return replace(record, config=to_values(merged), data=data if more else record.data)


def _with_rows(record: Record, judged: Judged) -> tuple[Record, Judged]:
    """Return a record with new rows, and what was judged with what the rows together cast doubt on."""
    kept = {row.attack: row for row in record.evaluations}
    taken = {
        row.attack: row
        for row in judged.rows
        if row.attack not in kept or row.num_examples >= kept[row.attack].num_examples
    }
    rows = sorted((kept | taken).values(), key=lambda row: row.attack.startswith(WORST_CASE))
    series = {row.series for row in judged.rows if row.series}
    doubts = [note for note in rising(rows) if note.partition(": ")[0] in series]
    stale = {*taken, *series}
    notes = [note for note in judged.notes if note.partition(": ")[0] in taken]
    old = [warning for warning in record.warnings if warning.partition(": ")[0] not in stale]
    warned = list(dict.fromkeys([*old, *notes, *doubts]))
    return replace(record, evaluations=rows, warnings=warned), replace(judged, notes=[*judged.notes, *doubts])
