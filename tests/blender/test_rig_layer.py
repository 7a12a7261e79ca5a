"""The layer of captured hands between everything that an animator has on a rig, and does with it afterwards."""

import hashlib
import struct

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from addon import keying
from addon.retargeting import bake, retarget, rig_layer
from dir_core import rotations
from dir_core.clean_up.key_reduction import KeyReduction
from tests.blender.test_bake import assert_same, seen
from tests.blender.test_plain_bones import finish
from tests.blender.test_retarget import COUNT, KNOWN, body_action, build_rig, key_captured, mixamo, retarget_now

BYTES_PER_KEY = 64  # a BezTriple of Blender's file format with what the file adds for each block
BYTES_PER_CURVE = 1200  # an F-curve, its path and their headers
BYTES_BESIDE = 60_000  # the action, its groups, a track, a strip, custom properties


def everything(place):
    """A number that changes with any bit of any curve of a place: keys, handles, modifiers, switches."""
    told = hashlib.sha256()
    for curve in place.curves:
        told.update(f"{curve.data_path} {curve.array_index} {curve.mute} {curve.extrapolation} {curve.lock}".encode())
        told.update(f"{curve.group.name if curve.group else ''} {curve.auto_smoothing} {list(curve.color)}".encode())
        for point in curve.keyframe_points:
            told.update(struct.pack("6f", *point.co, *point.handle_left, *point.handle_right))
            told.update(f"{point.handle_left_type} {point.handle_right_type} {point.interpolation}".encode())
            told.update(f"{point.easing} {point.type} {point.back} {point.amplitude} {point.period}".encode())
        for modifier in curve.modifiers:
            numbers = [each for each in modifier.bl_rna.properties if each.type in ("FLOAT", "INT", "BOOLEAN", "ENUM")]
            plain = {
                each.identifier: getattr(modifier, each.identifier)
                for each in numbers
                if not getattr(each, "is_array", False)
            }
            told.update(str(sorted(plain.items())).encode())
    return told.hexdigest()


def body_of_60_bones(models, *, with_hands):
    """A rig with 60 bones beside the hands', all animated by curves of every kind; also the hands' on wish."""
    rig, armatures, rig_map = mixamo(models)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    for row in range(60):
        bone = rig.data.edit_bones.new(f"body {row}")
        bone.head, bone.tail = (0, 0, 1 + row / 10), (0, 0, 1.1 + row / 10)
        bone.parent = rig.data.edit_bones["chest" if row % 2 else "hips"]
    bpy.ops.object.mode_set(mode="OBJECT")
    rng = np.random.default_rng(7)
    names = [f"body {row}" for row in range(60)]
    if with_hands:
        names += [bone for hand in rig_map.hands.values() for bone in hand.bones]
    place = keying.open_place(rig, None, "Body")
    interpolations = ("BEZIER", "LINEAR", "CONSTANT", "SINE", "ELASTIC")
    for name in names:
        frames = np.sort(rng.choice(np.arange(-20, 60), 7, replace=False)) + rng.uniform(0, 0.9, 7).round(2)
        turns = rotations.from_rotation_vector(rng.normal(0, 0.5, (7, 3)))
        keying.key_bones(place, frames, rotations={name: turns}, locations={name: rng.normal(0, 0.1, (7, 3))})
        bone = rig.pose.bones[name]
        bone.rotation_mode = "QUATERNION"
    for row, curve in enumerate(place.curves):
        curve.extrapolation = ("CONSTANT", "LINEAR")[row % 5 == 0]
        curve.mute, curve.lock = row % 17 == 0, row % 19 == 0
        for at, point in enumerate(curve.keyframe_points):
            point.interpolation = interpolations[(row + at) % 5]
            point.handle_left_type = point.handle_right_type = ("AUTO_CLAMPED", "AUTO", "VECTOR", "FREE", "ALIGNED")[
                row % 5
            ]
            point.handle_right = point.handle_right + type(point.handle_right)((0.3, 0.1))
        curve.update()
        if row % 6 == 0:
            curve.modifiers.new(("CYCLES", "NOISE", "GENERATOR", "STEPPED", "LIMITS")[row // 6 % 5])
        if curve.group and row % 23 == 0:
            curve.group.mute = True
    return rig, armatures, rig_map, place


@pytest.mark.parametrize("with_hands", [False, True], ids=["body", "body and hands"])
def test_a_body_of_60_bones_stays_bit_for_bit(models, tmp_path, with_hands):
    rig, armatures, rig_map, body = body_of_60_bones(models, with_hands=with_hands)
    bpy.context.preferences.filepaths.use_file_compression = False

    def size(name):
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / name), compress=False, copy=True)
        return (tmp_path / name).stat().st_size

    kept, before = everything(body), size("before.blend")
    for sides in (("left", "right"), ("right",), ("left", "right")):
        retarget_now(rig, armatures, rig_map, wrist="ROTATION", sides=sides)
        assert everything(body) == kept
    own = list(rig_layer.place_of_layer(rig).curves)
    keys = sum(len(curve.keyframe_points) for curve in own)
    assert keys == 2 * 16 * 4 * COUNT
    grown = size("after.blend") - before
    assert keys * 36 < grown < keys * BYTES_PER_KEY + len(own) * BYTES_PER_CURVE + BYTES_BESIDE
    retarget.remove_from_rig(rig)
    assert everything(body) == kept
    assert abs(size("removed.blend") - before) < BYTES_BESIDE


