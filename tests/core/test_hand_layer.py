"""The torch layer is the numpy model with gradients."""

from dataclasses import replace

import numpy as np
import pytest

from dir_core.conventions import JOINTS, SIDES
from dir_core.hand_model import load_hand_model, open_hand_models
from dir_core.rotations import from_rotation_vector, to_matrix

torch = pytest.importorskip("torch")

from dir_core.hand_layer import HandLayer, matrix_from_rotation_vector  # noqa: E402


def tiny(model):
    """The model with 40 vertices, among them the tips, so that numeric gradients are quick."""
    keep = np.array([*model.tip_vertices, *range(35)])
    rows = np.random.default_rng(0).uniform(size=(16, len(keep)))
    return replace(
        model,
        template=model.template[keep],
        shape_directions=model.shape_directions[keep],
        pose_directions=np.random.default_rng(1).normal(0.0, 1e-3, (len(keep), 3, 135)),
        joint_regressor=rows / rows.sum(axis=1, keepdims=True),
        weights=model.weights[keep],
        tip_vertices=tuple(range(5)),
    )


def check_against_numpy(model):
    random = np.random.default_rng(2)
    vectors = random.normal(0.0, 0.6, (3, len(JOINTS), 3))
    shape, translation = random.normal(size=10), random.normal(size=(3, 3))
    posed = model.pose(from_rotation_vector(vectors), translation, shape, 1.2)
    layer = HandLayer(model, dtype=torch.float64)
    matrices = torch.tensor(to_matrix(from_rotation_vector(vectors)))
    for rotation in (torch.tensor(vectors), matrices):
        hands = layer(rotation, torch.tensor(shape), torch.tensor(translation), 1.2)
        np.testing.assert_allclose(hands.vertices.numpy(), posed.vertices, atol=1e-12)
        np.testing.assert_allclose(hands.joints.numpy(), posed.joints, atol=1e-12)
        np.testing.assert_allclose(hands.keypoints.numpy(), posed.keypoints, atol=1e-12)


@pytest.mark.parametrize("side", SIDES)
def test_layer_equals_the_numpy_model(side):
    check_against_numpy(open_hand_models()[side])


@pytest.mark.parametrize("side", SIDES)
def test_layer_equals_the_numpy_model_with_pose_directions(side, shared):
    check_against_numpy(load_hand_model(shared / "dir_network" / "parity" / f"MANO_{side.upper()}.synthetic.npz", side))


def test_every_hand_of_a_batch_has_its_own_shape_and_scale():
    model = open_hand_models()["left"]
    layer = HandLayer(model, dtype=torch.float64)
    random = np.random.default_rng(3)
    vectors, shape, scale = random.normal(size=(2, 16, 3)), random.normal(size=(2, 10)), np.array([0.9, 1.1])
    hands = layer(torch.tensor(vectors), torch.tensor(shape), scale=torch.tensor(scale))
    for row in range(2):
        alone = model.pose(from_rotation_vector(vectors[row : row + 1]), None, shape[row], scale[row])
        np.testing.assert_allclose(hands.vertices[row].numpy(), alone.vertices[0], atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    layer = HandLayer(tiny(open_hand_models()["right"]), dtype=torch.float64)
    random = torch.Generator().manual_seed(4)
    rotation = torch.randn(1, 16, 3, generator=random, dtype=torch.float64) * 0.5
    rotation[:, 3:6] = 0.0  # flat joints are where Rodrigues' formula divides by zero
    inputs = [
        rotation,
        torch.randn(1, 10, generator=random, dtype=torch.float64),
        torch.randn(1, 3, generator=random, dtype=torch.float64),
        torch.tensor([1.1], dtype=torch.float64),
    ]

    def some_points(*values):
        hands = layer(*values)
        return hands.vertices[:, 10:13], hands.joints[:, 6], hands.keypoints[:, 4]

    assert torch.autograd.gradcheck(some_points, [value.requires_grad_() for value in inputs], fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_the_flat_hand_are_finite(dtype):
    layer = HandLayer(open_hand_models()["right"], dtype=dtype)
    rotation = torch.zeros(2, 16, 3, dtype=dtype, requires_grad=True)
    shape = torch.zeros(10, dtype=dtype, requires_grad=True)
    layer(rotation, shape).vertices.square().sum().backward()
    assert rotation.grad.isfinite().all()
    assert rotation.grad.abs().sum() > 0
    assert shape.grad.isfinite().all()


def test_rotation_vectors_of_every_size_become_matrices():
    random = np.random.default_rng(5)
    axes = random.normal(size=(9, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    vectors = axes * np.array([0, 1e-12, 1e-6, 0.9e-4, 1.1e-4, 1e-2, 1.0, 3.1, 6.0])[:, None]
    matrices = matrix_from_rotation_vector(torch.tensor(vectors)).numpy()
    np.testing.assert_allclose(matrices, to_matrix(from_rotation_vector(vectors)), atol=1e-13)


def test_model_data_stays_out_of_checkpoints():
    assert not HandLayer(open_hand_models()["right"]).state_dict()
