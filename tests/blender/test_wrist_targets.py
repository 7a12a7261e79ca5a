"""Where a captured wrist goes on a rig: the hand's bone, the IK target of its arm, the root; and what is seen then."""

from dataclasses import replace

import addon_utils
import bpy
import numpy as np
import pytest
from mathutils import Matrix, Quaternion, Vector

from addon import hand_rig, keying, registration
from addon.retargeting import arms, retarget, rig_base, rig_layer, stand_in, target_rig
from dir_core.conventions import SIDES
from dir_core.errors import SettingsError
from dir_core.retargeting.rig_map import ArmSwitch, RigMap
from tests.blender.test_plain_bones import evaluated, finish
from tests.blender.test_retarget import (
    COUNT,
    KNOWN,
    body_action,
    build_rig,
    digest,
    key_captured,
    mixamo,
    retarget_now,
    worst_angle,
)
from tests.blender.undo import assert_one_undo_step

NEAR = 1e-4  # metres
TURN = 0.01  # degrees


def near(rig, armatures, bone_of, *, frames=range(1, COUNT + 1), sides=SIDES):
    """Largest distance in metres between the captured wrists and bones of the rig."""
    worst = 0.0
    for frame in frames:
        bpy.context.scene.frame_set(frame)
        for side in sides:
            captured = armatures[side]
            there = captured.matrix_world @ captured.pose.bones[hand_rig.bone_name("wrist", side)].head
            worst = max(worst, (rig.matrix_world @ rig.pose.bones[bone_of[side]].head - there).length)
    return worst


def wrists_of(rig_map):
    """The wrist of each hand."""
    return {side: hand.wrist for side, hand in rig_map.hands.items()}


def place_within_reach(armatures, rig, wrists):
    """Move the captured hands, by an object above each, to where the rig's arms reach them."""
    for side, armature in armatures.items():
        bpy.context.scene.frame_set(1)
        place = armature.matrix_world @ armature.pose.bones[hand_rig.bone_name("wrist", side)].head
        rest = rig.matrix_world @ rig.data.bones[wrists[side]].head_local
        shoulder = rig.matrix_world @ rig.data.bones["chest"].head_local
        armature.matrix_world = Matrix.Translation(rest.lerp(shoulder, 0.35) - place) @ armature.matrix_world
    bpy.context.view_layer.update()


def with_ik(rig, rig_map, *, turns=True, switch=False, rng=None):
    """Give each arm of a built rig an upper arm, a bent elbow and an IK constraint with a target bone and a pole."""
    rng = rng or np.random.default_rng(0)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    bones = rig.data.edit_bones
    for side in SIDES:
        forearm, wrist = bones[f"forearm {side}"], bones[rig_map.hands[side].wrist]
        shoulder, end = Vector((0.15 if side == "left" else -0.15, 0, 1.3)), wrist.head.copy()
        upper = bones.new(f"upper {side}")
        upper.head, upper.parent = shoulder, bones["chest"]
        upper.tail = shoulder.lerp(end, 0.5) + Vector((0, 0.08, 0))
        forearm.head, forearm.tail, forearm.parent, forearm.use_connect = upper.tail, end, upper, True
        target = bones.new(f"goal {side}")
        target.head, target.tail = end, end + Vector(rng.normal(0, 0.1, 3))
        target.roll = rng.uniform(-3, 3)
    bpy.ops.object.mode_set(mode="OBJECT")
    for side in SIDES:
        ik = rig.pose.bones[f"forearm {side}"].constraints.new("IK")
        ik.target, ik.subtarget, ik.chain_count = rig, f"goal {side}", 2
        followers = [ik]
        if turns:
            turn = rig.pose.bones[rig_map.hands[side].wrist].constraints.new("COPY_ROTATION")
            turn.target, turn.subtarget = rig, f"goal {side}"
            followers.append(turn)
        if switch:
            rig.pose.bones[f"goal {side}"]["FK"] = 1.0
            for each in followers:
                driver = each.driver_add("influence").driver
                variable = driver.variables.new()
                variable.targets[0].id = rig
                variable.targets[0].data_path = f'pose.bones["goal {side}"]["FK"]'
                driver.expression = f"1 - {variable.name}"
    bpy.context.view_layer.update()


