"""The hand model poses, shapes and skins as MANO defines it, and its open hand is a sound hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dir_core.conventions import DEFAULT_HAND_LENGTH, FINGERS, JOINTS, KEYPOINTS, SIDES
from dir_core.hand_model import OPEN_HAND_FOLDER, HandModel, load_hand_model, open_hand_models
from dir_core.rotations import from_rotation_vector, multiply, rotate, to_rotation_vector

Array = NDArray[Any]

MIRROR = np.array([-1.0, 1.0, 1.0])
MIRRORED_TURN = np.array([1.0, 1.0, -1.0, -1.0])  # of a quaternion, under x -> -x
SAME_MICROMETRE = 1e-6


@pytest.fixture(params=SIDES)
def model(request: pytest.FixtureRequest) -> HandModel:
    return open_hand_models()[request.param]


def random_poses(seed: int, count: int = 4, spread: float = 0.6) -> Array:
    return from_rotation_vector(np.random.default_rng(seed).normal(0.0, spread, (count, len(JOINTS), 3)))


def curled(model: HandModel, angle: float) -> Array:
    """Every finger joint turned by `angle` about its flexion axis, [1, 16, 4]."""
    turns = np.concatenate([np.zeros((1, 3)), angle * model.flexion_axes()])
    return from_rotation_vector(turns)[None]


def posed_by_smplx(path: Path, side: str, rotation: Array, shape: Array) -> tuple[Array, Array]:
    """Vertices and joints of smplx.MANO, moved so that the wrist joint is the origin."""
    smplx = pytest.importorskip("smplx")
    torch = pytest.importorskip("torch")
    vectors = torch.tensor(to_rotation_vector(rotation))
    mano = smplx.MANO(
        str(path),
        is_rhand=side == "right",
        use_pca=False,
        flat_hand_mean=True,
        dtype=torch.float64,
        batch_size=len(rotation),
        ext=path.suffix[1:],
    )
    output = mano(
        betas=torch.tensor(np.tile(shape, (len(rotation), 1))),
        global_orient=vectors[:, 0],
        hand_pose=vectors[:, 1:].flatten(1),
    )
    joints = output.joints.detach().numpy()
    return output.vertices.detach().numpy() - joints[:, :1], joints - joints[:, :1]


def test_smplx_reads_the_open_hand_unchanged_and_agrees(model):
    shape = np.random.default_rng(1).normal(size=10)
    rotation = random_poses(2)
    vertices, joints = posed_by_smplx(OPEN_HAND_FOLDER / f"HAND_{model.side.upper()}.npz", model.side, rotation, shape)
    posed = model.pose(rotation, shape=shape)
    np.testing.assert_allclose(posed.vertices, vertices, atol=SAME_MICROMETRE)
    np.testing.assert_allclose(posed.joints, joints, atol=SAME_MICROMETRE)


@pytest.mark.parametrize("side", SIDES)
def test_a_model_with_pose_directions_agrees_with_smplx(side, shared, tmp_path):
    source = shared / "dir_network" / "parity" / f"MANO_{side.upper()}.synthetic.npz"
    path = tmp_path / f"MANO_{side.upper()}.npz"
    with np.load(source) as archive:
        fields = {name: archive[name] for name in archive.files}
    model = load_hand_model(source, side)
    fields["shapedirs"] = model.shape_directions  # smplx does not put the left hand's sign right
    np.savez(path, **fields)
    shape = np.random.default_rng(1).normal(size=10)
    rotation = random_poses(2)
    vertices, joints = posed_by_smplx(path, side, rotation, shape)
    posed = model.pose(rotation, shape=shape)
    assert model.pose_directions.any()
    np.testing.assert_allclose(posed.vertices, vertices, atol=SAME_MICROMETRE)
    np.testing.assert_allclose(posed.joints, joints, atol=SAME_MICROMETRE)
    np.testing.assert_allclose(model.pose_keypoints(rotation, shape=shape), posed.keypoints, atol=1e-12)


def test_the_translation_is_the_wrist_and_the_scale_grows_about_it(model):
    rotation = random_poses(3)
    translation = np.random.default_rng(4).normal(size=(4, 3))
    posed = model.pose(rotation, translation, scale=1.3)
    np.testing.assert_allclose(posed.joints[:, 0], translation, atol=1e-12)
    at_origin = model.pose(rotation)
    np.testing.assert_allclose(posed.vertices, 1.3 * at_origin.vertices + translation[:, None], atol=1e-12)


def test_keypoints_alone_are_those_of_the_posed_mesh(model):
    rotation, shape = random_poses(5, count=70), np.linspace(-2, 2, 10)
    translation = np.random.default_rng(6).normal(size=(70, 3))
    posed = model.pose(rotation, translation, shape, 0.9)
    keypoints = model.pose_keypoints(rotation, translation, shape, 0.9)
    assert keypoints.shape == (70, len(KEYPOINTS), 3)
    np.testing.assert_allclose(keypoints, posed.keypoints, atol=1e-12)
    np.testing.assert_allclose(model.rest_keypoints(shape)[0], model.rest_joints(shape)[0])


def test_no_frames_give_no_hands(model):
    assert model.pose(np.empty((0, 16, 4))).vertices.shape == (0, len(model.template), 3)
    assert model.pose_keypoints(np.empty((0, 16, 4)), np.empty((0, 3))).shape == (0, 21, 3)


def test_the_root_rotation_moves_the_hand_as_one_body(model):
    rotation = random_poses(7, count=1)
    turn = from_rotation_vector(np.array([0.3, -1.0, 0.7]))
    turned = rotation.copy()
    turned[:, 0] = multiply(turn, rotation[:, 0])
    np.testing.assert_allclose(model.pose(turned).vertices, rotate(turn, model.pose(rotation).vertices), atol=1e-12)


def test_a_mirrored_pose_gives_the_mirrored_hand():
    left, right = open_hand_models()["left"], open_hand_models()["right"]
    rotation, shape = random_poses(8), np.linspace(-2, 2, 10)
    mirrored = right.pose(rotation, shape=shape)
    posed = left.pose(rotation * MIRRORED_TURN, shape=shape)
    np.testing.assert_allclose(posed.keypoints, mirrored.keypoints * MIRROR, atol=1e-12)
    # Two vertices changed places, because the middle finger's tip has another number on the left.
    order = np.arange(len(left.template))
    order[[444, 445]] = 445, 444
    np.testing.assert_allclose(posed.vertices[:, order], mirrored.vertices * MIRROR, atol=1e-12)
    np.testing.assert_allclose(left.length(shape), right.length(shape), atol=1e-12)
    coefficients = np.random.default_rng(9).normal(0.0, 0.5, (3, 12))
    np.testing.assert_allclose(
        left.pose_from_components(coefficients), right.pose_from_components(coefficients) * MIRRORED_TURN, atol=1e-12
    )


def test_the_hand_is_one_closed_surface(model):
    faces = model.faces
    directed = {(face[i - 1], face[i]) for face in faces.tolist() for i in range(3)}
    assert len(directed) == 3 * len(faces)
    assert all((b, a) in directed for a, b in directed)
    assert len(model.template) - len(directed) // 2 + len(faces) == 2  # Euler: a sphere
    corners = model.template[faces]
    volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 250e-6 < volume < 500e-6  # cubic metres; faces point outwards
    areas = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    assert areas.min() > 1e-8


def test_every_face_has_its_place_in_the_texture(model):
    assert model.uv is not None
    assert model.uv_faces is not None
    assert model.uv_faces.shape == model.faces.shape
    assert 0 <= model.uv.min() <= model.uv.max() <= 1


def test_weights_and_regressor_are_partitions_of_one(model):
    assert model.weights.min() >= 0
    np.testing.assert_array_equal(model.weights.sum(axis=1), 1.0)
    np.testing.assert_allclose(model.joint_regressor.sum(axis=1), 1.0, atol=1e-6)


def test_tip_vertices_are_the_ends_of_the_fingers(model):
    bones = model.bone_directions()
    for finger, tip in zip(FINGERS, model.tip_vertices, strict=True):
        last = JOINTS.index(f"{finger}3")
        own = model.template[model.weights[:, last] > 0.9]
        along = (own - model.rest_joints()[last]) @ bones[last - 1]
        reach = (model.template[tip] - model.rest_joints()[last]) @ bones[last - 1]
        assert along.max() - reach < 0.001
        assert model.weights[tip, last] == 1.0


def test_the_hand_is_flat_with_the_fingers_along_x(model):
    sign = -1.0 if model.side == "right" else 1.0
    assert (model.bone_directions()[:12] @ [sign, 0, 0] > 0.99).all()
    np.testing.assert_allclose(model.rest_joints()[0], 0.0, atol=1e-6)
    assert model.rest_joints()[JOINTS.index("thumb2"), 2] > 0.03  # the thumb's side
    assert abs(model.length() - DEFAULT_HAND_LENGTH) < 0.01


def test_fingers_curl_about_z_as_in_mano(model):
    sign = 1.0 if model.side == "right" else -1.0
    assert (model.flexion_axes()[:12] @ [0, 0, sign] > 0.99).all()


def test_hinges_stand_on_their_bones(model):
    shape = np.linspace(-2, 2, 10)
    bones, axes = model.bone_directions(shape), model.flexion_axes(shape)
    np.testing.assert_allclose(np.linalg.norm(axes, axis=1), 1.0)
    np.testing.assert_allclose((bones * axes).sum(axis=1), 0.0, atol=1e-12)


def test_a_positive_curl_makes_a_fist(model):
    flat = model.rest_keypoints()
    palm_centre = flat[[0, 5, 17]].mean(axis=0) + np.array([0.0, -0.03, 0.0])
    fist = model.pose_keypoints(curled(model, np.radians(75)))[0]
    for tip in (8, 12, 16, 20):
        assert fist[tip, 1] < flat[tip, 1] - 0.02  # below the palm
        assert np.linalg.norm(fist[tip] - palm_centre) < 0.5 * np.linalg.norm(flat[tip] - palm_centre)
    # The thumb goes across the palm, towards the little finger.
    thumb = model.pose_keypoints(curled(model, np.radians(40)))[0, 4]
    assert thumb[2] < flat[4, 2] - 0.05
    assert np.linalg.norm(thumb - flat[9]) < np.linalg.norm(flat[4] - flat[9])


def test_a_bent_finger_keeps_its_volume(model):
    """Linear blend skinning must not collapse the knuckles: the finger's girth at a bent joint stays."""
    rest, bent = model.template, model.pose(curled(model, np.radians(80))).vertices[0]
    for finger in ("index", "middle", "ring", "pinky"):
        joint = JOINTS.index(f"{finger}2")
        ring = np.flatnonzero(np.minimum(model.weights[:, joint - 1], model.weights[:, joint]) > 0.3)
        side_to_side = np.ptp(rest[ring, 2]), np.ptp(bent[ring, 2])
        assert side_to_side[1] > 0.85 * side_to_side[0]


