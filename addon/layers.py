"""Corrections that survive: the take's keys in a strip of the NLA below, the animator's own keys on a layer on top.

The strip plays the take's action; the layer's action is combined with it: turns are multiplied, places added. Keying
the take again changes the strip's action and nothing on the layer.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from dir_core.errors import SettingsError

from . import keying
from .keying import Place

TRACK: Final = "Two-Hand Take"
"""Name of the NLA track that holds the take's keys."""

LAYER: Final = "Hand Corrections"
"""Name of the action that corrections are keyed in."""

_BLEND_BEFORE: Final = "two_hands_blend_before"  # custom property: what removing the layer gives back


def taken_place(owner: Any) -> Place | None:
    """Where the take's keys are below a correction layer; None without one."""
    strip = _find_strip(owner)
    return Place(strip.action, strip.action_slot if keying.HAS_SLOTS else None) if strip else None


def keyed_frames(armatures: Iterable[Any]) -> tuple[int, int] | None:
    """First and last scene frame on which armatures have keys on bones, of their own or below a correction layer."""
    places = [taken_place(armature) or keying.place_of(armature) for armature in armatures]
    curves = [curve for place in places if place for curve in place.curves]
    ranges = [curve.range() for curve in curves if curve.data_path.startswith("pose.bones")]
    if not ranges:
        return None
    return math.floor(min(low for low, _ in ranges)), math.ceil(max(high for _, high in ranges))


def can_have_layer(owner: Any) -> bool:
    """Whether a data-block has keys and no correction layer yet."""
    return taken_place(owner) is None and keying.place_of(owner) is not None


def add_layer(owners: Sequence[Any]) -> Any:
    """Put the keys of data-blocks into NLA strips and give each an empty action to combine with them.

    Args:
        owners: armature objects with an action and without a correction layer.

    Returns:
        The action for the corrections; before Blender 4.4 that of the first armature, the others have their own.

    Raises:
        SettingsError: one of them has no keys, has a layer already or is in tweak mode; nothing was changed.
    """
    below: list[Place] = []
    for owner in owners:
        if taken_place(owner) is not None:
            raise SettingsError(f"{owner.name} has a correction layer already, key your corrections on it.")
        place = keying.place_of(owner)
        if place is None:
            raise SettingsError(f"{owner.name} has no keys yet, key the hands first.")
        _refuse_tweak_mode(owner)
        below.append(place)
    actions: list[Any] = []
    for owner, place in zip(owners, below, strict=True):
        data = owner.animation_data
        track = data.nla_tracks.new()  # above the user's own tracks
        track.name = TRACK
        strip = track.strips.new(TRACK, 0, place.action)
        if keying.HAS_SLOTS:
            strip.action_slot = place.slot
        _fit_strip(strip)
        owner[_BLEND_BEFORE] = data.action_blend_type
        data.action = None
        actions.append(keying.open_place(owner, actions[-1] if actions else None, LAYER).action)
        data.action_blend_type = "COMBINE"
        data.use_nla = True
    return actions[0]


def remove_layer(owners: Sequence[Any]) -> None:
    """Take correction layers away: the take's keys are played alone again, the corrections stay as an action.

    Raises:
        SettingsError: one of the data-blocks has no layer or is in tweak mode; nothing was changed.
    """
    below: list[Place] = []
    for owner in owners:
        place = taken_place(owner)
        if place is None:
            raise SettingsError(f"{owner.name} has no correction layer.")
        _refuse_tweak_mode(owner)
        below.append(place)
    for owner, place in zip(owners, below, strict=True):
        data = owner.animation_data
        if data.action is not None:
            data.action.use_fake_user = True
        data.action_blend_type = owner.pop(_BLEND_BEFORE, "REPLACE")
        data.nla_tracks.remove(_find_track(owner))
        keying.assign_place(owner, place)


def fit_strips(owner: Any) -> None:
    """Let the strip below a correction layer play all keys of its action, each on its own frame."""
    strip = _find_strip(owner)
    if strip is not None:
        _fit_strip(strip)


def _find_track(owner: Any) -> Any:
    data = owner.animation_data
    tracks = data.nla_tracks if data else ()
    return next((track for track in tracks if track.name.startswith(TRACK) and _own_strip(track)), None)


def _find_strip(owner: Any) -> Any:
    track = _find_track(owner)
    return _own_strip(track) if track is not None else None


def _own_strip(track: Any) -> Any:
    return next((strip for strip in track.strips if strip.action is not None), None)


def stretch_strip(strip: Any, first: float, last: float) -> None:
    """Let a strip play its action from `first` to `last`, each frame on its own frame, in place of what is below."""
    last = max(last, first + 1.0)  # a strip has to last
    strip.use_sync_length = False
    strip.repeat = 1.0
    # Blender keeps starts before ends, so both have to move out before they move in.
    strip.frame_end, strip.action_frame_end = max(strip.frame_end, last), max(strip.action_frame_end, last)
    strip.frame_start, strip.action_frame_start = first, first
    strip.frame_end, strip.action_frame_end = last, last
    strip.scale = 1.0
    strip.blend_type = "REPLACE"
    strip.use_auto_blend = False


def _fit_strip(strip: Any) -> None:
    stretch_strip(strip, *strip.action.frame_range)
    strip.extrapolation, strip.blend_in, strip.blend_out = "HOLD", 0.0, 0.0


def _refuse_tweak_mode(owner: Any) -> None:
    if owner.animation_data.use_tweak_mode:
        raise SettingsError(f"{owner.name} is in tweak mode, leave it in the NLA editor and try again.")
