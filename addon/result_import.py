"""Runs an import of other programs' results in a process: fitting needs SciPy and seconds, Blender has neither."""

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dir_core.errors import ExchangeError
from dir_core.worker.protocol import python_command, start_child

from . import log
from .processes import own_python

MODULE: Final = "dir_core.commands.exchange"
"""What the process runs."""

_ENDING: Final = 5.0  # seconds that a terminated process gets before it is killed
_LONGEST: Final = 3600.0  # seconds that a Blender without a window waits
_MISTAKE: Final = 2  # exit code of a mistake of the user's, whose sentence is all there is to read


@dataclass(eq=False)
class ResultImport:
    """One import on its way into a take file.

    Attributes:
        take: the file that is written at the end, whole or not at all.
    """

    take: Path
    _process: "subprocess.Popen[bytes]"
    _words: Any
    _mistakes: Any

    def is_done(self) -> bool:
        """Whether the process has ended; costs nothing."""
        return self._process.poll() is not None

    def wait(self) -> None:
        """Wait for the end of the process.

        Raises:
            ExchangeError: it does not end.
        """
        try:
            self._process.wait(_LONGEST)
        except subprocess.TimeoutExpired:
            self.cancel()
            raise ExchangeError("The import does not end, import a shorter clip.") from None

    def sentences(self) -> list[str]:
        """What the import has to say, once it is done: notes, and last what was imported.

        Raises:
            ExchangeError: why there is no take.
        """
        code = self._process.wait()
        words, mistakes = (_read(file) for file in (self._words, self._mistakes))
        if code == 0:
            return words
        if code == _MISTAKE and mistakes:
            raise ExchangeError(mistakes[-1])
        log.LOGGER.error("The import failed with code %s:\n%s", code, "\n".join(mistakes))
        raise ExchangeError("The import was ended by a mistake of the program or from outside, the log says more.")

    def cancel(self) -> None:
        """End the process; nothing is left of it."""
        self._process.terminate()
        try:
            self._process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for left_over in self.take.parent.glob(f".{self.take.name}.*"):
            left_over.unlink(missing_ok=True)


def start_import(results: Path, take: Path, options: Sequence[str]) -> ResultImport:
    """Start an import.

    Args:
        results: the file or folder of the other program.
        take: the file to write.
        options: as on the command line of `import`.

    Raises:
        ExchangeError: the process cannot be started.
    """
    python, paths = own_python()
    command = python_command(python, MODULE, [str(results), "-o", str(take), *options], paths)
    # Files and no pipes: these could fill up, and the process would wait for a reader that only looks at its end.
    words, mistakes = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115 - closed where they are read
    try:
        process = start_child(command, stdin=subprocess.DEVNULL, stdout=words, stderr=mistakes)
    except OSError as error:
        raise ExchangeError(f"Cannot start Python at {python}: {error.strerror}; install Blender again.") from error
    return ResultImport(take, process, words, mistakes)


def _read(file: Any) -> list[str]:
    file.seek(0)
    lines = file.read().decode("utf-8", "replace").splitlines()
    file.close()
    return [line for line in lines if line.strip()]
