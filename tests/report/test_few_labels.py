from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from aureole.core.records import DataRecord, Evaluation, write_record
from aureole.report import report, text_table
from aureole.report.aggregate import split
from aureole.report.confusion import changes, draw_confusion, largest_mistake, shares_of
from aureole.report.few_changes import confusion_blocks, confusion_sentence
from aureole.report.few_labels import few_labels, gain_table, notes_on
from aureole.report.few_rows import Gain, studies
from aureole.report.few_words import findings
from aureole.report.markdown import results_page
from aureole.report.sections import colours_of, headed

TITLES = {
    "supervised": "Supervised only",
    "vat": "VAT",
    "ald": "ALD",
    "vat-mixup": "VAT + Mixup",
    "mean": "Mean Teacher",
}


@pytest.fixture
def few(make_record):
    """Return a run on few of 1,000 test images' labels: so many are right, of two classes of 500."""

    def make(method, seed, correct, *, labels=300, particles=None, validated=0.5, other=0, **changed):
        title = TITLES[method]
        places = [1000 * seed + place for place in range(labels)]
        data = DataRecord(
            name="mnist", fingerprint=f"{seed:08d}", num_train=labels, num_validation=100, num_test=1000,
            labelled_index=places,
        )  # fmt: skip
        first = min(500, correct // 2 + other)
        confusion = [[first, 500 - first], [500 - (correct - first), correct - first]]
        row = Evaluation(
            attack="natural", num_examples=1000, num_correct=correct, seconds=1.0, settings={"seed": seed},
            confusion=confusion,
        )  # fmt: skip
        values = {
            "method": title, "label": f"{title}, {labels} labels", "num_particles": particles, "seed": seed,
            "data": data, "evaluations": [row],
            "history": [{"epoch": 1.0, "validation/accuracy": 1.0}, {"epoch": 2.0, "validation/accuracy": validated}],
            "config": {"seed": seed, "data": {"labelled_seed": seed}, "method": {"type": title}, "epochs": 2},
        }  # fmt: skip
        return make_record(**{**values, **changed})

    return make


@pytest.fixture
def records(few):
    """Two seeds: ALD gains from particles, VAT does not."""
    found = [few("supervised", seed, 900 + 10 * seed) for seed in (0, 1)]
    for seed in (0, 1):
        base = 920 + 10 * seed
        found += [few("vat", seed, base, particles=1), few("vat", seed, base - 2, particles=4)]
        found += [few("ald", seed, base, particles=1), few("ald", seed, base + 4 + 4 * seed, particles=4)]
    return found


def only(records):
    (study,) = studies(records)
    return study


def texts(table):
    return [[" ".join([cell.text, *cell.details]) for cell in cells] for cells in [table.head, *table.rows]]


def test_other_records_have_no_section(make_record, make_evaluation, few):
    full = make_record(evaluations=[make_evaluation("natural", 300)])
    assert few_labels([full], {"ALD": 0}) is None
    assert few_labels([few("vat", 0, 900, evaluations=[])], {"VAT": 0}) is None


def test_seeds_that_choose_the_labels_are_one_data_set(records, few):
    assert len(split(records)) == 1
    more = [*records, few("vat", 0, 950, labels=500, particles=1)]
    assert [len(part) for part in split(more)] == [10, 1]
    assert [head for _, head in headed(more)] == ["mnist (300 labels)", "mnist (500 labels)"]


def test_table_by_hand(records):
    assert texts(gain_table(only(records))) == [
        ["method", "accuracy 300 labels", "gain, in points"],
        ["Supervised only", "0.905 ± 0.007 2 seeds", "—"],
        ["VAT, 1 particle", "0.925 ± 0.007 2 seeds", "+2.00 ± 0.00 better in 2 of 2 seeds"],
        ["VAT, 4 particles", "0.923 ± 0.007 2 seeds", "+1.80 ± 0.00 better in 2 of 2 seeds"],
        ["ALD, 1 particle", "0.925 ± 0.007 2 seeds", "+2.00 ± 0.00 better in 2 of 2 seeds"],
        ["ALD, 4 particles", "0.931 ± 0.010 2 seeds", "+2.60 ± 0.28 better in 2 of 2 seeds"],
    ]
    assert [row[1].best for row in gain_table(only(records)).rows] == [False, False, False, False, True]


def test_gain_is_paired_by_seed_and_labelled_images(records, few):
    stray = replace(records[0].data, labelled_index=[7, *records[0].data.labelled_index[1:]])
    study = only([*records[:2], few("mean", 0, 990, data=stray), few("mean", 1, 920), few("mean", 2, 999)])
    (row,) = [row for row in texts(gain_table(study)) if row[0] == "Mean Teacher"]
    assert row[1].endswith("3 seeds")
    assert row[2] == "+1.00 better in 1 of 1 seed"


def test_findings_go_both_ways(records):
    assert findings(only(records)) == [
        "With 300 labels and nothing else, the accuracy is 0.905. Unlabelled images raise it in every run with VAT and"
        " ALD.",
        "With 300 labels, 4 particles of VAT instead of one change the accuracy by −0.20 ± 0.00 points (better in 0 of"
        " 2 seeds): this speaks against the claim that more particles help.",
        "With 300 labels, 4 particles of ALD instead of one change the accuracy by +0.60 ± 0.28 points (better in 2 of"
        " 2 seeds): here, more particles help.",
        "With 300 labels, ALD against VAT with as many restarts, paired by seed: +0.80 points at 4 particles (better in"
        " 2 of 2 seeds); here, diverse particles beat restarts. With a single particle, which has no other to repel,"
        " the difference is +0.00 ± 0.00 points; with several it is larger by +0.80 ± 0.28.",
    ]


def test_methods_that_unlabelled_images_do_not_help_are_named(few):
    runs = [few("supervised", seed, 900) for seed in (0, 1)]
    runs += [few("vat", seed, 900 - seed, particles=1) for seed in (0, 1)] + [few("mean", 0, 901), few("mean", 1, 899)]
    assert findings(only(runs)) == [
        "With 300 labels and nothing else, the accuracy is 0.900. Unlabelled images raise it in some with Mean Teacher"
        " (1 of 2); in none with VAT."
    ]


def test_a_lead_that_one_particle_has_too_is_not_put_down_to_diversity(few):
    runs = [few("vat", seed, 900 + seed, particles=n) for seed in (0, 1) for n in (1, 2)]
    runs += [few("ald", seed, 910 + 3 * seed, particles=n) for seed in (0, 1) for n in (1, 2)]
    (found,) = [text for text in findings(only(runs)) if "ALD against VAT" in text]
    assert found.endswith(
        "with several it is larger by +0.00 ± 0.00, so these runs do not show that diversity is the reason."
    )


def test_mixup_and_seeds_that_disagree(few):
    runs = [few("vat", seed, 900, particles=2) for seed in (0, 1)]
    runs += [few("vat-mixup", seed, 900 + 5 * (-1) ** seed, particles=2) for seed in (0, 1)]
    assert findings(only(runs)) == [
        "With 300 labels, VAT + Mixup against VAT at equal numbers of particles, paired by seed: +0.00 points at 2"
        " particles (better in 1 of 2 seeds); no clear difference, so these runs do not show that Mixup helps."
    ]
    assert "one seed does not decide whether Mixup helps" in findings(only([runs[0], runs[2]]))[0]


@pytest.mark.parametrize(
    ("points", "direction"),
    [((0.5,), 0), ((0.5, 0.6), 1), ((-0.5, -0.6), -1), ((0.5, -0.1, 0.5), 0), ((0.0, 0.0), 0), ((0.1, 2.0), 0)],
)
def test_a_direction_needs_every_seed_and_more_than_the_spread(points, direction):
    assert Gain(points=dict(enumerate(points))).direction == direction


def test_methods_of_one_name_become_lines_of_their_labels(few):
    runs = [
        few("ald", 0, 900 + n, particles=n, label=f"ALD {kind}, {n} particles, 300 labels")
        for n in (1, 2)
        for kind in "ab"
    ]
    study = only(runs)
    assert study.lines == ["ALD a, N particles", "ALD b, N particles"]
    assert list(study.line("ALD a, N particles", 300)) == [1, 2]


def test_best_method_is_that_of_the_last_validation(records, few):
    runs = [*records, few("mean", 0, 999, validated=0.25), few("mean", 1, 999, validated=0.25)]
    runs.append(few("vat", 1, 925, particles=2, validated=0.75, other=40))
    assert confusion_sentence(only(runs), 300) == (
        "With 300 labels, VAT, 2 particles is best of the methods that use unlabelled images, by the validation"
        " accuracy after the last epoch (0.750). Against the labels alone, over 1 seed, class 0 gains the most (from"
        " 91.0 to 100\N{NO-BREAK SPACE}% right, +9.00 points); class 1 loses the most (from 91.0 to"
        " 85.0\N{NO-BREAK SPACE}% right, −6.00 points); the most frequent"
        " mistake of the labels alone, 0 taken for 1, goes from 9.0 to 0\N{NO-BREAK SPACE}%."
    )


def test_confusions_are_a_mean_over_paired_seeds(records):
    (block,) = confusion_blocks(only(records), "")
    assert [panel.title for panel in block.panels] == ["Supervised only", "VAT, 1 particle"]
    rows = texts(block.tables[0])
    assert rows == [["true class", "0", "1"], ["0", "90.5", "9.5"], ["1", "9.5", "90.5"]]
    assert re.findall(r">(\d+\.\d)</text>", block.panels[0].drawing) == ["90.5", "9.5", "9.5", "90.5"]


@pytest.mark.parametrize("missing", ["baseline", "confusion", "validation"])
def test_without_the_means_there_is_no_confusion(records, missing):
    if missing == "baseline":
        records = records[2:]
    elif missing == "confusion":
        records = [replace(r, evaluations=[replace(r.evaluations[0], confusion=[])]) for r in records]
    else:
        records = [replace(r, history=[{"epoch": 1.0, "train/loss": 1.0}]) for r in records]
    study = only(records)
    assert confusion_blocks(study, "") == []
    assert confusion_sentence(study, 300) == ""


def test_class_without_images_stays_out():
    row = Evaluation(
        attack="natural", num_examples=4, num_correct=3, seconds=1.0, confusion=[[3, 1, 0], [0] * 3, [0] * 3]
    )
    shares = shares_of([row])
    assert shares[0] == [0.75, 0.25, 0.0]
    assert largest_mistake(shares) == 0.25
    drawing = draw_confusion(shares, most=0.25, words="<w>")
    assert drawing.count("fill-opacity") == 3
    assert re.findall(r">(\d+\.\d)</text>", drawing) == ["75.0", "25.0"]
    assert "<w>" not in drawing
    assert changes(shares, shares) == (
        "no class gains; no class loses; the most frequent mistake of the labels alone, 0 taken for 1, goes from 25.0"
        " to 25.0\N{NO-BREAK SPACE}%"
    )


def test_drawings_and_their_numbers(records, few):
    more = [
        few(method, seed, 950, labels=500, particles=n) for seed in (0, 1) for method, n in (("ald", 4), ("ald", 1))
    ]
    found = few_labels([*records, *more, few("supervised", 0, 940, labels=500)], colours_of([*records, *more]))
    block = found.blocks[0]
    assert [panel.title for panel in block.panels] == [
        "accuracy with 300 labels", "accuracy with 500 labels", "accuracy against the number of labels",
    ]  # fmt: skip
    assert "Supervised only: 0.905." in block.panels[0].drawing
    assert [name for _, name in block.legend] == ["Supervised only", "VAT", "ALD"]
    last = texts(block.tables[-1])
    assert last[0] == ["labels", "300", "500"]
    assert last[-1] == ["ALD, 4 particles", "0.931 ± 0.010", "0.950 ± 0.000"]
    assert last[2] == ["VAT, 4 particles", "0.923 ± 0.007", "—"]


def test_unequal_settings_are_remarked(records):
    assert notes_on(only(records)) == []
    other = replace(records[-1], config={**records[-1].config, "epochs": 9})
    assert notes_on(only([*records[:-1], other])) == [
        "ALD, 300 labels (ALD, 4 particles): the runs differ in more than the seed (epochs).",
        "With 300 labels, the runs differ in more than method and seed (epochs).",
    ]


def test_page_says_everything_once(tmp_path, records):
    for place, record in enumerate(records):
        write_record(record, tmp_path / str(place))
    text = report(tmp_path).read_text()
    assert '<section id="few-labels"' in text
    assert '<section id="accuracy"' not in text
    assert '<section id="particles"' not in text
    assert "300 labelled, 100 validation, 1,000 test images; fingerprint <code>00000000, 00000001</code>" in text
    assert "#0a0" not in text
    assert report(tmp_path).read_text() == text


def test_attacks_on_such_runs_keep_their_table(tmp_path, records, make_evaluation):
    attacked = replace(records[0], evaluations=[*records[0].evaluations, make_evaluation("pgd-20", 100)])
    for place, record in enumerate([attacked, *records[1:]]):
        write_record(record, tmp_path / str(place))
    text = report(tmp_path).read_text()
    assert '<section id="accuracy"' in text
    assert '<section id="few-labels"' in text


def test_markdown_has_sentences_and_table(tmp_path, records, few):
    for place, record in enumerate([*records, few("vat", 0, 950, labels=500, particles=1)]):
        write_record(record, tmp_path / "few" / str(place))
    page = results_page(tmp_path)
    assert "Few labels: mnist." in page
    assert "- With 300 labels, 4 particles of ALD instead of one change the accuracy by +0.60 ± 0.28 points" in page
    assert "by the validation accuracy after the last epoch" in page
    assert "| method | accuracy, 300 labels | gain, in points | accuracy, 500 labels | gain, in points |" in page
    assert "| ALD, 4 particles | 0.931 ± 0.010, 2 seeds | +2.60 ± 0.28, better in 2 of 2 seeds | — | — |" in page
    assert "| run | seeds | natural |" not in page
    assert "mnist, 300 labelled images" in page
    assert "### mnist" not in page


def test_terminal_tells_the_numbers_of_labels_apart(records, few):
    console = Console(file=io.StringIO(), width=120)
    console.print(text_table([*records, few("vat", 0, 950, labels=500, particles=1)]))
    shown = console.file.getvalue()
    assert "mnist, 300 labels" in shown
    assert "mnist, 500 labels" in shown
