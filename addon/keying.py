"""Arrays to F-curves: the only file that knows how the Actions of Blender 4.2 to 5.x are laid out.

Knows bones by name and nothing about hands, takes or cameras.
"""

from collections.abc import Mapping
from typing import Any, Final

import bpy
import numpy as np
from numpy.typing import NDArray

from dir_core import rotations as quaternions
from dir_core.clean_up.key_reduction import KeyReduction, ReducedCurve, reduce_position_keys, reduce_rotation_keys

Array = NDArray[Any]

HAS_SLOTS: Final = bpy.app.version >= (4, 4, 0)
"""From 4.4 one action holds a slot per object; before, an action belongs to one object."""

# Numbers of the enums of bpy.types.Keyframe, the same from 4.2 to 5.2.
_INTERPOLATIONS: Final = {"CONSTANT": 0, "LINEAR": 1, "BEZIER": 2}
_FREE, _ALIGNED, _AUTO_CLAMPED = 0, 3, 4
_KEYFRAME, _BREAKDOWN = 0, 2

_FRAME_DECIMALS: Final = 4
_WHOLE_FRAME_TOLERANCE: Final = 0.02

_PROPERTY_STEP: Final = 0.02  # with fewer keys, a property of 0..1 that changes by less is not keyed again


def frames_from_times(times: Array, start: float, rate: float) -> Array:
    """Scene frames [K] of time stamps [K] in seconds: start + time * rate, on time and free of float noise.

    Containers that round time stamps to milliseconds put the frames of a constant-rate clip a hundredth of a frame
    beside the whole one; where that is so for every key, the keys go on whole frames.
    """
    frames = np.round(start + np.asarray(times, np.float64) * rate, _FRAME_DECIMALS)
    whole = np.round(frames)
    if np.abs(frames - whole).max(initial=0) < _WHOLE_FRAME_TOLERANCE and np.all(np.diff(whole) > 0):
        return whole
    return frames


def key_armature(
    armature: Any,
    frames: Array,
    *,
    rotations: Mapping[str, Array],
    locations: Mapping[str, Array],
    properties: Mapping[str, Array],
    observed: Array | None = None,
    reduce: KeyReduction | None = None,
    action: Any = None,
    name: str = "Hands",
) -> Any:
    """Key bones and custom properties of `armature` in bulk; curves that are keyed already are replaced.

    Rotations and locations are BEZIER with AUTO_CLAMPED handles. They never leave the values of the two keys beside
    them and hold still where the take holds still, as straight lines do, and between the keys they are closer to the
    motion: a clean 2 Hz sine keyed at 30 fps has a quarter of the error of straight lines, with a percent of noise
    still three quarters. That counts in a scene of another frame rate and for motion blur. The first and the last
    interval ease in and out.
    Custom properties are CONSTANT: a frame's value says nothing about the time before it.

    With `reduce`, every bone has its own few keys instead of one on each frame. Their handles are the fitted ones for
    which the bound was proven: ALIGNED where the curve has one tangent, FREE elsewhere.

    Args:
        armature: the armature object.
        frames: [K] scene frames, increasing, fractions allowed.
        rotations: bone name -> [K, 4] unit quaternions (w, x, y, z); signs are made continuous here.
        locations: bone name -> [K, 3] in the bone's rest axes, metres.
        properties: custom property of the armature object -> [K].
        observed: [K] bool; keys that were not observed are drawn as breakdowns in the dope sheet.
        reduce: how far bones may be off for the sake of fewer keys; None keys every frame.
        action: where slots exist, the action to add this armature's slot to; before 4.4 it is used only if it is
            the armature's own. None makes a new one.
        name: name of a new action.

    Returns:
        The action that holds the curves, assigned to the armature.
    """
    frames = np.asarray(frames, np.float64)
    seen = np.ones(len(frames), dtype=bool) if observed is None else np.asarray(observed, dtype=bool)
    key_types = np.where(seen, _KEYFRAME, _BREAKDOWN).astype(np.int32)
    action, curves = _open_curves(armature, action, name)

    turns = {bone: np.asarray(values, np.float64) for bone, values in rotations.items()}
    if reduce is None:
        for bone, values in turns.items():
            channel = _open_channel(curves, bone, "rotation_quaternion", 4)
            _write_channel(channel, frames, quaternions.make_continuous(values), key_types)
        for bone, values in locations.items():
            _write_channel(_open_channel(curves, bone, "location", 3), frames, np.asarray(values), key_types)
    else:
        stacked = np.stack(list(turns.values()), axis=1) if turns else np.empty((len(frames), 0, 4))
        for bone, reduced in zip(turns, reduce_rotation_keys(stacked, frames, reduce.angle), strict=True):
            channel = _open_channel(curves, bone, "rotation_quaternion", 4)
            _write_reduced_channel(channel, frames, reduced, key_types)
        for bone, values in locations.items():
            (reduced,) = reduce_position_keys(np.asarray(values)[:, None], frames, reduce.distance)
            _write_reduced_channel(_open_channel(curves, bone, "location", 3), frames, reduced, key_types)

    for prop, values in properties.items():
        path = f'["{bpy.utils.escape_identifier(prop)}"]'
        rows = np.arange(len(frames)) if reduce is None else _changed_rows(np.asarray(values))
        _write_curve(
            curves.open(path, 0, "Capture"), frames[rows], np.asarray(values)[rows], "CONSTANT", key_types[rows]
        )
    return action


