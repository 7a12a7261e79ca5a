"""Provisional hands for those who look on while a capture runs, written beside its finished parts.

Every frame is posed for itself, in the mean shape of the hand model and the length that the user gave: the shape of
the person, the sides and the smoothing need the whole clip. So a preview costs little, and nothing depends on it.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import JOINTS, SHAPE_COUNT, SIDES, Side
from dir_core.degrees_of_freedom import finger_geometry
from dir_core.errors import OutputError
from dir_core.estimator import Estimator
from dir_core.fitting.clip import LANDMARK_TILT, PIXEL_NOISE, trust
from dir_core.fitting.hand_pose import fit_pose
from dir_core.fitting.hand_shape import bone_lengths, fit_shape
from dir_core.fitting.landmark_places import in_camera_axes
from dir_core.fitting.posed_clip import place_wrists, turn_into_camera
from dir_core.hand_model import HandModel
from dir_core.landmarks import HandLandmarkTrack, LandmarkClip, PosedClip
from dir_core.parts import Parts
from dir_core.worker.protocol import PreviewClip, PreviewHand, preview_path, write_preview

Array = NDArray[Any]

_MEAN = np.zeros(SHAPE_COUNT)
_STEPS = 2  # half of those of the result: joints are then within some degrees of where they end


class PreviewedParts(Parts):
    """Finished parts of a capture with the preview of each beside them, also of those found finished."""

    def __init__(self, folder: Path, request: Mapping[str, Any], preview: "LivePreview | None"):
        """Open the folder; see `Parts`."""
        self._preview = preview
        super().__init__(folder, request)

    def load(self, number: int) -> dict[str, Array] | None:
        """See `Parts.load`."""
        part = super().load(number)
        if part is not None and self._preview and not self._preview.is_shown(number):
            self._preview.show(number, part)
        return part

    def save(self, number: int, arrays: Mapping[str, Array]) -> None:
        """See `Parts.save`."""
        super().save(number, arrays)
        if self._preview:
            self._preview.show(number, arrays)

    def remove(self) -> None:
        """Throw all parts and previews away."""
        super().remove()
        if self._preview:
            self._preview.remove()


class LivePreview:
    """Writes the previews of one capture. The first one that cannot be written is the last one that is tried."""

    def __init__(
        self,
        folder: Path,
        estimator: Estimator,
        models: Mapping[Side, HandModel],
        *,
        camera_matrix: Array,
        image_size: tuple[int, int],
        hand_length: float,
    ):
        """Begin a capture.

        Args:
            folder: where the previews lie; made with the first one.
            estimator: whose parts are shown; gets a warning if they cannot be.
            models: the hand model of each side.
            camera_matrix: [3, 3] pixels.
            image_size: width and height of the upright frame.
            hand_length: wrist crease to middle finger tip, metres.
        """
        self._folder = folder
        self._estimator = estimator
        self._models = models
        self._camera_matrix = camera_matrix
        self._image_size = image_size
        self._hand_length = hand_length
        self._wanted = True

    def is_shown(self, number: int) -> bool:
        """Whether the preview of this part is there."""
        return preview_path(self._folder, number).exists()

    def show(self, number: int, part: Mapping[str, Array]) -> None:
        """Write the preview of a part."""
        if not self._wanted:
            return
        clip = self._estimator.read_part(part)
        poses = pose_provisionally(clip, self._models, self._camera_matrix, self._hand_length)
        left, right = (
            PreviewHand(
                rotation=rotation,
                translation=translation,
                keypoints_2d=clip.hand(side).keypoints_2d,
                confidence=clip.hand(side).confidence,
                observed=clip.hand(side).observed,
            )
            for side, (rotation, translation) in poses.items()
        )
        camera_matrix, size = self._camera_matrix.astype(np.float32), np.array(self._image_size, np.int64)
        try:
            write_preview(
                preview_path(self._folder, number),
                PreviewClip(clip.time, clip.frame, camera_matrix, size, left, right),
            )
        except OutputError as error:
            self._wanted = False
            self._estimator.warnings.append(f"The hands cannot be shown while the capture runs. {error}")

    def remove(self) -> None:
        """Throw all previews away."""
        shutil.rmtree(self._folder, ignore_errors=True)


def pose_provisionally(
    clip: LandmarkClip, models: Mapping[Side, HandModel], camera_matrix: Array, hand_length: float
) -> dict[Side, tuple[Array, Array]]:
    """Rotations [n, 16, 4] and wrists [n, 3] in camera axes of both hands, left first, every frame for itself.

    Args:
        clip: n frames as `Estimator.read_part` gives them.
        models: the hand model of each side, taken in its mean shape.
        camera_matrix: [3, 3] pixels.
        hand_length: wrist crease to middle finger tip, metres.

    Returns:
        float32; no rotation and the origin where a hand is not observed.
    """
    scale = {side: hand_length / models[side].length(_MEAN) for side in SIDES}
    if isinstance(clip, PosedClip):
        turned = turn_into_camera(clip, camera_matrix)
        rotation = {side: turned.hand(side).rotation for side in SIDES}
        wrist = place_wrists(turned, models, camera_matrix, rotation=rotation, shape=_MEAN, scale=scale)
        found = {side: (rotation[side], wrist[side]) for side in SIDES}
    else:
        found = {side: _fit_landmarks(clip.hand(side), models[side], scale[side], camera_matrix) for side in SIDES}
    poses: dict[Side, tuple[Array, Array]] = {}
    for side in SIDES:
        seen, (rotations, wrists) = clip.hand(side).observed, found[side]
        shown, placed = np.zeros((len(clip), len(JOINTS), 4), np.float32), np.zeros((len(clip), 3), np.float32)
        shown[..., 0] = 1.0
        shown[seen], placed[seen] = rotations[seen], wrists[seen]
        poses[side] = shown, placed
    return poses


def _fit_landmarks(
    track: HandLandmarkTrack, model: HandModel, scale: float, camera_matrix: Array
) -> tuple[Array, Array]:
    """Rotations [n, 16, 4] and wrists [n, 3] that explain the landmarks; zero where the hand is not observed."""
    rotation, wrist = np.zeros((len(track.observed), len(JOINTS), 4)), np.zeros((len(track.observed), 3))
    seen = track.observed
    if seen.any():
        landmarks, weight = track.keypoints_3d[seen].astype(np.float64), trust(track)[seen]
        pixels = track.keypoints_2d[seen].astype(np.float64)
        size = fit_shape(model, bone_lengths(landmarks, weight), scale * model.length(_MEAN), _MEAN).landmark_scale
        pose = fit_pose(
            finger_geometry(model, _MEAN, scale),
            size * in_camera_axes(landmarks, pixels.mean(axis=1), camera_matrix),
            pixels,
            weight,
            camera_matrix,
            landmark_tilt=LANDMARK_TILT,
            pixel_noise=PIXEL_NOISE,
            steps=_STEPS,
        )
        rotation[seen], wrist[seen] = pose.rotation, pose.translation
    return rotation, wrist
