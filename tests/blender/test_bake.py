"""Baking the hands of a rig: the same is seen on every frame, and everything else on the rig stays as it was."""

import bpy
import numpy as np
import pytest

from addon import keying
from addon.retargeting import bake, rig_layer
from dir_core import rotations
from dir_core.errors import SettingsError
from tests.blender.test_plain_bones import finish
from tests.blender.test_retarget import COUNT, body_action, digest, key_captured, mixamo, retarget_now

AROUND = range(-8, 40)


def seen(rig, frames=AROUND):
    """[K, B, 4, 4] poses of all bones."""
    poses = np.empty((len(frames), len(rig.pose.bones), 4, 4))
    for row, frame in enumerate(frames):
        bpy.context.scene.frame_set(frame)
        graph = bpy.context.evaluated_depsgraph_get()
        poses[row] = [bone.matrix for bone in rig.evaluated_get(graph).pose.bones]
    return poses


def worst(before, after):
    """Largest angle in degrees and largest distance between poses [..., 4, 4]."""
    one, other = (
        each[..., :3, :3] / np.linalg.norm(each[..., :3, :3], axis=-2, keepdims=True) for each in (before, after)
    )
    turned = np.linalg.norm(one - other, axis=(-2, -1)) / np.sqrt(2.0)
    return np.degrees(turned.max()), np.abs(before[..., :3, 3] - after[..., :3, 3]).max()


def assert_same(before, after):
    angle, distance = worst(before, after)
    assert angle < 0.01
    assert distance < 1e-5


def hand_body(rig, rig_map, frames, *, bones=(), handles="AUTO_CLAMPED", interpolation="BEZIER", **settings):
    """A body's action that keys some fingers as well, with curves of a kind."""
    names = ["hips", "chest", *bones, rig_map.hands["left"].fingers["index"][0], rig_map.hands["right"].wrist]
    rng = np.random.default_rng(5)
    place = keying.open_place(rig, None, "Body")
    turns = rotations.from_rotation_vector(rng.normal(0, 0.7, (len(names), len(frames), 3)))
    keying.key_bones(place, np.asarray(frames, float), rotations=dict(zip(names, turns, strict=True)))
    for curve in place.curves:
        for name, value in settings.items():
            setattr(curve, name, value)
        for point in curve.keyframe_points:
            point.handle_left_type = point.handle_right_type = handles
            point.interpolation = interpolation
            if handles in ("FREE", "ALIGNED"):
                point.handle_left = (point.co.x - 1.3, point.co.y - 0.2)
                point.handle_right = (point.co.x + 2.1, point.co.y + 0.3)
        curve.update()
    return place


def test_without_an_action_the_rig_gets_one(models):
    rig, _, _ = rigged = mixamo(models)
    retarget_now(*rigged, wrist="ROTATION")
    before = seen(rig)
    done = finish(bake.bake_layer(rig))
    assert (done.frames, done.bones, done.notes) == (COUNT, 32, ())
    assert rig.animation_data.action.name == done.action == "Rig Action"
    assert not rig.animation_data.nla_tracks
    assert_same(before, seen(rig))
    assert not [action.name for action in bpy.data.actions if action.name.startswith("Rig Hands")]
    assert len(bpy.data.scenes) == 1


@pytest.mark.parametrize(("weight", "fade"), [(1.0, 0), (0.6, 0), (1.0, 2), (0.7, 1)])
def test_an_active_action_gets_the_hands_and_keeps_the_rest(models, weight, fade):
    rig, armatures, rig_map = mixamo(models)
    body = body_action(rig, ["hips", "chest", "forearm left"])
    retarget_now(rig, armatures, rig_map, wrist="ROTATION", weight=weight, fade=fade)
    before, kept = seen(rig), digest(body)
    done = finish(bake.bake_layer(rig))
    assert done.bones == 32
    assert rig.animation_data.action == body.action
    after = digest(body)
    assert {channel: keys for channel, keys in after.items() if channel in kept} == kept
    assert len(after) == len(kept) + 4 * 32
    assert_same(before, seen(rig))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"handles": "AUTO"},
        {"handles": "VECTOR"},
        {"handles": "FREE"},
        {"handles": "ALIGNED"},
        {"interpolation": "CONSTANT"},
        {"interpolation": "LINEAR"},
        {"handles": "AUTO", "auto_smoothing": "CONT_ACCEL"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "frames",
    [
        (-5, -1, 4, 12, 19, 30),
        (-6, 0, 7, 25),
        (2, 3, 4),
        (-7, -3),
        (10, 20, 30),
        (0.5, 6.5, 9.25),
        (-5.5, 3, 6.3, 22),
    ],
    ids=str,
)
def test_an_action_below_gets_its_own_back_with_the_hands(models, frames, options):
    rig, armatures, rig_map = mixamo(models)
    body = hand_body(rig, rig_map, frames, **options)
    retarget_now(rig, armatures, rig_map)
    before, kept = seen(rig), digest(body)
    assert rig.animation_data.action is None
    done = finish(bake.bake_layer(rig))
    assert (done.action, done.notes) == (body.action.name, ())
    assert rig.animation_data.action == body.action
    assert not rig.animation_data.nla_tracks
    assert_same(before, seen(rig))
    hand_paths = {
        keying.bone_path(bone, "rotation_quaternion") for hand in rig_map.hands.values() for bone in hand.bones
    }
    hand_paths -= {keying.bone_path(rig_map.hands["right"].wrist, "rotation_quaternion")}
    after = digest(body)
    for channel, keys in kept.items():
        if channel[0] not in hand_paths:
            assert after[channel] == keys
        else:  # keys outside stay
            outside = {key[:2] for key in keys if not 1 <= key[0] <= COUNT}
            assert outside <= {key[:2] for key in after[channel]}


