"""Keys are where and what they should be, in every Action layout."""

import bpy
import numpy as np
import pytest

from addon import hand_rig, keying
from addon.scene import CONFIDENCE_PROPERTY, build_scene
from dir_core import rotations
from tests.takes import make_take


def curve(armature, path, index=0):
    return next(each for each in keying.curves_of(armature) if each.data_path == path and each.array_index == index)


def keys(fcurve):
    points = np.empty(2 * len(fcurve.keyframe_points), np.float32)
    fcurve.keyframe_points.foreach_get("co", points)
    return points.reshape(-1, 2)


def build(models, **options):
    take = make_take(models, **options)
    bpy.context.scene.render.fps = 30
    return take, build_scene(take, models, bpy.context.scene)


def test_one_action_with_a_slot_per_armature_or_one_action_each(models):
    _, built = build(models)
    armatures = [hand.armature for hand in built.hands.values()]
    if keying.HAS_SLOTS:
        (action,) = built.actions
        assert {slot.identifier for slot in action.slots} == {"OB" + armature.name for armature in armatures}
        assert all(armature.animation_data.action_slot in action.slots[:] for armature in armatures)
    else:
        assert len(built.actions) == 2
    for armature in armatures:
        assert armature.animation_data.action in built.actions
        assert len(list(keying.curves_of(armature))) == 16 * 4 + 3 + 1


def test_every_frame_has_one_key_with_the_takes_value(models):
    take, built = build(models, count=40)
    hand = built.hands["left"]
    basis, location = hand_rig.basis_pose(hand.armature, "left", take.left.rotation, take.left.translation)
    wrist = keys(curve(hand.armature, 'pose.bones["wrist.L"].location', 2))
    np.testing.assert_allclose(wrist[:, 0], np.arange(1, 41))
    np.testing.assert_allclose(wrist[:, 1], location[:, 2], atol=1e-6)
    bone = np.stack(
        [keys(curve(hand.armature, 'pose.bones["ring2.L"].rotation_quaternion', k))[:, 1] for k in range(4)], 1
    )
    assert rotations.angle_between(bone.astype(float), basis[:, 11]).max() < 1e-5


def test_curves_are_grouped_by_bone(models):
    _, built = build(models, count=3)
    armature = built.hands["right"].armature
    for each in keying.curves_of(armature):
        constant = CONFIDENCE_PROPERTY in each.data_path
        assert each.group.name == ("Capture" if constant else each.data_path.split('"')[1])


def test_quaternion_curves_never_jump_to_the_other_half_sphere(models):
    armature = build(models, count=2)[1].hands["left"].armature
    turn = rotations.from_rotation_vector(np.linspace(0, 12, 60)[:, None] * np.array([0.0, 0.0, 1.0]))
    flipped = turn * np.where(np.arange(60) % 3 == 0, -1.0, 1.0)[:, None]
    keying.key_bones(
        keying.place_of(armature),
        np.arange(60),
        rotations={"index1.L": flipped},
    )
    path = 'pose.bones["index1.L"].rotation_quaternion'
    keyed = np.stack([keys(curve(armature, path, k))[:, 1] for k in range(4)], 1)
    assert np.sum(keyed[1:] * keyed[:-1], axis=1).min() > 0.9


