"""`python -I -m dir_core.worker.clean_up FOLDER`: keeps raw takes and hand models in memory and cleans them on request.

FOLDER is that of one client (clean_up_client.py). The process ends when standard input does, as that means that its
parent is gone or wants no more of it; whatever it was doing then, files are written whole or not at all.
"""

import faulthandler
import importlib.util
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import numpy as np

from dir_core.clean_up.key_reduction import KeyReduction, reduce_position_keys, reduce_rotation_keys
from dir_core.clean_up.problems import find_problems, find_touches, review_rows, sort_problems
from dir_core.conventions import SIDES, Side
from dir_core.errors import HandCaptureError, OutputError, SettingsError
from dir_core.hand_model import HandModel
from dir_core.take import HandTrack, Take, load_take
from dir_core.take_models import take_hand_models
from dir_core.worker.clean_up_client import (
    HOME_PREFIX,
    LOG,
    WRITE_EXIT,
    CleanUpAnswer,
    CleanUpRequest,
    ReducedHand,
    newest_request,
    take_request,
    write_answer,
    write_error,
)
from dir_core.worker.protocol import ORPHAN_EXIT, JobLock, is_running

_KEPT = 2  # raw takes in memory, so that going to and fro between two costs nothing
_NEEDED: Final = ("scipy",)  # what the clean-up imports besides numpy, which this file could not be read without
_YOUNG = 60.0  # seconds; a folder that is not locked yet may be one that is just being made


class Outdated(Exception):  # noqa: N818 - nothing went wrong
    """A newer request lies there, so nobody waits for this answer any more."""


def main(arguments: list[str]) -> int:
    """Answer the requests in one folder until nobody is there to ask any more."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("Give the folder of one client.", file=sys.stderr)
        return HandCaptureError.exit_code
    faulthandler.enable()
    home, awake = Path(arguments[0]).absolute(), threading.Event()
    os.chdir(home.parent)  # a folder that somebody stands in cannot be removed on Windows
    lock = JobLock(home)
    if not lock.acquire():
        print(f"Another process cleans up in {home}.", file=sys.stderr)
        return HandCaptureError.exit_code
    threading.Thread(target=_listen, args=(home, lock, awake), name="parent", daemon=True).start()
    _remove_left_overs(home)
    desk = Desk()
    while awake.wait():
        awake.clear()
        while number := newest_request(home):
            try:
                _serve(desk, home, number)
            except OutputError:  # then the log has no room for words either
                return WRITE_EXIT
    return 0


def _listen(home: Path, lock: JobLock, awake: threading.Event) -> None:
    """Wake the main thread for every byte on standard input, and end with it."""
    with suppress(OSError):  # there never was a standard input, so nobody waits for an answer
        while os.read(0, 4096):
            awake.set()
    lock.release()
    shutil.rmtree(home, ignore_errors=True)
    os._exit(ORPHAN_EXIT)


def _remove_left_overs(home: Path) -> None:
    """Remove the folders of processes that were killed."""
    for other in home.parent.glob(f"{HOME_PREFIX}*"):
        with suppress(OSError):
            if other != home and time.time() - other.stat().st_mtime > _YOUNG and not is_running(other):
                shutil.rmtree(other, ignore_errors=True)


def _serve(desk: "Desk", home: Path, number: int) -> None:
    """Answer one request, unless nobody waits for the answer any more.

    Raises:
        OutputError: there is no room even for the news that there is no room.
    """
    try:
        request, only_warm = take_request(home, number)
        opened = desk.open(request)
        if not only_warm:
            write_answer(home, number, opened.answer(request, partial(_check, home)))
    except Outdated:
        pass
    except HandCaptureError as error:
        write_error(home, number, str(error))
    except MemoryError:
        write_error(home, number, "There is not enough memory for the clean-up, close other programs.")
    except Exception as error:  # a defect, of which the user shall hear and the process not die
        with suppress(OSError):
            traceback.print_exc()
        name = type(error).__name__
        write_error(home, number, f"The clean-up failed ({name}), what happened is written in {home / LOG}.")


def _check(home: Path) -> None:
    """End work that nobody waits for.

    Raises:
        Outdated: a newer request lies there.
    """
    if newest_request(home):
        raise Outdated


class Desk:
    """Keeps the takes that were asked for last."""

    def __init__(self) -> None:
        self._open = lru_cache(_KEPT)(lambda raw, hand_model, _stamps: _open_take(raw, hand_model))

    def open(self, request: CleanUpRequest) -> "OpenTake":
        """The raw take of a request; a file that has changed is read again.

        Raises:
            HandCaptureError: the take or its hand model cannot be used, or a library is missing.
        """
        for library in _NEEDED:
            if importlib.util.find_spec(library) is None:
                raise SettingsError(f"The clean-up needs {library}, which is missing: install the add-on's zip again.")
        return self._open(request.raw, request.hand_model, request.stamps)


class OpenTake:
    """A raw take with its hand models, ready to be cleaned."""

    def __init__(self, raw: Take, models: dict[Side, HandModel]):
        from dir_core.clean import CleanUp  # needs SciPy, whose absence can be told by now

        self._clean_up = CleanUp(raw, models)
        # Keys are what the clean-up remembers too, so the same corrections come back as the same object.
        self._find = lru_cache(_KEPT)(
            lambda corrected, edits: find_problems(corrected.take, models, corrected.repair, edits)
        )

    def answer(self, request: CleanUpRequest, check: Callable[[], None]) -> CleanUpAnswer:
        """Clean the take.

        Raises:
            HandCaptureError: the request does not fit the take.
            Outdated: from `check`.
        """
        cleaned = self._clean_up.clean(request.settings, request.edits, Path(request.raw))
        corrected, contact = cleaned.corrected, cleaned.contact
        touches = find_touches(corrected.take, None if contact is None else contact.before.between)
        return CleanUpAnswer(
            request=request,
            take=cleaned.take,
            rows=review_rows(cleaned.take, corrected.repair.swapped),
            problems=sort_problems([*self._find(corrected, request.edits), *touches]),
            sentences=tuple(cleaned.report.sentences()),
            reduced=None if request.reduce is None else reduce_take(cleaned.take, request.reduce, check),
        )


def reduce_take(take: Take, bounds: KeyReduction, check: Callable[[], None]) -> dict[Side, ReducedHand]:
    """The fewest keys for both hands, in the take's own axes and seconds.

    Args:
        take: whose hands are keyed.
        bounds: how far bones may be off.
        check: called many times a second; what it raises ends the work.
    """

    def reduced(hand: HandTrack) -> ReducedHand:
        turns = reduce_rotation_keys(hand.rotation.astype(np.float64), take.time, bounds.angle, check)
        places = reduce_position_keys(hand.translation.astype(np.float64)[:, None], take.time, bounds.distance, check)
        return ReducedHand(tuple(turns), places[0])

    with ThreadPoolExecutor(len(SIDES)) as pool:  # numpy lets both hands run side by side
        return dict(zip(SIDES, pool.map(reduced, map(take.hand, SIDES)), strict=True))


def _open_take(raw: str, hand_model: str | None) -> OpenTake:
    """Load a raw take and its hand models.

    Raises:
        HandCaptureError: the take or its hand model cannot be used.
    """
    take = load_take(raw)
    try:
        models = take_hand_models(take, hand_model)
    except (SettingsError, ImportError) as error:
        raise SettingsError(
            f"{raw} was captured with the DIR network, whose checkpoint holds the hand model: "
            "set up the GPU runtime to clean it."
        ) from error
    return OpenTake(take, models)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
