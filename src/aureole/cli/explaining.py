"""``aureole explain``: which pixels of a picture a trained network looks at, as pictures and as one page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aureole.cli.common import complain, say, watched
from aureole.core.errors import InputError
from aureole.options import parse

if TYPE_CHECKING:
    from aureole.cli.explainers import Explainer
    from aureole.report.explained_page import Entry, ExplainedPicture

_PAGE = "index.html"
_LISTED = 5


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """Show which pixels of pictures a trained network looks at, and what it sees in them; its teacher, too.

    IMAGE is a picture or a folder of pictures; several may be given. Of each picture, the map is written as PNG in
    grey, as heat, over the picture, and as the contour of its highest scores; one page, index.html, shows them all.

    Attributes:
        run: folder of the finished run whose network is explained.
        by: own, gradcam, integrated-gradients, occlusion or rise; by default own, where the network explains itself.
        output: folder of what is written; by default runs/explain-RUN. One that holds anything else is refused.
        patches: size of the contour, in 64ths of a picture.
        json: print the results as JSON, and nothing else.
        quiet: no progress bar.
    """

    run: Path | None = None
    by: str | None = None
    output: Path | None = None
    patches: int = 4
    json: bool = False
    quiet: bool = False


@dataclass(frozen=True, kw_only=True)
class _Result:
    """One picture, explained, on the page and in JSON."""

    entry: Entry
    values: dict[str, Any]


def explain(arguments: Sequence[str]) -> None:
    """Write the maps of pictures and the page, and list what is seen in them.

    Raises:
        InputError: the options are wrong; or, after all others were explained, a picture could not be.
    """
    given, options = _read(arguments)
    if options.run is None:
        raise InputError("'aureole explain' needs the run that explains: aureole explain IMAGE... --run RUN")
    if not 1 <= options.patches <= 64:
        raise InputError(f"--patches must be 1 to 64, as a picture has 64 of them; got {options.patches}")
    output = options.output or Path("runs") / f"explain-{options.run.resolve().name}"
    _check_output(output)
    pictures = _pictures(given, output)

    from aureole.cli.explainers import Explainer

    explainer = Explainer.of(options.run, options.by)
    if explainer.note:
        complain(explainer.note)
    _write_page(explainer, [], {}, output, options)  # now the folder is this command's, also when it is interrupted
    results, failed = _explained(explainer, pictures, output, options)
    page = _write_page(explainer, results, failed, output, options)
    _tell(results, failed, page, explainer, options)
    if failed:
        words = ", ".join(str(path) for path in list(failed)[:_LISTED])
        words += f" and {len(failed) - _LISTED} more" if len(failed) > _LISTED else ""
        raise InputError(f"{len(failed)} of {len(pictures)} pictures could not be explained: {words}")


def _read(arguments: Sequence[str]) -> tuple[list[Path], ExplainOptions]:
    """Return the pictures and folders, and the options."""
    prog = "aureole explain IMAGE..."
    if arguments and arguments[0] in ("-h", "--help"):
        parse(ExplainOptions, ["--help"], prog=prog, default=ExplainOptions())
    first = next((place for place, text in enumerate(arguments) if text.startswith("-")), len(arguments))
    if not first:
        raise InputError("'aureole explain' needs image first: aureole explain IMAGE... --run RUN [--field value]")
    options = parse(ExplainOptions, arguments[first:], prog=prog, default=ExplainOptions())
    return [Path(text) for text in arguments[:first]], options


def _check_output(output: Path) -> None:
    """Refuse a folder that holds anything but what an earlier call wrote."""
    from aureole.report.explained_page import GENERATOR

    if output.exists() and not output.is_dir():
        raise InputError(f"cannot write {output}: it is a file; give --output a folder")
    if not output.is_dir() or not any(output.iterdir()):
        return
    page = output / _PAGE
    if not page.is_file() or f'content="{GENERATOR}"' not in page.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"{output} holds other files: give --output an empty folder or a new one")


def _pictures(given: Sequence[Path], output: Path) -> dict[Path, str]:
    """Return the pictures, each with a name for its files that no other has."""
    from aureole.data.tables import image_files

    found: dict[Path, None] = {}
    for path in given:
        if not path.exists():
            raise InputError(f"no picture and no folder at {path}")
        inside = [path]
        if path.is_dir():
            inside = [file for file in image_files(path) if output.resolve() not in file.resolve().parents]
        if not inside:
            raise InputError(f"no pictures in {path}: looked for .png, .jpg, .tif and the like, also in its folders")
        found |= dict.fromkeys(inside)
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in found:
        number, name = 1, path.stem
        while name.lower() in taken:
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name.lower())
        names[path] = name
    return names


def _explained(
    explainer: Explainer, pictures: dict[Path, str], output: Path, options: ExplainOptions
) -> tuple[list[_Result], dict[Path, str]]:
    """Write the PNGs of each picture; what cannot be explained is said at once, and returned with the reason."""
    from aureole.core.records import replace_bytes
    from aureole.report.explained_page import entry

    results: list[_Result] = []
    failed: dict[Path, str] = {}
    for path in watched(list(pictures), "pictures", shown=not (options.json or options.quiet)):
        try:
            picture = explainer.explain(path, options.patches)
        except InputError as error:
            failed[path] = str(error)
            complain(str(error))
            continue
        drawings = picture.drawings()
        files = {kind: output / f"{pictures[path]}-{kind}.png" for kind in drawings}
        for kind, content in drawings.items():
            replace_bytes(files[kind], content)
        shown = entry(picture, drawings, explainer.class_names)
        results.append(_Result(entry=shown, values=_values(path, picture, files, explainer)))
    return results, failed


def _values(path: Path, picture: ExplainedPicture, files: dict[str, Path], explainer: Explainer) -> dict[str, Any]:
    from aureole.report.explained_page import class_name

    seen = {
        name: {
            "class": class_name(max(range(len(values)), key=values.__getitem__), explainer.class_names),
            "probabilities": {class_name(i, explainer.class_names): value for i, value in enumerate(values)},
        }
        for name, values in picture.probabilities.items()
    }
    return {
        "image": str(path),
        "predictions": seen,
        "num_pixels": picture.count,
        "pixel_share": picture.pixel_share,
        "prepared": picture.prepared,
        "files": {kind: str(file) for kind, file in files.items()},
    }


def _write_page(
    explainer: Explainer, results: Sequence[_Result], failed: dict[Path, str], output: Path, options: ExplainOptions
) -> Path:
    from aureole.core.records import replace_text
    from aureole.report.explained_page import explained_page

    about = [f"{explainer.words}; each map is scaled from its least to its highest score."]
    about.append(f"The contour holds the {100 * options.patches / 64:.3g} % of the pixels with the highest scores.")
    about += [explainer.note] if explainer.note else []
    text = explained_page(
        f"What {explainer.title} looks at", about, [found.entry for found in results], list(failed.values())
    )
    replace_text(output / _PAGE, text)
    return output / _PAGE


def _tell(
    results: Sequence[_Result],
    failed: dict[Path, str],
    page: Path,
    explainer: Explainer,
    options: ExplainOptions,
) -> None:
    if options.json:
        left = [{"image": str(path), "reason": reason} for path, reason in failed.items()]
        values = {"page": str(page), "run": str(options.run), "by": explainer.by}
        return say(json.dumps(values | {"pictures": [r.values for r in results], "failed": left}, indent=1))
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if results:
        table = Table(box=None, pad_edge=False)
        for column in ("picture", *results[0].values["predictions"], "pixels"):
            table.add_column(column, overflow="fold")
        for found in results:
            table.add_row(*_cells(found.values))
        console.print(table)
        for prepared in dict.fromkeys(found.values["prepared"] for found in results if found.values["prepared"]):
            console.print(f"pictures were {prepared}", soft_wrap=True, highlight=False, markup=False, style="dim")
        console.print(f"page: {page}", soft_wrap=True, highlight=False, markup=False)
    return None


def _cells(values: dict[str, Any]) -> list[str]:
    from rich.markup import escape

    seen = values["predictions"].values()
    words = [f"{found['class']} ({found['probabilities'][found['class']]:.3f})" for found in seen]
    return [escape(text) for text in (values["image"], *words, f"{100 * values['pixel_share']:.3g} %")]
