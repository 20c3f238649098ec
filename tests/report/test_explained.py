"""The section on explanations: the numbers are means by hand, and sentences go both ways."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aureole.core.records import AgreementRow, Evaluation, ExplanationRow, NetworkRow, write_record
from aureole.report import report
from aureole.report.apart import untold
from aureole.report.distilled_rows import distilled
from aureole.report.explained_rows import comparisons, share_of
from aureole.report.explained_tables import agreement_table, maps_table, overlap_tables
from aureole.report.explained_words import findings, opening, remarks
from aureole.report.explanation import explanation
from aureole.report.markdown import results_page

NETWORKS = [
    NetworkRow(
        role="teacher", name="four-blocks", num_parameters=400_000, megabytes=1.6, milliseconds=6.0, num_examples=100,
        num_correct=95,
    ),
    NetworkRow(
        role="student", name="tiny", num_parameters=50_000, megabytes=0.2, milliseconds=4.0, num_examples=100,
        num_correct=90,
    ),
]  # fmt: skip


@pytest.fixture
def explains(make_record):
    """Return a run of a method with a post-hoc accuracy in hundredths and an IoU at the size of the masks."""

    def make(method, agreed, iou=None, *, share=1.0, seed=0, masks=40, **changed):
        rows = []
        if iou is not None:
            rows = [
                ExplanationRow(
                    attribution=method, num_masks=masks, counts=[64, 128], iou=[iou / 2, iou], iou_at_size=iou,
                    pointing=0.5, num_curves=10, insertion=0.75, deletion=0.25, milliseconds=3.0,
                )
            ]  # fmt: skip
        values = {
            "method": method, "label": f"{method}, {share:.0%} of the images", "seed": seed, "networks": NETWORKS,
            "agreement": [
                AgreementRow(num_examples=100, accuracy=agreed / 100, precision=0.5, recall=0.25, f1=1 / 3)
            ],
            "explanations": rows,
            "evaluations": [Evaluation(attack="natural", num_examples=100, num_correct=90, seconds=1.0)],
            "config": {
                "seed": seed, "student": {"seed": seed, "data": {"fraction": share, "fraction_seed": seed}},
            },
        }  # fmt: skip
        record = make_record(**{**values, **changed})
        data = replace(record.data, name="painted lesions on drawn fundi", fingerprint=f"{seed}{share}{method}")
        return replace(record, data=changed.get("data", data))

    return make


@pytest.fixture
def ahead(explains):
    """Two seeds: MED-TEX is ahead of all, and loses with a quarter of the images."""
    found = []
    for seed in (0, 1):
        for share, less in ((0.25, 10), (1.0, 0)):
            found += [
                explains("L2X", 85 - less, 0.10, share=share, seed=seed),
                explains("MED-EX", 88 - less, 0.20, share=share, seed=seed),
                explains("MED-TEX", 92 - less + 2 * seed, 0.40 + 0.02 * seed, share=share, seed=seed,
                         paper={"post-hoc": 0.915 if share < 1 else 0.975}),
                explains("Student (only)", 80 - less, share=share, seed=seed),
            ]  # fmt: skip
    return found


def texts(table, row):
    return [" ".join([cell.text, *cell.details]) for cell in table.rows[row]]


def test_runs_are_found_by_method_and_share(ahead, explains):
    (found,) = comparisons(ahead)
    assert found.marked == "painted lesions"
    assert [(s.method, s.share) for s in found.students] == [
        (method, share) for share in (1.0, 0.25) for method in ("MED-TEX", "MED-EX", "Student (only)", "L2X")
    ]
    assert share_of(explains("L2X", 80, share=0.5, config={})) == 0.5
    assert [share_of(explains("L2X", 80, config=c, label="L2X")) for c in ({}, {"student": {}})] == [1.0, 1.0]


def test_agreement_table_holds_means_by_hand(ahead):
    (found,) = comparisons(ahead)
    table = agreement_table(found)
    first = ["MED-TEX", "100 %", "2", "0.930 ± 0.014 paper 0.975", "0.500 ± 0.000", "0.250 ± 0.000", "0.333 ± 0.000"]
    assert texts(table, 0) == [*first, "0.900 ± 0.000"]
    assert texts(table, 4)[:4] == ["MED-TEX", "25 %", "2", "0.830 ± 0.014 paper 0.915"]
    assert texts(table, 3)[:4] == ["L2X", "100 %", "2", "0.850 ± 0.000"]
    assert [row[3].best for row in table.rows] == [True, False, False, False] * 2
    (alone,) = comparisons([r for r in ahead if (r.seed, r.method, share_of(r)) == (0, "MED-TEX", 1.0)])
    assert texts(agreement_table(alone), 0)[3].startswith("0.920 [0.850, 0.959]")  # Wilson's


def test_maps_table_shows_both_kinds_of_iou(ahead):
    (found,) = comparisons(ahead)
    table = maps_table(found)
    assert [cell.text for cell in table.head][3:] == [
        "IoU", "thesis's IoU", "pointing", "insertion", "deletion", "ms",
    ]  # fmt: skip
    assert texts(table, 0)[:5] == ["MED-TEX", "100 %", "2", "0.410 ± 0.014", "0.820 ± 0.028"]
    assert texts(table, 2)[3:] == ["0.100 ± 0.000", "0.200 ± 0.000", "0.500 ± 0.000", "0.750 ± 0.000",
                                   "0.250 ± 0.000", "3"]  # fmt: skip
    assert len(table.rows) == 6  # the student alone has no map
    assert "painted lesions" in table.caption
    assert "40 test images" in table.caption
    whole, quarter = overlap_tables(found)
    assert [cell.text for cell in whole.head] == ["K, pixels", "64", "128"]
    assert texts(whole, 0) == ["MED-TEX", "0.205 ± 0.007", "0.410 ± 0.014"]
    assert "25 % of the images" in quarter.caption


def test_runs_without_masks_or_maps_show_what_there_is(explains):
    bare = explains("MED-TEX", 90, explanations=[ExplanationRow(attribution="own map", milliseconds=2.0)])
    (found,) = comparisons([bare])
    table = maps_table(found)
    assert [cell.text for cell in table.head] == ["map", "images", "seeds", "ms"]
    assert texts(table, 0) == ["MED-TEX", "100 %", "1", "2"]
    assert overlap_tables(found) == []
    assert maps_table(comparisons([explains("Student (only)", 80)])[0]) is None
    assert explanation([explains("Student (only)", 80)]).blocks[0].panels == []


def test_sentences_where_medtex_is_ahead(ahead):
    (found,) = comparisons(ahead)
    assert opening(found).endswith("at most 0.930 of the test images on average (MED-TEX).")
    words = findings(found)
    assert words[0] == (
        "MED-TEX against MED-EX, post-hoc accuracy, paired by seed: +5.00 ± 1.41 points from 100 % (better in 2 of 2"
        " seeds) and +5.00 ± 1.41 points from 25 % (better in 2 of 2 seeds) of the images; over these, +5.00 ± 1.41"
        " (better in 2 of 2 seeds); here, what the layers in between tell improves a student."
    )
    assert words[1].endswith("here, an explainer in front improves a student.")
    assert "IoU with painted lesions at their size, paired by seed: +21.00 ± 1.41" in words[2]
    assert "MED-TEX has the higher post-hoc accuracy in every run with L2X." in words[3]
    assert words[4].endswith("here, MED-TEX beats L2X, the rival that comes nearest.")
    loss = next(text for text in words if "instead of" in text)
    assert loss.startswith(
        "25 % of the images instead of 100 % change the post-hoc accuracy of MED-TEX by −10.00 ± 0.00 points (higher in"
        " 0 of 2 seeds; paper −6.00) and its IoU with the painted lesions by +0.00 ± 0.00 points"
    )
    assert loss.endswith("here, it loses in every run.")
    assert words[-1] == (
        "The student of MED-TEX, with its explainer, has 50,000 parameters (0.20 MB), the teacher 8 × as many: 400,000"
        " (1.60 MB); an image takes the student 4 ms, the teacher 6 ms, 1.5 × as long."
    )
    assert remarks(found) == []


def test_sentences_where_medtex_is_behind(explains):
    runs = [
        explains(method, agreed, iou, share=share, seed=seed)
        for seed in (0, 1)
        for share in (0.5, 1.0)
        for method, agreed, iou in (
            ("MED-TEX", 80 + 5 * (share < 1) + seed, 0.1 + seed / 100), ("MED-EX", 90, 0.3), ("L2X", 95, 0.0),
        )
    ]  # fmt: skip
    words = findings(comparisons(runs)[0])
    assert words[0].endswith("this speaks against the claim that what the layers in between tell improves a student.")
    assert words[1].endswith("this speaks against the claim that what the layers in between tell improves a map.")
    assert "post-hoc accuracy in none with L2X." in words[2]
    assert "the claim that MED-TEX beats L2X" in words[3]
    assert "at their size in every run with L2X." in words[4]
    assert next(text for text in words if "instead of" in text).endswith("here, it loses nothing.")
    single = findings(comparisons([run for run in runs if run.seed == 0])[0])
    assert "one seed does not decide" in single[0]


def test_what_speaks_against_a_comparison_is_said(explains):
    other = [replace(NETWORKS[0], num_correct=90), NETWORKS[1]]
    runs = [explains("MED-TEX", 90, 0.2), explains("MED-TEX", 91, 0.2), explains("L2X", 80, 0.1, networks=other)]
    notes = remarks(comparisons(runs)[0])
    assert "a seed occurs more than once" in notes[0]
    assert notes[-1] == "Students of one seed had teachers that differ (seed 0)."
    parts = comparisons([*runs, explains("L2X", 80, proxy_reason="small")])
    assert [part.name.partition(" (")[2] for part in parts] == ["the paper's scale)", "small)"]


def test_page_and_markdown_have_the_section(tmp_path, ahead):
    for place, record in enumerate(ahead):
        write_record(record, tmp_path / "explain" / f"{place}")
    page = report(tmp_path).read_text()
    assert page.count('<section id="explanations"') == 1
    assert 'id="distillation"' not in page
    assert 'id="accuracy"' not in page
    assert "IoU with painted lesions against K, from 25 % of the images" in page
    assert page.count("<rect x=") == 2 * 3 * 2 + 3  # shares, maps, K; and a legend of three
    assert page == report(tmp_path).read_text()
    text = results_page(tmp_path)
    assert "Explanations. Students that saw 100 %" in text
    assert "| MED-TEX | 100 % | 2 | 0.930 ± 0.014, paper 0.975 |" in text
    assert "| MED-TEX | 100 % | 2 | 0.410 ± 0.014 | 0.820 ± 0.028 |" in text
    assert "- MED-TEX against L2X, IoU" in text


def test_other_records_are_left_as_they_were(tmp_path, make_record, make_evaluation, explains):
    plain = make_record(evaluations=[make_evaluation("natural", 300)], history=[{"epoch": 1.0, "train/loss": 1.0}])
    assert explanation([plain]) is None
    assert untold([plain]) == [plain]
    assert untold([explains("L2X", 80)]) == []
    assert not distilled(explains("L2X", 80))
    write_record(plain, tmp_path)
    page, text = report(tmp_path).read_text(), results_page(tmp_path)
    assert "xplanations" not in page
    assert "xplanations" not in text
