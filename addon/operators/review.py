"""Review: from problem to problem, and the user's corrections of a range. What they do to a take is dir_core's work."""

from typing import Any, ClassVar, Final, cast

import bpy
import numpy as np

from dir_core.clean_up.edits import Edit, EditKind
from dir_core.conventions import SIDES
from dir_core.errors import HandCaptureError, SettingsError

from .. import clean_job, keying, review_data, take_keys, takes
from .base import HandsOperator, has_take, refuse_poll

LIST_PROPERTY: Final = "two_hands_problems"
"""Of the window manager: the problems of the active take for the list. Not saved and no part of undo."""

ACTIVE_PROPERTY: Final = "two_hands_problem"
"""Of the window manager: which of them was visited last."""

_OWNER: Final = "two_hands_problems_of"


class HandsProblem(bpy.types.PropertyGroup):  # type: ignore[misc]
    """One line of the list. `name` is the sentence."""

    kind: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    side: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    first: bpy.props.IntProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    last: bpy.props.IntProperty(options={"HIDDEN"})  # type: ignore[valid-type]


class _TakeOperator(HandsOperator):
    """Needs a take."""

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be a take."""
        if not has_take(cls, context):
            return False
        if takes.missing_files(takes.active_take(context.scene)).take:
            return refuse_poll(cls, "The file of the take is missing, relink it in the list of takes")
        return True


class HANDS_OT_jump_problem(_TakeOperator):
    """Go to a place that is worth a look, and make it the range of the next correction"""

    bl_idname = "hands.jump_problem"
    bl_label = "Jump to Problem"
    bl_options: ClassVar = {"REGISTER", "UNDO_GROUPED"}  # one jump after the other is one step, as other ways of going
    bl_undo_group = bl_label

    direction: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Direction",
        description="Which of the problems",
        items=(
            ("PREVIOUS", "Previous", "The last one before the current frame"),
            ("NEXT", "Next", "The first one after the current frame"),
            ("INDEX", "Number", "The one with a number in the list"),
        ),
        default="NEXT",
    )
    index: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Number", description="Of the problem in the list, from 0", default=0, min=0
    )

    @classmethod
    def description(cls, context: Any, properties: Any) -> str:
        """What the button does, or what there is to see."""
        if properties.direction == "INDEX":
            lines = getattr(context.window_manager, LIST_PROPERTY)
            return lines[properties.index].name.rstrip(".") if properties.index < len(lines) else ""
        return f"Go to the {properties.direction.lower()} place that is worth a look"

    def run(self, context: Any) -> set[str]:
        """Move the current frame; the range of the correction follows."""
        scene = context.scene
        problems = _list_problems(scene)
        index = self._find(problems, scene.frame_current)
        if index is None:
            where = "before" if self.direction == "PREVIOUS" else "after"
            self.report({"INFO"}, f"There is no problem {where} frame {scene.frame_current}.")
            return {"CANCELLED"}
        problem = problems[index]
        setattr(context.window_manager, ACTIVE_PROPERTY, index)
        set_range(scene, problem.first, problem.last, problem.side)
        scene.frame_set(problem.first)
        return {"FINISHED"}

    def _find(self, problems: Any, frame: int) -> int | None:
        if self.direction == "INDEX":
            return self.index if self.index < len(problems) else None
        numbers = [number for number, problem in enumerate(problems) if problem.first != frame]
        if self.direction == "NEXT":
            return next((number for number in numbers if problems[number].first > frame), None)
        return next((number for number in reversed(numbers) if problems[number].first < frame), None)


class HANDS_OT_set_range(_TakeOperator):
    """Take the range of the correction from elsewhere"""

    bl_idname = "hands.set_range"
    bl_label = "Set Range"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    source: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="From",
        description="Where the range comes from",
        items=(
            ("PROBLEM", "Problem", "The problem on the current frame, or the next one"),
            ("PREVIEW", "Preview Range", "The scene's preview range"),
            ("KEYS", "Selected Keys", "From the first to the last selected key of the hands"),
        ),
    )

    @classmethod
    def description(cls, _context: Any, properties: Any) -> str:
        """What the button does."""
        return {
            "PROBLEM": "Take the range of the problem on the current frame, or of the next one",
            "PREVIEW": "Take the scene's preview range",
            "KEYS": "Take the range from the first to the last selected key of the hands",
        }[properties.source]

    def run(self, context: Any) -> set[str]:
        """Find the range, then set it."""
        scene = context.scene
        first, last, side = {"PROBLEM": _problem_range, "PREVIEW": _preview_range, "KEYS": _key_range}[self.source](
            scene
        )
        set_range(scene, first, last, side)
        self.tell(f"The correction is on frames {first} to {last}.")
        return {"FINISHED"}


class HANDS_OT_edit_take(_TakeOperator):
    """Correct the take on the range; the raw take stays as it is and the keys follow"""

    bl_idname = "hands.edit_take"
    bl_label = "Correct Range"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    kind: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Correction",
        description="What is put right on the range",
        items=(
            ("swap", "Swap", "Exchange left and right"),
            ("drop", "Drop", "No hand is there"),
            ("trust", "Trust Less", "Believe less of what was seen"),
        ),
    )

    @classmethod
    def description(cls, _context: Any, properties: Any) -> str:
        """What the button does."""
        return {
            "swap": "Exchange the left and the right hand on the range; the keys follow",
            "drop": "Say that the hand is not there on the range; what lies around it carries on",
            "trust": "Believe so much of what was seen on the range; 0 leaves it to what lies around it",
        }[properties.kind]

    def run(self, context: Any) -> set[str]:
        """Append the correction and let the keys follow."""
        item, choice = takes.active_take(context.scene), context.scene.two_hands.review
        raw = takes.load_raw(item)
        if choice.last < choice.first:
            raise SettingsError(
                f"The range runs from frame {choice.first} back to {choice.last}, give the smaller one first."
            )
        first, last = review_data.source_range(raw, item, choice.first, choice.last)
        side = choice.side if choice.side in SIDES and self.kind != "swap" else None
        weight = round(choice.weight, 3) if self.kind == "trust" else 1.0
        edit = Edit(cast(EditKind, self.kind), first, last, side, weight)
        _change_edits(context, item, (*takes.edits_of(item), edit))
        pictures = int(edit.rows_of(raw).sum())
        self.tell(f"{edit_sentence(edit, raw, item)}: {pictures} picture{'' if pictures == 1 else 's'}.")
        return {"FINISHED"}


class HANDS_OT_remove_edit(_TakeOperator):
    """Take this correction back; the keys follow"""

    bl_idname = "hands.remove_edit"
    bl_label = "Remove Correction"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    index: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Number", description="Of the correction in the list, from 0", default=0, min=0
    )

    def run(self, context: Any) -> set[str]:
        """Leave it out and let the keys follow."""
        item = takes.active_take(context.scene)
        edits = takes.edits_of(item)
        if self.index >= len(edits):
            raise SettingsError(f"The take has no correction {self.index + 1}, it has {len(edits)}.")
        _change_edits(context, item, edits[: self.index] + edits[self.index + 1 :])
        self.tell(f"Removed: {edit_sentence(edits[self.index], takes.load_raw(item), item)}.")
        return {"FINISHED"}


def edit_sentence(edit: Edit, take: Any, item: Any) -> str:
    """A correction in scene frames, for a report."""
    first, last = review_data.scene_range(take, item, edit.first, edit.last)
    return f"{_name_edit(edit)} on frame{f' {first}' if first == last else f's {first} to {last}'}"


def edit_label(edit: Edit, take: Any, item: Any) -> str:
    """A correction in scene frames, as short as a line of the panel."""
    first, last = review_data.scene_range(take, item, edit.first, edit.last)
    return f"{first if first == last else f'{first}-{last}'}  {_name_edit(edit)}"


def _name_edit(edit: Edit) -> str:
    if edit.kind == "swap":
        return "Swapped"
    what = "Dropped" if edit.kind == "drop" else f"Trusted {edit.weight:.0%}"
    return f"{what}, {f'{edit.side} hand' if edit.side else 'both hands'}"


def set_range(scene: Any, first: int, last: int, side: str = "") -> None:
    """Make these scene frames the range of the correction, for one side or both."""
    choice = scene.two_hands.review
    choice.first, choice.last = first, last
    choice.side = side or "both"


def _change_edits(context: Any, item: Any, edits: tuple[Edit, ...]) -> None:
    """Keep other corrections and let the keys follow; where they cannot, nothing has changed."""
    before = takes.edits_of(item)
    takes.set_edits(item, edits)
    try:
        clean_job.follow_take(context, item)
    except HandCaptureError:
        takes.set_edits(item, before)
        raise


def _list_problems(scene: Any) -> Any:
    """The list of problems, brought up to date."""
    review_data.look(scene)
    if bpy.context.window_manager.get(_OWNER) != scene.name:  # another window shows another scene
        _fill_list(scene)
    return getattr(bpy.context.window_manager, LIST_PROPERTY)


def _fill_list(scene: Any) -> None:
    """Write what is known of the active take into the list; never called while drawing, which may not write."""
    manager, item, review = bpy.context.window_manager, takes.active_take(scene), review_data.review_of(scene)
    lines = getattr(manager, LIST_PROPERTY)
    lines.clear()
    manager[_OWNER] = scene.name
    if review is None:
        return
    for problem in review.problems:
        line = lines.add()
        line.name, line.kind, line.side = problem.sentence, problem.kind, problem.side or ""
        line.first, line.last = review_data.scene_range(review.raw, item, problem.first, problem.last)


def _problem_range(scene: Any) -> tuple[int, int, str]:
    frame = scene.frame_current
    for problem in _list_problems(scene):
        if problem.last >= frame:
            return problem.first, problem.last, problem.side
    raise SettingsError(f"There is no problem on or after frame {frame}, go back to one.")


def _preview_range(scene: Any) -> tuple[int, int, str]:
    if not scene.use_preview_range:
        raise SettingsError("The scene has no preview range, draw one in the Timeline with P.")
    return scene.frame_preview_start, scene.frame_preview_end, ""


def _key_range(scene: Any) -> tuple[int, int, str]:
    frames: dict[str, list[float]] = {}
    for side, armature in take_keys.hands_of(takes.active_take(scene)).items():
        for curve in keying.curves_of(armature):
            points = curve.keyframe_points
            chosen, places = np.empty(len(points), bool), np.empty(2 * len(points), np.float32)
            points.foreach_get("select_control_point", chosen)
            if chosen.any():
                points.foreach_get("co", places)
                frames.setdefault(side, []).extend((places[::2][chosen].min(), places[::2][chosen].max()))
    if not frames:
        raise SettingsError("No key of the hands is selected, select some in the Dope Sheet.")
    every = [frame for side in frames.values() for frame in side]
    return round(min(every)), round(max(every)), next(iter(frames)) if len(frames) == 1 else ""


def _draw_jumps(header: Any, context: Any) -> None:
    """Previous and next problem in the header of the Dope Sheet and the Timeline."""
    if takes.active_take(context.scene) is not None and context.scene.two_hands.review.show_strip:
        draw_jumps(header.layout)


def draw_jumps(layout: Any) -> None:
    """Buttons to the previous and the next problem."""
    row = layout.row(align=True)
    name = HANDS_OT_jump_problem.bl_idname
    row.operator(name, text="", icon="TRIA_LEFT").direction = "PREVIOUS"
    row.operator(name, text="", icon="TRIA_RIGHT").direction = "NEXT"


CLASSES: Final = (
    HandsProblem,
    HANDS_OT_jump_problem,
    HANDS_OT_set_range,
    HANDS_OT_edit_take,
    HANDS_OT_remove_edit,
)


def register() -> None:
    """Keep the list of problems, and show the jumps in the Dope Sheet."""
    manager = bpy.types.WindowManager
    setattr(manager, LIST_PROPERTY, bpy.props.CollectionProperty(type=HandsProblem, options={"SKIP_SAVE"}))
    setattr(manager, ACTIVE_PROPERTY, bpy.props.IntProperty(name="Problem", options={"SKIP_SAVE"}))
    review_data.listen_to_review(_fill_list)
    bpy.types.DOPESHEET_HT_header.append(_draw_jumps)


def unregister() -> None:
    """Take both away."""
    bpy.types.DOPESHEET_HT_header.remove(_draw_jumps)
    delattr(bpy.types.WindowManager, ACTIVE_PROPERTY)
    delattr(bpy.types.WindowManager, LIST_PROPERTY)
