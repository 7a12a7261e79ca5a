"""Writes pictures as a movie or as one sheet of many. Needs cv2."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dir_core.errors import OutputError
from dir_core.take import write_whole

Array = NDArray[Any]


class MovieWriter:
    """An MPEG-4 movie, written aside; it takes its name when the `with` ends without an error."""

    def __init__(self, path: Path, frame_rate: float):
        self._path, self._frame_rate = path, frame_rate
        self._aside = path.with_name(f".{path.stem}.part.mp4")
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> "MovieWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()
            if kind is None:
                self._aside.replace(self._path)
        self._aside.unlink(missing_ok=True)

    def write(self, picture: Array) -> None:
        """Add a picture [H, W, 3] uint8 RGB; an odd last row or column is cut off, the codec takes none.

        Raises:
            OutputError: the folder cannot be written.
        """
        height, width = (side // 2 * 2 for side in picture.shape[:2])
        if self._writer is None:
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._aside), codec, self._frame_rate, (width, height))
            if not self._writer.isOpened():
                raise OutputError(f"Cannot write a movie into {self._path.parent}, choose another folder.")
        self._writer.write(cv2.cvtColor(picture[:height, :width], cv2.COLOR_RGB2BGR))


def write_sheet(path: Path, cells: Sequence[Array], columns: int) -> None:
    """Write pictures [H, W, 3] uint8 RGB of one size as one PNG, row by row.

    Raises:
        OutputError: the file cannot be written.
    """
    columns = min(columns, len(cells))
    blank = np.zeros_like(cells[0])
    filled = [*cells, *[blank] * (-len(cells) % columns)]
    rows = [np.concatenate(filled[first : first + columns], axis=1) for first in range(0, len(filled), columns)]
    ok, data = cv2.imencode(".png", cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))
    if not ok:
        raise OutputError(f"The contact sheet {path} could not be encoded, report this with what it shows.")
    write_whole(path, data.tobytes())
