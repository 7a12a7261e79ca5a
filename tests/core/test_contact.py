"""Hands that are pushed into each other or into themselves come apart; what does not touch is left alone."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial import cKDTree

from dir_core import rotations
from dir_core.camera import make_camera_matrix, project
from dir_core.clean_up.capsules import fit_capsules, place_capsules
from dir_core.clean_up.contact import EASE, Parted, measure_penetration, separate_hands
from dir_core.clean_up.contact_solver import VARIABLES, _Bounded
from dir_core.conventions import JOINTS, SHAPE_COUNT, SIDES, Side
from dir_core.degrees_of_freedom import (
    FINGER_JOINTS,
    HIGHEST,
    LOWEST,
    angles_from_rotations,
    finger_geometry,
    rotations_from_angles,
)
from dir_core.hand_model import open_hand_models
from dir_core.take import load_take

FRAMES = 60
TIME = np.arange(FRAMES) / 30
CAMERA = make_camera_matrix((1280, 720), 1100.0)
MODELS = open_hand_models()
SHAPE = np.zeros(SHAPE_COUNT)
MIRROR = np.array([1.0, 1.0, -1.0, -1.0])  # of quaternions, x -> -x
# How far a contact has come, 0..1: it begins, stays and ends.
PUSH = np.clip(1.6 * np.sin(np.pi * np.arange(FRAMES) / (FRAMES - 1)) ** 2 - 0.3, 0, 1)
FINGERS_UP = rotations.from_matrix(np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
"""The right hand with its palm to the picture's right, where the left hand is."""

FLAT = np.zeros((5, 5))
PRAYING = np.zeros((5, 5))
PRAYING[0] = [-0.3, -0.45, 0, -0.2, -0.2]  # thumbs beside the palms
RELAXED = np.radians(np.array([[12, 0, 0, 0, 0]] + 4 * [[20, 0, 0, 30, 20]], float))
FIST = np.radians(np.array([[0, 0, 0, 0, 0]] + 4 * [[70, 0, 0, 90, 45]], float))
FIST[0] = [0.6, 0.25, 0, 0.4, 0.7]  # the thumb across the fingers


@dataclass(frozen=True)
class Hand:
    rotation: Any
    translation: Any
    shape: Any
    scale: float


Hands = dict[Side, Hand]


def hand(side: Side, wrist: Any, angles: Any, translation: Any) -> Hand:
    geometry = finger_geometry(MODELS[side], SHAPE, 1.0)
    turned = np.broadcast_to(wrist, (FRAMES, 4)), np.broadcast_to(angles, (FRAMES, 5, 5))
    rotation = rotations.make_continuous(rotations_from_angles(geometry, *turned))
    return Hand(rotation, np.broadcast_to(translation, (FRAMES, 3)).copy(), SHAPE, 1.0)


def pair(wrist: Any, angles: Any, translation: Any) -> Hands:
    """The right hand and its mirror image."""
    return {
        "left": hand("left", wrist * MIRROR, angles, translation * np.array([-1, 1, 1])),
        "right": hand("right", wrist, angles, translation),
    }


def apart(angles: Any) -> Hands:
    return pair(FINGERS_UP, angles, np.array([-0.12, 0.08, 0.55]))


def praying(gap: float, turn: float = 0.0, angles: Any = PRAYING, tilt: float = 0.0) -> Hands:
    """Palm against palm, `gap` metres between the wrists; turned by `turn` degrees to the line of sight."""
    wrist = rotations.multiply(about((1, 0, 0), tilt), FINGERS_UP)
    side = -(0.10 - (0.10 - gap / 2) * PUSH)
    hands = pair(wrist, angles, np.stack([side, np.full(FRAMES, 0.08), np.full(FRAMES, 0.55)], -1))
    view, middle = about((0, 1, 0), turn), np.array([0, 0, 0.55])
    return {
        side: Hand(
            np.concatenate([rotations.multiply(view, one.rotation[:, :1]), one.rotation[:, 1:]], axis=1),
            rotations.rotate(view, one.translation - middle) + middle,
            SHAPE,
            1.0,
        )
        for side, one in hands.items()
    }


