"""Fewer keys in Blender: what its F-curves give between them is the take's motion within the bound."""

import json
from itertools import pairwise

import bpy
import numpy as np
import pytest
from mathutils import Quaternion

from addon import hand_rig, keying
from addon.scene import CONFIDENCE_PROPERTY, build_scene
from dir_core import rotations
from dir_core.clean_up.key_reduction import KeyReduction, reduce_position_keys, reduce_rotation_keys, sample_curve
from dir_core.conventions import SIDES
from tests.takes import make_take

ANGLE_OF_FLOAT32 = np.radians(0.002)
LENGTH_OF_FLOAT32 = 1e-6


def build(take, models, reduce=None, start=1, fps=30):
    bpy.context.scene.render.fps = fps
    return build_scene(take, models, bpy.context.scene, start=start, reduce=reduce)


def channel(armature, bone, name):
    path = f'pose.bones["{bone}"].{name}'
    return sorted((each for each in keying.curves_of(armature) if each.data_path == path), key=lambda c: c.array_index)


def keyed_frames(fcurve):
    return [point.co.x for point in fcurve.keyframe_points]


def evaluate(fcurves, frames):
    return np.array([[curve.evaluate(frame) for curve in fcurves] for frame in frames])


def between_frames(frames):
    """Ten samples per frame of the take."""
    return np.interp(np.arange(10 * len(frames) - 9) / 10, np.arange(len(frames)), frames)


def slerp_between_frames(turns):
    """The frames of a take joined by Blender's own slerp, at ten samples per frame."""
    quaternions = [Quaternion(turn) for turn in turns]
    sampled = [one.slerp(other, share / 10) for one, other in pairwise(quaternions) for share in range(10)]
    return np.array([*sampled, quaternions[-1]], float)


def fast_hands(models, count=90, **options):
    """Both hands making a fist and opening it faster than twice a second, the frames unevenly spaced."""
    times = np.cumsum(np.random.default_rng(3).uniform(0.02, 0.045, count)) * 0.6
    return make_take(models, count=count, times=times, **options)


@pytest.mark.parametrize(("degrees", "start"), [(0.5, 1), (2.0, 5001)])
def test_between_the_keys_every_bone_is_within_the_bound(models, degrees, start):
    take = fast_hands(models)
    built = build(take, models, KeyReduction(angle=np.radians(degrees)), start)
    times = np.asarray(built.frames, float)
    at = between_frames(times)
    for side, hand in built.hands.items():
        track = take.hand(side)
        basis, location = hand_rig.basis_pose(hand.armature, side, track.rotation, track.translation)
        for joint, bone in enumerate(hand_rig.bone_names(side)):
            turns = evaluate(channel(hand.armature, bone, "rotation_quaternion"), at)
            turns /= np.linalg.norm(turns, axis=1, keepdims=True)
            error = rotations.angle_between(turns, slerp_between_frames(basis[:, joint]))
            # The longer the clip has run, the coarser are frames in float32.
            assert error.max() <= np.radians(degrees) + ANGLE_OF_FLOAT32 * (1 + start / 500)
        moved = evaluate(channel(hand.armature, hand_rig.bone_names(side)[0], "location"), at)
        straight = np.stack([np.interp(at, times, location[:, axis]) for axis in range(3)], axis=1)
        assert np.linalg.norm(moved - straight, axis=1).max() <= 0.001 + LENGTH_OF_FLOAT32 * (1 + start / 50)
    kept, full = built.keys
    assert full == 90 * 67 * 2
    assert kept < full / 2


