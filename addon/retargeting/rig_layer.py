"""The layer of captured hands on a rig: an action of its own in a track of the NLA, over everything that is there.

Knows bones by name and nothing about hands or takes. No curve that was on the rig before is touched.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import bpy
import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import Side

from .. import keying
from ..keying import Place
from ..layers import stretch_strip
from . import rig_base
from .animated import Channel, channels_in, channels_of, place_of_strip, strips_of

Array = NDArray[Any]

TRACK: Final = "Two-Hand Retarget"
"""Name of the NLA track on the rig that holds the hands."""

BODY_TRACK: Final = "Body"
"""Name of the NLA track into which an action goes that would hide the hands."""

_BONES: Final = "two_hands_bones"  # custom property of the action: side -> names of the bones it has keys for
_KEYS: Final = "two_hands_keys"  # custom property of the action: side -> digest of the keys that were written
_BEYOND: Final = 10_000.0  # frames that an action plays on beside the scene's, which may get longer


def place_of_layer(target: Any) -> Place | None:
    """Where a rig's captured hands are keyed; None without a layer."""
    strip = layer_strip(target)
    return place_of_strip(strip) if strip is not None else None


def bones_of_layer(target: Any) -> set[str]:
    """Names of the bones that a rig's layer has keys for; empty for the armature object, none without a layer."""
    place = place_of_layer(target)
    return {bone for bones in _keyed_bones(place.action).values() for bone in bones} if place else set()


def remove_layer(target: Any) -> int:
    """Take the layer off a rig that has one; returns how many bones it had keys for."""
    action = layer_strip(target).action
    count = sum(map(len, _keyed_bones(action).values()))
    drop_layer(target)
    if not action.users:
        bpy.data.actions.remove(action)
    return count


def drop_layer(target: Any) -> None:
    """Let a rig be as if it had no layer, if it has one; the layer's action stays."""
    strip = layer_strip(target)
    if strip is None:
        return
    action = strip.action
    remove_strip(target, strip)
    rig_base.remove_base(target)
    rig_base.put_back(target, action)


def keep_changed_keys(target: Any) -> str:
    """Copy the layer's action if its keys are not what was written; returns a sentence about it, else nothing."""
    place = place_of_layer(target)
    if place is None:
        return ""
    keyed, written = _keyed_bones(place.action), json.loads(place.action.get(_KEYS, "{}"))
    if all(_digest(place, bones) == written.get(side) for side, bones in keyed.items()):
        return ""
    copy = place.action.copy()
    copy.name = f"{place.action.name} (edited)"
    copy.use_fake_user = True
    del copy[_BONES]
    return f'Your changes of the keys before are kept in "{copy.name}".'


def write_layer(
    target: Any,
    frames: Array,
    values: Mapping[Side, Mapping[tuple[str, str, int], Array | keying.Component]],
    bones: Mapping[Side, Sequence[str]],
    *,
    weight: float,
    fade: int,
) -> list[str]:
    """Put keys into the rig's layer of captured hands; what it had for these hands goes.

    Args:
        target: armature object of the rig.
        frames: [K] scene frames.
        values: for each hand (bone, channel, index) -> [K] values, or a number of a reduced curve of the frames.
        bones: names of the bones of each hand.
        weight: of the layer over what lies below it, 0..1.
        fade: frames over which it comes in and goes out.

    Returns:
        Sentences that the user should read.
    """
    data = target.animation_data or target.animation_data_create()
    strip, place = layer_strip(target), place_of_layer(target)
    notes = []
    if place is None or place.action.users - place.action.use_fake_user > 1:  # a copy of the rig plays it as well
        copied = place
        place = keying.new_place(target, f"{target.name} Hands")
        if copied is not None:
            rig_base.pass_on(copied.action, place.action)
    elif kept := keep_changed_keys(target):
        notes.append(kept)
    keyed = _keyed_bones(place.action)
    touched = {bone for side in values for bone in (*keyed.get(side, ()), *bones[side])}
    keying.clear_keys(place, _paths_of(place, touched), (-np.inf, np.inf))
    for each in values.values():
        keying.key_channels(place, frames, each)
    keyed |= {side: list(names) for side, names in bones.items()}
    place.action[_BONES] = json.dumps(keyed)
    place.action[_KEYS] = json.dumps({side: _digest(place, names) for side, names in keyed.items()})

    own = {(curve.data_path, curve.array_index) for curve in place.curves}
    covering = keying.place_of(target)
    if covering and data.action_blend_type == "REPLACE" and not own.isdisjoint(channels_of(covering)):
        _push_down(target, covering, frames)
        notes.append(
            f"The action {covering.action.name} also keys the hands: it plays below them now, in the track "
            f'"{BODY_TRACK}" of the NLA.'
        )
        if strip is not None:
            remove_strip(target, strip)  # to lie on top again
            strip = None
    others = other_channels(target)
    set_by_hand = [
        channel
        for each in values.values()
        for channel in each
        if (keying.bone_path(*channel[:2]), channel[2]) not in others
    ]
    rig_base.remember(target, place.action, touched, set_by_hand)
    if rig_base.write_base(target, place.action, float(frames[0])) and strip is not None:
        remove_strip(target, strip)  # to lie on top again
        strip = None
    if strip is None:
        track = data.nla_tracks.new()
        track.name = TRACK
        strip = track.strips.new(TRACK, int(frames[0]), place.action)
    strip.action = place.action
    if keying.HAS_SLOTS:
        strip.action_slot = place.slot
    stretch_strip(strip, *place.action.frame_range)
    # Where something lies below, it is seen again before and after the hands; a switch is kept from what is below, too.
    is_switched = any(channel.startswith("[") for each in values.values() for _, channel, _ in each)
    hides = not own.isdisjoint(others) or (is_switched and bool(others))
    strip.extrapolation = "NOTHING" if hides else "HOLD"
    _weigh(strip, weight, fade)
    data.use_nla = True
    own_track = layer_track(target)
    if own_track.mute or strip.mute or (not own_track.is_solo and any(each.is_solo for each in data.nla_tracks)):
        notes.append(f'The track "{own_track.name}" does not play now: it is muted, or another one plays alone.')
    return notes


