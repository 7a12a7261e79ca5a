"""The camera sees what the take's camera saw, and the footage stands behind it in step."""

from pathlib import Path

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector

from addon import footage_view
from addon.axes import camera_to_blender
from addon.background import show_footage
from dir_core.camera import project
from dir_core.errors import FootageError
from tests.blender.pictures import write_pictures
from tests.takes import make_take

MOVIES = Path(__file__).resolve().parents[1] / "data" / "footage"


def pixels_of(scene, camera, points, image_size):
    """Pixels [N, 2] of points in Blender axes, as the render shows them."""
    bpy.context.view_layer.update()
    seen = np.array([world_to_camera_view(scene, camera, Vector(point)) for point in points])
    return np.stack([seen[:, 0] * image_size[0], (1 - seen[:, 1]) * image_size[1]], axis=-1)


@pytest.mark.parametrize("image_size", [(1920, 1080), (1080, 1920), (640, 640)])
@pytest.mark.parametrize("centre", [(0.5, 0.5), (0.45, 0.58)])
@pytest.mark.parametrize("aspect", [1.0, 1.2, 0.8])
def test_camera_projects_like_the_takes_camera(models, image_size, centre, aspect):
    width, height = image_size
    matrix = np.array([[1500.0, 0, width * centre[0]], [0, 1500.0 / aspect, height * centre[1]], [0, 0, 1]])
    take = make_take(models, count=2, image_size=image_size, camera_matrix=matrix)
    scene = bpy.context.scene
    camera = footage_view.add_camera(take, scene.collection)
    footage_view.match_render_size(scene, take)
    points = take.left.keypoints_3d[0]
    np.testing.assert_allclose(
        pixels_of(scene, camera, camera_to_blender(points), image_size), project(points, matrix), atol=0.01
    )


def test_mirrored_footage_is_turned_back_behind_the_hands(models):
    width, height = 640, 360
    matrix = np.array([[-500.0, 0, 300.0], [0, 500.0, 190.0], [0, 0, 1]])
    take = make_take(models, count=2, image_size=(width, height), camera_matrix=matrix)
    scene = bpy.context.scene
    camera = footage_view.add_camera(take, scene.collection)
    footage_view.match_render_size(scene, take)
    points = take.left.keypoints_3d[0]
    seen = pixels_of(scene, camera, camera_to_blender(points), (width, height))
    mirrored = project(points, matrix)
    np.testing.assert_allclose(seen, np.stack([width - mirrored[:, 0], mirrored[:, 1]], axis=-1), atol=0.01)
    clip = footage_view.load_footage(MOVIES / "constant_25.mp4")
    show_footage(camera, clip, 1, mirrored=footage_view.is_mirrored(take))
    assert camera.data.background_images[0].use_flip_x


@pytest.mark.parametrize(
    ("rate", "fps", "base"),
    [
        (24, 24, 1.0),
        (25.0, 25, 1.0),
        (30000 / 1001, 30, 1.001),
        (29.97, 30, 1.001),
        (23.976, 24, 1.001),
        (120, 120, 1.0),
    ],
)
def test_common_frame_rates_are_exact(rate, fps, base):
    assert footage_view.nearest_frame_rate(rate) == footage_view.FrameRate(fps, base)


@pytest.mark.parametrize("rate", [23.5, 12.34, 29.412, 0.7])
def test_odd_frame_rates_are_kept(rate):
    assert footage_view.nearest_frame_rate(rate).value == pytest.approx(rate, rel=1e-6)


@pytest.mark.parametrize("rate", [0.0, -25.0, float("nan"), float("inf")])
def test_impossible_frame_rates_are_refused(rate):
    with pytest.raises(FootageError):
        footage_view.nearest_frame_rate(rate)


def test_frame_rate_comes_from_the_time_stamps_if_the_source_does_not_say(models):
    take = make_take(models, count=31, rate=29.97, first_frame=90, source={"frame_rate": None})
    assert footage_view.footage_frame_rate(take) == footage_view.FrameRate(30, 1.001)
    assert footage_view.footage_frame_rate(make_take(models, count=1, source={"frame_rate": None})) is None


def test_pictures_stand_behind_the_hands_from_the_first_frame(models, tmp_path):
    take = make_take(models, count=4, image_size=(64, 36))
    folder = write_pictures(tmp_path / "Bilder mit Hände 手", 6)
    camera = footage_view.add_camera(take, bpy.context.scene.collection)
    for path in (folder, folder / "shot_%04d.png", folder / "shot_0001.png"):
        clip = footage_view.load_footage(path)
        assert (clip.source, tuple(clip.size), clip.frame_duration) == ("SEQUENCE", (64, 36), 6)
    show_footage(camera, clip, start=101)
    (background,) = camera.data.background_images
    assert camera.data.show_background_images
    assert (background.source, background.clip, background.alpha) == ("MOVIE_CLIP", clip, 1.0)
    assert background.display_depth == "BACK"
    assert clip.frame_start == 101


@pytest.mark.parametrize(("footage", "scene_rate", "start"), [(30, 24, 1), (25, 60, 1), (60, 24, 101), (24, 25, -20)])
@pytest.mark.parametrize("first", [None, 1, 7])
def test_footage_keeps_step_with_a_scene_of_another_rate(models, tmp_path, footage, scene_rate, start, first):  # noqa: PLR0917
    """The picture behind each scene frame is the one that the clip shows at that time; `first` None is a movie."""
    scene = bpy.context.scene
    camera = footage_view.add_camera(make_take(models, count=2), scene.collection)
    if first is None:
        clip = footage_view.load_footage(MOVIES / "constant_25.mp4")
    else:
        clip = footage_view.load_footage(write_pictures(tmp_path, 40) / f"shot_{first:04d}.png")
    show_footage(camera, clip, start, footage / scene_rate)
    (background,) = camera.data.background_images
    assert (background.source, background.image.source) == ("IMAGE", clip.source)
    for frame in range(start - 3, start + int(clip.frame_duration * scene_rate / footage)):
        scene.frame_set(frame)
        graph = bpy.context.evaluated_depsgraph_get()
        user = camera.evaluated_get(graph).data.background_images[0].image_user
        assert user.frame_start == start
        assert frame - start < user.frame_duration
        shown = max(1, frame - user.frame_start + 1) + user.frame_offset
        assert shown == (first or 1) + int(max(0, frame - start) * footage / scene_rate + 1e-6)


def test_footage_that_is_gone_or_no_footage_is_told_in_a_sentence(models, tmp_path):
    with pytest.raises(FootageError, match=r"no footage at .*gone\.mp4"):
        footage_view.load_footage(tmp_path / "gone.mp4")
    with pytest.raises(FootageError, match="no footage at"):
        footage_view.load_footage(tmp_path)
    text = tmp_path / "text.mp4"
    text.write_text("no movie")
    with pytest.raises(FootageError, match="cannot read the footage"):
        footage_view.load_footage(text)
    assert not bpy.data.movieclips
    clip, sentence = footage_view.find_footage(make_take(models, count=1, source={"path": str(text)}))
    assert clip is None
    assert "no background" in sentence
    clip, sentence = footage_view.find_footage(make_take(models, count=1))
    assert clip is None
    assert "no background" in sentence