@pytest.mark.parametrize("roughness", [0.0, 0.03])
def test_blender_draws_the_curves_that_were_fitted(models, roughness):
    take = fast_hands(models)
    noise = roughness * np.random.default_rng(4).normal(size=(*take.left.rotation.shape[:2], 3))
    shaken = rotations.multiply(take.left.rotation, rotations.from_rotation_vector(noise))
    take.left.rotation[:] = shaken
    built = build(take, models, KeyReduction())
    hand = built.hands["left"]
    basis, location = hand_rig.basis_pose(hand.armature, "left", take.left.rotation, take.left.translation)
    at = between_frames(np.asarray(built.frames, float))
    turns = reduce_rotation_keys(basis.astype(float), built.frames)
    for curve, bone in zip(turns, hand_rig.bone_names("left"), strict=True):
        drawn = evaluate(channel(hand.armature, bone, "rotation_quaternion"), at)
        np.testing.assert_allclose(drawn, sample_curve(curve, built.frames, at), atol=2e-5)
    (curve,) = reduce_position_keys(location[:, None], built.frames)
    drawn = evaluate(channel(hand.armature, "wrist.L", "location"), at)
    np.testing.assert_allclose(drawn, sample_curve(curve, built.frames, at), atol=1e-6)


def test_handles_are_aligned_where_the_curve_has_one_tangent(models):
    built = build(fast_hands(models), models, KeyReduction())
    kinds = set()
    for hand in built.hands.values():
        for bone in hand_rig.bone_names(hand.side):
            for curve in channel(hand.armature, bone, "rotation_quaternion"):
                for point in list(curve.keyframe_points)[1:-1]:
                    assert point.interpolation == "BEZIER"
                    assert point.handle_left_type == point.handle_right_type
                    kinds.add(point.handle_left_type)
                    left, right = point.co - point.handle_left, point.handle_right - point.co
                    if point.handle_left_type == "ALIGNED":
                        assert left.y / left.x == pytest.approx(right.y / right.x, abs=1e-4)
    assert kinds == {"ALIGNED", "FREE"}


def test_handles_stay_inside_their_interval_and_have_one_length_for_all_components(models):
    built = build(fast_hands(models), models, KeyReduction())
    curves = channel(built.hands["right"].armature, "wrist.R", "rotation_quaternion")
    lengths = []
    for curve in curves:
        for one, other in pairwise(curve.keyframe_points):
            assert one.co.x < one.handle_right.x < other.co.x
            assert one.co.x < other.handle_left.x < other.co.x
            lengths.append(((one.handle_right.x - one.co.x), (other.co.x - other.handle_left.x)))
    for component in np.split(np.array(lengths), 4):
        np.testing.assert_allclose(component, lengths[: len(component)], atol=1e-4)


def test_each_bone_has_its_own_keys_and_its_components_share_them(models):
    built = build(fast_hands(models), models, KeyReduction())
    armature = built.hands["left"].armature
    rows = set()
    for bone in hand_rig.bone_names("left"):
        own = [tuple(keyed_frames(curve)) for curve in channel(armature, bone, "rotation_quaternion")]
        assert len(set(own)) == 1
        rows.add(own[0])
    assert len(rows) >= 3  # wrist, fingers and thumb move differently


def test_a_hand_that_holds_still_has_two_keys_and_stays(models):
    moving = make_take(models, count=60)
    for name in ("rotation", "translation"):
        getattr(moving.left, name)[:] = getattr(moving.left, name)[:1]
    built = build(moving, models, KeyReduction())
    armature = built.hands["left"].armature
    at = np.arange(1, 60.01, 0.1)
    for bone in hand_rig.bone_names("left"):
        curves = channel(armature, bone, "rotation_quaternion")
        assert [keyed_frames(curve) for curve in curves] == [[1, 60]] * 4
        assert np.ptp(evaluate(curves, at), axis=0).max() == 0
    assert np.ptp(evaluate(channel(armature, "wrist.L", "location"), at), axis=0).max() == 0


def test_confidence_is_keyed_where_it_changes_and_breakdowns_stay(models):
    seen = np.ones(40, bool)
    seen[11:20] = False
    take = make_take(models, count=40, observed=seen)
    take.left.confidence[30:] = 0.91  # too little of a change
    built = build(take, models, KeyReduction())
    armature = built.hands["left"].armature
    (confidence,) = (each for each in keying.curves_of(armature) if CONFIDENCE_PROPERTY in each.data_path)
    assert keyed_frames(confidence) == [1, 12, 21]
    assert {point.interpolation for point in confidence.keyframe_points} == {"CONSTANT"}
    assert evaluate([confidence], [1, 11.9, 12, 20.9, 21, 35])[:, 0] == pytest.approx([0.9, 0.9, 0, 0, 0.9, 0.9])
    types = {
        (point.type, bool(seen[round(point.co.x) - 1]))
        for bone in hand_rig.bone_names("left")
        for point in channel(armature, bone, "rotation_quaternion")[0].keyframe_points
    }
    assert types == {("KEYFRAME", True), ("BREAKDOWN", False)}


