"""What every doctest may name without an import: torch, nn, and the public names of aureole."""

from __future__ import annotations

import pytest


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
