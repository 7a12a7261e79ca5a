"""Calibrated fingers, hinges, limits and the share of the palm, on made-up rigs of any rest pose and roll."""

import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dir_core import rotations
from dir_core.conventions import FINGERS, JOINTS
from dir_core.hand_model import open_hand_models
from dir_core.retargeting import calibrate, channels, limits, rest, transfer
from dir_core.retargeting.calibration import FingerCalibration, bend_about
from dir_core.retargeting.rig_map import known_rig_maps
from tests.core.test_retargeting import (
    angle_between_directions,
    make_target,
    posed_directions,
    random_poses,
    rest_pose,
    scipy_rotation,
    unit,
)

HAND = known_rig_maps()[0].hands["left"]
LENGTHS = ({}, {"index": 2, "ring": 1}, {"thumb": 2, "pinky": 2})
BENDS = np.arange(0, 121, 5)


def make_hinges(model):
    """Axes [16, 3] about which the joints of a model bend."""
    return np.concatenate([np.zeros((1, 3)), model.flexion_axes()]).astype(np.float64)


def setting(seed, mode, *, side="left", lengths=None, keypoints=None):
    """A random rig's hand: rig, alignment, hinges and links of its fingers."""
    rng = np.random.default_rng(seed)
    model = open_hand_models()[side]
    target = make_target(rng, rest_pose(rng, model) if keypoints is None else keypoints, HAND, lengths)
    alignment = rest.align(model.rest_keypoints(), target)
    hinges = make_hinges(model)
    links = {name: transfer.link_finger(name, target, alignment, mode, hinges) for name in FINGERS}
    return rng, model, target, alignment, hinges, links


def with_calibration(target, calibrations):
    """The rig's hand with calibrated fingers."""
    fingers = {
        name: rest.RestFinger(f.bones, f.places, f.rotations, f.metacarpal, calibrations.get(name))
        for name, f in target.fingers.items()
    }
    return rest.RestHand(target.wrist, target.place, target.rotation, fingers)


def bent(hinges, spread=None):
    """Turns [len(BENDS), 16, 4] of a hand whose joints all bend by BENDS after spreading by `spread` [16, 4]."""
    joints = rotations.from_rotation_vector(np.radians(BENDS)[:, None, None] * hinges)
    return transfer.chain_turns(joints if spread is None else rotations.multiply(joints, spread))


@pytest.mark.parametrize("mode", transfer.FINGER_MODES)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("seed", range(4))
def test_the_posed_finger_is_what_the_calibrated_frame_gives(seed, lengths, mode):
    rng, _, target, alignment, hinges, links = setting(seed, mode, lengths=lengths)
    turns = transfer.chain_turns(random_poses(rng, 30))
    made, posed = {}, {}
    for name, link in links.items():
        joints = transfer.joint_turns(turns, name, link.finger)[12]
        posed[name] = rotations.from_rotation_vector(rng.normal(0, 0.7, (len(joints), 3)))
        made[name] = calibrate.calibrate_pose(link, joints, posed[name])
    calibrated = with_calibration(target, made)
    for share in (0.0, 0.15):
        keys = transfer.finger_keys(turns, calibrated, alignment, mode, hinges=hinges, palm_share=share)
        for name, link in links.items():
            for bone, wanted in zip(link.finger.bones, posed[name], strict=True):
                assert rotations.angle_between(keys[bone][12], wanted) < 1e-6


@pytest.mark.parametrize("mode", transfer.FINGER_MODES)
def test_from_the_calibrated_pose_on_joints_turn_as_far_about_the_same_axes(mode):
    """Seen from the bone above, what a bone does between any two frames stays the same turn."""
    rng, _, target, alignment, _, links = setting(7, mode)
    turns = transfer.chain_turns(random_poses(rng, 40))
    plain = transfer.finger_keys(turns, target, alignment, mode)
    made = {
        name: calibrate.calibrate_pose(
            link,
            transfer.joint_turns(turns, name, link.finger)[3],
            rotations.from_rotation_vector(rng.normal(0, 0.5, (3, 3))),
        )
        for name, link in links.items()
    }
    keys = transfer.finger_keys(turns, with_calibration(target, made), alignment, mode)
    for bone, before in plain.items():
        old = rotations.multiply(before[1:], rotations.inverse(before[:-1]))
        new = rotations.multiply(keys[bone][1:], rotations.inverse(keys[bone][:-1]))
        assert rotations.angle_between(old, new).max() < 1e-6


