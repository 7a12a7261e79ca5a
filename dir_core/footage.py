"""Frames by time stamp, from a video file or an image sequence. Knows nothing about hands.

Every frame carries the presentation time stamp that the container gives it, counted from the first frame of the
footage. OpenCV 4.11 (FFmpeg) returns in CAP_PROP_POS_MSEC the time stamp of the frame just read, also with
B-frames, variable rates and late starts; this was checked with numbered pictures, see tests/data/footage.
"""

import contextlib
import hashlib
import itertools
import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Read when the first video is opened; what matters of the chatter of FFmpeg and OpenCV becomes a FootageError.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2

from dir_core.errors import FootageError, SettingsError
from dir_core.mp4_index import Mp4Index, read_mp4_index
from dir_core.picture_files import find_pictures

# OpenCV 4.14 moved the function; 0 is silent in both.
_set_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # type: ignore[attr-defined]
_set_log_level(0)

Array = NDArray[Any]

_Stamp = tuple[int, int]  # size and time of the last change

DEFAULT_SEQUENCE_RATE = 24.0
"""Frames per second of an image sequence when nobody says better: Blender's own default."""

_QUEUE_LENGTH = 4  # decoded frames that wait; a 4K frame is 25 MB
_TOLERATED_LOSS = 3  # frames that may be missing at the end before the file counts as damaged
_NUDGE = 1e-3  # seconds between frames that carry the same time stamp
_PROBED_FRAMES = 30


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of the footage.

    Attributes:
        index: number in the source, the first picture is 0 (also when `start` skips it).
        time: presentation time stamp in seconds, 0.0 for the first picture of the source.
        image: [H, W, 3] uint8 RGB, upright.
    """

    index: int
    time: float
    image: Array


@dataclass(frozen=True)
class FootageInfo:
    """What is known before decoding.

    Attributes:
        path: the file, folder or pattern as given, absolute.
        name: its last part.
        size: (width, height) of the upright picture in pixels.
        duration: seconds from the first to the end of the last picture.
        frame_rate: average frames per second.
        frame_count: pictures the container states; an estimate where it does not state it (0 if unknown).
        variable_rate: whether the time steps differ (MP4/MOV: from the index; others: from the first 30 frames).
        content_hash: sha256, hex; of the file's bytes, or of names and bytes of a sequence's pictures.
    """

    path: str
    name: str
    size: tuple[int, int]
    duration: float
    frame_rate: float
    frame_count: int
    variable_rate: bool
    content_hash: str


@dataclass(frozen=True)
class Selection:
    """Which frames are asked for: from `start` to `end` seconds the first one and every `step`-th after it."""

    start: float = 0.0
    end: float = float("inf")
    step: int = 1

    def holds(self, time: float) -> bool:
        """Whether a frame of this time lies in the range (half a millisecond of tolerance)."""
        return self.start - 5e-4 <= time and not self.is_past(time)

    def is_past(self, time: float) -> bool:
        """Whether no later frame is asked for."""
        return time > self.end + 5e-4


class Footage:
    """Footage that is open for reading. Iterate to get every Frame of the selection, as often as wished.

    Decoding runs in a thread of its own with a few frames of lead; it ends when the loop is left.

    Attributes:
        info: what is known before decoding.
        selection: which frames are given.
        warnings: sentences about flaws that did not stop the reading, filled while frames are read.
    """

    def __init__(self, info: FootageInfo, read: Callable[["Footage"], Iterator[Frame]], selection: Selection):
        self.info = info
        self.selection = selection
        self.warnings: list[str] = []
        self._read = read
        self._streams: list[_Ahead] = []

    def __enter__(self) -> "Footage":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the decoding threads of loops that were left early."""
        while self._streams:
            self._streams.pop().stop()

    def __iter__(self) -> Iterator[Frame]:
        stream = _Ahead(self._read(self))
        self._streams.append(stream)
        try:
            yield from stream
        finally:
            stream.stop()
            if stream in self._streams:
                self._streams.remove(stream)

    def warn(self, sentence: str) -> None:
        """Note a flaw once."""
        if sentence not in self.warnings:
            self.warnings.append(sentence)