def test_between_the_keys_the_hand_moves_as_it_did(models):
    """Every second frame of a 60 fps take is keyed; the frames left out are the truth, straight lines the measure.

    Without the first and the last interval, where auto-clamped curves ease in and out.
    """
    truth = make_take(models, count=47, rate=60.0)
    keyed = make_take(models, count=24, rate=30.0)
    bpy.context.scene.render.fps = 30
    armature = build_scene(keyed, models, bpy.context.scene).hands["left"].armature
    basis, _ = hand_rig.basis_pose(armature, "left", truth.left.rotation, truth.left.translation)
    errors, straight = [], []
    for index in range(3, 44, 2):
        bpy.context.scene.frame_set(1 + index // 2, subframe=0.5)
        bones = armature.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones
        for joint, name in enumerate(hand_rig.bone_names("left")):
            between = np.array(bones[name].matrix_basis.to_quaternion())
            errors.append(rotations.angle_between(between, basis[index, joint]))
            line = basis[index - 1, joint] + basis[index + 1, joint]
            straight.append(rotations.angle_between(line / np.linalg.norm(line), basis[index, joint]))
    rms, rms_straight = (np.sqrt(np.mean(np.square(each))) for each in (errors, straight))
    assert rms < 0.5 * rms_straight
    assert max(errors) <= max(straight) * 1.05
    assert rms < np.radians(0.2)


def test_a_held_hand_stays_still_between_its_keys(models):
    _, built = build(models, count=2)
    armature = built.hands["left"].armature
    held = np.array([[0.1, 0, 0], [0.3, 0, 0], [0.3, 0, 0], [0.3, 0, 0], [0.6, 0, 0]])
    keying.key_bones(
        keying.place_of(armature),
        np.arange(5),
        locations={"wrist.L": held},
    )
    location = curve(armature, 'pose.bones["wrist.L"].location')
    assert [location.evaluate(frame) for frame in (1.25, 1.5, 2.5, 2.75)] == pytest.approx([0.3] * 4, abs=1e-6)
    assert all(0.1 <= location.evaluate(frame) <= 0.6 for frame in np.arange(0, 4, 0.1))


def test_the_users_key_preferences_do_not_change_the_motion(models):
    edit = bpy.context.preferences.edit
    edit.keyframe_new_interpolation_type, edit.keyframe_new_handle_type = "LINEAR", "VECTOR"
    try:
        _, built = build(models, count=3)
    finally:
        edit.keyframe_new_interpolation_type, edit.keyframe_new_handle_type = "BEZIER", "AUTO_CLAMPED"
    for each in keying.curves_of(built.hands["left"].armature):
        kinds = {
            (point.interpolation, point.handle_left_type, point.handle_right_type) for point in each.keyframe_points
        }
        constant = CONFIDENCE_PROPERTY in each.data_path
        assert kinds == {("CONSTANT" if constant else "BEZIER", "AUTO_CLAMPED", "AUTO_CLAMPED")}


def test_keying_again_replaces_the_keys(models):
    take, built = build(models, count=10)
    armature = built.hands["left"].armature
    action = armature.animation_data.action
    keying.key_bones(
        keying.place_of(armature),
        np.arange(4) + 100.0,
        rotations={"index1.L": take.left.rotation[:4, 1]},
    )
    assert armature.animation_data.action == action
    assert len(list(keying.curves_of(armature))) == 16 * 4 + 3 + 1
    np.testing.assert_array_equal(
        keys(curve(armature, 'pose.bones["index1.L"].rotation_quaternion'))[:, 0], [100, 101, 102, 103]
    )


def test_unseen_frames_have_no_confidence_and_are_drawn_as_breakdowns(models):
    seen = np.array([True, True, False, False, True])
    _, built = build(models, count=5, observed=seen)
    armature = built.hands["right"].armature
    np.testing.assert_allclose(
        keys(curve(armature, f'["{CONFIDENCE_PROPERTY}"]'))[:, 1], np.where(seen, 0.9, 0.0), atol=1e-6
    )
    wrist = curve(armature, 'pose.bones["wrist.R"].location')
    assert [point.type == "KEYFRAME" for point in wrist.keyframe_points] == seen.tolist()
    bpy.context.scene.frame_set(4)
    assert armature.evaluated_get(bpy.context.evaluated_depsgraph_get())[CONFIDENCE_PROPERTY] == 0.0
    bpy.context.scene.frame_set(5)
    assert armature.evaluated_get(bpy.context.evaluated_depsgraph_get())[CONFIDENCE_PROPERTY] == pytest.approx(0.9)


def test_variable_rate_times_land_on_time(models):
    times = np.cumsum([0.0, 0.033, 0.041, 0.029, 0.25, 0.0335])
    _, built = build(models, count=6, times=times)
    np.testing.assert_allclose(built.frames, np.round(1 + times * 30, 4))
    wrist = keys(curve(built.hands["left"].armature, 'pose.bones["wrist.L"].location'))
    np.testing.assert_allclose(wrist[:, 0], 1 + times * 30, atol=1e-3)


@pytest.mark.parametrize(("clip", "scene"), [(29.97002997, 24.0), (60.0, 24.0), (24.0, 60.0), (25.0, 25.0)])
def test_keys_stay_in_sync_over_an_hour_in_any_scene_rate(clip, scene):
    index = np.array([0, 1, 1000, 107_892])
    frames = keying.frames_from_times(index / clip, 1, scene)
    np.testing.assert_allclose((frames - 1) / scene, index / clip, atol=1e-4 / scene)


def test_time_stamps_in_whole_milliseconds_come_out_on_whole_frames():
    stamps = np.round(np.arange(300) / 30, 3)
    np.testing.assert_array_equal(keying.frames_from_times(stamps, 1, 30), np.arange(1, 301))


def test_high_speed_footage_keeps_every_key():
    frames = keying.frames_from_times(np.arange(100) / 2400, 1, 24)
    assert np.all(np.diff(frames) > 0)


def test_a_take_of_one_frame_is_keyed(models):
    _, built = build(models, count=1)
    assert built.frames.tolist() == [1.0]
    assert built.sentence(24) == (
        "Keyed 1 frame on scene frames 1 to 1 at 24 fps; left hand seen in 1, right hand seen in 1."
    )
