"""The one ordered list of everything Blender has to know about. No behaviour lives here."""

from typing import Any, Final

import bpy

from .operators import rig

CLASSES: Final[tuple[type, ...]] = (
    rig.HANDS_OT_import_take,
    rig.HANDS_FH_take,
)
"""In the order of registration: what others refer to comes first."""

IMPORT_MENU_ENTRIES: Final[tuple[Any, ...]] = (rig.draw_import_entry,)


def register() -> None:
    """Register CLASSES in order, then the menu entries."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    for entry in IMPORT_MENU_ENTRIES:
        bpy.types.TOPBAR_MT_file_import.append(entry)


def unregister() -> None:
    """Undo register() in reverse order."""
    for entry in reversed(IMPORT_MENU_ENTRIES):
        bpy.types.TOPBAR_MT_file_import.remove(entry)
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
