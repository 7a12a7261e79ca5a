"""Hands that a network posed itself -> one camera: one shape and size for the clip, metric positions, steady depth.

The network says how a hand is bent and turned, where its key points lie in the picture, and how far the right root
is from the left one. It says nothing about the lens. Weak perspective (the pixels), focal length and offset together
give the positions: for every frame one small linear least-squares problem of both wrists.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.camera import rays, turn_to_ray
from dir_core.clean_up.pose import steady_position, steady_rotations
from dir_core.conventions import SHAPE_COUNT, SIDES, Side
from dir_core.fitting.clip import (
    LIGHT,
    FittedHand,
    absent_hand,
    trust,
)
from dir_core.fitting.hand_shape import weighted_median
from dir_core.hand_model import HandModel
from dir_core.landmarks import PosedClip, PosedHandTrack

Array = NDArray[Any]

_LARGEST_SHAPE = 5.0  # standard deviations; beyond that the shape space means nothing
_PLACE_NOISE = 0.05  # of a hand's extent: pixels of one hand err together, so more than they scatter
_OFFSET_NOISE = 0.017  # metres per axis: DIR's published root error is 29 mm for three axes
_PLACE_ITERATIONS = 3
_DEPTH_RANGE = 3.0  # factor by which a depth may differ from that of weak perspective before it is refused


def turn_into_camera(clip: PosedClip, camera_matrix: Array) -> PosedClip:
    """Turn what was seen in squares of the picture into the axes of the camera.

    A network that is shown a square cannot know where it was cut out: a hand that shows its palm to the camera
    looks the same everywhere, though off the axis it is turned by the angle of its viewing ray. The square sees
    what a camera turned there the short way would see, to first order without any roll.
    """
    turns = {side: turn_to_ray(rays(clip.hand(side).view.astype(np.float64), camera_matrix)) for side in SIDES}

    def turned(side: Side) -> PosedHandTrack:
        track, turn = clip.hand(side), turns[side]
        rotation = track.rotation.astype(np.float64)
        rotation[:, 0] = rotations.multiply(turn, rotation[:, 0])
        keypoints = rotations.rotate(turn[:, None], track.keypoints_3d.astype(np.float64))
        return replace(track, rotation=rotation, keypoints_3d=keypoints.astype(np.float32))

    # Where the offset is known both hands were seen in one square, so either turn is its own.
    offset = rotations.rotate(turns["left"], clip.offset.astype(np.float64))
    return replace(clip, left=turned("left"), right=turned("right"), offset=offset)


def place_hands(
    clip: PosedClip, models: Mapping[Side, HandModel], camera_matrix: Array, hand_length: float
) -> dict[Side, FittedHand]:
    """Put both hands of a clip into one camera with one shape and one size.

    Args:
        clip: what the network saw, in camera axes (`turn_into_camera`).
        models: the hand model of each side that the rotations and shapes belong to.
        camera_matrix: [3, 3] pixels.
        hand_length: wrist crease to middle finger tip, metres; sets the size and with it the depth.
    """
    shape = clip_shape(clip)
    scale = {side: hand_length / models[side].length(shape) for side in SIDES}
    rotation = {side: _steady_rotations(clip.hand(side), clip.time) for side in SIDES}
    position = place_wrists(clip, models, camera_matrix, rotation=rotation, shape=shape, scale=scale)

    fitted: dict[Side, FittedHand] = {}
    for side in SIDES:
        seen = clip.hand(side).observed
        if not seen.any():
            fitted[side] = absent_hand(len(clip), scale[side])
            continue
        confidence = clip.hand(side).confidence
        fitted[side] = FittedHand(
            rotation=rotation[side],
            translation=steady_position(
                position[side], confidence, seen, clip.time, cutoffs=LIGHT, hand_length=hand_length
            ),
            shape=shape,
            scale=scale[side],
            pixels=clip.hand(side).keypoints_2d,
        )
    return fitted


def place_wrists(
    clip: PosedClip,
    models: Mapping[Side, HandModel],
    camera_matrix: Array,
    *,
    rotation: Mapping[Side, Array],
    shape: Array,
    scale: Mapping[Side, float],
) -> dict[Side, Array]:
    """Wrists [T, 3] in the camera of hands with the given rotations [T, 16, 4], every frame for itself."""
    relative = {side: models[side].pose_keypoints(rotation[side], None, shape, scale[side]) for side in SIDES}
    viewing = {side: rays(clip.hand(side).keypoints_2d.astype(np.float64), camera_matrix) for side in SIDES}
    weight = {side: trust(clip.hand(side)) for side in SIDES}
    # The offset is as large as the hands the network believes in.
    offset = clip.offset * np.mean([scale[side] for side in SIDES])
    offset = offset - (relative["right"][:, clip.root] - relative["left"][:, clip.root])
    return _place_together(relative, viewing, weight, offset, clip.offset_known)


def clip_shape(clip: PosedClip) -> Array:
    """Shape [10] of the person: median over the frames of both hands, weighted by confidence; zeros if none."""
    shapes = np.concatenate([clip.hand(side).shape for side in SIDES]).astype(np.float64)
    weight = np.concatenate([trust(clip.hand(side)).mean(axis=1) for side in SIDES])
    if not weight.any():
        return np.zeros(SHAPE_COUNT)
    median = weighted_median(shapes, np.broadcast_to(weight[:, None], shapes.shape))
    return np.clip(median, -_LARGEST_SHAPE, _LARGEST_SHAPE)


def _steady_rotations(track: PosedHandTrack, time: Array) -> Array:
    """Lightly smoothed rotations [T, 16, 4], gaps bridged."""
    rotation = track.rotation.astype(np.float64)
    return steady_rotations(rotation, track.confidence, track.observed, time, cutoffs=LIGHT)


def _place_together(
    relative: Mapping[Side, Array],
    viewing: Mapping[Side, Array],
    weight: Mapping[Side, Array],
    offset: Array,
    offset_known: Array,
) -> dict[Side, Array]:
    """Wrists [T, 3] of both hands in the camera.

    The rows t_x - r_x t_z = r_x Z - X and t_y - r_y t_z = r_y Z - Y of every key point, divided by depth and noise,
    are its error in the picture; t_right - t_left = offset has a noise of its own. Solved for both wrists at once.

    Args: relative [T, 21, 3] metres about the wrist, viewing [T, 21, 2] rays, weight [T, 21] (0 where not seen),
        offset [T, 3] from the left to the right wrist, offset_known [T].
    """
    weak = {side: _weak_depth(relative[side], viewing[side], weight[side]) for side in SIDES}
    depth = dict(weak)
    both = offset_known & weight["left"].any(axis=1) & weight["right"].any(axis=1)
    pull = both / _OFFSET_NOISE**2
    position: dict[Side, Array] = {}
    for _ in range(_PLACE_ITERATIONS):
        normal = np.zeros((len(offset), 6, 6))
        right_side = np.zeros((len(offset), 6))
        for first, side in zip((0, 3), SIDES, strict=True):
            rows, values = _ray_rows(relative[side], viewing[side])
            noise = _PLACE_NOISE * np.maximum(np.ptp(viewing[side], axis=1).max(axis=-1), 1e-9) * depth[side]
            sure = (weight[side] / noise[:, None] ** 2)[..., None]
            block = slice(first, first + 3)
            normal[:, block, block] = np.einsum("nkri,nkrj->nij", rows * sure[..., None], rows)
            right_side[:, block] = np.einsum("nkri,nkr->ni", rows * sure[..., None], values)
        for i in range(3):
            normal[:, [i, i + 3], [i, i + 3]] += pull[:, None]
            normal[:, [i, i + 3], [i + 3, i]] -= pull[:, None]
        right_side[:, :3] -= pull[:, None] * offset
        right_side[:, 3:] += pull[:, None] * offset
        normal += 1e-6 * np.eye(6)  # a hand that is not seen stays at the origin
        solution = np.linalg.solve(normal, right_side[..., None])[..., 0]
        for first, side in zip((0, 3), SIDES, strict=True):
            found = solution[:, first : first + 3]
            near = (found[:, 2] > weak[side] / _DEPTH_RANGE) & (found[:, 2] < weak[side] * _DEPTH_RANGE)
            position[side] = np.where(near[:, None], found, _on_rays(relative[side], viewing[side], weak[side]))
            depth[side] = position[side][:, 2]
    return position


def _ray_rows(relative: Array, viewing: Array) -> tuple[Array, Array]:
    """Rows [T, 21, 2, 3] and values [T, 21, 2] of the equations that put key points on their rays."""
    rows = np.zeros((*viewing.shape, 3))
    rows[..., 0, 0] = rows[..., 1, 1] = 1.0
    rows[..., 2] = -viewing
    return rows, viewing * relative[..., 2:] - relative[..., :2]


def _weak_depth(relative: Array, viewing: Array, weight: Array) -> Array:
    """Depth [T] at which a hand under weak perspective is as large as it is seen; 1 m where it is not seen."""
    share = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)

    def spread(points: Array) -> Array:
        middle = np.einsum("nk,nkd->nd", share, points)
        return np.sqrt(np.einsum("nk,nkd->n", share, (points - middle[:, None]) ** 2))

    seen, size = spread(viewing), spread(relative[..., :2])
    return np.where((seen > 1e-9) & (size > 1e-9), size / np.maximum(seen, 1e-9), 1.0)


def _on_rays(relative: Array, viewing: Array, depth: Array) -> Array:
    """Positions [T, 3] at a given depth whose key points lie on their rays on average."""
    across = (viewing * (relative[..., 2:] + depth[:, None, None]) - relative[..., :2]).mean(axis=1)
    return np.concatenate([across, depth[:, None]], axis=1)
