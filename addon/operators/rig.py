"""Hands: key them, put corrections on a layer of their own, place them before their camera. No building here."""

from typing import Any, ClassVar, Final

import bpy

from dir_core.errors import HandCaptureError

from .. import clean_job, footage_view, layers, scene, take_keys, takes
from .base import HandsOperator, has_take, refuse_poll


class HANDS_OT_key_hands(HandsOperator):
    """Key the take on its hands, which are made first if there are none; only keys of this add-on are replaced"""

    bl_idname = "hands.key_hands"
    bl_label = "Key Hands"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be a take, and bones can only be made in object mode."""
        if not has_take(cls, context):
            return False
        item = takes.active_take(context.scene)
        if take_keys.has_rigs(item):
            return True
        if item.keying.rigs == "EXISTING":
            return refuse_poll(cls, "Choose the armature of a hand first")
        return context.mode == "OBJECT" or refuse_poll(cls, "Leave for object mode first, hands are built in it")

    def run(self, context: Any) -> set[str]:
        """Key what was captured; the cleaned motion follows."""
        self.tell(key_hands(context, takes.active_take(context.scene)))
        return {"FINISHED"}


class HANDS_OT_add_layer(HandsOperator):
    """Key corrections on a layer of their own from now on; they are combined with the take and survive each re-run"""

    bl_idname = "hands.add_layer"
    bl_label = "Add Correction Layer"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There have to be keyed hands without a layer."""
        return _has_layers(cls, context, wanted=False)

    def run(self, context: Any) -> set[str]:
        """Add the layer to every hand that has none."""
        action = layers.add_layer(_hands(context, with_layer=False))
        self.tell(f'Keys on the hands go into "{action.name}" now, the take plays below.')
        return {"FINISHED"}


class HANDS_OT_remove_layer(HandsOperator):
    """Play the take alone again; the corrections stay in the file as an action"""

    bl_idname = "hands.remove_layer"
    bl_label = "Remove Correction Layer"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There have to be hands with a layer."""
        return _has_layers(cls, context, wanted=True)

    def run(self, context: Any) -> set[str]:
        """Remove the layer of every hand that has one."""
        layers.remove_layer(_hands(context, with_layer=True))
        self.tell("The take plays alone, the corrections stay in the file as an action.")
        return {"FINISHED"}


class HANDS_OT_place_hands(HandsOperator):
    """Let the hands sit on the filmed ones, seen through the footage's camera, also if that one moves"""

    bl_idname = "hands.place_hands"
    bl_label = "Place before Camera"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There have to be hands and a camera."""
        if not _has_hands(cls, context):
            return False
        camera = footage_view.camera_of(context.scene)
        return camera is not None or refuse_poll(cls, "Choose the footage's camera first")

    def run(self, context: Any) -> set[str]:
        """Place both hands anew."""
        item, camera = takes.active_take(context.scene), footage_view.camera_of(context.scene)
        armatures = take_keys.hands_of(item).values()
        scene.place_hands(armatures, camera)
        item.camera = camera
        self.tell(f'{len(armatures)} hand{"" if len(armatures) == 1 else "s"} placed before "{camera.name}".')
        return {"FINISHED"}


class HANDS_OT_add_asset_library(HandsOperator):
    """Offer the hands of this add-on in the Asset Browser, by adding their folder to the preferences"""

    bl_idname = "hands.add_asset_library"
    bl_label = "Add to Asset Libraries"

    @classmethod
    def poll(cls, context: Any) -> bool:
        """An installed extension brings the library along; once is enough."""
        if not take_keys.LIBRARY.is_file():
            return refuse_poll(cls, "Only the installed extension has an asset library")
        return not _is_offered(context) or refuse_poll(cls, "The Asset Browser offers the hands already")

    def run(self, context: Any) -> set[str]:
        """Add the folder."""
        library = context.preferences.filepaths.asset_libraries.new(
            name="Two-Hand Capture", directory=str(take_keys.LIBRARY.parent)
        )
        library.import_method = "APPEND"
        self.tell(f'The Asset Browser offers the hands in "{library.name}".')
        return {"FINISHED"}


def key_hands(context: Any, item: Any, *, select: bool = True) -> str:
    """Key what a take saw on its hands, which are made first if there are none; the cleaned motion follows.

    Without a window it has followed already when this returns. New hands are selected on wish.

    Returns:
        What was done in words.

    Raises:
        HandCaptureError: the take or its hands cannot be used.
    """
    keyed = take_keys.key_take(context, item, takes.load_raw(item))
    said = [keyed.sentence(), *keyed.notes]
    try:
        clean_job.follow_take(context, item)
    except HandCaptureError as error:  # the hands have their keys all the same
        said.append(str(error))
    if keyed.built and select:
        select_hands(context, item)
    return " ".join(said)


def select_hands(context: Any, item: Any) -> None:
    """Select the hands of a take that can be seen, and nothing else."""
    for each in context.selected_objects:
        each.select_set(False)
    visible = [armature for armature in take_keys.hands_of(item).values() if armature.visible_get()]
    for armature in visible:
        armature.select_set(True)
    if visible:
        context.view_layer.objects.active = visible[-1]


def _has_hands(cls: Any, context: Any) -> bool:
    if not has_take(cls, context):
        return False
    return take_keys.has_rigs(takes.active_take(context.scene)) or refuse_poll(cls, "Key the hands first")


def _has_layers(cls: Any, context: Any, *, wanted: bool) -> bool:
    if not _has_hands(cls, context):
        return False
    if _hands(context, with_layer=wanted):
        return True
    return refuse_poll(cls, "There is no correction layer" if wanted else "The hands have no keys, or a layer already")


def _hands(context: Any, *, with_layer: bool) -> list[Any]:
    hands = take_keys.hands_of(takes.active_take(context.scene)).values()
    if with_layer:
        return [armature for armature in hands if layers.taken_place(armature) is not None]
    return [armature for armature in hands if layers.can_have_layer(armature)]


def _is_offered(context: Any) -> bool:
    folders = (library.path for library in context.preferences.filepaths.asset_libraries)
    return any(bpy.path.abspath(folder).rstrip("/\\") == str(take_keys.LIBRARY.parent) for folder in folders)


CLASSES: Final = (
    HANDS_OT_key_hands,
    HANDS_OT_add_layer,
    HANDS_OT_remove_layer,
    HANDS_OT_place_hands,
    HANDS_OT_add_asset_library,
)