def test_between_the_frames_nothing_swings_outside(models):
    rig, armatures, rig_map = mixamo(models)
    body = hand_body(rig, rig_map, (-5, -1, 4, 12, 19, 30), handles="AUTO")
    path = keying.bone_path(rig_map.hands["left"].fingers["index"][0], "rotation_quaternion")
    times = np.concatenate([np.linspace(-8, 0, 81), np.linspace(COUNT + 1, 35, 281)])

    def curves():
        own = [curve for curve in body.curves if curve.data_path == path]
        return np.array([[curve.evaluate(time) for time in times] for curve in own])

    before = curves()
    retarget_now(rig, armatures, rig_map)
    finish(bake.bake_layer(rig))
    np.testing.assert_allclose(curves(), before, atol=2e-6)


def modify(body, path):
    next(each for each in body.curves if each.data_path == path).modifiers.new("CYCLES")


def extrapolate(body, path):
    next(each for each in body.curves if each.data_path == path).extrapolation = "LINEAR"


def mute(body, path):
    next(each for each in body.curves if each.data_path == path).mute = True


@pytest.mark.parametrize("change", [modify, extrapolate, mute], ids=lambda each: each.__name__)
def test_curves_that_go_on_by_themselves_stay_below(models, change):
    rig, armatures, rig_map = mixamo(models)
    body = hand_body(rig, rig_map, (-5, -1, 4, 12))
    change(body, keying.bone_path(rig_map.hands["left"].fingers["index"][0], "rotation_quaternion"))
    retarget_now(rig, armatures, rig_map)
    before, kept = seen(rig), digest(body)
    done = finish(bake.bake_layer(rig))
    assert done.notes
    assert rig.animation_data.action not in (None, body.action)
    assert digest(body) == kept
    assert [track.name for track in rig.animation_data.nla_tracks] == [rig_layer.BODY_TRACK]
    assert_same(before, seen(rig))


def test_tracks_of_the_users_are_seen_again_beside_the_hands(models):
    rig, armatures, rig_map = mixamo(models)
    body = hand_body(rig, rig_map, (-5, -1, 4, 12))
    strip = rig.animation_data.nla_tracks.new().strips.new("wave", -5, body.action)
    if keying.HAS_SLOTS:
        strip.action_slot = body.slot
    rig.animation_data.action = None
    retarget_now(rig, armatures, rig_map)
    before = seen(rig)
    finish(bake.bake_layer(rig))
    assert rig.animation_data.action.name == "Rig Action"
    assert rig.animation_data.action_extrapolation == "NOTHING"
    assert_same(before, seen(rig))


def test_a_strip_that_was_changed_stays_and_the_hands_come_on_top(models):
    rig, armatures, rig_map = mixamo(models)
    body = hand_body(rig, rig_map, (-5, -1, 4, 12))
    retarget_now(rig, armatures, rig_map)
    strip = rig.animation_data.nla_tracks[rig_layer.BODY_TRACK].strips[0]
    strip.use_animated_influence = True
    strip.influence = 0.5
    strip.fcurves[0].keyframe_points.insert(1, 0.5)
    before = seen(rig)
    done = finish(bake.bake_layer(rig))
    assert done.notes
    assert rig.animation_data.action != body.action
    assert_same(before, seen(rig))


@pytest.mark.parametrize("mode", ["XYZ", "AXIS_ANGLE"])
def test_other_rotation_modes_and_places_are_baked(models, mode):
    rig, armatures, rig_map = mixamo(models, mode=mode)
    body_action(rig, ["hips"])
    retarget_now(rig, armatures, rig_map, wrist="POSITION", fade=1)
    before = seen(rig)
    done = finish(bake.bake_layer(rig))
    assert done.bones == 32
    assert_same(before, seen(rig))


