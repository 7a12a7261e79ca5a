"""The footage of a scene: its clip, its time, the camera and the lens that saw it, and a scene fit to look through it.

No hands here; how the footage is shown behind the camera is the work of background.
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

from dir_core.camera import field_of_view_from_focal_length, focal_length_from_field_of_view, make_camera_matrix
from dir_core.errors import FootageError
from dir_core.footage_facts import focal_length_from_metadata
from dir_core.take import Take

from . import background, log, ticker
from .axes import camera_to_blender
from .background import FRAME_NOISE, RATE_TOLERANCE
from .properties import SCENE_PROPERTY, listen_to_footage

Array = NDArray[Any]

SENSOR_WIDTH: Final = 36.0
"""Millimetres; only the ratio to the focal length matters, this is what a photographer reads as full frame."""

_CAMERA_ZOOM: Final = 26.0  # the camera's frame fills 95 % of the view: (sqrt(2) + zoom / 50)^2 / 4
_CLIP_START, _CLIP_END = 0.01, 100.0
_NTSC: Final = 1.001
_PICTURE_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".exr", ".bmp", ".webp", ".tga"})
_COMMON_RATE_TOLERANCE: Final = 2.5e-4  # 29.97 and 30 differ by 1e-3
_LENS_TOLERANCE: Final = 1e-3  # of the focal length: a pixel at the edge of a picture
_SHAPE_TOLERANCE: Final = 5e-3  # of the ratio of width and height: under three pixels at the edges of 1080 lines


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

    A clip that the file has already is used again, with its tracks and its lens.

    Raises:
        FootageError: there is nothing at the path, or Blender cannot read it.
    """
    first = _first_picture(path)
    before = set(bpy.data.movieclips)
    try:
        clip = bpy.data.movieclips.load(str(first.resolve()), check_existing=True)
    except RuntimeError as error:
        raise FootageError(f"Blender cannot read the footage {path}, convert it to a common format.") from error
    if not (clip.size[0] and clip.frame_duration):
        if clip not in before:
            bpy.data.movieclips.remove(clip)
        raise FootageError(f"Blender cannot read the footage {path}, convert it to a common format.")
    return clip


def relink(clip: Any, path: Path) -> None:
    """Point a clip, and the image that stands for it at other frame rates, to where the footage is now.

    Raises:
        FootageError: there is no footage at the path, or not one of the same kind that Blender can read.
    """
    first = _first_picture(path).resolve()
    known = set(bpy.data.movieclips)
    found = load_footage(path)
    is_other_kind = found.source != clip.source
    if found not in known:
        bpy.data.movieclips.remove(found)
    if is_other_kind:
        kind = {"MOVIE": "a video", "SEQUENCE": "a sequence of pictures"}[clip.source]
        raise FootageError(f"{path} is not {kind} as the footage was, choose another file.")
    before = bpy.path.abspath(clip.filepath)
    for image in bpy.data.images:
        if image.filepath and bpy.path.abspath(image.filepath) == before:
            image.filepath = str(first)
    clip.filepath = str(first)
    _stated_lenses.pop(clip.filepath, None)
    look_for_files()


def add_camera(take: Take, collection: Any) -> Any:
    """Add the camera of the take at the origin, looking along camera z, and return its object.

    Principal point and focal length come from the take's camera matrix, and hold for renders of its image size.
    Mirrored footage has a negative horizontal focal length: the camera sees the real hands, so the picture behind
    them is turned back (background.show_footage).
    """
    width, height = (float(size) for size in take.image_size)
    matrix = np.array(take.camera_matrix, np.float64)
    if is_mirrored(take):
        matrix[0] = [-matrix[0, 0], 0.0, width - matrix[0, 2]]
    camera = new_camera(collection)
    fit_lens(camera, matrix, (width, height))
    return camera


def new_camera(collection: Any) -> Any:
    """Add a camera at the origin that looks along camera z, and return its object."""
    data = bpy.data.cameras.new("Footage Camera")
    data.clip_start, data.clip_end = _CLIP_START, _CLIP_END
    data.display_size = 0.1
    data.show_passepartout, data.passepartout_alpha = True, 0.8
    camera = bpy.data.objects.new("Footage Camera", data)
    right, up, back = camera_to_blender(np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]))
    camera.matrix_world = Matrix(np.column_stack([right, up, back]).tolist()).to_4x4()
    collection.objects.link(camera)
    return camera


