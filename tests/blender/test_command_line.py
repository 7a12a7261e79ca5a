"""`python -m addon` as a user meets it: a process of its own, its exit code, its words and its file."""

import os
import re
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

import addon
from addon import asset_library, hand_rig, keying, take_keys, takes
from addon.scene import CONFIDENCE_PROPERTY
from dir_core.camera import project
from dir_core.conventions import SIDES
from dir_core.take import save_take
from tests.blender.pictures import write_pictures
from tests.blender.test_footage_view import pixels_of
from tests.takes import make_take

REPOSITORY = Path(__file__).resolve().parents[2]


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "addon", *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def save(take, path):
    save_take(take, path)
    return path


def bone_heads(scene, side, frame):
    whole = int(np.floor(frame))
    scene.frame_set(whole, subframe=float(frame - whole))
    armature = bpy.data.objects[f"Hand {side.title()}"].evaluated_get(bpy.context.evaluated_depsgraph_get())
    return np.array([armature.matrix_world @ armature.pose.bones[name].head for name in hand_rig.bone_names(side)])


@pytest.mark.parametrize(("rate", "stored", "first"), [(30000 / 1001, (30, 1.001), 0), (25.0, (25, 1.0), 50)])
def test_hands_lie_on_the_footage(models, tmp_path, rate, stored, first):
    folder = tmp_path / "mit Leerzeichen und Ünïcode 手"
    pictures = write_pictures(folder / "pictures", 80, (128, 72))
    take = make_take(
        models, count=24, rate=rate, first_frame=first, image_size=(128, 72), focal_length=110.0,
        source={"path": str(pictures)},
    )  # fmt: skip
    output = folder / "Ergebnis 手.blend"
    done = run(save(take, folder / "take é.npz"), "-o", output)
    assert done.returncode == 0, done.stderr
    assert f"Keyed 24 frames on scene frames {1 + first} to {24 + first}" in done.stdout
    assert "Saved" not in done.stdout, "Blender's chatter"
    assert not done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["Ergebnis 手.blend", "pictures", "take é.npz"]

    bpy.ops.wm.open_mainfile(filepath=str(output))
    scene = bpy.context.scene
    assert (scene.render.fps, scene.render.fps_base) == pytest.approx(stored)
    assert (scene.frame_start, scene.frame_end, scene.frame_current) == (1 + first, 24 + first, 1 + first)
    assert (scene.render.resolution_x, scene.render.resolution_y) == (128, 72)
    assert scene.view_settings.view_transform == "Standard"
    (background,) = scene.camera.data.background_images
    assert background.clip.frame_start == 1
    assert Path(bpy.path.abspath(background.clip.filepath)).parent == pictures
    views = [area for screen in bpy.data.screens for area in screen.areas if area.type == "VIEW_3D"]
    assert {area.spaces.active.region_3d.view_perspective for area in views} == {"CAMERA"}
    for side in SIDES:
        rows = [0, 5, 9, 13, 17, 1]
        joints = [0, 1, 4, 10, 7, 13]
        for index in (0, 12, 23):
            heads = bone_heads(scene, side, 1 + first + index)
            seen = pixels_of(scene, scene.camera, heads[joints], (128, 72))
            truth = project(take.hand(side).keypoints_3d[index], take.camera_matrix)[rows]
            np.testing.assert_allclose(seen, truth, atol=0.01)


def test_footage_and_start_can_be_given(models, tmp_path):
    pictures = write_pictures(tmp_path / "pictures", 3)
    output = tmp_path / "out.blend"
    done = run(save(make_take(models, count=3), tmp_path / "take.npz"), "-o", output,
               "--footage", pictures / "shot_0001.png", "--frame-start", 1001)  # fmt: skip
    assert done.returncode == 0, done.stderr
    bpy.ops.wm.open_mainfile(filepath=str(output))
    assert bpy.context.scene.frame_start == 1001
    assert bpy.data.movieclips[0].frame_start == 1001


def test_a_movie_plays_behind_the_hands(models, shared, tmp_path):
    movie = shared / "footage" / "two_hands_composite.mp4"
    output = tmp_path / "out.blend"
    take = make_take(models, count=3, source={"path": str(movie)})
    done = run(save(take, tmp_path / "take.npz"), "-o", output)
    assert done.returncode == 0, done.stderr
    bpy.ops.wm.open_mainfile(filepath=str(output))
    (background,) = bpy.context.scene.camera.data.background_images
    assert background.clip.source == "MOVIE"
    assert background.clip.frame_duration > 1


