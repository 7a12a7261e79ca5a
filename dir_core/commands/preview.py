"""`preview`: the posed hands of a take drawn on its footage."""

import argparse
from pathlib import Path
from typing import Any

from dir_core.commands.common import add_hand_model
from dir_core.take import check_output, load_take
from dir_core.take_models import take_hand_models


def add_preview(commands: Any) -> None:
    """Add the command to the subparsers of a command line."""
    preview = commands.add_parser("preview", help="take + footage -> pictures of the posed hands on it")
    preview.add_argument("take", type=Path)
    preview.add_argument("--footage", type=Path, help="default: the video the take was captured from")
    preview.add_argument("--frame-rate", type=float, metavar="FPS", help="of an image sequence (default 24)")
    add_hand_model(preview)
    preview.add_argument("-o", "--output", type=Path, metavar="MOVIE.mp4")
    preview.add_argument("--sheet", type=Path, metavar="SHEET.png")
    preview.set_defaults(run=_run_preview)


def _run_preview(options: argparse.Namespace) -> None:
    from dir_core.preview import write_preview

    take = load_take(options.take)
    for path in filter(None, (options.output, options.sheet)):
        check_output(path)
    footage = options.footage or take.meta["source"]["path"]
    models = take_hand_models(take, options.hand_model, options.checkpoint)
    write_preview(take, models, footage, movie=options.output, sheet=options.sheet, frame_rate=options.frame_rate)
    for path in filter(None, (options.output, options.sheet)):
        print(f"Wrote {path}")
