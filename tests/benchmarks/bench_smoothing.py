"""How long the smoother takes, how it grows with the clip, and how much memory it needs. Run with `python -m`.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_smoothing [LONG_CLIP_FRAMES]

Times are processor seconds of the best of some runs; the last column is per joint-frame, so that it stays the same
where time is linear in length.
"""

import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from dir_core import rotations
from dir_core.clean_up.smoothing import smooth_rotations, smooth_vectors

RATE = 30.0
JOINTS = 16
KEYPOINTS = 21


def spoiled_hand(frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Swaying joints with 6 degrees of noise, 3 % outliers and 5 % missing frames."""
    rng = np.random.default_rng(1)
    at = np.arange(frames) / RATE
    angle = 0.5 * np.sin(2 * np.pi * 0.6 * at[:, None] + rng.uniform(0, 6, JOINTS))
    vectors = angle[..., None] * np.array([1.0, 0.3, 0.2]) + rng.normal(
        0, np.radians(6) / np.sqrt(3), (frames, JOINTS, 3)
    )
    vectors[rng.random((frames, JOINTS)) < 0.03] += 1.5
    return rotations.from_rotation_vector(vectors), rng.uniform(0.3, 1.0, (frames, JOINTS)), rng.random(frames) > 0.05


def best_time(work: Callable[[], object], runs: int) -> float:
    """Least processor seconds of some runs."""
    found = []
    for _ in range(runs):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return min(found)


def time_rotations(frames: int, runs: int) -> float:
    """Seconds for one hand."""
    hand = spoiled_hand(frames)
    return best_time(lambda: smooth_rotations(*hand, RATE), runs)


def time_vectors(frames: int, runs: int) -> float:
    """Seconds for the key points of one hand."""
    rng = np.random.default_rng(2)
    at = np.arange(frames) / RATE
    points = 0.05 * np.sin(4 * at)[:, None, None] + 0.006 * rng.normal(size=(frames, KEYPOINTS, 3))
    return best_time(lambda: smooth_vectors(points, np.ones(points.shape[:2]), at, nominal_noise=0.006), runs)


def peak_memory(frames: int) -> float:
    """Extra bytes per joint-frame at the peak."""
    hand = spoiled_hand(frames)
    tracemalloc.start()
    smooth_rotations(*hand, RATE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / (frames * JOINTS)


def main() -> None:
    """Measure and print."""
    long_clip = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    for frames, runs in ((1_800, 5), (10_000, 2), (long_clip, 1)):
        seconds = time_rotations(frames, runs)
        each = 1e6 * seconds / (frames * JOINTS)
        print(f"rotations {frames:7d} frames x {JOINTS} joints: {seconds:6.3f} s, {each:.2f} us per joint-frame")
    print(f"vectors      1800 frames x {KEYPOINTS} points: {time_vectors(1_800, 5):6.3f} s")
    for frames in (1_800, 20_000):
        print(f"memory    {frames:7d} frames: {peak_memory(frames):.0f} bytes per joint-frame at the peak")


if __name__ == "__main__":
    main()
