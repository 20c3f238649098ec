"""Check a built wheel as a user gets it: every file of the package is in it, and it imports fast and light.

Usage: python .ci/wheel_check.py WHEEL
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

MAX_SECONDS = 2.0  # of processor time, so that a busy machine does not decide
MAX_SHARE = 0.5  # of what torch alone takes: what decides on a slower processor than the 2 s are meant for
HEAVY = {"captum", "datasets", "lightning", "matplotlib", "pytorch_lightning", "sklearn", "torchvision"}
SOURCE = Path(__file__).parents[1] / "src"
PROBE = """
import json, sys, time
start = time.process_time()
import torch
middle = time.process_time()
import aureole
end = time.process_time()
packages = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps([aureole.__file__, end - start, (end - middle) / (middle - start), packages]))
"""


def missing_files(names: set[str]) -> list[str]:
    """Return what is wrong with the list of files: package files left out, or no HTML template at all."""
    ours = [p for p in SOURCE.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    wanted = {p.relative_to(SOURCE).as_posix() for p in ours}
    found = [f"wheel lacks {name}" for name in sorted(wanted - names)]
    if not any(name.startswith("aureole/report/") and ".html" in name for name in names):
        found.append("wheel has no HTML template under aureole/report")
    return found


def probe(folder: str) -> tuple[str, float, float, set[str]]:
    """Import the unpacked wheel in a fresh interpreter.

    Return its file, its seconds with torch, what it takes beside torch as a share of torch, and the packages loaded.
    """
    environment = os.environ | {"PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROBE]
    result = subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True, text=True)
    file, seconds, share, packages = json.loads(result.stdout)
    return file, seconds, share, set(packages)


def main(wheel: str) -> int:
    """Print what is wrong with ``wheel``; return 1 if there is anything."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
        wrong = missing_files(set(archive.namelist()))
        probes = [probe(folder) for _ in range(3)]
        file, _, _, packages = probes[0]
        if not Path(file).resolve().is_relative_to(Path(folder).resolve()):
            wrong.append(f"imported {file} instead of the wheel")
    seconds, share = (min(found[place] for found in probes) for place in (1, 2))
    took = f"import aureole takes {seconds:.2f} s, {share:.2f} of torch beside torch"
    if seconds >= MAX_SECONDS and share >= MAX_SHARE:
        wrong.append(f"{took}; under {MAX_SECONDS} s, or {MAX_SHARE} of torch, expected")
    if loaded := sorted(packages & HEAVY):
        wrong.append(f"import aureole loads {', '.join(loaded)}; import them where they are used")
    for line in wrong or [f"wheel holds every file; {took}"]:
        print(line)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
