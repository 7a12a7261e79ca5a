"""Smoothing over time that keeps fast motion: robust MAP of a heavy-tailed random process.

The motion is modelled as a process whose third difference is Student-t distributed (long calm
stretches, rare snaps), the measurement as the motion plus Student-t noise (mostly small errors, rare
outliers). Both are solved by iteratively reweighted least squares, each pass one banded solve for all
tracks. Works on the time stamps of the frames, so the cut-off means the same at every frame rate.

Rotations and vectors share the passes. What differs is the chart they are solved in: a rotation track is
unrolled into the sum of its small turns (a vector track is its own chart), and a correction found there is
applied frame by frame on SO(3).

Inside this file a track of T frames and K joints or points is stored as planes [D, K, T] (D components):
time runs along memory, which numpy and LAPACK walk three times as fast as [T, K, D].
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solveh_banded
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from dir_core.clean_up.gaps import BLEND_FROM, BLEND_FULLY, EDGE
from dir_core.clean_up.settings import DEFAULT_CUTOFF
from dir_core.conventions import JOINTS
from dir_core.rotations import make_continuous

Array = NDArray[Any]
Mix = Callable[[Array, Array, Array], Array]  # (from, to, share) -> in between

_MEASUREMENT_FREEDOM = 8.0  # degrees of freedom of the Student-t noise
_PROCESS_FREEDOM = 2.0  # of the Student-t third difference
_SNAP_SENSITIVITY = 0.3  # kappa: how soon a jerk counts as a snap that must stay
_SNAP_WINDOW = 0.15  # seconds over which the energy of a snap is averaged
_SNAP_SHARE = 0.3  # of the energy that a track takes from its group: fingers, and hands, snap as a whole
_PASSES = 8
_STRETCH = 2048  # frames that are solved at once: the arrays of a pass stay in the cache, a minute is one stretch
_MEMORY = 8.0  # periods of the cut-off after which the past is forgotten, to e^-25
_MISSING_WEIGHT = 1e-6  # on the bridged start of missing frames: keeps the system regular, pulls on nothing
_LEAST_WEIGHT = 1e-12  # data weight over process weight, below which doubles find the system singular

_ROTATION_NOISE = np.radians(6.0) / np.sqrt(3.0)  # nominal, per axis: 6 degrees per frame
_ROTATION_NOISE_FLOOR = np.radians(0.05)
_VECTOR_NOISE_FLOOR = 0.02  # of the nominal noise
_SHARED_ERROR = 8.0
"""Errors that neighbouring frames share hide from differences between frames. The key points of the demonstration clip
are 3 % of the hand from the truth and jitter by 0.2 %; taking this many times the jitter for noise, but no more than
half of the nominal noise, is what brings acceleration and position nearest to the truth there."""
_LARGEST_SHARED_ERROR = 0.5  # of the nominal noise
_SURE = 0.3  # weight from which a frame tells about the noise
_FOURTH_DIFFERENCE_GAIN = 0.6745 * np.sqrt(70.0)  # from the median of |fourth difference| of white noise to sigma

_START_WINDOW = 0.05  # seconds, sigma of the Gaussian mean that starts the passes
_START_REACH = 3.5 * _START_WINDOW  # where the Gaussian is cut off
_START_OUTLIERS = (np.radians(1.6 * 14.0), np.radians(14.0))  # errors that halve twice, in two reweightings
_EIGENVECTOR_STEPS = 8  # power iterations; the other eigenvalues are some hundredths of the first
_LASTING = 0.7  # seconds of unrest that no outlier causes: bursts of up to 0.14 s, widened by both windows
_LASTING_MARGIN = 4.0  # times the energy that noise alone leaves in the start

_GLITCH_DURATION = 0.14  # seconds
_GLITCH_SPEED = np.radians(1000.0)  # per second; no joint is faster
_GLITCH_NOISE = 3.0 * np.sqrt(2.0) * np.radians(6.0)  # three sigma of the difference of two frames
_GLITCH_TRUST = 0.01
_GARBLED_HAND_TRUST = 0.05


def smooth_rotations(
    quaternions: Array,
    confidence: Array,
    valid: Array,
    fps: float | None,
    *,
    time: Array | None = None,
    cutoff: ArrayLike = DEFAULT_CUTOFF,
) -> Array:
    """Smooth joint rotations; missing frames are bridged, and held before the first and after the last.

    Args:
        quaternions: [T, J, 4] unit (w, x, y, z) of any sign. With J = 16 (MANO order) the joints of a finger
            share the energy of a snap; with any other J every joint is on its own.
        confidence: [T, J] in 0..1; 0 marks a missing joint.
        valid: [T] bool; frames with False are missing, their rotations are ignored.
        fps: frames per second; None with `time`.
        time: [T] seconds, strictly increasing, instead of `fps` (variable frame rate).
        cutoff: Hz, one number or [J]; infinite keeps seen frames exactly as they are and only fills the others.

    Returns:
        [T, J, 4] unit quaternions, sign-continuous; identity for a joint that was never seen.

    Raises:
        ValueError: shapes do not match, time is missing or does not increase, or a cut-off is not above 0.

    Source: docs/ARCHITECTURE.md "Smoothing"; chordal mean after Markley et al. 2007, Student-t reweighting after
    Lange, Little & Taylor 1989.
    """
    frames, joints = quaternions.shape[:2]
    if time is None:
        if fps is None:
            raise ValueError("give the frames per second or the time of every frame")
        time = np.arange(frames) / fps
    time = np.asarray(time, np.float64)
    seen = (np.asarray(valid, bool)[:, None] & (np.asarray(confidence) > 0)).T
    cutoff = np.broadcast_to(np.asarray(cutoff, np.float64), joints)
    _check(quaternions, seen, time, cutoff)
    if frames == 0:
        return quaternions.astype(np.float64)

    identity = np.array([1.0, 0.0, 0.0, 0.0])[:, None, None]
    measured = np.where(seen, _to_planes(quaternions), identity)
    measured /= np.sqrt(_square(measured))
    track = filled = _fill(measured, seen, time, _turn_towards)
    if frames >= 4 and np.isfinite(cutoff).any():
        weight = np.where(seen, np.asarray(confidence).T, 0.0) * _glitch_trust(measured, seen, time)
        start = _start_rotations(measured, weight, time)
        measured = np.where(seen, measured, start)
        path, error = _unroll_rotations(start, measured)
        jitter = np.maximum(_measure_jitter(path + error, weight, _ROTATION_NOISE), _ROTATION_NOISE_FLOOR)
        process = _Process(cutoff, _ROTATION_NOISE, _share_within_fingers(joints))
        noise = _Noise(jitter, jitter)
        track = _settle(start, _Observed(measured, weight, seen, time), _Model(noise, process, _ROTATIONS))
    track = np.where(np.isfinite(cutoff)[:, None], track, filled)
    track = np.ascontiguousarray(track.transpose(2, 1, 0))
    return make_continuous(track / np.linalg.norm(track, axis=-1, keepdims=True))


def smooth_vectors(
    points: Array,
    weight: Array,
    time: Array,
    *,
    nominal_noise: float,
    cutoff: ArrayLike = DEFAULT_CUTOFF,
) -> Array:
    """Smooth tracks of vectors; frames of weight 0 are bridged, and held before the first and after the last.

    Args:
        points: [T, K, D] tracks (D = 2 pixels, 3 metres, ...).
        weight: [T, K] in 0..1; 0 marks a missing value, whose `points` are ignored.
        time: [T] seconds, strictly increasing.
        nominal_noise: the noise per axis, in the unit of `points`, for which `cutoff` is exact.
        cutoff: Hz, one number or [K]; motion slower than this passes even when the noise is large. Infinite keeps
            seen values exactly as they are and only fills the others.

    Returns:
        [T, K, D] smoothed tracks. A track without any positive weight comes back as zeros.

    Raises:
        ValueError: shapes do not match, time does not increase, or a cut-off is not above 0.

    Source: docs/ARCHITECTURE.md "Smoothing"; Student-t reweighting after Lange, Little & Taylor 1989.
    """
    frames, tracks = points.shape[:2]
    time = np.asarray(time, np.float64)
    seen = (np.asarray(weight) > 0).T
    cutoff = np.broadcast_to(np.asarray(cutoff, np.float64), tracks)
    _check(points, seen, time, cutoff)
    if frames == 0:
        return points.astype(np.float64)

    measured = np.where(seen, _to_planes(points), 0.0)
    track = filled = _fill(measured, seen, time, _move_towards)
    if frames >= 4 and np.isfinite(cutoff).any():
        start = _start_vectors(filled, time)
        measured = np.where(seen, measured, start)
        trust = np.where(seen, np.asarray(weight).T, 0.0)
        noise = _vector_noise(measured, trust, nominal_noise)
        process = _Process(cutoff, nominal_noise, np.full((tracks, tracks), 1.0 / tracks))
        track = _settle(start, _Observed(measured, trust, seen, time), _Model(noise, process, _VECTORS))
    return np.ascontiguousarray(np.where(np.isfinite(cutoff)[:, None], track, filled).transpose(2, 1, 0))


def measure_noise(points: Array, weight: Array, nominal_noise: float) -> Array:
    """Noise per axis of every track [K], as `smooth_vectors` assumes it, in the unit of `points`.

    Args:
        points: [T, K, D] tracks.
        weight: [T, K] in 0..1; only stretches well above 0 count.
        nominal_noise: taken where too little was seen, in the unit of `points`.
    """
    return _vector_noise(_to_planes(points), np.asarray(weight).T, nominal_noise).total


def _check(tracks: Array, seen: Array, time: Array, cutoff: Array) -> None:
    if seen.shape != tracks.shape[1::-1] or time.shape != tracks.shape[:1]:
        raise ValueError(
            f"tracks {tracks.shape}, weight {seen.T.shape} and time {time.shape} must agree in frames and tracks"
        )
    if np.any(np.diff(time) <= 0):
        raise ValueError("time must increase from frame to frame")
    if not np.all(cutoff > 0):
        raise ValueError(f"a cut-off must be above 0 Hz, not {cutoff.min()}")


def _to_planes(tracks: Array) -> Array:
    """[T, K, D] -> [D, K, T], float64."""
    return np.ascontiguousarray(tracks.transpose(2, 1, 0), np.float64)


def _square(planes: Array) -> Array:
    """Squared length [K, T] of vectors in planes [D, K, T]."""
    return np.einsum("dkt,dkt->kt", planes, planes)


# The passes


@dataclass(frozen=True)
class _Chart:
    """How tracks of one kind are written as vectors, in which the passes solve.

    Attributes:
        unroll: track and measured -> path [D, K, T] of the track and error [D, K, T] (measured - path).
        move: track, step [D, K, T] -> track.
        mix: a, b, share -> in between.
    """

    unroll: Callable[[Array, Array], tuple[Array, Array]]
    move: Callable[[Array, Array], Array]
    mix: Mix


@dataclass(frozen=True)
class _Process:
    """What is believed of the motion of K tracks.

    Attributes:
        cutoff: [K] Hz, exact at the nominal noise.
        nominal_noise: per axis.
        groups: [K, K] averages over the tracks that snap together.
    """

    cutoff: Array
    nominal_noise: float
    groups: Array

    def scale(self, time: Array) -> Array:
        """Of the third difference of calm motion, [K, T-3]."""
        pace = (time[3:] - time[:-3]) / 3.0
        # The cut-off cannot exceed what the frame rate can carry (sin would turn back at Nyquist).
        cycles = np.minimum(self.cutoff[:, None] * pace, 0.5)
        return self.nominal_noise * (2.0 * np.sin(np.pi * cycles)) ** 3

    def share(self, energy: Array) -> Array:
        """Mix the energy [K, T-3] of every track with that of its group."""
        return (1 - _SNAP_SHARE) * energy + _SNAP_SHARE * (self.groups @ energy)


@dataclass(frozen=True)
class _Noise:
    """Noise per axis of K tracks.

    Attributes:
        jitter: [K] what differs from frame to frame.
        total: [K] with what neighbouring frames share.
    """

    jitter: Array
    total: Array


@dataclass(frozen=True)
class _Observed:
    """What was seen of K tracks: measured [D, K, T], weight and seen [K, T], time [T] seconds."""

    measured: Array
    weight: Array
    seen: Array
    time: Array

    def during(self, frames: slice) -> "_Observed":
        """A stretch of it."""
        return _Observed(*(array[..., frames] for array in (self.measured, self.weight, self.seen, self.time)))


@dataclass(frozen=True)
class _Model:
    """What is believed of noise and motion, and in which chart."""

    noise: _Noise
    process: _Process
    chart: _Chart


def _settle(start: Array, observed: _Observed, model: _Model) -> Array:
    """From the start to the smoothed track: the passes in stretches of time, then ends and long gaps."""
    track = np.empty_like(start)
    margin = _MEMORY / float(model.process.cutoff.min())
    for outer, inner, local in _stretches(observed.time, margin):
        part = _reweighted_passes(start[..., outer], observed.during(outer), model)
        track[..., inner] = part[..., local]
    return _calm_gaps(track, observed.seen, observed.time, model.chart.mix)


def _stretches(time: Array, margin: float) -> Iterator[tuple[slice, slice, slice]]:
    """Cut a clip so that all arrays of one stretch fit into the cache: with margins, without, and that in the former.

    Whatever lies a margin of seconds away does not matter, so there are no seams.
    """
    count = -(-len(time) // _STRETCH)
    borders = np.linspace(0, len(time), count + 1).astype(int)
    for begin, end in pairwise(borders.tolist()):
        low = int(np.searchsorted(time, time[begin] - margin))
        high = int(np.searchsorted(time, time[end - 1] + margin, "right"))
        yield slice(low, high), slice(begin, end), slice(begin - low, end - low)


def _reweighted_passes(track: Array, observed: _Observed, model: _Model) -> Array:
    """Iteratively reweighted least squares from a start track."""
    noise, process, chart, time = model.noise, model.process, model.chart, observed.time
    variance = noise.total[:, None] ** 2
    difference = _third_difference(time)
    scale = process.scale(time)
    weight = np.where(observed.seen, observed.weight, _MISSING_WEIGHT)
    window = _time_window((time[:-3] + time[1:-2] + time[2:-1] + time[3:]) / 4.0)

    for index in range(_PASSES):
        path, error = chart.unroll(track, observed.measured)
        dimension = len(path)
        residual = weight * _square(error) / variance
        data_weight = weight * (_MEASUREMENT_FREEDOM + dimension) / (_MEASUREMENT_FREEDOM + residual) / variance
        jerk = _square(_apply(difference, path)) / (_SNAP_SENSITIVITY * scale) ** 2
        energy = process.share(window.mean(jerk))
        if index == 0:
            # A start that follows every snap would keep the outliers. A start that follows none takes a fast wave
            # for outliers on both sides of its middle, and no later pass would believe it again. So the first pass
            # gives way to unrest that lasts longer than outliers do and is larger than noise is.
            unrest = noise.jitter[:, None] ** 2 * dimension * _start_gain(time) / (_SNAP_SENSITIVITY * scale) ** 2
            energy = _lasting(energy - _LASTING_MARGIN * unrest, time)
        softening = (_PROCESS_FREEDOM + dimension) / (_PROCESS_FREEDOM + energy)
        if index == 0:
            softening = np.minimum(softening, 1.0)
        process_weight = softening / scale**2
        data_weight = np.maximum(data_weight, _LEAST_WEIGHT * process_weight.max(axis=1, keepdims=True))
        smooth = _solve(data_weight, process_weight, difference, path + error)
        track = chart.move(track, smooth - path)
    return track


def _third_difference(time: Array) -> Array:
    """Coefficients [4, T-3] of the third divided difference, scaled so that even spacing gives (-1, 3, -3, 1)."""
    t = np.stack([time[i : len(time) - 3 + i] for i in range(4)])
    gaps = t[:, None] - t[None]
    gaps[range(4), range(4)] = 1.0
    pace = (t[3] - t[0]) / 3.0
    return 6.0 * pace**3 / gaps.prod(axis=1)


def _apply(difference: Array, path: Array) -> Array:
    """Third differences [D, K, T-3] of a path [D, K, T]."""
    count = difference.shape[1]
    result = difference[0] * path[..., :count]
    for i in range(1, 4):
        result += difference[i] * path[..., i : count + i]
    return result


def _measure_jitter(path: Array, weight: Array, nominal_noise: float) -> Array:
    """White noise per axis of every track [K] of [D, K, T]: smooth motion hardly touches the fourth difference."""
    tracks, frames = weight.shape
    noise = np.full(tracks, float(nominal_noise))
    if frames < 5:
        return noise
    fourth = np.abs(np.diff(path, n=4, axis=-1))
    usable = np.lib.stride_tricks.sliding_window_view(weight > _SURE, 5, axis=1).all(axis=-1)
    for k in range(tracks):
        sample = fourth[:, k, usable[k]]
        if sample.shape[1] >= 8:
            noise[k] = float(np.median(sample)) / _FOURTH_DIFFERENCE_GAIN
    return noise


def _vector_noise(points: Array, weight: Array, nominal_noise: float) -> _Noise:
    """Noise of every track of [D, K, T], with the errors that its jitter does not show."""
    measured = _measure_jitter(points, weight, nominal_noise)
    jitter = np.maximum(measured, _VECTOR_NOISE_FLOOR * nominal_noise)
    shared = np.minimum(_SHARED_ERROR * measured, _LARGEST_SHARED_ERROR * nominal_noise)
    return _Noise(jitter, np.maximum(jitter, shared))


@dataclass(frozen=True)
class _TimeWindow:
    """A moving mean over `_SNAP_WINDOW` seconds of values that each last `width` seconds: cells first .. last."""

    width: Array
    first: Array
    last: Array
    before: Array  # seconds of the first cell that lie before the window
    within: Array  # seconds of the last cell that lie within it
    length: Array

    def mean(self, values: Array) -> Array:
        """Mean [K, M] of values [K, M] that are not negative."""
        total = np.zeros((len(values), values.shape[1] + 1))
        np.cumsum(values * self.width, axis=1, out=total[:, 1:])
        area = total[:, self.last] + self.within * values[:, self.last]
        area -= total[:, self.first] + self.before * values[:, self.first]
        return np.maximum(area, 0.0) / self.length  # rounding of long sums may leave a trace below zero


def _time_window(centre: Array) -> _TimeWindow:
    """The window around every centre [M] in seconds, cut at the ends of the clip."""
    middle = (centre[1:] + centre[:-1]) / 2.0
    half = (middle[0] - centre[0], centre[-1] - middle[-1]) if len(middle) else (_SNAP_WINDOW, _SNAP_WINDOW)
    border = np.concatenate([[centre[0] - half[0]], middle, [centre[-1] + half[1]]])
    begin = np.maximum(centre - _SNAP_WINDOW / 2.0, border[0])
    end = np.minimum(centre + _SNAP_WINDOW / 2.0, border[-1])
    first = np.clip(np.searchsorted(border, begin, "right") - 1, 0, len(centre) - 1)
    last = np.clip(np.searchsorted(border, end, "right") - 1, 0, len(centre) - 1)
    return _TimeWindow(np.diff(border), first, last, begin - border[first], end - border[last], end - begin)


def _lasting(energy: Array, time: Array) -> Array:
    """What remains of energy [K, T-3] without peaks shorter than `_LASTING` seconds (a morphological opening)."""
    size = 2 * round(_LASTING / float(np.median(np.diff(time))) / 2.0) + 1
    lowest = minimum_filter1d(np.maximum(energy, 0.0), size, axis=1, mode="nearest")
    return maximum_filter1d(lowest, size, axis=1, mode="nearest")


def _start_gain(time: Array) -> float:
    """Energy of the third difference of unit white noise after the Gaussian mean of the start."""
    step = float(np.median(np.diff(time)))
    reach = np.arange(-_gaussian_reach(step), _gaussian_reach(step) + 1)
    kernel = _gaussian(reach * step)
    return float(np.sum(np.diff(np.pad(kernel / kernel.sum(), 3), n=3) ** 2))


def _solve(data_weight: Array, process_weight: Array, difference: Array, measured: Array) -> Array:
    """Minimise sum W |x - z|^2 + sum P |D x|^2 for all tracks in one banded system, [D, K, T].

    Args: data_weight [K, T], process_weight [K, T-3], difference [4, T-3], measured [D, K, T].
    """
    dimension, tracks, frames = measured.shape
    # The tracks lie behind each other in one long vector; the bands between two tracks stay zero.
    band = np.zeros((4, tracks, frames))
    band[0] = data_weight
    for i in range(4):
        for j in range(i, 4):
            band[j - i, :, i : i + frames - 3] += process_weight * (difference[i] * difference[j])
    right = (data_weight * measured).reshape(dimension, tracks * frames).T
    solution = solveh_banded(
        band.reshape(4, tracks * frames), right, lower=True, overwrite_ab=True, overwrite_b=True, check_finite=False
    )
    return solution.T.reshape(dimension, tracks, frames)


# Starts


def _gaussian(seconds: Array) -> Array:
    return np.exp(-0.5 * (seconds / _START_WINDOW) ** 2)


def _gaussian_reach(step: float) -> int:
    """Frames on either side that the Gaussian window holds."""
    return int(_START_REACH / step)


def _gaussian_sum(planes: Array, time: Array) -> Array:
    """Sum of [..., T] over a Gaussian window in time."""
    total, term = planes.copy(), np.empty_like(planes)
    for offset in range(1, min(_gaussian_reach(float(np.diff(time).min())) + 1, len(time))):
        share = _gaussian(time[offset:] - time[:-offset])
        np.multiply(planes[..., :-offset], share, out=term[..., offset:])
        total[..., offset:] += term[..., offset:]
        np.multiply(planes[..., offset:], share, out=term[..., offset:])
        total[..., :-offset] += term[..., offset:]
    return total


def _start_vectors(filled: Array, time: Array) -> Array:
    """Gaussian mean of the running median of five frames, [D, K, T]; `filled` has no gaps."""
    padded = np.concatenate([filled[..., :1]] * 2 + [filled] + [filled[..., -1:]] * 2, axis=-1)
    a, b, c, d, e = (padded[..., i : i + len(time)] for i in range(5))
    # The median of five: drop the least of two pairs and the greatest, then take the middle of the three left.
    lower, upper = np.maximum(np.minimum(a, b), np.minimum(d, e)), np.minimum(np.maximum(a, b), np.maximum(d, e))
    median = np.maximum(np.minimum(lower, upper), np.minimum(np.maximum(lower, upper), c))
    return _gaussian_sum(median, time) / _gaussian_sum(np.ones_like(time), time)


def _start_rotations(measured: Array, weight: Array, time: Array) -> Array:
    """Chordal mean in a Gaussian window, outliers weighted down, [4, J, T]; bridged where the window sees nothing.

    The mean is the first eigenvector of sum w q q^T, so the signs of the quaternions do not matter
    (Markley, Cheng, Crassidis & Oshman 2007, equations 12 and 13).
    """
    start = np.empty_like(measured)
    for outer, inner, local in _stretches(time, 3 * _START_REACH):  # three means, each of which reaches that far
        mean = _chordal_mean(measured[..., outer], weight[:, outer], time[outer])
        start[..., inner] = mean[..., local]
    near = _gaussian_sum(weight, time) > 0
    return _fill(start, near, time, _turn_towards)


def _chordal_mean(measured: Array, weight: Array, time: Array) -> Array:
    products = np.stack([measured[i] * measured[j] for i in range(4) for j in range(i, 4)])
    mean = _first_eigenvector(_gaussian_sum(products * weight, time), measured)
    for outlier in _START_OUTLIERS:
        chord = 4.0 * np.maximum(0.0, 1.0 - np.sum(mean * measured, axis=0) ** 2)  # (2 sin of half the angle)^2
        trust = weight / (1.0 + chord / outlier**2) ** 2
        mean = _first_eigenvector(_gaussian_sum(products * trust, time), mean)
    return mean


def _first_eigenvector(products: Array, guess: Array) -> Array:
    """Unit eigenvector [4, ...] of the greatest eigenvalue of symmetric 4x4 matrices, upper triangles [10, ...]."""
    row = np.array([[0, 1, 2, 3], [1, 4, 5, 6], [2, 5, 7, 8], [3, 6, 8, 9]])
    vector = guess
    for _ in range(_EIGENVECTOR_STEPS):
        vector = np.stack([sum(products[row[i, j]] * vector[j] for j in range(4)) for i in range(4)])
        length = np.sqrt(_square(vector))
        vector = np.where(length > 0, vector / np.where(length > 0, length, 1.0), guess)
    return vector


def _share_within_fingers(joints: int) -> Array:
    """[J, J] that averages over the three joints of a finger; the wrist, and any other skeleton, is on its own."""
    groups = np.eye(joints)
    if joints == len(JOINTS):
        for base in range(1, joints, 3):
            groups[base : base + 3, base : base + 3] = 1.0 / 3.0
    return groups


def _glitch_trust(measured: Array, seen: Array, time: Array) -> Array:
    """Factor [J, T] on the weight of frames in which a joint jumps away and back faster than hands can.

    A glitch is a run of at most `_GLITCH_DURATION` seconds that lies far from both its sides while they agree, and
    that is entered or left faster than hands move; beside a gap only one of the two can tell, at the ends of the clip
    there is only one side. If the wrist glitches, or more than a third of the joints, the whole hand is doubtful.
    """
    trust = np.ones(seen.shape)
    frames = np.flatnonzero(seen.any(axis=0))
    if len(frames) < 3:
        return trust
    q, at = measured[..., frames], time[frames]
    step = float(np.median(np.diff(at)))
    nearness = np.abs(np.sum(q[..., 1:] * q[..., :-1], axis=0))
    far = _nearness(_GLITCH_SPEED * step + _GLITCH_NOISE)
    # Border b lies before frame b; the first and the last one end the clip.
    away = np.pad(nearness < far, ((0, 0), (1, 1)), constant_values=True)
    jump = np.pad(nearness < _nearness(_GLITCH_SPEED * np.diff(at) + _GLITCH_NOISE), ((0, 0), (1, 1)))
    glitch = np.zeros((len(seen), len(at)), bool)
    joint, begin = np.nonzero(away[:, :-1])
    length = 0
    while len(begin):
        length += 1
        fits = begin + length <= len(at)
        joint, begin = joint[fits], begin[fits]
        short = at[begin + length - 1] - at[begin] + step <= _GLITCH_DURATION + 1e-6
        joint, begin = joint[short], begin[short]
        end = begin + length
        before, after = q[:, joint, begin - 1], q[:, joint, np.minimum(end, len(at) - 1)]
        together = (np.abs(np.sum(before * after, axis=0)) > far) | (begin == 0) | (end == len(at))
        hit = together & away[joint, end] & (jump[joint, begin] | jump[joint, end])
        for offset in range(length):
            glitch[joint[hit], begin[hit] + offset] = True
    glitch &= seen[:, frames]
    garbled = glitch[0] | (glitch.mean(axis=0) > 1.0 / 3.0)
    trust[:, frames] = np.where(glitch, _GLITCH_TRUST, 1.0) * np.where(garbled, _GARBLED_HAND_TRUST, 1.0)
    return trust


def _nearness(angle: Any) -> Any:
    """What two unit quaternions that lie an angle apart have as product; half a turn is as far as they can be."""
    return np.cos(np.minimum(angle, np.pi) / 2.0)


# Gaps


def _rims(seen: Array, time: Array) -> tuple[Array, Array]:
    """Indices [K, T] of the seen frames at or before and at or after every frame; at the ends both are the nearest."""
    index = np.arange(len(time))
    before = np.maximum.accumulate(np.where(seen, index, -1), axis=1)
    after = np.minimum.accumulate(np.where(seen, index, len(time))[:, ::-1], axis=1)[:, ::-1]
    first, last = np.where(before < 0, after, before), np.where(after == len(time), before, after)
    return np.clip(first, 0, len(time) - 1), np.clip(last, 0, len(time) - 1)


def _fill(track: Array, seen: Array, time: Array, mix: Mix) -> Array:
    """Interpolate frames of [D, K, T] where `seen` [K, T] is False between their rims, hold the ends."""
    holes = np.flatnonzero(~seen.all(axis=0))
    if len(holes) == 0:
        return track
    first, last = (rim[:, holes] for rim in _rims(seen, time))
    length = time[last] - time[first]
    share = (time[holes] - time[first]) / np.where(length > 0, length, 1.0)
    joint = np.arange(len(seen))[:, None]
    filled = track.copy()
    filled[..., holes] = mix(track[:, joint, first], track[:, joint, last], np.where(length > 0, share, 0.0))
    return filled


def _calm_gaps(track: Array, seen: Array, time: Array, mix: Mix) -> Array:
    """Hold the ends and blend long gaps to plain interpolation: a third-order process runs away unmeasured."""
    first, last = _rims(seen, time)
    length = time[last] - time[first]
    edge = np.minimum(time - time[first], time[last] - time) / EDGE
    amount = np.clip((length - BLEND_FROM) / (BLEND_FULLY - BLEND_FROM), 0.0, 1.0) * np.clip(edge, 0.0, 1.0)
    amount = np.where(~seen & (first == last), 1.0, amount)
    changed = np.flatnonzero(amount.any(axis=0))
    calm = track.copy()
    filled = _fill(track, seen, time, mix)[..., changed]
    amount = amount[:, changed]
    calm[..., changed] = np.where(amount == 1.0, filled, mix(track[..., changed], filled, amount))
    return calm


def _move_towards(a: Array, b: Array, share: Array) -> Array:
    return a + share * (b - a)


def _turn_towards(a: Array, b: Array, share: Array) -> Array:
    """Spherical linear interpolation the short way."""
    return _turn(a, share * _turn_between(a, b))


# Quaternions in planes [4, ...]; dir_core.rotations does the same on [..., 4] in three times the time


def _multiply(a: Array, b: Array) -> Array:
    aw, ax, ay, az = a
    bw, bx, by, bz = b
    product = np.empty_like(a)
    product[0] = aw * bw - ax * bx - ay * by - az * bz
    product[1] = aw * bx + ax * bw + ay * bz - az * by
    product[2] = aw * by - ax * bz + ay * bw + az * bx
    product[3] = aw * bz + ax * by - ay * bx + az * bw
    return product


def _turn_between(a: Array, b: Array) -> Array:
    """Rotation vectors [3, ...] with a exp(v) = b, the short way."""
    inverse = -a
    inverse[0] = a[0]
    difference = _multiply(inverse, b)
    cosine, xyz = difference[0], difference[1:]
    sine = np.sqrt(np.sum(xyz * xyz, axis=0))
    scale = np.full_like(sine, 2.0)
    np.divide(2.0 * np.arctan2(sine, np.abs(cosine)), sine, out=scale, where=sine > 1e-8)
    return xyz * np.copysign(scale, cosine)


def _turn(track: Array, vector: Array) -> Array:
    """track exp(vector): quaternions [4, ...] turned by rotation vectors [3, ...] in their own axes."""
    half = 0.5 * np.sqrt(np.sum(vector * vector, axis=0))
    turn = np.empty_like(track)
    turn[0] = np.cos(half)
    np.multiply(vector, 0.5 * np.sinc(half / np.pi), out=turn[1:])
    return _multiply(track, turn)


def _unroll_rotations(track: Array, measured: Array) -> tuple[Array, Array]:
    """The sum of the small turns of a track [3, J, T] and what is left to the measured rotations."""
    path = np.zeros((3, *track.shape[1:]))
    np.cumsum(_turn_between(track[..., :-1], track[..., 1:]), axis=-1, out=path[..., 1:])
    return path, _turn_between(track, measured)


def _unroll_vectors(track: Array, measured: Array) -> tuple[Array, Array]:
    return track, measured - track


_ROTATIONS = _Chart(_unroll_rotations, _turn, _turn_towards)
_VECTORS = _Chart(_unroll_vectors, np.add, _move_towards)
