"""Key points and skeletons over the footage, drawn in 3D views that look through the footage's camera.

A key point is a place in a picture, so it means something only where that picture is seen: through the camera, at any
zoom. Its colour tells the hand, how solid it is the confidence; hollow ones are doubtful.
"""

from dataclasses import dataclass
from typing import Any, Final

import bpy
import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader
from mathutils import Vector
from numpy.typing import NDArray

from dir_core.conventions import KEYPOINT_BONES, SIDES, Side
from dir_core.take import Take

from . import footage_view, review_data, takes

Array = NDArray[Any]

HAND_COLOURS: Final[dict[Side, tuple[float, float, float]]] = {"left": (0.25, 0.6, 1.0), "right": (1.0, 0.32, 0.28)}
"""Blue and red, as the bones of the two armatures."""

DOUBTFUL: Final = 0.5
"""Confidence of a key point below which it is drawn hollow."""

_LINE, _DOT = 1.5, 3.6  # half width of a bone and radius of a key point, pixels at a UI scale of 1
_THIN, _PALE = 0.6, 0.6  # of width and colour of what was seen where the cleaned hands lie over it
_FAINTEST: Final = 0.35  # opacity of what was not seen at all
_OUTLINE: Final = 1.2  # pixels of shade around, so that skin, sky and screens are all a good background
_SHADE: Final = 0.55
_CORNERS: Final = 12
_PARENTS, _CHILDREN = np.array(KEYPOINT_BONES).T


@dataclass(frozen=True)
class PictureFrame:
    """Where a picture lies in a region: its upper left corner and its two edges, in pixels of the region.

    Attributes:
        origin, right, down: (x, y), with y up as regions have it.
    """

    origin: tuple[float, float]
    right: tuple[float, float]
    down: tuple[float, float]

    def place(self, points: Array, size: Array, *, mirrored: bool = False) -> Array:
        """Pixels [..., 2] of the region for points [..., 2] of a picture of `size` (width, height)."""
        share = points / size
        if mirrored:
            share = np.stack([1.0 - share[..., 0], share[..., 1]], axis=-1)
        return self.origin + share[..., :1] * np.array(self.right) + share[..., 1:] * np.array(self.down)


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles to be drawn: positions [N, 3] in pixels, colours [N, 4], corners [M, 3]."""

    positions: Array
    colours: Array
    corners: Array


def picture_frame(region: Any, region_data: Any, scene: Any, camera: Any) -> PictureFrame:
    """Where the camera's frame lies in a 3D view that looks through it, zoomed and moved as it is."""
    upper_right, _, lower_left, upper_left = (
        camera.matrix_world.normalized() @ corner for corner in camera.data.view_frame(scene=scene)
    )
    origin, right, down = (_to_region(region, region_data, corner) for corner in (upper_left, upper_right, lower_left))
    return PictureFrame(tuple(origin), tuple(right - origin), tuple(down - origin))


def skeleton_mesh(take: Take, row: int, frame: PictureFrame, scale: float = 1.0, *, below: bool = False) -> Mesh | None:
    """Both hands of one row of a take as they lie in a region; None if neither is to be seen.

    Args:
        take: raw or clean.
        row: of the take.
        frame: where the picture lies.
        scale: of lines and dots.
        below: thin and pale, because another skeleton is drawn over it.
    """
    scale, share = (scale * _THIN, _PALE) if below else (scale, 1.0)
    meshes = []
    mirrored = footage_view.is_mirrored(take)
    for side in SIDES:
        hand = take.hand(side)
        points = hand.keypoints_2d[row].astype(np.float64)
        if not points.any() or take.hidden(side)[row]:
            continue  # a hand that was not seen has no key points
        sureness = hand.confidence[row].astype(np.float64)
        colour = tuple(1.0 - share * (1.0 - part) for part in HAND_COLOURS[side])
        meshes.append(_hand_mesh(frame.place(points, take.image_size, mirrored=mirrored), sureness, colour, scale))
    return _join(meshes) if meshes else None


def draw_mesh(mesh: Mesh) -> None:
    """Draw triangles over what is there."""
    shader = gpu.shader.from_builtin("SMOOTH_COLOR")
    batch = batch_for_shader(
        shader, "TRIS", {"pos": mesh.positions, "color": mesh.colours}, indices=mesh.corners.astype(np.int32)
    )
    gpu.state.blend_set("ALPHA")
    batch.draw(shader)
    gpu.state.blend_set("NONE")


def _to_region(region: Any, region_data: Any, point: Any) -> Any:
    """Pixels of the region, also of points far outside it."""
    seen = region_data.perspective_matrix @ point.to_4d()
    return Vector((region.width / 2 * (1 + seen.x / seen.w), region.height / 2 * (1 + seen.y / seen.w)))


def _hand_mesh(points: Array, sureness: Array, colour: tuple[float, ...], scale: float) -> Mesh:
    bones = np.minimum(sureness[_PARENTS], sureness[_CHILDREN])
    doubtful = sureness < DOUBTFUL
    width, radius = scale * _LINE * (0.5 + 0.5 * bones), np.full(len(points), scale * _DOT)
    opacity_bones, opacity = (_FAINTEST + (1 - _FAINTEST) * values for values in (bones, sureness))
    shade, edge = (0.0, 0.0, 0.0), _OUTLINE * scale
    ends = points[_PARENTS], points[_CHILDREN]
    return _join(
        [
            _lines(*ends, width + edge, shade, _SHADE * opacity_bones),
            _dots(points, radius + edge, doubtful, shade, _SHADE * opacity, thickness=2 * edge + scale),
            _lines(*ends, width, colour, opacity_bones),
            _dots(points, radius, doubtful, colour, opacity, thickness=1.3 * scale),
        ]
    )


