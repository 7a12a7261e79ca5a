"""Few keys, and between them the motion never further off than allowed: against slerp, ten samples per frame."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dir_core import rotations
from dir_core.clean_up.key_reduction import (
    DEFAULT_ANGLE,
    DEFAULT_DISTANCE,
    KeyReduction,
    map_curve,
    product_matrix,
    reduce_position_keys,
    reduce_rotation_keys,
    sample_curve,
)
from dir_core.conventions import SIDES
from dir_core.errors import SettingsError
from dir_core.take import load_take

DEMO = Path(__file__).parents[2] / "blender_assets" / "demo" / "two_hands.truth.npz"
FLOAT_NOISE = 1e-9


def slerp(quaternions, time, at):
    """The take's frames joined by the shortest turn at constant speed."""
    left = np.clip(np.searchsorted(time, at, side="right") - 1, 0, len(time) - 2)
    share = ((at - time[left]) / (time[left + 1] - time[left]))[:, None]
    turn = rotations.to_rotation_vector(rotations.multiply(rotations.inverse(quaternions[left]), quaternions[left + 1]))
    return rotations.multiply(quaternions[left], rotations.from_rotation_vector(share * turn))


def between_frames(time):
    """Ten samples per frame."""
    return np.append((time[:-1, None] + np.diff(time)[:, None] * np.arange(10) / 10).ravel(), time[-1])


def rotation_error(curve, quaternions, time):
    at = between_frames(time)
    sampled = sample_curve(curve, time, at)
    sampled /= np.linalg.norm(sampled, axis=-1, keepdims=True)
    return rotations.angle_between(sampled, slerp(quaternions, time, at)).max()


def position_error(curve, positions, time):
    at = between_frames(time)
    straight = np.stack([np.interp(at, time, positions[:, d]) for d in range(positions.shape[1])], axis=-1)
    return np.linalg.norm(sample_curve(curve, time, at) - straight, axis=-1).max()


def waving(time, bones=3):
    """Rotations [T, B, 4] of fingers that bend and spread at a few hertz."""
    phase = np.arange(bones)
    bend = np.sin(2 * np.pi * (0.7 + 0.3 * phase) * time[:, None] + phase)
    spread = 0.3 * np.sin(2 * np.pi * 0.4 * time[:, None] + 2 * phase)
    return rotations.from_rotation_vector(np.stack([bend, spread, 0.2 * bend * spread], axis=-1))


@given(
    seed=st.integers(0, 10_000),
    frames=st.integers(2, 60),
    roughness=st.sampled_from([0.0, 0.01, 0.3, 3.0]),
    degrees=st.sampled_from([0.1, 0.5, 2.0]),
)
@settings(max_examples=30, deadline=None)
def test_every_rotation_stays_within_the_angle(seed, frames, roughness, degrees):
    """Smooth motion, noise, and turns of up to 180 degrees from frame to frame, on uneven time stamps."""
    rng = np.random.default_rng(seed)
    time = np.cumsum(rng.uniform(0.01, 0.2, frames))
    noise = rotations.from_rotation_vector(roughness * rng.normal(size=(frames, 3, 3)))
    turns = rotations.multiply(waving(time), noise)
    for bone, curve in enumerate(reduce_rotation_keys(turns, time, np.radians(degrees))):
        assert rotation_error(curve, turns[:, bone], time) <= np.radians(degrees) + FLOAT_NOISE


@given(seed=st.integers(0, 10_000), frames=st.integers(2, 60), roughness=st.sampled_from([0.0, 1e-3, 0.1]))
@settings(max_examples=20, deadline=None)
def test_every_position_stays_within_the_distance(seed, frames, roughness):
    rng = np.random.default_rng(seed)
    time = np.cumsum(rng.uniform(0.01, 0.2, frames))
    path = 0.1 * np.sin(time[:, None, None] * [[1.0, 2.0, 3.0]]) + roughness * rng.normal(size=(frames, 1, 3))
    (curve,) = reduce_position_keys(path, time)
    assert position_error(curve, path[:, 0], time) <= DEFAULT_DISTANCE + FLOAT_NOISE


