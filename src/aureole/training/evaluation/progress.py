"""Bars of an evaluation: one for each attack, or member of an attack, summed over the processes that share it."""

from __future__ import annotations

from types import TracebackType

from aureole.core.journal import Journal
from aureole.training.callbacks import progress_bar


class Bars:
    """Bars with the time left, on standard error where that is a terminal.

    Args:
        title: what is judged.
        enabled: show them at all.
    """

    def __init__(self, title: str, *, enabled: bool) -> None:
        self.title, self.progress = title, progress_bar(enabled=enabled)
        self._tasks: dict[str, int] = {}
        self._totals: dict[str, dict[int, float]] = {}
        self._done: dict[str, dict[int, float]] = {}

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def of(self, trial: str) -> Journal:
        """Return a journal that shows what it hears of a trial's attacks."""
        return _Watch(self, trial)

    def begin(self, name: str, num_points: int, rank: int = 0) -> None:
        """Show a bar for so many points more; what the process did before is done."""
        for other, totals in self._totals.items():
            if rank in totals:
                self.move(other, totals[rank], rank)
        if num_points == 0:
            return
        self._totals.setdefault(name, {})[rank] = float(num_points)
        if name not in self._tasks:
            self._tasks[name] = self.progress.add_task(f"{self.title}: {name}", total=0, note="")
        self._show(name)

    def move(self, name: str, done: float, rank: int = 0) -> None:
        """Move a bar to what one process has done."""
        if name in self._tasks:
            self._done.setdefault(name, {})[rank] = done
            self._show(name)

    def end(self) -> None:
        """Fill all bars."""
        for name, totals in self._totals.items():
            self._done[name] = dict(totals)
            self._show(name)

    def _show(self, name: str) -> None:
        total, done = sum(self._totals[name].values()), sum(self._done.get(name, {}).values())
        self.progress.update(self._tasks[name], total=total, completed=min(done, total))  # pyright: ignore[reportArgumentType]


class _Watch(Journal):
    def __init__(self, bars: Bars, trial: str) -> None:
        self.bars, self.trial = bars, trial

    def _name(self, attack: str) -> str:
        return attack if attack == self.trial else f"{self.trial}: {attack}"

    def begin(self, attack: str, num_points: int) -> None:
        self.bars.begin(self._name(attack), num_points)

    def progress(self, attack: str, done: float) -> None:
        self.bars.move(self._name(attack), done)
