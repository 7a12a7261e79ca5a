"""The preview on the rig: it shows what keying gives, makes nothing, and always leaves the rig as it was."""

import bpy
import numpy as np
import pytest

from addon import registration
from addon.retargeting import rig_preview, shown_pose, target_rig
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


def test_wrists_follow_the_arms_that_the_user_poses(scene):
    rig = scene.target
    scene.wrist = "ROTATION"
    scene.preview = True
    bpy.context.scene.frame_set(3)
    wrist = rig.pose.bones["mixamorig:LeftHand"]
    seen, key = np.array(wrist.matrix.to_3x3()), tuple(wrist.rotation_quaternion)
    rig.pose.bones["forearm left"].rotation_quaternion = (0.9, 0.1, 0.3, 0.2)
    rig_preview._look()
    bpy.context.view_layer.update()
    assert tuple(wrist.rotation_quaternion) != key
    np.testing.assert_allclose(np.array(wrist.matrix.to_3x3()), seen, atol=1e-5)
    captured(scene)["left"].rotation_euler.z += 0.5
    rig_preview._look()
    bpy.context.view_layer.update()
    assert np.abs(np.array(wrist.matrix.to_3x3()) - seen).max() > 0.1


def test_what_the_user_poses_meanwhile_stays(scene):
    rig = scene.target
    scene.preview = True
    bpy.context.scene.frame_set(2)
    finger = rig.pose.bones[INDEX]
    finger.rotation_quaternion = own = (0.5, 0.5, -0.5, 0.5)
    scene.weight = 0.5
    rig_preview._look()
    assert tuple(finger.rotation_quaternion) == own  # the user is at it
    assert tuple(rig.pose.bones["mixamorig:LeftHandIndex1"].rotation_quaternion) != (1, 0, 0, 0)
    scene.weight = 1.0
    bpy.context.scene.frame_set(3)
    assert tuple(finger.rotation_quaternion) != own
    scene.preview = False
    assert tuple(finger.rotation_quaternion) == own
    assert tuple(rig.pose.bones["mixamorig:LeftHandIndex1"].rotation_quaternion) == (1, 0, 0, 0)


def test_keys_that_the_user_sets_meanwhile_stay(scene):
    rig = scene.target
    scene.preview = True
    bpy.context.scene.frame_set(2)
    finger = rig.pose.bones[INDEX]
    seen = tuple(finger.rotation_quaternion)
    finger.keyframe_insert("rotation_quaternion", frame=2)
    bpy.context.scene.frame_set(4)
    assert tuple(finger.rotation_quaternion) != seen
    scene.preview = False
    for frame in (2, 5):
        bpy.context.scene.frame_set(frame)
        np.testing.assert_allclose(finger.rotation_quaternion, seen, atol=1e-6)


def test_automatic_keys_are_not_made(scene):
    bpy.context.scene.tool_settings.use_keyframe_insert_auto = True
    scene.preview = True
    bpy.context.scene.frame_set(3)
    scene.preview = False
    assert scene.target.animation_data is None


def test_an_animated_rig_is_as_its_action_says_when_the_preview_ends(scene):
    rig = scene.target
    body = body_action(rig, ["hips", INDEX, "mixamorig:RightHandThumb1"])
    bpy.context.scene.frame_set(4)
    expected = pose_of(rig)
    bpy.context.scene.frame_set(1)
    scene.preview = True
    bpy.context.scene.frame_set(4)
    scene.preview = False
    assert pose_of(rig) == expected
    assert rig.animation_data.action == body.action


def test_another_rotation_mode_does_not_keep_the_preview(scene):
    rig = scene.target
    finger = rig.pose.bones[INDEX]
    finger.rotation_mode = "ZXY"
    finger.rotation_euler = (0.1, 0.2, 0.3)
    finger.rotation_mode = "XYZ"
    expected = pose_of(rig)
    finger.rotation_mode = "ZXY"
    scene.preview = True
    bpy.context.scene.frame_set(3)
    finger.rotation_mode = "XYZ"
    scene.preview = False
    np.testing.assert_allclose(finger.rotation_euler, expected[INDEX, "rotation_euler"], atol=1e-6)
    assert finger.rotation_mode == "XYZ"
    assert not list(rig.keys())