PLACED = Matrix.LocRotScale((1, 2, 0.3), Quaternion((1, 2, 0.5, 1)).normalized(), (1.7,) * 3)


@pytest.mark.parametrize("matrix", [None, PLACED], ids=["plain", "turned and scaled"])
@pytest.mark.parametrize("mode", ["QUATERNION", "XYZ"])
def test_an_ik_arm_brings_the_hand_where_the_captured_one_is(models, matrix, mode):
    rig, armatures, rig_map = mixamo(models, matrix=matrix, mode=mode)
    with_ik(rig, rig_map)
    wrists = wrists_of(rig_map)
    place_within_reach(armatures, rig, wrists)
    found = target_rig.detect(rig).rig_map
    assert {side: hand.ik for side, hand in found.hands.items()} == {side: f"goal {side}" for side in SIDES}
    done = retarget_now(rig, armatures, found, wrist="POSITION")
    assert done.notes == ()
    assert near(rig, armatures, wrists) < 5e-4  # what Blender's IK solver leaves
    assert near(rig, armatures, {side: f"goal {side}" for side in SIDES}) < NEAR
    assert worst_angle(rig, armatures, rig_map) < TURN * 5
    keyed = {curve.data_path for curve in rig_layer.place_of_layer(rig).curves}
    assert not any(f'"{wrist}"' in path for wrist in wrists.values() for path in keyed)


@pytest.mark.parametrize("switch", [False, True])
def test_a_hand_that_hangs_below_an_ik_arm_turns_as_the_arm_then_lies(models, switch):
    rig, armatures, rig_map = mixamo(models, matrix=PLACED)
    with_ik(rig, rig_map, turns=False, switch=switch)
    place_within_reach(armatures, rig, wrists_of(rig_map))
    found = target_rig.detect(rig).rig_map
    body_action(rig, ["hips", "chest"])
    retarget_now(rig, armatures, found, wrist="POSITION")
    assert near(rig, armatures, wrists_of(rig_map)) < 5e-4
    assert worst_angle(rig, armatures, rig_map) < 5 * TURN
    if switch:
        assert {("goal left", "FK"), ("goal right", "FK")} <= {
            (bone, name.strip('["]')) for bone, name, _ in _keyed(rig)
        }
    # Keyed again it stays the same, and nothing but the rig's own data is left in the file.
    counts = [len(each) for each in (bpy.data.objects, bpy.data.scenes, bpy.data.actions, bpy.data.armatures)]
    retarget_now(rig, armatures, found, wrist="POSITION")
    assert worst_angle(rig, armatures, rig_map) < 5 * TURN
    assert counts == [len(each) for each in (bpy.data.objects, bpy.data.scenes, bpy.data.actions, bpy.data.armatures)]


def switched(models, *, turns=True, **options):
    """A rig whose arms a custom property hands over to IK; it stands on FK."""
    rig, armatures, rig_map = mixamo(models, **options)
    with_ik(rig, rig_map, switch=True, turns=turns)
    place_within_reach(armatures, rig, wrists_of(rig_map))
    return rig, armatures, target_rig.detect(rig).rig_map


def test_the_switch_comes_and_goes_with_the_hands(models):
    rig, armatures, found = switched(models)
    for side in SIDES:
        assert found.hands[side].ik == f"goal {side}"
        assert found.hands[side].switch == ArmSwitch(f"goal {side}", "FK", fk=1.0, ik=0.0)
    body = body_action(rig, ["hips", "chest", "forearm left", "forearm right"])
    before = digest(body)
    retarget_now(rig, armatures, found, wrist="POSITION")
    assert near(rig, armatures, wrists_of(found)) < 5e-4
    assert worst_angle(rig, armatures, found) < 5 * TURN
    curves = [curve for curve in rig_layer.place_of_layer(rig).curves if curve.data_path.endswith('["FK"]')]
    assert len(curves) == 2
    for curve in curves:
        assert [(point.co.y, point.interpolation) for point in curve.keyframe_points] == [(0.0, "CONSTANT")]
    # Beyond the hands the body has its arms in FK as before, though nobody keyed that.
    bpy.context.scene.frame_set(COUNT + 10)
    assert rig.pose.bones["goal left"]["FK"] == 1.0
    assert rig.pose.bones["forearm left"].constraints["IK"].influence == 0.0
    retarget.remove_from_rig(rig)
    for frame in (2, COUNT + 10):
        bpy.context.scene.frame_set(frame)
        assert rig.pose.bones["goal right"]["FK"] == 1.0
    assert [track.name for track in rig.animation_data.nla_tracks] == []
    assert digest(body) == before


