from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from aureole.cli import main
from aureole.core.errors import InputError
from aureole.core.records import write_record
from aureole.report.markdown import results_page

README = """# Which method is better

Text of the study.

## Details

```
# not a heading
```
"""


@pytest.fixture
def results(tmp_path, make_record, make_evaluation, make_row):
    """Three runs of two methods in one sub-folder with a README, and a study of diversity in another."""
    folder = tmp_path / "results"
    for seed, correct in enumerate((200, 400)):
        tried = [make_evaluation("natural", 380), make_evaluation("pgd-20", correct)]
        write_record(
            make_record(
                seed=seed, evaluations=tried, paper={"pgd-20": 0.5}, seconds_per_epoch=[9.0, 2.0 + seed, 1.0],
                proxy=True, proxy_reason="fewer images",
            ),
            folder / "compare" / f"ald-{seed}",
        )  # fmt: skip
    other = make_record(method="PGD", label="a|b", evaluations=[make_evaluation("natural", 300)], warnings=["look"])
    write_record(other, folder / "compare" / "pgd")
    (folder / "compare" / "README.md").write_text(README, encoding="utf-8")
    rows = [make_row(seed=s, objective=4.0 + s, kernel=0.25) for s in range(3)]
    rows += [make_row(sampler="restarts", num_particles=8, kernel=None, squared_distance=0.5)]
    write_record(make_record(kind="diversity", label="spread", diversity=rows), folder / "spread" / "study")
    return folder


def table(page, first):
    """Return the cells of the table whose head starts with this word."""
    lines = page.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} "))
    rows = []
    for line in lines[begin:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def test_sections_stand_in_order_under_the_headings_of_their_readmes(results):
    headings = [line for line in results_page(results).splitlines() if line.startswith("#")]
    assert headings == ["# Results", "## Which method is better", "### Details", "# not a heading", "## spread"]


def test_text_of_a_readme_comes_before_the_tables(results):
    page = results_page(results)
    assert page.index("Text of the study.") < page.index("| run |")


def test_table_of_methods_and_attacks_by_hand(results):
    head, _, ald, other = table(results_page(results), "run")
    assert head == ["run", "seeds", "natural", "pgd-20"]
    assert ald == ["ALD", "2", "0.950 ± 0.000", "0.750 ± 0.354 (paper 0.500)"]
    assert other[0] == "a\\|b"
    assert other[1:] == ["1", "0.750 [0.705, 0.790]", "—"]


def test_table_of_samplers_is_a_mean_over_seeds(results):
    head, _, stein, restarts = table(results_page(results), "sampler")
    assert head[3:] == [
        "mean pairwise squared error",
        "cosine",
        "objective",
        "worst-case adversarial accuracy",
        "kernel",
    ]
    assert stein == ["Stein", "2", "3", "4", "0.25", "5", "0.125", "0.25"]
    assert restarts == ["restarts", "8", "1", "0.5", "0.25", "6", "0.125", "—"]


def test_time_is_the_median_epoch_over_runs(results):
    page = results_page(results)
    assert "| ALD | 2 | 2.50 ± 0.71 |" in page
    assert "Seconds per epoch on CPU, 2 cores" in page


def test_proxy_reason_names_its_runs_and_warnings_are_told(results):
    page = results_page(results)
    assert "Not at the paper's scale (ALD): fewer images." in page
    assert "- Warning: look" in page


def test_runs_that_differ_in_more_than_the_seed_are_remarked(results, make_record, make_evaluation):
    stray = make_record(seed=2, config={"epochs": 3}, evaluations=[make_evaluation("natural", 1)])
    write_record(stray, results / "compare" / "stray")
    assert "- ALD: the runs differ in more than the seed" in results_page(results)


def test_studies_of_different_models_are_not_averaged(results, make_record, make_row):
    study = make_record(kind="diversity", label="other", diversity=[make_row(objective=100.0)])
    write_record(study, results / "spread" / "other")
    page = results_page(results)
    assert page.count("| sampler |") == 2
    assert "| Stein | 2 | 3 | 4 | 0.25 | 5 | 0.125 | 0.25 |" in page


def test_data_sets_are_kept_apart(results, make_record, make_evaluation):
    record = make_record(evaluations=[make_evaluation("natural", 100)])
    write_record(replace(record, data=replace(record.data, name="mnist")), results / "compare" / "mnist")
    page = results_page(results)
    assert "### digits, data 01234567" in page
    assert "### mnist, data 01234567" in page
    assert page.count("| run | seeds |") == 2


def test_page_is_a_function_of_the_records_alone(results, tmp_path):
    shutil.copytree(results, tmp_path / "elsewhere" / "copy")
    assert results_page(tmp_path / "elsewhere" / "copy") == results_page(results)


def test_runs_in_the_folder_itself_are_shown(tmp_path, make_record, make_evaluation):
    write_record(make_record(evaluations=[make_evaluation("natural", 300)]), tmp_path)
    assert "| ALD | 1 | 0.750 [0.705, 0.790] |" in results_page(tmp_path)


def test_no_records_is_a_mistake(tmp_path):
    with pytest.raises(InputError, match="no run records"):
        results_page(tmp_path)


def test_command_writes_the_page_and_no_html(results, tmp_path, capsys):
    target = tmp_path / "docs" / "results.md"
    assert main(["report", str(results), "--markdown", str(target)]) == 0
    assert capsys.readouterr().out == f"report: {target}\n"
    assert target.read_text(encoding="utf-8") == results_page(results)
    assert not list(results.rglob("*.html"))
