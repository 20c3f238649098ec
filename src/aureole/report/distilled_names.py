"""What a distillation is called: by its method, and by the settings that tell it from others of that method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aureole.core.records import Record
from aureole.report.aggregate import leaves, stem

ALONE = "student alone"
SUPPORTED = "KD + BSS"
_PARTICLES, _MOST_FIELDS = "tald.search.num_particles", 3


@dataclass(frozen=True, kw_only=True)
class Named:
    """What a method is called.

    Args:
        base: with no regard to TALD, such as ``"KD"``.
        line: with TALD, if it has that, whatever the number of particles.
        num_particles: of TALD; None without.
        settings: dotted name of a field of the method -> its value as Python writes it.
    """

    base: str
    line: str
    num_particles: int | None
    settings: dict[str, str]

    @property
    def name(self) -> str:
        """The line and the number of particles."""
        if self.num_particles is None:
            return self.line
        head, tald, form = self.line.partition(" + TALD")
        return f"{head}{tald} {self.num_particles}{form}"


def method_of(record: Record) -> dict[str, Any]:
    """Return the configuration of the method that trained the student."""
    training = record.config.get("student", record.config)
    method = training.get("method") if isinstance(training, dict) else None
    return method if isinstance(method, dict) else {}


def names_of(records: Sequence[Record]) -> list[Named]:
    """Return what the methods of records are called, one record a method; settings that differ join the name.

    Args:
        records: of the same teacher and student.

    Returns:
        One name a record, in the same order.
    """
    settings = [dict(leaves(method_of(record), "")) for record in records]
    counts = [_count(found) for found in settings]
    stems = [stem(record.label, count) for record, count in zip(records, counts, strict=True)]
    titles = _titles(records, settings)
    plain = [{k: v for k, v in found.items() if not k.startswith("tald.")} for found in settings]
    bases = [
        title + form for title, form in zip(titles, _forms(titles, plain, stems, [None] * len(stems)), strict=True)
    ]
    terms = [{k: v for k, v in found.items() if k.startswith("tald.") and k != _PARTICLES} for found in settings]
    forms = _forms_at_equal_counts(bases, counts, terms, stems)
    return [
        Named(
            base=base,
            line=base if count is None else f"{base} + TALD{form}",
            num_particles=count,
            settings=found,
        )
        for base, count, form, found in zip(bases, counts, forms, settings, strict=True)
    ]


def _count(settings: dict[str, str]) -> int | None:
    """Return the number of TALD's particles; None without TALD."""
    weight = settings.get("tald.weight")
    return int(settings[_PARTICLES]) if weight is not None and float(weight) > 0 else None


def _titles(records: Sequence[Record], settings: Sequence[dict[str, str]]) -> list[str]:
    several = len({r.method for r, s in zip(records, settings, strict=True) if "tald.weight" not in s}) > 1
    titles = []
    for record, found in zip(records, settings, strict=True):
        if "tald.weight" not in found:
            titles.append(f"{ALONE} ({record.method})" if several else ALONE)
        else:
            titles.append(SUPPORTED if record.method == "BSS" and found.get("variant") == "'kd'" else record.method)
    return titles


def _forms_at_equal_counts(
    bases: Sequence[str], counts: Sequence[int | None], terms: Sequence[dict[str, str]], stems: Sequence[str]
) -> list[str]:
    """Return what tells methods with TALD apart that share the base and, somewhere, the number of particles."""
    keys = list(zip(bases, counts, strict=True))
    crowded = {base for base, count in keys if count is not None and keys.count((base, count)) > 1}
    whose = [base if base in crowded and count is not None else f"{place}" for place, (base, count) in enumerate(keys)]
    return _forms(whose, terms, stems, counts)


def _forms(
    whose: Sequence[str], settings: Sequence[dict[str, str]], stems: Sequence[str], counts: Sequence[int | None]
) -> list[str]:
    """Return the settings in which those of one name differ, as ``" (reuse 1)"``; their labels where these are many."""
    found = []
    for own, mine, label in zip(whose, settings, stems, strict=True):
        others: dict[int | None, list[dict[str, str]]] = {}
        for name, theirs, count in zip(whose, settings, counts, strict=True):
            if name == own:
                others.setdefault(count, []).append(theirs)
        fields = list(dict.fromkeys(field for alike in others.values() for field in _differing(alike)))
        labels = {name for name, who in zip(stems, whose, strict=True) if who == own}
        if len(fields) > _MOST_FIELDS and len(labels) > 1:
            found.append(f" ({label})")
        else:
            words = ", ".join(_words(field, mine[field]) for field in fields if field in mine)
            found.append(f" ({words})" if words else "")
    return found


def _differing(settings: Sequence[dict[str, str]]) -> list[str]:
    """Return the fields in which some settings differ."""
    fields = dict.fromkeys(field for found in settings for field in found)
    return [field for field in fields if len({found.get(field) for found in settings}) > 1]


def _words(field: str, value: str) -> str:
    """Return a setting in words.

    Example:
        >>> _words("tald.reuse", "1"), _words("tald.search.kernel.type", "'aureole.particles.kernels:RBF'")
        ('reuse 1', 'kernel RBF')
    """
    *_, before, last = ["", *field.split(".")]
    name = before if last == "type" and before else last
    return f"{name.replace('_', ' ')} {value.strip(chr(39)).rpartition(':')[2].removesuffix('.0')}"
