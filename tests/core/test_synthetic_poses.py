"""Sampled hands: within what joints and one body can do, before the camera, at rest on each other."""

from typing import get_args

import numpy as np
import pytest

from dir_core.conventions import SIDES
from dir_core.degrees_of_freedom import HIGHEST, LOWEST, angles_from_rotations
from dir_core.hand_model import open_hand_models
from dir_core.rotations import rotate, to_matrix
from dir_core.training.contacts import (
    ARM_LENGTH,
    Pair,
    close_fingers,
    depth,
    make_body,
    place_hand,
    push_apart,
    slide_to_contact,
)
from dir_core.training.motion import sample_clip
from dir_core.training.poses import HELD_BACK, MODES, sample_fingers
from dir_core.training.scenes import (
    LARGEST_DEVIATION,
    LARGEST_FLEXION,
    TOUCHING,
    Framing,
    hand_turn,
    photograph,
    sample_hands,
)
from dir_core.training.two_hands import Kind, TwoHands, View

KINDS = get_args(Kind)
VIEWS = get_args(View)
MIRROR = np.array([-1.0, 1.0, 1.0])


def sample_still(rng, models, kind=None, view=None, framing: Framing = "close") -> TwoHands:
    return photograph(rng, sample_hands(rng, models, kind, view), framing, 288)


@pytest.fixture(scope="module")
def models():
    return open_hand_models()


@pytest.fixture(scope="module")
def stills(models):
    """A close and a wide picture of every kind and view."""
    return [
        sample_still(np.random.default_rng(seed), models, kind, view, framing)
        for seed, (kind, view) in enumerate((kind, view) for kind in KINDS for view in VIEWS)
        for framing in ("close", "wide")
    ]


@pytest.fixture(scope="module")
def clips(models):
    return [
        sample_clip(np.random.default_rng(5), models, kind, VIEWS[number % 2], 2.0, 15.0)
        for number, kind in enumerate(("single", "near", "passing", "prayer", "interlaced", "wrapped"))
    ]


def body_of(models, hands: TwoHands):
    return make_body(models, hands.shape, hands.scale * models["right"].length(hands.shape))


def angles_of(models, hands: TwoHands):
    body = body_of(models, hands)
    sides = [angles_from_rotations(body.capsules[side].geometry, hands.rotation[:, side]) for side in (0, 1)]
    return np.stack(sides, axis=1)


def pair_of(models, hands: TwoHands) -> Pair:
    angles, count = angles_of(models, hands), len(hands)
    away = np.tile([1.0, 0.0, 0.0], (count, 1))
    return Pair(angles, to_matrix(hands.rotation[:, :, 0]), hands.translation, away, angles)


def keypoints_of(models, hands: TwoHands):
    sides = [
        models[side].pose_keypoints(hands.rotation[:, row], hands.translation[:, row], hands.shape, hands.scale)
        for row, side in enumerate(SIDES)
    ]
    return np.stack(sides, axis=1)


def pixels_of(models, hands: TwoHands):
    points = keypoints_of(models, hands) @ hands.camera_matrix.T
    assert (points[:, hands.present, :, 2] > 0.15).all()
    return (points[..., :2] / points[..., 2:])[:, hands.present]


def wrist_bends(hands: TwoHands):
    """Flexion and deviation [T, 2] of each hand, read off the elbow."""
    forearm = rotate(hands.rotation[:, :, 0] * [1.0, -1.0, -1.0, -1.0], hands.translation - hands.elbow)
    forearm *= np.array([[1.0], [-1.0]]) * [1.0, 0.0, 0.0] + [0.0, 1.0, 1.0]  # fingers of a left hand towards +x
    forearm /= np.linalg.norm(forearm, axis=-1, keepdims=True)
    return np.arctan2(forearm[..., 1], forearm[..., 0]), -np.arcsin(forearm[..., 2])


def test_finger_poses_stay_in_range_and_look_their_mode():
    rng = np.random.default_rng(0)
    poses = {mode: sample_fingers(rng, 200, (mode,)) for mode in MODES}
    for angles in poses.values():
        assert angles.shape == (200, 5, 5)
        assert ((angles >= LOWEST) & (angles <= HIGHEST)).all()
    assert poses["open"][:, 1:, 3].mean() < np.radians(15) < np.radians(80) < poses["fist"][:, 1:, 3].mean()
    # Of a finger that is bent little is left of leaning to the side.
    assert np.abs(poses["fist"][:, 1:, 1]).mean() < 0.4 * np.abs(poses["spread"][:, 1:, 1]).mean()


