"""What the landmark network is trained with: crops whose truth lies where the picture shows it, and fair figures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dir_core.camera import project  # noqa: E402
from dir_core.conventions import SIDES  # noqa: E402
from dir_core.evaluation.touching_metrics import straight_ahead  # noqa: E402
from dir_core.fitting.landmark_places import landmark_places  # noqa: E402
from dir_core.hand_model import open_hand_models  # noqa: E402
from dir_core.training import landmark_training  # noqa: E402
from dir_core.training.landmark_training import BONE_LENGTH_SUM, LandmarkTask  # noqa: E402
from dir_core.training.synthetic import Pictures  # noqa: E402

SIDE = 288
CAMERA = np.array([[1200.0, 0, SIDE / 2], [0, 1200.0, SIDE / 2], [0, 0, 1]])
FOLDER = Path("made up")


def make_pictures(count=8):
    """Hands in rest, grey pictures with a white dot at the middle finger's first joint of the left, black of the right.

    Every second picture has the right hand alone.
    """
    random = np.random.default_rng(2)
    keypoints = np.empty((count, 2, 21, 3))
    for number in range(count):
        for hand, side in enumerate(SIDES):
            model = open_hand_models()[side]
            turn = random.standard_normal((1, 16, 4)) * [[[0, 0.3, 0.3, 0.3]]] + [1, 0, 0, 0]
            turn[:, 1:] = [1, 0, 0, 0]
            turn /= np.linalg.norm(turn, axis=-1, keepdims=True)
            place = np.array([[0.08 - 0.16 * (hand == 0), 0.02 * hand, 2.4]])
            keypoints[number, hand] = model.pose_keypoints(turn, place, np.zeros(10), 1.0)[0]
    projected = keypoints @ CAMERA.T
    pixels = projected[..., :2] / projected[..., 2:]
    present = np.ones((count, 2), bool)
    present[1::2, 0] = False
    images = np.full((count, SIDE, SIDE, 3), 128, np.uint8)
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    for number in range(count):
        for hand, shade in ((0, 255), (1, 0)):
            if present[number, hand]:
                x, y = pixels[number, hand, 9]
                images[number][(columns - x) ** 2 + (rows - y) ** 2 < 9] = shade
    return Pictures(
        images=images,
        camera_matrix=np.repeat(CAMERA[None], count, 0),
        keypoints_3d=keypoints.astype(np.float32),
        keypoints_2d=pixels.astype(np.float32),
        visible=present[..., None] & np.ones((count, 2, 21), bool),
        present=present,
        kind=np.zeros(count, int),
    )


@pytest.fixture
def task(monkeypatch):
    pictures = make_pictures()
    monkeypatch.setattr(landmark_training, "load_pictures", lambda folder: pictures)
    landmark_training._open_source.cache_clear()
    yield LandmarkTask((FOLDER,), held_out=2, part_size=8)
    landmark_training._open_source.cache_clear()


def cut(task, number, hand, seed=0, **options):
    source = landmark_training._open_source(FOLDER, task.held_out)
    return landmark_training._cut_hand(np.random.default_rng(seed), source, number, hand, **options)


@pytest.mark.parametrize(("hand", "shade"), [(0, 255), (1, 0)])
@pytest.mark.parametrize("wrong_side", [False, True])
def test_the_truth_lies_where_the_picture_shows_it(task, hand, shade, wrong_side):
    for seed in range(4):
        sample = cut(task, 0, hand, seed, wrong_side=wrong_side)
        rows, columns = np.nonzero(np.abs(sample.picture[..., 0].astype(int) - shade) < 30)
        near = np.hypot(columns - sample.points[9, 0], rows - sample.points[9, 1]) < 20
        found = [columns[near].mean(), rows[near].mean()]
        np.testing.assert_allclose(found, sample.points[9], atol=0.7)
        assert sample.agreement == float(not wrong_side)


def test_both_hands_are_fed_as_right_ones(task):
    def turning(sample):  # around the palm: wrist, index, little finger
        a, b = sample.points[5] - sample.points[0], sample.points[17] - sample.points[0]
        return np.sign(a[0] * b[1] - a[1] * b[0])

    left, right = cut(task, 0, 0), cut(task, 0, 1)
    assert turning(left) == turning(right) != turning(cut(task, 0, 0, wrong_side=True))


def test_the_world_is_the_hand_in_the_axes_of_the_picture(task):
    pictures = landmark_training._open_source(FOLDER, task.held_out).pictures
    for hand in (0, 1):
        sample = cut(task, 0, hand, seed=3)
        bones = sample.world[1:] - sample.world[landmark_training._PARENTS]
        assert np.linalg.norm(bones, axis=-1).sum() == pytest.approx(BONE_LENGTH_SUM)
        flat, seen = sample.world[:, :2], sample.points - sample.points.mean(0)
        alike = (flat * seen).sum() / np.linalg.norm(flat) / np.linalg.norm(seen)
        assert alike > 0.998  # a hand far away is seen nearly as its parallel projection
        keypoints = landmark_places(pictures.keypoints_3d[:1].astype(float))
        ahead = straight_ahead(keypoints, project(keypoints, pictures.camera_matrix[0]), pictures.camera_matrix[0])
        depth = ahead[0, hand, :, 2]
        np.testing.assert_allclose(np.corrcoef(depth, sample.world[:, 2])[0, 1], 1, atol=1e-6)


def test_batches_are_the_same_for_the_same_state_and_have_free_hands(task):
    first, second = (task.draw_batch(np.random.default_rng(4), 8) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["picture"].shape == (8, 3, 224, 224)
    free = first["free"] | (first["agreement"] == 0)  # some are fed as if they were of the other side
    assert free[0]
    assert free[4]
    assert not torch.equal(first["picture"], task.draw_batch(np.random.default_rng(5), 8)["picture"])


def test_a_crop_without_a_hand_has_none_in_its_middle(task):
    source = landmark_training._open_source(FOLDER, task.held_out)
    random = np.random.default_rng(0)
    made = [landmark_training._cut_nothing(random, source, 0) for _ in range(30)]
    empty = [sample for sample in made if sample is not None]
    assert empty
    for sample in empty:
        assert sample.presence == 0
        assert np.ptp(sample.picture[80:144, 80:144]) < 60  # no dot


class Oracle(torch.nn.Module):
    """Says the truth of a batch, moved by `off` pixels, and is `sure` of it."""

    def __init__(self, batch, off=0.0, sure=6.0):
        super().__init__()
        self.batch, self.off, self.sure = batch, off, sure

    def forward(self, pictures):
        points = torch.cat([self.batch["points"] + self.off, torch.full((len(pictures), 21, 1), self.sure)], -1)
        said = {"Identity": points.flatten(1), "Identity_3": self.batch["world"].flatten(1)}
        for name, key in (("Identity_1", "presence"), ("Identity_2", "agreement")):
            said[f"{name}_logit"] = 20 * self.batch[key][:, None] - 10
            said[name] = torch.sigmoid(said[f"{name}_logit"])
        return said


def test_the_truth_costs_nothing_and_an_error_does(task):
    samples = [cut(task, number, 1) for number in range(4)]
    batch = landmark_training._stacked([replace(sample, free=False) for sample in samples])
    costs = task.losses(Oracle(batch), batch)
    assert all(float(cost) < 0.01 for cost in costs.values())
    moved = task.losses(Oracle(batch, off=30.0), batch)
    assert float(moved["points"]) > 1
    assert float(moved["confidence"]) > 1  # it was sure of what is wrong
    assert float(task.losses(Oracle(batch, off=30.0, sure=-6.0), batch)["confidence"]) < 0.01


def test_the_network_learns_only_above_its_stem(task):
    network = task.make_network()
    batch = task.draw_batch(np.random.default_rng(1), 2)
    torch.stack(list(task.losses(network, batch).values())).sum().backward()
    for weights in network.parameters():
        assert (weights.grad is not None) == weights.requires_grad
        assert weights.grad is None or torch.isfinite(weights.grad).all()
    assert sum(not weights.requires_grad for weights in network.parameters()) > 10


def test_figures_of_a_perfect_and_of_a_snapped_hand(task):
    samples = [cut(task, 0, 0), replace(cut(task, 0, 1), visible=0.3)]
    batch = landmark_training._stacked(samples)
    with torch.no_grad():
        good = landmark_training._figures(
            list(zip(samples, landmark_training._predict(Oracle(batch), samples, "cpu"), strict=True))
        )
        batch["points"][1] = batch["other"][1]
        snapped = landmark_training._figures(
            list(zip(samples, landmark_training._predict(Oracle(batch), samples, "cpu"), strict=True))
        )
    assert good["seen_2d"] < 0.01
    assert good["hidden_wrist"] < 0.01
    assert good["sure_right"] == 100
    assert good["hidden_snapped"] == 0
    assert snapped["hidden_snapped"] == 100
    assert snapped["seen_snapped"] == 0
    assert snapped["sure_right"] == 50
    assert snapped["confidence_gap"] > 45


def test_validation_is_the_same_every_time(task):
    network = task.make_network()
    with torch.no_grad():
        first, second = (task.validate(network, "cpu") for _ in range(2))
    assert all(first[name] == second[name] or np.isnan(first[name]) for name in first)
    assert 0 <= first["present"] <= 100
