from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from aureole.core.records import RefinementRow, write_record
from aureole.report import refinement_tables, report
from aureole.report.aggregate import group_runs, victim_of
from aureole.report.markdown import results_page
from aureole.report.refined_rows import lines_of
from aureole.report.refined_tables import remarks_of, tables_of
from aureole.report.refined_words import findings
from aureole.report.refinement import refinement

LEFT = {"all": 0, "map": 40, "size": 100, "gradient": 4, "random": 300}


def row(attack="pgd", pixels="map", share=0.3, left=40, **changes):
    values = {
        "changed": 0.25, "changed_fooled": 0.25, "l2": 2.0, "l2_fooled": 2.5, "detection": 0.75, "detection_low": 0.625,
        "detection_high": 0.875, "detection_pairs": 100, "source_seconds": 0.002, "seconds": 0.001,
    }  # fmt: skip
    return RefinementRow(
        attack=attack, pixels=pixels, share=share, num_examples=400, num_correct=left, **{**values, **changes}
    )


@pytest.fixture
def refined(make_record):
    """Return a refinement of some attack, share, seed and victim."""

    def make(attack="pgd", share=0.3, seed=0, victim="../victim", left=LEFT, more=(), compare=(), **changes):
        rows = [row(attack, name, 1.0 if name == "all" else share, count) for name, count in left.items()]
        rows = [replace(r, l2=4.0, detection=0.9, seconds=0.0) if r.pixels == "all" else r for r in rows]
        config = {
            "type": "x:Refinement",
            "refiner": {"method": {"share": share, "selection": {"type": "x:Concrete"}}, "seed": seed},
            "victim": {"model": {"name": "lenet5"}, "seed": 0},
            "victim_folder": victim,
            "sources": {attack: {"type": "x:PGD"}},
            "compare": {name: {} for name in compare},
        }
        values = {
            "kind": "refinement", "recipe": "refine", "method": "PVAR", "label": f"{attack}, {share:g} of the pixels",
            "seed": seed, "config": config, "refinement": [*rows, *more],
        }  # fmt: skip
        return make_record(**{**values, **changes})

    return make


def one_line(*records):
    (lines,) = lines_of(records).values()
    (line,) = lines
    return line


def texts(table):
    return [[" ".join([cell.text, *cell.details]) for cell in cells] for cells in [table.head, *table.rows]]


def found(records, words, **options):
    (lines,) = lines_of(records).values()
    (table,) = [table for table in tables_of(lines, **options) if words in table.caption]
    return texts(table)


def shown(records, width=120):
    console = Console(file=io.StringIO(), width=width)
    for table in refinement_tables(records):
        console.print(table)
    return console.file.getvalue()


def test_table_of_shares_ends_with_the_source_attack(refined):
    records = [refined(share=0.5), refined(share=0.1, left={"all": 0, "map": 200})]
    head, *rows = found(records, "cut down to the pixels of the map")
    assert head == [
        "attack",
        "pixels",
        "seeds",
        "AdvAcc",
        "DetAUC",
        "L2, all",
        "L2, fooled",
        "changed",
        "ms, attack",
        "ms, map",
    ]
    assert [cells[1] for cells in rows] == ["0.1", "0.5", "all"]
    assert rows[1][2:] == ["1", "0.100 [0.074, 0.133]", "0.750 [0.625, 0.875]", "2", "2.5", "0.250", "2", "1"]
    assert rows[2][3:] == ["0.000 [0.000, 0.010]", "0.900 [0.625, 0.875]", "4", "2.5", "0.250", "2", "—"]


def test_several_seeds_are_a_mean_with_its_spread(refined):
    records = [refined(seed=0), refined(seed=1, left={**LEFT, "map": 80})]
    mine, whole = found(records, "cut down to the pixels of the map")[1:]
    assert mine[2:5] == ["2", "0.150 ± 0.071", "0.750 ± 0.000"]
    assert whole[2:4] == ["2", "0.000 ± 0.000"]


def test_the_source_attack_counts_once_a_seed(refined):
    line = one_line(*(refined(share=at, seed=seed) for at in (0.1, 0.3, 0.5) for seed in (0, 1)))
    assert len(line.result("all").rows) == 2
    assert len(line.result("map", 0.3).rows) == 2


def test_a_detector_that_could_not_be_fitted_is_a_dash(refined):
    nothing = {"detection": None, "detection_low": None, "detection_high": None, "detection_pairs": 0}
    record = refined()
    record = replace(record, refinement=[replace(r, l2_fooled=None, **nothing) for r in record.refinement])
    assert found([record], "cut down to the pixels of the map")[1][4:7] == ["—", "2", "—"]
    assert "nothing is known of their detection" in findings(one_line(record))[1]
    assert "—" in shown([record])


def test_a_seed_without_a_detector_leaves_the_mean_of_the_others(refined):
    other = refined(seed=1)
    other = replace(other, refinement=[replace(r, detection=None) for r in other.refinement])
    line = one_line(refined(), other)
    assert line.result("map", 0.3).detection.mean == 0.75
    assert line.result("map", 0.3).detection.count == 1


