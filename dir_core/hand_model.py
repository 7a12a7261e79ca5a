"""The hand as MANO describes it: a mesh, ten shape components and 16 joint rotations. numpy only.

Reads the open hand of this project and the user's own MANO files (Romero et al. 2017, "Embodied Hands").
A MANO file is a pickle; array_pickle.py reads it without running what is in it.

Model axes: right hand flat, fingers towards -x, thumb side towards +z, palm towards -y; the left hand is
its mirror (x -> -x). Metres. Rotations are relative to the flat template: a file's mean pose is never
added unless a function says so. A positive turn about `flexion_axes` curls a finger; for the four fingers
that is close to +z of a right and -z of a left hand, as in MANO.
"""

import functools
import hashlib
import io
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.array_pickle import RefusedPickleError, load_arrays, to_array
from dir_core.conventions import JOINT_PARENTS, JOINTS, KEYPOINT_SOURCES, SHAPE_COUNT, SIDES, TIP_VERTICES, Side
from dir_core.errors import HandModelError
from dir_core.rotations import from_rotation_vector, to_matrix, to_rotation_vector

Array = NDArray[Any]

OPEN_HAND_FOLDER = Path(__file__).resolve().parents[1] / "blender_assets" / "hand_model"

MANO_LICENCE = "MANO (MPI): research use only under its own licence; no commercial use without a licence from MPI."

_FILE_NAMES: dict[Side, tuple[str, ...]] = {
    side: tuple(f"{name}_{side.upper()}.{suffix}" for name in ("MANO", "HAND") for suffix in ("pkl", "npz"))
    for side in SIDES
}
_POSE_COUNT = 3 * (len(JOINTS) - 1)
_PARENTS = np.array(JOINT_PARENTS)
# The chains of five fingers run side by side: first, second and third joints of all of them.
_LEVELS = (np.array([1, 4, 7, 10, 13]), np.array([2, 5, 8, 11, 14]), np.array([3, 6, 9, 12, 15]))
# Joint behind each bone end: the next joint of the finger, or the tip (16 + finger in FINGERS order).
_BONE_ENDS = np.array([2, 3, 17, 5, 6, 18, 8, 9, 20, 11, 12, 19, 14, 15, 16])
# Posed vertices are made for this many frames at once, which bounds the temporary arrays.
_FRAMES_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class PosedHand:
    """A hand in N poses, all in the axes of the root rotation (camera axes in a Take), metres.

    Attributes:
        vertices: [N, V, 3].
        joints: [N, 16, 3] in MANO joint order; row 0 is the translation.
        keypoints: [N, 21, 3] in key-point order.
    """

    vertices: Array
    joints: Array
    keypoints: Array


