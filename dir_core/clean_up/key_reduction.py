"""Fewest keys that keep a motion within a stated bound: long cubic segments instead of a key on every frame.

Blender imports this file, so it stands on numpy alone. It knows curves of vectors and rotations, not F-curves.

The reference is the take itself, its frames joined by slerp or by straight lines. Keys stay on the take's own frames
and values; between two keys each component is the cubic Bezier curve that an F-curve draws. Its handles are fitted in
slope and in length, the length shared by the components of a curve: with free lengths a quarter of the keys fewer are
needed than with handles at thirds. Nothing is accepted unless it was measured at ten samples per frame.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.errors import SettingsError

Array = NDArray[Any]
Check = Callable[[], None]

DEFAULT_ANGLE: Final = float(np.radians(0.5))
"""Radians that a reduced rotation may be off; at a fingertip 8 cm from the knuckle 0.7 mm."""

DEFAULT_DISTANCE: Final = 0.001
"""Metres that a reduced position may be off."""

_SAMPLES_PER_FRAME = 10  # at which the bound is proven
_MINIMAX_PASSES = 5  # after the first; eight find 2 % fewer keys in a third more time
_HOPELESS = 4.0  # times the bound: so far away, the next passes hardly ever come back
_THIRD = 1.0 / 3.0
_LENGTH_RANGE = (0.05, 0.9)  # of the interval
_LENGTH_STEP = 0.3  # the most that one step may change a length
_NEWTON_STEPS = 6  # exact to 1e-11 for all lengths in the range
_LEAST_WEIGHT = 0.2  # added to each sample's share of the largest error: what fits now shall go on to fit
_FIRST_GUESS = 8  # frames that the first segment tries to reach
_LONGEST_STRETCH = 256  # frames; a key more in so many, and long clips are walked several times as fast
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
    """The keys of one curve: Bezier segments through K of the T given frames.

    Attributes:
        rows: [K] indices into the given frames, increasing, the first and the last frame included.
        values: [K, D] on these frames; of quaternions with continuous signs.
        left_slope: [K, D] per second, where the curve arrives at a key; on the first as it leaves.
        right_slope: [K, D] per second, where it leaves; on the last as it arrives. Equal to `left_slope` where the
            bound allows a smooth join.
        left_reach, right_reach: [K] seconds, how far before and after its key a handle ends.
    """

    rows: Array
    values: Array
    left_slope: Array
    right_slope: Array
    left_reach: Array
    right_reach: Array

    @property
    def is_smooth(self) -> Array:
        """[K] bool, where the curve has one tangent."""
        return np.all(self.left_slope == self.right_slope, axis=1)


def reduce_rotation_keys(
    quaternions: Array, time: Array, angle: float = DEFAULT_ANGLE, check: Check = lambda: None
) -> list[ReducedCurve]:
    """Keep every rotation within `angle` of the frames joined by slerp, with as few keys as that takes.

    Args:
        quaternions: [T, B, 4] unit (w, x, y, z) of B bones over T frames, signs at will.
        time: [T] strictly increasing, seconds or any other unit that the slopes shall be in.
        angle: radians.
        check: called many times a second; what it raises ends the work.

    Returns:
        A curve per bone. Between the keys it has to be normalised, as Blender does with quaternions. Where less
        than a tenth of a degree is asked for, a turn of more than 70 degrees from one frame to the next may stay
        up to that tenth off: there are no keys between the frames.
    """
    turns = rotations.make_continuous(np.asarray(quaternions, np.float64))
    # A rotation angle is twice the angle between quaternions, and that one's chord has length 2 sin(half of it).
    return _reduce(turns, np.asarray(time, np.float64), 2.0 * np.sin(angle / 4.0), check, on_sphere=True)


def reduce_position_keys(
    positions: Array, time: Array, distance: float = DEFAULT_DISTANCE, check: Check = lambda: None
) -> list[ReducedCurve]:
    """Keep every position within `distance` of the frames joined by straight lines, with as few keys as that takes.

    Args:
        positions: [T, B, D] of B points over T frames.
        time: [T] strictly increasing.
        distance: in the unit of `positions`.
        check: called many times a second; what it raises ends the work.

    Returns:
        A curve per point.
    """
    return _reduce(np.asarray(positions, np.float64), np.asarray(time, np.float64), distance, check, on_sphere=False)


def sample_curve(curve: ReducedCurve, time: Array, at: Array) -> Array:
    """What Blender's F-curves give at times `at` [N] -> [N, D]: Bezier curves between the keys, held outside them.

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
    leave, arrive = curve.right_reach[left], curve.left_reach[left + 1]
    position = _place_on_curve(share, leave / span, arrive / span)
    start, end = curve.values[left], curve.values[left + 1]
    pull = _handle_basis(position) * np.stack([leave, -arrive])
    tangents = pull[0, :, None] * curve.right_slope[left] + pull[1, :, None] * curve.left_slope[left + 1]
    return start + _ease(position)[:, None] * (end - start) + tangents


