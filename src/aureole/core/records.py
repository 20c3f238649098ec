"""Run records: what was run, on what, and what came out, as one small JSON file beside the run.

A record is plain data: no torch, no code of the run. :func:`write_record` is atomic and :func:`read_record` checks
every field, so whatever reads a record afterwards (the report, a rerun, a test) can trust its types.
"""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from aureole.core.errors import InputError
from aureole.core.rows import (
    AgreementRow,
    BoundaryRow,
    DiversityRow,
    Evaluation,
    ExplanationRow,
    NetworkRow,
    RefinementRow,
    SegmentationRow,
    wilson_interval,
)

__all__ = [
    "RECORD_NAME", "SCHEMA", "AgreementRow", "BoundaryRow", "DataRecord", "DiversityRow", "Evaluation",
    "ExplanationRow", "NetworkRow", "Record", "RefinementRow", "SegmentationRow",
    "environment", "find_records", "git_commit", "read_record", "replace_text", "wilson_interval", "write_record",
]  # fmt: skip
from aureole.core.schema import from_values, read_object, to_json

SCHEMA = 1
RECORD_NAME = "record.json"


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """Which data a run saw: name, content fingerprint, and the number of examples in each part.

    Where only a few have labels, ``labelled_index`` names the labelled images by their places in the training files,
    and ``labelled_patients`` the patients whose scans are labelled.
    """

    name: str
    fingerprint: str
    num_train: int
    num_validation: int
    num_test: int
    labelled_index: list[int] = field(default_factory=list, hash=False)
    labelled_patients: list[str] = field(default_factory=list, hash=False)


@dataclass(frozen=True, kw_only=True)
class Record:
    """Everything that is worth keeping about one run.

    Args:
        kind: ``"training"``, ``"diversity"``, ``"refinement"``, or ``"evaluation"`` of a model trained elsewhere.
        recipe: the recipe's name.
        method: the method's name; runs that differ in the number of particles alone share it.
        label: the row of the report; runs that differ in the seed alone share it.
        num_particles: particles per example, or None where the method has none.
        seed: the seed that everything random in the run derives from.
        config: the full configuration, as plain JSON values.
        versions: see :func:`environment`.
        device: the device in words.
        data: the data.
        started: ISO 8601 date and time.
        wall_seconds: the whole run.
        commit: commit of the library's checkout, or None where it is not one.
        dirty: whether that checkout had uncommitted changes, or None.
        seconds_per_epoch: one entry per epoch.
        history: one dictionary per epoch: ``epoch``, ``train/...``, ``validation/...``.
        evaluations: one per attack; the attacks' names differ.
        diversity: one row per sampler, number of particles and seed.
        refinement: one row per attack and choice of pixels.
        networks: a student and its teacher, side by side.
        boundary: how near their decision boundaries are; one row, or none.
        agreement: how well the student repeats its teacher on simplified images; one row, or none.
        explanations: what maps of the pixels that matter are worth, one row each.
        segmentations: how well a network segments: one row a class but the background, and their mean.
        paper: name of the attack -> accuracy that the paper reports.
        proxy: whether the scale or the data differ from the paper's.
        proxy_reason: in which way; must not be empty for a proxy.
        warnings: what makes a figure of this record hard to believe, one line each.
        schema: version of this format.
    """

    schema: int = SCHEMA
    kind: Literal["training", "diversity", "evaluation", "refinement"]
    recipe: str
    method: str
    label: str
    num_particles: int | None = None
    seed: int
    config: dict[str, Any]
    versions: dict[str, str]
    commit: str | None = None
    dirty: bool | None = None
    device: str
    data: DataRecord
    started: str
    wall_seconds: float
    seconds_per_epoch: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    diversity: list[DiversityRow] = field(default_factory=list)
    refinement: list[RefinementRow] = field(default_factory=list)
    networks: list[NetworkRow] = field(default_factory=list)
    boundary: list[BoundaryRow] = field(default_factory=list)
    agreement: list[AgreementRow] = field(default_factory=list)
    explanations: list[ExplanationRow] = field(default_factory=list)
    segmentations: list[SegmentationRow] = field(default_factory=list)
    paper: dict[str, float] = field(default_factory=dict)
    proxy: bool = False
    proxy_reason: str = ""
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        attacks = [evaluation.attack for evaluation in self.evaluations]
        twice = sorted({name for name in attacks if attacks.count(name) > 1})
        if twice:
            raise InputError(
                f"evaluations must have distinct attacks; got {twice[0]!r} twice: name the second otherwise"
            )
        if self.proxy and not self.proxy_reason.strip():
            raise InputError("proxy_reason must say how a proxy differs from the paper's run; got an empty text")
        try:
            datetime.fromisoformat(self.started)
        except ValueError:
            raise InputError(f"started must be an ISO 8601 date and time; got {self.started!r}") from None


