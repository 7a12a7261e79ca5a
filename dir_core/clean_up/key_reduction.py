"""Fewest keys that keep a motion within a stated bound: long cubic segments instead of a key on every frame.

Blender imports this file, so it stands on numpy alone. It knows curves of vectors and rotations, not F-curves.

The reference is the take itself, its frames joined by slerp or by straight lines. Keys stay on the take's own frames
and values; between two keys each component is the cubic that a Bezier F-curve with handles at thirds of the interval
draws, so the slopes at its two ends are all there is to choose. Nothing is accepted unless it was measured at ten
samples per frame.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.errors import SettingsError

Array = NDArray[Any]

DEFAULT_ANGLE: Final = float(np.radians(0.5))
"""Radians that a reduced rotation may be off; at a fingertip 8 cm from the knuckle 0.7 mm."""

DEFAULT_DISTANCE: Final = 0.001
"""Metres that a reduced position may be off."""

_SAMPLES_PER_FRAME = 10  # at which the bound is proven
_MINIMAX_PASSES = 5  # one finds 15 % more keys, thirty 1 % fewer
_HOPELESS = 1.8  # times the bound: so far away, reweighting never came back
_LEAST_WEIGHT = 1e-3  # of the worst sample's: a sample that fits now may not fit after the next pass
_FIRST_GUESS = 8  # frames that the first segment tries to reach
_LONGEST_STRETCH = 512  # frames; a key more in so many, and long clips are walked several times as fast
_FRAMES_TOGETHER = 64_000  # of all curves; bounds the memory at some 100 MB
_SHORTEST_HOLD = 6  # equal intervals in a row that count as a held pose, not as a coincidence


ANGLE_RANGE: Final = (float(np.radians(0.01)), float(np.radians(10.0)))
"""Radians: below, no keys are saved any more; above, poses are no longer those of the take."""


@dataclass(frozen=True)
class KeyReduction:
    """How far the motion may be off for the sake of fewer keys.

    Attributes:
        angle: radians, of every rotation.
        distance: metres, of every position.

    Raises:
        SettingsError: the angle is outside ANGLE_RANGE or the distance not positive.
    """

    angle: float = DEFAULT_ANGLE
    distance: float = DEFAULT_DISTANCE

    def __post_init__(self) -> None:
        least, most = ANGLE_RANGE
        if not least <= self.angle <= most:
            degrees = f"{np.degrees(least):.2g} to {np.degrees(most):.2g} degrees"
            raise SettingsError(f"Keys cannot be reduced within {np.degrees(self.angle):.4g} degrees, give {degrees}.")
        if not self.distance > 0:
            raise SettingsError(f"Keys cannot be reduced within {self.distance} metres, give a positive distance.")


@dataclass(frozen=True, eq=False)
class ReducedCurve:
    """The keys of one curve: a cubic Hermite spline through K of the T given frames.

    Attributes:
        rows: [K] indices into the given frames, increasing, the first and the last frame included.
        values: [K, D] on these frames; of quaternions with continuous signs.
        left_slope: [K, D] per second, where the curve arrives at a key; on the first as it leaves.
        right_slope: [K, D] per second, where it leaves; on the last as it arrives. Equal to `left_slope` where the
            bound allows a smooth join.
    """

    rows: Array
    values: Array
    left_slope: Array
    right_slope: Array

    @property
    def is_smooth(self) -> Array:
        """[K] bool, where the curve has one tangent."""
        return np.all(self.left_slope == self.right_slope, axis=1)


def reduce_rotation_keys(quaternions: Array, time: Array, angle: float = DEFAULT_ANGLE) -> list[ReducedCurve]:
    """Keep every rotation within `angle` of the frames joined by slerp, with as few keys as that takes.

    Args:
        quaternions: [T, B, 4] unit (w, x, y, z) of B bones over T frames, signs at will.
        time: [T] strictly increasing, seconds or any other unit that the slopes shall be in.
        angle: radians.

    Returns:
        A curve per bone. Between the keys it has to be normalised, as Blender does with quaternions. Where less
        than a tenth of a degree is asked for, a turn of more than 70 degrees from one frame to the next may stay
        up to that tenth off: there are no keys between the frames.
    """
    turns = rotations.make_continuous(np.asarray(quaternions, np.float64))
    # A rotation angle is twice the angle between quaternions, and that one's chord has length 2 sin(half of it).
    return _reduce(turns, np.asarray(time, np.float64), 2.0 * np.sin(angle / 4.0), on_sphere=True)


def reduce_position_keys(positions: Array, time: Array, distance: float = DEFAULT_DISTANCE) -> list[ReducedCurve]:
    """Keep every position within `distance` of the frames joined by straight lines, with as few keys as that takes.

    Args:
        positions: [T, B, D] of B points over T frames.
        time: [T] strictly increasing.
        distance: in the unit of `positions`.

    Returns:
        A curve per point.
    """
    return _reduce(np.asarray(positions, np.float64), np.asarray(time, np.float64), distance, on_sphere=False)


def sample_curve(curve: ReducedCurve, time: Array, at: Array) -> Array:
    """What Blender's F-curves give at times `at` [N] -> [N, D]: the spline, held outside its keys.

    Args:
        curve: of frames at `time`.
        time: [T] of all frames, as given to the reduction.
        at: [N] in the same unit.
    """
    if len(curve.rows) < 2:
        return np.repeat(curve.values, len(at), axis=0)
    keyed = np.asarray(time, np.float64)[curve.rows]
    left = np.clip(np.searchsorted(keyed, at, side="right") - 1, 0, len(keyed) - 2)
    span = keyed[left + 1] - keyed[left]
    share = np.clip((at - keyed[left]) / span, 0.0, 1.0)
    ease, leave, arrive = (each[:, None] for each in _hermite(share))
    start, end = curve.values[left], curve.values[left + 1]
    tangents = leave * curve.right_slope[left] + arrive * curve.left_slope[left + 1]
    return start + ease * (end - start) + span[:, None] * tangents


@dataclass(frozen=True, eq=False)
class _Reference:
    """C curves at ten samples per frame.

    Attributes:
        samples: [D, C, N], every tenth a frame.
        time: [N].
        bound: length of the difference that is allowed, on unit vectors if `on_sphere`.
    """

    samples: Array
    time: Array
    bound: float
    on_sphere: bool


def _reduce(values: Array, time: Array, bound: float, *, on_sphere: bool) -> list[ReducedCurve]:
    frames, curves, _ = values.shape
    if frames < 2:
        flat = np.zeros_like(values)
        return [ReducedCurve(np.arange(frames), values[:, c], flat[:, c], flat[:, c]) for c in range(curves)]
    reduced = []
    together = max(1, _FRAMES_TOGETHER // frames)
    for some in range(0, curves, together):
        block = values[:, some : some + together]
        reference = _sample_densely(block, time, bound, on_sphere=on_sphere)
        segments = _join_smoothly(reference, *_walk(reference, *_cut_into_stretches(block)))
        reduced += _collect_keys(block, segments)
    return reduced


def _collect_keys(values: Array, segments: tuple[Array, ...]) -> list[ReducedCurve]:
    curve, first, leave, arrive = segments
    reduced = []
    for c in range(values.shape[1]):
        own = curve == c
        rows = np.append(first[own], len(values) - 1)
        right, left = leave[:, own].T, arrive[:, own].T
        reduced.append(
            ReducedCurve(rows, values[rows, c], np.concatenate([right[:1], left]), np.concatenate([right, left[-1:]]))
        )
    return reduced


def _sample_densely(values: Array, time: Array, bound: float, *, on_sphere: bool) -> _Reference:
    """Slerp or straight lines between the frames; exactly constant where two frames are equal."""
    share = (np.arange(_SAMPLES_PER_FRAME) / _SAMPLES_PER_FRAME)[None, :, None, None]
    start, step = values[:-1, None], np.diff(values, axis=0)[:, None]
    if on_sphere:
        # By the angle from the chord: unlike the arc cosine it is exact for small and for no motion.
        angle = 2.0 * np.arcsin(np.minimum(np.linalg.norm(step, axis=-1, keepdims=True) / 2.0, 1.0))
        moving = angle > 1e-6  # below, an arc and its chord differ by less than float64 can tell
        sine = np.sin(np.where(moving, angle, 1.0))
        end_share = np.where(moving, np.sin(share * angle) / sine, share)
        both = np.where(moving, (np.sin((1.0 - share) * angle) + np.sin(share * angle)) / sine, 1.0)
        between = both * start + end_share * step
    else:
        between = start + share * step
    samples = np.concatenate([between.reshape(-1, *values.shape[1:]), values[-1:]])
    moments = time[:-1, None] + np.diff(time)[:, None] * share.ravel()
    return _Reference(np.ascontiguousarray(samples.T), np.append(moments.ravel(), time[-1]), bound, on_sphere)


def _cut_into_stretches(values: Array) -> tuple[Array, Array, Array]:
    """Curve, first and last row of the stretches whose ends have to be keys, each [W].

    Held poses are stretches of their own, so that nothing moves in them, and very long stretches are cut.
    """
    frames, curves, _ = values.shape
    regular = np.append(np.arange(0, frames - 1, _LONGEST_STRETCH), frames - 1)
    stretches = []
    for c in range(curves):
        still = np.concatenate([[False], np.all(values[1:, c] == values[:-1, c], axis=-1), [False]])
        begin, end = np.flatnonzero(still[1:] & ~still[:-1]), np.flatnonzero(still[:-1] & ~still[1:])
        held = end - begin >= _SHORTEST_HOLD
        begin, end = begin[held], end[held]
        inside = np.any((regular[:, None] > begin) & (regular[:, None] < end), axis=1)
        rows = np.unique(np.concatenate([regular[~inside], begin, end]))
        stretches.append((np.full(len(rows) - 1, c), rows[:-1], rows[1:]))
    curve, first, last = (np.concatenate(each) for each in zip(*stretches, strict=True))
    return curve, first, last


def _walk(reference: _Reference, curve: Array, first: Array, last: Array) -> tuple[Array, Array, Array]:
    """Curve, first and last row of the segments, each [M]: from each key the longest one within the bound.

    With free slopes a segment does not depend on its neighbours, so the longest ones are also the fewest.
    All stretches are walked side by side.
    """
    found = []
    start = first.copy()
    good, bad = start + 1, last + 1  # the last row known to be within reach, the first known to be beyond
    test = np.minimum(start + _FIRST_GUESS, last)
    walking = np.arange(len(curve))
    while len(walking):
        asking = walking[bad[walking] - good[walking] > 1]
        if len(asking):
            within = _Segments(reference, curve[asking], start[asking], test[asking]).fit()[2] <= reference.bound
            good[asking[within]] = test[asking[within]]
            bad[asking[~within]] = test[asking[~within]]
        # Half as far again each time, then halving what is between near enough and too far.
        test = np.minimum(good + np.maximum((good - start) // 2, 1), (good + bad) // 2)
        done = walking[bad[walking] - good[walking] <= 1]
        found.append(np.stack([curve[done], start[done], good[done]]))
        length = good[done] - start[done]
        start[done] = good[done]
        good[done], bad[done] = start[done] + 1, last[done] + 1
        test[done] = np.clip(start[done] + length, good[done] + 1, last[done])  # as far as the last time
        walking = walking[start[walking] < last[walking]]
    segments = np.concatenate(found, axis=1)
    curve, first, last = segments[:, np.lexsort((segments[1], segments[0]))]
    return curve, first, last


def _join_smoothly(reference: _Reference, curve: Array, first: Array, last: Array) -> tuple[Array, ...]:
    """Curve [M], first row [M] and slopes [D, M] at which the segments leave and arrive, one tangent where allowed.

    Every second key first, then those between: each segment then has only one end that changes.
    """
    segments = _Segments(reference, curve, first, last)
    leave, arrive, _ = segments.fit()
    still = ~np.any(leave, axis=0) & ~np.any(arrive, axis=0)
    before = np.flatnonzero(curve[1:] == curve[:-1])  # the segments that another one follows
    after = before + 1
    # A slope bends its own segment in proportion to that one's length. A held pose stays held.
    weight = segments.span
    shared = (weight[before] * arrive[:, before] + weight[after] * leave[:, after]) / (weight[before] + weight[after])
    shared[:, still[before] | still[after]] = 0.0
    for parity in (0, 1):
        tried = (before - np.searchsorted(curve, curve[before])) % 2 == parity
        new_leave, new_arrive = leave.copy(), arrive.copy()
        new_arrive[:, before[tried]] = shared[:, tried]
        new_leave[:, after[tried]] = shared[:, tried]
        within = segments.error(new_leave, new_arrive) <= reference.bound
        kept = tried & within[before] & within[after]
        arrive[:, before[kept]] = shared[:, kept]
        leave[:, after[kept]] = shared[:, kept]
    return curve, first, leave, arrive


class _Segments:
    """M cubic segments over stretches of the reference, their N samples behind each other in one long list.

    Each starts and ends on the reference; the slopes at its ends are free. Components come first, [D, N] and [D, M].
    """

    def __init__(self, reference: _Reference, curve: Array, first: Array, last: Array) -> None:
        begin, end = first * _SAMPLES_PER_FRAME, last * _SAMPLES_PER_FRAME
        self._reference = reference
        self._count = end - begin + 1
        self._begin = np.cumsum(self._count) - self._count
        rows = np.arange(self._count.sum()) + self._spread(begin - self._begin)
        self.span = reference.time[end] - reference.time[begin]
        share = (reference.time[rows] - self._spread(reference.time[begin])) / self._spread(self.span)
        ease, self._leave, self._arrive = _hermite(share)
        start = reference.samples[:, curve, begin]
        step = reference.samples[:, curve, end] - start
        self._target = reference.samples[:, self._spread(curve), rows]
        self._base = self._spread(start) + ease * self._spread(step)

    def fit(self) -> tuple[Array, Array, Array]:
        """Slopes [D, M] at both ends and the largest error [M], of the slopes that make it smallest.

        Least squares, reweighted by the errors themselves until the largest is small (Lawson 1961).
        """
        bound = self._reference.bound
        a, b = self._leave, self._arrive
        wanted: Array = self._target - self._base
        weight: Array = np.ones_like(a)
        leave, arrive, error = np.zeros(0), np.zeros(0), np.full(len(self.span), np.inf)
        undecided: Array = np.ones(len(self.span), bool)
        for passed in range(_MINIMAX_PASSES):
            wa, wb = weight * a, weight * b
            aa, ab, bb = self._sum(wa * a), self._sum(wa * b), self._sum(wb * b)
            ra, rb = self._sum(wa * wanted), self._sum(wb * wanted)
            determinant: Array = aa * bb - ab * ab
            new_leave, new_arrive = (bb * ra - ab * rb) / determinant, (aa * rb - ab * ra) / determinant
            distance = self._distance(new_leave, new_arrive)
            new_error = np.maximum.reduceat(distance, self._begin)
            if passed == 0:
                leave, arrive, error = new_leave, new_arrive, new_error.copy()
            else:
                better = undecided & (new_error < error)
                leave[:, better], arrive[:, better] = new_leave[:, better], new_arrive[:, better]
                error[better] = new_error[better]
            undecided = undecided & (error > bound) & (error < _HOPELESS * bound)
            if not undecided.any():
                break
            weight *= distance / self._spread(np.maximum(new_error, bound)) + _LEAST_WEIGHT
        return leave / self.span, arrive / self.span, error

    def error(self, leave: Array, arrive: Array) -> Array:
        """Largest error [M] of segments with these slopes [D, M]."""
        return np.maximum.reduceat(self._distance(leave * self.span, arrive * self.span), self._begin)

    def _distance(self, leave: Array, arrive: Array) -> Array:
        cubic: Array = self._base + self._leave * self._spread(leave) + self._arrive * self._spread(arrive)
        if self._reference.on_sphere:
            cubic /= np.sqrt(np.einsum("dn,dn->n", cubic, cubic))
        cubic -= self._target
        return np.sqrt(np.einsum("dn,dn->n", cubic, cubic))

    def _spread(self, values: Array) -> Array:
        return np.repeat(values, self._count, axis=-1)

    def _sum(self, values: Array) -> Array:
        return np.add.reduceat(values, self._begin, axis=-1)


def _hermite(share: Array) -> tuple[Array, Array, Array]:
    """The cubic Hermite basis at shares [N] of an interval: ease from start to end, and the slopes at both ends."""
    rest = 1.0 - share
    return share * share * (3.0 - 2.0 * share), share * rest * rest, -share * share * rest
