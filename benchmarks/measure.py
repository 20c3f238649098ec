"""What the benchmarks share: peak memory, spread, versions, and where the results go."""

from __future__ import annotations

import json
import statistics
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from aureole.core.records import environment


def spread(values: list[float]) -> dict[str, float] | None:
    """Return the median, and the least and the greatest value."""
    if not values:
        return None
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def resident(*, peak: bool) -> int:
    """Return the resident bytes of this process: now, or its peak since the last call with ``peak=False``.

    Linux alone tells both; ``getrusage`` has the peak alone, and starts from that of the parent process.
    """
    if not peak:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    name = "VmHWM" if peak else "VmRSS"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def describe(device: str) -> str:
    """Return the device in words."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU ({torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)})"


def versions(*names: str) -> dict[str, str]:
    """Return the versions of what is compared; packages that are not installed are left out."""
    found = environment()
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found | {"torch": torch.__version__}


def write(path: Path | None, **content: Any) -> None:
    """Write the results as JSON, where a file was asked for."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
