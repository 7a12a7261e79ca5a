"""Arrays to F-curves: the only file that knows how the Actions of Blender 4.2 to 5.x are laid out.

Knows bones by name and nothing about hands, takes or cameras.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import bpy
import numpy as np
from numpy.typing import NDArray

from dir_core import rotations as quaternions
from dir_core.clean_up.key_reduction import ReducedCurve
from dir_core.errors import SettingsError

Array = NDArray[Any]

HAS_SLOTS: Final = bpy.app.version >= (4, 4, 0)
"""From 4.4 one action holds a slot per object; before, an action belongs to one object."""

# Numbers of the enums of bpy.types.Keyframe, the same from 4.2 to 5.2.
_INTERPOLATIONS: Final = {"CONSTANT": 0, "LINEAR": 1, "BEZIER": 2}
_FREE, _AUTO, _ALIGNED, _AUTO_CLAMPED = 0, 1, 3, 4
_KEYFRAME, _BREAKDOWN = 0, 2

_POINT_FIELDS: Final[dict[str, tuple[int, type]]] = {
    "co": (2, np.float32),
    "handle_left": (2, np.float32),
    "handle_right": (2, np.float32),
    "handle_left_type": (1, np.int32),
    "handle_right_type": (1, np.int32),
    "interpolation": (1, np.int32),
    "easing": (1, np.int32),
    "type": (1, np.int32),
    "back": (1, np.float32),
    "amplitude": (1, np.float32),
    "period": (1, np.float32),
}
"""Everything a key is made of: name -> numbers and their kind."""

_BONE_PATH: Final = re.compile(r'pose\.bones\["((?:[^"\\]|\\.)*)"\]\.?(.+)')

_HANDLES: Final = ("handle_left", "handle_right")

_TOLD_FIELDS: Final = ("co", "interpolation", "handle_left_type", "handle_right_type")
"""What a digest of keys always tells; where handles are set by hand, it tells these too."""

_FEW: Final = 16  # keys that are quicker to read one by one
_SAME_FRAME: Final = 0.01  # keys that are nearer lie on the same frame, as Blender itself has it
_HANDLE_DECIMALS: Final = 3  # Blender straightens aligned handles anew now and then, to another last digit

_THIRD: Final = 1.0 / 3.0  # frames that flat handles of keys on neighbouring frames reach

_HALVINGS: Final = 50  # of an interval: to the last digit
_FRAME_DECIMALS: Final = 4
_WHOLE_FRAME_TOLERANCE: Final = 0.02

_PROPERTY_STEP: Final = 0.02  # with fewer keys, a property of 0..1 that changes by less is not keyed again

Span = tuple[float, float]
"""First and last scene frame, both included."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where the keys of one data-block are.

    Attributes:
        action: the action.
        slot: the data-block's slot in it; None where there are no slots.
    """

    action: Any
    slot: Any = None

    @property
    def curves(self) -> Any:
        """The F-curves, iterable; empty if there are none yet."""
        if not HAS_SLOTS:
            return self.action.fcurves
        strips = [strip for layer in self.action.layers for strip in layer.strips]
        bags = [strip.channelbag(self.slot) for strip in strips] if self.slot else []
        return next((bag.fcurves for bag in bags if bag is not None), ())


@dataclass(frozen=True, eq=False)
class Component:
    """One number of a reduced curve; its times are rows of the frames that are keyed."""

    curve: ReducedCurve
    index: int


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


def place_of(owner: Any) -> Place | None:
    """Where the keys of a data-block are that play and that Blender's own tools change; None without an action."""
    data = owner.animation_data
    if data is None or data.action is None:
        return None
    return Place(data.action, data.action_slot if HAS_SLOTS else None)


