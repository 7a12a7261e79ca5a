"""The humanoid block that the VRM add-on keeps on an armature, read whether that add-on is enabled or not.

It is somebody else's data, of many versions and from many converters: whatever is not as expected says nothing.
"""

from collections.abc import Iterator
from typing import Any, Final

from dir_core.retargeting.humanoid import Version, humanoid_map
from dir_core.retargeting.names import FEWEST_FINGERS
from dir_core.retargeting.rig_map import RigMap

_EXTENSION: Final = "vrm_addon_extension"
_FIRST: Final = ("0.0", 0)  # what stands for VRM 0 where the versions are kept as a choice


def read_humanoid(target: Any) -> RigMap | None:
    """The hands that a rig's humanoid block names; None without one, or where it names no fingers.

    Args:
        target: armature object of the rig.
    """
    extension = _part(target.data, _EXTENSION)
    version: tuple[Version, Version] = ("0", "1") if _part(extension, "spec_version") in (*_FIRST, None) else ("1", "0")
    for each in version:
        bones = {role: bone for role, bone in _roles(target.data, extension, each) if bone in target.data.bones}
        found = humanoid_map(bones, each)
        if any(len(hand.fingers) >= FEWEST_FINGERS for hand in found.hands.values()):
            return found
    return None


def _roles(armature: Any, extension: Any, version: Version) -> Iterator[tuple[str, str]]:
    """Roles and the bones for them."""
    human_bones = _part(extension, f"vrm{version}", "humanoid", "human_bones")
    if version == "0":
        for entry in _entries(human_bones):
            yield str(_part(entry, "bone")), _bone_name(armature, _part(entry, "node"))
        return
    for role in _names(human_bones):
        yield role, _bone_name(armature, _part(human_bones, role, "node"))


def _bone_name(armature: Any, node: Any) -> str:
    """The bone that a reference means: by name, by the mark that the bone bears, or by an object that hangs on it."""
    for name in ("bone_name", "value"):
        bone = _part(node, name)
        if isinstance(bone, str) and bone:
            return bone
    mark = _part(node, "bone_uuid")
    if isinstance(mark, str) and mark:
        return next((bone.name for bone in armature.bones if _part(bone, _EXTENSION, "uuid") == mark), "")
    bone = _part(node, "link_to_bone", "parent_bone")
    return bone if isinstance(bone, str) else ""


def _part(owner: Any, *names: str) -> Any:
    """What lies below an owner under some names, as a property or as a custom property; None where there is nothing."""
    for name in names:
        try:
            found = getattr(owner, name, None)
            owner = owner[name] if found is None else found
        except (TypeError, KeyError, AttributeError, IndexError):
            return None
    return owner


def _entries(group: Any) -> list[Any]:
    """The entries of a list; nothing where it is none."""
    return list(group) if hasattr(group, "__iter__") else []


def _names(group: Any) -> list[str]:
    """The names of what a group holds."""
    if hasattr(group, "bl_rna"):
        return [each.identifier for each in group.bl_rna.properties]
    return [str(name) for name in group.keys()] if hasattr(group, "keys") else []  # noqa: SIM118 - no dictionary
