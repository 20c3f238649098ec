"""By how much runs are better than others with the same seed, and what that says on a claim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aureole.report.aggregate import Statistic, count, statistic
from aureole.report.layout import MINUS, listing, points


@dataclass(frozen=True, kw_only=True)
class Gain:
    """By how much runs are better than others that share a seed, and whatever else makes a pair.

    Args:
        points: what makes a pair -> the difference, at least one; accuracies in hundredths.
    """

    points: dict[Any, float]

    @property
    def statistic(self) -> Statistic:
        """Mean and spread over the pairs."""
        return statistic(self.points.values())

    @property
    def wins(self) -> int:
        """In how many pairs they are better."""
        return sum(value > 0 for value in self.points.values())

    @property
    def direction(self) -> int:
        """Return 1 where every pair is better, by more than the spread on average; -1 where worse; 0 for neither."""
        found = self.statistic
        if found.spread is None or abs(found.mean) <= found.spread or not found.mean:
            return 0
        sign = 1 if found.mean > 0 else -1
        return sign if all(sign * value > 0 for value in self.points.values()) else 0


def paired(mine: Mapping[Any, float], theirs: Mapping[Any, float]) -> Gain | None:
    """Return the differences of values that have the same key; None where no two have.

    Example:
        >>> paired({0: 3.0, 1: 5.0}, {1: 4.0})
        Gain(points={1: 1.0})
    """
    differences = {key: value - theirs[key] for key, value in mine.items() if key in theirs}
    return Gain(points=differences) if differences else None


def pooled(gains: Iterable[Gain]) -> Gain:
    """Return the mean gain of each seed over several gains: those of one seed are not independent.

    Example:
        >>> pooled([Gain(points={0: 1.0, 1: 2.0}), Gain(points={0: 3.0})])
        Gain(points={0: 2.0, 1: 2.0})
    """
    found: dict[Any, list[float]] = {}
    for gain in gains:
        for key, value in gain.points.items():
            found.setdefault(key, []).append(value)
    return Gain(points={key: sum(values) / len(values) for key, values in found.items()})


def gain_text(gain: Gain) -> str:
    """Return mean and spread of a gain, in points.

    Example:
        >>> gain_text(Gain(points={0: 1.0, 1: 2.0}))
        '+1.50 ± 0.71'
    """
    found = gain.statistic
    return points(found.mean) if found.spread is None else f"{points(found.mean)} ± {found.spread:.2f}"


def change_text(gain: Gain) -> str:
    """Return mean and spread of a gain in a quantity between -1 and 1.

    Example:
        >>> change_text(Gain(points={0: -0.01, 1: -0.02}))
        '−0.015 ± 0.007'
    """
    found = gain.statistic
    mean = f"{round(found.mean, 3) + 0.0:+.3f}".replace("-", MINUS)  # + 0.0: a zero has no sign
    return mean if found.spread is None else f"{mean} ± {found.spread:.3f}"


def wins_text(gain: Gain, word: str = "better") -> str:
    """Return in how many of the pairs runs are better.

    Example:
        >>> wins_text(Gain(points={0: 1.0, 1: -2.0})), wins_text(Gain(points={0: 1.0}))
        ('better in 1 of 2 seeds', 'better in 1 of 1 seed')
    """
    return f"{word} in {gain.wins} of {len(gain.points)} seed{'' if len(gain.points) == 1 else 's'}"


def verdict(gain: Gain, claim: str) -> str:
    """Say what a gain means for a claim.

    Example:
        >>> verdict(Gain(points={0: 1.0, 1: 1.5}), "more particles help")
        'here, more particles help'
    """
    if len(gain.points) < 2:
        return f"one seed does not decide whether {claim}"
    return {
        1: f"here, {claim}",
        -1: f"this speaks against the claim that {claim}",
        0: f"no clear difference, so these runs do not show that {claim}",
    }[gain.direction]


def listed(gains: Mapping[int, Gain]) -> str:
    """Return the gain at each number of particles, and the mean where there are several.

    Example:
        >>> listed({4: Gain(points={0: 1.0, 1: 2.0})})
        '+1.50 points at 4 particles (better in 2 of 2 seeds)'
    """
    parts = []
    for number, gain in gains.items():
        mean = points(gain.statistic.mean)
        short = f"{mean} at {number} ({gain.wins} of {len(gain.points)})"
        parts.append(short if parts else f"{mean} points at {count(number)} ({wins_text(gain)})")
    if len(parts) == 1:
        return parts[0]
    whole = pooled(gains.values())
    return f"{listing(parts)}; over these, {gain_text(whole)} ({wins_text(whole)})"


def raised(found: Mapping[str, Sequence[Gain]]) -> str:
    """Say with which methods every run is better, with which some are, with which none is.

    Example:
        >>> raised({"a": [Gain(points={0: 1.0})], "b": [Gain(points={0: -1.0})]})
        'in every run with a; in none with b'
    """
    words: dict[str, list[str]] = {"always": [], "sometimes": [], "never": []}
    for name, gains in found.items():
        won, tried = sum(gain.wins for gain in gains), sum(len(gain.points) for gain in gains)
        kind = "always" if won == tried else "sometimes" if won else "never"
        words[kind].append(f"{name} ({won} of {tried})" if kind == "sometimes" else name)
    heads = {"always": "in every run with", "sometimes": "in some with", "never": "in none with"}
    return "; ".join(f"{heads[kind]} {listing(names)}" for kind, names in words.items() if names)
