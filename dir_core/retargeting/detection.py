"""Which bones of a rig are its hands': by a known rig's names, by names, or by shape."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from dir_core.conventions import FINGERS, SIDES, Side
from dir_core.retargeting.bone_words import is_foot, plain_name
from dir_core.retargeting.names import FEWEST_FINGERS, hands_by_name
from dir_core.retargeting.rest import LONGEST_CHAIN
from dir_core.retargeting.rig_map import HandMap, RigMap
from dir_core.retargeting.skeleton import Bone, bones_above
from dir_core.retargeting.topology import hands_by_shape, likely_side

_WHOLE_HAND: Final = 1 + LONGEST_CHAIN * len(FINGERS)
_COUNTED: Final = re.compile(r"_\d+$")
_MOSTLY: Final = 0.9  # share of the bones with a number behind that makes it a file's own
_TOE_DEPTH: Final = 4  # bones between a toe and what is called a foot; farther above, the name may mean the floor
_LAST: Final = -100  # preference of names that no known rig has: a known rig that fits as well says more


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
        known: rig maps.
    """
    given = {bare: bone.name for bone, bare in zip(bones, _without_counters(bones), strict=True)}
    bare_names = {name: bare for bare, name in given.items()}
    bones = [
        replace(bone, name=bare, parent=bare_names.get(bone.parent, ""))
        for bare, bone in zip(given, bones, strict=True)
    ]
    bones = _without_toes(bones)
    fitting = [(fit_map(rig_map, bones), rig_map) for rig_map in known]
    by_name = _from_names(bones)
    best, _ = max([*fitting, (by_name, by_name)], key=lambda each: _rank(*each))
    if not best.hands and all(bone.head is not None for bone in bones):
        best = RigMap("By Shape", hands_by_shape(bones))
    if not best.hands:
        return NOTHING
    hands = {side: _renamed(hand, given) for side, hand in best.hands.items()}
    return Detection(replace(best, hands=hands), share_of_hands(best))


def share_of_hands(rig_map: RigMap) -> float:
    """How much of a whole pair of hands a map has, 0..1."""
    return _count_bones(rig_map) / (_WHOLE_HAND * len(SIDES))


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
            switch = replace(hand.switch, bone=bone) if hand.switch and (bone := find(hand.switch.bone)) else None
            # A finger with fewer bones is another one.
            calibration = {
                finger: each
                for finger, each in hand.calibration.items()
                if len(fingers.get(finger, ())) == len(hand.fingers[finger])
            }
            hands[side] = HandMap(find(hand.wrist), fingers, metacarpals, find(hand.ik), switch, calibration)
    if len(hands) > 1 and hands["left"] == hands["right"]:
        hands = {_side_of(hands["left"], bones): hands["left"]}
    return replace(rig_map, hands=hands)


def _without_toes(bones: Sequence[Bone]) -> list[Bone]:
    """Bones that no foot or leg carries: toes are named as fingers are, and those of animals lie as fingers do."""
    above = bones_above(bones)
    return [bone for bone in bones if not any(map(is_foot, (bone.name, *above[bone.name][:_TOE_DEPTH])))]


def _without_counters(bones: Sequence[Bone]) -> list[str]:
    """The bones' names without the number that some converters put behind each of them; as they are in other files."""
    names = [bone.name for bone in bones]
    numbers = [found[0] for name in names if (found := _COUNTED.search(name))]
    bare = [_COUNTED.sub("", name) for name in names]
    is_counted = len(set(numbers)) == len(numbers) > max(_MOSTLY * len(names), _WHOLE_HAND)
    return bare if is_counted and len(set(bare)) == len(bare) else names


def _renamed(hand: HandMap, names: Mapping[str, str]) -> HandMap:
    return HandMap(
        names.get(hand.wrist, ""),
        {finger: tuple(names[bone] for bone in chain) for finger, chain in hand.fingers.items()},
        {finger: names[bone] for finger, bone in hand.metacarpals.items()},
        names.get(hand.ik, ""),
        replace(hand.switch, bone=names[hand.switch.bone]) if hand.switch else None,
        hand.calibration,
    )


def _from_names(bones: Sequence[Bone]) -> RigMap:
    found = hands_by_name(bones)
    hands = {side: hand for side, hand in found.items() if side is not None}
    if not hands and None in found:
        hands = {_side_of(found[None], bones): found[None]}
    return RigMap("By Names", hands, preference=_LAST)


def _side_of(hand: HandMap, bones: Sequence[Bone]) -> Side:
    """The side of a hand whose names do not tell it; the right one where nothing is known."""
    places = {bone.name: bone.head for bone in bones if bone.head is not None}
    if not all(name in places for name in hand.bones):
        return "right"
    fingers = {finger: np.array([places[name] for name in chain]) for finger, chain in hand.fingers.items()}
    wrist = places.get(hand.wrist, np.mean([chain[0] for chain in fingers.values()], axis=0))
    return likely_side(wrist, fingers)


def _rank(fitted: RigMap, whole: RigMap) -> tuple[int, ...]:
    """Sorts maps by what a rig has of them: most bones, then what is made to be animated, then what is most alike."""
    names = {bone for hand in whole.hands.values() for bone in hand.bones}
    alike = sum(bone in names for hand in fitted.hands.values() for bone in hand.bones)
    found, wanted = (sum(len(hand.metacarpals) for hand in each.hands.values()) for each in (fitted, whole))
    return _count_bones(fitted), fitted.preference, alike, found - wanted, found


def _count_bones(rig_map: RigMap) -> int:
    return sum(len(hand.bones) for hand in rig_map.hands.values())
