"""Every operator and panel that is registered: what it does to the file, what undo gives back, what it tells the user.

Each operator has a scenario here. One without fails a test, so that a new one cannot be forgotten.
"""

import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bpy
import pytest

import addon
from addon import capture_job, footage_view, gpu_runtime, log, registration, take_keys, takes
from dir_core.exchange.parameters import save_mano
from dir_core.hand_model import open_hand_models
from dir_core.retargeting.rig_map import known_rig_maps
from dir_core.take import load_take
from dir_core.worker.protocol import JobRequest
from tests.blender.stage import DEMO, add_hands, load_footage, use_own_user_folder, write_take
from tests.blender.undo import assert_one_undo_step, differences, file_state

Values = dict[str, Any]
Patch = pytest.MonkeyPatch
Scenario = Callable[[Path, Patch], Values]
"""Prepares the open file so that the operator has something to do, and gives the properties it is called with."""

CHANGING = [
    cls
    for cls in registration.classes()
    if issubclass(cls, bpy.types.Operator) and {"UNDO", "UNDO_GROUPED"} & set(getattr(cls, "bl_options", ()))
]
QUIET = [cls for cls in registration.classes() if issubclass(cls, bpy.types.Operator) and cls not in CHANGING]

WINDOWED = {
    "hands.draw_box": "is dragged in a 3D view",
    "hands.look_through": "turns a 3D view",
}
"""Operators that need a window, with the reason; the windowed tests go through them."""

BRINGS_A_TAKE = {
    "hands.capture": "without a window it waits for the take, which hands.add_take adds",
    "hands.add_captured": "the take is added by hands.add_take",
    "hands.resume_capture": "without a window it waits for the take, which hands.add_take adds",
}
"""Operators without an undo step of their own that call one with one, with the reason."""


@pytest.fixture(autouse=True)
def registered(empty_file: None, monkeypatch: Patch, tmp_path: Path) -> Iterator[None]:
    """The add-on, with a user folder of its own."""
    use_own_user_folder(monkeypatch, tmp_path / "user")
    addon.register()
    yield
    addon.unregister()


# --- scenarios -----------------------------------------------------------------------------------------------


def from_nothing(_folder: Path, _patch: Patch) -> Values:
    return {}


def with_take(folder: Path, _patch: Patch) -> Values:
    bpy.ops.hands.add_take(filepath=str(write_take(folder / "take.npz")), build=False)
    return {}


def with_hands(folder: Path, _patch: Patch) -> Values:
    add_hands(write_take(folder / "take.npz"))
    return {}


def load_footage_anew(_folder: Path, _patch: Patch) -> Values:
    return {"filepath": str(DEMO)}


def footage_elsewhere(folder: Path, _patch: Patch) -> Values:
    load_footage()
    return {"filepath": str(shutil.copy(DEMO, folder / "moved.mp4"))}


def scene_unlike_footage(_folder: Path, _patch: Patch) -> Values:
    scene = load_footage()
    scene.render.fps, scene.frame_end = 24, 1000
    footage_view.set_render_size(scene, (1000, 1000))
    footage_view.show_in_scene(scene)  # what follows a change of the rate by itself where there is a window
    return {}


def footage_out_of_step(_folder: Path, _patch: Patch) -> Values:
    load_footage().camera = None
    footage = bpy.context.scene.two_hands.footage
    footage_view.camera_of(bpy.context.scene).data.background_images.clear()
    assert not footage_view.shows_in_step(bpy.context.scene)
    assert footage.clip
    return {}


def a_changed_clean_up(folder: Path, _patch: Patch) -> Values:
    item = add_hands(write_take(folder / "take.npz"), clean=True)
    item.clean_up.fingers = 3.0
    return {}


def take_without_rigs(folder: Path, patch: Patch) -> Values:
    with_take(folder, patch)
    takes.active_take(bpy.context.scene).clean_up.enabled = False
    return {}