def test_keys_lie_on_the_takes_frames_and_the_first_and_last_are_kept():
    time = np.arange(100) / 30
    turns = waving(time)
    for bone, curve in enumerate(reduce_rotation_keys(turns, time)):
        assert curve.rows[0] == 0
        assert curve.rows[-1] == 99
        assert np.all(np.diff(curve.rows) > 0)
        np.testing.assert_allclose(rotations.angle_between(curve.values, turns[curve.rows, bone]), 0, atol=1e-7)


def test_a_cubic_needs_two_keys_and_has_its_own_slopes():
    time = np.linspace(0.0, 2.0, 240)
    path = np.stack([time**3 - 2 * time, 1 - time**2], axis=-1)
    (curve,) = reduce_position_keys(path[:, None], time)
    assert curve.rows.tolist() == [0, 239]
    np.testing.assert_allclose(curve.right_slope[0], [-2, 0], atol=0.01)
    np.testing.assert_allclose(curve.left_slope[1], [10, -4], atol=0.01)
    between = sample_curve(curve, time, np.array([0.5, 1.5]))
    np.testing.assert_allclose(between, [[-0.875, 0.75], [0.375, -1.25]], atol=1e-3)


def test_the_demonstration_keeps_a_sixth_of_its_keys():
    take = load_take(DEMO)
    kept = sum(len(curve.rows) for side in SIDES for curve in reduce_rotation_keys(take.hand(side).rotation, take.time))
    assert kept * 6 <= 2 * 16 * len(take)


def test_more_freedom_never_costs_keys():
    time = np.arange(300) / 30
    turns = waving(time)
    counts = [
        [len(curve.rows) for curve in reduce_rotation_keys(turns, time, np.radians(degrees))]
        for degrees in (0.1, 0.5, 1, 3)
    ]
    assert np.all(np.diff(counts, axis=0) < 0)


def test_a_segment_is_as_long_as_it_can_be():
    """No key can be put off by a frame."""
    time = np.arange(200) / 30
    turns = waving(time, bones=1)
    (curve,) = reduce_rotation_keys(turns, time)
    for first, last in zip(curve.rows[:-2], curve.rows[1:-1], strict=True):
        alone, longer = (
            reduce_rotation_keys(turns[first : end + 1], time[first : end + 1])[0] for end in (last, last + 1)
        )
        assert len(alone.rows) == 2
        assert len(longer.rows) == 3


def test_a_constant_curve_is_two_flat_keys():
    time = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.1, 500))
    still = np.repeat(rotations.from_rotation_vector(np.array([[[0.3, -1.0, 0.2]]])), 500, axis=0)
    (curve,) = reduce_rotation_keys(still, time)
    assert curve.rows.tolist() == [0, 499]
    assert not curve.left_slope.any()
    assert not curve.right_slope.any()
    assert np.all(sample_curve(curve, time, between_frames(time)) == still[0, 0])


def test_a_held_pose_stays_exactly_held_between_motion():
    time = np.arange(120) / 30
    moving = waving(time, bones=1)
    held = np.concatenate([moving[:50], np.repeat(moving[50:51], 30, axis=0), moving[51:91]])
    (curve,) = reduce_rotation_keys(held, time)
    assert not set(range(51, 79)) & set(curve.rows.tolist())
    inside = between_frames(time[50:80])
    assert np.all(sample_curve(curve, time, inside) == held[50, 0])
    assert np.all(curve.right_slope[curve.rows == 50] == 0)
    assert rotation_error(curve, held[:, 0], time) <= DEFAULT_ANGLE + FLOAT_NOISE


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_the_shortest_takes_keep_every_key(frames):
    time = np.arange(frames) / 30
    turns = waving(time, bones=2)
    for bone, curve in enumerate(reduce_rotation_keys(turns, time)):
        assert curve.rows.tolist() == list(range(frames))
        np.testing.assert_array_equal(curve.values, turns[:, bone])
        assert curve.left_slope.shape == curve.right_slope.shape == (frames, 4)
        assert curve.is_smooth.tolist() == [True] * frames
        assert sample_curve(curve, time, np.array([-1.0, 9.0])[:frames]).shape == (min(frames, 2), 4)


