"""The fit gives back poses, shape and place that it was shown, within the noise it was shown them with."""

import numpy as np
import pytest

from dir_core import rotations
from dir_core.camera import make_camera_matrix, project
from dir_core.conventions import SIDES, Side
from dir_core.degrees_of_freedom import FREE, HIGHEST, LOWEST, finger_geometry, rotations_from_angles
from dir_core.fitting import hand_pose
from dir_core.fitting.arrow import solve
from dir_core.fitting.hand_pose import fit_pose, place_on_rays, pose_keypoints
from dir_core.fitting.hand_shape import bone_lengths, fit_shape
from dir_core.fitting.landmark_places import landmark_places
from dir_core.hand_model import HandModel, open_hand_models

SHAPE = np.array([0.0, 0.8, -0.5, 0.4, 0.6, -0.5, 0.3, -0.4, 0.0, 0.3])
SCALE = 1.05
CAMERA = make_camera_matrix((1920, 1080), 1400.0)


@pytest.fixture(params=SIDES)
def model(request: pytest.FixtureRequest) -> HandModel:
    side: Side = request.param
    return open_hand_models()[side]


def random_poses(model: HandModel, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plausible poses: rotations [N, 16, 4], wrists [N, 3], key points [N, 21, 3]."""
    rng = np.random.default_rng(seed)
    middle, half = 0.5 * (LOWEST + HIGHEST), 0.5 * (HIGHEST - LOWEST)
    angles = middle + half * rng.uniform(-0.6, 0.6, (count, 5, 5))
    wrist = rng.normal(size=(count, 4))
    wrist /= np.linalg.norm(wrist, axis=1, keepdims=True)
    rotation = rotations_from_angles(finger_geometry(model, SHAPE, SCALE), wrist, angles)
    place = np.stack([rng.uniform(-0.15, 0.15, count), rng.uniform(-0.1, 0.1, count), rng.uniform(0.4, 0.9, count)], 1)
    return rotation, place, model.pose_keypoints(rotation, place, SHAPE, SCALE)


def finger_degrees(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(rotations.angle_between(a[:, 1:], b[:, 1:])).mean())


@pytest.mark.parametrize(("prior", "degrees"), [(0.8, 0.5), (0.01, 0.01)])
def test_exact_landmarks_give_the_pose_back(model: HandModel, prior: float, degrees: float) -> None:
    rotation, place, keypoints = random_poses(model, 200, 0)
    geometry = finger_geometry(model, SHAPE, SCALE)
    seen = landmark_places(keypoints)
    fitted = fit_pose(
        geometry, seen - 0.1, project(seen, CAMERA), np.ones((200, 21)), CAMERA, landmark_noise=0.001, prior=prior
    )
    assert finger_degrees(fitted.rotation, rotation) < degrees
    assert np.abs(fitted.keypoints - keypoints).mean() < 5e-4
    assert np.abs(fitted.translation - place).mean() < 1e-3


@pytest.mark.parametrize(("noise", "degrees", "tip_mm"), [(0.003, 5.0, 3.5), (0.006, 7.5, 6.0)])
def test_noisy_landmarks_stay_within_the_study(model: HandModel, noise: float, degrees: float, tip_mm: float) -> None:
    rng = np.random.default_rng(1)
    rotation, _, keypoints = random_poses(model, 300, 1)
    exact = landmark_places(keypoints)
    seen = exact + noise * rng.normal(size=keypoints.shape)
    pixels = project(exact, CAMERA) + 500 * noise * rng.normal(size=(300, 21, 2))
    fitted = fit_pose(
        finger_geometry(model, SHAPE, SCALE), seen, pixels, np.ones((300, 21)), CAMERA, landmark_noise=noise
    )
    tips = [4, 8, 12, 16, 20]
    relative = (fitted.keypoints - fitted.keypoints[:, :1]) - (keypoints - keypoints[:, :1])
    assert finger_degrees(fitted.rotation, rotation) < degrees
    assert 1e3 * np.linalg.norm(relative[:, tips], axis=-1).mean() < tip_mm


def test_one_wild_landmark_does_not_bend_the_hand(model: HandModel) -> None:
    _, _, keypoints = random_poses(model, 100, 2)
    seen = landmark_places(keypoints)
    pixels = project(seen, CAMERA)
    seen[:, 8] += 0.08
    pixels[:, 8] += 120
    fitted = fit_pose(finger_geometry(model, SHAPE, SCALE), seen, pixels, np.ones((100, 21)), CAMERA)
    others = [i for i in range(21) if i not in (6, 7, 8)]
    assert 1e3 * np.linalg.norm(fitted.keypoints - keypoints, axis=-1)[:, others].mean() < 6


def test_locked_angles_stay_zero_and_a_broken_finger_stops_near_its_limit(model: HandModel) -> None:
    geometry = finger_geometry(model, SHAPE, SCALE)
    angles = np.zeros((1, 5, 5))
    angles[0, 1, 3] = LOWEST[1, 3] - np.radians(50)  # index finger bent backwards at its second joint
    keypoints = pose_keypoints(geometry, np.eye(3)[None], angles) + [0.0, 0.0, 0.6]
    seen = landmark_places(keypoints)
    fitted = fit_pose(geometry, seen, project(seen, CAMERA), np.ones((1, 21)), CAMERA)
    assert np.abs(fitted.angles[:, ~FREE]).max() < 1e-6
    assert np.degrees(fitted.angles[0, 1, 3] - LOWEST[1, 3]) > -12


def test_the_fit_does_not_depend_on_the_block_it_is_solved_in(
    model: HandModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hand_pose, "_BLOCK", 256)
    _, _, keypoints = random_poses(model, 600, 4)
    pixels, geometry = project(keypoints, CAMERA), finger_geometry(model, SHAPE, SCALE)
    together = fit_pose(geometry, keypoints, pixels, np.ones((600, 21)), CAMERA)
    alone = fit_pose(geometry, keypoints[550:551], pixels[550:551], np.ones((1, 21)), CAMERA)
    assert together.rotation[550] == pytest.approx(alone.rotation[0], abs=1e-9)


def noisy_landmarks(model: HandModel, count: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks [N, 21, 3] and their pixels [N, 21, 2] of plausible poses, metres of noise."""
    rng = np.random.default_rng(seed)
    exact = landmark_places(random_poses(model, count, seed)[2])
    pixels = project(exact, CAMERA) + 500 * noise * rng.normal(size=(count, 21, 2))
    return exact + noise * rng.normal(size=exact.shape), pixels


def test_frames_without_trust_and_clips_without_frames_are_fitted(model: HandModel) -> None:
    seen, pixels = noisy_landmarks(model, 4, 0.003, 12)
    geometry, weight = finger_geometry(model, SHAPE, SCALE), np.ones((4, 21))
    weight[1] = 0.0
    pose = fit_pose(geometry, seen, pixels, weight, CAMERA)
    assert np.isfinite(pose.rotation).all()
    assert np.isfinite(pose.keypoints).all()
    empty = fit_pose(geometry, seen[:0], pixels[:0], weight[:0], CAMERA)
    assert empty.rotation.shape == (0, 16, 4)


def test_solve_is_exact() -> None:
    rng = np.random.default_rng(13)
    root = rng.normal(size=(7, 5, 5))
    matrix, right = root @ root.swapaxes(1, 2) + np.eye(5), rng.normal(size=(7, 5, 3))
    solved = solve(np.concatenate([matrix, right], axis=2).transpose(1, 2, 0))
    assert solved.transpose(2, 0, 1) == pytest.approx(np.linalg.solve(matrix, right), abs=1e-9)


def test_mirrored_landmarks_give_the_mirrored_pose() -> None:
    models = open_hand_models()
    _, _, keypoints = random_poses(models["right"], 100, 5)
    mirrored = keypoints * [-1, 1, 1]
    fits = {
        side: fit_pose(
            finger_geometry(models[side], SHAPE, SCALE), points, project(points, CAMERA), np.ones((100, 21)), CAMERA
        )
        for side, points in (("right", keypoints), ("left", mirrored))
    }
    assert fits["left"].angles == pytest.approx(fits["right"].angles, abs=1e-6)
    assert fits["left"].keypoints == pytest.approx(fits["right"].keypoints * [-1, 1, 1], abs=1e-7)


def test_landmarks_lie_on_the_bones_of_the_posed_hand(model: HandModel) -> None:
    _, _, keypoints = random_poses(model, 20, 8)
    moved = np.linalg.norm(landmark_places(keypoints) - keypoints, axis=-1)
    assert moved[:, [0, 1, 4, 8, 12, 16, 20]].min() > 0.004
    assert not np.delete(moved, [0, 1, 4, 8, 12, 16, 20], axis=1).any()


def test_place_on_rays_is_exact(model: HandModel) -> None:
    _, place, keypoints = random_poses(model, 50, 6)
    relative = keypoints - place[:, None]
    ray = keypoints[..., :2] / keypoints[..., 2:]
    assert place_on_rays(relative, ray, np.ones((50, 21))) == pytest.approx(place, abs=1e-9)


def test_shape_explains_the_bone_lengths_and_hand_length_sets_the_size(model: HandModel) -> None:
    _, _, keypoints = random_poses(model, 200, 7)
    lengths = bone_lengths(landmark_places(keypoints) / 1.4, np.ones((200, 21)))
    hand = fit_shape(model, lengths, hand_length=0.2)
    geometry = finger_geometry(model, hand.shape, hand.scale)
    found = bone_lengths(landmark_places(geometry.keypoints[None]), np.ones((1, 21)))
    expected = lengths * hand.landmark_scale
    assert np.abs(found - expected).mean() < 0.0015
    assert hand.scale * model.length(hand.shape) == pytest.approx(0.2)
