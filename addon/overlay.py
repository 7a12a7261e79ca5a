"""Key points and skeletons over the footage, drawn in 3D views that look through the footage's camera.

A key point is a place in a picture, so it means something only where that picture is seen: through the camera, at any
zoom. Its colour tells the hand, how solid it is the confidence; hollow ones are doubtful.
"""

from dataclasses import dataclass
from functools import lru_cache
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
_RING: Final = 1.3  # pixels, thickness of a hollow dot
_SOFT: Final = 0.5  # pixels to both sides over which an edge fades
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
    seen = [side for side in SIDES if take.hand(side).keypoints_2d[row].any() and not take.hidden(side)[row]]
    if not seen:
        return None  # a hand that was not seen has no key points
    points = np.stack([take.hand(side).keypoints_2d[row] for side in seen]).astype(np.float64)
    sureness = np.stack([take.hand(side).confidence[row] for side in seen]).astype(np.float64)
    colours = 1.0 - share * (1.0 - np.array([HAND_COLOURS[side] for side in seen]))
    mirrored = footage_view.is_mirrored(take)
    return _hands_mesh(frame.place(points, take.image_size, mirrored=mirrored), sureness, colours, scale)


def make_batch(mesh: Mesh) -> Any:
    """The triangles as the GPU wants them."""
    content = {"pos": mesh.positions, "color": mesh.colours}
    return batch_for_shader(gpu.shader.from_builtin("SMOOTH_COLOR"), "TRIS", content, indices=mesh.corners)


def draw_batch(batch: Any) -> None:
    """Draw triangles over what is there."""
    gpu.state.blend_set("ALPHA")
    batch.draw(gpu.shader.from_builtin("SMOOTH_COLOR"))
    gpu.state.blend_set("NONE")


def _to_region(region: Any, region_data: Any, point: Any) -> Any:
    """Pixels of the region, also of points far outside it."""
    seen = region_data.perspective_matrix @ point.to_4d()
    return Vector((region.width / 2 * (1 + seen.x / seen.w), region.height / 2 * (1 + seen.y / seen.w)))


def _hands_mesh(points: Array, sureness: Array, colours: Array, scale: float) -> Mesh:
    """Skeletons of hands with points [H, 21, 2], sureness [H, 21] and colours [H, 3]: strokes, then dots over them."""
    bones = np.minimum(sureness[:, _PARENTS], sureness[:, _CHILDREN]).ravel()
    strokes = _strokes(
        points[:, _PARENTS].reshape(-1, 2),
        points[:, _CHILDREN].reshape(-1, 2),
        scale * _LINE * (0.5 + 0.5 * bones),
        np.repeat(colours, len(_PARENTS), axis=0),
        _FAINTEST + (1 - _FAINTEST) * bones,
        edge=scale * _OUTLINE,
    )
    dots = _dots(
        points.reshape(-1, 2),
        sureness.ravel() < DOUBTFUL,
        np.repeat(colours, points.shape[1], axis=0),
        _FAINTEST + (1 - _FAINTEST) * sureness.ravel(),
        scale=scale,
    )
    return Mesh(
        np.concatenate([strokes.positions, dots.positions]),
        np.concatenate([strokes.colours, dots.colours]),
        np.concatenate([strokes.corners, dots.corners + len(strokes.positions)]),
    )


def _strokes(start: Array, end: Array, half: Array, colours: Array, opacity: Array, *, edge: float) -> Mesh:
    """Straight strokes [N] with soft edges on their shade."""
    along = end - start
    across = np.stack([-along[:, 1], along[:, 0]], axis=-1)
    across /= np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-6)
    half = np.stack([half + edge, half])  # [2, N]: shade, stroke
    inner = np.maximum(half - _SOFT, 0.0)
    steps = np.stack([-half - _SOFT, -inner, inner, half + _SOFT], axis=-1)
    offsets = steps[..., None] * across[:, None]  # [2, N, 4, 2]
    places = np.concatenate([start[:, None] + offsets, end[:, None] + offsets], axis=2)
    profile = np.broadcast_to(np.array([0.0, 1.0, 1.0, 0.0] * 2), (len(start), 8))
    return _pack(places, colours, opacity, profile, _STROKE_CORNERS)


def _dots(centres: Array, hollow: Array, colours: Array, opacity: Array, *, scale: float) -> Mesh:
    """Discs [N] with soft edges on their shade; hollow ones are rings."""
    radius = scale * (_DOT + np.array([[_OUTLINE], [0.0]]))  # [2, 1]: shade, dot
    thickness = scale * np.array([[2 * _OUTLINE + _RING], [_RING]])
    inner = np.where(hollow, np.maximum(radius - thickness, 0.0), 0.0)
    outer = np.broadcast_to(radius, inner.shape)
    steps = np.stack([np.maximum(inner - 2 * _SOFT, 0.0), inner, outer - _SOFT, outer + _SOFT], axis=-1)
    places = centres[:, None, None] + steps[..., None, None] * _CIRCLE  # [2, N, 4, C, 2]
    profile = np.stack([~hollow, np.ones_like(hollow), np.ones_like(hollow), np.zeros_like(hollow)], axis=-1)
    return _pack(
        places.reshape(2, len(centres), -1, 2), colours, opacity, np.repeat(profile, _CORNERS, axis=-1), _DOT_CORNERS
    )


def _pack(places: Array, colours: Array, opacity: Array, profile: Array, corners: Array) -> Mesh:
    """Shapes and their shades as one mesh, the shades below.

    Args:
        places: [2, N, V, 2] vertices of shades and shapes.
        colours: [N, 3] of the shapes.
        opacity: [N].
        profile: [N, V] share of the opacity at each vertex.
        corners: [C, 3] triangles that all shapes have.
    """
    _, count, vertices, _ = places.shape
    positions = np.zeros((2, count, vertices, 3), np.float32)
    positions[..., :2] = places
    painted = np.zeros((2, count, vertices, 4), np.float32)
    painted[1, ..., :3] = colours[:, None]
    painted[..., 3] = opacity[:, None] * profile
    painted[0, ..., 3] *= _SHADE
    triangles = np.arange(2 * count, dtype=np.int32)[:, None, None] * vertices + corners
    return Mesh(positions.reshape(-1, 3), painted.reshape(-1, 4), triangles.reshape(-1, 3))


def _strip_corners(lanes: int, rows: int, *, closed: bool) -> Array:
    """Triangles between `lanes` neighbouring rows of vertices, each of `rows` vertices, as one closed or open band."""
    quads = []
    for lane in range(lanes - 1):
        for step in range(rows if closed else rows - 1):
            a, b = lane * rows + step, lane * rows + (step + 1) % rows
            c, d = a + rows, b + rows
            quads += [(a, b, c), (b, d, c)]
    return np.array(quads, np.int32)


_STROKE_CORNERS: Final = _strip_corners(2, 4, closed=False)
_DOT_CORNERS: Final = _strip_corners(4, _CORNERS, closed=True)
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
        batch = _batch_of(take, row, frame, scale, take is not shown[-1]) if row is not None else None
        if batch is not None:
            draw_batch(batch)


@lru_cache(maxsize=8)  # the views of a screen are drawn again and again without anything new
def _batch_of(take: Take, row: int, frame: PictureFrame, scale: float, below: bool) -> Any:
    mesh = skeleton_mesh(take, row, frame, scale, below=below)
    return None if mesh is None else make_batch(mesh)


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
    _batch_of.cache_clear()
