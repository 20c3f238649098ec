"""A trained network as a program that runs without aureole: written, read back, and compared with the network."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError, first_line, unknown_name

FORMATS = {"onnx": ".onnx", "pt2": ".pt2"}
_BATCHES = (1, 2, 5)  # the program takes any
_TOLERANCE = 1e-3  # of the largest logit
_TIMED, _WARM_UP = 30, 5

Program = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A program beside the network that it was made from.

    Args:
        difference: largest difference of two logits, over random images; None where nothing here can run the program.
        milliseconds: median time of one image in a batch of one, of the program; None likewise.
        network_milliseconds: of the network.
        megabytes: of the program's file (10^6 bytes).
        network_megabytes: of the network's weights and buffers.
    """

    difference: float | None
    milliseconds: float | None
    network_milliseconds: float
    megabytes: float
    network_megabytes: float


def check_format(kind: str) -> None:
    """Check that programs of a format can be written here.

    Raises:
        InputError: the format is unknown, or needs a package that is not installed.
    """
    if kind not in FORMATS:
        raise unknown_name("format", kind, FORMATS)
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if kind == "onnx" and missing:
        raise InputError(
            f"the format onnx needs {' and '.join(missing)}: pip install aureole[onnx]; or give --format pt2"
        )


def write_program(network: nn.Module, image_shape: tuple[int, ...], path: Path, *, kind: str) -> Comparison:
    """Write a network as a program for batches of any size, read it back, and compare the two on random images.

    Args:
        network: maps images to logits; in evaluation mode, on the CPU.
        image_shape: of one image.
        path: the file; its folder is made when it does not exist. It is left as it was unless all goes well.
        kind: ``"onnx"``, or ``"pt2"`` for a program of ``torch.export``.

    Raises:
        InputError: the file cannot be written, the network cannot be exported, or the program is not the network.
    """
    temporary = path.with_name(f"part-{path.stem}{FORMATS[kind]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()  # a place that cannot be written shows before the work
        with _quiet(), torch.no_grad():
            _export(network, image_shape, temporary, kind)
            compared = _compare(network, image_shape, temporary, kind)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror}): choose another --output") from error
    finally:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)
    return compared


def _export(network: nn.Module, image_shape: tuple[int, ...], path: Path, kind: str) -> None:
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    try:
        program = torch.export.export(network, (_images(2, image_shape),), dynamic_shapes=shapes)
        if kind == "pt2":
            return torch.export.save(program, path)
        made = torch.onnx.export(
            program, (), dynamo=True, verbose=False, input_names=["images"], output_names=["logits"]
        )
        assert made is not None
        return made.save(path, external_data=False)
    except OSError:
        raise
    except Exception as error:
        raise InputError(f"the network cannot be exported as {kind}: {first_line(error)}") from error


def _compare(network: nn.Module, image_shape: tuple[int, ...], path: Path, kind: str) -> Comparison:
    program, stored = _read(path, kind), [*network.parameters(), *network.buffers()]
    return Comparison(
        difference=None if program is None else _difference(network, program, image_shape),
        milliseconds=None if program is None else _milliseconds(program, image_shape),
        network_milliseconds=_milliseconds(network, image_shape),
        megabytes=path.stat().st_size / 1e6,
        network_megabytes=sum(value.numel() * value.element_size() for value in stored) / 1e6,
    )


def _read(path: Path, kind: str) -> Program | None:
    """Return what runs a program; None for ONNX where onnxruntime is not installed."""
    if kind == "pt2":
        return torch.export.load(path).module()
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime  # pyright: ignore[reportMissingImports]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])


def _difference(network: nn.Module, program: Program, image_shape: tuple[int, ...]) -> float:
    largest, scale = 0.0, 0.0
    for size in _BATCHES:
        x = _images(size, image_shape)
        wanted, found = network(x), program(x)
        if found.shape != wanted.shape:
            raise InputError(
                f"the program is not the network: {size} images give {tuple(found.shape)}, not {tuple(wanted.shape)}"
            )
        largest = max(largest, float((found - wanted).abs().max()))
        scale = max(scale, float(wanted.abs().max()))
    if not largest <= _TOLERANCE * max(scale, 1.0):
        raise InputError(
            f"the program is not the network: its logits differ by {largest:.3g} from values up to {scale:.3g}"
        )
    return largest


def _images(size: int, image_shape: tuple[int, ...]) -> Float[Tensor, "size *image"]:
    return torch.rand(size, *image_shape, generator=torch.Generator().manual_seed(size))


def _milliseconds(program: Any, image_shape: tuple[int, ...]) -> float:
    x, taken = _images(1, image_shape), list[float]()
    for _ in range(_TIMED + _WARM_UP):
        clock = time.perf_counter()
        program(x)
        taken.append(time.perf_counter() - clock)
    return 1000 * median(taken[_WARM_UP:])


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what exporters say about themselves."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