def test_variable_rate_footage_plays_at_blenders_rate_for_it(models, tmp_path):
    """Blender picks a movie's pictures by time at a rate of its own: the scene takes it, not the average."""
    movie = REPOSITORY / "tests" / "data" / "footage" / "variable_rate.mp4"
    times = np.array([0.0, 0.04, 0.12, 0.16])
    take = make_take(models, count=4, times=times, source={"path": str(movie), "frame_rate": 17.3})
    done = run(save(take, tmp_path / "take.npz"), "-o", tmp_path / "out.blend")
    assert done.returncode == 0, done.stderr
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "out.blend"))
    scene = bpy.context.scene
    assert scene.render.fps / scene.render.fps_base == pytest.approx(bpy.data.movieclips[0].fps)
    assert scene.frame_end == 5


def test_without_footage_there_is_a_note_and_no_background(models, tmp_path):
    output = tmp_path / "out.blend"
    take = make_take(models, count=3, source={"path": str(tmp_path / "moved.mp4")})
    done = run(save(take, tmp_path / "take.npz"), "-o", output)
    assert done.returncode == 0, done.stderr
    assert "There is no background: There is no footage at" in done.stdout
    bpy.ops.wm.open_mainfile(filepath=str(output))
    assert not bpy.context.scene.camera.data.background_images


def test_variable_rate_and_gaps_survive_the_file(models, tmp_path):
    times = np.cumsum([0.0, 0.033, 0.041, 0.029, 0.25, 0.0335])
    seen = np.array([True, False, True, True, False, True])
    take = make_take(models, count=6, times=times, observed=seen)
    output = tmp_path / "out.blend"
    assert run(save(take, tmp_path / "take.npz"), "-o", output).returncode == 0
    bpy.ops.wm.open_mainfile(filepath=str(output))
    scene = bpy.context.scene
    armature = bpy.data.objects["Hand Left"]
    for index, time in enumerate(times):
        heads = bone_heads(scene, "left", 1 + time * 30)
        posed = take.left.keypoints_3d[index]
        np.testing.assert_allclose(heads[0], [posed[0, 0], posed[0, 2], -posed[0, 1]], atol=1e-4)
        scene.frame_set(int(np.floor(1 + time * 30 + 0.01)), subframe=float((1 + time * 30 + 0.01) % 1))
        confidence = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())[CONFIDENCE_PROPERTY]
        assert confidence == pytest.approx(0.9 if seen[index] else 0.0)


@pytest.mark.parametrize(("count", "seen"), [(1, True), (4, False)])
def test_smallest_takes(models, tmp_path, count, seen):
    output = tmp_path / "out.blend"
    done = run(save(make_take(models, count=count, observed=seen), tmp_path / "take.npz"), "-o", output)
    assert done.returncode == 0, done.stderr
    assert output.exists()
    assert ("never seen" in done.stdout) is not seen


@pytest.mark.parametrize("bound", [[], ["2"]])
def test_fewer_keys_can_be_asked_for(models, tmp_path, bound):
    output = tmp_path / "out.blend"
    take = save(make_take(models, count=60), tmp_path / "take.npz")
    done = run(take, "-o", output, "--reduce-keys", *bound)
    assert done.returncode == 0, done.stderr
    told = int(re.search(r", ([\d,]+) keys instead of 8,040; left hand seen", done.stdout)[1].replace(",", ""))
    bpy.ops.wm.open_mainfile(filepath=str(output))
    bones = [
        each
        for side in SIDES
        for each in keying.curves_of(bpy.data.objects[f"Hand {side.title()}"])
        if each.data_path.startswith("pose.bones")
    ]
    assert sum(len(each.keyframe_points) for each in bones) == told < 8040 / 4


def test_a_bound_for_fewer_keys_that_cannot_work_is_one_sentence(models, tmp_path):
    take = save(make_take(models, count=2), tmp_path / "take.npz")
    for bound in ("0", "20", "nan"):
        done = run(take, "-o", tmp_path / "out.blend", "--reduce-keys", bound)
        assert_one_sentence(done, tmp_path, "take.npz")
        assert "give 0.01 to 10 degrees" in done.stderr


def assert_one_sentence(done, folder, *names):
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].endswith(".")
    assert "Traceback" not in done.stdout + done.stderr
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_a_damaged_take_is_one_sentence_and_no_file(tmp_path):
    (tmp_path / "take.npz").write_bytes(b"PK\x03\x04 broken")
    assert_one_sentence(run(tmp_path / "take.npz", "-o", tmp_path / "out.blend"), tmp_path, "take.npz")


def test_a_missing_take_an_empty_take_and_missing_footage_are_one_sentence(models, tmp_path):
    assert_one_sentence(run(tmp_path / "take.npz", "-o", tmp_path / "out.blend"), tmp_path)
    save(make_take(models, count=0), tmp_path / "take.npz")
    assert_one_sentence(run(tmp_path / "take.npz", "-o", tmp_path / "out.blend"), tmp_path, "take.npz")
    save(make_take(models, count=2), tmp_path / "take.npz")
    done = run(tmp_path / "take.npz", "-o", tmp_path / "out.blend", "--footage", tmp_path / "none.mp4")
    assert_one_sentence(done, tmp_path, "take.npz")
    (tmp_path / "text.mp4").write_text("no movie")
    done = run(tmp_path / "take.npz", "-o", tmp_path / "out.blend", "--footage", tmp_path / "text.mp4")
    assert_one_sentence(done, tmp_path, "take.npz", "text.mp4")


