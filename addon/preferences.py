"""The add-on's preferences: where takes go, and the runtime and weights of the DIR network."""

from pathlib import Path
from typing import Any, Final

import bpy

from .log import user_folder


class HandsPreferences(bpy.types.AddonPreferences):  # type: ignore[misc]
    """Choices of the user that are not those of one file."""

    bl_idname = __package__

    takes_folder: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Takes Folder",
        description="Where takes are kept; empty keeps them beside the .blend file",
        subtype="DIR_PATH",
        default="",
    )

    def draw(self, _context: Any) -> None:
        """Draw the preferences."""
        self.layout.use_property_split = True
        self.layout.prop(self, "takes_folder")


def preferences(context: Any) -> Any:
    """The add-on's preferences, or None where it was not enabled as an add-on (tests, command line)."""
    addon = context.preferences.addons.get(__package__)
    return addon.preferences if addon else None


def takes_folder(context: Any) -> Path:
    """Where new takes are written: the chosen folder, else `hands` beside the .blend, else the user's own folder."""
    chosen = preferences(context)
    if chosen is not None and chosen.takes_folder:
        return Path(bpy.path.abspath(chosen.takes_folder))
    if bpy.data.filepath:
        return Path(bpy.data.filepath).parent / "hands"
    return user_folder("takes")


CLASSES: Final = (HandsPreferences,)
