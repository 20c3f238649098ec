"""The committed records: this version can read every one of them, and run it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from aureole.core.config import from_values
from aureole.core.records import find_records

RESULTS = Path(__file__).parents[2] / "results"
FOLDERS = sorted({path.parent.parent.name for path in RESULTS.glob("*/*/record.json")})


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_records_of_a_folder_are_of_this_version(folder: str) -> None:
    assert (RESULTS / folder / "README.md").exists()
    records = find_records(RESULTS / folder)
    assert records
    for path, record in records:
        assert from_values(record.config) is not None, path
