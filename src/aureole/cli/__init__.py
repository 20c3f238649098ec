"""The command line: ``aureole list | show | run | rerun | evaluate | explain | export | report | segment | study``."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Sequence

from aureole.cli.catalogue import list_recipes, show
from aureole.cli.common import complain, say
from aureole.cli.configure import RunOptions
from aureole.cli.evaluating import EvaluateOptions, evaluate
from aureole.cli.explaining import ExplainOptions, explain
from aureole.cli.exporting import ExportOptions, export
from aureole.cli.reporting import ReportOptions, write_report
from aureole.cli.running import rerun, run
from aureole.cli.segmenting import SegmentOptions, segment
from aureole.cli.studying import StudyMakeOptions, StudyReadOptions, study
from aureole.core.errors import InputError, unknown_name

__all__ = [
    "EvaluateOptions", "ExplainOptions", "ExportOptions", "ReportOptions", "RunOptions", "SegmentOptions",
    "StudyMakeOptions", "StudyReadOptions", "main",
]  # fmt: skip

_HELP = """aureole: adversarial local distributions in PyTorch

  aureole list                              every recipe
  aureole show NAME [--field value]         its full configuration
  aureole run NAME [--field value]          train, evaluate, record and report
  aureole rerun RECORD                      repeat a recorded run and compare
  aureole evaluate RUN --attack pgd-200     attack a trained model
  aureole explain IMAGE... --run RUN        which pixels a trained model looks at
  aureole segment FILE... --run RUN         masks and volumes of scans, by a trained model
  aureole export RUN... --format onnx|pt2   its network as a program that needs no aureole
  aureole report FOLDER                     one HTML page of all runs below a folder
  aureole study make RUNS... | read STUDY   ask people which pictures look more disturbed

Try:
  aureole run demo
  aureole run robust-ald-pgd --setting mnist --data.source MNIST_FOLDER --method.search.num-particles 8
  aureole evaluate runs/demo/pgd --attack pgd-50x2 autoattack --radius 0.05 0.1
  aureole evaluate --model my_models:network --weights network.safetensors --data digits --attack autoattack

Each command has --help, and --json for machines. A killed run resumes when the same command is given again."""

_COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "list": list_recipes, "show": show, "run": run, "rerun": rerun, "evaluate": evaluate, "explain": explain,
    "export": export, "report": write_report, "segment": segment, "study": study,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program's name; None takes the process's own.

    Returns:
        The exit status: 0; 2 for a mistake, which is said in one line on standard error; 130 when interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        _dispatch(arguments)
    except InputError as error:
        complain(str(error))
        return 2
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()
    except OSError as error:
        complain(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
        return 2
    except (MemoryError, RuntimeError) as error:
        from aureole.training.evaluation.judge import out_of_memory

        if not out_of_memory(error):
            raise
        complain(
            "the memory does not suffice: give a smaller --batch-size, or for an evaluation --evaluation.batch-size"
        )
        return 2
    except KeyboardInterrupt:
        complain("interrupted; give the same command again to resume")
        return 130
    except SystemExit as stop:  # help was printed
        return int(stop.code or 0)
    return 0


def _dispatch(arguments: Sequence[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        return say(_HELP)
    if arguments[0] == "--version":
        return say(_version())
    if arguments[0] not in _COMMANDS:
        raise unknown_name("command", arguments[0], _COMMANDS)
    _keep_memory()
    return _COMMANDS[arguments[0]](arguments[1:])


def _keep_memory() -> None:
    """Let the C library keep freed memory instead of handing every large tensor back to the system.

    Otherwise each step on a CPU faults its activations in anew, which costs time with large batches. No result
    changes; elsewhere than on Linux nothing happens.
    """
    trim_threshold, mmap_threshold = -1, -3
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(mmap_threshold, 2**25)
        library.mallopt(trim_threshold, 2**31 - 1)


def _version() -> str:
    from aureole import __version__

    return __version__
