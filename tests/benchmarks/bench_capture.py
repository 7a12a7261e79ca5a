"""Speed of footage and tracking against the bare sum of their parts. Run by hand; prints, asserts nothing.

    python tests/benchmarks/bench_capture.py CLIP [--repeat 3]

Prints frames per second of decoding and tracking together, and the ratio of that to the sum of decoding alone and of
the time spent inside the networks: in wall time (both hands run side by side, so it may be below 1) and in processor
time, which other programs on the machine disturb less. The best of the repeats counts.
"""

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from dir_core.detection.clip_tracking import track_hands
from dir_core.detection.landmark_network import LandmarkNetwork
from dir_core.detection.palm_detector import PalmDetector
from dir_core.detection.tracker import HandTracker
from dir_core.footage import open_footage


class Clock:
    """Adds up wall and processor time of the calls of a method, from all threads.

    The landmark networks have one thread each, the thread's own processor time is theirs. The palm network has two;
    the second one's time is missed, which matters little where it rarely runs.
    """

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self.processor: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def clear(self) -> None:
        for each in (self.seconds, self.processor, self.calls):
            each.clear()

    def wrap(self, owner: type, method: str) -> None:
        inner = getattr(owner, method)
        name = owner.__name__

        def timed(*args, **kwargs):
            start, processor = time.perf_counter(), time.thread_time()
            try:
                return inner(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - start
                self.processor[name] += time.thread_time() - processor
                self.calls[name] += 1

        setattr(owner, method, timed)


def time_decoding(path: Path) -> tuple[float, float, int]:
    start, processor = time.perf_counter(), time.process_time()
    with open_footage(path) as footage:
        count = sum(1 for _ in footage)
    return time.perf_counter() - start, time.process_time() - processor, count


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
        decoding, decoding_cpu, count = time_decoding(options.clip)
        clock.clear()
        with HandTracker() as tracker, open_footage(options.clip) as footage:
            start, cpu = time.perf_counter(), time.process_time()
            track_hands(footage, tracker)
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        networks = sum(clock.seconds.values())
        cpu_ratio = cpu / (decoding_cpu + sum(clock.processor.values()))
        rows.append((wall, wall / (decoding + networks), cpu_ratio))
        parts = ", ".join(
            f"{name} {clock.calls[name]} x {1e3 * clock.seconds[name] / clock.calls[name]:.1f} ms"
            for name in clock.calls
        )
        print(
            f"{count} frames: {count / wall:.1f} frames/s, processor {1e3 * cpu / count:.1f} ms/frame, decoding alone "
            f"{1e3 * decoding / count:.1f} ms/frame, {parts}; "
            f"ratio to decoding + networks: wall {rows[-1][1]:.2f}, processor {cpu_ratio:.2f}"
        )
    fastest = min(wall for wall, _, _ in rows)
    print(
        f"best: {count / fastest:.1f} frames/s, "
        f"ratio wall {min(ratio for _, ratio, _ in rows):.2f}, processor {min(ratio for _, _, ratio in rows):.2f}"
    )


if __name__ == "__main__":
    main()