def test_rotation_alone_goes_where_it_is_seen(models):
    rig, armatures, found = switched(models)
    done = retarget_now(rig, armatures, found, wrist="ROTATION")
    assert done.notes == ()
    keyed = {bone for bone, _, _ in _keyed(rig)}
    assert {hand.wrist for hand in found.hands.values()} <= keyed
    assert not {"goal left", "goal right"} & keyed
    assert worst_angle(rig, armatures, found) < 5 * TURN
    retarget.remove_from_rig(rig)
    for side in SIDES:
        rig.pose.bones[f"goal {side}"]["FK"] = 0.0
        rig.pose.bones[f"goal {side}"].location = (0.01, 0.02, 0.03)
    rig.update_tag()
    bpy.context.view_layer.update()
    places = {side: rig.pose.bones[hand.wrist].head.copy() for side, hand in found.hands.items()}
    done = retarget_now(rig, armatures, found, wrist="ROTATION")
    assert {
        f"The arm of {hand.wrist} is in IK, its rotation went into {hand.ik}." for hand in found.hands.values()
    } == {*done.notes}
    assert worst_angle(rig, armatures, found) < 5 * TURN
    for side, hand in found.hands.items():
        assert (rig.pose.bones[hand.wrist].head - places[side]).length < NEAR
    assert not any("FK" in channel for _, channel, _ in _keyed(rig))


def _keyed(rig):
    """(bone, channel, index) of every curve of the layer."""
    found = set()
    for curve in rig_layer.place_of_layer(rig).curves:
        bone, _, channel = curve.data_path.removeprefix('pose.bones["').partition('"]')
        found.add((bone, channel.lstrip("."), curve.array_index))
    return found


def test_an_arm_that_the_body_switches_gets_the_rotation_on_both(models):
    rig, armatures, found = switched(models)
    body = keying.open_place(rig, None, "Body")
    for side in SIDES:
        path = keying.bone_path(f"goal {side}", keying.property_path("FK"))
        keying.key_values(body, path, np.array([1, 4]), np.array([1.0, 0.0]), group="Body", interpolation="CONSTANT")
    done = retarget_now(rig, armatures, found, wrist="ROTATION")
    assert all("changes between FK and IK" in note for note in done.notes)
    assert len(done.notes) == 2
    assert worst_angle(rig, armatures, found) < 5 * TURN


def test_what_was_set_by_hand_lies_below_the_hands_and_comes_back(models):
    rig, armatures, found = switched(models)
    goal = rig.pose.bones["goal left"]
    goal.location, goal["FK"] = (0.3, 0.2, 0.1), 0.25
    body_action(rig, ["hips", "chest"])
    rig.update_tag()
    retarget_now(rig, armatures, found, wrist="POSITION", fade=2)
    bpy.context.scene.frame_set(1)
    assert np.allclose(goal.location, (0.3, 0.2, 0.1), atol=1e-6)
    assert goal["FK"] == pytest.approx(0.25)
    bpy.context.scene.frame_set(3)
    assert goal["FK"] == pytest.approx(0.0, abs=1e-6)
    assert near(rig, armatures, {side: f"goal {side}" for side in SIDES}, frames=(3,)) < NEAR
    assert rig_base.base_track(rig) is not None
    # Keyed again, what the layer itself has written is not taken for what was there.
    retarget_now(rig, armatures, found, wrist="POSITION", fade=2)
    assert [track.name for track in rig.animation_data.nla_tracks] == [rig_base.BASE_TRACK, rig_layer.TRACK]
    retarget_now(rig, armatures, found)
    assert goal["FK"] == pytest.approx(0.25)
    retarget.remove_from_rig(rig)
    assert goal["FK"] == pytest.approx(0.25)
    assert np.allclose(goal.location, (0.3, 0.2, 0.1), atol=1e-6)
    assert not rig.animation_data.nla_tracks


