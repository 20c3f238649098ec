from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from aureole.core.errors import InputError
from aureole.core.records import write_record
from aureole.report import report

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Check the nesting, and gather tables, ids, links and addresses."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.links, self.sources, self.tables, self.plots = [], [], [], [], [], 0
        self.cell = None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        assert len(values) == len(attributes), f"an attribute twice in <{tag}>"
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("href", "xlink:href") if name in values]
        self.sources += [values["src"]] if "src" in values else []
        self.plots += values.get("class") == "plot"
        if tag == "img":
            assert values["alt"]
        if tag == "svg":
            assert values.get("aria-hidden") == "true" or values["aria-label"]
        if tag == "table":
            self.tables.append({"caption": "", "rows": []})
        elif tag == "tr":
            self.tables[-1]["rows"].append([])
        elif tag in {"td", "th"}:
            assert tag == "td" or values["scope"] in {"row", "col"}
            self.cell = ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in {"td", "th"}:
            self.tables[-1]["rows"][-1].append(" ".join(self.cell.split()))
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data + " "
        elif self.open and self.open[-1] == "caption":
            self.tables[-1]["caption"] += data


def written(folder, *records, **options):
    for index, record in enumerate(records):
        write_record(record, folder / f"run{index:02}")
    text = report(folder, **options).read_text(encoding="utf-8")
    return text, Page(text)


def table(page, words):
    (found,) = [t for t in page.tables if words in t["caption"]]
    return {row[0]: row[1:] for row in found["rows"]}


@pytest.fixture
def study(make_record, make_evaluation, make_row):
    """Two methods, two numbers of particles, three seeds, and a measurement of diversity."""
    records = []
    for method, base in (("ALD", 300), ("PGD", 280)):
        for n in (1, 4):
            for seed in range(3):
                correct = base + 4 * n + 2 * seed
                tried = [make_evaluation("natural", 380 - n), make_evaluation("PGD-50", correct, num_steps=50)]
                records.append(
                    make_record(
                        method=method,
                        label=f"{method}, N = {n}",
                        num_particles=n,
                        seed=seed,
                        config={"seed": seed},
                        evaluations=tried,
                        history=[{"epoch": float(e), "train/clean": 2.0 / (e + 1 + seed)} for e in range(3)],
                        seconds_per_epoch=[1.0 * n, 2.0 * n, 3.0 * n],
                        paper={"PGD-50": 0.757} if method == "ALD" and n == 4 else {},
                    )
                )
    rows = [make_row(s, n, seed) for s in ("Stein", "restarts") for n in (1, 4) for seed in range(2)]
    return [*records, make_record(kind="diversity", method="search", label="diversity", diversity=rows)]


def test_full_page_is_self_contained_and_well_formed(tmp_path, study, make_particles):
    make_particles(tmp_path / "run00")
    text, page = written(tmp_path, *study)
    assert "http://" not in text
    assert "https://" not in text
    assert "<script" not in text
    assert "@import" not in text
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert all(link.startswith("#") for link in page.links)
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)\)", text))
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(page.ids)
    assert all(found["caption"] for found in page.tables)
    assert page.plots == 1 + 2 + 4 + 1
    assert set(re.findall(r"var\(--(\w+)\)", text)) <= set(re.findall(r"--(\w+):", text))
    assert "#0a0b" not in text
    assert "#0a0c" not in text


def test_same_records_give_the_same_bytes_anywhere(tmp_path, study, make_particles):
    for name in ("first", "second"):
        make_particles(tmp_path / name / "run00")
        written(tmp_path / name, *study)
    first = (tmp_path / "first" / "report.html").read_bytes()
    assert report(tmp_path / "first").read_bytes() == first
    assert (tmp_path / "second" / "report.html").read_bytes() == first


def test_accuracies_are_those_of_the_records(tmp_path, study):
    text, page = written(tmp_path, *study)
    rows = table(page, "Share of images")
    assert rows["run"] == ["seeds", "natural 400 images", "PGD-50 400 images"]
    assert rows["ALD, N = 1"] == ["3", "0.948 ± 0.000 (best)", "0.765 ± 0.005"]
    assert rows["ALD, N = 4"] == ["3", "0.940 ± 0.000", "0.795 ± 0.005 (best) paper 0.757"]
    assert rows["PGD, N = 1"] == ["3", "0.948 ± 0.000 (best)", "0.715 ± 0.005"]
    assert "is 0.795 (ALD, N = 4), the next is 0.765 (ALD, N = 1)" in text
    assert "larger than the spread" in text


