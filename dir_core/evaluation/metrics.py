"""Errors of key points and takes. numpy only; no drawing, no files."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.camera import project
from dir_core.conventions import SIDES, Side
from dir_core.errors import TakeError
from dir_core.hand_model import HandModel
from dir_core.landmarks import length_in_image
from dir_core.take import HandTrack, Take

Array = NDArray[Any]

_SAME_FRAME = 0.25  # of a frame: how far two time stamps of one frame may lie apart


def root_aligned_error(predicted: Array, truth: Array) -> Array:
    """Distances [N, 21] of key points [N, 21, 3] after moving the wrist (row 0) onto the wrist; no scaling."""
    return np.linalg.norm((predicted - predicted[:, :1]) - (truth - truth[:, :1]), axis=-1)


def procrustes_aligned_error(predicted: Array, truth: Array) -> Array:
    """Distances [N, 21] after the best similarity transform per frame (PA-MPJPE; Gower 1975)."""
    a = predicted - predicted.mean(axis=1, keepdims=True)
    b = truth - truth.mean(axis=1, keepdims=True)
    u, s, vt = np.linalg.svd(np.einsum("nki,nkj->nij", b, a))
    sign = np.ones_like(s)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign[:, None]) @ vt
    scale = (s * sign).sum(axis=1) / np.maximum((a**2).sum(axis=(1, 2)), 1e-12)
    aligned = scale[:, None, None] * np.einsum("nij,nkj->nki", rotation, a)
    return np.linalg.norm(aligned - b, axis=-1)


@dataclass(frozen=True)
class TakeFigures:
    """The figures of one take. Shares lie in 0..1; errors are None where nothing can be measured.

    Attributes:
        frames, seconds: length of the clip.
        left_observed, right_observed, both_observed: share of frames.
        reprojection_px: median distance between the posed model's key points and the seen ones.
        reprojection_percent: the same in percent of the hand's length in the image.
        mpjpe_mm: mean wrist-aligned joint error, no scaling, frames observed in both takes.
        pa_mpjpe_mm: mean joint error after similarity alignment per frame and hand.
    """

    frames: int
    seconds: float
    left_observed: float
    right_observed: float
    both_observed: float
    reprojection_px: float | None
    reprojection_percent: float | None
    mpjpe_mm: float | None = None
    pa_mpjpe_mm: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON types."""
        return asdict(self)


def posed_keypoints(track: HandTrack, model: HandModel) -> Array:
    """Key points [T, 21, 3] of the posed model in camera axes, metres."""
    return model.pose_keypoints(track.rotation, track.translation, track.shape, float(track.scale[0]))


def evaluate_take(
    take: Take, models: dict[Side, HandModel], truth: Take | None = None, seen: Take | None = None
) -> TakeFigures:
    """Measure a take against the key points that were seen and, where given, against a truth of the same clip.

    Args:
        take: raw or clean.
        models: the hand model of each side.
        truth: a take of the same clip.
        seen: the same frames with key points as the estimator saw them, None where `take` has them itself.

    Raises:
        TakeError: the truth shares no frame with the take.
    """
    frames = len(take)
    pixels, percents = [], []
    posed = {side: posed_keypoints(take.hand(side), models[side]) for side in SIDES}
    for side in SIDES:
        rows = take.hand(side).observed
        if not rows.any():
            continue
        projected = project(posed[side][rows], take.camera_matrix)
        distance = np.linalg.norm(projected - (seen or take).hand(side).keypoints_2d[rows], axis=-1)
        pixels.append(distance.ravel())
        percents.append((100 * distance / length_in_image(projected)[:, None]).ravel())
    figures: dict[str, float | None] = {}
    if truth is not None:
        figures = _truth_errors(take, truth, posed, models)
    return TakeFigures(
        frames=frames,
        seconds=take.duration,
        left_observed=float(take.left.observed.mean()) if frames else 0.0,
        right_observed=float(take.right.observed.mean()) if frames else 0.0,
        both_observed=float((take.left.observed & take.right.observed).mean()) if frames else 0.0,
        reprojection_px=float(np.median(np.concatenate(pixels))) if pixels else None,
        reprojection_percent=float(np.median(np.concatenate(percents))) if percents else None,
        **figures,
    )


def _truth_errors(
    take: Take, truth: Take, posed: dict[Side, Array], models: dict[Side, HandModel]
) -> dict[str, float | None]:
    nearest = np.abs(take.time[:, None] - truth.time[None]).argmin(axis=1)
    step = float(np.median(np.diff(truth.time))) if len(truth) > 1 else 1.0
    shared = np.abs(take.time - truth.time[nearest]) < _SAME_FRAME * step
    if not shared.any():
        raise TakeError("The truth shares no frame with the take, give the truth of the same clip.")
    root, aligned = [], []
    for side in SIDES:
        rows = shared & take.hand(side).observed & truth.hand(side).observed[nearest]
        expected = posed_keypoints(truth.hand(side), models[side])[nearest]
        root.append(root_aligned_error(posed[side][rows], expected[rows]).ravel())
        aligned.append(procrustes_aligned_error(posed[side][rows], expected[rows]).ravel())
    if not sum(map(len, root)):
        return {}
    return {
        "mpjpe_mm": float(1e3 * np.concatenate(root).mean()),
        "pa_mpjpe_mm": float(1e3 * np.concatenate(aligned).mean()),
    }
