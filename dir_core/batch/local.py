"""Captures clips in processes of this machine, one a clip: the worker that also captures for Blender."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import dir_core
from dir_core.batch.run import LostError, StoppedError
from dir_core.worker.protocol import Event, EventReader, JobError, start_worker

# What limits the threads of torch, of the linear algebra below NumPy and SciPy, of LiteRT (interpreter.py), and of
# Mesa's OpenGL without a graphics card.
_THREAD_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "LP_NUM_THREADS",
)
_POLL = 0.1  # seconds between two looks at a process
_PATIENCE = 3.0  # seconds that a process gets to end by itself; it needs a tenth of one


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_limits(threads: int) -> dict[str, str]:
    """Environment variables that keep a process to so many threads; what the user has set stays."""
    return dict.fromkeys(_THREAD_LIMITS, str(threads)) | {
        name: os.environ[name] for name in _THREAD_LIMITS if name in os.environ
    }


def module_paths() -> list[str]:
    """Folders in which this process finds its modules, for a process in isolated mode."""
    return [str(Path(dir_core.__file__).parents[1]), *filter(os.path.isdir, sys.path)]


class LocalEngine:
    """Processes of this machine. They end with this one, however it ends.

    Attributes:
        jobs: clips at once.
        environment: of the processes.
    """

    def __init__(self, jobs: int):
        """So many at once; each gets its share of the cores."""
        self.jobs = jobs
        self.environment = {**os.environ, **thread_limits(max(1, cores() // jobs))}

    def close(self) -> None:
        """See `Engine.close`; processes end with their clips."""

    def capture(self, folder: Path, on_event: Callable[[Event], None], stop: threading.Event) -> JobError | None:
        """See `Engine.capture`."""
        reader = EventReader(folder, from_end=True)
        process = start_worker(sys.executable, folder, module_paths(), self.environment)
        last: Event | None = None
        try:
            while True:
                is_over = process.poll() is not None  # asked before its last words are read
                for event in reader.read():
                    last = event
                    on_event(event)
                if is_over:
                    break
                if stop.wait(_POLL):
                    raise StoppedError
        finally:
            _end(process)
        if last is None or last.stage != "ended":
            code = process.returncode
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise LostError(f"The process that captured it {how}.")
        return last.error


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a worker: it does so by itself when its standard input does."""
    if process.stdin:
        with suppress(OSError):
            process.stdin.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
