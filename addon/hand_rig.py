"""Builds the armature and the skinned mesh of one hand from a hand model, and turns poses into its bones' axes.

No keys, no camera, no files here.

Rest pose: the model's flat template as the hand of a T pose (palm down, thumb to the front), wrist joint at the
armature's origin, clip's shape and scale in metres. Every bone lies along its local Y; local X is the flexion axis,
so that a positive X rotation curls towards the palm on both hands; local Z points out of the palm. Rolls are
mirror images (the same pose has the same X and opposite Y and Z on the other hand), names end in .L and .R:
Blender's own mirror tools work.
"""

from dataclasses import dataclass
from typing import Any, Final

import bpy
import numpy as np
from mathutils import Vector
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.clean_up.key_reduction import product_matrix
from dir_core.conventions import JOINT_PARENTS, JOINTS, KEYPOINT_SOURCES, SIDES, Side
from dir_core.hand_model import HandModel

from .axes import CAMERA_TO_BLENDER, MODEL_TO_REST, camera_to_blender, model_to_rest

Array = NDArray[Any]

SIDE_SUFFIX: Final[dict[Side, str]] = {"left": ".L", "right": ".R"}

_BONE_COLOURS: Final[dict[Side, str]] = {"left": "THEME04", "right": "THEME01"}  # blue and red, as nautical and Rigify
_SKIN_COLOURS: Final[dict[Side, tuple[float, float, float, float]]] = {
    "left": (0.56, 0.33, 0.25, 1.0),
    "right": (0.60, 0.33, 0.23, 1.0),
}
_VIEWPORT_COLOURS: Final[dict[Side, tuple[float, float, float, float]]] = {
    "left": (0.50, 0.56, 0.72, 1.0),
    "right": (0.76, 0.53, 0.47, 1.0),
}
# Mean free path of light in skin per channel (Jensen et al. 2001, table 2, skin 1), metres, red longest.
_SUBSURFACE_RADIUS: Final = (0.00367, 0.00137, 0.00068)

_WRIST_TAIL_JOINT: Final = JOINTS.index("middle1")
_KNUCKLES: Final = tuple(JOINTS.index(f"{finger}1") for finger in ("index", "middle", "ring", "pinky"))


@dataclass(frozen=True, eq=False)
class HandRig:
    """What was built for one hand.

    Attributes:
        side: the anatomical side.
        armature: the armature object, 16 deform bones.
        mesh: the skinned mesh object, child of the armature.
    """

    side: Side
    armature: Any
    mesh: Any


def bone_name(joint: str, side: Side) -> str:
    """Name of the bone of a joint of JOINTS, for example "index1.L"."""
    return joint + SIDE_SUFFIX[side]


def bone_names(side: Side) -> tuple[str, ...]:
    """Names of the 16 bones in the order of JOINTS."""
    return tuple(bone_name(joint, side) for joint in JOINTS)


def build_hand(model: HandModel, shape: Array, scale: float, collection: Any) -> HandRig:
    """Build the armature and the skinned mesh of `model` and link both into `collection`.

    The collection has to be in the current view layer, and Blender in object mode.

    Args:
        model: the hand model, its side decides names and colours.
        shape: [10] shape components.
        scale: size factor on the shaped model.
        collection: where the objects are linked.
    """
    armature = _build_armature(model, shape, scale, collection)
    mesh = _build_mesh(model, shape, scale, collection)
    mesh.parent = armature
    modifier = mesh.modifiers.new("Armature", "ARMATURE")
    modifier.object = armature
    modifier.use_deform_preserve_volume = False  # linear blend skinning is what the model was made for
    return HandRig(model.side, armature, mesh)


@dataclass(frozen=True, eq=False)
class BoneMaps:
    """How a take's poses become values of an armature's bones; all linear and true to lengths and angles.

    Attributes:
        rotations: [16, 4, 4], from a take's quaternion of a joint to its bone's.
        location: [3, 3], from a take's wrist position (camera axes, metres) to the wrist bone's location.
        offset: [3], added to that.
    """

    rotations: Array
    location: Array
    offset: Array


def bone_maps(armature: Any, side: Side) -> BoneMaps:
    """The maps of an armature as build_hand makes it: a rotation R of the template acts on a bone with rest matrix C as
    C^-1 R C on its own axes.
    """
    bones = [armature.data.bones[name] for name in bone_names(side)]
    rest = rotations.from_matrix(np.array([bone.matrix_local.to_3x3() for bone in bones], dtype=np.float64))
    from_rest = rotations.inverse(rest)
    after = rotations.multiply(rotations.inverse(MODEL_TO_REST), rest)
    before = rotations.multiply(from_rest, MODEL_TO_REST)
    before[0] = rotations.multiply(from_rest[0], CAMERA_TO_BLENDER)
    turn = rotations.rotate(from_rest[0], camera_to_blender(np.eye(3))).T
    offset = -rotations.rotate(from_rest[0], np.array(bones[0].head_local, np.float64))
    maps = np.array([product_matrix(*each) for each in zip(before, after, strict=True)])
    return BoneMaps(maps, turn, offset)


