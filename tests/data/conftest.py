"""Small data sets for the tests of this folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from aureole.data import Images


@pytest.fixture
def shared_data() -> Path:
    """Return the folder with real data, or skip."""
    root = Path(__file__).parents[2]
    folder = root / os.environ.get("AUREOLE_DATA", "../shared/data")
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}: set AUREOLE_DATA")
    return folder


@pytest.fixture
def hub_cache(tmp_path_factory, monkeypatch) -> Path:
    """Let 🤗 datasets keep its cache in a temporary folder."""
    import datasets

    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(cache))
    return cache


@pytest.fixture
def images() -> Images:
    """Return 50 random images of four unequal classes, each with its index in its first two pixels."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (50, 3, 6, 5), dtype=torch.uint8, generator=generator)
    pixels[:, 0, 0, 0] = torch.arange(50)
    return Images(pixels, (torch.arange(50) ** 2) % 4 + (torch.arange(50) % 10 == 0).long() * 2, tuple("abcd"), "fifty")
