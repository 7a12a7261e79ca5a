"""A hand as 19 capsules, one per finger bone and four across the palm, for finding contact. numpy only.

The capsules lie in the middle of the hand model's mesh and are as thick as it is, so they follow shape and
size of the clip's hand. Capsule 3 f + r is bone r of finger f in FINGERS order; the last four are the palm
from the wrist to the knuckles of index, middle, ring and little finger.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.conventions import FINGERS
from dir_core.degrees_of_freedom import FINGER_JOINTS, FingerGeometry, finger_geometry
from dir_core.hand_model import HandModel

Array = NDArray[Any]

BONES: Final = 3 * len(FINGERS)
COUNT: Final = BONES + 4
FINGER: Final = np.array([*np.repeat(range(5), 3), -1, -1, -1, -1])
"""[19] finger of every capsule, -1 for the palm."""
RANK: Final = np.array([*np.tile(range(3), 5), -1, -1, -1, -1])
"""[19] bone within its finger, -1 for the palm: a capsule follows the joints of its finger up to this one."""

# Shares of a bone's length between which its mesh is measured: its ends belong to the neighbours as well.
_FINGER_BODY = (0.2, 0.8)
_PALM_BODY = ((0.1, 0.4), (0.6, 0.9))  # the palm is measured near the wrist and near the knuckles
_PALM_ENDS = (0.2, 0.95)
_PALM_STRIP = 0.055  # of the hand length: half the width of a strip that belongs to one metacarpal bone
_EVERY = 3  # of the vertices is enough to measure a radius
_RADIUS_ROUNDS = 2  # vertices and capsules are matched anew that often; more changes nothing above 0.2 mm
# Closest points of parallel bones are not defined: a slight pull to the middles makes them change smoothly
# while the bones turn. It adds less than 0.2 mm to a distance.
_MIDDLE_PULL = 0.01


@dataclass(frozen=True, eq=False)
class HandCapsules:
    """The capsules of one side for a whole clip.

    Attributes:
        geometry: chains and hinge axes of the hand.
        ends: [19, 2, 3] metres, relative to the joint that carries the capsule, axes of the flat template.
        radius: [19] metres.
    """

    geometry: FingerGeometry
    ends: Array
    radius: Array


@dataclass(frozen=True, eq=False)
class PlacedHand:
    """A hand in N poses, camera axes, metres.

    Attributes:
        translation: [N, 3] wrist.
        wrist: [N, 3, 3] rotation matrices of the wrist.
        turns: [N, 5, 3, 3, 3] of the three joints of every finger.
        places: [N, 5, 4, 3] of the three joints of every finger and its tip.
        ends: [N, 19, 2, 3] of the capsules.
    """

    translation: Array
    wrist: Array
    turns: Array
    places: Array
    ends: Array


def fit_capsules(model: HandModel, shape: Array, scale: float) -> HandCapsules:
    """Capsules for the mesh of a hand with the given shape [10] and size, fitted in the flat pose."""
    return _fit_capsules(model, tuple(np.asarray(shape, np.float64).tolist()), float(scale))


@lru_cache(4)  # both hands of two people: the same clip is cleaned again and again
def _fit_capsules(model: HandModel, components: tuple[float, ...], scale: float) -> HandCapsules:
    shape = np.array(components)
    geometry = finger_geometry(model, shape, scale)
    vertices, joints = model.shaped(shape)
    vertices = scale * (vertices - joints[0])
    owner = model.weights.argmax(axis=1)
    places = geometry.keypoints[1:].reshape(5, 4, 3)
    ends = np.empty((COUNT, 2, 3))
    for finger in range(5):
        for rank in range(3):
            start, end = places[finger, rank : rank + 2]
            bone = _Bone.between(start, end, geometry.axes[finger, (0, 3, 4)[rank]])
            across, half = bone.middle(vertices[owner == FINGER_JOINTS[finger][rank]], *_FINGER_BODY, np.inf)
            tip = half if rank == 2 else 0.0  # the round end of the last capsule is the finger tip
            ends[3 * finger + rank] = bone.point(0.0, across), bone.point(max(1 - tip / bone.length, 0.3), across)
    strip = _PALM_STRIP * scale * model.length(shape)
    palm = vertices[owner == 0]
    for finger in range(1, 5):
        bone = _Bone.between(np.zeros(3), places[finger, 0], geometry.axes[finger, 0])
        near, far = (bone.middle(palm, *body, strip)[0] for body in _PALM_BODY)
        slope = (far - near) / (np.mean(_PALM_BODY[1]) - np.mean(_PALM_BODY[0]))
        ends[BONES + finger - 1] = [
            bone.point(share, near + (share - np.mean(_PALM_BODY[0])) * slope) for share in _PALM_ENDS
        ]
    hand = vertices[vertices @ places[2, 0] > 0.1 * np.sum(places[2, 0] ** 2)]  # without the forearm
    radius = _fit_radii(ends, hand[::_EVERY])
    ends[:BONES] -= places[:, :3].reshape(BONES, 1, 3)
    return HandCapsules(geometry=geometry, ends=ends, radius=radius)


def place_capsules(capsules: HandCapsules, rotation: Array, translation: Array) -> PlacedHand:
    """The hand with rotations [N, 16, 4] and wrist positions [N, 3]."""
    wrist = rotations.to_matrix(rotation[:, 0])
    turns = rotations.to_matrix(rotation[:, np.array(FINGER_JOINTS)])
    turns[:, :, 0] = wrist[:, None] @ turns[:, :, 0]
    for rank in (1, 2):
        turns[:, :, rank] = turns[:, :, rank - 1] @ turns[:, :, rank]
    return place_turned(capsules, wrist, turns, translation)


def place_turned(capsules: HandCapsules, wrist: Array, turns: Array, translation: Array) -> PlacedHand:
    """The hand with rotations of the wrist [N, 3, 3] and of the finger bones [N, 5, 3, 3, 3] in camera axes."""
    offsets = capsules.geometry.offsets
    # Both ends of every capsule and the end of its bone, turned together.
    bones = np.concatenate([capsules.ends[:BONES].reshape(5, 3, 2, 3), offsets[:, 1:, None]], axis=2)
    turned = bones @ turns.swapaxes(-1, -2)
    first = translation[:, None] + offsets[:, 0] @ wrist.swapaxes(1, 2)
    places = np.cumsum(np.concatenate([first[:, :, None], turned[:, :, :, 2]], axis=2), axis=2)
    ends = np.empty((len(turns), COUNT, 2, 3))
    ends[:, :BONES] = (places[:, :, :3, None] + turned[:, :, :, :2]).reshape(-1, BONES, 2, 3)
    ends[:, BONES:] = translation[:, None, None] + capsules.ends[BONES:] @ wrist[:, None].swapaxes(-1, -2)
    return PlacedHand(translation=translation, wrist=wrist, turns=turns, places=places, ends=ends)


def closest_points(first: Array, second: Array) -> tuple[Array, Array]:
    """Points [M, 3] on segments [M, 2, 3] that are closest to each other.

    Source: Ericson, "Real-Time Collision Detection" (2005), section 5.1.9, with a slight pull to the middles.
    """
    along, other = first[:, 1] - first[:, 0], second[:, 1] - second[:, 0]
    # Measured from the middles: first + s along, second + t other with s and t in -1/2..1/2.
    middle, target = 0.5 * (first[:, 0] + first[:, 1]), 0.5 * (second[:, 0] + second[:, 1])
    apart = middle - target
    a, e = (_dot(v, v) * (1.0 + _MIDDLE_PULL) for v in (along, other))
    b, c, f = _dot(along, other), _dot(along, apart), _dot(other, apart)
    s = np.clip((b * f - c * e) / (a * e - b * b), -0.5, 0.5)
    t = np.clip((b * s + f) / e, -0.5, 0.5)
    s = np.clip((b * t - c) / a, -0.5, 0.5)
    return middle + s[:, None] * along, target + t[:, None] * other


@dataclass(frozen=True, eq=False)
class _Bone:
    """A bone with the two directions across it; `axis` is its hinge."""

    start: Array
    direction: Array
    axis: Array
    back: Array
    length: float

    @classmethod
    def between(cls, start: Array, end: Array, hinge: Array) -> "_Bone":
        length = float(np.linalg.norm(end - start))
        direction = (end - start) / length
        back = np.cross(direction, hinge)
        back /= np.linalg.norm(back)
        return cls(start=start, direction=direction, axis=np.cross(back, direction), back=back, length=length)

    def middle(self, vertices: Array, lowest: float, highest: float, strip: float) -> tuple[Array, float]:
        """Middle [2] (along hinge and back) and half thickness of the mesh between two shares of the length.

        A strip narrower than the mesh keeps to its own middle along the hinge.
        """
        share = (vertices - self.start) @ self.direction / self.length
        side, back = (vertices - self.start) @ self.axis, (vertices - self.start) @ self.back
        body = (share > lowest) & (share < highest) & (np.abs(side) < strip)
        if not body.any():  # a foreign model may divide its mesh otherwise; the bone itself is near enough
            return np.zeros(2), 0.0
        # A few vertices of a web or a crease must not move the middle.
        (low_side, low_back), (high_side, high_back) = np.percentile([side[body], back[body]], [5, 95], axis=1)
        across = 0.0 if np.isfinite(strip) else 0.5 * (low_side + high_side)
        half = 0.25 * (high_side - low_side + high_back - low_back)
        return np.array([across, 0.5 * (low_back + high_back)]), float(half)

    def point(self, share: float, across: Array) -> Array:
        """The point [3] at a share of the length, moved across."""
        return self.start + share * self.length * self.direction + across[0] * self.axis + across[1] * self.back


def _fit_radii(ends: Array, vertices: Array) -> Array:
    """Radii [19] with which the surface of the capsules with ends [19, 2, 3] runs through the vertices [V, 3]."""
    along = ends[:, 1] - ends[:, 0]
    share = np.clip(np.einsum("vcd,cd->vc", vertices[:, None] - ends[:, 0], along) / _dot(along, along), 0, 1)
    distance = np.linalg.norm(vertices[:, None] - ends[:, 0] - share[..., None] * along, axis=-1)
    radius = np.zeros(COUNT)
    for _ in range(1 + _RADIUS_ROUNDS):
        nearest = np.argmin(distance - radius, axis=1)
        # Without any vertex of its own a capsule lies inside the others and may stay a line.
        radius = np.array([np.median(distance[nearest == c, c]) if (nearest == c).any() else 0.0 for c in range(COUNT)])
    return radius


def _dot(a: Array, b: Array) -> Array:
    """Products of vectors [..., 3]; written out, because a sum over three is slow in numpy."""
    product: Array = a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]
    return product
