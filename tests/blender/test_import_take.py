"""The add-on inside Blender: it registers, imports into the user's scene, reports and goes without a trace."""

from collections.abc import Iterator

import bpy
import numpy as np
import pytest

import addon
from addon import clean_job, footage_view, registration, takes
from addon.scene import build_scene
from dir_core.take import save_take
from tests.blender.pictures import write_pictures
from tests.blender.undo import assert_one_undo_step
from tests.takes import make_take


@pytest.fixture(autouse=True)
def registered(empty_file, monkeypatch) -> Iterator[None]:
    addon.register()
    monkeypatch.setattr(clean_job, "follow_take", lambda *_: None)  # the keys are compared with what was seen
    yield
    addon.unregister()


def test_every_class_registers_and_goes_again():
    assert all(cls.is_registered for cls in registration.classes())
    addon.unregister()
    assert not any(cls.is_registered for cls in registration.classes())
    assert "add_take" not in dir(bpy.ops.hands)
    addon.register()
    assert "add_take" in dir(bpy.ops.hands)


def test_import_leaves_rate_and_range_of_the_users_scene_alone(models, tmp_path):
    take = make_take(models, count=31, rate=30.0)
    save_take(take, tmp_path / "clap.npz")
    scene = bpy.context.scene
    scene.render.fps, scene.frame_start, scene.frame_end = 24, 1, 250
    assert bpy.ops.hands.add_take(filepath=str(tmp_path / "clap.npz"), start=11) == {"FINISHED"}
    assert (scene.render.fps, scene.render.fps_base, scene.frame_start, scene.frame_end) == (24, 1.0, 1, 250)
    assert scene.camera.name == "Footage Camera"
    assert (scene.render.resolution_x, scene.render.resolution_y) == (1280, 720)
    assert [item.name for item in bpy.context.selected_objects] == ["Hand Left", "Hand Right"]
    assert "clap" in bpy.data.collections
    left = bpy.data.objects["Hand Left"]
    first, last = left.animation_data.action.frame_range
    assert (first, last) == (pytest.approx(11.0), pytest.approx(11 + 24.0))
    scene.frame_set(35)
    head = left.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones["wrist.L"].head
    x, y, z = take.left.translation[30]
    np.testing.assert_allclose(head, [x, z, -y], atol=1e-5)


def test_camera_of_the_scene_is_kept_on_wish(models, tmp_path):
    save_take(make_take(models, count=2), tmp_path / "take.npz")
    scene = bpy.context.scene
    size = (scene.render.resolution_x, scene.render.resolution_y)
    bpy.ops.hands.add_take(filepath=str(tmp_path / "take.npz"), use_camera=False)
    assert scene.camera is None
    assert (scene.render.resolution_x, scene.render.resolution_y) == size


def test_footage_comes_along_if_it_is_there(models, tmp_path):
    pictures = write_pictures(tmp_path / "pictures", 3)
    save_take(make_take(models, count=2, rate=24.0, source={"path": str(pictures)}), tmp_path / "take.npz")
    bpy.ops.hands.add_take(filepath=str(tmp_path / "take.npz"), start=5)
    assert bpy.context.scene.camera.data.background_images[0].clip.frame_start == 5


def test_footage_of_another_rate_is_told_in_numbers_and_stays_on_time(models, tmp_path):
    pictures = write_pictures(tmp_path / "pictures", 3)
    take = make_take(models, count=2, rate=30.0, source={"path": str(pictures)})
    scene = bpy.context.scene
    scene.render.fps = 24
    clip = footage_view.load_footage(pictures)
    built = build_scene(take, models, scene, clip=clip)
    (background,) = built.camera.data.background_images
    assert background.source == "IMAGE"
    told = "The footage has 30 fps and the scene 24: everything stays on time, 0.8 scene frames per footage frame."
    assert told in built.notes


def test_a_second_import_updates_the_hands_of_the_first(models, tmp_path):
    save_take(make_take(models, count=2), tmp_path / "take.npz")
    for _ in range(2):
        bpy.ops.hands.add_take(filepath=str(tmp_path / "take.npz"))
    assert len(bpy.context.scene.two_hands.takes) == 1
    assert len([each for each in bpy.data.objects if each.type == "ARMATURE"]) == 2
    assert len([each for each in bpy.data.objects if each.type == "CAMERA"]) == 1


def test_a_copy_of_a_take_that_was_lost_takes_its_place(models, tmp_path):
    save_take(make_take(models, count=2), tmp_path / "take.npz")
    bpy.ops.hands.add_take(filepath=str(tmp_path / "take.npz"))
    (tmp_path / "take.npz").rename(tmp_path / "moved.npz")
    bpy.ops.hands.add_take(filepath=str(tmp_path / "moved.npz"))
    (item,) = bpy.context.scene.two_hands.takes
    assert takes.raw_path(item).name == "moved.npz"


def test_another_take_gets_hands_of_its_own(models, tmp_path):
    for count in (2, 3):
        save_take(make_take(models, count=count), tmp_path / f"{count}.npz")
        bpy.ops.hands.add_take(filepath=str(tmp_path / f"{count}.npz"))
    assert {"Hand Left", "Hand Left.001"} <= set(bpy.data.objects.keys())
    actions = {bpy.data.objects[name].animation_data.action for name in ("Hand Left", "Hand Left.001")}
    assert len(actions) == 2
    assert [item.name for item in bpy.context.scene.two_hands.takes] == ["2", "3"]


def test_a_row_alone_on_wish(models, tmp_path):
    save_take(make_take(models, count=2), tmp_path / "take.npz")
    bpy.ops.hands.add_take(filepath=str(tmp_path / "take.npz"), build=False)
    assert [item.name for item in bpy.context.scene.two_hands.takes] == ["take"]
    assert not bpy.data.objects


def test_one_undo_step(models, tmp_path):
    save_take(make_take(models, count=2), tmp_path / "take.npz")
    assert_one_undo_step(bpy.ops.hands.add_take, filepath=str(tmp_path / "take.npz"))


def test_a_damaged_take_is_one_sentence_and_leaves_the_scene_alone(tmp_path):
    (tmp_path / "take.npz").write_bytes(b"broken")
    with pytest.raises(RuntimeError, match=r"Error: .* is not a take: .*capture the clip again\.$"):
        bpy.ops.hands.add_take(filepath=str(tmp_path / "take.npz"))
    assert not bpy.data.objects
    assert not bpy.data.collections


def test_it_waits_for_object_mode():
    armature = bpy.data.objects.new("Other", bpy.data.armatures.new("Other"))
    bpy.context.scene.collection.objects.link(armature)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    assert not bpy.ops.hands.add_take.poll()
    bpy.ops.object.mode_set(mode="OBJECT")
    assert bpy.ops.hands.add_take.poll()