def test_the_report_counts_the_keys(models):
    take = make_take(models, count=60)
    built = build(take, models, KeyReduction(angle=np.radians(1)))
    kept = sum(
        len(curve.keyframe_points)
        for hand in built.hands.values()
        for bone in hand_rig.bone_names(hand.side)
        for name in ("rotation_quaternion", "location")
        for curve in channel(hand.armature, bone, name)
    )
    assert f" at 30 fps, {kept:,} keys instead of 8,040; left hand seen" in built.sentence(30)
    assert "instead" not in build(take, models).sentence(30)


@pytest.mark.parametrize("count", [1, 2])
def test_the_smallest_takes_are_keyed_whole(models, count):
    take = make_take(models, count=count)
    built = build(take, models, KeyReduction())
    assert built.keys == (count * 67 * 2, count * 67 * 2)
    wrist = channel(built.hands["left"].armature, "wrist.L", "rotation_quaternion")
    basis, _ = hand_rig.basis_pose(built.hands["left"].armature, "left", take.left.rotation, take.left.translation)
    np.testing.assert_allclose(np.abs(evaluate(wrist, built.frames)), np.abs(basis[:, 0]), atol=1e-6)


def test_keying_again_with_fewer_keys_replaces_all_of_the_first(models):
    take = fast_hands(models)
    built = build(take, models)
    hand = built.hands["left"]
    basis, _ = hand_rig.basis_pose(hand.armature, "left", take.left.rotation, take.left.translation)
    (reduced,) = reduce_rotation_keys(basis[:, 1:2], built.frames)
    keying.key_bones(keying.place_of(hand.armature), built.frames, rotations={"index1.L": reduced})
    curves = channel(hand.armature, "index1.L", "rotation_quaternion")
    assert len(curves) == 4
    assert all(len(curve.keyframe_points) < 60 for curve in curves)
    assert all(len(curve.keyframe_points) == 90 for curve in channel(hand.armature, "index2.L", "rotation_quaternion"))


def is_hidden(item, frame):
    bpy.context.scene.frame_set(frame)
    return item.hide_viewport, item.hide_render


@pytest.mark.parametrize("reduce", [None, KeyReduction()])
def test_a_hand_is_hidden_where_clean_up_says_so(models, reduce):
    seen = np.ones(40, bool)
    seen[10:31] = False
    take = make_take(models, count=40, observed=seen)
    step = {"step": "clean-up", "hidden": {"left": [[10, 15], [20, 30]], "right": []}}
    take.meta["history"] = json.loads(json.dumps([{"step": "capture"}, step]))
    built = build(take, models, reduce)
    left, right = built.hands["left"], built.hands["right"]
    for item in (left.armature, left.mesh):
        for row in range(40):
            away = 10 <= row <= 15 or 20 <= row <= 30
            assert is_hidden(item, 1 + row) == (away, away)
        switches = [each for each in keying.curves_of(item) if each.data_path.startswith("hide_")]
        assert len(switches) == 2
        assert {point.interpolation for each in switches for point in each.keyframe_points} == {"CONSTANT"}
    for item in (right.armature, right.mesh):
        assert not any("hide_" in each.data_path for each in keying.curves_of(item))
    assert len(built.actions) == (1 if keying.HAS_SLOTS else 3)
    assert {hand.armature.animation_data.action for hand in built.hands.values()} <= set(built.actions)
    assert left.mesh.animation_data.action in built.actions


def test_only_the_last_step_hides_and_both_hands_show_without_one(models):
    take = make_take(models, count=10)
    take.meta["history"] = [{"hidden": {"left": [[0, 9]]}}, {"step": "clean-up"}]
    built = build(take, models)
    for side in SIDES:
        assert is_hidden(built.hands[side].mesh, 5) == (False, False)
        assert built.hands[side].mesh.animation_data is None
