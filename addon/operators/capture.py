"""Capture: start, pause, resume, cancel, discard captures, and say where the hands are. The work is capture_job's."""

from pathlib import Path
from typing import Any, ClassVar, Final

import bpy
import gpu
from bl_operators.presets import AddPresetBase
from bpy_extras.view3d_utils import location_3d_to_region_2d
from gpu_extras.batch import batch_for_shader

from dir_core.capture_settings import CaptureSettings
from dir_core.errors import FootageError, HandCaptureError, SettingsError
from dir_core.worker.protocol import JobRequest

from .. import capture_job, capture_preview, footage_view, gpu_runtime, log, painter
from ..preferences import preferences
from ..properties import SCENE_PROPERTY
from .base import HandsOperator, refuse_poll

PRESET_FOLDER: Final = "two_hand_capture/capture"

_PRESET_VALUES: Final = ("estimator", "device", "step", "mirrored", "hand_length", "use_hands", "use_preview")
"""What suits more than one clip: not the range, not the box."""

_SMALLEST_BOX: Final = 8.0  # pixels of the footage; less is a click that slipped
_BOX_COLOUR: Final = (1.0, 0.65, 0.0, 1.0)
_LOG_LINES: Final = 40
_LOG_TAIL: Final = 1 << 15  # bytes of a log that hold its last lines
_LOG_WIDTH: Final = 900
_DECIMALS: Final = 6  # Blender keeps 32-bit floats: 0.19 comes back as 0.1899999976

Box = tuple[float, float, float, float]


def why_not(context: Any) -> str:
    """Why nothing can be captured now, "" if it can. Reads no files."""
    hands = getattr(context.scene, SCENE_PROPERTY)
    if hands.footage.clip is None:
        return "Load the footage first"
    if footage_view.is_missing(hands.footage.clip):
        return "The footage is not where it was, relink it first"
    if hands.capture.estimator == "dir":
        return gpu_runtime.missing_for_dir(preferences(context))
    return ""


def weights_in_use(context: Any) -> tuple[str, ...]:
    """Which networks and hands the choice means and what may be done with the result, a sentence each."""
    chosen = preferences(context)
    if getattr(context.scene, SCENE_PROPERTY).capture.estimator == "dir":
        path = gpu_runtime.weights_path(chosen)
        if not path:
            return ("No weights are chosen. Weights and the hands inside them have licences of their own.",)
        known = gpu_runtime.weights_sentence(path) or "Nobody has looked into this file yet."
        return f"Weights: {Path(path).name}.", known
    networks = "Networks: MediaPipe palm detector and hand landmarks, Apache-2.0, part of this add-on."
    if gpu_runtime.hands_folder(chosen):
        return networks, f"Hands: {chosen.hands_found}"
    return (
        networks,
        "Hands: the open hand model, Apache-2.0, part of this add-on.",
        "Captures may be used for anything, commercial work included.",
    )


def make_settings(scene: Any) -> CaptureSettings:
    """The settings that the properties of a scene mean.

    Raises:
        SettingsError: a value that cannot work, or a range without footage.
        FootageError: the lens of the footage cannot be known.
    """
    hands = getattr(scene, SCENE_PROPERTY)
    capture = hands.capture
    matrix, _ = footage_view.camera_matrix_of(scene)
    start, end = _seconds(scene)
    if capture.use_box and not min(capture.box[2:]) >= 1.0:
        raise SettingsError("The start box is empty, draw it around both hands or switch it off.")
    is_dir = capture.estimator == "dir"
    chosen = preferences(bpy.context)
    return CaptureSettings(
        start=start,
        end=end,
        step=capture.step,
        estimator=capture.estimator,
        focal_length=abs(float(matrix[0, 0])),
        hand_length=round(capture.hand_length, _DECIMALS),
        mirrored=capture.mirrored,
        device=capture.device if is_dir else "auto",
        frame_rate=_picture_rate(scene),
        hand_model=None if is_dir else gpu_runtime.hands_folder(chosen),  # the hands of DIR are in its weights
        checkpoint=gpu_runtime.weights_path(chosen) if is_dir else None,
        box=_box(capture.box) if capture.use_box else None,
    )


