"""What it costs to select pixels: the largest of M relaxed draws, streamed and as a stack, and the cheaper masks.

    python benchmarks/selection.py [--sizes 32 224] [--json FILE]

M is 0.3 of the pixels. Times are of a forward and a backward pass, an image; the cases take turns, and a ratio is the
median over the rounds of the ratio within one round. Peak memory is what one pass adds in a process of its own (Linux).
The stack is made in the usual way, with noise of torch's own generator, where its tensors fit in 2 GiB; the difference
between the two is measured on the same noise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import describe, resident, spread, versions, write
from rich.console import Console
from rich.table import Table
from torch import Tensor

from aureole.core import streaming
from aureole.core.random import Streams
from aureole.core.selection import Concrete, Marginal, Threshold, num_pixels, top_pixels
from aureole.models.unet import UNet
from aureole.refine import Refiner

SHARE = 0.3
TENSORS = 4  # of the stack's size that are alive at once: noise, scores, softmax and its gradient
LIMIT = 2 * 2**30


def stack(logits: Tensor, count: int, _: Streams) -> Tensor:
    """Return the largest of the draws, all of which are held; their noise is not of the streams."""
    noise = torch.rand(len(logits), count, logits[0].numel()).clamp_(1e-7, 1 - 1e-7)
    gumbel = noise.log_().neg_().log_().neg_()
    return (logits.flatten(1)[:, None] + gumbel).softmax(-1).amax(1).view_as(logits)


MASKS: dict[str, Callable[[Tensor, int, Streams], Tensor]] = {
    "streamed": Concrete(),
    "streamed, T = 0.5": Concrete(temperature=0.5),
    "stack": stack,
    "marginal": Marginal(),
    "threshold": Threshold(),
}


def stack_bytes(size: int) -> int:
    """Return the size of the stack of one image, in float32."""
    return 4 * num_pixels(SHARE, size, size) * size**2


def fits(name: str, size: int) -> bool:
    """Return whether a mask can be measured at this size."""
    return name != "stack" or TENSORS * stack_bytes(size) <= LIMIT


def run(name: str, size: int, batch_size: int) -> None:
    """Make one mask with its gradient."""
    logits = torch.randn(batch_size, size, size, requires_grad=True)
    z = MASKS[name](logits, num_pixels(SHARE, size, size), Streams.of(0, torch.arange(batch_size)))
    z.backward(torch.randn_like(z))


def seconds(call: Callable[[], object]) -> float:
    """Return the time of one call: of this process alone where it has one thread."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    begin = clock()
    call()
    return clock() - begin


def times(size: int, batch_size: int, repetitions: int) -> dict[str, Any]:
    """Return seconds an image of every mask, in turns, and how they compare with the streamed one."""
    names = [name for name in MASKS if fits(name, size)]
    for name in names:
        run(name, min(size, 32), batch_size)
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repetitions):
        for name in names:
            found[name].append(seconds(lambda name=name: run(name, size, batch_size)) / batch_size)
    return {
        name: {
            "seconds": spread(values),
            "times_streamed": statistics.median(a / b for a, b in zip(values, found["streamed"], strict=True)),
        }
        for name, values in found.items()
    }


def peak(name: str, size: int, batch_size: int) -> int:
    """Return the peak memory of one pass, in a process of its own."""
    request = json.dumps([name, size, batch_size, torch.get_num_threads()])
    command = [sys.executable, str(Path(__file__).resolve()), "--memory-of", request]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory_of(request: str) -> int:
    """Make one mask in this process, and return the peak of its memory."""
    name, size, batch_size, threads = json.loads(request)
    torch.set_num_threads(threads)
    run(name, 8, 1)  # loads code
    before = resident(peak=False)
    run(name, size, batch_size)
    return resident(peak=True) - before