def fit_lens(camera: Any, matrix: Array, size: tuple[float, float]) -> None:
    """Give a camera object the lens of a camera matrix [3, 3] in pixels of a picture of `size` (width, height)."""
    width, height = size
    data = camera.data
    data.type = "PERSP"
    data.sensor_fit = "HORIZONTAL"
    data.sensor_width = SENSOR_WIDTH
    data.lens = SENSOR_WIDTH * matrix[0, 0] / width
    # Blender measures both shifts in sensor widths, and vertical ones on the stretched pixels of the render.
    data.shift_x = (width / 2 - matrix[0, 2]) / width
    data.shift_y = (matrix[1, 2] - height / 2) / width * (matrix[0, 0] / matrix[1, 1])


def read_lens(camera: Any, scene: Any, size: tuple[float, float]) -> Array:
    """Camera matrix [3, 3] of a camera object in pixels of a picture of `size` that fills its frame.

    Raises:
        FootageError: the camera has no perspective.
    """
    data, render = camera.data, scene.render
    if data.type != "PERSP":
        raise FootageError(f'The camera "{camera.name}" is not a perspective one, choose another.')
    width, height = render.resolution_x, render.resolution_y
    stretch = render.pixel_aspect_y / render.pixel_aspect_x
    wide = width >= height * stretch if data.sensor_fit == "AUTO" else data.sensor_fit == "HORIZONTAL"
    sensor = data.sensor_height if data.sensor_fit == "VERTICAL" else data.sensor_width
    span = width if wide else height * stretch  # what the sensor covers, in pixels of the render's width
    focal = data.lens / sensor * span
    matrix = np.array(
        [
            [focal, 0.0, width / 2 - data.shift_x * span],
            [0.0, focal / stretch, height / 2 + data.shift_y * span / stretch],
            [0.0, 0.0, 1.0],
        ]
    )
    return np.diag([size[0] / width, size[1] / height, 1.0]) @ matrix


def is_mirrored(take: Take) -> bool:
    """Whether the take was captured from mirrored (selfie) footage."""
    return bool(take.camera_matrix[0, 0] < 0)


def match_render_size(scene: Any, take: Take) -> None:
    """Make the scene render frames of the take's size, so that its camera frames exactly what the footage shows."""
    aspect = abs(float(take.camera_matrix[0, 0] / take.camera_matrix[1, 1]))
    set_render_size(scene, (int(take.image_size[0]), int(take.image_size[1])), aspect)


def set_render_size(scene: Any, size: tuple[int, int], aspect: float = 1.0) -> None:
    """Make the scene render `size` (width, height) with pixels that are `aspect` times as high as wide."""
    render = scene.render
    render.resolution_x, render.resolution_y = size
    render.resolution_percentage = 100
    # Blender allows only aspects of 1 and more.
    render.pixel_aspect_x, render.pixel_aspect_y = max(1.0, 1.0 / aspect), max(1.0, aspect)


def has_footage_shape(scene: Any, size: tuple[int, int]) -> bool:
    """Whether renders have the shape of pictures of `size`, so that the camera frames exactly what they show."""
    render = scene.render
    shape = render.resolution_x * render.pixel_aspect_x / (render.resolution_y * render.pixel_aspect_y)
    return abs(shape * size[1] / size[0] - 1.0) < _SHAPE_TOLERANCE


def light_scene(scene: Any) -> None:
    """Give an empty scene a neutral world, a soft key light behind the camera and colours true to the footage."""
    world = bpy.data.worlds.new("World")
    if world.node_tree is None:  # from 5.0 every world has nodes, and asking for them warns
        world.use_nodes = True
    shader = next(node for node in world.node_tree.nodes if node.type == "BACKGROUND")
    shader.inputs["Color"].default_value = (0.5, 0.5, 0.5, 1.0)
    shader.inputs["Strength"].default_value = 0.6
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
                turn_to_camera(area.spaces.active)


def looks_through(space: Any, scene: Any) -> bool:
    """Whether a 3D view looks through the footage's camera."""
    camera = space.camera if space.use_local_camera else scene.camera
    through = space.region_3d.view_perspective == "CAMERA"
    return through and camera is not None and camera == camera_of(scene)


def turn_to_camera(space: Any) -> None:
    """Let a 3D view look through its camera, with the whole frame in view."""
    space.region_3d.view_perspective = "CAMERA"
    space.region_3d.view_camera_zoom = _CAMERA_ZOOM
    space.region_3d.view_camera_offset = (0.0, 0.0)
    space.clip_start = _CLIP_START


# The footage of a scene: what scene.two_hands.footage says, brought into the scene.