def open_place(owner: Any, action: Any = None, name: str = "Hands") -> Place:
    """A place for a data-block's keys in its own action, in the one that is given or in a new one; assigned to it.

    Args:
        owner: the data-block, for example an armature object.
        action: where slots exist, the action to add this data-block's slot to; before 4.4 it is used only if it is
            the data-block's own. None makes a new one.
        name: name of a new action.

    Raises:
        SettingsError: the data-block's action cannot be changed now.
    """
    data = owner.animation_data or owner.animation_data_create()
    if data.action == action is not None and (not HAS_SLOTS or data.action_slot is not None):
        return Place(action, data.action_slot if HAS_SLOTS else None)
    if data.use_tweak_mode:
        raise SettingsError(f"{owner.name} is in tweak mode, leave it in the NLA editor and try again.")
    if not HAS_SLOTS:
        action = bpy.data.actions.new(f"{name} {owner.name}")
        data.action = action
        return Place(action)
    if action is None:
        action = bpy.data.actions.new(name)
    slot = action.slots.new(id_type=owner.id_type, name=owner.name)
    data.action = action
    data.action_slot = slot
    return Place(action, slot)


def new_place(owner: Any, name: str) -> Place:
    """A place for a data-block's keys in a new action that does not play yet."""
    action = bpy.data.actions.new(name)
    return Place(action, action.slots.new(id_type=owner.id_type, name=owner.name) if HAS_SLOTS else None)


def assign_place(owner: Any, place: Place) -> None:
    """Let a data-block play the keys of a place."""
    owner.animation_data.action = place.action
    if HAS_SLOTS:
        owner.animation_data.action_slot = place.slot


def is_shared(place: Place, owner: Any) -> bool:
    """Whether keys of a place cannot be changed for a data-block alone: they are linked, or others play them, too."""
    if place.action.library is not None:
        return True
    if HAS_SLOTS:
        return any(user != owner for user in place.slot.users())
    tracks = owner.animation_data.nla_tracks
    own = sum(strip.action == place.action for track in tracks for strip in track.strips)
    own += owner.animation_data.action == place.action
    return bool(place.action.users - place.action.use_fake_user > own)


def copy_place(place: Place) -> Place:
    """The same keys in an action of their own."""
    copy = place.action.copy()
    return Place(copy, copy.slots[place.slot.identifier] if HAS_SLOTS else None)


def key_bones(
    place: Place,
    frames: Array,
    *,
    rotations: Mapping[str, Array | ReducedCurve] | None = None,
    locations: Mapping[str, Array | ReducedCurve] | None = None,
    properties: Mapping[str, Array] | None = None,
    observed: Array | None = None,
    span: Span | None = None,
) -> str:
    """Key bones and custom properties of an armature in bulk; keys that these curves have already are replaced.

    Rotations and locations are BEZIER with AUTO_CLAMPED handles. They never leave the values of the two keys beside
    them and hold still where the take holds still, as straight lines do, and between the keys they are closer to the
    motion: a clean 2 Hz sine keyed at 30 fps has a quarter of the error of straight lines, with a percent of noise
    still three quarters. That counts in a scene of another frame rate and for motion blur. The first and the last
    interval ease in and out.
    Custom properties are CONSTANT: a frame's value says nothing about the time before it.

    A reduced curve has its own few keys instead of one on each frame. Their handles are the fitted ones for which the
    bound was proven: ALIGNED where the curve has one tangent, FREE elsewhere.

    Args:
        place: of the armature object.
        frames: [K] scene frames, increasing, fractions allowed.
        rotations: bone name -> [K, 4] unit quaternions (w, x, y, z), whose signs are made continuous here, or the
            reduced curve of these, its times in scene frames.
        locations: bone name -> [K, 3] in the bone's rest axes, metres, or the reduced curve of these.
        properties: custom property of the armature object -> [K], 0..1; fewer keys beside reduced curves.
        observed: [K] bool; keys that were not observed are drawn as breakdowns in the dope sheet.
        span: keys of these curves before and after it stay; None replaces all.

    Returns:
        What `digest_keys` says of these curves from the first to the last of `frames`.
    """
    frames = np.asarray(frames, np.float64)
    seen = np.ones(len(frames), dtype=bool) if observed is None else np.asarray(observed, dtype=bool)
    key_types = np.where(seen, _KEYFRAME, _BREAKDOWN).astype(np.int32)
    writer = _CurveWriter(place, span)
    for channel, bones in (("rotation_quaternion", rotations or {}), ("location", locations or {})):
        for bone, values in bones.items():
            path = bone_path(bone, channel)
            if isinstance(values, ReducedCurve):
                rows = values.rows
                for index in range(values.values.shape[1]):
                    writer.write(path, index, bone, _fitted_keys(frames[rows], values, index, key_types[rows]))
            else:
                whole = np.asarray(values, np.float64)
                whole = quaternions.make_continuous(whole) if channel == "rotation_quaternion" else whole
                for index in range(whole.shape[1]):
                    writer.write(path, index, bone, _plain_keys(frames, whole[:, index], "BEZIER", key_types))
    reduced = any(isinstance(values, ReducedCurve) for values in (rotations or {}).values())
    for prop, values in (properties or {}).items():
        rows = _changed_rows(np.asarray(values)) if reduced else np.arange(len(frames))
        keys = _plain_keys(frames[rows], np.asarray(values)[rows], "CONSTANT", key_types[rows])
        writer.write(property_path(prop), 0, "Capture", keys)
    return writer.digest()


