"""Footage: load it, drop it, put it in step, look through its camera. How it is shown is footage_view's work."""

from pathlib import Path
from typing import Any, ClassVar, Final

import bpy

from dir_core.errors import FootageError

from .. import footage_view, ticker
from .base import FootageFileOperator, HandsOperator, refuse_poll

_MOVIE_SUFFIXES: Final = (
    ".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".m2ts", ".3gp", ".wmv", ".ogv",
)  # fmt: skip


class HANDS_OT_load_footage(FootageFileOperator):
    """Load a video, or a sequence by its folder or one of its pictures, and look at it through a camera of its lens"""

    bl_idname = "hands.load_footage"
    bl_label = "Load Footage"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    start: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Start Frame", description="Scene frame on which the footage begins", default=1
    )
    use_camera: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Look Through Its Camera",
        description="Make the footage's camera the active one and look through it",
        default=True,
    )
    use_size: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Render in Its Size",
        description="Render pictures of the footage's size, so that the camera frames exactly what it shows",
        default=True,
    )

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Ask for the file, unless one was dropped."""
        self.start = context.scene.two_hands.footage.start
        if self.filepath:
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def run(self, context: Any) -> set[str]:
        """Load; only the loading can fail, and comes first."""
        scene = context.scene
        hands = scene.two_hands
        if not self.filepath:
            raise FootageError("No footage was chosen, pick a video or a picture of a sequence.")
        clip = footage_view.load_footage(Path(bpy.path.abspath(self.filepath)))
        if clip.source == "SEQUENCE" and clip != hands.footage.clip:
            hands.footage.picture_rate = footage_view.scene_frame_rate(scene).value
        if self.use_size:
            footage_view.set_render_size(scene, tuple(clip.size))
        footage_view.use_footage(scene, clip, start=self.start)
        if footage_view.states_lens(clip) and hands.footage.focal_source == "FIELD_OF_VIEW":
            hands.footage.focal_source = "METADATA"  # what the file says is better than a guess
        hands.capture.first, hands.capture.last = footage_view.footage_range(scene)
        if self.use_camera:
            scene.camera = footage_view.camera_of(scene)
            _turn_views(context)
        footage_view.look_what_hides(scene)
        self.tell(f"Loaded {Path(clip.filepath).name}: {footage_view.facts_sentence(scene, clip)}.")
        return {"FINISHED"}


class HANDS_OT_relink_clip(FootageFileOperator):
    """Say where the footage is now; what was captured from it stays as it is"""

    bl_idname = "hands.relink_clip"
    bl_label = "Relink Footage"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Only footage can be relinked, also where it is not missed."""
        return _has_clip(cls, context, is_lost=True)

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Ask where it is."""
        self.filepath = bpy.path.abspath(context.scene.two_hands.footage.clip.filepath)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def run(self, context: Any) -> set[str]:
        """Point the clip, and the picture that stands for it at other frame rates, to the file."""
        scene = context.scene
        clip = scene.two_hands.footage.clip
        footage_view.relink(clip, Path(bpy.path.abspath(self.filepath)))
        footage_view.show_in_scene(scene)
        self.tell(f"Found {Path(clip.filepath).name}: {footage_view.facts_sentence(scene, clip)}.")
        return {"FINISHED"}


class HANDS_OT_use_footage_rate(HandsOperator):
    """Let the scene play at the footage's frame rate; keys and footage stay on time with each other"""

    bl_idname = "hands.use_footage_rate"
    bl_label = "Use the Footage's Frame Rate"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """The rates have to differ."""
        if not _has_clip(cls, context):
            return False
        if footage_view.plays_at_footage_rate(context.scene):
            return refuse_poll(cls, "The scene plays at the footage's frame rate already")
        return True

    def run(self, context: Any) -> set[str]:
        """Set the rate and put the footage in step with it."""
        scene = context.scene
        before, rate = footage_view.scene_frame_rate(scene), footage_view.footage_rate(scene)
        if rate is None:
            raise FootageError("The scene has no footage, load one first.")
        scene.render.fps, scene.render.fps_base = rate.fps, rate.base
        footage_view.show_in_scene(scene)
        self.tell(f"The scene plays at {rate} fps now, it was {before}.")
        return {"FINISHED"}


class HANDS_OT_use_footage_length(HandsOperator):
    """Let the scene begin and end with the footage"""

    bl_idname = "hands.use_footage_length"
    bl_label = "Use the Footage's Length"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """The ranges have to differ."""
        if not _has_clip(cls, context):
            return False
        scene = context.scene
        if (scene.frame_start, scene.frame_end) == footage_view.footage_range(scene):
            return refuse_poll(cls, "The scene has the footage's length already")
        return True

    def run(self, context: Any) -> set[str]:
        """Set the scene's range."""
        scene = context.scene
        scene.frame_start, scene.frame_end = footage_view.footage_range(scene)
        self.tell(f"The scene runs from frame {scene.frame_start} to {scene.frame_end} now.")
        return {"FINISHED"}


