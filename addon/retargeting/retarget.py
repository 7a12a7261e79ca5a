"""The captured hands on an animator's own rig: sampled from the hand armatures, keyed on a layer of their own.

The motion is what the hand armatures show, corrections included. It is keyed on the mapped bones, in the layer that
rig_layer keeps on the rig.
"""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from dir_core.clean_up.key_reduction import KeyReduction
from dir_core.conventions import SIDES, Side
from dir_core.errors import SettingsError
from dir_core.retargeting.mirror import other_side
from dir_core.retargeting.rest import RestHand
from dir_core.retargeting.rig_map import RigMap
from dir_core.retargeting.transfer import CUPPING

from .. import takes
from . import rig_layer
from .bone_channels import (
    HandChannels,
    HandPair,
    Transfer,
    find_anchor,
    hand_channels,
    on_rig,
    pair_hands,
    wrist_places,
)
from .bone_limits import hides_keys
from .captured_hands import choose_frames, read_hand, sample_motion
from .fewer_keys import bounds_of, count_keys, reduce_channels
from .stand_in import sample_rig
from .target_rig import rest_hand
from .wrist_targets import bones_to_read, choose_goals, count_beyond_reach, shown_places

Array = NDArray[Any]
Result = TypeVar("Result")

_NOTICED: Final = 0.1  # degrees from which on a limit counts as having held a bone


@dataclass(frozen=True)
class Wanted(Transfer):
    """What to key, beside what is taken over.

    Attributes:
        sides: the hands of the rig.
        mirrored: each hand of the rig does what a mirror shows of the captured hand of the other side.
        span: first and last scene frame; None is all that the hand armatures have keys for.
        weight: of the hands over what lies below them, 0..1.
        fade: frames over which they come in and go out.
        reduce: how far bones may be off for the sake of fewer keys; None keys every frame.
    """

    sides: tuple[Side, ...] = SIDES
    mirrored: bool = False
    span: tuple[int, int] | None = None
    weight: float = 1.0
    fade: int = 0
    reduce: KeyReduction | None = None


@dataclass(frozen=True)
class Retargeted:
    """What was keyed, in numbers.

    Attributes:
        frames: keyed scene frames.
        bones: keyed bones.
        notes: sentences the user should read.
        keys: that were written, and how many a key on every frame would have been.
    """

    frames: int
    bones: int
    notes: tuple[str, ...]
    keys: tuple[int, int]


def wanted_of(settings: Any) -> Wanted:
    """What the panel says is to be keyed."""
    return Wanted(
        sides=tuple(side for side in SIDES if getattr(settings, f"use_{side}")),
        mirrored=settings.mirrored,
        wrist=settings.wrist,
        fingers=settings.fingers,
        wrist_mode=settings.wrist_mode,
        palm_share=settings.palm_share,
        ik_limits=settings.ik_limits,
        into=settings.into,
        place=settings.place,
        fit=settings.fit,
        span=(settings.first, settings.last) if settings.use_range else None,
        weight=settings.weight,
        fade=settings.fade,
        reduce=bounds_of(settings),
    )


def captured_armatures(scene: Any) -> dict[Side, Any]:
    """The armature of each hand of a scene's active take, or None."""
    item = takes.active_take(scene)
    return {side: getattr(item.keying, side) if item else None for side in SIDES}