def test_a_spread_that_was_calibrated_leaves_the_bend_alone():
    _, _, target, alignment, hinges, links = setting(1, "angles")
    link = links["index"]
    axis = rotations.rotate(rotations.inverse(link.finger.rotations), calibrate.bend_axes(link))
    across = np.cross(axis[0], [0.3, 0.5, 0.8])
    spread = np.tile([1.0, 0, 0, 0], (3, 1))
    spread[0] = rotations.from_rotation_vector(0.3 * across / np.linalg.norm(across))
    made = calibrate.calibrate_pose(link, np.tile([1.0, 0, 0, 0], (3, 1)), spread)
    keys = transfer.finger_keys(bent(hinges), with_calibration(target, {"index": made}), alignment, "angles")
    for row, bone in enumerate(link.finger.bones):
        np.testing.assert_allclose(np.degrees(bend_about(keys[bone], axis[row])), BENDS, atol=1e-9)
    assert np.degrees(calibrate.offset_angle(transfer.link_finger(
        "index", with_calibration(target, {"index": made}), alignment, "angles", hinges
    ))) == pytest.approx(np.degrees(0.3))  # fmt: skip


@pytest.mark.parametrize("mode", transfer.FINGER_MODES)
@pytest.mark.parametrize("ranges", [(1.4, 1.2, 2.0), (0.6, 0.8, 0.5)])
def test_a_range_scales_bends_alone_and_keeps_straight_straight(mode, ranges):
    rng, _, target, alignment, hinges, links = setting(5, mode)
    spread = rotations.from_rotation_vector(
        np.cross(hinges, rng.normal(size=(16, 3))) * rng.uniform(-0.2, 0.2, (16, 1))
    )
    turns = bent(hinges, spread)
    made = {name: FingerCalibration((), (), ranges) for name in FINGERS}
    scaled = transfer.finger_keys(turns, with_calibration(target, made), alignment, mode, hinges=hinges)
    plain = transfer.finger_keys(turns, target, alignment, mode, hinges=hinges)
    for link in links.values():
        axes = rotations.rotate(rotations.inverse(link.finger.rotations), calibrate.bend_axes(link))
        for row, bone in enumerate(link.finger.bones):
            further = rotations.multiply(scaled[bone], rotations.inverse(plain[bone]))
            np.testing.assert_allclose(np.degrees(bend_about(further, axes[row])), (ranges[row] - 1) * BENDS, atol=1e-6)
            np.testing.assert_allclose(np.cross(further[1:, 1:], axes[row]), 0.0, atol=1e-9)
            assert rotations.angle_between(scaled[bone][0], plain[bone][0]) < 1e-9


def test_bends_grow_with_the_captured_ones_and_stretching_back_is_left_alone():
    _, _, target, alignment, hinges, links = setting(2, "angles")
    degrees = np.arange(-40, 110, 1.0)
    joints = rotations.from_rotation_vector(np.radians(degrees)[:, None, None] * hinges)
    start = rotations.from_rotation_vector(np.radians(10.0) * hinges)
    link = links["middle"]
    row = JOINTS.index("middle1")
    pose = calibrate.calibrate_pose(link, start[row : row + 3], calibrate.straight_pose(link, at_rest=False))
    made = FingerCalibration(pose.captured, pose.posed, (1.5, 1.5, 1.5))
    turns = transfer.chain_turns(joints)
    keys = transfer.finger_keys(turns, with_calibration(target, {"middle": made}), alignment, "angles", hinges=hinges)
    calibrated = transfer.link_finger("middle", with_calibration(target, {"middle": made}), alignment, "angles", hinges)
    posed = np.stack([keys[bone] for bone in link.finger.bones], axis=1)
    reached = np.array([calibrate.bend_of_pose(calibrated, each) for each in posed])
    base = calibrate.bend_of_pose(link, calibrate.straight_pose(link, at_rest=False))
    expected = np.radians(np.where(degrees > 10, 1.5 * (degrees - 10), degrees - 10))[:, None] + base
    np.testing.assert_allclose(reached, expected, atol=0.02)
    assert (np.diff(reached, axis=0) > 0).all()


