"""A journal on the disk: an evaluation that was interrupted, or shared among processes, asks nothing twice."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from aureole.core.errors import InputError, first_line
from aureole.core.journal import Decided, Journal

_SUFFIX = ".safetensors"


def model_fingerprint(model: nn.Module) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a model's weights and buffers, with their names.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> before = model_fingerprint(model)
        >>> _ = nn.init.zeros_(model.weight)
        >>> before == model_fingerprint(model)
        False
    """
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


class FileJournal(Journal):
    """Keeps the decided points of one evaluation in a file of its own, and tells another journal of the progress.

    The file is replaced in one step, at most every few seconds and when the journal is left, also by an exception.
    Several processes may share the points, each with those whose number is its rank modulo the number of processes:
    each writes a file of its own, and all know what any of them decided before. Use it as a context::

        with FileJournal(folder / "pgd-20", {"the data": fingerprint, "seed": 0}) as journal:
            outcomes = evaluate(model, batches, attack, journal=journal)
        ...  # keep the outcomes
        FileJournal.drop(folder / "pgd-20")

    Args:
        path: where the files lie, without their endings.
        key: what the decided points depend on, by names that an error may show: plain JSON values. A name that begins
            with ``the`` has a value that says nothing to a person, such as a fingerprint.
        rank: which of the processes this is.
        world_size: number of processes.
        watch: hears of beginnings and progress.
        seconds: the shortest time between two writes.

    Raises:
        InputError: on entering, where the files belong to another evaluation, or cannot be read.
    """

    def __init__(
        self,
        path: Path,
        key: Mapping[str, Any],
        *,
        rank: int = 0,
        world_size: int = 1,
        watch: Journal | None = None,
        seconds: float = 5.0,
    ) -> None:
        self.key, self.watch, self.rank, self.world_size = dict(key), watch or Journal(), rank, world_size
        self.path, self.stem, self.wait = path.with_name(f"{path.name}.{rank}-of-{world_size}{_SUFFIX}"), path, seconds
        self.warnings: list[str] = []  # what this process was warned of, kept with the points
        self._other_warnings: list[str] = []
        self._own: dict[str, list[Decided]] = {}
        self._others: dict[str, list[Decided]] = {}
        self._spent: dict[int, float] = {}  # seconds before this start, by number of processes
        self._before, self._start, self._written, self._told = 0.0, 0.0, 0.0, False

    def __enter__(self) -> FileJournal:
        for path in parts_of(self.stem):
            self._take_over(path)
        self._start = self._written = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._told or self.warnings:
            self.save()

    def _take_over(self, path: Path) -> None:
        metadata, decided = _read(path)
        if changed := list(_differences(json.loads(metadata["key"]), self.key)):
            raise InputError(
                f"{path.parent} holds a part of {self.stem.name}, evaluated otherwise ({'; '.join(changed[:4])}):"
                " give --restart to drop it and start over, or evaluate as before to resume"
            )
        for attack, found in decided.items():
            (self._own if path == self.path else self._others).setdefault(attack, []).append(found)
        (self.warnings if path == self.path else self._other_warnings).extend(json.loads(metadata["warnings"]))
        world, seconds = int(metadata["world_size"]), float(metadata["seconds"])
        if path == self.path:
            self._before = seconds
        else:
            self._spent[world] = max(self._spent.get(world, 0.0), seconds)

    @property
    def seconds(self) -> float:
        """Time spent on the evaluation so far, over all starts; processes that ran at once count once."""
        return self._before + time.monotonic() - self._start + sum(self._spent.values())

    @property
    def heard(self) -> list[str]:
        """What the evaluation was warned of, by all processes and over all starts."""
        return [*self.warnings, *self._other_warnings]

    def recall(self, attack: str) -> Decided | None:
        """Return what is known of an attack, on the CPU, as far as it is this process's share."""
        found = [*self._own.get(attack, []), *self._others.get(attack, [])]
        if not found:
            return None
        decided = _joined(found)
        numbers = decided.index.tolist()
        first = {number: place for place, number in reversed(list(enumerate(numbers)))}
        mine = [place for number, place in first.items() if number % self.world_size == self.rank]
        return _selected(decided, torch.tensor(sorted(mine), dtype=torch.int64))

    def begin(self, attack: str, num_points: int) -> None:
        """Pass it on."""
        self.watch.begin(attack, num_points)

    def progress(self, attack: str, done: float) -> None:
        """Pass it on."""
        self.watch.progress(attack, done)

    def note(self, attack: str, decided: Decided) -> None:
        """Keep decided points, and write them down when the file is old enough."""
        index, fooled, x_adv = (
            value.detach().to("cpu", copy=True) for value in (decided.index, decided.fooled, decided.x_adv)
        )
        self._own.setdefault(attack, []).append(Decided(index, fooled, x_adv))
        self._told = True
        self.watch.note(attack, decided)
        if time.monotonic() - self._written >= self.wait:
            self.save()

    def save(self) -> None:
        """Write the file: a reader sees the old or the new content, never a part.

        Raises:
            InputError: it cannot be written.
        """
        from safetensors.torch import save_file

        started = time.monotonic()
        self._own = {attack: [_joined(found)] for attack, found in self._own.items()}
        tensors = {
            f"{name}/{attack}": getattr(found[0], name).contiguous()
            for attack, found in self._own.items()
            for name in ("index", "fooled", "x_adv")
        }
        metadata = {"key": json.dumps(self.key), "warnings": json.dumps(self.warnings)}
        metadata |= {"world_size": str(self.world_size), "seconds": str(self._before + started - self._start)}
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, temporary, metadata=metadata)
            temporary.replace(self.path)
        except Exception as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise InputError(
                f"cannot write {self.path} ({first_line(error)}): make room, and give the same command again to resume"
            ) from error
        self._written, self._told = time.monotonic(), False
        self.wait = max(self.wait, 20 * (self._written - started))  # writing takes no more than a twentieth

    @staticmethod
    def drop(path: Path, below: int | None = None) -> None:
        """Delete the files of an evaluation: it is finished, or to start over.

        Args:
            path: where the files lie, without their endings.
            below: keep all of them where they know a point of this number or a greater one; None deletes them anyway.
        """
        parts = parts_of(path)
        if below is not None and any(int(found.index.max()) >= below for part in parts for found in _points(part)):
            return
        for part in parts:
            part.unlink(missing_ok=True)


