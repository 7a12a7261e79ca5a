"""The undo harness itself: it lets a good operator pass and catches each way in which one can be wrong."""

import copy
from collections.abc import Iterator
from typing import ClassVar

import bpy
import pytest

import addon
from dir_core.take import save_take
from tests.blender.undo import assert_one_undo_step, differences, file_state
from tests.takes import make_take


class Settings(bpy.types.PropertyGroup):
    value: bpy.props.FloatProperty()  # type: ignore[valid-type]


class Change:
    """Changes something, and pushes undo steps of its own on wish."""

    more: bpy.props.IntProperty()  # type: ignore[valid-type]
    value: bpy.props.FloatProperty(default=1.0)  # type: ignore[valid-type]

    def execute(self, context):
        context.scene.two_hand_test.value = self.value
        for step in range(self.more):
            bpy.ops.ed.undo_push(message=f"one more {step}")
            context.scene["more"] = step
        return {"FINISHED"}


class TEST_OT_change(Change, bpy.types.Operator):  # noqa: N801  Blender demands such names
    """With an undo step"""

    bl_idname = "two_hand_test.change"
    bl_label = "Change"
    bl_options: ClassVar = {"UNDO"}


class TEST_OT_forget(Change, bpy.types.Operator):  # noqa: N801
    """Without an undo step"""

    bl_idname = "two_hand_test.forget"
    bl_label = "Forget"


@pytest.fixture
def operators(empty_file) -> Iterator[None]:
    for cls in (Settings, TEST_OT_change, TEST_OT_forget):
        bpy.utils.register_class(cls)
    bpy.types.Scene.two_hand_test = bpy.props.PointerProperty(type=Settings)
    yield
    del bpy.types.Scene.two_hand_test
    for cls in (TEST_OT_forget, TEST_OT_change, Settings):
        bpy.utils.unregister_class(cls)


def test_import_of_a_take_is_one_step(models, tmp_path):
    save_take(make_take(models, count=12), tmp_path / "take.npz")
    addon.register()
    try:
        assert_one_undo_step(bpy.ops.hands.add_take, filepath=str(tmp_path / "take.npz"))
        assert "Hand Left" in bpy.data.objects
    finally:
        addon.unregister()


def test_a_change_of_a_scene_setting_is_one_step(operators):
    assert_one_undo_step(bpy.ops.two_hand_test.change)
    assert bpy.context.scene.two_hand_test.value == 1.0


def test_an_operator_without_a_step_is_caught(operators):
    with pytest.raises(AssertionError, match="no undo step of its own"):
        assert_one_undo_step(bpy.ops.two_hand_test.forget)


def test_an_operator_with_two_steps_is_caught(operators):
    with pytest.raises(AssertionError, match="more than one undo step"):
        assert_one_undo_step(bpy.ops.two_hand_test.change, more=1)


def test_an_operator_that_changes_nothing_is_caught(operators):
    with pytest.raises(AssertionError, match="changed nothing"):
        assert_one_undo_step(bpy.ops.two_hand_test.change, value=0.0)


def test_the_state_sees_each_kind_of_change(models, tmp_path, operators):
    save_take(make_take(models, count=12), tmp_path / "take.npz")
    addon.register()
    try:
        bpy.ops.hands.add_take(filepath=str(tmp_path / "take.npz"))
    finally:
        addon.unregister()
    scene, hand = bpy.context.scene, bpy.data.objects["Hand Left"]
    skin = bpy.data.objects["Hand Left Skin"]
    (camera,) = bpy.data.cameras
    action = hand.animation_data.action
    curves = action.layers[0].strips[0].channelbags[0].fcurves if hasattr(action, "layers") else action.fcurves
    point = curves[0].keyframe_points[3]

    places = {
        "a key": (point, "co", lambda value: value * 2),
        "a handle": (point, "handle_right", lambda value: value * 2),
        "a vertex": (skin.data.vertices[5], "co", lambda value: value * 2),
        "the lens": (camera, "lens", lambda value: value + 1),
        "a group of settings": (scene.two_hand_test, "value", lambda value: value + 1),
        "the scene's range": (scene, "frame_end", lambda value: value + 1),
        "a pose": (hand.pose.bones["wrist.L"], "location", lambda value: value + value.__class__((1, 0, 0))),
    }
    for what, (item, name, change) in places.items():
        before, value = file_state(), copy.copy(getattr(item, name))
        setattr(item, name, change(value))
        assert differences(before, file_state()), what
        setattr(item, name, value)
        assert not differences(before, file_state()), what

    before = file_state()
    scene["note"] = {"frames": [1, 2]}
    assert any("'note'" in line for line in differences(before, file_state()))
    before = file_state()
    hand.users_collection[0].objects.unlink(hand)
    assert differences(before, file_state())
    before = file_state()
    curves.remove(curves[-1])
    assert differences(before, file_state())
