"""The rig that gets the hands: which of its bones are a hand's, as a list to correct, and how these rest."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from dir_core.conventions import FINGERS, SIDES
from dir_core.errors import SettingsError
from dir_core.retargeting.detection import Detection, detect_hands, share_of_hands
from dir_core.retargeting.rest import LONGEST_CHAIN, RestBone, RestFinger, RestHand
from dir_core.retargeting.rig_map import ArmSwitch, HandMap, RigMap, known_rig_maps, load_rig_map
from dir_core.retargeting.skeleton import Bone

from .. import log
from ..properties import listen_to_target
from . import arms
from .bone_poses import rotations_at_rest
from .calibration_rows import read_row, show_calibration
from .loose_bones import is_loose, loose_end
from .vrm import read_humanoid

_USERS: Final = 100  # preference of the user's own rig maps
_WRIST: Final = "wrist"

_NO_SWITCH: Final = ArmSwitch("", "", 0.0, 1.0)

_STRAIGHT: Final = np.cos(np.radians(45.0))
"""Cosine up to which the end of a finger's last bone is believed: rigs from game engines have tails that lie across."""


def detect(target: Any) -> Detection:
    """Find the hands of an armature object: by the humanoid that it says it is, else by maps, names or shape.

    The maps that the user saved come before all of that, and those of the project come last.

    Raises:
        SettingsError: a rig map of the installation is damaged.
    """
    bones, users, humanoid = rig_bones(target), _user_maps(), read_humanoid(target)
    found = detect_hands(bones, (*users, *known_rig_maps()))
    if humanoid is not None and found.rig_map.name not in {rig_map.name for rig_map in users}:
        found = Detection(humanoid, share_of_hands(humanoid))
    return replace(found, rig_map=with_arms(target, found.rig_map))


def with_arms(target: Any, rig_map: RigMap) -> RigMap:
    """A rig map with what the rig itself tells of the arms above its hands."""
    return replace(rig_map, hands={side: arms.with_arm(target, hand) for side, hand in rig_map.hands.items()})


def rig_bones(target: Any) -> list[Bone]:
    """The bones of an armature object at rest, as detection reads them."""
    return [
        Bone(bone.name, bone.parent.name if bone.parent else "", np.array(bone.head_local))
        for bone in target.data.bones
    ]


def user_map_folder() -> Path:
    """Where rig maps of the user's own are looked for."""
    return log.user_folder("rig_maps")


def show_map(settings: Any, rig_map: RigMap) -> None:
    """Write a rig map into the list of the panel: every joint has a row, also where the rig has no bone for it."""
    settings.rig_name, settings.note = rig_map.name, rig_map.note
    settings.bones.clear()
    for side in SIDES:
        hand = rig_map.hands.get(side, HandMap("", {}))
        for joint in (_WRIST, *(f"{finger}{rank}" for finger in FINGERS for rank in range(1, LONGEST_CHAIN + 1))):
            row = settings.bones.add()
            row.side, row.joint = side, joint
            row.name = (
                f"{side.title()} {joint.title()}"
                if joint == _WRIST
                else f"{side.title()} {joint[:-1].title()} {joint[-1]}"
            )
            row.bone = _bone_of(hand, joint)
        arm, switch = getattr(settings, f"arm_{side}"), hand.switch or _NO_SWITCH
        arm.ik, arm.switch_bone, arm.switch = hand.ik, switch.bone, switch.name
        arm.switch_fk, arm.switch_ik = switch.fk, switch.ik
    settings.metacarpals.clear()
    for side in SIDES:
        for finger in FINGERS:
            row = settings.metacarpals.add()
            row.side, row.joint, row.name = side, finger, f"{side.title()} {finger.title()} Palm"
            row.bone = rig_map.hands[side].metacarpals.get(finger, "") if side in rig_map.hands else ""
    show_calibration(settings, rig_map)


