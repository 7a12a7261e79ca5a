"""The captured hands on an animator's own rig: sampled from the hand armatures, keyed on a layer of their own.

The motion is what the hand armatures show, corrections included. It is keyed on the mapped bones, in the layer that
rig_layer keeps on the rig.
"""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dir_core.conventions import SIDES, Side
from dir_core.errors import SettingsError
from dir_core.retargeting.mirror import other_side
from dir_core.retargeting.rig_map import RigMap

from . import rig_layer, takes
from .bone_channels import HandChannels, HandPair, Transfer, hand_channels, pair_hands
from .captured_hands import choose_frames, is_constrained, read_hand, sample_motion
from .target_rig import rest_hand


@dataclass(frozen=True)
class Wanted(Transfer):
    """What to key, beside what is taken over.

    Attributes:
        sides: the hands of the rig.
        mirrored: each hand of the rig does what a mirror shows of the captured hand of the other side.
        span: first and last scene frame; None is all that the hand armatures have keys for.
        weight: of the hands over what lies below them, 0..1.
        fade: frames over which they come in and go out.
    """

    sides: tuple[Side, ...] = SIDES
    mirrored: bool = False
    span: tuple[int, int] | None = None
    weight: float = 1.0
    fade: int = 0


@dataclass(frozen=True)
class Retargeted:
    """What was keyed, in numbers.

    Attributes:
        frames: keyed scene frames.
        bones: keyed bones.
        notes: sentences the user should read.
    """

    frames: int
    bones: int
    notes: tuple[str, ...]


def wanted_of(settings: Any) -> Wanted:
    """What the panel says is to be keyed."""
    return Wanted(
        sides=tuple(side for side in SIDES if getattr(settings, f"use_{side}")),
        mirrored=settings.mirrored,
        wrist=settings.wrist,
        fingers=settings.fingers,
        wrist_mode=settings.wrist_mode,
        span=(settings.first, settings.last) if settings.use_range else None,
        weight=settings.weight,
        fade=settings.fade,
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
    if wanted.wrist == "POSITION":
        _check_movable(target, wrists.values())
    frames = choose_frames(captured.values(), wanted.span)

    notes: list[str] = []
    motions = yield from sample_motion(target, captured, wrists, frames, with_target=wanted.wrist != "NONE")
    for side in set(captured) - set(motions):
        notes.append(f"The {captured[side].side} hand is hidden on all these frames and was left out.")
    if not motions:
        raise SettingsError("The captured hands are hidden on all these frames, show them or choose another range.")

    keyed: dict[Side, HandChannels] = {}
    for side, motion in motions.items():
        keyed[side] = hand_channels(target, pairs[side], motion, wanted)
        yield 1.0

    if not any(each.values for each in keyed.values()):
        raise SettingsError("Every channel of the mapped bones is locked, unlock them or map bones that can turn.")
    locked = sum(each.locked for each in keyed.values())
    if locked:
        notes.append(f"{locked} locked channels were left alone.")
    bones = {side: sorted({bone for bone, _, _ in each.values}) for side, each in keyed.items()}
    held = [bone for names in bones.values() for bone in names if is_constrained(target.pose.bones[bone])]
    if held:
        notes.append(
            f"Constraints act on {held[0]} and may hide its keys."
            if len(held) == 1
            else f"Constraints act on {len(held)} of the bones, such as {held[0]}, and may hide their keys."
        )
    values = {side: each.values for side, each in keyed.items()}
    notes += rig_layer.write_layer(target, frames, values, bones, weight=wanted.weight, fade=wanted.fade)
    return Retargeted(len(frames), sum(map(len, bones.values())), tuple(notes))


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
    return pairs


def remove_from_rig(target: Any) -> int:
    """Take the hands off a rig again; returns how many bones had keys of theirs.

    Raises:
        SettingsError: there are none, or the rig cannot be changed now.
    """
    if not has_hands(target):
        raise SettingsError(f"{target.name} has no keys of captured hands.")
    check_target(target, ())
    return rig_layer.remove_layer(target)


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


def _check_movable(target: Any, wrists: Iterable[str]) -> None:
    for name in wrists:
        bone = target.data.bones[name]
        if bone.use_connect or all(target.pose.bones[name].lock_location):
            raise SettingsError(
                f"{name} cannot be moved: key the rotation only, or map a bone that can, such as an IK hand."
            )
