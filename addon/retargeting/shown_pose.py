"""A pose that is only shown: the values of some channels of a rig for a while, and those that they had before.

What the channels had before is kept on the rig itself, so undo, copies of the rig and recovered files of a Blender that
crashed hold both or neither, and it can always be put back. Values that somebody else has written meanwhile are never
taken away. Knows nothing of hands.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import bpy

Channel = tuple[str, str]
"""Name of a bone, empty for the object, and of its channel: a property such as "location", or a custom one's path."""

_KEPT: Final = "two_hands_shown_pose"  # custom property of the rig: JSON of what is shown and what was there before

_ROTATION: Final = "rotation_"


@dataclass(frozen=True)
class _Shown:
    """A channel that shows something else than its own values.

    Attributes:
        before: its own values.
        shown: those that it has now, unless somebody has changed them.
        mode: the rotation mode of its bone; empty where it does not matter.
    """

    before: tuple[float, ...]
    shown: tuple[float, ...]
    mode: str = ""


def show(target: Any, values: Mapping[tuple[str, str, int], float], share: float = 1.0) -> None:
    """Let a rig show these values and nothing else; all other channels go back to their own.

    Args:
        target: armature object of the rig.
        values: (bone, channel, index) -> value; an empty bone name is the object itself.
        share: of the values over those that the channels have themselves, 0..1.
    """
    before = _read_kept(target)
    wanted: dict[Channel, dict[int, float]] = {}
    for (bone, channel, index), value in values.items():
        wanted.setdefault((bone, channel), {})[index] = value
    for key in before.keys() - wanted.keys():
        _put_back(target, key, before[key])
    kept: dict[Channel, _Shown] = {}
    for key, numbers in wanted.items():
        bone = _owner(target, key[0])
        if bone is None:
            continue
        mode = bone.rotation_mode if key[1].startswith(_ROTATION) else ""
        now, known = _read(bone, key[1]), before.get(key)
        own = known.before if known and known.shown == now and known.mode == mode else now
        part = 1.0 if key[1].startswith("[") else share  # switches are on or off
        mixed = [value + part * (numbers.get(index, value) - value) for index, value in enumerate(own)]
        _write(bone, key[1], mixed)
        kept[key] = _Shown(own, _read(bone, key[1]), mode)  # as Blender has rounded them
    if kept:
        target[_KEPT] = json.dumps([[*key, each.before, each.shown, each.mode] for key, each in kept.items()])
    elif _KEPT in target:
        del target[_KEPT]


def put_back(target: Any) -> None:
    """Give every channel of a rig its own values again; those that somebody has changed meanwhile stay."""
    show(target, {})


def changed_bones(target: Any) -> set[str]:
    """The bones that somebody has changed since the pose was shown."""
    return {key[0] for key, each in _read_kept(target).items() if not _is_untouched(target, key, each)}


def showing() -> Iterable[Any]:
    """Every rig of the file that shows a pose."""
    return [item for item in bpy.data.objects if item.type == "ARMATURE" and _KEPT in item and item.library is None]


def _read_kept(target: Any) -> dict[Channel, _Shown]:
    rows = json.loads(target.get(_KEPT, "[]"))
    return {(bone, channel): _Shown(tuple(own), tuple(shown), mode) for bone, channel, own, shown, mode in rows}


def _is_untouched(target: Any, key: Channel, each: _Shown) -> bool:
    bone = _owner(target, key[0])
    return bone is not None and _read(bone, key[1]) == each.shown and each.mode in ("", bone.rotation_mode)


def _put_back(target: Any, key: Channel, each: _Shown) -> None:
    if _is_untouched(target, key, each):
        _write(_owner(target, key[0]), key[1], each.before)
        return
    bone = _owner(target, key[0])
    if bone is not None and each.mode not in ("", bone.rotation_mode) and _read(bone, key[1]) == each.shown:
        # The rotation mode was changed meanwhile, which turned what was shown into other channels.
        mode, bone.rotation_mode = bone.rotation_mode, each.mode
        _write(bone, key[1], each.before)
        bone.rotation_mode = mode


def _owner(target: Any, bone: str) -> Any:
    return target.pose.bones.get(bone) if bone else target


def _read(bone: Any, channel: str) -> tuple[float, ...]:
    value = bone.path_resolve(channel)
    return tuple(value) if hasattr(value, "__len__") else (value,)


def _write(bone: Any, channel: str, values: Iterable[float]) -> None:
    numbers = tuple(values)
    if _read(bone, channel) == numbers:
        return
    if channel.startswith("["):
        name = bpy.utils.unescape_identifier(channel[2:-2])
        bone[name] = type(bone[name])(numbers[0])  # switches may be whole numbers
        bone.id_data.update_tag()
    else:
        setattr(bone, channel, numbers if len(numbers) > 1 else numbers[0])
