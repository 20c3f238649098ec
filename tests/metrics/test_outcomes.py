"""The file of outcomes: one row a point, columns of attacks, and what several of them leave standing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aureole import InputError
from aureole.metrics import Outcomes, OutcomeTable


def outcomes(*robust: bool, natural: tuple[bool, ...] = (True, True, True, False)) -> Outcomes:
    stood = torch.tensor(robust) & torch.tensor(natural)
    moved = torch.where(torch.tensor(natural) & ~stood, 0.25, 0.0)
    index, labels = torch.tensor([0, 1, 2, 3]), torch.tensor([5, 6, 7, 8])
    return Outcomes(index, labels, torch.tensor(natural), stood, moved, 2 * moved, 4 * moved)


TABLE = (
    OutcomeTable.of(outcomes(True, True, True, True), about="model 1")
    .with_attack("pgd", outcomes(True, False, True, False), threat="Linf 0.1")
    .with_attack("fgsm", outcomes(False, True, True, False), threat="Linf 0.1")
    .with_attack("pgd@0.2", outcomes(False, False, False, False), threat="Linf 0.2")
)


def test_the_worst_case_joins_attacks_of_one_threat() -> None:
    assert TABLE.worst_case("Linf 0.1").tolist() == [False, False, True, False]
    assert TABLE.worst_case("Linf 0.2").tolist() == [False, False, False, False]
    assert TABLE.worst_case("none").tolist() == [True, True, True, False]
    assert TABLE.attacks("Linf 0.1") == ["pgd", "fgsm"]


def test_the_file_is_plain_numpy(tmp_path: Path) -> None:
    TABLE.save(tmp_path / "deep" / "outcomes.npz")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["outcomes.npz"]
    with np.load(tmp_path / "deep" / "outcomes.npz", allow_pickle=False) as file:
        assert file["index"].tolist() == [0, 1, 2, 3]
        assert file["label"].tolist() == [5, 6, 7, 8]
        assert file["natural"].tolist() == [True, True, True, False]
        assert file["pgd/robust"].tolist() == [True, False, True, False]
        assert file["pgd/l0"].tolist() == [0.0, 0.25, 0.0, 0.0]
        assert file["pgd/l2"].tolist() == [0.0, 0.5, 0.0, 0.0]
        assert file["pgd/linf"].tolist() == [0.0, 1.0, 0.0, 0.0]


def test_a_table_comes_back(tmp_path: Path) -> None:
    TABLE.save(tmp_path / "outcomes.npz")
    read = OutcomeTable.read(tmp_path / "outcomes.npz")
    assert read is not None
    assert (read.about, list(read.columns), dict(read.threats)) == ("model 1", list(TABLE.columns), dict(TABLE.threats))
    assert np.array_equal(read.worst_case("Linf 0.1"), TABLE.worst_case("Linf 0.1"))


def test_a_later_evaluation_joins_an_earlier_one() -> None:
    later = OutcomeTable.of(outcomes(True, True, True, True), about="model 1")
    later = later.with_attack("pgd", outcomes(True, True, True, False), threat="Linf 0.1")
    merged = later.merged(TABLE)
    assert set(merged.columns) == {"pgd", "fgsm", "pgd@0.2"}
    assert merged.columns["pgd"]["robust"].tolist() == [True, True, True, False]  # the later one
    assert merged.worst_case("Linf 0.1").tolist() == [False, True, True, False]


def test_outcomes_of_another_model_or_other_points_do_not_mix() -> None:
    later = OutcomeTable.of(outcomes(True, True, True, True), about="model 2")
    assert later.merged(TABLE) is later
    others = replace(later, about="model 1", index=np.array([0, 1, 2, 4]))
    assert others.merged(TABLE) is others
    assert later.merged(None) is later


@pytest.mark.parametrize("content", [b"", b"xx", b"PK\x03\x04half"])
def test_a_file_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "outcomes.npz"
    assert OutcomeTable.read(path) is None
    path.write_bytes(content)
    assert OutcomeTable.read(path) is None
    np.savez(path, other=np.zeros(2))
    assert OutcomeTable.read(path) is None


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write"):
        TABLE.save(tmp_path / "file" / "outcomes.npz")
