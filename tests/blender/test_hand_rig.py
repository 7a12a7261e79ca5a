"""The rig is the hand model: bones, skin, axes and mirror, evaluated by Blender itself."""

import bpy
import numpy as np
import pytest

from addon import footage_view, hand_rig
from addon.axes import CAMERA_TO_BLENDER, MODEL_TO_REST, camera_to_blender, model_to_rest
from addon.scene import build_scene
from dir_core import rotations
from dir_core.conventions import JOINT_PARENTS, JOINTS, SIDES
from tests.takes import make_take


def bone_heads(armature):
    graph = bpy.context.evaluated_depsgraph_get()
    evaluated = armature.evaluated_get(graph)
    names = hand_rig.bone_names("left" if armature.name.endswith("Left") else "right")
    return np.array([evaluated.matrix_world @ evaluated.pose.bones[name].head for name in names])


def mesh_vertices(mesh):
    graph = bpy.context.evaluated_depsgraph_get()
    evaluated = mesh.evaluated_get(graph)
    data = evaluated.to_mesh()
    points = np.empty(3 * len(data.vertices), np.float32)
    data.vertices.foreach_get("co", points)
    world = np.array(evaluated.matrix_world)
    return points.reshape(-1, 3) @ world[:3, :3].T + world[:3, 3]


def rest_matrices(armature, side):
    return np.array([armature.data.bones[name].matrix_local.to_3x3() for name in hand_rig.bone_names(side)])


def build(models, side, shape=None, scale=1.0):
    shape = np.zeros(10) if shape is None else shape
    return hand_rig.build_hand(models[side], shape, scale, bpy.context.scene.collection)


def test_axes_as_quaternions_and_as_points_agree():
    points = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(rotations.rotate(CAMERA_TO_BLENDER, points), camera_to_blender(points), atol=1e-15)
    np.testing.assert_allclose(rotations.rotate(MODEL_TO_REST, points), model_to_rest(points), atol=1e-15)
    np.testing.assert_array_equal(camera_to_blender([1.0, 2.0, 3.0]), [1.0, 3.0, -2.0])


@pytest.mark.parametrize("scale", [1.0, 1.23])
def test_evaluated_bones_and_skin_are_the_posed_model(models, scale):
    take = make_take(models, scale=scale)
    scene = bpy.context.scene
    scene.render.fps = 30
    built = build_scene(take, models, scene)
    for side in SIDES:
        track = take.hand(side)
        posed = models[side].pose(track.rotation, track.translation, track.shape, float(track.scale[0]))
        for index in (0, 11, 23):
            scene.frame_set(int(built.frames[index]))
            hand = built.hands[side]
            np.testing.assert_allclose(
                bone_heads(hand.armature), camera_to_blender(posed.joints[index]), atol=2e-6, rtol=0
            )
            np.testing.assert_allclose(
                mesh_vertices(hand.mesh), camera_to_blender(posed.vertices[index]), atol=5e-6, rtol=0
            )


def test_rest_is_a_t_pose_with_the_wrist_at_the_origin(models):
    for side, outwards in (("left", 1.0), ("right", -1.0)):
        armature = build(models, side).armature
        bones = armature.data.bones
        wrist = bones[hand_rig.bone_name("wrist", side)]
        assert tuple(wrist.head_local) == (0.0, 0.0, 0.0)
        middle = np.array(bones[hand_rig.bone_name("middle3", side)].tail_local)
        thumb = np.array(bones[hand_rig.bone_name("thumb3", side)].tail_local)
        assert outwards * middle[0] > 0.1
        assert thumb[1] < middle[1] - 0.02, "the thumb is in front"
        palm = np.array(wrist.matrix_local.to_3x3())[:, 2]
        assert palm[2] < -0.9, "the palm looks down"


def test_bones_carry_the_names_parents_and_marks_of_a_hand(models):
    for side in SIDES:
        hand = build(models, side)
        bones = hand.armature.data.bones
        assert [bone.name for bone in bones] == [joint + {"left": ".L", "right": ".R"}[side] for joint in JOINTS]
        for bone, parent in zip(bones, JOINT_PARENTS, strict=True):
            assert bone.use_deform
            assert (bone.parent.name if bone.parent else None) == (bones[parent].name if parent >= 0 else None)
            assert hand.armature.pose.bones[bone.name].rotation_mode == "QUATERNION"
            assert bone.color.palette.startswith("THEME")
        assert [len(group.bones) for group in hand.armature.data.collections] == [16]
        assert bones["index2" + hand_rig.SIDE_SUFFIX[side]].use_connect


