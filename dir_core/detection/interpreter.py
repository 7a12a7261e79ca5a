"""Loads a network file into LiteRT. What goes in and what comes out is the networks' own business."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


def allowed_threads(useful: int) -> int:
    """How many threads networks may take: what is useful, or less where OMP_NUM_THREADS says so.

    That variable is how batch systems tell the programs that share a machine to keep to their own cores.
    """
    words = os.environ.get("OMP_NUM_THREADS", "").split(",")
    return min(useful, max(int(words[0]), 1)) if words[0].strip().isdecimal() else useful


def load_interpreter(weights: str | os.PathLike[str], threads: int) -> Any:
    """An interpreter on the CPU that is ready to run. It must not be used by two threads at once."""
    from ai_edge_litert.interpreter import Interpreter

    with _native_stderr_silenced():
        interpreter = Interpreter(model_path=os.fspath(weights), num_threads=threads)
        interpreter.allocate_tensors()
    return interpreter


@contextlib.contextmanager
def _native_stderr_silenced() -> Iterator[None]:
    """LiteRT announces its CPU delegate on the error output and has no switch for it; errors are exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
