"""`capture`: footage becomes a raw take, many clips become many takes."""

import argparse
import functools
import math
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from dir_core.capture_settings import CaptureSettings
from dir_core.commands.common import write_report
from dir_core.conventions import DEFAULT_HAND_LENGTH
from dir_core.errors import SettingsError
from dir_core.take import check_output, save_take


def add_capture(commands: Any) -> None:
    """Add the command to the subparsers of a command line."""
    capture = commands.add_parser("capture", help="video or image sequence -> raw take; many of them -> many takes")
    capture.add_argument(
        "footage",
        type=Path,
        nargs="+",
        metavar="FOOTAGE",
        help="a video or image sequence; several, a folder of them, or a list of them (.txt, one a line)",
    )
    capture.add_argument(
        "-o", "--output", type=Path, required=True, metavar="TAKE.npz|FOLDER", help="a folder for several takes"
    )
    capture.add_argument("--start", type=float, metavar="S", help="first second to capture")
    capture.add_argument("--end", type=float, metavar="S", help="last second to capture")
    capture.add_argument("--step", type=int, default=1, metavar="N", help="capture every N-th frame (default: all)")
    capture.add_argument("--estimator", default="landmarks", help="landmarks (default) or dir")
    capture.add_argument("--checkpoint", type=Path, metavar="FILE", help="weights of the estimator dir")
    capture.add_argument(
        "--box",
        type=float,
        nargs=4,
        metavar=("X", "Y", "W", "H"),
        help="around both hands at the first frame, in pixels, for hands that are missed (small, cut off, odd)",
    )
    capture.add_argument("--batch", type=int, metavar="N", help="crops that go through the network together (dir)")
    capture.add_argument(
        "--legacy-weights", action="store_true", help="the checkpoint is the official one of October 2023 (dir)"
    )
    lens = capture.add_mutually_exclusive_group()
    lens.add_argument("--focal-length", type=float, metavar="PX", help="focal length in pixels")
    lens.add_argument("--field-of-view", type=float, metavar="DEG", help="horizontal field of view (default 60)")
    capture.add_argument(
        "--hand-length",
        type=float,
        default=100 * DEFAULT_HAND_LENGTH,
        metavar="CM",
        help="wrist crease to middle finger tip (default %(default)s); sets size and depth",
    )
    capture.add_argument("--mirrored", action="store_true", help="the footage is mirrored (selfie)")
    capture.add_argument("--device", default="auto", metavar="NAME", help="auto (default) or cpu; dir: also cuda, mps")
    capture.add_argument("--frame-rate", type=float, metavar="FPS", help="of an image sequence (default 24)")
    capture.add_argument("--hand-model", metavar="FOLDER", help="folder with your own MANO_LEFT and MANO_RIGHT files")
    capture.add_argument("--report", type=Path, metavar="JSON", help="write the figures of the run")
    many = capture.add_argument_group("of many clips", "docs/BATCH.md; what is finished is not captured again")
    many.add_argument("--jobs", type=int, metavar="N", help="clips at once (default: one a core; dir: one)")
    many.add_argument("--engine", choices=["local", "ray"], default="local", help="this machine (default), a cluster")
    many.add_argument("--address", metavar="ADDRESS", help="of the Ray cluster, or auto (default: one on this machine)")
    capture.set_defaults(run=_run_capture)


def _run_capture(options: argparse.Namespace) -> None:
    from dir_core.batch.clips import is_batch

    settings = CaptureSettings(
        start=options.start,
        end=options.end,
        step=options.step,
        estimator=options.estimator,
        focal_length=options.focal_length,
        field_of_view=None if options.field_of_view is None else math.radians(options.field_of_view),
        hand_length=options.hand_length / 100,
        mirrored=options.mirrored,
        device=options.device,
        frame_rate=options.frame_rate,
        hand_model=options.hand_model,
        checkpoint=str(options.checkpoint.absolute()) if options.checkpoint else None,
        box=tuple(options.box) if options.box else None,
        batch=options.batch,
        legacy_weights=options.legacy_weights,
    )
    if is_batch(options.footage, options.output):
        from dir_core.commands.capture_many import capture_many

        if options.report:
            check_output(options.report)
        figures = functools.partial(write_report, options.report) if options.report else None
        capture_many(
            options.footage,
            settings,
            options.output,
            jobs=options.jobs,
            engine=options.engine,
            address=options.address,
            report=figures,
        )
        return
    if options.jobs is not None or options.engine != "local" or options.address:
        raise SettingsError("--jobs, --engine and --address are for many clips, give an existing folder as -o.")
    _capture_one(options, options.footage[0], settings)


def _capture_one(options: argparse.Namespace, footage: Path, settings: CaptureSettings) -> None:
    from tqdm import tqdm

    from dir_core.capture import capture_take
    from dir_core.parts import parts_folder

    parts = parts_folder(options.output)
    for path in filter(None, (options.output, options.report)):
        check_output(path)
    begin = time.perf_counter()
    with tqdm(desc="capture", unit=" frames", leave=False, disable=None) as bar:

        def show(done: int, expected: int) -> None:
            bar.total = expected
            bar.update(done - bar.n)

        try:
            result = capture_take(footage, settings, show, parts)
        except KeyboardInterrupt:
            if parts.is_dir():
                raise KeyboardInterrupt(f"Stopped; the same command goes on from here, or delete {parts}.") from None
            raise
    wall = time.perf_counter() - begin
    save_take(result.take, options.output)
    shutil.rmtree(parts, ignore_errors=True)
    frames = len(result.take)
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    used = result.take.meta["estimator"]
    if "checkpoint" in used:
        print(f"Weights: {used['checkpoint']} ({used['weights'][:12]}), {used['licence']}.")
    both = (result.take.left.observed & result.take.right.observed).mean()
    print(f"Captured {frames} frames in {wall:.1f} s ({frames / wall:.0f} frames/s), both hands in {both:.1%}.")
    if options.report:
        write_report(
            options.report,
            {
                "frames": frames,
                "seconds": result.take.duration,
                "wall_seconds": wall,
                "frames_per_second": frames / wall,
                "warnings": list(result.warnings),
            },
        )
