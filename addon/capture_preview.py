"""The hands that move in the viewport while a capture runs. Nothing of them is in the file.

What the worker has seen so far is posed here and drawn over the scene that asked, in front of its footage camera. Parts
come some dozens of frames at once; they are shown at the speed at which they are captured, so the hands move steadily.
"""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import bpy
import gpu
import numpy as np
from mathutils import Matrix, Quaternion
from numpy.typing import NDArray

from dir_core.conventions import JOINT_PARENTS, SIDES, Side
from dir_core.errors import HandModelError
from dir_core.hand_model import HandModel, open_hand_models
from dir_core.rotations import to_matrix
from dir_core.worker.protocol import PreviewClip, PreviewReader

from . import capture_job, log, painter, ticker
from .axes import CAMERA_TO_BLENDER
from .properties import SCENE_PROPERTY

Array = NDArray[Any]

_TICK: Final = 1 / 24  # seconds between two poses, if there are as many
_IDLE_TICK: Final = 0.2  # while there is nothing new to show
_KEPT_PARTS: Final = 2  # unseen ones; what is older is skipped, as after resuming
_FIRST_PERIOD: Final = 1.0  # seconds that the first part is shown over, before the time between two is known
_LONGEST_PERIOD: Final = 4.0  # a slow capture is shown in bursts and not in slow motion

_COLOURS: Final[dict[Side, tuple[float, float, float]]] = {"left": (0.50, 0.56, 0.72), "right": (0.76, 0.53, 0.47)}
_AMBIENT: Final = 0.35  # what is turned away from the viewer
_LIGHT: Final = np.array([-0.3, -0.5, -0.8], np.float32) / np.float32(0.99)  # camera axes: from the left above behind


@dataclass(frozen=True, eq=False)
class Skin:
    """A hand model made ready for posing many single frames: two matrix products each.

    Attributes:
        length: of the hand, metres.
        joints: [16, 3] of the flat hand about its wrist, metres.
        points: [V, 64] rows of w_j (v, 1): against the stacked transforms they give the posed vertices.
        normals: [V, 48] rows of w_j n, against the stacked turns.
        faces: [F, 3].
    """

    length: float
    joints: Array
    points: Array
    normals: Array
    faces: Array


def make_skin(model: HandModel) -> Skin:
    """Prepare the mean shape of a model."""
    vertices, joints = model.shaped()
    vertices, joints = vertices - joints[0], joints - joints[0]
    faces = np.asarray(model.faces, np.int32)
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], across)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    homogeneous = np.concatenate([vertices, np.ones((len(vertices), 1))], axis=1)
    count = len(vertices)
    weights = model.weights[:, :, None]
    return Skin(
        length=model.length(),
        joints=joints,
        points=(weights * homogeneous[:, None]).reshape(count, -1).astype(np.float32),
        normals=(weights * normals[:, None]).reshape(count, -1).astype(np.float32),
        faces=faces,
    )


def pose_skin(skin: Skin, rotation: Array, translation: Array, scale: float) -> tuple[Array, Array]:
    """Vertices and normals [V, 3] of one pose in camera axes.

    Args:
        skin: see make_skin.
        rotation: [16, 4] unit quaternions as in a take.
        translation: [3] wrist in camera axes, metres.
        scale: size factor on the model.
    """
    local = to_matrix(np.asarray(rotation, np.float64))
    turns, places = np.empty_like(local), np.zeros_like(skin.joints)
    for joint, parent in enumerate(JOINT_PARENTS):
        if parent < 0:
            turns[joint] = local[joint]
        else:
            turns[joint] = turns[parent] @ local[joint]
            places[joint] = places[parent] + turns[parent] @ (skin.joints[joint] - skin.joints[parent])
    shifts = places - np.einsum("jab,jb->ja", turns, skin.joints)
    moves = np.concatenate([turns, shifts[:, :, None]], axis=2)
    points = np.float32(scale) * _blend(skin.points, moves) + np.asarray(translation, np.float32)
    return points, _blend(skin.normals, turns)


