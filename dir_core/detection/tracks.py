"""What the tracker knows about each hand it follows, and how that is kept in a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import KEYPOINTS
from dir_core.detection.crop import Crop
from dir_core.detection.hidden_hands import Correction, Velocity
from dir_core.detection.landmark_network import HandLandmarks

Array = NDArray[Any]


@dataclass(eq=False)
class Track:
    """A hand from frame to frame, before it has a side."""

    number: int
    crop: Crop  # where to look in the next frame
    seen: HandLandmarks
    motion: tuple[float, float] = (0.0, 0.0)  # of the crop over the last frame, pixels
    evidence: float = 0.0  # positive speaks for the right hand
    frames: int = 0
    doubted: int = 0  # frames in a row
    velocity: Velocity = (0.0, 0.0)  # relative to that of the other hand while it rides on it
    hidden_since: float | None = None  # since when it is only predicted
    untold: float = 0.0  # evidence that no sighting has told yet
    size: float = 0.0  # usual, pixels a metre; 0 before the first frame
    rides: bool = False  # hidden, it goes where the other hand goes
    hid: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # px, middle of its crop and the other's when it hid
    correction: Correction = field(default_factory=Correction)  # of what the untouched network sees of it


@dataclass(eq=False)
class Loss:
    """A track that was lost a moment ago, and when, in seconds."""

    track: Track
    time: float


def pack_tracks(tracks: Sequence[Track], losses: Sequence[Loss]) -> dict[str, Array]:
    """Tracks as arrays; those that were lost come after those that are followed, with the times of their loss."""
    everyone = [*tracks, *(loss.track for loss in losses)]
    return {
        "tracker/counts": np.array([(each.number, each.frames, each.doubted) for each in everyone], np.int64),
        "tracker/values": np.array([_values(each) for each in everyone], np.float64),
        "tracker/keypoints_2d": stack_points([each.seen.keypoints_2d for each in everyone], 2),
        "tracker/world": stack_points([each.seen.world for each in everyone], 3),
        "tracker/correction_2d": stack_points([each.correction.points for each in everyone], 2),
        "tracker/correction_3d": stack_points([each.correction.world for each in everyone], 3),
        "tracker/confidence": np.array([each.seen.confidence for each in everyone], np.float32).reshape(-1, 21),
        "tracker/losses": np.array([loss.time for loss in losses], np.float64),
    }


def unpack_tracks(state: Mapping[str, Array]) -> tuple[list[Track], list[Loss]]:
    """What `pack_tracks` was given, to the last bit."""
    tracks = []
    for row, (number, frames, doubted) in enumerate(state["tracker/counts"].tolist()):
        x, y, size, angle, motion_x, motion_y, *rest = state["tracker/values"][row].tolist()
        evidence, presence, right_score, velocity_x, velocity_y, hidden_since, untold, usual_size, rides, *hid = rest
        points, world = state["tracker/keypoints_2d"][row], state["tracker/world"][row]
        tracks.append(
            Track(
                number,
                Crop(x, y, size, angle),
                HandLandmarks(points, world, presence, right_score, state["tracker/confidence"][row]),
                (motion_x, motion_y),
                evidence,
                frames,
                doubted,
                (velocity_x, velocity_y),
                None if np.isnan(hidden_since) else hidden_since,
                untold,
                usual_size,
                bool(rides),
                (hid[0], hid[1], hid[2], hid[3]),
                Correction(state["tracker/correction_2d"][row], state["tracker/correction_3d"][row]),
            )
        )
    lost = state["tracker/losses"].tolist()
    followed = len(tracks) - len(lost)
    return tracks[:followed], [Loss(track, time) for track, time in zip(tracks[followed:], lost, strict=True)]


def _values(track: Track) -> tuple[float, ...]:
    crop, seen = track.crop, track.seen
    place = (crop.x, crop.y, crop.size, crop.angle)
    hidden_since = np.nan if track.hidden_since is None else track.hidden_since
    own = (
        track.evidence,
        seen.presence,
        seen.right_score,
        *track.velocity,
        hidden_since,
        track.untold,
        track.size,
        track.rides,
        *track.hid,
    )
    return (*place, *track.motion, *own)


def stack_points(points: list[Array], axes: int) -> Array:
    """Key points of any number of hands as one array [N, 21, axes] float32."""
    return np.array(points, np.float32).reshape(-1, len(KEYPOINTS), axes)