def test_local_x_is_the_flexion_axis_and_y_runs_along_the_bone(models):
    for side in SIDES:
        rest = rest_matrices(build(models, side).armature, side)
        directions = model_to_rest(models[side].bone_directions(np.zeros(10)))
        axes = model_to_rest(models[side].flexion_axes(np.zeros(10)))
        along = np.einsum("jc,jc->j", rest[1:, :, 1], directions)
        assert along.min() > np.cos(np.radians(1.0))
        across = axes - np.einsum("jc,jc->j", axes, rest[1:, :, 1])[:, None] * rest[1:, :, 1]
        across /= np.linalg.norm(across, axis=-1, keepdims=True)
        assert np.einsum("jc,jc->j", rest[1:, :, 0], across).min() > np.cos(np.radians(0.2))


def test_rolls_of_left_and_right_are_mirror_images(models):
    left = rest_matrices(build(models, "left").armature, "left")
    right = rest_matrices(build(models, "right").armature, "right")
    mirrored = right * np.array([-1.0, 1.0, 1.0])[None, :, None] * np.array([-1.0, 1.0, 1.0])[None, None, :]
    np.testing.assert_allclose(left, mirrored, atol=2e-3)


def test_turning_only_local_x_makes_a_fist_on_both_hands(models):
    for side in SIDES:
        hand = build(models, side)
        for bone in hand.armature.pose.bones:
            if bone.parent is not None and not bone.name.startswith("thumb"):
                bone.rotation_quaternion = (np.cos(np.radians(40)), np.sin(np.radians(40)), 0.0, 0.0)
        bpy.context.view_layer.update()
        suffix = hand_rig.SIDE_SUFFIX[side]
        for finger in ("index", "middle", "ring", "pinky"):
            knuckle = np.array(hand.armature.pose.bones[f"{finger}1{suffix}"].head)
            tip = np.array(hand.armature.pose.bones[f"{finger}3{suffix}"].tail)
            rest = hand.armature.data.bones
            length = sum(rest[f"{finger}{rank}{suffix}"].length for rank in (1, 2, 3))
            assert tip[2] < knuckle[2] - 0.15 * length, "curled to the palm, which looks down"
            assert np.linalg.norm(tip - knuckle) < 0.6 * length


def test_pasting_a_flipped_pose_mirrors_the_other_hand(models):
    """Blender flips a pose as (w, x, -y, -z) and (-x, y, z): with mirrored rolls that is the mirror image."""
    take = make_take(models)
    hands = {side: build(models, side) for side in SIDES}
    basis, location = hand_rig.basis_pose(
        hands["right"].armature, "right", take.right.rotation[:1], take.right.translation[:1]
    )
    for joint, bone in enumerate(hand_rig.bone_names("right")):
        hands["right"].armature.pose.bones[bone].rotation_quaternion = basis[0, joint]
    for joint, bone in enumerate(hand_rig.bone_names("left")):
        hands["left"].armature.pose.bones[bone].rotation_quaternion = basis[0, joint] * [1, 1, -1, -1]
    hands["right"].armature.pose.bones[0].location = location[0]
    hands["left"].armature.pose.bones[0].location = location[0] * [-1, 1, 1]
    bpy.context.view_layer.update()
    mirrored = bone_heads(hands["right"].armature) * [-1, 1, 1]
    np.testing.assert_allclose(bone_heads(hands["left"].armature), mirrored, atol=2e-3)


def test_skin_is_smooth_weighted_and_shaded(models):
    hand = build(models, "left")
    data = hand.mesh.data
    assert len(data.vertices) == len(models["left"].template)
    assert len(data.polygons) == len(models["left"].faces)
    assert all(polygon.use_smooth for polygon in data.polygons)
    total = np.array([sum(group.weight for group in vertex.groups) for vertex in data.vertices])
    np.testing.assert_allclose(total, 1.0, atol=1e-5)
    shader = next(node for node in data.materials[0].node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    assert shader.inputs["Subsurface Weight"].default_value > 0
    assert not hand.mesh.modifiers["Armature"].use_deform_preserve_volume


def test_a_hand_never_seen_is_hidden_and_told(models):
    take = make_take(models, count=5, observed=False)
    built = build_scene(take, models, bpy.context.scene)
    assert all(hand.mesh.hide_render and hand.mesh.hide_viewport for hand in built.hands.values())
    assert [note for note in built.notes if "never seen" in note] == [
        "The left hand was never seen and is hidden.",
        "The right hand was never seen and is hidden.",
    ]
    assert built.observed == {"left": 0, "right": 0}
    assert footage_view.footage_frame_rate(take).fps == 30
