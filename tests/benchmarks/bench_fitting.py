"""Speed of the pose fit on one thread. Run by hand; prints, asserts nothing.

    python tests/benchmarks/bench_fitting.py [TAKE.npz] [--frames 1800] [--repeat 3]

Prints hands per second of processor time: of made-up hands with 3 mm noise, or of the hands of a raw take, which are
harder. The best of the repeats counts.
"""

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from dir_core.camera import make_camera_matrix, project
from dir_core.conventions import SHAPE_COUNT, SIDES
from dir_core.degrees_of_freedom import HIGHEST, LOWEST, finger_geometry, rotations_from_angles
from dir_core.fitting.hand_pose import fit_pose
from dir_core.fitting.landmark_places import landmark_places
from dir_core.hand_model import open_hand_models
from dir_core.take import load_take

NOISE = 0.003  # metres


def made_up_hands(frames: int):
    """Landmarks, their pixels and what else the fit needs."""
    rng = np.random.default_rng(0)
    model = open_hand_models()["right"]
    geometry = finger_geometry(model, np.zeros(SHAPE_COUNT), 1.0)
    angles = 0.5 * (LOWEST + HIGHEST) + 0.3 * (HIGHEST - LOWEST) * rng.uniform(-1, 1, (frames, 5, 5))
    wrist = rng.normal(size=(frames, 4))
    wrist /= np.linalg.norm(wrist, axis=1, keepdims=True)
    place = np.array([0.0, 0.0, 0.6]) + rng.uniform(-0.1, 0.1, (frames, 3))
    exact = landmark_places(model.pose_keypoints(rotations_from_angles(geometry, wrist, angles), place))
    camera = make_camera_matrix((1920, 1080), 1400.0)
    seen = exact + NOISE * rng.normal(size=exact.shape)
    pixels = project(exact, camera) + 500 * NOISE * rng.normal(size=(frames, 21, 2))
    yield "made up", geometry, (seen, pixels), np.ones((frames, 21)), camera


def hands_of_a_take(path: Path):
    take = load_take(path)
    for side in SIDES:
        hand = take.hand(side)
        if not hand.observed.any():
            continue
        model = open_hand_models()[side]
        geometry = finger_geometry(model, hand.shape, float(hand.scale[0]))
        bones = np.linalg.norm(np.diff(landmark_places(geometry.keypoints)[[0, 9, 10, 11]], axis=0), axis=1).sum()
        points = hand.keypoints_3d[hand.observed].astype(np.float64)
        seen_bones = np.linalg.norm(np.diff(points[:, [0, 9, 10, 11]], axis=1), axis=2).sum(axis=1)
        seen = (points * (bones / np.median(seen_bones)), hand.keypoints_2d[hand.observed].astype(np.float64))
        weight = hand.confidence[hand.observed].astype(np.float64)
        yield side, geometry, seen, weight, take.camera_matrix.astype(np.float64)


def fastest(repeat: int, work) -> float:
    seconds = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("take", type=Path, nargs="?")
    parser.add_argument("--frames", type=int, default=1800)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    hands = made_up_hands(options.frames) if options.take is None else hands_of_a_take(options.take)
    for name, geometry, seen, weight, camera in hands:
        seconds = fastest(options.repeat, partial(fit_pose, geometry, *seen, weight, camera))
        print(f"{name}: {len(weight)} hands, {len(weight) / seconds:.0f} hands/s")


if __name__ == "__main__":
    main()
