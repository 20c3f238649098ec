from __future__ import annotations

from dataclasses import replace

import pytest

from aureole.core.records import BoundaryRow, Evaluation, NetworkRow, write_record
from aureole.report import report
from aureole.report.apart import untold
from aureole.report.distillation import distillation
from aureole.report.distilled_rows import lessons
from aureole.report.distilled_tables import methods_table, sizes_table
from aureole.report.distilled_words import findings, opening, remarks
from aureole.report.gains import Gain, listed, raised
from aureole.report.markdown import results_page
from aureole.report.sections import colours_of

KINDS = {
    "alone": ("natural", {"type": "aureole.robust.natural:Natural"}),
    "kd": ("KD", {"type": "aureole.distill.kd:KD", "label_weight": 0.1, "kd_weight": 0.9, "temperature": 4.0}),
    "bss": (
        "BSS",
        {
            "type": "aureole.distill.bss:BSS", "label_weight": 0.1, "kd_weight": 0.9, "temperature": 4.0,
            "variant": "kd",
        },
    ),
    "sp": ("SP", {"type": "aureole.distill.similarity:SP", "label_weight": 1.0, "kd_weight": 0.0, "weight": 3000.0}),
}  # fmt: skip


def network(role, name, num_parameters, milliseconds, num_correct):
    return NetworkRow(
        role=role, name=name, num_parameters=num_parameters, megabytes=num_parameters * 4 / 1e6,
        milliseconds=milliseconds, num_examples=1000, num_correct=num_correct,
    )  # fmt: skip


@pytest.fixture
def taught(make_record):
    """Return a student of a teacher that is right on 800 of 1,000 test images."""

    def make(kind, seed, correct, *, particles=None, nearness=0.5, seconds=10.0, terms=None, **changed):
        title, settings = KINDS[kind]
        method = dict(settings)
        if kind != "alone":
            method["tald"] = {
                "type": "aureole.distill.tald:TALD", "weight": 0.01 if particles else 0.0, "reuse": 0,
                "search": {"num_particles": particles or 4, "num_steps": 1}, **(terms or {}),
            }  # fmt: skip
        values = {
            "method": title, "label": title, "seed": seed, "num_particles": particles,
            "evaluations": [Evaluation(attack="natural", num_examples=1000, num_correct=correct, seconds=1.0)],
            "networks": [
                network("teacher", "wrn-40-2", 2_000_000, 6.0, 800),
                network("student", "wrn-16-1", 200_000, 2.0, correct),
            ],
            "boundary": [
                BoundaryRow(
                    magnitude=nearness, angle=nearness / 2, student_fooled=1.0, teacher_fooled=1.0, num_images=9,
                    num_attacked=8, num_compared=7,
                )
            ],
            "seconds_per_epoch": [seconds, 3 * seconds],
            "config": {"seed": seed, "num_boundary": 9, "student": {"seed": seed, "method": method, "epochs": 2}},
        }  # fmt: skip
        return make_record(**{**values, **changed})

    return make


@pytest.fixture
def records(taught):
    """Two seeds, in no order: TALD helps KD and harms SP, and KD + BSS is worse than KD."""
    found = []
    for seed in (0, 1):
        base = 700 + 10 * seed
        found += [taught("sp", seed, base + 10), taught("sp", seed, base + 5 - seed, particles=4)]
        found += [taught("kd", seed, base + 32 + seed, particles=4, nearness=0.55, seconds=15.0 + seed)]
        found += [taught("bss", seed, base + 18 + seed, nearness=0.5 - 0.1 * seed), taught("alone", seed, base)]
        found += [taught("kd", seed, base + 20, seconds=11.0), taught("kd", seed, base + 26, particles=1)]
    return found


def only(records):
    (lesson,) = lessons(records)
    return lesson


def texts(table):
    return [[" ".join([cell.text, *cell.details]) for cell in cells] for cells in [table.head, *table.rows]]


