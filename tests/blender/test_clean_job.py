"""Keys follow what the user wants: settings, corrections, frame rate, undo; in the background, and nothing is lost."""

import time
from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np
import pytest

import addon
from addon import clean_job, keying, log, take_keys, takes, ticker
from addon.operators.clean_up import PRESET_FOLDER
from dir_core.clean_up.edits import Edit
from dir_core.take import load_take, save_take
from tests.blender.undo import assert_one_undo_step
from tests.takes import make_raw_take


@pytest.fixture(autouse=True)
def registered(empty_file) -> Iterator[None]:
    addon.register()
    yield
    addon.unregister()


@pytest.fixture
def raw_file(models, tmp_path):
    path = tmp_path / "wave.npz"
    save_take(make_raw_take(models, times=np.arange(45) / 30)[0], path)
    return path


@pytest.fixture
def item(raw_file):
    """A row with hands that carry the raw motion."""
    scene = bpy.context.scene
    row = takes.add_take(scene, raw_file)
    take_keys.key_take(bpy.context, row, takes.load_raw(row))
    return row


@pytest.fixture
def windowed(monkeypatch):
    """The way of a Blender with a window; the test itself is the timer."""
    monkeypatch.setattr(clean_job, "_is_windowless", lambda: False)


def run_timer(seconds=60.0):
    """Call the step as Blender's timer does, until it has nothing left to do."""
    end = time.monotonic() + seconds
    longest = 0.0
    while time.monotonic() < end:
        began = time.process_time()
        pause = clean_job._step()
        longest = max(longest, time.process_time() - began)
        if pause is None:
            return longest
        time.sleep(pause)
    raise AssertionError("the clean-up never came to an end")


def keys_of(item, side="right"):
    curves = keying.curves_of(getattr(item.keying, side))
    return {
        (curve.data_path, curve.array_index): np.array([tuple(point.co) for point in curve.keyframe_points])
        for curve in curves
    }


def are_equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def test_keys_follow_a_setting_and_say_so(item):
    raw = keys_of(item)
    clean_job.follow_take(bpy.context, item)
    clean = keys_of(item)
    assert not are_equal(raw, clean)
    assert take_keys.keyed_digest(item) == clean_job.wanted_digest(bpy.context.scene, item)
    item.clean_up.fingers = 4.0
    clean_job.follow_take(bpy.context, item)
    assert not are_equal(clean, keys_of(item))
    answer = clean_job.answer_of(item)
    assert answer.request.settings.fingers == 4.0
    assert any("Right hand" in sentence for sentence in answer.sentences)
    item.clean_up.enabled = False
    clean_job.follow_take(bpy.context, item)
    assert are_equal(raw, keys_of(item))


def test_the_newest_setting_wins_and_no_tick_waits(item, windowed):
    for strength in (0.5, 1.5, 2.5, 3.5):
        item.clean_up.fingers = strength  # each tells clean_job, as a slider that is dragged
        clean_job._step()
    assert clean_job.is_busy(item)
    run_timer()
    assert take_keys.keyed_digest(item) == clean_job.wanted_digest(bpy.context.scene, item)
    assert clean_job.answer_of(item).request.settings.fingers == 3.5
    assert not clean_job.is_busy(item)
    assert log.last_mistake() is None


def test_undo_brings_settings_and_keys_back_together(item, windowed):
    run_timer_on(item)
    bpy.ops.ed.undo_push(message="before")
    before = keys_of(item)
    item.clean_up.fingers = 4.0
    bpy.ops.ed.undo_push(message="slider")  # what the slider's button does; the keys follow later, without a step
    run_timer()
    strong = keys_of(item)
    assert not are_equal(before, strong)
    bpy.ops.ed.undo()
    item = takes.active_take(bpy.context.scene)
    assert item.clean_up.fingers == 1.0
    run_timer()
    assert are_equal(before, keys_of(item))
    bpy.ops.ed.redo()
    item = takes.active_take(bpy.context.scene)
    assert item.clean_up.fingers == 4.0
    run_timer()
    assert are_equal(strong, keys_of(item))


def run_timer_on(item):
    clean_job.follow_take(bpy.context, item)
    run_timer()


def test_corrections_are_part_of_what_is_wanted(item):
    clean_job.follow_take(bpy.context, item)
    left, right = keys_of(item, "left"), keys_of(item, "right")
    takes.set_edits(item, (Edit("drop", 10, 30, "left"),))
    clean_job.follow_take(bpy.context, item)
    assert not are_equal(left, keys_of(item, "left"))
    for key, keys in keys_of(item, "right").items():
        np.testing.assert_allclose(keys, right[key], atol=5e-3)  # the noise of both is judged together


def test_keys_stay_on_time_when_the_frame_rate_of_the_scene_changes(item, windowed):
    run_timer_on(item)
    scene = bpy.context.scene
    last = max(keys[-1, 0] for keys in keys_of(item).values())
    scene.render.fps *= 2
    clean_job._on_rate()  # the message bus needs a window
    run_timer()
    assert max(keys[-1, 0] for keys in keys_of(item).values()) - 1 == pytest.approx(2 * (last - 1), abs=1e-3)


