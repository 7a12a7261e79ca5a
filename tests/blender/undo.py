"""Is an operator one undo step? For the tests of every operator that changes data.

Blender's module starts without an undo stack; the first `ed.undo_push` makes one. Undo steps then work without a window
on 4.2 to 5.2, if the call asks for its step (the second positional argument), which a button does by itself.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import bpy
import numpy as np

_MARKER: Final = "test_undo_step"

_KINDS: Final = (
    "actions",
    "armatures",
    "cameras",
    "collections",
    "images",
    "materials",
    "meshes",
    "movieclips",
    "objects",
    "scenes",
    "texts",
    "worlds",
)
"""The parts of bpy.data that an animator's undo is about. Screens and brushes belong to the program."""

_NESTED: Final = {
    "Action": ("layers", "slots", "pose_markers"),
    "ActionLayer": ("strips",),
    "ActionKeyframeStrip": ("channelbags",),
    "ActionChannelbag": ("fcurves", "groups"),
    "AnimData": ("drivers", "nla_tracks"),
    "Armature": ("animation_data", "bones", "collections"),
    "Camera": ("animation_data", "background_images"),
    "CameraBackgroundImage": ("clip_user", "image_user"),
    "Collection": ("children", "objects"),
    "FCurve": ("keyframe_points", "modifiers"),
    "Mesh": ("materials", "polygons", "vertices"),
    "MovieClip": ("tracking",),
    "MovieTracking": ("camera",),
    "NlaTrack": ("strips",),
    "Object": ("animation_data", "constraints", "material_slots", "modifiers", "pose", "vertex_groups"),
    "Pose": ("bones",),
    "PoseBone": ("constraints",),
    "Scene": ("animation_data", "collection", "render", "timeline_markers", "view_layers"),
    "Text": ("lines",),
}
"""What is read inside each kind of struct, besides its plain values and its groups of registered properties.

Not simply everything that RNA names: it leads into caches and into the user interface, and Blender 4.2 crashes there.
"""

_DERIVED: Final = {"pixels", "tag", "matrix", "matrix_basis", "matrix_local", "matrix_world", "matrix_channel"}
"""Values that follow from others or from files, or that Blender notes for itself."""

_ELEMENTS: Final = {
    "vertices": {"co": (3, np.float32)},
    "polygons": {"loop_start": (1, np.int32), "material_index": (1, np.int32)},
    "keyframe_points": {
        "co": (2, np.float32),
        "handle_left": (2, np.float32),
        "handle_right": (2, np.float32),
        "interpolation": (1, np.int32),
    },
}
"""Long collections, read in one go: their attributes with length and kind of number."""