def hands_with_layer(folder: Path, patch: Patch) -> Values:
    with_hands(folder, patch)
    bpy.ops.hands.add_layer()
    return {}


def hands_before_a_moved_camera(folder: Path, patch: Patch) -> Values:
    load_footage()
    with_hands(folder, patch)
    footage_view.camera_of(bpy.context.scene).location.x += 1.0
    return {}


def a_take_file(folder: Path, _patch: Patch) -> Values:
    return {"filepath": str(write_take(folder / "take.npz"))}


def take_elsewhere(folder: Path, patch: Patch) -> Values:
    with_take(folder, patch)
    return {"filepath": str((folder / "take.npz").rename(folder / "moved.npz"))}


def take_of_footage_elsewhere(folder: Path, _patch: Patch) -> Values:
    bpy.ops.hands.add_take(filepath=str(write_take(folder / "take.npz")), footage=str(DEMO), build=False)
    return {"filepath": str(shutil.copy(DEMO, folder / "moved.mp4"))}


def take_in_saved_file(folder: Path, patch: Patch) -> Values:
    with_take(folder, patch)
    (folder / "home").mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "home" / "shot.blend"))
    return {}


def with_preview_range(folder: Path, patch: Patch) -> Values:
    with_take(folder, patch)
    scene = bpy.context.scene
    scene.use_preview_range, scene.frame_preview_start, scene.frame_preview_end = True, 4, 9
    return {"source": "PREVIEW"}


def clean_hands_and_range(folder: Path, _patch: Patch) -> Values:
    add_hands(write_take(folder / "take.npz"), clean=True)
    review = bpy.context.scene.two_hands.review
    review.first, review.last, review.side = 3, 6, "left"
    return {"kind": "drop"}


def hands_with_a_correction(folder: Path, patch: Patch) -> Values:
    bpy.ops.hands.edit_take(**clean_hands_and_range(folder, patch))
    return {"index": 0}


def character(folder: Path, patch: Patch) -> Values:
    """Keyed hands and a rig whose bones are named as a known one's."""
    with_hands(folder, patch)
    known = next(each for each in known_rig_maps() if each.name == "Mixamo")
    data = bpy.data.armatures.new("Rig")
    rig = bpy.data.objects.new("Rig", data)
    bpy.context.scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    for sign, hand in zip((1, -1), known.hands.values(), strict=True):
        wrist = data.edit_bones.new(hand.wrist)
        wrist.head, wrist.tail = (0.5 * sign, 0, 1), (0.6 * sign, 0, 1)
        for row, bones in enumerate(hand.fingers.values()):
            parent = wrist
            for joint, name in enumerate(bones):
                bone = data.edit_bones.new(name)
                bone.head = ((0.6 + 0.03 * joint) * sign, 0.02 * row - 0.04, 1)
                bone.tail = ((0.63 + 0.03 * joint) * sign, 0.02 * row - 0.04, 1)
                bone.parent, parent = parent, bone
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.context.scene.two_hands.retarget.target = rig
    return {}


def character_with_a_wrong_bone(folder: Path, patch: Patch) -> Values:
    character(folder, patch)
    bpy.context.scene.two_hands.retarget.bones["Left Ring 1"].bone = ""
    return {}


def character_with_hands(folder: Path, patch: Patch) -> Values:
    character(folder, patch)
    assert bpy.ops.hands.key_onto_rig() == {"FINISHED"}
    return {}


def posed_character(folder: Path, patch: Patch) -> Values:
    character(folder, patch)
    settings = bpy.context.scene.two_hands.retarget
    settings.target.pose.bones[settings.bones["Left Ring 1"].bone].rotation_quaternion = (0.8, 0.6, 0.0, 0.0)
    bpy.context.view_layer.update()
    return {}


def calibrated_character(folder: Path, patch: Patch) -> Values:
    posed_character(folder, patch)
    assert bpy.ops.hands.match_pose() == {"FINISHED"}
    return {}