def opened_without_addon(path):
    """The pose of the rig in a file, as a Blender without the add-on finds it."""
    registration.unregister()
    bpy.ops.wm.open_mainfile(filepath=str(path))
    pose = pose_of(bpy.data.objects["Rig"])
    registration.register()
    return pose


def test_a_saved_file_has_the_rigs_own_pose(scene, tmp_path):
    rig = scene.target
    pose_at_random(rig)
    before = pose_of(rig)
    scene.preview = True
    bpy.context.scene.frame_set(4)
    shown = pose_of(rig)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    assert pose_of(rig) == shown
    assert opened_without_addon(tmp_path / "shot.blend") == before


def test_a_recovered_file_gets_the_rigs_own_pose_back(scene, tmp_path):
    rig = scene.target
    pose_at_random(rig)
    before = pose_of(rig)
    scene.preview = True
    bpy.context.scene.frame_set(4)
    # Autosaves and files of a Blender that crashed are written without a word to add-ons.
    bpy.app.handlers.save_pre.remove(rig_preview._before_save)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "auto.blend"))
    bpy.app.handlers.save_pre.append(rig_preview._before_save)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "auto.blend"))
    assert not bpy.context.scene.two_hands.retarget.preview
    assert pose_of(bpy.data.objects["Rig"]) == before


def test_undo_and_redo_carry_both_poses(scene):
    rig = scene.target
    pose_at_random(rig)
    before = pose_of(rig)
    bpy.ops.ed.undo_push(message="before")
    scene.preview = True
    bpy.ops.ed.undo_push(message="preview")
    bpy.context.scene.frame_set(4)
    shown = pose_of(rig)
    bpy.context.scene["marker"] = 1
    bpy.ops.ed.undo_push(message="something at frame 4")
    bpy.context.scene.frame_set(2)
    bpy.context.scene["marker"] = 2
    bpy.ops.ed.undo_push(message="something at frame 2")
    bpy.ops.ed.undo()
    assert (bpy.context.scene["marker"], bpy.context.scene.frame_current) == (1, 4)
    assert pose_of(bpy.data.objects["Rig"]) == shown
    bpy.ops.ed.undo()
    bpy.ops.ed.undo()
    assert not bpy.context.scene.two_hands.retarget.preview
    assert pose_of(bpy.data.objects["Rig"]) == before
    bpy.ops.ed.redo()
    bpy.ops.ed.redo()
    assert bpy.context.scene.two_hands.retarget.preview
    assert pose_of(bpy.data.objects["Rig"]) == shown
    bpy.context.scene.two_hands.retarget.preview = False
    assert pose_of(bpy.data.objects["Rig"]) == before


def test_renders_see_the_rigs_own_pose(scene):
    rig = scene.target
    pose_at_random(rig)
    before, seen = pose_of(rig), []
    scene.preview = True
    bpy.context.scene.frame_set(4)
    shown = pose_of(rig)
    view = bpy.context.scene
    view.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    view.render.engine = "BLENDER_WORKBENCH"
    view.render.resolution_x = view.render.resolution_y = 8
    view.frame_start, view.frame_end = 3, 4

    def look(*_):
        seen.append(pose_of(rig))

    bpy.app.handlers.render_pre.append(look)
    bpy.ops.render.render()
    bpy.app.handlers.render_pre.remove(look)
    assert seen == [before]
    assert pose_of(rig) == shown


