"""Names, orders, units and axes that every other module uses. Data only.

Units: metres, radians, seconds, pixels.
Image: pixels of the upright source frame, x right, y down, centre of the first pixel at (0.5, 0.5).
Camera axes: x right, y down, z forward (OpenCV).
Quaternions: (w, x, y, z), unit, sign-continuous over time.
Sides: anatomical, in un-mirrored video.
"""

from collections.abc import Mapping
from typing import Final, Literal, get_args

Side = Literal["left", "right"]
SIDES: Final[tuple[Side, ...]] = get_args(Side)

MIRRORED: Final[Mapping[Side, tuple[float, float, float]]] = {"left": (-1.0, 1.0, 1.0), "right": (1.0, 1.0, 1.0)}
"""Factors of a place in a right hand's rest pose that give the same place in a hand of this side."""

FINGERS: Final = ("thumb", "index", "middle", "ring", "pinky")
"""Finger order of the key points (MediaPipe, OpenPose). MANO's joints use another one, see JOINTS."""

JOINTS: Final = (
    "wrist",
    "index1", "index2", "index3",
    "middle1", "middle2", "middle3",
    "pinky1", "pinky2", "pinky3",
    "ring1", "ring2", "ring3",
    "thumb1", "thumb2", "thumb3",
)  # fmt: skip
"""The 16 rotations in MANO order (Romero et al. 2017)."""

JOINT_PARENTS: Final = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)

KEYPOINTS: Final = ("wrist", *(f"{finger}{rank}" for finger in FINGERS for rank in (1, 2, 3, 4)))
"""The 21 key points: wrist, then four per finger from the base to the tip."""

KEYPOINT_PARENTS: Final = (-1, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19)

KEYPOINT_BONES: Final = tuple((parent, child) for child, parent in enumerate(KEYPOINT_PARENTS) if parent >= 0)
"""The 20 (parent, child) key-point pairs that are drawn and measured as bones."""

KEYPOINT_SOURCES: Final = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
"""Key point k is row KEYPOINT_SOURCES[k] of [16 joints, then thumb, index, middle, ring, pinky tip]."""

TIP_VERTICES: Final[dict[Side, tuple[int, ...]]] = {
    "left": (745, 317, 445, 556, 673),
    "right": (745, 317, 444, 556, 673),
}
"""Vertex of each finger tip in FINGERS order, as MANO meshes are numbered and as DIR reads them."""

SHAPE_COUNT: Final = 10
"""Shape components (betas) of a hand model."""

DEFAULT_HAND_LENGTH: Final = 0.185
"""Wrist crease to middle finger tip of an average adult, metres."""

DEFAULT_FIELD_OF_VIEW: Final = 1.0471975511965976
"""Horizontal field of view assumed when nothing better is known: 60 degrees, radians."""