def test_rankings_stand_beside_the_map_and_the_lowest_is_marked(refined):
    (lines,) = lines_of([refined()]).values()
    (table,) = [table for table in tables_of(lines) if "Which pixels" in table.caption]
    assert [cells[0].text for cells in table.rows] == ["map", "size", "gradient", "random"]
    assert [cells[1].best for cells in table.rows] == [False, False, True, False]
    assert [cells[1].bar for cells in table.rows] == [0.1, 0.25, 0.01, 0.75]


def test_the_map_beats_what_it_clearly_beats_and_no_more(refined):
    sentence = findings(one_line(refined()))[2]
    assert "the map leaves 0.100 correct, size 0.250, gradient 0.010 and random 0.750" in sentence
    assert "the map beats size or random and does not beat gradient" in sentence.replace("  ", " ")


def test_what_overlaps_cannot_be_told_apart(refined):
    sentence = findings(one_line(refined(left={"all": 0, "map": 40, "size": 44})))[2]
    assert sentence.endswith("the map cannot be told from size.")


def test_the_map_that_wins_is_said_to_win(refined):
    records = [refined(share=at, left={"all": 0, "map": 4, "size": 100, "gradient": 50}) for at in (0.1, 0.3)]
    sentence = findings(one_line(*records))[2]
    assert (
        "the map beats size or gradient. Over 2 shares, it clearly beats size 2 times and gradient 2 times." in sentence
    )


def test_strength_is_said_with_the_share_that_keeps_it(refined):
    weak = refined(share=0.1, left={"all": 0, "map": 40})
    assert findings(one_line(weak))[0] == (
        "Refined pgd leaves 0.100 of the images correct with 0.1 of the pixels; all pixels leave 0.000."
        " That is not within 0.01 of its full strength."
    )
    strong = refined(share=0.5, left={"all": 0, "map": 4})
    assert findings(one_line(weak, strong))[0].endswith(
        "0.5 of the pixels keep the attack within 0.01 of its full strength."
    )


@pytest.mark.parametrize(
    ("low", "middle", "high", "words"),
    [
        (0.1, 0.2, 0.3, "harder to detect"),
        (0.7, 0.8, 0.9, "about as well"),
        (0.96, 0.97, 0.98, "easier to detect"),
    ],
)
def test_detection_is_told_in_both_directions(refined, low, middle, high, words):
    record = refined()
    rows = [
        replace(r, detection=middle, detection_low=low, detection_high=high)
        if r.pixels == "map"
        else replace(r, detection=0.9, detection_low=0.85, detection_high=0.95)
        for r in record.refinement
    ]
    sentence = findings(one_line(replace(record, refinement=rows)))[1]
    assert words in sentence
    assert "the mean L2 norm is 2 instead of 4" in sentence


def test_the_fewest_pixels_are_ranked(refined):
    more = [
        row(pixels="map, fewest", share=1.0, changed_fooled=0.5),
        row(pixels="size, fewest", share=1.0, changed_fooled=0.125),
    ]
    record = refined(left={"all": 0, "map": 40, "size": 44}, more=more)
    assert findings(one_line(record))[3] == (
        "To change the class of an image, pgd needs 0.125 of its pixels along size and 0.500 along the map"
        " (mean over the images that are right to begin with, and fooled); DetAUC is then 0.750 (size)."
    )
    rows = found([record], "As few pixels as suffice")
    assert [cells[:2] for cells in rows[1:]] == [["map pgd", "0.5"], ["size pgd", "0.125"]]


def test_sparse_attacks_stand_beside_the_refined_one(refined):
    more = [row("jsma", "all", 1.0, 8, l2=7.0, source_seconds=0.5, seconds=0.0)]
    records = [refined(seed=0, more=more, compare=["jsma"]), refined(seed=1)]
    rows = found(records, "beside sparse attacks")
    assert [cells[0] for cells in rows[1:]] == ["jsma", "pgd, all pixels", "pgd, 0.3 of the pixels"]
    assert rows[1][1:4] == ["0.020 [0.010, 0.039]", "0.750 [0.625, 0.875]", "7"]
    assert rows[1][-2:] == ["500", "—"]
    assert rows[3][1] == "0.100 ± 0.000"
    (sentence,) = [text for text in findings(one_line(*records)) if text.startswith("Of jsma")]
    assert "jsma has the lowest AdvAcc (0.020)" in sentence
    assert "jsma and refined pgd have the lowest DetAUC (0.750)" in sentence
    assert "refined pgd has the lowest mean L2 (2)" in sentence
    assert "refined pgd has the lowest time (3 ms)" in sentence


