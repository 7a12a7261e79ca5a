"""From problem to problem, and corrections of a range: each is one undo step, and the keys and the list follow."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

import addon
from addon import clean_job, curves_view, keying, review_data, take_keys, takes
from addon.operators import review as operators
from dir_core.clean_up.edits import Edit
from dir_core.clean_up.problems import Problem, review_rows
from dir_core.take import save_take
from dir_core.worker.clean_up_client import CleanUpAnswer
from tests.blender.undo import assert_one_undo_step
from tests.takes import make_take

START = 11


@pytest.fixture(autouse=True)
def registered(empty_file) -> Iterator[None]:
    addon.register()
    yield
    addon.unregister()


@pytest.fixture
def take(models):
    """Ninety frames at 30 fps; the left hand is lost twice, once too shortly to matter."""
    observed = np.ones(90, bool)
    observed[20:40] = False
    observed[60:62] = False
    seen = make_take(models, count=90, first_frame=4)
    lost = make_take(models, count=90, first_frame=4, observed=observed)
    hidden = ~observed
    left = replace(lost.left, keypoints_2d=np.where(hidden[:, None, None], 0, lost.left.keypoints_2d))
    return replace(seen, left=left, meta={**seen.meta, "hand_model": {"name": models["right"].name}})


@pytest.fixture
def scene(registered, take, tmp_path):
    scene = bpy.context.scene
    scene.render.fps = 30
    save_take(take, tmp_path / "take.npz")
    takes.add_take(scene, tmp_path / "take.npz", start=START)
    return scene


def row(scene):
    return takes.active_take(scene)


def lines():
    return getattr(bpy.context.window_manager, operators.LIST_PROPERTY)


def edits():
    return takes.edits_of(row(bpy.context.scene))


def set_range(scene, first, last, side="both"):
    choice = scene.two_hands.review
    choice.first, choice.last, choice.side = first, last, side


def test_without_an_answer_the_raw_take_says_where_a_hand_was_lost(scene):
    review = review_data.look(scene)
    assert review.clean is None
    (problem,) = review.problems
    assert (problem.kind, problem.first, problem.last, problem.side) == ("lost", 24, 43, "left")
    assert not review.rows["left"].observed[20:40].any()
    (line,) = lines()
    assert (line.first, line.last, line.side) == (START + 24, START + 43, "left")
    assert review_data.review_of(scene) is review
    assert review_data.look(scene) is review  # nothing is made twice


def answer(scene, take, *problems):
    """Pretend that the clean-up has answered for what the row says now."""
    made = CleanUpAnswer(clean_job._request(row(scene)), take, review_rows(take, np.zeros(len(take), bool)), problems)
    clean_job._answers[made.request.digest] = made
    return made


def test_the_answer_of_the_clean_up_is_shown_once_it_is_there(scene, take):
    before = review_data.look(scene)
    jump = Problem("jump", 30, 31, "right", "The right hand jumps.")
    touch = Problem("touch", 50, 60, None, "The hands lie in each other.")
    answer(scene, take, jump, touch)
    assert review_data.review_of(scene) is before  # drawing never looks by itself
    review = review_data.look(scene)
    assert review.clean is not None
    assert [line.name for line in lines()] == [jump.sentence, touch.sentence]
    assert [line.first for line in lines()] == [START + 30, START + 50]
    takes.set_edits(row(scene), (Edit("drop", 20, 25),))
    assert review_data.look(scene) is review  # nothing newer is known yet
    scene.render.fps = 60
    review_data.look(scene)
    assert [line.first for line in lines()] == [START + 60, START + 100]


def test_the_list_is_that_of_the_chosen_take(scene, take, models, tmp_path):
    review_data.look(scene)
    assert len(lines()) == 1
    save_take(make_take(models, count=12), tmp_path / "other.npz")
    takes.add_take(scene, tmp_path / "other.npz")
    review_data.look(scene)
    assert not lines()
    scene.two_hands.active_take = 0
    review_data.look(scene)
    assert len(lines()) == 1
    takes.remove_take(scene, row(scene).uid)
    takes.remove_take(scene, row(scene).uid)
    assert review_data.look(scene) is None
    assert not lines()


def test_a_take_whose_file_is_gone_has_no_review(scene, tmp_path):
    (tmp_path / "take.npz").unlink()
    takes.look_for_all_files()
    assert review_data.look(scene) is None
    assert not bpy.ops.hands.jump_problem.poll()
    assert not bpy.ops.hands.edit_take.poll()


def test_jumping_goes_there_and_takes_the_range(scene, take):
    answer(scene, take, Problem("jump", 10, 11, "right", "one"), Problem("lost", 40, 50, "left", "two"))
    choice = scene.two_hands.review
    scene.frame_set(1)
    visited = []
    while bpy.ops.hands.jump_problem(direction="NEXT") == {"FINISHED"}:
        visited.append((scene.frame_current, choice.first, choice.last, choice.side))
    assert visited == [(START + 10, START + 10, START + 11, "right"), (START + 40, START + 40, START + 50, "left")]
    assert bpy.ops.hands.jump_problem(direction="PREVIOUS") == {"FINISHED"}
    assert scene.frame_current == START + 10
    assert bpy.ops.hands.jump_problem(direction="PREVIOUS") == {"CANCELLED"}
    assert bpy.ops.hands.jump_problem(direction="INDEX", index=1) == {"FINISHED"}
    assert (scene.frame_current, choice.side) == (START + 40, "left")
    assert getattr(bpy.context.window_manager, operators.ACTIVE_PROPERTY) == 1
    assert bpy.ops.hands.jump_problem(direction="INDEX", index=7) == {"CANCELLED"}


@pytest.mark.parametrize(
    ("kind", "side", "expected"),
    [
        ("swap", "left", Edit("swap", 14, 18)),
        ("drop", "left", Edit("drop", 14, 18, "left")),
        ("drop", "both", Edit("drop", 14, 18)),
        ("trust", "right", Edit("trust", 14, 18, "right", 0.2)),
    ],
)
def test_a_correction_is_one_undo_step(scene, kind, side, expected):
    set_range(scene, START + 14, START + 18, side)
    assert_one_undo_step(bpy.ops.hands.edit_take, kind=kind)
    assert edits() == (expected,)


def test_corrections_keep_to_the_time_of_the_footage(scene):
    scene.render.fps = 24
    set_range(scene, START + 4, START + 7)
    assert bpy.ops.hands.edit_take(kind="swap") == {"FINISHED"}
    assert edits() == (Edit("swap", 5, 9),)  # 5 / 30 s is 4 / 24 s, 9 / 30 s is 7.2 / 24 s
    where = takes.load_raw(row(scene)), row(scene)
    assert operators.edit_sentence(edits()[0], *where) == f"Swapped on frames {START + 4} to {START + 7}"
    one = Edit("trust", 5, 5, "left", 0.2)
    assert operators.edit_sentence(one, *where) == f"Trusted 20%, left hand on frame {START + 4}"
    assert operators.edit_label(one, *where) == f"{START + 4}  Trusted 20%, left hand"
    assert operators.edit_label(Edit("drop", 5, 9), *where) == f"{START + 4}-{START + 7}  Dropped, both hands"


@pytest.mark.parametrize(("first", "last", "why"), [(500, 600, "nothing of the take"), (30, 20, "back to 20")])
def test_a_range_that_cannot_be_corrected_changes_nothing(scene, first, last, why):
    set_range(scene, first, last)
    with pytest.raises(RuntimeError, match=why):
        bpy.ops.hands.edit_take(kind="drop")
    assert edits() == ()


def test_corrections_are_taken_back_one_by_one(scene):
    for first in (START + 10, START + 20, START + 30):
        set_range(scene, first, first)
        assert bpy.ops.hands.edit_take(kind="drop") == {"FINISHED"}
    assert_one_undo_step(bpy.ops.hands.remove_edit, index=1)
    assert edits() == (Edit("drop", 10, 10), Edit("drop", 30, 30))
    with pytest.raises(RuntimeError, match="no correction 6, it has 2"):
        bpy.ops.hands.remove_edit(index=5)


def test_a_correction_that_cannot_be_keyed_is_not_kept(scene, monkeypatch):
    def fail(*_):
        raise review_data.SettingsError("The clean-up does not answer, restart Blender.")

    monkeypatch.setattr(clean_job, "follow_take", fail)
    set_range(scene, START + 10, START + 20)
    with pytest.raises(RuntimeError, match="does not answer"):
        bpy.ops.hands.edit_take(kind="drop")
    assert edits() == ()


def test_ranges_come_from_problem_preview_range_and_selected_keys(scene):
    choice = scene.two_hands.review
    scene.frame_set(START + 30)
    assert_one_undo_step(bpy.ops.hands.set_range, source="PROBLEM")
    scene = bpy.context.scene
    choice = scene.two_hands.review
    assert (choice.first, choice.last, choice.side) == (START + 24, START + 43, "left")
    with pytest.raises(RuntimeError, match="no preview range"):
        bpy.ops.hands.set_range(source="PREVIEW")
    scene.use_preview_range = True
    scene.frame_preview_start, scene.frame_preview_end = 20, 33
    assert bpy.ops.hands.set_range(source="PREVIEW") == {"FINISHED"}
    assert (choice.first, choice.last, choice.side) == (20, 33, "both")
    with pytest.raises(RuntimeError, match="No key of the hands is selected"):
        bpy.ops.hands.set_range(source="KEYS")


def test_keys_follow_a_correction_and_selected_keys_make_a_range(scene):
    item = row(scene)
    item.clean_up.enabled = False
    take_keys.key_take(bpy.context, item, takes.load_raw(item))
    hands = take_keys.hands_of(item)
    for armature in hands.values():
        for curve in keying.curves_of(armature):
            curve.keyframe_points.foreach_set("select_control_point", [False] * len(curve.keyframe_points))
    curve = next(iter(keying.curves_of(hands["right"])))
    for number in (7, 12):
        curve.keyframe_points[number].select_control_point = True
    assert bpy.ops.hands.set_range(source="KEYS") == {"FINISHED"}
    choice = scene.two_hands.review
    frames = [round(curve.keyframe_points[number].co.x) for number in (7, 12)]
    assert ([choice.first, choice.last], choice.side) == (frames, "right")


def test_raw_curves_are_those_that_would_have_been_keyed(scene, take):
    item = row(scene)
    item.clean_up.enabled = False
    take_keys.key_take(bpy.context, item, takes.load_raw(item))
    review = review_data.look(scene)
    armature = take_keys.hands_of(item)["left"]
    turns, places = curves_view.raw_values(review, armature, "left")
    frames = review_data.scene_frames(review.raw, item)
    seen = review.raw.left.observed
    assert np.isnan(turns[~seen]).all()
    assert np.isnan(places[~seen]).all()
    for curve in keying.curves_of(armature):
        if curve.data_path == 'pose.bones["wrist.L"].location':
            keyed = [curve.evaluate(frame) for frame in frames[seen]]
            np.testing.assert_allclose(places[seen, curve.array_index], keyed, atol=1e-5)
        if curve.data_path == 'pose.bones["index1.L"].rotation_quaternion':
            keyed = [curve.evaluate(frame) for frame in frames[seen]]
            np.testing.assert_allclose(turns[seen, 1, curve.array_index], keyed, atol=1e-5)


def test_raw_curves_have_the_signs_of_the_clean_ones(scene, take):
    item = row(scene)
    take_keys.key_take(bpy.context, item, take)
    flipped = replace(take, left=replace(take.left, rotation=-take.left.rotation))
    armature = take_keys.hands_of(item)["left"]
    rows = review_rows(take, np.zeros(len(take), bool))
    as_raw, _ = curves_view.raw_values(review_data.Review(take, None, rows, ()), armature, "left")
    as_clean, _ = curves_view.raw_values(review_data.Review(flipped, take, rows, ()), armature, "left")
    np.testing.assert_allclose(as_clean, as_raw, atol=1e-6)


def test_lines_break_where_nothing_is_known():
    frames = np.array([1.0, 2.0, 3.0, 7.0, 8.0, 9.0])
    values = np.array([0.0, 1.0, 2.0, 3.0, np.nan, 5.0])
    pieces = curves_view.line_pieces(frames, values)
    np.testing.assert_allclose(pieces, [(1, 0, 0), (2, 1, 0), (2, 1, 0), (3, 2, 0)])


def test_a_click_is_told_what_it_does(scene):
    review_data.look(scene)
    for cls, name, values in (
        (operators.HANDS_OT_edit_take, "kind", ("swap", "drop", "trust")),
        (operators.HANDS_OT_set_range, "source", ("PROBLEM", "PREVIEW", "KEYS")),
        (operators.HANDS_OT_jump_problem, "direction", ("PREVIOUS", "NEXT", "INDEX")),
    ):
        told = {cls.description(bpy.context, SimpleNamespace(index=0, **{name: value})) for value in values}
        assert len(told) == 3
        assert not any(sentence.endswith(".") for sentence in told)
    assert "The left hand was not seen for 0.7 s" in told
