"""The files of a job folder, through which Blender and its worker talk. No networks, no video, no Blender.

request.json    what to capture; written by Blender before the worker starts
events.ndjson   what happens, one JSON object a line, only ever added to
chunks/         finished parts of the capture, for going on
preview/        provisional hands of each of them, for looking on
result.npz      the raw take, whole or not at all
worker.log      everything else that the worker has to say
cancel, pause   flag files that Blender makes
lock            held by the worker as long as it lives, touched every second
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dir_core.capture_settings import CaptureSettings
from dir_core.conventions import Side
from dir_core.errors import HandCaptureError, OutputError, SettingsError
from dir_core.parts import DAMAGE
from dir_core.take import write_whole

Array = NDArray[Any]

SCHEMA = "two-hand-job/1"

REQUEST = "request.json"
EVENTS = "events.ndjson"
CHUNKS = "chunks"
PREVIEW = "preview"
RESULT = "result.npz"
LOG = "worker.log"
CANCEL = "cancel"
PAUSE = "pause"
LOCK = "lock"

HEARTBEAT = 1.0
"""Seconds between two touches of the lock file."""

ORPHAN_EXIT = 131
"""Exit code of a process that nobody waits for any more."""

Stage = Literal["started", "preparing", "tracking", "paused", "fitting", "writing", "ended"]
JobState = Literal["new", "running", "stopped", "cancelled", "failed", "done"]

_TAIL = 1 << 16  # bytes of events.ndjson that surely hold the last event
_LOCKED_BYTE = 1 << 30  # beyond the end of the file: Windows lets nobody read bytes that are locked

# The interpreter's own packages come first; what it lacks (dir_core, the bundled wheels) is found in the folders given.
_START = (
    "import runpy, sys; at = sys.argv.index('--'); sys.path += sys.argv[at + 1 :]; module = sys.argv[1]; "
    "sys.argv[:] = sys.argv[:1] + sys.argv[2:at]; runpy.run_module(module, run_name='__main__')"
)


@dataclass(frozen=True)
class JobRequest:
    """What to capture.

    Attributes:
        footage: absolute path of a video, a folder of pictures or a pattern.
        settings: what the user chose.
        output: name that the take is to get in the end; the worker itself only writes result.npz.
    """

    footage: str
    settings: CaptureSettings = field(default_factory=CaptureSettings)
    output: str = ""

    def __post_init__(self) -> None:
        """Refuse a path that means something else in the folder where the worker runs.

        Raises:
            SettingsError: the footage has no absolute path.
        """
        if not Path(self.footage).is_absolute():
            raise SettingsError(f"The path of the footage is {self.footage}, give an absolute one.")

    @property
    def digest(self) -> str:
        """SHA-256 over everything that the result depends on: what may be gone on with has the same one."""
        what = json.dumps([SCHEMA, self.footage, asdict(self.settings)], sort_keys=True)
        return hashlib.sha256(what.encode()).hexdigest()

    def to_json(self) -> str:
        """The text of request.json."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "JobRequest":
        """Read the text of request.json.

        Raises:
            SettingsError: it is damaged, of another version, or asks for what cannot be.
        """
        try:
            values = json.loads(text)
            schema = values.pop("schema")
            if schema == SCHEMA:
                settings = values.pop("settings")
                if settings["box"] is not None:
                    settings["box"] = tuple(settings["box"])
                return cls(settings=CaptureSettings(**settings), **values)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise SettingsError(f"{REQUEST} is damaged ({error}), start the capture again.") from error
        raise SettingsError(f"{REQUEST} is of version {schema}, this program knows {SCHEMA}: start the capture again.")


@dataclass(frozen=True)
class JobError:
    """Why a job ended without a result.

    Attributes:
        code: "cancelled", "busy", "runtime", "defect", or the kind of mistake: "footage", "settings", "output",
            "checkpoint", "handmodel", "take".
        sentence: for the user.
        hint: what can be done now.
    """

    code: str
    sentence: str
    hint: str = ""


