"""The motion before the clean-up behind the F-curves of the Graph Editor, thin and grey.

Only for curves that are seen there and belong to bones of the active take's hands.
"""

import re
from typing import Any, Final

import bpy
import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader
from mathutils import Matrix, Vector
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.conventions import Side

from . import hand_rig, review_data, take_keys, takes

Array = NDArray[Any]

_COLOUR: Final = (0.75, 0.75, 0.75, 0.55)
_WIDTH: Final = 1.0
_MOST: Final = 64  # curves; more cannot be told from each other, and a bone has seven
_PATH: Final = re.compile(r'pose\.bones\["(.+)"\]\.(rotation_quaternion|location)')


def raw_values(review: review_data.Review, armature: Any, side: Side) -> tuple[Array, Array]:
    """What the bones of a hand would have been keyed with without the clean-up.

    Signs of quaternions are those of the clean motion, so that both lie on each other.

    Returns:
        [T, 16, 4] rotation_quaternion in the order of JOINTS and [T, 3] location of the wrist bone; NaN where the hand
        was not seen.
    """
    hand = review.raw.hand(side)
    turns, places = hand_rig.basis_pose(armature, side, hand.rotation, hand.translation)
    turns = rotations.make_continuous(turns)
    if review.clean is not None:
        clean = review.clean.hand(side)
        kept, _ = hand_rig.basis_pose(armature, side, clean.rotation, clean.translation)
        kept = rotations.make_continuous(kept)
        turns = np.where(np.sum(turns * kept, axis=-1, keepdims=True) < 0, -turns, turns)
    turns[~hand.observed], places[~hand.observed] = np.nan, np.nan
    return turns, places


def line_pieces(frames: Array, values: Array) -> Array:
    """Ends [2 S, 3] of the straight pieces between neighbouring values [T] that are known, as frame, value, 0."""
    points = np.stack([frames, values, np.zeros_like(frames)], axis=1)
    steps = np.diff(frames)
    known = np.isfinite(values[:-1]) & np.isfinite(values[1:]) & (steps < 1.5 * np.median(steps))
    return np.stack([points[:-1][known], points[1:][known]], axis=1).reshape(-1, 3).astype(np.float32)


class _Cache:
    """The values of the take that was drawn last, and a batch for every curve of it that was seen."""

    key: Any = None
    values: dict[Side, tuple[Array, Array]] = {}  # noqa: RUF012 - one cache
    batches: dict[tuple[str, str, int], Any] = {}  # noqa: RUF012 - one cache


def _draw() -> None:
    context = bpy.context
    scene = context.scene
    item, review = takes.active_take(scene), review_data.review_of(scene)
    # Normalised curves have a scale each that only Blender knows.
    if item is None or not scene.two_hands.review.show_curves or context.space_data.use_normalization:
        return
    if review is None or len(review.raw) < 2:
        return
    hands = take_keys.hands_of(item)
    key = (review, item.start, scene.render.fps, scene.render.fps_base, *(hand.name for hand in hands.values()))
    if key != _Cache.key:
        _Cache.key = key
        _Cache.values.clear()
        _Cache.batches.clear()
    bones = {name: (side, joint) for side in hands for joint, name in enumerate(hand_rig.bone_names(side))}
    actions = {side: _actions_of(armature) for side, armature in hands.items()}
    shader = gpu.shader.from_builtin("UNIFORM_COLOR")
    shader.uniform_float("color", _COLOUR)
    gpu.state.blend_set("ALPHA")
    gpu.state.line_width_set(_WIDTH * context.preferences.system.ui_scale)
    with gpu.matrix.push_pop():
        gpu.matrix.multiply_matrix(_view_matrix(context.region))
        for curve in (context.visible_fcurves or ())[:_MOST]:
            found = _PATH.fullmatch(curve.data_path)
            if found is None or found[1] not in bones:
                continue
            side, joint = bones[found[1]]
            if curve.id_data in actions[side] and (found[2] != "location" or joint == 0):
                _batch_of(review, item, hands[side], side, joint, (found[1], found[2], curve.array_index)).draw(shader)
    gpu.state.line_width_set(1.0)
    gpu.state.blend_set("NONE")


def _batch_of(  # noqa: PLR0917
    review: review_data.Review, item: Any, armature: Any, side: Side, joint: int, channel: tuple[str, str, int]
) -> Any:
    if channel not in _Cache.batches:
        if side not in _Cache.values:
            _Cache.values[side] = raw_values(review, armature, side)
        turns, places = _Cache.values[side]
        values = places[:, channel[2]] if channel[1] == "location" else turns[:, joint, channel[2]]
        pieces = line_pieces(review_data.scene_frames(review.raw, item), values)
        shader = gpu.shader.from_builtin("UNIFORM_COLOR")
        _Cache.batches[channel] = batch_for_shader(shader, "LINES", {"pos": pieces})
    return _Cache.batches[channel]


def _actions_of(armature: Any) -> set[Any]:
    """Every action that moves an armature, also those in strips below a correction layer."""
    data = armature.animation_data
    if data is None:
        return set()
    strips = [strip.action for track in data.nla_tracks for strip in track.strips]
    return {action for action in (data.action, *strips) if action is not None}


def _view_matrix(region: Any) -> Matrix:
    """From frames and values to pixels of a region."""
    left, bottom = region.view2d.region_to_view(0, 0)
    right, top = region.view2d.region_to_view(region.width, region.height)
    across, up = region.width / max(right - left, 1e-9), region.height / max(top - bottom, 1e-9)
    return Matrix.LocRotScale(Vector((-left * across, -bottom * up, 0.0)), None, Vector((across, up, 1.0)))


_handle: Any = None


def register() -> None:
    """Draw in the Graph Editor."""
    global _handle  # noqa: PLW0603 - removed again by unregister
    _handle = bpy.types.SpaceGraphEditor.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL")


def unregister() -> None:
    """Stop drawing."""
    bpy.types.SpaceGraphEditor.draw_handler_remove(_handle, "WINDOW")
    _Cache.key = None
    _Cache.values.clear()
    _Cache.batches.clear()
