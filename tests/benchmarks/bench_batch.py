"""Eight clips one after the other, side by side in processes, and on a Ray cluster of this machine.

    python tests/benchmarks/bench_batch.py CLIP [--frames 180] [--clips 8] [--jobs 2]

Every way is a command of its own, with its start; processor time is that of all its processes. Compares the takes,
prints, asserts nothing about speed. Linux only.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import cv2

_PERIOD = 0.1  # seconds between two looks at the processes


def cut_clips(source: Path, frames: int, count: int, folder: Path) -> list[Path]:
    """Write clips that begin at different frames and run through the source forwards and backwards."""
    reader = cv2.VideoCapture(str(source))
    pictures = []
    while (read := reader.read())[0]:
        pictures.append(read[1])
    order = [*range(len(pictures)), *range(len(pictures) - 2, 0, -1)]
    height, width = pictures[0].shape[:2]
    rate, paths = reader.get(cv2.CAP_PROP_FPS), []
    for number in range(count):
        paths.append(folder / f"clip {number + 1}.mp4")
        writer = cv2.VideoWriter(str(paths[-1]), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
        for index in range(frames):
            writer.write(pictures[order[(index + 40 * number) % len(order)]])
        writer.release()
    return paths


def measure(commands: list[list[str]], home: Path) -> tuple[float, float, float]:
    """Wall time, processor time of all processes, and peak memory of the largest one in MB."""
    mark = f"BENCH_BATCH={home}"  # every process of a command has it in its environment, whoever its parent is
    environment = {**os.environ, "BENCH_BATCH": str(home)}
    processor: dict[str, float] = {}
    memory = 0.0
    begin = time.perf_counter()
    for command in commands:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            for folder in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError, IndexError, ValueError):
                    if mark.encode() in (folder / "environ").read_bytes():
                        spent = (folder / "stat").read_text().rpartition(")")[2].split()
                        processor[folder.name] = (int(spent[11]) + int(spent[12])) / os.sysconf("SC_CLK_TCK")
                        peak = (folder / "status").read_text().split("VmHWM:")[1].split()[0]
                        memory = max(memory, int(peak) / 1024)
            time.sleep(_PERIOD)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - begin, sum(processor.values()), memory


def main() -> None:
    """Measure every way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, default=180)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        (folder / "footage").mkdir()
        clips = cut_clips(options.clip, options.frames, options.clips, folder / "footage")
        python = [sys.executable, "-m", "dir_core", "capture"]
        outputs = {way: folder / f"takes {number}" for number, way in enumerate(("alone", "1 job", "jobs", "ray"))}
        for output in outputs.values():
            output.mkdir()
        several = [*python, str(folder / "footage"), "-o"]
        ways = {
            "alone": [[*python, str(clip), "-o", str(outputs["alone"] / f"{clip.stem}.npz")] for clip in clips],
            "1 job": [[*several, str(outputs["1 job"]), "--jobs", "1"]],
            "jobs": [[*several, str(outputs["jobs"]), "--jobs", str(options.jobs)]],
            "ray": [[*several, str(outputs["ray"]), "--jobs", str(options.jobs), "--engine", "ray"]],
        }
        expected: dict[str, bytes] = {}
        for way, commands in ways.items():
            wall, processor, memory = measure(commands, folder)
            takes = {path.name: path.read_bytes() for path in sorted(outputs[way].glob("*.npz"))}
            expected = expected or takes
            frames = options.frames * options.clips
            print(
                f"{way:6} wall {wall:6.1f} s  processor {processor:6.1f} s  {frames / wall:5.1f} frames/s  "
                f"largest process {memory:4.0f} MB  {'same takes' if takes == expected else 'OTHER TAKES'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
