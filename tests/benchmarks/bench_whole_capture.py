"""Speed and peak memory of a whole capture, decode to raw take, and that memory does not grow with the clip.

    python tests/benchmarks/bench_whole_capture.py CLIP [--frames 300 3000]

Every capture runs in a process of its own. The ratio compares its wall time with decoding alone plus the time
spent inside the networks, all in one run. Prints, asserts nothing.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import cv2

from dir_core.footage import open_footage


def loop_clip(source: Path, frames: int, path: Path) -> None:
    """Write `frames` frames of a clip, over and over, forwards and backwards so that nothing jumps."""
    with open_footage(source) as footage:
        pictures = [cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR) for frame in footage]
        rate = footage.info.frame_rate
    order = [*range(len(pictures)), *range(len(pictures) - 2, 0, -1)]
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
    for index in range(frames):
        writer.write(pictures[order[index % len(order)]])
    writer.release()


def capture(clip: Path) -> dict[str, float]:
    """Capture in this process and measure."""
    from dir_core.capture import CaptureSettings, capture_take
    from dir_core.detection.landmark_network import LandmarkNetwork
    from dir_core.detection.palm_detector import PalmDetector
    from tests.benchmarks.bench_capture import Clock

    begin = time.perf_counter()
    with open_footage(clip) as footage:
        for _ in footage:
            pass
    decoding = time.perf_counter() - begin
    clock = Clock()
    clock.wrap(PalmDetector, "infer")
    clock.wrap(LandmarkNetwork, "infer")
    begin = time.perf_counter()
    take = capture_take(clip, CaptureSettings()).take
    wall = time.perf_counter() - begin
    return {
        "frames": len(take),
        "wall_seconds": wall,
        "frames_per_second": len(take) / wall,
        "decoding_seconds": decoding,
        "network_seconds": sum(clock.seconds.values()),
        "ratio": wall / (decoding + sum(clock.seconds.values())),
        "peak_memory_mb": peak_memory(),
    }


def peak_memory() -> float:
    """Largest resident size of this process in MB. Linux's ru_maxrss would also hold that of the starting process."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def main() -> None:
    """Capture the clip itself, then loops of it of the asked lengths."""
    parser = argparse.ArgumentParser(description="Speed and memory of a whole capture.")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, nargs="*", default=[])
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_this_process:
        print(json.dumps(capture(options.clip)))
        return
    with tempfile.TemporaryDirectory() as folder:
        clips = [options.clip]
        for frames in options.frames:
            clips.append(Path(folder) / f"{frames}.mp4")
            loop_clip(options.clip, frames, clips[-1])
        for clip in clips:
            command = [sys.executable, __file__, str(clip), "--in-this-process"]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            figures = json.loads(done.stdout.splitlines()[-1])
            print(clip.name, "  ".join(f"{name} {value:.4g}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