def key_channels(
    place: Place,
    frames: Array,
    channels: Mapping[tuple[str, str, int], Array | Component],
    span: Span | None = None,
) -> None:
    """Key single channels of bones, such as one angle; all keys of these curves are replaced.

    Custom properties are CONSTANT, and keyed where they change.

    Args:
        place: of the armature object.
        frames: [K] scene frames, increasing.
        channels: (bone name, channel such as "rotation_euler" or a property_path, index) -> [K] values, or a number
            of a reduced curve, for frames without gaps. An empty bone name is the armature object.
        span: as for `key_bones`.
    """
    writer = _CurveWriter(place, span)
    key_types = np.full(len(frames), _KEYFRAME, np.int32)
    for (bone, channel, index), values in channels.items():
        path, group = bone_path(bone, channel), bone or "Object"
        if isinstance(values, Component):
            kept = values.curve.rows
            writer.write(path, index, group, _fitted_keys(frames[kept], values.curve, values.index, key_types[kept]))
            continue
        is_property = channel.startswith("[")
        rows = _changed_rows(values) if is_property else slice(None)
        keys = _plain_keys(frames[rows], values[rows], "CONSTANT" if is_property else "BEZIER", key_types[rows])
        writer.write(path, index, group, keys)


def key_number(owner: Any, path: str, frames: Array, values: Array, *, name: str, action: Any = None) -> Any:
    """Key one number of any data-block, with straight lines between the keys.

    Args:
        owner: the data-block, for example a camera.
        path: to the number, as data paths are written.
        frames: [K] scene frames, increasing.
        values: [K] the number on them.
        name: name of a new action and of the curve's group.
        action: as for `open_place`.

    Returns:
        The action, assigned to the data-block.
    """
    place = open_place(owner, action, name)
    key_values(place, path, frames, values, group=name)
    return place.action


def key_values(
    place: Place,
    path: str,
    frames: Array,
    values: Array,
    *,
    group: str,
    interpolation: str = "LINEAR",
    span: Span | None = None,
) -> None:
    """Key one number or switch, `values` [K] on scene `frames` [K]; interpolation and span as for `key_bones`."""
    keys = _plain_keys(frames, values, interpolation, np.full(len(frames), _KEYFRAME, np.int32))
    _CurveWriter(place, span).write(path, 0, group, keys)


def clear_keys(place: Place, paths: Iterable[str], span: Span) -> None:
    """Remove the keys of some curves on `span`; a curve without keys goes."""
    wanted = frozenset(paths)
    for curve in [each for each in place.curves if each.data_path in wanted]:
        kept = _keys_outside(curve.keyframe_points, span)
        if kept is None:
            place.curves.remove(curve)
        else:
            _put_keys(curve, {}, kept)


