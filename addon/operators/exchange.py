"""Exchange: a take as parameters or a table for other programs, and other programs' results as a take."""

import math
from pathlib import Path
from typing import Any, ClassVar, Final

import bpy

from dir_core.errors import ExchangeError, HandModelError
from dir_core.exchange.joints_csv import save_joints
from dir_core.exchange.parameters import reshape_hands, save_mano, save_smplx
from dir_core.hand_model import load_hand_models
from dir_core.take import Take

from .. import clean_job, footage_view, gpu_runtime, result_import, scene, takes
from ..preferences import preferences, takes_folder
from ..properties import SCENE_PROPERTY
from .base import HandsOperator, has_take, refuse_poll

_TICK: Final = 0.1  # seconds between two looks at the process of an import
_ENDINGS: Final = {"MANO": (".npz", ".json"), "SMPLX": (".npz", ".json"), "CSV": (".csv",)}


class HANDS_OT_export_parameters(HandsOperator):
    """Write the take as parameters of MANO or SMPL-X, or as a table of joint positions"""

    bl_idname = "hands.export_parameters"
    bl_label = "Export Parameters"
    bl_options: ClassVar = {"REGISTER"}

    filepath: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="File",
        description="Where the parameters are written; parameters may also end in .json",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    filter_glob: bpy.props.StringProperty(default="*.npz;*.json;*.csv", options={"HIDDEN"})  # type: ignore[valid-type]
    check_existing: bpy.props.BoolProperty(default=True, options={"HIDDEN"})  # type: ignore[valid-type]
    kind: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Format",
        description="What is written of the take, cleaned if Clean Up is on",
        items=(
            ("MANO", "MANO (.npz, .json)", "Both hands as parameters of MANO, in the axes of the camera"),
            ("SMPLX", "SMPL-X (.npz, .json)", "The hands of a whole body, laid out as AMASS files are"),
            ("CSV", "Joint Positions (.csv)", "21 key points per hand and frame in metres, for a spreadsheet"),
        ),
        default="MANO",
    )
    axes: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Axes",
        description="Of the joint positions in a table",
        items=(
            ("camera", "Camera", "X right, Y down, Z forward"),
            ("blender", "Blender", "X right, Y forward, Z up"),
        ),
        default="camera",
    )

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be a take."""
        return has_take(cls, context)

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Ask for the file, beside the take; meanwhile the clean-up runs if it has to."""
        item: Any = takes.active_take(context.scene)
        self.filepath = str(self._fitting(takes.raw_path(item).with_suffix(f".{self.kind.lower()}")))
        if item.clean_up.enabled:
            clean_job.ask_for(item)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def check(self, _context: Any) -> bool:
        """Put the format's ending behind the name, so that Blender warns of a file that is there."""
        fitting = str(self._fitting(Path(self.filepath)))
        changed = fitting != self.filepath
        self.filepath = fitting
        return changed

    def draw(self, _context: Any) -> None:
        """The choices beside the file browser."""
        self.layout.use_property_split = True
        self.layout.prop(self, "kind")
        if self.kind == "CSV":
            self.layout.prop(self, "axes")

    def run(self, context: Any) -> set[str]:
        """Write the file, whole or not at all.

        Raises:
            OutputError: the file cannot be written.
            HandCaptureError: the take cannot be cleaned, or its hand model is not to be had.
        """
        item: Any = takes.active_take(context.scene)
        path = self._fitting(Path(bpy.path.abspath(self.filepath)))
        if path.resolve() == takes.raw_path(item).resolve():
            raise ExchangeError(f"{path} is the raw take, which is never changed: choose another name.")
        take = clean_job.clean_take_of(item) if item.clean_up.enabled else takes.load_raw(item)
        if self.kind == "SMPLX":
            save_smplx(take, path)
        elif self.kind == "CSV":
            save_joints(take, _own_models(take), path, self.axes)
        else:
            models = _own_models(take)
            folder = gpu_runtime.hands_folder(preferences(context))
            wanted = load_hand_models(folder) if folder else models
            if wanted["right"].digest != models["right"].digest:  # who has MANO's files wants its betas
                take, models = reshape_hands(take, models, wanted), wanted
            save_mano(take, models, path)
            self.report({"INFO"}, f"The betas belong to: {models['right'].name}.")
        self.tell(f"Exported {len(take):,} frames to {path}.")
        return {"FINISHED"}

    def _fitting(self, path: Path) -> Path:
        """The path with an ending of the format."""
        good = _ENDINGS[self.kind]
        if path.suffix in good:
            return path
        known = {ending for endings in _ENDINGS.values() for ending in endings}
        return path.with_suffix(good[0]) if path.suffix in known else path.with_name(path.name + good[0])