def test_a_body_of_60_bones_is_baked_into_bit_for_bit(models):
    rig, armatures, rig_map, body = body_of_60_bones(models, with_hands=False)
    for curve in body.curves:
        curve.group.mute = False  # which Blender heeds in the NLA only, so that the body would move otherwise there
    kept = [everything_of(curve) for curve in body.curves]
    retarget_now(rig, armatures, rig_map, wrist="ROTATION")
    before = seen(rig)
    assert finish(bake.bake_layer(rig)).action == body.action.name
    assert [everything_of(curve) for curve in body.curves][: len(kept)] == kept
    assert_same(before, seen(rig))


def everything_of(curve):
    """What `everything` tells of one curve."""
    return everything(type("Place", (), {"curves": [curve]}))


def edit(place):
    """Turn one key of a layer by hand."""
    curve = next(iter(place.curves))
    curve.keyframe_points[2].co.y += 0.25
    curve.update()
    return curve.data_path, curve.array_index, curve.keyframe_points[2].co.y


@pytest.mark.parametrize("reduce", [None, KeyReduction()], ids=["every frame", "fewer keys"])
def test_keys_that_were_edited_are_kept_in_a_copy(models, reduce):
    rig, armatures, rig_map = mixamo(models)
    retarget_now(rig, armatures, rig_map, reduce=reduce)
    assert retarget_now(rig, armatures, rig_map, reduce=reduce).notes == ()
    place = rig_layer.place_of_layer(rig)
    path, index, value = edit(place) if reduce is None else edit_first(place)
    done = retarget_now(rig, armatures, rig_map, reduce=reduce)
    assert done.notes == (f'Your changes of the keys before are kept in "{place.action.name} (edited)".',)
    copy = bpy.data.actions[f"{place.action.name} (edited)"]
    assert copy.use_fake_user
    slot = copy.slots[0] if keying.HAS_SLOTS else None
    curve = next(
        each for each in keying.Place(copy, slot).curves if (each.data_path, each.array_index) == (path, index)
    )
    assert any(point.co.y == pytest.approx(value) for point in curve.keyframe_points)
    assert rig_layer.place_of_layer(rig).action == place.action
    assert retarget_now(rig, armatures, rig_map, reduce=reduce).notes == ()


def edit_first(place):
    """Turn the first key of a layer by hand."""
    curve = next(iter(place.curves))
    curve.keyframe_points[0].co.y += 0.25
    curve.update()
    return curve.data_path, curve.array_index, curve.keyframe_points[0].co.y


def test_keys_that_were_edited_are_kept_when_the_hands_go(models):
    rig, armatures, rig_map = mixamo(models)
    retarget_now(rig, armatures, rig_map)
    edit(rig_layer.place_of_layer(rig))
    count, kept = retarget.remove_from_rig(rig)
    assert (count, kept) == (30, 'Your changes of the keys before are kept in "Rig Hands (edited)".')
    assert [action.name for action in bpy.data.actions if "(edited)" in action.name] == ["Rig Hands (edited)"]
    assert rig_layer.place_of_layer(rig) is None


def test_the_layer_is_known_by_any_name_and_beside_other_strips(models):
    rig, armatures, rig_map = mixamo(models)
    retarget_now(rig, armatures, rig_map)
    place = rig_layer.place_of_layer(rig)
    track = rig_layer.layer_track(rig)
    place.action.name, track.name, track.strips[0].name = "Waving", "Fingers", "Wave 1"
    other = keying.new_place(rig, "Other")
    keying.key_bones(other, np.array([90, 99]), rotations={"hips": rotations.from_rotation_vector(np.eye(3)[:2])})
    strip = track.strips.new("Other", 90, other.action)
    if keying.HAS_SLOTS:
        strip.action_slot = other.slot
    retarget_now(rig, armatures, rig_map, span=(2, 5))
    assert rig_layer.place_of_layer(rig).action == place.action
    assert len(rig.animation_data.nla_tracks) == 1
    assert rig_layer.layer_strip(rig).frame_end == 5
    retarget.remove_from_rig(rig)
    assert [each.name for each in rig.animation_data.nla_tracks[0].strips] == ["Other"]