@pytest.mark.parametrize("mode", transfer.FINGER_MODES)
@pytest.mark.parametrize("relaxed", [False, True])
def test_an_open_palm_is_the_rigs_straight_hand(mode, relaxed):
    """The rest pose where that is straight, else the rest pose without its bends, however the capture shows it."""
    rng = np.random.default_rng(3)
    model = open_hand_models()["left"]
    hinges = make_hinges(model)
    spread = np.zeros((16, 3))
    knuckles = [JOINTS.index(f"{finger}1") for finger in FINGERS[1:]]
    spread[knuckles] = np.cross(hinges[knuckles], [[1.0, 0, 0]]) * [[0.2], [0.05], [-0.1], [-0.2]]
    bends = rotations.from_rotation_vector((0.35 if relaxed else 0.04) * hinges)
    at_rest = rotations.multiply(bends, rotations.from_rotation_vector(spread))
    straight, keypoints = (
        model.pose_keypoints(pose[None])[0] for pose in (rotations.from_rotation_vector(spread), at_rest)
    )
    _, _, target, alignment, _, links = setting(3, mode, keypoints=keypoints)
    shown = rotations.from_rotation_vector(rng.normal(0, 0.1, (1, 16, 3)) + 0.2 * hinges)
    turns = transfer.chain_turns(shown)
    assert all(calibrate.is_straight(links[name]) != relaxed for name in FINGERS)
    made = {
        name: calibrate.calibrate_pose(
            link,
            transfer.joint_turns(turns, name, link.finger)[0],
            calibrate.straight_pose(link, at_rest=calibrate.is_straight(link)),
        )
        for name, link in links.items()
    }
    keys = transfer.finger_keys(turns, with_calibration(target, made), alignment, mode)
    if not relaxed:
        assert all(rotations.angle_between(key, np.array([[1.0, 0, 0, 0]])).max() < 1e-6 for key in keys.values())
    directions = posed_directions(target, scipy_rotation(target.rotation), keys, Rotation.identity())
    for row, name in list(enumerate(FINGERS))[1:]:
        lines = np.diff(straight[4 * row + 1 : 4 * row + 5], axis=0)
        for bone, line in zip(links[name].finger.bones, unit(lines), strict=True):
            off = np.degrees(angle_between_directions(directions[bone], line)).max()
            assert off < (4 if relaxed else 9)


@pytest.mark.parametrize("mode", transfer.FINGER_MODES)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("opened", [False, True])
def test_a_fist_bends_the_rig_as_far_as_it_goes(mode, lengths, opened):
    rng, _, target, alignment, hinges, links = setting(9, mode, lengths=lengths)
    fist = rotations.from_rotation_vector((np.radians(50) * hinges + rng.normal(0, 0.05, (16, 3)))[None])
    palm = rotations.from_rotation_vector(rng.normal(0, 0.05, (1, 16, 3)))
    turns, flat = transfer.chain_turns(fist), transfer.chain_turns(palm)
    made = {}
    for name, plain in links.items():
        link = plain
        joints = transfer.joint_turns(turns, name, link.finger)[0]
        assert calibrate.makes_fist(link, joints)
        assert not calibrate.makes_fist(link, transfer.joint_turns(flat, name, link.finger)[0])
        if opened:
            pose = calibrate.calibrate_pose(
                link, transfer.joint_turns(flat, name, link.finger)[0], calibrate.straight_pose(link, at_rest=False)
            )
            target = with_calibration(
                target, {n: f.calibration for n, f in target.fingers.items() if f.calibration} | {name: pose}
            )
            link = transfer.link_finger(name, target, alignment, mode, hinges)
        full = calibrate.anatomical_bend(link)
        made[name] = calibrate.calibrate_fist(link, joints, full)
        assert made[name].has_pose == opened
    calibrated = with_calibration(target, made)
    keys = transfer.finger_keys(turns, calibrated, alignment, mode, hinges=hinges)
    for name, link in links.items():
        posed = np.array([keys[bone][0] for bone in link.finger.bones])
        free = np.array([0.25 < factor < 4.0 for factor in made[name].ranges])
        reached, wanted = calibrate.bend_of_pose(link, posed), calibrate.anatomical_bend(link)
        np.testing.assert_allclose(reached[free], wanted[free], atol=1e-6)
        assert free.sum() > len(free) - 2


def test_joints_that_are_hardly_bent_keep_their_range():
    _, _, target, alignment, hinges, _ = setting(4, "angles")
    made = FingerCalibration((), (), (1.3, 1.2, 1.1))
    link = transfer.link_finger("ring", with_calibration(target, {"ring": made}), alignment, "angles", hinges)
    joints = rotations.from_rotation_vector(np.radians([[80], [70], [5]]) * link.hinges)
    again = calibrate.calibrate_fist(link, joints, np.radians([90, 100, 70]))
    assert again.ranges[2] == 1.1
    assert again.ranges[1] == pytest.approx(100 / 70, abs=1e-6)


