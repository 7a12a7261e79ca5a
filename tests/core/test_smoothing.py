"""The smoother removes noise and outliers, keeps snaps, bridges gaps, and means the same at every frame rate."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dir_core import rotations
from dir_core.clean_up import smoothing
from dir_core.clean_up.smoothing import measure_noise, smooth_rotations, smooth_vectors

NOISE = 0.003
few_examples = settings(derandomize=True, deadline=None, max_examples=40, database=None)


def wave(time: np.ndarray, tracks: int = 21) -> np.ndarray:
    phase = np.linspace(0, 6, 3 * tracks)
    return 0.05 * np.sin(2 * np.pi * 0.7 * time[:, None] + phase).reshape(len(time), tracks, 3)


def hand_motion(time: np.ndarray, joints: int = 16) -> np.ndarray:
    """Rotations [T, J, 4]: every joint sways about an axis of its own, and all snap by 50 degrees at 2.5 s."""
    rng = np.random.default_rng(5)
    axis, phase, rest = rng.normal(size=(joints, 3)), rng.uniform(0, 6, joints), rng.normal(0, 0.5, (joints, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    angle = 0.5 * np.sin(2 * np.pi * 0.6 * time[:, None] + phase) + snap(time, 2.5)[:, None]
    return rotations.multiply(
        rotations.from_rotation_vector(rest), rotations.from_rotation_vector(angle[..., None] * axis)
    )


def snap(time: np.ndarray, at: float) -> np.ndarray:
    return np.radians(50) * np.exp(-0.5 * ((time - at) / 0.07) ** 2)


def spoil(quaternions: np.ndarray, degrees: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, np.radians(degrees) / np.sqrt(3), (*quaternions.shape[:-1], 3))
    return rotations.multiply(quaternions, rotations.from_rotation_vector(noise))


def smooth(quaternions: np.ndarray, time: np.ndarray, valid: Any = True, **options: Any) -> np.ndarray:
    """With full confidence, on time stamps."""
    valid = np.broadcast_to(valid, len(time))
    return smooth_rotations(quaternions, np.ones(quaternions.shape[:2]), valid, 30.0, time=time, **options)


def degrees_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(rotations.angle_between(a, b))


def rms(a: np.ndarray) -> float:
    return float(np.sqrt(np.mean(a**2)))


def time_stamps(kind: str, seconds: float = 5.0) -> np.ndarray:
    if kind == "variable":
        steps = np.random.default_rng(8).uniform(1 / 60, 1 / 24, int(60 * seconds))
        stamps = np.concatenate([[0.0], np.cumsum(steps)])
        return stamps[stamps < seconds]
    return np.arange(int(float(kind) * seconds)) / float(kind)


# Rotations


@pytest.fixture(scope="module")
def bench(shared: Path) -> ModuleType:
    """The acceptance bench. It clips without bounds, which numpy knows only since 2.1."""
    spec = importlib.util.spec_from_file_location("smooth_bench", shared / "smoothing/smooth_bench.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def clip(values: Any, low: Any, high: Any) -> Any:
        return values if low is None and high is None else np.clip(values, low, high)

    module.np = SimpleNamespace(**{**vars(np), "clip": clip})  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize("scenario", ["default", "clean", "fps60"])
def test_the_bench_accepts(bench: ModuleType, scenario: str) -> None:
    found = bench.evaluate(smooth_rotations, scenario)
    for name, bar in bench.BARS[scenario].items():
        assert abs(found[name]) <= bar if name in ("snap_loss", "lag_frames") else found[name] <= bar, name
    assert found["sign_breaks"] == 0
    assert found["norm_err"] < 1e-9
    if scenario == "default":
        assert found["mean_deg"] < 2.15
        assert found["p95_deg"] < 4.5
        assert found["acc_err"] < 320
        assert abs(found["snap_loss"]) < 3
        assert abs(found["lag_frames"]) < 0.05


@pytest.mark.parametrize("rate", ["24", "30", "60", "120", "variable"])
def test_the_curve_is_the_same_at_every_frame_rate(rate: str) -> None:
    time = time_stamps(rate)
    truth = hand_motion(time)
    assert degrees_between(smooth(truth, time), truth).max() < 0.25


def test_time_stamps_and_frame_rate_say_the_same() -> None:
    time = time_stamps("30")
    noisy, seen = spoil(hand_motion(time), 6), np.ones(len(time), bool)
    by_rate = smooth_rotations(noisy, np.ones(noisy.shape[:2]), seen, 30.0)
    assert np.allclose(by_rate, smooth(noisy, time), atol=1e-9)


@pytest.mark.parametrize("joints", [16, 3])
def test_noise_falls_to_less_than_half_and_stays_down(joints: int) -> None:
    time = time_stamps("30")
    truth = hand_motion(time, joints)
    once = smooth(spoil(truth, 6), time)
    twice = smooth(once, time)
    assert degrees_between(once, truth).mean() < 0.5 * degrees_between(spoil(truth, 6), truth).mean()
    assert degrees_between(once, twice).max() < 0.05


def test_a_snap_keeps_its_height() -> None:
    time = time_stamps("30")
    peak = 75  # 2.5 s
    heights = []
    for seed in range(5):
        result = smooth(spoil(hand_motion(time), 6, seed), time)
        turn = degrees_between(result[peak], hand_motion(time)[peak - 10]).mean()
        heights.append(turn / degrees_between(hand_motion(time)[peak], hand_motion(time)[peak - 10]).mean())
    assert np.mean(heights) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("hertz", [3.0, 4.0])
def test_a_fast_wave_that_lasts_is_motion_and_no_outlier(hertz: float) -> None:
    time = time_stamps("30")
    vectors = np.zeros((len(time), 16, 3))
    vectors[..., 0] = (
        np.radians(30) * np.sin(2 * np.pi * hertz * time)[:, None] * ((time > 1.5) & (time < 3.5))[:, None]
    )
    truth = rotations.from_rotation_vector(vectors)
    assert degrees_between(smooth(spoil(truth, 1), time), truth).max() < 6


def test_flips_of_the_wrist_are_outvoted() -> None:
    time = time_stamps("30")
    truth = hand_motion(time)
    seen, flip = spoil(truth, 3), rotations.from_rotation_vector(np.array([0.0, np.pi, 0.0]))
    wrong = np.isin(np.arange(len(time)), [0, 1, 30, 31, 32, 60, 110, 111, len(time) - 1])
    seen[wrong, 0] = rotations.multiply(seen[wrong, 0], flip)
    assert degrees_between(smooth(seen, time), truth)[:, 0].max() < 12


def test_a_mirrored_hand_gives_the_mirrored_result() -> None:
    time = time_stamps("30", 3)
    mirror = np.array([1.0, 1.0, -1.0, -1.0])
    noisy = spoil(hand_motion(time), 6)
    valid = np.arange(len(time)) % 17 > 3
    assert degrees_between(smooth(noisy * mirror, time, valid), smooth(noisy, time, valid) * mirror).max() < 1e-6


def test_constant_input_stays() -> None:
    time = time_stamps("variable")
    still = np.broadcast_to(hand_motion(np.zeros(1)), (len(time), 16, 4))
    assert degrees_between(smooth(still, time), still).max() < 1e-6


def test_random_signs_do_not_matter_and_come_out_continuous() -> None:
    time = time_stamps("30", 3)
    noisy = spoil(hand_motion(time), 6)
    signs = np.random.default_rng(1).choice([-1.0, 1.0], (*noisy.shape[:2], 1))
    result = smooth(noisy * signs, time)
    assert degrees_between(result, smooth(noisy, time)).max() < 1e-6
    assert (np.sum(result[1:] * result[:-1], axis=-1) > 0).all()


def test_short_gaps_are_bridged_long_ones_do_not_swing_and_ends_are_held() -> None:
    time = time_stamps("30")
    truth = hand_motion(time)
    valid = np.ones(len(time), bool)
    valid[:10] = valid[30:35] = valid[95:125] = valid[140:] = False
    result = smooth(np.where(valid[:, None, None], spoil(truth, 2), [1.0, 0.0, 0.0, 0.0]), time, valid)
    assert degrees_between(result, truth)[30:35].max() < 6
    assert degrees_between(result[:10], result[10]).max() < 1e-6
    assert degrees_between(result[140:], result[139]).max() < 1e-6
    middle = slice(100, 120)  # all but the edges of the long gap
    share = ((np.arange(100, 120) - 94) / (125 - 94))[:, None, None]
    turn = rotations.to_rotation_vector(rotations.multiply(rotations.inverse(result[94]), result[125]))
    straight = rotations.multiply(result[94], rotations.from_rotation_vector(share * turn))
    assert degrees_between(result[middle], straight).max() < 1e-4


def test_an_infinite_cutoff_keeps_what_was_seen() -> None:
    time = time_stamps("30", 3)
    noisy = spoil(hand_motion(time), 6)
    valid = np.arange(len(time)) % 17 > 3
    cutoff = np.where(np.arange(16) == 0, math.inf, 1.5)
    result = smooth(noisy, time, valid, cutoff=cutoff)
    assert degrees_between(result, noisy)[valid, 0].max() < 1e-5
    assert degrees_between(result, noisy)[valid, 1:].mean() > 2
    assert np.array_equal(smooth(noisy, time, valid, cutoff=math.inf)[:, 0], result[:, 0])


def test_a_lower_cutoff_smooths_more() -> None:
    time = time_stamps("30")
    noisy = spoil(hand_motion(time), 6)
    unrest = [
        rms(np.diff(smooth(noisy, time, cutoff=cutoff)[:60], n=2, axis=0)) for cutoff in (math.inf, 4.0, 2.0, 1.0)
    ]
    assert unrest == sorted(unrest, reverse=True)


def test_stretches_leave_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    time = time_stamps("30", 40)
    noisy, valid = spoil(hand_motion(time, 2), 6), np.arange(len(time)) % 97 > 30
    whole = smooth(noisy, time, valid)
    monkeypatch.setattr(smoothing, "_STRETCH", 300)
    assert degrees_between(smooth(noisy, time, valid), whole).max() < 1e-3


@few_examples
@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(0, 60), seen=st.floats(0, 1), rate=st.floats(5, 240))
def test_any_pattern_of_missing_frames_gives_unit_continuous_quaternions(
    seed: int, frames: int, seen: float, rate: float
) -> None:
    rng = np.random.default_rng(seed)
    wild = rng.normal(size=(frames, 4, 4))
    wild /= np.linalg.norm(wild, axis=-1, keepdims=True)
    valid, confidence = rng.random(frames) < seen, rng.random((frames, 4)) * (rng.random((frames, 4)) < 0.8)
    wild[~valid] = np.nan
    cutoff = rng.choice([0.05, 0.5, 1.5, 20.0, math.inf], 4)
    result = smooth_rotations(wild, confidence, valid, rate, cutoff=cutoff)
    assert result.shape == wild.shape
    assert np.abs(np.linalg.norm(result, axis=-1) - 1).max(initial=0) < 1e-9
    assert (np.sum(result[1:] * result[:-1], axis=-1) >= 0).all()
    never = ~(valid[:, None] & (confidence > 0)).any(axis=0)
    assert np.array_equal(result[:, never], np.broadcast_to([1.0, 0, 0, 0], result[:, never].shape))


def test_a_strong_filter_at_a_high_frame_rate_bridges_a_long_gap() -> None:
    time = np.arange(2500) / 240
    noisy, valid = spoil(hand_motion(time, 2), 6), (time < 1) | (time > 9)
    result = smooth(noisy, time, valid, cutoff=0.5)
    assert degrees_between(result, noisy)[valid].mean() < 20
    assert np.isfinite(result).all()


def test_what_does_not_fit_is_told() -> None:
    one = np.ones((5, 2, 4)) / 2
    with pytest.raises(ValueError, match="time must increase"):
        smooth_rotations(one, np.ones((5, 2)), np.ones(5), 30.0, time=np.zeros(5))
    with pytest.raises(ValueError, match=r"\(5, 3\)"):
        smooth_rotations(one, np.ones((5, 3)), np.ones(5), 30.0)
    with pytest.raises(ValueError, match="above 0 Hz"):
        smooth_rotations(one, np.ones((5, 2)), np.ones(5), 30.0, cutoff=0)


# Vectors


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


@pytest.mark.parametrize("hertz", [3.0, 4.0])
def test_a_fast_wave_of_the_hand_is_followed(hertz: float) -> None:
    time = np.arange(240) / 30
    fast = 0.05 * np.sin(2 * np.pi * hertz * time) * ((time > 2) & (time < 5))
    truth = wave(time) + fast[:, None, None]
    seen = truth + 0.0005 * np.random.default_rng(9).normal(size=truth.shape)
    smooth = smooth_vectors(seen, np.ones(truth.shape[:2]), time, nominal_noise=0.006)
    assert np.abs(smooth - truth).max() < 0.005


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


def test_each_track_may_have_its_own_cutoff() -> None:
    time = np.arange(200) / 30
    seen = wave(time, 2) + NOISE * np.random.default_rng(6).normal(size=(200, 2, 3))
    weight = np.ones((200, 2))
    weight[50:55] = 0
    smooth = smooth_vectors(seen, weight, time, nominal_noise=0.006, cutoff=[math.inf, 1.5])
    kept = weight[:, 0] > 0
    assert np.array_equal(smooth[kept, 0], seen[kept, 0])
    straight = np.linspace(seen[49, 0], seen[55, 0], 7)[1:-1]
    assert np.abs(smooth[50:55, 0] - straight).max() < 1e-12
    assert rms(np.diff(smooth[kept, 1], n=2, axis=0)) < 0.5 * rms(np.diff(seen[kept, 1], n=2, axis=0))


@few_examples
@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(0, 60), rate=st.floats(5, 240))
def test_any_pattern_of_missing_values_stays_within_reach(seed: int, frames: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    points, weight = rng.normal(size=(frames, 3, 2)), rng.random((frames, 3)) * (rng.random((frames, 3)) < rng.random())
    points[weight == 0] = np.nan
    smooth = smooth_vectors(points, weight, np.arange(frames) / rate, nominal_noise=0.5, cutoff=rng.choice([0.1, 1.5]))
    assert np.abs(smooth).max(initial=0) < 3 * np.nanmax(np.abs(points), initial=0) + 1e-9


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 4, 5])
def test_short_clips_come_back(frames: int) -> None:
    points = np.ones((frames, 3, 2))
    smooth = smooth_vectors(points, np.ones((frames, 3)), np.arange(frames) / 30, nominal_noise=1.0)
    assert smooth == pytest.approx(points)


def test_a_track_never_seen_is_zero() -> None:
    smooth = smooth_vectors(np.full((30, 1, 3), 7.0), np.zeros((30, 1)), np.arange(30) / 30, nominal_noise=1.0)
    assert not smooth.any()


def test_the_noise_of_a_track_is_measured() -> None:
    time = np.arange(600) / 30
    sigma = np.array([0.0, 0.0001, 0.004, 0.02])
    seen = wave(time, 4) + sigma[:, None] * np.random.default_rng(7).normal(size=(600, 4, 3))
    found = measure_noise(seen, np.ones((600, 4)), 0.006)
    assert found[:2] == pytest.approx([0.02 * 0.006, 8 * 0.0001], rel=0.1)  # the floor; errors that frames share
    assert found[2:] == pytest.approx(sigma[2:], rel=0.1)
    assert measure_noise(seen, np.zeros((600, 4)), 0.006) == pytest.approx(0.006)
