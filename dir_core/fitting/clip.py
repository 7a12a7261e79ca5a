"""Fit both hands of a whole clip: steady the landmarks, find one shape, pose every frame, steady the depth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.camera import rays
from dir_core.clean_up.smoothing import bridge_gaps, smooth_vectors
from dir_core.conventions import JOINTS, SHAPE_COUNT, Side
from dir_core.degrees_of_freedom import finger_geometry
from dir_core.fitting.hand_pose import fit_pose
from dir_core.fitting.hand_shape import bone_lengths, fit_shape
from dir_core.hand_model import HandModel
from dir_core.landmarks import HandLandmarkTrack

Array = NDArray[Any]

_LANDMARK_NOISE = 0.006  # metres, nominal for the smoother
_PIXEL_NOISE = 0.03  # of the hand's extent in the image, the same noise seen through the camera
CUTOFF = 2.5  # Hz; light, because a raw take must keep fast motion: clean-up may smooth more, never less
_DEPTH_NOISE = 0.02  # of the depth
_DEPTH_CUTOFF = 0.75  # Hz; a hand's depth is its least certain number and moves slowly


@dataclass(frozen=True, eq=False)
class FittedHand:
    """One hand of T frames in camera axes.

    Attributes:
        rotation: [T, 16, 4] quaternions in MANO joint order, sign-continuous.
        translation: [T, 3] wrist, metres.
        shape: [10] shape components.
        scale: size factor.

    Frames in which the hand was not observed hold an interpolation, so that curves stay continuous.
    """

    rotation: Array
    translation: Array
    shape: Array
    scale: float


def fit_hands(
    tracks: Mapping[Side, HandLandmarkTrack],
    time: Array,
    models: Mapping[Side, HandModel],
    camera_matrix: Array,
    hand_length: float,
) -> dict[Side, FittedHand]:
    """Pose both hands in one camera with one shape and one size for the clip.

    Args:
        tracks: landmarks of each side over the T frames of the clip.
        time: [T] seconds.
        models: the hand model of each side.
        camera_matrix: [3, 3] pixels.
        hand_length: wrist crease to middle finger tip, metres; sets the size and with it the depth.
    """
    steady = {side: _steady_landmarks(track, time) for side, track in tracks.items()}
    lengths = _clip_bone_lengths(tracks, steady)
    # One person has one shape: both sides share the components, so either model finds the same.
    hand = None if lengths is None else fit_shape(models["right"], lengths, hand_length)
    fitted: dict[Side, FittedHand] = {}
    for side, track in tracks.items():
        model = models[side]
        if hand is None or not track.observed.any():
            fitted[side] = absent_hand(len(time), hand_length / model.length(np.zeros(SHAPE_COUNT)))
            continue
        geometry = finger_geometry(model, hand.shape, hand.scale)
        seen = track.observed
        pixels, weight = steady_pixels(track, time)[seen], trust(track)[seen]
        pose = fit_pose(geometry, hand.landmark_scale * steady[side][seen], pixels, weight, camera_matrix)

        relative = pose.keypoints - pose.translation[:, None]
        viewing = rays(pixels, camera_matrix)
        translation = steady_depth(pose.translation, relative, viewing, weight, time[seen])
        fitted[side] = FittedHand(
            rotation=bridge_rotations(pose.rotation, seen),
            translation=bridge_gaps(spread_rows(translation, seen), seen),
            shape=hand.shape,
            scale=hand.scale,
        )
    return fitted


def trust(track: HandLandmarkTrack) -> Array:
    """Weight [T, 21] of every key point; 0 where the hand was not observed."""
    return track.confidence.astype(np.float64) * track.observed[:, None]


def steady_pixels(track: HandLandmarkTrack, time: Array) -> Array:
    """Lightly smoothed pixels [T, 21, 2]."""
    noise = _PIXEL_NOISE * _extent(track.keypoints_2d[track.observed])
    return smooth_vectors(track.keypoints_2d, trust(track), time, nominal_noise=noise, cutoff=CUTOFF)


def _steady_landmarks(track: HandLandmarkTrack, time: Array) -> Array:
    """Lightly smoothed 3D landmarks [T, 21, 3]."""
    return smooth_vectors(track.keypoints_3d, trust(track), time, nominal_noise=_LANDMARK_NOISE, cutoff=CUTOFF)


def _extent(pixels: Array) -> float:
    """Median larger side of the hands' boxes, pixels."""
    if len(pixels) == 0:
        return 1.0
    return max(float(np.median(np.ptp(pixels, axis=1).max(axis=-1))), 1.0)


def _clip_bone_lengths(tracks: Mapping[Side, HandLandmarkTrack], landmarks: Mapping[Side, Array]) -> Array | None:
    """Bone lengths of the person, from the frames of both hands; None when no hand was seen."""
    seen = [(landmarks[side][track.observed], track.confidence[track.observed]) for side, track in tracks.items()]
    points = np.concatenate([p for p, _ in seen])
    if len(points) == 0:
        return None
    return bone_lengths(points, np.concatenate([w for _, w in seen]))


def steady_depth(translation: Array, relative: Array, viewing: Array, weight: Array, time: Array) -> Array:
    """Smooth the depth hard and put the hand back onto its viewing rays."""
    log_depth = np.log(translation[:, 2:])[:, None]
    trust = np.maximum(weight.mean(axis=1, keepdims=True), 1e-3)
    smooth = smooth_vectors(log_depth, trust, time, nominal_noise=_DEPTH_NOISE, cutoff=_DEPTH_CUTOFF)
    depth = np.exp(smooth[:, 0, 0])
    share = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
    across = np.einsum("nk,nkd->nd", share, viewing * (relative[..., 2:] + depth[:, None, None]) - relative[..., :2])
    return np.concatenate([across, depth[:, None]], axis=1)


def spread_rows(rows: Array, seen: Array) -> Array:
    """Put rows [sum(seen), ...] into the frames [T, ...] in which the hand was seen; zeros elsewhere."""
    spread = np.zeros((len(seen), *rows.shape[1:]))
    spread[seen] = rows
    return spread


def bridge_rotations(rotation: Array, seen: Array) -> Array:
    """Interpolate unseen frames; neighbours are close enough for normalised linear interpolation."""
    bridged = bridge_gaps(spread_rows(rotations.make_continuous(rotation), seen), seen)
    return rotations.make_continuous(bridged / np.linalg.norm(bridged, axis=-1, keepdims=True))


def absent_hand(frames: int, scale: float) -> FittedHand:
    """A hand that was never seen: the flat pose at the origin."""
    rotation = np.zeros((frames, len(JOINTS), 4))
    rotation[..., 0] = 1.0
    return FittedHand(rotation, np.zeros((frames, 3)), np.zeros(SHAPE_COUNT), scale)
