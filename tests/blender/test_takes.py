"""The list of takes: facts from files, missing files, edits and settings, collecting beside the .blend."""

from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np
import pytest

import addon
from addon import clean_job, takes
from dir_core.clean_up.edits import Edit
from dir_core.clean_up.settings import CleanUpSettings
from dir_core.errors import OutputError, SettingsError, TakeError
from dir_core.take import save_take
from tests.blender.pictures import write_pictures
from tests.blender.undo import assert_one_undo_step
from tests.takes import make_take


@pytest.fixture(autouse=True)
def registered(empty_file, monkeypatch) -> Iterator[None]:
    addon.register()
    monkeypatch.setattr(clean_job, "follow_take", lambda *_: None)
    yield
    addon.unregister()


@pytest.fixture
def scene():
    return bpy.context.scene


@pytest.fixture
def take_file(models, tmp_path) -> Path:
    seen = np.arange(20) < 15
    take = make_take(models, count=20, observed=seen, source={"path": str(tmp_path / "clip.mp4")})
    take.meta["estimator"] = {"name": "landmarks"}
    take.meta["hand_model"] = {"name": "Open hand", "licence": "Apache-2.0"}
    save_take(take, tmp_path / "clip.npz")
    return tmp_path / "clip.npz"


def test_a_row_holds_the_facts_of_its_file(scene, take_file):
    item = takes.add_take(scene, take_file, start=11)
    assert (item.name, item.estimator, item.licence, item.frames, item.start) == (
        "clip",
        "landmarks",
        "Apache-2.0",
        20,
        11,
    )
    assert (item.seen_left, item.seen_right) == (0.75, 0.75)
    assert item.footage == str(take_file.with_suffix(".mp4"))
    assert takes.raw_path(item) == take_file
    assert takes.active_take(scene) == item
    assert takes.find_take(scene, item.uid) == item
    assert len(item.uid) == 32


def test_the_newest_row_is_the_active_one_and_a_row_can_go(scene, take_file):
    uids = [takes.add_take(scene, take_file, name=name).uid for name in ("one", "two", "three")]
    assert len(set(uids)) == 3
    assert takes.active_take(scene).name == "three"
    takes.remove_take(scene, uids[0])
    assert [item.name for item in scene.two_hands.takes] == ["two", "three"]
    assert takes.active_take(scene).name == "three"
    takes.remove_take(scene, uids[2])
    assert takes.active_take(scene).name == "two"
    takes.remove_take(scene, uids[1])
    assert takes.active_take(scene) is None
    assert takes.find_take(scene, uids[1]) is None
    assert take_file.exists()


def test_a_take_is_read_again_only_when_its_file_has_changed(scene, take_file, models):
    item = takes.add_take(scene, take_file)
    first = takes.load_raw(item)
    assert takes.load_raw(item) is first
    save_take(make_take(models, count=7), take_file)
    assert len(takes.load_raw(item)) == 7


def test_few_takes_stay_in_memory(scene, models, tmp_path):
    for number in range(6):
        save_take(make_take(models, count=2 + number), tmp_path / f"{number}.npz")
        takes.add_take(scene, tmp_path / f"{number}.npz")
    newest = takes.load_raw(scene.two_hands.takes[5])
    oldest = takes.load_raw(scene.two_hands.takes[0])
    assert takes.load_raw(scene.two_hands.takes[5]) is newest
    for item in list(scene.two_hands.takes)[1:5]:
        takes.load_raw(item)
    assert takes.load_raw(scene.two_hands.takes[0]) is not oldest


def test_a_missing_take_is_one_sentence_that_says_what_to_do(scene, take_file):
    item = takes.add_take(scene, take_file)
    take_file.unlink()
    with pytest.raises(TakeError, match=r'^The take "clip" is not at .*clip\.npz any more, relink it in .*\.$'):
        takes.load_raw(item)
    with pytest.raises(TakeError, match="is not at"):
        takes.add_take(scene, take_file)
    assert len(scene.two_hands.takes) == 1