def character_of_a_fist(folder: Path, patch: Patch) -> Values:
    character(folder, patch)
    for name in ("index1.L", "index2.L"):
        bone = bpy.data.objects["Hand Left"].pose.bones[name]
        bone.rotation_quaternion = (0.8, 0.6, 0.0, 0.0)
    bpy.context.view_layer.update()
    return {}


def character_and_map(folder: Path, patch: Patch) -> Values:
    character(folder, patch)
    path = folder / "kept.json"
    assert bpy.ops.hands.save_rig_map(filepath=str(path)) == {"FINISHED"}
    bpy.context.scene.two_hands.retarget.bones["Left Ring 1"].bone = ""
    return {"filepath": str(path)}


def capture_that_takes_no_time(folder: Path, patch: Patch) -> Values:
    """Footage, and a worker that has its take already."""
    take = write_take(folder / "captured.npz")

    def start(_python: str, job: Path, _paths: object) -> "subprocess.Popen[bytes]":
        shutil.copy(take, job / "result.npz")
        return subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE)

    patch.setattr(capture_job, "start_worker", start)
    load_footage()
    bpy.context.scene.two_hands.capture.use_hands = False
    return {}


def stopped_capture(folder: Path, patch: Patch) -> Values:
    """A capture that an earlier Blender has left."""
    capture_that_takes_no_time(folder, patch)
    scene = bpy.context.scene
    order = capture_job.order_from(scene, DEMO.name, 1, build=False)
    job = capture_job.add_job(scene, JobRequest(str(DEMO)), order)
    job.phase = "stopped"
    return {"job": job.name}


def running_capture(folder: Path, patch: Patch) -> Values:
    """A capture whose worker waits for the end of Blender."""
    values = stopped_capture(folder, patch)
    wait = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    patch.setattr(capture_job, "start_worker", lambda *_: subprocess.Popen(wait, stdin=subprocess.PIPE))
    capture_job.resume_job(capture_job.find_job(values["job"]))
    capture_job._step()
    assert capture_job.active_job()
    return values


def finished_capture(folder: Path, patch: Patch) -> Values:
    """A take that waits in the list of captures."""
    values = stopped_capture(folder, patch)
    job = capture_job.find_job(values["job"])
    shutil.copy(folder / "captured.npz", job.folder / "result.npz")
    job.phase = "finished"
    return values


def a_mistake_with_its_log(folder: Path, _patch: Patch) -> Values:
    log.note_mistake("It is gone.")
    return {"filepath": str(log.log_path())}


def a_mistake(folder: Path, patch: Patch) -> Values:
    a_mistake_with_its_log(folder, patch)
    return {}


def a_name_for_a_preset(folder: Path, patch: Patch) -> Values:
    with_take(folder, patch)
    return {"name": "Mine"}


def an_asset_library(folder: Path, patch: Patch) -> Values:
    (folder / "library.blend").touch()
    patch.setattr(take_keys, "LIBRARY", folder / "library.blend")
    return {}


def a_clean_take_to_save(folder: Path, patch: Patch) -> Values:
    with_take(folder, patch)
    return {"filepath": str(folder / "clean.npz")}


def results_of_another_program(folder: Path, _patch: Patch) -> Values:
    path = folder / "landmarks.npz"
    save_mano(load_take(write_take(folder / "take.npz")), open_hand_models(), path)
    return {"filepath": str(path), "build": False}


def parameters_to_export(folder: Path, patch: Patch) -> Values:
    take_without_rigs(folder, patch)
    return {"filepath": str(folder / "hands.json"), "kind": "SMPLX"}


def hands_to_export(folder: Path, patch: Patch) -> Values:
    with_hands(folder, patch)
    return {"filepath": str(folder / "hands.fbx")}


