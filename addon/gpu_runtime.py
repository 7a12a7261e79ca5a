"""The runtime of the DIR network: what there is of it, what is being done about it, and what a capture may use.

What there is is looked up when something has happened, never while a panel is drawn. Everything that takes time is a
process of its own; here it is started and looked at, a little on every tick.
"""

import json
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import bpy

from dir_core.errors import GpuRuntimeError, HandCaptureError
from dir_core.hand_model import load_hand_models
from dir_core.worker import runtime
from dir_core.worker.runtime import REMOVE, SETUP_LOG, RuntimeStatus, SelfTest, SetupProgress

from . import painter, ticker
from .log import note_mistake, user_folder
from .processes import own_python

Task = Literal["setup", "remove", "test", "weights"]

OWN: Final = "OWN"
"""Value of the preference `runtime_source` for a Python of the user's; else the runtime is the one set up here."""

_TICK: Final = 0.2  # seconds between two looks at a process
_PATIENCE: Final = 3.0  # seconds before a process that was asked to end is killed
_FOLDER: Final = "gpu"  # short, because Windows has little room in a path
_OWN_TEST: Final = "own_self_test.json"
_WEIGHTS: Final = "weights.json"


@dataclass
class _State:
    status: RuntimeStatus | None = None
    own_test: SelfTest | None = None
    weights: dict[str, Any] | None = None
    detected: tuple[str, str] = ("", "")
    sizes: dict[str, tuple[float, float]] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None
    task: Task | None = None
    subject: str = ""
    answer: Path = Path()
    progress: SetupProgress | None = None
    killed_at: float = 0.0
    error: str = ""


_state = _State()


# --- what panels ask; nothing here looks at more than a handful of files, and that once -----------------------


def folder() -> Path:
    """Where the runtime lives."""
    return user_folder(_FOLDER)


def status() -> RuntimeStatus:
    """What there is of the runtime that is set up here."""
    return _look()


def detected_build() -> tuple[str, str]:
    """The build that suits this computer, "" if there is none, and why."""
    _look()
    return _state.detected


def sizes(build: str) -> tuple[float, float]:
    """Gigabytes that a setup of a build downloads, and that it takes on the disk at most.

    Raises:
        GpuRuntimeError: there is no such build for this computer and Python.
    """
    _look()
    if build not in _state.sizes:
        lock = runtime.read_lock(build, runtime.LOCKS)
        _state.sizes[build] = (lock.download_size / 1e9, runtime.needed_space(lock, folder()) / 1e9)
    return _state.sizes[build]


def task() -> Task | None:
    """What is being done now."""
    return _state.task


def progress() -> SetupProgress | None:
    """How far the running setup is."""
    return _state.progress


def log_file() -> Path:
    """What the last setup wrote."""
    return folder() / SETUP_LOG


def own_test(python: str) -> SelfTest | None:
    """What the self-test of a Python of the user's said, None if it has not run."""
    _look()
    test = _state.own_test
    return test if test is not None and test.python == python else None


def weights_sentence(path: str) -> str:
    """What a file of weights was recognised as, or what is wrong with it; "" if nobody has looked yet."""
    _look()
    known = _state.weights or {}
    return str(known.get("sentence") or known.get("error", "")) if known.get("path") == path else ""


def missing_for_dir(preferences: Any) -> str:
    """Why the DIR network cannot be used now, in one sentence without a full stop; "" if it can."""
    reason = missing_runtime(preferences)
    if reason:
        return reason
    path = weights_path(preferences)
    if not path:
        return "Choose the weights of the DIR network in the add-on's preferences"
    known = _state.weights or {}
    return str(known.get("error", "")).rstrip(".") if known.get("path") == path else ""


def missing_runtime(preferences: Any) -> str:
    """Why no runtime can be used now, without a full stop; "" if one can."""
    try:
        worker_python("dir", preferences)
    except GpuRuntimeError as error:
        return str(error).rstrip(".")
    return ""


def weights_path(preferences: Any) -> str:
    """The chosen file of weights, "" if none is."""
    return bpy.path.abspath(preferences.checkpoint) if preferences is not None and preferences.checkpoint else ""