def _picture_rate(scene: Any) -> float | None:
    """Frames per second of numbered pictures; videos carry their own time stamps."""
    rate = footage_view.footage_rate(scene)
    is_sequence = getattr(scene, SCENE_PROPERTY).footage.clip.source == "SEQUENCE"
    return rate.value if is_sequence and rate else None


def _seconds(scene: Any) -> tuple[float | None, float | None]:
    """The range in seconds of the footage; None is an end of it."""
    hands = getattr(scene, SCENE_PROPERTY)
    capture, start = hands.capture, hands.footage.start
    if not capture.use_range:
        return None, None
    if capture.last < capture.first:
        raise SettingsError(f"The range ends on frame {capture.last}, before it begins: give {capture.first} or more.")
    if capture.last < start:
        raise SettingsError(f"The range ends before the footage begins on frame {start}, give a later last frame.")
    first = max(footage_view.seconds_of_frame(scene, capture.first), 0.0)
    # Half a frame more, so that a range of one frame holds one picture.
    return first, footage_view.seconds_of_frame(scene, capture.last + 0.5)


def _box(values: Any) -> Box:
    x, y, width, height = (round(value, 1) for value in values)
    return x, y, width, height


def footage_path(clip: Any) -> Path:
    """The file of a movie clip.

    Raises:
        FootageError: it is not there.
    """
    path = Path(bpy.path.abspath(clip.filepath, library=clip.library)).resolve()
    if not path.is_file():
        raise FootageError(f"The footage is not at {path} any more, relink it in the Footage panel.")
    return path