def test_a_strip_that_was_moved_is_baked_where_it_is_seen(models):
    rig, armatures, rig_map = mixamo(models)
    body_action(rig, ["hips"])
    retarget_now(rig, armatures, rig_map)
    strip = rig_layer.layer_strip(rig)
    strip.frame_end = 23.5
    strip.frame_start = 10.0
    strip.scale = 1.7
    before = seen(rig)
    done = finish(bake.bake_layer(rig))
    assert done.frames > COUNT
    angle, distance = worst(before, seen(rig))
    assert angle < 0.01
    assert distance < 1e-5


def test_a_shared_action_is_copied_first(models):
    rig, armatures, rig_map = mixamo(models)
    body = body_action(rig, ["hips"])
    other = rig.copy()
    bpy.context.scene.collection.objects.link(other)
    if keying.HAS_SLOTS:
        other.animation_data.action_slot = body.slot
    retarget_now(rig, armatures, rig_map)
    kept = digest(body)
    done = finish(bake.bake_layer(rig))
    assert done.action != body.action.name
    assert digest(body) == kept
    assert other.animation_data.action == body.action


def test_what_cannot_be_baked_is_told_and_changes_nothing(models):
    rig, armatures, rig_map = mixamo(models)
    with pytest.raises(SettingsError, match="no keys of captured hands"):
        finish(bake.bake_layer(rig))
    body = body_action(rig, ["hips"])
    retarget_now(rig, armatures, rig_map)
    data, track = rig.animation_data, rig_layer.layer_track(rig)
    before = digest(body)
    for owner, name, value, message in (
        (track, "mute", True, "does not play now"),
        (data, "use_nla", False, "does not play now"),
        (track, "is_solo", True, "plays alone"),
        (rig, "hide_viewport", True, "is hidden in viewports"),
        (data, "action_blend_type", "ADD", "is mixed with"),
        (data, "action_influence", 0.5, "is mixed with"),
    ):
        usual = getattr(owner, name)
        setattr(owner, name, value)
        with pytest.raises(SettingsError, match=message):
            finish(bake.bake_layer(rig))
        setattr(owner, name, usual)
    fingers = [bone for hand in rig_map.hands.values() for chain in hand.fingers.values() for bone in chain]
    keying.key_bones(body, np.array([1.0]), rotations={bone: np.array([[1.0, 0, 0, 0]]) for bone in fingers})
    with pytest.raises(SettingsError, match="hides the hands"):
        finish(bake.bake_layer(rig))
    assert {channel: keys for channel, keys in digest(body).items() if channel in before} == before
    assert rig_layer.layer_track(rig) is not None
    assert len(bpy.data.scenes) == 1


def test_a_bone_with_keys_in_the_active_action_keeps_them(models):
    rig, armatures, rig_map = mixamo(models)
    body = body_action(rig, ["hips"])
    retarget_now(rig, armatures, rig_map)
    bone = rig_map.hands["left"].fingers["ring"][1]
    keying.key_bones(body, np.array([2.0, 5.0]), rotations={bone: np.array([[1.0, 0, 0, 0], [0.9, 0.1, 0.2, 0.3]])})
    before, kept = seen(rig), digest(body)
    done = finish(bake.bake_layer(rig))
    assert bone in done.notes[0]
    assert done.bones == 29
    assert {channel: keys for channel, keys in digest(body).items() if channel in kept} == kept
    assert_same(before, seen(rig))


def test_ending_early_leaves_everything_as_it_was(models):
    rig, armatures, rig_map = mixamo(models)
    body = body_action(rig, ["hips"])
    retarget_now(rig, armatures, rig_map)
    kept = digest(body)
    steps = bake.bake_layer(rig)
    assert 0.0 < next(steps) < next(steps) < 1.0
    steps.close()
    assert digest(body) == kept
    assert rig_layer.layer_track(rig) is not None
    assert len(bpy.data.scenes) == 1


def test_a_library_override_is_baked(models, tmp_path):
    rig, _, rig_map = mixamo(models)
    body_action(rig, ["hips", "chest"])
    bpy.data.libraries.write(str(tmp_path / "hero.blend"), {rig}, fake_user=True)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    armatures = key_captured(models)
    with bpy.data.libraries.load(str(tmp_path / "hero.blend"), link=True) as (_, wanted):
        wanted.objects = ["Rig"]
    (linked,) = wanted.objects
    bpy.context.scene.collection.objects.link(linked)
    override = linked.override_create(remap_local_usages=True)
    retarget_now(override, armatures, rig_map, wrist="ROTATION")
    bpy.context.view_layer.update()
    before = seen(override)
    linked_action = override.animation_data.action
    done = finish(bake.bake_layer(override))
    assert done.bones == 32
    assert override.animation_data.action != linked_action
    assert override.animation_data.action.library is None
    assert_same(before, seen(override))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    override = next(item for item in bpy.data.objects if item.override_library)
    assert_same(before, seen(override))