def read_map(settings: Any) -> RigMap:
    """The rig map that the list of the panel shows, with the user's corrections.

    Raises:
        SettingsError: a bone is named twice.
    """
    hands = {}
    for side in SIDES:
        rows = {row.joint: row.bone for row in settings.bones if row.side == side and row.bone}
        chains = {
            finger: tuple(rows[joint] for rank in range(1, LONGEST_CHAIN + 1) if (joint := f"{finger}{rank}") in rows)
            for finger in FINGERS
        }
        arm = getattr(settings, f"arm_{side}")
        switch = ArmSwitch(arm.switch_bone, arm.switch, arm.switch_fk, arm.switch_ik) if arm.switch else None
        hand = HandMap(
            rows.get(_WRIST, ""), {finger: chain for finger, chain in chains.items() if chain}, ik=arm.ik, switch=switch
        )
        palm = {row.joint: row.bone for row in settings.metacarpals if row.side == side and row.bone}
        made = {row.finger: read_row(row, chains[row.finger]) for row in settings.calibration if row.side == side}
        calibration = {finger: each for finger, each in made.items() if each is not None and finger in hand.fingers}
        hand = replace(hand, metacarpals=palm, calibration=calibration)
        if hand.bones:
            hands[side] = hand
    names = [bone for hand in hands.values() for bone in (*hand.bones, *hand.metacarpals.values())]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise SettingsError(f"The bone {twice} is in the list twice, give each joint its own bone.")
    return RigMap(settings.rig_name, hands, settings.note)


def rest_hand(target: Any, hand: HandMap) -> RestHand:
    """The mapped bones of an armature object at rest, in its axes.

    Raises:
        SettingsError: the wrist is not mapped, or the rig does not have a bone of the map.
    """
    if not hand.wrist:
        bone = hand.bones[0]
        raise SettingsError(f"The hand with the bone {bone} has no wrist in the list, choose the bone it hangs on.")
    missing = [name for name in hand.bones if name not in target.data.bones]
    if missing:
        raise SettingsError(f"{target.name} has no bone {missing[0]}, correct the list or detect the bones again.")
    fingers = {}
    for finger, names in hand.fingers.items():
        bones = [target.data.bones[name] for name in names]
        places = np.array([*(bone.head_local for bone in bones), _end(bones)], np.float64)
        fingers[finger] = RestFinger(
            names,
            places,
            rotations_at_rest(bones),
            _carrying(target.data.bones.get(hand.metacarpals.get(finger, "")), bones[0]),
            hand.calibration.get(finger),
        )
    wrist = target.data.bones[hand.wrist]
    return RestHand(hand.wrist, np.array(wrist.head_local, np.float64), rotations_at_rest([wrist])[0], fingers)


def _carrying(metacarpal: Any, first: Any) -> RestBone | None:
    """The bone in the palm, as long as the finger that begins with the bone `first` goes along when it is turned."""
    if metacarpal is None or not (metacarpal in first.parent_recursive or is_loose(first, metacarpal)):
        return None
    return RestBone(metacarpal.name, rotations_at_rest([metacarpal])[0])


def _user_maps() -> list[RigMap]:
    maps = []
    for path in sorted(user_map_folder().glob("*.json")):
        try:
            maps.append(replace(load_rig_map(path), preference=_USERS))
        except SettingsError as error:
            log.LOGGER.warning("%s", error)
    return maps


def _bone_of(hand: HandMap, joint: str) -> str:
    if joint == _WRIST:
        return hand.wrist
    chain = hand.fingers.get(joint[:-1], ())
    rank = int(joint[-1])
    return chain[rank - 1] if rank <= len(chain) else ""


def _end(bones: Sequence[Any]) -> Any:
    """Where a finger ends: at the bone below the last one or its tail, as long as that lies ahead, else straight on."""
    last = bones[-1]
    head = np.array(last.head_local, np.float64)
    before = np.array(bones[-2].head_local if len(bones) > 1 else last.parent.head_local if last.parent else head)
    ahead = head - before
    beside = loose_end(last, bones[-2]) if len(bones) > 1 else None
    below = [*last.children, *([beside] if beside else [])]
    ends = [np.array(bone.head_local, np.float64) for bone in below] + [np.array(last.tail_local, np.float64)]
    for end in ends:
        lengths = np.linalg.norm(end - head) * np.linalg.norm(ahead)
        if lengths > 0 and (end - head) @ ahead > _STRAIGHT * lengths:
            return end
    return head + ahead if ahead.any() else ends[-1]


def _on_target(scene: Any) -> None:
    """Another rig was chosen: show its bones."""
    settings = scene.two_hands.retarget
    if settings.target is None:
        for rows in (settings.bones, settings.metacarpals, settings.calibration):
            rows.clear()
        settings.rig_name = settings.note = ""
    else:
        show_map(settings, detect(settings.target).rig_map)


def register() -> None:
    """Detect the bones of each rig that is chosen."""
    listen_to_target(_on_target)
