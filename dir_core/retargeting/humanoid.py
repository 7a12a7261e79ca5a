"""Hands named by the humanoid of VRM: a file says itself which bone plays which role, whatever the bones are called."""

import re
from collections.abc import Mapping
from typing import Final, Literal

from dir_core.conventions import FINGERS, SIDES, Side
from dir_core.retargeting.rig_map import HandMap, RigMap

Version = Literal["0", "1"]
"""Of VRM. They name the thumb differently: what is its proximal bone in one is its metacarpal in the other."""

_JOINTS: Final = ("proximal", "intermediate", "distal")
_THUMB_JOINTS: Final[dict[Version, tuple[str, str, str]]] = {"0": _JOINTS, "1": ("metacarpal", "proximal", "distal")}
_FINGERS: Final = {**{finger: finger for finger in FINGERS}, "pinky": "little"}

_HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def humanoid_map(bones: Mapping[str, str], version: Version) -> RigMap:
    """The hands of a humanoid.

    Args:
        bones: role -> bone, the roles as VRM writes them ("leftThumbProximal") or with words parted by lines
            ("left_thumb_proximal"). Roles without a bone may be missing or empty.
        version: of VRM.
    """
    roles = {_HUMP.sub("_", role).lower(): bone for role, bone in bones.items() if bone}
    hands: dict[Side, HandMap] = {}
    for side in SIDES:
        chains: dict[str, tuple[str, ...]] = {}
        for finger, name in _FINGERS.items():
            joints = _THUMB_JOINTS[version] if finger == "thumb" else _JOINTS
            chain = tuple(roles[role] for joint in joints if (role := f"{side}_{name}_{joint}") in roles)
            chains |= {finger: chain} if chain else {}
        hand = HandMap(roles.get(f"{side}_hand", ""), chains)
        if hand.bones and len(set(hand.bones)) == len(hand.bones):
            hands[side] = hand
    return RigMap(f"VRM {version} Humanoid", hands)