class HANDS_OT_import_results(HandsOperator):
    """Make a take of what another program has captured: MANO parameters (HaMeR, WiLoR) or MediaPipe landmarks"""

    bl_idname = "hands.import_results"
    bl_label = "Import Results"
    bl_options: ClassVar = {"UNDO"}  # no panel to change the choices afterwards, which would import again and again

    filepath: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Results",
        description="File of the other program, or a folder with an .npz file for every frame",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    filter_glob: bpy.props.StringProperty(  # type: ignore[valid-type]
        default="*.npz;*.json;*.ndjson;*.jsonl", options={"HIDDEN"}
    )
    use_footage: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Use Footage",
        description="The results were made from the footage of the scene, which says size, times and lens",
        default=True,
    )
    frame_rate: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Frame Rate", description="Frames per second of the results; 0 takes what the file says", min=0.0, max=1e4
    )
    image_size: bpy.props.IntVectorProperty(  # type: ignore[valid-type]
        name="Picture Size",
        description="Width and height of the picture in pixels; 0 takes what the file says",
        size=2,
        min=0,
    )
    field_of_view: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Field of View",
        description="Horizontal, of the lens; 0 takes what the file says, or 60 degrees",
        subtype="ANGLE",
        min=0.0,
        max=math.radians(170),
    )
    hand_length: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Hand Length",
        description="Wrist crease to the tip of the middle finger; 0 takes what the file says, or an average adult's",
        subtype="DISTANCE",
        min=0.0,
        max=0.4,
    )
    mirrored: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Mirrored Footage", description="The footage is a selfie, left and right are exchanged in it"
    )
    labels: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Left and Right",
        description="What the labels of MediaPipe's landmarks mean",
        items=(
            ("picture", "Of the Picture", "The sides of the picture as it was given; the newer versions"),
            ("selfie", "Of a Selfie", "The sides if the picture were a selfie; the older versions, for every picture"),
        ),
        default="picture",
    )
    left_hands: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Left Hands",
        description="What the MANO parameters of left hands mean",
        items=(
            ("auto", "By the File", "As programs that write such files do"),
            ("own", "As They Are", "A left hand has parameters of its own"),
            ("mirrored", "In the Mirror", "A left hand has those of the right hand in the mirror, as HaMeR's"),
        ),
        default="auto",
    )
    relaxed_mean: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="From Mean Pose",
        description="The MANO poses count from the mean pose and not from the flat hand (flat_hand_mean is off)",
    )
    build: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Build Hands", description="Build two rigged hands for the take and key them", default=True
    )

    _running: result_import.ResultImport | None = None
    _timer: Any = None

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Bones can only be made in object mode."""
        return context.mode == "OBJECT" or refuse_poll(cls, "Leave for object mode first")

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Ask for the file, unless one was dropped."""
        self.mirrored = getattr(context.scene, SCENE_PROPERTY).capture.mirrored
        if self.filepath:
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def draw(self, context: Any) -> None:
        """The choices beside the file browser."""
        layout = self.layout
        layout.use_property_split = True
        has_footage = _footage_path(context.scene) is not None
        row = layout.column()
        row.enabled = has_footage
        row.prop(self, "use_footage")
        if not (has_footage and self.use_footage):
            for name in ("frame_rate", "image_size", "field_of_view"):
                layout.prop(self, name)
        for name in ("hand_length", "mirrored", "build"):
            layout.prop(self, name)
        layout.label(text="MediaPipe Landmarks")
        layout.prop(self, "labels")
        layout.label(text="MANO Parameters")
        layout.prop(self, "left_hands")
        layout.prop(self, "relaxed_mean")

    def run(self, context: Any) -> set[str]:
        """Start the import; with a window Blender stays free while it runs, and Escape ends it."""
        if self._running is None:
            if not self.filepath:
                raise ExchangeError("No results were chosen, pick the file of the other program.")
            path = Path(bpy.path.abspath(self.filepath))
            take = takes.free_path(takes_folder(context), path.stem)
            self._running = result_import.start_import(path, take, self._options(context))
            if not bpy.app.background:
                self._timer = context.window_manager.event_timer_add(_TICK, window=context.window)
                context.window_manager.modal_handler_add(self)
                context.workspace.status_text_set("Importing the Results    Esc: Cancel")
                return {"RUNNING_MODAL"}
            self._running.wait()
        running, self._running = self._running, None
        notes = running.sentences()
        footage = _footage_path(context.scene) if self.use_footage else None
        try:
            bpy.ops.hands.add_take(
                "EXEC_DEFAULT",
                False,  # the import is the undo step
                filepath=str(running.take),
                footage=str(footage or ""),
                start=getattr(context.scene, SCENE_PROPERTY).footage.start,
                build=self.build,
            )
        except RuntimeError as error:
            reason = str(error).removeprefix("Error: ").strip()
            raise ExchangeError(f"The take lies at {running.take}, add it from there: {reason}") from error
        for note in notes[:-1]:
            self.report({"WARNING"}, note)
        self.tell(notes[-1])
        return {"FINISHED"}

    def modal(self, context: Any, event: Any) -> set[str]:
        """Look whether the process has ended."""
        if event.type == "ESC":
            self.cancel(context)
            return {"CANCELLED"}
        if event.type != "TIMER" or self._running is None or not self._running.is_done():
            return {"RUNNING_MODAL" if event.type == "TIMER" else "PASS_THROUGH"}
        self._leave(context)
        return self.execute(context)

    def cancel(self, context: Any) -> None:
        """Leave nothing behind; Blender calls this too, for example when the window closes."""
        if self._running is not None:
            self._running.cancel()
        self._leave(context)

    def _leave(self, context: Any) -> None:
        if self._timer is not None:
            context.window_manager.event_timer_remove(self._timer)
            context.workspace.status_text_set(None)
            self._timer = None

    def _options(self, context: Any) -> list[str]:
        """The choices as words of the command line."""
        options = [f"--labels={self.labels}", f"--left-hands={self.left_hands}"]
        footage = _footage_path(context.scene) if self.use_footage else None
        if footage is not None:
            matrix, _ = footage_view.camera_matrix_of(context.scene)
            options += [f"--footage={footage}", f"--focal-length={abs(float(matrix[0, 0]))}"]
            clip, rate = getattr(context.scene, SCENE_PROPERTY).footage.clip, footage_view.footage_rate(context.scene)
            if clip.source == "SEQUENCE" and rate is not None:
                options.append(f"--frame-rate={rate.value}")
        else:
            if self.frame_rate:
                options.append(f"--frame-rate={self.frame_rate}")
            if all(self.image_size):
                options += ["--image-size", *map(str, self.image_size)]
            if self.field_of_view:
                options.append(f"--field-of-view={math.degrees(self.field_of_view)}")
        if self.hand_length:
            options.append(f"--hand-length={100 * self.hand_length}")
        if self.mirrored:
            options.append("--mirrored")
        if self.relaxed_mean:
            options.append("--relaxed-mean")
        folder = gpu_runtime.hands_folder(preferences(context))
        return [*options, f"--hand-model={folder}"] if folder else options


