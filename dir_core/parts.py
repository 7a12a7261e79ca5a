"""Finished parts of an unfinished capture on disk, so that a cancelled one can go on. No pictures, no networks."""

import hashlib
import io
import json
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.errors import OutputError
from dir_core.take import write_whole

Array = NDArray[Any]

_SEAL = "seal"  # array that says which part of which request this is
_FORMAT = 3  # of the parts; a part of another one is foreign

DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    MemoryError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy and zipfile raise on damaged archives."""


def parts_folder(output: Path) -> Path:
    """Where the parts of a capture lie while it is not finished: beside its output, hidden."""
    return output.parent / f".{output.name}.parts"


class Parts:
    """Numbered parts of one request. Parts of another request in the same folder are thrown away.

    A part is written aside and then renamed, so a killed capture loses at most the part it was working on.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any]):
        """Open the folder.

        Args:
            folder: where the parts lie; made with the first part.
            request: everything the parts depend on, as JSON types.
        """
        text = json.dumps([_FORMAT, request], sort_keys=True, ensure_ascii=False)
        self._folder = folder
        self._digest = hashlib.sha256(text.encode()).hexdigest()
        if folder.is_dir() and self._read_digest() != self._digest:
            self.remove()

    def load(self, number: int) -> dict[str, Array] | None:
        """The arrays of a part, None if it is not finished, damaged or foreign: then it has to be made again."""
        try:
            with np.load(self._path(number), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            return arrays if str(arrays.pop(_SEAL)) == self._seal(number) else None
        except DAMAGE:
            return None

    def save(self, number: int, arrays: Mapping[str, Array]) -> None:
        """Write a part.

        Raises:
            OutputError: the folder cannot be written.
        """
        if not self._folder.is_dir():
            try:
                self._folder.mkdir()
            except OSError as error:
                raise OutputError(f"Cannot write {self._folder}: {error.strerror}; choose another folder.") from error
            write_whole(self._folder / "request", self._digest.encode())
        buffer = io.BytesIO()
        np.savez(buffer, **{_SEAL: np.array(self._seal(number))}, **arrays)  # type: ignore[arg-type]
        write_whole(self._path(number), buffer.getvalue())

    def remove(self) -> None:
        """Throw all parts away."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _seal(self, number: int) -> str:
        return f"{self._digest} {number}"

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.npz"

    def _read_digest(self) -> str:
        try:
            return (self._folder / "request").read_text("ascii")
        except (OSError, UnicodeDecodeError):
            return ""
