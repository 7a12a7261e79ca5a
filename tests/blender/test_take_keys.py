"""Takes of the list as keys: replaced where they are ours, kept where they are the user's."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Euler, Matrix

import addon
from addon import clean_job, footage_view, hand_rig, keying, take_keys, takes
from addon.scene import CONFIDENCE_PROPERTY, reduce_hand
from dir_core import rotations
from dir_core.clean_up.key_reduction import KeyReduction
from dir_core.conventions import KEYPOINT_SOURCES, SIDES
from dir_core.errors import SettingsError, TakeError
from dir_core.take import save_take
from tests.blender.test_footage_view import pixels_of
from tests.blender.undo import assert_one_undo_step
from tests.takes import make_raw_take, make_take

CURL = 'pose.bones["index1.L"].rotation_quaternion'


@pytest.fixture(autouse=True)
def registered(empty_file) -> Iterator[None]:
    addon.register()
    bpy.context.scene.render.fps = 30
    yield
    addon.unregister()


@pytest.fixture
def take(models):
    return make_take(models, count=20)


@pytest.fixture
def item(take, tmp_path: Path):
    save_take(take, tmp_path / "clap.npz")
    return takes.add_take(bpy.context.scene, tmp_path / "clap.npz")


def moved(take, angle=0.5):
    """The same take with the left hand's index finger bent more, as a clean-up with other settings might have it."""
    left = take.left.rotation.copy()
    left[:, 1] = rotations.multiply(left[:, 1], rotations.from_rotation_vector(np.array([angle, 0, 0])))
    return replace(take, left=replace(take.left, rotation=left))


def key(item, take, **options):
    return take_keys.key_take(bpy.context, item, take, **options)


def left_hand():
    return bpy.data.objects["Hand Left"]


def action_of(side="Left"):
    return bpy.data.objects[f"Hand {side}"].animation_data.action


def curve(path=CURL, index=0, owner=None):
    curves = keying.curves_of(owner or left_hand())
    return next((each for each in curves if each.data_path == path and each.array_index == index), None)


def keyed_frames(fcurve):
    return [point.co.x for point in fcurve.keyframe_points]


def pose(side, take, frame):
    """Largest angle between a hand's bones on a scene frame and the take's row `frame - 1`."""
    bpy.context.scene.frame_set(frame)
    armature = bpy.data.objects[f"Hand {side.title()}"]
    evaluated = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
    names = hand_rig.bone_names(side)
    turns = np.array([evaluated.pose.bones[name].matrix_basis.to_quaternion() for name in names])
    track = take.hand(side)
    basis, _ = hand_rig.basis_pose(armature, side, track.rotation, track.translation)
    return rotations.angle_between(turns, basis[frame - 1]).max()


def test_the_first_time_hands_and_an_action_are_made(item, take):
    assert not take_keys.has_rigs(item)
    assert take_keys.keyed_digest(item) == ""
    done = key(item, take, digest="one")
    assert done.built
    assert done.sentence() == "Keyed 20 frames."
    assert take_keys.has_rigs(item)
    assert (item.keying.left.name, item.keying.right.name) == ("Hand Left", "Hand Right")
    assert take_keys.keyed_digest(item) == "one"
    assert (action_of("Left") == action_of("Right")) == keying.HAS_SLOTS
    for side in SIDES:
        assert pose(side, take, 7) < 1e-3


def test_keying_again_updates_the_same_hands_and_action(item, take):
    key(item, take)
    action, other = action_of(), moved(take)
    done = key(item, other, digest="two")
    assert (done.built, done.kept) == (False, ())
    assert action_of() == action
    assert len(bpy.data.actions) == (1 if keying.HAS_SLOTS else 2)
    assert len([each for each in bpy.data.objects if each.type == "ARMATURE"]) == 2
    assert pose("left", other, 7) < 1e-3
    assert take_keys.keyed_digest(item) == "two"


def test_the_pose_follows_without_a_change_of_frame(item, take):
    key(item, take)
    bpy.context.scene.frame_set(7)
    other = moved(take)
    key(item, other)
    armature = left_hand().evaluated_get(bpy.context.evaluated_depsgraph_get())
    basis, _ = hand_rig.basis_pose(left_hand(), "left", other.left.rotation, other.left.translation)
    turn = np.array([armature.pose.bones["index1.L"].matrix_basis.to_quaternion()])
    assert rotations.angle_between(turn, basis[6, 1]).max() < 1e-3


