"""What tests and doctests share: a fixed seed; torch, nn and the public names of aureole in doctests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    from aureole.core.random import _Default

    torch.manual_seed(0)
    _Default.generator = None  # the library's own generator starts anew, so that the order of tests does not matter


@pytest.fixture(autouse=True)
def _doctest_names(request: pytest.FixtureRequest) -> None:
    """Give doctests their names; imported here, so that the check of shapes is installed before aureole is."""
    if not isinstance(request.node, pytest.DoctestItem):
        return
    import torch

    import aureole

    names = request.getfixturevalue("doctest_namespace")
    names.update(torch=torch, nn=torch.nn, aureole=aureole)
    names.update({name: getattr(aureole, name) for name in aureole.__all__})
