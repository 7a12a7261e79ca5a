"""File > Import > Hand Take: a take becomes hands, keys and camera in the current scene. No building here."""

from pathlib import Path
from typing import Any, ClassVar, Final

import bpy

from dir_core.errors import HandCaptureError
from dir_core.take import load_take

from .. import footage_view
from ..scene import BuiltScene, build_scene, find_models


class HANDS_OT_import_take(bpy.types.Operator):  # type: ignore[misc]
    """Build both hands of a take with their keys, the camera and the footage behind it"""

    bl_idname = "hands.import_take"
    bl_label = "Import Hand Take"
    bl_options: ClassVar = {"REGISTER", "UNDO", "PRESET"}

    filepath: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Take", subtype="FILE_PATH", options={"SKIP_SAVE"}
    )
    filter_glob: bpy.props.StringProperty(default="*.npz", options={"HIDDEN"})  # type: ignore[valid-type]
    start: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Start Frame", description="Scene frame on which the footage begins", default=1
    )
    use_camera: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Look Through Footage Camera",
        description="Make the footage's camera the active one and render in the footage's size",
        default=True,
    )
    use_footage: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Footage as Background",
        description="Show the footage behind the hands if it is still where it was captured from",
        default=True,
    )

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Bones can only be made in object mode."""
        if context.mode != "OBJECT":
            cls.poll_message_set("Leave for object mode first")
            return False
        return True

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Ask for the file, unless one was dropped."""
        if self.filepath:
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Any) -> set[str]:
        """Import; whatever can fail comes before the scene is touched."""
        scene = context.scene
        path = Path(bpy.path.abspath(self.filepath))
        try:
            take = load_take(path)
            models, hands = find_models(take)
            clip, background = footage_view.find_footage(take) if self.use_footage else (None, "")
            built = build_scene(take, models, scene, start=self.start, clip=clip, name=path.stem)
        except HandCaptureError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        notes = [note for note in (*built.notes, hands, background) if note]
        if self.use_camera:
            footage_view.match_render_size(scene, take)
            scene.camera = built.camera
            notes.append(f"Renders are {take.image_size[0]}x{take.image_size[1]} pixels now.")
        _select(context, built)
        for note in notes:
            self.report({"INFO"}, note)
        self.report({"INFO"}, built.sentence(footage_view.scene_frame_rate(scene)))
        return {"FINISHED"}


class HANDS_FH_take(bpy.types.FileHandler):  # type: ignore[misc]
    """Imports a take that is dropped on a 3D view."""

    bl_idname = "HANDS_FH_take"
    bl_label = "Hand Take"
    bl_import_operator = HANDS_OT_import_take.bl_idname
    bl_file_extensions = ".npz"

    @classmethod
    def poll_drop(cls, context: Any) -> bool:
        """Takes are dropped on 3D views."""
        return context.area is not None and context.area.type == "VIEW_3D"


def draw_import_entry(menu: Any, _context: Any) -> None:
    """The entry in File > Import."""
    menu.layout.operator(HANDS_OT_import_take.bl_idname, text="Hand Take (.npz)")


def _select(context: Any, built: BuiltScene) -> None:
    for item in context.selected_objects:
        item.select_set(False)
    visible = [hand.armature for hand in built.hands.values() if hand.armature.visible_get()]
    for armature in visible:
        armature.select_set(True)
    if visible:
        context.view_layer.objects.active = visible[-1]


CLASSES: Final = (HANDS_OT_import_take, HANDS_FH_take)


def register() -> None:
    """Add the menu entry."""
    bpy.types.TOPBAR_MT_file_import.append(draw_import_entry)


def unregister() -> None:
    """Take the menu entry out again."""
    bpy.types.TOPBAR_MT_file_import.remove(draw_import_entry)
