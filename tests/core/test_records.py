from __future__ import annotations

import ast
import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from scipy.stats import binomtest

from aureole.core import records, rows, schema
from aureole.core.errors import InputError
from aureole.core.records import (
    DataRecord,
    DiversityRow,
    Evaluation,
    Record,
    environment,
    find_records,
    git_commit,
    read_record,
    replace_text,
    wilson_interval,
    write_record,
)


def full_record(**changes):
    values = {
        "kind": "training",
        "recipe": "robust-ald",
        "method": "ALD",
        "label": "ALD, 4 particles",
        "num_particles": 4,
        "seed": 3,
        "config": {"search": {"radius": 0.3, "names": ["ä", None, True]}},
        "versions": {"torch": "2.13.0"},
        "commit": "abc123",
        "dirty": False,
        "device": "CPU",
        "data": DataRecord(name="digits", fingerprint="f00d", num_train=10, num_validation=2, num_test=4),
        "started": "2026-01-02T03:04:05+00:00",
        "wall_seconds": 1.25,
        "seconds_per_epoch": [0.5, 0.75],
        "history": [{"epoch": 0.0, "train/clean": 2.5}, {"epoch": 1.0, "train/clean": 1.5}],
        "evaluations": [Evaluation(attack="natural", num_examples=4, num_correct=3, seconds=0.1, settings={"n": 1})],
        "diversity": [
            DiversityRow(
                sampler="Stein",
                num_particles=2,
                seed=0,
                squared_distance=4.0,
                cosine=0.5,
                distinct_wrong_labels=1.0,
                objective=6.0,
                adversarial_accuracy=0.25,
                kernel=None,
                seconds=2.0,
            )
        ],
        "paper": {"natural": 0.985},
        "proxy": True,
        "proxy_reason": "two epochs",
        "warnings": ["a warning"],
    }
    return Record(**{**values, **changes})


def edited(folder, edit):
    path = write_record(full_record(), folder)
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(("num_correct", "num_examples"), [(0, 7), (7, 7), (1, 2), (150, 200), (9231, 10000)])
def test_wilson_interval_equals_scipy(num_correct, num_examples):
    expected = binomtest(num_correct, num_examples).proportion_ci(method="wilson")
    assert wilson_interval(num_correct, num_examples) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("counts", [(0, 0), (-1, 5), (6, 5)])
def test_wilson_interval_refuses_impossible_counts(counts):
    with pytest.raises(InputError, match="between 0 and num_examples"):
        wilson_interval(*counts)


def test_evaluation_derives_accuracy_and_interval():
    evaluation = Evaluation(attack="FGSM", num_examples=8, num_correct=6, seconds=1.0)
    assert evaluation.accuracy == 0.75
    assert evaluation.interval == wilson_interval(6, 8)


def test_round_trip_by_folder_and_by_file(tmp_path):
    record = full_record()
    path = write_record(record, tmp_path / "deep" / "run")
    assert path == tmp_path / "deep" / "run" / "record.json"
    assert read_record(path) == record
    assert read_record(path.parent) == record
    assert [p.name for p in path.parent.iterdir()] == ["record.json"]


def test_round_trip_of_every_none(tmp_path):
    record = full_record(num_particles=None, commit=None, dirty=None)
    write_record(record, tmp_path)
    assert read_record(tmp_path) == record


def test_every_field_is_written(tmp_path):
    values = json.loads(write_record(full_record(), tmp_path).read_text())
    assert list(values) == [field.name for field in dataclasses.fields(Record)]


def test_numbers_that_are_not_finite_survive_and_the_file_stays_json(tmp_path):
    history = [{"epoch": 0.0, "train/clean": math.nan, "train/robust": math.inf}]
    path = write_record(full_record(history=history, config={"bound": -math.inf}), tmp_path)

    def refuse(name):
        raise AssertionError(name)

    json.loads(path.read_text(), parse_constant=refuse)
    read = read_record(path)
    assert math.isnan(read.history[0]["train/clean"])
    assert read.history[0]["train/robust"] == math.inf
    assert read.config == {"bound": -math.inf}