class HANDS_OT_use_footage_size(HandsOperator):
    """Render pictures of the footage's size, so that the camera frames exactly what it shows"""

    bl_idname = "hands.use_footage_size"
    bl_label = "Use the Footage's Size"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """The shapes have to differ."""
        if not _has_clip(cls, context):
            return False
        if footage_view.has_footage_shape(context.scene, tuple(context.scene.two_hands.footage.clip.size)):
            return refuse_poll(cls, "Renders have the footage's shape already")
        return True

    def run(self, context: Any) -> set[str]:
        """Set the render size."""
        scene = context.scene
        size = tuple(scene.two_hands.footage.clip.size)
        footage_view.set_render_size(scene, size)
        self.tell(f"Renders are {size[0]} x {size[1]} pixels now.")
        return {"FINISHED"}


class HANDS_OT_sync_footage(HandsOperator):
    """Put the footage behind its camera again, on time with the scene"""

    bl_idname = "hands.sync_footage"
    bl_label = "Sync Again"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """It has to be out of step."""
        if not _has_clip(cls, context):
            return False
        if footage_view.camera_of(context.scene) is not None and footage_view.shows_in_step(context.scene):
            return refuse_poll(cls, "The footage is in step with the scene")
        return True

    def run(self, context: Any) -> set[str]:
        """Show it anew."""
        footage_view.show_in_scene(context.scene)
        self.tell(footage_view.mapping_sentence(context.scene, context.scene.two_hands.footage.clip))
        return {"FINISHED"}


class HANDS_OT_look_through(HandsOperator):
    """Look through the footage's camera, or back at the scene"""

    bl_idname = "hands.look_through"
    bl_label = "Look Through"
    bl_options: ClassVar = {"REGISTER"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """A 3D view and a camera are needed."""
        if context.area is None or context.area.type != "VIEW_3D":
            return refuse_poll(cls, "Only a 3D view can look through a camera")
        if footage_view.camera_of(context.scene) is None:
            return refuse_poll(cls, "There is no footage camera yet, load footage first")
        return True

    def run(self, context: Any) -> set[str]:
        """Turn the view; a change of the active camera is an undo step, that of a view is not."""
        scene, space = context.scene, context.space_data
        if footage_view.looks_through(space, scene):
            bpy.ops.view3d.view_camera()
            return {"FINISHED"}
        space.use_local_camera = False
        if scene.camera != footage_view.camera_of(scene):
            scene.camera = footage_view.camera_of(scene)
            bpy.ops.ed.undo_push(message=self.bl_label)
        if space.region_3d.view_perspective != "CAMERA":
            bpy.ops.view3d.view_camera()
        footage_view.turn_to_camera(space)
        return {"FINISHED"}


class HANDS_FH_footage(bpy.types.FileHandler):  # type: ignore[misc]
    """Loads a video that is dropped on a 3D view."""

    bl_idname = "HANDS_FH_footage"
    bl_label = "Footage of Hands"
    bl_import_operator = HANDS_OT_load_footage.bl_idname
    bl_file_extensions = ";".join(_MOVIE_SUFFIXES)

    @classmethod
    def poll_drop(cls, context: Any) -> bool:
        """Other editors have uses of their own for a video."""
        return context.area is not None and context.area.type == "VIEW_3D"


def _has_clip(cls: Any, context: Any, *, is_lost: bool = False) -> bool:
    clip = context.scene.two_hands.footage.clip
    if clip is None:
        return refuse_poll(cls, "Load footage first")
    if not is_lost and footage_view.is_missing(clip):
        return refuse_poll(cls, "The footage is not where it was, relink it first")
    return True


def _turn_views(context: Any) -> None:
    """Turn the 3D view that was dropped on to the camera, or every one of the screen."""
    if context.area is not None and context.area.type == "VIEW_3D":
        areas = [context.area]
    else:
        areas = [area for area in getattr(context.screen, "areas", ()) if area.type == "VIEW_3D"]
    for area in areas:
        footage_view.turn_to_camera(area.spaces.active)
    ticker.redraw()


CLASSES: Final = (
    HANDS_OT_load_footage,
    HANDS_OT_relink_clip,
    HANDS_OT_use_footage_rate,
    HANDS_OT_use_footage_length,
    HANDS_OT_use_footage_size,
    HANDS_OT_sync_footage,
    HANDS_OT_look_through,
    HANDS_FH_footage,
)
