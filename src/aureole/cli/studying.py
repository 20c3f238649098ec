"""``aureole study``: ask persons which pictures look more disturbed, and read their answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from aureole.cli.common import say
from aureole.core.errors import InputError, unknown_name
from aureole.options import parse

if TYPE_CHECKING:
    from aureole.refine.study import PerceptibilityRow, Session, StudyKey, StudyPair

_HELP = """aureole study: in which of two pictures does a person notice the disturbance more?

  aureole study make PAIRS...               one HTML page that asks, and its key
  aureole study read STUDY ANSWERS...       the table of the answers

Try:
  aureole study make runs/refine-bim runs/refine-pgd --output runs/study --title "Pictures"
  aureole study read runs/study answers

Each command has --help, and --json for machines."""


@dataclass(frozen=True, kw_only=True)
class StudyMakeOptions:
    """Write study.html, a page that asks in which picture of a pair the disturbance is noticed more, and its key.

    Give the page to those who take part, and keep study.json: it says which pictures are refined, so it reads answers.

    Attributes:
        pairs: runs of refinement, or .npz files with x, x_source, x_refined and attack; one for each attack.
        output: folder of the page and of its key.
        title: heading of the page.
        num_images: of each attack, the first so many pairs that can be told apart.
        seed: of the names that hide which picture is which.
        show_clean: show the undisturbed picture above each pair.
        json: print the paths as JSON.
    """

    pairs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="PAIRS...")] = ()
    output: Path = Path("runs/study")
    title: str = "A study of pictures"
    num_images: int = 15
    seed: int = 0
    show_clean: bool = False
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class StudyReadOptions:
    """Print how often the pictures of each attack, as they are and refined, were found the more disturbed.

    The first path is study.json or its folder, the others are files that the page saved, or folders of such files.

    Attributes:
        paths: the study, then the answers.
        allow_incomplete: take persons who did not answer everything.
        json: print the table as JSON.
    """

    paths: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="STUDY ANSWERS...")] = ()
    allow_incomplete: bool = False
    json: bool = False


def study(arguments: Sequence[str]) -> None:
    """Make a study, or read its answers."""
    commands = {"make": _make, "read": _read}
    if not arguments or arguments[0] in ("-h", "--help"):
        return say(_HELP)
    if arguments[0] not in commands:
        raise unknown_name("command of 'aureole study'", arguments[0], commands)
    return commands[arguments[0]](arguments[1:])


def _make(arguments: Sequence[str]) -> None:
    from aureole.refine.study import Study, read_pairs, write_study
    from aureole.refine.study.pairs import KEY_NAME

    options = parse(StudyMakeOptions, arguments, prog="aureole study make", default=StudyMakeOptions())
    if not options.pairs:
        raise InputError("'aureole study make' needs pairs first: aureole study make PAIRS... [--field value]")
    found: dict[str, list[StudyPair]] = {}
    for path in options.pairs:
        pairs = read_pairs(path, options.num_images)
        if pairs[0].attack in found:
            raise InputError(
                f"{path} has attack {pairs[0].attack!r}, as a file before it: make a study for each data set"
            )
        found[pairs[0].attack] = pairs
    made = Study(
        title=options.title,
        pairs=[pair for pairs in found.values() for pair in pairs],
        seed=options.seed,
        show_clean=options.show_clean,
    )
    page = write_study(made, options.output)
    key = page.with_name(KEY_NAME)
    counts = {attack: len(pairs) for attack, pairs in found.items()}
    if options.json:
        values = {
            "study": made.identifier,
            "page": str(page),
            "key": str(key),
            "pairs": counts,
        }
        return say(json.dumps(values, indent=1))
    for attack, count in counts.items():
        few = f" (of {options.num_images} asked for)" if count < options.num_images else ""
        say(f"{attack}: {count} pairs{few}")
    return say(f"page: {page}\nkey: {key} (keep it: it reads the answers)")


def _read(arguments: Sequence[str]) -> None:
    from aureole.refine.study import perceptibility, read_key, read_sessions

    options = parse(StudyReadOptions, arguments, prog="aureole study read", default=StudyReadOptions())
    if len(options.paths) < 2:
        raise InputError(
            "'aureole study read' needs study and answers first: aureole study read STUDY ANSWERS... [--field value]"
        )
    key = read_key(options.paths[0])
    sessions = read_sessions(options.paths[1:], key, allow_incomplete=options.allow_incomplete)
    rows = perceptibility(key, sessions)
    if options.json:
        values = {"study": key.study, "title": key.title, "persons": len(sessions)}
        return say(json.dumps({**values, "rows": [asdict(row) for row in rows]}, indent=1))
    return _print(key, sessions, rows)


def _print(key: StudyKey, sessions: Sequence[Session], rows: Sequence[PerceptibilityRow]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    heading = f"{key.title} (study {key.study}): {len(sessions)} {'person' if len(sessions) == 1 else 'persons'}"
    console.print(heading, soft_wrap=True, highlight=False, markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("attack", overflow="fold")
    for column in ("chosen", "95 % interval", "persons", "images", "choices"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        low, high = (100 * bound for bound in row.interval)
        spread = "" if row.spread is None else f" ± {100 * row.spread:5.2f}"
        table.add_row(
            escape(row.attack if row.kind == "source" else f"Refined {row.attack}"),
            f"{100 * row.share:.2f} %{spread}",
            f"{low:.1f} to {high:.1f} %",
            str(row.num_persons),
            str(row.num_images),
            str(row.num_choices),
        )
    console.print(table)
    notes = "chosen: as the more disturbed picture, averaged over the images; lower is less perceptible"
    notes += "\n±: standard deviation over the persons" if len(sessions) > 1 else ""
    notes += "\ninterval: Wilson's over all choices, as if those of one person were independent"
    console.print(notes, soft_wrap=True, highlight=False, markup=False, style="dim")
