"""The smoother removes noise and outliers, keeps snaps, bridges gaps, and means the same at every frame rate."""

import numpy as np
import pytest

from dir_core.clean_up.smoothing import bridge_gaps, smooth_vectors

NOISE = 0.003


def wave(time: np.ndarray, tracks: int = 21) -> np.ndarray:
    phase = np.linspace(0, 6, 3 * tracks)
    return 0.05 * np.sin(2 * np.pi * 0.7 * time[:, None] + phase).reshape(len(time), tracks, 3)


def rms(a: np.ndarray) -> float:
    return float(np.sqrt(np.mean(a**2)))


@pytest.mark.parametrize("rate", [24.0, 30.0, 60.0])
def test_noise_falls_to_less_than_half_at_every_frame_rate(rate: float) -> None:
    time = np.arange(int(10 * rate)) / rate
    truth = wave(time)
    seen = truth + NOISE * np.random.default_rng(1).normal(size=truth.shape)
    smooth = smooth_vectors(seen, np.ones(truth.shape[:2]), time, nominal_noise=0.006)
    assert rms(smooth - truth) < 0.5 * rms(seen - truth)


def test_clean_motion_stays_as_it_is() -> None:
    time = np.arange(300) / 30
    truth = wave(time)
    smooth = smooth_vectors(truth, np.ones(truth.shape[:2]), time, nominal_noise=0.006)
    assert np.abs(smooth - truth).max() < 1e-4


def test_outliers_do_not_pull_the_track() -> None:
    rng = np.random.default_rng(2)
    time = np.arange(300) / 30
    truth = wave(time)
    seen = truth + NOISE * rng.normal(size=truth.shape)
    wrong = rng.random(truth.shape[:2]) < 0.03
    seen[wrong] += 0.05 * rng.normal(size=(wrong.sum(), 3))
    smooth = smooth_vectors(seen, np.ones(truth.shape[:2]), time, nominal_noise=0.006)
    assert rms((smooth - truth)[wrong]) < 2 * NOISE


def test_a_snap_of_the_whole_hand_keeps_its_height() -> None:
    time = np.arange(300) / 30
    snap = 0.04 * np.exp(-0.5 * ((time - 5) / 0.06) ** 2)
    truth = wave(time) + snap[:, None, None]
    seen = truth + NOISE * np.random.default_rng(3).normal(size=truth.shape)
    smooth = smooth_vectors(seen, np.ones(truth.shape[:2]), time, nominal_noise=0.006)
    peak = 150
    height = np.mean((smooth - wave(time))[peak])
    assert height == pytest.approx(0.04, rel=0.05)


def test_uneven_time_stamps_are_respected() -> None:
    rng = np.random.default_rng(4)
    time = np.cumsum(rng.uniform(0.02, 0.06, 400))
    truth = wave(time)
    seen = truth + NOISE * rng.normal(size=truth.shape)
    weight = np.ones(truth.shape[:2])
    by_time = smooth_vectors(seen, weight, time, nominal_noise=0.006)
    by_index = smooth_vectors(seen, weight, np.linspace(time[0], time[-1], 400), nominal_noise=0.006)
    assert rms(by_time - truth) < 0.6 * rms(seen - truth)
    assert rms(by_time - truth) < rms(by_index - truth)


def test_missing_frames_are_bridged_and_ends_held() -> None:
    time = np.arange(120) / 30
    truth = wave(time, tracks=2)
    weight = np.ones((120, 2))
    weight[:10] = weight[50:55] = weight[110:] = 0
    seen = np.where(weight[..., None] > 0, truth, 1e3)
    smooth = smooth_vectors(seen, weight, time, nominal_noise=0.006)
    assert np.abs(smooth - truth)[50:55].max() < 0.01
    assert np.array_equal(smooth[:10], np.broadcast_to(smooth[10], (10, 2, 3)))
    assert np.array_equal(smooth[110:], np.broadcast_to(smooth[109], (10, 2, 3)))


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 4, 5])
def test_short_clips_come_back(frames: int) -> None:
    points = np.ones((frames, 3, 2))
    smooth = smooth_vectors(points, np.ones((frames, 3)), np.arange(frames) / 30, nominal_noise=1.0)
    assert smooth == pytest.approx(points)


def test_a_track_never_seen_is_zero() -> None:
    smooth = smooth_vectors(np.full((30, 1, 3), 7.0), np.zeros((30, 1)), np.arange(30) / 30, nominal_noise=1.0)
    assert not smooth.any()


def test_bridge_gaps_is_linear_inside_and_holds_outside() -> None:
    values = np.array([[9.0], [1.0], [9.0], [9.0], [4.0], [9.0]])
    seen = np.array([False, True, False, False, True, False])
    assert bridge_gaps(values, seen).ravel() == pytest.approx([1, 1, 2, 3, 4, 4])