@pytest.mark.parametrize("seed", range(4))
def test_any_hand_that_can_move_is_where_the_captured_one_is(models, seed):
    rng = np.random.default_rng(seed)
    matrix = Matrix.LocRotScale(
        rng.normal(0, 1, 3), Quaternion(rng.normal(0, 1, 4)).normalized(), (rng.uniform(0.3, 3),) * 3
    )
    rig_map = KNOWN["Mixamo"]
    rig, armatures = build_rig(rng, models, rig_map, matrix=matrix), key_captured(models)
    for name in ("hips", "chest", "forearm left", "forearm right", *wrists_of(rig_map).values()):
        bone = rig.data.bones[name]
        bone.use_inherit_rotation = bool(rng.integers(2))
        bone.use_local_location = bool(rng.integers(2))
        bone.inherit_scale = rng.choice(["FULL", "FIX_SHEAR", "ALIGNED", "AVERAGE", "NONE"])
    rig.pose.bones["chest"].scale = (1.3,) * 3
    above = bpy.data.objects.new("above", None)
    bpy.context.scene.collection.objects.link(above)
    above.rotation_euler, above.scale = rng.normal(0, 1, 3), (1.4,) * 3
    rig.parent = above
    for frame in (1, COUNT):
        above.location = rng.normal(0, 1, 3)
        above.keyframe_insert("location", frame=frame)
    body_action(rig, ["hips", "chest", "forearm left", "forearm right"])
    retarget_now(rig, armatures, rig_map, wrist="POSITION", into="HAND")
    assert near(rig, armatures, wrists_of(rig_map)) < NEAR
    assert worst_angle(rig, armatures, rig_map) < 5 * TURN


def one_hand(rig_map, side="left"):
    """The map of a rig that is one hand."""
    return RigMap(rig_map.name, {side: rig_map.hands[side]})


@pytest.mark.parametrize("locked", [False, True], ids=["topmost bone", "armature object"])
def test_the_root_brings_one_hand_where_the_captured_one_is(models, locked):
    rig, armatures, rig_map = mixamo(models, matrix=PLACED)
    body_action(rig, ["chest", "forearm left"])
    above = bpy.data.objects.new("above", None)
    bpy.context.scene.collection.objects.link(above)
    above.location, above.rotation_euler, above.scale = (1, 2, 3), (1, 0.5, 0.2), (2, 2, 2)
    rig.parent = above
    for bone in rig.pose.bones if locked else ():
        bone.lock_location = (True,) * 3
    place = rig.location.copy()
    retarget_now(rig, armatures, one_hand(rig_map), wrist="POSITION", into="ROOT")
    assert near(rig, armatures, wrists_of(rig_map), sides=("left",)) < NEAR
    assert worst_angle(rig, armatures, rig_map, ("left",)) < 5 * TURN
    places = {bone for bone, channel, _ in _keyed(rig) if channel == "location"} - {"location"}
    assert places == (set() if locked else {"hips"})
    # Keyed again, the root is not taken for where the body has it.
    retarget_now(rig, armatures, one_hand(rig_map), wrist="POSITION", into="HAND" if not locked else "ROOT")
    assert near(rig, armatures, wrists_of(rig_map), sides=("left",)) < NEAR
    retarget.remove_from_rig(rig)
    assert (rig.location - place).length < 1e-6
    with pytest.raises(SettingsError, match="cannot both decide"):
        retarget_now(rig, armatures, rig_map, wrist="POSITION", into="ROOT")


def test_a_rig_that_is_one_hand_is_moved_by_its_root(models):
    rig, armatures, rig_map = mixamo(models)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    rig.data.edit_bones[rig_map.hands["left"].wrist].use_connect = True
    bpy.ops.object.mode_set(mode="OBJECT")
    retarget_now(rig, armatures, one_hand(rig_map), wrist="POSITION")
    assert ("hips", "location", 0) in _keyed(rig)
    assert near(rig, armatures, wrists_of(rig_map), sides=("left",)) < NEAR


