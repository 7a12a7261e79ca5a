"""One job from its request to its result: the capture, told in events. Ends no process; that is __main__'s."""

import contextlib
import shutil
import sys
import threading
import time
import traceback
from collections import deque
from pathlib import Path

from dir_core.errors import HandCaptureError, OutputError
from dir_core.take import save_take
from dir_core.worker.protocol import CHUNKS, EVENTS, PAUSE, PREVIEW, RESULT, Event, JobError, Stage, read_request

_HINTS = {
    "footage": "What is finished stays; put the footage right and resume.",
    "settings": "Change the setting and capture again.",
    "output": "What is finished stays; make room or choose another folder, then resume.",
    "checkpoint": "Choose the weights again.",
    "handmodel": "Choose the hand model again.",
    "cancelled": "What is finished stays; resume goes on from there.",
    "runtime": "Set up the runtime again.",
    "busy": "Wait for the other capture or cancel it.",
    "defect": "What is finished stays; the log says more.",
}

_DEFECT_EXIT = 1
_RATE_WINDOW = 5.0  # seconds over which the speed is measured
_EVENT_PERIOD = 0.2  # seconds between two events about progress
_PAUSE_POLL = 0.1  # seconds


class EventLog:
    """Adds to events.ndjson, from any thread; after the last event of a run nothing more."""

    def __init__(self, folder: Path):
        self._path = folder / EVENTS
        self._lock = threading.Lock()
        self._ended = False
        self._begun = False  # whether the file ends with a whole line

    def tell(self, event: Event) -> None:
        """Add an event, at once visible to whoever reads.

        Raises:
            OutputError: it cannot be written.
        """
        with self._lock:
            if not self._ended:
                self._write(event)

    def end(self, event: Event) -> bool:
        """Add the last event; False if the run has ended already. A full disk does not keep it from ending."""
        with self._lock:
            if self._ended:
                return False
            self._ended = True
            try:
                self._write_at_any_cost(event)
            except OutputError as error:
                print(error, event.to_json(), file=sys.stderr)
            return True

    def _write_at_any_cost(self, event: Event) -> None:
        try:
            self._write(event)
        except OutputError:
            shutil.rmtree(self._path.parent / PREVIEW, ignore_errors=True)  # makes room; nothing depends on it
            self._write(event)

    def _write(self, event: Event) -> None:
        # A killed worker or a full disk may have left half a line.
        line = b"" if self._begun else b"\n"
        self._begun = False
        try:
            with self._path.open("ab", buffering=0) as file:
                if file.tell() == 0:
                    line = b""
                line += event.to_json().encode() + b"\n"
                self._begun = file.write(line) == len(line)
        except OSError as error:
            raise OutputError(
                f"Cannot write {self._path}: {error.strerror}; make room or choose another folder."
            ) from error


class Progress:
    """Turns what a capture tells into events; waits while the job is paused."""

    def __init__(self, folder: Path, events: EventLog):
        self._pause = folder / PAUSE
        self._events = events
        self._stage: Stage = "started"
        self._frame = self._total = 0
        self._told = -_EVENT_PERIOD  # when the last event about frames was told
        self._recent: deque[tuple[float, int]] = deque()  # when how many frames were done

    def enter(self, stage: Stage) -> None:
        """A stage begins."""
        self._stage = stage
        self._tell()

    def warn(self, sentence: str) -> None:
        """Something is not as it should be."""
        self._tell(warnings=(sentence,))

    def count(self, done: int, expected: int) -> None:
        """So many frames are done."""
        self._frame, self._total = done, max(done, expected)
        now = time.monotonic()
        self._recent.append((now, done))
        while now - self._recent[0][0] > _RATE_WINDOW and len(self._recent) > 2:
            self._recent.popleft()
        if now - self._told >= _EVENT_PERIOD or done >= expected:
            self._told = now
            self._tell()
        if self._pause.exists():
            self._wait()

    def _wait(self) -> None:
        self._recent.clear()
        stage, self._stage = self._stage, "paused"
        self._tell()
        while self._pause.exists():
            time.sleep(_PAUSE_POLL)
        self._stage = stage
        self._tell()

    def _tell(self, warnings: tuple[str, ...] = ()) -> None:
        rate, left = 0.0, None
        if self._stage == "tracking" and len(self._recent) > 1:
            (begin, first), (end, last) = self._recent[0], self._recent[-1]
            rate = (last - first) / max(end - begin, 1e-3)
            left = (self._total - self._frame) / rate if rate > 0 else None
        self._events.tell(
            Event(
                time=time.time(),
                stage=self._stage,
                frame=self._frame,
                total=self._total,
                frames_per_second=round(rate, 2),
                seconds_left=None if left is None else round(left, 1),
                warnings=warnings,
            )
        )


def run_job(folder: Path, events: EventLog) -> int:
    """Do what the request of a job folder asks, and say in events how it goes.

    Nobody else may work in the folder. Whatever goes wrong becomes the error of the last event; what was finished
    stays, and the next run goes on from there to the same result.

    Returns:
        Exit code: 0 with a result, 2 after a mistake that the user can put right, 1 after a defect of this program.
    """
    try:
        _capture(folder, Progress(folder, events))
    except HandCaptureError as error:
        return _fail(events, type(error).__name__.removesuffix("Error").lower(), str(error), error.exit_code)
    except ImportError as error:
        traceback.print_exc()
        sentence = f"The Python of the worker ({sys.executable}) cannot load {error.name or error}."
        return _fail(events, "runtime", sentence, HandCaptureError.exit_code)
    except Exception as error:
        traceback.print_exc()
        sentence = f"A defect of this program ended the capture ({type(error).__name__}), the log says where."
        return _fail(events, "defect", sentence, _DEFECT_EXIT)
    events.end(Event(time=time.time(), stage="ended", done=True))
    return 0


def _fail(events: EventLog, code: str, sentence: str, exit_code: int) -> int:
    """End the run with an error; gives the exit code back."""
    print(sentence, file=sys.stderr, flush=True)
    events.end(_error(code, sentence))
    return exit_code


def cancelled() -> Event:
    """The last event of a run that the user cancelled."""
    return _error("cancelled", "The capture was cancelled.")


def _error(code: str, sentence: str) -> Event:
    return Event(time=time.time(), stage="ended", error=JobError(code, sentence, _HINTS.get(code, "")))


def _capture(folder: Path, progress: Progress) -> None:
    result = folder / RESULT
    for left_over in folder.glob(f".{RESULT}.*"):  # of a worker that was killed while it wrote
        with contextlib.suppress(OSError):
            left_over.unlink()
    if not result.is_file():
        request = read_request(folder)
        from dir_core.capture import capture_take  # after the first events: networks take seconds to load

        capture = capture_take(
            request.footage,
            request.settings,
            progress.count,
            folder / CHUNKS,
            folder / PREVIEW,
            on_stage=progress.enter,
            on_warning=progress.warn,
        )
        progress.enter("writing")
        save_take(capture.take, result)
    shutil.rmtree(folder / PREVIEW, ignore_errors=True)
    shutil.rmtree(folder / CHUNKS, ignore_errors=True)
