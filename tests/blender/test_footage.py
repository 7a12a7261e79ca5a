"""Footage in a scene: loaded, in step, through the right lens, found again. The add-on is registered."""

import math
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np
import pytest

import addon
from addon import footage_view, log
from addon.operators.footage import HANDS_FH_footage
from dir_core.camera import make_camera_matrix, project
from tests.blender.pictures import write_pictures
from tests.blender.test_footage_view import pixels_of
from tests.blender.undo import assert_one_undo_step

MOVIES = Path(__file__).resolve().parents[1] / "data" / "footage"
MOVIE = MOVIES / "constant_25.mp4"


@pytest.fixture(autouse=True)
def registered(empty_file) -> Iterator[None]:
    addon.register()
    yield
    addon.unregister()


@pytest.fixture
def scene(registered):
    bpy.context.scene.render.fps = 25
    return bpy.context.scene


def load(path, **options):
    assert bpy.ops.hands.load_footage(filepath=str(path), **options) == {"FINISHED"}
    return bpy.context.scene.two_hands.footage


def background(scene):
    (found,) = footage_view.camera_of(scene).data.background_images
    return found


def shown_picture(scene, frame):
    """Number of the picture behind `frame` as Blender counts: 1 is the first."""
    scene.frame_set(frame)
    camera = footage_view.camera_of(scene).evaluated_get(bpy.context.evaluated_depsgraph_get())
    shown = camera.data.background_images[0]
    if shown.source == "MOVIE_CLIP":
        return frame - shown.clip.frame_start + 1
    return max(1, frame - shown.image_user.frame_start + 1) + shown.image_user.frame_offset


def test_a_video_stands_behind_a_camera_of_its_size_in_one_undo_step(scene):
    assert_one_undo_step(bpy.ops.hands.load_footage, filepath=str(MOVIE))
    scene = bpy.context.scene
    footage = scene.two_hands.footage
    assert Path(footage.clip.filepath) == MOVIE
    assert scene.camera == footage_view.camera_of(scene)
    assert (scene.render.resolution_x, scene.render.resolution_y) == tuple(footage.clip.size)
    assert (background(scene).source, background(scene).clip) == ("MOVIE_CLIP", footage.clip)
    assert footage_view.shows_in_step(scene)
    assert (scene.two_hands.capture.first, scene.two_hands.capture.last) == (1, footage.clip.frame_duration)
    facts = footage_view.facts_sentence(scene, footage.clip)
    size = f"{footage.clip.size[0]} x {footage.clip.size[1]}"
    assert facts == f"{size}, {footage.clip.frame_duration} frames, 25 fps, {footage.clip.frame_duration / 25:.1f} s"


def test_loading_again_uses_clip_camera_and_background_again(scene, tmp_path):
    first = load(MOVIE).clip
    camera = footage_view.camera_of(scene)
    assert load(MOVIE).clip == first
    pictures = load(write_pictures(tmp_path, 5)).clip
    assert footage_view.camera_of(scene) == camera
    assert background(scene).clip == pictures
    assert [item for item in bpy.data.objects if item.type == "CAMERA"] == [camera]


def test_own_backgrounds_of_the_camera_stay(scene, tmp_path):
    footage = load(MOVIE)
    backgrounds = footage_view.camera_of(scene).data.background_images
    backgrounds.new().alpha = 0.25
    footage.clip = footage_view.load_footage(write_pictures(tmp_path, 5))
    assert [each.alpha for each in backgrounds] == [1.0, 0.25]
    footage.clip = None
    assert [each.alpha for each in backgrounds] == [0.25]


@pytest.mark.parametrize("rate", [24, 30, 60])
def test_the_footage_follows_another_frame_rate_and_another_start(scene, rate):
    footage = load(MOVIE)
    scene.render.fps = rate
    assert not footage_view.shows_in_step(scene)
    assert bpy.ops.hands.sync_footage() == {"FINISHED"}
    assert not bpy.ops.hands.sync_footage.poll()
    for start in (1, 40):
        footage.start = start
        assert footage_view.shows_in_step(scene)
        first, last = footage_view.footage_range(scene)
        for frame in range(first, last + 1):
            assert shown_picture(scene, frame) == 1 + int((frame - start) * 25 / rate + 1e-6)
    scene.render.fps = 25
    assert bpy.ops.hands.sync_footage() == {"FINISHED"}
    assert shown_picture(scene, 47) == 8
    assert background(scene).source == "MOVIE_CLIP"


