"""The camera that saw the footage, the footage behind it, and a scene fit to look through it.

No hands and no keys here.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from dir_core.errors import FootageError
from dir_core.take import Take

from . import keying
from .axes import camera_to_blender

Array = NDArray[Any]

SENSOR_WIDTH: Final = 36.0
"""Millimetres; only the ratio to the focal length matters, this is what a photographer reads as full frame."""

_CAMERA_ZOOM: Final = 26.0  # the camera's frame fills 95 % of the view: (sqrt(2) + zoom / 50)^2 / 4
_CLIP_START, _CLIP_END = 0.01, 100.0
_NTSC: Final = 1.001
_PICTURE_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".exr", ".bmp", ".webp", ".tga"})
RATE_TOLERANCE: Final = 1e-4
"""Frame rates whose ratio differs less from one play in step: under a frame in five minutes at 30 fps."""

_COMMON_RATE_TOLERANCE: Final = 2.5e-4  # 29.97 and 30 differ by 1e-3
_FRAME_NOISE: Final = 0.01


@dataclass(frozen=True)
class FrameRate:
    """A frame rate as Blender stores it: fps / base, for example 30 / 1.001."""

    fps: int
    base: float

    @property
    def value(self) -> float:
        """Frames per second."""
        return self.fps / self.base

    def __str__(self) -> str:
        return f"{self.value:.6g}"


def nearest_frame_rate(rate: float) -> FrameRate:
    """The frame rate for `rate` frames per second; whole and NTSC rates come out exact.

    Raises:
        FootageError: the rate is not a positive number.
    """
    if not (math.isfinite(rate) and rate > 0):
        raise FootageError(f"The frame rate of the footage is {rate}, capture the clip again.")
    fps = max(1, round(rate))
    if abs(rate / fps - 1.0) < _COMMON_RATE_TOLERANCE:
        return FrameRate(fps, 1.0)
    ntsc = max(1, round(rate * _NTSC))
    if abs(rate * _NTSC / ntsc - 1.0) < _COMMON_RATE_TOLERANCE:
        return FrameRate(ntsc, _NTSC)
    return FrameRate(fps, fps / rate)


def scene_frame_rate(scene: Any) -> FrameRate:
    """The frame rate a scene plays at."""
    return FrameRate(scene.render.fps, scene.render.fps_base)


def footage_frame_rate(take: Take) -> FrameRate | None:
    """The frame rate of the take's source: as its meta says, else from its time stamps; None for a lone frame."""
    rate = _source(take).get("frame_rate")
    if isinstance(rate, int | float) and math.isfinite(rate) and rate > 0:
        return nearest_frame_rate(float(rate))
    if len(take) < 2 or take.frame[-1] <= take.frame[0]:
        return None
    return nearest_frame_rate(float((take.frame[-1] - take.frame[0]) / (take.time[-1] - take.time[0])))


def clip_frame_rate(clip: Any) -> FrameRate | None:
    """The rate at which Blender steps through a movie, one picture per scene frame; None for numbered pictures.

    For footage of variable rate this is not its average: Blender picks the picture by time at this rate.
    """
    return nearest_frame_rate(clip.fps) if clip.source == "MOVIE" and clip.fps > 0 else None


def find_footage(take: Take) -> tuple[Any, str]:
    """The footage the take was captured from as a movie clip, and a sentence for the user.

    The clip is None, and the sentence says why, where it has gone or cannot be read.
    """
    path = _source(take).get("path")
    if not isinstance(path, str) or not path:
        return None, "The take does not say where its footage is, so there is no background."
    try:
        return load_footage(Path(path)), f"Behind them: {path}."
    except FootageError as error:
        return None, f"There is no background: {error}"


