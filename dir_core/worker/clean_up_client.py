"""Asks a clean-up process and reads its answers: what Blender imports. numpy and the standard library only.

Requests and answers are files in a folder of the client's own, written aside and renamed. One byte on the process's
standard input says that a request lies there; the process takes the newest. Nothing here waits for it: the pipe holds
more bytes than are ever sent to a process that does not answer, and how long a file is does not matter.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import __version__
from dir_core.clean_up import edits as user_edits
from dir_core.clean_up.edits import Edit
from dir_core.clean_up.key_reduction import KeyReduction, ReducedCurve
from dir_core.clean_up.problems import Problem, ReviewRows, review_rows
from dir_core.clean_up.settings import CleanUpSettings, settings_from_json
from dir_core.conventions import SIDES, Side
from dir_core.errors import HandCaptureError, OutputError, SettingsError
from dir_core.parts import DAMAGE
from dir_core.take import Take, pack_take, unpack_take, write_whole
from dir_core.worker.protocol import python_command, start_child

Array = NDArray[Any]

MODULE: Final = "dir_core.worker.clean_up"
"""What the process runs."""

SCHEMA: Final = "two-hand-clean-up/1"
HOME_PREFIX: Final = "clean-up-"
"""Of the folders that clients make for themselves."""
LOG: Final = "clean_up.log"
WRITE_EXIT: Final = 74
"""Exit code of a process that cannot write an answer, not even that it cannot."""

_REQUEST, _ANSWER = "request-{:06d}.json", "answer-{:06d}.npy"
_PATIENCE = 600.0  # seconds; a reduction of ten minutes takes two
_UNREAD_WAKES = 1000  # a pipe holds 4096 bytes at least
_ENDING = 1.0  # seconds that a process gets to end by itself; it needs some milliseconds
_POLL = 0.005


@dataclass(frozen=True)
class CleanUpRequest:
    """What to make of a raw take.

    Attributes:
        raw: absolute path of the raw take.
        settings: what the user chose.
        edits: the user's corrections, in order.
        reduce: also find the fewest keys within these bounds.
        hand_model: folder of MANO files; None for the model that the take itself names, or else the open hand.
    """

    raw: str
    settings: CleanUpSettings = field(default_factory=CleanUpSettings)
    edits: tuple[Edit, ...] = ()
    reduce: KeyReduction | None = None
    hand_model: str | None = None

    def __post_init__(self) -> None:
        """Refuse paths that mean something else in the folder where the process runs.

        Raises:
            SettingsError: a path is not absolute.
        """
        for path in filter(None, (self.raw, self.hand_model)):
            if not Path(path).is_absolute():
                raise SettingsError(f"The path is {path}, give an absolute one.")

    @property
    def digest(self) -> str:
        """SHA-256, hex, over everything that the answer depends on: the same in every session."""
        used = [__version__, self.to_json(), *self.stamps]
        return hashlib.sha256(json.dumps(used).encode()).hexdigest()

    @property
    def stamps(self) -> tuple[str, str]:
        """Sizes and times of the raw take and of the files in the folder of the hand model, as they are now."""
        models = Path(self.hand_model) if self.hand_model else None
        try:
            inside = sorted(models.iterdir()) if models else []
        except OSError:
            inside = []
        return _stamp(Path(self.raw)), " ".join(f"{path.name} {_stamp(path)}" for path in inside)

    def to_json(self) -> str:
        """The text of a request's file."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "raw": self.raw,
                "settings": self.settings.as_json(),
                "edits": user_edits.as_json(self.edits),
                "reduce": None if self.reduce is None else asdict(self.reduce),
                "hand_model": self.hand_model,
            },
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> "CleanUpRequest":
        """Read the text of a request's file.

        Raises:
            SettingsError: it is damaged, of another version, or asks for what cannot be.
        """
        try:
            values = json.loads(text)
            if values["schema"] != SCHEMA:
                raise ValueError(f"its version is {values['schema']}")
            reduce = values["reduce"]
            return cls(
                raw=values["raw"],
                settings=settings_from_json(values["settings"]),
                edits=user_edits.from_json(values["edits"]),
                reduce=None if reduce is None else KeyReduction(**reduce),
                hand_model=values["hand_model"],
            )
        except (ValueError, TypeError, KeyError) as error:
            raise SettingsError(f"The request for a clean-up is damaged ({error}), change a setting again.") from error


