"""Known displacements of two hands give exactly the figures that the protocol's definitions say."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dir_core.conventions import SIDES, Side
from dir_core.errors import SettingsError
from dir_core.evaluation.protocol import (
    PairPrediction,
    PairTruth,
    Protocol,
    ProtocolErrors,
    ProtocolFigures,
    acceleration_error,
    joints_of_mesh,
)
from dir_core.hand_model import HandModel, open_hand_models
from dir_core.rotations import from_rotation_vector

COUNT = 12
Pair = dict[Side, np.ndarray]


@pytest.fixture(scope="module")
def hands() -> dict[Side, HandModel]:
    # Rows of the stored regressors sum to one within float32; exact ones make every expectation exact.
    return {side: with_exact_regressor(hand) for side, hand in open_hand_models().items()}


def with_exact_regressor(hand: HandModel) -> HandModel:
    return replace(hand, joint_regressor=hand.joint_regressor / hand.joint_regressor.sum(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def meshes(hands: dict[Side, HandModel]) -> Pair:
    """Vertices [12, V, 3] of both hands in random poses, 8 cm apart, 60 cm from the camera."""
    random = np.random.default_rng(3)
    found = {}
    for side, shift in (("left", 0.04), ("right", -0.04)):
        rotation = from_rotation_vector(random.normal(0, 0.25, (COUNT, 16, 3)))
        place = random.normal([shift, 0.0, 0.6], 0.01, (COUNT, 3))
        found[side] = hands[side].pose(rotation, place, random.normal(0, 1, 10)).vertices
    return found


CAMERA = np.array([[500.0, 0, 128], [0, 500.0, 128], [0, 0, 1]])


def truth_of(meshes: Pair, hands: dict[Side, HandModel], step: int = 1) -> PairTruth:
    count = len(meshes["left"])
    return PairTruth(
        joints={side: joints_of_mesh(meshes[side], hands[side]) for side in SIDES},
        vertices=meshes,
        camera_matrix=np.broadcast_to(CAMERA, (count, 3, 3)),
        sequence=["motion"] * count,
        number=list(range(100, 100 + step * count, step)),
    )


def prediction_of(meshes: Pair, hands: dict[Side, HandModel], root: int = 0) -> PairPrediction:
    """What a perfect network with this root joint says about hands that lie like this."""
    roots = {side: joints_of_mesh(meshes[side], hands[side])[:, root] for side in SIDES}
    return PairPrediction(
        vertices={side: meshes[side] - roots[side][:, None] for side in SIDES},
        relative_root=roots["right"] - roots["left"],
        root_joint=root,
    )


def measure(predicted: PairPrediction, meshes: Pair, hands: dict[Side, HandModel], **protocol: Any) -> ProtocolFigures:
    errors = ProtocolErrors(Protocol(**protocol), hands)
    errors.add(predicted, truth_of(meshes, hands))
    return errors.figures()


@pytest.mark.parametrize("root", [0, 9])
@pytest.mark.parametrize("network_root", [0, 9])
@pytest.mark.parametrize("scale", [True, False])
def test_the_truth_itself_has_no_error(
    meshes: Pair, hands: dict[Side, HandModel], root: int, network_root: int, scale: bool
) -> None:
    figures = measure(prediction_of(meshes, hands, network_root), meshes, hands, root=root, scale=scale, frame_rate=30)
    for name, value in vars(figures.average).items():
        assert value == pytest.approx(0, abs=1e-6), name
    assert figures.mrrpe_mm == pytest.approx(0, abs=1e-9)
    assert figures.frames == COUNT


def test_size_is_forgiven_only_with_scale_alignment(meshes: Pair, hands: dict[Side, HandModel]) -> None:
    predicted = prediction_of(meshes, hands)
    larger = PairPrediction(
        {side: 1.1 * predicted.vertices[side] for side in SIDES}, predicted.relative_root, predicted.root_joint
    )
    scaled = measure(larger, meshes, hands, scale=True)
    assert scaled.average.mpjpe_mm == pytest.approx(0, abs=1e-9)
    assert scaled.average.mpvpe_mm == pytest.approx(0, abs=1e-9)
    assert scaled.average.joint_pixels == pytest.approx(0, abs=1e-9)
    plain = measure(larger, meshes, hands, scale=False)
    for side in SIDES:
        joints = joints_of_mesh(meshes[side], hands[side])
        distance = np.linalg.norm(joints - joints[:, :1], axis=-1)
        assert getattr(plain, side).mpjpe_mm == pytest.approx(100 * distance.mean())
        vertices = np.linalg.norm(meshes[side] - joints[:, :1], axis=-1)
        assert getattr(plain, side).mpvpe_mm == pytest.approx(100 * vertices.mean())
    assert plain.average.pa_mpjpe_mm == pytest.approx(0, abs=1e-6)
    assert plain.mrrpe_mm == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("root", [0, 9])
def test_a_turn_about_the_wrist_depends_on_the_root_joint(
    meshes: Pair, hands: dict[Side, HandModel], root: int
) -> None:
    turn = from_rotation_vector(np.array([0.0, 0.0, 0.1]))
    cosine, sine = math.cos(0.1), math.sin(0.1)
    matrix = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    assert turn[3] == pytest.approx(math.sin(0.05))
    predicted = prediction_of(meshes, hands)
    turned = PairPrediction(
        {"left": predicted.vertices["left"] @ matrix.T, "right": predicted.vertices["right"]},
        predicted.relative_root,
        0,
    )
    figures = measure(turned, meshes, hands, root=root)
    joints = joints_of_mesh(meshes["left"], hands["left"])
    radius = np.linalg.norm((joints - joints[:, root, None])[..., :2], axis=-1)
    assert figures.left.mpjpe_mm == pytest.approx(2e3 * math.sin(0.05) * radius.mean())
    assert figures.right.mpjpe_mm == pytest.approx(0, abs=1e-9)
    assert figures.average.mpjpe_mm == pytest.approx(figures.left.mpjpe_mm / 2)
    assert figures.left.pa_mpjpe_mm == pytest.approx(0, abs=1e-6)
    # The wrists are where they belong; the knuckles are not.
    moved = np.linalg.norm((joints[:, 9] - joints[:, 0])[..., :2], axis=-1)
    expected = 0.0 if root == 0 else 2e3 * math.sin(0.05) * moved.mean()
    assert figures.mrrpe_mm == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("scale", [True, False])
def test_the_relative_root_is_never_scaled(meshes: Pair, hands: dict[Side, HandModel], scale: bool) -> None:
    predicted = prediction_of(meshes, hands)
    off = PairPrediction(
        {side: 1.2 * predicted.vertices[side] for side in SIDES},
        predicted.relative_root + [0.003, 0.0, -0.004],
        0,
    )
    assert measure(off, meshes, hands, scale=scale).mrrpe_mm == pytest.approx(5.0)


def test_pixels_are_those_of_the_camera_of_the_crop(hands: dict[Side, HandModel]) -> None:
    # Flat hands in the picture's plane at 60 cm, so that a millimetre is 500 / 600 px everywhere.
    flat = {side: hand.template[None, :, [0, 2, 1]] * [1, 1, 0] + [0.02, 0.01, 0.6] for side, hand in hands.items()}
    predicted = prediction_of(flat, hands)
    wrong = predicted.vertices["left"].copy()
    idle = next(vertex for vertex, used in enumerate(hands["left"].joint_regressor.any(axis=0)) if not used)
    assert idle not in hands["left"].tip_vertices
    wrong[:, idle] += [0.0, 0.006, 0.0]
    figures = measure(replace(predicted, vertices={**predicted.vertices, "left": wrong}), flat, hands)
    assert figures.left.vertex_pixels == pytest.approx(5.0 / len(wrong[0]))
    assert figures.left.mpvpe_mm == pytest.approx(6.0 / len(wrong[0]))
    assert figures.left.joint_pixels == pytest.approx(0, abs=1e-9)
    assert figures.right.vertex_pixels == pytest.approx(0, abs=1e-9)


def test_a_mirrored_scene_gives_mirrored_figures() -> None:
    # A pair of hands that are exact mirror images of each other, vertex by vertex.
    right = with_exact_regressor(open_hand_models()["right"])
    hands = {"left": right, "right": right}
    random = np.random.default_rng(5)
    mirror = np.array([-1.0, 1.0, 1.0])
    meshes, predicted = (
        {
            side: right.pose(from_rotation_vector(random.normal(0, 0.2, (COUNT, 16, 3))), place).vertices
            for side, place in (
                ("left", np.tile([0.05, 0, 0.6], (COUNT, 1))),
                ("right", np.tile([-0.04, 0, 0.7], (COUNT, 1))),
            )
        }
        for _ in range(2)
    )

    def mirrored(pair: Pair) -> Pair:
        return {"left": pair["right"] * mirror, "right": pair["left"] * mirror}

    plain = measure(prediction_of(predicted, hands), meshes, hands, frame_rate=30)
    turned = measure(prediction_of(mirrored(predicted), hands), mirrored(meshes), hands, frame_rate=30)
    assert plain.left.mpjpe_mm > 1
    for name, value in vars(plain.left).items():
        assert getattr(turned.right, name) == pytest.approx(value), name
        assert getattr(turned.average, name) == pytest.approx(getattr(plain.average, name)), name
    assert turned.mrrpe_mm == pytest.approx(plain.mrrpe_mm)


def test_batches_do_not_matter(meshes: Pair, hands: dict[Side, HandModel]) -> None:
    other = {side: meshes[side][::-1] for side in SIDES}
    predicted, truth = prediction_of(other, hands), truth_of(meshes, hands)
    whole = ProtocolErrors(Protocol(frame_rate=30), hands)
    whole.add(predicted, truth)
    parts = ProtocolErrors(Protocol(frame_rate=30), hands)
    for rows in (slice(7, None), slice(0, 7)):  # out of order, too
        parts.add(
            PairPrediction({side: predicted.vertices[side][rows] for side in SIDES}, predicted.relative_root[rows], 0),
            PairTruth(
                {side: truth.joints[side][rows] for side in SIDES},
                {side: meshes[side][rows] for side in SIDES},
                truth.camera_matrix[rows],
                truth.sequence[rows],
                truth.number[rows],
            ),
        )
    expected, found = whole.figures(), parts.figures()
    for name, value in vars(expected.left).items():
        assert getattr(found.left, name) == pytest.approx(value), name
    assert found.frames == expected.frames


# Acceleration


@pytest.mark.parametrize("step", [1, 3])
def test_the_acceleration_of_a_parabola(step: int) -> None:
    time = np.arange(20) / 30
    truth = np.zeros((20, 21, 3))
    predicted = truth.copy()
    predicted[..., 1] = 0.5 * 4.0 * time[:, None] ** 2  # 4 m/s2
    places = [("a", 50 + step * row) for row in range(20)]
    assert acceleration_error(predicted, truth, places) * 30**2 == pytest.approx(4.0)
    assert acceleration_error(predicted, predicted + 3 * time[:, None, None], places) == pytest.approx(0, abs=1e-12)


def test_acceleration_does_not_cross_gaps_and_sequences() -> None:
    motion = np.zeros((9, 21, 3))
    motion[4:] = 1.0  # a jump between sequences and over a gap
    same = [("a", 0), ("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5), ("b", 6), ("b", 7), ("b", 8)]
    assert acceleration_error(motion, np.zeros_like(motion), same) == 0
    gap = [("a", number) for number in (0, 1, 2, 3, 10, 11, 12, 13, 14)]
    assert acceleration_error(motion, np.zeros_like(motion), gap) == 0
    assert acceleration_error(motion[:2], motion[:2], same[:2]) is None


def test_acceleration_in_both_units(meshes: Pair, hands: dict[Side, HandModel]) -> None:
    still = {side: np.repeat(meshes[side][:1], COUNT, axis=0) for side in SIDES}
    predicted = prediction_of(still, hands)
    vertices = {side: predicted.vertices[side].copy() for side in SIDES}
    joints = joints_of_mesh(still["left"], hands["left"])
    # The left hand grows and shrinks every other frame by 1 %: its second difference is 4 x half of that.
    vertices["left"][::2] *= 1.01
    figures = measure(PairPrediction(vertices, predicted.relative_root, 0), still, hands, scale=False, frame_rate=30)
    expected = 2 * 0.01 * np.linalg.norm(joints[0] - joints[0, 0], axis=-1).mean()
    assert figures.left.acceleration_mm == pytest.approx(1e3 * expected)
    assert figures.left.acceleration == pytest.approx(expected * 900)
    assert figures.right.acceleration_mm == pytest.approx(0, abs=1e-9)


# What is said about the figures


def test_without_meshes_there_is_no_mpvpe(meshes: Pair, hands: dict[Side, HandModel]) -> None:
    truth = truth_of(meshes, hands)
    errors = ProtocolErrors(Protocol(truth="annotated joints"), hands)
    errors.add(
        prediction_of(meshes, hands),
        PairTruth(truth.joints, None, truth.camera_matrix, truth.sequence, truth.number),
    )
    figures = errors.figures()
    assert figures.average.mpvpe_mm is None
    assert figures.average.vertex_pixels is None
    assert "MPVPE" not in figures.table()


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        (Protocol(), ("root joint 0 (wrist)", "|gt9-gt0|/|pd9-pd0|", "MANO fits", "single frames")),
        (Protocol(9, False, "annotated joints", 30), ("9 (middle1)", "no scale", "annotated joints", "30 frames/s")),
    ],
)
def test_the_protocol_stands_above_the_table_and_in_the_report(
    meshes: Pair, hands: dict[Side, HandModel], protocol: Protocol, words: tuple[str, ...]
) -> None:
    errors = ProtocolErrors(protocol, hands)
    errors.add(prediction_of(meshes, hands), truth_of(meshes, hands))
    figures = errors.figures()
    for word in words:
        assert word in figures.table().splitlines()[0]
        assert word in figures.as_dict()["protocol"]["sentence"]


@pytest.mark.parametrize("options", [{"root": 5}, {"frame_rate": 0}, {"frame_rate": -30}, {"frame_rate": math.nan}])
def test_protocols_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"\.$"):
        Protocol(**options)


def test_nothing_measured_is_an_error(hands: dict[Side, HandModel]) -> None:
    with pytest.raises(SettingsError, match="No frame"):
        ProtocolErrors(Protocol(), hands).figures()