def key_onto_rig(
    target: Any, armatures: Mapping[Side, Any], rig_map: RigMap, wanted: Wanted
) -> Generator[float, None, Retargeted]:
    """Key captured hands onto a rig, in small steps; nothing is changed before the last one.

    Args:
        target: armature object of the rig.
        armatures: armature objects of the captured hands by side, as hand_rig builds them; None where there is none.
        rig_map: the rig's bones.
        wanted: what to key.

    Yields:
        The share of the work that is done, 0..1.

    Returns:
        What was keyed.

    Raises:
        SettingsError: something does not fit together; the message names what. Nothing was changed.
    """
    check_target(target, armatures.values())
    pairs = follow_hands(target, armatures, rig_map, wanted)
    captured = {side: pair.captured for side, pair in pairs.items()}
    wrists = {side: pair.rig.wrist for side, pair in pairs.items()}
    frames = choose_frames(captured.values(), wanted.span)

    notes = [note for pair in pairs.values() for note in pair.goal.notes]
    by_itself = wanted.wrist != "NONE" and _needs_stand_in(target, pairs.values(), rig_map)
    with_target = wanted.wrist != "NONE" and not by_itself
    motions = yield from sample_motion(target, captured, wrists, frames, with_target=with_target)
    for side in set(captured) - set(motions):
        notes.append(f"The {captured[side].side} hand is hidden on all these frames and was left out.")
    if not motions:
        raise SettingsError("The captured hands are hidden on all these frames, show them or choose another range.")

    rig, keyed = None, dict[Side, HandChannels]()
    for is_settled in (False, True):
        if by_itself:
            # A hand below an arm that is moved turns as that arm then lies: this is seen with the arm's keys.
            names = bones_of(target, pairs, rig_map)
            moved = {side: each.values for side, each in keyed.items()}
            rig = yield from sample_rig(target, names, frames, moved)
            motions = {side: on_rig(motion, captured[side], rig) for side, motion in motions.items()}
        for side, motion in motions.items():
            keyed[side] = hand_channels(target, pairs[side], motion, wanted, rig)
            yield 1.0
        if is_settled or not any(pairs[side].goal.is_late for side in motions):
            break
    for side, motion in motions.items():
        if rig is None or wanted.wrist != "POSITION":
            break
        places = wrist_places(pairs[side], motion)
        count = count_beyond_reach(target, rig_map.hands[side], pairs[side].goal, places, rig)
        if count:
            notes.append(f"On {count:,} frames the {side} hand is farther away than the arm of {target.name} reaches.")

    if not any(each.values for each in keyed.values()):
        raise SettingsError("Every channel of the mapped bones is locked, unlock them or map bones that can turn.")
    locked = sum(each.locked for each in keyed.values())
    if locked:
        notes.append(f"{locked} locked channels were left alone.")
    bones = {side: sorted({bone for bone, _, _ in each.values}) for side, each in keyed.items()}
    told = {pair.rig.wrist for pair in pairs.values() if pair.goal.notes}
    notes += _held_by_limits(each.held for each in keyed.values())
    notes += _flat_palms(target, [pairs[side].rig for side in keyed], wanted.palm_share)
    held = [
        bone
        for names in bones.values()
        for bone in names
        if bone and bone not in told and hides_keys(target.pose.bones[bone])
    ]
    if held:
        notes.append(
            f"Constraints act on {held[0]} and may hide its keys."
            if len(held) == 1
            else f"Constraints act on {len(held)} of the bones, such as {held[0]}, and may hide their keys."
        )
    every = {channel: values for each in keyed.values() for channel, values in each.values.items()}
    curves = yield from reduce_channels(target, every, wanted.reduce)
    values = {side: {channel: curves[channel] for channel in each.values} for side, each in keyed.items()}
    notes += rig_layer.write_layer(target, frames, values, bones, weight=wanted.weight, fade=wanted.fade)
    turned = {bone for each in keyed.values() for bone, channel, _ in each.values if not channel.startswith("[")}
    return Retargeted(len(frames), len(turned), tuple(notes), count_keys(curves, len(frames)))


def follow_hands(target: Any, armatures: Mapping[Side, Any], rig_map: RigMap, wanted: Wanted) -> dict[Side, HandPair]:
    """Each hand of a rig that shall get a captured one, with that one. For arguments and errors see key_onto_rig."""
    hands = {side: rest_hand(target, rig_map.hands[side]) for side in wanted.sides if side in rig_map.hands}
    sources = {side: other_side(side) if wanted.mirrored else side for side in hands}
    pairs = {
        side: pair_hands(hands[side], read_hand(armatures[source], source, mirrored=wanted.mirrored))
        for side, source in sources.items()
        if armatures.get(source) is not None
    }
    if not pairs:
        raise SettingsError("There is no hand to key: choose a hand that the take and the list of bones both have.")
    goals = choose_goals(target, {side: rig_map.hands[side] for side in pairs}, wanted.wrist, wanted.into)
    pairs = {side: replace(pair, goal=goals[side]) for side, pair in pairs.items()}
    if wanted.wrist == "POSITION" and wanted.place == "FIRST":
        return _anchored(target, pairs, rig_map, wanted)
    return pairs


