"""Corrections on a layer survive each re-run: the pose is the new take's, combined with the same corrections."""

from collections.abc import Iterator
from dataclasses import replace

import bpy
import numpy as np
import pytest

import addon
from addon import clean_job, hand_rig, keying, layers, take_keys, takes
from dir_core import rotations
from dir_core.conventions import SIDES
from dir_core.errors import SettingsError
from dir_core.take import save_take
from tests.blender.undo import assert_one_undo_step
from tests.takes import make_take

BEND = rotations.from_rotation_vector(np.array([0.4, 0.1, -0.2]))
SHIFT = np.array([0.01, -0.02, 0.03])
FRAMES = (1, 4, 10, 17, 20)


@pytest.fixture(autouse=True)
def registered(empty_file, monkeypatch) -> Iterator[None]:
    addon.register()
    monkeypatch.setattr(clean_job, "follow_take", lambda *_: None)
    bpy.context.scene.render.fps = 30
    yield
    addon.unregister()


@pytest.fixture
def take(models):
    return make_take(models, count=20)


@pytest.fixture
def item(take, tmp_path):
    save_take(take, tmp_path / "clap.npz")
    item = takes.add_take(bpy.context.scene, tmp_path / "clap.npz")
    take_keys.key_take(bpy.context, item, take)
    return item


def hand(side):
    return bpy.data.objects[f"Hand {side.title()}"]


def bone_values(side, frame):
    """Turns [16, 4] and place [3] of the wrist of a hand as Blender evaluates them."""
    bpy.context.scene.frame_set(frame)
    evaluated = hand(side).evaluated_get(bpy.context.evaluated_depsgraph_get())
    bones = [evaluated.pose.bones[name] for name in hand_rig.bone_names(side)]
    return np.array([bone.matrix_basis.to_quaternion() for bone in bones]), np.array(bones[0].location)


def expected(side, take, row, *, corrected):
    track = take.hand(side)
    turns, places = hand_rig.basis_pose(hand(side), side, track.rotation, track.translation)
    turn, place = turns[row].copy(), places[row].copy()
    if corrected:
        turn[[0, 5]] = rotations.multiply(turn[[0, 5]], BEND)  # Blender combines as lower * upper
        place += SHIFT
    return turn, place


def assert_pose(take, start=1, *, corrected):
    for side in SIDES:
        for frame in FRAMES:
            turns, place = bone_values(side, start - 1 + frame)
            wanted, there = expected(side, take, frame - 1, corrected=corrected)
            assert rotations.angle_between(turns, wanted).max() < 1e-3, (side, frame)
            np.testing.assert_allclose(place, there, atol=1e-6)


def correct_hands():
    """The animator's corrections: the wrist and a finger turned, the hand moved."""
    for side in SIDES:
        names = hand_rig.bone_names(side)
        for name in (names[0], names[5]):
            for index in range(4):
                path = keying.bone_path(name, "rotation_quaternion")
                layer_curve(side, path, index, BEND[index])
        for index in range(3):
            layer_curve(side, keying.bone_path(names[0], "location"), index, SHIFT[index])


def layer_curve(side, path, index, value):
    place = keying.place_of(hand(side))
    keys = keying._plain_keys(np.array([5.0]), np.array([value]), "BEZIER", np.zeros(1, np.int32))
    keying._CurveWriter(place, None).write(path, index, "Corrections", keys)


def moved(take):
    """The same take as another clean-up may have it: fingers bent more, hands elsewhere."""
    bend = rotations.from_rotation_vector(np.array([0.3, 0.0, 0.0]))
    hands = {}
    for side in SIDES:
        track = take.hand(side)
        turns = rotations.multiply(track.rotation, bend).astype(np.float32)
        hands[side] = replace(track, rotation=turns, translation=track.translation + np.float32(0.05))
    return replace(take, **hands)


def layer_state():
    state = []
    for side in SIDES:
        for each in keying.curves_of(hand(side)):
            points = [(tuple(point.co), point.interpolation) for point in each.keyframe_points]
            state.append((side, each.data_path, each.array_index, points))
    return state


def add():
    assert bpy.ops.hands.add_layer() == {"FINISHED"}


def test_an_empty_layer_changes_nothing(item, take):
    add()
    assert_pose(take, corrected=False)
    for side in SIDES:
        data = hand(side).animation_data
        assert data.action.name.startswith("Hand Corrections")
        assert data.action_blend_type == "COMBINE"
        assert not list(keying.curves_of(hand(side)))
        assert [track.name for track in data.nla_tracks] == ["Two-Hand Take"]
    assert (hand("left").animation_data.action == hand("right").animation_data.action) == keying.HAS_SLOTS


def test_corrections_survive_each_re_run(item, take):
    add()
    correct_hands()
    assert_pose(take, corrected=True)
    corrections = layer_state()
    other = moved(take)
    for again in (other, take, other):
        done = take_keys.key_take(bpy.context, item, again, digest="again")
        assert not done.kept
        assert_pose(again, corrected=True)
        assert layer_state() == corrections
    assert take_keys.keyed_digest(item) == "again"


@pytest.mark.parametrize("action", ["NEW", "EXISTING"])
def test_the_strip_follows_when_the_take_begins_elsewhere(item, take, action):
    add()
    correct_hands()
    item.keying.action = action
    for start in (101, -30, 1, 40):
        item.start = start
        take_keys.key_take(bpy.context, item, moved(take))
        assert_pose(moved(take), start, corrected=True)


def test_a_layer_is_taken_away_and_the_corrections_stay_in_the_file(item, take):
    add()
    correct_hands()
    layer = hand("left").animation_data.action
    assert bpy.ops.hands.remove_layer() == {"FINISHED"}
    assert_pose(take, corrected=False)
    assert layer.use_fake_user
    for side in SIDES:
        data = hand(side).animation_data
        assert not data.nla_tracks
        assert data.action_blend_type == "REPLACE"
    take_keys.key_take(bpy.context, item, moved(take))
    assert_pose(moved(take), corrected=False)
    assert not bpy.ops.hands.remove_layer.poll()
    add()
    assert not bpy.ops.hands.add_layer.poll()


def test_keys_of_the_take_that_were_pushed_down_by_hand_are_found(item, take):
    for side in SIDES:
        data = hand(side).animation_data
        place = keying.place_of(hand(side))
        strip = data.nla_tracks.new().strips.new("mine", 1, place.action)
        if keying.HAS_SLOTS:
            strip.action_slot = place.slot
        data.action = None
    actions = set(bpy.data.actions)
    take_keys.key_take(bpy.context, item, moved(take))
    assert set(bpy.data.actions) == actions
    assert_pose(moved(take), corrected=False)


def test_hands_without_keys_and_hands_with_a_layer_are_refused(item):
    add()
    with pytest.raises(SettingsError, match="has a correction layer already"):
        layers.add_layer([hand("left")])
    hand("right").animation_data_clear()
    with pytest.raises(SettingsError, match="has no keys yet"):
        layers.add_layer([hand("right")])
    with pytest.raises(SettingsError, match="has no correction layer"):
        layers.remove_layer([hand("left"), hand("right")])
    assert layers.taken_place(hand("left")) is not None, "nothing was changed"


def test_a_layer_is_one_undo_step(item):
    assert_one_undo_step(bpy.ops.hands.add_layer)
    assert_one_undo_step(bpy.ops.hands.remove_layer)


def test_layers_survive_saving(item, take, tmp_path):
    add()
    correct_hands()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    take_keys.key_take(bpy.context, takes.active_take(bpy.context.scene), moved(take))
    assert_pose(moved(take), corrected=True)