def load_footage(path: Path) -> Any:
    """Load a movie, a folder of numbered pictures, their pattern or their first as a movie clip.

    Raises:
        FootageError: there is nothing at the path, or Blender cannot read it.
    """
    first = _first_picture(path)
    try:
        clip = bpy.data.movieclips.load(str(first.resolve()))
    except RuntimeError as error:
        raise FootageError(f"Blender cannot read the footage {path}, convert it to a common format.") from error
    if not (clip.size[0] and clip.frame_duration):
        bpy.data.movieclips.remove(clip)
        raise FootageError(f"Blender cannot read the footage {path}, convert it to a common format.")
    return clip


def add_camera(take: Take, collection: Any) -> Any:
    """Add the camera of the take at the origin, looking along camera z, and return its object.

    Principal point and focal length come from the take's camera matrix, and hold for renders of its image size.
    Mirrored footage has a negative horizontal focal length: the camera sees the real hands, so the picture behind
    them is turned back (show_footage).
    """
    width, height = (float(size) for size in take.image_size)
    matrix = np.array(take.camera_matrix, np.float64)
    if is_mirrored(take):
        matrix[0] = [-matrix[0, 0], 0.0, width - matrix[0, 2]]
    data = bpy.data.cameras.new("Footage Camera")
    data.sensor_fit = "HORIZONTAL"
    data.sensor_width = SENSOR_WIDTH
    data.lens = SENSOR_WIDTH * matrix[0, 0] / width
    # Blender measures both shifts in sensor widths, and vertical ones on the stretched pixels of the render.
    data.shift_x = (width / 2 - matrix[0, 2]) / width
    data.shift_y = (matrix[1, 2] - height / 2) / width * (matrix[0, 0] / matrix[1, 1])
    data.clip_start, data.clip_end = _CLIP_START, _CLIP_END
    data.display_size = 0.1
    data.show_passepartout, data.passepartout_alpha = True, 0.8
    camera = bpy.data.objects.new("Footage Camera", data)
    right, up, back = camera_to_blender(np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]))
    camera.matrix_world = Matrix(np.column_stack([right, up, back]).tolist()).to_4x4()
    collection.objects.link(camera)
    return camera


def is_mirrored(take: Take) -> bool:
    """Whether the take was captured from mirrored (selfie) footage."""
    return bool(take.camera_matrix[0, 0] < 0)


def match_render_size(scene: Any, take: Take) -> None:
    """Make the scene render frames of the take's size, so that its camera frames exactly what the footage shows."""
    render = scene.render
    render.resolution_x, render.resolution_y = (int(size) for size in take.image_size)
    render.resolution_percentage = 100
    # Blender allows only aspects of 1 and more.
    aspect = abs(float(take.camera_matrix[0, 0] / take.camera_matrix[1, 1]))
    render.pixel_aspect_x, render.pixel_aspect_y = max(1.0, 1.0 / aspect), max(1.0, aspect)


def show_footage(camera: Any, clip: Any, start: int, ratio: float = 1.0, mirrored: bool = False) -> None:
    """Put the clip behind everything the camera sees, its first frame on scene frame `start`.

    Args:
        camera: the camera object.
        clip: what load_footage returned.
        start: scene frame of the footage's time 0.
        ratio: the clip's frame rate over the scene's.
        mirrored: the footage is a selfie, show it the way the hands really were.
    """
    background = camera.data.background_images.new()
    if abs(ratio - 1.0) < RATE_TOLERANCE:
        background.source = "MOVIE_CLIP"
        background.clip = clip
        clip.frame_start = start
    else:
        _show_by_time(camera, background, clip, start, ratio)
    background.use_flip_x = mirrored
    background.alpha = 1.0
    background.display_depth = "BACK"
    background.frame_method = "STRETCH"  # the render has the footage's shape, so nothing is stretched or cut
    camera.data.show_background_images = True