def test_other_records_have_no_section(make_record, make_evaluation, taught):
    other = make_record(evaluations=[make_evaluation("natural", 300)])
    assert distillation([other, taught("kd", 0, 700, evaluations=[])], {"ALD": 0, "KD": 1}) is None
    assert untold([other]) == [other]


def test_table_by_hand(records):
    two = "in 2 of 2 seeds"
    table = methods_table(only(records))
    assert texts(table) == [
        [
            "method", "seeds", "accuracy", "gain over student alone", "gain by TALD or BSS", "MagSim", "AngSim",
            "cost of an epoch",
        ],
        ["student alone", "2", "0.705 ± 0.007", "—", "—", "0.500 ± 0.000", "0.250 ± 0.000", "1.00 ×"],
        ["KD", "2", "0.725 ± 0.007", f"+2.00 ± 0.00 {two}", "—", "0.500 ± 0.000", "0.250 ± 0.000", "1.10 ± 0.00 ×"],
        [
            "KD + BSS", "2", "0.724 ± 0.008", f"+1.85 ± 0.07 {two}", "−0.15 ± 0.07 in 0 of 2 seeds",
            "0.450 ± 0.071", "0.225 ± 0.035", "1.00 ± 0.00 ×",
        ],
        [
            "KD + TALD 1", "2", "0.731 ± 0.007", f"+2.60 ± 0.00 {two}", f"+0.60 ± 0.00 {two}", "0.500 ± 0.000",
            "0.250 ± 0.000", "1.00 ± 0.00 ×",
        ],
        [
            "KD + TALD 4", "2", "0.738 ± 0.008", f"+3.25 ± 0.07 {two}", f"+1.25 ± 0.07 {two}", "0.550 ± 0.000",
            "0.275 ± 0.000", "1.55 ± 0.07 ×",
        ],
        ["SP", "2", "0.715 ± 0.007", f"+1.00 ± 0.00 {two}", "—", "0.500 ± 0.000", "0.250 ± 0.000", "1.00 ± 0.00 ×"],
        [
            "SP + TALD 4", "2", "0.710 ± 0.006", f"+0.45 ± 0.07 {two}", "−0.55 ± 0.07 in 0 of 2 seeds",
            "0.500 ± 0.000", "0.250 ± 0.000", "1.00 ± 0.00 ×",
        ],
    ]  # fmt: skip
    assert [row[2].best for row in table.rows] == [False, False, False, False, True, False, False]


def test_findings_go_both_ways(records):
    assert findings(only(records)) == [
        "Against the student alone, the accuracy is higher in every run with KD, KD + BSS, KD + TALD, SP and SP +"
        " TALD.",
        "KD + TALD against KD, paired by seed: +0.60 points at 1 particle (better in 2 of 2 seeds) and +1.25 at 4 (2 of"
        " 2); over these, +0.92 ± 0.04 (better in 2 of 2 seeds); here, TALD improves KD.",
        "KD + TALD against KD + BSS, paired by seed: +0.75 points at 1 particle (better in 2 of 2 seeds) and +1.40 at 4"
        " (2 of 2); over these, +1.08 ± 0.04 (better in 2 of 2 seeds); here, KD + TALD beats KD + BSS.",
        "The boundaries of KD + TALD against those of KD, over 1 and 4 particles: MagSim changes by +0.025 ± 0.000"
        " (greater in 2 of 2 seeds) and AngSim changes by +0.013 ± 0.000 (greater"
        " in 2 of 2 seeds); here, TALD brings the boundaries nearer.",
        "4 particles of KD + TALD instead of 1 change the accuracy by +0.65 ± 0.07 points (better in 2 of 2 seeds):"
        " here, more particles help.",
        "SP + TALD against SP, paired by seed: −0.55 points at 4 particles (better in 0 of 2 seeds); this speaks"
        " against the claim that TALD improves SP.",
        "The boundaries of SP + TALD against those of SP: MagSim changes by +0.000 ± 0.000 (greater in 0 of 2 seeds)"
        " and AngSim changes by +0.000 ± 0.000 (greater in 0 of 2 seeds); no clear difference, so these runs do not"
        " show that TALD brings the boundaries nearer.",
    ]
    assert opening(only(records)) == (
        "The teacher reaches 0.800, the student alone 0.705, and at most 0.738 on average (KD + TALD 4)."
    )


