"""Captures many clips side by side, each once, and tells what became of each.

Every clip has a folder `.NAME.npz.job` beside its take while it is captured. Whoever holds the lock in it works on the
clip; a second batch into the same folder leaves it alone until then, and finds its take afterwards. Inside lies a job
as Blender's: what is finished of a stopped or failed clip stays there, and the next run goes on from it.
"""

import os
import shutil
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal, Protocol

from dir_core.batch.clips import Clip
from dir_core.batch.finished import Identity, what_differs
from dir_core.capture_settings import CaptureSettings
from dir_core.errors import HandCaptureError, OutputError
from dir_core.parts import parts_folder
from dir_core.take import Take, load_take, write_whole
from dir_core.worker.protocol import CHUNKS, LOCK, LOG, RESULT, Event, JobError, JobLock, JobRequest, make_job

State = Literal["not begun", "captured", "there already", "failed", "stopped"]

_TRIES = 3  # of a clip whose process is lost again and again: then it is the clip's own fault
_BUSY_PAUSE = 0.5  # seconds before a clip that another batch works on is asked for again
_JOB = "capture"
_KEEP = "keep"  # marks a job whose log tells of a defect


class LostError(Exception):
    """The process that captured a clip is gone without a word; the sentence says what is known."""


class StoppedError(Exception):
    """The user stopped the batch."""


class Engine(Protocol):
    """Where clips are captured.

    Attributes:
        jobs: clips that run at once.
    """

    jobs: int

    def capture(self, folder: Path, on_event: Callable[[Event], None], stop: threading.Event) -> JobError | None:
        """Run the job in a folder to its end; called from as many threads as there are jobs.

        Returns:
            None with result.npz in the folder, or why there is none.

        Raises:
            LostError: the process is gone; called again it goes on with what was finished.
            StoppedError: `stop` was set.
            HandCaptureError: the job could not be started.
        """
        ...

    def close(self) -> None:
        """Let go of what the engine holds; nothing runs any more."""
        ...