class HANDS_FH_results(bpy.types.FileHandler):  # type: ignore[misc]
    """Imports landmarks that are dropped on a 3D view."""

    bl_idname = "HANDS_FH_results"
    bl_label = "Hand Results"
    bl_import_operator = HANDS_OT_import_results.bl_idname
    bl_file_extensions = ".json;.ndjson;.jsonl"

    @classmethod
    def poll_drop(cls, context: Any) -> bool:
        """Results are dropped on 3D views."""
        return context.area is not None and context.area.type == "VIEW_3D"


def draw_import_entry(menu: Any, _context: Any) -> None:
    """The entry in File > Import."""
    menu.layout.operator(HANDS_OT_import_results.bl_idname, text="Hand Results (.npz, .json)")


def _own_models(take: Take) -> Any:
    """The hand models that the take's shape belongs to.

    Raises:
        HandModelError: they are not to be had.
    """
    models, missing = scene.find_models(take)
    if missing:
        raise HandModelError(f"{missing} Its joints are not known without them.")
    return models


def _footage_path(scene_: Any) -> Path | None:
    """The file of the scene's footage, if there is one."""
    clip = getattr(scene_, SCENE_PROPERTY).footage.clip
    if clip is None or footage_view.is_missing(clip):
        return None
    return Path(bpy.path.abspath(clip.filepath, library=clip.library)).resolve()


CLASSES: Final = (HANDS_OT_export_parameters, HANDS_OT_import_results, HANDS_FH_results)


def register() -> None:
    """Add the menu entry."""
    bpy.types.TOPBAR_MT_file_import.append(draw_import_entry)


def unregister() -> None:
    """Take the menu entry out again."""
    bpy.types.TOPBAR_MT_file_import.remove(draw_import_entry)
