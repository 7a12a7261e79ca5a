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

from dir_core.conventions import JOINT_PARENTS, JOINTS, KEYPOINT_SOURCES, MIRRORED, SIDES, Side
from dir_core.degrees_of_freedom import FINGER_JOINTS
from dir_core.hand_model import HandModel
from dir_core.rotations import to_matrix
from dir_core.training.looks import Band, Body, Colour, Form, Item, Look, Sleeve
from dir_core.training.two_hands import BACKGROUND, LEFT_ARM, LEFT_HAND, OBJECT, RIGHT_ARM, RIGHT_HAND, TwoHands, View

Array = NDArray[Any]

HAND, SKIN, CLOTH, PLAIN = range(4)
"""Materials: the skin of a hand has creases, nails and rings, that of an arm has none."""

COLUMNS: Final = {"position": 3, "normal": 3, "rest": 3, "finger": 4, "colour": 4, "kind": 2}
"""Floats of a vertex: position and normal in camera axes; `rest` from the wrist in a right hand's model axes, metres;
`finger` (sideways in half finger widths, along in finger bones from the knuckle, how much it looks out of the
back -1..1, number of the finger); `colour` of what is not skin, then its gloss; `kind` (part, material)."""

WIDTH: Final = sum(COLUMNS.values())

_HAND_PARTS: dict[Side, tuple[int, int]] = {"left": (LEFT_HAND, LEFT_ARM), "right": (RIGHT_HAND, RIGHT_ARM)}
SMALL_PICTURE: Final = 320  # pixels; up to here nobody sees that surfaces and background are coarse
_COARSE = 1300  # vertices of a hand in a small picture
_LENGTH_COST = 0.05
_KEPT = 8  # hands, for further pictures of them
_FOREARM = len(JOINTS)  # number of the 17th joint: the wrist, turned with the forearm
# The skin of a bent wrist is shared by hand and forearm over this stretch behind the wrist joint, metres.
_WRIST_BLEND = (-0.008, 0.026)
# Shoulders of an adult in the axes of a camera at the eyes that looks down at the hands, metres.
_OWN_SHOULDERS: dict[Side, Array] = {"left": np.array([-0.18, 0.16, -0.12]), "right": np.array([0.18, 0.16, -0.12])}
_UPPER_ARM = 0.28
_HALF_SHOULDERS = 0.17
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
        faces: [F, 3] int32, those of each material after those of the one before it.
        counts: [4] faces of each material.
        casting: so many faces, from the first, cast shadows.
        spheres: [M, 4] float32 centres and radii that fill the hands and arms, for soft occlusion.
    """

    vertices: Array
    faces: Array
    counts: Array
    casting: int
    spheres: Array


@dataclass(frozen=True, eq=False)
class _Hand:
    """What of a hand model does not change with its pose."""

    rows: Array  # [V, WIDTH], the columns that never change filled
    weights: Array  # [V, 17]
    gather: csr_matrix  # [V, F] sums face normals at vertices
    faces: Array  # [F, 3] int32
    back: Array  # [3] unit, from the hand into the forearm
    rest: Array  # [V, 3] of the mean shape

    @functools.cached_property
    def coarse(self) -> tuple[Array, Array]:
        """Rows of the vertices that small pictures show, and the faces [F', 3] int32 between those."""
        kept, faces = _thin_out(self.rest, self.weights, self.faces, _COARSE)
        return kept, faces


def build_scene(hands: TwoHands, frame: int, models: Mapping[Side, HandModel], look: Look) -> Scene:
    """Every surface of a frame; the same look and hands give the same faces in every frame."""
    vertices: list[Array] = []
    faces: list[list[Array]] = [[], [], [], []]  # of each material
    spheres: list[Array] = []
    count = 0

    def add(rows: Array, corners: Array) -> None:
        nonlocal count
        if not len(rows):
            return
        vertices.append(rows)
        faces[int(rows[0, _KIND][1])].append(corners + count)
        count += len(rows)

    # The nearer hand first, and that in every frame: what it hides is not shaded.
    order = np.argsort(hands.translation[:, :, 2].mean(axis=0), kind="stable")
    limbs = [_Limb(hands, frame, number, models[SIDES[number]]) for number in order if hands.present[number]]
    for limb in limbs:
        side = limb.side
        add(*limb.hand(coarse=max(hands.image_size) <= SMALL_PICTURE))
        add(*limb.arm())
        add(*limb.upper_arm(look.sleeve))
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
    casting = sum(len(corners) for each in faces for corners in each)  # what stands behind the hands shades none
    if hands.view == "webcam" and look.body is not None and limbs:
        add(*_person(hands, look.body, look.skin.tone, limbs, np.concatenate(spheres)))
    if not vertices:
        rows, corners, filled = np.zeros((0, WIDTH)), np.zeros((0, 3), np.int32), np.zeros((0, 4))
        return Scene(rows, corners, np.zeros(4, np.intp), 0, filled)
    return Scene(
        np.concatenate(vertices),
        np.concatenate([corners for each in faces for corners in each]),
        np.array([sum(map(len, each)) for each in faces]),
        casting,
        np.concatenate(spheres or [np.zeros((0, 4))]),
    )


@dataclass(frozen=True, eq=False)
class _PosedHand:
    """A hand and the first of its forearm about the wrist, whose own rotation is left out.

    Attributes:
        turns: [17, 3, 3] rotations of the joints and of the forearm.
        joints: [17, 3] metres of the unscaled model, from the wrist.
        positions, normals: [V, 3] float32 of the skin.
    """

    turns: Array
    joints: Array
    positions: Array
    normals: Array


class _Limb:
    """One hand and forearm in one frame."""

    def __init__(self, hands: TwoHands, frame: int, number: int, model: HandModel) -> None:
        self.side = SIDES[number]
        self.model = model
        self.flat = _flat_hand(model, np.asarray(hands.shape, np.float64).tobytes())
        self.fixed = self.flat.fixed
        self.scale = float(hands.scale)
        self.wrist = np.asarray(hands.translation[frame, number], np.float64)
        rotation = np.asarray(hands.rotation[frame, number], np.float64)
        turn = to_matrix(rotation[0])
        to_elbow = np.asarray(hands.elbow[frame, number], np.float64) - self.wrist
        length = np.linalg.norm(to_elbow)
        self.arm_length = round(float(length) / self.scale, 6)
        # Rounded, what is the same about the wrist is the same to the last bit, whatever camera sees it.
        forearm = tuple(np.round(to_elbow @ turn / length, 6))
        self.posed = _pose_hand(self.flat, np.round(rotation[1:], 9).tobytes(), forearm)
        self.turns = turn @ self.posed.turns
        self.joints = self.posed.joints @ turn.T
        to_shoulder = _shoulder_direction(hands.view, self.side, hands.elbow[frame, number])
        self.upper_turn = _turn_between(to_elbow, to_shoulder) @ self.turns[_FOREARM]

    def hand(self, *, coarse: bool) -> tuple[Array, Array]:
        """Rows and faces of the skinned hand."""
        kept, faces = self.fixed.coarse if coarse else (slice(None), self.fixed.faces)
        turn = self.turns[0].T.astype(np.float32)
        rows = self.fixed.rows[kept].copy()
        rows[:, _POSITION] = self.posed.positions[kept] @ (np.float32(self.scale) * turn) + self.wrist.astype(
            np.float32
        )
        rows[:, _NORMAL] = self.posed.normals[kept] @ turn
        return rows, faces

    def arm(self) -> tuple[Array, Array]:
        """The bare forearm from inside the hand's rim to the elbow."""
        return self._placed(*self.flat.arm(self.arm_length), SKIN, (0.0, 0.0, 0.0, 0.0))

    def shoulder(self) -> Array:
        """The end of the upper arm, camera axes."""
        elbow = self.wrist + self.scale * self.arm_length * (self.turns[_FOREARM] @ self.fixed.back)
        return elbow + self.scale * _UPPER_ARM * (self.upper_turn @ self.fixed.back)

    def upper_arm(self, sleeve: Sleeve | None) -> tuple[Array, Array]:
        """From the elbow towards the shoulder, clothed where there is a sleeve."""
        places = np.array([-0.036, -0.03, -0.018, 0.0, 0.05, 0.15, _UPPER_ARM])
        shares = np.array([0.05, 0.5, 0.85, 1.0, 1.0, 1.1, 1.25])
        radius = _ELBOW_RADIUS + (sleeve.looseness if sleeve else 0.0)
        radii = np.repeat(radius * shares[:, None], _RING, axis=1)
        material, colour = (CLOTH, (*sleeve.colour, 0.0)) if sleeve else (SKIN, (0.0, 0.0, 0.0, 0.0))
        rows, faces = self._tube(places, radii, material, colour)
        # As if it went on from the wrist; it goes on from the elbow, another way.
        forearm = self.turns[_FOREARM]
        elbow = self.wrist + self.scale * self.arm_length * (forearm @ self.fixed.back)
        bend = (self.upper_turn @ forearm.T).astype(np.float32)
        rows[:, _POSITION] = (rows[:, _POSITION] - self.wrist) @ bend.T + elbow
        rows[:, _NORMAL] = rows[:, _NORMAL] @ bend.T
        return rows, faces

    def sleeve(self, sleeve: Sleeve, seed: int) -> tuple[Array, Array]:
        """A sleeve from behind the wrist over the elbow, with folds and a rim."""
        start = max(self.flat.rim[0] - 0.01, sleeve.start)
        places = np.concatenate([[start, start], np.linspace(start + 0.004, self.arm_length + 0.03, 22)])
        radii = self.flat.arm_radii(places, self.arm_length) + sleeve.looseness
        angle = np.linspace(0, 2 * np.pi, _RING, endpoint=False)
        phase = (seed % 997) + (0.0 if self.side == "left" else 2.0)
        s = (places - start)[:, None]
        waves = np.sin(150 * s + 1.5 * np.sin(angle + phase) + phase) + np.sin(83 * s + 2.0 * np.sin(angle * 2 - phase))
        radii = radii + 0.0022 * sleeve.folds * waves * np.clip(s / 0.03, 0, 1)
        radii[0] = self.flat.arm_radii(places[:1], self.arm_length)[0] * 0.98
        return self._tube(places, radii, CLOTH, (*sleeve.colour, 0.0))

    def band(self, band: Band) -> tuple[Array, Array]:
        """A strap around the forearm, with a watch case on the back of it where there is one."""
        start = max(band.start, self.flat.rim[0] + 0.002)
        places = start + band.width * np.array([0.0, 0.0, 0.15, 0.5, 0.85, 1.0, 1.0])
        inner = self.flat.arm_radii(places, self.arm_length)
        rise = np.array([0.0, 0.002, 0.0032, 0.0035, 0.0032, 0.002, 0.0])[:, None]
        rows, faces = self._tube(places, inner + rise, PLAIN, (*band.strap, 0.4))
        if band.case is not None:
            behind = np.repeat((self.flat.ring @ self.flat.back_of_hand)[None], len(places), axis=0).ravel() > 0.85
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
        rest = self.flat.joints
        offset = np.array(item.offset) * MIRRORED[self.side]
        before = 0.012 + min(item.size)
        place = 0.75 * (rest[4] - rest[0]) - before * self.flat.back_of_hand + offset
        return self.wrist + self.scale * self.turns[0] @ place

    def mirrored_turn(self) -> Array:
        """The wrist's rotation with the model's x mirrored: objects are placed in a right hand's axes."""
        return self.turns[0] @ np.diag([-1.0, 1.0, -1.0])

    def _tips(self) -> Array:
        """Finger tips [5, 3] about the wrist."""
        ends = np.array(FINGER_JOINTS)[:, 2]
        tips = self.flat.rest[list(self.model.tip_vertices)] - self.flat.joints[ends]
        return self.joints[ends] + np.einsum("fab,fb->fa", self.turns[ends], tips)

    def _tube(self, places: Array, radii: Array, material: int, colour: Any) -> tuple[Array, Array]:
        """Rows and faces of a tube around the forearm: rings at [K] behind the wrist with radii [K, _RING]."""
        return self._placed(*self.flat.tube(places, radii), material, colour)

    def _placed(self, flat: Array, normals: Array, material: int, colour: Any) -> tuple[Array, Array]:
        """Rows and faces of rings about the flat hand's forearm, points and normals [K * _RING, 3]."""
        turn = self.turns[_FOREARM].T.astype(np.float32)
        rows = np.zeros((len(flat), WIDTH), np.float32)
        rows[:, _POSITION] = flat @ (np.float32(self.scale) * turn) + self.wrist.astype(np.float32)
        rows[:, _NORMAL] = normals @ turn
        rows[:, _REST] = flat
        if self.side == "left":
            rows[:, _REST.start] *= -1
        rows[:, _FINGER] = (0.0, -2.0, 0.0, -1.0)
        rows[:, _FINGER.start + 2] = normals @ self.flat.back_of_hand.astype(np.float32)
        rows[:, _COLOUR] = colour
        rows[:, _KIND] = _HAND_PARTS[self.side][1], material
        return rows, _tube_faces(len(flat) // _RING)


class _FlatHand:
    """One hand of a shape before it is posed, and its arm straight behind it; unscaled model axes."""

    def __init__(self, model: HandModel, shape: Array) -> None:
        self.side = model.side
        self.fixed = _prepare(model)
        self.rest, self.joints = model.shaped(shape)

    @functools.cached_property
    def back_of_hand(self) -> Array:
        """Unit vector out of the back of the flat hand, at right angles to the forearm."""
        index, ring = self.joints[1] - self.joints[0], self.joints[10] - self.joints[0]
        out = np.cross(ring, index) if self.side == "right" else np.cross(index, ring)
        out = out - (out @ self.fixed.back) * self.fixed.back
        return out / np.linalg.norm(out)

    @functools.cached_property
    def ring(self) -> Array:
        """Unit directions [_RING, 3] around the forearm, counter-clockwise seen from the elbow."""
        angle = np.linspace(0, 2 * np.pi, _RING, endpoint=False)[:, None]
        side = np.cross(self.fixed.back, self.back_of_hand)
        return np.cos(angle) * self.back_of_hand + np.sin(angle) * side

    @functools.cached_property
    def rim(self) -> tuple[float, Array, Array]:
        """Where the hand's mesh ends behind the wrist (less its rounding), its radii [_RING] and middle [3] there."""
        behind = (self.rest - self.joints[0]) @ self.fixed.back
        start = behind.max() - _RIM_ROUNDING
        slab = self.rest[np.abs(behind - start) < 0.004] - self.joints[0]
        slab = slab - (slab @ self.fixed.back)[:, None] * self.fixed.back
        middle = 0.5 * (slab.max(axis=0) + slab.min(axis=0))
        # The support of the outline in every direction, turned into a radius by taking the points of that direction.
        offsets = slab - middle
        lengths = np.linalg.norm(offsets, axis=1)[:, None]
        aligned = offsets @ self.ring.T > np.cos(np.pi / 9) * lengths
        radii = np.where(aligned, lengths, 0.0).max(axis=0)
        radii = np.where(radii > 0, radii, radii[radii > 0].mean())
        return float(start), (radii + np.roll(radii, 1) + np.roll(radii, -1)) / 3, middle

    def arm_radii(self, places: Array, arm_length: float) -> Array:
        """Radii [K, _RING] of the bare arm at distances behind the wrist [K]."""
        start, profile, _ = self.rim
        share = np.clip((places - start) / max(0.7 * arm_length - start, 0.05), 0, 1)[:, None]
        thick = share * share * (3 - 2 * share)
        return profile * (1 - thick) + _ELBOW_RADIUS * thick

    @functools.lru_cache(_KEPT)  # noqa: B019 - no more hands than are kept themselves
    def arm(self, arm_length: float) -> tuple[Array, Array]:
        """Points and normals [K * _RING, 3] of the bare forearm from inside the hand's rim to the elbow."""
        start = self.rim[0]
        places = np.append(start, np.linspace(start + 0.003, max(arm_length, start + 0.02), _ARM_RINGS))
        radii = self.arm_radii(places, arm_length)
        # Begins under the hand's own skin and then covers the round end of its mesh.
        radii[0] *= 0.985
        radii[1:] += 0.0002
        # A round end at the elbow.
        places = np.append(places, arm_length + np.array([0.018, 0.03]))
        return self.tube(places, np.concatenate([radii, radii[-1:] * 0.85, radii[-1:] * 0.4]))

    def tube(self, places: Array, radii: Array) -> tuple[Array, Array]:
        """Points and normals [K * _RING, 3] float32 of rings at [K] behind the wrist with radii [K, _RING]."""
        flat = places[:, None, None] * self.fixed.back + radii[:, :, None] * self.ring + self.rim[2]  # [K, _RING, 3]
        ring, place = np.arange(len(places)), np.arange(_RING)
        around = flat[:, (place + 1) % _RING] - flat[:, place - 1]
        along = flat[np.minimum(ring + 1, len(ring) - 1)] - flat[np.maximum(ring - 1, 0)]
        normals = _unit(_cross(around.reshape(-1, 3), along.reshape(-1, 3)))
        return flat.reshape(-1, 3).astype(np.float32), normals.astype(np.float32)


@functools.lru_cache(_KEPT)
def _flat_hand(model: HandModel, shape: bytes) -> _FlatHand:
    """The flat hand of a shape [10] float64."""
    return _FlatHand(model, np.frombuffer(shape))


@functools.lru_cache(_KEPT)
def _pose_hand(flat: _FlatHand, rotation: bytes, forearm: tuple[float, ...]) -> _PosedHand:
    """Pose a hand: rotations [15, 4] float64 of the finger joints, unit direction of the elbow; about the wrist."""
    matrices = to_matrix(np.frombuffer(rotation).reshape(-1, 4))
    turns = np.empty((_FOREARM + 1, 3, 3))
    joints = np.zeros((_FOREARM + 1, 3))
    turns[0] = np.eye(3)
    for joint, parent in enumerate(JOINT_PARENTS):
        if parent >= 0:
            turns[joint] = turns[parent] @ matrices[joint - 1]
            joints[joint] = joints[parent] + turns[parent] @ (flat.joints[joint] - flat.joints[parent])
    turns[_FOREARM] = _turn_between(flat.fixed.back, np.array(forearm))
    anchors = np.concatenate([flat.joints, flat.joints[:1]])  # the forearm turns about the wrist
    shifts = joints - np.einsum("jab,jb->ja", turns, anchors)
    moves = np.concatenate([np.swapaxes(turns, 1, 2), shifts[:, None]], axis=1).astype(np.float32)
    blended = (flat.fixed.weights @ moves.reshape(_FOREARM + 1, 12)).reshape(-1, 4, 3)
    skinned = np.einsum("va,vab->vb", flat.rest.astype(np.float32), blended[:, :3]) + blended[:, 3]
    corners = skinned[flat.fixed.faces]
    normals = flat.fixed.gather @ _cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return _PosedHand(turns, joints, skinned, _unit(normals))


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
    rows[:, _REST] = (rest - joints[0]) * MIRRORED[model.side]
    rows[:, _FINGER] = _finger_places(model, normals)
    rows[:, _KIND] = _HAND_PARTS[model.side][0], HAND
    return _Hand(rows, weights, gather, faces, back, rest)


def _thin_out(points: Array, weights: Array, faces: Array, count: int) -> tuple[Array, Array]:
    """Rows of about `count` points [V, 3] that keep a closed surface's form, and the faces between them.

    Vertices are drawn onto a neighbour, the cheapest first, round by round. What it costs is how far the neighbour lies
    off the vertex's faces, and a little how far away it is and moves with other joints (weights [V, J]): where a
    finger bends, rings of vertices stay.
    """
    left = len(points)
    while left > count:
        corners = points[faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        around: dict[int, list[int]] = {}
        for face, three in enumerate(faces.tolist()):
            for vertex in three:
                around.setdefault(vertex, []).append(face)
        near = {vertex: set(faces[rows].ravel().tolist()) - {vertex} for vertex, rows in around.items()}
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])  # every edge both ways
        way = points[edges[:, 1]] - points[edges[:, 0]]
        costs = np.linalg.norm(way, axis=1) * (1 + 4 * np.abs(np.subtract(*weights[edges.T])).sum(axis=1))
        costs *= _LENGTH_COST
        units = _unit(normals)
        planes = np.zeros((len(points), 3, 3))  # the sum over a vertex's faces of squared distances is a quadratic form
        np.add.at(planes, faces, (units[:, :, None] * units[:, None])[:, None])
        costs += np.sqrt(np.einsum("ei,eij,ej->e", way, planes[edges[:, 0]], way))
        fixed: set[int] = set()
        moved = np.arange(len(points))
        for a, b in edges[np.argsort(costs)[: len(edges) // 8]].tolist():
            if left <= count or fixed & (near[a] | {a, b}) or len(near[a] & near[b]) != 2:
                continue
            kept = [face for face in around[a] if b not in faces[face]]
            turned = points[np.where(faces[kept] == a, b, faces[kept])]
            after = np.cross(turned[:, 1] - turned[:, 0], turned[:, 2] - turned[:, 0])
            if (np.sum(_unit(after) * units[kept], axis=1) < 0.7).any():
                continue
            moved[a] = b
            fixed |= near[a] | {a, b}
            left -= 1
        if (moved == np.arange(len(points))).all():
            break
        faces = moved[faces]
        faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    rows, faces = np.unique(faces, return_inverse=True)
    return rows, faces.reshape(-1, 3).astype(np.int32)


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


def _person(hands: TwoHands, body: Body, skin: Colour, limbs: list[_Limb], filled: Array) -> tuple[Array, Array]:
    """Trunk, neck, head and hair behind hands that the spheres [M, 4] fill, where their shoulders are."""
    inward = {"left": -_HALF_SHOULDERS, "right": _HALF_SHOULDERS}
    chest = np.mean([limb.shoulder() + [inward[limb.side], 0.0, 0.0] for limb in limbs], axis=0)
    chest[2] = max(chest[2], filled[:, 2].max() + 0.16)  # never swallows a hand
    head = chest + [body.lean, -0.24, -0.02]
    lumps = (
        (chest + [0.0, 0.24, 0.0], (0.19, 0.30, 0.11), body.shirt),
        (chest + [0.0, 0.02, 0.02], (0.17, 0.07, 0.08), body.shirt),
        (chest + [0.0, -0.08, 0.02], (0.05, 0.10, 0.05), skin),
        (head, (0.072, 0.105, 0.09), skin),
        (head + [0.0, -0.025, 0.025], (0.08, 0.105, 0.095), body.hair),
        *((head + [x, -0.01, -0.082], (0.014, 0.006, 0.006), body.hair) for x in (-0.03, 0.03)),
        (head + [0.0, 0.02, -0.088], (0.012, 0.02, 0.016), skin),
        (head + [0.0, 0.055, -0.078], (0.024, 0.007, 0.008), (0.6 * skin[0], 0.35 * skin[1], 0.35 * skin[2])),
    )
    if len(hands) == 1:  # frames of a clip have the same faces
        lumps = tuple(lump for lump in lumps if _in_picture(hands, *lump[:2]))
    if not lumps:
        return np.zeros((0, WIDTH), np.float32), np.zeros((0, 3), np.int32)
    centres, sizes, colours = (np.array(values, np.float32)[:, None] for values in zip(*lumps, strict=True))
    points, normals, faces = _UNIT_FORMS["sphere"]
    rows = np.zeros((len(lumps), len(points), WIDTH), np.float32)
    rows[..., _POSITION] = points * sizes + centres
    rows[..., _NORMAL] = _unit((normals / sizes).reshape(-1, 3)).reshape(rows.shape[:2] + (3,))
    rows[..., _REST] = points * sizes
    rows[..., _COLOUR.start : _COLOUR.stop - 1] = colours
    rows[..., _KIND] = BACKGROUND, PLAIN
    return rows.reshape(-1, WIDTH), np.concatenate([faces + number * len(points) for number in range(len(lumps))])


def _in_picture(hands: TwoHands, centre: Array, size: tuple[float, ...]) -> bool:
    """Whether a body of half size [3] around a point may be seen."""
    focal, reach = hands.camera_matrix[0, 0], max(size)
    middle = hands.camera_matrix[:2] @ centre / centre[2]
    margin = 1.5 * focal * reach / max(centre[2] - reach, 0.1)
    return bool(((middle > -margin) & (middle < np.array(hands.image_size) + margin)).all())


def _item(item: Item, place: Array, turn: Array) -> tuple[Array, Array]:
    """Rows and faces of an object at `place`, its axes those of `turn` and then its own."""
    rows, faces = _solid(item.form, np.array(item.size), place, turn @ to_matrix(np.array(item.turn)[None])[0])
    rows[:, _COLOUR] = (*item.colour, item.gloss)
    rows[:, _KIND] = OBJECT, PLAIN
    return rows, faces


def _solid(form: Form, size: Array, place: Array, turn: Array) -> tuple[Array, Array]:
    """Rows and faces of a simple body of half size [3] whose middle is `place` and whose axes are those of `turn`."""
    points, normals, faces = _UNIT_FORMS[form]
    rows = np.zeros((len(points), WIDTH), np.float32)
    rows[:, _POSITION] = (points * size) @ turn.T + place
    rows[:, _NORMAL] = _unit(normals / size) @ turn.T
    rows[:, _REST] = points * size
    return rows, faces


def _revolved(outline: Array, normals: Array) -> tuple[Array, Array, Array]:
    """A body of revolution about z, from low to high: points, normals, faces of [K, 2] radius and z of both."""
    angle = np.linspace(0, 2 * np.pi, _RING, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points, outwards = (
        np.concatenate([np.c_[radius * circle, np.full(_RING, z)] for radius, z in rows]) for rows in (outline, normals)
    )
    return points, outwards, _tube_faces(len(outline))


def _unit_box() -> tuple[Array, Array, Array]:
    """A box of half size 1 with its own corners for every side: points, normals and faces."""
    points: list[Array] = []
    normals: list[Array] = []
    faces: list[tuple[int, int, int]] = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            out = sign * np.eye(3)[axis]
            u = np.roll(np.eye(3)[axis], 1)
            v = np.cross(out, u)
            first = len(points)
            points += [out + a * u + b * v for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            normals += [out] * 4
            faces += [(first, first + 1, first + 2), (first, first + 2, first + 3)]
    return np.array(points), np.array(normals), np.array(faces, np.int32)


_LATITUDES = np.linspace(-np.pi / 2, np.pi / 2, 12)
_MERIDIAN = np.stack([np.cos(_LATITUDES), np.sin(_LATITUDES)], axis=1)
_UNIT_FORMS: dict[Form, tuple[Array, Array, Array]] = {
    "sphere": _revolved(_MERIDIAN, _MERIDIAN),
    "cylinder": _revolved(
        np.array([[0.0, -1], [1.0, -1], [1.0, -1], [1.0, 1], [1.0, 1], [0.0, 1]]),
        np.array([[0.0, -1], [0.0, -1], [1.0, 0], [1.0, 0], [0.0, 1], [0.0, 1]]),
    ),
    "box": _unit_box(),
}


def _shoulder_direction(view: View, side: Side, elbow: Array) -> Array:
    """From an elbow to its shoulder: under the camera in one's own view, else up and away from the camera."""
    if view == "egocentric":
        return _OWN_SHOULDERS[side] - np.asarray(elbow, np.float64)
    return np.array([-0.25 if side == "left" else 0.25, -0.75, 0.6])


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