@dataclass(frozen=True)
class Event:
    """One line of events.ndjson; every run of a worker begins with stage "started" and, if it can, ends with "ended".

    Attributes:
        time: seconds since 1970.
        stage: what the worker does.
        pid: of the worker, when it started; else 0.
        frame, total: frames done and expected.
        frames_per_second: over the last seconds; 0 while unknown.
        seconds_left: of this stage; None while unknown.
        warnings: new ones, a sentence each.
        error: why the job ended without a result.
        done: result.npz is there.
    """

    time: float
    stage: Stage
    pid: int = 0
    frame: int = 0
    total: int = 0
    frames_per_second: float = 0.0
    seconds_left: float | None = None
    warnings: tuple[str, ...] = ()
    error: JobError | None = None
    done: bool = False

    def to_json(self) -> str:
        """One line, without its end."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> "Event":
        """Read one line.

        Raises:
            ValueError: it is no event.
        """
        try:
            values = json.loads(line)
            error = values.pop("error")
            warnings = tuple(values.pop("warnings"))
            return cls(warnings=warnings, error=None if error is None else JobError(**error), **values)
        except (TypeError, AttributeError, KeyError) as mistake:
            raise ValueError(f"no event: {line}") from mistake


class EventReader:
    """Reads what was added to events.ndjson since the last time."""

    def __init__(self, folder: Path, *, from_end: bool = False):
        """Begin at the first event, or behind the last one that is there now."""
        self._path = folder / EVENTS
        self._offset = _size(self._path) if from_end else 0

    def skip_to_last(self, size: int) -> None:
        """Leave out all but the last bytes."""
        self._offset = max(self._offset, _size(self._path) - size)

    def read(self) -> list[Event]:
        """New events in order. A last line that is still being written waits; damaged lines are left out."""
        size = _size(self._path)
        if size < self._offset:  # another job began in this folder
            self._offset = 0
        if size == self._offset:
            return []
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:  # another program may hold it for a moment, on Windows
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        events = []
        for line in whole.splitlines():
            with suppress(ValueError):  # a worker was killed while it wrote this line; also not UTF-8
                events.append(Event.from_json(line.decode()))
        return events


@dataclass(frozen=True, eq=False)
class PreviewHand:
    """One hand over the n frames of a chunk as it is known while the capture runs.

    Attributes:
        rotation: [n, 16, 4] float32 unit quaternions in MANO joint order, as in a Take; no rotation where not observed.
        translation: [n, 3] float32 wrist in camera axes, metres, of a hand in its mean shape that is as long as the
            settings say; zero where not observed.
        keypoints_2d: [n, 21, 2] float32 pixels of the upright frame; these and what follows are those of the result.
        confidence: [n, 21] float32 in 0..1.
        observed: [n] bool.
    """

    rotation: Array
    translation: Array
    keypoints_2d: Array
    confidence: Array
    observed: Array


@dataclass(frozen=True, eq=False)
class PreviewClip:
    """Both hands over the n frames of a chunk; which is left and which right may still change in the result.

    Attributes:
        time: [n] float64 seconds.
        frame: [n] int64 index in the source.
        camera_matrix: [3, 3] float32 pixels.
        image_size: [2] int64 width and height of the upright frame.
        left, right: the anatomical hands.
    """

    time: Array
    frame: Array
    camera_matrix: Array
    image_size: Array
    left: PreviewHand
    right: PreviewHand

    def hand(self, side: Side) -> PreviewHand:
        """The hand of one side."""
        return self.left if side == "left" else self.right

    def __len__(self) -> int:
        return len(self.time)


class PreviewReader:
    """Reads the previews of finished chunks one after the other, for looking on while the job runs."""

    def __init__(self, folder: Path):
        self._folder = folder / PREVIEW
        self._next = 0

    def read(self) -> PreviewClip | None:
        """The next preview, None while there is none; a damaged one is left out."""
        while True:
            try:
                with np.load(preview_path(self._folder, self._next), allow_pickle=False) as archive:
                    arrays = {name: archive[name] for name in archive.files}
                shared = {name: arrays.pop(name) for name in ("time", "frame", "camera_matrix", "image_size")}
                hands = [PreviewHand(**{name: array[:, hand] for name, array in arrays.items()}) for hand in (0, 1)]
                clip = PreviewClip(**shared, left=hands[0], right=hands[1])
            except OSError:  # not there yet, or held by another program for a moment
                return None
            except DAMAGE:  # it was written whole, so it will not get better
                self._next += 1
                continue
            self._next += 1
            return clip


def preview_path(folder: Path, number: int) -> Path:
    """The file of the preview of one chunk."""
    return folder / f"{number:06d}.npz"


def write_preview(path: Path, clip: PreviewClip) -> None:
    """Write the preview of a chunk, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot write {path.parent}: {error.strerror}; choose another folder.") from error
    arrays = {
        "time": clip.time,
        "frame": clip.frame,
        "camera_matrix": clip.camera_matrix,
        "image_size": clip.image_size,
        **{
            each.name: np.stack([getattr(clip.left, each.name), getattr(clip.right, each.name)], axis=1)
            for each in fields(PreviewHand)
        },
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_whole(path, buffer.getvalue())


class JobLock:
    """A lock on a job folder that the system takes back when its process ends, however it ends."""

    def __init__(self, folder: Path):
        self._path = folder / LOCK
        self._file: IO[bytes] | None = None

    def acquire(self, patience: float = 1.0) -> bool:
        """Take the lock, unless another process holds it for longer than `patience` seconds.

        Raises:
            OutputError: the folder cannot be written.
        """
        try:
            file = self._path.open("ab")
        except OSError as error:
            raise OutputError(f"Cannot write {self._path}: {error.strerror}; choose another folder.") from error
        give_up = time.monotonic() + patience
        while not _try_lock(file):  # who only asks whether somebody holds it does so for an instant
            if time.monotonic() > give_up:
                file.close()
                return False
            time.sleep(0.05)
        self._file = file
        return True

    def touch(self) -> None:
        """Show that the process still moves."""
        with suppress(OSError):
            os.utime(self._path)

    def release(self) -> None:
        """Give the lock back."""
        if self._file:
            self._file.close()
            self._file = None


# --- what Blender does ---------------------------------------------------------------------------------------


def make_job(folder: Path, request: JobRequest) -> None:
    """Make a job folder, or take one again: for the same request its finished chunks and its result stay.

    Raises:
        OutputError: the folder cannot be written, or a worker runs in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot make {folder}: {error.strerror}; choose another folder.") from error
    _refuse_running(folder)
    try:
        same = read_request(folder).digest == request.digest
    except HandCaptureError:
        same = False
    if not same:
        shutil.rmtree(folder / PREVIEW, ignore_errors=True)
        shutil.rmtree(folder / CHUNKS, ignore_errors=True)
        for name in (EVENTS, RESULT, LOG):
            _remove(folder / name)
    set_flag(folder, CANCEL, False)
    set_flag(folder, PAUSE, False)
    write_whole(folder / REQUEST, request.to_json().encode())


def read_request(folder: Path) -> JobRequest:
    """What a job was asked to do.

    Raises:
        SettingsError: there is no such request, or it is damaged.
    """
    try:
        text = (folder / REQUEST).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"There is no readable {REQUEST} in {folder}, start the capture again.") from error
    return JobRequest.from_json(text)


def python_command(
    python: str | os.PathLike[str],
    module: str,
    arguments: Sequence[str | os.PathLike[str]],
    paths: Sequence[str | os.PathLike[str]] = (),
) -> list[str]:
    """The command line that runs a module of this program, in Python's isolated mode.

    Args:
        python: the interpreter.
        module: such as "dir_core.worker".
        arguments: what it is given; none is "--".
        paths: folders in which dir_core and the packages lie that `python` does not have by itself, as Blender's own
            Python or a virtual environment with nothing but torch.
    """
    given = [os.fspath(each) for each in arguments]
    start = (
        ["-c", _START, module, *given, "--", *(os.fspath(path) for path in paths)] if paths else ["-m", module, *given]
    )
    return [os.fspath(python), "-I", "-X", "utf8", *start]


def worker_command(
    python: str | os.PathLike[str], folder: Path, paths: Sequence[str | os.PathLike[str]] = ()
) -> list[str]:
    """The command line of the worker of a job folder; see `python_command`."""
    return python_command(python, "dir_core.worker", [folder.absolute()], paths)


def worker_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """An environment without what Blender or the user's shell set for another Python."""
    foreign = ("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV")
    return {
        name: value
        for name, value in environment.items()
        if not name.upper().startswith("PYTHON") and name.upper() not in foreign
    }


def start_child(
    command: Sequence[str], environment: Mapping[str, str] = os.environ, **options: Any
) -> "subprocess.Popen[bytes]":
    """Start a process of this program beside Blender.

    Args:
        command: see `python_command`.
        environment: for the process, before what is meant for another Python is taken out.
        options: streams and folder, as `subprocess.Popen` takes them.

    Raises:
        OSError: the interpreter cannot be started.
    """
    return subprocess.Popen(  # noqa: S603 - the command is ours
        command,
        env=worker_environment(environment),
        start_new_session=True,  # Ctrl-C in Blender's terminal is not meant for it
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        **options,
    )


def end_with_parent() -> None:
    """Wait for the end of standard input, as that means that nobody waits for this process any more, and end it."""
    with suppress(OSError):  # there never was a standard input
        while os.read(0, 4096):
            pass
    os._exit(ORPHAN_EXIT)


def start_worker(
    python: str | os.PathLike[str],
    folder: Path,
    paths: Sequence[str | os.PathLike[str]] = (),
    environment: Mapping[str, str] = os.environ,
) -> "subprocess.Popen[bytes]":
    """Start the worker of a job folder. It goes on where an earlier one was stopped.

    Keep the process: while its `stdin` stays open the worker knows that its parent lives.

    Args:
        python, paths: see `worker_command`.
        folder: see `make_job`.
        environment: for the worker, before what is meant for another Python is taken out.

    Raises:
        OutputError: the folder cannot be written, or a worker runs in it.
        SettingsError: the interpreter cannot be started.
    """
    _refuse_running(folder)
    set_flag(folder, CANCEL, False)
    set_flag(folder, PAUSE, False)
    try:
        log = (folder / LOG).open("ab")
    except OSError as error:
        raise OutputError(f"Cannot write {folder / LOG}: {error.strerror}; choose another folder.") from error
    with log:
        try:
            return start_child(
                worker_command(python, folder, paths),
                environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=folder,
            )
        except OSError as error:
            raise SettingsError(
                f"Cannot start {os.fspath(python)}: {error.strerror}; set the runtime up again."
            ) from error


def set_flag(folder: Path, name: str, wanted: bool) -> None:
    """Make or remove one of the flags CANCEL and PAUSE.

    Raises:
        OutputError: the folder cannot be written.
    """
    if wanted:
        try:
            (folder / name).touch()
        except OSError as error:
            raise OutputError(f"Cannot write {folder / name}: {error.strerror}.") from error
    else:
        _remove(folder / name)


def job_state(folder: Path) -> JobState:
    """What became of a job, also one that an earlier Blender started.

    "stopped" is a job whose worker was killed, or lost its parent; like "cancelled" and "failed" it can go on.
    """
    if is_running(folder):
        return "running"
    if (folder / RESULT).is_file():
        return "done"
    if (folder / CANCEL).exists():
        return "cancelled"
    last = _last_event(folder)
    if last is None:
        return "new"
    error = last.error
    return "stopped" if error is None else "cancelled" if error.code == "cancelled" else "failed"


def _last_event(folder: Path) -> Event | None:
    reader = EventReader(folder)
    reader.skip_to_last(_TAIL)
    events = reader.read()
    return events[-1] if events else None


def is_running(folder: Path) -> bool:
    """Whether a worker holds the folder's lock."""
    try:
        with (folder / LOCK).open("r+b") as file:
            return not _try_lock(file)
    except OSError:
        return False


def seconds_since_heartbeat(folder: Path) -> float:
    """How long ago the worker showed that it moves; more than a few seconds while it is running: it hangs."""
    try:
        return max(time.time() - (folder / LOCK).stat().st_mtime, 0.0)
    except OSError:
        return float("inf")


def _refuse_running(folder: Path) -> None:
    if is_running(folder):
        raise OutputError(f"Another worker captures in {folder}, wait for it or cancel it.")


def _try_lock(file: IO[bytes]) -> bool:
    """Take the lock if it is free; it goes with the file or the process."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(_LOCKED_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _remove(path: Path) -> None:
    """Remove a file of ours, if it is there: a read-only disk refuses also what it would not have to do.

    Raises:
        OutputError: it is there and cannot be removed.
    """
    if not path.exists():
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot remove {path}: {error.strerror}; close what uses it.") from error
