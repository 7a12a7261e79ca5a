"""Mirrored: a rig does what a mirror in its own middle plane shows of the captured hands."""

import bpy
import numpy as np
import pytest
from mathutils import Matrix, Quaternion, Vector

from addon import hand_rig
from addon.retargeting import rig_layer
from dir_core.conventions import FINGERS, SIDES
from dir_core.errors import SettingsError
from dir_core.retargeting.mirror import other_side
from tests.blender.test_retarget import COUNT, KNOWN, body_action, build_rig, key_captured, retarget_now

RIG_MAP = KNOWN["Mixamo"]
MIRROR = Matrix.Diagonal((-1.0, 1.0, 1.0))


def symmetric_rig(models, **options):
    """A rig whose right half is the mirror image of its left one."""
    rig = build_rig(np.random.default_rng(5), models, RIG_MAP, **options)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    bones = rig.data.edit_bones
    for name in [bone.name for bone in bones if "left" in bone.name.lower()]:
        left = bones[name]
        right = bones[name.replace("Left", "Right").replace("left", "right")]
        right.head, right.tail = MIRROR @ left.head, MIRROR @ left.tail
        right.align_roll(MIRROR @ left.z_axis)
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.context.view_layer.update()
    return rig


def seen_from_rig(rig, armature, bone, end):
    """Direction, in the rig's axes, from a captured bone's head to what was at `end` (armature axes) at rest."""
    pose, rest = armature.pose.bones[bone], armature.data.bones[bone]
    turn = (rig.matrix_world.inverted() @ armature.matrix_world @ pose.matrix @ rest.matrix_local.inverted()).to_3x3()
    return (turn @ (Vector(end) - rest.head_local)).normalized()


def chain_ends(armature, names):
    bones = [armature.data.bones[name] for name in names]
    return [*(bone.head_local for bone in bones[1:]), bones[-1].tail_local]


def worst_reflected_angle(rig, armatures, sides=SIDES):
    """Largest angle in degrees between bones of the rig and the reflected captured ones, over all frames."""
    worst = 0.0
    for frame in range(1, COUNT + 1):
        bpy.context.scene.frame_set(frame)
        for side in sides:
            source = other_side(side)
            for finger in FINGERS:
                names = RIG_MAP.hands[side].fingers[finger]
                captured = [hand_rig.bone_name(f"{finger}{rank}", source) for rank in (1, 2, 3)]
                ends = zip(chain_ends(rig, names), chain_ends(armatures[source], captured), strict=True)
                for name, other, (end, other_end) in zip(names, captured, ends, strict=True):
                    here = seen_from_rig(rig, rig, name, end)
                    there = MIRROR @ seen_from_rig(rig, armatures[source], other, other_end)
                    worst = max(worst, np.degrees(2.0 * np.arcsin(min(1.0, (here - there).length / 2.0))))
    return worst


MATRIX = Matrix.LocRotScale((3, 1, 0), Quaternion((1, 2, 3, 4)).normalized(), (2.5,) * 3)


def test_a_symmetric_rig_points_where_the_reflected_capture_points(models):
    rig, armatures = symmetric_rig(models, matrix=MATRIX), key_captured(models)
    body_action(rig, ["hips", "chest", "forearm left"])
    done = retarget_now(rig, armatures, RIG_MAP, mirrored=True, wrist="ROTATION")
    assert (done.frames, done.bones, done.notes) == (COUNT, 32, ())
    assert worst_reflected_angle(rig, armatures) < 0.01


def test_wrists_go_to_the_reflected_places(models):
    rig, armatures = symmetric_rig(models, matrix=MATRIX), key_captured(models)
    retarget_now(rig, armatures, RIG_MAP, mirrored=True, wrist="POSITION")
    for frame in (1, 4, COUNT):
        bpy.context.scene.frame_set(frame)
        to_rig = rig.matrix_world.inverted()
        for side in SIDES:
            captured = armatures[other_side(side)]
            wrist = captured.pose.bones[hand_rig.bone_name("wrist", other_side(side))].head
            there = MIRROR @ (to_rig @ captured.matrix_world @ wrist)
            assert (rig.pose.bones[RIG_MAP.hands[side].wrist].head - there).length < 2e-5
    assert worst_reflected_angle(rig, armatures) < 0.01


@pytest.mark.parametrize("wrist_mode", ["match", "delta"])
@pytest.mark.parametrize("fingers", ["directions", "angles"])
def test_mirrored_hands_are_the_mirror_image_of_unmirrored_ones(models, fingers, wrist_mode):
    options = {"fingers": fingers, "wrist_mode": wrist_mode, "wrist": "ROTATION"}
    rig, armatures = symmetric_rig(models, matrix=MATRIX), key_captured(models)
    poses = {}
    for mirrored in (False, True):
        retarget_now(rig, armatures, RIG_MAP, mirrored=mirrored, **options)
        bpy.context.scene.frame_set(3)
        poses[mirrored] = {
            (side, finger, row): rig.pose.bones[name].matrix.to_3x3()
            for side in SIDES
            for finger, names in {"wrist": (RIG_MAP.hands[side].wrist,), **RIG_MAP.hands[side].fingers}.items()
            for row, name in enumerate(names)
        }
    for (side, *bone), pose in poses[True].items():
        # Bones of a symmetric rig are mirrored along their own x axis as well.
        expected = MIRROR @ poses[False][other_side(side), *bone] @ MIRROR
        assert np.degrees(pose.to_quaternion().rotation_difference(expected.to_quaternion()).angle) < 0.05


def test_one_performance_goes_to_the_other_hand_alone(models):
    rig, armatures = symmetric_rig(models), key_captured(models)
    done = retarget_now(rig, {"left": armatures["left"], "right": None}, RIG_MAP, mirrored=True, wrist="ROTATION")
    assert done.bones == 16
    keyed = {curve.data_path for curve in rig_layer.place_of_layer(rig).curves}
    assert all("Right" in path for path in keyed)
    assert worst_reflected_angle(rig, armatures, ("right",)) < 0.01
    with pytest.raises(SettingsError, match="no hand to key"):
        retarget_now(rig, {"left": armatures["left"]}, RIG_MAP, mirrored=True, sides=("left",))


def test_the_hand_that_is_hidden_is_named_by_who_performed(models):
    rig, armatures = symmetric_rig(models), key_captured(models)
    armatures["right"].hide_viewport = True
    done = retarget_now(rig, armatures, RIG_MAP, mirrored=True)
    assert done.notes == ("The right hand is hidden on all these frames and was left out.",)
    assert all("Right" in curve.data_path for curve in rig_layer.place_of_layer(rig).curves)


def test_fingers_keep_their_angles(models):
    rig, armatures = symmetric_rig(models), key_captured(models)
    retarget_now(rig, armatures, RIG_MAP, mirrored=True, fingers="angles")
    bpy.context.scene.frame_set(2)
    for side in SIDES:
        source = other_side(side)
        for finger, bones in RIG_MAP.hands[side].fingers.items():
            for rank, bone in enumerate(bones, 1):
                captured = armatures[source].pose.bones[hand_rig.bone_name(f"{finger}{rank}", source)]
                assert abs(rig.pose.bones[bone].rotation_quaternion.w) == pytest.approx(
                    abs(captured.rotation_quaternion.w), abs=1e-6
                )