def basis_pose(armature: Any, side: Side, rotation: Array, translation: Array) -> tuple[Array, Array]:
    """Turn poses of a Take into the axes of the armature's bones.

    Args:
        armature: an armature object as build_hand makes it.
        side: its side.
        rotation: [N, 16, 4] unit quaternions relative to the flat template; row 0 from model into camera axes.
        translation: [N, 3] wrist joint in camera axes, metres.

    Returns:
        rotation_quaternion [N, 16, 4] of the bones in the order of JOINTS, and location [N, 3] of the wrist bone.
    """
    maps = bone_maps(armature, side)
    basis = np.einsum("jab,njb->nja", maps.rotations, np.asarray(rotation, np.float64))
    location = np.asarray(translation, np.float64) @ maps.location.T + maps.offset
    return basis / np.linalg.norm(basis, axis=-1, keepdims=True), location


def find_side(armature: Any) -> Side | None:
    """The side of a hand armature by the names of its bones, or None if it is none of ours."""
    bones = armature.data.bones
    return next((side for side in SIDES if all(name in bones for name in bone_names(side))), None)


def skins_of(armature: Any) -> list[Any]:
    """The meshes that an armature moves and that hang on it."""
    return [
        child
        for child in armature.children
        if child.type == "MESH" and any(each.type == "ARMATURE" and each.object == armature for each in child.modifiers)
    ]


def _build_armature(model: HandModel, shape: Array, scale: float, collection: Any) -> Any:
    side = model.side
    heads, tails, palm = _rest_bones(model, shape, scale)
    data = bpy.data.armatures.new(f"Hand {side.title()}")
    data.display_type = "STICK"
    armature = bpy.data.objects.new(f"Hand {side.title()}", data)
    armature.show_in_front = True
    collection.objects.link(armature)

    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    try:
        edit_bones = data.edit_bones
        for joint, name in enumerate(bone_names(side)):
            bone = edit_bones.new(name)
            bone.head, bone.tail = heads[joint], tails[joint]
            bone.align_roll(Vector(palm[joint]))
            parent = JOINT_PARENTS[joint]
            if parent >= 0:
                bone.parent = edit_bones[bone_name(JOINTS[parent], side)]
                bone.use_connect = parent > 0
    finally:
        bpy.ops.object.mode_set(mode="OBJECT")

    group = data.collections.new(f"{side.title()} Hand")
    for bone, pose_bone in zip(data.bones, armature.pose.bones, strict=True):
        group.assign(bone)
        bone.color.palette = _BONE_COLOURS[side]
        pose_bone.rotation_mode = "QUATERNION"
        pose_bone.lock_location = [bone.parent is not None] * 3
        pose_bone.lock_scale = [True] * 3
    return armature


def _rest_bones(model: HandModel, shape: Array, scale: float) -> tuple[Array, Array, Array]:
    """Head, tail and palm direction (local Z) of the 16 bones, each [16, 3], in armature space."""
    _, joints = model.shaped(shape)
    keypoints = model.rest_keypoints(shape)
    tails = np.empty_like(joints)
    for keypoint, source in enumerate(KEYPOINT_SOURCES[:-1]):
        if 0 < source < len(JOINTS):
            tails[source] = keypoints[keypoint + 1]  # along a finger the next key point ends the bone
    tails[0] = joints[_WRIST_TAIL_JOINT]

    flexion = np.concatenate([np.zeros((1, 3)), model.flexion_axes(shape)])
    flexion[0] = flexion[list(_KNUCKLES)].mean(axis=0)  # the wrist bends with its knuckles
    palm = np.cross(flexion, tails - joints)
    origin = joints[0]
    return model_to_rest(scale * (joints - origin)), model_to_rest(scale * (tails - origin)), model_to_rest(palm)


def _build_mesh(model: HandModel, shape: Array, scale: float, collection: Any) -> Any:
    side = model.side
    vertices, joints = model.shaped(shape)
    faces = np.asarray(model.faces, np.int32)
    data = bpy.data.meshes.new(f"Hand {side.title()} Skin")
    data.vertices.add(len(vertices))
    data.vertices.foreach_set("co", _flat(model_to_rest(scale * (vertices - joints[0]))))
    data.loops.add(faces.size)
    data.loops.foreach_set("vertex_index", faces.ravel())
    data.polygons.add(len(faces))
    data.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
    data.polygons.foreach_set("use_smooth", np.ones(len(faces), dtype=bool))
    data.update(calc_edges=True)
    if model.uv is not None and model.uv_faces is not None:
        layer = data.uv_layers.new(name="UVMap")
        layer.uv.foreach_set("vector", _flat(model.uv[model.uv_faces]))
    data.validate()
    data.materials.append(_skin_material(side))

    mesh = bpy.data.objects.new(f"Hand {side.title()} Skin", data)
    collection.objects.link(mesh)
    weights = np.asarray(model.weights)
    for joint, name in enumerate(bone_names(side)):
        group = mesh.vertex_groups.new(name=name)
        for vertex in np.flatnonzero(weights[:, joint]):
            group.add((int(vertex),), float(weights[vertex, joint]), "REPLACE")
    return mesh


def _skin_material(side: Side) -> Any:
    material = bpy.data.materials.new(f"Skin {side.title()}")
    if material.node_tree is None:  # from 5.0 every material has nodes, and asking for them warns
        material.use_nodes = True
    shader = next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Base Color"].default_value = _SKIN_COLOURS[side]
    shader.inputs["Roughness"].default_value = 0.45
    shader.inputs["Subsurface Weight"].default_value = 0.25
    shader.inputs["Subsurface Radius"].default_value = _SUBSURFACE_RADIUS
    shader.inputs["Subsurface Scale"].default_value = 1.0  # the radii above are metres already
    material.diffuse_color = _VIEWPORT_COLOURS[side]
    return material


def _flat(array: Array) -> Array:
    return np.ascontiguousarray(array, dtype=np.float32).ravel()
