"""Speed of footage and tracking against the bare sum of their parts. Run by hand; prints, asserts nothing.

    python tests/benchmarks/bench_capture.py CLIP [--repeat 3]

Prints frames per second of decoding and tracking together, and the ratio of that wall time to the sum of decoding
alone and of the time spent inside the networks. Other programs on the machine disturb: the best of the repeats counts.
"""

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from dir_core.detection.landmark_network import LandmarkNetwork
from dir_core.detection.palm_detector import PalmDetector
from dir_core.detection.tracker import HandTracker, track_hands
from dir_core.footage import open_footage


class Clock:
    """Adds up the wall time of the calls of a method, from all threads."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def wrap(self, owner: type, method: str) -> None:
        inner = getattr(owner, method)
        name = owner.__name__

        def timed(*args, **kwargs):
            start = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - start
                self.calls[name] += 1

        setattr(owner, method, timed)


def time_decoding(path: Path) -> tuple[float, int]:
    start = time.perf_counter()
    with open_footage(path) as footage:
        count = sum(1 for _ in footage)
    return time.perf_counter() - start, count


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of footage and tracking.")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    clock = Clock()
    clock.wrap(PalmDetector, "infer")
    clock.wrap(LandmarkNetwork, "infer")
    rows = []
    for _ in range(options.repeat):
        decoding, count = time_decoding(options.clip)
        clock.seconds.clear()
        clock.calls.clear()
        with HandTracker() as tracker, open_footage(options.clip) as footage:
            start, cpu = time.perf_counter(), time.process_time()
            track_hands(footage, tracker)
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        networks = sum(clock.seconds.values())
        rows.append((wall, wall / (decoding + networks)))
        parts = ", ".join(
            f"{name} {clock.calls[name]} x {1e3 * clock.seconds[name] / clock.calls[name]:.1f} ms"
            for name in clock.calls
        )
        print(
            f"{count} frames: {count / wall:.1f} frames/s, processor {1e3 * cpu / count:.1f} ms/frame, decoding alone "
            f"{1e3 * decoding / count:.1f} ms/frame, {parts}, wall / (decoding + networks) = {rows[-1][1]:.2f}"
        )
    print(f"best: {count / min(rows)[0]:.1f} frames/s, ratio {min(ratio for _, ratio in rows):.2f}")


if __name__ == "__main__":
    main()