@pytest.mark.parametrize(
    "content",
    [
        {"captured": ((1.0, 0, 0, 0),), "posed": (), "ranges": (1.0,)},
        {"captured": ((1.0, 0, 0, 0),), "posed": ((1.0, 0, 0, 0),), "ranges": (1.0, 1.0)},
        {"captured": ((1.0, 0, 0, 1.0),), "posed": ((1.0, 0, 0, 0),), "ranges": (1.0,)},
        {"captured": ((1.0, 0, 0),), "posed": ((1.0, 0, 0, 0),), "ranges": (1.0,)},
        {"captured": (), "posed": (), "ranges": (float("nan"),)},
        {"captured": (), "posed": (), "ranges": (9.0,)},
        {"captured": ((float("nan"), 0, 0, 0),), "posed": ((1.0, 0, 0, 0),), "ranges": (1.0,)},
    ],
)
def test_calibrations_that_cannot_be_are_refused(content):
    with pytest.raises(ValueError, match=r"differ|range|rotation"):
        FingerCalibration(**content)


# The palm


@pytest.mark.parametrize("mode", transfer.FINGER_MODES)
def test_metacarpals_take_their_share_and_the_fingers_turn_as_without(mode):
    rng, _, target, alignment, hinges, _ = setting(6, mode)
    bones = {
        name: rest.RestBone(f"palm {name}", rotations.from_rotation_vector(rng.normal(0, 1, 3))) for name in FINGERS
    }
    fingers = {name: rest.RestFinger(f.bones, f.places, f.rotations, bones[name]) for name, f in target.fingers.items()}
    target = rest.RestHand(target.wrist, target.place, target.rotation, fingers)
    turns = bent(hinges)
    plain = transfer.finger_keys(turns, target, alignment, mode, hinges=hinges)
    keys = transfer.finger_keys(turns, target, alignment, mode, hinges=hinges, palm_share=0.15)
    assert set(keys) - set(plain) == {"palm ring", "palm pinky"}
    for name in FINGERS:
        finger = target.fingers[name]
        if name in transfer.CUPPING:
            palm = keys[bones[name].name]
            bends = rotations.angle_between(palm, np.array([1.0, 0, 0, 0]))
            np.testing.assert_allclose(np.degrees(bends), 0.15 * BENDS, atol=1e-6)
            # The palm carries the finger: both turns in the armature's axes.
            cup = rotations.multiply(
                rotations.multiply(bones[name].rotation, palm), rotations.inverse(bones[name].rotation)
            )
        else:
            cup = np.array([1.0, 0, 0, 0])
        first = finger.rotations[0]
        carried = rotations.multiply(rotations.multiply(cup, first), keys[finger.bones[0]])
        assert rotations.angle_between(carried, rotations.multiply(first, plain[finger.bones[0]])).max() < 1e-6
        for bone in finger.bones[1:]:
            assert rotations.angle_between(keys[bone], plain[bone]).max() < 1e-9


# Hinges


@pytest.mark.parametrize("order", channels.EULER_ORDERS)
@pytest.mark.parametrize("locked", [each for each in itertools.product((False, True), repeat=3) if any(each)])
def test_no_rotation_with_locked_axes_is_nearer(order, locked):
    rng = np.random.default_rng([*map(int, locked), *order.encode()])
    wanted = rotations.from_rotation_vector(rng.normal(0, 0.8, (60, 3)))
    held = np.where(locked, rng.normal(0, 0.4, 3), 7.0)
    found = channels.to_unlocked_euler(wanted, locked, order, held)
    np.testing.assert_array_equal(found[:, list(locked)], np.tile(held[list(locked)], (60, 1)))
    best = rotations.angle_between(channels.from_euler(found, order), wanted)
    for step in (1e-3, 0.1, 1.0):
        for _ in range(20):
            other = found + np.where(locked, 0.0, rng.normal(0, step, (60, 3)))
            assert (rotations.angle_between(channels.from_euler(other, order), wanted) > best - 1e-9).all()
    dropped = np.where(locked, held, channels.to_euler(wanted, order))
    assert best.mean() < rotations.angle_between(channels.from_euler(dropped, order), wanted).mean() + 1e-9