def test_other_curves_and_keys_beside_the_take_stay(item, take):
    key(item, take)
    armature = left_hand()
    armature.location.x = 3.0
    armature.keyframe_insert("location", frame=5)
    armature["mood"] = 0.5
    armature.keyframe_insert('["mood"]', frame=9)
    bone = armature.pose.bones["index1.L"]
    bone.scale = (1.0, 2.0, 1.0)
    bone.keyframe_insert("scale", frame=3)
    for frame in (-10, 40):
        bone.rotation_quaternion = (1, 0, 0, 0)
        bone.keyframe_insert("rotation_quaternion", frame=frame)
    done = key(item, moved(take))
    assert not done.kept, "keys beside ours are no change of ours"
    assert keyed_frames(curve("location")) == [5]
    assert keyed_frames(curve('["mood"]')) == [9]
    assert keyed_frames(curve('pose.bones["index1.L"].scale')) == [3]
    assert keyed_frames(curve()) == [-10, *range(1, 21), 40]
    assert curve().keyframe_points[0].co.y == pytest.approx(1.0)


def test_keys_beside_the_take_stay_as_they_are_in_every_detail(item, take):
    key(item, take)
    fcurve = curve()
    for frame, value in ((-10, 0.3), (30, 0.4), (33, 0.9)):
        point = fcurve.keyframe_points.insert(frame, value)
        point.interpolation, point.easing, point.back, point.type = "ELASTIC", "EASE_OUT", 1.25, "EXTREME"
        point.handle_left_type = point.handle_right_type = "FREE"
        point.handle_right = (frame + 0.5, value + 2.0)
    fcurve.update()
    key(item, moved(take))
    points = [point for point in curve().keyframe_points if not 0 < point.co.x < 21]
    assert [tuple(point.co) for point in points] == [pytest.approx(c) for c in ((-10, 0.3), (30, 0.4), (33, 0.9))]
    for point in points:
        assert (point.interpolation, point.easing, point.type) == ("ELASTIC", "EASE_OUT", "EXTREME")
        assert point.back == 1.25
        assert point.handle_right_type == "FREE"
        assert tuple(point.handle_right - point.co) == pytest.approx((0.5, 2.0))


def change_value(fcurve):
    fcurve.keyframe_points[7].co.y += 0.01


def change_interpolation(fcurve):
    fcurve.keyframe_points[7].interpolation = "CONSTANT"


def change_handle(fcurve):
    point = fcurve.keyframe_points[7]
    point.handle_right_type = "FREE"
    point.handle_right.y += 0.5


def insert(fcurve):
    fcurve.keyframe_points.insert(7.5, 0.2)


def remove(fcurve):
    fcurve.keyframe_points.remove(fcurve.keyframe_points[7])


@pytest.mark.parametrize("change", [change_value, change_interpolation, change_handle, insert, remove])
def test_keys_of_ours_that_the_user_changed_are_kept_in_a_copy(item, take, change):
    key(item, take)
    change(curve())
    curve().update()
    changed = [(tuple(point.co), point.interpolation) for point in curve().keyframe_points]
    other = moved(take)
    done = key(item, other)
    (name,) = done.kept
    assert name == f"{action_of().name} (edited)"
    assert done.sentence() == f'Keyed 20 frames. Your changes of the keys before are kept in "{name}".'
    copy = bpy.data.actions[name]
    assert copy.use_fake_user
    place = keying.Place(
        copy, copy.slots[left_hand().animation_data.action_slot.identifier] if keying.HAS_SLOTS else None
    )
    kept = next(each for each in place.curves if each.data_path == CURL and each.array_index == 0)
    assert [(tuple(point.co), point.interpolation) for point in kept.keyframe_points] == changed
    assert keyed_frames(curve()) == list(range(1, 21))
    assert pose("left", other, 8) < 1e-3
    assert not key(item, take).kept, "only once"


def test_what_the_armature_had_stays_in_the_file(item, take):
    key(item, take)
    own = action_of()
    for side in SIDES:
        bpy.data.objects[f"Hand {side.title()}"].animation_data.action = None
    left_hand().location.x = 1
    left_hand().keyframe_insert("location", frame=1)
    users = action_of()
    key(item, take)
    assert action_of() not in (users, own)
    assert users.use_fake_user