class HANDS_OT_capture(HandsOperator):
    """Capture both hands of the footage in the background; Blender stays free for other work"""

    bl_idname = "hands.capture"
    bl_label = "Capture"
    bl_options: ClassVar = {"REGISTER"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be footage, and what the estimator needs."""
        reason = why_not(context)
        return refuse_poll(cls, reason) if reason else True

    def run(self, context: Any) -> set[str]:
        """Check everything, then line up; without a window wait for the take."""
        scene = context.scene
        hands = getattr(scene, SCENE_PROPERTY)
        clip = hands.footage.clip
        path, settings = footage_path(clip), make_settings(scene)
        capture_preview.prepare()
        order = capture_job.order_from(scene, path.name, hands.footage.start, hands.capture.use_hands)
        job = capture_job.add_job(scene, JobRequest(str(path), settings), order)
        if bpy.app.background:
            self.tell(_wait_for(job))
        return {"FINISHED"}


def _wait_for(job: capture_job.Job) -> str:
    """Without a window: wait until a job has ended; gives back what came of it, in numbers.

    Raises:
        HandCaptureError: it did not end with a take, or the take could not be kept; the job stays.
    """
    log.forget_mistake()
    capture_job.drain()
    mistake = log.last_mistake()
    if mistake and (job.phase == "failed" or job in capture_job.jobs()):
        raise HandCaptureError(mistake.sentence)
    return capture_job.last_report() or f"The take of {job.order.clip} waits in the list of captures."


class _JobOperator(HandsOperator):
    """Does something with one job of the list."""

    bl_options: ClassVar = {"INTERNAL"}

    job: bpy.props.StringProperty(options={"HIDDEN", "SKIP_SAVE"})  # type: ignore[valid-type]

    def act(self, context: Any, job: capture_job.Job) -> None:
        raise NotImplementedError

    def run(self, context: Any) -> set[str]:
        """Find the job and act; the panel shows what came of it."""
        self.act(context, capture_job.find_job(self.job))
        painter.repaint("SIDEBAR", "STATUS")
        return {"FINISHED"}


class HANDS_OT_pause_capture(_JobOperator):
    """Let the capture wait; it goes on from here"""

    bl_idname = "hands.pause_capture"
    bl_label = "Pause"

    def act(self, _context: Any, job: capture_job.Job) -> None:
        """Pause."""
        capture_job.pause_job(job)


class HANDS_OT_resume_capture(_JobOperator):
    """Go on where the capture was paused or ended; what is finished is not captured again"""

    bl_idname = "hands.resume_capture"
    bl_label = "Resume"

    def act(self, _context: Any, job: capture_job.Job) -> None:
        """Resume; without a window wait for the take."""
        capture_preview.prepare()
        capture_job.resume_job(job)
        if bpy.app.background:
            self.tell(_wait_for(job))


class HANDS_OT_cancel_capture(_JobOperator):
    """End the capture; what is finished stays and can be resumed later"""

    bl_idname = "hands.cancel_capture"
    bl_label = "Cancel"

    def act(self, _context: Any, job: capture_job.Job) -> None:
        """Cancel."""
        capture_job.cancel_job(job)


class HANDS_OT_discard_capture(_JobOperator):
    """Delete what this capture has finished so far; the footage stays"""

    bl_idname = "hands.discard_capture"
    bl_label = "Discard Capture"

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask: hours of computing may be in it."""
        return set(context.window_manager.invoke_confirm(self, event))

    def act(self, _context: Any, job: capture_job.Job) -> None:
        """Discard."""
        capture_job.discard_job(job)


class HANDS_OT_add_captured(_JobOperator):
    """Add the finished take to this scene, whichever scene asked for it"""

    bl_idname = "hands.add_captured"
    bl_label = "Add to This Scene"

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Hands can only be built in object mode."""
        if context.mode != "OBJECT":
            return refuse_poll(cls, "Leave for Object Mode first")
        return True

    def act(self, context: Any, job: capture_job.Job) -> None:
        """Add it."""
        capture_job.deliver(job, context, context.scene, select=True)


class HANDS_OT_draw_box(HandsOperator):
    """Drag a rectangle around both hands where the capture starts, for hands that are not found by themselves"""

    bl_idname = "hands.draw_box"
    bl_label = "Draw Box"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """The view has to look through the footage's camera."""
        footage = getattr(context.scene, SCENE_PROPERTY).footage
        if footage.clip is None:
            return refuse_poll(cls, "Load the footage first")
        space = context.space_data
        if space is None or space.type != "VIEW_3D":
            return refuse_poll(cls, "Draw the box in a 3D view")
        if not footage_view.looks_through(space, context.scene):
            return refuse_poll(cls, "Look through the footage's camera first")
        return True

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Wait for the drag."""
        self._area = context.area
        self._region = next(region for region in context.area.regions if region.type == "WINDOW")
        self._from: tuple[float, float] | None = None
        self._to: tuple[float, float] = (0.0, 0.0)
        self._handle = bpy.types.SpaceView3D.draw_handler_add(self._draw, (), "WINDOW", "POST_PIXEL")
        context.window.cursor_modal_set("CROSSHAIR")
        context.workspace.status_text_set("Drag a Rectangle Around Both Hands    Esc: Cancel")
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> set[str]:
        """Follow the drag; the view can be zoomed and moved before it begins."""
        if event.type in {"ESC", "RIGHTMOUSE"}:
            return self._leave(context, {"CANCELLED"})
        at = (event.mouse_x - self._region.x, event.mouse_y - self._region.y)
        if event.type == "LEFTMOUSE" and event.value == "PRESS":
            self._from = self._to = at
        elif event.type == "MOUSEMOVE":
            self._to = at
            if self._from:
                self._area.tag_redraw()
        elif event.type == "LEFTMOUSE" and event.value == "RELEASE" and self._from:
            self._to = at
            return self._leave(context, self._set_box(context))
        elif self._from is None:
            return {"PASS_THROUGH"}
        return {"RUNNING_MODAL"}

    def cancel(self, context: Any) -> None:
        """Blender ends it, for example because the window closes."""
        self._leave(context, {"CANCELLED"})

    def _set_box(self, context: Any) -> set[str]:
        assert self._from is not None
        scene = context.scene
        try:
            box = box_from_drag(scene, self._region, self._area.spaces.active, self._from, self._to)
        except HandCaptureError as error:
            return self.refuse(str(error))
        capture = getattr(scene, SCENE_PROPERTY).capture
        capture.box, capture.use_box = box, True
        self.tell(f"The start box is {box[2]:.0f} x {box[3]:.0f} pixels at {box[0]:.0f}, {box[1]:.0f}.")
        return {"FINISHED"}

    def _leave(self, context: Any, result: set[str]) -> set[str]:
        bpy.types.SpaceView3D.draw_handler_remove(self._handle, "WINDOW")
        context.window.cursor_modal_restore()
        context.workspace.status_text_set(None)
        self._area.tag_redraw()
        return result

    def _draw(self) -> None:
        if self._from and bpy.context.area == self._area:
            draw_rectangle(self._from, self._to)


def frame_in_region(scene: Any, region: Any, space: Any) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of the camera's frame in pixels of a region that looks through the footage's camera.

    Right however the view is zoomed and moved.
    """
    camera = footage_view.camera_of(scene)
    corners = [camera.matrix_world @ corner for corner in camera.data.view_frame(scene=scene)]
    seen = [location_3d_to_region_2d(region, space.region_3d, corner) for corner in corners]
    across, up = [point.x for point in seen], [point.y for point in seen]
    return min(across), min(up), max(across), max(up)


def box_from_drag(scene: Any, region: Any, space: Any, first: tuple[float, float], second: tuple[float, float]) -> Box:
    """The box (x, y, width, height in pixels of the footage, y down) between two points of a region.

    The footage fills the camera's frame; mirrored footage is shown turned back. What lies outside is cut off.

    Raises:
        SettingsError: nothing of the footage is inside.
    """
    left, bottom, right, top = frame_in_region(scene, region, space)
    hands = getattr(scene, SCENE_PROPERTY)
    width, height = hands.footage.clip.size
    across = sorted((point[0] - left) / (right - left) for point in (first, second))
    down = sorted((top - point[1]) / (top - bottom) for point in (first, second))
    if hands.capture.mirrored:
        across = [1.0 - across[1], 1.0 - across[0]]
    x, x_end = (min(max(value, 0.0), 1.0) * width for value in across)
    y, y_end = (min(max(value, 0.0), 1.0) * height for value in down)
    if min(x_end - x, y_end - y) < _SMALLEST_BOX:
        raise SettingsError("The box is too small or beside the footage, drag it around both hands.")
    return x, y, x_end - x, y_end - y


def box_in_region(scene: Any, region: Any, space: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    """The start box of a scene as two corners in pixels of a region: the inverse of box_from_drag."""
    left, bottom, right, top = frame_in_region(scene, region, space)
    hands = getattr(scene, SCENE_PROPERTY)
    width, height = hands.footage.clip.size
    x, y, wide, high = hands.capture.box
    across = [x / width, (x + wide) / width]
    if hands.capture.mirrored:
        across = [1.0 - value for value in across]
    xs = [left + value * (right - left) for value in across]
    ys = [top - value / height * (top - bottom) for value in (y, y + high)]
    return (xs[0], ys[0]), (xs[1], ys[1])


def draw_rectangle(first: tuple[float, float], second: tuple[float, float]) -> None:
    """Draw the outline between two corners in pixels of the region that is drawn."""
    (x, y), (x_end, y_end) = first, second
    corners = [(x, y, 0.0), (x_end, y, 0.0), (x_end, y_end, 0.0), (x, y_end, 0.0), (x, y, 0.0)]
    shader = gpu.shader.from_builtin("POLYLINE_UNIFORM_COLOR")
    shader.uniform_float("viewportSize", gpu.state.viewport_get()[2:])
    shader.uniform_float("lineWidth", 1.5 * bpy.context.preferences.system.ui_scale)
    shader.uniform_float("color", _BOX_COLOUR)
    gpu.state.blend_set("ALPHA")
    batch_for_shader(shader, "LINE_STRIP", {"pos": corners}).draw(shader)
    gpu.state.blend_set("NONE")


def draw_start_box() -> None:
    """Show the start box of the scene over its footage, in views that look through its camera."""
    context = bpy.context
    hands = getattr(context.scene, SCENE_PROPERTY)
    space = context.space_data
    if not hands.capture.use_box or hands.footage.clip is None or not footage_view.looks_through(space, context.scene):
        return
    if space.overlay.show_overlays and min(hands.capture.box[2:]) >= 1.0:
        draw_rectangle(*box_in_region(context.scene, context.region, space))


class HANDS_OT_show_log(bpy.types.Operator):  # type: ignore[misc]
    """Show the end of the log that says more"""

    bl_idname = "hands.show_log"
    bl_label = "Show Log"
    bl_options: ClassVar = {"INTERNAL"}

    filepath: bpy.props.StringProperty(subtype="FILE_PATH", options={"HIDDEN", "SKIP_SAVE"})  # type: ignore[valid-type]

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Read the end of the file once and show it; without a file, that of the add-on's own log."""
        self.filepath = self.filepath or str(log.log_path())
        self._lines = last_lines(Path(self.filepath))
        return set(context.window_manager.invoke_popup(self, width=_LOG_WIDTH))

    def execute(self, _context: Any) -> set[str]:
        """Without a window it is printed."""
        print("\n".join(last_lines(Path(self.filepath or log.log_path()))))
        return {"FINISHED"}

    def draw(self, _context: Any) -> None:
        """The lines, and a way to the whole file."""
        row = self.layout.row()
        row.label(text=self.filepath, translate=False)
        row.operator("wm.path_open", text="Open File", icon="FILE_TEXT").filepath = self.filepath
        column = self.layout.box().column(align=True)
        column.scale_y = 0.7
        for line in self._lines:
            column.label(text=line, translate=False)


def last_lines(path: Path, count: int = _LOG_LINES) -> list[str]:
    """The last lines of a text file, or a sentence if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - _LOG_TAIL, 0))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError as error:
        return [f"Cannot read {path}: {error.strerror}."]
    return lines[-count:] or ["The log is empty."]


class HANDS_OT_close_mistake(bpy.types.Operator):  # type: ignore[misc]
    """Do not show this sentence any more"""

    bl_idname = "hands.close_mistake"
    bl_label = "Close"
    bl_options: ClassVar = {"INTERNAL"}

    def execute(self, _context: Any) -> set[str]:
        """Forget it."""
        log.forget_mistake()
        painter.repaint("SIDEBAR")
        return {"FINISHED"}


class HANDS_OT_capture_preset_add(AddPresetBase, bpy.types.Operator):  # type: ignore[misc]
    """Keep the settings of the capture under a name, or remove the chosen preset"""

    bl_idname = "hands.capture_preset_add"
    bl_label = "Add Capture Preset"
    preset_menu = "HANDS_PT_capture_presets"
    preset_subdir = PRESET_FOLDER
    # Whole paths: names from `preset_defines` are not found by the Blender of distributions with Python 3.13.
    preset_defines: ClassVar[list[str]] = []
    preset_values: ClassVar = [f"bpy.context.scene.two_hands.capture.{name}" for name in _PRESET_VALUES]


CLASSES: Final = (
    HANDS_OT_capture,
    HANDS_OT_pause_capture,
    HANDS_OT_resume_capture,
    HANDS_OT_cancel_capture,
    HANDS_OT_discard_capture,
    HANDS_OT_add_captured,
    HANDS_OT_draw_box,
    HANDS_OT_show_log,
    HANDS_OT_close_mistake,
    HANDS_OT_capture_preset_add,
)

_handles: Final[list[Any]] = []


def register() -> None:
    """Show start boxes in 3D views."""
    _handles.append(bpy.types.SpaceView3D.draw_handler_add(draw_start_box, (), "WINDOW", "POST_PIXEL"))


def unregister() -> None:
    """Stop that."""
    while _handles:
        bpy.types.SpaceView3D.draw_handler_remove(_handles.pop(), "WINDOW")
