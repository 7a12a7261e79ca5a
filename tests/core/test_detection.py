"""The two networks against the reference implementation, and the geometry of their crops."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from dir_core.detection import fetch_weights
from dir_core.detection.clip_tracking import track_hands
from dir_core.detection.crop import Crop, crop_around_keypoints, cut_out, to_image, turn_directions, whole_picture
from dir_core.detection.landmark_network import LandmarkNetwork
from dir_core.detection.palm_detector import PalmDetector
from dir_core.detection.tracker import HandTracker
from dir_core.errors import HandCaptureError
from dir_core.footage import Frame, open_footage


def pictures(path: Path) -> Iterator[np.ndarray]:
    with open_footage(path) as footage:
        for frame in footage:
            yield frame.image


# --- crops ---------------------------------------------------------------------------------------------------


def test_cut_out_shows_what_lies_at_the_mapped_point():
    """A white pixel is found again where `to_image` says, at its centre."""
    image = np.zeros((90, 120, 3), np.uint8)
    image[40, 70] = 255
    crop = Crop(72.0, 44.0, 30.0, 0.7)
    side = 300
    seen = cut_out(image, crop, side, replicate_border=False)[..., 0].astype(float)
    rows, columns = np.mgrid[:side, :side]
    centre = np.array([(columns * seen).sum(), (rows * seen).sum()]) / seen.sum()
    np.testing.assert_allclose(to_image(centre, crop, side), [70.5, 40.5], atol=0.05)


def test_angle_turns_the_crop_upright():
    wrist_to_knuckle = math.radians(30)
    crop = Crop(0.0, 0.0, 10.0, wrist_to_knuckle)
    up = to_image(np.array([112.0, 0.0]), crop, 224)
    np.testing.assert_allclose(up, 5 * np.array([math.sin(wrist_to_knuckle), -math.cos(wrist_to_knuckle)]), atol=1e-9)
    turned = turn_directions(np.array([[0.0, -1.0, 0.5]]), crop)
    np.testing.assert_allclose(turned, [[math.sin(wrist_to_knuckle), -math.cos(wrist_to_knuckle), 0.5]], atol=1e-6)


def test_next_crop_turns_scales_and_moves_with_the_hand():
    points = np.random.default_rng(3).uniform(0, 100, (21, 2))
    crop = crop_around_keypoints(points)
    angle, scale, shift = 1.1, 2.5, np.array([30.0, -12.0])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    moved = crop_around_keypoints(scale * points @ turn.T + shift)
    np.testing.assert_allclose([moved.x, moved.y], scale * turn @ [crop.x, crop.y] + shift)
    assert moved.size == pytest.approx(scale * crop.size)
    assert math.remainder(moved.angle - crop.angle - angle, 2 * math.pi) == pytest.approx(0, abs=1e-9)


def test_whole_picture_covers_it():
    assert whole_picture((640, 480)) == Crop(320.0, 240.0, 640.0)


# --- networks ------------------------------------------------------------------------------------------------


def test_equals_the_reference(shared: Path):
    """325 frames of the reference's own test clip: tracking, crop and networks together."""
    folder = shared / "footage" / "tfjs-models"
    truth_2d = np.array(json.loads((folder / "asl_hand.full.json").read_text()))[..., :2]
    truth_3d = np.array(json.loads((folder / "asl_hand_3d.full.json").read_text()))
    palms, network = PalmDetector(), LandmarkNetwork(threads=2)
    found_2d, found_3d, sides = [], [], []
    crop = None
    for image in pictures(folder / "asl_hand.25fps.mp4"):
        if crop is None:
            crop = palms.detect(image, whole_picture((image.shape[1], image.shape[0])))[0].crop
        hand = network.locate(image, crop)
        assert hand.presence > 0.9
        crop = crop_around_keypoints(hand.keypoints_2d.astype(np.float64))
        found_2d.append(hand.keypoints_2d)
        found_3d.append(hand.world)
        sides.append(hand.right_score)
    assert len(found_2d) == len(truth_2d) == 325
    # The reference counts from the centre of the first pixel, we from its corner.
    off_2d = np.linalg.norm(np.array(found_2d) - 0.5 - truth_2d, axis=-1)
    off_2d /= np.ptp(truth_2d, axis=1).max(axis=-1)[:, None]
    off_3d = np.linalg.norm(np.array(found_3d) - truth_3d, axis=-1)
    assert np.median(off_2d) < 0.001  # measured: 0.00052 of the hand's size
    assert np.median(off_3d) < 0.0003  # measured: 0.12 mm
    assert np.percentile(off_2d, 95) < 0.005
    assert min(sides) > 0.9  # a right hand throughout


def test_two_open_left_hands(shared: Path):
    image = cv2.cvtColor(cv2.imread(str(shared / "footage/tfjs-models/hands.jpg")), cv2.COLOR_BGR2RGB)
    palms = PalmDetector().detect(image, whole_picture((image.shape[1], image.shape[0])))
    hands = [LandmarkNetwork().locate(image, palm.crop) for palm in palms]
    assert len(hands) == 2
    assert all(hand.presence > 0.9 and hand.right_score < 0.2 for hand in hands)
    # One person has one left hand: the surer one keeps the side, the other is marked as doubtful.
    with HandTracker() as tracker:
        clip = track_hands([Frame(0, 0.0, image)], tracker)
    assert clip.left.observed.all()
    assert clip.right.observed.all()
    assert clip.left.confidence.mean() > 0.9
    assert clip.right.confidence.mean() < 0.6


def test_a_turned_picture_gives_turned_key_points(shared: Path):
    image = cv2.cvtColor(cv2.imread(str(shared / "footage/tfjs-models/hands.jpg")), cv2.COLOR_BGR2RGB)[:, :360].copy()
    turned = np.rot90(image, -1).copy()  # clockwise: (x, y) goes to (H - y, x)
    palms, network = PalmDetector(), LandmarkNetwork()
    seen = [
        network.locate(each, palms.detect(each, whole_picture(each.shape[1::-1]))[0].crop) for each in (image, turned)
    ]
    expected = np.stack([image.shape[0] - seen[0].keypoints_2d[:, 1], seen[0].keypoints_2d[:, 0]], axis=-1)
    size = np.ptp(seen[0].keypoints_2d, axis=0).max()
    assert np.median(np.linalg.norm(seen[1].keypoints_2d - expected, axis=-1)) < 0.02 * size
    expected_3d = np.stack([-seen[0].world[:, 1], seen[0].world[:, 0], seen[0].world[:, 2]], axis=-1)
    assert np.median(np.linalg.norm(seen[1].world - expected_3d, axis=-1)) < 0.004


def test_no_palms_in_noise():
    image = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    assert PalmDetector().detect(image, whole_picture((320, 240))) == []


def test_weights_are_the_published_ones():
    import hashlib

    for name, (_, _, digest) in fetch_weights._PARTS.items():
        assert hashlib.sha256((fetch_weights.FOLDER / name).read_bytes()).hexdigest() == digest


def test_foreign_package_is_refused(tmp_path: Path):
    (tmp_path / "package.tgz").write_bytes(b"no archive")
    with pytest.raises(HandCaptureError, match="not the package"):
        fetch_weights.fetch_weights(tmp_path / "package.tgz", tmp_path)
    assert not list(tmp_path.glob("*.tflite"))
