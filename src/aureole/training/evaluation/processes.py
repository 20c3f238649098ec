"""Several processes share the points of an evaluation: each fills a journal of its own, which the parent then reads."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import torch

from aureole.core.config import to_values
from aureole.core.errors import InputError
from aureole.training.evaluation.progress import Bars

COMMAND = ("-m", "aureole.training.evaluation.worker")


def share(job: Any, folder: Path, bars: Bars, num_images: int) -> None:
    """Let processes attack the points: process r of n those whose number is r modulo n.

    Args:
        job: the :class:`~aureole.training.evaluation.judge.Job`.
        folder: of the run, where the journals lie.
        bars: hear how far the processes are.
        num_images: in all; there are at most as many processes.

    Raises:
        InputError: a process says so, or was killed. The others stop, and keep what they have decided.
    """
    world_size = min(job.devices, num_images)
    heard: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
    workers = [_Worker(job, folder, rank, world_size, heard) for rank in range(world_size)]
    try:
        running = len(workers)
        while running:
            rank, message = heard.get()
            if message is None:
                running -= 1
                workers[rank].check()
            elif "error" in message:
                raise InputError(message["error"])
            elif "begin" in message:
                bars.begin(message["begin"], message["points"], rank)
            else:
                bars.move(message["progress"], message["done"], rank)
    finally:
        for worker in workers:
            worker.interrupt()
        for worker in workers:
            worker.end()


class _Worker:
    """One process, and a thread that listens to it."""

    def __init__(self, job: Any, folder: Path, rank: int, world_size: int, heard: queue.Queue[Any]) -> None:
        self.rank, self.world_size = rank, world_size
        self.complaints: list[str] = []
        threads = str(max(1, torch.get_num_threads() // world_size))
        keep = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
        paths = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(
            [sys.executable, *COMMAND, str(folder), str(rank), str(world_size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **keep, "PYTHONPATH": paths, "OMP_NUM_THREADS": threads},
            text=True,
            errors="replace",
            start_new_session=True,  # an interruption comes from the parent, once
        )
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self.process.stdin as pipe:  # one that broke early says why itself
            json.dump(to_values(job), pipe)
        self.listeners = [
            threading.Thread(target=self._listen, args=(heard,), daemon=True),
            threading.Thread(target=self._collect, daemon=True),
        ]
        for listener in self.listeners:
            listener.start()

    def _listen(self, heard: queue.Queue[Any]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            heard.put((self.rank, json.loads(line)))
        heard.put((self.rank, None))

    def _collect(self) -> None:
        assert self.process.stderr is not None
        self.complaints.extend(self.process.stderr)

    def check(self) -> None:
        """Raise unless the process did what it was to do."""
        status = self.process.wait()
        if status < 0:
            raise InputError(
                f"a process was killed ({signal.Signals(-status).name}), as happens where the memory does not suffice:"
                " give a smaller --batch-size or fewer --devices; the same command resumes"
            )
        if status > 0:
            self.listeners[1].join()
            raise RuntimeError(f"process {self.rank} of {self.world_size} failed:\n{''.join(self.complaints)}")

    def interrupt(self) -> None:
        """Ask the process to write down what it has, and to end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """Wait for the end, and let go of everything."""
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for listener in self.listeners:
            listener.join()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