def test_shape_components_move_the_joints_they_name(model):
    def change(component: int) -> Array:
        return np.linalg.norm(model.rest_keypoints(np.eye(10)[component]) - model.rest_keypoints(), axis=1)

    np.testing.assert_allclose(model.rest_keypoints(np.eye(10)[0]), 1.05 * model.rest_keypoints(), atol=1e-4)
    for component, first in zip(range(3, 8), (1, 5, 9, 13, 17), strict=True):
        moved = change(component)
        own = np.arange(first, first + 4)
        assert moved[own[-1]] > 0.003
        assert (np.diff(moved[own]) > 0).all()
        assert np.delete(moved, own).max() < 1e-4
    assert change(1)[17] > 0.001
    assert change(8).max() < 0.001  # girth is flesh, not bone


def test_shape_components_are_independent_enough_to_be_fitted(model):
    directions = model.shape_directions.reshape(-1, 10)
    directions = directions / np.linalg.norm(directions, axis=0)
    assert np.linalg.cond(directions.T @ directions) < 50


def test_length_follows_the_size(model):
    assert model.length(2 * np.eye(10)[0]) == pytest.approx(1.1 * model.length(), abs=1e-4)


def test_pose_parameters_come_back(model):
    np.testing.assert_allclose(model.components @ model.components.T, np.eye(45), atol=1e-5)
    coefficients = np.random.default_rng(10).normal(0.0, 0.3, (6, 45))
    rotation = model.pose_from_components(coefficients)
    np.testing.assert_allclose(model.components_from_pose(rotation), coefficients, atol=1e-9)
    np.testing.assert_allclose(model.pose_from_axis_angle(model.axis_angle_from_pose(rotation)), rotation, atol=1e-12)
    flat = model.pose_from_axis_angle(np.zeros((1, 45)), add_mean=False)
    np.testing.assert_array_equal(flat, np.tile([1.0, 0.0, 0.0, 0.0], (1, 15, 1)))
    np.testing.assert_allclose(
        model.pose_from_components(np.zeros((1, 6))), model.pose_from_axis_angle(np.zeros((1, 45)))
    )


def test_the_mean_pose_is_relaxed(model):
    curl = (model.mean_pose.reshape(15, 3) * model.flexion_axes()).sum(axis=1)
    assert (curl > 0).all()
    assert curl.max() < np.radians(45)
