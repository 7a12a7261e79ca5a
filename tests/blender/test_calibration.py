"""Calibrated rigs in Blender: what the buttons do, what files keep, and keys inside of what a rig allows."""

import bpy
import numpy as np
import pytest
from mathutils import Matrix, Quaternion

from addon import hand_rig, keying, registration
from addon.retargeting import bone_limits, calibration_rows, retarget, rig_layer, target_rig
from dir_core import rotations
from dir_core.conventions import FINGERS, SIDES
from dir_core.retargeting import channels
from dir_core.retargeting.rig_map import load_rig_map
from tests.blender.test_retarget import COUNT, KNOWN, build_rig, mixamo, retarget_now, worst_angle
from tests.blender.undo import assert_one_undo_step

FRAME = 3


@pytest.fixture
def scene(models):
    """A registered add-on, a take's row with both captured hands and a rig that is chosen, on the frame that counts."""
    registration.register()
    settings = bpy.context.scene.two_hands
    rig, armatures, _ = mixamo(models)
    item = settings.takes.add()
    item.uid = "take"
    item.keying.left, item.keying.right = armatures["left"], armatures["right"]
    settings.retarget.target = rig
    bpy.context.scene.frame_set(FRAME)
    yield settings.retarget
    registration.unregister()


def pose_fingers(rig, hand, fingers=FINGERS, seed=5):
    """Pose the fingers of a rig in any way; returns bone -> rotation."""
    rng = np.random.default_rng(seed)
    posed = {}
    for finger in fingers:
        for bone in hand.fingers[finger]:
            turn = Quaternion(rotations.from_rotation_vector(rng.normal(0, 0.5, 3)))
            rig.pose.bones[bone].matrix_basis = turn.to_matrix().to_4x4()
            posed[bone] = np.array(rig.pose.bones[bone].matrix_basis.to_quaternion())
    return posed


def set_captured(armature, side, bends, frame=FRAME):
    """Key the captured fingers on a frame: every joint bends by `bends` degrees of its rank."""
    turns = {
        hand_rig.bone_name(f"{finger}{rank}", side): rotations.from_rotation_vector(
            np.radians([[bends[rank - 1], 0.0, 0.0]])
        )
        for finger in FINGERS
        for rank in (1, 2, 3)
    }
    keying.key_bones(keying.place_of(armature), np.array([frame]), rotations=turns)
    bpy.context.scene.frame_set(frame + 1)
    bpy.context.scene.frame_set(frame)


def keyed(rig, bone, frame=FRAME):
    """Rotation [4] that a bone is shown with."""
    bpy.context.scene.frame_set(frame)
    return np.array(rig.pose.bones[bone].matrix_basis.to_quaternion())


