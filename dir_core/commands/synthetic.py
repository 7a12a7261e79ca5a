"""`synthetic`: pictures and clips of two hands with exact truth."""

import argparse
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from dir_core.batch.local import thread_limits
from dir_core.errors import SettingsError
from dir_core.hand_model import load_hand_models
from dir_core.take import check_output
from dir_core.training.two_hands import Kind, View

if TYPE_CHECKING:
    from dir_core.training.synthetic import Series

_FRAMINGS = ("close", "wide")


def add_synthetic(commands: Any) -> None:
    """Add the command to the subparsers of a command line."""
    synthetic = commands.add_parser("synthetic", help="draw pictures and clips of two hands with exact truth")
    kinds = synthetic.add_subparsers(required=True, metavar="WHAT")

    pictures = kinds.add_parser("pictures", help="a folder of pictures to train with")
    pictures.add_argument("folder", type=Path)
    pictures.add_argument("--count", type=int, default=10_000)
    pictures.add_argument(
        "--framing", choices=_FRAMINGS, default="close", help="hands that fill the picture, or a scene"
    )
    pictures.add_argument("--processes", type=int, default=1)
    pictures.set_defaults(run=_run_pictures)

    sheet = kinds.add_parser("sheet", help="one picture of many, to look at")
    sheet.add_argument("-o", "--output", type=Path, default=Path("synthetic.png"), metavar="SHEET.png")
    sheet.add_argument("--count", type=int, default=48)
    sheet.add_argument("--framing", choices=_FRAMINGS, default="close")
    sheet.add_argument("--kind", choices=get_args(Kind))
    sheet.set_defaults(run=_run_sheet)

    clip = kinds.add_parser("clip", help="a movie with smooth motion, and its truth as a take beside it")
    clip.add_argument("--kind", choices=get_args(Kind), default="interlaced")
    clip.add_argument("--view", choices=get_args(View), default="webcam")
    clip.add_argument("--skin", type=int, metavar="TONE", help="number of a skin tone, default: any")
    clip.add_argument("--seconds", type=float, default=2.5)
    clip.add_argument("-o", "--output", type=Path, default=Path("synthetic.mp4"), metavar="MOVIE.mp4")
    clip.set_defaults(run=_run_clip)

    for each in (pictures, sheet, clip):
        each.add_argument("--hand-model", metavar="FOLDER", help="default: the open hand")
        each.add_argument("--seed", type=int, default=0)


def _run_pictures(options: argparse.Namespace) -> None:
    from dir_core.training.synthetic import Series

    series = Series(load_hand_models(options.hand_model), options.framing, options.seed)
    draw_pictures(options.folder, series, options.count, options.processes)
    print(f"Wrote {options.count} pictures into {options.folder}")


def draw_pictures(folder: Path, series: "Series", count: int, processes: int) -> None:
    """Draw a folder of pictures in processes of one thread each, with a bar that shows how far the first of them is.

    Raises:
        SettingsError: no process is to draw; see also `write_pictures`.
        RendererError, OutputError: see `write_pictures`.
    """
    from dir_core.training.synthetic import lay_out

    if processes < 1:
        raise SettingsError(f"{processes} processes cannot draw pictures; use --processes 1 or more.")
    lay_out(folder, series, count)
    # Not forked: OpenGL and its threads do not survive that.
    context = multiprocessing.get_context("spawn")
    with _new_processes_have_one_thread(), ProcessPoolExecutor(processes, context) as pool:
        shares = [pool.submit(_draw_share, folder, series, count, (rank, processes)) for rank in range(processes)]
        for share in shares:
            share.result()


@contextmanager
def _new_processes_have_one_thread() -> Iterator[None]:
    """Threads of linear algebra and of software OpenGL wait busily for each other, and so take the others' cores."""
    limits = thread_limits(1)
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _draw_share(folder: Path, series: "Series", count: int, share: tuple[int, int]) -> None:
    from tqdm import tqdm

    from dir_core.training.synthetic import write_pictures

    with tqdm(total=len(range(share[0], count, share[1])), unit="picture", disable=share[0] > 0) as bar:
        write_pictures(folder, series, count, on_picture=lambda done: bar.update(done - bar.n), share=share)


def _run_sheet(options: argparse.Namespace) -> None:
    from dir_core.training.synthetic import Series, write_contact_sheet

    check_output(options.output)
    series = Series(load_hand_models(options.hand_model), options.framing, options.seed, options.kind)
    write_contact_sheet(options.output, series, options.count)
    print(f"Wrote {options.output}")


def _run_clip(options: argparse.Namespace) -> None:
    from dir_core.training.synthetic import write_clip

    check_output(options.output)
    models = load_hand_models(options.hand_model)
    write_clip(
        options.output,
        models,
        options.kind,
        options.view,
        seed=options.seed,
        skin=options.skin,
        seconds=options.seconds,
    )
    print(f"Wrote {options.output} and its truth {options.output.with_suffix('.truth.npz').name}")