@dataclass(frozen=True, eq=False)
class ReducedHand:
    """The keys of one hand in the take's own axes and seconds; see `key_reduction.map_curve`.

    Attributes:
        rotations: a curve of quaternions for each of the 16 joints, in MANO order.
        position: of the wrist, metres in camera axes.
    """

    rotations: tuple[ReducedCurve, ...]
    position: ReducedCurve


@dataclass(frozen=True, eq=False)
class CleanUpAnswer:
    """What came of a request.

    Attributes:
        request: the one that is answered.
        take: the clean take; None with an error.
        rows: for the review strip, per side.
        problems: where to look, by time.
        sentences: what was done.
        reduced: the keys per side, if they were asked for.
        error: one sentence; "" if all went well.
    """

    request: CleanUpRequest
    take: Take | None = None
    rows: Mapping[Side, ReviewRows] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    sentences: tuple[str, ...] = ()
    reduced: Mapping[Side, ReducedHand] | None = None
    error: str = ""


class CleanUpClient:
    """Starts a clean-up process when it is needed and talks to it. No call but `wait` and `close` ever waits."""

    def __init__(
        self,
        python: str | os.PathLike[str],
        folder: str | os.PathLike[str],
        paths: Sequence[str | os.PathLike[str]] = (),
        patience: float = _PATIENCE,
    ):
        """Nothing is started or written yet.

        Args:
            python, paths: see `protocol.python_command`.
            folder: where the client makes a folder of its own; several clients may share it.
            patience: seconds without an answer after which the process counts as hung.
        """
        self._python, self._folder, self._paths, self._patience = python, Path(folder).absolute(), paths, patience
        self._home: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0
        self._asked: dict[int, CleanUpRequest] = {}
        self._moved = 0.0  # when something was asked or answered last
        self._unread = 0
        self._failed: CleanUpAnswer | None = None

    @property
    def is_busy(self) -> bool:
        """Whether an answer is still to come."""
        return bool(self._asked or self._failed)

    def ask(self, request: CleanUpRequest) -> None:
        """Ask for a clean-up. The newest request wins: one that was not begun yet gets no answer any more."""
        self._failed = None
        try:
            self._send(request.to_json())
        except HandCaptureError as error:
            self._asked.clear()
            self._failed = CleanUpAnswer(request, error=str(error))
            return
        if not self._asked:
            self._moved = time.monotonic()
        self._asked[self._number] = request

    def warm(self, raw: str, hand_model: str | None = None) -> None:
        """Let the process start and load a raw take, so that the first answer comes sooner. Errors wait for `ask`."""
        if not self._asked:
            with suppress(HandCaptureError):
                self._send(json.dumps({**json.loads(CleanUpRequest(raw, hand_model=hand_model).to_json()), "warm": 1}))

    def poll(self) -> CleanUpAnswer | None:
        """The newest answer that is there, once; None while there is none."""
        if self._failed:
            answer, self._failed = self._failed, None
            return answer
        if not self._asked or self._home is None:
            return None
        ended = self._process is None or self._process.poll() is not None  # looked at before its last answer is
        number = max((n for n in _numbers(self._home, _ANSWER) if n in self._asked), default=0)
        if number:
            return self._take_answer(self._home, number)
        if ended:
            return self._give_up(self._why_ended(self._home))
        if time.monotonic() - self._moved > self._patience:
            self._kill()
            return self._give_up(f"The clean-up gave no answer for {self._patience:.0f} s and was ended, try again.")
        return None

    def wait(self, seconds: float) -> CleanUpAnswer | None:
        """The answer to the newest request, or the last one that came within `seconds`; for use without a window."""
        end, last = time.monotonic() + seconds, None
        while self.is_busy and time.monotonic() < end:
            last = self.poll() or last
            if self.is_busy:
                time.sleep(_POLL)
        return last

    def close(self) -> None:
        """End the process and remove its files; what was asked gets no answer."""
        self._asked.clear()
        self._failed = None
        if self._process:
            with suppress(OSError):
                self._stdin().close()
            try:
                self._process.wait(_ENDING)
            except subprocess.TimeoutExpired:
                self._kill()
            self._process = None
        if self._home:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def _send(self, text: str) -> None:
        """Lay a request down and wake the process.

        Raises:
            OutputError: the folder cannot be written.
            SettingsError: the interpreter cannot be started.
        """
        home = self._make_home()
        self._number += 1
        write_whole(home / _REQUEST.format(self._number), text.encode())
        if self._process is None or self._process.poll() is not None:
            self._start(home)
        if self._unread < _UNREAD_WAKES:  # else it hangs, and finds the request if it ever goes on
            self._unread += 1
            with suppress(OSError):  # it has just ended: `poll` will tell
                self._stdin().write(b"\n")

    def _make_home(self) -> Path:
        try:
            if self._home is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._home = Path(tempfile.mkdtemp(prefix=HOME_PREFIX, dir=self._folder))
            self._home.mkdir(parents=True, exist_ok=True)  # another Blender may have cleared up
        except OSError as error:
            raise OutputError(f"Cannot write into {self._folder}: {error.strerror}; choose another folder.") from error
        return self._home

    def _start(self, home: Path) -> None:
        self._kill()
        try:
            log = (home / LOG).open("wb")
        except OSError as error:
            raise OutputError(f"Cannot write {home / LOG}: {error.strerror}; choose another folder.") from error
        with log:
            try:
                self._process = start_child(
                    python_command(self._python, MODULE, [home], self._paths),
                    stdin=subprocess.PIPE,
                    bufsize=0,
                    stdout=log,
                    stderr=log,
                    cwd=home,
                )
            except OSError as error:
                raise SettingsError(
                    f"Cannot start {os.fspath(self._python)}: {error.strerror}; install the add-on again."
                ) from error
        self._unread = 0

    def _stdin(self) -> Any:
        return self._process.stdin if self._process else io.BytesIO()

    def _kill(self) -> None:
        if self._process:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDING)
            with suppress(OSError):
                self._stdin().close()
            self._process = None

    def _take_answer(self, home: Path, number: int) -> CleanUpAnswer:
        request = self._asked[number]
        answer = read_answer(home / _ANSWER.format(number), request)
        for old in _numbers(home, _ANSWER):
            if old <= number:
                with suppress(OSError):
                    (home / _ANSWER.format(old)).unlink()
        self._asked = {n: asked for n, asked in self._asked.items() if n > number}
        self._moved, self._unread = time.monotonic(), 0
        return answer

    def _give_up(self, sentence: str) -> CleanUpAnswer:
        request = self._asked[max(self._asked)]
        self._asked.clear()
        return CleanUpAnswer(request, error=sentence)

    def _why_ended(self, home: Path) -> str:
        code = self._process.returncode if self._process else None
        if code == WRITE_EXIT:
            return f"Cannot write into {home}, make room on that disk."
        last = f"exit code {code}"
        with suppress(OSError):
            lines = (home / LOG).read_text("utf-8", errors="replace").split("\n")
            last = next((line.strip().rstrip(".") for line in reversed(lines) if line.strip()), last)
        return f"The clean-up process ended by itself ({last}), change a setting to start it again."


