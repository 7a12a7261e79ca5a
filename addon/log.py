"""What went wrong and what was done, in a file of the user's and as the last sentence shown in the panels."""

import logging
import logging.handlers
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import bpy

LOGGER: Final = logging.getLogger("two_hand_capture")
"""Everything of the add-on that is no report to the user goes here."""

_FILE_NAME: Final = "two_hand_capture.log"
_SIZE: Final = 1_000_000  # bytes, then one older file is kept
_FORMAT: Final = "%(asctime)s %(levelname)s %(message)s"


@dataclass(frozen=True)
class Mistake:
    """The last thing that could not be done.

    Attributes:
        sentence: for the user.
        log: the file that says more.
    """

    sentence: str
    log: Path


_last: Mistake | None = None
_handler: logging.Handler | None = None


def user_folder(name: str = "") -> Path:
    """A folder of the user's that belongs to this add-on and outlives its updates; made if it is missing."""
    package = __package__ or ""
    if package.startswith("bl_ext."):
        return Path(bpy.utils.extension_path_user(package, path=name, create=True))
    # Loaded from a checkout and not as an extension: tests and the command line.
    folder = Path(bpy.utils.user_resource("DATAFILES", path="two_hand_capture", create=True)) / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def log_path() -> Path:
    """The add-on's log file."""
    return user_folder() / _FILE_NAME


def last_mistake() -> Mistake | None:
    """What the panels show until something works again or the user closes it."""
    return _last


def note_mistake(sentence: str, log: Path | None = None) -> None:
    """Keep a sentence for the panels and the log; `log` is the file that says more, if it is another one."""
    global _last  # noqa: PLW0603 - one last mistake for the whole program
    _last = Mistake(sentence, log or log_path())
    LOGGER.error(sentence)


def forget_mistake() -> None:
    """Nothing is wrong any more."""
    global _last  # noqa: PLW0603 - see note_mistake
    _last = None


def register() -> None:
    """Begin to write the log; without a place for it, the console has to do."""
    global _handler  # noqa: PLW0603 - removed again by unregister
    try:
        _handler = logging.handlers.RotatingFileHandler(log_path(), maxBytes=_SIZE, backupCount=1, encoding="utf-8")
    except OSError:
        _handler = logging.StreamHandler()
    _handler.setFormatter(logging.Formatter(_FORMAT))
    LOGGER.addHandler(_handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


def unregister() -> None:
    """Close the log."""
    global _handler  # noqa: PLW0603 - see register
    if _handler is not None:
        LOGGER.removeHandler(_handler)
        _handler.close()
        _handler = None
    forget_mistake()
