"""Focal length from metadata: files made up byte by byte, damaged ones, and ones that say nothing."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from dir_core import footage_facts
from dir_core.footage_facts import focal_length_from_metadata
from dir_core.mp4_index import read_mp4_index

CLIPS = Path(__file__).parents[1] / "data" / "footage"
SIZE = (1080, 1920)  # upright, so the long side is the height
KEY = b"com.apple.quicktime.camera.focal_length.35mm_equivalent"
Rational = tuple[int, int]


def tiff(order: str = "<", exif: dict[int, int | Rational] | None = None, base: dict[int, int] | None = None) -> bytes:
    """A TIFF structure with one directory and an EXIF one; whole numbers are SHORT, pairs RATIONAL."""

    def directory(tags: dict[int, int | Rational], start: int) -> bytes:
        entries, extra = b"", b""
        after = start + 2 + 12 * len(tags) + 4
        for tag, value in tags.items():
            if isinstance(value, tuple):
                entries += struct.pack(order + "HHII", tag, 5, 1, after + len(extra))
                extra += struct.pack(order + "II", *value)
            elif tag == 0x8769:
                entries += struct.pack(order + "HHII", tag, 4, 1, value)
            else:
                entries += struct.pack(order + "HHIHH", tag, 3, 1, value, 0)
        return struct.pack(order + "H", len(tags)) + entries + bytes(4) + extra

    whole: dict[int, int | Rational] = {0x0112: 6, **(base or {})}
    if exif is not None:
        whole[0x8769] = 8 + 2 + 12 * (len(whole) + 1) + 4
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    first = head + directory(whole, 8)
    return first if exif is None else first + directory(exif, len(first))


def jpeg(exif: bytes) -> bytes:
    """A real picture with a foreign segment and the EXIF one in front."""
    picture = cv2.imencode(".jpg", np.full((16, 24, 3), 90, np.uint8))[1].tobytes()

    def segment(kind: int, data: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, kind, len(data) + 2) + data

    other = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>")
    return picture[:2] + other + segment(0xE1, b"Exif\0\0" + exif) + picture[2:]


def png(exif: bytes) -> bytes:
    picture = cv2.imencode(".png", np.full((16, 24, 3), 90, np.uint8))[1].tobytes()
    end = picture.index(b"IEND") - 4
    return picture[:end] + struct.pack(">I4s", len(exif), b"eXIf") + exif + bytes(4) + picture[end:]


def webp(exif: bytes) -> bytes:
    chunks = b"VP8X" + struct.pack("<I", 5) + bytes(6) + b"EXIF" + struct.pack("<I", len(exif)) + exif
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(data), kind) + data


def meta(value: bytes, kind: int = 1, *, version: bool = False, key: bytes = KEY) -> bytes:
    """QuickTime metadata with another key before the one in question."""
    names = [b"com.apple.quicktime.camera.lens_model", key]
    keys = bytes(4) + struct.pack(">I", 2) + b"".join(box(b"mdta", name) for name in names)
    values = [struct.pack(">II", 1, 0) + b"back camera 5.7mm f/1.5", struct.pack(">II", kind, 0) + value]
    items = b"".join(box(struct.pack(">I", n + 1), box(b"data", data)) for n, data in enumerate(values))
    inside = box(b"hdlr", bytes(8) + b"mdta" + bytes(13)) + box(b"keys", keys) + box(b"ilst", items)
    return box(b"meta", (bytes(4) if version else b"") + inside)


def movie(*, of_track: bytes = b"", of_movie: bytes = b"") -> bytes:
    track = box(b"trak", box(b"tkhd", bytes(84)) + of_track)
    moov = box(b"moov", box(b"mvhd", bytes(100)) + box(b"trak", box(b"tkhd", bytes(84))) + track + of_movie)
    return box(b"ftyp", b"qt  ") + struct.pack(">I4sQ", 1, b"mdat", 16 + 5000) + bytes(5000) + moov


def focal_length(folder: Path, name: str, data: bytes) -> float | None:
    (folder / name).write_bytes(data)
    return focal_length_from_metadata(folder / name, SIZE)


PICTURES: dict[str, Callable[[bytes], bytes]] = {"a.jpg": jpeg, "a.png": png, "a.webp": webp, "a.tif": bytes}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("order", "<>")
def test_the_equivalent_of_a_picture(name: str, order: str, tmp_path: Path) -> None:
    exif = tiff(order, {0x920A: (57, 10), 0xA405: 27})
    assert focal_length(tmp_path, name, PICTURES[name](exif)) == pytest.approx(1920 * 27 / 36)
    assert focal_length_from_metadata(tmp_path / name, (1920, 1080)) == pytest.approx(1920 * 27 / 36)


@pytest.mark.parametrize(("unit", "per_unit"), [(None, 25.4), (2, 25.4), (3, 10.0)])
def test_a_physical_focal_length_needs_the_sensor(unit: int | None, per_unit: float, tmp_path: Path) -> None:
    """A 24 mm wide sensor with 6000 pixels across behind a lens of 35 mm, pictures scaled down since."""
    exif: dict[int, int | Rational] = {
        0x920A: (35, 1),
        0xA20E: (round(6000 / 24 * per_unit * 1000), 1000),
        0xA002: 6000,
        0xA003: 4000,
    }
    if unit:
        exif[0xA210] = unit
    assert focal_length(tmp_path, "a.jpg", jpeg(tiff(exif=exif))) == pytest.approx(1920 * 35 / 24)
    for missing in (0x920A, 0xA20E, 0xA003):
        less = {tag: value for tag, value in exif.items() if tag != missing}
        assert focal_length(tmp_path, "a.jpg", jpeg(tiff(exif=less))) is None


def test_pictures_that_say_nothing(tmp_path: Path) -> None:
    assert focal_length(tmp_path, "a.jpg", jpeg(tiff())) is None
    assert focal_length(tmp_path, "a.jpg", jpeg(tiff(exif={0xA405: 0}))) is None
    assert focal_length(tmp_path, "a.jpg", jpeg(tiff(exif={0xA405: 65535}))) is None
    assert (
        focal_length(tmp_path, "a.jpg", jpeg(tiff(exif={0x920A: (5, 0), 0xA20E: (1, 0), 0xA002: 9, 0xA003: 9}))) is None
    )
    assert focal_length_from_metadata(CLIPS / "sequence", SIZE) is None


def test_the_first_picture_of_a_sequence_counts(tmp_path: Path) -> None:
    for number, equivalent in ((2, 50), (10, 85)):
        (tmp_path / f"shot_{number}.jpg").write_bytes(jpeg(tiff(exif={0xA405: equivalent})))
    for path in (tmp_path, tmp_path / "shot_%d.jpg", tmp_path / "shot_2.jpg"):
        assert focal_length_from_metadata(path, SIZE) == pytest.approx(1920 * 50 / 36)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (1, b"26"),
        (1, b"26.00mm"),
        (1, b" 26.0 mm "),
        (21, struct.pack(">h", 26)),
        (22, struct.pack(">I", 26)),
        (23, struct.pack(">f", 26)),
        (24, struct.pack(">d", 26)),
        (65, b"\x1a"),
        (67, struct.pack(">i", 26)),
    ],
)
def test_the_equivalent_of_a_video(kind: int, value: bytes, tmp_path: Path) -> None:
    for data in (
        movie(of_track=meta(value, kind)),
        movie(of_movie=meta(value, kind)),
        movie(of_movie=meta(value, kind, version=True)),
    ):
        assert focal_length(tmp_path, "a.mov", data) == pytest.approx(1920 * 26 / 36)


def test_videos_that_say_nothing(tmp_path: Path) -> None:
    assert focal_length(tmp_path, "a.mov", movie()) is None
    assert focal_length(tmp_path, "a.mov", movie(of_track=meta(b"26", key=b"com.android.version"))) is None
    for kind, value in (
        (1, b"wide"),
        (1, b"-26"),
        (21, struct.pack(">h", -26)),
        (23, struct.pack(">f", np.nan)),
        (13, b"26"),
    ):
        assert focal_length(tmp_path, "a.mov", movie(of_track=meta(value, kind))) is None
    for path in (*CLIPS.iterdir(), tmp_path / "missing.mp4", tmp_path):
        assert focal_length_from_metadata(path, SIZE) is None


@pytest.mark.parametrize(
    "whole",
    [
        jpeg(tiff(exif={0x920A: (35, 1), 0xA20E: (6000, 1), 0xA002: 6000, 0xA003: 4000})),
        png(tiff(">", {0xA405: 27})),
        webp(tiff(exif={0xA405: 27})),
        tiff(exif={0xA405: 27}),
        movie(of_track=meta(struct.pack(">h", 26), 21)),
    ],
)
def test_damage_never_raises(whole: bytes, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    where = [place for place in range(len(whole)) if whole[place] or place < 200]
    for attempt in range(400):
        spoilt = bytearray(whole)
        for place in rng.choice(where, rng.integers(1, 6)):
            spoilt[place] = rng.choice([0, 1, 8, 127, 128, 255, rng.integers(256)])
        if attempt % 3 == 0:
            del spoilt[rng.integers(len(spoilt)) :]
        found = focal_length(tmp_path, "a.bin", bytes(spoilt))
        assert found is None or 0 < found < np.inf


class Counted(io.BytesIO):
    """Counts what is read."""

    amount = calls = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.amount += len(data)
        self.calls += 1
        return data


@pytest.mark.parametrize(
    "data",
    [
        movie(of_movie=meta(b"26")),
        box(b"ftyp", b"qt  ") + box(b"moov", box(b"free", b"") * 300_000),  # boxes without end
        b"\xff\xd8" + 1_000_000 * b"\xff\xe2\0\2",  # segments without end
        b"\x89PNG\r\n\x1a\n" + 200_000 * bytes(12),
        tiff(base=dict.fromkeys(range(1000), 1)) + bytes(1_000_000),
        struct.pack(">I4s", 2**31, b"mdat") + bytes(1_000_000),
    ],
)
def test_little_is_read(data: bytes) -> None:
    file = Counted(data)
    footage_facts._read_share(file, len(data))
    assert file.amount < 200_000
    assert file.calls < 10_000


def test_the_index_of_videos_is_read_as_before() -> None:
    index = read_mp4_index(CLIPS / "ntsc_2997.mp4")
    assert index is not None
    assert (index.frame_count, index.has_pictures, index.cut_off) == (30, True, False)