# --- the files, for both sides -------------------------------------------------------------------------------


def newest_request(home: Path) -> int:
    """Number of the newest request that lies in the folder, 0 if there is none."""
    return max(_numbers(home, _REQUEST), default=0)


def take_request(home: Path, number: int) -> tuple[CleanUpRequest, bool]:
    """A request and whether the process should only get ready for it; it and older ones are removed.

    Raises:
        SettingsError: the request is damaged.
    """
    try:
        text = (home / _REQUEST.format(number)).read_text("utf-8")
    except OSError as error:
        raise SettingsError(f"The request for a clean-up cannot be read ({error.strerror}), try again.") from error
    finally:
        for old in _numbers(home, _REQUEST):
            if old <= number:
                with suppress(OSError):
                    (home / _REQUEST.format(old)).unlink()
    return CleanUpRequest.from_json(text), "warm" in json.loads(text)


def write_answer(home: Path, number: int, answer: CleanUpAnswer) -> None:
    """Write the answer to a request, whole or not at all.

    Raises:
        OutputError: the disk is full, or the folder gone.
    """
    arrays: dict[str, Array] = {}
    if answer.take is not None:
        arrays = pack_take(answer.take) | {"exchanged": answer.rows["left"].exchanged}
    for side, hand in (answer.reduced or {}).items():
        arrays |= _pack_curves(f"keys/{side}/rotations", hand.rotations)
        arrays |= _pack_curves(f"keys/{side}/position", (hand.position,))
    problems = [asdict(problem) for problem in answer.problems]
    _write(home, number, arrays, {"problems": problems, "sentences": answer.sentences, "error": answer.error})


