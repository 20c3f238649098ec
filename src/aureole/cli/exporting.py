"""``aureole export``: a trained network as a program that needs no aureole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aureole.cli.common import say
from aureole.core.errors import InputError
from aureole.options import parse

if TYPE_CHECKING:
    from aureole.cli.programs import Comparison


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write the trained classifier of finished runs as programs that run without aureole, for batches of any size.

    RUN is the folder of a finished run; several may be given. Each program is read back and compared with its network
    on random images.

    Attributes:
        format: pt2, a program of torch.export; or onnx, which needs aureole[onnx].
        output: the file; by default model.pt2 or model.onnx in the run's folder.
        json: print the results as JSON, and nothing else.
    """

    format: str = "pt2"
    output: Path | None = None
    json: bool = False


def export(arguments: Sequence[str]) -> None:
    """Write the trained classifiers of runs as programs, and compare these with them."""
    folders, options = _read(arguments)
    from aureole.cli.programs import FORMATS, check_format, write_program
    from aureole.training.fit import load_inputs, load_model

    check_format(options.format)
    results = []
    for folder in folders:
        network, _ = load_model(folder)
        shape = load_inputs(folder).image_shape
        path = options.output or folder / f"model{FORMATS[options.format]}"
        if path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder; give --output a file")
        compared = write_program(network, shape, path, kind=options.format)
        results.append(
            {"run": str(folder), "file": str(path), "format": options.format, "image_shape": shape, **asdict(compared)}
        )
        if not options.json:
            _print(path, compared)
    if options.json:
        say(json.dumps(results, indent=1))


def _read(arguments: Sequence[str]) -> tuple[list[Path], ExportOptions]:
    """Return the folders of the runs, and the options."""
    prog = "aureole export RUN..."
    if arguments and arguments[0] in ("-h", "--help"):
        parse(ExportOptions, ["--help"], prog=prog, default=ExportOptions())
    first = next((place for place, text in enumerate(arguments) if text.startswith("-")), len(arguments))
    folders = [Path(text) for text in arguments[:first]]
    if not folders:
        raise InputError("'aureole export' needs run first: aureole export RUN... [--field value]")
    options = parse(ExportOptions, arguments[first:], prog=prog, default=ExportOptions())
    if options.output is not None and len(folders) > 1:
        raise InputError(f"--output names one file, and there are {len(folders)} runs: leave it out, or export one run")
    return folders, options


def _print(path: Path, compared: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"{path}", soft_wrap=True, highlight=False, markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for column in ("MB", "ms/image"):
        table.add_column(column, justify="right")
    table.add_row("network", f"{compared.network_megabytes:.2f}", f"{compared.network_milliseconds:.3g}")
    taken = "" if compared.milliseconds is None else f"{compared.milliseconds:.3g}"
    table.add_row("program", f"{compared.megabytes:.2f}", taken)
    console.print(table)
    text = "not compared with the network: onnxruntime, which runs the program, is not installed"
    if compared.difference is not None:
        text = f"logits of random images differ by at most {compared.difference:.2g} from the network's"
    console.print(text, soft_wrap=True, highlight=False, markup=False)