def assert_one_undo_step(operator: Callable[..., set[str]], **properties: Any) -> None:
    """Run an operator as a button does and demand that it is exactly one undo step.

    Undo has to bring back the state before, redo the state after. References to Blender's data that were taken before
    are dead afterwards: look things up again by name.

    Args:
        operator: for example `bpy.ops.hands.add_take`.
        properties: what it is called with.

    Raises:
        AssertionError: it did not finish, changed nothing, made no step or several, or undo or redo lost something.
    """
    # Two steps, so that undoing too little and undoing too much both show.
    for step in ("the step before", "ready"):
        bpy.context.scene[_MARKER] = step
        bpy.ops.ed.undo_push(message=step)
    before = file_state()
    assert operator("EXEC_DEFAULT", True, **properties) == {"FINISHED"}
    after = file_state()
    assert differences(before, after), "the operator changed nothing that undo could bring back"
    bpy.ops.ed.undo()
    assert bpy.context.scene.get(_MARKER) == "ready", "the operator made no undo step of its own"
    lost = differences(before, file_state())
    assert not lost, f"not the state before, or more than one undo step: {lost}"
    bpy.ops.ed.redo()
    lost = differences(after, file_state())
    assert not lost, f"redo does not bring back what the operator did: {lost}"


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What two states do not share, one line each, the first twenty."""
    places = sorted(place for place in one.keys() | other.keys() if one.get(place) != other.get(place))
    return [f"{place}: {str(one.get(place))[:60]} | {str(other.get(place))[:60]}" for place in places[:20]]


def file_state() -> dict[str, Any]:
    """What undo answers for in the open file: path of a value -> value; long arrays as bytes.

    Objects with pose, constraints and modifiers, meshes, armatures, actions with slots, keys and handles, NLA, cameras
    with footage, collections, markers, scenes with selection; registered and custom properties of all of them.
    """
    state: dict[str, Any] = {}
    for kind in _KINDS:
        for block in getattr(bpy.data, kind):
            state.update(_read(f"{kind}[{block.name_full!r}]", block))
    for scene in bpy.data.scenes:
        for layer in scene.view_layers:
            path = f"scenes[{scene.name!r}].view_layers[{layer.name!r}]"
            state[f"{path}.active"] = layer.objects.active and layer.objects.active.name
            state[f"{path}.selected"] = sorted(item.name for item in layer.objects if item.select_get(view_layer=layer))
    return state


def _read(path: str, struct: Any) -> Iterator[tuple[str, Any]]:
    kind = struct.bl_rna.identifier
    yield path, kind
    for item in struct.bl_rna.properties:
        name = item.identifier
        if name in _NESTED.get(kind, ()) or _is_registered_group(item):
            yield from _read_nested(f"{path}.{name}", name, getattr(struct, name))
        elif item.type == "POINTER" and isinstance(item.fixed_type, bpy.types.ID):
            block = getattr(struct, name)
            yield f"{path}.{name}", block and block.name_full
        elif item.type not in ("POINTER", "COLLECTION") and _is_plain_value(item):
            value = getattr(struct, name)
            yield f"{path}.{name}", str(list(value)) if getattr(item, "is_array", False) else value
    if kind == "Action" and not hasattr(struct, "layers"):  # Blender 4.2 and 4.3
        yield from _read_nested(f"{path}.fcurves", "fcurves", struct.fcurves)
    if not isinstance(struct, bpy.types.PropertyGroup):  # there everything is registered and read by now
        yield from _read_custom_properties(path, struct)


def _is_registered_group(item: Any) -> bool:
    """Whether an add-on has registered this group, or list of groups, of properties."""
    group = item.fixed_type.base if item.type in ("POINTER", "COLLECTION") and item.is_runtime else None
    return group is not None and group.identifier == "PropertyGroup"


def _is_plain_value(item: Any) -> bool:
    return not (item.is_readonly or item.identifier in _DERIVED or getattr(item, "is_deprecated", False))


def _read_nested(path: str, name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if value is None:
        yield path, None
    elif name in _ELEMENTS:
        yield path, len(value)
        for attribute, (width, kind) in _ELEMENTS[name].items():
            array = np.empty(len(value) * width, kind)
            value.foreach_get(attribute, array)
            yield f"{path}.{attribute}", array.tobytes()
    elif isinstance(value, bpy.types.bpy_prop_collection):
        yield path, len(value)
        for row, item in enumerate(value):
            if isinstance(item, bpy.types.ID):
                yield f"{path}[{row}]", item.name_full
            elif item is not None:
                yield from _read(f"{path}[{row}]", item)
    else:
        yield from _read(path, value)


def _read_custom_properties(path: str, struct: Any) -> Iterator[tuple[str, Any]]:
    try:
        names = list(struct.keys())
    except TypeError:  # this kind of struct has none
        return
    registered = {item.identifier for item in struct.bl_rna.properties}
    for name in sorted(set(names) - registered):
        value = struct[name]
        for convert in ("to_dict", "to_list"):
            value = getattr(value, convert, lambda value=value: value)()
        yield f"{path}[{name!r}]", str(value)