def write_error(home: Path, number: int, sentence: str) -> None:
    """Answer a request with an error.

    Raises:
        OutputError: the disk is full, or the folder gone.
    """
    _write(home, number, {}, {"problems": [], "sentences": [], "error": sentence})


def _write(home: Path, number: int, arrays: Mapping[str, Array], said: Mapping[str, Any]) -> None:
    named = {**arrays, "answer": np.array(json.dumps(said))}
    # One record: Blender reads it in a third of the time that an archive takes.
    record = np.zeros(1, np.dtype([(name, array.dtype, array.shape) for name, array in named.items()], align=True))
    for name, array in named.items():
        record[name] = array
    buffer = io.BytesIO()
    np.save(buffer, record, allow_pickle=False)
    write_whole(home / _ANSWER.format(number), buffer.getvalue())


def read_answer(path: Path, request: CleanUpRequest) -> CleanUpAnswer:
    """The answer in a file; a damaged file is an answer with an error."""
    try:
        record = np.load(path, allow_pickle=False)[0]
        arrays = {name: record[name] for name in record.dtype.names}
        said = json.loads(str(arrays["answer"]))
        take = unpack_take(arrays, "The answer of the clean-up") if "time" in arrays else None
        return CleanUpAnswer(
            request=request,
            take=take,
            rows={} if take is None else review_rows(take, arrays["exchanged"]),
            problems=tuple(Problem(**problem) for problem in said["problems"]),
            sentences=tuple(said["sentences"]),
            reduced=_unpack_hands(arrays) if "keys/left/position/rows" in arrays else None,
            error=said["error"],
        )
    except (*DAMAGE, HandCaptureError) as error:
        return CleanUpAnswer(request, error=f"The answer of the clean-up is damaged ({error}), try again.")


def _stamp(path: Path) -> str:
    """What tells the states of a file apart; "" if it is not there."""
    try:
        state = path.stat()
    except OSError:
        return ""
    return f"{state.st_size} {state.st_mtime_ns}"


def _numbers(home: Path, pattern: str) -> list[int]:
    begin, end = pattern.split("{:06d}")
    try:
        names = os.listdir(home)  # noqa: PTH208 - asked every tick, and a Path for each name takes longer
    except OSError:
        return []
    numbers = (name[len(begin) : -len(end)] for name in names if name.startswith(begin) and name.endswith(end))
    return [int(number) for number in numbers if number.isdecimal()]


def _pack_curves(name: str, curves: Sequence[ReducedCurve]) -> dict[str, Array]:
    """The curves' keys one after the other, and how many each has."""
    arrays = {
        f"{name}/{part.name}": np.concatenate([getattr(curve, part.name) for curve in curves])
        for part in fields(ReducedCurve)
    }
    return arrays | {f"{name}/count": np.array([len(curve.rows) for curve in curves])}


def _unpack_curves(arrays: Mapping[str, Array], name: str) -> tuple[ReducedCurve, ...]:
    ends = np.cumsum(arrays[f"{name}/count"])[:-1]
    parts = {part.name: np.split(arrays[f"{name}/{part.name}"], ends) for part in fields(ReducedCurve)}
    return tuple(ReducedCurve(**dict(zip(parts, curve, strict=True))) for curve in zip(*parts.values(), strict=True))


def _unpack_hands(arrays: Mapping[str, Array]) -> dict[Side, ReducedHand]:
    return {
        side: ReducedHand(
            _unpack_curves(arrays, f"keys/{side}/rotations"), _unpack_curves(arrays, f"keys/{side}/position")[0]
        )
        for side in SIDES
    }