def test_a_range_of_the_current_action_leaves_all_else(item, take, models):
    key(item, take)
    uid = item.uid
    bpy.data.actions.remove(action_of("Left"))
    for action in list(bpy.data.actions):
        bpy.data.actions.remove(action)
    bone = left_hand().pose.bones["index1.L"]
    for frame in range(0, 31):
        bone.rotation_quaternion = (1, 0.01 * frame, 0, 0)
        bone.keyframe_insert("rotation_quaternion", frame=frame)
    users = action_of()
    item = takes.find_take(bpy.context.scene, uid)
    item.keying.action, item.keying.use_range, item.keying.first, item.keying.last = "EXISTING", True, 5, 9
    done = key(item, take)
    assert done.frames.tolist() == [5, 6, 7, 8, 9]
    assert action_of() == users
    for frame in (3, 4, 10, 20, 30):
        assert curve(index=1).evaluate(frame) == pytest.approx(0.01 * frame, abs=1e-6)
    assert keyed_frames(curve(index=1)) == list(range(0, 31))
    basis, _ = hand_rig.basis_pose(left_hand(), "left", take.left.rotation, take.left.translation)
    assert abs(curve(index=1).evaluate(7)) == pytest.approx(abs(basis[6, 1, 1]), abs=1e-5)
    item.keying.first, item.keying.last = 12, 14
    key(item, take)
    assert keyed_frames(curve(CURL.replace("index1", "ring2"))) == [5, 6, 7, 8, 9, 12, 13, 14]


def test_a_smaller_range_of_our_own_action_takes_our_other_keys_away(item, take):
    key(item, take)
    item.keying.use_range, item.keying.first, item.keying.last = True, 5, 9
    key(item, take)
    assert keyed_frames(curve()) == [5, 6, 7, 8, 9]
    item.keying.use_range = False
    item.start = 101
    key(item, take)
    assert keyed_frames(curve()) == list(range(101, 121))


def test_a_range_beside_the_take_is_told(item, take):
    item.keying.use_range, item.keying.first, item.keying.last = True, 50, 60
    with pytest.raises(SettingsError, match="The frames 50 to 60 hold nothing of the take, which lies on 1 to 20"):
        key(item, take)
    assert not bpy.data.armatures


@pytest.mark.parametrize("span", [None, (4, 15)])
def test_reduced_curves_of_the_take_are_drawn_on_the_bones(item, take, span):
    curves = {side: reduce_hand(take.hand(side), take.time, KeyReduction()) for side in SIDES}
    if span:
        item.keying.use_range, (item.keying.first, item.keying.last) = True, span
    bpy.context.scene.render.fps = 60
    item.keying.first, item.keying.last = 2 * item.keying.first - 1, 2 * item.keying.last - 1
    done = key(item, take, curves=curves)
    assert done.keys[0] < done.keys[1]
    assert f"{done.keys[0]:,} keys instead of {done.keys[1]:,}" in done.sentence()
    frames = keyed_frames(curve())
    first, last = span or (1, 20)
    assert (frames[0], frames[-1]) == (2 * first - 1, 2 * last - 1)
    basis, location = hand_rig.basis_pose(left_hand(), "left", take.left.rotation, take.left.translation)
    for row in range(first - 1, last):
        at = 1 + 2 * row
        turn = np.array([[curve(index=index).evaluate(at) for index in range(4)]])
        turn /= np.linalg.norm(turn)
        assert rotations.angle_between(turn, basis[row, 1]).max() < np.radians(0.51)
        place = [curve('pose.bones["wrist.L"].location', index).evaluate(at) for index in range(3)]
        assert np.linalg.norm(place - location[row]) < 0.00101
    assert not key(item, take, curves=curves).kept, "fitted handles are known again"


def test_a_cut_of_a_reduced_curve_is_drawn_as_before(item, take, models):
    take = make_take(models, count=60)
    curves = {side: reduce_hand(take.hand(side), take.time, KeyReduction(angle=0.05)) for side in SIDES}
    key(item, take, curves=curves)
    at = np.linspace(21, 35, 141)
    whole = [curve().evaluate(frame) for frame in at]
    item.keying.use_range, item.keying.first, item.keying.last = True, 21, 35
    key(item, take, curves=curves)
    np.testing.assert_allclose([curve().evaluate(frame) for frame in at], whole, atol=2e-5)