def test_hands_move_from_where_the_rig_has_them_on_the_first_frame(models):
    rig, armatures, rig_map = mixamo(models, matrix=Matrix.Diagonal((2, 2, 2, 1)))
    rig.pose.bones["chest"].rotation_quaternion = Quaternion((0, 0, 1), 0.3)
    bpy.context.view_layer.update()
    rest = {side: rig.matrix_world @ rig.pose.bones[hand.wrist].head for side, hand in rig_map.hands.items()}
    for fit in (False, True):
        retarget_now(rig, armatures, rig_map, wrist="POSITION", place="FIRST", fit=fit)
        for side, hand in rig_map.hands.items():
            ways = []
            for frame in (1, 5):
                bpy.context.scene.frame_set(frame)
                wrist = armatures[side].pose.bones[hand_rig.bone_name("wrist", side)]
                ways.append(
                    (armatures[side].matrix_world @ wrist.head, rig.matrix_world @ rig.pose.bones[hand.wrist].head)
                )
            assert (ways[0][1] - rest[side]).length < NEAR
            captured, own = (last - first for first, last in zip(*ways, strict=True))
            growth = 1.0
            if fit:
                knuckle = rig.data.bones[hand.fingers["middle"][0]].head_local
                source = armatures[side].data.bones
                ends = [source[hand_rig.bone_name(joint, side)].head_local for joint in ("wrist", "middle1")]
                growth = 2 * (knuckle - rig.data.bones[hand.wrist].head_local).length / (ends[1] - ends[0]).length
            assert (own - growth * captured).length < NEAR
        assert worst_angle(rig, armatures, rig_map) < 5 * TURN


def test_an_arm_that_is_too_short_is_told(models):
    rig, armatures, found = switched(models)
    armatures["right"].matrix_world = Matrix.Translation((5, 0, 0)) @ armatures["right"].matrix_world
    bpy.context.view_layer.update()
    done = retarget_now(rig, armatures, found, wrist="POSITION")
    assert done.notes == (f"On {COUNT} frames the right hand is farther away than the arm of Rig reaches.",)


def test_what_holds_a_hand_is_named(models):
    rig, armatures, rig_map = mixamo(models)
    wrist = rig.pose.bones[rig_map.hands["left"].wrist]
    held = wrist.constraints.new("COPY_TRANSFORMS")
    held.target, held.subtarget = rig, "hips"
    done = retarget_now(rig, armatures, rig_map, wrist="ROTATION")
    assert done.notes == (
        f"{wrist.name} is held by hips through its constraint Copy Transforms, which hides its keys: "
        "choose hips as IK target.",
    )
    held.mute = True
    assert retarget_now(rig, armatures, rig_map, wrist="ROTATION").notes == ()


def test_an_ik_target_on_other_constraints_is_reached(models):
    rig, armatures, rig_map = mixamo(models, matrix=PLACED)
    with_ik(rig, rig_map)
    space = rig.pose.bones["goal left"].constraints.new("CHILD_OF")
    space.target, space.subtarget = rig, "chest"
    space.inverse_matrix = Matrix.LocRotScale((0.1, 0.2, 0.3), Quaternion((1, 0.2, 0, 0)).normalized(), (1, 1, 1))
    place_within_reach(armatures, rig, wrists_of(rig_map))
    body_action(rig, ["hips", "chest"])
    found = target_rig.detect(rig).rig_map
    retarget_now(rig, armatures, found, wrist="POSITION")
    assert near(rig, armatures, {side: f"goal {side}" for side in SIDES}) < NEAR
    assert worst_angle(rig, armatures, rig_map) < 5 * TURN


def test_a_mirrored_hand_goes_into_the_ik_target_of_the_other_arm(models):
    rig, armatures, found = switched(models)
    retarget_now(rig, armatures, found, wrist="POSITION", mirrored=True, sides=("right",))
    for frame in range(1, COUNT + 1):
        bpy.context.scene.frame_set(frame)
        captured = (
            armatures["left"].matrix_world @ armatures["left"].pose.bones[hand_rig.bone_name("wrist", "left")].head
        )
        assert (rig.pose.bones["goal right"].head - captured * Vector((-1, 1, 1))).length < NEAR


def test_what_the_panel_says_wrong_is_told_and_changes_nothing(models):
    rig, armatures, found = switched(models)
    hand = found.hands["left"]
    for wrong, message in (
        (replace(hand, ik="nowhere"), "has no bone nowhere, correct the IK target"),
        (replace(hand, switch=ArmSwitch("hips", "none", 0.0, 1.0)), "hips has no number none, correct the switch"),
        (replace(hand, ik="", switch=None), "is not known, choose it in the panel Wrist"),
    ):
        with pytest.raises(SettingsError, match=message):
            retarget_now(rig, armatures, RigMap("x", {"left": wrong}), wrist="POSITION", into="IK")
    rig.pose.bones["goal left"].lock_location = (True,) * 3
    with pytest.raises(SettingsError, match="goal left cannot be moved"):
        retarget_now(rig, armatures, found, wrist="POSITION")
    assert not rig.animation_data.nla_tracks


