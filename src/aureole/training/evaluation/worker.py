"""``python -m aureole.training.evaluation.worker FOLDER RANK WORLD_SIZE``: one of the processes of an evaluation.

The job comes as JSON on standard input; how far it is goes out on standard output, a JSON object a line. The outcomes
are in the journals.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aureole.core.config import from_values
from aureole.core.errors import InputError
from aureole.core.journal import Journal
from aureole.metrics import FileJournal
from aureole.training.evaluation.judge import Job, attack_points, device_of, journal_of, key_of, memory_errors

Say = Callable[[dict[str, Any]], None]


class Channel(Journal):
    """Says to another process what it hears.

    Args:
        say: how.
        trial: the attack that members belong to.
    """

    def __init__(self, say: Say, trial: str) -> None:
        self.say, self.trial, self.said = say, trial, 0.0

    def _say(self, attack: str, kind: str, **more: Any) -> None:
        self.say({kind: attack if attack == self.trial else f"{self.trial}: {attack}", **more})

    def begin(self, attack: str, num_points: int) -> None:
        """Say that an attack starts."""
        self._say(attack, "begin", points=num_points)

    def progress(self, attack: str, done: float) -> None:
        """Say how far it is, a few times a second."""
        if time.monotonic() - self.said > 0.2:
            self.said = time.monotonic()
            self._say(attack, "progress", done=done)


def work(job: Job, folder: Path, rank: int, world_size: int, say: Say) -> None:
    """Attack the points that are this process's share; the outcomes are in the journals.

    Args:
        job: the evaluation.
        folder: of the run.
        rank: which of the processes this is.
        world_size: how many there are.
        say: told how far it is.

    Raises:
        InputError: the model, the data or the memory does not allow it.
    """
    subject = job.source.load(job.plan)
    device = device_of(subject, rank)
    subject.network.to(device).eval()
    for trial in job.trials:
        key = key_of(trial, subject)
        journal = FileJournal(
            journal_of(folder, trial), key, rank=rank, world_size=world_size, watch=Channel(say, trial.label)
        )
        with memory_errors(job.plan.batch_size), journal:
            attack_points(trial, job, subject, device, journal, rank, world_size)


def main(arguments: list[str]) -> int:
    """Do the work that standard input describes; return the exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the parent was started to ignore it
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a user's model prints goes elsewhere

    def say(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()  # fails where the parent is gone, which ends this process, too

    job = from_values(json.load(sys.stdin))
    try:
        work(job, Path(arguments[0]), int(arguments[1]), int(arguments[2]), say)
    except InputError as error:
        say({"error": str(error)})
    except (KeyboardInterrupt, BrokenPipeError):
        return 130
    out.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