def test_an_output_that_cannot_be_written_is_one_sentence(models, tmp_path):
    take = save(make_take(models, count=2), tmp_path / "take.npz")
    (tmp_path / "folder.blend").mkdir()
    for output in (tmp_path / "none" / "out.blend", tmp_path / "folder.blend", tmp_path / "out.txt", "/proc/out.blend"):
        assert_one_sentence(run(take, "-o", output), tmp_path, "take.npz", "folder.blend")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_one_sentence(models, tmp_path):
    take = save(make_take(models, count=2), tmp_path / "take.npz")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert_one_sentence(run(take, "-o", locked / "out.blend"), tmp_path, "take.npz", "locked")


def test_an_older_file_is_kept_when_the_run_fails(tmp_path):
    (tmp_path / "out.blend").write_bytes(b"older work")
    (tmp_path / "take.npz").write_bytes(b"broken")
    assert run(tmp_path / "take.npz", "-o", tmp_path / "out.blend").returncode != 0
    assert (tmp_path / "out.blend").read_bytes() == b"older work"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    output = tmp_path_factory.mktemp("asset library") / "two hands.blend"
    done = run("--rest", "-o", output)
    assert done.returncode == 0, done.stderr
    return output


def test_the_asset_library_holds_both_hands_in_rest(library):
    bpy.ops.wm.open_mainfile(filepath=str(library))
    collection = bpy.data.collections["Two Hands"]
    assert collection.asset_data is not None
    assets = [collection, *collection.children]
    assert [each.name for each in assets] == ["Two Hands", "Hand Left", "Hand Right"]
    catalogue, *rest = (library.parent / "blender_assets.cats.txt").read_text().splitlines()[-1].split(":")
    assert rest == ["Hands", "Hands"]
    for each in assets:
        assert each.asset_data.catalog_id == catalogue
        assert each.asset_data.license
        picture = np.array(each.preview.image_pixels_float[:]).reshape(256, 256, 4)
        assert 0.05 < (picture[..., 3] > 0.9).mean() < 0.9, "a hand before nothing"
        skin = picture[picture[..., 3] > 0.9].mean(axis=0)
        assert skin[0] > skin[2] > 0.1
    armatures = [item for item in collection.all_objects if item.type == "ARMATURE"]
    assert sorted(item.name for item in armatures) == ["Hand Left", "Hand Right"]
    assert not bpy.data.actions
    left, right = (next(item for item in armatures if side in item.name) for side in ("Left", "Right"))
    middle = bpy.context.evaluated_depsgraph_get()
    for item, sign in ((left, 1), (right, -1)):
        tip = item.matrix_world @ item.evaluated_get(middle).pose.bones[f"middle3.{item.name[5]}"].tail
        assert sign * tip.x > 0.08 + 0.15  # fingers point away from each other


def test_the_catalogues_of_the_user_stay(tmp_path):
    path = tmp_path / "blender_assets.cats.txt"
    path.write_text("VERSION 1\n\n1111:Props:Props\n")
    for _ in range(2):
        asset_library.write_catalogue(tmp_path)
    assert path.read_text().splitlines()[-2:] == ["1111:Props:Props", f"{asset_library.CATALOGUE}:Hands:Hands"]


def test_hands_are_appended_from_the_asset_library(models, tmp_path, monkeypatch, library):
    monkeypatch.setattr(take_keys, "LIBRARY", library)
    addon.register()
    try:
        save(make_take(models, count=3), tmp_path / "clap.npz")
        item = takes.add_take(bpy.context.scene, tmp_path / "clap.npz")
        item.keying.rigs = "LIBRARY"
        take_keys.key_take(bpy.context, item, takes.load_raw(item))
        assert sorted(each.name for each in bpy.data.collections) == ["Hand Left", "Hand Right", "clap"]
        assert all(each.asset_data is None for each in bpy.data.collections)
        assert tuple(item.keying.left.location) == (0.0, 0.0, 0.0)
        assert item.keying.left.animation_data.action is not None
        assert not item.keying.left.library
        before = {(each.name, each.path) for each in bpy.context.preferences.filepaths.asset_libraries}
        assert bpy.ops.hands.add_asset_library() == {"FINISHED"}
        libraries = bpy.context.preferences.filepaths.asset_libraries
        (new,) = [each for each in libraries if (each.name, each.path) not in before]
        assert new.path.rstrip("/") == str(library.parent)
        assert not bpy.ops.hands.add_asset_library.poll(), "once is enough"
        libraries.remove(new)
    finally:
        addon.unregister()


def test_a_take_or_rest_has_to_be_given(tmp_path):
    done = run("-o", tmp_path / "x.blend")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
