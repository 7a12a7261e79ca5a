"""Registers the add-on with Blender and takes it out again. Nothing else lives here."""

from . import registration


def register() -> None:
    """Add every class and menu entry to Blender."""
    registration.register()


def unregister() -> None:
    """Take every class and menu entry out of Blender again."""
    registration.unregister()