def camera_of(scene: Any) -> Any:
    """The footage's camera if it is in the scene, else None."""
    camera = getattr(scene, SCENE_PROPERTY).footage.camera
    return camera if camera is not None and scene.objects.get(camera.name) == camera else None


def footage_rate(scene: Any) -> FrameRate | None:
    """Frames per second of the scene's footage; None without footage."""
    footage = getattr(scene, SCENE_PROPERTY).footage
    if footage.clip is None:
        return None
    return clip_frame_rate(footage.clip) or nearest_frame_rate(footage.picture_rate)


def seconds_of_frame(scene: Any, frame: float) -> float:
    """Seconds of the footage that scene frame `frame` shows; negative before its start."""
    return float(frame - getattr(scene, SCENE_PROPERTY).footage.start) / scene_frame_rate(scene).value


def frame_of_seconds(scene: Any, seconds: float) -> float:
    """Scene frame, with decimals, on which the footage's second `seconds` lies."""
    return float(getattr(scene, SCENE_PROPERTY).footage.start + seconds * scene_frame_rate(scene).value)


def footage_range(scene: Any) -> tuple[int, int]:
    """First and last scene frame on which the footage shows a picture of its own.

    Raises:
        FootageError: the scene has no footage.
    """
    footage, rate = getattr(scene, SCENE_PROPERTY).footage, footage_rate(scene)
    if rate is None:
        raise FootageError("The scene has no footage, load one first.")
    last = frame_of_seconds(scene, (footage.clip.frame_duration - 1) / rate.value)
    return footage.start, max(footage.start, math.floor(last + FRAME_NOISE))


def mapping_sentence(scene: Any, clip: Any) -> str:
    """Which frames of the clip lie on which frames of the scene, for the user."""
    rate, scene_rate = footage_rate(scene), scene_frame_rate(scene)
    first, last = footage_range(scene)
    on = f"1-{clip.frame_duration} of the footage lie on scene frames {first}-{last}"
    if rate is not None and not _same_rate(rate, scene_rate):
        return f"Footage {rate} fps in a {scene_rate} fps scene: frames {on}, everything stays on time."
    return f"Footage and scene both play at {scene_rate} fps: frames {on}."


def facts_sentence(scene: Any, clip: Any) -> str:
    """Size, length and rate of the clip in numbers, for the user."""
    rate = footage_rate(scene)
    seconds = clip.frame_duration / rate.value if rate else 0.0
    return f"{clip.size[0]} x {clip.size[1]}, {clip.frame_duration:,} frames, {rate} fps, {seconds:.1f} s"


def plays_at_footage_rate(scene: Any) -> bool:
    """Whether the scene steps through its footage picture by picture; also without footage."""
    rate = footage_rate(scene)
    return rate is None or _same_rate(rate, scene_frame_rate(scene))


def camera_matrix_of(scene: Any) -> tuple[Array, str]:
    """Camera matrix [3, 3] in pixels of the scene's footage, and a sentence that says what it means.

    It comes from what the user chose in `focal_source`; where that knows nothing, from the field of view.

    Raises:
        FootageError: there is no footage, or the chosen camera cannot be used.
    """
    footage = getattr(scene, SCENE_PROPERTY).footage
    if not can_be_read(footage.clip):
        raise FootageError("The scene has no footage that can be read, load one first.")
    size = (int(footage.clip.size[0]), int(footage.clip.size[1]))
    matrix, note = _choose_lens(scene, footage, size)
    across = math.degrees(field_of_view_from_focal_length(matrix[0, 0], size[0]))
    return matrix, f"{matrix[0, 0]:,.0f} px, {across:.4g} degrees from side to side{note}"


def use_footage(scene: Any, clip: Any, *, camera: Any = None, start: int | None = None) -> None:
    """Make a clip the scene's footage, seen through `camera` if one is given that has the right lens already.

    Args:
        scene: the scene.
        clip: what load_footage returned.
        camera: an object in the scene; None keeps the footage's camera, or makes one.
        start: scene frame of the footage's time 0; None keeps it.
    """
    footage = getattr(scene, SCENE_PROPERTY).footage
    if camera is not None:
        footage.focal_source = "CAMERA"
        footage.camera = camera
    if start is not None:
        footage.shown_start = start  # the takes of this footage stay where they are
        footage.start = start
    footage.clip = clip


