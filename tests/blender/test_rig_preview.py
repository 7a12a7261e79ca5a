"""The preview on the rig: it shows what keying gives, makes nothing, and always leaves the rig as it was."""

import bpy
import numpy as np
import pytest

from addon import registration, rig_preview, shown_pose, target_rig
from dir_core.conventions import SIDES
from tests.blender.test_retarget import COUNT, body_action, mixamo, worst_angle

INDEX = "mixamorig:LeftHandIndex2"


@pytest.fixture
def scene(models):
    """A registered add-on, a take's row with both captured hands, and a rig that is chosen."""
    registration.register()
    settings = bpy.context.scene.two_hands
    rig, armatures, _ = mixamo(models)
    item = settings.takes.add()
    item.uid = "take"
    item.keying.left, item.keying.right = armatures["left"], armatures["right"]
    settings.retarget.target = rig
    yield settings.retarget
    registration.unregister()


def pose_of(rig):
    """Every value of every pose bone and of the object, and its custom properties."""
    channels = ("location", "rotation_quaternion", "rotation_euler", "rotation_axis_angle", "scale", "rotation_mode")
    values = {
        (bone.name, channel): value if isinstance(value := getattr(bone, channel), str) else tuple(value)
        for bone in rig.pose.bones
        for channel in channels
    }
    return values | {"object": tuple(map(tuple, rig.matrix_basis)), "properties": sorted(rig.keys())}


def pose_at_random(rig, seed=8):
    """A pose that the user has made and not keyed."""
    rng = np.random.default_rng(seed)
    for bone in rig.pose.bones:
        bone.rotation_quaternion = rng.normal(size=4)
        bone.location = rng.normal(0.0, 0.01, 3) if not bone.bone.use_connect else (0, 0, 0)
    bpy.context.view_layer.update()


def captured(settings):
    item = bpy.context.scene.two_hands.takes[0]
    return {side: getattr(item.keying, side) for side in SIDES}


@pytest.mark.parametrize("wrist", ["NONE", "ROTATION", "POSITION"])
@pytest.mark.parametrize("moving", [False, True])
def test_each_frame_shows_what_keying_gives(scene, wrist, moving):
    rig, scene.wrist = scene.target, wrist
    if moving:
        body_action(rig, ["hips", "chest", "forearm left", INDEX])
    scene.preview = True
    shown = {}
    for frame in (5, 1, 3, COUNT):
        bpy.context.scene.frame_set(frame)
        shown[frame] = {bone.name: np.array(bone.matrix) for bone in rig.pose.bones}
    assert rig_preview.problem() == ""
    assert bpy.ops.hands.key_onto_rig() == {"FINISHED"}
    assert not scene.preview
    for frame, poses in shown.items():
        bpy.context.scene.frame_set(frame)
        for bone in rig.pose.bones:
            np.testing.assert_allclose(np.array(bone.matrix), poses[bone.name], atol=2e-5, err_msg=bone.name)


def test_it_makes_nothing_and_leaves_the_rig_as_it_was(scene):
    rig = scene.target
    pose_at_random(rig)
    before, actions = pose_of(rig), len(bpy.data.actions)
    scene.preview = True
    assert pose_of(rig) != before
    armatures, rig_map = captured(scene), target_rig.read_map(scene)
    assert worst_angle(rig, armatures, rig_map, seen_from_hand=True) < 0.05
    assert rig.animation_data is None
    assert len(bpy.data.actions) == actions
    scene.preview = False
    assert pose_of(rig) == before


def test_settings_are_followed(scene):
    scene.preview = True
    bpy.context.scene.frame_set(3)
    rig = scene.target
    own = tuple(rig.pose.bones["mixamorig:RightHandIndex2"].rotation_quaternion)
    scene.use_right = False
    assert rig_preview._look() is not None
    assert tuple(rig.pose.bones["mixamorig:RightHandIndex2"].rotation_quaternion) == (1, 0, 0, 0)
    scene.use_right = True
    scene.bones["Left Index 2"].bone = ""
    rig_preview._look()
    assert tuple(rig.pose.bones["mixamorig:RightHandIndex2"].rotation_quaternion) == own
    assert tuple(rig.pose.bones[INDEX].rotation_quaternion) == (1, 0, 0, 0)
    scene.weight = 0.0
    rig_preview._look()
    assert not list(shown_pose.showing())
    scene.weight = 1.0
    scene.use_range, scene.first, scene.last, scene.fade = True, 1, 5, 2
    rig_preview._look()
    middle = tuple(rig.pose.bones["mixamorig:RightHandIndex2"].rotation_quaternion)
    assert middle == own
    bpy.context.scene.frame_set(6)
    assert not list(shown_pose.showing())
    bpy.context.scene.frame_set(2)
    assert 1.0 - rig.pose.bones["mixamorig:RightHandIndex2"].rotation_quaternion.w > 0.0
    target, scene.target = scene.target, None
    assert not list(shown_pose.showing())
    assert tuple(target.pose.bones[INDEX].rotation_quaternion) == (1, 0, 0, 0)