def hands_folder(preferences: Any) -> str | None:
    """The chosen folder of hand models, None for the open hand."""
    return bpy.path.abspath(preferences.hands_folder) if preferences is not None and preferences.hands_folder else None


def own_path(preferences: Any) -> str:
    """The user's own Python, "" where the runtime is set up here or none is chosen."""
    if preferences is None or preferences.runtime_source != OWN or not preferences.runtime_python:
        return ""
    return bpy.path.abspath(preferences.runtime_python)


def worker_python(estimator: str, preferences: Any) -> tuple[str, tuple[str, ...]]:
    """The Python that runs an estimator, and the folders it searches for packages besides its own.

    Args:
        estimator: "landmarks" or "dir".
        preferences: of the add-on, None where there are none.

    Raises:
        GpuRuntimeError: why there is none, and what to do.
    """
    python, folders = own_python()
    if estimator != "dir":
        return python, folders
    if preferences is not None and preferences.runtime_source == OWN:
        chosen = own_path(preferences)
        test = own_test(chosen)
        if not chosen:
            raise GpuRuntimeError("Choose the Python that has torch in the add-on's preferences.")
        if test is None:
            raise GpuRuntimeError(f"{chosen} has not been tested yet, press Test in the add-on's preferences.")
        if test.error:
            raise GpuRuntimeError(test.error)
        return chosen, folders
    there = status()
    if there.state == "ready" and there.python is not None:
        return str(there.python), folders
    if there.state == "running" or _state.task == "setup":
        raise GpuRuntimeError("The GPU runtime is being set up, wait for it.")
    if there.state == "broken":
        raise GpuRuntimeError(there.sentence)
    raise GpuRuntimeError("The DIR network needs the GPU runtime, set it up in the add-on's preferences.")


def describe_hands(path: str | None) -> str:
    """What a folder of hand models holds and what may be done with it, or what is wrong; reads the files."""
    if path is None:
        return ""
    try:
        hand = load_hand_models(path)["right"]
    except HandCaptureError as error:
        return str(error)
    return f"{hand.name}, both hands. {hand.licence}"


# --- what the user asks for -----------------------------------------------------------------------------------


def set_up(build: str) -> None:
    """Start to set the runtime up, to repair it or to change its build.

    Raises:
        GpuRuntimeError: something else is being done, or the process cannot be started.
    """
    runtime.read_lock(build, runtime.LOCKS)  # the sentence for a Python without a lock comes at once
    _start("setup", lambda: _start_setup(build))


def remove() -> None:
    """Start to remove the runtime and everything that was downloaded.

    Raises:
        GpuRuntimeError: as `set_up`.
    """
    _start("remove", lambda: _start_setup(REMOVE))


def _start_setup(build: str) -> "subprocess.Popen[bytes]":
    python, folders = own_python()
    return runtime.start_setup(python, folder(), build, folders, runtime.LOCKS)


def cancel() -> None:
    """End what is being done.

    Raises:
        OutputError: the flag cannot be written.
    """
    if _state.task in ("setup", "remove"):
        runtime.cancel_setup(folder())
    _state.killed_at = time.monotonic() + (_PATIENCE if _state.task == "setup" else 0.0)


def test(preferences: Any) -> None:
    """Start the self-test of the runtime that the preferences choose.

    Raises:
        GpuRuntimeError: as `set_up`, or there is nothing to test.
    """
    folders = own_python()[1]
    if preferences is not None and preferences.runtime_source == OWN:
        python, answer, device = own_path(preferences), folder() / _OWN_TEST, "auto"
        if not Path(python).is_file():
            raise GpuRuntimeError(f"There is no Python program at {python!r}, choose one.")
    else:
        there = status()
        if not there.environment:
            raise GpuRuntimeError("There is no complete GPU runtime to test, set it up first.")
        python, answer = str(runtime.environment_python(there.environment)), folder() / runtime.SELF_TEST
        device = there.build
    _start("test", lambda: runtime.start_self_test(python, answer, device, folders), python, answer)