def differences(size: int, batch_size: int) -> dict[str, dict[str, float]]:
    """Return the largest difference between streamed and stacked draws of the same noise, and the largest value."""
    count, found = num_pixels(SHARE, size, size), {}
    for dtype in (torch.float32, torch.float64):
        logits = torch.randn(batch_size, size**2, dtype=dtype, requires_grad=True)
        weights = torch.randn_like(logits)
        keys = streaming._keys(Streams.of(0, torch.arange(batch_size)))
        z = streaming.largest_of_draws(logits, count, 1.0, Streams.of(0, torch.arange(batch_size)))
        plain = streaming._stacked(logits, count, 1.0, keys)
        (gradient,), (expected,) = (torch.autograd.grad((m * weights).sum(), logits) for m in (z, plain))
        found[str(dtype).removeprefix("torch.")] = {
            "value": float((z - plain).detach().abs().max()),
            "gradient": float((gradient - expected).abs().max()),
            "largest_gradient": float(expected.abs().max()),
        }
    return found


def at_test(size: int, batch_size: int, repetitions: int) -> dict[str, Any]:
    """Return seconds an image of the map by the U-Net, of the hard mask, and of both for one image, also folded."""
    net, x = UNet().eval(), torch.rand(batch_size, 3, size, size)
    count, refiner = num_pixels(SHARE, size, size), Refiner(net, share=SHARE)
    with torch.no_grad():
        scores = net(x)[:, 0]
        unet = [seconds(lambda: net(x)) / batch_size for _ in range(repetitions)]
        top = [seconds(lambda: top_pixels(scores, count)) / batch_size for _ in range(repetitions)]
        alone, fast = (
            [seconds(lambda run=run: run(x[:1], x[:1])) for _ in range(repetitions)]
            for run in (refiner, refiner.folded())
        )
    found = {"unet": unet, "top_pixels": top, "one_image": alone, "one_image_folded": fast}
    return {"batch_size": batch_size} | {name: spread(values) for name, values in found.items()}


def measure(size: int, given: argparse.Namespace) -> dict[str, Any]:
    """Return everything at one size; large images go one at a time."""
    large = size > 64
    batch_size, repetitions = (1, 3) if large else (given.batch_size, given.repetitions)
    memory = {name: peak(name, size, batch_size) for name in MASKS if fits(name, size)}
    return {
        "size": size,
        "count": num_pixels(SHARE, size, size),
        "batch_size": batch_size,
        "stack_bytes_an_image": stack_bytes(size),
        "peak_memory_bytes": memory,
        "times": times(size, batch_size, repetitions),
        "differences": differences(size, batch_size) if fits("stack", size) else None,
        "at_test": at_test(size, batch_size, repetitions),
    }


def show(results: list[dict[str, Any]]) -> None:
    """Print a table for each size."""
    console = Console(width=120, highlight=False)
    for r in results:
        title = (
            f"{r['size']} x {r['size']}, M = {r['count']}, batch {r['batch_size']};"
            f" one stack takes {r['stack_bytes_an_image'] / 2**20:.1f} MiB an image"
        )
        table = Table("mask", "ms an image", "times streamed", "peak MiB", title=title, title_justify="left")
        for name, found in r["times"].items():
            memory = f"{r['peak_memory_bytes'][name] / 2**20:.1f}"
            table.add_row(name, f"{1000 * found['seconds']['median']:.2f}", f"{found['times_streamed']:.3f}", memory)
        console.print(table)
        for dtype, found in (r["differences"] or {}).items():
            console.print(f"{dtype}: value {found['value']:.1e}, gradient {found['gradient']:.1e}")
        unet, top, *alone = (1000 * found["median"] for name, found in r["at_test"].items() if name != "batch_size")
        console.print(
            f"at test, an image: U-Net {unet:.2f} ms, top pixels {top:.3f} ms; one alone {alone[0]:.2f} ms, folded"
            f" {alone[1]:.2f} ms\n"
        )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Time and memory of the masks that select pixels.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32], help="height and width of the images")
    parser.add_argument("--batch-size", type=int, default=8, help="of images up to 64 pixels high")
    parser.add_argument("--repetitions", type=int, default=15, help="of images up to 64 pixels high; 3 above")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the measurements go")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of:
        print(memory_of(given.memory_of))
        return
    torch.set_num_threads(given.threads)
    results = [measure(size, given) for size in given.sizes]
    show(results)
    write(
        given.json,
        settings={"share": SHARE, "threads": given.threads, "repetitions": given.repetitions},
        versions=versions(),
        device=describe("cpu"),
        measurements=results,
    )


if __name__ == "__main__":
    main()