def test_one_seed_decides_nothing_and_what_was_not_run_is_not_told(taught):
    sentences = findings(only([taught("kd", 0, 700), taught("kd", 0, 710, particles=4, boundary=[])]))
    assert sentences == [
        "KD + TALD against KD, paired by seed: +1.00 points at 4 particles (better in 1 of 1 seed); one seed does not"
        " decide whether TALD improves KD."
    ]


def test_only_the_same_seeds_are_compared(taught):
    lesson = only([taught("kd", 0, 700), taught("kd", 1, 100), taught("kd", 0, 702, particles=4)])
    row = texts(methods_table(lesson))[-1]
    assert row[3:5] == ["—", "+0.20 in 1 of 1 seed"]


def test_bss_is_compared_with_the_same_distillation(taught, monkeypatch):
    runs = [taught("kd", 0, 700), taught("bss", 0, 702)]
    assert lessons(runs)[0].without(lessons(runs)[0].taught[1]).name == "KD"
    monkeypatch.setitem(KINDS["kd"][1], "temperature", 1.0)
    lesson = only([taught("kd", 0, 700), runs[1]])
    assert [lesson.without(found) for found in lesson.taught] == [None, None]


def test_settings_tell_the_forms_of_one_method_apart(taught):
    runs = [taught("kd", 0, 700), taught("kd", 0, 705, particles=1, terms={"weight": 0.01, "with_images": True})]
    runs += [taught("kd", 0, 710, particles=4, terms={"reuse": n, "weight": 0.01}) for n in (0, 3)]
    assert [found.name for found in only(runs).taught] == [
        "KD", "KD + TALD 1 (reuse 0)", "KD + TALD 4 (reuse 0)", "KD + TALD 4 (reuse 3)",
    ]  # fmt: skip
    assert {line: list(found) for line, found in only(runs).lines.items()} == {
        "KD + TALD (reuse 0)": [1, 4], "KD + TALD (reuse 3)": [4],
    }  # fmt: skip


def test_many_settings_are_called_by_the_label(taught):
    runs = [taught("kd", 0, 700, particles=4, label="KD + TALD, 4 particles")]
    search = {"num_particles": 4, "num_steps": 2, "ball": {"radius": 9.0}}
    terms = {"weight": 0.5, "search": search, "reuse": 2}
    runs.append(taught("kd", 0, 700, particles=4, terms=terms, label="KD + the authors' TALD"))
    assert [found.name for found in only(runs).taught] == [
        "KD + TALD 4 (KD + TALD, N particles)", "KD + TALD 4 (KD + the authors' TALD)",
    ]  # fmt: skip


def test_pairs_of_networks_have_blocks_of_their_own(records, taught):
    other = [network("teacher", "wrn-40-2", 2_000_000, 6.0, 800), network("student", "vgg8", 4_000_000, 1.0, 1)]
    runs = [*records, taught("kd", 0, 700, networks=other)]
    found = distillation(runs, colours_of(runs))
    assert [block.heading for block in found.blocks] == ["wrn-40-2 → wrn-16-1", "wrn-40-2 → vgg8"]
    assert found.blocks[1].panels == []
    assert texts(methods_table(lessons(runs)[1]))[0][3:] == ["gain over student alone", "MagSim", "AngSim"]


def test_sizes_by_hand(records):
    assert texts(sizes_table(only(records))) == [
        ["network", "parameters", "MB", "ms an image", "accuracy"],
        ["teacher: wrn-40-2", "2,000,000", "8.00", "6", "0.800"],
        ["student: wrn-16-1", "200,000", "0.80", "2", "0.705 alone, 0.738 with KD + TALD 4"],
        ["teacher / student", "10 ×", "10 ×", "3 ×", "+6.25 points"],
    ]


