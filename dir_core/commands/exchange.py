"""`export` and `import` of the command line, and what Blender starts for an import: the same words, the same work."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from dir_core.commands.common import add_hand_model
from dir_core.errors import HandCaptureError, SettingsError
from dir_core.exchange.clip import KnownFootage
from dir_core.exchange.joints_csv import AXES, save_joints
from dir_core.exchange.parameters import reshape_hands, save_mano, save_smplx
from dir_core.exchange.results import import_results
from dir_core.exchange.settings import LABELS, LEFT_HANDS, ImportSettings
from dir_core.hand_model import load_hand_models
from dir_core.picture_files import find_pictures
from dir_core.take import check_output, load_take, save_take
from dir_core.take_models import take_hand_models

FORMATS: Final = ("mano", "smplx", "csv")

_CENTIMETRES = 100.0


def add_exchange(commands: Any) -> None:
    """Add both commands to the subparsers of a command line."""
    _add_export(commands.add_parser("export", help="take -> parameters of MANO or SMPL-X, or a table of joints"))
    _add_import(commands.add_parser("import", help="MANO parameters or MediaPipe landmarks -> raw take"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Import as Blender asks: the take into a file, a sentence a line on standard output, a mistake on the other."""
    parser = argparse.ArgumentParser(prog="python -m dir_core.commands.exchange")
    _add_import(parser)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except HandCaptureError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _add_export(export: argparse.ArgumentParser) -> None:
    export.add_argument("take", type=Path, help="any take; a clean one for keys that follow")
    export.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".npz, .json or .csv")
    export.add_argument(
        "--format", choices=FORMATS, help="default: csv for .csv, else mano; smplx has the hands of a whole body"
    )
    export.add_argument("--axes", choices=AXES, default="camera", help="of a .csv (default %(default)s)")
    export.add_argument(
        "--mano", metavar="FOLDER", help="your MANO files: give the hands a shape and a size of theirs (format mano)"
    )
    add_hand_model(export)
    export.set_defaults(run=_run_export)


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "results", type=Path, help="MANO parameters (.npz, .json, folder of .npz) or MediaPipe landmarks (.json)"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="TAKE.npz")
    parser.add_argument("--footage", type=Path, help="what the results were made from: size, frame rate and times")
    parser.add_argument("--frame-rate", type=float, metavar="FPS", help="of the results, or of an image sequence")
    parser.add_argument("--image-size", type=int, nargs=2, metavar=("W", "H"), help="of the picture, in pixels")
    lens = parser.add_mutually_exclusive_group()
    lens.add_argument("--focal-length", type=float, metavar="PX", help="of the lens, in pixels")
    lens.add_argument("--field-of-view", type=float, metavar="DEG", help="of the lens, horizontal")
    parser.add_argument(
        "--hand-length", type=float, metavar="CM", help="wrist crease to middle finger tip; sets size and depth"
    )
    parser.add_argument("--mirrored", action="store_true", help="the footage is mirrored (selfie)")
    parser.add_argument(
        "--labels",
        choices=LABELS,
        default="picture",
        help="MediaPipe: left and right are those of the picture (default), or were made for a selfie (old versions)",
    )
    parser.add_argument(
        "--left-hands",
        choices=LEFT_HANDS,
        default="auto",
        help="MANO: a left hand has its own parameters, or those of the right hand in the mirror (HaMeR)",
    )
    parser.add_argument(
        "--relaxed-mean",
        action="store_const",
        const=False,
        dest="flat_hand_mean",
        help="MANO: poses count from the mean pose (flat_hand_mean=False)",
    )
    parser.add_argument("--hand-model", metavar="FOLDER", help="the MANO files that the parameters belong to")
    parser.set_defaults(run=_run_import)


def _run_export(options: argparse.Namespace) -> None:
    kind = options.format or ("csv" if options.output.suffix == ".csv" else "mano")
    if (kind == "csv") != (options.output.suffix == ".csv"):
        raise SettingsError(f"{options.output.name} does not fit the format {kind}: csv is written as .csv alone.")
    if options.mano and kind != "mano":
        raise SettingsError(f"The format {kind} has no shape of MANO's, leave --mano out.")
    check_output(options.output)
    take = load_take(options.take)
    if kind == "smplx":
        save_smplx(take, options.output)
    else:
        models = take_hand_models(take, options.hand_model, options.checkpoint)
        if options.mano:
            wanted = load_hand_models(options.mano)
            take, models = reshape_hands(take, models, wanted), wanted
        if kind == "csv":
            save_joints(take, models, options.output, options.axes)
        else:
            save_mano(take, models, options.output)
            print(f"The betas belong to: {models['right'].name}.")
    print(f"Wrote {len(take):,} frames to {options.output}")


def _run_import(options: argparse.Namespace) -> None:
    check_output(options.output)
    if options.output.suffix != ".npz":
        raise SettingsError(f"A take is an .npz file, not {options.output.name}: change the ending.")
    settings = ImportSettings(
        frame_rate=options.frame_rate,
        image_size=tuple(options.image_size) if options.image_size else None,
        focal_length=options.focal_length,
        field_of_view=None if options.field_of_view is None else math.radians(options.field_of_view),
        hand_length=None if options.hand_length is None else options.hand_length / _CENTIMETRES,
        mirrored=options.mirrored,
        labels=options.labels,
        left_hands=options.left_hands,
        flat_hand_mean=options.flat_hand_mean,
        hand_model=options.hand_model,
    )
    footage = _look_at(options.footage, options.frame_rate) if options.footage else None
    imported = import_results(options.results, settings, footage)
    save_take(imported.take, options.output)
    take = imported.take
    for note in imported.notes:
        print(note)
    left, right = (float(take.hand(side).observed.mean()) for side in ("left", "right"))
    print(f"Imported {len(take):,} frames, left hand in {left:.0%}, right hand in {right:.0%}.")


def _look_at(path: Path, frame_rate: float | None) -> KnownFootage:
    """Size and times of footage; pictures are decoded only where their times differ."""
    try:
        from dir_core.footage import open_footage
    except ImportError as error:
        raise SettingsError(
            f"Footage is read with {error.name}, which is missing: give --image-size and --frame-rate instead."
        ) from error

    rate = frame_rate if find_pictures(path.absolute()) is not None else None
    with open_footage(path, frame_rate=rate) as footage:
        info = footage.info
        time = [frame.time for frame in footage] if info.variable_rate else None
    return KnownFootage(info.path, info.size, info.frame_rate, None if time is None else np.array(time))


if __name__ == "__main__":
    sys.exit(main())
