"""What an estimator saw over a clip: the data between tracking and fitting. No networks, no pictures."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from dir_core.conventions import Side

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class HandLandmarkTrack:
    """One hand over a clip of T frames; rows where it is not observed are zero.

    Attributes:
        keypoints_2d: [T, 21, 2] float32, pixels of the upright source frame.
        keypoints_3d: [T, 21, 3] float32 metres, camera axes (un-mirrored), any origin.
        confidence: [T, 21] float32 in 0..1.
        observed: [T] bool.
    """

    keypoints_2d: Array
    keypoints_3d: Array
    confidence: Array
    observed: Array


@dataclass(frozen=True, eq=False)
class LandmarkClip:
    """Both hands over a clip of T frames.

    Attributes:
        time: [T] float64 seconds.
        frame: [T] int64 index in the source.
        left, right: the anatomical hands.
        touching: [T] bool, the hands overlap or nearly touch: do not trust the rear one.
    """

    time: Array
    frame: Array
    left: HandLandmarkTrack
    right: HandLandmarkTrack
    touching: Array

    def hand(self, side: Side) -> HandLandmarkTrack:
        """The track of one side."""
        return self.left if side == "left" else self.right

    def __len__(self) -> int:
        return len(self.time)