def parts_of(path: Path) -> list[Path]:
    """Return the files of the journal at ``path``, one a process that wrote one."""
    pattern = re.compile(rf"{re.escape(path.name)}\.\d+-of-\d+{re.escape(_SUFFIX)}")
    found = glob.glob(f"{glob.escape(str(path))}.*{_SUFFIX}")
    return sorted(Path(name) for name in found if pattern.fullmatch(Path(name).name))


def _read(path: Path) -> tuple[dict[str, str], dict[str, Decided]]:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata())
            attacks = [name.partition("/")[2] for name in file.keys() if name.startswith("index/")]  # noqa: SIM118
            decided = {
                attack: Decided(*(file.get_tensor(f"{name}/{attack}") for name in ("index", "fooled", "x_adv")))
                for attack in attacks
            }
    except Exception as error:
        raise InputError(
            f"the journal {path} cannot be read ({first_line(error)}): give --restart to drop it and start over"
        ) from error
    return metadata, decided


def _points(path: Path) -> list[Decided]:
    return [found for found in _read(path)[1].values() if len(found.index)]


def _joined(found: Iterable[Decided]) -> Decided:
    parts = list(found)
    index, fooled = torch.cat([p.index for p in parts]), torch.cat([p.fooled for p in parts])
    return Decided(index, fooled, torch.cat([p.x_adv for p in parts]))


def _selected(decided: Decided, places: Tensor) -> Decided:
    rank = decided.fooled.cumsum(0) - 1  # of each fooled point among the fooled
    fooled = decided.fooled[places]
    return Decided(decided.index[places], fooled, decided.x_adv[rank[places][fooled]])


def _differences(before: Any, after: Any, name: str = "") -> Iterator[str]:
    """Yield what differs between two keys, in words."""
    if isinstance(before, dict) and isinstance(after, dict):
        for part in [*before, *(key for key in after if key not in before)]:
            if before.get(part) != after.get(part):
                yield from _differences(before.get(part), after.get(part), f"{name}.{part}".lstrip("."))
    elif name.startswith("the "):
        yield f"{name} changed"
    elif json.loads(json.dumps(before)) != json.loads(json.dumps(after)):
        yield f"{name} was {json.dumps(before)}, now {json.dumps(after)}"