def _blend(weighted: Array, moves: Array) -> Array:
    """Sum of the moves [16, 3, K] of rows [V, 16 * K]: [V, 3]. Not by BLAS, whose threads wait for the worker's."""
    stacked = np.ascontiguousarray(np.swapaxes(moves, 0, 1).reshape(3, -1), np.float32)
    return np.einsum("vk,ck->vc", weighted, stacked)


def shade(normals: Array, colour: tuple[float, float, float]) -> Array:
    """Colours [V, 4] of a matt surface with normals [V, 3] in camera axes, lit from behind the camera."""
    light = np.clip(np.einsum("vc,c->v", normals, _LIGHT), 0.0, None)
    light = _AMBIENT + (1.0 - _AMBIENT) * light
    colours = np.ones((len(normals), 4), np.float32)
    colours[:, :3] = light[:, None] * np.array(colour, np.float32)
    return colours


@dataclass
class Pace:
    """Shows rows steadily that come many at once: what is there when a part comes lasts until the next is due.

    Attributes:
        rows: that have come.
        position: row that is shown, with decimals.
    """

    rows: int = 0
    position: float = 0.0
    _rate: float = 0.0
    _period: float = _FIRST_PERIOD
    _came: float | None = None

    def add(self, count: int, now: float) -> None:
        """So many rows have come, at `now` seconds."""
        if self._came is not None:
            self._period = min(max(now - self._came, _TICK), _LONGEST_PERIOD)
        self._came = now
        self.rows += count
        self._rate = (self.rows - self.position) / self._period

    def skip(self, count: int) -> None:
        """The first rows will not be shown any more."""
        self.rows -= count
        self.position = max(self.position - count, 0.0)

    def move(self, seconds: float) -> int:
        """Go on by so many seconds; the row to show."""
        self.position = min(self.position + seconds * self._rate, float(self.rows))
        return max(min(int(self.position), self.rows - 1), 0)


@dataclass(eq=False)
class _Show:
    job: capture_job.Job
    reader: PreviewReader
    parts: deque[PreviewClip] = field(default_factory=deque)
    pace: Pace = field(default_factory=Pace)
    moved: float = 0.0  # monotonic
    shown: tuple[PreviewClip, int] | None = None
    meshes: dict[Side, tuple[Array, Array]] = field(default_factory=dict)  # points and colours, camera axes
    batches: dict[Side, Any] = field(default_factory=dict)  # made from them when they are drawn


_show: _Show | None = None
_skins: Final[dict[Side, Skin]] = {}
_handle: Any = None


def prepare() -> None:
    """Load the hands, so that the first part does not have to wait for them; without them nothing is drawn."""
    if _skins:
        return
    try:
        _skins.update({side: make_skin(model) for side, model in open_hand_models().items()})
    except HandModelError as error:
        log.LOGGER.warning("No preview: %s", error)


def begin(job: capture_job.Job) -> None:
    """Show what the worker of a job sees from now on, if its scene wants that."""
    global _show  # noqa: PLW0603 - one preview, as one job runs at a time
    if bpy.app.background:
        return
    prepare()
    _show = _Show(job, PreviewReader(job.folder), moved=time.monotonic()) if _skins else None
    if _show:
        ticker.follow(_step)


def end() -> None:
    """Show nothing any more."""
    global _show  # noqa: PLW0603 - see begin
    _show = None
    painter.repaint("VIEW")


