"""Poses read from curves alone are those that Blender evaluates, and whatever else could move a bone is noticed."""

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from addon import keying, layers
from addon.retargeting import animated, captured_hands, plain_bones, stand_in
from dir_core import rotations
from dir_core.conventions import SIDES
from tests.blender.test_retarget import body_action, key_captured, mixamo

MODES = ("QUATERNION", "XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX", "AXIS_ANGLE")
FRAMES = np.arange(-3, 34)


def finish(steps):
    """What a generator returns in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def evaluated(rig, names, frames=FRAMES):
    """[K, B, 4, 4] as Blender has them."""
    poses = np.empty((len(frames), len(names), 4, 4))
    for row, frame in enumerate(frames):
        bpy.context.scene.frame_set(int(frame))
        graph = bpy.context.evaluated_depsgraph_get()
        poses[row] = [rig.evaluated_get(graph).pose.bones[name].matrix for name in names]
    return poses


def busy_rig(models):
    """A rig with every rotation mode, moved by curves of every kind."""
    rig, _, rig_map = mixamo(models)
    rng = np.random.default_rng(8)
    place = keying.open_place(rig, None, "Body")
    for row, bone in enumerate(rig.pose.bones):
        bone.rotation_mode = MODES[row % len(MODES)]
        bone.scale = rng.uniform(0.8, 1.2, 3)
        bone.location = rng.normal(0, 0.1, 3)
        angle = bone.rotation_mode in ("QUATERNION", "AXIS_ANGLE")
        path = f"rotation_{bone.rotation_mode.lower()}" if angle else "rotation_euler"
        frames = np.sort(rng.choice(np.arange(1, 30), 6, replace=False)) + (0.25 if row % 3 else 0.0)
        keying.key_channels(
            place,
            frames,
            {
                **{
                    (bone.name, path, index): rng.normal(0, 1, 6)
                    for index in range(4 if angle else 3)
                    if index != row % 5
                },
                (bone.name, "location", row % 3): rng.normal(0, 0.1, 6),
                (bone.name, "scale", 1): rng.uniform(0.5, 2, 6),
            },
        )
    curves = list(place.curves)
    for row, curve in enumerate(curves):
        if row % 7 == 0:
            curve.modifiers.new("CYCLES")
        if row % 11 == 0:
            curve.modifiers.new("NOISE").strength = 0.3
        if row % 5 == 0:
            curve.extrapolation = "LINEAR"
        if row % 13 == 0:
            curve.mute = True
        for point in curve.keyframe_points:
            point.interpolation = ("BEZIER", "LINEAR", "CONSTANT", "SINE", "BOUNCE")[row % 5]
    return rig, rig_map


def test_read_and_evaluated_poses_agree(models):
    rig, _ = busy_rig(models)
    names = [bone.name for bone in rig.pose.bones][::-1]
    read = finish(plain_bones.plain_poses(rig, names, FRAMES))
    there = evaluated(rig, names)
    # Blender multiplies in single precision: the error grows with the length of the chain and of its vectors.
    size = np.maximum(np.abs(there).max(axis=(2, 3), keepdims=True), 1.0)
    assert np.abs((read - there) / size).max() < 4e-6


def test_read_and_evaluated_motion_agree(models, monkeypatch):
    rig, armatures, rig_map = mixamo(models, matrix=Matrix.Rotation(0.7, 4, "Y"))
    body_action(rig, ["hips", "chest", "forearm left", "forearm right"])
    keying.key_values(
        keying.place_of(armatures["left"]), "hide_viewport", np.array([1, 3]), np.array([1, 0]), group="x",
        interpolation="CONSTANT",
    )  # fmt: skip
    armatures["left"].matrix_world = Matrix.Rotation(0.4, 4, "X") @ Matrix.Translation((1, 2, 3))
    captured = {side: captured_hands.read_hand(armatures[side], side) for side in SIDES}
    wrists = {side: rig_map.hands[side].wrist for side in SIDES}
    frames = np.arange(-1, 9)

    def read(*, evaluate):
        with monkeypatch.context() as patch:
            if evaluate:
                patch.setattr(captured_hands, "stands_still", lambda _item: False)
                patch.setattr(captured_hands, "moves_over_time", lambda _rig, _animated: True)
            return finish(captured_hands.sample_motion(rig, captured, wrists, frames, with_target=True))

    quick, slow = read(evaluate=False), read(evaluate=True)
    for side in SIDES:
        for name in ("poses", "world", "target", "parent"):
            assert np.abs(getattr(quick[side], name) - getattr(slow[side], name)).max() < 1e-6, (side, name)
    assert len(bpy.data.scenes) == 1


def constrain(rig, armatures):
    rig.pose.bones["hips"].constraints.new("LIMIT_LOCATION")


def solve(rig, armatures):
    rig.pose.bones["mixamorig:LeftHand"].constraints.new("IK")


def drive(rig, armatures):
    rig.driver_add('pose.bones["chest"].location', 1)


def drive_data(rig, armatures):
    rig.data.driver_add("display_type")


def show_rest(rig, armatures):
    rig.data.pose_position = "REST"


def inherit_less(rig, armatures):
    rig.data.bones["chest"].inherit_scale = "NONE"


def play_below(rig, armatures):
    track = rig.animation_data.nla_tracks.new()
    track.strips.new("x", 1, rig.animation_data.action)


def mute_a_group(rig, armatures):
    next(iter(keying.place_of(rig).curves)).group.mute = True


def mix(rig, armatures):
    rig.animation_data.nla_tracks.new()
    rig.animation_data.action_influence = 0.5


@pytest.mark.parametrize(
    "change",
    [constrain, solve, drive, drive_data, show_rest, inherit_less, play_below, mute_a_group, mix],
    ids=lambda f: f.__name__,
)
def test_what_else_could_move_a_bone_is_noticed(models, change):
    rig, armatures, _ = mixamo(models)
    body_action(rig, ["hips", "chest"])
    assert finish(plain_bones.plain_poses(rig, ["chest"], FRAMES)) is not None
    change(rig, armatures)
    assert finish(plain_bones.plain_poses(rig, ["chest"], FRAMES)) is None


def test_a_correction_layer_is_noticed_and_a_track_without_these_bones_is_not(models):
    armatures = key_captured(models)
    armature = armatures["left"]
    names = [bone.name for bone in armature.pose.bones]
    layers.add_layer([armature])
    assert finish(plain_bones.plain_poses(armature, names, FRAMES)) is None
    rig, _, _ = mixamo(models)
    body_action(rig, ["hips"])
    other = keying.new_place(rig, "Other")
    keying.key_bones(other, np.array([1, 9]), rotations={"forearm left": rotations.from_rotation_vector(np.eye(3)[:2])})
    strip = rig.animation_data.nla_tracks.new().strips.new("x", 1, other.action)
    if keying.HAS_SLOTS:
        strip.action_slot = other.slot
    assert finish(plain_bones.plain_poses(rig, ["chest"], FRAMES)) is not None
    assert finish(plain_bones.plain_poses(rig, ["forearm left"], FRAMES)) is None


def test_an_object_that_moves_is_noticed(models):
    rig, _, _ = mixamo(models)
    body_action(rig, ["hips"])
    assert plain_bones.stands_still(rig)
    camera = bpy.data.objects.new("Camera", None)
    rig.parent = camera
    assert plain_bones.stands_still(rig)
    camera.keyframe_insert("location", frame=1)
    assert not plain_bones.stands_still(rig)
    camera.animation_data_clear()
    camera.constraints.new("COPY_LOCATION")
    assert not plain_bones.stands_still(rig)


def look_at_itself(rig):
    copy = rig.pose.bones["mixamorig:LeftHand"].constraints.new("COPY_ROTATION")
    copy.target, copy.subtarget = rig, "chest"
    curve = rig.driver_add('pose.bones["chest"].location', 1).driver
    curve.expression = "turn * 2"
    variable = curve.variables.new()
    variable.name, variable.targets[0].id = "turn", rig
    variable.targets[0].data_path = 'pose.bones["hips"].location[0]'


def follow_another(rig):
    rig.pose.bones["hips"].constraints.new("COPY_LOCATION").target = bpy.data.objects.new("Path", None)


def follow_the_frame(rig):
    rig.driver_add("location", 0).driver.expression = "frame / 10"


def read_another(rig):
    variable = rig.data.driver_add('bones["hips"].bbone_curveinx').driver.variables.new()
    variable.targets[0].id = bpy.data.objects.new("Control", None)


def hang_on_what_moves(rig):
    rig.parent = bpy.data.objects.new("Carrier", None)
    rig.parent.keyframe_insert("location")


def be_posed(rig):
    rig.pose.bones["hips"].keyframe_insert("location")


def test_a_rig_that_only_passes_on_motion_is_read_once(models):
    rig, _, _ = mixamo(models)
    look_at_itself(rig)
    assert not plain_bones.moves_over_time(rig, animated.channels_in(rig))
    bpy.context.scene.frame_set(5)
    steps = stand_in.sample_rig(rig, ["mixamorig:LeftHand"], FRAMES)
    assert sum(1 for _ in steps) == 1
    motion = finish(stand_in.sample_rig(rig, ["mixamorig:LeftHand"], FRAMES))
    there = evaluated(rig, ["mixamorig:LeftHand"])[:, 0]
    np.testing.assert_allclose(motion.poses["mixamorig:LeftHand"], there, atol=1e-6)


@pytest.mark.parametrize("change", [follow_another, follow_the_frame, read_another, hang_on_what_moves, be_posed])
def test_a_rig_that_something_moves_is_read_on_every_frame(models, change):
    rig, _, _ = mixamo(models)
    look_at_itself(rig)
    change(rig)
    assert plain_bones.moves_over_time(rig, animated.channels_in(rig))
    steps = stand_in.sample_rig(rig, ["mixamorig:LeftHand"], FRAMES)
    assert sum(1 for _ in steps) == len(FRAMES)
