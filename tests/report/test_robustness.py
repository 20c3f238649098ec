from __future__ import annotations

from dataclasses import replace

import pytest

from aureole.core.records import read_record, write_record
from aureole.report import report
from aureole.report.aggregate import group_runs
from aureole.report.markdown import results_page
from aureole.report.robustness import checks, robustness, rows_of


@pytest.fixture
def attacked(make_record, make_evaluation):
    """Return a run under two attacks at two radii, of some seed and label."""

    def make(correct=(360, 300, 200, 100), seed=0, label="ALD", **changes):
        def row(series, radius, count, **measures):
            plain = make_evaluation(f"{series}@{radius:g}", count, kind=series)
            return replace(plain, series=series, radius=radius, **measures)

        rows = [
            make_evaluation("natural", correct[0]),
            row("pgd-20", 0.2, correct[2], l0=0.5, l2=2.0, linf=0.2),
            row("pgd-20", 0.1, correct[1], l0=0.25 + 0.25 * seed, l2=1.0, linf=0.1),
            row("autoattack", 0.1, correct[3], l0=0.5, l2=1.5, linf=0.1),
            row("worst case", 0.1, correct[3]),
        ]
        return make_record(evaluations=rows, seed=seed, label=label, method=label, **changes)

    return make


@pytest.fixture
def read_page(tmp_path):
    """Write records, and return the text of the page and its tables by caption, row by row."""
    import re

    def make(*records):
        for index, record in enumerate(records):
            write_record(record, tmp_path / f"run{index}")
        text = report(tmp_path).read_text(encoding="utf-8")
        section = re.search(r'<section id="robustness".*?</section>', text, re.DOTALL)
        tables = {}
        for found in re.findall(r"<table>.*?</table>", section[0] if section else "", re.DOTALL):
            rows = [
                [
                    " ".join(re.sub(r"<[^>]*>", " ", cell).split())
                    for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)
                ]
                for row in re.findall(r"<tr>(.*?)</tr>", found, re.DOTALL)
            ]
            tables[re.search(r"<caption[^>]*>([^<]*)", found)[1]] = rows
        return section[0] if section else "", tables

    return make


def test_rows_stand_series_by_series_by_radius(attacked):
    rows = rows_of(group_runs([attacked()]))
    assert [row.attack for row in rows] == [
        "natural", "pgd-20@0.1", "pgd-20@0.2", "autoattack@0.1", "worst case@0.1",
    ]  # fmt: skip
    assert [row.radius for row in rows] == ["—", "0.1", "0.2", "0.1", "0.1"]
    assert rows[1].texts == ("0.25", "1", "0.1", "0.00375")
    assert rows[0].texts[:3] == ("—", "—", "—")


def test_the_table_holds_accuracies_intervals_and_distances(read_page, attacked):
    _, tables = read_page(attacked())
    (rows,) = [rows for caption, rows in tables.items() if caption.startswith("Accuracy under each attack")]
    assert rows[0] == ["attack", "radius", "accuracy", "mean L0", "mean L2", "mean Linf", "s / image", "images"]
    assert rows[2] == ["pgd-20@0.1", "0.1", "0.750 [0.705, 0.790]", "0.25", "1", "0.1", "0.00375", "400"]
    assert rows[5][:4] == ["worst case@0.1", "0.1", "0.250 [0.210, 0.295]", "—"]


def test_several_seeds_are_a_mean_with_its_spread(read_page, attacked):
    _, tables = read_page(attacked(), attacked((360, 340, 200, 100), seed=1))
    (rows,) = [rows for caption, rows in tables.items() if caption.startswith("Accuracy under each attack")]
    assert rows[2][:4] == ["pgd-20@0.1", "0.1", "0.800 ± 0.071", "0.38 ± 0.18"]


def test_the_curve_of_one_run_has_a_line_a_series_and_its_numbers(read_page, attacked):
    section, tables = read_page(attacked())
    assert section.count('class="plot"') == 1
    (curve,) = [rows for caption, rows in tables.items() if caption.startswith("Accuracy against the radius")]
    assert curve == [
        ["radius", "0", "0.1", "0.2"],
        ["pgd-20", "0.900 [0.867, 0.926]", "0.750 [0.705, 0.790]", "0.500 [0.451, 0.549]"],
    ]
    assert "pgd-20: 0.9 at 0, 0.5 at 0.2" in section  # in words, for those who do not see it
    assert "from 0.900 without an attack to 0.250 under autoattack@0.1 (ALD)" in section


def test_several_runs_share_a_panel_for_each_series(read_page, attacked):
    section, tables = read_page(attacked(), attacked((380, 200, 100, 50), label="PGD"))
    assert section.count('class="plot"') == 1
    (curve,) = [rows for caption, rows in tables.items() if "radius (pgd-20)" in caption]
    assert [row[0] for row in curve] == ["radius", "ALD", "PGD"]
    (rows,) = [rows for caption, rows in tables.items() if caption.startswith("Accuracy under each attack")]
    assert [row[0] for row in rows].count("pgd-20@0.1 PGD") == 1


def test_a_single_radius_needs_no_drawing(read_page, attacked):
    record = attacked()
    section, tables = read_page(replace(record, evaluations=[e for e in record.evaluations if e.radius != 0.2]))
    assert 'class="plot"' not in section
    assert len(tables) == 1


def test_failed_checks_are_told_in_plain_words(read_page, attacked):
    section, _ = read_page(attacked(), attacked(seed=1, warnings=["pgd-20@0.1: the gradient is <zero> for 3 of 9"]))
    assert "ALD, seed 1: pgd-20@0.1: the gradient is &lt;zero&gt; for 3 of 9" in section
    assert checks([attacked()]) == ["The evaluation's own checks found nothing that speaks against these figures."]


def test_records_that_say_no_radius_have_no_section(read_page, make_record, make_evaluation):
    old = make_record(evaluations=[make_evaluation("natural", 300), make_evaluation("pgd-20", 200)])
    assert read_page(old) == ("", {})
    assert robustness([old], {"ALD": 0}) is None


def test_an_evaluation_of_a_users_model_is_reported(read_page, attacked, tmp_path):
    record = attacked(kind="evaluation", recipe="evaluate")
    record = replace(record, data=replace(record.data, num_train=0, num_validation=0))
    section, _ = read_page(record)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "pgd-20@0.2" in section
    assert "1 evaluation of ALD, over 1 seed." in text
    assert "<dd>400 test images;" in text


def test_the_markdown_has_the_same_table(tmp_path, attacked):
    write_record(attacked(), tmp_path / "study" / "run")
    assert "| ALD | pgd-20@0.1 | 0.1 | 0.750 [0.705, 0.790] | 0.25 | 1 | 0.1 | 0.00375 |" in results_page(tmp_path)


def test_records_of_before_are_read_as_they_were(tmp_path, attacked):
    import json

    path = write_record(attacked(), tmp_path)
    values = json.loads(path.read_text())
    for row in values["evaluations"]:
        for name in ("series", "radius", "l0", "l2", "linf"):
            del row[name]
    path.write_text(json.dumps(values))
    row = read_record(path).evaluations[1]
    assert (row.series, row.radius, row.l0, row.l2, row.linf) == ("", None, None, None, None)
    assert row.seconds_per_image == 1.5 / 400
