"""Train runs in child processes, and kill each with SIGKILL: a script that the tests of resuming start.

The argument is a JSON list of ``[configuration, folder, call]``: the child dies as it computes that loss (from 1), or
as it begins to evaluate (0). Each child is a fork, so that the imports are paid once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch  # noqa: F401  (before the forks)
import torch

from aureole.core.config import from_values
from aureole.training import run
from aureole.training.config import Training

DIED, FINISHED = 9, 0


def train(config: Training, folder: Path, call: int) -> None:
    calls = 0
    kind: Any = type(config.method)
    loss = kind.loss

    def deadly(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(*arguments)

    def kill(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    kind.loss = deadly
    if call == 0:
        run.run_attacks = kill  # pyright: ignore[reportAttributeAccessIssue]
    run.run_training(config, folder)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for values, place, at in json.loads(sys.argv[1]):
        child = os.fork()
        if child == 0:
            train(from_values(values), Path(place), at)
            os._exit(FINISHED)
        assert os.waitpid(child, 0)[1] == DIED, f"{place} was to die"
