"""The layer of captured hands on a rig: an action of its own in a track of the NLA, over everything that is there.

Knows bones by name and nothing about hands or takes. No curve that was on the rig before is touched.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import bpy
import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import Side

from . import keying
from .keying import Place
from .layers import stretch_strip

Array = NDArray[Any]

TRACK: Final = "Two-Hand Retarget"
"""Name of the NLA track on the rig that holds the hands."""

BODY_TRACK: Final = "Body"
"""Name of the NLA track into which an action goes that would hide the hands."""

_BONES: Final = "two_hands_bones"  # custom property of the action: side -> names of the bones it has keys for


def place_of_layer(target: Any) -> Place | None:
    """Where a rig's captured hands are keyed; None without a layer."""
    track = _own_track(target)
    return _place_of_strip(track.strips[0]) if track is not None else None


def remove_layer(target: Any) -> int:
    """Take the layer off a rig that has one; returns how many bones it had keys for."""
    track = _own_track(target)
    action = track.strips[0].action
    count = sum(map(len, _keyed_bones(action).values()))
    target.animation_data.nla_tracks.remove(track)
    if not action.users:
        bpy.data.actions.remove(action)
    return count


def write_layer(
    target: Any,
    frames: Array,
    values: Mapping[Side, Mapping[tuple[str, str, int], Array]],
    bones: Mapping[Side, Sequence[str]],
    *,
    weight: float,
    fade: int,
) -> list[str]:
    """Put keys into the rig's layer of captured hands; what it had for these hands goes.

    Args:
        target: armature object of the rig.
        frames: [K] scene frames.
        values: for each hand (bone, channel, index) -> [K] values.
        bones: names of the bones of each hand.
        weight: of the layer over what lies below it, 0..1.
        fade: frames over which it comes in and goes out.

    Returns:
        Sentences that the user should read.
    """
    data = target.animation_data or target.animation_data_create()
    track = _own_track(target)
    place = place_of_layer(target)
    if place is None or place.action.users - place.action.use_fake_user > 1:  # a copy of the rig plays it as well
        place = keying.new_place(target, f"{target.name} Hands")
    keyed = _keyed_bones(place.action)
    everything = ("location", "rotation_quaternion", "rotation_euler", "rotation_axis_angle")
    old = [keying.bone_path(bone, channel) for side in values for bone in keyed.get(side, ()) for channel in everything]
    keying.clear_keys(place, old, (-np.inf, np.inf))
    for each in values.values():
        keying.key_channels(place, frames, each)
    place.action[_BONES] = json.dumps({**keyed, **bones})

    notes = []
    own = {(curve.data_path, curve.array_index) for curve in place.curves}
    covering = keying.place_of(target)
    if covering and data.action_blend_type == "REPLACE" and not own.isdisjoint(_channels_of(covering)):
        _push_down(target, covering, frames)
        notes.append(
            f"The action {covering.action.name} also keys the hands: it plays below them now, in the track "
            f'"{BODY_TRACK}" of the NLA.'
        )
        if track is not None:
            data.nla_tracks.remove(track)  # to lie on top again
            track = None
    if track is None:
        track = data.nla_tracks.new()
        track.name = TRACK
    strip = track.strips[0] if track.strips else track.strips.new(TRACK, int(frames[0]), place.action)
    strip.action = place.action
    if keying.HAS_SLOTS:
        strip.action_slot = place.slot
    stretch_strip(strip, *place.action.frame_range)
    # Where something lies below, it is seen again before and after the hands.
    strip.extrapolation = "NOTHING" if not own.isdisjoint(other_channels(target)) else "HOLD"
    _weigh(strip, weight, fade)
    data.use_nla = True
    return notes


def _own_track(target: Any) -> Any:
    data = target.animation_data
    tracks = [track for track in data.nla_tracks if track.name.startswith(TRACK)] if data else []
    return next((track for track in tracks if track.strips and track.strips[0].action), None)


def _place_of_strip(strip: Any) -> Place:
    return Place(strip.action, strip.action_slot if keying.HAS_SLOTS else None)


def _keyed_bones(action: Any) -> dict[Side, list[str]]:
    return dict(json.loads(action.get(_BONES, "{}")))


def _channels_of(place: Place) -> set[tuple[str, int]]:
    return {(curve.data_path, curve.array_index) for curve in place.curves if not curve.mute}


def other_channels(target: Any) -> set[tuple[str, int]]:
    """Every channel that is animated on a rig by others."""
    own, data = _own_track(target), target.animation_data
    places = [keying.place_of(target)]
    for track in data.nla_tracks:
        if track != own and not track.mute:
            places += [_place_of_strip(strip) for strip in _strips_in(track.strips)]
    return {channel for place in places if place for channel in _channels_of(place)}


def _strips_in(strips: Iterable[Any]) -> list[Any]:
    """Strips with an action, also those inside of others."""
    found = []
    for strip in strips:
        found += _strips_in(strip.strips) if strip.type == "META" else [strip] if strip.action else []
    return found


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
    stretch_strip(
        strip,
        min(first, float(frames[0]), *(scene.frame_start for scene in scenes)),
        max(last, float(frames[-1]), *(scene.frame_end for scene in scenes)),
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