def open_gap(curve: Any, span: Span) -> None:
    """Take the keys of a curve on a span away and pin what lies outside: beyond a frame beside it, nothing moves.

    The curve gets a key a frame before and a frame after, on the curve as it was, unless there is one nearer to the
    gap. Handles that would follow from new neighbours become fitted ones, where they are. Only segments with easings of
    their own, such as bounces, take another way to such a key.

    Args:
        curve: with keys, without modifiers and without linear extrapolation.
        span: first and last frame of the gap.
    """
    keys = {name: _read(curve.keyframe_points, name) for name in _POINT_FIELDS}
    if curve.auto_smoothing != "NONE":  # then automatic handles in a row depend on each other
        _fit_handles(keys, range(len(keys["co"])))
    for frame, gap in ((span[0] - 1.0, (span[0] - 1.0, span[0])), (span[1] + 1.0, (span[1], span[1] + 1.0))):
        beside = _within(keys["co"][:, 0], gap) & ~_within(keys["co"][:, 0], span)
        if not beside.any():
            keys = _with_key(keys, curve, frame)
    outside = np.flatnonzero(~_within(keys["co"][:, 0], span))
    keys = {name: values[outside] for name, values in keys.items()}
    after = int(np.searchsorted(keys["co"][:, 0], span[0]))
    for row, name, step in ((after - 1, "handle_right", _THIRD), (after, "handle_left", -_THIRD)):
        keys[name][row] = keys["co"][row] + (step, 0.0)
        keys["handle_left_type"][row] = keys["handle_right_type"][row] = _FREE
    if keys["interpolation"][after - 1] != _INTERPOLATIONS["CONSTANT"]:
        keys["interpolation"][after - 1] = _INTERPOLATIONS["BEZIER"]
    _put_keys(curve, {}, keys)


def digest_keys(place: Place, paths: Iterable[str], span: Span) -> str:
    """What the keys of some curves on `span` are, as a hexadecimal number that changes with any of them.

    Automatic handles are left out: they follow from the keys, also from those beside the span.
    """
    wanted = frozenset(paths)
    return _digest(
        {
            (curve.data_path, curve.array_index): _read_keys(curve.keyframe_points, span)
            for curve in place.curves
            if curve.data_path in wanted
        }
    )


def cut_curve(curve: ReducedCurve, frames: Array, first: int, last: int) -> ReducedCurve:
    """The part of a reduced curve between two rows of its frames, drawn exactly as before (de Casteljau).

    Args:
        curve: its times in scene frames.
        frames: [T] scene frames of all rows.
        first, last: rows, both included; they become rows 0 and last - first.

    Returns:
        The part, its rows counted from `first`.
    """
    part = _split(curve, frames, last, keep_before=True)
    part = _split(part, frames, first, keep_before=False)
    return replace(part, rows=part.rows - first)


def curves_of(owner: Any) -> Any:
    """The F-curves that animate a data-block, iterable, in every layout; empty without an action."""
    place = place_of(owner)
    return place.curves if place else ()


def read_points(curve: Any) -> tuple[Array, Array]:
    """Scene frames [K] and values [K] of a curve's keys, as float32."""
    co = _read(curve.keyframe_points, "co")
    return co[:, 0], co[:, 1]


def bone_path(bone: str, channel: str) -> str:
    """Data path of a bone's channel, such as "location" or a property_path; without a bone, of the object's own."""
    if not bone:
        return channel
    dot = "" if channel.startswith("[") else "."
    return f'pose.bones["{bpy.utils.escape_identifier(bone)}"]{dot}{channel}'


def bone_of(path: str) -> tuple[str, str]:
    """The bone and the channel of a data path, as `bone_path` takes them; no bone where it is the object's own."""
    found = _BONE_PATH.fullmatch(path)
    return (bpy.utils.unescape_identifier(found[1]), found[2]) if found else ("", path)


def property_path(name: str) -> str:
    """Data path of a custom property."""
    return f'["{bpy.utils.escape_identifier(name)}"]'


