"""What the landmark network says: where its key points lie on the hand model, and in which axes. numpy only."""

from typing import Any, Final

from numpy.typing import NDArray

from dir_core import rotations
from dir_core.camera import rays, turn_to_ray

Array = NDArray[Any]

# Where MediaPipe's landmark network puts its key points on the model's bones: (key point, from, to, share of the
# way). Its wrist is the crease, its thumb base lies on the ball of the thumb, its tips in the finger pads. Medians
# on rendered hands with known truth (blender_assets/demo); for the tips half-way between those (0.68) and the share
# with the smallest residual on two real clips (0.8).
_LANDMARK_PLACES: Final = (
    (0, 0, 9, 0.075),
    (1, 1, 2, 0.26),
    *((base + 3, base + 2, base + 3, 0.75) for base in (1, 5, 9, 13, 17)),
)


def landmark_places(keypoints: Array) -> Array:
    """Where the landmark network sees the key points [..., 21, 3] of a posed hand, same shape."""
    landmarks = keypoints.copy()
    for place, start, end, share in _LANDMARK_PLACES:
        landmarks[..., place, :] = (1 - share) * keypoints[..., start, :] + share * keypoints[..., end, :]
    return landmarks


def in_camera_axes(landmarks: Array, middle: Array, camera_matrix: Array) -> Array:
    """Landmarks [N, 21, 3] of hands whose middle is seen at pixels [N, 2], turned into the axes of the camera.

    A network that is shown a crop sees what a camera turned straight at the hand would see.
    """
    turned: Array = rotations.rotate(turn_to_ray(rays(middle, camera_matrix))[:, None], landmarks)
    return turned
