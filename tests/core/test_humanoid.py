"""Hands from the roles of VRM's humanoid."""

import pytest

from dir_core.conventions import FINGERS, SIDES
from dir_core.retargeting.humanoid import humanoid_map
from dir_core.retargeting.rig_map import known_rig_maps

KNOWN = {rig_map.name: rig_map for rig_map in known_rig_maps()}


def roles_of(name):
    """Every role of the hands, as the map of that VRM names them."""
    hands = KNOWN[name].hands.values()
    return [bone for hand in hands for bone in hand.bones]


@pytest.mark.parametrize(("version", "name"), [("0", "VRM 0.x"), ("1", "VRM 1.0")])
def test_roles_lead_to_bones_of_any_name(version, name):
    bones = {role: f"b{row}" for row, role in enumerate(roles_of(name))}
    found = humanoid_map(bones, version)
    for side in SIDES:
        known, hand = KNOWN[name].hands[side], found.hands[side]
        assert hand.wrist == bones[known.wrist]
        for finger in FINGERS:
            assert hand.fingers[finger] == tuple(bones[role] for role in known.fingers[finger])


def test_words_may_be_parted_by_lines():
    bones = {"left_hand": "w", "left_thumb_metacarpal": "a", "left_thumb_proximal": "b", "left_little_distal": "c"}
    hand = humanoid_map(bones, "1").hands["left"]
    assert (hand.wrist, dict(hand.fingers)) == ("w", {"thumb": ("a", "b"), "pinky": ("c",)})


def test_the_thumb_of_vrm_0_has_no_metacarpal():
    bones = {"leftThumbMetacarpal": "a", "leftThumbProximal": "b", "leftThumbIntermediate": "c", "leftThumbDistal": "d"}
    assert humanoid_map(bones, "0").hands["left"].fingers["thumb"] == ("b", "c", "d")
    assert humanoid_map(bones, "1").hands["left"].fingers["thumb"] == ("a", "b", "d")


def test_empty_roles_and_bones_with_two_roles_name_no_hand():
    assert humanoid_map({}, "1").hands == {}
    assert humanoid_map({"leftHand": "", "leftIndexProximal": ""}, "0").hands == {}
    both = {"leftHand": "a", "leftIndexProximal": "a", "rightHand": "b", "rightIndexProximal": "c"}
    assert list(humanoid_map(both, "0").hands) == ["right"]
