"""What footage says about its lens. Reads a few bytes of metadata, decodes no picture; standard library alone.

Cameras state the focal length of a 35 mm camera that sees as much: EXIF (tag 0xA405) in the pictures of a sequence,
Apple's QuickTime key in videos. The physical focal length means something only with the size of the sensor, which EXIF
states as pixels per length on it. Android's cameras and action cameras write neither into their videos.
"""

import io
import os
import re
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from dir_core.errors import FootageError
from dir_core.mp4_index import boxes_in, file_boxes
from dir_core.picture_files import find_pictures

_FULL_FRAME = 36.0  # mm, the long side of the picture that 35 mm equivalents speak of
_SHARES = (0.1, 100.0)  # focal length in long sides of the picture; no lens lies outside

# Bounds on what is read of a file that may be damaged or made up.
_MOST_PIECES = 4096  # segments, chunks, boxes or entries in one row
_LARGEST_EXIF = 2**20  # bytes
_LARGEST_META = 2**20

_KEY = b"com.apple.quicktime.camera.focal_length.35mm_equivalent"
_SIGNED, _UNSIGNED, _REAL, _TEXT = (21, 65, 66, 67, 74), (22, 75, 76, 77, 78), {23: ">f", 24: ">d"}, 1

_EXIF_DIRECTORY, _EQUIVALENT, _FOCAL_LENGTH = 0x8769, 0xA405, 0x920A
_SENSOR_PIXELS, _SENSOR_UNIT, _WIDTH, _HEIGHT = 0xA20E, 0xA210, 0xA002, 0xA003
_UNITS = {2: 25.4, 3: 10.0, 4: 1.0, 5: 1e-3}  # mm; inch is what an absent unit means
_NUMBERS = {3: "H", 4: "I"}
_RATIONAL = 5

_DAMAGE = (OSError, FootageError, ValueError, ArithmeticError, LookupError, struct.error)


def focal_length_from_metadata(path: str | os.PathLike[str], image_size: tuple[int, int]) -> float | None:
    """Focal length in pixels that the metadata of footage states; None if it states none or is damaged.

    Args:
        path: a video or a picture; of an image sequence (folder, pattern or first picture) the first picture counts.
        image_size: width and height of the upright frame in pixels.
    """
    try:
        pictures = find_pictures(Path(path))
        source = pictures[0][1] if pictures else Path(path)
        with source.open("rb") as file:
            share = _read_share(file, source.stat().st_size)
    except _DAMAGE:
        return None
    return None if share is None or not _SHARES[0] <= share <= _SHARES[1] else share * max(image_size)


def _read_share(file: BinaryIO, size: int) -> float | None:
    """Focal length in long sides of the picture."""
    head = file.read(12)
    if head.startswith((b"II*\0", b"MM\0*")):
        return _share_of_exif(file)
    if head.startswith(b"\xff\xd8"):
        exif = _exif_of_jpeg(file)
    elif head.startswith(b"\x89PNG\r\n\x1a\n"):
        exif = _find_chunk(file, b"eXIf", 8, ">I4s", 4)
    elif head[:4] == b"RIFF" and head[8:] == b"WEBP":
        exif = _find_chunk(file, b"EXIF", 12, "<4sI", 0)
    else:
        return _share_of_movie(file, size)
    return None if exif is None else _share_of_exif(io.BytesIO(exif.removeprefix(b"Exif\0\0")))


# --- pictures ------------------------------------------------------------------------------------------------


def _exif_of_jpeg(file: BinaryIO) -> bytes | None:
    position = 2
    for _ in range(_MOST_PIECES):
        file.seek(position)
        mark, kind, length = struct.unpack(">BBH", file.read(4))
        if mark != 0xFF or kind == 0xDA:  # the picture itself begins
            return None
        if kind == 0xE1 and (data := file.read(length - 2)).startswith(b"Exif\0\0"):
            return data
        position += 2 + length
    return None


def _find_chunk(file: BinaryIO, wanted: bytes, position: int, header: str, trailer: int) -> bytes | None:
    """Contents of the first chunk of a kind in a PNG (with a checksum behind each) or RIFF file (of even lengths)."""
    for _ in range(_MOST_PIECES):
        file.seek(position)
        first, second = struct.unpack(header, file.read(8))
        kind, length = (second, first) if isinstance(first, int) else (first, second)
        if kind == wanted:
            return file.read(min(length, _LARGEST_EXIF))
        position += 8 + length + (trailer or length % 2)
    return None