def test_a_take_that_is_gone_is_one_sentence_and_the_keys_stay(item, raw_file, windowed):
    run_timer_on(item)
    before = keys_of(item)
    raw_file.unlink()
    item.clean_up.fingers = 2.0
    run_timer()
    assert str(raw_file) in log.last_mistake().sentence
    assert are_equal(before, keys_of(item))
    assert clean_job._step() is None  # and it is not tried over and over


def test_the_clean_take_is_saved_whole_and_never_over_the_raw_one(item, raw_file, tmp_path):
    assert bpy.ops.hands.save_clean_take(filepath=str(tmp_path / "clean.npz")) == {"FINISHED"}
    assert load_take(tmp_path / "clean.npz").meta["history"][-1]["step"] == "clean_up"
    before = raw_file.read_bytes()
    with pytest.raises(RuntimeError, match="never changed"):
        bpy.ops.hands.save_clean_take(filepath=str(raw_file))
    assert raw_file.read_bytes() == before


def test_reset_is_one_step(item):
    clean_job.follow_take(bpy.context, item)
    item.clean_up.fingers = 3.0
    item.clean_up.contact = "off"
    clean_job.follow_take(bpy.context, item)
    assert_one_undo_step(bpy.ops.hands.reset_clean_up)
    item = takes.active_take(bpy.context.scene)
    assert (item.clean_up.fingers, item.clean_up.contact) == (1.0, "hands")


def test_keys_that_the_user_changed_are_kept_and_undo_is_no_trap(item, windowed):
    """Keying makes an action here, which has to be an undo step of its own: Blender would crash at the next undo."""
    run_timer_on(item)
    curve = next(iter(keying.curves_of(item.keying.right)))
    curve.keyframe_points[5].co[1] += 0.5
    bpy.ops.ed.undo_push(message="by hand")
    by_hand = keys_of(item)
    item.clean_up.fingers = 4.0
    bpy.ops.ed.undo_push(message="slider")
    run_timer()
    (kept,) = (action for action in bpy.data.actions if action.name.endswith("(edited)"))
    assert kept.use_fake_user
    strong = keys_of(item)
    bpy.ops.ed.undo()  # back to the moved slider, whose keys would need an action: nothing is made again
    item = takes.active_take(bpy.context.scene)
    run_timer()
    assert are_equal(by_hand, keys_of(item))
    assert clean_job.is_behind(item)
    bpy.ops.ed.undo()
    item = takes.active_take(bpy.context.scene)
    run_timer()
    assert item.clean_up.fingers == 1.0
    assert are_equal(by_hand, keys_of(item))
    for _ in range(2):
        bpy.ops.ed.redo()
    item = takes.active_take(bpy.context.scene)
    run_timer()
    assert are_equal(strong, keys_of(item))


def test_hands_without_keys_stay_without(item, windowed):
    run_timer_on(item)
    bpy.ops.ed.undo_push(message="keyed")
    for armature in take_keys.hands_of(item).values():
        armature.animation_data_clear()
    bpy.ops.ed.undo_push(message="cleared")
    item.clean_up.fingers = 4.0
    bpy.ops.ed.undo_push(message="slider")
    run_timer()
    assert not keys_of(item)
    for _ in range(2):
        bpy.ops.ed.undo()
    assert keys_of(takes.active_take(bpy.context.scene))


def test_a_long_gap_that_hides_the_hand_is_undone_like_any_setting(item, windowed):
    takes.set_edits(item, (Edit("drop", 15, 35, "left"),))
    run_timer_on(item)
    item.clean_up.fill = 0.1
    bpy.ops.ed.undo_push(message="fill")
    run_timer()
    item.clean_up.beyond = "hide"
    bpy.ops.ed.undo_push(message="hide")
    run_timer()
    assert any(path == "hide_viewport" for path, _ in keys_of(item, "left"))
    while takes.active_take(bpy.context.scene).clean_up.beyond == "hide":  # before 4.4 the skin's action is a step, too
        bpy.ops.ed.undo()
        run_timer()
    item = takes.active_take(bpy.context.scene)
    assert not any(path == "hide_viewport" for path, _ in keys_of(item, "left"))


def test_nothing_is_left_when_the_add_on_goes(item):
    clean_job.follow_take(bpy.context, item)
    process = clean_job._client._process
    clean_job.unregister()
    assert process.poll() is not None
    assert not ticker._running
    clean_job.register()


def test_every_preset_that_comes_along_can_be_chosen(item):
    (folder,) = (path for path in bpy.utils.preset_paths(PRESET_FOLDER) if "addon" in path)
    presets = sorted(Path(folder).glob("*.py"))
    assert presets
    chosen = []
    for preset in presets:
        item.clean_up.fingers = item.clean_up.fill = 0.0
        with bpy.context.temp_override():
            bpy.ops.script.execute_preset(filepath=str(preset), menu_idname="HANDS_PT_clean_up_presets")
        chosen.append(takes.settings_of(item))
    assert len(set(chosen)) == len(presets)
    assert all(settings.fingers > 0 for settings in chosen)