def test_whole_numbers_are_numbers(tmp_path):
    read = read_record(edited(tmp_path, lambda values: values.update(wall_seconds=3)))
    assert read.wall_seconds == 3.0
    assert isinstance(read.wall_seconds, float)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .* as a run record"):
        read_record(tmp_path / "nothing")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_broken_json_is_refused(tmp_path, content):
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(InputError, match="not complete JSON") as caught:
        read_record(tmp_path)
    assert "\n" not in str(caught.value)


def test_truncated_record_is_refused(tmp_path):
    path = write_record(full_record(), tmp_path)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match="not complete JSON"):
        read_record(path)


@pytest.mark.parametrize("content", ["[]", "3", "null", '{"name": "package"}'])
def test_foreign_json_is_refused(tmp_path, content):
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(InputError, match="not a run record"):
        read_record(tmp_path)


@pytest.mark.parametrize("schema", [0, 2, "1", True, None])
def test_other_schema_is_refused(tmp_path, schema):
    path = edited(tmp_path, lambda values: values.update(schema=schema))
    with pytest.raises(InputError, match="this version reads 1"):
        read_record(path)


#: The first records do not have them.
LATER = ("refinement", "networks", "boundary", "agreement", "explanations", "segmentations")


@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(Record) if field.name not in ("schema", *LATER)]
)
def test_missing_field_is_named(tmp_path, name):
    path = edited(tmp_path, lambda values: values.pop(name))
    with pytest.raises(InputError, match=f"field {name} is missing"):
        read_record(path)


def test_fields_that_came_later_may_be_missing(tmp_path):
    before = read_record(edited(tmp_path, lambda _: None))
    path = edited(
        tmp_path,
        lambda values: [
            [values.pop(name) for name in LATER],
            [values["data"].pop(name) for name in ("labelled_index", "labelled_patients")],
            values["evaluations"][0].pop("confusion"),
        ],
    )
    assert read_record(path) == before


def test_confusion_survives(tmp_path):
    before = read_record(edited(tmp_path, lambda values: values["evaluations"][0].update(confusion=[[1, 0], [1, 2]])))
    assert before.evaluations[0].confusion == [[1, 0], [1, 2]]
    write_record(before, tmp_path / "again")
    assert read_record(tmp_path / "again") == before


