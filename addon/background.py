"""The footage behind what a camera sees, in step with a scene of any frame rate.

A movie clip plays one picture per scene frame. Where the rates are the same it is shown as it is; where they differ, an
image of the same file stands for it, whose picture offset is keyed.
"""

import math
import re
from pathlib import Path
from typing import Any, Final

import bpy
import numpy as np
from numpy.typing import NDArray

from dir_core.errors import FootageError

from . import keying

Array = NDArray[Any]

RATE_TOLERANCE: Final = 1e-4
"""Frame rates whose ratio differs less from one play in step: under a frame in five minutes at 30 fps."""

FRAME_NOISE: Final = 0.01
"""Frames by which rounded rates and times may miss a whole one."""


def show_footage(
    camera: Any, clip: Any, start: int, ratio: float = 1.0, mirrored: bool = False, *, instead_of: Any = None
) -> None:
    """Put the clip behind everything the camera sees, its first frame on scene frame `start`.

    A camera that shows the clip already, or the one it comes instead of, gets no second background.

    Args:
        camera: the camera object.
        clip: what load_footage returned.
        start: scene frame of the footage's time 0.
        ratio: the clip's frame rate over the scene's.
        mirrored: the footage is a selfie, show it the way the hands really were.
        instead_of: a clip that the camera showed until now.
    """
    index = _find_background(camera, clip)
    if index is None and instead_of is not None:
        index = _find_background(camera, instead_of)
    if index is None:
        index = len(camera.data.background_images)
        background = camera.data.background_images.new()
        background.alpha = 1.0
        background.display_depth = "BACK"
        background.frame_method = "STRETCH"  # the render has the footage's shape, so nothing is stretched or cut
        camera.data.show_background_images = True
    else:
        background = camera.data.background_images[index]
    background.use_flip_x = mirrored
    if abs(ratio - 1.0) < RATE_TOLERANCE:
        background.source = "MOVIE_CLIP"
        background.clip = clip
        clip.frame_start = start
    else:
        _show_by_time(camera, index, clip, start, ratio)


def hide_footage(camera: Any, clip: Any) -> None:
    """Take the background that shows the clip away from a camera; others stay."""
    index = _find_background(camera, clip)
    if index is not None:
        _forget_offsets(camera, index)
        camera.data.background_images.remove(camera.data.background_images[index])


def prepare_for_any_rate(camera: Any, clip: Any, start: int) -> None:
    """Make all that another frame rate will need, so that following it later makes no data-blocks.

    What happens outside an undo step must not: undo keeps a block that it believes to be unchanged as it is, with
    pointers to blocks that it takes away.
    """
    index = _find_background(camera, clip)
    if index is None or is_prepared(camera, clip):
        return
    background = camera.data.background_images[index]
    source = background.source
    if source == "MOVIE_CLIP":
        _show_by_time(camera, index, clip, start, 1.0)
    background.clip = clip
    background.source = source


def is_prepared(camera: Any, clip: Any) -> bool:
    """Whether the camera can show the clip in step with any frame rate without a new data-block."""
    index = _find_background(camera, clip)
    if index is None or _offset_curve(camera, index) is None:
        return False
    background = camera.data.background_images[index]
    return background.clip == clip and background.image is not None and _shows_file(background, clip)


def is_in_step(camera: Any, clip: Any, start: int, ratio: float, mirrored: bool = False) -> bool:
    """Whether the camera shows the clip as `show_footage` would."""
    index = _find_background(camera, clip)
    if index is None:
        return False
    background = camera.data.background_images[index]
    if background.use_flip_x != mirrored:
        return False
    if abs(ratio - 1.0) < RATE_TOLERANCE:
        return background.source == "MOVIE_CLIP" and clip.frame_start == start
    curve = _offset_curve(camera, index)
    if background.source != "IMAGE" or curve is None or background.image_user.frame_start != start:
        return False
    frames, offsets = _picture_offsets(background.image, clip, ratio)
    keys = np.array([point.co for point in curve.keyframe_points]).reshape(-1, 2)
    wanted = np.column_stack([frames + start, offsets])
    return keys.shape == wanted.shape and np.allclose(keys, wanted, rtol=1e-6, atol=FRAME_NOISE / 2)


def _find_background(camera: Any, clip: Any) -> int | None:
    """Number of the background that shows a clip, as itself or as the same file."""
    for index, background in enumerate(camera.data.background_images):
        shown = background.clip == clip if background.source == "MOVIE_CLIP" else _shows_file(background, clip)
        if shown:
            return index
    return None


def _shows_file(background: Any, clip: Any) -> bool:
    image = background.image
    return image is not None and bpy.path.abspath(image.filepath) == bpy.path.abspath(clip.filepath)


def _offset_path(index: int) -> str:
    return f"background_images[{index}].image_user.frame_offset"


def _offset_curve(camera: Any, index: int) -> Any:
    return next((curve for curve in keying.curves_of(camera.data) if curve.data_path == _offset_path(index)), None)


def _forget_offsets(camera: Any, index: int) -> None:
    curve = _offset_curve(camera, index)
    if curve is not None:
        keying.curves_of(camera.data).remove(curve)


def _show_by_time(camera: Any, index: int, clip: Any, start: int, ratio: float) -> None:
    """Keep the footage in step with a scene of another frame rate.

    A movie clip steps by one picture per scene frame whatever the rates; an image has a picture offset that can be
    keyed: on scene frame f the picture is f - start + 1 + offset, and it has to be 1 + floor((f - start) * ratio).
    """
    background = camera.data.background_images[index]
    try:
        image = bpy.data.images.load(clip.filepath, check_existing=True)
    except RuntimeError as error:
        raise FootageError(f"Blender cannot read the footage {clip.filepath} any more, relink it.") from error
    image.source = clip.source
    background.source = "IMAGE"
    background.image = image
    user = background.image_user
    user.frame_start = start
    user.frame_duration = _image_duration(clip, ratio)
    user.use_auto_refresh = True
    frames, offsets = _picture_offsets(image, clip, ratio)
    animation = camera.data.animation_data
    keying.key_number(
        camera.data,
        _offset_path(index),
        frames + start,
        offsets,
        name="Footage",
        action=animation.action if animation else None,
    )


def _image_duration(clip: Any, ratio: float) -> int:
    return math.ceil(clip.frame_duration * max(1.0, 1.0 / ratio))


def _picture_offsets(image: Any, clip: Any, ratio: float) -> tuple[Array, Array]:
    """Frames [K] after the start, and the picture offsets [K] to key on them with straight lines between."""
    numbers = re.findall(r"\d+", Path(clip.filepath).stem) if image.source == "SEQUENCE" else []
    before = int(numbers[-1]) - 1 if numbers else 0  # pictures are called by the numbers in their names
    slope, span = ratio - 1.0, max(1, _image_duration(clip, ratio))
    frames = [0, span]
    if slope < 0 and before / -slope < span:
        turn = math.floor(before / -slope + FRAME_NOISE)
        frames = [0, *([turn] if turn else []), *([turn + 1] if turn + 1 < span else []), span]
    offsets = before + slope * np.array(frames)
    # A keyed whole number loses its decimals towards zero: below zero that is one up from the floor.
    offsets += np.where(offsets > -FRAME_NOISE, FRAME_NOISE, FRAME_NOISE - 1.0)
    return np.array(frames), offsets