@dataclass(frozen=True, eq=False)
class HandModel:
    """One hand of a MANO-format model; all arrays are float64 or int64.

    Attributes:
        name: what the user reads, e.g. "Open hand" or "MANO".
        licence: one line, what the licence means for the user.
        side: the anatomical side.
        template: [V, 3] flat hand, metres.
        shape_directions: [V, 3, 10] metres per unit of a shape component.
        pose_directions: [V, 3, 135] metres per element of (R - 1) of the 15 finger joints, row by row;
            zeros where a model has none.
        joint_regressor: [16, V], rows sum to one.
        weights: [V, 16] skinning weights, rows sum to one.
        faces: [F, 3] counter-clockwise from outside.
        components: [45, 45] rows are principal components of axis-angle poses.
        mean_pose: [45] axis-angle of the 15 finger joints, radians.
        tip_vertices: vertex of each finger tip in FINGERS order.
        uv, uv_faces: [U, 2] texture positions and [F, 3] indices into them, None where a file has none.
        digest: SHA-256 over the arrays, the identity of the model in a Take.
    """

    name: str
    licence: str
    side: Side
    template: Array
    shape_directions: Array
    pose_directions: Array
    joint_regressor: Array
    weights: Array
    faces: Array
    components: Array
    mean_pose: Array
    tip_vertices: tuple[int, ...]
    uv: Array | None
    uv_faces: Array | None
    digest: str

    @property
    def shape_count(self) -> int:
        """How many shape components there are."""
        return self.shape_directions.shape[2]

    def shaped(self, shape: Array | None = None) -> tuple[Array, Array]:
        """Vertices [V, 3] and joints [16, 3] of the flat hand with a shape [10] (None: the mean shape)."""
        vertices = self.template
        if shape is not None:
            vertices = vertices + self.shape_directions @ np.asarray(shape, np.float64)
        return vertices, self.joint_regressor @ vertices

    def rest_joints(self, shape: Array | None = None) -> Array:
        """Joints [16, 3] of the flat hand."""
        template, directions = self._joint_directions
        return template if shape is None else template + directions @ np.asarray(shape, np.float64)

    def rest_keypoints(self, shape: Array | None = None) -> Array:
        """Key points [21, 3] of the flat hand."""
        return np.concatenate([self.rest_joints(shape), self._rest_tips(shape)])[list(KEYPOINT_SOURCES)]

    def length(self, shape: Array | None = None) -> float:
        """Hand length in metres: wrist joint to middle finger tip along the bones."""
        middle = self.rest_keypoints(shape)[[0, 9, 10, 11, 12]]
        return float(np.linalg.norm(np.diff(middle, axis=0), axis=1).sum())

    def bone_directions(self, shape: Array | None = None) -> Array:
        """Unit vectors [15, 3] from each finger joint to the next one or to the tip, flat hand, model axes."""
        return bone_directions(self.rest_joints(shape), self._rest_tips(shape))

    def flexion_axes(self, shape: Array | None = None) -> Array:
        """Unit axes [15, 3] about which a positive turn curls each finger joint, flat hand, model axes.

        They stand on the bones: with bone b and axis u the abduction axis is b x u. It points out of the
        back of both hands, so a positive turn about it goes towards the thumb's side on a right hand and
        away from it on a left hand.
        """
        return flexion_axes(self.rest_joints(shape), self._rest_tips(shape), self.side)

    def pose(
        self,
        rotation: Array,
        translation: Array | None = None,
        shape: Array | None = None,
        scale: float = 1.0,
    ) -> PosedHand:
        """Pose and skin the hand: vertices = scale * (skinned about J0 - J0) + translation.

        Args:
            rotation: [N, 16, 4] unit quaternions (w, x, y, z) in MANO joint order.
            translation: [N, 3] wrist joint, metres; None puts it at the origin.
            shape: [10] shape components.
            scale: size factor on the shaped model.
        """
        matrices = to_matrix(np.asarray(rotation, np.float64))
        count = len(matrices)
        rest, rest_joints = self.shaped(shape)
        turns, joints = _chain(matrices, rest_joints)
        move = np.zeros((count, 3)) if translation is None else np.asarray(translation, np.float64)
        vertices = np.empty((count, len(rest), 3))
        for first in range(0, count, _FRAMES_AT_ONCE):
            part = slice(first, first + _FRAMES_AT_ONCE)
            vertices[part] = self._skin(slice(None), rest, rest_joints, matrices[part], turns[part], joints[part])
        vertices = scale * vertices + move[:, None]
        joints = scale * joints + move[:, None]
        ends = np.concatenate([joints, vertices[:, list(self.tip_vertices)]], axis=1)
        return PosedHand(vertices, joints, ends[:, list(KEYPOINT_SOURCES)])

    def pose_keypoints(
        self,
        rotation: Array,
        translation: Array | None = None,
        shape: Array | None = None,
        scale: float = 1.0,
    ) -> Array:
        """Key points [N, 21, 3] of `pose` with the same arguments, without the cost of the mesh."""
        matrices = to_matrix(np.asarray(rotation, np.float64))
        rest_joints = self.rest_joints(shape)
        turns, joints = _chain(matrices, rest_joints)
        rows = np.array(self.tip_vertices)
        tips = self._skin(rows, self._rest_tips(shape), rest_joints, matrices, turns, joints)
        keypoints = scale * np.concatenate([joints, tips], axis=1)[:, list(KEYPOINT_SOURCES)]
        return keypoints if translation is None else keypoints + np.asarray(translation, np.float64)[:, None]

    def pose_from_components(self, coefficients: Array) -> Array:
        """Rotations [N, 15, 4] of the finger joints for coefficients [N, K <= 45] of the components, mean added."""
        coefficients = np.asarray(coefficients, np.float64)
        return self.pose_from_axis_angle(coefficients @ self.components[: coefficients.shape[1]])

    def components_from_pose(self, rotation: Array) -> Array:
        """Coefficients [N, 45] of the components for rotations [N, 15, 4] of the finger joints."""
        return np.linalg.solve(self.components.T, self.axis_angle_from_pose(rotation).T).T

    def pose_from_axis_angle(self, pose: Array, add_mean: bool = True) -> Array:
        """Rotations [N, 15, 4] for MANO's `hand_pose` [N, 45]; `add_mean` is MANO's flat_hand_mean=False."""
        pose = np.asarray(pose, np.float64) + (self.mean_pose if add_mean else 0.0)
        return from_rotation_vector(pose.reshape(-1, _POSE_COUNT // 3, 3))

    def axis_angle_from_pose(self, rotation: Array, subtract_mean: bool = True) -> Array:
        """MANO's `hand_pose` [N, 45] for rotations [N, 15, 4]; `subtract_mean` is flat_hand_mean=False."""
        pose = to_rotation_vector(np.asarray(rotation, np.float64)).reshape(-1, _POSE_COUNT)
        return pose - self.mean_pose if subtract_mean else pose

    @functools.cached_property
    def _joint_directions(self) -> tuple[Array, Array]:
        """Joints [16, 3] of the mean shape and their directions [16, 3, 10]."""
        directions = np.tensordot(self.joint_regressor, self.shape_directions, axes=1)
        return self.joint_regressor @ self.template, directions

    @functools.cached_property
    def _has_pose_directions(self) -> bool:
        return bool(self.pose_directions.any())

    def _rest_tips(self, shape: Array | None) -> Array:
        tips = list(self.tip_vertices)
        rest = self.template[tips]
        return rest if shape is None else rest + self.shape_directions[tips] @ np.asarray(shape, np.float64)

    def _skin(  # noqa: PLR0917 - one call per mesh part, all of it is needed
        self,
        rows: Any,
        rest: Array,
        rest_joints: Array,
        matrices: Array,
        turns: Array,
        joints: Array,
    ) -> Array:
        """Linear blend skinning of the vertices `rows` with rest positions [R, 3]: [N, R, 3] about the wrist."""
        weights = self.weights[rows]
        # sum_j w_j (G_j (v - J_j) + P_j) is one matrix product: rows of (w_j v, w_j) against (G_j^T, P_j - G_j J_j).
        homogeneous = np.concatenate([rest, np.ones((len(rest), 1))], axis=1)
        basis = (weights[:, :, None] * homogeneous[:, None, :]).reshape(len(rest), -1)
        shifts = joints - np.einsum("njab,jb->nja", turns, rest_joints)
        moves = np.concatenate([np.swapaxes(turns, -1, -2), shifts[:, :, None, :]], axis=2)
        skinned = basis @ moves.reshape(len(turns), 4 * len(JOINTS), 3)
        if self._has_pose_directions:
            bends = (matrices[:, 1:] - np.eye(3)).reshape(len(matrices), 3 * _POSE_COUNT)
            offsets = np.tensordot(bends, self.pose_directions[rows], axes=(1, 2))
            blended = np.tensordot(turns, weights, axes=(1, 1))  # [N, 3, 3, R]
            skinned = skinned + np.einsum("nabr,nrb->nra", blended, offsets)
        return skinned


def bone_directions(joints: Array, tips: Array) -> Array:
    """Unit vectors [15, 3] along the finger bones of a flat hand with joints [16, 3] and tips [5, 3]."""
    ends = np.concatenate([joints, tips])[_BONE_ENDS]
    return _unit(ends - joints[1:])


def flexion_axes(joints: Array, tips: Array, side: Side) -> Array:
    """Unit axes [15, 3] about which a positive turn curls the finger joints of a flat hand.

    A finger curls in the plane of its bone and the palm's normal. The thumb curls towards a point in front
    of the little finger's knuckle, 0.65 palm lengths out of the palm: this meets the hinges of the thumb's
    two outer joints in the SOMA rig within a few degrees.
    """
    wrist, index, middle, pinky, ring = joints[[0, 1, 4, 7, 10]]
    # Index and ring knuckle lie level; the little finger's hangs lower and would tilt the palm.
    palm = _unit(np.cross(index - wrist, ring - wrist)) * (1.0 if side == "right" else -1.0)
    goal = pinky + 0.65 * np.linalg.norm(middle - wrist) * palm
    towards = np.tile(palm, (15, 1))
    towards[12:] = goal - joints[15]
    return _unit(np.cross(bone_directions(joints, tips), towards))


def _chain(matrices: Array, rest_joints: Array) -> tuple[Array, Array]:
    """Forward kinematics: turns [N, 16, 3, 3] and joints [N, 16, 3] in root axes, the wrist at the origin."""
    turns = np.empty_like(matrices)
    joints = np.zeros(matrices.shape[:3])
    turns[:, 0] = matrices[:, 0]
    for level in _LEVELS:
        parents = _PARENTS[level]
        bones = rest_joints[level] - rest_joints[parents]
        joints[:, level] = joints[:, parents] + np.einsum("njab,jb->nja", turns[:, parents], bones)
        turns[:, level] = turns[:, parents] @ matrices[:, level]
    return turns, joints


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@functools.cache
def open_hand_models() -> dict[Side, HandModel]:
    """Both hands of the open model that ships with the project.

    Raises:
        HandModelError: the installation is incomplete.
    """
    return {side: load_hand_model(OPEN_HAND_FOLDER / f"HAND_{side.upper()}.npz", side) for side in SIDES}


def load_hand_models(folder: str | os.PathLike[str] | None = None) -> dict[Side, HandModel]:
    """Both hands of a folder with MANO_LEFT/RIGHT .pkl or .npz; None gives the open hand.

    Raises:
        HandModelError: a file is missing, damaged or not trusted.
    """
    if folder is None:
        return open_hand_models()
    folder = Path(folder)
    models: dict[Side, HandModel] = {}
    for side in SIDES:
        path = next((folder / name for name in _FILE_NAMES[side] if (folder / name).is_file()), None)
        if path is None:
            raise HandModelError(
                f"There is no {side} hand model in {folder}, put {_FILE_NAMES[side][0]} there or use the open hand."
            )
        models[side] = load_hand_model(path, side)
    return models


def describe_models(models: Mapping[Side, HandModel]) -> dict[str, Any]:
    """What a take's meta says of the hand models that it belongs to."""
    return {
        "name": models["right"].name,
        "licence": models["right"].licence,
        "digest": {side: models[side].digest for side in SIDES},
    }


def load_hand_model(path: str | os.PathLike[str], side: Side | None = None) -> HandModel:
    """Read one hand from an .npz with MANO's fields or from an official MANO_RIGHT.pkl / MANO_LEFT.pkl.

    MANO's left file has the x of its shape components mirrored the wrong way; it is put right here, and a
    file that is already right is left alone.

    Args:
        path: the file.
        side: the side that is wanted; None takes what the file holds.

    Raises:
        HandModelError: the file is missing, damaged, of the other side, or holds more than arrays.
    """
    path = Path(path)
    fields = _read_fields(path)
    arrays = _check_fields(fields, path)
    template, regressor = arrays["v_template"], arrays["J_regressor"]
    joints = regressor @ template
    found: Side = "right" if joints[1, 0] < joints[0, 0] else "left"
    if side is not None and side != found:
        raise HandModelError(f"{path} holds a {found} hand, choose the file of the {side} hand.")

    shape_directions = arrays["shapedirs"].copy()
    name, licence = "MANO", MANO_LICENCE
    if "licence" in fields and "name" in fields:  # written by this project's own build: the left hand is a true mirror
        name, licence = str(fields["name"]), str(fields["licence"])
    elif found == "left" and _has_wrong_sign(path, template, shape_directions):
        shape_directions[:, 0] *= -1
    digest = hashlib.sha256()
    for field in sorted(arrays):
        digest.update(np.ascontiguousarray(shape_directions if field == "shapedirs" else arrays[field]).tobytes())
    return HandModel(
        name=name,
        licence=licence,
        side=found,
        template=template,
        shape_directions=shape_directions,
        pose_directions=arrays["posedirs"],
        joint_regressor=regressor,
        weights=arrays["weights"],
        faces=arrays["f"],
        components=arrays["hands_components"],
        mean_pose=arrays["hands_mean"],
        tip_vertices=TIP_VERTICES[found],
        uv=arrays.get("vt"),
        uv_faces=arrays.get("ft"),
        digest=digest.hexdigest(),
    )


def _read_fields(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise HandModelError(f"There is no hand model at {path}, check the path.") from None
    except OSError as error:
        raise HandModelError(f"Cannot read the hand model {path}: {error.strerror}; choose another file.") from error
    if data[:2] == b"PK":
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
            reason = "it holds pickled objects" if "pickle" in str(error) else "it is damaged"
            raise HandModelError(f"{path} is not a hand model: {reason}; get the file again.") from error
    return _unpickle(data, path)


def _check_fields(fields: dict[str, Any], path: Path) -> dict[str, Array]:
    """The arrays of a file as float64 and int64 in the shapes of a HandModel."""

    def fail(what: str) -> HandModelError:
        return HandModelError(f"{path} is not a hand model: {what}; choose a MANO file or the open hand.")

    def read(name: str, kind: type, *shape: int | None) -> Array:
        if name not in fields:
            raise fail(f"{name} is missing")
        try:
            array: Array = to_array(fields[name]).astype(kind)
        except RefusedPickleError as error:
            raise fail(f"{name} is refused, {error}") from None
        except (TypeError, ValueError, IndexError, KeyError, AttributeError, RecursionError):
            raise fail(f"{name} is not an array of numbers") from None
        if array.ndim != len(shape) or any(a not in (None, b) for a, b in zip(shape, array.shape, strict=True)):
            wanted = [size or "any" for size in shape]
            raise fail(f"{name} has shape {list(array.shape)} instead of {wanted}")
        if not np.isfinite(array).all():
            raise fail(f"{name} has values that are not finite")
        return array

    joints = len(JOINTS)
    template = read("v_template", np.float64, None, 3)
    count = len(template)
    arrays = {
        "v_template": template,
        "shapedirs": read("shapedirs", np.float64, count, 3, None)[:, :, :SHAPE_COUNT],
        "posedirs": read("posedirs", np.float64, count, 3, 9 * (joints - 1)),
        "J_regressor": read("J_regressor", np.float64, joints, count),
        "weights": read("weights", np.float64, count, joints),
        "hands_components": read("hands_components", np.float64, _POSE_COUNT, _POSE_COUNT),
        "hands_mean": read("hands_mean", np.float64, _POSE_COUNT),
        "f": read("f", np.int64, None, 3),
    }
    if arrays["shapedirs"].shape[2] != SHAPE_COUNT:
        raise fail(f"shapedirs has {arrays['shapedirs'].shape[2]} components instead of {SHAPE_COUNT}")
    if count <= max(max(tips) for tips in TIP_VERTICES.values()):
        raise fail(f"it has only {count} vertices")
    if arrays["f"].min(initial=0) < 0 or arrays["f"].max(initial=0) >= count:
        raise fail("a face points to no vertex")
    if "vt" in fields and "ft" in fields:
        arrays["vt"] = read("vt", np.float64, None, 2)
        arrays["ft"] = read("ft", np.int64, len(arrays["f"]), 3)
        if arrays["ft"].min(initial=0) < 0 or arrays["ft"].max(initial=0) >= len(arrays["vt"]):
            raise fail("a face points to no texture position")
    return arrays


def _has_wrong_sign(path: Path, template: Array, shape_directions: Array) -> bool:
    """Whether the x of a left hand's shape components still has the sign of the right hand's.

    With the right hand's file beside it the two are compared (the test of the InterNet and DIR codes).
    Alone, the first component tells: it is the size of the hand, so it must stretch x and z the same way.
    """
    other = path.with_name(path.name.replace("LEFT", "RIGHT"))
    if other != path and other.is_file():
        right = _check_fields(_read_fields(other), other)["shapedirs"]
        if right.shape == shape_directions.shape:
            return bool(np.abs(right[:, 0] - shape_directions[:, 0]).sum() < 1.0)
    centred = template - template.mean(axis=0)
    stretch = (centred * shape_directions[:, :, 0]).sum(axis=0)
    return bool(stretch[0] * stretch[2] < 0)


def _unpickle(data: bytes, path: Path) -> dict[str, Any]:
    try:
        fields = load_arrays(data)
    except RefusedPickleError as error:
        raise HandModelError(f"{path} is not trusted: {error}; get the file from its official site.") from error
    # A damaged pickle can fail anywhere; whatever the way, it is a damaged file and nothing has run.
    except Exception as error:
        raise HandModelError(f"{path} is not a hand model: it is damaged; get the file again.") from error
    if not isinstance(fields, dict):
        raise HandModelError(f"{path} is not a hand model: it holds no fields; choose a MANO file.")
    return fields
