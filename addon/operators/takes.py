"""The list of takes: add from a file (also File > Import and dropping), remove, relink, collect. No building here."""

from pathlib import Path
from typing import Any, ClassVar, Final

import bpy

from dir_core.errors import FootageError, TakeError
from dir_core.exchange.results import are_results
from dir_core.take import Take, load_take

from .. import footage_view, scene, takes
from .base import FootageFileOperator, HandsOperator, has_take, refuse_poll
from .rig import key_hands


class HANDS_OT_add_take(HandsOperator):
    """Add a captured take to the list and build both hands with its keys, its camera and its footage"""

    bl_idname = "hands.add_take"
    bl_label = "Add Hand Take"
    bl_options: ClassVar = {"REGISTER", "UNDO", "PRESET"}

    filepath: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Take",
        description="File of the take",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    filter_glob: bpy.props.StringProperty(default="*.npz", options={"HIDDEN"})  # type: ignore[valid-type]
    footage: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Footage",
        description="What the take was captured from; empty looks where the take says",
        subtype="FILE_PATH",
        options={"HIDDEN", "SKIP_SAVE"},
    )
    start: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Start Frame", description="Scene frame on which the footage begins", default=1
    )
    build: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Build Hands", description="Build two rigged hands for the take and key them", default=True
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
    use_selection: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Select Hands", description="Select the new hands, and nothing else", default=True
    )

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Bones can only be made in object mode."""
        return context.mode == "OBJECT" or refuse_poll(cls, "Leave for object mode first")

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Ask for the file, unless one was dropped."""
        self.start = context.scene.two_hands.footage.start
        if self.filepath:
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def run(self, context: Any) -> set[str]:
        """Add or update the row; whatever can fail comes before the scene is touched."""
        if not self.filepath:
            raise TakeError("No take was chosen, pick the .npz file of one.")
        path = Path(bpy.path.abspath(self.filepath))
        try:
            item = takes.find_same_take(context.scene, path)
        except TakeError:
            if are_results(path):
                raise TakeError(
                    f"{path.name} holds the results of another program, use File > Import > Hand Results for it."
                ) from None
            raise
        if item is not None:
            return self._update(context, item, path)
        take, clip, note = self._read(path)
        item = takes.add_take(context.scene, path, footage=self.footage, start=self.start)
        if not self.build:
            self.tell(f'Added "{item.name}", {item.frames:,} frames.')
            return {"FINISHED"}
        had = footage_view.camera_of(context.scene)
        item.camera = scene.show_take_footage(context.scene, take, clip, self.start)
        keyed = key_hands(context, item, select=self.use_selection)
        notes = [note]
        if self.use_camera and item.camera != had:
            footage_view.match_render_size(context.scene, take)
            context.scene.camera = item.camera
            notes.append(f"Renders are {take.image_size[0]}x{take.image_size[1]} pixels now.")
        for each in filter(None, notes):
            self.report({"INFO"}, each)
        self.tell(f"{keyed} {_seen(item)}")
        return {"FINISHED"}

    def _read(self, path: Path) -> tuple[Take, Any, str]:
        """The take, its footage as a clip or None, and why there is none."""
        take = load_take(path)
        scene.find_models(take)
        if not self.use_footage:
            return take, None, ""
        if not self.footage:
            clip, note = footage_view.find_footage(take)
            return take, clip, note if clip is None else ""
        try:
            return take, footage_view.load_footage(Path(bpy.path.abspath(self.footage))), ""
        except FootageError as error:
            return take, None, f"There is no background: {error}"

    def _update(self, context: Any, item: Any, path: Path) -> set[str]:
        """The list has this very take already: choose it and bring its hands up to date."""
        if takes.look_for_files(item).take:
            takes.relink_take(item, path)
        context.scene.two_hands.active_take = list(context.scene.two_hands.takes).index(item)
        done = key_hands(context, item) if self.build else ""
        self.tell(f'"{item.name}" is in the list already. {done}'.strip())
        return {"FINISHED"}


class HANDS_OT_remove_take(HandsOperator):
    """Remove the take from the list; its file, its hands and their keys stay"""

    bl_idname = "hands.remove_take"
    bl_label = "Remove Take"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be a take."""
        return has_take(cls, context)

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask, and say what stays."""
        item = takes.active_take(context.scene)
        return context.window_manager.invoke_confirm(
            self,
            event,
            title=f'Remove "{item.name}" from the list?',
            message="Its file, its hands and their keys stay.",
            confirm_text="Remove",
        )

    def run(self, context: Any) -> set[str]:
        """Remove the row."""
        item = takes.active_take(context.scene)
        name, path = item.name, takes.raw_path(item)
        takes.remove_take(context.scene, item.uid)
        self.tell(f'Removed "{name}" from the list, its file stays at {path}.')
        return {"FINISHED"}


