"""Captured hands on rigs of every kind: where the bones point, what else stays as it was."""

import addon_utils
import bpy
import numpy as np
import pytest
from mathutils import Matrix, Quaternion, Vector

from addon import hand_rig, keying, layers, registration
from addon.retargeting import retarget, rig_layer, target_rig
from dir_core import rotations
from dir_core.conventions import FINGERS, SIDES
from dir_core.errors import SettingsError
from dir_core.retargeting import channels, rest
from dir_core.retargeting.rig_map import HandMap, RigMap, known_rig_maps, save_rig_map
from tests.blender.undo import assert_one_undo_step
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
    own = rest.palm_rotation(
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
    found = target_rig.detect(rig)
    assert found.score == 1.0
    assert {side: hand.bones for side, hand in found.rig_map.hands.items()} == {
        side: hand.bones for side, hand in rig_map.hands.items()
    }
    done = retarget_now(rig, armatures, found.rig_map, wrist="ROTATION")
    assert (done.frames, done.bones) == (COUNT, 32)
    assert worst_angle(rig, armatures, rig_map) < 0.05


def body_action(rig, bones, *, curves_per_bone=4):
    """Animate a body: an active action with moving curves on these bones."""
    place = keying.open_place(rig, None, "Body")
    rng = np.random.default_rng(4)
    frames = np.arange(1, 30)
    wave = rotations.from_rotation_vector(rng.normal(0, 0.3, (len(bones), 1, 3)) * np.sin(frames / 5.0)[:, None])
    keying.key_bones(place, frames, rotations=dict(zip(bones, wave, strict=True)))
    return place


def digest(place):
    """Every key of every curve of a place."""
    return {
        (curve.data_path, curve.array_index): [
            (*point.co, *point.handle_left, *point.handle_right, point.interpolation) for point in curve.keyframe_points
        ]
        for curve in place.curves
    }


def mixamo(models, **options):
    """A rig with Mixamo's names and both captured hands."""
    rig_map = KNOWN["Mixamo"]
    return build_rig(np.random.default_rng(3), models, rig_map, **options), key_captured(models), rig_map


@pytest.mark.parametrize("mode", ["QUATERNION", "XYZ", "ZXY", "YZX", "AXIS_ANGLE"])
def test_every_rotation_mode_shows_the_same(models, mode):
    rig, armatures, rig_map = mixamo(models, mode=mode)
    retarget_now(rig, armatures, rig_map, wrist="ROTATION")
    assert worst_angle(rig, armatures, rig_map) < 0.05
    own = "rotation_euler" if mode in channels.EULER_ORDERS else f"rotation_{mode.lower()}"
    paths = {curve.data_path.rpartition(".")[2] for curve in rig_layer.place_of_layer(rig).curves}
    assert paths == {own}


def test_fingers_alone_leave_the_body_where_it_is(models):
    rig, armatures, rig_map = mixamo(models)
    body = body_action(rig, ["hips", "chest", "forearm left", "forearm right", rig_map.hands["left"].wrist])
    before = digest(body)
    bpy.context.scene.frame_set(4)
    wrist = rig.pose.bones[rig_map.hands["left"].wrist].matrix.copy()
    done = retarget_now(rig, armatures, rig_map)
    assert (done.bones, done.notes) == (30, ())
    assert digest(body) == before
    assert rig.animation_data.action == body.action
    bpy.context.scene.frame_set(4)
    np.testing.assert_allclose(rig.pose.bones[rig_map.hands["left"].wrist].matrix, wrist, atol=1e-6)
    assert worst_angle(rig, armatures, rig_map, seen_from_hand=True) < 0.05


def test_a_turned_wrist_points_as_captured_over_a_moving_body(models):
    rig, armatures, rig_map = mixamo(models, matrix=Matrix.Translation((0, 0, 2)) @ Matrix.Rotation(1.0, 4, "X"))
    body = body_action(rig, ["hips", "chest", "forearm left", "forearm right"])
    before = digest(body)
    retarget_now(rig, armatures, rig_map, wrist="ROTATION")
    assert digest(body) == before
    assert worst_angle(rig, armatures, rig_map) < 0.05


def test_an_action_that_also_keys_the_hands_plays_below_them(models):
    rig, armatures, rig_map = mixamo(models)
    finger = rig_map.hands["right"].fingers["ring"][1]
    body = body_action(rig, ["hips", "chest", finger])
    before = digest(body)
    bpy.context.scene.frame_set(5)
    hips = rig.pose.bones["hips"].matrix.copy()
    done = retarget_now(rig, armatures, rig_map)
    assert "Body" in done.notes[0]
    assert rig.animation_data.action is None
    assert [track.name for track in rig.animation_data.nla_tracks] == [rig_layer.BODY_TRACK, rig_layer.TRACK]
    assert digest(body) == before
    assert worst_angle(rig, armatures, rig_map, seen_from_hand=True) < 0.05
    bpy.context.scene.frame_set(5)
    np.testing.assert_allclose(rig.pose.bones["hips"].matrix, hips, atol=1e-6)
    # After the hands' last key the body's own is seen again.
    bpy.context.scene.frame_set(20)
    path = keying.bone_path(finger, "rotation_quaternion")
    expected = [
        next(c for c in body.curves if (c.data_path, c.array_index) == (path, k)).evaluate(20) for k in range(4)
    ]
    np.testing.assert_allclose(rig.pose.bones[finger].rotation_quaternion, expected, atol=1e-5)


def test_keying_again_replaces_only_its_own_keys(models):
    rig, armatures, rig_map = mixamo(models)
    body = body_action(rig, ["hips", "chest"])
    before = digest(body)
    retarget_now(rig, armatures, rig_map, wrist="ROTATION")
    place = rig_layer.place_of_layer(rig)
    curves = len(list(place.curves))
    right = {path: keys for (path, _), keys in digest(place).items() if "Right" in path}
    done = retarget_now(rig, armatures, rig_map, sides=("left",), span=(2, 5))
    assert done.bones == 15
    assert done.frames == 4
    assert len(rig.animation_data.nla_tracks) == 1
    again = rig_layer.place_of_layer(rig)
    assert again.action == place.action
    assert {path: keys for (path, _), keys in digest(again).items() if "Right" in path} == right
    assert len(list(again.curves)) == curves - 4  # the left wrist is not keyed any more
    assert all(len(keys) == 4 for (path, _), keys in digest(again).items() if "Left" in path)
    assert digest(body) == before
    assert len(bpy.data.scenes) == 1
    assert retarget.remove_from_rig(rig) == (31, "")
    assert not rig.animation_data.nla_tracks
    assert digest(body) == before
    with pytest.raises(SettingsError, match="no keys of captured hands"):
        retarget.remove_from_rig(rig)


def test_a_copy_of_a_rig_gets_keys_of_its_own(models):
    rig, armatures, rig_map = mixamo(models)
    retarget_now(rig, armatures, rig_map)
    place = rig_layer.place_of_layer(rig)
    before = digest(place)
    other = rig.copy()
    bpy.context.scene.collection.objects.link(other)
    retarget_now(other, armatures, rig_map, span=(2, 4), fingers="angles")
    assert digest(place) == before
    assert other.animation_data.nla_tracks[0].strips[0].action != place.action


def test_corrections_of_the_captured_hands_go_along(models):
    rig, armatures, rig_map = mixamo(models)
    layers.add_layer([armatures["left"]])
    keying.key_bones(
        keying.place_of(armatures["left"]), np.array([1]), rotations={"index1.L": np.array([[0.9, 0.3, 0.2, 0.1]])}
    )
    retarget_now(rig, armatures, rig_map, wrist="ROTATION")
    assert worst_angle(rig, armatures, rig_map) < 0.05


def test_a_wrist_that_can_move_goes_where_the_captured_one_is(models):
    rig, armatures, rig_map = mixamo(
        models, matrix=Matrix.LocRotScale((1, 2, 3), Quaternion((0.6, 0.8, 0, 0)), (0.01,) * 3)
    )
    body_action(rig, ["hips", "chest", "forearm right"])
    retarget_now(rig, armatures, rig_map, wrist="POSITION")
    for frame in (1, 4, COUNT):
        bpy.context.scene.frame_set(frame)
        for side in SIDES:
            captured = armatures[side].matrix_world @ armatures[side].pose.bones[hand_rig.bone_name("wrist", side)].head
            there = rig.matrix_world @ rig.pose.bones[rig_map.hands[side].wrist].head
            assert (there - captured).length < 2e-5
    assert worst_angle(rig, armatures, rig_map) < 0.05


def test_a_connected_wrist_is_refused_a_place(models):
    rig, armatures, rig_map = mixamo(models)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    rig.data.edit_bones[rig_map.hands["right"].wrist].use_connect = True
    bpy.ops.object.mode_set(mode="OBJECT")
    with pytest.raises(SettingsError, match="cannot be moved"):
        retarget_now(rig, armatures, rig_map, wrist="POSITION")
    assert rig.animation_data is None


def test_joint_angles_and_turns_can_be_kept_instead(models):
    rig, armatures, rig_map = mixamo(models)
    retarget_now(rig, armatures, rig_map, wrist="ROTATION", fingers="angles", wrist_mode="delta")
    bpy.context.scene.frame_set(3)
    for side in SIDES:
        for finger, bones in rig_map.hands[side].fingers.items():
            for rank, bone in enumerate(bones, 1):
                captured = armatures[side].pose.bones[hand_rig.bone_name(f"{finger}{rank}", side)]
                # Blender's own angle of a quaternion may be that of the long way round.
                assert abs(rig.pose.bones[bone].rotation_quaternion.w) == pytest.approx(
                    abs(captured.rotation_quaternion.w), abs=1e-6
                )
        captured = armatures[side].pose.bones[hand_rig.bone_name("wrist", side)]
        turn = captured.matrix.to_quaternion() @ captured.bone.matrix_local.to_quaternion().inverted()
        wrist = rig.pose.bones[rig_map.hands[side].wrist]
        own = wrist.matrix.to_quaternion() @ wrist.bone.matrix_local.to_quaternion().inverted()
        assert abs(own.dot(turn)) == pytest.approx(1.0, abs=1e-6)


def test_locked_channels_stay_as_they_are_and_are_counted(models):
    rig, armatures, rig_map = mixamo(models, mode="XYZ")
    hinge = rig.pose.bones[rig_map.hands["left"].fingers["index"][1]]
    hinge.lock_rotation = (False, True, True)
    swing = rig.pose.bones[rig_map.hands["left"].fingers["index"][2]]
    swing.rotation_mode = "QUATERNION"
    swing.lock_rotation = (False, True, True)
    swing.lock_rotations_4d = False
    whole = rig.pose.bones[rig_map.hands["left"].fingers["ring"][2]]
    whole.rotation_mode = "QUATERNION"
    whole.lock_rotations_4d = whole.lock_rotation_w = True
    done = retarget_now(rig, armatures, rig_map)
    assert done.notes == ("5 locked channels were left alone.",)
    place = rig_layer.place_of_layer(rig)
    channels = {(curve.data_path, curve.array_index) for curve in place.curves}
    assert {i for path, i in channels if path == keying.bone_path(hinge.name, "rotation_euler")} == {0}
    assert {i for path, i in channels if path == keying.bone_path(whole.name, "rotation_quaternion")} == {1, 2, 3}
    bpy.context.scene.frame_set(3)
    assert np.abs(np.array(swing.rotation_quaternion)[2:]).max() < 1e-5
    for bone in rig.pose.bones:
        bone.lock_rotation, bone.lock_rotation_w = (True,) * 3, True
        bone.lock_rotations_4d = True
    with pytest.raises(SettingsError, match="is locked"):
        retarget_now(rig, armatures, rig_map)


def test_weight_and_fade_let_what_lies_below_through(models):
    rig, armatures, rig_map = mixamo(models)
    bone = rig_map.hands["left"].fingers["index"][0]
    keying.key_bones(
        keying.open_place(rig, None, "Body"), np.array([1, 6]), rotations={bone: np.tile([1.0, 0, 0, 0], (2, 1))}
    )
    retarget_now(rig, armatures, rig_map)
    bpy.context.scene.frame_set(3)
    whole = rig.pose.bones[bone].rotation_quaternion.angle
    retarget_now(rig, armatures, rig_map, weight=0.5)
    bpy.context.scene.frame_set(3)
    assert rig.pose.bones[bone].rotation_quaternion.angle == pytest.approx(whole / 2, rel=0.1)
    retarget_now(rig, armatures, rig_map, fade=2)
    angles = []
    for frame in (1, 2, 3):
        bpy.context.scene.frame_set(frame)
        angles.append(rig.pose.bones[bone].rotation_quaternion.angle)
    assert angles[0] == pytest.approx(0.0, abs=1e-4)
    assert angles[1] > 1e-3
    assert angles[2] == pytest.approx(whole, rel=1e-3)
    retarget_now(rig, armatures, rig_map)
    bpy.context.scene.frame_set(3)
    assert rig.pose.bones[bone].rotation_quaternion.angle == pytest.approx(whole, rel=1e-3)


def test_a_generated_rigify_rig_moves_its_deforming_bones(models):
    addon_utils.enable("rigify", default_set=True)
    bpy.ops.object.armature_human_metarig_add()
    assert target_rig.detect(bpy.context.object).rig_map.name == "Rigify Metarig"
    bpy.ops.object.mode_set(mode="EDIT")
    bones = bpy.context.object.data.edit_bones
    for bone in [*bones["face"].children_recursive, bones["face"]]:  # most of the time that generating takes
        bones.remove(bone)
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.ops.pose.rigify_generate()
    rig = bpy.context.object
    for side in "LR":
        rig.pose.bones[f"upper_arm_parent.{side}"]["IK_FK"] = 1.0
    armatures = key_captured(models)
    found = target_rig.detect(rig)
    assert (found.rig_map.name, found.score) == ("Rigify", 1.0)
    done = retarget_now(rig, armatures, found.rig_map, wrist="ROTATION")
    assert (done.bones, done.notes) == (32, ())
    assert worst_angle(rig, armatures, KNOWN["Rigify Deform Bones"]) < 0.05


def test_cartoon_hands_get_the_fingers_they_have(models):
    rig, armatures, _ = mixamo(models, fingers=("thumb", "index", "middle", "pinky"))
    found = target_rig.detect(rig)
    assert found.score == pytest.approx(26 / 32)
    done = retarget_now(rig, armatures, found.rig_map, wrist="ROTATION")
    assert done.bones == 26
    assert worst_angle(rig, armatures, found.rig_map) < 0.05


def test_a_hand_that_is_hidden_stays_as_it_was_shown_last(models):
    rig, armatures, rig_map = mixamo(models)
    for frame, hidden in ((1, True), (2, False), (4, True), (6, False)):
        armatures["left"].hide_viewport = hidden
        armatures["left"].keyframe_insert("hide_viewport", frame=frame)
    armatures["right"].hide_viewport = True
    done = retarget_now(rig, armatures, rig_map)
    assert done.bones == 15
    assert done.notes == ("The right hand is hidden on all these frames and was left out.",)
    place = rig_layer.place_of_layer(rig)
    path = keying.bone_path(rig_map.hands["left"].fingers["middle"][0], "rotation_quaternion")
    keys = [[point.co.y for point in curve.keyframe_points] for curve in place.curves if curve.data_path == path]
    first, second, third, fourth, fifth, sixth = np.transpose(keys)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(third, fourth)
    np.testing.assert_array_equal(third, fifth)
    assert np.abs(second - third).max() > 1e-3
    assert np.abs(fifth - sixth).max() > 1e-3
    armatures["left"].animation_data_clear()
    armatures["left"].hide_viewport = True
    with pytest.raises(SettingsError, match="hidden on all these frames"):
        retarget_now(rig, armatures, rig_map, span=(1, 3))


def test_what_cannot_work_is_told_and_changes_nothing(models):
    rig, armatures, rig_map = mixamo(models)
    wrist = rig_map.hands["left"].wrist
    without = RigMap("x", {"left": HandMap("", rig_map.hands["left"].fingers)})
    lost = RigMap("x", {"left": HandMap("nowhere", rig_map.hands["left"].fingers)})
    for found, options, message in (
        (without, {}, "has no wrist in the list"),
        (lost, {}, "has no bone nowhere"),
        (rig_map, {"sides": ()}, "no hand to key"),
        (rig_map, {"span": (9, 3)}, "ends on frame 3 before"),
        (RigMap("x", {"left": HandMap(wrist, {"index": rig_map.hands["left"].fingers["index"]})}), {}, "two mapped"),
    ):
        with pytest.raises(SettingsError, match=message):
            retarget_now(rig, armatures, found, **options)
    with pytest.raises(SettingsError, match="is one of the captured hands"):
        retarget_now(armatures["left"], armatures, rig_map)
    with pytest.raises(SettingsError, match="is no captured hand"):
        retarget_now(rig, {"left": build_rig(np.random.default_rng(0), models, rig_map, name="Other")}, rig_map)
    armatures["left"].data.pose_position = "REST"
    with pytest.raises(SettingsError, match="shows its rest position"):
        retarget_now(rig, armatures, rig_map)
    armatures["left"].data.pose_position = "POSE"
    rig.scale.x = -1
    bpy.context.view_layer.update()
    with pytest.raises(SettingsError, match="negative scale"):
        retarget_now(rig, armatures, rig_map)
    assert rig.animation_data is None
    assert len(bpy.data.scenes) == 1


def test_ending_early_leaves_everything_as_it_was(models):
    rig, armatures, rig_map = mixamo(models)
    steps = retarget.key_onto_rig(rig, armatures, rig_map, retarget.Wanted(wrist="ROTATION"))
    assert 0.0 < next(steps) <= next(steps) < 1.0
    assert len(bpy.data.scenes) == 2
    steps.close()
    assert len(bpy.data.scenes) == 1
    assert rig.animation_data is None


def test_a_library_override_gets_keys_and_a_linked_rig_is_told(models, tmp_path):
    rig, _, rig_map = mixamo(models)
    bpy.data.libraries.write(str(tmp_path / "hero.blend"), {rig}, fake_user=True)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    armatures = key_captured(models)
    with bpy.data.libraries.load(str(tmp_path / "hero.blend"), link=True) as (_, wanted):
        wanted.objects = ["Rig"]
    (linked,) = wanted.objects
    bpy.context.scene.collection.objects.link(linked)
    with pytest.raises(SettingsError, match="make a library override"):
        retarget_now(linked, armatures, rig_map)
    override = linked.override_create(remap_local_usages=True)
    retarget_now(override, armatures, rig_map, wrist="ROTATION")
    bpy.context.view_layer.update()
    assert worst_angle(override, armatures, rig_map) < 0.05
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    override = next(item for item in bpy.data.objects if item.override_library)
    captured = {side: bpy.data.objects[f"Hand {side.title()}"] for side in SIDES}
    assert worst_angle(override, captured, rig_map) < 0.05


# The operators


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


def test_choosing_a_rig_shows_its_bones(scene):
    assert scene.rig_name == "Mixamo"
    assert len(scene.bones) == 32
    row = scene.bones["Left Index 2"]
    assert row.bone == "mixamorig:LeftHandIndex2"
    assert scene.bones["Right Wrist"].bone == "mixamorig:RightHand"
    row.bone = ""
    assert target_rig.read_map(scene).hands["left"].fingers["index"] == (
        "mixamorig:LeftHandIndex1",
        "mixamorig:LeftHandIndex3",
    )
    row.bone = "mixamorig:LeftHandIndex1"
    with pytest.raises(SettingsError, match="is in the list twice"):
        target_rig.read_map(scene)
    assert bpy.ops.hands.detect_rig() == {"FINISHED"}
    assert scene.bones["Left Index 2"].bone == "mixamorig:LeftHandIndex2"
    scene.target = None
    assert not scene.bones
    assert not bpy.ops.hands.key_onto_rig.poll()


def test_the_buttons_key_and_remove(scene):
    assert not bpy.ops.hands.remove_from_rig.poll()
    scene.use_right = False
    scene.wrist = "ROTATION"
    assert bpy.ops.hands.key_onto_rig() == {"FINISHED"}
    strip = scene.target.animation_data.nla_tracks[0].strips[0]
    assert (strip.frame_start, strip.frame_end) == (1, COUNT)
    scene.bones["Left Wrist"].bone = ""
    with pytest.raises(RuntimeError, match="has no wrist in the list"):
        bpy.ops.hands.key_onto_rig()
    assert bpy.ops.hands.remove_from_rig() == {"FINISHED"}
    assert not scene.target.animation_data.nla_tracks


def test_maps_are_saved_found_again_and_shared(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(target_rig, "user_map_folder", lambda: tmp_path)
    scene.bones["Left Thumb 1"].bone = "hips"
    assert bpy.ops.hands.save_rig_map(filepath=str(tmp_path / "My Hero")) == {"FINISHED"}
    (tmp_path / "damaged.json").write_text("{", "utf-8")
    bpy.ops.hands.detect_rig()
    assert scene.rig_name == "My Hero"
    assert scene.bones["Left Thumb 1"].bone == "hips"
    (tmp_path / "My Hero.json").rename(tmp_path / "kept.txt")
    bpy.ops.hands.detect_rig()
    assert scene.rig_name == "Mixamo"
    assert bpy.ops.hands.load_rig_map(filepath=str(tmp_path / "kept.txt")) == {"FINISHED"}
    assert scene.bones["Left Thumb 1"].bone == "hips"
    other = KNOWN["VRoid Studio"]
    save_rig_map(other, tmp_path / "other.json")
    with pytest.raises(RuntimeError, match=r"no hand with the bones of other\.json"):
        bpy.ops.hands.load_rig_map(filepath=str(tmp_path / "other.json"))
    assert scene.bones["Left Thumb 1"].bone == "hips"


def test_each_operator_is_one_undo_step(scene):
    assert_one_undo_step(bpy.ops.hands.key_onto_rig)
    bpy.context.scene.two_hands.retarget.bones["Left Ring 1"].bone = ""
    assert_one_undo_step(bpy.ops.hands.detect_rig)
    assert_one_undo_step(bpy.ops.hands.remove_from_rig)