def test_stills_hold_what_a_picture_needs(stills, models):
    for hands in stills:
        assert hands.rotation.shape == (1, 2, 16, 4)
        assert hands.translation.shape == hands.elbow.shape == (1, 2, 3)
        np.testing.assert_allclose(np.linalg.norm(hands.rotation, axis=-1), 1.0, atol=1e-9)
        assert hands.present.all() == (hands.kind != "single")
        assert hands.present.any()
        assert hands.image_size == (288, 288)
        assert hands.frame_rate == 0.0
        assert 0.159 < hands.scale * models["right"].length(hands.shape) < 0.206


def test_hands_and_wrists_stay_in_their_ranges(stills, clips, models):
    for hands in [*stills, *clips]:
        angles = angles_of(models, hands)
        assert ((angles > LOWEST - 1e-6) & (angles < HIGHEST + 1e-6)).all()
        flexion, deviation = wrist_bends(hands)
        assert np.abs(flexion).max() < LARGEST_FLEXION + 1e-6
        assert np.abs(deviation).max() < LARGEST_DEVIATION + 1e-6
        forearm = np.linalg.norm(hands.elbow - hands.translation, axis=-1)
        hand_length = hands.scale * models["right"].length(hands.shape)
        np.testing.assert_allclose(forearm, ARM_LENGTH * hand_length, rtol=1e-9)


def test_key_points_are_those_of_the_parameters(stills, models):
    """The chains that contacts are found with are the model's own joints."""
    hands = stills[9]
    body, pair = body_of(models, hands), pair_of(models, hands)
    for row, side in enumerate(SIDES):
        placed = place_hand(body, row, pair.angles[:, row], pair.turn[:, row], pair.place[:, row])
        posed = models[side].pose_keypoints(hands.rotation[:, row], hands.translation[:, row], hands.shape, hands.scale)
        joints = posed[:, 1:].reshape(1, 5, 4, 3)
        np.testing.assert_allclose(placed.places[:, :, :3], joints[:, :, :3], atol=1e-6)
        # A tip is a vertex that its neighbour bone's weights move a little too.
        np.testing.assert_allclose(placed.places[:, :, 3], joints[:, :, 3], atol=2e-3)


def test_the_mirrored_scene_is_the_mirrored_scene(stills, models):
    """Sides swapped, x turned round: the same key points in a mirror, the same finger angles."""
    hands = stills[12]
    turned = TwoHands(
        **{
            **vars(hands),
            "rotation": hands.rotation[:, ::-1] * [1.0, 1.0, -1.0, -1.0],
            "translation": hands.translation[:, ::-1] * MIRROR,
            "elbow": hands.elbow[:, ::-1] * MIRROR,
        }
    )
    np.testing.assert_allclose(keypoints_of(models, turned), keypoints_of(models, hands)[:, ::-1] * MIRROR, atol=5e-4)
    np.testing.assert_allclose(angles_of(models, turned), angles_of(models, hands)[:, ::-1], atol=5e-3)
    for bend, mirrored in zip(wrist_bends(hands), wrist_bends(turned), strict=True):
        np.testing.assert_allclose(mirrored, bend[:, ::-1], atol=1e-9)


def test_hands_touch_where_they_should(stills, models):
    for hands in stills:
        if hands.kind == "single":
            continue
        deep = depth(body_of(models, hands), pair_of(models, hands))[0]
        if hands.kind in TOUCHING:
            assert -0.002 < deep < 0.017, hands.kind
        else:
            assert deep < -0.002, hands.kind


def test_close_pictures_show_the_hands_and_wide_ones_the_scene(stills, models):
    for hands in stills[::2]:
        pixels = pixels_of(models, hands)
        framed = [*pixels[0], pixels[0].reshape(-1, 2)]  # one of the hands, or all there are
        assert any(0.44 < np.ptp(points, axis=0).max() / 288 < 0.81 for points in framed)
        assert min(np.abs(hand.mean(axis=0) - 144).max() for hand in pixels[0]) < 120
    for hands in stills[1::2]:
        pixels = pixels_of(models, hands)
        assert ((pixels > 0) & (pixels < 288)).all(axis=-1).mean() > 0.4