def test_transfer_has_a_row_for_the_attack_that_taught_the_map(refined):
    def taught(attack, other, left):
        return refined(attack, more=[row(other, "all", 1.0, 0), row(other, "map", 0.3, left)])

    records = [taught("pgd", "bim", 60), taught("bim", "pgd", 20)]
    assert found(records, "Transfer") == [
        ["", "pgd", "bim"],
        ["map of pgd", "0.100 [0.074, 0.133]", "0.150 [0.118, 0.188]"],
        ["map of bim", "0.050 [0.033, 0.076]", "0.100 [0.074, 0.133]"],
        ["all pixels", "0.000 [0.000, 0.010]", "0.000 [0.000, 0.010]"],
    ]
    assert findings(lines_of(records)["victim (lenet5)"][0])[-1] == (
        "With 0.3 of the pixels, the map of pgd leaves of other attacks 0.150 for bim (all pixels: 0.000);"
        " 0.100 for pgd itself."
    )


def test_victims_are_never_averaged(refined):
    records = [refined(victim="../victim-pgd"), refined(victim="../victim"), refined(victim="/a/lenet5/")]
    assert list(lines_of(records)) == ["victim-pgd (lenet5)", "victim (lenet5)", "lenet5"]
    curved = [replace(record, history=[{"epoch": 1.0, "train/loss": 1.0}]) for record in records]
    assert len(group_runs(curved)) == 3
    assert victim_of(replace(records[0], kind="training")) == ""


def test_runs_with_other_settings_are_lines_of_their_own(refined):
    other = refined(seed=1)
    method = {"share": 0.3, "selection": {"type": "x:Marginal"}}
    other = replace(other, config={**other.config, "refiner": {"method": method, "seed": 1}})
    (lines,) = lines_of([refined(), other]).values()
    assert [line.name for line in lines] == ["pgd (selection Concrete)", "pgd (selection Marginal)"]


def test_a_seed_twice_is_remarked(refined):
    assert remarks_of([one_line(refined(), refined())]) == ["pgd, 0.3 of the pixels: a seed occurs more than once."]
    assert remarks_of([one_line(refined(), refined(seed=1))]) == []


def test_terminal_table_lines_up(refined):
    text = shown([refined()])
    lines = [line for line in text.splitlines() if line.startswith(("attack", "pgd"))]
    assert len(lines) == 6
    assert len({len(line.rstrip()) for line in lines}) == 1
    assert lines[2].split() == [
        "pgd", "map", "0.3", "0.250", "0.100", "0.074–0.133", "0.750", "0.625–0.875", "2", "2.5", "3",
    ]  # fmt: skip
    assert lines[3].split()[-1] == "—"
    narrow = shown([refined()], width=80)
    assert "0.074–0.133" in narrow
    assert "…" not in narrow


def test_terminal_table_of_nothing(make_record):
    assert refinement_tables([make_record()]) == []


def test_page_draws_each_line_and_says_its_numbers(tmp_path, refined):
    for at in (0.1, 0.3):
        write_record(refined(share=at), tmp_path / f"run{at}")
    text = report(tmp_path).read_text(encoding="utf-8")
    section = re.search(r'<section id="refinement".*?</section>', text, re.DOTALL)[0]
    assert section.count('class="plot"') == 2
    assert "AdvAcc, with the pixels of the map: 0.1 at 0.1, 0 at 1" in section
    assert "DetAUC: 0.75 at 0.1, 0.9 at 1" in section
    assert "L2, as a share of the attack&#39;s own: 0.5 at 0.1, 1 at 1" in section
    assert "AdvAcc, random: 0.75 at 0.1, 0 at 1" in section
    assert "2 refinements of pgd, over 1 seed." in text
    assert "measurement" not in text.split("<nav")[0]


def test_one_share_needs_no_drawing(refined):
    (block,) = refinement([refined()]).blocks
    assert block.panels == []
    assert block.legend == []


def test_no_refinement_no_section(make_record):
    assert refinement([make_record()]) is None


def test_markdown_holds_the_tables_and_the_sentences(tmp_path, refined):
    for seed, left in enumerate((40, 80)):
        write_record(refined(seed=seed, left={**LEFT, "map": left}), tmp_path / "study" / f"run{seed}")
    text = results_page(tmp_path)
    assert "Victim: victim (lenet5)." in text
    assert "| pgd | 0.3 | 2 | 0.150 ± 0.071 | 0.750 ± 0.000 |" in text
    assert "| attack | pixels | map | size | gradient | random |" in text
    assert "| pgd | 0.3 | 0.150 ± 0.071 | 0.250 ± 0.000 | 0.010 ± 0.000 | 0.750 ± 0.000 |" in text
    assert "- Refined pgd leaves 0.150 of the images correct" in text
    (tmp_path / "study" / "run0" / "pairs.npz").write_bytes(b"broken")
    assert results_page(tmp_path) == text


def test_data_sets_of_one_name_have_drawings_of_their_own(tmp_path, refined):
    for at in (0.1, 0.3):
        record = refined(share=at, history=[{"epoch": 1.0, "train/loss": 1.0}, {"epoch": 2.0, "train/loss": 0.5}])
        write_record(record, tmp_path / f"all{at}")
        write_record(replace(record, data=replace(record.data, num_test=100)), tmp_path / f"some{at}")
    text = report(tmp_path).read_text(encoding="utf-8")
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert "Victim: digits (0123456789ab, 1,200 training and 100 test images), victim (lenet5)" in text