def open_footage(
    path: str | os.PathLike[str],
    start: float | None = None,
    end: float | None = None,
    *,
    step: int = 1,
    frame_rate: float | None = None,
) -> Footage:
    """Open a video file, a folder of pictures, a pattern such as `shot_%04d.png`, or the first of numbered pictures.

    Args:
        path: what to open.
        start, end: seconds; only frames whose time lies in start..end are given.
        step: of these, only the first and every `step`-th after it; the others are not converted, which saves time.
        frame_rate: frames per second of an image sequence, 24 if not given. Not allowed for videos, they carry
            their own time stamps.

    Raises:
        FootageError: nothing readable is there; the sentence says what and what to do.
        SettingsError: the range, the step or the frame rate makes no sense.
    """
    if frame_rate is not None and not (np.isfinite(frame_rate) and frame_rate > 0):
        raise SettingsError(f"The frame rate is {frame_rate}, give a positive number of frames per second.")
    if (start is not None and not 0 <= start < float("inf")) or (
        end is not None and not (start or 0.0) <= end < float("inf")
    ):
        raise SettingsError(
            f"The range {start} to {end} s is not a part of footage, give 0 <= start <= end in seconds."
        )
    if step < 1:
        raise SettingsError(f"A step of {step} frames cannot work, give 1 for every frame, or more.")
    selection = Selection(start or 0.0, float("inf") if end is None else end, step)
    place = Path(path).absolute()
    try:
        pictures = find_pictures(place)
        if pictures is not None:
            return _open_sequence(place, pictures, frame_rate or DEFAULT_SEQUENCE_RATE, selection)
        if frame_rate is not None and place.exists():
            raise SettingsError(f"{place} is a video with its own time stamps, give no frame rate.")
        return _open_video(place, selection)
    except PermissionError:
        raise FootageError(f"You are not allowed to read {place}, change its permissions.") from None
    except OSError as error:
        raise FootageError(f"Cannot read {place}: {error.strerror or error}; check the path.") from error


# --- video files ---------------------------------------------------------------------------------------------


def _open_video(path: Path, selection: Selection) -> Footage:
    if not path.exists():
        raise FootageError(f"There is no footage at {path}, check the path.")
    if path.stat().st_size == 0:
        raise FootageError(f"{path} is empty, copy or export it again.")
    stamp = _stamp(path)
    content_hash = _hash_files([path], with_names=False)
    index = read_mp4_index(path)
    capture, rotation = _open_capture(path, index)
    try:
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if np.isfinite(rate) and 0 < rate < 1e4 else 25.0
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        count = int(count) if np.isfinite(count) and count > 0 else 0
        duration, variable = count / rate, False
        ok, first = capture.read()
        if not ok:
            raise FootageError(f"{path} has no picture that can be decoded, convert it to MP4 (H.264).")
        if index is not None and index.duration > 0:
            count, duration, variable = index.frame_count, index.duration, index.variable_rate
            rate = index.frame_rate
        else:
            variable = _has_uneven_steps(capture)
    finally:
        capture.release()
    height, width = first.shape[:2]
    size = (height, width) if rotation in (90, 270) else (width, height)
    info = FootageInfo(str(path), path.name, size, duration, rate, count, variable, content_hash)
    return Footage(info, lambda footage: _read_video(path, index, stamp, footage), selection)