class _CurveWriter:
    """Writes curves of one place; knows them by path and index, because Blender searches them one by one."""

    def __init__(self, place: Place, span: Span | None) -> None:
        self._span = span
        if HAS_SLOTS:
            action = place.action
            layer = action.layers[0] if action.layers else action.layers.new("Layer")
            strip = layer.strips[0] if layer.strips else layer.strips.new(type="KEYFRAME")
            self._bag = strip.channelbag(place.slot, ensure=True)
        else:
            self._bag = place.action
        self._known = {(curve.data_path, curve.array_index): curve for curve in self._bag.fcurves}
        self._written: dict[tuple[str, int], dict[str, Array]] = {}

    def write(self, path: str, index: int, group: str, new: dict[str, Array]) -> None:
        """Give a curve new keys, described by fields of _POINT_FIELDS."""
        curve = self._known.get((path, index))
        kept = _keys_outside(curve.keyframe_points, self._span) if curve is not None else None
        curve = curve or self._open(path, index, group)
        _put_keys(curve, new, kept)
        # Blender keeps numbers as they are, but straightens aligned handles itself.
        is_fitted = "handle_left" in new
        span = (float(new["co"][0, 0]), float(new["co"][-1, 0]))
        self._written[path, index] = _read_keys(curve.keyframe_points, span) if is_fitted else new

    def digest(self) -> str:
        """What `digest_keys` says of the keys that were written."""
        return _digest(self._written)

    def _open(self, path: str, index: int, group: str) -> Any:
        if not HAS_SLOTS:
            return self._bag.fcurves.new(path, index=index, action_group=group)
        curve = self._bag.fcurves.new(path, index=index)
        curve.group = self._bag.groups.get(group) or self._bag.groups.new(group)
        return curve


def _plain_keys(frames: Array, values: Array, interpolation: str, key_types: Array) -> dict[str, Array]:
    automatic = np.full(len(frames), _AUTO_CLAMPED, np.int32)
    return {
        "co": _pairs(frames, values),
        "interpolation": np.full(len(frames), _INTERPOLATIONS[interpolation], np.int32),
        "type": key_types,
        "handle_left_type": automatic,
        "handle_right_type": automatic,
    }


def _fitted_keys(frames: Array, reduced: ReducedCurve, index: int, key_types: Array) -> dict[str, Array]:
    """The keys of one component of a reduced curve; frames and key types are those of its keys."""
    value, left, right = (each[:, index] for each in (reduced.values, reduced.left_slope, reduced.right_slope))
    handle_types = np.where(reduced.is_smooth, _ALIGNED, _FREE).astype(np.int32)
    return {
        "co": _pairs(frames, value),
        "interpolation": np.full(len(frames), _INTERPOLATIONS["BEZIER"], np.int32),
        "type": key_types,
        "handle_left_type": handle_types,
        "handle_right_type": handle_types,
        "handle_left": _pairs(frames - reduced.left_reach, value - left * reduced.left_reach),
        "handle_right": _pairs(frames + reduced.right_reach, value + right * reduced.right_reach),
    }


def _digest(curves: Mapping[tuple[str, int], Mapping[str, Array]]) -> str:
    """A hexadecimal number for the keys of some curves, each given by the fields of _TOLD_FIELDS."""
    digest = hashlib.blake2b(digest_size=16)
    for (path, index), keys in sorted(curves.items(), key=lambda each: each[0]):
        digest.update(f"{path}[{index}]".encode())
        for name in _TOLD_FIELDS:
            digest.update(keys[name].tobytes())
        for side in ("left", "right"):
            fitted = _is_fitted(keys[f"handle_{side}_type"])
            if fitted.any():
                handles = np.round(keys[f"handle_{side}"][fitted].astype(np.float64), _HANDLE_DECIMALS)
                digest.update((handles + 0.0).tobytes())  # no negative zeros
    return digest.hexdigest()


def _read_keys(points: Any, span: Span) -> dict[str, Array]:
    """The keys on `span` with what _digest needs to know of them."""
    keys = {name: _read(points, name) for name in _TOLD_FIELDS}
    for side in ("left", "right"):
        if np.any(keys[f"handle_{side}_type"] != _AUTO_CLAMPED):
            keys[f"handle_{side}"] = _read(points, f"handle_{side}")
    if _reach_beyond(points, span):
        inside = _within(keys["co"][:, 0], span)
        return {name: values[inside] for name, values in keys.items()}
    return keys


def _reach_beyond(points: Any, span: Span) -> bool:
    """Whether there are keys before or after a span; they are in order."""
    return len(points) > 0 and not _within(np.array([points[0].co.x, points[-1].co.x]), span).all()