def about(axis: Any, degrees: float) -> Any:
    return rotations.from_rotation_vector(np.radians(degrees) * np.array(axis, float))


def interlaced() -> Hands:
    angles = np.tile(PRAYING, (FRAMES, 1, 1))
    angles[:, 1:, 0], angles[:, 1:, 3], angles[:, 1:, 4] = 0.2, 0.5 * PUSH[:, None], 0.3
    hands = praying(0.0493, 0.0, angles, -35.0)
    return hands | {"left": Hand(hands["left"].rotation, hands["left"].translation + [0, 0.006, 0.006], SHAPE, 1.0)}


def passing() -> Hands:
    """The left hand goes by close behind the right one, both palms to the camera."""
    to_camera = rotations.from_matrix(np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    angles = np.zeros((5, 5))
    angles[:, [0, 3]] = 0.25
    path = np.stack([np.linspace(-0.22, 0.22, FRAMES), np.full(FRAMES, 0.08), np.full(FRAMES, 0.55)], -1)
    return {
        "left": hand("left", to_camera * MIRROR, angles, path),
        "right": hand("right", to_camera, angles, np.array([0.0, 0.08, 0.55 - 0.063])),
    }


def pointing() -> Hands:
    """The right index finger runs into the left palm."""
    angles = np.zeros((5, 5))
    angles[2:] = [1.2, 0, 0, 1.5, 0.8]
    angles[0, 0] = 0.5
    wrist = rotations.from_matrix(np.array([[-1.0, 0, 0], [0, 0, -1.0], [0, -1.0, 0]]))
    path = np.stack([0.0848 * PUSH - 0.25, np.full(FRAMES, 0.02), np.full(FRAMES, 0.53)], -1)
    return {
        "left": hand("left", FINGERS_UP * MIRROR, FLAT, np.array([0.027, 0.08, 0.55])),
        "right": hand("right", wrist, angles, path),
    }


def crossed_fingers() -> Hands:
    angles = np.zeros((FRAMES, 5, 5))
    angles[:, 1, 1], angles[:, 2, 1] = -np.radians(9) * PUSH, np.radians(9) * PUSH
    angles[:, 1:3, 0] = 0.3 * PUSH[:, None]
    return apart(angles)


def finger_in_palm() -> Hands:
    angles = np.zeros((FRAMES, 5, 5))
    angles[:, 1, 0], angles[:, 1, 3], angles[:, 1, 4] = (np.radians(d) * PUSH for d in (80, 81, 60))
    angles[:, 0, 0] = 0.8 * PUSH
    return apart(angles)


MAKERS: dict[str, Callable[[], Hands]] = {
    "praying, seen from the front": lambda: praying(0.0513),
    "praying, turned by 50 degrees": lambda: praying(0.0513, 50.0),
    "palm behind palm": lambda: praying(0.0513, 90.0),
    "interlaced": interlaced,
    "passing": passing,
    "pointing": pointing,
    "crossed fingers": crossed_fingers,
    "finger in palm": finger_in_palm,
}
WITHIN = ("crossed fingers", "finger in palm")


@functools.cache
def scene(name: str) -> tuple[Hands, Parted]:
    hands = MAKERS[name]()
    return hands, separate(hands)


def separate(hands: Mapping[Side, Hand], confidence: float = 0.9) -> Parted:
    return separate_hands(hands, MODELS, CAMERA, {side: np.full((FRAMES, 21), confidence) for side in hands}, TIME)


def parted_hands(parted: Parted) -> Hands:
    return {side: Hand(one.rotation, one.translation, SHAPE, 1.0) for side, one in parted.hands.items()}


# The mesh, which the capsules only stand for.


def surface(side: Side, posed: Hand, frame: int) -> tuple[Any, Any]:
    """Vertices of one frame and their outward normals."""
    model = MODELS[side]
    vertices = model.pose(posed.rotation[[frame]], posed.translation[[frame]], posed.shape, posed.scale).vertices[0]
    corners = vertices[model.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, model.faces[:, corner], across)
    return vertices, normals / np.linalg.norm(normals, axis=1, keepdims=True)


def depth_inside(points: Any, vertices: Any, normals: Any) -> Any:
    """How far points lie behind the nearest vertex of a surface, metres; 0 outside."""
    distance, nearest = cKDTree(vertices).query(points)
    height = np.einsum("pd,pd->p", points - vertices[nearest], normals[nearest])
    return np.where((height < 0) & (distance < 0.03), -height, 0.0)


def mesh_depth(name: str, hands: Hands, frame: int) -> Any:
    """Depths of all vertices that are inside the other hand, or inside another part of their own."""
    surfaces = {side: surface(side, hands[side], frame) for side in SIDES}
    owner = {side: MODELS[side].weights.argmax(axis=1) for side in SIDES}
    if name in WITHIN:
        points, normals = surfaces["right"]
        own = np.isin(owner["right"], FINGER_JOINTS[1])
        tip = np.isin(owner["right"], FINGER_JOINTS[1][1:])
        return depth_inside(points[tip], points[~own], normals[~own])
    # Forearms are no part of the hand.
    kept = {side: np.abs(MODELS[side].template[:, 0]) > 0.02 for side in SIDES}
    kept = {side: kept[side] & (MODELS[side].template[:, 0] * (-1 if side == "right" else 1) > 0) for side in SIDES}
    (left, left_normals), (right, right_normals) = ((a[kept[side]] for a in surfaces[side]) for side in SIDES)
    return np.concatenate([depth_inside(left, right, right_normals), depth_inside(right, left, left_normals)])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("seed", range(3))
def test_capsules_follow_the_mesh(side: Side, seed: int) -> None:
    shape = np.random.default_rng(seed).normal(size=SHAPE_COUNT)
    capsules = fit_capsules(MODELS[side], shape, 1.05)
    flat = np.zeros((1, len(JOINTS), 4))
    flat[..., 0] = 1.0
    placed = place_capsules(capsules, flat, np.zeros((1, 3)))
    assert np.abs(placed.places[0].reshape(20, 3) - capsules.geometry.keypoints[1:]).max() < 1e-12
    vertices, joints = MODELS[side].shaped(shape)
    vertices = 1.05 * (vertices - joints[0])
    vertices = vertices[vertices[:, 0] * (-1 if side == "right" else 1) > 0.015]  # the hand without the forearm
    start, along = placed.ends[0, :, 0], placed.ends[0, :, 1] - placed.ends[0, :, 0]
    share = np.clip(np.einsum("vcd,cd->vc", vertices[:, None] - start, along) / np.sum(along**2, axis=-1), 0, 1)
    distance = np.linalg.norm(vertices[:, None] - start - share[..., None] * along, axis=-1)
    gap = np.min(distance - capsules.radius, axis=1)
    assert abs(np.median(gap)) < 0.0005
    assert np.percentile(np.abs(gap), 75) < 0.002
    assert np.percentile(np.abs(gap), 95) < 0.0055


def test_capsules_turn_with_the_hand() -> None:
    capsules = fit_capsules(MODELS["right"], SHAPE, 1.0)
    moved = hand("right", FINGERS_UP, FIST, np.array([0.1, 0.2, 0.5]))
    placed = place_capsules(capsules, moved.rotation[:1], moved.translation[:1])
    keypoints = MODELS["right"].pose_keypoints(moved.rotation[:1], moved.translation[:1], SHAPE, 1.0)[0]
    joints = [point for point in range(1, 21) if point % 4]
    assert np.abs(placed.places[0].reshape(20, 3)[np.array(joints) - 1] - keypoints[joints]).max() < 1e-9
    length = np.linalg.norm(placed.ends[0, :, 1] - placed.ends[0, :, 0], axis=-1)
    assert np.abs(length - np.linalg.norm(capsules.ends[:, 1] - capsules.ends[:, 0], axis=-1)).max() < 1e-12


@pytest.mark.parametrize("pose", [FLAT, PRAYING, RELAXED, FIST], ids=["flat", "thumb beside", "relaxed", "fist"])
def test_a_natural_pose_does_not_penetrate_itself(pose: Any) -> None:
    hands = apart(pose)
    assert measure_penetration(hands, MODELS).deepest.max() < 0.001


def test_penetration_grows_as_far_as_the_hands_are_pushed() -> None:
    depths = [measure_penetration(praying(gap), MODELS).between.max() for gap in (0.055, 0.051, 0.047)]
    assert depths[0] > 0
    assert np.diff(depths) == pytest.approx([0.004, 0.004], abs=0.0005)


@pytest.mark.parametrize("name", MAKERS)
def test_hands_come_apart_without_leaving_the_picture(name: str) -> None:
    hands, parted = scene(name)
    before, after = parted.before.deepest, parted.after.deepest
    touching = before > 0
    assert 0.009 < before.max() < 0.013
    assert np.median(1 - after[touching] / before[touching]) >= 0.7
    assert parted.moved.max() <= 0.03
    # What is reported is what the hands that come back show.
    again = parted_hands(parted)
    assert measure_penetration(again, MODELS).deepest == pytest.approx(after, abs=1e-9)
    assert measured_move(hands, again) == pytest.approx(parted.moved.max(), abs=5e-4)


def measured_move(hands: Hands, parted: Hands) -> float:
    """Largest move of a key point in the picture as a share of the hand length."""
    largest = 0.0
    for side in SIDES:
        pixels = [
            project(MODELS[side].pose_keypoints(h.rotation, h.translation, SHAPE, 1.0), CAMERA)
            for h in (hands[side], parted[side])
        ]
        length = CAMERA[0, 0] * MODELS[side].length(SHAPE) / hands[side].translation[:, 2]
        move = np.linalg.norm(pixels[1] - pixels[0], axis=-1) / length[:, None]
        largest = max(largest, float(move.max()))
    return largest


@pytest.mark.parametrize("name", MAKERS)
def test_the_mesh_comes_apart_with_its_capsules(name: str) -> None:
    hands, parted = scene(name)
    deepest = int(parted.before.deepest.argmax())
    before = mesh_depth(name, hands, deepest)
    after = mesh_depth(name, parted_hands(parted), deepest)
    assert before.max() > 0.005
    assert after.sum() < 0.5 * before.sum()
    assert np.sum(after > 0.001) < 0.6 * np.sum(before > 0.001)


@pytest.mark.parametrize("name", MAKERS)
def test_a_correction_comes_and_goes_smoothly(name: str) -> None:
    hands, parted = scene(name)
    touching = np.flatnonzero(parted.before.deepest > 0)
    gap = np.abs(TIME[:, None] - TIME[touching]).min(axis=1)
    for side in SIDES:
        given, result = hands[side], parted.hands[side]
        assert np.array_equal(result.rotation[gap > EASE], given.rotation[gap > EASE])
        assert np.array_equal(result.translation[gap > EASE], given.translation[gap > EASE])
        move = result.translation - given.translation
        turn = rotations.to_rotation_vector(rotations.multiply(rotations.inverse(given.rotation), result.rotation))
        for correction in (move, turn.reshape(FRAMES, -1)):
            step = np.abs(np.diff(correction, axis=0)).max()
            assert step <= 0.45 * max(np.abs(correction).max(), 1e-9)


def test_hands_that_do_not_touch_stay_as_they_are() -> None:
    hands = apart(RELAXED)
    parted = separate(hands)
    for side in SIDES:
        assert np.array_equal(parted.hands[side].rotation, hands[side].rotation)
        assert np.array_equal(parted.hands[side].translation, hands[side].translation)
    assert parted.moved.max() == 0


def test_fingers_alone_move_no_wrist() -> None:
    hands, parted = scene("crossed fingers")
    for side in SIDES:
        assert np.abs(parted.hands[side].translation - hands[side].translation).max() == 0
        assert np.array_equal(parted.hands[side].rotation[:, 0], hands[side].rotation[:, 0])


def test_fingers_may_be_left_as_they_are() -> None:
    confidence = {side: np.full((FRAMES, 21), 0.9) for side in SIDES}
    crossed = MAKERS["crossed fingers"]()
    parted = separate_hands(crossed, MODELS, CAMERA, confidence, TIME, fingers=False)
    for side in SIDES:
        assert np.array_equal(parted.hands[side].rotation, crossed[side].rotation)
    parted = separate_hands(MAKERS["passing"](), MODELS, CAMERA, confidence, TIME, fingers=False)
    assert parted.after.between.max() < 0.3 * parted.before.between.max()


def test_depth_is_moved_before_the_picture() -> None:
    hands, parted = scene("palm behind palm")
    move = np.abs(parted.hands["left"].translation - hands["left"].translation).max(axis=0)
    assert move[2] > 5 * move[:2].max()


def test_a_mirrored_pair_comes_apart_like_its_mirror_image() -> None:
    hands, parted = scene("pointing")
    swapped: Hands = {
        other: Hand(hands[side].rotation * MIRROR, hands[side].translation * [-1, 1, 1], SHAPE, 1.0)
        for side, other in zip(SIDES, reversed(SIDES), strict=True)
    }
    mirrored = separate(swapped)
    for side, other in zip(SIDES, reversed(SIDES), strict=True):
        assert np.abs(parted.hands[side].rotation * MIRROR - mirrored.hands[other].rotation).max() < 1e-5
        assert np.abs(parted.hands[side].translation * [-1, 1, 1] - mirrored.hands[other].translation).max() < 1e-5


def test_the_hand_that_is_seen_worse_gives_way() -> None:
    hands = MAKERS["praying, seen from the front"]()
    sure = {"left": np.full((FRAMES, 21), 0.9), "right": np.full((FRAMES, 21), 0.2)}
    parted = separate_hands(hands, MODELS, CAMERA, sure, TIME)
    moved = {side: np.abs(parted.hands[side].translation[:, 0] - hands[side].translation[:, 0]).max() for side in SIDES}
    assert moved["right"] > 3 * moved["left"]


def test_corrected_fingers_stay_within_their_range() -> None:
    for name in MAKERS:
        hands, parted = scene(name)
        for side in SIDES:
            geometry = finger_geometry(MODELS[side], SHAPE, 1.0)
            given, result = (angles_from_rotations(geometry, h[side].rotation) for h in (hands, parted.hands))
            assert (result >= np.minimum(LOWEST, given) - 1e-6).all()
            assert (result <= np.maximum(HIGHEST, given) + 1e-6).all()


def test_a_hand_that_was_never_seen_takes_no_part() -> None:
    hands = praying(0.0513)
    confidence = {"left": np.zeros((FRAMES, 21)), "right": np.full((FRAMES, 21), 0.9)}
    parted = separate_hands(hands, MODELS, CAMERA, confidence, TIME)
    assert parted.before.between.max() == 0
    for side in SIDES:
        assert np.array_equal(parted.hands[side].translation, hands[side].translation)


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_short_clips(frames: int) -> None:
    hands: Hands = {
        side: Hand(one.rotation[30 : 30 + frames], one.translation[30 : 30 + frames], SHAPE, 1.0)
        for side, one in praying(0.0513).items()
    }
    confidence = {side: np.full((frames, 21), 0.9) for side in SIDES}
    parted = separate_hands(hands, MODELS, CAMERA, confidence, TIME[:frames])
    assert len(parted.after.between) == frames
    assert (parted.after.between < 0.3 * parted.before.between).all()


def test_the_hands_of_the_demonstration_do_not_move_each_other() -> None:
    truth = load_take(Path(__file__).parents[2] / "blender_assets" / "demo" / "two_hands.truth.npz")
    hands: Hands = {
        side: Hand(track.rotation, track.translation, track.shape, float(track.scale[0]))
        for side in SIDES
        for track in [truth.hand(side)]
    }
    confidence = {side: truth.hand(side).confidence for side in SIDES}
    parted = separate_hands(hands, MODELS, truth.camera_matrix, confidence, truth.time)
    assert parted.before.between.max() == 0
    for side in SIDES:
        assert np.array_equal(parted.hands[side].translation, hands[side].translation)


def test_frames_that_have_come_apart_keep_the_easiest_correction() -> None:
    rest = np.linspace(-1, 1, 2 * 2 * VARIABLES).reshape(2, -1)
    bounded = _Bounded(np.tile(np.eye(VARIABLES), (2, 2, 1, 1)), rest, np.full_like(rest, -2), np.full_like(rest, 2))
    np.testing.assert_array_equal(bounded.relax(np.zeros((2, 0, 2 * VARIABLES)), np.zeros((2, 0))), rest)
