"""The captured hands on real rigs, as their makers ship them: found, keyed, and pointing where the capture points."""

from itertools import pairwise

import addon_utils
import bpy
import numpy as np
import pytest
from mathutils import Vector

from addon import hand_rig
from addon.retargeting import retarget, target_rig
from dir_core.conventions import FINGERS, SIDES
from dir_core.retargeting.detection import detect_hands
from dir_core.retargeting.skeleton import Bone
from tests.blender import rigs
from tests.blender.test_retarget import COUNT, key_captured, palm, retarget_now

CLOSE = {finger: 8.0 if finger == "thumb" else 3.0 for finger in FINGERS}
"""Degrees by which a fingertip's direction may differ from the captured one."""


def fingertip(item, bone):
    """Direction of a posed last bone in the world: to what lies ahead of it on the skeleton at rest, or of its tail.

    Measured on the rig alone, whatever the add-on takes for the finger's end.
    """
    rest = item.data.bones[bone]
    end = rest.children[0].head_local if rest.children else rest.tail_local
    named = item.data.bones.get(bone.replace("phalanx-distal", "tip"))
    if named is not None and named != rest:
        end = named.head_local
    turn = (item.matrix_world @ item.pose.bones[bone].matrix @ rest.matrix_local.inverted()).to_3x3()
    return (turn @ (Vector(end) - rest.head_local)).normalized()


def worst_fingertips(rig, armatures, hands):
    """Finger -> largest angle in degrees to the captured fingertip, seen from the hand, on all frames."""
    worst = dict.fromkeys(FINGERS, 0.0)
    for frame in range(1, COUNT + 1):
        bpy.context.scene.frame_set(frame)
        for side, hand in hands.items():
            captured = armatures[side]
            view = palm(captured, hand_rig.bone_name("wrist", side), side).inverted()
            own = palm(rig, hand.wrist, side, hand).inverted()
            for finger, bones in hand.fingers.items():
                there = view @ fingertip(captured, hand_rig.bone_name(f"{finger}3", side))
                angle = np.degrees((own @ fingertip(rig, bones[-1])).angle(there))
                worst[finger] = max(worst[finger], angle)
    return worst


def assert_close(angles):
    assert {finger for finger, angle in angles.items() if angle > CLOSE[finger]} == set(), angles


def index_curls(rig, hand):
    """Degrees by which the end of the index turns within the hand, from the first frame to the last."""
    seen = []
    for frame in (1, COUNT):
        bpy.context.scene.frame_set(frame)
        wrist, last = (rig.pose.bones[name] for name in (hand.wrist, hand.fingers["index"][-1]))
        seen.append((wrist.matrix.inverted() @ last.matrix).to_quaternion())
    return np.degrees(seen[0].rotation_difference(seen[1]).angle)


@pytest.mark.parametrize("wrist", ["NONE", "ROTATION"])
@pytest.mark.parametrize("name", rigs.MAKEHUMAN)
def test_makehuman_characters_point_as_the_capture(models, name, wrist):
    rig, armatures = rigs.build_makehuman(name), key_captured(models)
    found = target_rig.detect(rig)
    expected = {"default": "MakeHuman and MPFB Default", "game_engine": "Unreal Engine 4 Mannequin", "mixamo": "Mixamo"}
    assert (found.rig_map.name, found.score) == (expected[name], 1.0)
    for side, hand in found.rig_map.hands.items():
        sign = 1 if side == "left" else -1  # it looks along -y: its left is where x is positive
        assert all(sign * rig.data.bones[bone].head_local.x > 0 for bone in hand.bones)
    done = retarget_now(rig, armatures, found.rig_map, wrist=wrist)
    assert (done.bones, done.notes) == (30 if wrist == "NONE" else 32, ())
    assert all(index_curls(rig, hand) > 45 for hand in found.rig_map.hands.values())
    assert_close(worst_fingertips(rig, armatures, found.rig_map.hands))


