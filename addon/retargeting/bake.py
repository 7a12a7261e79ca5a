"""What is seen of the captured hands on a rig becomes plain keys in an action of the rig's own; their layer goes.

Nothing is seen to change, inside the layer's frames or outside of them: the rest of the rig's animation stays as it is.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import bpy
import numpy as np
from numpy.typing import NDArray

from dir_core.clean_up.key_reduction import KeyReduction
from dir_core.errors import SettingsError

from .. import keying
from ..keying import Place
from . import rig_layer
from .animated import Channel, channels_of, place_of_strip, strips_of
from .fewer_keys import count_keys, reduce_channels

Array = NDArray[Any]

_SAMPLED: Final = "Two-Hand Baking"  # name of the scene that exists while the rig is read
_SAME: Final = 1e-6
"""Difference up to which two numbers look the same: a ten thousandth of a degree."""


@dataclass(frozen=True)
class Baked:
    """What was baked, in numbers.

    Attributes:
        frames: keyed scene frames.
        bones: keyed bones.
        action: name of the action that has the keys.
        notes: sentences the user should read.
        keys: that were written, and how many a key on every frame would have been.
    """

    frames: int
    bones: int
    action: str
    notes: tuple[str, ...]
    keys: tuple[int, int]


@dataclass(frozen=True, eq=False)
class _Goal:
    """Where the keys go.

    Attributes:
        place: an action of the rig; None for a new one.
        ends: whether a new action says nothing before and after its keys, because others do.
        strip: of the NLA, that plays the action as long as the layer is there.
        notes: sentences the user should read.
    """

    place: Place | None
    ends: bool = False
    strip: Any = None
    notes: tuple[str, ...] = ()


def bake_layer(target: Any, bounds: KeyReduction | None = None) -> Generator[float, None, Baked]:
    """Bake the captured hands of a rig, in small steps; nothing is changed before the last one.

    The keys go into the rig's active action, or into the one that was put below the layer, which becomes active again,
    or into a new one where these would not look the same.

    Args:
        target: armature object of the rig.
        bounds: how far bones may be off for the sake of fewer keys; None keys every frame.

    Yields:
        The share of the work that is done, 0..1.

    Raises:
        SettingsError: there is nothing to bake, or it cannot be done without a change; nothing was changed.
    """
    strip = _seen_strip(target)
    frames = np.arange(int(np.ceil(strip.frame_start)), int(np.floor(strip.frame_end)) + 1)
    wanted = channels_of(place_of_strip(strip))
    goal = _choose_goal(target, wanted)
    active = keying.place_of(target)
    covered = channels_of(active) & wanted
    if active and covered == wanted:
        raise SettingsError(
            f"The action {active.action.name} hides the hands, key them onto the rig again and bake then."
        )
    values = yield from _sample(target, sorted(wanted - covered), np.array([frames[0] - 1, *frames, frames[-1] + 1]))
    bones = {bone for bone, _, _ in map(_named, wanted - covered)}
    notes = [*goal.notes]
    if active and covered:
        hidden = min(map(_named, covered))[0]
        notes.append(f"{hidden} is keyed in {active.action.name} itself and stays as it is there.")
    inside = {_named(channel): seen[1:-1] for channel, seen in values.items()}
    curves = yield from reduce_channels(target, inside, bounds)
    place = _write(target, goal, frames, values, curves)
    return Baked(len(frames), len(bones), place.action.name, tuple(notes), count_keys(curves, len(frames)))


def _seen_strip(target: Any) -> Any:
    """The strip of the layer, if it can be seen."""
    strip = rig_layer.layer_strip(target)
    if strip is None:
        raise SettingsError(f"{target.name} has no keys of captured hands.")
    data = target.animation_data
    if target.library is not None:
        raise SettingsError(f"{target.name} is linked and cannot be animated, make a library override of it first.")
    if data.use_tweak_mode:
        raise SettingsError(f"{target.name} is in tweak mode, leave it in the NLA editor and try again.")
    track = rig_layer.layer_track(target)
    solo = any(each.is_solo for each in data.nla_tracks)
    if not data.use_nla or track.mute or strip.mute or (solo and not track.is_solo):
        raise SettingsError(f'The track "{track.name}" of {target.name} does not play now, switch it on and bake then.')
    if solo:
        raise SettingsError(f'The track "{track.name}" of {target.name} plays alone, end its solo and bake then.')
    if target.hide_viewport:
        raise SettingsError(f"{target.name} is hidden in viewports and does not move then, show it and bake then.")
    return strip


def _choose_goal(target: Any, wanted: set[Channel]) -> _Goal:
    """The action that can have the keys without any other change."""
    data, place = target.animation_data, keying.place_of(target)
    own = rig_layer.own_tracks(target)
    others = {strip: channels_of(place_of_strip(strip)) for strip in strips_of(target, but=own)}
    seen_below = set().union(*others.values()) if others else set()
    if place is not None:
        if data.action_blend_type != "REPLACE" or data.action_influence < 1.0 or data.action_extrapolation != "HOLD":
            raise SettingsError(
                f"The action {place.action.name} is mixed with what lies below it: let it replace that with full "
                "influence in the NLA editor and bake then."
            )
        also = sorted((seen_below & wanted) - channels_of(place))
        if also:
            raise SettingsError(
                f"A track of {target.name} also moves {_named(also[0])[0]} outside of these frames: push the action "
                f"{place.action.name} down in the NLA editor and bake then."
            )
        _refuse_muted(place, wanted)
        return _Goal(place)
    body = next((strip for strip in others if rig_layer.is_body(target, strip)), None)
    if body is None:
        return _Goal(None, ends=bool(seen_below & wanted))
    place = place_of_strip(body)
    reason = _why_below(place, wanted) or _why_not_on_top(body, others)
    if reason:
        return _Goal(None, ends=True, notes=(f"{reason}: the keys are in an action of their own on top.",))
    return _Goal(place, strip=body)


def _refuse_muted(place: Place, wanted: set[Channel]) -> None:
    muted = next((each for each in place.curves if each.mute and (each.data_path, each.array_index) in wanted), None)
    if muted is not None:
        raise SettingsError(
            f"The action {place.action.name} has a muted curve of {_named((muted.data_path, 0))[0]}: delete it or let "
            "it play, and bake then."
        )


def _why_below(place: Place, wanted: set[Channel]) -> str:
    """Why an action cannot have these keys without a change outside of their frames; empty if it can."""
    for curve in place.curves:
        if (curve.data_path, curve.array_index) in wanted:
            bone = _named((curve.data_path, 0))[0]
            if curve.mute:
                return f"The curves of {bone} in {place.action.name} are muted"
            if len(curve.modifiers):
                return f"The curves of {bone} in {place.action.name} have modifiers"
            if curve.extrapolation != "CONSTANT":
                return f"The curves of {bone} in {place.action.name} go on beyond their keys"
            if not len(curve.keyframe_points):
                return f"The curves of {bone} in {place.action.name} have no keys"
    return ""


def _why_not_on_top(body: Any, others: Mapping[Any, set[Channel]]) -> str:
    """Why the action of a strip cannot become the active one as it plays in the strip; empty if it can."""
    name = body.action.name
    others_have = set().union(*(channels for strip, channels in others.items() if strip != body))
    if not others_have.isdisjoint(others[body]):
        return f"Other tracks move what {name} moves"
    is_plain = (
        body.blend_type == "REPLACE"
        and body.repeat == body.scale == 1.0
        and body.frame_start == body.action_frame_start
        and not (body.use_reverse or body.use_animated_time or body.mute or body.blend_in or body.blend_out)
        and body.extrapolation == "HOLD"
        and not (body.use_animated_influence and any(point.co.y < 1.0 for point in body.fcurves[0].keyframe_points))
    )
    return "" if is_plain else f"The strip of {name} was changed"


def _sample(target: Any, wanted: Sequence[Channel], frames: Array) -> Generator[float, None, dict[Channel, Array]]:
    """What channels say on scene frames [K], everything together; -> [K] each."""
    rows: dict[str, list[int]] = {}
    for path, index in wanted:
        rows.setdefault(path, []).append(index)
    values = {channel: np.empty(len(frames)) for channel in wanted}
    scene = bpy.data.scenes.new(_SAMPLED)
    try:
        scene.collection.objects.link(target)
        for row, frame in enumerate(frames):
            scene.frame_set(int(frame))
            rig = target.evaluated_get(scene.view_layers[0].depsgraph)
            for path, indices in rows.items():
                value = rig.path_resolve(path)
                for index in indices:
                    values[path, index][row] = value[index] if hasattr(value, "__len__") else value
            yield (row + 1) / len(frames)
    finally:
        bpy.data.scenes.remove(scene)
    return values


def _write(
    target: Any,
    goal: _Goal,
    frames: Array,
    values: Mapping[Channel, Array],
    curves: Mapping[tuple[str, str, int], Array | keying.Component],
) -> Place:
    """Key what was seen on `frames` [K], hold what was seen a frame before and after, and take the layer away."""
    data, span = target.animation_data, (float(frames[0]), float(frames[-1]))
    place = goal.place
    if place is None:
        place = keying.new_place(target, f"{target.name} Action")
    elif keying.is_shared(place, target):
        place = keying.copy_place(place)
    has_curve = {(curve.data_path, curve.array_index): curve for curve in place.curves}
    before, after = {}, {}
    for channel, seen in values.items():
        if channel in has_curve:
            keying.open_gap(has_curve[channel], span)
        elif not goal.ends:
            # The ends of a curve hold on; where something else was seen beside them, that is held instead.
            if abs(seen[0] - seen[1]) > _SAME:
                before[_named(channel)] = seen[:1]
            if abs(seen[-1] - seen[-2]) > _SAME:
                after[_named(channel)] = seen[-1:]
    keying.key_channels(place, frames, curves, span)
    for frame, held in ((span[0] - 1.0, before), (span[1] + 1.0, after)):
        keying.key_channels(place, np.array([frame]), held, (frame, frame))

    rig_layer.remove_layer(target)
    if goal.strip is not None:
        rig_layer.remove_strip(target, goal.strip)
    data.action_blend_type, data.action_influence = "REPLACE", 1.0
    data.action_extrapolation = "NOTHING" if goal.ends else "HOLD"
    keying.assign_place(target, place)
    target.update_tag(refresh={"TIME"})
    return place


def _named(channel: Channel) -> tuple[str, str, int]:
    """Bone, channel and index of an animated number."""
    return (*keying.bone_of(channel[0]), channel[1])
