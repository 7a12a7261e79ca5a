"""The one data file: what was seen and posed for both hands over a clip. numpy only.

A Take is an `.npz` archive of schema "two-hand-take/1" without pickled objects. A raw Take is never
overwritten by a later step: clean-up writes a new one and adds its settings to `meta["history"]`.
"""

import hashlib
import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import JOINTS, KEYPOINTS, SHAPE_COUNT, SIDES, Side
from dir_core.errors import OutputError, TakeError

SCHEMA = "two-hand-take/1"

Array = NDArray[Any]

FRAME_FIELDS: dict[str, tuple[tuple[int, ...], type]] = {
    "rotation": ((len(JOINTS), 4), np.float32),
    "translation": ((3,), np.float32),
    "keypoints_2d": ((len(KEYPOINTS), 2), np.float32),
    "keypoints_3d": ((len(KEYPOINTS), 3), np.float32),
    "confidence": ((len(KEYPOINTS),), np.float32),
    "observed": ((), np.bool_),
}
"""What a hand has in every frame: name -> shape after [T], and kind."""
_CLIP_FIELDS: dict[str, tuple[tuple[int, ...], type]] = {
    "shape": ((SHAPE_COUNT,), np.float32),
    "scale": ((1,), np.float32),
}
_META_FIELDS = ("schema", "program", "source", "estimator", "hand_model", "settings", "history")
_UNIT_TOLERANCE = 1e-3
# What numpy and zipfile raise on damaged archives; a damaged header may also ask for more memory than there is.
_DAMAGE = (
    ValueError,
    OSError,
    EOFError,
    AttributeError,
    KeyError,
    TypeError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, eq=False)
class HandTrack:
    """One hand over a clip of T frames.

    Attributes:
        rotation: [T, 16, 4] unit quaternions (w, x, y, z) in MANO joint order, relative to the
            model's flat template; row 0 turns the hand from model into camera axes.
        translation: [T, 3] wrist joint in camera axes, metres.
        shape: [10] shape components (betas), one per clip.
        scale: [1] size factor on the shaped model, one per clip.
        keypoints_2d: [T, 21, 2] pixels of the upright source frame.
        keypoints_3d: [T, 21, 3] metres, camera axes.
        confidence: [T, 21] in 0..1; 0 where the hand is not seen.
        observed: [T] bool, False where the hand was not seen in that frame.
    """

    rotation: Array
    translation: Array
    shape: Array
    scale: Array
    keypoints_2d: Array
    keypoints_3d: Array
    confidence: Array
    observed: Array


@dataclass(frozen=True, eq=False)
class Take:
    """Both hands over a clip.

    Attributes:
        meta: schema, program version, source, estimator, hand model, settings, history (JSON types).
        time: [T] presentation time stamps in seconds, strictly increasing.
        frame: [T] index in the source.
        camera_matrix: [3, 3] pixels; a negative horizontal focal length marks mirrored footage.
        image_size: [2] width and height of the upright source frame in pixels.
        left, right: the anatomical hands.
    """

    meta: dict[str, Any]
    time: Array
    frame: Array
    camera_matrix: Array
    image_size: Array
    left: HandTrack
    right: HandTrack

    def hand(self, side: Side) -> HandTrack:
        """The track of one side."""
        return self.left if side == "left" else self.right

    def __len__(self) -> int:
        return len(self.time)

    def hidden(self, side: Side) -> Array:
        """[T] bool, where clean-up says that a hand was unseen for so long that it should not be shown."""
        hidden = np.zeros(len(self), bool)
        for first, last in self.meta["history"][-1].get("hidden", {}).get(side, []) if self.meta["history"] else []:
            hidden[first : last + 1] = True
        return hidden

    @property
    def duration(self) -> float:
        """Seconds that the frames last, the last one as long as the mean of the others."""
        frames = len(self.time)
        return float(self.time[-1] - self.time[0]) * frames / (frames - 1) if frames > 1 else 0.0