def show_in_scene(scene: Any) -> None:
    """Put the scene's footage behind its camera, in step with the scene; without a clip, take it away.

    The camera is made if there is none. The lens is that of `camera_matrix_of`, unless it is the camera's own.
    """
    footage = getattr(scene, SCENE_PROPERTY).footage
    camera, clip = camera_of(scene), footage.clip
    if not can_be_read(clip):
        if clip is None and camera is not None and footage.shown is not None:
            background.hide_footage(camera, footage.shown)
            footage.shown = None
        return
    if camera is None:
        camera = new_camera(scene.collection)
        fit_lens(camera, camera_matrix_of(scene)[0], tuple(clip.size))
        footage.camera = camera
    background.show_footage(camera, clip, footage.start, _ratio(scene), _is_turned(scene), instead_of=footage.shown)
    background.prepare_for_any_rate(camera, clip, footage.start)
    footage.shown = clip


def fit_camera(scene: Any) -> None:
    """Give the footage's camera the lens that the user chose, unless that is its own."""
    footage, camera = getattr(scene, SCENE_PROPERTY).footage, camera_of(scene)
    if camera is None or not can_be_read(footage.clip) or footage.focal_source == "CAMERA":
        return
    matrix, _ = camera_matrix_of(scene)
    fit_lens(camera, matrix, tuple(footage.clip.size))


def shows_in_step(scene: Any) -> bool:
    """Whether the scene's footage is seen on time; also without footage or without a camera."""
    footage, camera = getattr(scene, SCENE_PROPERTY).footage, camera_of(scene)
    if camera is None or not can_be_read(footage.clip):
        return True
    return background.is_in_step(camera, footage.clip, footage.start, _ratio(scene), _is_turned(scene))


def is_missing(clip: Any) -> bool:
    """Whether the file of a clip was gone when `look_for_files` last looked; reads nothing."""
    return clip.filepath in _missing


def states_lens(clip: Any) -> bool:
    """Whether the file of a clip said which lens filmed it when `look_for_files` last looked."""
    return _stated_lenses.get(clip.filepath) is not None


def can_be_read(clip: Any) -> bool:
    """Whether there is a clip whose file was there; one that is gone has a made-up size and length."""
    return clip is not None and bool(clip.size[0]) and not is_missing(clip)


def look_for_files() -> None:
    """See which footage is where it was, and what it says about its lens. Reads files: never for drawing."""
    _missing.clear()
    for clip in bpy.data.movieclips:
        path = Path(bpy.path.abspath(clip.filepath, library=clip.library))
        if not path.exists():
            _missing.add(clip.filepath)
        elif clip.filepath not in _stated_lenses:
            _stated_lenses[clip.filepath] = focal_length_from_metadata(path, tuple(clip.size))


def look_what_hides(scene: Any) -> None:
    """Note which visible meshes stand around the footage's camera, as the cube of a new file does."""
    camera = camera_of(scene)
    _hiding.clear()
    if camera is not None:
        _hiding.extend(item.name for item in scene.objects if item.type == "MESH" and _stands_around(item, camera))


def hidden_by(scene: Any) -> str:
    """The name of an object that was noted and still hides the footage; "" if none does. For drawing."""
    camera = camera_of(scene)
    noted = (scene.objects.get(name) for name in _hiding)
    return next((item.name for item in noted if item and camera and _stands_around(item, camera)), "")


def _stands_around(item: Any, camera: Any) -> bool:
    place = np.array(item.matrix_world.inverted_safe() @ camera.matrix_world.translation)
    corners = np.array(item.bound_box)
    return bool(item.visible_get() and np.all(corners.min(axis=0) < place) and np.all(place < corners.max(axis=0)))


_hiding: Final[list[str]] = []  # names of objects
_missing: Final[set[str]] = set()
_stated_lenses: Final[dict[str, float | None]] = {}  # path as the clip has it -> focal length in pixels
_owner: Final = object()  # of the message bus subscriptions


def _same_rate(one: FrameRate, other: FrameRate) -> bool:
    return abs(one.value / other.value - 1.0) < RATE_TOLERANCE


def _ratio(scene: Any) -> float:
    rate = footage_rate(scene)
    return rate.value / scene_frame_rate(scene).value if rate else 1.0


def _is_turned(scene: Any) -> bool:
    return bool(getattr(scene, SCENE_PROPERTY).capture.mirrored)


def _choose_lens(scene: Any, footage: Any, size: tuple[int, int]) -> tuple[Array, str]:
    """Camera matrix [3, 3], and what follows the numbers in the sentence about it."""
    camera = camera_of(scene)
    if footage.focal_source == "CAMERA" and camera is not None:
        return read_lens(camera, scene, size), f': the lens of "{camera.name}".'
    if footage.focal_source == "TRACKING":
        return _read_tracking_lens(footage.clip, size)
    stated = _stated_lenses.get(footage.clip.filepath)
    if footage.focal_source == "METADATA" and stated is not None:
        return make_camera_matrix(size, stated), ", as the file says."
    matrix = make_camera_matrix(size, focal_length_from_field_of_view(footage.field_of_view, size[0]))
    if footage.focal_source == "METADATA":
        return matrix, ", as the field of view says: the file does not tell its lens."
    return matrix, "."


