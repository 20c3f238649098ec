"""The tables of a victim's refinements: shares, rankings, fewest pixels, sparse attacks, transfer, and every row."""

from __future__ import annotations

from collections.abc import Sequence

from aureole.report.accuracies import accuracy_parts
from aureole.report.aggregate import Accuracy, Statistic
from aureole.report.layout import DASH, Cell, Style, Table, number, share, spread_text
from aureole.report.refined_rows import ALL, FEWEST, MAP, RANKINGS, Line, Result
from aureole.report.refined_words import telling_share

_HEAD = ["AdvAcc", "DetAUC", "L2, all", "L2, fooled", "changed", "ms, attack", "ms, map"]
_SPREAD = "mean ± sample standard deviation over seeds; for a single run, its 95 % interval"
_RIVALS = (
    "Size is that of the perturbation; gradient and integrated gradient are those of the victim times the perturbation,"
    " and know the label, for every image"
)


def tables_of(lines: Sequence[Line], *, plain: bool = False) -> list[Table]:
    """Return the tables that the lines of one victim have something for.

    Args:
        lines: the lines of one victim.
        plain: for a text: the rankings at every share instead of bars at one share and a folded table of every row.

    Returns:
        The tables.
    """
    rankings, every = (_rankings_by_share(lines), None) if plain else (_rankings(lines), _every(lines))
    tables = [_shares(lines), _sparse(lines), rankings, _fewest(lines), *_transfer(lines), every]
    return [table for table in tables if table is not None]


def remarks_of(lines: Sequence[Line]) -> list[str]:
    """Return what speaks against the averages: seeds that occur twice at one share."""
    notes = []
    for line in lines:
        for at in line.shares:
            seeds = [record.seed for record in line.at(at)]
            if len(set(seeds)) < len(seeds):
                notes.append(f"{line.name}, {at:g} of the pixels: a seed occurs more than once.")
    return notes


def ranking_style(ranking: str) -> Style:
    """Return the colour of a ranking; AdvAcc of the map, DetAUC and L2 have the first three."""
    names = list(RANKINGS)
    place = 0 if ranking == MAP else 2 + (names.index(ranking) if ranking in names else len(names))
    return Style(colour=place, marker=place, dash=0 if ranking == MAP else 1)


def accuracy_cell(value: Accuracy | None, *, bar: Style | None = None, best: bool = False) -> Cell:
    """Return an accuracy, its interval below it, and where wished a bar as long as it is."""
    if value is None:
        return Cell(text=DASH)
    text, *details = accuracy_parts(value)
    if bar is None:
        return Cell(text=text, details=tuple(details), best=best)
    return Cell(text=text, details=tuple(details), bar=min(1.0, max(0.0, value.mean)), style=bar, best=best)


def milliseconds(value: Statistic | None) -> str:
    """Return a time in milliseconds, in words."""
    if value is None:
        return DASH
    spread = None if value.spread is None else 1000 * value.spread
    return quantity(Statistic(mean=1000 * value.mean, spread=spread, count=value.count))


def quantity(value: Statistic | None) -> str:
    """Return a mean with three digits, and with its spread where there is more than rounding."""
    if value is None:
        return DASH
    return spread_text(value) if (value.spread or 0.0) > 1e-6 * abs(value.mean) else number(value.mean, 3)


def _cells(result: Result) -> list[Cell]:
    """Return one cell for each entry of the head."""
    texts = [quantity(result.over(name)) for name in ("l2", "l2_fooled")]
    changed = result.over("changed")
    texts += [DASH if changed is None else share(changed.mean)]
    texts += [milliseconds(result.over("source_seconds")), milliseconds(result.own_seconds)]
    return [accuracy_cell(result.accuracy), accuracy_cell(result.detection), *(Cell(text=text) for text in texts)]


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[Cell]], *, folded: bool = False) -> Table | None:
    cells = [Cell(text=text) for text in head]
    return Table(caption=caption, head=cells, rows=rows, folded=folded) if rows else None


def _seeds(result: Result) -> Cell:
    return Cell(text=str(len(result.rows)))


def _shares(lines: Sequence[Line]) -> Table | None:
    """Return the attacks as they are and with the pixels of the map (thesis, Figures 3.6, 3.7 and 3.10)."""
    rows = []
    for line in lines:
        for at in [*line.shares, None]:
            result = line.result(ALL) if at is None else line.result(MAP, at)
            if result is not None:
                kept = Cell(text="all" if at is None else f"{at:g}")
                rows.append([Cell(text=line.name), kept, _seeds(result), *_cells(result)])
    caption = (
        f"Attacks cut down to the pixels of the map, and with all of them ({_SPREAD}). AdvAcc: share of images still"
        " classified correctly; DetAUC: area under the ROC curve of a detector fitted to this very attack, a dash where"
        " too few images succeed to fit one; L2 over all images and over those that were fooled; changed: share of"
        " pixels that differ; milliseconds an image: of the attack, in batches, and of the map besides, image by image"
    )
    return _table(caption, ["attack", "pixels", "seeds", *_HEAD], rows)


