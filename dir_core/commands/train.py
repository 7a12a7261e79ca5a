"""`train`: the networks for hands that touch, in slices of some minutes."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dir_core.commands.synthetic import draw_pictures
from dir_core.errors import SettingsError
from dir_core.estimator import need_torch
from dir_core.hand_model import load_hand_models
from dir_core.take import check_output

if TYPE_CHECKING:
    from dir_core.training.scenes import Framing
    from dir_core.training.training_run import Task

# Hands that fill the picture, and scenes with hands in them: the locator must find small ones too.
_FRAMINGS: "dict[str, tuple[Framing, ...]]" = {"landmarks": ("close",), "locator": ("close", "wide")}


def add_train(commands: Any) -> None:
    """Add the command to the subparsers of a command line."""
    train = commands.add_parser("train", help="train a network for hands that touch; goes on where it stopped")
    train.add_argument("network", choices=sorted(_FRAMINGS))
    train.add_argument("--minutes", type=float, required=True, help="how long to train now")
    train.add_argument("--folder", type=Path, metavar="RUN", help="checkpoint and curves (default training/NETWORK)")
    train.add_argument(
        "--data", type=Path, nargs="+", default=[Path("training/pictures")], metavar="FOLDER", help="of pictures"
    )
    train.add_argument(
        "--pictures", type=int, default=20_000, metavar="N", help="drawn per kind where there are none (%(default)s)"
    )
    train.add_argument("--start", type=Path, metavar="FILE.tflite", help="weights to begin a run with (MediaPipe's)")
    train.add_argument("--seed", type=int, default=0, help="of the pictures and of the samples cut out of them")
    train.add_argument("--finish", type=int, metavar="STEPS", help="end the run: the rate falls to 0 in so many steps")
    train.add_argument("--processes", type=int, metavar="1|2", help="default: 2 where there are 2 cores, 1 for a GPU")
    train.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    train.add_argument("--write", type=Path, metavar="FILE.tflite", help="what has been learned, for the runtime")
    train.add_argument("--mix", type=Path, metavar="FILE.tflite", help="write the mean with these weights")
    train.add_argument("--mix-share", type=float, default=0.5, help="of them in it (%(default)s)")
    train.set_defaults(run=_run_train)


def _run_train(options: argparse.Namespace) -> None:
    need_torch()
    from dir_core.training.training_run import Slice, choose_device, is_finished, train, write_weights

    if options.write:
        check_output(options.write)
    elif options.mix:
        raise SettingsError("--mix says what is written; give --write FILE.tflite as well.")
    device = choose_device(options.device)
    processes = options.processes or (2 if device == "cpu" and (os.cpu_count() or 1) > 1 else 1)
    folder = options.folder or Path("training") / options.network
    framings = _FRAMINGS[options.network]
    pictures = tuple(_pictures(options, data / framing, framing) for data in options.data for framing in framings)
    task, source = _task(options.network, pictures, options.start, options.seed)
    try:
        if not (options.write and is_finished(task, folder)):
            train(task, folder, Slice(options.minutes, None, options.finish, processes, device))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Stopped; the run in {folder} goes on from its last checkpoint.") from None
    if options.write:
        write_weights(folder, source, options.write, options.mix, options.mix_share)
        print(f"Wrote {options.write}")


def _task(network: str, pictures: tuple[Path, ...], start: Path | None, seed: int) -> "tuple[Task, Path]":
    """The task and the file whose graph it trains."""
    if network == "landmarks":
        from dir_core.detection.landmark_network import WEIGHTS as LANDMARK_WEIGHTS
        from dir_core.training.landmark_training import LandmarkTask

        return LandmarkTask(pictures, start, seed=seed), LANDMARK_WEIGHTS
    from dir_core.detection.palm_detector import WEIGHTS as PALM_WEIGHTS
    from dir_core.training.locator_training import LocatorTask

    return LocatorTask(pictures, start, seed=seed), PALM_WEIGHTS


def _pictures(options: argparse.Namespace, folder: Path, framing: "Framing") -> Path:
    """The folder of pictures of a framing; drawn now if it is not there."""
    if not folder.exists():
        from dir_core.training.synthetic import Series

        series = Series(load_hand_models(None), framing, options.seed)
        draw_pictures(folder, series, options.pictures, options.processes or os.cpu_count() or 1)
    return folder
