"""Smoothing over time that keeps fast motion: robust MAP of a heavy-tailed random process.

The motion is modelled as a process whose third difference is Student-t distributed (long calm
stretches, rare snaps), the measurement as the motion plus Student-t noise (mostly small errors, rare
outliers). Both are solved by iteratively reweighted least squares, each step one banded solve.
Works on the time stamps of the frames, so the cut-off means the same at every frame rate.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from scipy.ndimage import uniform_filter1d

Array = NDArray[Any]

DEFAULT_CUTOFF = 1.5
"""Hertz; 2.0 is light, 1.0 is strong and costs part of the height of a snap."""

_MEASUREMENT_FREEDOM = 8.0  # degrees of freedom of the Student-t noise
_PROCESS_FREEDOM = 2.0  # of the Student-t third difference
_SNAP_SENSITIVITY = 0.3  # kappa: how soon a jerk counts as a snap that must stay
_SNAP_WINDOW = 0.15  # seconds over which the energy of a snap is averaged
_SNAP_SHARE = 0.3  # of the energy that a track takes from the mean of all tracks: hands snap as a whole
_ITERATIONS = 8
_START_WINDOW = 5  # frames of the running median that starts the iteration
_RELATIVE_NOISE_FLOOR = 0.02  # of the nominal noise
_THIRD_DIFFERENCE_GAIN = 0.6745 * np.sqrt(70.0)  # MAD to sigma, of the fourth difference of white noise


def smooth_vectors(
    points: Array,
    weight: Array,
    time: Array,
    *,
    nominal_noise: float,
    cutoff: float = DEFAULT_CUTOFF,
) -> Array:
    """Smooth tracks of vectors; frames of weight 0 are bridged, and held before the first and after the last.

    Args:
        points: [T, K, D] tracks (D = 2 pixels, 3 metres, ...).
        weight: [T, K] in 0..1; 0 marks a missing value, whose `points` are ignored.
        time: [T] seconds, strictly increasing.
        nominal_noise: the noise per axis, in the unit of `points`, for which `cutoff` is exact.
        cutoff: Hz, motion slower than this passes even when the noise is large.

    Returns:
        [T, K, D] smoothed tracks. A track without any positive weight comes back as zeros.

    Source: docs/ARCHITECTURE.md "Smoothing"; Student-t reweighting after Lange, Little & Taylor 1989.
    """
    frames = len(points)
    seen = weight > 0
    if frames == 0:
        return points.copy()
    start = _start_track(points, seen)
    if frames < 4:
        return start

    step = np.diff(time)
    difference = _third_difference(time)
    pace = (time[3:] - time[:-3]) / 3.0
    # The cut-off cannot exceed what the frame rate can carry (sin would turn back at Nyquist).
    process_scale = nominal_noise * (2.0 * np.sin(np.pi * np.minimum(cutoff * pace, 0.5))) ** 3
    noise = _measure_noise(points, weight, nominal_noise)
    window = max(1, round(_SNAP_WINDOW / float(np.median(step))))

    # Missing frames keep a trace of weight on the bridged start, so that the system stays regular and
    # the ends are held instead of extrapolated.
    base_weight = np.where(seen, weight, 1e-6)
    measured = np.where(seen[..., None], points, start)

    process_weight = np.broadcast_to(1.0 / process_scale[:, None] ** 2, (frames - 3, points.shape[1]))
    track = start
    for iteration in range(_ITERATIONS):
        residual = np.sum((measured - track) ** 2, axis=-1) / noise**2
        dimension = points.shape[2]
        data_weight = (
            base_weight
            * (_MEASUREMENT_FREEDOM + dimension)
            / (_MEASUREMENT_FREEDOM + base_weight * residual)
            / noise**2
        )
        if iteration > 0:
            jerk = np.sum(_apply(difference, track) ** 2, axis=-1)
            energy = uniform_filter1d(jerk, window, axis=0, mode="nearest")
            energy = (1 - _SNAP_SHARE) * energy + _SNAP_SHARE * energy.mean(axis=1, keepdims=True)
            spread = (_SNAP_SENSITIVITY * process_scale[:, None]) ** 2
            process_weight = (
                (_PROCESS_FREEDOM + dimension) / (_PROCESS_FREEDOM + energy / spread) / process_scale[:, None] ** 2
            )
        track = _solve(data_weight, process_weight, difference, measured)
    return _hold_ends(track, seen)


def bridge_gaps(values: Array, seen: Array) -> Array:
    """Fill rows [T, ...] where `seen` [T] is False: linear in between, held at the ends; zeros if none is seen."""
    known = np.flatnonzero(seen)
    if len(known) == 0:
        return np.zeros_like(values)
    position = np.interp(np.arange(len(values)), known, np.arange(len(known)))
    below = np.floor(position).astype(int)
    above = np.ceil(position).astype(int)
    share = (position - below).reshape(-1, *([1] * (values.ndim - 1)))
    return ((1 - share) * values[known[below]] + share * values[known[above]]).astype(values.dtype)


def _start_track(points: Array, seen: Array) -> Array:
    """Bridged running median, [T, K, D]."""
    start = np.empty_like(points, dtype=np.float64)
    for k in range(points.shape[1]):
        start[:, k] = bridge_gaps(points[:, k].astype(np.float64), seen[:, k])
    half = _START_WINDOW // 2
    if len(points) < _START_WINDOW:
        return start
    padded = np.concatenate([start[:1].repeat(half, 0), start, start[-1:].repeat(half, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, _START_WINDOW, axis=0)
    return np.median(windows, axis=-1)


def _third_difference(time: Array) -> Array:
    """Rows [T-3, 4] of the third divided difference, scaled so that even spacing gives (-1, 3, -3, 1)."""
    t = np.stack([time[i : len(time) - 3 + i] for i in range(4)], axis=-1)
    gaps = t[:, :, None] - t[:, None, :]
    gaps[:, range(4), range(4)] = 1.0
    pace = (t[:, 3] - t[:, 0]) / 3.0
    return 6.0 * pace[:, None] ** 3 / gaps.prod(axis=2)


def _apply(difference: Array, track: Array) -> Array:
    """Third differences [T-3, K, D] of a track [T, K, D]."""
    count = len(difference)
    return sum(difference[:, i, None, None] * track[i : count + i] for i in range(4))  # type: ignore[return-value]


def _measure_noise(points: Array, weight: Array, nominal_noise: float) -> Array:
    """Noise per track [K] from the fourth difference, which smooth motion hardly touches."""
    sure = weight > 0.3
    floor = _RELATIVE_NOISE_FLOOR * nominal_noise
    noise = np.full(points.shape[1], nominal_noise)
    if len(points) < 5:
        return noise
    fourth = np.abs(np.diff(points.astype(np.float64), n=4, axis=0))
    usable = np.lib.stride_tricks.sliding_window_view(sure, 5, axis=0).all(axis=-1)
    for k in range(points.shape[1]):
        sample = fourth[usable[:, k], k]
        if len(sample) >= 8:
            noise[k] = max(floor, float(np.median(sample)) / _THIRD_DIFFERENCE_GAIN)
    return noise


def _solve(data_weight: Array, process_weight: Array, difference: Array, measured: Array) -> Array:
    """Minimise sum W |x - z|^2 + sum P |D x|^2 for all tracks in one banded system.

    Args: data_weight [T, K], process_weight [T-3, K], difference [T-3, 4], measured [T, K, D].
    """
    frames, tracks, dimension = measured.shape
    # The tracks lie behind each other in one long vector; the bands between two tracks stay zero.
    band = np.zeros((4, tracks, frames))
    band[0] = data_weight.T
    weight = process_weight.T
    for i in range(4):
        for j in range(i, 4):
            offset = j - i
            band[offset, :, i : i + frames - 3] += weight * (difference[:, i] * difference[:, j])
    right = (data_weight[..., None] * measured).swapaxes(0, 1).reshape(tracks * frames, dimension)
    solution = solveh_banded(band.reshape(4, tracks * frames), right, lower=True, overwrite_ab=True, check_finite=False)
    return solution.reshape(tracks, frames, dimension).swapaxes(0, 1)


def _hold_ends(track: Array, seen: Array) -> Array:
    """A third-order process runs away outside the measurements: hold the first and last seen value."""
    track = track.copy()
    for k in range(track.shape[1]):
        known = np.flatnonzero(seen[:, k])
        if len(known) == 0:
            track[:, k] = 0.0
            continue
        track[: known[0], k] = track[known[0], k]
        track[known[-1] + 1 :, k] = track[known[-1], k]
    return track
