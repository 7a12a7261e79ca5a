"""What a rig's channels said before captured hands were keyed, where nothing else animates them.

The NLA knows no pose that was only set: outside of a strip, and where a strip fades, a channel that no other strip has
goes to its default. So what was set lies in a track of its own below the hands, and comes back when they go.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

import bpy
import numpy as np

from .. import keying

BASE_TRACK: Final = "Two-Hand Base"
"""Name of the NLA track with the values that were set by hand."""

Channel = tuple[str, str, int]
"""Bone (empty for the armature object), channel such as "location" or the path of a custom property, index."""

_BEFORE: Final = "two_hands_before"  # custom property of the hands' action: [bone, channel, index, value], ...


def remember(target: Any, action: Any, bones: Iterable[str], channels: Iterable[Channel]) -> None:
    """Keep with the hands' action what channels say before they are keyed.

    What is kept of them already stays. What is kept of other channels of these bones goes back: they are not keyed any
    more.

    Args:
        target: armature object of the rig.
        action: of the hands.
        bones: of the hands that are keyed now, with those that they had before.
        channels: that the hands are keyed on, and nothing else animates.
    """
    before, wanted, touched = _before(action), set(channels), set(bones)
    gone = {channel: value for channel, value in before.items() if channel[0] in touched and channel not in wanted}
    _set(target, gone)
    kept = {channel: value for channel, value in before.items() if channel not in gone}
    kept |= {channel: _value(target, channel) for channel in wanted if channel not in kept}
    action[_BEFORE] = json.dumps([[*channel, value] for channel, value in sorted(kept.items())])


def pass_on(action: Any, to: Any) -> None:
    """Let another action of the same hands remember what this one does."""
    to[_BEFORE] = action.get(_BEFORE, "[]")


def put_back(target: Any, action: Any) -> None:
    """Let a rig's channels say what they said before the hands were keyed."""
    _set(target, _before(action))


def base_track(target: Any) -> Any:
    """The track with what was set by hand, or None."""
    data = target.animation_data
    return next((each for each in data.nla_tracks if each.name.startswith(BASE_TRACK)), None) if data else None


def remove_base(target: Any) -> None:
    """Take that track off again."""
    track = base_track(target)
    if track is None:
        return
    actions = [strip.action for strip in track.strips if strip.action]
    target.animation_data.nla_tracks.remove(track)
    for action in actions:
        if not action.users:
            bpy.data.actions.remove(action)


def write_base(target: Any, action: Any, frame: float) -> bool:
    """Key what was set by hand, where that is not the default; returns whether a track was made for it, on top.

    Args:
        target: armature object of the rig.
        action: of the hands, that remembers.
        frame: first scene frame of the hands.
    """
    values = {channel: value for channel, value in _before(action).items() if value != _default(target, channel)}
    if not values:
        remove_base(target)
        return False
    place = keying.new_place(target, f"{target.name} Hands Base")
    keying.key_channels(place, np.array([frame]), {channel: np.array([value]) for channel, value in values.items()})
    track = base_track(target)
    is_new = track is None
    if is_new:
        track = target.animation_data.nla_tracks.new()
        track.name = BASE_TRACK
    old = [(strip, strip.action) for strip in track.strips]
    for strip, before in old:
        track.strips.remove(strip)
        if before is not None and not before.users:
            bpy.data.actions.remove(before)
    strip = track.strips.new(BASE_TRACK, int(frame), place.action)
    if keying.HAS_SLOTS:
        strip.action_slot = place.slot
    strip.extrapolation = "HOLD"
    return is_new


def _before(action: Any) -> dict[Channel, float]:
    return {(bone, channel, index): value for bone, channel, index, value in json.loads(action.get(_BEFORE, "[]"))}


def _value(target: Any, channel: Channel) -> float:
    bone, path, index = channel
    value = (target.pose.bones[bone] if bone else target).path_resolve(path)
    return float(value[index] if hasattr(value, "__len__") else value)


def _set(target: Any, values: dict[Channel, float]) -> None:
    for (bone, path, index), value in values.items():
        owner = target.pose.bones.get(bone) if bone else target
        if owner is None:
            continue
        name = _property_name(path)
        if not name:
            getattr(owner, path)[index] = value
        elif name in owner:
            owner[name] = type(owner[name])(value)


def _default(target: Any, channel: Channel) -> float:
    bone, path, index = channel
    owner = target.pose.bones[bone] if bone else target
    name = _property_name(path)
    if name:
        return float(owner.id_properties_ui(name).as_dict().get("default", 0.0))
    return float(owner.bl_rna.properties[path].default_array[index])


def _property_name(path: str) -> str:
    """Name of the custom property that a path means, empty for any other path."""
    return bpy.utils.unescape_identifier(path[2:-2]) if path.startswith('["') else ""