def test_single_run_shows_its_interval_and_no_best(tmp_path, make_record, make_evaluation):
    evaluation = make_evaluation("natural", 300)
    _, page = written(tmp_path, make_record(evaluations=[evaluation]))
    low, high = evaluation.interval
    assert table(page, "Share of images")["ALD"] == ["1", f"0.750 [{low:.3f}, {high:.3f}]"]


def test_numbers_over_the_particles(tmp_path, study):
    text, page = written(tmp_path, *study)
    rows = table(page, "Accuracy (PGD-50) by number of particles")
    assert rows["particles"] == ["1", "4"]
    assert rows["ALD"] == ["0.765 ± 0.005", "0.795 ± 0.005"]
    assert "ALD gains 0.030 from 1 to 4 particles" in text


def test_numbers_of_curves_time_and_diversity(tmp_path, study):
    text, page = written(tmp_path, *study)
    curve = table(page, "train/clean by epoch")
    assert curve["0"][0] == "1.22 ± 0.69"
    assert table(page, "Seconds per epoch: the median")["ALD, N = 4"] == ["8 ± 0", "4 ×"]
    assert table(page, "Seconds per epoch by number")["PGD"] == ["2 ± 0", "8 ± 0"]
    (found,) = [t for t in page.tables if t["caption"].startswith("Diversity and strength")]
    assert found["rows"][1] == [
        "Stein",
        "1",
        "2",
        "4 ± 0",
        "0.25 ± 0",
        "1.5 ± 0",
        "6 ± 0",
        "0.125 ± 0",
        "0.5 ± 0",
        "2 ± 0",
    ]
    assert "ALD 4 times from 1 to 4" in text


def test_long_histories_are_thinned_in_the_table_but_keep_their_ends(tmp_path, make_record):
    history = [{"epoch": float(epoch), "train/clean": 1.0} for epoch in range(100)]
    _, page = written(tmp_path, make_record(history=history))
    rows = list(table(page, "train/clean by epoch (one epoch in 9"))
    assert rows[1] == "0"
    assert rows[-1] == "99"
    assert len(rows) <= 14


ANCHORS = {"accuracy", "curves", "particles", "diversity", "pictures", "time"}


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda record, tried, row: [record()], set()),
        (lambda record, tried, row: [record(evaluations=[tried("FGSM", 3)])], {"accuracy"}),
        (lambda record, tried, row: [record(evaluations=[tried("FGSM", 3)], num_particles=4)], {"accuracy"}),
        (lambda record, tried, row: [record(history=[{"epoch": 0.0, "train/clean": 1.0}])], {"curves"}),
        (lambda record, tried, row: [record(seconds_per_epoch=[1.0])], {"time"}),
        (lambda record, tried, row: [record(kind="diversity", diversity=[row()])], {"diversity"}),
        (
            lambda record, tried, row: [
                record(evaluations=[tried("FGSM", 3)], num_particles=n, label=str(n)) for n in (1, 2)
            ],
            {"accuracy", "particles"},
        ),
    ],
)
def test_sections_stand_only_where_there_is_data(tmp_path, make_record, make_evaluation, make_row, build, expected):
    _, page = written(tmp_path, *build(make_record, make_evaluation, make_row))
    assert ANCHORS & set(page.ids) == expected
    assert "repeat" in page.ids


def test_pictures_stand_only_where_there_are_particles(tmp_path, make_record, make_particles):
    make_particles(tmp_path / "run00")
    _, page = written(tmp_path, make_record())
    assert ANCHORS & set(page.ids) == {"pictures"}


def test_proxy_is_said_with_its_reason(tmp_path, make_record, make_evaluation):
    tried = [make_evaluation("natural", 300)]
    plain = make_record(method="full", label="full", evaluations=tried)
    proxy = make_record(label="small", evaluations=tried, proxy=True, proxy_reason="two epochs only")
    text, page = written(tmp_path, plain, proxy)
    assert "two epochs only <small>(ALD)</small>" in text
    assert "small at proxy scale" in table(page, "Share of images")
    assert "full" in table(page, "Share of images")
    text, _ = written(tmp_path / "other", plain)
    assert "proxy scale" not in text
    assert "Not the paper" not in text


