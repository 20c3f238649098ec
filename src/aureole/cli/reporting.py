"""``aureole report``: one page of all runs below a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aureole.cli.common import positional, say
from aureole.options import parse


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Write one self-contained HTML page about all runs below a folder, or the tables alone as Markdown.

    Attributes:
        title: heading of the page; by default the recipes and the data.
        markdown: file for the tables as Markdown, a section a sub-folder; then no HTML page is written.
        json: print the path as JSON.
    """

    title: str | None = None
    markdown: Path | None = None
    json: bool = False


def write_report(arguments: Sequence[str]) -> None:
    """Write the page, or the tables as Markdown."""
    from aureole.core.records import replace_text
    from aureole.report import report
    from aureole.report.markdown import results_page

    path, rest = positional(arguments, "folder", "report", ReportOptions())
    options = parse(ReportOptions, rest, prog="aureole report FOLDER", default=ReportOptions())
    page = options.markdown or report(Path(path), title=options.title)
    if options.markdown:
        replace_text(page, results_page(Path(path)))
    return say(json.dumps({"report": str(page)}) if options.json else f"report: {page}")
