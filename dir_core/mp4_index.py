"""What the index of an MP4 or MOV file states about its pictures. Reads boxes only, decodes nothing.

OpenCV tells neither the presented duration nor whether the file was cut off; ISO/IEC 14496-12 boxes do.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_LARGEST_INDEX = 256 * 2**20  # bytes; the index of a ten-hour film is a few MB
_VARIATION = 0.2  # frame durations that differ by more than this part of their mean make a variable rate


@dataclass(frozen=True)
class Mp4Index:
    """The stated facts of one file.

    Attributes:
        has_index: False when the movie box is missing (a recording that was not finished, or a cut file).
        cut_off: True when the last box reaches past the end of the file.
        has_pictures, has_sound: whether there are such tracks.
        frame_count: presented pictures, 0 when the index does not say (fragmented files).
        duration: presented seconds of pictures, edits applied; 0 when unknown.
        frame_rate: average pictures a second; 0 when unknown.
        variable_rate: whether the picture durations differ.
    """

    has_index: bool
    cut_off: bool
    has_pictures: bool = False
    has_sound: bool = False
    frame_count: int = 0
    duration: float = 0.0
    frame_rate: float = 0.0
    variable_rate: bool = False


def read_mp4_index(path: Path) -> Mp4Index | None:
    """Read the index; None when the file is not MP4/MOV or its index is not understood."""
    size = path.stat().st_size
    with path.open("rb") as file:
        kinds: list[bytes] = []
        end, movie = 0, b""
        for kind, start, end in file_boxes(file, 0, size):
            kinds.append(kind)
            if kind == b"moov" and end <= size and end - start < _LARGEST_INDEX:
                file.seek(start)
                movie = file.read(end - start)
    if not kinds or kinds[0] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return None
    cut_off = end > size
    if not movie:
        return Mp4Index(has_index=False, cut_off=cut_off)
    try:
        return _read_movie(memoryview(movie), cut_off)
    except (struct.error, ValueError, ZeroDivisionError):
        return None


def file_boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the contents of the boxes that lie one after the other between two places of a file.

    The last box may reach past `end` in a file that was cut off.
    """
    position = start
    while position + 8 <= end:
        file.seek(position)
        header = file.read(16)
        if len(header) < 8:
            return
        length, kind = struct.unpack_from(">I4s", header)
        contents = position + 8
        if length == 1 and len(header) == 16:
            (length,) = struct.unpack_from(">Q", header, 8)
            contents = position + 16
        elif length == 0:
            length = end - position
        if length < 8:
            return
        position += length
        yield kind, contents, position


def boxes_in(data: memoryview) -> dict[bytes, list[memoryview]]:
    """Contents of the boxes that lie one after the other in `data`, by their kind."""
    found: dict[bytes, list[memoryview]] = {}
    position = 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if length < 8:
            break
        found.setdefault(bytes(kind), []).append(data[position + 8 : position + length])
        position += length
    return found


def _inside(data: memoryview, *way: bytes) -> memoryview:
    for kind in way:
        boxes = boxes_in(data).get(kind)
        if not boxes:
            raise ValueError(f"no box {kind!r}")
        data = boxes[0]
    return data


def _read_movie(movie: memoryview, cut_off: bool) -> Mp4Index:
    movie_scale, _ = _scale_and_duration(_inside(movie, b"mvhd"))
    handlers: dict[bytes, memoryview] = {}
    for track in boxes_in(movie).get(b"trak", []):
        handlers.setdefault(bytes(_inside(track, b"mdia", b"hdlr")[8:12]), track)
    sound = b"soun" in handlers
    if b"vide" not in handlers:
        return Mp4Index(has_index=True, cut_off=cut_off, has_sound=sound)
    track = handlers[b"vide"]
    scale, media_duration = _scale_and_duration(_inside(track, b"mdia", b"mdhd"))
    table = _inside(track, b"mdia", b"minf", b"stbl", b"stts")
    (entries,) = struct.unpack_from(">I", table, 4)
    runs = [struct.unpack_from(">II", table, 8 + 8 * entry) for entry in range(entries)]
    count = sum(number for number, _ in runs)
    duration = media_duration / scale
    rate = count / duration if count and duration else 0.0
    presented = _presented_duration(track, movie_scale)
    if presented is not None and 0 < presented < duration - 0.5 * duration / max(count, 1):
        count, duration = round(count * presented / duration), presented
    # The last picture's duration is often made up by the writer.
    runs = [*runs[:-1], (runs[-1][0] - 1, runs[-1][1])] if runs else []
    steps = [step for number, step in runs if number > 0]
    spread = max(steps, default=0) - min(steps, default=0)
    variable = spread > _VARIATION * sum(steps) / max(len(steps), 1)
    return Mp4Index(True, cut_off, True, sound, count, duration if count else 0.0, rate, variable)


def _scale_and_duration(box: memoryview) -> tuple[int, int]:
    """Ticks a second and ticks of an mvhd or mdhd box."""
    if box[0] == 1:
        return struct.unpack_from(">IQ", box, 20)
    return struct.unpack_from(">II", box, 12)


def _presented_duration(track: memoryview, movie_scale: int) -> float | None:
    """Seconds that the edit list shows, without the empty edits of a late start."""
    edits = boxes_in(track).get(b"edts")
    if not edits:
        return None
    table = _inside(edits[0], b"elst")
    layout = ">Qq4x" if table[0] == 1 else ">Ii4x"
    (entries,) = struct.unpack_from(">I", table, 4)
    shown = [struct.unpack_from(layout, table, 8 + struct.calcsize(layout) * entry) for entry in range(entries)]
    return sum(length for length, media_time in shown if media_time >= 0) / movie_scale
