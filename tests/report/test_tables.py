from __future__ import annotations

import io

from rich.console import Console

from aureole.report import text_table


def shown(records):
    console = Console(file=io.StringIO(), width=200)
    console.print(text_table(records))
    return console.file.getvalue()


def test_table_holds_means_spreads_and_the_paper(make_record, make_evaluation):
    records = [
        make_record(seed=s, evaluations=[make_evaluation("natural", c)], paper={"natural": 0.9})
        for s, c in enumerate((200, 400))
    ]
    text = shown(records)
    assert "0.750 ± 0.354" in text
    assert "paper 0.900" in text


def test_single_run_shows_its_interval(make_record, make_evaluation):
    assert "0.500 [0.451, 0.549]" in shown([make_record(evaluations=[make_evaluation("natural", 200)])])


def test_missing_attack_is_a_dash(make_record, make_evaluation):
    records = [
        make_record(label="a", evaluations=[make_evaluation("natural", 200), make_evaluation("FGSM", 100)]),
        make_record(label="b", evaluations=[make_evaluation("natural", 200)]),
    ]
    row = next(line for line in shown(records).splitlines() if "│ b" in line)
    assert "—" in row


def test_labels_are_not_markup(make_record, make_evaluation):
    assert "[red]x[/red]" in shown([make_record(label="[red]x[/red]", evaluations=[make_evaluation("natural", 1)])])


def test_no_evaluations_is_an_empty_table(make_record):
    assert text_table([make_record()]).row_count == 0