def _open_capture(path: Path, index: Mp4Index | None) -> tuple[Any, int]:
    """An open capture that leaves pictures as stored, and the clockwise degrees that make them upright."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise FootageError(_why_not_opened(path, index))
    rotation = round(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
    return capture, rotation


def _why_not_opened(path: Path, index: Mp4Index | None) -> str:
    if index is not None and index.has_index and not index.has_pictures:
        return f"{path} holds {'sound but ' if index.has_sound else ''}no pictures, choose a video."
    if index is not None and not index.has_index:
        return f"{path} is cut off: its index is missing, so no frame can be read; copy or record it again."
    if _is_text(path):
        return f"{path} is a text file and not a video, choose a video."
    return f"{path} is not a video that can be read (damaged, or without pictures); convert it to MP4 (H.264)."


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(512)
    return all(byte >= 9 for byte in head)  # \t is the lowest byte that texts use


_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


def _read_video(path: Path, index: Mp4Index | None, stamp: _Stamp, footage: Footage) -> Iterator[Frame]:
    capture, rotation = _open_capture(path, index)
    clock, passed = _Clock(footage), itertools.count()
    number = -1
    try:
        while capture.grab():
            number += 1
            time = clock.tick(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            if footage.selection.is_past(time):
                return
            if not footage.selection.holds(time) or next(passed) % footage.selection.step:
                continue
            ok, stored = capture.retrieve()
            _check_unchanged(path, stamp)
            if not ok:
                raise FootageError(f"{path} has a damaged picture at {time:.3f} s, convert it to MP4 (H.264) again.")
            upright = cv2.rotate(stored, _TURNS[rotation]) if rotation in _TURNS else stored
            yield Frame(number, time, cv2.cvtColor(upright, cv2.COLOR_BGR2RGB))
    finally:
        capture.release()
    _check_unchanged(path, stamp)
    _check_end(path, index, footage, clock, number + 1)


def _check_end(path: Path, index: Mp4Index | None, footage: Footage, clock: "_Clock", count: int) -> None:
    """Compare what came with what the index states."""
    if index is None or index.duration <= 0:
        return
    missing = round((index.duration - clock.time) * footage.info.frame_rate) - 1
    if index.variable_rate:
        # The last frame of a variable rate may stand for long, only the number of frames can be counted.
        missing = min(missing, index.frame_count - count)
    if missing > _TOLERATED_LOSS or (missing > 0 and index.cut_off):
        raise FootageError(
            f"{path} ends early: the last good frame is at {clock.time:.3f} s of {index.duration:.3f} s; "
            f"copy it again, or set the end to {max(0.0, clock.time - 0.001):.3f} s."
        )
    if missing > 1:  # an edit that ends between two frames explains one
        footage.warn(f"{path.name} lacks its last {missing} frame(s).")


class _Clock:
    """Makes time stamps strictly increasing, counted from the first frame.

    A frame that repeats an earlier stamp, or goes back, is kept 1 ms after its predecessor; dropping it would
    lose a picture. A frame without a stamp (OpenCV then says 0) comes one usual step after its predecessor.
    """

    def __init__(self, footage: Footage):
        self._footage = footage
        self._origin: float | None = None
        self._steps: list[float] = []
        self.time = 0.0

    def tick(self, stamp: float) -> float:
        if self._origin is None:
            self._origin = stamp
            return 0.0
        time = stamp - self._origin
        if time <= self.time:
            name = self._footage.info.name
            if stamp <= 0:
                time = self.time + (float(np.median(self._steps)) if self._steps else 1 / self._footage.info.frame_rate)
                self._footage.warn(f"{name} has frames without a time stamp, they were spaced evenly.")
            else:
                time = self.time + _NUDGE
                self._footage.warn(f"{name} has frames whose time stamps do not increase, they were moved by 1 ms.")
        else:
            self._steps = [*self._steps[-8:], time - self.time]
        self.time = time
        return time


def _has_uneven_steps(capture: Any) -> bool:
    stamps = [capture.get(cv2.CAP_PROP_POS_MSEC)]
    while len(stamps) < _PROBED_FRAMES and capture.grab():
        stamps.append(capture.get(cv2.CAP_PROP_POS_MSEC))
    steps = np.diff(stamps)
    steps = steps[steps > 0]
    return len(steps) > 1 and bool(np.ptp(steps) > 0.2 * steps.mean() + 1.0)  # whole milliseconds jitter by one


# --- image sequences -----------------------------------------------------------------------------------------


def _open_sequence(place: Path, pictures: list[tuple[int, Path]], rate: float, selection: Selection) -> Footage:
    stamps = [_stamp(picture) for _, picture in pictures]
    height, width = _read_picture(pictures[0][1], stamps[0]).shape[:2]
    gaps = len(pictures) != pictures[-1][0] + 1
    info = FootageInfo(
        path=str(place),
        name=place.name,
        size=(width, height),
        duration=(pictures[-1][0] + 1) / rate,
        frame_rate=rate,
        frame_count=len(pictures),
        variable_rate=gaps,
        content_hash=_hash_files([picture for _, picture in pictures], with_names=True),
    )

    def read(footage: Footage) -> Iterator[Frame]:
        if gaps:
            footage.warn(f"{place.name} lacks {pictures[-1][0] + 1 - len(pictures)} picture(s) inside its numbering.")
        passed = itertools.count()
        for index, (number, picture) in enumerate(pictures):
            if not selection.holds(number / rate) or next(passed) % selection.step:
                continue
            image = _read_picture(picture, stamps[index])
            if image.shape[:2] != (height, width):
                raise FootageError(
                    f"{picture} is {image.shape[1]} x {image.shape[0]} and the first picture {width} x {height}, "
                    "give pictures of one size."
                )
            yield Frame(index, number / rate, image)

    return Footage(info, read, selection)


def _read_picture(path: Path, stamp: _Stamp) -> Array:
    """[H, W, 3] uint8 RGB, turned as its EXIF data asks."""
    data = np.fromfile(path, np.uint8)  # OpenCV's own reader knows no Unicode paths on Windows
    _check_unchanged(path, stamp)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if image is None:
        raise FootageError(f"{path} is not a picture that can be read, export it again.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _check_unchanged(path: Path, stamp: _Stamp) -> None:
    """Refuse what was just read of a file that another program cuts off or writes: decoders make pictures of it too.

    A video that is deleted stays readable as long as it is open.
    """
    with contextlib.suppress(FileNotFoundError):
        if _stamp(path) != stamp:
            raise FootageError(f"{path} was changed while it was read, put it back as it was.")


def _hash_files(paths: list[Path], *, with_names: bool) -> str:
    digest = hashlib.sha256()
    for path in paths:
        if with_names:
            digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


# --- decoding ahead ------------------------------------------------------------------------------------------


class _Ahead:
    """Runs an iterator of frames in a thread, a few frames ahead of whoever reads."""

    def __init__(self, frames: Iterator[Frame]):
        self._queue: queue.Queue[Frame | BaseException | None] = queue.Queue(_QUEUE_LENGTH)
        self._stopped = threading.Event()
        self._frames = frames
        self._thread = threading.Thread(target=self._run, name="decode footage", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        last: BaseException | None = None
        try:
            for frame in self._frames:
                if not self._put(frame):
                    break
        except BaseException as error:
            last = error
        finally:
            close = getattr(self._frames, "close", None)
            if close:
                close()
        self._put(last)

    def _put(self, item: Frame | BaseException | None) -> bool:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=0.1)
                return True
        return False

    def __iter__(self) -> Iterator[Frame]:
        while True:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
            yield item

    def stop(self) -> None:
        self._stopped.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        self._thread.join()