def _show_by_time(camera: Any, background: Any, clip: Any, start: int, ratio: float) -> None:
    """Keep the footage in step with a scene of another frame rate.

    A movie clip steps by one picture per scene frame whatever the rates; an image has a picture offset that can be
    keyed: on scene frame f the picture is f - start + 1 + offset, and it has to be 1 + floor((f - start) * ratio).
    """
    image = bpy.data.images.load(clip.filepath, check_existing=True)
    image.source = clip.source
    background.source = "IMAGE"
    background.image = image
    user = background.image_user
    user.frame_start = start
    user.frame_duration = math.ceil(clip.frame_duration * max(1.0, 1.0 / ratio))
    user.use_auto_refresh = True
    numbers = re.findall(r"\d+", Path(clip.filepath).stem) if image.source == "SEQUENCE" else []
    before = int(numbers[-1]) - 1 if numbers else 0  # pictures are called by the numbers in their names
    slope, span = ratio - 1.0, max(1, user.frame_duration)
    frames = [0, span]
    if slope < 0 and before / -slope < span:
        turn = math.floor(before / -slope + _FRAME_NOISE)
        frames = [0, *([turn] if turn else []), *([turn + 1] if turn + 1 < span else []), span]
    offsets = before + slope * np.array(frames)
    # A keyed whole number loses its decimals towards zero: below zero that is one up from the floor.
    offsets += np.where(offsets > -_FRAME_NOISE, _FRAME_NOISE, _FRAME_NOISE - 1.0)
    index = len(camera.data.background_images) - 1
    path = f"background_images[{index}].image_user.frame_offset"
    keying.key_number(camera.data, path, np.array(frames) + start, offsets, name="Footage")


def light_scene(scene: Any) -> None:
    """Give an empty scene a neutral world, a soft key light behind the camera and colours true to the footage."""
    world = bpy.data.worlds.new("World")
    if world.node_tree is None:  # from 5.0 every world has nodes, and asking for them warns
        world.use_nodes = True
    background = next(node for node in world.node_tree.nodes if node.type == "BACKGROUND")
    background.inputs["Color"].default_value = (0.5, 0.5, 0.5, 1.0)
    background.inputs["Strength"].default_value = 0.6
    scene.world = world

    data = bpy.data.lights.new("Key Light", "SUN")
    data.energy = 2.5
    data.angle = math.radians(20.0)  # soft shadows
    light = bpy.data.objects.new("Key Light", data)
    light.location = (-0.5, -0.5, 1.0)
    light.rotation_euler = (math.radians(50.0), 0.0, math.radians(-30.0))
    scene.collection.objects.link(light)
    scene.view_settings.view_transform = "Standard"  # AgX would change the colours of the footage


def look_through_camera() -> None:
    """Turn every 3D view of the file to its scene's camera, so that it opens looking right."""
    for screen in bpy.data.screens:
        for area in screen.areas:
            if area.type == "VIEW_3D":
                area.spaces.active.region_3d.view_perspective = "CAMERA"
                area.spaces.active.region_3d.view_camera_zoom = _CAMERA_ZOOM
                area.spaces.active.clip_start = _CLIP_START


def _source(take: Take) -> dict[str, Any]:
    source = take.meta.get("source")
    return source if isinstance(source, dict) else {}


def _first_picture(path: Path) -> Path:
    """The file to load: a movie or picture itself, the first picture of a folder or of a pattern as shot_%04d.png."""
    numbered = re.search(r"%0?\d*d", path.name)
    if path.is_dir():
        found = [picture for picture in path.iterdir() if picture.suffix.lower() in _PICTURE_SUFFIXES]
    elif numbered and not path.exists() and path.parent.is_dir():
        name = re.escape(path.name[: numbered.start()]) + r"\d+" + re.escape(path.name[numbered.end() :])
        found = [picture for picture in path.parent.iterdir() if re.fullmatch(name, picture.name)]
    else:
        found = [path] if path.exists() else []
    if not found:
        raise FootageError(f"There is no footage at {path}, check the path.")
    return min(found, key=_natural_key)


def _natural_key(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