def _read_tracking_lens(clip: Any, size: tuple[int, int]) -> tuple[Array, str]:
    lens = clip.tracking.camera
    matrix = make_camera_matrix(size, lens.focal_length_pixels)
    # Motion tracking measures from the lower left corner.
    matrix[0, 2], matrix[1, 2] = lens.principal_point_pixels[0], size[1] - lens.principal_point_pixels[1]
    bends = lens.distortion_model == "POLYNOMIAL" and any((lens.k1, lens.k2, lens.k3))
    solved = "solved" if clip.tracking.reconstruction.is_valid else "set"
    return matrix, f", {solved} in the Movie Clip Editor{'; its distortion is not used' if bends else ''}."


def _on_footage(scene: Any, part: str) -> None:
    """What the user changed in the panel is seen at once, in the same undo step."""
    footage = getattr(scene, SCENE_PROPERTY).footage
    if part == "camera" and not _has_chosen_lens(scene):
        footage.focal_source = "CAMERA"  # a camera of the user's own keeps its lens
    if part == "start":
        _move_takes(scene, footage)
    if part == "clip":
        look_for_files()
    if part in {"lens", "clip"}:
        fit_camera(scene)
    if part != "lens":
        try:
            show_in_scene(scene)
        except FootageError as error:  # it has gone since it was last looked for; the panel offers to relink it
            look_for_files()
            log.note_mistake(str(error))


def _move_takes(scene: Any, footage: Any) -> None:
    """Takes that began with this footage go on beginning with it."""
    before, footage.shown_start = footage.shown_start, footage.start
    if footage.clip is None:
        return
    path = Path(bpy.path.abspath(footage.clip.filepath))
    names = {path, path.parent} if footage.clip.source == "SEQUENCE" else {path}
    for item in getattr(scene, SCENE_PROPERTY).takes:
        if item.start == before != footage.start and Path(bpy.path.abspath(item.footage)) in names:
            item.start = footage.start


def _has_chosen_lens(scene: Any) -> bool:
    """Whether the footage's camera has the lens that the user chose; True where that cannot be told."""
    footage, camera = getattr(scene, SCENE_PROPERTY).footage, camera_of(scene)
    if camera is None or camera.data.type != "PERSP" or not can_be_read(footage.clip):
        return True
    chosen, own = camera_matrix_of(scene)[0], read_lens(camera, scene, tuple(footage.clip.size))
    return bool(np.abs(own - chosen).max() < _LENS_TOLERANCE * chosen[0, 0])


def _keep_step() -> None:
    for scene in bpy.data.scenes:
        camera, clip = camera_of(scene), getattr(scene, SCENE_PROPERTY).footage.clip
        if not shows_in_step(scene) and background.is_prepared(camera, clip):  # otherwise the panel offers it
            show_in_scene(scene)
    ticker.redraw()


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _on_undo(*_: Any) -> None:
    """A scene of another frame rate, or another file, came back: the footage may have to follow it again."""
    look_for_files()
    _keep_step()


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _on_load(*_: Any) -> None:
    """Look for the footage, and listen again: a new file forgets its listeners."""
    _stated_lenses.clear()
    look_for_files()
    _subscribe()


def _subscribe() -> None:
    bpy.msgbus.clear_by_owner(_owner)
    for name in ("fps", "fps_base"):
        bpy.msgbus.subscribe_rna(key=(bpy.types.RenderSettings, name), owner=_owner, args=(), notify=_keep_step)


_HANDLERS: Final = (
    (bpy.app.handlers.undo_post, _on_undo),
    (bpy.app.handlers.redo_post, _on_undo),
    (bpy.app.handlers.load_post, _on_load),
)


def register() -> None:
    """Follow the user's choices, the scene's frame rate and undo."""
    listen_to_footage(_on_footage)
    for handlers, handler in _HANDLERS:
        handlers.append(handler)
    _subscribe()


def unregister() -> None:
    """Stop following."""
    bpy.msgbus.clear_by_owner(_owner)
    for handlers, handler in _HANDLERS:
        handlers.remove(handler)
    _hiding.clear()
    _missing.clear()
    _stated_lenses.clear()


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
