"""Which channels of a data-block are animated, by its action and by the NLA."""

from collections.abc import Collection, Iterable
from typing import Any

from .. import keying
from ..keying import Place

Channel = tuple[str, int]
"""Data path and index of an animated number."""


def place_of_strip(strip: Any) -> Place:
    """Where the keys are that a strip of the NLA plays."""
    return Place(strip.action, strip.action_slot if keying.HAS_SLOTS else None)


def strips_in(strips: Iterable[Any]) -> list[Any]:
    """Strips of the NLA with an action, also those inside of others."""
    found = []
    for strip in strips:
        found += strips_in(strip.strips) if strip.type == "META" else [strip] if strip.action else []
    return found


def strips_of(owner: Any, but: Collection[Any] = ()) -> list[Any]:
    """Strips with an action on the tracks of a data-block that are not muted, some of the tracks left out."""
    data = owner.animation_data
    return [
        strip
        for track in (data.nla_tracks if data else ())
        if track not in but and not track.mute
        for strip in strips_in(track.strips)
    ]


def channels_of(place: Place | None) -> set[Channel]:
    """What the curves of a place animate; muted ones do not."""
    curves = place.curves if place else ()
    return {(curve.data_path, curve.array_index) for curve in curves if not curve.mute}


def channels_in(owner: Any, but: Collection[Any] = ()) -> set[Channel]:
    """Every channel that is animated on a data-block, some tracks of the NLA left out."""
    places = [keying.place_of(owner), *map(place_of_strip, strips_of(owner, but))]
    return {channel for place in places for channel in channels_of(place)}