def test_a_hand_is_hidden_and_shown_again_as_the_take_says(item, take, models):
    seen = np.ones(20, bool)
    seen[5:12] = False
    gap = replace(take, left=replace(take.left, observed=seen))
    hides = replace(gap, meta={**take.meta, "history": [{"hidden": {"left": [[5, 11]], "right": []}}]})
    assert key(item, gap).filled == 7
    done = key(item, hides)
    assert done.filled == 0
    scene = bpy.context.scene
    for name in ("Hand Left", "Hand Left Skin"):
        for frame, away in ((3, False), (6, True), (12, True), (13, False)):
            scene.frame_set(frame)
            assert bpy.data.objects[name].hide_render == away
    key(item, gap)
    for frame in (3, 8, 15):
        scene.frame_set(frame)
        assert not bpy.data.objects["Hand Left Skin"].hide_render
        assert not left_hand().hide_viewport
    assert not [each for each in keying.curves_of(left_hand()) if each.data_path.startswith("hide")]
    never = replace(take, left=replace(take.left, observed=np.zeros(20, bool)))
    done = key(item, never)
    assert done.notes == ("The left hand was never seen and is hidden.",)
    assert left_hand().hide_viewport
    key(item, take)
    assert not left_hand().hide_viewport


def test_a_hand_that_the_user_hid_stays_hidden(item, take):
    key(item, take)
    left_hand().hide_viewport = True
    key(item, moved(take))
    assert left_hand().hide_viewport


def test_existing_hands_are_keyed_and_one_is_enough(item, take, models):
    hand = hand_rig.build_hand(models["right"], np.zeros(10), 1.0, bpy.context.scene.collection)
    item.keying.rigs = "EXISTING"
    with pytest.raises(SettingsError, match="There is no hand to key"):
        key(item, take)
    item.keying.right = hand.armature
    key(item, take)
    assert pose("right", take, 7) < 1e-3
    assert len([each for each in bpy.data.objects if each.type == "ARMATURE"]) == 1
    item.keying.left = hand.armature
    with pytest.raises(SettingsError, match=r'^"Hand Right" is no left hand of this add-on'):
        key(item, take)
    item.keying.left = None
    unseen = replace(take, right=replace(take.right, observed=np.zeros(20, bool)))
    with pytest.raises(TakeError, match="shows none of these hands"):
        key(item, unseen)


def test_the_hands_of_the_library_have_their_own_proportions(item, take):
    item.keying.rigs = "LIBRARY"
    key(item, take)
    assert pose("left", take, 7) < 1e-3
    bpy.context.scene.frame_set(7)
    wrist = left_hand().evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones["wrist.L"]
    x, y, z = take.left.translation[6]
    np.testing.assert_allclose(left_hand().matrix_world @ wrist.head, [x, z, -y], atol=1e-5)
    for name in ("Hand Left", "Hand Right", "Hand Left Skin"):
        assert bpy.data.objects[name].asset_data is None


def test_hands_that_are_deleted_are_built_again(item, take):
    key(item, take)
    for armature in (left_hand(), bpy.data.objects["Hand Right"]):
        for each in (*armature.children, armature):
            bpy.data.objects.remove(each)
    assert not take_keys.has_rigs(item)
    assert key(item, take).built
    assert pose("left", take, 7) < 1e-3


def test_hands_wait_for_object_mode(item, take):
    other = bpy.data.objects.new("Other", bpy.data.armatures.new("Other"))
    bpy.context.scene.collection.objects.link(other)
    bpy.context.view_layer.objects.active = other
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(SettingsError, match="object mode"):
        key(item, take)
    bpy.ops.object.mode_set(mode="OBJECT")
    key(item, take)
    bpy.context.view_layer.objects.active = left_hand()
    bpy.ops.object.mode_set(mode="POSE")
    key(item, moved(take))
    bpy.ops.object.mode_set(mode="OBJECT")
    assert pose("left", moved(take), 7) < 1e-3


def test_keys_survive_saving_and_are_known_again(item, take, tmp_path):
    key(item, take, digest="saved")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    item = takes.active_take(bpy.context.scene)
    assert take_keys.keyed_digest(item) == "saved"
    done = key(item, moved(take))
    assert not done.kept
    assert not done.built
    confidence = curve(keying.property_path(CONFIDENCE_PROPERTY))
    assert len(confidence.keyframe_points) == 20