def check_weights(preferences: Any) -> None:
    """Start to look into the chosen file of weights, in the runtime: reading it needs torch.

    Raises:
        GpuRuntimeError: as `set_up`, or there is no runtime yet.
    """
    python, folders = worker_python("dir", preferences)
    path, answer = Path(weights_path(preferences)), folder() / _WEIGHTS
    _start("weights", lambda: runtime.start_checkpoint_check(python, answer, path, folders), str(path), answer)


def drain(patience: float = 3600.0) -> None:
    """Wait for what is being done; only for a Blender without a window, where timers stand still.

    Raises:
        GpuRuntimeError: what went wrong.
    """
    end = time.monotonic() + patience
    while _step() is not None and time.monotonic() < end:
        time.sleep(_TICK / 4)
    if _state.error:
        raise GpuRuntimeError(_state.error)


# --- on the timer ---------------------------------------------------------------------------------------------


def _start(
    kind: Task, start: Callable[[], "subprocess.Popen[bytes]"], subject: str = "", answer: Path = Path()
) -> None:
    if _state.process is not None:
        raise GpuRuntimeError("Something is being done to the GPU runtime already, wait for it or cancel it.")
    _state.process = start()
    _state.task, _state.subject, _state.answer = kind, subject, answer
    _state.progress, _state.killed_at, _state.error = None, 0.0, ""
    ticker.follow(_step)


def _step() -> float | None:
    process = _state.process
    if process is None:
        return None
    code = process.poll()  # before reading: what an ended process wrote is all there
    if _state.task in ("setup", "remove"):
        _state.progress = runtime.read_progress(folder())
    if code is None:
        if 0.0 < _state.killed_at < time.monotonic():
            process.kill()
        _redraw()
        return _TICK
    _settle(code)
    _redraw()
    return None


def _settle(code: int) -> None:
    """Keep what an ended process has said."""
    kind, was_cancelled, error, log = _state.task, bool(_state.killed_at), "", log_file()
    if _state.process is not None and _state.process.stdin is not None:
        _state.process.stdin.close()
    _state.process = None
    if kind in ("setup", "remove"):
        last = _state.progress
        if last is not None and last.stage == "ended":
            error, was_cancelled = last.error, was_cancelled or last.cancelled
        else:
            error = f"The setup of the GPU runtime was ended (exit code {code}), set it up again."
    elif not was_cancelled:
        error, log = _read_answer(code), _state.answer.with_suffix(".log")
    _state.task, _state.status = None, None
    _look()
    _state.error = "" if was_cancelled else error
    if _state.error:
        note_mistake(error, log)


def _read_answer(code: int) -> str:
    """The error in the answer of an ended process, "" if it is a good one; where there is no answer, one is written."""
    with suppress(OSError, ValueError, AttributeError):
        return str(json.loads(_state.answer.read_text("utf-8")).get("error", ""))
    error = f"{_state.subject} was looked at by a process that ended with exit code {code} and without an answer."
    name = "python" if _state.task == "test" else "path"
    with suppress(OSError):
        _state.answer.write_text(json.dumps({name: _state.subject, "error": error}), "utf-8")
    return error


def _look() -> RuntimeStatus:
    """Look at the files again if something has happened since the last time."""
    if _state.status is None:
        place = folder()
        _state.status = runtime.find_runtime(place, runtime.LOCKS)
        _state.own_test = runtime.read_self_test(place / _OWN_TEST)
        _state.detected = runtime.detect_build()
        _state.sizes = {}
        _state.weights = None
        with suppress(OSError, ValueError):
            known = json.loads((place / _WEIGHTS).read_text("utf-8"))
            _state.weights = known if isinstance(known, dict) else None
    return _state.status


def _redraw() -> None:
    painter.repaint("SIDEBAR")
    ticker.redraw(("PREFERENCES",))


def _forget() -> None:
    global _state  # noqa: PLW0603 - one runtime for the whole program
    _state = _State()


def unregister() -> None:
    """Let go of what runs: it ends when its standard input closes, and a setup goes on another time."""
    if _state.process is not None:
        if _state.process.stdin is not None:
            _state.process.stdin.close()
        if _state.task not in ("setup", "remove"):
            _state.process.kill()
    _forget()