def _sparse(lines: Sequence[Line]) -> Table | None:
    """Return refined attacks beside sparse ones (thesis, Table 3.1)."""
    rows = []
    for line in lines:
        names = line.others(compared=True)
        shares = [at for at in line.shares if any(record.config.get("compare") for record in line.at(at))]
        results = [(name, line.result(ALL, attack=name)) for name in names]
        results += [(f"{line.name}, all pixels", line.result(ALL))] if names else []
        results += [(f"{line.name}, {at:g} of the pixels", line.result(MAP, at)) for at in shares if names]
        rows += [[Cell(text=name), *_cells(result)] for name, result in results if result is not None]
    caption = f"Refined beside sparse attacks ({_SPREAD}); L2 and changed as above"
    return _table(caption, ["attack", *_HEAD], rows)


def _rankings(lines: Sequence[Line]) -> Table | None:
    """Return AdvAcc with the pixels of each ranking, at the same number of pixels."""
    rows = []
    for line in lines:
        at = telling_share(line)
        found = [result for name in line.rankings(at) if (result := line.result(name, at)) is not None]
        lowest = min((result.accuracy.mean for result in found), default=None)
        for result in found if len(found) > 1 else []:
            best = result.accuracy.mean == lowest
            accuracy = accuracy_cell(result.accuracy, bar=ranking_style(result.pixels), best=best)
            name = Cell(text=result.pixels, details=(f"{line.name}, {at:g} of the pixels",))
            rows.append([name, accuracy, accuracy_cell(result.detection), _cells(result)[2]])
    caption = (
        f"Which pixels to keep: the map beside rankings without a network, at the same number of pixels ({_SPREAD})."
        f" Lower is stronger. {_RIVALS}"
    )
    return _table(caption, ["ranking", "AdvAcc", "DetAUC", "L2, all"], rows)


def _rankings_by_share(lines: Sequence[Line]) -> Table | None:
    """Return AdvAcc with the pixels of each ranking, a row an attack and share, a column a ranking."""
    tried = list(dict.fromkeys(name for line in lines for at in line.shares for name in line.rankings(at)))
    rows = []
    for line in lines:
        for at in line.shares if len(tried) > 1 else []:
            results = [line.result(name, at) for name in tried]
            cells = [accuracy_cell(None if result is None else result.accuracy) for result in results]
            rows.append([Cell(text=line.name), Cell(text=f"{at:g}"), *cells])
    caption = f"AdvAcc with as many pixels, of the map and of rankings without a network ({_SPREAD}). {_RIVALS}"
    return _table(caption, ["attack", "pixels", *tried], rows)


def _fewest(lines: Sequence[Line]) -> Table | None:
    """Return how many pixels suffice along each ranking."""
    rows = []
    for line in lines:
        at = telling_share(line)
        for name in line.rankings(at):
            result = line.result(name + FEWEST, at)
            changed = None if result is None else result.over("changed_fooled")
            if result is None or changed is None:
                continue
            bar = Cell(text=quantity(changed), bar=min(1.0, changed.mean), style=ranking_style(name))
            rest = [accuracy_cell(result.accuracy), accuracy_cell(result.detection), _cells(result)[2]]
            rows.append([Cell(text=name, details=(line.name,)), bar, *rest])
    caption = (
        "As few pixels as suffice: they are added along a ranking until the class changes, which asks the victim for"
        " every image; mean share of the pixels that differ then, over the images that were right and are fooled"
    )
    return _table(caption, ["ranking", "pixels needed", "AdvAcc", "DetAUC", "L2, all"], rows)


def _transfer(lines: Sequence[Line]) -> list[Table]:
    """Return AdvAcc of maps on attacks that they did not learn from, a table a share (thesis, Table 3.3)."""
    tables = []
    for at in sorted({at for line in lines for at in line.shares}):
        taught = [line for line in lines if any(line.result(MAP, at, name) for name in line.others(compared=False))]
        others = [name for line in taught for name in line.others(compared=False)]
        attacks = list(dict.fromkeys([line.source for line in taught] + others))
        rows = [
            [Cell(text=f"map of {line.name}"), *(_transferred(line, MAP, at, name) for name in attacks)]
            for line in taught
        ]
        wholes = [[_transferred(line, ALL, at, name) for line in taught] for name in attacks]
        whole = [next((cell for cell in cells if cell.text != DASH), Cell(text=DASH)) for cells in wholes]
        rows += [[Cell(text="all pixels"), *whole]] if rows else []
        caption = f"Transfer: AdvAcc with {at:g} of the pixels; a row is the attack that taught the map, a column the"
        table = _table(f"{caption} attack that is refined with it ({_SPREAD})", ["", *attacks], rows)
        tables += [] if table is None else [table]
    return tables


def _transferred(line: Line, pixels: str, at: float, attack: str) -> Cell:
    result = line.result(pixels, at, attack)
    return accuracy_cell(None if result is None else result.accuracy)


def _every(lines: Sequence[Line]) -> Table | None:
    """Return every row of every run, over seeds, by label."""
    rows = []
    for line in lines:
        for at in line.shares:
            found = line.at(at)
            kinds = dict.fromkeys((row.attack, row.pixels) for record in found for row in record.refinement)
            for attack, pixels in kinds:
                result = line.result(pixels, at, attack)
                assert result is not None
                label = Cell(text=found[0].label, details=(line.variant,) if line.variant else ())
                rows.append([label, Cell(text=attack), Cell(text=pixels), _seeds(result), *_cells(result)])
    return _table(f"Every row, by run ({_SPREAD})", ["run", "attack", "pixels", "seeds", *_HEAD], rows, folded=True)