def test_two_takes_have_hands_and_keys_of_their_own(item, take, tmp_path):
    key(item, take)
    save_take(moved(take), tmp_path / "second.npz")
    takes.add_take(bpy.context.scene, tmp_path / "second.npz")
    first, second = bpy.context.scene.two_hands.takes
    key(second, moved(take), digest="second")
    assert second.keying.left != first.keying.left
    assert take_keys.keyed_digest(first) == ""
    assert pose("left", take, 7) < 1e-3


def own_camera(scene, take):
    return footage_view.add_camera(take, scene.collection)


def far_camera(scene, take):
    camera = own_camera(scene, take)
    camera.matrix_world = Matrix.LocRotScale((2.0, -1.0, 0.5), Euler((1.1, 0.3, 2.0)), (1.0, 1.0, 1.0))
    return camera


def moving_camera(scene, take):
    camera = far_camera(scene, take)
    camera.keyframe_insert("location", frame=1)
    camera.keyframe_insert("rotation_euler", frame=1)
    camera.location, camera.rotation_euler = (-1.0, 3.0, 1.0), (0.4, -0.5, 1.0)
    camera.keyframe_insert("location", frame=20)
    camera.keyframe_insert("rotation_euler", frame=20)
    return camera


def carried_camera(scene, take):
    carrier = bpy.data.objects.new("Carrier", None)
    scene.collection.objects.link(carrier)
    carrier.location, carrier.scale = (1.0, 2.0, 3.0), (2.0, 2.0, 2.0)
    camera = far_camera(scene, take)
    camera.parent = carrier
    camera.scale = (1.5, 1.5, 1.5)
    return camera


@pytest.mark.parametrize("make_camera", [own_camera, far_camera, moving_camera, carried_camera])
def test_the_hands_sit_on_the_filmed_ones_through_any_camera(item, take, make_camera):
    scene = bpy.context.scene
    footage_view.match_render_size(scene, take)
    camera = make_camera(scene, take)
    bpy.context.view_layer.update()
    scene.two_hands.footage.camera = camera
    key(item, take)
    assert (left_hand().parent is None) == (make_camera is own_camera)
    assert tuple(left_hand().location) == (0.0, 0.0, 0.0), "the object's own place stays the user's"
    joints = [joint for joint, source in enumerate(KEYPOINT_SOURCES) if source < 16]
    for frame in (1, 8, 20):
        scene.frame_set(frame)
        graph = bpy.context.evaluated_depsgraph_get()
        for side in SIDES:
            armature = bpy.data.objects[f"Hand {side.title()}"].evaluated_get(graph)
            heads = [armature.matrix_world @ armature.pose.bones[name].head for name in hand_rig.bone_names(side)]
            seen = pixels_of(scene, camera.evaluated_get(graph), np.array(heads), (1280, 720))
            wanted = take.hand(side).keypoints_2d[frame - 1]
            for keypoint in joints:
                np.testing.assert_allclose(seen[KEYPOINT_SOURCES[keypoint]], wanted[keypoint], atol=0.05)


def test_hands_are_placed_anew_when_another_camera_is_chosen(item, take):
    scene = bpy.context.scene
    key(item, take)
    assert left_hand().parent is None
    camera = far_camera(scene, take)
    bpy.context.view_layer.update()
    assert not bpy.ops.hands.place_hands.poll()
    scene.two_hands.footage.camera = camera
    assert_one_undo_step(bpy.ops.hands.place_hands)
    assert left_hand().parent == bpy.data.objects["Footage Camera"]


def test_keying_is_one_undo_step(item, take, monkeypatch):
    monkeypatch.setattr(clean_job, "follow_take", lambda *_: None)
    assert_one_undo_step(bpy.ops.hands.key_hands)
    item = takes.active_take(bpy.context.scene)
    item.start = 5
    assert_one_undo_step(bpy.ops.hands.key_hands)
    assert keyed_frames(curve())[0] == 5


def test_without_a_window_the_cleaned_motion_is_keyed_when_the_operator_returns(models, tmp_path):
    raw, _ = make_raw_take(models, times=np.arange(40) / 30)
    save_take(raw, tmp_path / "raw.npz")
    assert bpy.ops.hands.add_take(filepath=str(tmp_path / "raw.npz")) == {"FINISHED"}
    item = takes.active_take(bpy.context.scene)
    assert take_keys.keyed_digest(item) == clean_job.wanted_digest(bpy.context.scene, item)
    assert pose("left", clean_job.clean_take_of(item), 7) < 1e-3
    assert pose("left", raw, 7) > 1e-2