def test_header_names_data_versions_and_commit(tmp_path, make_record):
    text, _ = written(tmp_path, make_record(commit="0123456789abcdef", dirty=True))
    assert "robust-ald on digits</title>" in text
    assert "1,200 training, 200 validation, 400 test images" in text
    assert "0123456789abcdef</code>" in text
    assert "aureole 0.1.0, python 3.11.2, torch 2.13.0" in text
    assert "0123456789ab with uncommitted changes" in text


def test_title_can_be_given(tmp_path, make_record):
    text, _ = written(tmp_path, make_record(), title="Mine & yours")
    assert "<title>Mine &amp; yours</title>" in text


def test_commands_and_warnings(tmp_path, make_record):
    write_record(make_record(warnings=["gradients may be masked"]), tmp_path / "a run")
    text = report(tmp_path).read_text()
    assert "aureole rerun &#39;a run/record.json&#39;" in text
    assert "gradients may be masked" in text
    assert "Warnings</a> came with 1 of 1 runs" in text


def test_folder_of_one_run(tmp_path, make_record):
    write_record(make_record(), tmp_path)
    assert "aureole rerun record.json" in report(tmp_path).read_text()


def test_text_from_records_is_never_markup(tmp_path, make_record, make_evaluation, make_row):
    evil = '<script>alert("$x^2$")</script>&'
    record = make_record(
        label=evil,
        method=evil,
        device=evil,
        num_particles=2,
        evaluations=[make_evaluation(evil, 300, note=evil)],
        history=[{"epoch": 0.0, evil: 1.0}],
        seconds_per_epoch=[1.0],
        diversity=[make_row(evil)],
        warnings=[evil],
    )
    text, page = written(tmp_path, record, make_record(**{**vars(record), "num_particles": 4, "label": "four"}))
    assert "<script" not in text
    assert evil in table(page, "Share of images")


def test_data_sets_are_never_averaged(tmp_path, make_record, make_evaluation):
    other = make_record().data.__class__(name="other", fingerprint="f", num_train=1, num_validation=1, num_test=1)
    _, page = written(
        tmp_path,
        make_record(evaluations=[make_evaluation("natural", 100)]),
        make_record(seed=1, evaluations=[make_evaluation("natural", 300)], data=other),
    )
    values = [t["rows"][1][2][:5] for t in page.tables if "Share of images" in t["caption"]]
    assert values == ["0.250", "0.750"]


def test_numbers_that_are_not_finite_are_said(tmp_path, make_record, make_row):
    history = [{"epoch": 0.0, "train/clean": 1.0}, {"epoch": 1.0, "train/clean": float("nan")}]
    rows = [make_row(num_particles=n, squared_distance=float("inf")) for n in (1, 2)]
    _, page = written(tmp_path, make_record(history=history, diversity=rows))
    assert table(page, "train/clean by epoch")["1"] == ["not finite"]


def test_unfair_comparison_is_shown(tmp_path, make_record, make_evaluation):
    text, page = written(
        tmp_path,
        make_record(evaluations=[make_evaluation("PGD", 300, steps=50, seed=0)]),
        make_record(label="other", evaluations=[make_evaluation("PGD", 300, steps=10)]),
        make_record(label="third", evaluations=[make_evaluation("PGD", 300, steps=10, seed=2)]),
    )
    (settings,) = [t["rows"] for t in page.tables if t["caption"] == "Settings of the attacks"]
    assert settings[1:] == [["PGD", '{"steps": 50}'], ["PGD", '{"steps": 10}']]
    assert "PGD: the attack&#39;s settings differ between runs (steps)." in text


def test_global_settings_of_matplotlib_stay(tmp_path, study):
    import matplotlib

    with matplotlib.rc_context({"font.size": 33, "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        text, _ = written(tmp_path / "odd", *study)
        assert dict(matplotlib.rcParams) == before
    assert written(tmp_path / "plain", *study)[0] == text


def test_folder_without_records(tmp_path):
    with pytest.raises(InputError, match=r"looked for record\.json"):
        report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_folder(tmp_path):
    with pytest.raises(InputError, match="no folder at"):
        report(tmp_path / "missing")


def test_page_that_cannot_be_written(tmp_path, make_record):
    write_record(make_record(), tmp_path)
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*report\.html"):
        report(tmp_path)
