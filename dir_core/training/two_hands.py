"""Synthetic pictures of two hands as data: what is sampled, what is drawn, what is learned from. numpy only."""

from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

Array = NDArray[Any]

Kind = Literal["single", "apart", "near", "touch", "passing", "prayer", "interlaced", "wrapped"]
"""How the hands are to each other. `touch`: any other contact, such as finger tips on the other hand's back."""

View = Literal["webcam", "egocentric"]
"""From the front, as a camera on a screen sees its user; or from the eyes of the person whose hands they are."""


@dataclass(frozen=True, eq=False)
class TwoHands:
    """Both hands of one person in T frames; the axis of two is left, right (`conventions.SIDES`).

    Attributes:
        kind, view: see `Kind` and `View`.
        rotation: [T, 2, 16, 4] quaternions in MANO joint order.
        translation: [T, 2, 3] wrists, metres, camera axes.
        elbow: [T, 2, 3] metres, camera axes.
        present: [2] bool; a hand that is not is not drawn.
        shape: [10] shape components of both hands; [58] of hands of any build, see `anatomy`.
        scale: size factor on the shaped model.
        camera_matrix: [3, 3] pixels.
        image_size: width, height in pixels.
        frame_rate: frames a second; 0 for a still.
    """

    kind: Kind
    view: View
    rotation: Array
    translation: Array
    elbow: Array
    present: Array
    shape: Array
    scale: float
    camera_matrix: Array
    image_size: tuple[int, int]
    frame_rate: float = 0.0

    def __len__(self) -> int:
        return len(self.rotation)


# What a pixel of `Picture.parts` shows.
BACKGROUND, LEFT_HAND, RIGHT_HAND, LEFT_ARM, RIGHT_ARM, OBJECT = range(6)


@dataclass(frozen=True, eq=False)
class Picture:
    """A drawn picture and the truth about it; the axis of two is left, right.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        parts: [H, W] uint8, what each pixel shows (`BACKGROUND` .. `OBJECT`).
        camera_matrix: [3, 3] pixels.
        keypoints_3d: [2, 21, 3] float32 metres, camera axes; joints and tips of the model.
        keypoints_2d: [2, 21, 2] float32 pixels, their projection.
        visible: [2, 21] bool, the surface over the key point is what the camera sees there.
        present: [2] bool.
    """

    image: Array
    parts: Array
    camera_matrix: Array
    keypoints_3d: Array
    keypoints_2d: Array
    visible: Array
    present: Array