def a_take_with_a_problem(folder: Path, patch: Patch) -> Values:
    with_take(folder, patch)
    line = bpy.context.window_manager.two_hands_problems.add()
    line.name, line.first, line.last = "Lost", 5, 7
    patch.setattr("addon.operators.review._list_problems", lambda _: bpy.context.window_manager.two_hands_problems)
    return {"direction": "NEXT"}


def a_rig_map_to_save(folder: Path, patch: Patch) -> Values:
    character(folder, patch)
    return {"filepath": str(folder / "mine.json")}


def runtime_that_does_nothing(_folder: Path, patch: Patch) -> Values:
    """The operators of the runtime only start processes; these have tests of their own."""
    bpy.context.preferences.system.use_online_access = True
    for name in ("set_up", "remove", "test", "check_weights", "cancel", "drain"):
        patch.setattr(gpu_runtime, name, lambda *_: None)
    patch.setattr(gpu_runtime, "missing_runtime", lambda _: "")
    patch.setattr(gpu_runtime, "weights_path", lambda _: "weights.pth")
    patch.setattr(gpu_runtime, "status", SimpleStatus)
    return {}


class SimpleStatus:
    """Of a runtime that is there."""

    state = "ready"
    environment = "environment"
    build = "cpu"
    python = sys.executable


def running_setup(folder: Path, patch: Patch) -> Values:
    runtime_that_does_nothing(folder, patch)
    patch.setattr(gpu_runtime, "task", lambda: "setup")
    return {}


SCENARIOS: dict[str, Scenario] = {
    "hands.load_footage": load_footage_anew,
    "hands.relink_clip": footage_elsewhere,
    "hands.use_footage_rate": scene_unlike_footage,
    "hands.use_footage_length": scene_unlike_footage,
    "hands.use_footage_size": scene_unlike_footage,
    "hands.sync_footage": footage_out_of_step,
    "hands.capture": capture_that_takes_no_time,
    "hands.pause_capture": running_capture,
    "hands.resume_capture": stopped_capture,
    "hands.cancel_capture": running_capture,
    "hands.discard_capture": stopped_capture,
    "hands.add_captured": finished_capture,
    "hands.show_log": a_mistake_with_its_log,
    "hands.close_mistake": a_mistake,
    "hands.capture_preset_add": a_name_for_a_preset,
    "hands.reset_clean_up": a_changed_clean_up,
    "hands.clean_up_preset_add": a_name_for_a_preset,
    "hands.key_hands": take_without_rigs,
    "hands.add_layer": with_hands,
    "hands.remove_layer": hands_with_layer,
    "hands.place_hands": hands_before_a_moved_camera,
    "hands.add_asset_library": an_asset_library,
    "hands.add_take": a_take_file,
    "hands.remove_take": with_take,
    "hands.relink_take": take_elsewhere,
    "hands.relink_footage": take_of_footage_elsewhere,
    "hands.collect_takes": take_in_saved_file,
    "hands.refresh_takes": with_take,
    "hands.jump_problem": a_take_with_a_problem,
    "hands.set_range": with_preview_range,
    "hands.edit_take": clean_hands_and_range,
    "hands.remove_edit": hands_with_a_correction,
    "hands.detect_rig": character_with_a_wrong_bone,
    "hands.key_onto_rig": character,
    "hands.remove_from_rig": character_with_hands,
    "hands.bake_to_keys": character_with_hands,
    "hands.match_pose": posed_character,
    "hands.open_palm": character,
    "hands.fist": character_of_a_fist,
    "hands.reset_calibration": calibrated_character,
    "hands.save_rig_map": a_rig_map_to_save,
    "hands.load_rig_map": character_and_map,
    "hands.export": hands_to_export,
    "hands.save_clean_take": a_clean_take_to_save,
    "hands.export_parameters": parameters_to_export,
    "hands.import_results": results_of_another_program,
    "hands.set_up_runtime": runtime_that_does_nothing,
    "hands.cancel_runtime": running_setup,
    "hands.test_runtime": runtime_that_does_nothing,
    "hands.remove_runtime": runtime_that_does_nothing,
    "hands.check_weights": runtime_that_does_nothing,
}