def test_a_frame_rate_that_changes_and_that_undo_brings_back_is_followed(scene):
    load(MOVIE)
    bpy.ops.ed.undo_push(message="loaded")
    blocks = set(bpy.data.user_map())
    for rate in (50, 30, 24):
        bpy.context.scene.render.fps = rate
        bpy.ops.ed.undo_push(message="rate")  # a field pushes its step before anybody is told of the change
        footage_view._keep_step()
        assert footage_view.shows_in_step(bpy.context.scene)
    assert set(bpy.data.user_map()) == blocks  # new ones would be dangling pointers after undo
    for rate in (30, 50, 25):
        bpy.ops.ed.undo()
        assert bpy.context.scene.render.fps == rate
        assert footage_view.shows_in_step(bpy.context.scene)
    for rate in (50, 30):
        bpy.ops.ed.redo()
        assert bpy.context.scene.render.fps == rate
        assert footage_view.shows_in_step(bpy.context.scene)
    assert shown_picture(bpy.context.scene, 7) == 6


def test_takes_of_the_footage_move_with_its_start(scene, tmp_path):
    footage = load(MOVIE)
    rows = scene.two_hands.takes
    for name, path, start in (("with", MOVIE, 1), ("apart", MOVIE, 7), ("other", tmp_path / "other.mp4", 1)):
        item = rows.add()
        item.name, item.footage, item.start = name, str(path), start
    footage.start = 31
    assert [item.start for item in rows] == [31, 7, 1]
    load(MOVIE, start=100)  # another place for what comes, not for what is there
    assert [item.start for item in rows] == [31, 7, 1]
    scene.two_hands.capture.mirrored = True
    assert [item.start for item in rows] == [31, 7, 1]


def test_what_differs_from_the_footage_is_offered_and_can_be_made_the_same(scene):
    footage = load(MOVIE, use_size=False)
    scene.render.fps, scene.frame_end = 24, 1000
    count = footage.clip.frame_duration
    last = 1 + math.floor((count - 1) * 24 / 25 + 1e-6)
    assert footage_view.mapping_sentence(scene, footage.clip) == (
        f"Footage 25 fps in a 24 fps scene: frames 1-{count} of the footage lie on scene frames 1-{last}, "
        "everything stays on time."
    )
    assert bpy.ops.hands.sync_footage() == {"FINISHED"}
    for operator in ("use_footage_rate", "use_footage_length", "use_footage_size"):
        assert getattr(bpy.ops.hands, operator).poll()
        assert_one_undo_step(getattr(bpy.ops.hands, operator))
        assert not getattr(bpy.ops.hands, operator).poll()
    scene = bpy.context.scene
    footage = scene.two_hands.footage
    assert footage_view.footage_range(scene) == (1, count)
    assert footage_view.mapping_sentence(scene, footage.clip) == (
        f"Footage and scene both play at 25 fps: frames 1-{count} of the footage lie on scene frames 1-{count}."
    )
    assert footage_view.shows_in_step(scene)


def test_seconds_and_frames(scene):
    footage = load(MOVIE, start=11)
    scene.render.fps = 50
    assert footage_view.seconds_of_frame(scene, 36) == 0.5
    assert footage_view.frame_of_seconds(scene, 0.5) == 36
    assert footage.start == 11


def test_pictures_play_as_fast_as_they_were_taken(scene, tmp_path):
    footage = load(write_pictures(tmp_path, 30))
    assert footage_view.footage_rate(scene) == footage_view.FrameRate(25, 1.0)  # the scene's when they were loaded
    footage.picture_rate = 12.5
    assert [shown_picture(scene, frame) for frame in (1, 2, 3, 4, 5)] == [1, 1, 2, 2, 3]
    assert load(tmp_path / "shot_0003.png").picture_rate == 25


@pytest.mark.parametrize("degrees", [40.0, 75.0])
def test_the_camera_follows_the_field_of_view(scene, degrees):
    footage = load(MOVIE)
    footage.field_of_view = math.radians(degrees)
    assert footage_view.camera_of(scene).data.angle_x == pytest.approx(math.radians(degrees), abs=1e-6)
    matrix, sentence = footage_view.camera_matrix_of(scene)
    width = footage.clip.size[0]
    assert matrix[0, 0] == pytest.approx(width / 2 / math.tan(math.radians(degrees) / 2))
    assert sentence == f"{matrix[0, 0]:,.0f} px, {degrees:g} degrees from side to side."


