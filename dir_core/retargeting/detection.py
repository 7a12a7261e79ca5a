"""Which bones of a rig are its hands': by a known rig's names, by names, or by shape."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from dir_core.conventions import FINGERS, SIDES, Side
from dir_core.retargeting.bone_words import plain_name
from dir_core.retargeting.names import FEWEST_FINGERS, hands_by_name
from dir_core.retargeting.rest import LONGEST_CHAIN
from dir_core.retargeting.rig_map import HandMap, RigMap
from dir_core.retargeting.skeleton import Bone
from dir_core.retargeting.topology import hands_by_shape, likely_side

_WHOLE_HAND: Final = 1 + LONGEST_CHAIN * len(FINGERS)


@dataclass(frozen=True)
class Detection:
    """What was found.

    Attributes:
        rig_map: the bones, with the name of the known rig, or of the way they were found.
        score: share of a whole pair of hands (wrist and three bones per finger, 0..1) that was found.
    """

    rig_map: RigMap
    score: float


NOTHING: Final = Detection(RigMap("No Hands Found", {}), 0.0)


def detect_hands(bones: Sequence[Bone], known: Sequence[RigMap]) -> Detection:
    """Find the hands of a rig.

    A known rig wins if it names every bone of the hands; else what the names say, and for names that say nothing the
    shape, which needs the places of all bones.

    Args:
        bones: of the rig.
        known: rig maps, those to be preferred first.
    """
    fitting = [fit_map(rig_map, bones) for rig_map in known]
    # Of those that name most bones the known rigs come first, in their order: max takes the first of equals.
    best = max([*fitting, _from_names(bones)], key=_count_bones)
    if not best.hands and all(bone.head is not None for bone in bones):
        best = RigMap("By Shape", hands_by_shape(bones))
    if not best.hands:
        return NOTHING
    count, _ = _count_bones(best)
    return Detection(best, count / (_WHOLE_HAND * len(SIDES)))


def fit_map(rig_map: RigMap, bones: Sequence[Bone]) -> RigMap:
    """A rig map with the bones as this rig writes them, without those it does not have.

    Namespaces and case do not matter. Hands of fewer than three fingers are left out. Where both hands have the same
    names, the rig is one hand, and its side is told by its shape.
    """
    present = {plain_name(bone.name): bone.name for bone in reversed(bones)} | {bone.name: bone.name for bone in bones}

    def find(name: str) -> str:
        return present.get(name, "") or present.get(plain_name(name), "")

    hands: dict[Side, HandMap] = {}
    for side, hand in rig_map.hands.items():
        chains = {finger: tuple(filter(None, map(find, names))) for finger, names in hand.fingers.items()}
        fingers = {finger: chain for finger, chain in chains.items() if chain}
        metacarpals = {finger: bone for finger, name in hand.metacarpals.items() if (bone := find(name))}
        if sum(len(chain) > 1 for chain in fingers.values()) >= FEWEST_FINGERS:
            hands[side] = HandMap(find(hand.wrist), fingers, metacarpals)
    if len(hands) > 1 and hands["left"] == hands["right"]:
        hands = {_side_of(hands["left"], bones): hands["left"]}
    return replace(rig_map, hands=hands)


def _from_names(bones: Sequence[Bone]) -> RigMap:
    found = hands_by_name(bones)
    hands = {side: hand for side, hand in found.items() if side is not None}
    if not hands and None in found:
        hands = {_side_of(found[None], bones): found[None]}
    return RigMap("By Names", hands)


def _side_of(hand: HandMap, bones: Sequence[Bone]) -> Side:
    """The side of a hand whose names do not tell it; the right one where nothing is known."""
    places = {bone.name: bone.head for bone in bones if bone.head is not None}
    if not all(name in places for name in hand.bones):
        return "right"
    fingers = {finger: np.array([places[name] for name in chain]) for finger, chain in hand.fingers.items()}
    wrist = places.get(hand.wrist, np.mean([chain[0] for chain in fingers.values()], axis=0))
    return likely_side(wrist, fingers)


def _count_bones(rig_map: RigMap) -> tuple[int, int]:
    """Turned bones and metacarpals that a map names."""
    hands = rig_map.hands.values()
    return sum(len(hand.bones) for hand in hands), sum(len(hand.metacarpals) for hand in hands)
