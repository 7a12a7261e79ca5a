"""Speed of drawing pictures to train with, on one core. Run by hand; prints, asserts nothing.

    python tests/benchmarks/bench_drawing.py [--count 400] [--side 224] [--framing close]

Prints pictures a second of wall clock and of processor time, for one process that has one core to itself with all its
threads, and what part of it goes into finding the hands. The best of the repeats counts.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", LP_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from dir_core.hand_model import open_hand_models
from dir_core.training import synthetic
from dir_core.training.anatomy import vary_build
from dir_core.training.renderer import Renderer
from dir_core.training.scenes import sample_hands
from dir_core.training.synthetic import PICTURES_OF_HANDS, Painter, Series


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--side", type=int, default=224, help="of the pictures, pixels")
    parser.add_argument("--framing", choices=["close", "wide"], default="close")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    synthetic.PICTURE_SIDE = options.side
    series = Series(open_hand_models(), options.framing, 0)
    with Renderer() as renderer:
        Painter(renderer, series).draw(0)  # programs are built
        timed = [draw(renderer, series, options.count) for _ in range(options.repeat)]
    wall, processor = min(timed)
    print(f"{options.framing}, {options.side} pixels: {options.count / wall:.1f} pictures a second of a core", end=", ")
    print(f"{options.count / processor:.1f} a second of processor time, {1e3 * wall / options.count:.1f} ms a picture")
    models = vary_build(series.models)
    start = time.perf_counter()
    groups = options.count // PICTURES_OF_HANDS
    for group in range(groups):
        sample_hands(np.random.default_rng((0, group)), models, None)
    print(f"finding the hands: {1e3 * (time.perf_counter() - start) / (groups * PICTURES_OF_HANDS):.1f} ms of it")


def draw(renderer: Renderer, series: Series, count: int) -> tuple[float, float]:
    """Seconds of wall clock and of the processor for the first pictures of a series."""
    painter = Painter(renderer, series)
    start, used = time.perf_counter(), time.process_time()
    for number in range(count):
        painter.draw(number)
    return time.perf_counter() - start, time.process_time() - used


if __name__ == "__main__":
    main()