def test_no_bones_give_no_curves():
    assert reduce_rotation_keys(np.empty((20, 0, 4)), np.arange(20.0)) == []


def test_outside_its_keys_a_curve_is_held():
    time = np.arange(40) / 30
    (curve,) = reduce_position_keys(np.sin(time)[:, None, None], time)
    np.testing.assert_allclose(sample_curve(curve, time, np.array([-5.0, 50.0]))[:, 0], np.sin(time[[0, -1]]))


def test_the_signs_of_quaternions_do_not_matter():
    time = np.arange(90) / 30
    turns = waving(time)
    flipped = turns * np.where(np.random.default_rng(1).random((90, 3, 1)) < 0.3, -1.0, 1.0)
    for plain, curve in zip(reduce_rotation_keys(turns, time), reduce_rotation_keys(flipped, time), strict=True):
        np.testing.assert_array_equal(curve.rows, plain.rows)


def test_time_may_be_in_seconds_or_in_frames():
    time = np.arange(90) / 30
    for seconds, frames in zip(
        reduce_rotation_keys(waving(time), time), reduce_rotation_keys(waving(time), 1 + time * 24), strict=True
    ):
        np.testing.assert_array_equal(seconds.rows, frames.rows)
        np.testing.assert_allclose(seconds.left_slope, frames.left_slope * 24, atol=1e-6)


def test_a_mirrored_hand_gets_the_mirrored_keys():
    time = np.arange(150) / 30
    mirror = np.array([1.0, 1.0, -1.0, -1.0])
    for one, other in zip(
        reduce_rotation_keys(waving(time), time), reduce_rotation_keys(waving(time) * mirror, time), strict=True
    ):
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_allclose(one.right_slope * mirror, other.right_slope, atol=1e-9)


def test_some_joins_have_one_tangent_and_the_rest_says_that_they_have_two():
    time = np.arange(600) / 30
    curves = reduce_position_keys(0.2 * waving(time)[..., 1:], time)
    smooth = np.concatenate([curve.is_smooth[1:-1] for curve in curves])
    assert 0 < smooth.sum() < len(smooth)
    for curve in curves:
        moments, step = time[curve.rows[1:-1]], 1e-6
        before, at, after = (sample_curve(curve, time, moments + each) for each in (-step, 0.0, step))
        kink = np.abs((after - at) - (at - before)).max(axis=1) / step
        np.testing.assert_array_equal(kink < 1e-3, curve.is_smooth[1:-1])


def test_a_long_clip_is_cut_where_it_moves_but_not_where_it_holds():
    time = np.arange(1200) / 30
    turns = waving(time, bones=2)
    turns[:, 1] = turns[0, 1]
    moving, still = reduce_rotation_keys(turns, time)
    assert {256, 512, 768, 1024} <= set(moving.rows.tolist())
    assert still.rows.tolist() == [0, 1199]
    assert rotation_error(moving, turns[:, 0], time) <= DEFAULT_ANGLE + FLOAT_NOISE