def test_a_track_that_does_not_play_is_told(models):
    rig, armatures, rig_map = mixamo(models)
    retarget_now(rig, armatures, rig_map)
    rig_layer.layer_track(rig).mute = True
    (note,) = retarget_now(rig, armatures, rig_map).notes
    assert "does not play now" in note
    rig_layer.layer_track(rig).mute = False
    rig.animation_data.nla_tracks.new().is_solo = True
    (note,) = retarget_now(rig, armatures, rig_map).notes
    assert "does not play now" in note


def test_cycles_of_the_body_go_on_when_the_scene_gets_longer(models):
    rig, armatures, rig_map = mixamo(models)
    body = body_action(rig, ["hips", rig_map.hands["left"].fingers["ring"][0]])
    for curve in body.curves:
        curve.modifiers.new("CYCLES")
    before = seen(rig, (400, 407, 1403))
    hips = list(rig.pose.bones).index(rig.pose.bones["hips"])
    retarget_now(rig, armatures, rig_map)
    assert rig.animation_data.action is None
    bpy.context.scene.frame_end = 2000
    np.testing.assert_allclose(seen(rig, (400, 407, 1403))[:, hips], before[:, hips], atol=1e-5)


def test_fewer_keys_stay_within_the_angle_on_the_rig(models):
    rig_map = KNOWN["Mixamo"]
    rig, armatures = build_rig(np.random.default_rng(3), models, rig_map), key_captured(models, 60)
    for row, bone in enumerate(rig.pose.bones):
        bone.rotation_mode = ("QUATERNION", "XYZ", "ZXY", "AXIS_ANGLE")[row % 4]
    bounds = KeyReduction(angle=np.radians(1.0))
    frames = np.arange(1, 60.001, 0.1)

    def turns():
        basis = np.empty((len(frames), len(rig.pose.bones), 3, 3))
        for row, frame in enumerate(frames):
            bpy.context.scene.frame_set(int(frame), subframe=frame % 1.0)
            basis[row] = [bone.matrix_basis.to_3x3() for bone in rig.pose.bones]
        return basis

    retarget_now(rig, armatures, rig_map)
    dense = turns()
    done = retarget_now(rig, armatures, rig_map, reduce=bounds)
    assert done.keys[0] < 0.8 * done.keys[1]
    written = sum(len(curve.keyframe_points) for curve in rig_layer.place_of_layer(rig).curves)
    assert written == done.keys[0]
    off = np.degrees(np.linalg.norm(turns() - dense, axis=(-2, -1)) / np.sqrt(2.0))
    assert off[::10].max() < 1.0 + 0.01  # on the frames
    assert off.max() < 1.6  # between them curves through every frame are not straight either

    before = seen(rig, range(1, 61))
    baked = finish(bake.bake_layer(rig, bounds))
    assert baked.keys[0] < 0.8 * baked.keys[1]
    angle = np.linalg.norm(
        np.linalg.inv(before[..., :3, :3]) @ seen(rig, range(1, 61))[..., :3, :3] - np.eye(3), axis=(-2, -1)
    )
    assert np.degrees(angle.max()) < 8.0  # of four bones in a row, each within one degree of keys that are within one


def test_places_are_bound_in_metres_on_a_scaled_rig(models):
    rig, armatures, rig_map = mixamo(models, matrix=Matrix.Scale(0.01, 4))
    retarget_now(rig, armatures, rig_map, wrist="POSITION", reduce=KeyReduction(distance=0.001))
    bone = rig_map.hands["left"].wrist
    path = keying.bone_path(bone, "location")
    reduced = [curve for curve in rig_layer.place_of_layer(rig).curves if curve.data_path == path]
    drawn = np.array([[curve.evaluate(frame) for frame in range(1, COUNT + 1)] for curve in reduced])
    retarget_now(rig, armatures, rig_map, wrist="POSITION")
    dense = [curve for curve in rig_layer.place_of_layer(rig).curves if curve.data_path == path]
    exact = np.array([[curve.evaluate(frame) for frame in range(1, COUNT + 1)] for curve in dense])
    assert np.linalg.norm(drawn - exact, axis=0).max() * 0.01 < 0.00101
