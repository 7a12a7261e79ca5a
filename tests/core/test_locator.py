"""Two hands by side from the palm network with sides, and what it is taught."""

from pathlib import Path

import numpy as np
import pytest

from dir_core.detection.crop import Crop
from dir_core.detection.locator import HandLocator, locate_hands
from dir_core.detection.palm_detector import ANCHOR_CENTRES, WEIGHTS
from dir_core.errors import SettingsError

OUTER = Crop(300.0, 200.0, 384.0)  # twice the network's input
UPRIGHT = np.array([[0, 20], [-10, -14], [-3, -17], [4, -15], [11, -11], [-10, 12], [-15, 3]], float)  # a palm, px


def network_output(*palms: tuple[int, tuple[float, float], float]):
    """Boxes and logits that place upright palms: (0 left or 1 right, centre in px of the input, logit)."""
    boxes, logits = np.zeros((2016, 18), np.float32), np.full(2016, -20.0, np.float32)
    for side, centre, logit in palms:
        distance = np.linalg.norm(ANCHOR_CENTRES - centre, axis=-1)
        distance[1 - side :: 2] = np.inf
        anchor = int(distance.argmin())
        logits[anchor] = logit
        points = np.concatenate([np.zeros((1, 2)), UPRIGHT]) + centre - ANCHOR_CENTRES[anchor]
        boxes[anchor] = np.insert(points, 1, [40.0, 40.0], axis=0).ravel()
    return boxes, logits


def test_even_anchors_are_left_hands_and_odd_ones_right_hands():
    hands = locate_hands(*network_output((0, (120.0, 60.0), 3.0), (1, (50.0, 90.0), 1.0)), OUTER)
    middle = np.array([OUTER.x, OUTER.y])
    for palm, centre, score in (
        (hands.left, (120, 60), 1 / (1 + np.exp(-3))),
        (hands.right, (50, 90), 1 / (1 + 1 / np.e)),
    ):
        expected = middle + 2 * (np.array(centre) - 96 + UPRIGHT)
        np.testing.assert_allclose(palm.keypoints, expected, atol=1e-4)
        assert palm.score == pytest.approx(score)
        assert palm.crop.size == pytest.approx(2.6 * 80)
    assert hands.of("left") is hands.left
    assert hands.of("right") is hands.right


def test_the_surest_palm_of_a_side_is_its_hand():
    hands = locate_hands(*network_output((0, (40.0, 40.0), 1.0), (0, (140.0, 140.0), 2.0)), OUTER)
    assert hands.right is None
    assert [round(palm.score, 2) for palm in hands.candidates[0]] == [0.88, 0.73]
    assert hands.left is hands.candidates[0][0]


def test_one_palm_is_not_both_hands():
    hands = locate_hands(*network_output((0, (100.0, 100.0), 1.0), (1, (101.0, 100.0), 3.0)), OUTER)
    assert hands.left is None
    assert hands.right is not None


def test_hands_that_overlap_are_two():
    hands = locate_hands(*network_output((0, (100.0, 100.0), 1.0), (1, (114.0, 100.0), 3.0)), OUTER)
    assert hands.left is not None
    assert hands.right is not None


def test_an_empty_picture_has_no_hands():
    hands = HandLocator(threads=1, weights=WEIGHTS).locate(np.full((240, 320, 3), 90, np.uint8), OUTER)
    assert hands.left is None
    assert hands.right is None
    assert hands.candidates == ((), ())


# --- what it is taught ---------------------------------------------------------------------------------------

torch = pytest.importorskip("torch", reason="training needs torch")

from dir_core.training import locator_training as training  # noqa: E402
from dir_core.training.synthetic import Pictures  # noqa: E402
from dir_core.training.tflite_graph import load_network  # noqa: E402


def lessons(*hands: tuple[int, tuple[float, float], float], state: int = training.SURE):
    """Palms [1, 2, 9, 2] and states [1, 2] of upright hands: (0 left or 1 right, centre px, size px)."""
    palms, states = np.zeros((1, 2, 9, 2), np.float32), np.zeros((1, 2), np.int64)
    low, high = UPRIGHT.min(0), UPRIGHT.max(0)
    for side, centre, size in hands:
        palms[0, side] = training.palm_boxes((UPRIGHT - 0.5 * (low + high)) * size / (high - low).max() + centre)
        states[0, side] = state
    return torch.from_numpy(palms), torch.from_numpy(states)


@pytest.mark.parametrize("size", [9.0, 25.0, 43.0, 80.0])
def test_only_anchors_of_its_side_near_a_palm_answer(size):
    palms, states = lessons((1, (90.0, 70.0), size))
    answers, asked = (each[0].numpy() > 0 for each in training.anchors_that_answer(palms, states))
    found = np.flatnonzero(answers)
    assert len(found)
    assert (found % 2 == 1).all()
    assert np.abs(ANCHOR_CENTRES[found] - [90, 70]).max() <= max(0.25 * size, 8)
    assert asked[0::2].all(), "the left side is told that no left hand is here"
    assert asked[answers].all()
    fine = found < 24 * 24 * 2
    assert fine.any() == (size < 46)
    assert (~fine).any() == (size > 40)


def test_nothing_is_demanded_near_a_hand_nobody_can_be_sure_of():
    palms, states = lessons((0, (90.0, 70.0), 40.0), state=training.UNSURE)
    answers, asked = (each[0].numpy() > 0 for each in training.anchors_that_answer(palms, states))
    near = np.abs(ANCHOR_CENTRES - [90, 70]).max(-1) < 30
    assert not answers.any()
    assert not asked[0::2][near[0::2]].any()
    assert asked[1::2].all()


