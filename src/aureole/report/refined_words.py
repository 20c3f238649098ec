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
    """Return what the runs of one line show: accuracy, detection, rival rankings, fewest pixels, other attacks.

    Args:
        line: runs that differ in share and seed alone.

    Returns:
        Sentences, each one complete without the others.
    """
    sentences = [_accuracies(line), _cost(line), _rivals(line), _fewest(line)]
    sentences += [_beside_sparse(line), _carried_over(line)]
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
    leaves = [f"{share(result.accuracy.mean)} with {value:g}" for value, result in found]
    leaves[0] = leaves[0].replace(" with", " of the images correct with", 1) + " of the pixels"
    text = f"Refined {line.name} leaves {listing(leaves)}"
    if whole is None:
        return f"{text}."
    text += f"; all pixels leave {share(whole.accuracy.mean)}."
    near = [value for value, result in found if result.accuracy.mean <= whole.accuracy.mean + _TOLERANCE]
    if near:
        return f"{text} {min(near):g} of the pixels keep the attack within {_TOLERANCE:g} of its full strength."
    if len(found) == 1:
        return f"{text} That is not within {_TOLERANCE:g} of its full strength."
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
    counts = [f"{_called(name)} {won} times" for name, won in wins.items()]
    return f"{text} Over {len(line.shares)} shares, it clearly beats {listing(counts)}."


def _tried(line: Line, at: float) -> list[Result]:
    found = [line.result(name, at) for name in line.rankings(at) if name != MAP]
    return [result for result in found if result is not None]


def _standing(mine: Result, rivals: Sequence[Result]) -> str:
    """Say whom the map beats, whom it equals, whom it loses to."""
    names: dict[int, list[str]] = {-1: [], 0: [], 1: []}
    for rival in rivals:
        names[verdict(mine.accuracy, rival.accuracy)].append(_called(rival.pixels))
    heads = {-1: "beats", 0: "cannot be told from", 1: "does not beat"}
    parts = [f"{heads[key]} {_either(found)}" for key, found in names.items() if found]
    return f"the map {listing(parts)}"


def _wins(line: Line) -> dict[str, int]:
    """Return ranking -> at how many shares the map is clearly better."""
    found: dict[str, int] = {}
    for at in line.shares:
        mine = line.result(MAP, at)
        for rival in _tried(line, at) if mine is not None else []:
            assert mine is not None
            found[rival.pixels] = found.get(rival.pixels, 0) + (verdict(mine.accuracy, rival.accuracy) < 0)
    return found


def _fewest(line: Line) -> str:
    """Say how many pixels suffice along each ranking, and how such images fare with the detector."""
    at = telling_share(line)
    found = {name: result for name in line.rankings(at) if (result := line.result(name + FEWEST, at)) is not None}
    means = {name: value.mean for name, result in found.items() if (value := result.over("changed_fooled")) is not None}
    if not means:
        return ""
    ranked = sorted(means, key=lambda name: means[name])
    best = ranked[0]
    needs = [f"{share(means[name])} along {_called(name)}" for name in ranked]
    needs[0] = needs[0].replace(" along", " of its pixels along", 1)
    text = f"To change the class of an image, {line.name} needs {listing(needs)}"
    text += " (mean over the images that are right to begin with, and fooled)"
    detected = found[best].detection
    return f"{text}." if detected is None else f"{text}; DetAUC is then {share(detected.mean)} ({_called(best)})."


def _called(ranking: str) -> str:
    return RANKINGS.get(ranking, ranking)


def _either(names: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _beside_sparse(line: Line) -> str:
    """Say which of the refined and the sparse attacks is best in what (thesis, Table 3.1)."""
    names, at = line.others(compared=True), telling_share(line)
    found = {name: line.result(ALL, attack=name) for name in names} | {f"refined {line.name}": line.result(MAP, at)}
    tried = {name: result for name, result in found.items() if result is not None}
    if len(tried) < 2 or not names:
        return ""
    measures = {
        "AdvAcc": {name: result.accuracy.mean for name, result in tried.items()},
        "DetAUC": {name: value.mean for name, result in tried.items() if (value := result.detection) is not None},
        "mean L2": {name: value.mean for name, result in tried.items() if (value := result.over("l2")) is not None},
        "time": {name: value.mean for name, result in tried.items() if (value := result.seconds) is not None},
    }
    units = {"mean L2": lambda value: number(value, 3), "time": lambda value: f"{1000 * value:.3g} ms"}
    parts = []
    for measure, values in measures.items():
        texts = {name: units.get(measure, share)(value) for name, value in values.items()}
        if texts:
            least = texts[min(values, key=lambda name, values=values: values[name])]
            best = [name for name, text in texts.items() if text == least]
            parts.append(f"{listing(best)} {'has' if len(best) == 1 else 'have'} the lowest {measure} ({least})")
    return f"Of {listing(list(tried))}, {listing(parts)}."


def _carried_over(line: Line) -> str:
    """Say how a map fares on attacks that it did not learn from (thesis, Table 3.3)."""
    texts = []
    for at in line.shares:
        for name in line.others(compared=False):
            found, whole = line.result(MAP, at, name), line.result(ALL, at, name)
            if found is not None and whole is not None:
                words = f"{share(found.accuracy.mean)} for {name} (all pixels: {share(whole.accuracy.mean)})"
                texts.append((at, words))
    if not texts:
        return ""
    at = min((value for value, _ in texts), key=lambda value: (abs(value - _THESIS_SHARE), value))
    own = line.result(MAP, at)
    ending = "" if own is None else f"; {share(own.accuracy.mean)} for {line.source} itself"
    told = listing([words for value, words in texts if value == at])
    return f"With {at:g} of the pixels, the map of {line.name} leaves of other attacks {told}{ending}."
