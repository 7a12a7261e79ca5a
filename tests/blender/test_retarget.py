"""Captured hands on rigs of every kind: where the bones point, what else stays as it was."""

import bpy
import numpy as np
import pytest
from mathutils import Matrix, Quaternion, Vector

from addon import hand_rig, keying, retarget
from dir_core import rotations
from dir_core.conventions import FINGERS, SIDES
from dir_core.errors import SettingsError
from dir_core.retargeting.rig_map import HandMap, RigMap, known_rig_maps
from tests.takes import make_take

KNOWN = {rig_map.name: rig_map for rig_map in known_rig_maps()}
COUNT = 6


def key_captured(models, count=COUNT):
    """Both captured hands with keys on frames 1 to `count`."""
    take = make_take(models, count=count)
    armatures = {}
    for side in SIDES:
        track = take.hand(side)
        hand = hand_rig.build_hand(models[side], track.shape, 1.0, bpy.context.scene.collection)
        basis, location = hand_rig.basis_pose(hand.armature, side, track.rotation, track.translation)
        names = hand_rig.bone_names(side)
        keying.key_bones(
            keying.open_place(hand.armature),
            np.arange(1, count + 1),
            rotations={bone: basis[:, joint] for joint, bone in enumerate(names)},
            locations={names[0]: location},
        )
        armatures[side] = hand.armature
    return armatures


def build_rig(rng, models, rig_map, *, mode="QUATERNION", name="Rig", matrix=None, fingers=FINGERS):
    """An armature with a body and both hands of a rig map: any rest pose, any rolls, metacarpals where it has them."""
    data = bpy.data.armatures.new(name)
    rig = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")

    def add(bone_name, head, tail, parent):
        bone = data.edit_bones.new(bone_name)
        bone.head, bone.tail, bone.roll = head, tail, rng.uniform(-3, 3)
        bone.parent = data.edit_bones[parent] if parent else None

    add("hips", (0, 0, 1), (0, 0, 1.1), None)
    add("chest", (0, 0, 1.1), (0, 0, 1.4), "hips")
    for side, sign in (("left", 1.0), ("right", -1.0)):
        hand = rig_map.hands[side]
        vectors = rng.normal(0, 0.1, (1, 16, 3))
        vectors[0, 1:] += rng.uniform(0, 0.3) * models[side].flexion_axes()
        # From the model's T pose (palm down) to an A pose.
        pose = rotations.from_rotation_vector(vectors)
        drop = rotations.from_rotation_vector(np.array([0.0, sign * rng.uniform(0, 0.9), 0.0]))
        model_to_rest = rotations.from_rotation_vector(np.array([np.pi / 2, 0, 0]))
        pose[:, 0] = rotations.multiply(rotations.multiply(drop, model_to_rest), pose[:, 0])
        points = models[side].pose_keypoints(pose, None, rng.normal(0, 1, 10))[0] + [0.6 * sign, 0, 1.2]
        add(f"forearm {side}", (0.35 * sign, 0, 1.3), points[0], "chest")
        add(hand.wrist, points[0], points[9], f"forearm {side}")
        for row, finger in enumerate(FINGERS):
            if finger not in fingers:
                continue
            chain, parent = points[4 * row + 1 : 4 * row + 5], hand.wrist
            if finger in hand.metacarpals:
                add(hand.metacarpals[finger], points[0] * 0.8 + chain[0] * 0.2, chain[0], hand.wrist)
                parent = hand.metacarpals[finger]
            for joint, bone in enumerate(hand.fingers[finger]):
                add(bone, chain[joint], chain[joint + 1], parent)
                parent = bone
    bpy.ops.object.mode_set(mode="OBJECT")
    for bone in rig.pose.bones:
        bone.rotation_mode = mode
    if matrix is not None:
        rig.matrix_world = matrix
    bpy.context.view_layer.update()
    return rig


def retarget_now(rig, armatures, rig_map, **wanted):
    """Drain the steps and return what was keyed."""
    steps = retarget.key_onto_rig(rig, armatures, rig_map, retarget.Wanted(**wanted))
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value


def direction(item, bone, end):
    """Unit vector in the world from a posed bone's head to what was at `end` [3] (armature axes) at rest."""
    pose = item.pose.bones[bone]
    turn = (item.matrix_world @ pose.matrix @ item.data.bones[bone].matrix_local.inverted()).to_3x3()
    return (turn @ (Vector(end) - item.data.bones[bone].head_local)).normalized()


def ends(item, names):
    """Where each bone of a chain ends at rest: at the next head, the last one at its tail."""
    bones = [item.data.bones[name] for name in names]
    return [*(bone.head_local for bone in bones[1:]), bones[-1].tail_local]


def worst_angle(rig, armatures, rig_map, sides=SIDES, *, seen_from_hand=False):
    """Largest angle in degrees between bones of rig and capture, over all frames."""
    worst = 0.0
    for frame in range(1, COUNT + 1):
        bpy.context.scene.frame_set(frame)
        for side in sides:
            hand, captured = rig_map.hands[side], armatures[side]
            view = palm(captured, hand_rig.bone_name("wrist", side), side) if seen_from_hand else Quaternion()
            own = palm(rig, hand.wrist, side, hand) if seen_from_hand else Quaternion()
            for finger, bones in hand.fingers.items():
                names = [hand_rig.bone_name(f"{finger}{rank}", side) for rank in (1, 2, 3)]
                for bone, end, name, source_end in zip(
                    bones, ends(rig, bones), names, ends(captured, names), strict=True
                ):
                    there = view.inverted() @ direction(captured, name, source_end)
                    here = own.inverted() @ direction(rig, bone, end)
                    worst = max(worst, np.degrees(here.angle(there)))
    return worst


def palm(item, wrist, side, hand=None):
    """World rotation of a posed palm, from the rest places of wrist and knuckles."""
    names = {
        f: hand.fingers[f][0] if hand else hand_rig.bone_name(f"{f}1", side)
        for f in FINGERS
        if not hand or f in hand.fingers
    }
    bones = item.data.bones
    own = retarget.rest.palm_rotation(
        np.array(bones[wrist].head_local), {f: np.array(bones[name].head_local) for f, name in names.items()}
    )
    turn = item.matrix_world @ item.pose.bones[wrist].matrix @ bones[wrist].matrix_local.inverted()
    return turn.to_quaternion() @ Quaternion(own)


@pytest.mark.parametrize("name", KNOWN)
def test_every_rig_points_where_the_capture_points(models, name):
    rig_map = KNOWN[name]
    if rig_map.hands["left"].wrist == rig_map.hands["right"].wrist:
        pytest.skip("one armature a hand: two of them have no place in one armature")
    rng = np.random.default_rng([*name.encode()])
    armatures = key_captured(models)
    rig = build_rig(
        rng, models, rig_map, matrix=Matrix.LocRotScale((3, 1, 0), Quaternion((1, 2, 3, 4)).normalized(), (2.5,) * 3)
    )
    found = retarget.detect(rig)
    assert found.score == 1.0
    assert {side: hand.bones for side, hand in found.rig_map.hands.items()} == {
        side: hand.bones for side, hand in rig_map.hands.items()
    }
    done = retarget_now(rig, armatures, found.rig_map, wrist="ROTATION")
    assert (done.frames, done.bones) == (COUNT, 32)
    assert worst_angle(rig, armatures, rig_map) < 0.05