def call_of(idname: str) -> Any:
    """The operator as it is called: bpy.ops.hands.NAME."""
    module, name = idname.split(".")
    return getattr(getattr(bpy.ops, module), name)


def prepare(cls: Any, folder: Path, patch: Patch) -> Values:
    """Play the scenario of an operator."""
    if cls.bl_idname in WINDOWED:
        pytest.skip(f"{cls.bl_idname} {WINDOWED[cls.bl_idname]}")
    assert cls.bl_idname in SCENARIOS, f"{cls.bl_idname} is new: say in SCENARIOS when it has something to do"
    return SCENARIOS[cls.bl_idname](folder, patch)


# --- what an operator does to the file -----------------------------------------------------------------------


def test_no_scenario_is_left_of_an_operator_that_has_gone() -> None:
    there = {cls.bl_idname for cls in (*CHANGING, *QUIET)}
    assert SCENARIOS.keys() | WINDOWED.keys() | BRINGS_A_TAKE.keys() <= there


@pytest.mark.parametrize("cls", CHANGING, ids=lambda cls: cls.bl_idname)
def test_what_changes_the_file_is_one_undo_step(cls: Any, tmp_path: Path, monkeypatch: Patch) -> None:
    values = prepare(cls, tmp_path, monkeypatch)
    assert_one_undo_step(call_of(cls.bl_idname), **values)


@pytest.mark.parametrize("cls", QUIET, ids=lambda cls: cls.bl_idname)
def test_what_makes_no_undo_step_leaves_the_file_alone(cls: Any, tmp_path: Path, monkeypatch: Patch) -> None:
    values = prepare(cls, tmp_path, monkeypatch)
    if cls.bl_idname in BRINGS_A_TAKE:
        assert_one_undo_step(call_of(cls.bl_idname), **values)
        return
    bpy.ops.ed.undo_push(message="ready")
    before = file_state()
    assert call_of(cls.bl_idname)("EXEC_DEFAULT", True, **values) == {"FINISHED"}
    assert not differences(before, file_state())


# --- what the user reads -------------------------------------------------------------------------------------

SMALL_WORDS = {
    "a",
    "an",
    "and",
    "as",
    "before",
    "by",
    "for",
    "from",
    "in",
    "of",
    "on",
    "onto",
    "or",
    "per",
    "the",
    "to",
}

READ = [
    cls
    for cls in registration.classes()
    if issubclass(cls, (bpy.types.Operator, bpy.types.Panel, bpy.types.PropertyGroup, bpy.types.AddonPreferences))
]
"""Classes whose words the user meets."""


def is_title_case(label: str) -> bool:
    """Whether a label is written as Blender writes its own."""
    words = re.findall(r"[^\s/(-]+", label)
    return all(word in SMALL_WORDS or not word[0].islower() for word in words) and not words[0][0].islower()


def is_tooltip(text: str) -> bool:
    """Whether a text is a tooltip: there, in one piece, and without the full stop that Blender adds."""
    return bool(text) and text[0] == text[0].upper() and text[-1].isalnum() | (text[-1] in ")'\"%") and "\n" not in text


@pytest.mark.parametrize(
    ("label", "good"),
    [
        ("Use the Footage's Frame Rate", True),
        ("Clean-Up Presets", True),
        ("Key onto Rig", True),
        ("key Rig", False),
        ("Clean-up Presets", False),
        ("Draw box", False),
        ("the Box", False),
    ],
)
def test_title_case_is_told_from_other_writing(label: str, good: bool) -> None:
    assert is_title_case(label) == good