def _lines(start: Array, end: Array, half: Array, colour: tuple[float, ...], opacity: Array) -> Mesh:
    """Straight strokes with soft edges, [N]."""
    along = end - start
    length = np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-6)
    across = np.stack([-along[:, 1], along[:, 0]], axis=-1) / length
    steps = np.stack([-half - 0.5, np.maximum(-half + 0.5, -half), np.minimum(half - 0.5, half), half + 0.5], axis=1)
    steps[:, 1:3] = np.sort(steps[:, 1:3], axis=1)
    offsets = steps[:, :, None] * across[:, None]
    places = np.concatenate([start[:, None] + offsets, end[:, None] + offsets], axis=1)  # [N, 8, 2]
    alpha = opacity[:, None] * np.array([0.0, 1.0, 1.0, 0.0] * 2)
    return _pack(places, colour, alpha, _STRIP_CORNERS)


def _dots(
    centres: Array, radius: Array, hollow: Array, colour: tuple[float, ...], opacity: Array, *, thickness: float
) -> Mesh:
    """Discs with soft edges, or rings, [N]."""
    inner = np.where(hollow, np.maximum(radius - thickness, 0.0), 0.0)
    steps = np.stack([np.maximum(inner - 1.0, 0.0), inner, radius - 0.5, radius + 0.5], axis=1)
    places = centres[:, None, None] + steps[:, :, None, None] * _CIRCLE
    middle = np.where(hollow, 0.0, 1.0)
    alpha = opacity[:, None] * np.stack([middle, np.ones_like(middle), np.ones_like(middle), 0 * middle], axis=1)
    return _pack(places.reshape(len(centres), -1, 2), colour, np.repeat(alpha, _CORNERS, axis=1), _RING_CORNERS)


def _pack(places: Array, colour: tuple[float, ...], alpha: Array, corners: Array) -> Mesh:
    """Shapes [N, V, 2] that share their corners [C, 3] as one mesh."""
    count, vertices = alpha.shape
    positions = np.zeros((count * vertices, 3), np.float32)
    positions[:, :2] = places.reshape(-1, 2)
    colours = np.empty((count * vertices, 4), np.float32)
    colours[:, :3], colours[:, 3] = colour, alpha.ravel()
    return Mesh(positions, colours, (np.arange(count)[:, None, None] * vertices + corners).reshape(-1, 3))


def _join(meshes: list[Mesh]) -> Mesh:
    starts = np.cumsum([0, *(len(mesh.positions) for mesh in meshes[:-1])])
    return Mesh(
        np.concatenate([mesh.positions for mesh in meshes]),
        np.concatenate([mesh.colours for mesh in meshes]),
        np.concatenate([mesh.corners + start for mesh, start in zip(meshes, starts, strict=True)]),
    )


def _strip_corners(lanes: int, rows: int, *, closed: bool) -> Array:
    """Triangles between `lanes` neighbouring rows of vertices, each of `rows` vertices, as one closed or open band."""
    quads = []
    for lane in range(lanes - 1):
        for step in range(rows if closed else rows - 1):
            a, b = lane * rows + step, lane * rows + (step + 1) % rows
            c, d = a + rows, b + rows
            quads += [(a, b, c), (b, d, c)]
    return np.array(quads)


_STRIP_CORNERS: Final = _strip_corners(2, 4, closed=False)
_RING_CORNERS: Final = _strip_corners(4, _CORNERS, closed=True)
_ANGLES: Final = np.linspace(0.0, 2 * np.pi, _CORNERS, endpoint=False)
_CIRCLE: Final = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)


def _draw() -> None:
    context = bpy.context
    scene, space = context.scene, context.space_data
    item, choice = takes.active_take(scene), scene.two_hands.review
    if item is None or not choice.show_keypoints or not space.overlay.show_overlays:
        return
    review, camera = review_data.review_of(scene), _camera_of_view(context)
    if review is None or camera is None or camera not in {footage_view.camera_of(scene), item.camera}:
        return
    frame = picture_frame(context.region, context.region_data, scene, camera)
    scale = context.preferences.system.ui_scale
    now = scene.frame_current + scene.frame_subframe
    shown = _shown_takes(review, choice.source)
    for take in shown:
        row = review_data.row_at(take, item, now)
        below = take is not shown[-1]
        mesh = skeleton_mesh(take, row, frame, scale, below=below) if row is not None else None
        if mesh is not None:
            draw_mesh(mesh)


def _shown_takes(review: review_data.Review, source: str) -> list[Take]:
    """The takes to draw, lowest first."""
    if source == "RAW" or review.clean is None:
        return [review.raw]
    return [review.clean] if source == "CLEAN" else [review.raw, review.clean]


def _camera_of_view(context: Any) -> Any:
    """The camera that a 3D view looks through, or None."""
    if context.region_data is None or context.region_data.view_perspective != "CAMERA":
        return None
    space = context.space_data
    return space.camera if space.use_local_camera else context.scene.camera


_handle: Any = None


def register() -> None:
    """Draw over 3D views."""
    global _handle  # noqa: PLW0603 - removed again by unregister
    _handle = bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL")


def unregister() -> None:
    """Stop drawing."""
    bpy.types.SpaceView3D.draw_handler_remove(_handle, "WINDOW")