def _keys_outside(points: Any, span: Span | None) -> dict[str, Array] | None:
    """Everything of the keys before and after `span`, or None if there are none."""
    if span is None or not _reach_beyond(points, span):
        return None
    frames = _read(points, "co")[:, 0]
    rows = np.flatnonzero(~_within(frames, span))
    if len(rows) <= _FEW:  # one by one is faster than all fields of all keys
        return {name: np.array([_field(points[int(row)], name) for row in rows]) for name in _POINT_FIELDS}
    return {name: _read(points, name)[rows] for name in _POINT_FIELDS}


def _put_keys(curve: Any, new: dict[str, Array], kept: dict[str, Array] | None) -> None:
    """Give a curve new keys and those that were kept, and no others."""
    points = curve.keyframe_points
    count = len(new["co"]) if new else 0
    points.clear()
    points.add(count + (len(kept["co"]) if kept else 0))
    order = np.arange(count)
    if kept:  # in their order: Blender sorts by exchanging neighbours
        order = np.argsort(np.concatenate([each["co"][:, 0] for each in (new, kept) if each]), kind="stable")
    for name in _POINT_FIELDS if kept else new:
        if name in _HANDLES and name not in new and kept and not _is_fitted(kept[f"{name}_type"]).any():
            continue  # Blender computes them
        usual = _field(points[0], name)
        values: Array = new[name] if name in new else np.full((count, *usual.shape), usual)
        if kept:
            values = np.concatenate([values, kept[name]])[order]
        # New points are alike, of the kinds that the user's preferences name, and fields are slow to write.
        if not (values == usual).all():
            points.foreach_set(name, np.ascontiguousarray(values, _POINT_FIELDS[name][1]).ravel())
    curve.update()


def _with_key(keys: dict[str, Array], curve: Any, frame: float) -> dict[str, Array]:
    """The keys of a curve and one more, on the curve as it is (de Casteljau)."""
    co, last = keys["co"].astype(np.float64), len(keys["co"]) - 1
    after = int(np.searchsorted(co[:, 0], frame))
    like = max(after - 1, 0)
    point = np.array([frame, curve.evaluate(frame)])
    handles = {"handle_left": point - (_THIRD, 0.0), "handle_right": point + (_THIRD, 0.0)}
    keys = {name: values.copy() for name, values in keys.items()}
    _fit_handles(keys, {like, min(after, last)})
    if not 0 < after <= last:  # where the curve holds still
        name = "handle_left" if after == 0 else "handle_right"
        keys[name][like] = co[like] + (-_THIRD if after == 0 else _THIRD, 0.0)
        keys["handle_left_type"][like] = keys["handle_right_type"][like] = _FREE
    elif keys["interpolation"][like] == _INTERPOLATIONS["BEZIER"]:
        out, back = (keys[name][row] - co[row] for name, row in (("handle_right", like), ("handle_left", after)))
        # As Blender itself does, handles that reach past each other are forced apart.
        fit = min(1.0, (co[after, 0] - co[like, 0]) / max(abs(out[0]) + abs(back[0]), np.finfo(float).tiny))
        corners = np.array([co[like], co[like] + fit * out, co[after] + fit * back, co[after]])
        share = _share_at(corners[:, 0], frame)
        first = corners[:-1] + share * np.diff(corners, axis=0)
        second = first[:-1] + share * np.diff(first, axis=0)
        handles = {"handle_left": second[0], "handle_right": second[1]}
        keys["handle_right"][like], keys["handle_left"][after] = first[0], first[2]
    new = {name: values[like] for name, values in keys.items()}
    new |= {"co": point, **handles, "handle_left_type": _FREE, "handle_right_type": _FREE}
    return {name: np.insert(values, after, new[name], axis=0) for name, values in keys.items()}


def _fit_handles(keys: dict[str, Array], rows: Iterable[int]) -> None:
    """Let automatic handles of some keys stay where they are, whatever neighbours they get."""
    for row in rows:
        types = {int(keys["handle_left_type"][row]), int(keys["handle_right_type"][row])}
        if not types <= {_FREE, _ALIGNED}:
            fitted = _ALIGNED if types <= {_AUTO, _AUTO_CLAMPED, _ALIGNED} else _FREE
            keys["handle_left_type"][row] = keys["handle_right_type"][row] = fitted


