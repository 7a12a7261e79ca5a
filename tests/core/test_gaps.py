"""Gaps: short ones keep moving, long ones are crossed evenly, longer ones held or hidden; seen frames never change."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dir_core import rotations
from dir_core.clean_up.gaps import (
    cross_long_gaps,
    find_gaps,
    gap_length,
    hold_longest_gaps,
    rows_to_fit,
    straight,
    too_long_gaps,
)


def mark_rows(ranges: Iterable[tuple[int, int]], count: int) -> np.ndarray:
    mask = np.zeros(count, bool)
    for first, last in ranges:
        mask[first : last + 1] = True
    return mask


def seen_but(count: int, *gaps: tuple[int, int]) -> np.ndarray:
    return ~mark_rows(gaps, count)


def test_gaps_are_found_with_both_ends() -> None:
    assert find_gaps(seen_but(20, (0, 2), (5, 5), (18, 19))) == [(0, 2), (5, 5), (18, 19)]
    assert find_gaps(np.ones(4, bool)) == []
    assert find_gaps(np.zeros(3, bool)) == [(0, 2)]
    assert find_gaps(np.zeros(0, bool)) == []


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.booleans(), max_size=60))
def test_gaps_and_marks_are_each_others_inverse(pattern: list[bool]) -> None:
    observed = np.array(pattern, bool)
    assert np.array_equal(~mark_rows(find_gaps(observed), len(observed)), observed)


def test_a_gap_lasts_from_the_frame_before_to_the_frame_after() -> None:
    time = np.array([0.0, 0.1, 0.3, 0.7, 1.5])
    assert gap_length(time, 1, 2) == pytest.approx(0.7)
    assert gap_length(time, 0, 2) == pytest.approx(0.7)
    assert gap_length(time, 3, 4) == pytest.approx(1.2)


def test_only_short_inner_gaps_are_fitted() -> None:
    time = np.arange(90) / 30
    rows = rows_to_fit(seen_but(90, (0, 1), (10, 15), (30, 60), (88, 89)), time)
    assert np.array_equal(rows, seen_but(90, (0, 1), (30, 60), (88, 89)))


@pytest.mark.parametrize("rate", [24, 60])
def test_a_long_gap_is_crossed_evenly_and_a_short_one_keeps_its_motion(rate: int) -> None:
    time = np.arange(4 * rate) / rate
    observed = (time < 0.5) | ((time > 0.8) & (time < 1.5)) | (time > 3.0)
    values = np.where(observed, time, 50.0)[:, None]
    crossed = cross_long_gaps(values, observed, time, straight)
    assert crossed[observed, 0] == pytest.approx(time[observed])
    assert np.all(crossed[(time > 0.52) & (time < 0.78)] == 50)
    assert crossed[time > 1.5, 0] == pytest.approx(time[time > 1.5])


def test_between_short_and_long_both_are_blended_without_a_jump() -> None:
    time = np.arange(120) / 60
    observed = (time < 0.7) | (time > 1.3)
    carried = np.sin(3 * time)[:, None]
    crossed = cross_long_gaps(carried, observed, time, straight)
    even = np.interp(time, time[observed], carried[observed, 0])
    low, high = np.minimum(carried[:, 0], even), np.maximum(carried[:, 0], even)
    assert np.all((crossed[:, 0] >= low - 1e-12) & (crossed[:, 0] <= high + 1e-12))
    assert np.abs(crossed - carried).max() > 0.05
    assert np.abs(np.diff(crossed, axis=0)).max() < 1.5 * np.abs(np.diff(carried, axis=0)).max()


def test_ends_are_held() -> None:
    time = np.arange(30) / 30
    observed = seen_but(30, (0, 4), (25, 29))
    crossed = cross_long_gaps(np.where(observed, time, -9)[:, None], observed, time, straight)
    assert np.all(crossed[:5] == time[5])
    assert np.all(crossed[25:] == time[24])


def test_rotations_are_crossed_the_short_way() -> None:
    time = np.arange(61) / 30
    start, end = rotations.from_rotation_vector(np.array([[0, 0, 0.0], [0, 0, 2.0]]))
    values = np.repeat(start[None, None], 61, axis=0)
    values[31:] = -end
    observed = seen_but(61, (1, 60))
    observed[60] = True
    crossed = cross_long_gaps(values, observed, time, rotations.slerp)
    turned = rotations.angle_between(values[:1], crossed)[:, 0]
    assert turned == pytest.approx(np.linspace(0, 2, 61), abs=1e-9)


def test_a_hand_in_too_long_a_gap_stays_and_moves_just_before_it_is_seen_again() -> None:
    time = np.arange(120) / 30
    observed = seen_but(120, (10, 99))
    values = np.where(time < 1, 0.0, 1.0)[:, None]
    held = hold_longest_gaps(values, observed, time, 1.0, straight)
    assert not held[10:92].any()
    assert np.all(np.diff(held[92:101, 0]) > 0)
    assert np.all(held[100:] == 1)
    assert np.array_equal(hold_longest_gaps(values, observed, time, 5.0, straight), values)


def test_hidden_are_all_gaps_that_are_too_long_also_at_the_ends() -> None:
    time = np.arange(300) / 30
    observed = seen_but(300, (0, 59), (100, 110), (200, 299))
    assert too_long_gaps(observed, time, 1.0) == [(0, 59), (200, 299)]
    assert too_long_gaps(observed, time, 0.0) == [(0, 59), (100, 110), (200, 299)]


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=50), st.sampled_from([3.0, 24.0, 120.0]), st.floats(0, 2))
def test_any_pattern_gives_finite_values_and_keeps_what_was_seen(
    pattern: list[bool], rate: float, longest: float
) -> None:
    observed = np.array(pattern)
    time = np.arange(len(pattern)) / rate
    rng = np.random.default_rng(len(pattern))
    quaternions = rng.normal(size=(len(pattern), 3, 4))
    quaternions /= np.linalg.norm(quaternions, axis=-1, keepdims=True)
    for values, between in ((quaternions, rotations.slerp), (rng.normal(size=(len(pattern), 2)), straight)):
        filled = hold_longest_gaps(cross_long_gaps(values, observed, time, between), observed, time, longest, between)
        assert np.isfinite(filled).all()
        assert np.array_equal(filled[observed], values[observed])
        if between is rotations.slerp:
            assert np.linalg.norm(filled, axis=-1) == pytest.approx(np.ones(filled.shape[:2]))