@pytest.mark.parametrize("cls", READ, ids=lambda cls: cls.__name__)
def test_labels_and_tooltips(cls: Any) -> None:
    wrong = []
    if issubclass(cls, (bpy.types.Operator, bpy.types.Panel)):
        wrong += [] if is_title_case(cls.bl_label) else [f"label: {cls.bl_label}"]
        own = cls.__dict__.get("bl_description") or cls.__dict__.get("__doc__") or ""
        wrong += [] if is_tooltip(own) else [f"tooltip: {own}"]
    for item in properties_of(cls):
        wrong += [] if is_title_case(item.name or "x") else [f"label of {item.identifier}: {item.name}"]
        wrong += [] if is_tooltip(item.description) else [f"tooltip of {item.identifier}: {item.description}"]
        for choice in item.enum_items if item.type == "ENUM" else ():
            wrong += [] if is_title_case(choice.name) else [f"label of {item.identifier}, {choice.identifier}"]
            wrong += [] if is_tooltip(choice.description) else [f"tooltip of {item.identifier}, {choice.identifier}"]
    assert not wrong


def properties_of(cls: Any) -> list[Any]:
    """The properties of a class that a user can see. Groups and lists are seen as what is in them."""
    own = {name for name in inspect.get_annotations(cls) if not name.startswith("bl_")}
    kind = call_of(cls.bl_idname).get_rna_type() if issubclass(cls, bpy.types.Operator) else cls.bl_rna
    seen = [item for item in kind.properties if item.identifier in own and not item.is_hidden]
    return [item for item in seen if item.type not in ("POINTER", "COLLECTION") or is_data(item)]


def is_data(item: Any) -> bool:
    """Whether a pointer is one to Blender's data, which the user chooses."""
    return item.type == "POINTER" and isinstance(item.fixed_type, bpy.types.ID)


# --- why a button is grey ------------------------------------------------------------------------------------


def in_edit_mode(folder: Path, patch: Patch) -> Values:
    character(folder, patch)
    bpy.ops.object.mode_set(mode="EDIT")
    return {}


def in_pose_mode(folder: Path, patch: Patch) -> Values:
    with_hands(folder, patch)
    bpy.context.view_layer.objects.active = bpy.data.objects["Hand Left"]
    bpy.ops.object.mode_set(mode="POSE")
    return {}


def without_its_footage(folder: Path, patch: Patch) -> Values:
    values = footage_elsewhere(folder, patch)
    load_footage(Path(values["filepath"]))
    Path(values["filepath"]).unlink()
    footage_view.look_for_files()
    return {}


def without_its_take(folder: Path, patch: Patch) -> Values:
    with_take(folder, patch)
    (folder / "take.npz").unlink()
    takes.look_for_all_files()
    return {}


def for_the_dir_network(_folder: Path, _patch: Patch) -> Values:
    load_footage().two_hands.capture.estimator = "dir"
    return {}


@pytest.mark.parametrize(
    "scenario",
    [
        from_nothing,
        footage_elsewhere,
        without_its_footage,
        for_the_dir_network,
        with_take,
        without_its_take,
        take_without_rigs,
        with_hands,
        hands_with_layer,
        in_pose_mode,
        in_edit_mode,
        character_with_hands,
        running_setup,
    ],
)
def test_every_grey_button_says_why(scenario: Scenario, tmp_path: Path, monkeypatch: Patch) -> None:
    """Blender's own words for a button without a reason are "context is incorrect"."""
    scenario(tmp_path, monkeypatch)
    grey, wrong = [], []
    for cls in (*CHANGING, *QUIET):
        call = call_of(cls.bl_idname)
        if call.poll():
            continue
        grey.append(cls.bl_idname)
        with pytest.raises(RuntimeError) as told:
            call("EXEC_DEFAULT")
        reason = str(told.value).partition(".poll() ")[2].strip()
        if "context is incorrect" in reason or not is_tooltip(reason):
            wrong.append(f"{cls.bl_idname}: {reason or told.value}")
    assert grey
    assert not wrong