def key_number(
    owner: Any,
    path: str,
    frames: Array,
    values: Array,
    *,
    name: str,
    interpolation: str = "LINEAR",
    action: Any = None,
) -> Any:
    """Key one number or switch of any data-block.

    Args:
        owner: the data-block, for example a camera.
        path: to the number, as data paths are written.
        frames: [K] scene frames, increasing.
        values: [K] the number on them.
        name: name of a new action and of the curve's group.
        interpolation: LINEAR or CONSTANT.
        action: as for `key_armature`.

    Returns:
        The action, assigned to the data-block.
    """
    action, curves = _open_curves(owner, action, name)
    _write_curve(curves.open(path, 0, name), frames, values, interpolation, np.zeros(len(frames), np.int32))
    return action


def curves_of(owner: Any) -> Any:
    """The F-curves that animate a data-block, iterable, in every layout; empty without an action."""
    data = owner.animation_data
    if data is None or data.action is None:
        return ()
    if not HAS_SLOTS:
        return data.action.fcurves
    strips = [strip for layer in data.action.layers for strip in layer.strips]
    bags = [strip.channelbag(data.action_slot) for strip in strips] if data.action_slot else []
    return next((bag.fcurves for bag in bags if bag is not None), ())


class _LegacyCurves:
    """The curves of one object in an action of 4.2 and 4.3."""

    def __init__(self, action: Any) -> None:
        self._fcurves = action.fcurves

    def open(self, path: str, index: int, group: str) -> Any:
        curve = self._fcurves.find(path, index=index)
        return curve if curve is not None else self._fcurves.new(path, index=index, action_group=group)


class _SlotCurves:
    """The curves of one slot in a layered action, 4.4 and newer."""

    def __init__(self, bag: Any) -> None:
        self._bag = bag

    def open(self, path: str, index: int, group: str) -> Any:
        curve = self._bag.fcurves.find(path, index=index)
        if curve is None:
            curve = self._bag.fcurves.new(path, index=index)
            curve.group = self._bag.groups.get(group) or self._bag.groups.new(group)
        return curve


def _open_curves(owner: Any, action: Any, name: str) -> tuple[Any, _LegacyCurves | _SlotCurves]:
    data = owner.animation_data or owner.animation_data_create()
    if not HAS_SLOTS:
        if action is None or data.action != action:
            action = bpy.data.actions.new(f"{name} {owner.name}")
            data.action = action
        return action, _LegacyCurves(action)
    if action is None:
        action = bpy.data.actions.new(name)
    slot = data.action_slot if data.action == action else None
    if slot is None:
        slot = action.slots.new(id_type=owner.id_type, name=owner.name)
    data.action = action
    data.action_slot = slot
    layer = action.layers[0] if action.layers else action.layers.new("Layer")
    strip = layer.strips[0] if layer.strips else layer.strips.new(type="KEYFRAME")
    return action, _SlotCurves(strip.channelbag(slot, ensure=True))


def _open_channel(curves: Any, bone: str, channel: str, count: int) -> list[Any]:
    path = f'pose.bones["{bpy.utils.escape_identifier(bone)}"].{channel}'
    return [curves.open(path, index, bone) for index in range(count)]


def _write_channel(channel: list[Any], frames: Array, values: Array, key_types: Array) -> None:
    for index, curve in enumerate(channel):
        _write_curve(curve, frames, values[:, index], "BEZIER", key_types)


def _write_reduced_channel(channel: list[Any], frames: Array, reduced: ReducedCurve, key_types: Array) -> None:
    keyed, types = frames[reduced.rows], key_types[reduced.rows]
    before, after = reduced.left_reach, reduced.right_reach
    handle_types = np.where(reduced.is_smooth, _ALIGNED, _FREE).astype(np.int32)
    for index, curve in enumerate(channel):
        value, left, right = (each[:, index] for each in (reduced.values, reduced.left_slope, reduced.right_slope))
        points = _add_points(curve, keyed, value, "BEZIER", types)
        for side in ("handle_left_type", "handle_right_type"):
            points.foreach_set(side, handle_types)
        points.foreach_set("handle_left", _pairs(keyed - before, value - left * before))
        points.foreach_set("handle_right", _pairs(keyed + after, value + right * after))
        curve.update()


def _changed_rows(values: Array) -> Array:
    rows = [0] if len(values) else []
    for row, value in enumerate(values):
        if abs(value - values[rows[-1]]) > _PROPERTY_STEP:
            rows.append(row)
    return np.array(rows, int)


def _write_curve(curve: Any, frames: Array, values: Array, interpolation: str, key_types: Array) -> None:
    points = _add_points(curve, frames, values, interpolation, key_types)
    for handle in ("handle_left_type", "handle_right_type"):
        if len(points) and getattr(points[0], handle) != "AUTO_CLAMPED":
            points.foreach_set(handle, np.full(len(points), _AUTO_CLAMPED, np.int32))
    curve.update()


def _add_points(curve: Any, frames: Array, values: Array, interpolation: str, key_types: Array) -> Any:
    count = len(frames)
    points = curve.keyframe_points
    points.clear()
    points.add(count)
    points.foreach_set("co", _pairs(frames, values))
    # The numbers of an enum are slow to write. New points are alike, of the kinds that the user's preferences name.
    if count and points[0].interpolation != interpolation:
        points.foreach_set("interpolation", np.full(count, _INTERPOLATIONS[interpolation], np.int32))
    if key_types.any():  # new points are plain keyframes already
        points.foreach_set("type", key_types)
    return points


def _pairs(frames: Array, values: Array) -> Array:
    return np.column_stack([frames, values]).astype(np.float32).ravel()
