"""What all imports share: what is known of the footage, when every frame is, and the take that is made of it all."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import __version__
from dir_core.camera import focal_length_from_field_of_view, make_camera_matrix
from dir_core.conventions import Side
from dir_core.errors import ExchangeError, SettingsError
from dir_core.exchange.settings import ImportSettings
from dir_core.hand_model import HandModel, describe_models
from dir_core.take import SCHEMA, HandTrack, Take

Array = NDArray[Any]

_MOST_FRAMES: Final = 1_000_000  # nine hours at 30 fps; a frame index beyond is no index
_STEPS: Final = (1e-3, 10.0)  # seconds between frames; outside of them no camera works, and the unit is another one


@dataclass(frozen=True, eq=False)
class KnownFootage:
    """What the footage says about itself.

    Attributes:
        path: absolute, "" if nobody gave the footage.
        size: width and height of the upright picture in pixels.
        frame_rate: average frames per second.
        time: [N] seconds of every frame; None where they are evenly spaced.
    """

    path: str
    size: tuple[int, int]
    frame_rate: float
    time: Array | None = None


def choose_image_size(stated: Array | None, footage: KnownFootage | None, settings: ImportSettings) -> tuple[int, int]:
    """Width and height of the picture: as the user says, else of the footage, else as the file states.

    Raises:
        SettingsError: nobody says it.
    """
    if settings.image_size is not None:
        return settings.image_size
    if footage is not None:
        return footage.size
    if stated is not None and stated.size >= 2 and np.isfinite(stated).all():
        width, height = (int(value) for value in stated.reshape(-1, stated.shape[-1])[0, :2])
        if width >= 1 and height >= 1:
            return width, height
    raise SettingsError(
        "The file does not say how large the picture is, give the footage (--footage) or --image-size WIDTH HEIGHT."
    )


def choose_times(
    frame: Array, stated: Array | None, rate: float | None, footage: KnownFootage | None, settings: ImportSettings
) -> Array:
    """Seconds [T] of the frames [T]: by the user's rate, else by the footage, else as the file states.

    Args:
        frame: index in the source.
        stated: seconds that the file states for these frames.
        rate: frames per second that the file states.
        footage: what it was made from.
        settings: what the user says.

    Raises:
        SettingsError: nobody says it.
        ExchangeError: the file has frames that the footage has not, or times that do not increase.
    """
    if settings.frame_rate is not None:
        return frame / settings.frame_rate
    if footage is not None:
        if footage.time is None:
            return frame / footage.frame_rate
        if frame[-1] >= len(footage.time):
            raise ExchangeError(
                f"The file has a frame {frame[-1]} and the footage only {len(footage.time)}, choose its own footage."
            )
        return np.asarray(footage.time)[frame]
    if stated is not None:
        time = np.asarray(stated, np.float64)
        if not np.isfinite(time).all() or np.any(np.diff(time) <= 0):
            raise ExchangeError("The times in the file do not increase, give the frame rate instead (--frame-rate).")
        if len(time) > 1 and not _STEPS[0] <= np.median(np.diff(time)) <= _STEPS[1]:
            raise ExchangeError(
                "The times in the file are in an unknown unit, give the frame rate instead (--frame-rate)."
            )
        return time
    if rate is not None and np.isfinite(rate) and rate > 0:
        return frame / rate
    raise SettingsError(
        "The file does not say how many frames there are in a second, give the footage (--footage) or --frame-rate FPS."
    )


def choose_lens(size: tuple[int, int], settings: ImportSettings) -> float | None:
    """Focal length in pixels that the user says, None without a word."""
    if settings.focal_length is not None:
        return settings.focal_length
    if settings.field_of_view is not None:
        return focal_length_from_field_of_view(settings.field_of_view, size[0])
    return None


def camera_of(size: tuple[int, int], focal_length: float | None, settings: ImportSettings) -> Array:
    """Camera matrix [3, 3]; of a mirrored picture that of a camera with a negative horizontal focal length."""
    matrix = make_camera_matrix(size, focal_length)
    if settings.mirrored:
        matrix[0, 0] *= -1
    return matrix


def every_frame(seen: Array) -> Array:
    """Frame indices [T] from the first to the last of those in which something was seen, in their usual step.

    Raises:
        ExchangeError: there are none, or they are no indices.
    """
    frames = np.unique(seen)
    if not len(frames):
        raise ExchangeError("The file holds no hand in any frame, so there is nothing to import.")
    if frames[0] < 0 or frames[-1] >= _MOST_FRAMES:
        raise ExchangeError(f"The file numbers its frames {frames[0]} to {frames[-1]}, which are no frame numbers.")
    step = int(np.gcd.reduce(np.diff(frames))) if len(frames) > 1 else 1
    return np.arange(frames[0], frames[-1] + step, step)


def assemble_take(
    tracks: Mapping[Side, HandTrack],
    *,
    time: Array,
    frame: Array,
    camera_matrix: Array,
    size: tuple[int, int],
    meta: dict[str, Any],
) -> Take:
    """Join what was made of both hands into one raw take."""
    return Take(
        meta=meta,
        time=time,
        frame=frame,
        camera_matrix=camera_matrix.astype(np.float32),
        image_size=np.array(size, np.int64),
        left=tracks["left"],
        right=tracks["right"],
    )


def describe_import(
    file: Path,
    estimator: Mapping[str, Any],
    models: Mapping[Side, HandModel],
    settings: ImportSettings,
    *,
    footage: KnownFootage | None,
    time: Array,
    size: tuple[int, int],
) -> dict[str, Any]:
    """The take's meta: where it comes from and what it was made with."""
    rate = (len(time) - 1) / (time[-1] - time[0]) if len(time) > 1 else settings.frame_rate or 30.0
    path = footage.path if footage else ""
    return {
        "schema": SCHEMA,
        "program": f"two-hand-capture {__version__}",
        "source": {
            "path": path,
            "name": Path(path).name if path else file.stem,
            "size": list(size),
            "frame_rate": float(footage.frame_rate if footage else rate),
            "imported_from": str(file.absolute()),
            "content_hash": _hash_of(file),
        },
        "estimator": dict(estimator),
        "hand_model": describe_models(models),
        "settings": asdict(settings),
        "history": [],
    }


def _hash_of(file: Path) -> str:
    """SHA-256 of a file, or of the files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(file.iterdir()) if file.is_dir() else [file]:
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()
