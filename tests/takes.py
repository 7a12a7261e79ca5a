"""Synthetic Takes with known truth, made from a hand model itself. For every test that needs a Take."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dir_core import rotations
from dir_core.camera import make_camera_matrix, project
from dir_core.conventions import JOINTS, SHAPE_COUNT, SIDES, Side
from dir_core.degrees_of_freedom import finger_geometry
from dir_core.evaluation.touching_metrics import straight_ahead
from dir_core.fitting.landmark_places import landmark_places
from dir_core.take import SCHEMA, HandTrack, Take
from tests.motion import hand_motion

# Columns: where the template's x, y and z go for fingers up and the palm to the camera, thumbs inwards.
_PALM_TO_CAMERA: dict[Side, Any] = {
    "left": rotations.from_matrix(np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])),
    "right": rotations.from_matrix(np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])),
}


def curl_rotation(model: Any, shape: Any, phase: Any) -> Any:
    """Rotations [T, 16, 4] that curl every finger about its flexion axis while the wrist sways, phase [T] in turns."""
    turn = 2 * np.pi * np.asarray(phase, float)
    curl = 0.6 - 0.6 * np.cos(turn)
    vectors = np.zeros((len(turn), len(JOINTS), 3))
    vectors[:, 1:] = curl[:, None, None] * model.flexion_axes(shape)
    vectors[:, 13:] *= 0.4  # thumbs bend less
    rotation = rotations.from_rotation_vector(vectors)
    sway = np.stack([0.3 * np.sin(turn), 0.4 * np.sin(2 * turn), 0.2 * np.cos(turn)], axis=-1)
    rotation[:, 0] = rotations.multiply(rotations.from_rotation_vector(sway), _PALM_TO_CAMERA[model.side])
    return rotations.make_continuous(rotation)


def make_take(
    models: Mapping[Side, Any],
    count: int = 24,
    rate: float = 30.0,
    *,
    first_frame: int = 0,
    times: Any = None,
    observed: Any = True,
    image_size: tuple[int, int] = (1280, 720),
    focal_length: float | None = 1100.0,
    camera_matrix: Any = None,
    source: dict[str, Any] | None = None,
    scale: float = 1.0,
) -> Take:
    """A Take of both hands curling in front of the camera; key points are those of the posed model.

    Args:
        models: a hand model per side.
        count: frames.
        rate: frames per second of the source.
        first_frame: index in the source of the first frame.
        times: [count] time stamps in seconds instead of the regular ones.
        observed: bool or [count] for both hands.
        image_size: width and height in pixels.
        focal_length: in pixels.
        camera_matrix: [3, 3] instead of the one from image_size and focal_length.
        source: entries to add to meta["source"].
        scale: of both hands.
    """
    frame = np.arange(first_frame, first_frame + count)
    time = frame / rate if times is None else np.asarray(times, float)
    phase = (time - time[0]) / 0.8 if count else time
    camera = make_camera_matrix(image_size, focal_length) if camera_matrix is None else np.asarray(camera_matrix)
    seen = np.broadcast_to(np.asarray(observed, bool), (count,)).copy()
    rng = np.random.default_rng(7)

    def track(side: Side) -> HandTrack:
        shape = rng.normal(0, 0.5, SHAPE_COUNT)
        rotation = curl_rotation(models[side], shape, phase)
        sign = -1.0 if side == "right" else 1.0  # facing the camera, the right hand is on the picture's left
        path = [0.09 * np.ones(count), 0.08 + 0.02 * np.sin(phase), 0.55 + 0.05 * np.cos(phase)]
        translation = np.stack(path, axis=-1) * [sign, 1.0, 1.0]
        posed = models[side].pose(rotation, translation, shape, scale)
        return HandTrack(
            rotation=rotation.astype(np.float32),
            translation=translation.astype(np.float32),
            shape=shape.astype(np.float32),
            scale=np.array([scale], np.float32),
            keypoints_2d=project(posed.keypoints, camera).astype(np.float32),
            keypoints_3d=posed.keypoints.astype(np.float32),
            confidence=np.where(seen[:, None], 0.9, 0.0) * np.ones((1, 21), np.float32),
            observed=seen,
        )

    tracks = {side: track(side) for side in SIDES}
    meta = {
        "schema": SCHEMA,
        "program": "test",
        "source": {"name": "synthetic", "frame_rate": rate, **(source or {})},
        "estimator": {},
        "hand_model": {},
        "settings": {},
        "history": [],
    }
    return Take(
        meta=meta,
        time=time,
        frame=frame,
        camera_matrix=camera.astype(np.float32),
        image_size=np.asarray(image_size),
        left=tracks["left"],
        right=tracks["right"],
    )


def make_raw_take(
    models: Mapping[Side, Any],
    *,
    times: Any,
    noise: float = 0.004,
    seed: int = 0,
    estimator: str = "landmarks",
    hand_length: float = 0.185,
) -> tuple[Take, Take]:
    """A raw take as an estimator would have seen two moving hands, and the truth behind it.

    Args:
        models: a hand model per side.
        times: [T] seconds.
        noise: of the landmarks in metres, and as much in the picture; of the rotations some ten degrees per centimetre.
        seed: of motion and noise.
        estimator: "landmarks", whose key points lie where the landmark network sees them, or one that poses hands.
        hand_length: of the person, metres.
    """
    time = np.asarray(times, float)
    rng = np.random.default_rng(seed)
    camera = make_camera_matrix((1280, 720), 1100.0)
    tracks: dict[str, dict[Side, HandTrack]] = {"raw": {}, "truth": {}}
    for side in SIDES:
        model, shape = models[side], np.zeros(SHAPE_COUNT)
        scale = hand_length / model.length(shape)
        rotation, place = hand_motion(finger_geometry(model, shape, scale), time, seed + (side == "right"))
        rotation[:, 0] = rotations.multiply(rotations.from_rotation_vector(np.array([1.2, 0.0, 0.0])), rotation[:, 0])
        place = place + [0.16 if side == "left" else -0.16, 0.0, 0.1]
        keypoints = model.pose_keypoints(rotation, place, shape, scale)
        sizes = {"shape": shape.astype(np.float32), "scale": np.array([scale], np.float32)}
        tracks["truth"][side] = _pack_track(rotation, place, project(keypoints, camera), keypoints, **sizes)
        spot = seen = keypoints
        if estimator == "landmarks":
            spot = landmark_places(keypoints)
            seen = straight_ahead(spot[:, None], project(spot, camera)[:, None], camera)[:, 0]
        turn = rotations.from_rotation_vector(18.0 * noise * rng.normal(size=(*rotation.shape[:2], 3)))
        tracks["raw"][side] = _pack_track(
            rotations.make_continuous(rotations.multiply(rotation, turn)),
            place + noise * rng.normal(size=place.shape) * [0.3, 0.3, 2.0],
            project(spot, camera) + 600.0 * noise * rng.normal(size=(*spot.shape[:2], 2)),
            seen + noise * rng.normal(size=spot.shape),
            **sizes,
        )
    meta = {
        "schema": SCHEMA,
        "program": "test",
        "source": {"name": "synthetic", "path": "synthetic.mp4", "frame_rate": 30.0},
        "estimator": {"name": estimator},
        "hand_model": {"name": models["right"].name},
        "settings": {"hand_length": hand_length},
        "history": [],
    }
    whole = {
        "meta": meta,
        "time": time,
        "frame": np.arange(len(time)) + 10,
        "camera_matrix": camera.astype(np.float32),
        "image_size": np.array([1280, 720]),
    }
    raw, truth_take = (Take(**whole, **tracks[name]) for name in ("raw", "truth"))
    return raw, truth_take


def _pack_track(rotation: Any, place: Any, pixels: Any, points: Any, *, shape: Any, scale: Any) -> HandTrack:
    return HandTrack(
        rotation=rotation.astype(np.float32),
        translation=place.astype(np.float32),
        shape=shape,
        scale=scale,
        keypoints_2d=pixels.astype(np.float32),
        keypoints_3d=points.astype(np.float32),
        confidence=np.full(pixels.shape[:2], 0.95, np.float32),
        observed=np.ones(len(rotation), bool),
    )
