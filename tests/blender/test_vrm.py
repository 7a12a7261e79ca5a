"""Rigs of the VRM add-on: its humanoid block says which bone is which, whatever they are called."""

import bpy
import numpy as np
import pytest

from addon.retargeting import target_rig, vrm
from dir_core.conventions import FINGERS, SIDES
from dir_core.retargeting.rig_map import HandMap, RigMap, save_rig_map
from tests.blender.test_retarget import KNOWN, build_rig, key_captured, retarget_now, worst_angle

ROLES = {"0": KNOWN["VRM 0.x"], "1": KNOWN["VRM 1.0"]}


def renamed(rng, version):
    """A map of bones without a meaning, and role -> bone."""
    count, roles, hands = iter(rng.permutation(1000)), {}, {}
    for side in SIDES:
        names = {role: f"n{next(count)}" for role in ROLES[version].hands[side].bones}
        hand = ROLES[version].hands[side]
        chains = {finger: tuple(names[role] for role in hand.fingers[finger]) for finger in FINGERS}
        hands[side] = HandMap(names[hand.wrist], chains)
        roles |= names
    return RigMap("x", hands), roles


def snake(role):
    """A role of VRM as the VRM add-on names its property."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in role)


@pytest.fixture
def block():
    """The property groups of the VRM add-on, as far as hands need them; gone afterwards."""

    def group(name, **fields):
        kind = type(name, (bpy.types.PropertyGroup,), {"__annotations__": fields})
        bpy.utils.register_class(kind)
        kinds.append(kind)
        return kind

    kinds = []
    node = group("VrmTestNode", bone_name=bpy.props.StringProperty())
    first = group("VrmTestFirst", bone=bpy.props.StringProperty(), node=bpy.props.PointerProperty(type=node))
    second = group("VrmTestSecond", node=bpy.props.PointerProperty(type=node))
    names = [snake(role) for hand in ROLES["1"].hands.values() for role in hand.bones]
    human_bones = group("VrmTestHumanBones", **{name: bpy.props.PointerProperty(type=second) for name in names})
    humanoid_0 = group("VrmTestHumanoid0", human_bones=bpy.props.CollectionProperty(type=first))
    humanoid_1 = group("VrmTestHumanoid1", human_bones=bpy.props.PointerProperty(type=human_bones))
    vrm_0 = group("VrmTestVrm0", humanoid=bpy.props.PointerProperty(type=humanoid_0))
    vrm_1 = group("VrmTestVrm1", humanoid=bpy.props.PointerProperty(type=humanoid_1))
    versions = [("0.0", "VRM 0.0", "", 0), ("1.0", "VRM 1.0", "", 1)]
    extension = group(
        "VrmTestExtension",
        vrm0=bpy.props.PointerProperty(type=vrm_0),
        vrm1=bpy.props.PointerProperty(type=vrm_1),
        spec_version=bpy.props.EnumProperty(items=versions),
    )
    bpy.types.Armature.vrm_addon_extension = bpy.props.PointerProperty(type=extension)
    yield
    del bpy.types.Armature.vrm_addon_extension
    for kind in reversed(kinds):
        bpy.utils.unregister_class(kind)


def fill(extension, version, roles):
    """Write the roles into a registered block."""
    extension.spec_version = f"{version}.0"
    if version == "0":
        for role, bone in roles.items():
            entry = extension.vrm0.humanoid.human_bones.add()
            entry.bone, entry.node.bone_name = role, bone
    else:
        for role, bone in roles.items():
            getattr(extension.vrm1.humanoid.human_bones, snake(role)).node.bone_name = bone


@pytest.mark.parametrize("version", ["0", "1"])
def test_the_block_beats_the_names(models, block, version):
    rng = np.random.default_rng(2)
    rig_map, roles = renamed(rng, version)
    rig = build_rig(rng, models, rig_map)
    fill(rig.data.vrm_addon_extension, version, roles)
    # Roles of the other version may be filled with something else; the rig says which of them counts.
    fill(rig.data.vrm_addon_extension, "1" if version == "0" else "0", {"leftHand": "hips"})
    rig.data.vrm_addon_extension.spec_version = f"{version}.0"
    found = target_rig.detect(rig)
    assert (found.rig_map.name, found.score) == (f"VRM {version} Humanoid", 1.0)
    assert dict(found.rig_map.hands) == dict(rig_map.hands)
    armatures = key_captured(models)
    retarget_now(rig, armatures, found.rig_map, wrist="ROTATION")
    assert worst_angle(rig, armatures, rig_map) < 0.05


def test_a_map_of_the_users_own_beats_the_block(models, block, tmp_path, monkeypatch):
    rig_map = KNOWN["Mixamo"]
    rig = build_rig(np.random.default_rng(2), models, rig_map)
    hand = ROLES["1"].hands["left"]
    fill(rig.data.vrm_addon_extension, "1", {"leftHand": rig_map.hands["left"].wrist})
    assert target_rig.detect(rig).rig_map.name == "Mixamo"  # a block without fingers has nothing to say
    fill(rig.data.vrm_addon_extension, "1", dict(zip(hand.bones, rig_map.hands["left"].bones, strict=True)))
    assert target_rig.detect(rig).rig_map.name == "VRM 1 Humanoid"
    monkeypatch.setattr(target_rig, "user_map_folder", lambda: tmp_path)
    save_rig_map(RigMap("Mine", rig_map.hands), tmp_path / "Mine.json")
    assert target_rig.detect(rig).rig_map.name == "Mine"


def raw_block(rig, version, roles, *, refer):
    """What is left of the block in a file while the add-on is not enabled: custom properties."""
    if version == "0":
        entries = [{"bone": role, "node": refer(rig, bone)} for role, bone in roles.items()]
        return {"spec_version": 0, "vrm0": {"humanoid": {"human_bones": entries}}}
    bones = {snake(role): {"node": refer(rig, bone)} for role, bone in roles.items()}
    return {"spec_version": 1, "vrm1": {"humanoid": {"human_bones": bones}}}


def by_name(_rig, bone):
    """A reference as some versions write it."""
    return {"bone_name": bone}


def by_mark(rig, bone):
    """A reference by a mark that the bone bears."""
    mark = f"mark of {bone}"
    rig.data.bones[bone]["vrm_addon_extension"] = {"uuid": mark}
    return {"bone_uuid": mark}


@pytest.mark.parametrize("refer", [by_name, by_mark])
@pytest.mark.parametrize("version", ["0", "1"])
def test_a_block_without_its_add_on_is_read_as_well(models, version, refer):
    rng = np.random.default_rng(3)
    rig_map, roles = renamed(rng, version)
    rig = build_rig(rng, models, rig_map)
    rig.data["vrm_addon_extension"] = raw_block(rig, version, roles, refer=refer)
    found = target_rig.detect(rig)
    assert (found.rig_map.name, found.score) == (f"VRM {version} Humanoid", 1.0)
    assert dict(found.rig_map.hands) == dict(rig_map.hands)


@pytest.mark.parametrize(
    "odd",
    [
        5,
        "text",
        {"vrm1": 3},
        {"vrm1": {"humanoid": {"human_bones": [1, 2]}}},
        {"vrm0": {"humanoid": {"human_bones": {"a": "b"}}}},
        {"vrm0": {"humanoid": {"human_bones": [{"bone": 3}, {"bone": "leftHand", "node": 4}]}}, "spec_version": "x"},
        {"vrm1": {"humanoid": {"human_bones": {"left_hand": {"node": {"bone_name": "nowhere"}}}}}, "spec_version": 1},
        {"vrm1": {"humanoid": {"human_bones": {"left_hand": {"node": {"bone_uuid": ""}}}}}},
    ],
)
def test_odd_blocks_say_nothing(models, odd):
    rig = build_rig(np.random.default_rng(3), models, KNOWN["Mixamo"])
    rig.data["vrm_addon_extension"] = odd
    assert vrm.read_humanoid(rig) is None
    assert target_rig.detect(rig).rig_map.name == "Mixamo"