def layer_strip(target: Any) -> Any:
    """The strip of the NLA that plays a rig's captured hands, by the mark of its action; None without a layer."""
    track = layer_track(target)
    return next(filter(_is_marked, track.strips)) if track is not None else None


def layer_track(target: Any) -> Any:
    """The track of that strip; None without a layer."""
    data = target.animation_data
    return next((track for track in data.nla_tracks if any(map(_is_marked, track.strips))), None) if data else None


def own_tracks(target: Any) -> list[Any]:
    """The tracks on a rig that are this add-on's: of the hands, and of what was set by hand below them."""
    return [track for track in (layer_track(target), rig_base.base_track(target)) if track is not None]


def is_body(target: Any, strip: Any) -> bool:
    """Whether a strip plays the action that was put below the hands."""
    tracks = [track for track in target.animation_data.nla_tracks if track.name.startswith(BODY_TRACK)]
    return any(len(track.strips) == 1 and track.strips[0] == strip for track in tracks)


def remove_strip(target: Any, strip: Any) -> None:
    """Remove a strip, and its track if that has no other."""
    tracks = target.animation_data.nla_tracks
    track = next(track for track in tracks if strip in list(track.strips))
    if len(track.strips) > 1:
        track.strips.remove(strip)
    else:
        tracks.remove(track)


def _is_marked(strip: Any) -> bool:
    return strip.action is not None and _BONES in strip.action


def _digest(place: Place, bones: Collection[str]) -> str:
    return keying.digest_keys(place, _paths_of(place, bones), (-np.inf, np.inf))


def _keyed_bones(action: Any) -> dict[Side, list[str]]:
    return dict(json.loads(action.get(_BONES, "{}")))


def _paths_of(place: Place, bones: Collection[str]) -> list[str]:
    """Data paths of the curves that a place has for some bones, and for the object where a bone has no name."""
    starts = tuple(keying.bone_path(bone, "").rstrip(".") for bone in bones if bone)
    paths = {curve.data_path for curve in place.curves}
    return [path for path in paths if path.startswith(starts) or ("" in bones and not path.startswith("pose."))]


def other_channels(target: Any) -> set[Channel]:
    """Every channel that is animated on a rig by others."""
    return channels_in(target, but=own_tracks(target))


def values_of_others(target: Any, path: str) -> list[float]:
    """The values of all keys that others have for one number of a rig, by its data path."""
    strips = strips_of(target, but=own_tracks(target))
    return [
        float(point.co.y)
        for place in (keying.place_of(target), *map(place_of_strip, strips))
        for curve in (place.curves if place else ())
        if curve.data_path == path and not curve.mute
        for point in curve.keyframe_points
    ]


def _push_down(target: Any, place: Place, frames: Array) -> None:
    """Let an action play as before, but below the tracks that follow."""
    data = target.animation_data
    track = data.nla_tracks.new()
    track.name = BODY_TRACK
    strip = track.strips.new(place.action.name, int(frames[0]), place.action)
    if keying.HAS_SLOTS:
        strip.action_slot = place.slot
    first, last = place.action.frame_range
    scenes = target.users_scene
    # Cycles go on beyond the keys, but not beyond the strip.
    beyond = _BEYOND if any(len(each.modifiers) or each.extrapolation == "LINEAR" for each in place.curves) else 0.0
    stretch_strip(
        strip,
        min(first, float(frames[0]), *(scene.frame_start for scene in scenes)) - beyond,
        max(last, float(frames[-1]), *(scene.frame_end for scene in scenes)) + beyond,
    )
    strip.extrapolation = data.action_extrapolation
    influence = data.action_influence
    data.action = None
    _weigh(strip, influence, 0)


def _weigh(strip: Any, weight: float, fade: int) -> None:
    """Give a strip a weight 0..1 and the frames over which it comes in and goes out."""
    first, last = strip.frame_start, strip.frame_end
    fade = min(fade, int((last - first) / 2))
    strip.use_animated_influence = weight < 1.0 or fade > 0
    if not strip.use_animated_influence:
        return
    curve = strip.fcurves.find("influence")
    corners = [(first, weight), (last, weight)]
    if fade:
        corners = [(first, 0.0), (first + fade, weight), (last - fade, weight), (last, 0.0)]
    curve.keyframe_points.clear()
    curve.keyframe_points.add(len(corners))
    for point, corner in zip(curve.keyframe_points, corners, strict=True):
        point.co, point.interpolation = corner, "LINEAR"
    curve.update()
