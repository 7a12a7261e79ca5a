"""Fit both hands of a whole clip: steady the landmarks, find one shape, pose every frame, place it in the camera."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.camera import rays
from dir_core.clean_up.gaps import cross_long_gaps, rows_to_fit
from dir_core.clean_up.pose import PLACE_NOISE, steady_position
from dir_core.clean_up.settings import Cutoffs
from dir_core.clean_up.smoothing import smooth_vectors
from dir_core.conventions import JOINTS, KEYPOINTS, SHAPE_COUNT, Side
from dir_core.degrees_of_freedom import finger_geometry
from dir_core.fitting.hand_pose import fit_pose, place_on_rays
from dir_core.fitting.hand_shape import HandShape, bone_lengths, fit_shape
from dir_core.fitting.landmark_places import landmark_places
from dir_core.hand_model import HandModel
from dir_core.landmarks import HandLandmarkTrack

Array = NDArray[Any]

LIGHT: Final = Cutoffs(2.5, 2.5, 2.5)
"""For a raw take, which must keep fast motion: clean-up may smooth more, never less."""

_LANDMARK_NOISE = 0.006  # metres, nominal for the smoother
_PALM = [0, 5, 9, 13, 17]  # key points that move with the wrist
_PIXEL_NOISE = 0.02  # of the hand: not what pixels jitter, but what bones of the model are longer or shorter
_STEPS = 4  # more of them move the joints by less than the landmarks err, and make real clips less calm
_GAP_TRUST = 0.5  # weight of landmarks that were carried across a gap


@dataclass(frozen=True, eq=False)
class FittedHand:
    """One hand of T frames in camera axes.

    Attributes:
        rotation: [T, 16, 4] quaternions in MANO joint order, sign-continuous.
        translation: [T, 3] wrist, metres.
        shape: [10] shape components.
        scale: size factor.
        pixels: [T, 21, 2] the key points in the picture that the pose explains.

    Frames in which the hand was not observed hold an interpolation, so that curves stay continuous.
    """

    rotation: Array
    translation: Array
    shape: Array
    scale: float
    pixels: Array


def fit_hands(
    tracks: Mapping[Side, HandLandmarkTrack],
    time: Array,
    models: Mapping[Side, HandModel],
    camera_matrix: Array,
    hand_length: float,
    *,
    cutoffs: Cutoffs = LIGHT,
    shape: Array | None = None,
) -> dict[Side, FittedHand]:
    """Pose both hands in one camera with one shape and one size for the clip.

    Args:
        tracks: landmarks of each side over the T frames of the clip.
        time: [T] seconds.
        models: the hand model of each side.
        camera_matrix: [3, 3] pixels.
        hand_length: wrist crease to middle finger tip, metres; sets the size and with it the depth.
        cutoffs: how much each part is smoothed.
        shape: [10] components if the person's hand is known already, None to find them.
    """
    # The arrays are long: two threads share the work well, because numpy and LAPACK let each other run.
    with ThreadPoolExecutor(len(tracks)) as pool:
        smooth = {
            side: pool.submit(_steady_track, track, time, cutoffs.fingers, cutoffs) for side, track in tracks.items()
        }
        steady = {side: job.result() for side, job in smooth.items()}
        lengths = _clip_bone_lengths(tracks, steady)
        if lengths is None:
            scale = hand_length / models["right"].length(np.zeros(SHAPE_COUNT))
            return {side: absent_hand(len(time), scale) for side in tracks}
        # One person has one shape: both sides share the components, so either model finds the same.
        hand = fit_shape(models["right"], lengths, hand_length, shape)
        view = _View(time, camera_matrix, cutoffs, hand, hand_length)
        poses = {
            side: pool.submit(_pose_track, track, steady[side], models[side], view) for side, track in tracks.items()
        }
        return {side: job.result() for side, job in poses.items()}


@dataclass(frozen=True, eq=False)
class _SteadyTrack:
    """Smoothed landmarks [T, 21, 3] in metres and pixels [T, 21, 2] of one hand, carried across gaps."""

    landmarks: Array
    pixels: Array


@dataclass(frozen=True, eq=False)
class _View:
    """What both hands of a clip share: time [T], camera [3, 3], cut-offs, shape and length."""

    time: Array
    camera_matrix: Array
    cutoffs: Cutoffs
    hand: HandShape
    hand_length: float


def _pose_track(track: HandLandmarkTrack, steady: _SteadyTrack, model: HandModel, view: _View) -> FittedHand:
    """Rotations, then the place, of one hand."""
    hand, cutoffs, seen = view.hand, view.cutoffs, track.observed
    if not seen.any():
        return absent_hand(len(view.time), hand.scale)
    rotation = _fit_track(track, steady, model, view)
    if cutoffs.wrist_rotation != cutoffs.fingers:
        # What is smooth already is hardly smoothed again: the wrist of another strength needs a fit of its own.
        other = _steady_track(track, view.time, cutoffs.wrist_rotation, cutoffs)
        rotation[:, 0] = _fit_track(track, other, model, view)[:, 0]
    keypoints = model.pose_keypoints(rotation, None, hand.shape, hand.scale)
    relative = landmark_places(keypoints) - keypoints[:, :1]
    # Placed by the pixels as they were seen: their noise tells the smoother how far to trust them.
    place = place_on_rays(relative, rays(track.keypoints_2d.astype(np.float64), view.camera_matrix), trust(track))
    return FittedHand(
        rotation=rotation,
        translation=steady_position(
            place, track.confidence, seen, view.time, cutoffs=cutoffs, hand_length=view.hand_length
        ),
        shape=hand.shape,
        scale=hand.scale,
        pixels=steady.pixels,
    )


def _steady_track(track: HandLandmarkTrack, time: Array, cutoff: float, cutoffs: Cutoffs) -> _SteadyTrack:
    """Smooth how the hand looks, in space and around its palm in the picture, with `cutoff`; the palm's place apart.

    A hand that waves moves all its pixels; around the palm only the pose moves them.
    """
    weight = trust(track)
    noise = PLACE_NOISE * _extent(track.keypoints_2d[track.observed])
    share = weight[:, _PALM] / np.maximum(weight[:, _PALM].sum(axis=1, keepdims=True), 1e-9)
    palm = np.einsum("tk,tkd->td", share, track.keypoints_2d[:, _PALM].astype(np.float64))[:, None]
    around = smooth_vectors(track.keypoints_2d - palm, weight, time, nominal_noise=noise, cutoff=cutoff)
    sure = weight.mean(axis=1, keepdims=True)
    return _SteadyTrack(
        landmarks=smooth_vectors(track.keypoints_3d, weight, time, nominal_noise=_LANDMARK_NOISE, cutoff=cutoff),
        pixels=around + smooth_vectors(palm, sure, time, nominal_noise=noise, cutoff=cutoffs.wrist_position),
    )


def _fit_track(track: HandLandmarkTrack, steady: _SteadyTrack, model: HandModel, view: _View) -> Array:
    """Rotations [T, 16, 4] of one hand; short gaps hold the carried motion, long ones are crossed evenly."""
    rows = rows_to_fit(track.observed, view.time)
    weight = np.where(track.observed[:, None], trust(track), _GAP_TRUST)[rows]
    pose = fit_pose(
        finger_geometry(model, view.hand.shape, view.hand.scale),
        view.hand.landmark_scale * steady.landmarks[rows],
        steady.pixels[rows],
        weight,
        view.camera_matrix,
        pixel_noise=_PIXEL_NOISE,
        steps=_STEPS,
    )
    rotation = absent_hand(len(rows), 1.0).rotation
    rotation[rows] = pose.rotation
    return rotations.make_continuous(cross_long_gaps(rotation, track.observed, view.time, rotations.slerp))


def trust(track: HandLandmarkTrack) -> Array:
    """Weight [T, 21] of every key point; 0 where the hand was not observed."""
    return track.confidence.astype(np.float64) * track.observed[:, None]


def _extent(pixels: Array) -> float:
    """Median larger side of the hands' boxes, pixels."""
    if len(pixels) == 0:
        return 1.0
    return max(float(np.median(np.ptp(pixels, axis=1).max(axis=-1))), 1.0)


def _clip_bone_lengths(tracks: Mapping[Side, HandLandmarkTrack], steady: Mapping[Side, _SteadyTrack]) -> Array | None:
    """Bone lengths of the person, from the frames of both hands; None when no hand was seen."""
    seen = [(steady[side].landmarks[t.observed], t.confidence[t.observed]) for side, t in tracks.items()]
    points = np.concatenate([p for p, _ in seen])
    if len(points) == 0:
        return None
    return bone_lengths(points, np.concatenate([w for _, w in seen]))


def absent_hand(frames: int, scale: float) -> FittedHand:
    """A hand that was never seen: the flat pose at the origin."""
    rotation = np.zeros((frames, len(JOINTS), 4))
    rotation[..., 0] = 1.0
    pixels = np.zeros((frames, len(KEYPOINTS), 2))
    return FittedHand(rotation, np.zeros((frames, 3)), np.zeros(SHAPE_COUNT), scale, pixels)