@pytest.mark.parametrize("mode", ["directions", "angles"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_matched_pose_is_what_the_frame_gets(scene, mode, mirrored):
    scene.fingers, scene.mirrored = mode, mirrored
    rig, hands = scene.target, target_rig.read_map(scene).hands
    posed = {bone: turn for side in SIDES for bone, turn in pose_fingers(rig, hands[side], seed=len(side)).items()}
    assert bpy.ops.hands.match_pose() == {"FINISHED"}
    assert all(row.bones and row.offset > 0.05 for row in scene.calibration)
    assert bpy.ops.hands.key_onto_rig() == {"FINISHED"}
    for bone, turn in posed.items():
        assert rotations.angle_between(keyed(rig, bone), turn) < 2e-6
    # Elsewhere the fingers move on by what the captured ones move.
    other = keyed(rig, hands["left"].fingers["index"][0], FRAME + 2)
    assert rotations.angle_between(other, posed[hands["left"].fingers["index"][0]]) > 1e-3


def test_fingers_at_rest_say_nothing_about_a_pose(scene):
    rig, hands = scene.target, target_rig.read_map(scene).hands
    with pytest.raises(RuntimeError, match="No finger of Rig is posed"):
        bpy.ops.hands.match_pose()
    pose_fingers(rig, hands["right"], ("thumb", "ring"))
    scene.calibrated_hand = "left"
    with pytest.raises(RuntimeError, match="No finger of Rig is posed"):
        bpy.ops.hands.match_pose()
    scene.calibrated_hand = "right"
    assert bpy.ops.hands.match_pose() == {"FINISHED"}
    assert [row.name for row in scene.calibration if row.bones] == ["Right Thumb", "Right Ring"]
    made = target_rig.read_map(scene).hands
    assert not made["left"].calibration
    assert set(made["right"].calibration) == {"thumb", "ring"}


@pytest.mark.parametrize("relaxed", [False, True])
def test_an_open_palm_is_the_straight_hand(scene, relaxed):
    """At rest where the rig's fingers are straight there. One relaxed finger: a bend is taken out of all of them."""
    rig, hand = scene.target, target_rig.read_map(scene).hands["left"]
    if relaxed:
        relax(rig, hand.fingers["ring"])
    set_captured(bpy.data.objects["Hand Left"], "left", (12, 8, 5))
    set_captured(bpy.data.objects["Hand Right"], "right", (60, 60, 60))
    assert bpy.ops.hands.open_palm() == {"FINISHED"}
    assert [row.bones != "" for row in scene.calibration] == [True] * 5 + [False] * 5
    assert bpy.ops.hands.key_onto_rig() == {"FINISHED"}
    bpy.context.scene.frame_set(FRAME)
    for finger in FINGERS:
        posed = np.array([keyed(rig, bone) for bone in hand.fingers[finger]])
        is_at_rest = rotations.angle_between(posed, np.array([1.0, 0, 0, 0])) < 1e-5
        assert is_at_rest.all() == (finger == "thumb" or not relaxed)
    first, _, last = (rig.pose.bones[bone] for bone in hand.fingers["ring"])
    rested = (first.bone.tail_local - first.bone.head_local).angle(last.bone.tail_local - last.bone.head_local)
    shown = first.vector.angle(last.vector)
    assert np.degrees(rested - shown) == pytest.approx(30 if relaxed else 0, abs=8)  # it is also aslant at rest
    set_captured(bpy.data.objects["Hand Left"], "left", (60, 60, 60))
    with pytest.raises(RuntimeError, match="No captured hand is open"):
        bpy.ops.hands.open_palm()


def test_only_what_differs_from_the_capture_is_matched(scene):
    """One finger is posed over what is shown already, which limits of the rig have cut."""
    rig, hands = scene.target, target_rig.read_map(scene).hands
    set_captured(bpy.data.objects["Hand Left"], "left", (50, 60, 40))
    for bone in hands["left"].fingers["middle"]:
        limit_rotation(rig.pose.bones[bone], dict.fromkeys("xyz", (-0.3, 0.3)))
    scene.palm_share = 0.15
    bpy.ops.hands.key_onto_rig()
    bpy.context.scene.frame_set(FRAME)
    scene.calibrated_hand = "left"
    with pytest.raises(RuntimeError, match="No finger of Rig is posed"):
        bpy.ops.hands.match_pose()
    pose_fingers(rig, hands["left"], ("ring",))
    assert bpy.ops.hands.match_pose() == {"FINISHED"}
    assert [row.name for row in scene.calibration if row.bones] == ["Left Ring"]


def relax(rig, chain):
    """Let a finger rest bent by 25 degrees at each joint."""
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    bones = [rig.data.edit_bones[name] for name in chain]
    lines = [bone.tail - bone.head for bone in bones]
    axis = lines[0].cross((0, 0, -1)).normalized()
    head = bones[0].head.copy()
    for rank, (bone, line) in enumerate(zip(bones, lines, strict=True), 1):
        line.rotate(Quaternion(axis, rank * np.radians(25)))
        bone.head, bone.tail = head, head + line
        head = bone.tail.copy()
    bpy.ops.object.mode_set(mode="OBJECT")


@pytest.mark.parametrize("limit", ["constraint", "ik"])
def test_a_fist_closes_the_rig_to_its_limits(scene, limit):
    """Bones of any roll, so the limits are found about whatever axis the finger bends."""
    rig, hands = scene.target, target_rig.read_map(scene).hands
    captured = bpy.data.objects["Hand Left"]
    set_captured(captured, "left", (50, 60, 40))
    scene.calibrated_hand = "left"
    bone = rig.pose.bones[hands["left"].fingers["middle"][1]]
    for axis in "xyz":
        if limit == "constraint" and axis == "x":
            made = bone.constraints.new("LIMIT_ROTATION")
            made.owner_space = "LOCAL"
        for which, value in (("min", -0.9), ("max", 0.9)):
            if limit == "constraint":
                setattr(made, f"use_limit_{axis}", True)
                setattr(made, f"{which}_{axis}", value)
            else:
                setattr(bone, f"use_ik_limit_{axis}", True)
                setattr(bone, f"ik_{which}_{axis}", value)
    assert bpy.ops.hands.fist() == {"FINISHED"}
    rows = {row.name: row for row in scene.calibration}
    assert all(row.ranges[0] == 1.0 for name, row in rows.items() if name.startswith("Right"))
    assert all(1.1 < row.ranges[1] < 2.5 for name, row in rows.items() if name in {"Left Index", "Left Ring"})
    assert bpy.ops.hands.key_onto_rig() == {"FINISHED"}
    shown = channels.to_both_eulers(keyed(rig, bone.name)[None], "XYZ")
    assert np.abs(np.abs(shown).max(axis=-1) - 0.9).min() < 2e-3  # one of its angles is at its end
    free = keyed(rig, hands["left"].fingers["index"][1])
    # Half as bent, it is on its way between straight and there.
    set_captured(captured, "left", (25, 30, 20))
    bpy.ops.hands.key_onto_rig()
    assert 0.2 < rotations.angle_between(keyed(rig, hands["left"].fingers["index"][1]), free) < 1.2
    set_captured(captured, "left", (0, 0, 0))
    with pytest.raises(RuntimeError, match="No captured finger is bent"):
        bpy.ops.hands.fist()


def test_a_fist_goes_as_far_as_the_rig_is_posed(scene):
    rig, hands = scene.target, target_rig.read_map(scene).hands
    set_captured(bpy.data.objects["Hand Left"], "left", (50, 60, 40))
    bpy.ops.hands.key_onto_rig()
    chain = hands["left"].fingers["ring"]
    start = [keyed(rig, bone) for bone in chain]
    scene.calibrated_hand = "left"
    assert bpy.ops.hands.fist() == {"FINISHED"}
    human = list(next(row.ranges for row in scene.calibration if row.name == "Left Ring"))
    bpy.ops.hands.reset_calibration()
    # Each bone bends on, about the axis about which it bends already.
    for bone, turn in zip(chain, start, strict=True):
        further = rotations.from_rotation_vector(1.3 * rotations.to_rotation_vector(turn))
        rig.pose.bones[bone].rotation_quaternion = further
    assert bpy.ops.hands.fist() == {"FINISHED"}
    ranges = list(next(row.ranges for row in scene.calibration if row.name == "Left Ring"))
    assert ranges != pytest.approx(human, abs=0.01)
    assert all(1.1 < each < 1.6 for each in ranges)


def test_a_calibration_stays_with_its_rig_map(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(target_rig, "user_map_folder", lambda: tmp_path)
    hands = target_rig.read_map(scene).hands
    pose_fingers(scene.target, hands["left"], ("thumb", "index"))
    bpy.ops.hands.match_pose()
    calibration_rows.find_row(scene, "right", "pinky").ranges = (1.5, 1.25, 1.0)
    before = target_rig.read_map(scene)
    assert bpy.ops.hands.save_rig_map(filepath=str(tmp_path / "Hero")) == {"FINISHED"}
    assert load_rig_map(tmp_path / "Hero.json").hands["left"].calibration == before.hands["left"].calibration
    assert load_rig_map(tmp_path / "Hero.json").hands["left"].metacarpals == KNOWN["Mixamo"].hands["left"].metacarpals
    target, scene.target = scene.target, None
    assert not any(map(calibration_rows.is_calibrated, scene.calibration))
    scene.target = target
    assert scene.rig_name == "Hero"
    after = target_rig.read_map(scene)
    for side in SIDES:
        assert after.hands[side].calibration == before.hands[side].calibration
    # A pose of other bones is none.
    scene.bones["Left Index 3"].bone = ""
    assert set(target_rig.read_map(scene).hands["left"].calibration) == {"thumb"}


def test_each_button_is_one_undo_step_and_says_why_it_is_grey(scene):
    hands = target_rig.read_map(scene).hands
    assert not bpy.ops.hands.reset_calibration.poll()
    pose_fingers(scene.target, hands["left"])
    assert_one_undo_step(bpy.ops.hands.match_pose)
    scene = bpy.context.scene.two_hands.retarget
    assert_one_undo_step(bpy.ops.hands.reset_calibration, index=0)
    scene = bpy.context.scene.two_hands.retarget
    assert [bool(row.bones) for row in scene.calibration] == [False] + [True] * 4 + [False] * 5
    assert_one_undo_step(bpy.ops.hands.reset_calibration)


# Limits


def limit_rotation(bone, ranges, order="AUTO", **options):
    """A Limit Rotation constraint with ranges {axis: (lowest, highest)}."""
    constraint = bone.constraints.new("LIMIT_ROTATION")
    constraint.owner_space, constraint.euler_order = "LOCAL", order
    for axis, (lowest, highest) in ranges.items():
        setattr(constraint, f"use_limit_{axis}", True)
        setattr(constraint, f"min_{axis}", lowest)
        setattr(constraint, f"max_{axis}", highest)
    for name, value in options.items():
        setattr(constraint, name, value)
    return constraint


@pytest.mark.parametrize("mode", ["QUATERNION", "XYZ", "ZXY", "AXIS_ANGLE"])
@pytest.mark.parametrize("order", ["AUTO", "ZYX"])
@pytest.mark.parametrize("legacy", [False, True])
def test_what_is_keyed_inside_limits_is_what_is_seen(models, mode, order, legacy):
    rig, armatures, rig_map = mixamo(models, mode=mode)
    rng = np.random.default_rng(2)
    bones = [bone for side in SIDES for chain in rig_map.hands[side].fingers.values() for bone in chain]
    for name in bones:
        ranges = {axis: (-rng.uniform(0, 0.2), rng.uniform(0, 0.2)) for axis in "xyz" if rng.random() < 0.8}
        limit_rotation(rig.pose.bones[name], ranges, order, use_legacy_behavior=legacy)
    done = retarget_now(rig, armatures, rig_map)
    assert any(note.startswith("Limits of the rig held ") for note in done.notes)
    assert not any(note.startswith("Constraints act") for note in done.notes)
    for frame in range(1, COUNT + 1):
        bpy.context.scene.frame_set(frame)
        for name in bones:
            bone = rig.pose.bones[name]
            seen = rig.convert_space(pose_bone=bone, matrix=bone.matrix, from_space="POSE", to_space="LOCAL")
            turned = seen.to_quaternion().rotation_difference(bone.matrix_basis.to_quaternion())
            assert min(turned.angle, 2 * np.pi - turned.angle) < 1e-3


def test_limits_that_do_not_limit_are_left_to_the_rig(models):
    rig, armatures, rig_map = mixamo(models)
    chain = rig_map.hands["left"].fingers["index"]
    narrow = dict.fromkeys("xyz", (0.0, 0.0))
    limit_rotation(rig.pose.bones[chain[0]], narrow, mute=True)
    limit_rotation(rig.pose.bones[chain[1]], narrow, influence=0.5)
    limit_rotation(rig.pose.bones[chain[2]], narrow, owner_space="WORLD")
    done = retarget_now(rig, armatures, rig_map)
    assert len(done.notes) == 1
    assert done.notes[0].startswith("Constraints act on 2 of the bones")
    assert rotations.angle_between(keyed(rig, chain[1]), np.array([1.0, 0, 0, 0])) > 1e-3


def test_limits_for_ik_count_when_they_shall(models):
    rig, armatures, rig_map = mixamo(models)
    name = rig_map.hands["left"].fingers["index"][1]
    bone = rig.pose.bones[name]
    for axis in "xyz":
        setattr(bone, f"use_ik_limit_{axis}", True)
        setattr(bone, f"ik_min_{axis}", -0.01)
        setattr(bone, f"ik_max_{axis}", 0.01)
    rest = np.array([1.0, 0, 0, 0])
    free = retarget_now(rig, armatures, rig_map, ik_limits=False)
    turned = max(rotations.angle_between(keyed(rig, name, frame), rest) for frame in range(1, COUNT + 1))
    held = retarget_now(rig, armatures, rig_map)
    assert not free.notes
    assert held.notes[0].startswith("Limits of the rig held 1 of its bones on ")
    assert turned > 0.1
    assert max(rotations.angle_between(keyed(rig, name, frame), rest) for frame in range(1, COUNT + 1)) < 0.02


@pytest.mark.parametrize("mode", ["QUATERNION", "XYZ"])
def test_a_hinge_bends_as_near_as_it_can(models, mode):
    """Nearer to the free bone than the same angle left over when the other two are dropped."""
    rig, armatures, rig_map = mixamo(models, mode=mode)
    names = [rig_map.hands["left"].fingers[finger][0] for finger in FINGERS]
    retarget_now(rig, armatures, rig_map)
    free = np.array([[keyed(rig, name, frame) for name in names] for frame in range(1, COUNT + 1)])
    for name in names:
        rig.pose.bones[name].lock_rotation = (False, True, True)
        rig.pose.bones[name].lock_rotations_4d = False
        rig.pose.bones[name].matrix_basis = Matrix()
    retarget_now(rig, armatures, rig_map)
    hinged = np.array([[keyed(rig, name, frame) for name in names] for frame in range(1, COUNT + 1)])
    assert np.abs(hinged[..., 2:]).max() < 1e-6
    angles = np.array([channels.to_euler(free[:, row], "XYZ") * [1, 0, 0] for row in range(len(names))])
    dropped = channels.from_euler(angles, "XYZ").swapaxes(0, 1)
    assert (rotations.angle_between(hinged, free) < rotations.angle_between(dropped, free) + 1e-6).all()
    assert rotations.angle_between(hinged, dropped).max() > 1e-3


# The palm


@pytest.mark.parametrize("mode", ["directions", "angles"])
def test_the_palm_cups_and_fingers_point_as_before(models, mode):
    rig_map = KNOWN["Rigify Metarig"]
    rng = np.random.default_rng(1)
    _, armatures, _ = mixamo(models)
    bpy.data.objects.remove(bpy.data.objects["Rig"])
    rig = build_rig(rng, models, rig_map)
    for armature, side in ((armatures[side], side) for side in SIDES):
        set_captured(armature, side, (60, 40, 20), frame=2)
    for share in (0.0, 0.15):
        done = retarget_now(rig, armatures, rig_map, wrist="ROTATION", fingers=mode, palm_share=share)
        assert done.bones == (32 if share == 0.0 else 36)
        if mode == "directions":
            assert worst_angle(rig, armatures, rig_map) < 0.05
    palm = rig_map.hands["left"].metacarpals["ring"]
    turn = rotations.angle_between(keyed(rig, palm, 2), np.array([1.0, 0, 0, 0]))
    assert np.degrees(turn) == pytest.approx(0.15 * 60, abs=0.01)
    assert retarget.remove_from_rig(rig) == (36, "")
    rig_map = KNOWN["VRoid Studio"]
    rig = build_rig(rng, models, rig_map, name="Other")
    done = retarget_now(rig, armatures, rig_map, palm_share=0.15)
    assert done.notes == ("The palm of Other has no bones that carry ring or little finger, so it stays flat.",)


def test_a_bone_in_the_palm_that_carries_no_finger_stays(models):
    rig_map = KNOWN["Rigify Metarig"]
    _, armatures, _ = mixamo(models)
    bpy.data.objects.remove(bpy.data.objects["Rig"])
    rig = build_rig(np.random.default_rng(1), models, rig_map)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    bones, hand = rig.data.edit_bones, rig_map.hands["left"]
    bones[hand.metacarpals["ring"]].parent = bones["chest"]
    bones[hand.fingers["ring"][0]].parent = bones[hand.wrist]
    bpy.ops.object.mode_set(mode="OBJECT")
    assert retarget_now(rig, armatures, rig_map, palm_share=0.15).bones == 33
    assert worst_angle(rig, armatures, rig_map, seen_from_hand=True) < 0.05


def test_limits_are_read_from_a_bone(models):
    rig, _, rig_map = mixamo(models, mode="ZXY")
    bone = rig.pose.bones[rig_map.hands["left"].fingers["index"][1]]
    assert bone_limits.limits_of(bone, with_ik=True) == ()
    bone.use_ik_limit_x, bone.ik_min_x, bone.ik_max_x = True, -0.25, 1.5
    limit_rotation(bone, {"z": (-0.5, 0.5)}, "YZX", use_transform_limit=False)
    ik, constraint = bone_limits.limits_of(bone, with_ik=True)
    assert (ik.order, ik.lowest, ik.highest) == ("ZXY", (-0.25, -np.inf, -np.inf), (1.5, np.inf, np.inf))
    assert (constraint.order, constraint.lowest[2], constraint.highest[0]) == ("YZX", -0.5, np.inf)
    assert bone_limits.limits_of(bone, with_ik=False) == (constraint,)
    assert rig_layer.place_of_layer(rig) is None