def test_ending_early_leaves_nothing_behind(models):
    rig, armatures, found = switched(models)
    counts = [len(each) for each in (bpy.data.objects, bpy.data.scenes, bpy.data.actions)]
    for count in (COUNT + 1, 2 * COUNT, 2 * COUNT + 2):
        steps = retarget.key_onto_rig(rig, armatures, found, retarget.Wanted(wrist="POSITION"))
        for _ in range(count):
            next(steps)
        steps.close()
        assert counts == [len(each) for each in (bpy.data.objects, bpy.data.scenes, bpy.data.actions)]
        assert not rig.animation_data.nla_tracks


def generate_rigify():
    """A generated human rig without a face."""
    addon_utils.enable("rigify", default_set=True)
    bpy.ops.object.armature_human_metarig_add()
    bpy.ops.object.mode_set(mode="EDIT")
    bones = bpy.context.object.data.edit_bones
    for bone in [*bones["face"].children_recursive, bones["face"]]:  # most of the time that generating takes
        bones.remove(bone)
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.ops.pose.rigify_generate()
    return bpy.context.object


def test_a_generated_rigify_rig_goes_where_the_captured_hands_are(models):
    rig, armatures = generate_rigify(), key_captured(models)
    found = target_rig.detect(rig).rig_map
    assert found.name == "Rigify"
    bpy.context.scene.frame_set(1)
    for side, mark in zip(SIDES, "LR", strict=True):
        assert found.hands[side].ik == f"hand_ik.{mark}"
        assert arms.state_of(rig, found.hands[side]) == "IK"
        armature = armatures[side]
        place = armature.matrix_world @ armature.pose.bones[hand_rig.bone_name("wrist", side)].head
        there = rig.pose.bones[f"DEF-hand.{mark}"].head.lerp(rig.pose.bones[f"DEF-upper_arm.{mark}"].head, 0.3)
        armature.matrix_world = Matrix.Translation(there - place) @ armature.matrix_world
        rig.pose.bones[f"upper_arm_parent.{mark}"]["IK_FK"] = 1.0
    deforming = {side: f"DEF-hand.{mark}" for side, mark in zip(SIDES, "LR", strict=True)}
    done = retarget_now(rig, armatures, found, wrist="POSITION")
    assert (done.bones, done.notes) == (32, ())
    assert near(rig, armatures, deforming) < 5e-4
    assert worst_angle(rig, armatures, KNOWN["Rigify Deform Bones"]) < 5 * TURN
    retarget.remove_from_rig(rig)
    assert rig.pose.bones["upper_arm_parent.L"]["IK_FK"] == 1.0
    rig.pose.bones["upper_arm_parent.L"]["IK_FK"] = rig.pose.bones["upper_arm_parent.R"]["IK_FK"] = 0.0
    retarget_now(rig, armatures, found, wrist="ROTATION")
    assert worst_angle(rig, armatures, KNOWN["Rigify Deform Bones"]) < 5 * TURN


def test_an_override_of_a_linked_rig_goes_into_its_ik_targets(models, tmp_path):
    rig, armatures, found = switched(models)
    places = {side: armature.matrix_world.copy() for side, armature in armatures.items()}
    bpy.data.libraries.write(str(tmp_path / "hero.blend"), {rig}, fake_user=True)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    armatures = key_captured(models)
    for side, armature in armatures.items():
        armature.matrix_world = places[side]
    with bpy.data.libraries.load(str(tmp_path / "hero.blend"), link=True) as (_, wanted):
        wanted.objects = ["Rig"]
    (linked,) = wanted.objects
    bpy.context.scene.collection.objects.link(linked)
    override = linked.override_create(remap_local_usages=True)
    bpy.context.view_layer.update()
    retarget_now(override, armatures, found, wrist="POSITION")
    assert near(override, armatures, wrists_of(found)) < 5e-4
    assert worst_angle(override, armatures, found) < 5 * TURN
    retarget.remove_from_rig(override)
    assert override.pose.bones["goal left"]["FK"] == 1.0