@pytest.mark.parametrize("wrist", ["NONE", "ROTATION", "POSITION"])
def test_webxr_hands_stay_in_one_piece(models, wrist):
    """Their bones carry nothing: each one has to be moved, those in the palm and the ends of the fingers as well."""
    armatures = key_captured(models)
    for side in SIDES:
        rig = rigs.import_webxr(side)
        found = target_rig.detect(rig)
        assert (found.rig_map.name, set(found.rig_map.hands)) == ("WebXR Hand", {side})
        done = retarget_now(rig, armatures, found.rig_map, wrist=wrist)
        assert (done.bones, done.notes) == (24 if wrist == "NONE" else 25, ())
        hand = found.rig_map.hands[side]
        assert index_curls(rig, hand) > 45
        assert_close(worst_fingertips(rig, armatures, found.rig_map.hands))
        links = [(hand.wrist, bone) for bone in (*hand.metacarpals.values(), hand.fingers["thumb"][0])]
        for finger, chain in hand.fingers.items():
            links += pairwise(chain)
            links.append((chain[-1], chain[-1].replace("phalanx-distal", "tip")))
            if finger in hand.metacarpals:
                links.append((hand.metacarpals[finger], chain[0]))
        assert len(links) == 24
        for frame in (1, 3, 5):
            bpy.context.scene.frame_set(frame)
            for above, below in links:
                rest = (rig.data.bones[below].head_local - rig.data.bones[above].head_local).length
                posed = (rig.pose.bones[below].head - rig.pose.bones[above].head).length
                assert posed == pytest.approx(rest, abs=1e-5)
            if wrist == "POSITION":
                there = (
                    armatures[side].matrix_world @ armatures[side].pose.bones[hand_rig.bone_name("wrist", side)].head
                )
                assert (rig.matrix_world @ rig.pose.bones[hand.wrist].head - there).length < 1e-5


def test_webxr_hands_are_taken_off_again(models):
    rig, armatures = rigs.import_webxr("left"), key_captured(models)
    retarget_now(rig, armatures, target_rig.detect(rig).rig_map, wrist="POSITION")
    retarget.remove_from_rig(rig)
    bpy.context.scene.frame_set(3)
    for bone in rig.pose.bones:
        assert (bone.matrix.translation - bone.bone.head_local).length < 1e-6


@pytest.mark.parametrize("name", rigs.MAKEHUMAN)
def test_makehuman_hands_are_found_by_their_shape_alone(name):
    rig = rigs.build_makehuman(name)
    found = target_rig.detect(rig).rig_map.hands
    bones = target_rig.rig_bones(rig)
    numbers = {bone.name: f"bone {number}" for number, bone in enumerate(bones)}
    nameless = [Bone(numbers[bone.name], numbers.get(bone.parent, ""), bone.head) for bone in bones]
    by_shape = detect_hands(nameless, ()).rig_map
    assert by_shape.name == "By Shape"
    for side, hand in by_shape.hands.items():
        assert hand.bones == tuple(numbers[bone] for bone in found[side].bones)
        assert hand.metacarpals == {finger: numbers[bone] for finger, bone in found[side].metacarpals.items()}


def flat_copy(rig, name, *, under):
    """A rig's hand whose joints all hang on one bone: on the wrist, or as the wrist does on a root."""
    data = bpy.data.armatures.new(name)
    copy = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(copy)
    bpy.context.view_layer.objects.active = copy
    bpy.ops.object.mode_set(mode="EDIT")
    root = data.edit_bones.new("root")
    root.head, root.tail = (0, 0, 0), (0, 0.05, 0)
    for bone in rig.data.bones:
        new = data.edit_bones.new(bone.name)
        new.head, new.tail = bone.head_local, bone.tail_local
    for bone in data.edit_bones:
        if bone != root:
            bone.parent = data.edit_bones["wrist"] if under == "wrist" and bone.name != "wrist" else root
    bpy.ops.object.mode_set(mode="OBJECT")
    return copy


@pytest.mark.parametrize("under", ["wrist", "root"])
def test_joints_that_lie_side_by_side_are_moved_each(models, under):
    armatures = key_captured(models)
    rig = flat_copy(rigs.import_webxr("left"), "Flat", under=under)
    keyed = rig.pose.bones["root"]
    keyed.location = (0.1, 0.2, 0.3)
    keyed.rotation_mode = "XYZ"
    keyed.rotation_euler = (0.4, 0.5, 0.6)
    found = target_rig.detect(rig)
    retarget_now(rig, armatures, found.rig_map, wrist="POSITION")
    assert_close(worst_fingertips(rig, armatures, found.rig_map.hands))
    chain = found.rig_map.hands["left"].fingers["ring"]
    for frame in (1, 4):
        bpy.context.scene.frame_set(frame)
        for above, below in pairwise(chain):
            rest = (rig.data.bones[below].head_local - rig.data.bones[above].head_local).length
            assert (rig.pose.bones[below].head - rig.pose.bones[above].head).length == pytest.approx(rest, abs=1e-5)


@pytest.mark.parametrize("animal", ["basic_quadruped", "bird", "cat", "horse", "shark", "wolf"])
def test_paws_and_wings_are_no_hands(animal):
    """Rigify's animals have toes with the names of fingers, and paws with the shape of hands."""
    addon_utils.enable("rigify", default_set=True)
    getattr(bpy.ops.object, f"armature_{animal}_metarig_add")()
    assert len(bpy.context.object.data.bones) > 30
    assert target_rig.detect(bpy.context.object).score == 0.0