@pytest.mark.parametrize("order", channels.EULER_ORDERS)
@pytest.mark.parametrize("axis", range(3))
def test_a_hinge_bends_by_the_bend_of_a_finger_that_also_spreads(order, axis):
    locked = tuple(row != axis for row in range(3))
    bend = rotations.from_rotation_vector(np.radians(BENDS)[:, None] * np.eye(3)[axis])
    spread = rotations.from_rotation_vector(0.4 * np.eye(3)[(axis + 1) % 3])
    for turn in (rotations.multiply(bend, spread), rotations.multiply(spread, bend), bend):
        for shown in (turn, turn * np.where(np.arange(len(BENDS)) % 3, 1.0, -1.0)[:, None]):
            found = channels.to_unlocked_euler(shown, locked, order)
            np.testing.assert_allclose(np.degrees(found[:, axis]), BENDS, atol=1e-6)
            # A frame for itself gives the same as all of them.
            alone = np.concatenate([channels.to_unlocked_euler(each[None], locked, order) for each in shown])
            np.testing.assert_allclose(alone, found, atol=1e-9)


# Limits


def random_limit(rng, order):
    lowest = np.where(rng.random(3) < 0.3, -np.inf, rng.uniform(-1.5, 0, 3))
    highest = np.where(np.isinf(lowest), np.inf, rng.uniform(0, 1.5, 3))
    return limits.RotationLimit(order, tuple(lowest), tuple(highest))


@pytest.mark.parametrize("order", channels.EULER_ORDERS)
@pytest.mark.parametrize("seed", range(5))
def test_rotations_come_inside_and_stay_there(order, seed):
    rng = np.random.default_rng(seed)
    limit = random_limit(rng, order)
    wild = rotations.from_rotation_vector(rng.normal(0, 1.0, (300, 3)))
    kept = limits.keep_inside(wild, limit)
    angles = channels.to_both_eulers(kept, order)
    inside = ((angles > np.array(limit.lowest) - 1e-6) & (angles < np.array(limit.highest) + 1e-6)).all(axis=-1)
    assert inside.any(axis=0).all()
    assert rotations.angle_between(limits.keep_inside(kept, limit), kept).max() < 1e-6
    angles = np.clip(rng.uniform(-1.5, 1.5, (300, 3)), limit.lowest, limit.highest)
    own = channels.from_euler(angles, order)
    np.testing.assert_allclose(limits.keep_inside(own, limit), own, atol=1e-9)


@pytest.mark.parametrize("order", channels.EULER_ORDERS)
@pytest.mark.parametrize("axis", range(3))
def test_a_bend_stops_at_its_limit_without_a_jump(order, axis):
    """Also where the angle is the middle one of its order and passes 90 degrees, passing straight there."""
    lowest, highest = np.full(3, -0.1), np.full(3, 0.1)
    lowest[axis], highest[axis] = -0.2, np.radians(80)
    limit = limits.RotationLimit(order, tuple(lowest), tuple(highest))
    time = np.linspace(0, 1, 400)[:, None]
    aside = 0.0 if axis == "XYZ".index(order[1]) else 0.2
    wobble = aside * np.sin(9 * time + np.arange(3)) * (np.arange(3) != axis)
    path = rotations.multiply(
        rotations.from_rotation_vector(np.radians(125) * np.sin(np.pi * time) * np.eye(3)[axis]),
        rotations.from_rotation_vector(wobble),
    )
    kept = limits.keep_inside(path, limit)
    steps, held = (rotations.angle_between(each[1:], each[:-1]).max() for each in (path, kept))
    assert held < 3 * steps
    assert np.degrees(bend_about(kept, np.eye(3)[axis]).max()) < 90


def test_a_full_bend_is_where_the_limits_end_it():
    x = np.array([1.0, 0, 0])
    hinge = limits.RotationLimit("XYZ", (np.radians(-5), 0.0, 0.0), (np.radians(75), 0.0, 0.0))
    assert np.degrees(limits.full_bend([hinge], x)) == pytest.approx(75)
    assert np.degrees(limits.full_bend([hinge], -x)) == pytest.approx(5)
    across = limits.RotationLimit("ZYX", (-np.inf, 0.0, -np.inf), (np.inf, 0.0, np.inf))
    assert limits.full_bend([across], x) is None
    assert np.degrees(limits.full_bend([across, hinge], x)) == pytest.approx(75)
    assert limits.full_bend([], x) is None
