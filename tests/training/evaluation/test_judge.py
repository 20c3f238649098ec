"""An evaluation is resumed inside an attack, and shared by processes, with the same rows and outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aureole import FGSM, PGD, InputError, Linf
from aureole.attacks.base import Attack
from aureole.core.journal import Decided, Journal
from aureole.core.records import Evaluation
from aureole.metrics.evaluation import Known
from aureole.training.config import Training
from aureole.training.evaluation import processes
from aureole.training.evaluation.judge import Job, Judged, batches, bounded, forget, journal_of, judge, memory_errors
from aureole.training.evaluation.progress import Bars
from aureole.training.evaluation.sources import Subject, TrainedRun
from aureole.training.evaluation.trials import Trial
from aureole.training.evaluation.worker import work


def timeless(rows: list[Evaluation]) -> list[Evaluation]:
    return [replace(row, seconds=0.0) for row in rows]


@dataclass(frozen=True, kw_only=True)
class Shift(Attack):
    """A whole-set attack of two members, point after point, that stops dead at its limit."""

    told: ClassVar[list[tuple[str, int]]] = []
    limit: ClassVar[int | None] = None

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor | None = None, *, generator: Any = None) -> Tensor:
        raise AssertionError("called batch by batch")

    def run(self, model: nn.Module, x: Tensor, y: Tensor, *, index: Tensor, streams: Any, journal: Journal) -> Tensor:
        x_adv = x.clone()
        for name, step in (("brighter", self.ball.radius), ("darker", -self.ball.radius)):
            known = Known(journal.recall(name))
            x_adv, decided, _ = known.among(index, x_adv)
            for place in (~decided).nonzero().flatten().tolist():
                one = slice(place, place + 1)
                if not torch.equal(x_adv[one], x[one]):
                    continue  # fooled by the member before
                if len(self.told) == self.limit:
                    raise InputError("the power is gone")
                self.told.append((name, int(index[place])))
                found = self.ball.project(x[one] + step, x[one])
                fooled = model(found).argmax(-1) != y[one]
                x_adv[one] = found if bool(fooled) else x[one]
                journal.note(name, Decided(index[one], fooled, found[fooled]))
        return x_adv


@pytest.fixture(autouse=True)
def _unlimited() -> Iterator[None]:
    yield
    Shift.limit = None
    Shift.told.clear()


def a_job(folder: Path, *attacks: Attack, **more: Any) -> Job:
    config = evaluate_config(folder)
    trials = tuple(Trial(label=f"{place}", series="", attack=attack) for place, attack in enumerate(attacks))
    plan = replace(config.evaluation, batch_size=16)
    return Job(source=TrainedRun(folder=str(folder)), trials=trials, plan=plan, own=plan, progress=False, **more)


def evaluate_config(folder: Path) -> Training:
    from aureole.training.fit import load_model

    return load_model(folder)[1]


def judged(job: Job, folder: Path) -> Judged:
    return judge(job, job.source.load(job.plan), folder)


PGD5 = PGD(ball=Linf(0.15), num_steps=5, step_size=0.05, num_restarts=2)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_an_interrupted_member_is_resumed(judgeable: Path, tmp_path: Path, share: float) -> None:
    job = a_job(judgeable, Shift(ball=Linf(0.4)))
    whole, asked = judged(job, tmp_path / "whole"), sorted(Shift.told)
    assert {name for name, _ in asked} == {"brighter", "darker"}
    Shift.told.clear()
    Shift.limit = int(share * len(asked))
    with pytest.raises(InputError, match="power"):
        judged(job, tmp_path / "cut")
    Shift.limit = None
    resumed = judged(job, tmp_path / "cut")
    assert sorted(Shift.told) == asked  # nothing twice
    assert timeless(resumed.rows) == timeless(whole.rows)
    assert 0 < whole.rows[1].num_correct < whole.rows[0].num_correct


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_end_with_the_same_rows_and_outcomes(judgeable: Path, tmp_path: Path, world_size: int) -> None:
    job = a_job(judgeable, PGD5, FGSM(ball=Linf(0.15)), Shift(ball=Linf(0.4)))
    whole, asked = judged(job, tmp_path / "whole"), sorted(Shift.told)
    Shift.told.clear()
    for rank in range(world_size):
        work(job, tmp_path / "shared", rank, world_size, lambda _: None)
    together = judged(job, tmp_path / "shared")
    assert sorted(Shift.told) == asked
    assert timeless(together.rows) == timeless(whole.rows)
    assert 0 < whole.rows[1].num_correct < whole.rows[0].num_correct
    with np.load(whole.outcomes) as a, np.load(together.outcomes) as b:
        assert set(a) == set(b)
        assert all(np.array_equal(a[name], b[name]) for name in a)


def counted(job: Job, folder: Path) -> list[list[int]]:
    """Return the confusion, counted one image at a time."""
    subject = job.source.load(job.plan)
    network, counts = subject.network.eval(), np.zeros((10, 10), dtype=int)
    for batch in batches(subject, 0, 1, "cpu"):
        counts[int(batch.y), int(network(batch.x).argmax())] += 1
    return counts.tolist()


def test_natural_row_of_a_run_has_its_confusion(judgeable: Path, tmp_path: Path) -> None:
    job = a_job(judgeable, FGSM(ball=Linf(0.15)))
    subject = job.source.load(job.plan)
    natural, attacked, *_ = judge(job, subject, tmp_path).rows
    assert natural.confusion == counted(job, tmp_path)
    assert sum(map(sum, natural.confusion)) == natural.num_examples > natural.num_correct > 0
    assert attacked.confusion == []
    assert not subject.network._forward_hooks


def test_confusion_of_many_classes_is_not_kept(judgeable: Path, tmp_path: Path) -> None:
    job = a_job(judgeable)
    subject = job.source.load(job.plan)
    wide = nn.Sequential(subject.network, nn.ZeroPad1d((0, 11)))
    (row,) = judge(job, replace(subject, network=wide), tmp_path).rows
    assert row.confusion == []


def test_a_process_says_how_far_it_is(judgeable: Path) -> None:
    said: list[dict[str, Any]] = []
    work(a_job(judgeable, PGD5), judgeable, 0, 2, said.append)
    assert said[0] == {"begin": "0", "points": 30}
    assert said[-1]["progress"] == "0"


@pytest.mark.slow
def test_real_processes_share_the_points(judgeable: Path, tmp_path: Path) -> None:
    job = a_job(judgeable, PGD5, devices=2)
    whole = judged(replace(job, devices=1), tmp_path / "whole")
    shared = judged(job, tmp_path / "shared")
    assert timeless(shared.rows) == timeless(whole.rows)
    assert {p.name for p in (tmp_path / "shared" / "journal").iterdir()} == {
        "0.0-of-2.safetensors", "0.1-of-2.safetensors",
    }  # fmt: skip
    forget(job, tmp_path / "shared", 60)
    assert not (tmp_path / "shared" / "journal").exists()


SCRIPTS = {
    "says why": ('print(\'{"error": "the data is gone"}\', flush=True); time.sleep(60)', "the data is gone"),
    "is killed": (
        "os.kill(os.getpid(), signal.SIGKILL)",
        r"killed \(SIGKILL\).*smaller --batch-size or fewer --devices",
    ),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_process_that_fails_is_one_line(judgeable: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    code, message = SCRIPTS[script]
    monkeypatch.setattr(processes, "COMMAND", ("-c", f"import os, signal, sys, time\nif sys.argv[2] == '1': {code}"))
    with pytest.raises(InputError, match=message):
        judged(a_job(judgeable, PGD5, devices=2), judgeable)


def test_a_process_that_breaks_shows_its_traceback(judgeable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "COMMAND", ("-c", "1 / 0"))
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        judged(a_job(judgeable, PGD5, devices=2), judgeable)


def test_an_interruption_reaches_the_processes(judgeable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import signal, sys, time, pathlib\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        'try:\n    print(\'{"begin": "a", "points": 3}\', flush=True); time.sleep(60)\n'
        "except KeyboardInterrupt:\n    pathlib.Path(sys.argv[1], 'saved' + sys.argv[2]).touch(); sys.exit(130)"
    )
    begun: list[int] = []

    def interrupt(_: object, name: str, num_points: int, rank: int) -> None:
        begun.append(rank)
        if len(begun) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(processes, "COMMAND", ("-c", script))
    monkeypatch.setattr(Bars, "begin", interrupt)
    with pytest.raises(KeyboardInterrupt):
        judged(a_job(judgeable, PGD5, devices=2), judgeable)
    assert sorted(p.name for p in judgeable.glob("saved*")) == ["saved0", "saved1"]


# Memory and batches.


@pytest.mark.parametrize(
    ("error", "size", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
            8,
            r"of 8 images: .*--batch-size, such as 4$",
        ),
        (MemoryError(), 1, r"of 1 images: give a smaller --batch-size$"),
    ],
)
def test_memory_that_does_not_suffice_is_one_line(error: Exception, size: int, message: str) -> None:
    with pytest.raises(InputError, match=message), memory_errors(size):
        raise error
    with pytest.raises(RuntimeError, match="shapes"), memory_errors(size):
        raise RuntimeError("shapes differ")


def test_a_whole_set_attack_is_bounded_by_the_batch_size() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Whole(FGSM):
        def run(self) -> None: ...

    assert bounded(Whole(ball=Linf(0.1)), 7) == Whole(ball=Linf(0.1), max_batch=7)
    assert bounded(Whole(ball=Linf(0.1), max_batch=3), 7) == Whole(ball=Linf(0.1), max_batch=3)
    assert bounded(FGSM(ball=Linf(0.1)), 7) == FGSM(ball=Linf(0.1))


def test_shares_are_numbers_modulo_the_processes(judgeable: Path) -> None:
    subject: Subject = TrainedRun(folder=str(judgeable)).load(evaluate_config(judgeable).evaluation)
    whole = list(batches(subject, 3, 16, "cpu"))
    (index,) = {tuple(torch.cat([b.index for b in whole]).tolist())}  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert index == tuple(range(60))
    for rank in range(3):
        share = list(batches(subject, 3, 7, "cpu", rank, 3))
        assert torch.equal(torch.cat([b.index for b in share]), torch.arange(rank, 60, 3))  # pyright: ignore
        assert torch.equal(torch.cat([b.x for b in share]), torch.cat([b.x for b in whole])[rank::3])
        keys = [torch.cat([b.streams.keys for b in part]) for part in (share, whole)]  # pyright: ignore
        assert torch.equal(keys[0], keys[1][rank::3])


def test_names_of_journals_are_names_of_files() -> None:
    trial = Trial(label="pgd-4@L2 0.5, step 0.06", series="pgd-4", attack=PGD5)
    assert journal_of(Path("run"), trial) == Path("run/journal/pgd-4@L2_0.5__step_0.06")


def test_bars_sum_over_the_processes() -> None:
    bars = Bars("mine", enabled=False)

    def shown() -> dict[str, tuple[float | None, float]]:
        return {task.description: (task.total, task.completed) for task in bars.progress.tasks}

    bars.begin("aa: ce", 10, 0)
    bars.begin("aa: ce", 6, 1)
    bars.move("aa: ce", 4.0, 0)
    bars.move("aa: ce", 2.5, 1)
    assert shown() == {"mine: aa: ce": (16, 6.5)}
    bars.begin("aa: t", 3, 0)  # so that the first member is over there
    assert shown() == {"mine: aa: ce": (16, 12.5), "mine: aa: t": (3, 0)}
    bars.begin("aa: fab", 0, 1)  # nothing to do, nothing to show
    bars.end()
    assert shown() == {"mine: aa: ce": (16, 16), "mine: aa: t": (3, 3)}
    watch = bars.of("aa")
    watch.begin("square", 5)
    watch.progress("square", 2.0)
    assert shown()["mine: aa: square"] == (5, 2.0)
