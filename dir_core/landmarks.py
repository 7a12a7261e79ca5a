"""What an estimator saw over a clip: the data between tracking and fitting. No networks, no pictures."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import Side

Array = NDArray[Any]


def length_in_image(keypoints_2d: Array) -> Array:
    """Length [...] in pixels of hands seen at key points [..., 21, 2], wrist to middle finger tip along the bones.

    A hand seen end on has no length in the image; its size does not shrink with it, so it is at least its extent.
    """
    bones = np.diff(keypoints_2d[..., [0, 9, 10, 11, 12], :], axis=-2)
    return np.maximum(np.linalg.norm(bones, axis=-1).sum(axis=-1), np.ptp(keypoints_2d, axis=-2).max(axis=-1))


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


@dataclass(frozen=True, eq=False)
class PosedHandTrack(HandLandmarkTrack):
    """One hand whose estimator gives joint rotations too; rows where it is not observed are zero, rotations unit.

    The network looks at a square of the picture as if it were the middle of one: `rotation` and `keypoints_3d`
    stand in the axes of a camera turned straight at `view`, until `fitting.posed_clip.turn_into_camera`.

    Attributes:
        rotation: [T, 16, 4] float32 quaternions in MANO joint order, relative to the flat template.
        shape: [T, 10] float32 shape components of every frame.
        view: [T, 2] float32, pixels of the upright source frame: the middle of the square that was looked at.
    """

    rotation: Array
    shape: Array
    view: Array


@dataclass(frozen=True, eq=False)
class PosedClip(LandmarkClip):
    """Both hands with their joint rotations over a clip of T frames.

    Attributes:
        left, right: the anatomical hands.
        offset: [T, 3] float32 metres, root joint of the right hand minus that of the left one, axes as theirs.
        offset_known: [T] bool, both hands were seen in one square, so that `offset` means something.
        root: key point that `offset` leads from and to.
    """

    left: PosedHandTrack
    right: PosedHandTrack
    offset: Array
    offset_known: Array
    root: int

    def hand(self, side: Side) -> PosedHandTrack:
        """The track of one side."""
        return self.left if side == "left" else self.right