def save_take(take: Take, path: str | os.PathLike[str]) -> None:
    """Write a Take: whole or not at all, and only if it would load again.

    Raises:
        TakeError: an array of the take has a wrong shape or value.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    arrays = pack_take(take)
    unpack_take(arrays, f"the take for {path.name}")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def load_take(path: str | os.PathLike[str]) -> Take:
    """Read a Take and check schema, shapes, finite values and unit quaternions.

    Raises:
        TakeError: the file is missing, damaged, foreign or of another schema; the message names what.
    """
    path = Path(path)
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with loaded as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise TakeError(f"There is no take at {path}, check the path.") from None
    except IsADirectoryError:
        raise TakeError(f"{path} is a folder, give the .npz file of a take.") from None
    except _DAMAGE as error:
        reason = "it holds pickled objects" if "pickle" in str(error) else "it is damaged or not an .npz archive"
        raise TakeError(f"{path} is not a take: {reason}; capture the clip again.") from error
    return unpack_take(arrays, str(path))


def take_digest(take: Take) -> str:
    """SHA-256 over everything in a take: the same for every file it is saved in."""
    digest = hashlib.sha256()
    for name, array in sorted(pack_take(take).items()):
        digest.update(f"{name} {array.shape} {array.dtype.str}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place and rename it, so that a reader never sees half of it.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder, give a file name to write to.")
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(data)
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise OutputError(f"Cannot write {path}: {error.strerror}; choose another folder.") from error


def check_output(path: Path) -> None:
    """Fail before the work begins if a file could not be written at its end.

    Raises:
        OutputError: the folder is missing or not writable, or the path is a folder.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder, give a file name to write to.")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(f"Cannot write into {path.parent}: {error.strerror}; choose another folder.") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def pack_take(take: Take) -> dict[str, Array]:
    """The arrays of a take's file, by name."""
    arrays: dict[str, Array] = {
        "meta": np.array(json.dumps(take.meta, ensure_ascii=False, sort_keys=True)),
        "time": np.asarray(take.time, np.float64),
        "frame": np.asarray(take.frame, np.int64),
        "camera_matrix": np.asarray(take.camera_matrix, np.float32),
        "image_size": np.asarray(take.image_size, np.int64),
    }
    for side in SIDES:
        for name, (_, kind) in (FRAME_FIELDS | _CLIP_FIELDS).items():
            arrays[f"{side}/{name}"] = np.asarray(getattr(take.hand(side), name), kind)
    return arrays


def unpack_take(arrays: Mapping[str, Array], where: str) -> Take:
    """The take that `pack_take` made, checked; arrays of other names are left alone.

    Raises:
        TakeError: an array is missing or has a wrong shape or value; the message begins with `where`.
    """

    def fail(what: str, remedy: str = "capture the clip again") -> TakeError:
        return TakeError(f"{where} is not a valid take: {what}; {remedy}.")

    if "time" not in arrays or arrays["time"].ndim != 1:
        raise fail("time must have shape [T]")
    count = len(arrays["time"])
    meta = _read_meta(arrays, count, fail)

    def read(name: str, shape: tuple[int, ...], kind: type) -> Array:
        if name not in arrays:
            raise fail(f"{name} is missing")
        array = arrays[name]
        if array.shape != shape:
            raise fail(f"{name} has shape {list(array.shape)} instead of {list(shape)}")
        if array.dtype.kind != np.dtype(kind).kind:
            raise fail(f"{name} has type {array.dtype} instead of {np.dtype(kind)}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise fail(f"{name} has values that are not finite")
        return array

    def read_hand(side: Side) -> HandTrack:
        fields = {name: read(f"{side}/{name}", (count, *rest), kind) for name, (rest, kind) in FRAME_FIELDS.items()}
        fields |= {name: read(f"{side}/{name}", shape, kind) for name, (shape, kind) in _CLIP_FIELDS.items()}
        length = np.linalg.norm(fields["rotation"], axis=-1)
        if np.abs(length - 1).max(initial=0) > _UNIT_TOLERANCE:
            raise fail(f"{side}/rotation has quaternions that are not unit")
        if fields["confidence"].min(initial=0) < 0 or fields["confidence"].max(initial=0) > 1:
            raise fail(f"{side}/confidence leaves 0..1")
        if fields["scale"][0] <= 0:
            raise fail(f"{side}/scale is not positive")
        return HandTrack(**fields)

    time = read("time", (count,), np.float64)
    if np.any(np.diff(time) <= 0):
        raise fail("time does not increase")
    return Take(
        meta=meta,
        time=time,
        frame=read("frame", (count,), np.int64),
        camera_matrix=read("camera_matrix", (3, 3), np.float32),
        image_size=read("image_size", (2,), np.int64),
        left=read_hand("left"),
        right=read_hand("right"),
    )


def _read_meta(arrays: Mapping[str, Array], count: int, fail: Any) -> dict[str, Any]:
    text = arrays.get("meta")
    if text is None or text.ndim != 0 or text.dtype.kind != "U":
        raise fail("meta is missing or not a text")
    try:
        meta = json.loads(str(text))
    except json.JSONDecodeError:
        raise fail("meta is not JSON") from None
    if not isinstance(meta, dict):
        raise fail("meta is not a JSON object")
    if meta.get("schema") != SCHEMA:
        raise fail(f"its schema is {meta.get('schema')!r} and this version reads {SCHEMA!r}", "update this program")
    missing = [name for name in _META_FIELDS if name not in meta]
    if missing:
        raise fail(f"meta lacks {', '.join(missing)}")
    history = meta["history"]
    if not isinstance(history, list) or not all(isinstance(step, dict) for step in history):
        raise fail("its history is not a list of steps")
    _check_hidden(history[-1].get("hidden", {}) if history else {}, count, fail)
    return meta


def _check_hidden(hidden: Any, count: int, fail: Any) -> None:
    def is_range(pair: Any) -> bool:
        return isinstance(pair, list) and [*map(type, pair)] == [int, int] and 0 <= pair[0] <= pair[1] < count

    whole = isinstance(hidden, dict) and set(hidden) <= set(SIDES)
    if not whole or not all(isinstance(ranges, list) and all(map(is_range, ranges)) for ranges in hidden.values()):
        raise fail("its history hides frames that it does not have")