@pytest.mark.parametrize(
    ("confusion", "message"),
    [
        ([[3, 1]], r"must be square: 1 rows need as many columns; got rows of \[2\]"),
        ([[3, 1], []], r"must be square.*\[0, 2\]"),
        ([[3, -1], [2, 0]], "at least 0; got -1"),
        ([[3, 1], [1, 0]], "all 4 examples, 3 of them on its diagonal; got 5 and 3"),
        ([[1, 1], [1, 1]], "all 4 examples, 3 of them on its diagonal; got 4 and 2"),
    ],
)
def test_impossible_confusion_is_refused_in_one_line(confusion, message):
    with pytest.raises(InputError, match=message) as caught:
        Evaluation(attack="natural", num_examples=4, num_correct=3, seconds=0.1, confusion=confusion)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v.update(extra=1), "unknown field extra"),
        (lambda v: v["data"].pop("name"), "field data.name is missing"),
        (lambda v: v["evaluations"][0].update(extra=1), r"unknown field evaluations\[0\].extra"),
        (lambda v: v.update(seed="0"), "field seed must be a whole number; got '0'"),
        (lambda v: v.update(seed=True), "field seed must be a whole number; got True"),
        (lambda v: v.update(seed=1.5), "field seed must be a whole number"),
        (lambda v: v.update(seed=None), "field seed must be a whole number"),
        (lambda v: v.update(label=3), "field label must be a text"),
        (lambda v: v.update(proxy=1), "field proxy must be true or false"),
        (lambda v: v.update(wall_seconds=False), "field wall_seconds must be a number"),
        (lambda v: v.update(wall_seconds="long"), "field wall_seconds must be a number"),
        (lambda v: v.update(dirty="no"), "field dirty must be true or false"),
        (lambda v: v.update(num_particles=2.0), "field num_particles must be a whole number"),
        (lambda v: v.update(config=[]), "field config must be an object"),
        (lambda v: v.update(data="digits"), "field data must be an object"),
        (lambda v: v.update(history={}), "field history must be a list"),
        (lambda v: v["history"][1].update(epoch=None), r"field history\[1\]\['epoch'\] must be a number"),
        (lambda v: v.update(warnings=[1]), r"field warnings\[0\] must be a text"),
        (
            lambda v: v.update(kind="sleep"),
            "kind must be one of 'training', 'diversity', 'evaluation', 'refinement'; got 'sleep'",
        ),
        (lambda v: v["evaluations"][0].update(num_correct=5), "between 0 and num_examples"),
        (lambda v: v["evaluations"].append(v["evaluations"][0]), "distinct attacks; got 'natural' twice"),
        (lambda v: v.update(proxy_reason=" "), "proxy_reason must say"),
        (lambda v: v.update(started="yesterday"), "ISO 8601"),
    ],
)
def test_wrong_field_is_named_in_one_line(tmp_path, edit, message):
    path = edited(tmp_path, edit)
    with pytest.raises(InputError, match=message) as caught:
        read_record(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_long_value_is_cut_in_the_message(tmp_path):
    path = edited(tmp_path, lambda values: values.update(seed="9" * 10_000))
    with pytest.raises(InputError) as caught:
        read_record(path)
    assert len(str(caught.value)) < len(str(path)) + 120


def test_value_that_json_lacks_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match="plain JSON values"):
        write_record(full_record(config={"net": object()}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    write_record(full_record(), tmp_path)

    def full_disk(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full_disk)
    with pytest.raises(InputError, match="No space left"):
        write_record(full_record(seed=9), tmp_path)
    monkeypatch.undo()
    assert read_record(tmp_path).seed == 3
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_writing_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        replace_text(tmp_path / "file" / "a.txt", "text")


def test_find_records_is_recursive_and_sorted(tmp_path):
    for name, seed in (("b", 1), ("a/deep", 0), ("c", 2)):
        write_record(full_record(seed=seed), tmp_path / name)
    (tmp_path / "other.json").write_text("{}")
    found = find_records(tmp_path)
    assert [record.seed for _, record in found] == [0, 1, 2]
    assert found[0][0] == tmp_path / "a" / "deep" / "record.json"


def test_find_records_names_what_is_wrong(tmp_path):
    assert find_records(tmp_path) == []
    with pytest.raises(InputError, match="no folder at"):
        find_records(tmp_path / "missing")
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(InputError, match="not a run record"):
        find_records(tmp_path)


def test_environment_names_python_and_torch():
    versions = environment()
    assert versions["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    assert {"torch", "platform"} <= set(versions)
    assert all(isinstance(version, str) for version in versions.values())


@pytest.mark.parametrize("module", [records, rows, schema])
def test_records_need_the_standard_library_only(module):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    outside = {name for name in names if name.split(".")[0] not in sys.stdlib_module_names}
    assert "aureole.core.errors" in outside
    assert outside <= {"aureole.core.errors", "aureole.core.rows", "aureole.core.schema"}


def git(folder, *arguments):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_git_commit_of_a_clean_and_a_dirty_checkout(tmp_path, monkeypatch):
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    library = tmp_path / "library"
    library.mkdir()
    git(tmp_path, "init", "--quiet")
    (library / "a.py").write_text("a = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert git_commit(library) == (head, False)
    (library / "b.py").write_text("b = 1\n")
    assert git_commit(library) == (head, True)
    (tmp_path / "elsewhere").mkdir()
    assert git_commit(tmp_path / "elsewhere") == (None, None)


def test_git_commit_without_a_checkout_or_git(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit(tmp_path) == (None, None)
    assert git_commit(tmp_path / "missing") == (None, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit() == (None, None)