def test_missing_files_are_looked_for_and_not_while_drawing(scene, take_file):
    item = takes.add_take(scene, take_file)
    assert takes.missing_files(item) == takes.MissingFiles(take=False, footage=True)
    take_file.with_suffix(".mp4").touch()
    take_file.rename(take_file.with_name("moved.npz"))
    assert takes.missing_files(item) == takes.MissingFiles(take=False, footage=True)
    takes.look_for_all_files()
    assert takes.missing_files(item) == takes.MissingFiles(take=True, footage=False)


def test_choosing_a_take_looks_for_its_files(scene, take_file):
    takes.add_take(scene, take_file)
    takes.add_take(scene, take_file)
    take_file.unlink()
    scene.two_hands.active_take = 0
    assert [takes.missing_files(item).take for item in scene.two_hands.takes] == [True, False]


def test_opening_a_file_looks_for_its_takes(scene, take_file, tmp_path):
    takes.add_take(scene, take_file)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    take_file.unlink()
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    assert takes.missing_files(takes.active_take(bpy.context.scene)).take


def test_relinking_says_whether_it_is_the_same_take(scene, take_file, models, tmp_path):
    item = takes.add_take(scene, take_file)
    moved = take_file.rename(tmp_path / "moved.npz")
    assert takes.relink_take(item, moved)
    assert len(takes.load_raw(item)) == 20
    save_take(make_take(models, count=3), tmp_path / "other.npz")
    assert not takes.relink_take(item, tmp_path / "other.npz")
    assert item.frames == 3
    with pytest.raises(TakeError):
        takes.relink_take(item, tmp_path / "nothing.npz")
    assert takes.raw_path(item).name == "other.npz"


def test_the_same_take_is_found_in_another_file(scene, take_file, models, tmp_path):
    item = takes.add_take(scene, take_file)
    copy = tmp_path / "copy.npz"
    copy.write_bytes(take_file.read_bytes())
    assert takes.find_same_take(scene, copy) == item
    save_take(make_take(models, count=3), copy)
    assert takes.find_same_take(scene, copy) is None


def test_edits_and_settings_come_back_as_they_were(scene, take_file):
    item = takes.add_take(scene, take_file)
    assert takes.edits_of(item) == ()
    assert takes.settings_of(item) == CleanUpSettings()
    edits = (Edit("swap", 3, 5), Edit("trust", 7, 9, "left", 0.2))
    takes.set_edits(item, edits)
    item.clean_up.fingers, item.clean_up.fill, item.clean_up.contact = 0.1, 0.3, "off"
    assert takes.edits_of(item) == edits
    assert takes.settings_of(item) == CleanUpSettings(fingers=0.1, fill=0.3, contact="off")
    item.edits = "broken"
    with pytest.raises(SettingsError, match='The edits of the take "clip" cannot be read'):
        takes.edits_of(item)


def test_takes_are_collected_beside_the_blend_and_travel_with_it(scene, take_file, tmp_path):
    takes.add_take(scene, take_file)
    takes.add_take(scene, take_file, name="twice")
    with pytest.raises(OutputError, match="save it first"):
        takes.collect_takes(scene)
    home = tmp_path / "home"
    home.mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(home / "shot.blend"))
    assert takes.collect_takes(scene) == (2, 0)
    assert [item.filepath for item in scene.two_hands.takes] == ["//hands/clip.npz", "//hands/clip-2.npz"]
    assert takes.collect_takes(scene) == (0, 0)
    bpy.ops.wm.save_mainfile()
    home.rename(tmp_path / "elsewhere")
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "elsewhere" / "shot.blend"))
    item = bpy.context.scene.two_hands.takes[1]
    assert not takes.missing_files(item).take
    assert len(takes.load_raw(item)) == 20
    takes.raw_path(item).unlink()
    assert takes.collect_takes(bpy.context.scene) == (0, 1)


def test_saving_in_another_folder_keeps_relative_takes(scene, take_file, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    item = takes.add_take(scene, take_file)
    assert item.filepath == "//clip.npz"
    (tmp_path / "below").mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "below" / "shot.blend"))
    assert takes.raw_path(item) == take_file
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "below" / "shot.blend"))
    assert takes.raw_path(takes.active_take(bpy.context.scene)) == take_file