def test_the_body_stands_where_the_view_says(models):
    """Un-mirrored, a webcam has the left hand on the right of its picture; from the eyes it is on the left."""
    for view, sign in (("webcam", 1.0), ("egocentric", -1.0)):
        middles = []
        for seed in range(12):
            hands = sample_still(np.random.default_rng(seed), models, "apart", view)
            middles.append(keypoints_of(models, hands)[0].mean(axis=1))
        left, right = np.moveaxis(np.array(middles), 1, 0)
        assert np.mean(sign * (left - right)[:, 0] > 0) > 0.8
    # Forearms come from below, or towards the eyes' owner.
    webcam = [sample_still(np.random.default_rng(seed), models, "prayer", "webcam") for seed in range(20)]
    assert np.mean([(hands.elbow - hands.translation)[0, :, 1].mean() > 0 for hands in webcam]) > 0.7


def test_the_same_seed_gives_the_same_hands(models):
    first, second = (sample_still(np.random.default_rng(3), models, framing="wide") for _ in range(2))
    other = sample_still(np.random.default_rng(4), models, framing="wide")
    for name in ("rotation", "translation", "elbow", "camera_matrix", "shape"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))


def facing_hands(models):
    """Two flat hands, palm to palm, 20 cm apart in body axes."""
    body = make_body(models, np.zeros(10), 0.185)
    up, right = np.array([[0.0, 1.0, 0.0]]), np.array([[1.0, 0.0, 0.0]])
    turn = np.stack([hand_turn("left", up, right), hand_turn("right", up, -right)], axis=1)
    angles = np.zeros((1, 2, 5, 5))
    angles[:, :, 0] = HELD_BACK
    return body, Pair(angles, turn, np.array([[[-0.1, 0.0, 0.0], [0.1, 0.0, 0.0]]]), right, angles)


def test_a_hand_slides_to_where_it_touches(models):
    body, pair = facing_hands(models)
    assert depth(body, pair)[0] < -0.05
    for allowed in (0.003, -0.02):
        slid = slide_to_contact(body, pair, 1, pair.away, np.array([allowed]))
        assert depth(body, slid)[0] == pytest.approx(allowed, abs=1e-6)
        np.testing.assert_allclose(slid.place[0, 0], pair.place[0, 0])


def test_fingers_close_until_they_touch(models):
    body, pair = facing_hands(models)
    near = slide_to_contact(body, pair, 1, pair.away, np.array([-0.01]))
    closed = np.zeros((1, 5, 5))
    closed[:, 1:, [0, 3]] = 1.4
    held = close_fingers(body, near, 1, closed, 0.002)
    assert (held.angles[0, 1, 1:, 0] < 1.4).all()
    assert -0.005 < depth(body, held)[0] <= 0.002


def test_hands_in_each_other_are_pushed_apart(models):
    body, pair = facing_hands(models)
    inside = slide_to_contact(body, pair, 1, pair.away, np.array([0.012]))
    pushed = push_apart(body, inside, 0.004, 12)
    assert depth(body, pushed)[0] < 0.006
    assert np.abs(pushed.place - inside.place).max() < 0.012


def test_clips_are_smooth_and_stay_in_the_picture(clips, models):
    for clip in clips:
        assert len(clip) == 30
        assert clip.frame_rate == 15.0
        assert (np.linalg.norm(np.diff(clip.translation, axis=0), axis=-1) * 15.0 < 1.5).all(), clip.kind
        pixels = pixels_of(models, clip)
        assert ((pixels > 0) & (pixels < clip.image_size)).all(), clip.kind


def test_clips_come_together_and_part(clips, models):
    for clip in clips:
        deep = depth(body_of(models, clip), pair_of(models, clip))
        if clip.kind in TOUCHING:
            assert (deep[:7] < -0.02).all(), clip.kind  # half a second
            assert deep[-1] < -0.02
            assert (deep[13:19] > -0.004).any(), clip.kind
            assert deep.max() < 0.02
        elif clip.kind == "passing":
            left, right = np.moveaxis(keypoints_of(models, clip).mean(axis=2), 1, 0)
            crossed = np.sign((left - right)[:, 0])
            assert crossed[0] == crossed[-1]
            assert (crossed != crossed[0]).any()
            assert deep.max() < 0.006