def _share_of_exif(file: BinaryIO) -> float | None:
    """Focal length in long sides of the picture, from a TIFF structure."""
    file.seek(0)
    order = "<" if file.read(2) == b"II" else ">"
    _, start = struct.unpack(order + "HI", file.read(6))
    facts = _read_directory(file, order, start)
    if _EXIF_DIRECTORY in facts:
        facts |= _read_directory(file, order, int(facts[_EXIF_DIRECTORY]))
    if facts.get(_EQUIVALENT):  # 0 stands for unknown
        return facts[_EQUIVALENT] / _FULL_FRAME
    if all(tag in facts for tag in (_FOCAL_LENGTH, _SENSOR_PIXELS, _WIDTH, _HEIGHT)):
        pixels_per_mm = facts[_SENSOR_PIXELS] / _UNITS[int(facts.get(_SENSOR_UNIT, 2))]
        return facts[_FOCAL_LENGTH] * pixels_per_mm / max(facts[_WIDTH], facts[_HEIGHT])
    return None


def _read_directory(file: BinaryIO, order: str, start: int) -> dict[int, float]:
    """The single numbers of a TIFF directory by their tags."""
    file.seek(start)
    (count,) = struct.unpack(order + "H", file.read(2))
    entries = file.read(12 * min(count, _MOST_PIECES))
    numbers: dict[int, float] = {}
    for tag, kind, amount, value in struct.iter_unpack(order + "HHI4s", entries[: len(entries) // 12 * 12]):
        if amount == 1 and kind in _NUMBERS:
            (numbers[tag],) = struct.unpack_from(order + _NUMBERS[kind], value)
        elif amount == 1 and kind == _RATIONAL:
            file.seek(*struct.unpack(order + "I", value))
            above, below = struct.unpack(order + "II", file.read(8))
            if below:
                numbers[tag] = above / below
    return numbers


# --- videos --------------------------------------------------------------------------------------------------


def _share_of_movie(file: BinaryIO, size: int) -> float | None:
    """Focal length in long sides of the picture, from the metadata of a movie or of one of its tracks."""
    for movie_start, movie_end in _find_boxes(file, b"moov", 0, size):
        tracks = _find_boxes(file, b"trak", movie_start, movie_end)
        for start, end in [*tracks, (movie_start, movie_end)]:
            for meta_start, meta_end in _find_boxes(file, b"meta", start, end):
                file.seek(meta_start)
                equivalent = _read_meta(memoryview(file.read(min(meta_end - meta_start, _LARGEST_META))))
                if equivalent:
                    return equivalent / _FULL_FRAME
    return None


def _find_boxes(file: BinaryIO, wanted: bytes, start: int, end: int) -> list[tuple[int, int]]:
    boxes: Iterator[tuple[bytes, int, int]] = islice(file_boxes(file, start, end), _MOST_PIECES)
    return [(first, last) for kind, first, last in boxes if kind == wanted]


def _read_meta(data: memoryview) -> float | None:
    """The 35 mm equivalent that a metadata box states in mm."""
    whole = boxes_in(
        data if bytes(data[4:8]) == b"hdlr" else data[4:]
    )  # in MP4 the box has a version, in QuickTime it has not
    if b"keys" not in whole or b"ilst" not in whole:
        return None
    keys, values = whole[b"keys"][0], boxes_in(whole[b"ilst"][0])
    (count,), position = struct.unpack_from(">I", keys, 4), 8
    for number in range(1, min(count, _MOST_PIECES) + 1):
        (length,) = struct.unpack_from(">I", keys, position)
        if bytes(keys[position + 8 : position + length]) == _KEY:
            return _read_value(boxes_in(values[struct.pack(">I", number)][0])[b"data"][0])
        position += length
    return None


def _read_value(data: memoryview) -> float | None:
    """A number as a data box of QuickTime holds it, also as text such as "26" or "26.00mm"."""
    (kind,), value = struct.unpack_from(">I", data), bytes(data[8:])
    if kind in _SIGNED or kind in _UNSIGNED:
        return float(int.from_bytes(value[:8], "big", signed=kind in _SIGNED))
    if kind in _REAL:
        (number,) = struct.unpack_from(_REAL[kind], value)
        return float(number)
    text = re.match(r"\s*(\d+(?:\.\d+)?)\s*(?:mm)?\s*\Z", value.decode()) if kind == _TEXT else None
    return float(text[1]) if text else None