def test_a_free_path_is_unused_and_never_in_the_addons_own_folder(tmp_path):
    first = takes.free_path(tmp_path / "new" / "folder", "two/hands: take.mp4")
    assert first.parent == tmp_path / "new" / "folder"
    assert first.suffix == ".npz"
    first.touch()
    second = takes.free_path(first.parent, "two/hands: take.mp4")
    assert second != first
    assert not second.exists()
    with pytest.raises(OutputError, match="belongs to the add-on"):
        takes.free_path(Path(addon.__file__).parent / "takes", "take")
    with pytest.raises(OutputError, match="Cannot make the folder"):
        takes.free_path(first / "below", "take")


def test_the_list_changes_in_one_undo_step_each(scene, take_file, tmp_path):
    assert_one_undo_step(bpy.ops.hands.add_take, filepath=str(take_file), build=False)
    assert_one_undo_step(bpy.ops.hands.remove_take)
    bpy.ops.hands.add_take(filepath=str(take_file), build=False)
    moved = take_file.rename(tmp_path / "moved.npz")
    assert_one_undo_step(bpy.ops.hands.relink_take, filepath=str(moved))
    (tmp_path / "clip2.mp4").touch()
    assert_one_undo_step(bpy.ops.hands.relink_footage, filepath=str(tmp_path / "clip2.mp4"))
    (tmp_path / "home").mkdir()
    assert not bpy.ops.hands.collect_takes.poll()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "home" / "shot.blend"))
    assert_one_undo_step(bpy.ops.hands.collect_takes)
    assert takes.active_take(bpy.context.scene).filepath == "//hands/moved.npz"


def test_relinking_one_take_finds_its_neighbours(scene, models, tmp_path):
    (tmp_path / "old").mkdir()
    for number in range(3):
        save_take(make_take(models, count=2 + number), tmp_path / "old" / f"{number}.npz")
        takes.add_take(scene, tmp_path / "old" / f"{number}.npz")
    (tmp_path / "old").rename(tmp_path / "new")
    save_take(make_take(models, count=9), tmp_path / "new" / "2.npz")  # another capture of the same name
    bpy.ops.hands.relink_take(filepath=str(tmp_path / "new" / "2.npz"))
    takes.look_for_all_files()
    assert [takes.missing_files(item).take for item in scene.two_hands.takes] == [False, False, False]
    scene.two_hands.takes[2].filepath = str(tmp_path / "old" / "0.npz")
    assert takes.relink_neighbours(scene, tmp_path / "new") == 0


def test_relinking_footage_is_for_all_its_takes_and_the_background(scene, models, tmp_path):
    pictures = write_pictures(tmp_path / "pictures", 3)
    for number in range(2):
        save_take(make_take(models, count=2 + number, source={"path": str(pictures)}), tmp_path / f"{number}.npz")
        bpy.ops.hands.add_take(filepath=str(tmp_path / f"{number}.npz"), build=number == 0)
    pictures.rename(tmp_path / "elsewhere")
    takes.look_for_all_files()
    assert all(takes.missing_files(item).footage for item in scene.two_hands.takes)
    assert bpy.ops.hands.refresh_takes() == {"FINISHED"}
    bpy.ops.hands.relink_footage(filepath=str(tmp_path / "elsewhere"))
    assert not any(takes.missing_files(item).footage for item in scene.two_hands.takes)
    (clip,) = bpy.data.movieclips
    assert Path(clip.filepath).parent == tmp_path / "elsewhere"
    with pytest.raises(RuntimeError, match="There is no footage at"):
        bpy.ops.hands.relink_footage(filepath=str(tmp_path / "nothing"))


def test_buttons_are_grey_without_a_take(scene):
    for name in ("remove_take", "relink_take", "relink_footage", "collect_takes", "refresh_takes", "key_hands",
                 "add_layer", "remove_layer", "place_hands"):  # fmt: skip
        assert not getattr(bpy.ops.hands, name).poll(), name
    assert bpy.ops.hands.add_take.poll()
