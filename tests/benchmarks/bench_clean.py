"""How long a whole clean-up takes, and its parts. Run by hand; prints, asserts nothing.

    python tests/benchmarks/bench_clean.py [RAW.npz] [--frames 1800] [--repeat 5]

A minute of two moving made-up hands, or a raw take played forth and back until it is as long. Wall seconds of the best
run, and processor seconds of the same run: both hands are smoothed and fitted side by side.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from dir_core import clean
from dir_core.clean import clean_take
from dir_core.clean_up.settings import CleanUpSettings
from dir_core.hand_model import open_hand_models
from dir_core.take import FRAME_FIELDS, Take, load_take
from tests.takes import make_raw_take

STEPS = ("correct_sides", "pose_hands", "fit_sighting", "limit_hands", "part_hands", "assemble_take", "report_on")


def forth_and_back(take: Take, frames: int) -> Take:
    """The take with as many frames, every other round backwards, at its own pace."""
    rows = np.arange(frames) % (2 * len(take))
    rows = np.where(rows < len(take), rows, 2 * len(take) - 1 - rows)
    pace = float(np.median(np.diff(take.time)))

    def turned(side):
        hand = take.hand(side)
        return replace(hand, **{name: getattr(hand, name)[rows] for name in FRAME_FIELDS})

    whole = {"time": np.arange(frames) * pace, "frame": np.arange(frames)}
    return replace(take, **whole, left=turned("left"), right=turned("right"))


def time_steps(raw: Take, settings: CleanUpSettings) -> dict[str, float]:
    """Wall seconds of every step in one clean-up."""
    spent, original = {}, {name: getattr(clean, name) for name in STEPS}

    def timed(name):
        def run(*arguments, **options):
            begin = time.perf_counter()
            result = original[name](*arguments, **options)
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - begin
            return result

        return run

    try:
        for name in STEPS:
            setattr(clean, name, timed(name))
        clean_take(raw, open_hand_models(), settings)
    finally:
        for name in STEPS:
            setattr(clean, name, original[name])
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("take", type=Path, nargs="?")
    parser.add_argument("--frames", type=int, default=1800)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    models = open_hand_models()
    if options.take:
        raw = forth_and_back(load_take(options.take), options.frames)
    else:
        raw = make_raw_take(models, times=np.arange(options.frames) / 30)[0]
    for contact in ("off", "hands", "fingers"):
        settings = CleanUpSettings(contact=contact)
        runs = []
        for _ in range(options.repeat):
            begin = time.perf_counter(), time.process_time()
            clean_take(raw, models, settings)
            runs.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
        wall, processor = min(runs)
        print(f"contact {contact:8} {wall:.2f} s wall, {processor:.2f} s of processors, {options.frames} frames x 2")
    for name, seconds in time_steps(raw, CleanUpSettings()).items():
        print(f"  {name:14} {seconds:.3f} s")


if __name__ == "__main__":
    main()