# The panel's settings, the preview, undo


@pytest.fixture
def scene(models, request):
    """A registered add-on, a take's row with both captured hands, and a rig with switched IK arms that is chosen."""
    registration.register()
    settings = bpy.context.scene.two_hands
    rig, armatures, _ = switched(models, turns=getattr(request, "param", True))
    item = settings.takes.add()
    item.uid = "take"
    item.keying.left, item.keying.right = armatures["left"], armatures["right"]
    settings.retarget.target = rig
    settings.retarget.wrist = "POSITION"
    yield settings.retarget
    registration.unregister()


def test_the_panel_keeps_what_moves_the_arms(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(target_rig, "user_map_folder", lambda: tmp_path)
    arm = scene.arm_left
    assert (arm.ik, arm.switch_bone, arm.switch, arm.switch_fk, arm.switch_ik) == (
        "goal left",
        "goal left",
        "FK",
        1.0,
        0.0,
    )
    arm.ik, arm.switch, arm.switch_ik = "hips", "FK", 0.5
    assert bpy.ops.hands.save_rig_map(filepath=str(tmp_path / "mine.json")) == {"FINISHED"}
    bpy.ops.hands.detect_rig()
    assert scene.rig_name == "mine"
    assert (arm.ik, arm.switch_ik) == ("hips", 0.5)
    arm.switch = ""
    assert target_rig.read_map(scene).hands["left"].switch is None
    arm.ik = ""
    bpy.ops.hands.load_rig_map(filepath=str(tmp_path / "mine.json"))
    assert scene.arm_left.ik == "hips"


def test_keying_into_ik_targets_is_one_undo_step(scene):
    scene.place = "FIRST"
    assert_one_undo_step(bpy.ops.hands.key_onto_rig)
    assert_one_undo_step(bpy.ops.hands.remove_from_rig)


@pytest.mark.parametrize("scene", [True, False], indirect=True, ids=["turned by it", "turning below it"])
def test_the_preview_shows_arms_in_ik_and_puts_their_switch_back(scene):
    rig = scene.target
    hands = bpy.context.scene.two_hands.takes[0].keying
    armatures = {"left": hands.left, "right": hands.right}
    found = target_rig.read_map(scene)
    scene.preview = True
    assert near(rig, armatures, wrists_of(found)) < 5e-4
    assert worst_angle(rig, armatures, found) < 5 * TURN
    assert rig.animation_data is None or rig.animation_data.action is None
    scene.preview = False
    assert [rig.pose.bones[f"goal {side}"]["FK"] for side in SIDES] == [1.0, 1.0]
    assert rig.pose.bones["goal left"].location.length == 0.0


def test_what_has_no_say_is_left_out_and_nothing_else(models):
    """Every control and every setting of a character moves; its arms are read as they are seen, to the last bit."""
    rig, rng, frames = generate_rigify(), np.random.default_rng(3), np.arange(1, 41, 3)
    for frame in (1, 20, 40):
        for bone in (each for each in rig.pose.bones if not each.name.startswith(("DEF", "ORG", "MCH"))):
            bone.rotation_mode = "QUATERNION"
            bone.rotation_quaternion = (1.0, *rng.normal(0.0, 0.15, 3))
            bone.keyframe_insert("rotation_quaternion", frame=frame)
            if not bone.bone.use_connect:
                bone.location = rng.normal(0.0, 0.02, 3)
                bone.keyframe_insert("location", frame=frame)
            for name in [name for name, value in bone.items() if isinstance(value, float) and 0.0 <= value <= 1.0]:
                bone[name] = rng.uniform()
                bone.keyframe_insert(f'["{name}"]', frame=frame)
    names = [f"{bone}.{mark}" for bone in ("hand_ik", "hand_fk", "ORG-hand", "DEF-forearm") for mark in "LR"]
    counts = [len(each) for each in (bpy.data.objects, bpy.data.armatures, bpy.data.scenes)]
    read = finish(stand_in.sample_rig(rig, names, frames))
    assert counts == [len(each) for each in (bpy.data.objects, bpy.data.armatures, bpy.data.scenes)]
    np.testing.assert_array_equal(np.stack([read.poses[name] for name in names], axis=1), evaluated(rig, names, frames))
    assert len(stand_in._decisive(rig, names)) < len(rig.pose.bones) / 3
