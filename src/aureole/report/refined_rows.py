"""What runs of refinement measured, arranged: victims, lines over the share of pixels, results over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aureole.core.records import Record, RefinementRow
from aureole.report.aggregate import Accuracy, Statistic, leaves, statistic, victim_of

ALL, MAP = "all", "map"
FEWEST = ", fewest"
#: Rankings of pixels -> what a sentence calls them.
RANKINGS = {
    MAP: "the map",
    "size": "size",
    "gradient": "gradient",
    "integrated gradient": "integrated gradient",
    "random": "random",
}
_ASIDE = (
    "compare", "num_examples", "num_pictures", "refiner.data", "refiner.engine", "refiner.evaluation", "refiner.label",
    "refiner.method.share", "refiner.paper", "refiner.proxy_reason", "rivals", "sources", "victim.data.source",
    "victim.engine", "victim.evaluation", "victim.label", "victim.paper", "victim.proxy_reason", "victim_folder",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Result:
    """One attack with one choice of pixels, over the seeds.

    Args:
        attack: name of the attack.
        pixels: which of its pixels are kept, as in a :class:`~aureole.core.rows.RefinementRow`.
        rows: one a seed, at least one.
    """

    attack: str
    pixels: str
    rows: tuple[RefinementRow, ...]

    @property
    def share(self) -> float:
        """Greatest share of the pixels that may change."""
        return self.rows[0].share

    @property
    def accuracy(self) -> Accuracy:
        """AdvAcc: the share of images that the victim still classifies correctly."""
        found = [(row.accuracy, row.interval, row.num_examples) for row in self.rows]
        return _accuracy(found)

    @property
    def detection(self) -> Accuracy | None:
        """DetAUC; None where no run could measure it."""
        found = [(row.detection, _interval(row), row.detection_pairs) for row in self.rows if row.detection is not None]
        return _accuracy(found) if found else None

    @property
    def seconds(self) -> Statistic | None:
        """Seconds an image, attack and choice of pixels; None where choosing was not measured."""
        if self.pixels not in (ALL, MAP):
            return None
        return statistic(row.source_seconds + row.seconds for row in self.rows)

    @property
    def own_seconds(self) -> Statistic | None:
        """Seconds an image of choosing the pixels, beside those of the attack; None where that was not measured."""
        timed = self.pixels == MAP or self.pixels.endswith(FEWEST)
        return statistic(row.seconds for row in self.rows) if timed else None

    def over(self, measure: str) -> Statistic | None:
        """Return the statistic of a field of the rows, or None where no row has it."""
        values = [value for row in self.rows if (value := getattr(row, measure)) is not None]
        return statistic(values) if values else None


def _accuracy(found: Sequence[tuple[float, tuple[float, float] | None, int]]) -> Accuracy:
    values = statistic(value for value, _, _ in found)
    return Accuracy(
        mean=values.mean,
        spread=values.spread,
        count=values.count,
        interval=found[0][1] if len(found) == 1 else None,
        num_examples=tuple(sorted({count for _, _, count in found})),
    )


def _interval(row: RefinementRow) -> tuple[float, float] | None:
    if row.detection_low is None or row.detection_high is None:
        return None
    return row.detection_low, row.detection_high


@dataclass(frozen=True, kw_only=True)
class Line:
    """Runs that differ in the share of pixels and in the seed alone.

    Args:
        victim: name of the attacked classifier.
        source: the attack that the map learned from.
        variant: what sets the runs apart from others with this victim and source; empty where nothing does.
        records: the runs, at least one.
    """

    victim: str
    source: str
    variant: str
    records: tuple[Record, ...]

    @property
    def name(self) -> str:
        """What the report calls the line."""
        return f"{self.source} ({self.variant})" if self.variant else self.source

    @property
    def shares(self) -> list[float]:
        """The shares that maps were learned for, ascending."""
        return sorted({share_of(record) for record in self.records})

    def at(self, share: float) -> list[Record]:
        """Return the runs with this share."""
        return [record for record in self.records if share_of(record) == share]

    def result(self, pixels: str, share: float | None = None, attack: str | None = None) -> Result | None:
        """Return what an attack is worth with a choice of pixels.

        Args:
            pixels: which pixels, such as ``"map"``.
            share: of the run; None takes what does not depend on it from any run, once a seed.
            attack: name of the attack; None for the source.

        Returns:
            The result, or None where no run has it.
        """
        attack, rows = attack or self.source, dict[Any, RefinementRow]()
        for place, record in enumerate(self.records if share is None else self.at(share)):
            key = record.seed if share is None else place
            for row in record.refinement:
                if (row.attack, row.pixels) == (attack, pixels):
                    rows.setdefault(key, row)
        return Result(attack=attack, pixels=pixels, rows=tuple(rows.values())) if rows else None

    def rankings(self, share: float) -> list[str]:
        """Return the rankings that were tried at this share, the map first."""
        tried = dict.fromkeys(row.pixels for record in self.at(share) for row in record.refinement)
        return sorted((name for name in tried if name != ALL and not name.endswith(FEWEST)), key=lambda n: n != MAP)

    def others(self, *, compared: bool) -> list[str]:
        """Return the attacks that were judged beside the source: as they are, or refined."""
        names = [
            row.attack
            for record in self.records
            for row in record.refinement
            if row.attack != self.source and (row.attack in _part(record.config, "compare")) == compared
        ]
        return list(dict.fromkeys(names))


def share_of(record: Record) -> float:
    """Return the share of pixels that a run's map was learned for."""
    share = _part(record.config, "refiner", "method").get("share")
    found = [row.share for row in record.refinement if row.pixels == MAP]
    return float(share) if isinstance(share, int | float) else (found or [1.0])[0]


