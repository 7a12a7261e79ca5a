"""Surfaces of a synthetic picture: both hands with bent wrists, forearms, sleeves, bands and an object. numpy, scipy.

A surface is a row per vertex in the layout `COLUMNS`, and faces, counter-clockwise from outside.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from dir_core.conventions import JOINT_PARENTS, JOINTS, KEYPOINT_SOURCES, SIDES, Side
from dir_core.degrees_of_freedom import FINGER_JOINTS
from dir_core.hand_model import HandModel
from dir_core.rotations import to_matrix
from dir_core.training.looks import Band, Item, Look, Sleeve
from dir_core.training.two_hands import LEFT_ARM, LEFT_HAND, OBJECT, RIGHT_ARM, RIGHT_HAND, TwoHands

Array = NDArray[Any]

SKIN, CLOTH, PLAIN = range(3)
"""Materials."""

COLUMNS: Final = {"position": 3, "normal": 3, "rest": 3, "finger": 4, "colour": 4, "kind": 2}
"""Floats of a vertex: position and normal in camera axes; `rest` from the wrist in the axes of a right hand's model, metres;
`finger` (sideways in half finger widths, along in finger bones from the knuckle, how much it looks out of the
back -1..1, number of the finger); `colour` of what is not skin, then its gloss; `kind` (part, material)."""

WIDTH: Final = sum(COLUMNS.values())

_HAND_PARTS: dict[Side, tuple[int, int]] = {"left": (LEFT_HAND, LEFT_ARM), "right": (RIGHT_HAND, RIGHT_ARM)}
_FOREARM = len(JOINTS)  # number of the 17th joint: the wrist, turned with the forearm
# The skin of a bent wrist is shared by hand and forearm over this stretch behind the wrist joint, metres.
_WRIST_BLEND = (-0.008, 0.026)
_RIM_ROUNDING = 0.010  # the last stretch of a hand's mesh, where it closes
_RING = 24  # vertices around an arm
_ARM_RINGS = 16
_ELBOW_RADIUS = 0.041  # of an adult's forearm at its thickest
_POSITION, _NORMAL, _REST, _FINGER, _COLOUR, _KIND = (
    slice(end - size, end) for size, end in zip(COLUMNS.values(), np.cumsum(list(COLUMNS.values())), strict=True)
)


@dataclass(frozen=True, eq=False)
class Scene:
    """All surfaces of one frame.

    Attributes:
        vertices: [N, WIDTH] float32.
        faces: [F, 3] int32.
        spheres: [M, 4] float32 centres and radii that fill the hands and arms, for soft occlusion.
    """

    vertices: Array
    faces: Array
    spheres: Array


@dataclass(frozen=True, eq=False)
class _Hand:
    """What of a hand model does not change with its pose."""

    rows: Array  # [V, WIDTH], the columns that never change filled
    weights: Array  # [V, 17]
    gather: csr_matrix  # [V, F] sums face normals at vertices
    faces: Array  # [F, 3] int32
    back: Array  # [3] unit, from the hand into the forearm


def build_scene(hands: TwoHands, frame: int, models: Mapping[Side, HandModel], look: Look) -> Scene:
    """Every surface of a frame; the same look and hands give the same faces in every frame."""
    vertices: list[Array] = []
    faces: list[Array] = []
    spheres: list[Array] = []
    count = 0

    def add(rows: Array, corners: Array) -> None:
        nonlocal count
        vertices.append(rows)
        faces.append(corners + count)
        count += len(rows)

    for number, side in enumerate(SIDES):
        if not hands.present[number]:
            continue
        limb = _Limb(hands, frame, number, models[side])
        add(limb.hand(), limb.fixed.faces)
        add(*limb.arm())
        if look.sleeve is not None:
            add(*limb.sleeve(look.sleeve, look.seed))
        if look.band is not None and look.band.side == side:
            add(*limb.band(look.band))
        if look.item is not None and look.item.held and look.item.side == side:
            add(
                *_item(
                    look.item, limb.palm_place(look.item), limb.turns[0] if side == "right" else limb.mirrored_turn()
                )
            )
        spheres.append(limb.spheres())
    if look.item is not None and not look.item.held:
        middle = hands.translation[frame][hands.present].mean(axis=0) if hands.present.any() else np.array([0, 0, 0.6])
        add(*_item(look.item, middle + look.item.offset, np.eye(3)))
    if not vertices:
        return Scene(np.zeros((0, WIDTH), np.float32), np.zeros((0, 3), np.int32), np.zeros((0, 4), np.float32))
    return Scene(np.concatenate(vertices), np.concatenate(faces), np.concatenate(spheres or [np.zeros((0, 4))]))


class _Limb:
    """One hand and forearm in one frame."""

    def __init__(self, hands: TwoHands, frame: int, number: int, model: HandModel) -> None:
        self.side = SIDES[number]
        self.model = model
        self.fixed = _prepare(model)
        self.scale = float(hands.scale)
        self.wrist = np.asarray(hands.translation[frame, number], np.float64)
        self.rest, self.rest_joints = model.shaped(hands.shape)
        matrices = to_matrix(np.asarray(hands.rotation[frame, number], np.float64))
        self.turns = np.empty((_FOREARM + 1, 3, 3))
        self.joints = np.zeros((_FOREARM + 1, 3))
        for joint, parent in enumerate(JOINT_PARENTS):
            if parent < 0:
                self.turns[joint] = matrices[joint]
                continue
            self.turns[joint] = self.turns[parent] @ matrices[joint]
            bone = self.rest_joints[joint] - self.rest_joints[parent]
            self.joints[joint] = self.joints[parent] + self.turns[parent] @ bone
        to_elbow = np.asarray(hands.elbow[frame, number], np.float64) - self.wrist
        self.arm_length = float(np.linalg.norm(to_elbow)) / self.scale
        self.turns[_FOREARM] = _turn_between(self.turns[0] @ self.fixed.back, to_elbow) @ self.turns[0]

    def hand(self) -> Array:
        """Rows of the skinned hand."""
        anchors = np.concatenate([self.rest_joints, self.rest_joints[:1]])  # the forearm turns about the wrist
        shifts = self.joints - np.einsum("jab,jb->ja", self.turns, anchors)
        moves = np.concatenate([np.swapaxes(self.turns, 1, 2), shifts[:, None]], axis=1).astype(np.float32)
        blended = (self.fixed.weights @ moves.reshape(_FOREARM + 1, 12)).reshape(-1, 4, 3)
        rest = self.rest.astype(np.float32)
        skinned = np.einsum("va,vab->vb", rest, blended[:, :3]) + blended[:, 3]
        rows = self.fixed.rows.copy()
        rows[:, _POSITION] = self.scale * skinned + self.wrist
        corners = skinned[self.fixed.faces]
        normals = self.fixed.gather @ _cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        rows[:, _NORMAL] = _unit(normals)
        return rows

    def arm(self) -> tuple[Array, Array]:
        """The bare forearm from inside the hand's rim to the elbow."""
        start = self._rim[0]
        places = np.append(start, np.linspace(start + 0.003, max(self.arm_length, start + 0.02), _ARM_RINGS))
        radii = self._arm_radii(places)
        # Begins under the hand's own skin and then covers the round end of its mesh.
        radii[0] *= 0.985
        radii[1:] += 0.0002
        # A round end at the elbow.
        places = np.append(places, self.arm_length + np.array([0.018, 0.03]))
        radii = np.concatenate([radii, radii[-1:] * 0.85, radii[-1:] * 0.4])
        return self._tube(places, radii, SKIN, (0.0, 0.0, 0.0, 0.0))

    def sleeve(self, sleeve: Sleeve, seed: int) -> tuple[Array, Array]:
        """A sleeve from behind the wrist over the elbow, with folds and a rim."""
        start = max(self._rim[0] - 0.01, sleeve.start)
        places = np.concatenate([[start, start], np.linspace(start + 0.004, self.arm_length + 0.03, 22)])
        radii = self._arm_radii(places) + sleeve.looseness
        angle = np.linspace(0, 2 * np.pi, _RING, endpoint=False)
        phase = (seed % 997) + (0.0 if self.side == "left" else 2.0)
        s = (places - start)[:, None]
        waves = np.sin(150 * s + 1.5 * np.sin(angle + phase) + phase) + np.sin(83 * s + 2.0 * np.sin(angle * 2 - phase))
        radii = radii + 0.0022 * sleeve.folds * waves * np.clip(s / 0.03, 0, 1)
        radii[0] = self._arm_radii(places[:1])[0] * 0.98
        return self._tube(places, radii, CLOTH, (*sleeve.colour, 0.0))

    def band(self, band: Band) -> tuple[Array, Array]:
        """A strap around the forearm, with a watch case on the back of it where there is one."""
        start = max(band.start, self._rim[0] + 0.002)
        places = start + band.width * np.array([0.0, 0.0, 0.15, 0.5, 0.85, 1.0, 1.0])
        inner = self._arm_radii(places)
        rise = np.array([0.0, 0.001, 0.0022, 0.0025, 0.0022, 0.001, 0.0])[:, None]
        rows, faces = self._tube(places, inner + rise, PLAIN, (*band.strap, 0.4))
        if band.case is not None:
            behind = np.repeat((self._ring @ self._back_of_hand)[None], len(places), axis=0).ravel() > 0.85
            rows[behind, _POSITION] += 0.004 * self.scale * rows[behind, _NORMAL]
            rows[behind, _COLOUR] = (*band.case, 1.0)
        return rows, faces

    def spheres(self) -> Array:
        """Spheres [M, 4] that fill fingers, palm and forearm, camera axes."""
        ends = np.concatenate([self.joints[:16], self._tips()])[list(KEYPOINT_SOURCES)]
        fingers = ends[1:].reshape(5, 4, 3)
        middles = 0.5 * (fingers[:, 1:] + fingers[:, :-1])
        bones = np.concatenate([fingers[:, 1:3], middles], axis=1).reshape(-1, 3)
        knuckles = fingers[1:, 0]
        palm = (np.array([0.3, 0.6, 0.9])[:, None, None] * knuckles).reshape(-1, 3)
        along = np.linspace(0.1, 0.7, 5)[:, None] * self.arm_length
        arm = along * (self.turns[_FOREARM] @ self.fixed.back)
        radii = np.repeat([0.0075, 0.0125, 0.028], [len(bones), len(palm), len(arm)])
        centres = self.wrist + self.scale * np.concatenate([bones, palm, arm])
        return np.concatenate([centres, self.scale * radii[:, None]], axis=1).astype(np.float32)

    def palm_place(self, item: Item) -> Array:
        """Where an object lies that the hand holds: before the palm's middle, camera axes."""
        rest = self.rest_joints
        offset = np.array(item.offset) * ([1, 1, 1] if self.side == "right" else [-1, 1, 1])
        before = 0.012 + min(item.size)
        place = 0.75 * (rest[4] - rest[0]) - before * self._back_of_hand + offset
        return self.wrist + self.scale * self.turns[0] @ place

    def mirrored_turn(self) -> Array:
        """The wrist's rotation with the model's x mirrored: objects are placed in a right hand's axes."""
        return self.turns[0] @ np.diag([-1.0, 1.0, -1.0])

    def _tips(self) -> Array:
        """Finger tips [5, 3] about the wrist."""
        ends = np.array(FINGER_JOINTS)[:, 2]
        tips = self.rest[list(self.model.tip_vertices)] - self.rest_joints[ends]
        return self.joints[ends] + np.einsum("fab,fb->fa", self.turns[ends], tips)

    @functools.cached_property
    def _back_of_hand(self) -> Array:
        """Unit vector out of the back of the flat hand, at right angles to the forearm, model axes."""
        index, ring = self.rest_joints[1] - self.rest_joints[0], self.rest_joints[10] - self.rest_joints[0]
        out = np.cross(ring, index) if self.side == "right" else np.cross(index, ring)
        out = out - (out @ self.fixed.back) * self.fixed.back
        return out / np.linalg.norm(out)

    @functools.cached_property
    def _ring(self) -> Array:
        """Unit directions [_RING, 3] around the forearm, model axes, counter-clockwise seen from the elbow."""
        angle = np.linspace(0, 2 * np.pi, _RING, endpoint=False)[:, None]
        side = np.cross(self.fixed.back, self._back_of_hand)
        return np.cos(angle) * self._back_of_hand + np.sin(angle) * side

    @functools.cached_property
    def _rim(self) -> tuple[float, Array, Array]:
        """Where the hand's mesh ends behind the wrist (less its rounding), its radii [_RING] and middle [3] there."""
        behind = (self.rest - self.rest_joints[0]) @ self.fixed.back
        start = behind.max() - _RIM_ROUNDING
        slab = self.rest[np.abs(behind - start) < 0.004] - self.rest_joints[0]
        slab = slab - (slab @ self.fixed.back)[:, None] * self.fixed.back
        middle = 0.5 * (slab.max(axis=0) + slab.min(axis=0))
        # The support of the outline in every direction, turned into a radius by taking the points of that direction.
        offsets = slab - middle
        lengths = np.linalg.norm(offsets, axis=1)[:, None]
        aligned = offsets @ self._ring.T > np.cos(np.pi / 9) * lengths
        radii = np.where(aligned, lengths, 0.0).max(axis=0)
        radii = np.where(radii > 0, radii, radii[radii > 0].mean())
        return float(start), (radii + np.roll(radii, 1) + np.roll(radii, -1)) / 3, middle

    def _arm_radii(self, places: Array) -> Array:
        """Radii [K, _RING] of the bare arm at distances behind the wrist [K], metres of the unscaled model."""
        start, profile, _ = self._rim
        share = np.clip((places - start) / max(0.7 * self.arm_length - start, 0.05), 0, 1)[:, None]
        thick = share * share * (3 - 2 * share)
        return profile * (1 - thick) + _ELBOW_RADIUS * thick

    def _tube(self, places: Array, radii: Array, material: int, colour: Any) -> tuple[Array, Array]:
        """Rows and faces of a tube around the forearm: rings at [K] behind the wrist with radii [K, _RING]."""
        middle = self._rim[2]
        flat = places[:, None, None] * self.fixed.back + radii[:, :, None] * self._ring + middle  # [K, _RING, 3]
        around = np.roll(flat, -1, axis=1) - np.roll(flat, 1, axis=1)
        along = np.gradient(flat, axis=0)
        normals = _unit(_cross(around.reshape(-1, 3), along.reshape(-1, 3)))
        turn = self.turns[_FOREARM]
        rows = np.zeros((normals.shape[0], WIDTH), np.float32)
        rows[:, _POSITION] = self.wrist + self.scale * flat.reshape(-1, 3) @ turn.T
        rows[:, _NORMAL] = normals @ turn.T
        rows[:, _REST] = flat.reshape(-1, 3) * ([1, 1, 1] if self.side == "right" else [-1, 1, 1])
        rows[:, _FINGER] = (0.0, -2.0, 0.0, -1.0)
        rows[:, _FINGER.start + 2] = normals @ self._back_of_hand
        rows[:, _COLOUR] = colour
        rows[:, _KIND] = _HAND_PARTS[self.side][1], material
        return rows, _tube_faces(len(places))