class HANDS_OT_relink_take(HandsOperator):
    """Say where the file of the take is now; other missing takes are looked for in the same folder"""

    bl_idname = "hands.relink_take"
    bl_label = "Relink Take"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    filepath: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Take",
        description="Where the file of the take is now",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    filter_glob: bpy.props.StringProperty(default="*.npz", options={"HIDDEN"})  # type: ignore[valid-type]

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be a take."""
        return has_take(cls, context)

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Ask for the file."""
        self.filepath = str(takes.raw_path(takes.active_take(context.scene)))
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def run(self, context: Any) -> set[str]:
        """Relink this take, and others whose files lie beside it now."""
        item, path = takes.active_take(context.scene), Path(bpy.path.abspath(self.filepath))
        if not takes.relink_take(item, path):
            self.report({"WARNING"}, f"{path.name} is another capture than before, its hands keep their keys.")
        others = takes.relink_neighbours(context.scene, path.parent)
        beside = f", and {others} more beside it" if others else ""
        self.tell(f'Found "{item.name}"{beside}.')
        return {"FINISHED"}


class HANDS_OT_relink_footage(FootageFileOperator):
    """Say where the footage of the take is now, for every take that was captured from it"""

    bl_idname = "hands.relink_footage"
    bl_label = "Relink Footage"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be a take."""
        return has_take(cls, context)

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Ask for the file."""
        self.filepath = bpy.path.abspath(takes.active_take(context.scene).footage)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def run(self, context: Any) -> set[str]:
        """Relink the takes, and the clip that plays behind the hands."""
        path = Path(bpy.path.abspath(self.filepath))
        before = bpy.path.abspath(takes.active_take(context.scene).footage)
        for clip in bpy.data.movieclips:
            if before and _shows(clip, Path(before)):
                footage_view.relink(clip, path)
        changed = takes.relink_footage(context.scene, before, path)
        self.tell(f"Found {path.name} for {changed} take{'' if changed == 1 else 's'}.")
        return {"FINISHED"}


class HANDS_OT_collect_takes(HandsOperator):
    """Copy the files of all takes into a folder beside the .blend file, so that they can be moved together"""

    bl_idname = "hands.collect_takes"
    bl_label = "Collect Takes"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be a saved file to collect beside."""
        if not has_take(cls, context):
            return False
        return bool(bpy.data.filepath) or refuse_poll(cls, "Save the .blend file first, takes are collected beside it")

    def run(self, context: Any) -> set[str]:
        """Copy what is elsewhere."""
        copied, missing = takes.collect_takes(context.scene)
        lost = f", {missing} could not be found" if missing else ""
        folder = Path(bpy.data.filepath).parent / takes.FOLDER_NAME
        self.tell(f"Copied {copied} take{'' if copied == 1 else 's'} to {folder}{lost}.")
        return {"FINISHED"}


class HANDS_OT_refresh_takes(HandsOperator):
    """Look again whether the files of all takes and their footage are there"""

    bl_idname = "hands.refresh_takes"
    bl_label = "Look for Files"

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be a take."""
        return has_take(cls, context)

    def run(self, context: Any) -> set[str]:
        """Look."""
        takes.look_for_all_files()
        lost = [takes.missing_files(item) for item in context.scene.two_hands.takes]
        count, footage = sum(each.take for each in lost), sum(each.footage for each in lost)
        if count or footage:
            self.report(
                {"WARNING"}, f"Missing: the files of {count} and the footage of {footage} of {len(lost)} takes."
            )
        else:
            self.tell(f"All files of {len(lost)} take{'' if len(lost) == 1 else 's'} are there.")
        return {"FINISHED"}


class HANDS_FH_take(bpy.types.FileHandler):  # type: ignore[misc]
    """Adds a take that is dropped on a 3D view."""

    bl_idname = "HANDS_FH_take"
    bl_label = "Hand Take"
    bl_import_operator = HANDS_OT_add_take.bl_idname
    bl_file_extensions = ".npz"

    @classmethod
    def poll_drop(cls, context: Any) -> bool:
        """Takes are dropped on 3D views."""
        return context.area is not None and context.area.type == "VIEW_3D"


def draw_import_entry(menu: Any, _context: Any) -> None:
    """The entry in File > Import."""
    menu.layout.operator(HANDS_OT_add_take.bl_idname, text="Hand Take (.npz)")


def _shows(clip: Any, footage: Path) -> bool:
    """Whether a clip is this footage; one of numbered pictures names the first of a folder or a pattern."""
    path = Path(bpy.path.abspath(clip.filepath))
    folder = footage.parent if "%" in footage.name else footage
    return path == footage or (clip.source == "SEQUENCE" and path.parent == folder)


def _seen(item: Any) -> str:
    return f"Left hand seen in {item.seen_left:.0%}, right hand in {item.seen_right:.0%}."


CLASSES: Final = (
    HANDS_OT_add_take,
    HANDS_OT_remove_take,
    HANDS_OT_relink_take,
    HANDS_OT_relink_footage,
    HANDS_OT_collect_takes,
    HANDS_OT_refresh_takes,
    HANDS_FH_take,
)


def register() -> None:
    """Add the menu entry."""
    bpy.types.TOPBAR_MT_file_import.append(draw_import_entry)


def unregister() -> None:
    """Take the menu entry out again."""
    bpy.types.TOPBAR_MT_file_import.remove(draw_import_entry)