def refinements(records: Iterable[Record]) -> list[Record]:
    """Return the records that hold refined attacks."""
    return [record for record in records if record.refinement]


def lines_of(records: Iterable[Record]) -> dict[str, list[Line]]:
    """Arrange the refinements of one data set.

    Args:
        records: records that may be compared.

    Returns:
        Victim -> its lines, in first-seen order. Runs that differ in more than share and seed are different lines.
    """
    kept: dict[tuple[str, str], dict[tuple[tuple[str, str], ...], list[Record]]] = {}
    for record in refinements(records):
        place = kept.setdefault((victim_of(record), record.refinement[0].attack), {})
        place.setdefault(_settings(record), []).append(record)
    found: dict[str, list[Line]] = {}
    for (victim, source), variants in kept.items():
        for variant, runs in variants.items():
            text = _difference(variant, list(variants))
            line = Line(victim=victim, source=source, variant=text, records=tuple(runs))
            found.setdefault(victim, []).append(line)
    return found


def _part(config: dict[str, Any], *names: str) -> dict[str, Any]:
    part: Any = config
    for name in names:
        part = part.get(name) if isinstance(part, dict) else None
    return part if isinstance(part, dict) else {}


def _settings(record: Record) -> tuple[tuple[str, str], ...]:
    """Return everything that the map and its judgement depend on, less share and seed."""
    config, source = record.config, record.refinement[0].attack
    found = {name: value for name, value in leaves(config, "") if not name.startswith(_ASIDE)}
    found |= dict(leaves(_part(config, "sources", source), "source"))
    found["victim.seed"] = repr(_part(config, "victim").get("seed"))
    found["form"] = _form(found.pop("refiner.method.conditioned", ""), found.pop("refiner.method.among", ""))
    network = "refiner.model.name"
    found[network] = found.get(network, "").replace("-conditioned", "")  # the form says so
    return tuple(sorted(found.items()))


def _form(conditioned: str, among: str) -> str:
    """Name the form of a map, from the configuration's values as text; the first records have no ``among``.

    Example:
        >>> _form("False", ""), _form("False", "'changed'"), _form("True", "'changed'")
        ('plain', 'among changed pixels', 'conditioned')
    """
    return "conditioned" if conditioned == "True" else "among changed pixels" if "changed" in among else "plain"


def _difference(settings: tuple[tuple[str, str], ...], others: Sequence[tuple[tuple[str, str], ...]]) -> str:
    """Name the settings that set one variant apart, as far as a table has room for them."""
    mine, theirs = dict(settings), [dict(other) for other in others]
    differing = [name for name, value in mine.items() if any(other.get(name) != value for other in theirs)]
    values = {name: mine[name].strip(chr(39)).rpartition(":")[2] for name in differing}
    words = [value if name == "form" else f"{_last(name)} {value}" for name, value in values.items()]
    most = 3
    text = ", ".join(dict.fromkeys(words[:most])) + (", ..." if len(words) > most else "")
    return text or (f"variant {others.index(settings) + 1}" if len(others) > 1 else "")


def _last(name: str) -> str:
    """Return the part of a setting's name that says most.

    Example:
        >>> _last("refiner.method.selection.type"), _last("source.radius")
        ('selection', 'radius')
    """
    return name.removesuffix(".type").rpartition(".")[2]
