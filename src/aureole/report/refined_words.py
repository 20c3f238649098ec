"""What the numbers of a refinement say, in plain sentences, for and against it."""

from __future__ import annotations

from collections.abc import Sequence

from aureole.core.records import wilson_interval
from aureole.report.aggregate import Accuracy
from aureole.report.layout import listing, number, share
from aureole.report.refined_rows import ALL, FEWEST, MAP, RANKINGS, Line, Result

_THESIS_SHARE = 0.3
_TOLERANCE = 0.01  # what the thesis calls nearly zero


def findings(line: Line) -> list[str]:
    """Return what the runs of one line show: accuracy, detection and size, the rival rankings, the fewest pixels.

    Args:
        line: runs that differ in share and seed alone.

    Returns:
        Sentences, each one complete without the others.
    """
    sentences = [_accuracies(line), _cost(line), _rivals(line), _fewest(line)]
    return [sentence for sentence in sentences if sentence]


def telling_share(line: Line) -> float:
    """Return the share that stands for a line: the thesis's 0.3, or the nearest to it."""
    return min(line.shares, key=lambda value: (abs(value - _THESIS_SHARE), value))


def verdict(one: Accuracy, other: Accuracy) -> int:
    """Return -1 where the first is clearly lower, 1 where it is clearly higher, and 0 where the intervals overlap.

    An interval is that of a single run: for several seeds, the Wilson interval at their mean, as if it were one run's.
    """
    low, high = _bounds(one)
    other_low, other_high = _bounds(other)
    if high < other_low:
        return -1
    return 1 if low > other_high else 0


def _bounds(value: Accuracy) -> tuple[float, float]:
    if value.interval is not None:
        return value.interval
    size = max(value.num_examples, default=0)
    if size < 1 or not 0 <= value.mean <= 1:
        return value.bounds
    return wilson_interval(round(value.mean * size), size)


def _accuracies(line: Line) -> str:
    found = [(value, result) for value in line.shares if (result := line.result(MAP, value)) is not None]
    whole = line.result(ALL)
    if not found:
        return ""
    parts = [f"with {value:g} of the pixels {share(result.accuracy.mean)}" for value, result in found]
    text = f"{_capital(line.name)} leaves {listing(parts)} of the images correct"
    if whole is None:
        return f"{text}."
    text += f" (all pixels: {share(whole.accuracy.mean)})."
    near = [value for value, result in found if result.accuracy.mean <= whole.accuracy.mean + _TOLERANCE]
    if near:
        return f"{text} {min(near):g} of the pixels keep the attack within {_TOLERANCE:g} of its full strength."
    return f"{text} None of these shares keeps the attack within {_TOLERANCE:g} of its full strength."


def _cost(line: Line) -> str:
    """Say what refinement does to norm and detection, at the telling share."""
    at = telling_share(line)
    whole, part = line.result(ALL), line.result(MAP, at)
    before, after = (None if result is None else result.over("l2") for result in (whole, part))
    if whole is None or part is None or before is None or after is None:
        return ""
    text = f"With {at:g} of the pixels of {line.name}, the mean L2 norm is {number(after.mean, 3)} instead of"
    text += f" {number(before.mean, 3)}"
    if whole.detection is None or part.detection is None:
        return f"{text}; the detector could not be fitted to both, so nothing is known of their detection."
    values = f"DetAUC is {share(part.detection.mean)} instead of {share(whole.detection.mean)}"
    words = {
        -1: "the refined attack is harder to detect",
        0: "the refined attack is detected about as well, as far as the intervals can tell",
        1: "the refined attack is easier to detect",
    }
    return f"{text}; {values}: {words[verdict(part.detection, whole.detection)]}."


def _rivals(line: Line) -> str:
    """Say which rankings the map beats, at the telling share, and how often over all shares."""
    at = telling_share(line)
    mine, rivals = line.result(MAP, at), _tried(line, at)
    if mine is None or not rivals:
        return ""
    numbers = [f"{_called(rival.pixels)} {share(rival.accuracy.mean)}" for rival in rivals]
    text = f"At {at:g} of the pixels of {line.name}, the map leaves {share(mine.accuracy.mean)} correct,"
    text += f" {listing(numbers)}: {_standing(mine, rivals)}."
    wins = _wins(line)
    if len(line.shares) < 2 or not wins:
        return text
    counts = [f"{_called(name)} at {won} of {tried}" for name, (won, tried) in wins.items()]
    return f"{text} Over all shares, it clearly beats {listing(counts)}."


def _tried(line: Line, at: float) -> list[Result]:
    found = [line.result(name, at) for name in line.rankings(at) if name != MAP]
    return [result for result in found if result is not None]


def _standing(mine: Result, rivals: Sequence[Result]) -> str:
    """Say whom the map beats, whom it equals, whom it loses to."""
    names: dict[int, list[str]] = {-1: [], 0: [], 1: []}
    for rival in rivals:
        names[verdict(mine.accuracy, rival.accuracy)].append(_called(rival.pixels))
    heads = {-1: "the map beats", 0: "cannot be told from", 1: "does not beat"}
    parts = [f"{heads[key]} {listing(found)}" for key, found in names.items() if found]
    text = ", ".join(parts)
    return text if text.startswith("the map") else f"the map {text}"


def _wins(line: Line) -> dict[str, tuple[int, int]]:
    """Return ranking -> (shares where the map is clearly better, shares where both were tried)."""
    found: dict[str, tuple[int, int]] = {}
    for at in line.shares:
        mine = line.result(MAP, at)
        for rival in _tried(line, at) if mine is not None else []:
            assert mine is not None
            won, tried = found.get(rival.pixels, (0, 0))
            found[rival.pixels] = (won + (verdict(mine.accuracy, rival.accuracy) < 0), tried + 1)
    return found


def _fewest(line: Line) -> str:
    """Say how many pixels suffice along each ranking, and how such images fare with the detector."""
    at = telling_share(line)
    found = {name: result for name in line.rankings(at) if (result := line.result(name + FEWEST, at)) is not None}
    means = {name: value.mean for name, result in found.items() if (value := result.over("changed")) is not None}
    if not means:
        return ""
    best = min(means, key=lambda name: means[name])
    others = [f"{share(value)} along {_called(name)}" for name, value in means.items() if name != best]
    text = f"As few pixels of {line.name} as suffice for each image are {share(means[best])} of them"
    text += f" along {_called(best)}" + (f", {listing(others)}" if others else "")
    detected = found[best].detection
    return f"{text}." if detected is None else f"{text}; DetAUC is then {share(detected.mean)} ({_called(best)})."


def _called(ranking: str) -> str:
    return RANKINGS.get(ranking, ranking)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