def test_edit_mode_and_leaving_the_scene_end_it(scene):
    rig = scene.target
    pose_at_random(rig)
    before = pose_of(rig)
    scene.preview = True
    bpy.context.scene.frame_set(4)
    shown = pose_of(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    rig_preview._look()
    assert pose_of(rig) == before
    bpy.ops.object.mode_set(mode="POSE")
    rig_preview._look()
    assert pose_of(rig) == shown
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.context.scene.collection.objects.unlink(rig)
    rig_preview._look()
    assert pose_of(rig) == before
    bpy.context.scene.collection.objects.link(rig)
    rig_preview._look()
    assert pose_of(rig) == shown
    bpy.data.objects.remove(rig)
    assert rig_preview._look() is not None
    bpy.context.scene.frame_set(3)


def test_a_copy_of_the_rig_gets_its_own_pose_back(scene):
    rig = scene.target
    pose_at_random(rig)
    before = pose_of(rig)
    scene.preview = True
    bpy.context.scene.frame_set(4)
    copy = rig.copy()
    bpy.context.scene.collection.objects.link(copy)
    assert pose_of(copy) != before
    scene.preview = False
    assert pose_of(copy) == pose_of(rig) == before


def test_the_addon_can_go_meanwhile(scene):
    rig = scene.target
    pose_at_random(rig)
    before = pose_of(rig)
    scene.preview = True
    bpy.context.scene.frame_set(4)
    registration.unregister()
    assert pose_of(rig) == before
    registration.register()


def test_what_cannot_work_is_told_and_comes_back(scene):
    rig = scene.target
    hands = captured(scene)
    scene.preview = True
    bpy.context.scene.frame_set(3)
    scene.bones["Left Wrist"].bone = ""
    rig_preview._look()
    assert "has no wrist in the list" in rig_preview.problem()
    assert not list(shown_pose.showing())
    scene.bones["Left Wrist"].bone = "mixamorig:LeftHand"
    rig_preview._look()
    assert rig_preview.problem() == ""
    assert list(shown_pose.showing()) == [rig]
    for hand in hands.values():
        hand.hide_viewport = True
    bpy.context.scene.frame_set(2)
    assert list(shown_pose.showing()) == [rig]  # hidden in a gap: as it was seen last
    scene.preview = False
    scene.preview = True
    assert "hidden" in rig_preview.problem()


def test_an_export_holds_what_is_keyed_and_not_the_preview(scene, tmp_path):
    rig = scene.target
    settings = bpy.context.scene.two_hands.export
    settings.content, settings.format, settings.range = "RIG", "BVH", "SCENE"
    bpy.context.scene.frame_start, bpy.context.scene.frame_end = 1, COUNT
    assert bpy.ops.hands.export(filepath=str(tmp_path / "rest.bvh")) == {"FINISHED"}
    scene.preview = True
    previewed = pose_of(rig)
    assert bpy.ops.hands.export(filepath=str(tmp_path / "previewed.bvh")) == {"FINISHED"}
    assert (tmp_path / "previewed.bvh").read_text() == (tmp_path / "rest.bvh").read_text()
    assert pose_of(rig) == previewed
    assert bpy.ops.hands.key_onto_rig() == {"FINISHED"}
    assert bpy.ops.hands.export(filepath=str(tmp_path / "keyed.bvh")) == {"FINISHED"}
    assert (tmp_path / "keyed.bvh").read_text() != (tmp_path / "rest.bvh").read_text()


def test_keying_sees_the_rig_as_it_is_and_failing_brings_the_preview_back(scene):
    rig = scene.target
    scene.wrist = "ROTATION"
    scene.preview = True
    bpy.context.scene.frame_set(3)
    shown = pose_of(rig)
    scene.use_range, scene.first, scene.last = True, 9, 3
    with pytest.raises(RuntimeError, match="ends on frame 3"):
        bpy.ops.hands.key_onto_rig()
    scene.use_range = False
    rig_preview._look()
    assert pose_of(rig) == shown
    with rig_preview.put_away():
        assert not list(shown_pose.showing())
        bpy.context.scene.frame_set(4)
        assert not list(shown_pose.showing())
    assert list(shown_pose.showing()) == [rig]


def test_mirrored_is_previewed_as_it_is_keyed(scene):
    rig = scene.target
    scene.mirrored = scene.preview = True
    bpy.context.scene.frame_set(3)
    shown = {bone.name: np.array(bone.matrix) for bone in rig.pose.bones}
    bpy.ops.hands.key_onto_rig()
    bpy.context.scene.frame_set(3)
    for bone in rig.pose.bones:
        np.testing.assert_allclose(np.array(bone.matrix), shown[bone.name], atol=2e-5, err_msg=bone.name)