@dataclass(frozen=True)
class Row:
    """What became of a clip.

    Attributes:
        clip: which.
        state: what became of it.
        take: where its take lies; None if there is none.
        frames: of the take.
        seconds: that the capture took in this run; 0 if there was none.
        both: share of frames with both hands.
        sentences: warnings, or why it failed.
    """

    clip: Clip
    state: State = "not begun"
    take: Path | None = None
    frames: int = 0
    seconds: float = 0.0
    both: float = 0.0
    sentences: tuple[str, ...] = ()

    @property
    def frames_per_second(self) -> float:
        """Of the capture in this run."""
        return self.frames / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For a JSON report."""
        return {
            "clip": self.clip.name,
            "footage": str(self.clip.footage),
            "take": None if self.take is None else str(self.take),
            "state": self.state,
            "frames": self.frames,
            "seconds": self.seconds,
            "frames_per_second": self.frames_per_second,
            "both_observed": self.both,
            "sentences": list(self.sentences),
        }


@dataclass(frozen=True)
class Running:
    """How far a clip is that runs now: frames done and expected (0 while unknown), and frames a second."""

    done: int = 0
    expected: int = 0
    rate: float = 0.0


class Batch:
    """Captures clips with one engine. `rows` and `running` may be looked at from another thread at any time."""

    def __init__(
        self, clips: Sequence[Clip], settings: CaptureSettings, output: Path, engine: Engine, identity: Identity
    ):
        """Prepare a batch.

        Args:
            clips: with names that differ.
            settings: for all of them; paths in them absolute.
            output: folder of the takes; it is there.
            engine: where they are captured.
            identity: of what `settings` name.
        """
        self._settings, self._output, self._engine, self._identity = settings, output.absolute(), engine, identity
        self._waiting = deque(range(len(clips)))
        self._stop = threading.Event()
        self._names = {clip.name.casefold() for clip in clips}
        self.rows = [Row(clip) for clip in clips]
        self.running: dict[int, Running] = {}

    def run(self, watch: Callable[["Batch"], None], period: float = 0.2) -> None:
        """Capture every clip that is not there already.

        Args:
            watch: called from this thread every `period` seconds and once at the end. What it raises, and Ctrl-C,
                stops the batch: nothing that runs stays, what is finished of it does.
        """
        jobs = max(1, min(self._engine.jobs, len(self.rows)))
        with ThreadPoolExecutor(jobs, "clip") as pool:
            threads = [pool.submit(self._work) for _ in range(jobs)]
            try:
                while not all(thread.done() for thread in threads):
                    watch(self)
                    time.sleep(period)
            finally:
                self._stop.set()
        for thread in threads:
            thread.result()
        watch(self)

    def _work(self) -> None:
        """Take one clip after the other; one that another batch works on goes to the end of the queue."""
        while not self._stop.is_set():
            try:
                number = self._waiting.popleft()
            except IndexError:
                return
            row = self._try(number)
            if row is None:
                self._waiting.append(number)
                self._stop.wait(_BUSY_PAUSE)
            else:
                self.rows[number] = row
                self.running.pop(number, None)

    def _try(self, number: int) -> Row | None:
        """What becomes of a clip; None if another batch works on it."""
        row = self.rows[number]
        home = self._output / f".{row.clip.name}.npz.job"
        job = home / _JOB
        try:
            lock = _claim(home)
            if lock is None:
                return None
        except OutputError as error:
            return replace(row, state="failed", sentences=(str(error),))
        self.running[number] = Running()
        try:
            return self._capture(row, number, job)
        except StoppedError:
            return replace(row, state="stopped", sentences=("The same command goes on from here.",))
        except HandCaptureError as error:
            return replace(row, state="failed", sentences=(str(error),))
        except Exception as error:
            traceback.print_exc()
            name = type(error).__name__
            return replace(row, state="failed", sentences=(f"A defect of this program ended the capture ({name}).",))
        finally:
            if not any((job / name).exists() for name in (CHUNKS, RESULT, _KEEP)):
                shutil.rmtree(job, ignore_errors=True)
            lock.release()
            with suppress(OSError):  # something is kept, or another batch has come
                if not job.exists():
                    (home / LOCK).unlink()
                    home.rmdir()

    def _capture(self, row: Row, number: int, job: Path) -> Row:
        """Capture a clip unless its take is there."""
        clip = row.clip
        output, take, difference = self._find_place(clip)
        notes = [f"{clip.name}.npz {difference} and is kept, this one is {output.name}."] if difference else []
        if take is not None:
            shutil.rmtree(job, ignore_errors=True)
            return _with_figures(replace(row, state="there already", sentences=tuple(notes)), output, take)
        begin = time.perf_counter()
        make_job(job, JobRequest(str(clip.footage), self._settings, str(output)))
        _take_over(parts_folder(output), job / CHUNKS)

        def follow(event: Event) -> None:
            notes.extend(sentence for sentence in event.warnings if sentence not in notes)
            if event.total:  # the first and the last event know of no frames
                self.running[number] = Running(event.frame, event.total, event.frames_per_second)

        error = self._run_job(job, follow)
        if error is not None:
            return replace(row, state="failed", sentences=(error, *notes))
        take = load_take(job / RESULT)
        output = self._place(job / RESULT, clip)
        shutil.rmtree(job, ignore_errors=True)
        row = replace(row, state="captured", seconds=time.perf_counter() - begin, sentences=tuple(notes))
        return _with_figures(row, output, take)

    def _run_job(self, job: Path, follow: Callable[[Event], None]) -> str | None:
        """Run a job, again where its process is lost; None, or the sentence that says why it failed."""
        for left in reversed(range(_TRIES)):
            try:
                error = self._engine.capture(job, follow, self._stop)
            except LostError as loss:
                if left:
                    continue
                error = JobError("lost", f"{loss} It was tried {_TRIES} times.")
            if error is None:
                return None
            if error.code not in ("lost", "defect"):
                return error.sentence
            (job / _KEEP).touch()
            return f"{error.sentence} The log is {job / LOG}."
        raise AssertionError  # the last round returns

    def _find_place(self, clip: Clip) -> tuple[Path, Take | None, str]:
        """Where the take of a clip lies, or may be written.

        Returns:
            The path, the take that lies there already, and how the take under the clip's own name differs.
        """
        difference = ""
        for path in self._places(clip):
            if not path.exists():
                return path, None, difference
            differs, take = what_differs(path, clip.footage, self._settings, self._identity)
            if take is not None:
                return path, take, difference
            difference = difference or differs
        raise AssertionError  # there is no end of places

    def _places(self, clip: Clip) -> Iterator[Path]:
        """NAME.npz, NAME-2.npz, ...: those that are no other clip's own."""
        yield self._output / f"{clip.name}.npz"
        for number in count(2):
            name = f"{clip.name}-{number}"
            if name.casefold() not in self._names:
                yield self._output / f"{name}.npz"

    def _place(self, result: Path, clip: Clip) -> Path:
        """Move a take to the first free place, never over anything."""
        for path in self._places(clip):
            try:
                os.link(result, path)
            except FileExistsError:
                continue
            except OSError:  # a file system without hard links
                if path.exists():
                    continue
                write_whole(path, result.read_bytes())
            return path
        raise AssertionError  # there is no end of places


def _claim(home: Path) -> JobLock | None:
    """The lock on a clip's folder, None if another batch holds it.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        home.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot write {home}: {error.strerror}; choose another folder.") from error
    lock = JobLock(home)
    return lock if lock.acquire(patience=0.0) else None


def _take_over(parts: Path, chunks: Path) -> None:
    """Go on with what `capture VIDEO -o TAKE.npz` left when it was stopped."""
    if parts.is_dir() and not chunks.exists():
        with suppress(OSError):
            parts.rename(chunks)


def _with_figures(row: Row, path: Path, take: Take) -> Row:
    both = take.left.observed & take.right.observed
    return replace(row, take=path, frames=len(take), both=float(both.mean()) if len(take) else 0.0)
