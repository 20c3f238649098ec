"""What is decided survives an interruption, is shared among processes, and is refused where anything else changed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole import PGD, Batch, InputError, Linf, Streams
from aureole.core.journal import Decided, Journal
from aureole.metrics import FileJournal, Outcomes, evaluate, model_fingerprint
from aureole.metrics.journal import parts_of

KEY = {"the model's weights": "abc", "seed": 0, "attack": {"num_steps": 3, "ball": {"radius": 0.1}}}


def decided(*index: int, fooled: tuple[bool, ...] = ()) -> Decided:
    flags = torch.tensor(fooled or [True] * len(index))
    images = torch.tensor(index, dtype=torch.float32)[flags]
    return Decided(torch.tensor(index), flags, images[:, None, None, None].expand(-1, 1, 2, 2))


def test_what_was_noted_is_recalled(tmp_path: Path) -> None:
    with FileJournal(tmp_path / "deep" / "pgd", KEY) as journal:
        assert journal.recall("pgd") is None
        journal.note("pgd", decided(4, 2, 9, fooled=(True, False, True)))
        journal.note("pgd", decided(1, fooled=(False,)))
        journal.note("other", decided(7))
    with FileJournal(tmp_path / "deep" / "pgd", KEY) as journal:
        found = journal.recall("pgd")
        assert found is not None
        assert found.index.tolist() == [4, 2, 9, 1]
        assert found.fooled.tolist() == [True, False, True, False]
        assert found.x_adv[:, 0, 0, 0].tolist() == [4.0, 9.0]
        assert journal.recall("nothing") is None
        other = journal.recall("other")
        assert other is not None
        assert other.index.tolist() == [7]


def test_an_exception_loses_nothing(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "pgd", KEY).__enter__()
    journal.warnings.append("look out")
    journal.note("pgd", decided(3))
    assert parts_of(tmp_path / "pgd") == []  # not yet: the file is young
    journal.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    with FileJournal(tmp_path / "pgd", KEY) as journal:
        found = journal.recall("pgd")
        assert found is not None
        assert found.index.tolist() == [3]
        assert journal.heard == ["look out"]
    assert [p.name for p in tmp_path.iterdir()] == ["pgd.0-of-1.safetensors"]


def test_writes_are_a_while_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, written = 100.0, []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    original = FileJournal.save
    monkeypatch.setattr(FileJournal, "save", lambda self: (written.append(now), original(self)))
    with FileJournal(tmp_path / "pgd", KEY, seconds=5.0) as journal:
        for step in range(12):
            now = 100.0 + step
            journal.note("pgd", decided(step))
    assert written == [105.0, 110.0, 111.0]


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    def save(_: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with FileJournal(tmp_path / "pgd", KEY) as journal:
        journal.note("pgd", decided(1))
    before = (tmp_path / "pgd.0-of-1.safetensors").read_bytes()
    monkeypatch.setattr(safetensors.torch, "save_file", save)
    journal = FileJournal(tmp_path / "pgd", KEY).__enter__()
    journal.note("pgd", decided(2))
    with pytest.raises(InputError, match=r"cannot write .*No space left.*resume"):
        journal.save()
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [before]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"the model's weights": "abd"}, "the model's weights changed"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"attack": {"num_steps": 4, "ball": {"radius": 0.1}}}, "attack.num_steps was 3, now 4"),
        ({"attack": {"num_steps": 3, "ball": {"radius": 0.2}}}, "attack.ball.radius was 0.1, now 0.2"),
        ({"attack": {"num_steps": 3, "ball": {"radius": 0.1}, "new": [1]}}, "attack.new was null, now"),
    ],
)
def test_another_evaluation_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with FileJournal(tmp_path / "pgd", KEY) as journal:
        journal.note("pgd", decided(1))
    with pytest.raises(InputError) as caught, FileJournal(tmp_path / "pgd", {**KEY, **change}):
        pass
    assert words in str(caught.value)
    assert "--restart" in str(caught.value)
    assert "\n" not in str(caught.value)
    FileJournal.drop(tmp_path / "pgd")
    with FileJournal(tmp_path / "pgd", {**KEY, **change}) as journal:
        assert journal.recall("pgd") is None


def test_a_broken_file_is_one_line(tmp_path: Path) -> None:
    with FileJournal(tmp_path / "pgd", KEY) as journal:
        journal.note("pgd", decided(1))
    path = tmp_path / "pgd.0-of-1.safetensors"
    for content in (b"", b"xx", path.read_bytes()[:-5]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"pgd.*cannot be read.*--restart"), FileJournal(tmp_path / "pgd", KEY):
            pass


def test_processes_know_each_others_points(tmp_path: Path) -> None:
    for rank in range(2):
        with FileJournal(tmp_path / "pgd", KEY, rank=rank, world_size=2) as journal:
            journal.note("pgd", decided(rank, rank + 2))
            journal.warnings.append(f"from {rank}")
    with FileJournal(tmp_path / "pgd", KEY) as journal:
        found = journal.recall("pgd")
        assert found is not None
        assert sorted(found.index.tolist()) == [0, 1, 2, 3]
        assert sorted(found.x_adv[:, 0, 0, 0].tolist()) == [0, 1, 2, 3]
        assert sorted(journal.heard) == ["from 0", "from 1"]
        journal.note("pgd", decided(4))
    with FileJournal(tmp_path / "pgd", KEY, rank=1, world_size=3) as journal:
        share = journal.recall("pgd")
        assert share is not None
        assert sorted(share.index.tolist()) == [1, 4]
    assert len(parts_of(tmp_path / "pgd")) == 3
    FileJournal.drop(tmp_path / "pgd", below=4)
    assert len(parts_of(tmp_path / "pgd")) == 3  # point 4 belongs to a larger evaluation
    FileJournal.drop(tmp_path / "pgd", below=5)
    assert parts_of(tmp_path / "pgd") == []


def test_names_that_begin_alike_are_kept_apart(tmp_path: Path) -> None:
    for name in ("pgd-2", "pgd-20", "pgd-2.0-of-1"):
        with FileJournal(tmp_path / name, KEY) as journal:
            journal.note("pgd", decided(1))
    FileJournal.drop(tmp_path / "pgd-2")
    assert sorted(p.name[:6] for p in tmp_path.iterdir()) == ["pgd-2.", "pgd-20"]


def test_time_adds_up_over_starts_and_not_over_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for rank, seconds in ((0, 10.0), (1, 14.0)):
        with FileJournal(tmp_path / "pgd", KEY, rank=rank, world_size=2) as journal:
            journal.note("pgd", decided(rank))
            now += seconds
    for seconds, total in ((3.0, 17.0), (2.0, 19.0)):
        with FileJournal(tmp_path / "pgd", KEY) as journal:
            journal.note("pgd", decided(int(seconds)))
            now += seconds
            assert journal.seconds == total


class Heard(Journal):
    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def begin(self, attack: str, num_points: int) -> None:
        self.said.append((attack, num_points))

    def progress(self, attack: str, done: float) -> None:
        self.said.append((attack, done))


def test_beginnings_and_progress_are_passed_on(tmp_path: Path) -> None:
    heard = Heard()
    with FileJournal(tmp_path / "pgd", KEY, watch=heard) as journal:
        journal.begin("pgd", 7)
        journal.progress("pgd", 3.5)
    assert heard.said == [("pgd", 7), ("pgd", 3.5)]
    assert list(tmp_path.iterdir()) == []  # nothing was decided


def test_fingerprint_sees_every_weight_and_buffer(victim: Any) -> None:
    before = model_fingerprint(victim.model)
    assert before == model_fingerprint(victim.model)
    for name, value in victim.model.state_dict().items():
        kept = value.clone()
        value.view(-1)[0] += 1
        assert model_fingerprint(victim.model) != before, name
        value.copy_(kept)
    assert model_fingerprint(victim.model) == before
    assert model_fingerprint(nn.Linear(2, 2).to(torch.bfloat16)) != model_fingerprint(nn.Linear(2, 2))


# With an evaluation.


def points(victim: Any, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
    for index in torch.arange(rank, 32, world_size).split(5):
        yield Batch(victim.x[index], victim.y[index], index, streams=Streams.of(0, index))


def same(a: Outcomes, b: Outcomes) -> bool:
    names = ("index", "natural", "robust", "l0", "l2", "linf")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


ATTACK = PGD(ball=Linf(0.1), num_steps=3, step_size=0.05)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_end_with_the_same_outcomes(victim: Any, tmp_path: Path, world_size: int) -> None:
    whole = evaluate(victim.model, points(victim), ATTACK)
    for rank in range(world_size):
        with FileJournal(tmp_path / "pgd", KEY, rank=rank, world_size=world_size) as journal:
            evaluate(victim.model, points(victim, rank, world_size), ATTACK, name="pgd", journal=journal)

    class Refuse:
        ball = ATTACK.ball

        def __call__(self, model: nn.Module, x: Tensor, y: Tensor | None = None, *, generator: Any = None) -> Tensor:
            raise AssertionError("attacked again")

    with FileJournal(tmp_path / "pgd", KEY) as journal:
        merged = evaluate(victim.model, points(victim), Refuse(), name="pgd", journal=journal)
    assert same(whole, merged)


@pytest.mark.parametrize("after", [0, 1, 4, 6])
def test_a_whole_set_attack_resumes_inside_a_member(victim: Any, tmp_path: Path, whole_set: Any, after: int) -> None:
    ball = Linf(0.1)
    whole = evaluate(victim.model, points(victim), whole_set(ball=ball))
    with pytest.raises(InputError, match="power"), FileJournal(tmp_path / "s", KEY) as journal:
        evaluate(victim.model, points(victim), whole_set(ball=ball, fails_after=after), journal=journal)
    heard = Heard()
    with FileJournal(tmp_path / "s", KEY, watch=heard) as journal:
        resumed = evaluate(victim.model, points(victim), whole_set(ball=ball), journal=journal)
    assert same(whole, resumed)
    assert heard.said[0] == ("brighter", max(int(whole.natural.sum()) - 4 * after, 0))
