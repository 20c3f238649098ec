"""One self-contained page of explained pictures: the maps, and what student and teacher see in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from aureole.report.drawing import TOP_COLOUR, heat, inline, outlined, overlay, png, scaled, top_pixels
from aureole.report.pictures import Picture

GENERATOR = "aureole explain"
_MOST_CLASSES = 5
_DRAWN = {
    "map": "Map: white matters most",
    "heat": "Map as heat",
    "overlay": "Map over the picture",
    "top": "Contour of the highest scores",
}


@dataclass(frozen=True, kw_only=True)
class ExplainedPicture:
    """One picture with its map.

    Args:
        name: what a person calls it.
        pixels: the picture as the networks see it, (H, W, 3) in [0, 1].
        scores: the map, (H, W).
        count: K, pixels within the contour.
        probabilities: name of a network -> probability of each class.
        prepared: what was done to the picture before, in words; empty for nothing.
    """

    name: str
    pixels: Any
    scores: Any
    count: int
    probabilities: Mapping[str, Sequence[float]]
    prepared: str = ""

    @property
    def pixel_share(self) -> float:
        """The share of the picture's pixels within the contour."""
        return self.count / self.scores.size

    def drawings(self) -> dict[str, bytes]:
        """Return the PNGs by what they show: ``map`` (grey), ``heat``, ``overlay`` and ``top``, each of its size."""
        top = outlined(self.pixels, top_pixels(self.scores, self.count), TOP_COLOUR)
        drawn = [scaled(self.scores), heat(self.scores), overlay(self.pixels, self.scores), top]
        return {name: png(values) for name, values in zip(_DRAWN, drawn, strict=True)}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A picture on the page: its drawings, and a row a class with the probability that each network gives it."""

    name: str
    drawings: Sequence[Picture]
    networks: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    note: str


def entry(picture: ExplainedPicture, drawings: Mapping[str, bytes], class_names: Sequence[str]) -> Entry:
    """Return what the page shows of a picture.

    Args:
        picture: the picture.
        drawings: its PNGs, as :meth:`ExplainedPicture.drawings` returns them.
        class_names: a name for each class; a class beyond them is called by its number.
    """
    shown = [Picture(source=inline(png(picture.pixels)), words="Picture as the networks see it")]
    shown += [Picture(source=inline(drawings[name]), words=words) for name, words in _DRAWN.items()]
    height, width = picture.scores.shape
    note = f"Within the contour: {picture.count:,} of {height}x{width} pixels ({100 * picture.pixel_share:.3g} %)."
    note += f" {picture.prepared[:1].upper()}{picture.prepared[1:]}." if picture.prepared else ""
    classes = _classes(picture)
    total = max(len(values) for values in picture.probabilities.values())
    note += f" Shown: {len(classes)} of {total} classes." if len(classes) < total else ""
    return Entry(
        name=picture.name,
        drawings=shown,
        networks=list(picture.probabilities),
        rows=[_row(picture, index, class_names) for index in classes],
        note=note,
    )


def class_name(index: int, class_names: Sequence[str]) -> str:
    """Return the name of a class, or its number.

    Example:
        >>> class_name(1, ["clean", "ill"]), class_name(2, ["clean", "ill"])
        ('ill', '2')
    """
    return str(class_names[index]) if index < len(class_names) else str(index)


def explained_page(title: str, about: Sequence[str], entries: Sequence[Entry], failed: Sequence[str]) -> str:
    """Return the page, which loads nothing.

    Args:
        title: its heading.
        about: what the maps are, a paragraph each.
        entries: the pictures.
        failed: what was left out, and why.
    """
    import jinja2

    text = resources.files("aureole.report").joinpath("explained_page.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(text).render(
        title=title, about=about, pictures=entries, failed=failed, generator=GENERATOR
    )


def _classes(picture: ExplainedPicture) -> list[int]:
    """Return the classes in their order; of many, those that a network finds likeliest."""
    highest: dict[int, float] = {}
    for values in picture.probabilities.values():
        for index, value in enumerate(values):
            highest[index] = max(value, highest.get(index, 0.0))
    return sorted(sorted(highest, key=lambda index: -highest[index])[:_MOST_CLASSES])


def _row(picture: ExplainedPicture, index: int, class_names: Sequence[str]) -> dict[str, Any]:
    cells = []
    for values in picture.probabilities.values():
        known = index < len(values)
        text = f"{values[index]:.3f}" if known else ""
        cells.append({"text": text, "seen": known and values[index] == max(values)})
    return {"name": class_name(index, class_names), "cells": cells}