def test_the_tracking_camera_is_followed_with_its_principal_point(scene):
    footage = load(MOVIE)
    lens = footage.clip.tracking.camera
    lens.focal_length_pixels = 400.0
    width, height = footage.clip.size
    lens.principal_point_pixels = (width / 2 + 7, height / 2 + 5)
    footage.focal_source = "TRACKING"
    matrix, sentence = footage_view.camera_matrix_of(scene)
    expected = make_camera_matrix((width, height), 400.0)
    expected[0, 2], expected[1, 2] = width / 2 + 7, height / 2 - 5  # up in the clip is less of y in the picture
    np.testing.assert_allclose(matrix, expected, rtol=1e-5)
    assert "set in the Movie Clip Editor." in sentence
    lens.k1 = 0.1
    assert "its distortion is not used" in footage_view.camera_matrix_of(scene)[1]
    read = footage_view.read_lens(footage_view.camera_of(scene), scene, (width, height))
    np.testing.assert_allclose(read, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("fit", ["AUTO", "HORIZONTAL", "VERTICAL"])
@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920)])
@pytest.mark.parametrize("aspect", [1.0, 1.5, 0.7])
def test_the_lens_of_any_scene_camera_projects_as_its_renders_do(scene, fit, size, aspect):
    footage_view.set_render_size(scene, size, aspect)
    camera = footage_view.new_camera(scene.collection)
    camera.data.sensor_fit, camera.data.lens = fit, 35.0
    camera.data.sensor_width, camera.data.sensor_height = 30.0, 17.0
    camera.data.shift_x, camera.data.shift_y = 0.05, -0.1
    picture = (640, 360 * size[1] * 16 // (size[0] * 9))  # of any size: it fills the camera's frame
    points = np.array([[0.1, 0.05, 1.0], [-0.2, 0.1, 0.8], [0.0, -0.1, 1.2]])
    in_blender = np.stack([points[:, 0], points[:, 2], -points[:, 1]], axis=-1)
    matrix = footage_view.read_lens(camera, scene, picture)
    np.testing.assert_allclose(pixels_of(scene, camera, in_blender, picture), project(points, matrix), atol=0.01)


def write_lens(picture, millimetres):
    """Add EXIF that states the focal length of a full-frame camera to a PNG file, before what Blender writes there."""
    pointer = struct.pack("<HHHIII", 1, 0x8769, 4, 1, 26, 0)
    exif = b"II*\0" + struct.pack("<I", 8) + pointer + struct.pack("<HHHIHHI", 1, 0xA405, 3, 1, millimetres, 0, 0)
    chunk = b"eXIf" + exif
    data = picture.read_bytes()
    end = data.index(b"IHDR") + 4 + 13 + 4
    picture.write_bytes(
        data[:end] + struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[end:]
    )


def test_the_lens_that_the_file_states_is_believed_first(scene, tmp_path):
    write_lens(write_pictures(tmp_path, 2) / "shot_0001.png", 27)
    footage = load(tmp_path)
    assert footage.focal_source == "METADATA"
    matrix, sentence = footage_view.camera_matrix_of(scene)
    assert matrix[0, 0] == pytest.approx(64 * 27 / 36)
    assert sentence.endswith("as the file says.")
    assert footage_view.camera_of(scene).data.lens == pytest.approx(27.0)
    footage.clip = footage_view.load_footage(MOVIE)
    matrix, sentence = footage_view.camera_matrix_of(scene)
    assert matrix[0, 0] == pytest.approx(footage.clip.size[0] / 2 / math.tan(math.radians(30)))
    assert sentence.endswith("the file does not tell its lens.")


def test_a_camera_of_the_users_own_keeps_its_lens(scene):
    footage = load(MOVIE)
    own = footage_view.new_camera(scene.collection)
    own.data.lens = 85.0
    footage.camera = own
    assert footage.focal_source == "CAMERA"
    assert own.data.lens == 85.0
    assert background(scene).clip == footage.clip
    matrix, sentence = footage_view.camera_matrix_of(scene)
    assert matrix[0, 0] == pytest.approx(85 / 36 * footage.clip.size[0])
    assert own.name in sentence
    own.data.type = "ORTHO"
    with pytest.raises(footage_view.FootageError, match="not a perspective"):
        footage_view.camera_matrix_of(scene)


def test_mirrored_footage_is_turned_back(scene):
    load(MOVIE)
    scene.two_hands.capture.mirrored = True
    assert background(scene).use_flip_x
    scene.two_hands.capture.mirrored = False
    assert not background(scene).use_flip_x


def test_footage_that_moved_is_said_and_found_again(scene, tmp_path):
    here, there = tmp_path / "here.mp4", tmp_path / "there.mp4"
    shutil.copy(MOVIE, here)
    footage = load(here)
    scene.render.fps = 30
    assert bpy.ops.hands.sync_footage() == {"FINISHED"}
    here.rename(there)
    assert not footage_view.is_missing(footage.clip)  # nobody has looked
    footage_view.look_for_files()
    assert footage_view.is_missing(footage.clip)
    with pytest.raises(RuntimeError, match=r"no footage at .*gone\.mp4"):
        bpy.ops.hands.relink_clip(filepath=str(tmp_path / "gone.mp4"))
    pictures = write_pictures(tmp_path / "pictures", 2)
    with pytest.raises(RuntimeError, match="is not a video as the footage was"):
        bpy.ops.hands.relink_clip(filepath=str(pictures))
    assert len(bpy.data.movieclips) == 1
    assert not bpy.ops.hands.use_footage_rate.poll()
    assert bpy.ops.hands.relink_clip(filepath=str(there)) == {"FINISHED"}
    footage = bpy.context.scene.two_hands.footage
    assert not footage_view.is_missing(footage.clip)
    assert Path(background(bpy.context.scene).image.filepath) == there
    assert footage_view.shows_in_step(bpy.context.scene)


def test_relinking_is_one_undo_step(scene, tmp_path):
    load(MOVIE)
    copy = shutil.copy(MOVIE, tmp_path / "copy.mp4")
    assert_one_undo_step(bpy.ops.hands.relink_clip, filepath=str(copy))
    assert bpy.context.scene.two_hands.footage.clip.filepath == str(copy)


def test_footage_that_cannot_be_read_changes_nothing(scene, tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("no movie")
    for path in (text, tmp_path / "gone.mp4", ""):
        with pytest.raises(RuntimeError, match="footage"):
            bpy.ops.hands.load_footage(filepath=str(path))
    assert scene.two_hands.footage.clip is None
    assert not bpy.data.movieclips
    assert not bpy.data.cameras
    assert not bpy.ops.hands.sync_footage.poll()


def test_videos_can_be_dropped_on_3d_views():
    suffixes = HANDS_FH_footage.bl_file_extensions.split(";")
    assert {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg"} <= set(suffixes)
    assert all(suffix.startswith(".") for suffix in suffixes)
    assert HANDS_FH_footage.bl_import_operator == "hands.load_footage"


def test_a_camera_that_was_deleted_is_made_again(scene):
    load(MOVIE)
    bpy.data.objects.remove(footage_view.camera_of(scene))
    assert footage_view.camera_of(scene) is None
    assert bpy.ops.hands.sync_footage() == {"FINISHED"}
    assert background(scene).clip == scene.two_hands.footage.clip


def test_what_stands_around_the_camera_is_named_until_it_is_out_of_the_way(scene):
    bpy.ops.mesh.primitive_cube_add()
    load(MOVIE)
    assert footage_view.hidden_by(scene) == "Cube"
    scene.objects["Cube"].location.x = 5.0
    bpy.context.view_layer.update()
    assert footage_view.hidden_by(scene) == ""


def test_footage_that_goes_while_it_is_shown_is_one_sentence(scene, tmp_path):
    path = tmp_path / "clip.mp4"
    shutil.copy(MOVIE, path)
    load(path)
    bpy.data.images.remove(next(image for image in bpy.data.images if image.source == "MOVIE"))
    path.unlink()
    scene.render.fps += 1
    scene.two_hands.capture.mirrored = True
    assert "relink" in log.last_mistake().sentence
    assert not footage_view.can_be_read(scene.two_hands.footage.clip)