def replace_text(path: Path, text: str) -> None:
    """Write a text file as :func:`replace_bytes` does.

    Args:
        path: the file; its folder is made when it does not exist.
        text: the whole content.

    Raises:
        InputError: the folder cannot be written.
    """
    replace_bytes(path, text.encode("utf-8"))


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old or the new content, never a part.

    Args:
        path: the file; its folder is made when it does not exist.
        content: the whole content.

    Raises:
        InputError: the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"cannot write {path}: {reason}; choose a folder that can be written") from error


def write_record(record: Record, folder: Path) -> Path:
    """Write ``folder/record.json`` in one step.

    Args:
        record: the record.
        folder: the run's folder; made when it does not exist.

    Returns:
        The path of the file.

    Raises:
        InputError: the folder cannot be written, or the record holds a value that JSON does not know.
    """
    path = Path(folder) / RECORD_NAME
    replace_text(path, to_json(record))
    return path


def read_record(path: Path) -> Record:
    """Read and check one record.

    Args:
        path: ``record.json`` itself or the folder that holds it.

    Returns:
        The record.

    Raises:
        InputError: there is no such file, or it is not a record that this version reads.
    """
    path = Path(path)
    path = path / RECORD_NAME if path.is_dir() else path
    mend = f"give a run's folder or its {RECORD_NAME}, or repeat the run"
    values = read_object(path, "a run record", mend, field="schema", version=SCHEMA)
    for later in ("refinement", "networks", "boundary", "agreement", "explanations", "segmentations"):
        values.setdefault(later, [])
    if isinstance(values.get("data"), dict):
        for later in ("labelled_index", "labelled_patients"):
            values["data"].setdefault(later, [])
    _fill_in(values.get("evaluations"))
    try:
        return from_values(Record, values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _fill_in(evaluations: object) -> None:
    """Give evaluations of the first records the fields that came later."""
    later = {"series": "", "radius": None, "l0": None, "l2": None, "linf": None, "confusion": []}
    for evaluation in evaluations if isinstance(evaluations, list) else []:
        if isinstance(evaluation, dict):
            evaluation.update({name: value for name, value in later.items() if name not in evaluation})


def find_records(folder: Path) -> list[tuple[Path, Record]]:
    """Read every ``record.json`` below a folder.

    Args:
        folder: where to look, at any depth.

    Returns:
        The files and their records, sorted by path.

    Raises:
        InputError: the folder is missing, or one of the files is not a record.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no folder at {folder}: give the folder that holds the runs")
    return [(path, read_record(path)) for path in sorted(folder.rglob(RECORD_NAME))]


def environment() -> dict[str, str]:
    """Return the versions of what a run depends on, without importing any of it.

    Returns:
        ``aureole``, ``python``, ``torch``, ``lightning`` (each where it is installed) and ``platform``.

    Example:
        >>> "python" in environment()
        True
    """
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for name in ("aureole", "torch", "lightning"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_commit(folder: Path | None = None) -> tuple[str | None, bool | None]:
    """Return the commit of the checkout that a folder belongs to.

    Args:
        folder: a folder of the checkout; by default the library's own.

    Returns:
        The full hash, and whether a file in the folder differs from that commit or is not part of it; (None, None)
        where git tracks nothing in the folder or is not installed.
    """
    folder = Path(__file__).resolve().parents[1] if folder is None else Path(folder)
    if not _git(folder, "ls-files", "--", "."):
        return None, None
    commit, changes = _git(folder, "rev-parse", "--verify", "HEAD"), _git(folder, "status", "--porcelain", "--", ".")
    if not commit or changes is None:
        return None, None
    return commit, bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
