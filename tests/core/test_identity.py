"""Hands come back to their sides and second skeletons go, whatever a tracker did; a take that is right stays."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dir_core.clean_up.edits import drop_hand, exchange_sides
from dir_core.clean_up.identity import _best_states, repair_identity
from dir_core.conventions import SIDES
from dir_core.hand_model import OPEN_HAND_FOLDER, open_hand_models
from dir_core.take import HandTrack, Take, load_take, save_take
from tests.spoil import moving_take, share_right, spoil
from tests.takes import make_take

MODELS = open_hand_models()
MOTIONS = ("roam", "approach", "cross", "wave")
FIELDS = ("rotation", "translation", "keypoints_2d", "keypoints_3d", "confidence", "observed", "shape", "scale")
TRUTH = moving_take(MODELS, 60, 30.0, "roam", 1)


def assert_same(a: Take, b: Take) -> None:
    for side, name in product(SIDES, FIELDS):
        np.testing.assert_array_equal(
            getattr(a.hand(side), name), getattr(b.hand(side), name), err_msg=f"{side}/{name}"
        )


def rows(*limits: tuple[int, int]) -> Any:
    """Bool [60], True in the ranges, ends left out."""
    chosen = np.zeros(len(TRUTH), bool)
    for first, end in limits:
        chosen[first:end] = True
    return chosen


def without(take: Take, **gone: Any) -> Take:
    for side, chosen in gone.items():
        take = drop_hand(take, side, chosen)
    return take


def copied(take: Take, side: str, chosen: Any, confidence: float) -> Take:
    """One row overwritten by a slightly displaced skeleton of the other hand."""
    own, other = take.hand(side), take.hand("left" if side == "right" else "right")
    fields = {name: getattr(own, name).copy() for name in FIELDS[:6]}
    for name, array in fields.items():
        array[chosen] = getattr(other, name)[chosen]
    fields["keypoints_2d"][chosen] += 3.0
    fields["confidence"][chosen] = confidence
    return replace(take, **{side: replace(own, **fields)})


@pytest.mark.parametrize("rate", [24, 30, 60])
@pytest.mark.parametrize("motion", MOTIONS)
def test_takes_spoilt_in_every_way_come_back_right(motion: str, rate: int) -> None:
    before, after = [], []
    for seed in range(3):
        spoilt = spoil(moving_take(MODELS, 12 * rate, rate, motion, seed), seed)
        repaired, _ = repair_identity(spoilt.take)
        before.append(share_right(spoilt, spoilt.take))
        after.append(share_right(spoilt, repaired))
    print(f"{motion} at {rate} fps: right before {np.mean(before):.3f}, after {np.round(after, 4)}")
    assert max(before) < 0.85, "the take must be spoilt for this to mean anything"
    assert min(after) >= 0.995


@pytest.mark.parametrize("rate", [24, 60])
@pytest.mark.parametrize("motion", MOTIONS)
def test_a_noisy_take_with_holes_that_is_right_stays_as_it_is(motion: str, rate: int) -> None:
    truth = moving_take(MODELS, 10 * rate, rate, motion, 5)
    raw = spoil(truth, 6, swapped=0.0, misplaced=0.0, twice=0.0).take
    repaired, repair = repair_identity(raw)
    assert repaired is raw
    assert (repair.swaps, repair.removed) == (0, 0)


def test_the_demonstration_clip_stays_as_it_is_and_comes_back_when_spoilt() -> None:
    truth = load_take(OPEN_HAND_FOLDER.parent / "demo" / "two_hands.truth.npz")
    assert repair_identity(truth)[0] is truth
    for seed in range(5):
        spoilt = spoil(truth, seed)
        assert share_right(spoilt, repair_identity(spoilt.take)[0]) >= 0.995


@pytest.mark.parametrize("chosen", [rows((30, 31)), rows((0, 10)), rows((50, 60)), rows((5, 6), (20, 40))])
def test_swaps_are_undone_with_everything_a_row_holds(chosen: Any) -> None:
    repaired, repair = repair_identity(exchange_sides(TRUTH, chosen))
    np.testing.assert_array_equal(repair.swapped, chosen)
    assert repair.swaps == np.count_nonzero(np.diff(chosen.astype(int), prepend=0) == 1)
    assert repair.removed == 0
    assert_same(repaired, TRUTH)


@pytest.mark.parametrize("chosen", [rows((30, 31)), rows((20, 35)), rows((0, 60))])
def test_a_lone_hand_on_the_wrong_side_moves_to_its_side(chosen: Any) -> None:
    alone = without(TRUTH, left=rows((0, 60)))
    repaired, repair = repair_identity(exchange_sides(alone, chosen))
    np.testing.assert_array_equal(repair.swapped, chosen)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(repaired.right, name), getattr(TRUTH.right, name), err_msg=name)
    assert not repaired.left.observed.any()


def test_hands_that_cross_keep_their_sides_over_the_gap_of_the_rear_one() -> None:
    truth = moving_take(MODELS, 90, 30.0, "cross", 3)
    order = truth.left.keypoints_2d[:, 0, 0] - truth.right.keypoints_2d[:, 0, 0]
    crossing = int(np.argmax(order < 0))
    assert 15 < crossing < 75
    hidden = np.abs(np.arange(90) - crossing) < 8
    raw = without(truth, left=hidden)
    assert repair_identity(raw)[0] is raw
    # A tracker that goes by the picture alone has the sides exchanged from there on.
    exchanged = exchange_sides(raw, np.arange(90) >= crossing)
    assert_same(repair_identity(exchanged)[0], raw)


def test_hands_without_depth_are_followed_by_where_they_are() -> None:
    def flatten(hand: HandTrack) -> HandTrack:
        return replace(hand, keypoints_3d=np.zeros_like(hand.keypoints_3d))

    flat = replace(TRUTH, left=flatten(TRUTH.left), right=flatten(TRUTH.right))
    assert_same(repair_identity(exchange_sides(flat, rows((10, 20), (40, 41))))[0], flat)


def reverse_depth(hand: HandTrack, chosen: Any) -> HandTrack:
    """What a hand looks like that is taken for the other one: its 3D key points mirrored at the picture plane."""
    turned = np.where(chosen[:, None, None], hand.keypoints_3d * np.float32([1, 1, -1]), hand.keypoints_3d)
    return replace(hand, keypoints_3d=turned)


@pytest.mark.parametrize("other_is_seen", [True, False])
def test_a_hand_that_looks_like_the_other_one_for_a_moment_stays(other_is_seen: bool) -> None:
    doubtful = replace(TRUTH, right=reverse_depth(TRUTH.right, rows((8, 9), (20, 24), (40, 46))))
    raw = doubtful if other_is_seen else without(doubtful, left=rows((0, 60)))
    assert repair_identity(raw)[0] is raw


def test_a_faint_look_of_the_other_side_does_not_overrule_the_take() -> None:
    points = TRUTH.right.keypoints_3d
    across = np.cross(points[:, 5] - points[:, 0], points[:, 17] - points[:, 0])
    normal = (across / np.linalg.norm(across, axis=-1, keepdims=True))[:, None]
    height = np.sum((points - points[:, :1]) * normal, axis=-1, keepdims=True)
    faint = replace(TRUTH.right, keypoints_3d=points - 1.1 * height * normal)
    raw = without(replace(TRUTH, right=faint), left=rows((0, 60)))
    assert repair_identity(raw)[0] is raw
    clear = replace(TRUTH.right, keypoints_3d=points - 2.0 * height * normal)
    assert repair_identity(without(replace(TRUTH, right=clear), left=rows((0, 60))))[1].swapped.all()


@pytest.mark.parametrize("side", SIDES)
def test_the_less_sure_of_two_skeletons_of_one_hand_goes(side: str) -> None:
    chosen = rows((20, 30))
    repaired, repair = repair_identity(copied(TRUTH, side, chosen, 0.6))
    np.testing.assert_array_equal(repair.duplicates[side], chosen)
    assert repair.removed == 10
    assert repair.swaps == 0
    wanted = without(TRUTH, **{side: chosen})
    for each, name in product(SIDES, ("keypoints_2d", "keypoints_3d", "confidence", "observed")):
        np.testing.assert_array_equal(getattr(repaired.hand(each), name), getattr(wanted.hand(each), name))


def test_a_much_surer_skeleton_on_the_wrong_side_is_kept_and_moves() -> None:
    chosen = rows((20, 30))
    doubted = replace(TRUTH, right=replace(TRUTH.right, confidence=0.3 * TRUTH.right.confidence))
    raw = copied(doubted, "left", chosen, 0.9)
    repaired, repair = repair_identity(raw)
    np.testing.assert_array_equal(repair.duplicates["right"], chosen)
    np.testing.assert_array_equal(repair.swapped, chosen)
    np.testing.assert_array_equal(repaired.right.keypoints_2d[chosen], raw.left.keypoints_2d[chosen])
    assert not repaired.left.observed[chosen].any()


def test_a_skeleton_on_its_side_is_kept_when_the_other_is_hardly_surer() -> None:
    chosen = rows((20, 30))
    repaired, repair = repair_identity(copied(TRUTH, "left", chosen, 1.0))
    np.testing.assert_array_equal(repair.duplicates["left"], chosen)
    assert repair.swaps == 0
    np.testing.assert_array_equal(repaired.right.keypoints_2d, TRUTH.right.keypoints_2d)


def test_folded_hands_are_no_duplicates() -> None:
    # Palm to palm and seen along the palms: pixels and places nearly the same, one hand the mirror image of the other.
    flat = np.zeros((60, 16, 4))
    flat[..., 0] = 1.0
    points = MODELS["right"].pose_keypoints(flat)
    towards_palm = points @ np.diag([1.0, -1.0, 1.0]) + [0.0, -0.01, 0.5]
    pair = {"right": points + [0.0, 0.01, 0.5], "left": towards_palm}
    hands = {
        side: replace(
            TRUTH.hand(side),
            keypoints_3d=points.astype(np.float32),
            keypoints_2d=(1000 * points[..., :2] + 500).astype(np.float32),
        )
        for side, points in pair.items()
    }
    apart = np.linalg.norm(hands["left"].keypoints_2d - hands["right"].keypoints_2d, axis=-1).mean()
    assert apart < 25, "pixels, of a palm of 90"
    folded = replace(TRUTH, **hands)
    assert repair_identity(folded)[0] is folded


def test_a_mirrored_take_gives_the_mirrored_result() -> None:
    spoilt = spoil(moving_take(MODELS, 200, 30.0, "approach", 2), 2).take

    def mirror(hand: HandTrack) -> HandTrack:
        return replace(
            hand,
            keypoints_2d=np.where(hand.observed[:, None, None], [1280, 0] + hand.keypoints_2d * [-1, 1], 0.0),
            keypoints_3d=hand.keypoints_3d * [-1, 1, 1],
        )

    repair = repair_identity(spoilt)[1]
    mirrored = repair_identity(replace(spoilt, left=mirror(spoilt.right), right=mirror(spoilt.left)))[1]
    np.testing.assert_array_equal(mirrored.swapped, repair.swapped)
    np.testing.assert_array_equal(mirrored.duplicates["left"], repair.duplicates["right"])
    np.testing.assert_array_equal(mirrored.duplicates["right"], repair.duplicates["left"])


def test_mirrored_footage_is_repaired_like_any_other() -> None:
    spoilt = spoil(moving_take(MODELS, 200, 30.0, "wave", 2), 2).take

    def mirror_pixels(hand: HandTrack) -> HandTrack:
        pixels = np.where(hand.observed[:, None, None], [1280, 0] + hand.keypoints_2d * [-1, 1], 0.0)
        return replace(hand, keypoints_2d=pixels.astype(np.float32))

    selfie = replace(
        spoilt,
        camera_matrix=spoilt.camera_matrix * np.float32([[-1], [1], [1]]),
        left=mirror_pixels(spoilt.left),
        right=mirror_pixels(spoilt.right),
    )
    repair, mirrored = repair_identity(spoilt)[1], repair_identity(selfie)[1]
    np.testing.assert_array_equal(mirrored.swapped, repair.swapped)
    np.testing.assert_array_equal(mirrored.duplicates["left"], repair.duplicates["left"])


def test_a_repaired_take_is_right_and_can_be_stored(tmp_path: Any) -> None:
    spoilt = spoil(moving_take(MODELS, 300, 30.0, "cross", 4), 4).take
    raw_before = {(side, name): getattr(spoilt.hand(side), name).copy() for side, name in product(SIDES, FIELDS)}
    repaired, _ = repair_identity(spoilt)
    for (side, name), value in raw_before.items():
        np.testing.assert_array_equal(getattr(spoilt.hand(side), name), value, err_msg=f"{side}/{name} of the raw take")
    assert repair_identity(repaired)[0] is repaired
    save_take(repaired, tmp_path / "repaired.npz")
    for side in SIDES:
        hand = load_take(tmp_path / "repaired.npz").hand(side)
        assert not hand.confidence[~hand.observed].any()
        assert (np.sum(hand.rotation[1:] * hand.rotation[:-1], axis=-1) >= 0).all()


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=60))
@settings(max_examples=50, deadline=None)
def test_any_pattern_of_missing_and_exchanged_frames_is_survived(pattern: list[tuple[bool, bool, bool]]) -> None:
    seen = np.array(pattern, bool).reshape(-1, 3)
    take = make_take(MODELS, len(seen))
    take = without(take, left=~seen[:, 0], right=~seen[:, 1])
    repaired, repair = repair_identity(exchange_sides(take, seen[:, 2]))
    visible = seen[:, :2].any(axis=1)
    np.testing.assert_array_equal(repair.swapped[visible], seen[visible, 2])
    for side in SIDES:
        np.testing.assert_array_equal(repaired.hand(side).keypoints_2d, take.hand(side).keypoints_2d)


def test_a_swap_goes_on_through_frames_without_hands() -> None:
    gap = rows((25, 30))
    raw = without(TRUTH, left=gap, right=gap)
    repaired, repair = repair_identity(exchange_sides(raw, rows((20, 40))))
    np.testing.assert_array_equal(repair.swapped, rows((20, 40)))
    assert repair.swaps == 1
    assert_same(repaired, raw)


def test_a_take_without_hands_comes_back() -> None:
    none = without(TRUTH, left=rows((0, 60)), right=rows((0, 60)))
    assert repair_identity(none)[0] is none


numbers = st.floats(-5, 5)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=7))
def test_the_best_states_are_the_best_of_all(pairs: list[tuple[float, float]]) -> None:
    evidence, coupling = np.array(pairs)[:, 0], np.array(pairs)[1:, 1]

    def score(signs: Any) -> float:
        return float(evidence @ signs + coupling @ (signs[1:] * signs[:-1]))

    found = np.where(_best_states(evidence, coupling), 1.0, -1.0)
    best = max(score(np.array(signs)) for signs in product((-1.0, 1.0), repeat=len(evidence)))
    assert score(found) == pytest.approx(best, abs=1e-9)