def map_curve(curve: ReducedCurve, matrix: Array, offset: Array | float = 0.0, rate: float = 1.0) -> ReducedCurve:
    """The keys of the curve matrix @ value + offset: no less and no more exact where the matrix keeps lengths.

    Args:
        curve: of D components.
        matrix: [E, D].
        offset: [E].
        rate: new units of time in an old one, such as scene frames per second.
    """
    return ReducedCurve(
        curve.rows,
        curve.values @ matrix.T + offset,
        left_slope=curve.left_slope @ matrix.T / rate,
        right_slope=curve.right_slope @ matrix.T / rate,
        left_reach=curve.left_reach * rate,
        right_reach=curve.right_reach * rate,
    )


def product_matrix(before: Array, after: Array) -> Array:
    """The matrix [4, 4] with which a quaternion q becomes before * q * after, for `map_curve`; before and after [4]."""
    return rotations.multiply(rotations.multiply(before, np.eye(4)), after).T


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


@dataclass(frozen=True, eq=False)
class _Handles:
    """The inner handles of M segments.

    Attributes:
        length: [2, M] in time, as shares of the segment.
        offset: [2, D, M] in value, from the key that the handle belongs to.
        error: [M] the largest that the segment has with them.
    """

    length: Array
    offset: Array
    error: Array


