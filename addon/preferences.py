"""The add-on's preferences: where takes go, and the runtime and weights of the DIR network."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import bpy

from dir_core.errors import HandCaptureError
from dir_core.worker.runtime import BUILDS, possible_builds

from . import gpu_runtime
from .log import user_folder

AUTO: Final = "AUTO"
"""Value of `runtime_build`: what suits this computer."""

_drawers: Final[list[Callable[[Any, Any], None]]] = []


def draw_with(drawer: Callable[[Any, Any], None]) -> None:
    """Have `drawer(context, layout)` draw below the preferences; panels stand above this module."""
    if drawer not in _drawers:
        _drawers.append(drawer)


def stop_drawing_with(drawer: Callable[[Any, Any], None]) -> None:
    """Undo `draw_with`."""
    _drawers.remove(drawer)


def _check_weights(self: Any, _context: Any) -> None:
    """Look into the file as soon as it is chosen, if there is a runtime that can."""
    if gpu_runtime.weights_path(self):
        with suppress(HandCaptureError):  # without a runtime nobody can look; the panel says so
            gpu_runtime.check_weights(self)


def _describe_hands(self: Any, _context: Any) -> None:
    self.hands_found = gpu_runtime.describe_hands(gpu_runtime.hands_folder(self))


class HandsPreferences(bpy.types.AddonPreferences):  # type: ignore[misc]
    """Choices of the user that are not those of one file."""

    bl_idname = __package__

    takes_folder: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Takes Folder",
        description="Where takes are kept; empty keeps them beside the .blend file",
        subtype="DIR_PATH",
        default="",
    )
    runtime_source: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="GPU Runtime",
        description="Where the DIR network finds PyTorch",
        items=(
            ("SETUP", "Set Up Here", "An environment of the add-on's own, in your user folder"),
            (gpu_runtime.OWN, "My Own Python", "A Python on this computer in which PyTorch is installed"),
        ),
        default="SETUP",
    )
    runtime_build: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Build",
        description="What PyTorch computes with",
        items=(
            (AUTO, "Automatic", "What suits this computer"),
            *((build, BUILDS[build], f"PyTorch for the {BUILDS[build]}") for build in possible_builds()),
        ),
        default=AUTO,
    )
    runtime_python: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Python",
        description="The Python program in which PyTorch is installed, such as bin/python of an environment",
        subtype="FILE_PATH",
        default="",
    )
    checkpoint: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="DIR Weights",
        description="The file of weights: the official .pth or a .safetensors file of this project",
        subtype="FILE_PATH",
        default="",
        update=_check_weights,
    )
    hands_folder: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="MANO Folder",
        description="Folder with MANO_LEFT.pkl and MANO_RIGHT.pkl; empty uses the open hand",
        subtype="DIR_PATH",
        default="",
        update=_describe_hands,
    )
    hands_found: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]

    def draw(self, context: Any) -> None:
        """Draw the preferences."""
        self.layout.use_property_split = True
        self.layout.use_property_decorate = False
        self.layout.prop(self, "takes_folder")
        for drawer in _drawers:
            drawer(context, self.layout)


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


def chosen_build(context: Any) -> str:
    """The build to set up: the user's choice, else what suits this computer; "" if there is none for it."""
    chosen = preferences(context)
    if chosen is not None and chosen.runtime_build != AUTO:
        return str(chosen.runtime_build)
    return gpu_runtime.detected_build()[0]


CLASSES: Final = (HandsPreferences,)
