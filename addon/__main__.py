"""`python -m addon TAKE.npz -o FILE.blend`: a take becomes a .blend file without a window. No building here.

With --rest instead of a take: an asset library with both hands in rest pose.
"""

import argparse
import contextlib
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import bpy
import numpy as np

from dir_core.clean_up.key_reduction import DEFAULT_ANGLE, KeyReduction
from dir_core.errors import HandCaptureError, OutputError
from dir_core.hand_model import open_hand_models
from dir_core.take import check_output, load_take

from . import footage_view
from .asset_library import build_library, write_catalogue
from .scene import build_scene, find_models


def write_scene(
    take_path: Path, output: Path, footage: Path | None, start: int, *, reduce: KeyReduction | None = None
) -> str:
    """Write the take as a fresh .blend file, whole or not at all, and return what was done in words.

    The scene plays at the footage's frame rate over the take's frames and looks through its camera.

    Args:
        take_path: the take.
        output: the .blend file.
        footage: a movie, a folder of images or None for the one the take was captured from.
        start: scene frame of the footage's time 0.
        reduce: how far bones may be off for the sake of fewer keys; None keys every frame.

    Raises:
        HandCaptureError: the take, the footage, the hand model or the output cannot be used.
    """
    _check_blend(output)
    take = load_take(take_path)
    models, hands = find_models(take)

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    if footage is None:
        clip, background = footage_view.find_footage(take)
    else:
        clip, background = footage_view.load_footage(footage), f"Behind them: {footage}."
    rate = (footage_view.clip_frame_rate(clip) if clip else None) or footage_view.footage_frame_rate(take)
    if rate is None:  # one frame has no rate: Blender's own default
        rate = footage_view.FrameRate(24, 1.0)
    scene.render.fps, scene.render.fps_base = rate.fps, rate.base

    built = build_scene(take, models, scene, start=start, clip=clip, reduce=reduce, name=take_path.stem)
    scene.camera = built.camera
    footage_view.match_render_size(scene, take)
    footage_view.light_scene(scene)
    footage_view.look_through_camera()
    scene.frame_start, scene.frame_end = int(np.floor(built.frames[0])), int(np.ceil(built.frames[-1]))
    scene.frame_set(scene.frame_start)
    _save_whole(output)

    sentences = [f"Wrote {output}.", built.sentence(rate), *built.notes, hands, background]
    return " ".join(sentence for sentence in sentences if sentence)


def write_library(output: Path) -> str:
    """Write both hands in rest pose as an asset library, whole or not at all, and return what was done in words.

    Raises:
        HandCaptureError: the hand model or the output cannot be used.
    """
    _check_blend(output)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    collection = build_library(open_hand_models(), bpy.context.scene)
    _save_whole(output)
    write_catalogue(output.resolve().parent)
    return f'Wrote {output}: the collection asset "{collection.name}" and one for each hand.'


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m addon", description="Turn a hand take into a .blend file.")
    content = parser.add_mutually_exclusive_group(required=True)
    content.add_argument("take", type=Path, nargs="?", help="the take (.npz)")
    content.add_argument("--rest", action="store_true", help="both hands in rest pose, as an asset library")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .blend file to write")
    parser.add_argument("--footage", type=Path, help="movie or folder of images behind the hands")
    parser.add_argument("--frame-start", type=int, default=1, help="scene frame on which the footage begins (1)")
    parser.add_argument(
        "--reduce-keys",
        type=float,
        nargs="?",
        const=np.degrees(DEFAULT_ANGLE),
        metavar="DEGREES",
        help="the fewest keys that keep every rotation this close (0.5) and every position within 1 mm",
    )
    options = parser.parse_args(arguments)
    try:
        with _blender_silenced():
            if options.rest:
                done = write_library(options.output)
            else:
                bound = options.reduce_keys
                reduce = None if bound is None else KeyReduction(angle=float(np.radians(bound)))
                done = write_scene(options.take, options.output, options.footage, options.frame_start, reduce=reduce)
    except HandCaptureError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(done)
    return 0


@contextlib.contextmanager
def _blender_silenced() -> Iterator[None]:
    """Keep what Blender's own code writes on both outputs away from the one sentence that the user reads."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(stream, os.dup(stream)) for stream in (1, 2)]
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - the descriptor is what is needed
            for stream, _ in kept:
                os.dup2(nothing.fileno(), stream)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, copy in kept:
            os.dup2(copy, stream)
            os.close(copy)


def _check_blend(output: Path) -> None:
    if output.suffix != ".blend":
        raise OutputError(f"{output} does not end in .blend, give a file name that does.")
    check_output(output)


def _save_whole(output: Path) -> None:
    # Beside its place and not in a folder below: Blender writes the footage's path relative to the file.
    aside = output.resolve().with_name(f".{output.stem}.{os.getpid()}.blend")
    try:
        bpy.ops.wm.save_as_mainfile(filepath=str(aside), compress=True, check_existing=False)
        aside.replace(output)
    except (RuntimeError, OSError) as error:
        aside.unlink(missing_ok=True)
        reason = str(error).strip().splitlines()[0].removeprefix("Error: ")
        raise OutputError(f"Cannot write {output}: {reason}; choose another folder.") from error


def _end(code: int) -> NoReturn:
    # Leaving Python the usual way, bpy can crash (4.2) or hang (4.5); this way its own folder would stay behind.
    session = Path(bpy.app.tempdir)
    if session.name.startswith("blender_"):  # where none could be made, tempdir is everybody's folder
        shutil.rmtree(session, ignore_errors=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    try:
        _code = main()
    except SystemExit as ending:  # argparse has told already
        _code = ending.code if isinstance(ending.code, int) else 1
    except BaseException:  # a defect of this program: told in full, and the exit stays safe
        traceback.print_exc()
        _code = 1
    _end(_code)