def remove_from_rig(target: Any) -> tuple[int, str]:
    """Take the hands off a rig again; returns how many bones had keys of theirs, and a sentence about changed keys.

    Raises:
        SettingsError: there are none, or the rig cannot be changed now.
    """
    if not has_hands(target):
        raise SettingsError(f"{target.name} has no keys of captured hands.")
    check_target(target, ())
    kept = rig_layer.keep_changed_keys(target)
    return rig_layer.remove_layer(target), kept


def has_hands(target: Any) -> bool:
    """Whether a rig has keys of captured hands."""
    return rig_layer.place_of_layer(target) is not None


def check_target(target: Any, armatures: Iterable[Any]) -> None:
    """Refuse a rig that cannot get hands.

    Args:
        target: armature object of the rig.
        armatures: those of the captured hands, or None.

    Raises:
        SettingsError: it is one of these, linked, mirrored by its scale or in tweak mode.
    """
    if target in list(armatures):
        raise SettingsError(f"{target.name} is one of the captured hands, choose the armature of your character.")
    if target.library is not None:
        raise SettingsError(f"{target.name} is linked and cannot be animated, make a library override of it first.")
    if target.matrix_world.determinant() < 0.0:
        raise SettingsError(f"{target.name} is mirrored by a negative scale, apply its scale first.")
    if target.animation_data and target.animation_data.use_tweak_mode:
        raise SettingsError(f"{target.name} is in tweak mode, leave it in the NLA editor and try again.")


def _needs_stand_in(target: Any, pairs: Iterable[HandPair], rig_map: RigMap) -> bool:
    """Whether the rig has to be read without its captured hands: they move what the wrists hang on, or are moved by."""
    mapped = {bone for hand in rig_map.hands.values() for bone in (*hand.bones, *hand.metacarpals.values())}
    return any(not pair.goal.is_plain for pair in pairs) or not rig_layer.bones_of_layer(target) <= mapped


def bones_of(target: Any, pairs: Mapping[Side, HandPair], rig_map: RigMap) -> tuple[str, ...]:
    """Names of the rig's bones on which the goals of the wrists depend."""
    return bones_to_read(target, [pair.goal for pair in pairs.values()], [rig_map.hands[side] for side in pairs])


def _anchored(target: Any, pairs: Mapping[Side, HandPair], rig_map: RigMap, wanted: Wanted) -> dict[Side, HandPair]:
    """The hands with the places from which they move, those of the first frame."""
    captured = {side: pair.captured for side, pair in pairs.items()}
    wrists = {side: pair.rig.wrist for side, pair in pairs.items()}
    frames = choose_frames(captured.values(), wanted.span)
    names = bones_of(target, pairs, rig_map)
    rig = _drain(sample_rig(target, names, frames[:1]))
    motions = _drain(sample_motion(target, captured, wrists, frames[:1], with_target=False))
    if set(motions) != set(pairs):  # hidden on the first frame: what is shown first counts
        motions = _drain(sample_motion(target, captured, wrists, frames, with_target=False))
    return {
        side: replace(
            pair,
            anchor=find_anchor(
                pair,
                on_rig(motions[side], pair.captured, rig),
                shown_places(target, pair.rig.wrist, pair.goal, rig)[0],
                fit=wanted.fit,
            ),
        )
        if side in motions
        else pair
        for side, pair in pairs.items()
    }


def _flat_palms(target: Any, hands: Iterable[RestHand], share: float) -> list[str]:
    """A sentence about a rig whose palms shall be cupped and cannot be."""
    fingers = [finger for hand in hands for name, finger in hand.fingers.items() if name in CUPPING]
    if share == 0.0 or any(finger.metacarpal is not None for finger in fingers):
        return []
    return [f"The palm of {target.name} has no bones that carry ring or little finger, so it stays flat."]


def _held_by_limits(held: Iterable[Mapping[str, Array]]) -> list[str]:
    """A sentence about the bones that limits of the rig held, if they did, for bone -> [K] degrees of each hand."""
    cuts = {bone: cut for each in held for bone, cut in each.items() if cut.max(initial=0.0) > _NOTICED}
    if not cuts:
        return []
    frames = int(np.count_nonzero(np.max(list(cuts.values()), axis=0) > _NOTICED))
    worst = max(cuts, key=lambda bone: cuts[bone].max())
    most = f"{worst} by up to {cuts[worst].max():.1f} degrees"
    return [f"Limits of the rig held {len(cuts)} of its bones on {frames:,} frames, {most}."]


def _drain(steps: Generator[float, None, Result]) -> Result:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