def _step() -> float | None:
    """Take a part that has come, and pose the frame whose turn it is."""
    if _show is None:
        return None
    if not _show.job.is_active:
        end()
        return None
    now = time.monotonic()
    part = _show.reader.read()
    if part:
        _show.parts.append(part)
        _show.pace.add(len(part), now)
        while len(_show.parts) > _KEPT_PARTS:
            _show.pace.skip(len(_show.parts.popleft()))
    row = _show.pace.move(now - _show.moved)
    _show.moved = now
    while len(_show.parts) > 1 and row >= len(_show.parts[0]):
        gone = len(_show.parts.popleft())
        _show.pace.skip(gone)
        row -= gone
    if not _show.parts or _show.shown == (_show.parts[0], row):
        return _IDLE_TICK if part is None else _TICK
    _show.shown = (_show.parts[0], row)
    if _wanting_scene(_show.job) is None:
        return _IDLE_TICK
    _pose(_show, _show.parts[0], row)
    painter.repaint("VIEW")
    return _TICK


def _pose(show: _Show, part: PreviewClip, row: int) -> None:
    show.meshes.clear()
    show.batches.clear()
    for side in SIDES:
        hand = part.hand(side)
        if hand.observed[row]:
            scale = show.job.request.settings.hand_length / _skins[side].length
            points, normals = pose_skin(_skins[side], hand.rotation[row], hand.translation[row], scale)
            show.meshes[side] = (points, shade(normals, _COLOURS[side]))


def _draw() -> None:
    """Draw the posed hands into the 3D view that Blender draws right now."""
    if _show is None or not _show.meshes:
        return
    scene = bpy.context.scene
    if scene != _wanting_scene(_show.job):
        return
    shader = gpu.shader.from_builtin("SMOOTH_COLOR")
    for side, (points, colours) in _show.meshes.items():
        if side not in _show.batches:
            _show.batches[side] = _make_batch(points, colours, _skins[side].faces)
    gpu.state.depth_test_set("LESS_EQUAL")
    gpu.state.depth_mask_set(True)
    gpu.state.face_culling_set("BACK")
    try:
        with gpu.matrix.push_pop():
            gpu.matrix.multiply_matrix(_camera_axes(scene))
            for batch in _show.batches.values():
                batch.draw(shader)
    finally:
        gpu.state.face_culling_set("NONE")
        gpu.state.depth_mask_set(False)
        gpu.state.depth_test_set("NONE")


def _wanting_scene(job: capture_job.Job) -> Any | None:
    """The scene that asked, if it is there and wants to see its hands."""
    scene = capture_job.scene_of(job)
    return scene if scene is not None and getattr(scene, SCENE_PROPERTY).capture.use_preview else None


def _make_batch(points: Array, colours: Array, faces: Array) -> Any:
    layout = gpu.types.GPUVertFormat()  # what the shader calculates by itself lacks names from 5.0 on
    layout.attr_add(id="pos", comp_type="F32", len=3, fetch_mode="FLOAT")
    layout.attr_add(id="color", comp_type="F32", len=4, fetch_mode="FLOAT")
    vertices = gpu.types.GPUVertBuf(layout, len(points))
    vertices.attr_fill("pos", points)
    vertices.attr_fill("color", colours)
    indices = gpu.types.GPUIndexBuf(type="TRIS", seq=faces)
    return gpu.types.GPUBatch(type="TRIS", buf=vertices, elem=indices)


def _camera_axes(scene: Any) -> Matrix:
    """From camera axes (x right, y down, z forward) into the world: those of the scene's footage camera."""
    camera = getattr(scene, SCENE_PROPERTY).footage.camera
    if camera is None:
        return Quaternion(CAMERA_TO_BLENDER).to_matrix().to_4x4()
    place, turn, _ = camera.matrix_world.decompose()
    return Matrix.LocRotScale(place, turn, None) @ Matrix.Diagonal((1.0, -1.0, -1.0, 1.0))


def register() -> None:
    """Draw over 3D views, and begin with every worker."""
    global _handle  # noqa: PLW0603 - removed again by unregister
    capture_job.listen_to_starts(begin)
    _handle = bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_VIEW")


def unregister() -> None:
    """Stop that."""
    global _handle, _show
    bpy.types.SpaceView3D.draw_handler_remove(_handle, "WINDOW")
    _handle, _show = None, None
    _skins.clear()