@functools.cache
def _tube_faces(rings: int) -> Array:
    """Faces of a tube of rings with _RING vertices each."""
    ring, place = np.meshgrid(np.arange(rings - 1), np.arange(_RING), indexing="ij")
    a = ring * _RING + place
    b = ring * _RING + (place + 1) % _RING
    c, d = a + _RING, b + _RING
    return np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)]).astype(
        np.int32
    )


_PREPARED: dict[str, _Hand] = {}


def _prepare(model: HandModel) -> _Hand:
    """The fixed part of a hand model, kept for every model that was drawn."""
    key = f"{model.side} {model.digest}"
    if key not in _PREPARED:
        _PREPARED[key] = _fixed_hand(model)
    return _PREPARED[key]


def _fixed_hand(model: HandModel) -> _Hand:
    rest, joints = model.shaped()
    back = joints[0] - joints[4]
    back /= np.linalg.norm(back)
    share = np.clip(((rest - joints[0]) @ back - _WRIST_BLEND[0]) / (_WRIST_BLEND[1] - _WRIST_BLEND[0]), 0, 1)
    forearm = (share * share * (3 - 2 * share))[:, None]
    weights = np.concatenate([model.weights * (1 - forearm), forearm], axis=1).astype(np.float32)
    faces = model.faces.astype(np.int32)
    count = len(faces)
    gather = csr_matrix(
        (np.ones(3 * count, np.float32), (faces.T.ravel(), np.tile(np.arange(count), 3))), shape=(len(rest), count)
    )
    corners = rest[faces]
    normals = _unit(gather @ np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    rows = np.zeros((len(rest), WIDTH), np.float32)
    rows[:, _REST] = (rest - joints[0]) * ([1, 1, 1] if model.side == "right" else [-1, 1, 1])
    rows[:, _FINGER] = _finger_places(model, normals)
    rows[:, _KIND] = _HAND_PARTS[model.side][0], SKIN
    return _Hand(rows, weights, gather, faces, back)


def _finger_places(model: HandModel, normals: Array) -> Array:
    """The `finger` columns [V, 4] of a flat hand with unit normals [V, 3]."""
    keypoints = model.rest_keypoints()
    chains = keypoints[1:].reshape(5, 4, 3)
    fingers = np.array(FINGER_JOINTS)
    axes = model.flexion_axes()[fingers - 1]  # [5, 3, 3]
    bones = np.diff(chains, axis=1)
    palmar = np.cross(axes, _unit(bones.reshape(-1, 3)).reshape(5, 3, 3))  # a curling finger moves to the palm
    by_joint = np.empty((len(JOINTS), 3))
    by_joint[fingers] = palmar
    by_joint[0] = palmar[1:, 0].mean(axis=0)
    dorsal = -np.sum(normals * _unit(model.weights @ by_joint), axis=1)

    owned = np.stack([model.weights[:, joints].sum(axis=1) for joints in fingers], axis=1)  # [V, 5]
    offsets = model.template[:, None, None] - chains[None, :, :3]  # [V, 5, 3, 3]
    lengths = np.linalg.norm(bones, axis=2)
    shares = np.sum(offsets * bones, axis=3) / lengths**2  # [V, 5, 3]
    open_ends = shares.copy()
    open_ends[:, :, 1:] = np.maximum(open_ends[:, :, 1:], 0)
    open_ends[:, :, :2] = np.minimum(open_ends[:, :, :2], 1)
    away = np.linalg.norm(offsets - np.clip(shares, 0, 1)[..., None] * bones, axis=3)
    # The finger that moves a vertex owns it; in the palm it is the nearest.
    finger = np.where(owned.max(axis=1) > 0.3, owned.argmax(axis=1), away.min(axis=2).argmin(axis=1))
    row = np.arange(len(finger))
    bone = away[row, finger].argmin(axis=1)
    along = bone + open_ends[row, finger, bone]
    sideways = np.sum(offsets[row, finger, bone] * axes[finger, bone], axis=1)
    outer = (along > 1.5) & (owned[row, finger] > 0.9)
    half = np.array([np.abs(sideways[outer & (finger == number)]).max(initial=0.004) for number in range(5)])
    return np.stack([sideways / half[finger], along, dorsal, finger.astype(np.float64)], axis=1)


def _item(item: Item, place: Array, turn: Array) -> tuple[Array, Array]:
    """Rows and faces of an object at `place`, its axes those of `turn` and then its own."""
    points, faces = _UNIT_FORMS[item.form]
    turn = turn @ to_matrix(np.array(item.turn)[None])[0]
    corners = (points * np.array(item.size))[faces].reshape(-1, 3, 3)
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    if item.form == "box":
        normals = np.repeat(_unit(flat), 3, axis=0)
        vertices = corners.reshape(-1, 3)
        faces = np.arange(len(vertices), dtype=np.int32).reshape(-1, 3)
    else:
        vertices = points * np.array(item.size)
        sums = np.zeros_like(vertices)
        for corner in range(3):
            np.add.at(sums, faces[:, corner], flat)
        normals = _unit(sums)
    rows = np.zeros((len(vertices), WIDTH), np.float32)
    rows[:, _POSITION] = vertices @ turn.T + place
    rows[:, _NORMAL] = normals @ turn.T
    rows[:, _REST] = vertices
    rows[:, _COLOUR] = (*item.colour, item.gloss)
    rows[:, _KIND] = OBJECT, PLAIN
    return rows, faces


def _revolved(outline: Array) -> tuple[Array, Array]:
    """A body of revolution about z: points and faces of an outline [K, 2] of radius and z, from low to high."""
    angle = np.linspace(0, 2 * np.pi, _RING, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.concatenate([np.c_[radius * circle, np.full(_RING, z)] for radius, z in outline])
    return points, _tube_faces(len(outline))


def _unit_box() -> tuple[Array, Array]:
    points = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return points, np.array([tri for a, b, c, d in quads for tri in ((a, b, c), (a, c, d))], np.int32)


_LATITUDES = np.linspace(-np.pi / 2, np.pi / 2, 12)
_UNIT_FORMS = {
    "sphere": _revolved(np.stack([np.cos(_LATITUDES), np.sin(_LATITUDES)], axis=1)),
    "cylinder": _revolved(np.array([[0.0, -1.0], [0.96, -1.0], [1.0, -0.98], [1.0, 0.98], [0.96, 1.0], [0.0, 1.0]])),
    "box": _unit_box(),
}


def _turn_between(start: Array, end: Array) -> Array:
    """The smallest rotation [3, 3] from one direction to another."""
    a, b = start / np.linalg.norm(start), end / np.linalg.norm(end)
    axis, cosine = np.cross(a, b), float(a @ b)
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + skew + skew @ skew / max(1.0 + cosine, 1e-6)


def _cross(a: Array, b: Array) -> Array:
    """Cross products of [N, 3]; several times as fast as numpy's for many rows."""
    ax, ay, az = a.T
    bx, by, bz = b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)


def _unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