def _is_fitted(handle_types: Array) -> Array:
    """Where handles are set by hand or by a fit, [K] bool; others follow from the keys."""
    return (handle_types == _FREE) | (handle_types == _ALIGNED)


def _field(point: Any, name: str) -> Array:
    """A field of one key, [] or [2]; enums as a number."""
    value = getattr(point, name)
    if isinstance(value, str):
        value = point.bl_rna.properties[name].enum_items[value].value
    return np.array(value, _POINT_FIELDS[name][1])


def _read(points: Any, name: str) -> Array:
    """A field of all keys, [K] or [K, 2]."""
    width, kind = _POINT_FIELDS[name]
    values: Array = np.empty(width * len(points), kind)
    points.foreach_get(name, values)
    return values.reshape(-1, width) if width > 1 else values


def _within(frames: Array, span: Span) -> Array:
    return (frames > span[0] - _SAME_FRAME) & (frames < span[1] + _SAME_FRAME)


def _changed_rows(values: Array) -> Array:
    rows = [0] if len(values) else []
    for row, value in enumerate(values):
        if abs(value - values[rows[-1]]) > _PROPERTY_STEP:
            rows.append(row)
    return np.array(rows, int)


def _split(curve: ReducedCurve, frames: Array, row: int, *, keep_before: bool) -> ReducedCurve:
    """The part of a reduced curve before or after a row, which becomes a key."""
    after = int(np.searchsorted(curve.rows, row))
    if curve.rows[after] != row:
        curve = _insert_key(curve, frames, after, row)
    part = slice(0, after + 1) if keep_before else slice(after, None)
    return ReducedCurve(*(getattr(curve, field.name)[part] for field in fields(curve)))


def _insert_key(curve: ReducedCurve, frames: Array, after: int, row: int) -> ReducedCurve:
    """A key more, before the key number `after`, on the curve as it is (de Casteljau); rows stay in order."""
    begin, end = frames[curve.rows[after - 1]], frames[curve.rows[after]]
    reach, back = curve.right_reach[after - 1], curve.left_reach[after]
    start, stop = curve.values[after - 1], curve.values[after]
    corners = np.array(
        [
            [begin, *start],
            [begin + reach, *(start + reach * curve.right_slope[after - 1])],
            [end - back, *(stop - back * curve.left_slope[after])],
            [end, *stop],
        ]
    )
    share = _share_at(corners[:, 0], float(frames[row]))
    first = corners[:-1] + share * np.diff(corners, axis=0)
    second = first[:-1] + share * np.diff(first, axis=0)
    (key,) = second[:-1] + share * np.diff(second, axis=0)
    arrive, leave = key[0] - second[0, 0], second[1, 0] - key[0]
    slope = (second[1, 1:] - second[0, 1:]) / (arrive + leave)
    right_reach, left_reach = curve.right_reach.copy(), curve.left_reach.copy()
    right_reach[after - 1], left_reach[after] = first[0, 0] - begin, end - first[2, 0]
    return ReducedCurve(
        np.insert(curve.rows, after, row),
        np.insert(curve.values, after, key[1:], axis=0),
        left_slope=np.insert(curve.left_slope, after, slope, axis=0),
        right_slope=np.insert(curve.right_slope, after, slope, axis=0),
        left_reach=np.insert(left_reach, after, arrive),
        right_reach=np.insert(right_reach, after, leave),
    )


def _share_at(corners: Array, place: float) -> float:
    """Where on a cubic with increasing corners [4] the value is `place`, 0..1."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        rest = 1.0 - middle
        weights = (rest**3, 3 * rest**2 * middle, 3 * rest * middle**2, middle**3)
        low, high = (middle, high) if np.dot(weights, corners) < place else (low, middle)
    return (low + high) / 2.0


def _pairs(frames: Array, values: Array) -> Array:
    return np.column_stack([frames, values]).astype(np.float32)