def _reduce(values: Array, time: Array, bound: float, check: Check, *, on_sphere: bool) -> list[ReducedCurve]:
    frames, curves, _ = values.shape
    if frames < 2:
        flat = np.zeros_like(values)
        reach = np.ones(frames)
        return [
            ReducedCurve(np.arange(frames), values[:, c], flat[:, c], flat[:, c], reach, reach) for c in range(curves)
        ]
    reduced = []
    together = max(1, _FRAMES_TOGETHER // frames)
    for some in range(0, curves, together):
        block = values[:, some : some + together]
        reference = _sample_densely(block, time, bound, on_sphere=on_sphere)
        segments = _join_smoothly(reference, *_walk(reference, *_cut_into_stretches(block), check))
        reduced += _collect_keys(block, segments)
    return reduced


def _collect_keys(values: Array, segments: tuple[Array, ...]) -> list[ReducedCurve]:
    curve, first, leave, arrive, reach = segments
    reduced = []
    for c in range(values.shape[1]):
        own = curve == c
        rows = np.append(first[own], len(values) - 1)
        right, left = leave[:, own].T, arrive[:, own].T
        leaving, arriving = reach[:, own]
        reduced.append(
            ReducedCurve(
                rows,
                values[rows, c],
                left_slope=np.concatenate([right[:1], left]),
                right_slope=np.concatenate([right, left[-1:]]),
                left_reach=np.concatenate([leaving[:1], arriving]),
                right_reach=np.concatenate([leaving, arriving[-1:]]),
            )
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


def _walk(reference: _Reference, curve: Array, first: Array, last: Array, check: Check) -> tuple[Array, Array, Array]:
    """Curve, first and last row of the segments, each [M]: from each key the longest one within the bound.

    With free handles a segment does not depend on its neighbours, so the longest ones are also the fewest.
    All stretches are walked side by side.
    """
    found = []
    start = first.copy()
    good, bad = start + 1, last + 1  # the last row known to be within reach, the first known to be beyond
    test = np.minimum(start + _FIRST_GUESS, last)
    walking = np.arange(len(curve))
    while len(walking):
        check()
        asking = walking[bad[walking] - good[walking] > 1]
        if len(asking):
            within = _Segments(reference, curve[asking], start[asking], test[asking]).fit().error <= reference.bound
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
    """Curve [M], first row [M], slopes [D, M] to leave and to arrive, handle lengths [2, M]; one tangent where allowed.

    Every second key first, then those between: each segment then has only one end that changes.
    """
    segments = _Segments(reference, curve, first, last)
    handles = segments.fit()
    reach = handles.length * segments.span
    leave, arrive = handles.offset[0] / reach[0], -handles.offset[1] / reach[1]
    still = ~np.any(leave, axis=0) & ~np.any(arrive, axis=0)
    before = np.flatnonzero(curve[1:] == curve[:-1])  # the segments that another one follows
    after = before + 1
    # A slope bends its own segment in proportion to its handle's length. A held pose stays held.
    left, right = reach[1, before], reach[0, after]
    shared = (left * arrive[:, before] + right * leave[:, after]) / (left + right)
    shared[:, still[before] | still[after]] = 0.0
    for parity in (0, 1):
        tried = (before - np.searchsorted(curve, curve[before])) % 2 == parity
        new_leave, new_arrive = leave.copy(), arrive.copy()
        new_arrive[:, before[tried]] = shared[:, tried]
        new_leave[:, after[tried]] = shared[:, tried]
        offset = np.stack([new_leave * reach[0], -new_arrive * reach[1]])
        within = segments.error(replace(handles, offset=offset)) <= reference.bound
        kept = tried & within[before] & within[after]
        arrive[:, before[kept]] = shared[:, kept]
        leave[:, after[kept]] = shared[:, kept]
    return curve, first, leave, arrive, reach


class _Segments:
    """M cubic segments over stretches of the reference, their N samples behind each other in one long list.

    Each starts and ends on the reference; its two handles are free, in length and in offset. Components come first,
    [D, N] and [D, M].
    """

    def __init__(self, reference: _Reference, curve: Array, first: Array, last: Array) -> None:
        begin, end = first * _SAMPLES_PER_FRAME, last * _SAMPLES_PER_FRAME
        self._bound, self._on_sphere = reference.bound, reference.on_sphere
        self._count = end - begin + 1
        self._begin = np.cumsum(self._count) - self._count
        rows = np.arange(self._count.sum()) + self._spread(begin - self._begin)
        self.span = reference.time[end] - reference.time[begin]
        self._share: Array = (reference.time[rows] - self._spread(reference.time[begin])) / self._spread(self.span)
        start = reference.samples[:, curve, begin]
        self._start: Array = self._spread(start)
        self._step: Array = self._spread(reference.samples[:, curve, end] - start)
        self._target: Array = reference.samples[:, self._spread(curve), rows]

    def fit(self) -> _Handles:
        """The handles that make the largest error smallest, as far as the bound asks for it.

        Least squares, reweighted by the errors themselves until the largest is small (Lawson 1961). Before each new
        pass the lengths take a Gauss-Newton step, with the offsets projected out (Kaufman 1975).
        """
        rest, owner = self, np.arange(len(self.span))
        length = np.full((2, len(owner)), _THIRD)
        position = self._share  # with handles of a third, time and the position on the Bezier curve are the same
        weight = np.ones_like(position)
        offset = self._best_offset(position, weight)
        value = self._value(position, offset)
        distance, error = self._distance(value)
        best = _Handles(length.copy(), offset.copy(), error.copy())
        for _ in range(_MINIMAX_PASSES):
            undecided = (best.error[owner] > self._bound) & (best.error[owner] < _HOPELESS * self._bound)
            if not undecided.any():
                break
            weight = weight * (distance / rest._spread(np.maximum(error, np.finfo(float).tiny)) + _LEAST_WEIGHT)
            if not undecided.all():
                samples = rest._spread(undecided)
                rest, owner = rest._only(undecided), owner[undecided]
                length, offset = length[:, undecided], offset[..., undecided]
                position, weight, value = position[samples], weight[samples], value[:, samples]
            step = rest._length_step(position, weight, value, length, offset)
            length = np.clip(length + step, *_LENGTH_RANGE)
            length /= np.maximum(length.sum(axis=0), 1.0)  # Blender forces handles apart that reach past each other
            position = _place_on_curve(rest._share, *rest._spread(length))
            offset = rest._best_offset(position, weight)
            value = rest._value(position, offset)
            distance, error = rest._distance(value)
            better = error < best.error[owner]
            best.length[:, owner[better]] = length[:, better]
            best.offset[..., owner[better]] = offset[..., better]
            best.error[owner[better]] = error[better]
        return best

    def error(self, handles: _Handles) -> Array:
        """Largest error [M] of segments with these handles."""
        position = _place_on_curve(self._share, *self._spread(handles.length))
        return self._distance(self._value(position, handles.offset))[1]

    def _only(self, which: Array) -> "_Segments":
        """The segments `which` [M] alone."""
        only = copy(self)
        samples = self._spread(which)
        only._count = self._count[which]
        only._begin = np.cumsum(only._count) - only._count
        only.span, only._share = self.span[which], self._share[samples]
        only._start, only._step, only._target = (each[:, samples] for each in (self._start, self._step, self._target))
        return only

    def _best_offset(self, position: Array, weight: Array) -> Array:
        """Offsets [2, D, M] of the least squared error."""
        flat = self._start + _ease(position) * self._step
        return self._project(_handle_basis(position), weight, self._target - flat)

    def _length_step(self, position: Array, weight: Array, value: Array, length: Array, offset: Array) -> Array:
        """Gauss-Newton step [2, M] of the lengths.

        Where a handle grows, the time at which the curve passes a sample's place moves, and with it the value.
        """
        basis = _handle_basis(position)
        speed = self._value_speed(position, offset) / _time_speed(position, *self._spread(length))
        turns = np.stack([-speed * basis[0], speed * basis[1]])
        inside = self._project(basis, weight, turns)
        turns -= basis[0] * self._spread(inside[0]) + basis[1] * self._spread(inside[1])
        pairs = ((turns[0], turns[0]), (turns[0], turns[1]), (turns[1], turns[1]))
        normal = [self._sum(weight * np.einsum("dn,dn->n", one, other)) for one, other in pairs]
        pull = self._sum(weight * np.einsum("kdn,dn->kn", turns, self._target - value))
        return np.clip(_solve_pair(*normal, *pull), -_LENGTH_STEP, _LENGTH_STEP)

    def _project(self, basis: Array, weight: Array, values: Array) -> Array:
        """Offsets [2, ..., M] that come closest to `values` [..., N]."""
        leave, arrive = weight * basis
        normal = self._sum(leave * basis[0]), self._sum(leave * basis[1]), self._sum(arrive * basis[1])
        return _solve_pair(*normal, self._sum(leave * values), self._sum(arrive * values))

    def _value(self, position: Array, offset: Array) -> Array:
        basis = _handle_basis(position)
        handles = basis[0] * self._spread(offset[0]) + basis[1] * self._spread(offset[1])
        return self._start + _ease(position) * self._step + handles

    def _value_speed(self, position: Array, offset: Array) -> Array:
        rest = 1.0 - position
        return (
            6.0 * position * rest * self._step
            + 3.0 * rest * (1.0 - 3.0 * position) * self._spread(offset[0])
            + 3.0 * position * (2.0 - 3.0 * position) * self._spread(offset[1])
        )

    def _distance(self, value: Array) -> tuple[Array, Array]:
        """Of every sample [N], and the largest of every segment [M]."""
        if self._on_sphere:
            value = value / np.sqrt(np.einsum("dn,dn->n", value, value))
        difference = value - self._target
        distance = np.sqrt(np.einsum("dn,dn->n", difference, difference))
        return distance, np.maximum.reduceat(distance, self._begin)

    def _spread(self, values: Array) -> Array:
        return np.repeat(values, self._count, axis=-1)

    def _sum(self, values: Array) -> Array:
        return np.add.reduceat(values, self._begin, axis=-1)


def _ease(position: Array) -> Array:
    """From 0 at the first key to 1 at the second, with flat handles."""
    return position * position * (3.0 - 2.0 * position)


def _handle_basis(position: Array) -> Array:
    """[2, N] how much the right handle of the first key and the left one of the second pull."""
    both = 3.0 * position * (1.0 - position)
    arrive = both * position
    return np.stack([both - arrive, arrive])


def _time_speed(position: Array, leave: Array, arrive: Array) -> Array:
    # The derivative of the time in _place_on_curve, ordered by powers.
    return 3.0 * leave + position * (
        6.0 - 12.0 * leave - 6.0 * arrive + position * 3.0 * (3.0 * (leave + arrive) - 2.0)
    )


def _place_on_curve(share: Array, leave: Array, arrive: Array) -> Array:
    """Where on a Bezier curve with handles of these lengths a share [N] of the time lies; Newton."""
    position = share
    for _ in range(_NEWTON_STEPS):
        basis = _handle_basis(position)
        time = _ease(position) + leave * basis[0] - arrive * basis[1]
        position = np.clip(position - (time - share) / _time_speed(position, leave, arrive), 0.0, 1.0)
    return position


def _solve_pair(aa: Array, ab: Array, bb: Array, a: Array, b: Array) -> Array:
    """Both unknowns [2, ...] of symmetric 2x2 systems; zero where the right side is."""
    determinant = np.maximum(aa * bb - ab * ab, np.finfo(float).tiny)
    return np.stack([(bb * a - ab * b) / determinant, (aa * b - ab * a) / determinant])