def test_times_of_two_devices_are_not_mixed(taught):
    runs = [taught("alone", 0, 700), taught("kd", 0, 700, seconds=99.0, device="GPU")]
    slow = [replace(row, milliseconds=10 * row.milliseconds) for row in runs[1].networks]
    runs[1] = replace(runs[1], networks=slow)
    assert texts(sizes_table(only(runs)))[1][3] == "6 (CPU, 2 cores); 60 (GPU)"
    assert texts(methods_table(only(runs)))[-1][-1] == "—"


def test_drawings_and_their_numbers(records):
    (block,) = distillation(records, colours_of(records)).blocks
    assert [panel.title for panel in block.panels] == [
        "accuracy against the number of particles", "MagSim: boundaries of student and teacher",
        "AngSim: boundaries of student and teacher",
    ]  # fmt: skip
    assert "KD + TALD: 0.731 at 1, 0.7375 at 4." in block.panels[0].drawing
    assert "student alone: 0.705. KD + BSS: 0.7235. KD: 0.725." in block.panels[0].drawing
    assert [name for _, name in block.legend] == ["KD + TALD", "student alone", "KD + BSS", "KD"]
    assert "KD + TALD 4: 0.55." in block.panels[1].drawing
    assert texts(block.tables[-1]) == [["particles", "1", "4"], ["KD + TALD", "0.731 ± 0.007", "0.738 ± 0.008"]]


def test_unequal_settings_and_teachers_are_remarked(records, taught):
    assert remarks(only(records)) == []
    config = {**records[0].config, "student": {**records[0].config["student"], "epochs": 9}}
    rows = [replace(records[0].networks[0], num_correct=1), records[0].networks[1]]
    changed = [replace(records[0], config=config, networks=rows), *records[1:]]
    assert remarks(only(changed)) == [
        "SP: the runs differ in more than the seed (student.epochs).",
        "The students differ in more than method and seed (epochs).",
        "Students of one seed had teachers that differ (seed 0).",
    ]


def test_page_says_accuracies_once(tmp_path, records, make_record, make_evaluation):
    for place, record in enumerate(records):
        write_record(record, tmp_path / str(place))
    text = report(tmp_path).read_text()
    assert '<section id="distillation"' in text
    assert '<section id="accuracy"' not in text
    assert '<section id="particles"' not in text
    assert "#0a0" not in text
    assert report(tmp_path).read_text() == text
    write_record(make_record(label="the teacher", evaluations=[make_evaluation("natural", 300)]), tmp_path / "teacher")
    assert '<section id="accuracy"' in report(tmp_path).read_text()


def test_markdown_has_sentences_and_tables(tmp_path, records):
    runs = [*records[:-1], replace(records[-1], paper={"natural": 0.75})]
    for place, record in enumerate(runs):
        write_record(record, tmp_path / "distil" / str(place))
    page = results_page(tmp_path)
    assert "Distillation: wrn-40-2 → wrn-16-1. The teacher reaches 0.800, the student alone 0.705, and" in page
    assert "\n- KD + TALD against KD, paired by seed: +0.60 points at 1 particle (better in 2 of 2 seeds)" in page
    assert "| KD + TALD 1 | 2 | 0.731 ± 0.007, paper 0.750 | +2.60 ± 0.00, in 2 of 2 seeds |" in page
    assert "| teacher / student | 10 × | 10 × | 3 × | +6.25 points |" in page
    assert "| run | seeds | natural |" not in page


def test_gains_in_words():
    gains = {1: Gain(points={0: 1.0, 1: 2.0}), 4: Gain(points={0: -1.0, 1: 2.0})}
    assert listed(gains).endswith("over these, +1.00 ± 1.41 (better in 1 of 2 seeds)")
    assert raised({"a": [gains[1]], "b": [gains[4]]}) == "in every run with a; in some with b (1 of 2)"
