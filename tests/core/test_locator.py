"""Two hands by side from the palm network with sides, and what it is taught."""

import numpy as np
import pytest

from dir_core.detection.crop import Crop
from dir_core.detection.locator import HandLocator, locate_hands
from dir_core.detection.palm_detector import ANCHOR_CENTRES, WEIGHTS

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