def test_more_frames_than_are_held_in_memory_at_once_give_the_same_keys(monkeypatch):
    time = np.arange(300) / 30
    turns = waving(time, bones=5)
    together = reduce_rotation_keys(turns, time)
    monkeypatch.setattr("dir_core.clean_up.key_reduction._FRAMES_TOGETHER", 600)
    for one, other in zip(together, reduce_rotation_keys(turns, time), strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_allclose(one.left_slope, other.left_slope, atol=1e-9)


@pytest.mark.parametrize("degrees", [0.0, 0.009, 10.1, -1.0, float("nan")])
def test_a_bound_that_cannot_work_is_one_sentence(degrees):
    with pytest.raises(SettingsError, match=r"degrees, give 0\.01 to 10 degrees\.$"):
        KeyReduction(angle=np.radians(degrees))
    with pytest.raises(SettingsError, match="give a positive distance"):
        KeyReduction(distance=0.0)
    assert KeyReduction(np.radians(0.01)).distance == DEFAULT_DISTANCE


@pytest.mark.parametrize("roughness", [0.0, 0.02, 0.3])
def test_handles_lead_forward_and_never_reach_past_each_other(roughness):
    """Blender would shorten them, and its curve would not be the one that was proven."""
    time = np.cumsum(np.random.default_rng(5).uniform(0.02, 0.05, 300))
    noise = rotations.from_rotation_vector(roughness * np.random.default_rng(6).normal(size=(300, 3, 3)))
    for curve in reduce_rotation_keys(rotations.multiply(waving(time), noise), time):
        span = np.diff(time[curve.rows])
        assert np.all(curve.right_reach[:-1] > 0)
        assert np.all(curve.left_reach[1:] > 0)
        assert np.all(curve.right_reach[:-1] + curve.left_reach[1:] <= span * (1 + 1e-9))


UNIT = st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1)
START, RATE = 7.0, 24.0


@settings(derandomize=True, max_examples=25, deadline=None)
@given(before=UNIT, after=UNIT)
def test_rotation_keys_in_other_axes_and_in_frames(before: list[float], after: list[float]) -> None:
    before, after = (np.array(q) / np.linalg.norm(q) for q in (before, after))
    time = np.arange(40) / 30
    quaternions = waving(time, 1)
    (curve,) = reduce_rotation_keys(quaternions, time)
    mapped = map_curve(curve, product_matrix(before, after), rate=RATE)
    frames = START + RATE * time
    turned = rotations.multiply(rotations.multiply(before, quaternions[:, 0]), after)
    assert rotation_error(mapped, turned, frames) <= DEFAULT_ANGLE + FLOAT_NOISE
    at = between_frames(time)
    there = rotations.multiply(rotations.multiply(before, sample_curve(curve, time, at)), after)
    assert sample_curve(mapped, frames, START + RATE * at) == pytest.approx(there, abs=1e-9)
    assert np.array_equal(mapped.is_smooth, curve.is_smooth)
    assert 2 < len(mapped.rows) < 40


@settings(derandomize=True, max_examples=25, deadline=None)
@given(turn=UNIT, offset=st.lists(st.floats(-2, 2), min_size=3, max_size=3))
def test_position_keys_in_other_axes_and_in_frames(turn: list[float], offset: list[float]) -> None:
    matrix = rotations.to_matrix(np.array(turn) / np.linalg.norm(turn))
    time = np.arange(60) / 30
    positions = np.stack([np.sin(3 * time), 0.2 * np.cos(7 * time), time**2], axis=-1)
    (curve,) = reduce_position_keys(positions[:, None], time)
    mapped, frames = map_curve(curve, matrix, np.array(offset), RATE), START + RATE * time
    assert position_error(mapped, positions @ matrix.T + offset, frames) <= DEFAULT_DISTANCE + FLOAT_NOISE
    at = between_frames(time)
    there = sample_curve(curve, time, at) @ matrix.T + offset
    assert sample_curve(mapped, frames, START + RATE * at) == pytest.approx(there, abs=1e-9)


def test_a_reduction_can_be_ended() -> None:
    time = np.arange(200) / 30
    calls = []

    def check() -> None:
        calls.append(0)
        if len(calls) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        reduce_rotation_keys(waving(time), time, check=check)
    assert len(calls) == 3
    with pytest.raises(InterruptedError):
        reduce_position_keys(waving(time), time, check=lambda: calls.clear() or check() or check() or check())
