"""Retarget: the list of the rig's bones and the hands keyed onto it. The work: retargeting/retarget.py."""

from collections.abc import Generator
from pathlib import Path
from typing import Any, ClassVar, Final

import bpy

from dir_core.errors import SettingsError
from dir_core.retargeting.detection import fit_map
from dir_core.retargeting.rig_map import RigMap, load_rig_map, save_rig_map

from ..retargeting import fewer_keys, retarget, rig_preview, target_rig
from .base import HandsOperator, has_rig, refuse_poll, shows_poses
from .steps import SteppedOperator


class HANDS_OT_detect_rig(HandsOperator):
    """Find the bones of both hands again; corrections of the list are lost"""

    bl_idname = "hands.detect_rig"
    bl_label = "Detect Bones"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be a rig."""
        return has_rig(cls, context)

    def run(self, context: Any) -> set[str]:
        """Show what is found."""
        settings = context.scene.two_hands.retarget
        found = target_rig.detect(settings.target)
        target_rig.show_map(settings, found.rig_map)
        count = sum(len(hand.bones) for hand in found.rig_map.hands.values())
        self.tell(f"{found.rig_map.name}: {count} of {len(settings.bones)} bones found, {found.score:.0%}.")
        return {"FINISHED"}


class HANDS_OT_key_onto_rig(SteppedOperator):
    """Key the hands of the active take onto the rig, on a layer of their own; everything else on the rig stays"""

    bl_idname = "hands.key_onto_rig"
    bl_label = "Key onto Rig"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There have to be a rig, keyed hands, and a mode in which both can be read."""
        if not shows_poses(cls, context):
            return False
        if not any(retarget.captured_armatures(context.scene).values()):
            return refuse_poll(cls, "Key the hands of a take first")
        return has_rig(cls, context)

    def steps(self, context: Any) -> Generator[float, None, Any]:
        """Read the captured hands, then key the rig."""
        settings = context.scene.two_hands.retarget
        wanted, rig_map = retarget.wanted_of(settings), target_rig.read_map(settings)
        armatures = retarget.captured_armatures(context.scene)
        return rig_preview.away(retarget.key_onto_rig(settings.target, armatures, rig_map, wanted))

    def finish(self, context: Any, done: retarget.Retargeted) -> None:
        """Say what was keyed."""
        settings = context.scene.two_hands.retarget
        settings.preview = False  # the keys show it now, and what becomes of them should be seen
        for note in done.notes:
            self.report({"WARNING"}, note)
        fewer = fewer_keys.describe(*done.keys)
        self.tell(f"Keyed {done.bones} bones of {settings.target.name} on {done.frames:,} frames{fewer}.")


class HANDS_OT_remove_from_rig(HandsOperator):
    """Take the captured hands off the rig again; everything else on the rig stays"""

    bl_idname = "hands.remove_from_rig"
    bl_label = "Remove from Rig"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be something to remove."""
        if not has_rig(cls, context):
            return False
        if not retarget.has_hands(context.scene.two_hands.retarget.target):
            return refuse_poll(cls, "The rig has no keys of captured hands")
        return True

    def run(self, context: Any) -> set[str]:
        """Remove the layer."""
        target = context.scene.two_hands.retarget.target
        with rig_preview.put_away():
            count, kept = retarget.remove_from_rig(target)
        self.tell(f"Removed the keys of {count} bones from {target.name}. {kept}".rstrip())
        return {"FINISHED"}


class HANDS_OT_save_rig_map(HandsOperator):
    """Keep the list of bones as a file; rigs that have these bones are recognised from now on"""

    bl_idname = "hands.save_rig_map"
    bl_label = "Save Rig Map"

    filepath: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Rig Map",
        description="Where the list of bones is written",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    filter_glob: bpy.props.StringProperty(default="*.json", options={"HIDDEN"})  # type: ignore[valid-type]
    check_existing: bpy.props.BoolProperty(default=True, options={"HIDDEN"})  # type: ignore[valid-type]

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be a rig."""
        return has_rig(cls, context)

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Ask where, and offer the folder that is searched."""
        name = bpy.path.clean_name(context.scene.two_hands.retarget.target.name)
        self.filepath = str(target_rig.user_map_folder() / f"{name}.json")
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def run(self, context: Any) -> set[str]:
        """Write the file."""
        path = Path(bpy.path.abspath(self.filepath)).with_suffix(".json")
        rig_map = target_rig.read_map(context.scene.two_hands.retarget)
        if not rig_map.hands:
            raise SettingsError("The list has no bones yet, detect or choose them first.")
        save_rig_map(RigMap(path.stem, rig_map.hands, rig_map.note), path)
        self.tell(f"Saved {sum(len(hand.bones) for hand in rig_map.hands.values())} bones to {path}.")
        return {"FINISHED"}


class HANDS_OT_load_rig_map(HandsOperator):
    """Fill the list of bones from a file"""

    bl_idname = "hands.load_rig_map"
    bl_label = "Load Rig Map"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    filepath: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Rig Map",
        description="File with the list of bones",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    filter_glob: bpy.props.StringProperty(default="*.json", options={"HIDDEN"})  # type: ignore[valid-type]

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be a rig."""
        return has_rig(cls, context)

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Ask for the file."""
        self.filepath = f"{target_rig.user_map_folder()}/"
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def run(self, context: Any) -> set[str]:
        """Show the bones of the map that the rig has."""
        settings = context.scene.two_hands.retarget
        path = Path(bpy.path.abspath(self.filepath))
        fitted = fit_map(load_rig_map(path), target_rig.rig_bones(settings.target))
        if not fitted.hands:
            raise SettingsError(
                f"{settings.target.name} has no hand with the bones of {path.name}, choose another map."
            )
        target_rig.show_map(settings, target_rig.with_arms(settings.target, fitted))
        count = sum(len(hand.bones) for hand in fitted.hands.values())
        self.tell(f"{fitted.name}: {count} of {len(settings.bones)} bones found.")
        return {"FINISHED"}


CLASSES: Final = (
    HANDS_OT_detect_rig,
    HANDS_OT_key_onto_rig,
    HANDS_OT_remove_from_rig,
    HANDS_OT_save_rig_map,
    HANDS_OT_load_rig_map,
)
