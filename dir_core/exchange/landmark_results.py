"""MediaPipe's hand landmarks, saved as JSON -> a raw take, by the fitting of this program. Needs SciPy.

What is read: a list of frames, an object that has one (`frames`, `results`, `data`), or one frame a line (.ndjson,
.jsonl). A frame is what the Tasks API calls HandLandmarkerResult, in the spelling of Python, JavaScript or the older
`solutions`:

- `hand_landmarks`, `handLandmarks`, `landmarks` or `multi_hand_landmarks`: per hand 21 points, `x` and `y` as shares
  of the picture, `z` as a share of its width; objects, lists [x, y, z], or {"landmark": [...]}.
- `hand_world_landmarks`, `handWorldLandmarks`, `worldLandmarks` or `multi_hand_world_landmarks`: the same in metres.
- `handedness`, `handednesses` or `multi_handedness`: per hand a category, or a list of them, or an object that has one
  (`classification`, `categories`): its name (`category_name`, `categoryName`, `label`) and `score`; or the name alone.
- or, as the holistic landmarkers have it, `left_hand_landmarks` and `left_hand_world_landmarks` (`leftHandLandmarks`,
  ...), and the same for the right hand: 21 points, a list with one such list, or nothing.
- `timestamp_ms`, `timestampMs`, `timestamp` (milliseconds, as MediaPipe counts) or `time` (seconds); `frame`,
  `frame_index`, `frame_id`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import DEFAULT_HAND_LENGTH, KEYPOINTS, SIDES, Side
from dir_core.errors import ExchangeError
from dir_core.exchange.clip import (
    KnownFootage,
    assemble_take,
    camera_of,
    choose_image_size,
    choose_lens,
    choose_times,
    describe_import,
    every_frame,
)
from dir_core.exchange.settings import ImportSettings
from dir_core.fitting.clip import fit_hands
from dir_core.hand_model import load_hand_models
from dir_core.landmarks import HandLandmarkTrack, length_in_image
from dir_core.take import HandTrack, Take

Array = NDArray[Any]

_LISTS: Final = ("frames", "results", "data", "detections")
_PICTURE: Final = ("hand_landmarks", "handLandmarks", "landmarks", "multi_hand_landmarks", "multiHandLandmarks")
_WORLD: Final = (
    "hand_world_landmarks",
    "handWorldLandmarks",
    "worldLandmarks",
    "world_landmarks",
    "multi_hand_world_landmarks",
    "multiHandWorldLandmarks",
)
_SIDES: Final = ("handedness", "handednesses", "multi_handedness", "multiHandedness")
_BY_SIDE: Final[dict[Side, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    side: (
        (f"{side}_hand_landmarks", f"{side}HandLandmarks"),
        (f"{side}_hand_world_landmarks", f"{side}HandWorldLandmarks"),
    )
    for side in SIDES
}
_CATEGORIES: Final = ("classification", "categories")
_NAME: Final = ("category_name", "categoryName", "label", "display_name", "displayName")
_MILLISECONDS: Final = ("timestamp_ms", "timestamps_ms", "timestampMs", "timestamp")
_SECONDS: Final = ("time", "time_s", "seconds")
_FRAME: Final = ("frame", "frame_index", "frameIndex", "frame_id", "source_frame_index")
_SIZES: Final = ("image_size", "imageSize", "img_size")
_RATES: Final = ("fps", "frame_rate", "frameRate")

_PIXELS = 4.0  # no normalised landmark lies four pictures away; larger numbers are pixels


@dataclass(frozen=True, eq=False)
class _Hand:
    """One hand in one frame.

    Attributes:
        frame: row of the file's frames.
        is_right: by its label.
        score: of the label, 0..1.
        picture: [21, 3] shares of the picture.
        world: [21, 3] metres; None if the file has none.
    """

    frame: int
    is_right: bool
    score: float
    picture: Array
    world: Array | None


def import_landmarks(
    path: Path, contents: Any, settings: ImportSettings, footage: KnownFootage | None
) -> tuple[Take, tuple[str, ...]]:
    """The take of a file of landmarks, and what the user should know, a sentence each.

    Args:
        path: of the file.
        contents: what is in it, as JSON gives it.
        settings: what the user says about it.
        footage: what the landmarks were made from, if that is known.

    Raises:
        ExchangeError: the file holds something else.
        SettingsError: something is missing that only the user can say.
        HandModelError: the hand model of the user cannot be used.
    """
    frames, beside = _find_frames(contents, path)
    indices = np.array([_index(frame, row, path) for row, frame in enumerate(frames)], np.int64)
    if np.any(np.diff(indices) <= 0):
        raise ExchangeError(f"The frames in {path} are not in order, save them as they follow each other.")
    hands = [hand for row, frame in enumerate(frames) for hand in _read_hands(frame, row, path)]
    if not hands:
        raise ExchangeError(f"{path} holds no hand in any frame, so there is nothing to import.")
    frame = every_frame(indices)
    size = choose_image_size(_as_array(_first(beside, _SIZES)), footage, settings)
    rate = _first(beside, _RATES)
    rate = float(rate) if isinstance(rate, (int, float)) else None
    stated = _stated_times(frames)
    if stated is not None:
        stated = np.interp(frame, indices, stated)
    time = choose_times(frame, stated, rate, footage, settings)
    hand_length = settings.hand_length or DEFAULT_HAND_LENGTH
    at = np.searchsorted(frame, indices)
    tracks = _make_tracks(hands, at, len(frame), size, hand_length, settings)
    models = load_hand_models(settings.hand_model)
    camera_matrix = camera_of(size, choose_lens(size, settings), settings)
    fitted = fit_hands(tracks, time, models, camera_matrix, hand_length)
    estimator = {"name": "landmarks", "licence": "Apache-2.0", "weights": "", "format": "MediaPipe landmarks"}
    takes = {
        side: HandTrack(
            rotation=fitted[side].rotation.astype(np.float32),
            translation=fitted[side].translation.astype(np.float32),
            shape=fitted[side].shape.astype(np.float32),
            scale=np.array([fitted[side].scale], np.float32),
            keypoints_2d=tracks[side].keypoints_2d,
            keypoints_3d=tracks[side].keypoints_3d,
            confidence=tracks[side].confidence,
            observed=tracks[side].observed,
        )
        for side in SIDES
    }
    meta = describe_import(path, estimator, models, settings, footage=footage, time=time, size=size)
    take = assemble_take(takes, time=time, frame=frame, camera_matrix=camera_matrix, size=size, meta=meta)
    flat = sum(hand.world is None for hand in hands)
    notes = (
        (f"{flat:,} hands have no world landmarks, their depth is that of the picture's landmarks.",) if flat else ()
    )
    return take, notes


# --- reading -------------------------------------------------------------------------------------------------


def _find_frames(contents: Any, path: Path) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
    """The frames, and the object that they are in."""
    beside: Mapping[str, Any] = contents if isinstance(contents, dict) else {}
    frames = contents
    if isinstance(contents, dict):
        frames = next((contents[name] for name in _LISTS if isinstance(contents.get(name), list)), [contents])
    known = {*_PICTURE, *_WORLD, *_SIDES, *(name for names, _ in _BY_SIDE.values() for name in names)}
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise ExchangeError(f"{path} is no list of frames, see docs/EXCHANGE.md for what is read.")
    if not any(known & frame.keys() for frame in frames):
        raise ExchangeError(f"{path} holds neither landmarks nor MANO parameters, see docs/EXCHANGE.md.")
    return frames, beside


def _read_hands(frame: Mapping[str, Any], row: int, path: Path) -> list[_Hand]:
    pictures, worlds = _first(frame, _PICTURE) or [], _first(frame, _WORLD) or []
    labels = _first(frame, _SIDES) or []

    def broken(what: str) -> ExchangeError:
        return ExchangeError(f"Frame {row} of {path} {what}, save the landmarks again.")

    if not all(isinstance(each, list) for each in (pictures, worlds, labels)):
        raise broken("has landmarks that are no list of hands")
    if len(labels) != len(pictures) or (worlds and len(worlds) != len(pictures)):
        raise broken(f"has {len(pictures)} hands, {len(labels)} labels and {len(worlds)} hands in the world")
    hands = []
    for number, (points, label) in enumerate(zip(pictures, labels, strict=True)):
        picture = _points(points)
        world = _points(worlds[number]) if worlds else None
        if picture is None or (worlds and world is None):
            raise broken("has a hand without 21 points of numbers")
        name, score = _category(label)
        if name not in ("left", "right"):
            raise broken(f"has a hand that is neither left nor right but {name or 'nothing'}")
        hands.append(_Hand(row, name == "right", score, picture, world))
    for side, (picture_names, world_names) in _BY_SIDE.items():
        points = _first(frame, picture_names)
        if points:
            picture, world = _points(points), _points(_first(frame, world_names))
            if picture is None:
                raise broken("has a hand without 21 points of numbers")
            hands.append(_Hand(row, side == "right", 1.0, picture, world))
    return hands


def _points(values: Any) -> Array | None:
    """Points [21, 3], None if these are none; an absent z is 0."""
    if isinstance(values, dict):
        values = values.get("landmark") or values.get("landmarks")
    if isinstance(values, list) and len(values) == 1:
        values = values[0]
    if not isinstance(values, list):
        return None
    try:
        points = np.array(
            [
                [value["x"], value["y"], value.get("z", 0.0)] if isinstance(value, dict) else [*value, 0.0][:3]
                for value in values
            ],
            np.float64,
        )
    except (KeyError, TypeError, ValueError):
        return None
    return points if points.shape == (len(KEYPOINTS), 3) and np.isfinite(points).all() else None


def _category(label: Any) -> tuple[str, float]:
    """Name in lower case and score of what a hand is told to be."""
    if isinstance(label, dict):
        label = next((label[name] for name in _CATEGORIES if name in label), label)
    if isinstance(label, list):
        label = label[0] if label else ""
    if not isinstance(label, dict):
        return str(label).lower(), 1.0
    score = label.get("score", 1.0)
    sure = float(score) if isinstance(score, (int, float)) and np.isfinite(score) else 1.0
    return str(_first(label, _NAME) or "").lower(), min(max(sure, 0.0), 1.0)


def _index(frame: Mapping[str, Any], row: int, path: Path) -> int:
    value = _first(frame, _FRAME)
    if value is None:
        return row
    if not isinstance(value, (int, float)) or value != int(value):
        raise ExchangeError(f"Frame {row} of {path} has the number {value!r}, which is no frame number.")
    return int(value)


def _stated_times(frames: Iterable[Mapping[str, Any]]) -> Array | None:
    """Seconds of all frames as the file states them, None if it does not."""
    for names, unit in ((_SECONDS, 1.0), (_MILLISECONDS, 1e-3)):
        values = [_first(frame, names) for frame in frames]
        if all(isinstance(value, (int, float)) for value in values):
            time = unit * np.array(values, np.float64)
            return time - (time[0] if time[0] > 86400 else 0.0)  # a clock's time, not that of footage
    return None


def _first(values: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _as_array(value: Any) -> Array | None:
    return np.array(value, np.float64) if isinstance(value, list) and len(value) == 2 else None


# --- making tracks -------------------------------------------------------------------------------------------


def _make_tracks(  # noqa: PLR0917 - all of it is needed
    hands: list[_Hand], at: Array, count: int, size: tuple[int, int], hand_length: float, settings: ImportSettings
) -> dict[Side, HandLandmarkTrack]:
    """What was seen of both hands in every frame."""
    # A label means the side in a picture as it is given, or in the mirror; and the picture itself may be one.
    exchanged = settings.mirrored != (settings.labels == "selfie")
    chosen: dict[tuple[int, bool], _Hand] = {}
    for hand in sorted(hands, key=lambda hand: -hand.score):
        right = hand.is_right != exchanged
        if (hand.frame, right) in chosen:
            right = not right  # one person has one hand of each: the one that is less sure is the other
        chosen.setdefault((hand.frame, right), hand)
    pixels = np.array([hand.picture for hand in hands])
    scale = np.array([size[0], size[1], size[0]]) if np.abs(pixels[..., :2]).max() <= _PIXELS else np.ones(3)
    length = float(np.median(length_in_image(pixels[..., :2] * scale[:2])))
    to_metres = hand_length / max(length, 1.0)
    tracks = {}
    for side in SIDES:
        keypoints_2d = np.zeros((count, len(KEYPOINTS), 2), np.float32)
        keypoints_3d = np.zeros((count, len(KEYPOINTS), 3), np.float32)
        confidence = np.zeros((count, len(KEYPOINTS)), np.float32)
        for (frame, right), hand in chosen.items():
            if right != (side == "right"):
                continue
            row, seen = at[frame], hand.picture * scale
            keypoints_2d[row] = seen[:, :2]
            world = seen * to_metres if hand.world is None else hand.world
            keypoints_3d[row] = world * [-1.0, 1.0, 1.0] if settings.mirrored else world
            confidence[row] = hand.score
        tracks[side] = HandLandmarkTrack(keypoints_2d, keypoints_3d, confidence, confidence[:, 0] > 0)
    return tracks