def test_a_network_that_says_what_is_wanted_has_no_loss_and_is_read_back():
    """The targets of training are what the locator decodes: both hands, their key points, their sides."""
    palms, states = lessons((0, (60.0, 70.0), 30.0), (1, (75.0, 76.0), 60.0))
    answers, _ = training.anchors_that_answer(palms, states)
    centres = torch.as_tensor(ANCHOR_CENTRES, dtype=torch.float32)
    wanted = palms[0, torch.arange(2016) % 2].clone()
    wanted[:, 0] -= centres
    wanted[:, 2:] -= centres[:, None]

    class Perfect(torch.nn.Module):
        def forward(self, pictures):
            return {"boxes": wanted.reshape(1, 2016, 18), "scores": (40 * answers - 20)[..., None]}

    batch = {"pictures": torch.zeros(1, 3, 192, 192, dtype=torch.uint8), "palms": palms, "state": states}
    losses = training.LocatorTask(()).losses(Perfect(), batch)
    assert all(float(value) < 1e-6 for value in losses.values())
    hands = locate_hands(wanted.reshape(2016, 18).numpy(), 40 * answers[0].numpy() - 20, Crop(96.0, 96.0, 192.0))
    for palm, truth in zip((hands.left, hands.right), palms[0].numpy(), strict=True):
        np.testing.assert_allclose(palm.keypoints, truth[2:], atol=1e-3)


def some_pictures(count: int = 6) -> Pictures:
    """Grey pictures in which a yellow dot is the left wrist and a blue one the right wrist."""
    camera = np.array([[288.0, 0, 144], [0, 288, 144], [0, 0, 1]])
    hand = np.zeros((21, 3), np.float32)
    hand[:, :2] = np.random.default_rng(3).uniform(-0.05, 0.05, (21, 2))
    points = np.stack([hand + [-0.1, 0.03, 0.5], hand * [-1, 1, 1] + [0.1, -0.02, 0.5]])
    places = training.landmark_places(points) @ camera.T
    images = np.full((count, 288, 288, 3), 90, np.uint8)
    for wrist, colour in zip((places[..., :2] / places[..., 2:])[:, 0], ((255, 255, 0), (0, 0, 255)), strict=True):
        x, y = wrist.astype(int)
        images[:, y - 5 : y + 6, x - 5 : x + 6] = colour
    return Pictures(
        images=images,
        camera_matrix=np.repeat(camera[None], count, 0),
        keypoints_3d=np.repeat(points[None].astype(np.float32), count, 0),
        keypoints_2d=np.zeros((count, 2, 21, 2), np.float32),
        visible=np.ones((count, 2, 21), bool),
        present=np.ones((count, 2), bool),
        kind=np.ones(count, np.int64),
    )


def test_samples_keep_truth_and_sides_through_every_change():
    """Where the truth puts a wrist there is its dot; in mirrored samples the left hand is the one that was right."""
    pictures, seen, sides = some_pictures(), 0, set()
    for seed in range(80):
        sample = training.draw_sample(np.random.default_rng(seed), pictures, 0)
        for side in np.flatnonzero(sample.state == training.SURE):
            x, y = np.round(sample.palms[side, 2]).astype(int)
            if not (2 < x < 189 and 2 < y < 189):
                continue
            red, _, blue = sample.image[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).astype(float).mean(0)
            if abs(red - blue) > 40:  # the picture is not grey
                sides.add((int(side), bool(red > blue)))
                seen += 1
    assert seen > 60
    assert sides == {(0, True), (1, True), (0, False), (1, False)}


def test_the_same_seed_draws_the_same_batch(monkeypatch):
    monkeypatch.setattr(training, "_open_pictures", lambda folder: some_pictures())
    task = training.LocatorTask((Path("a"), Path("b")), held_out=2)
    one, two = (task.draw_batch(np.random.default_rng((4, 2, 1)), 3) for _ in range(2))
    assert one["pictures"].shape == (3, 3, 192, 192)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_too_few_pictures_are_refused(monkeypatch):
    monkeypatch.setattr(training, "_open_pictures", lambda folder: some_pictures(4))
    with pytest.raises(SettingsError, match="a holds 4 pictures"):
        training.LocatorTask((Path("a"),), held_out=4).draw_batch(np.random.default_rng(0), 1)


def test_figures_tell_found_from_swapped():
    """Two hands, of which the network calls each by the other's name."""
    palms, states = (each[0].numpy() for each in lessons((0, (60.0, 70.0), 40.0), (1, (130.0, 76.0), 40.0)))
    sample = training.Sample(np.zeros((192, 192, 3), np.uint8), palms, states)
    names = {}
    for name, order in (("right", (0, 1)), ("swapped", (1, 0))):
        boxes, logits = network_output((order[0], (60.0, 70.0), 3.0), (order[1], (130.0, 76.0), 3.0))
        tally = training._Tally()
        tally.add(sample, training._read(boxes, logits, True), True)
        names[name] = tally.figures()
    assert names["right"]["both"] == names["swapped"]["both"] == 100
    assert (names["right"]["side"], names["swapped"]["side"]) == (100, 0)
    assert names["right"]["wrong"] == 0


def test_the_network_begins_as_the_palm_network():
    pictures = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    network = training.LocatorTask(()).make_network()
    with torch.no_grad():
        for begun, untouched in zip(network(pictures).values(), load_network(WEIGHTS)(pictures).values(), strict=True):
            torch.testing.assert_close(begun, untouched, atol=2e-3, rtol=1e-4)
    assert sum(not weight.requires_grad for weight in network.parameters()) > 10
