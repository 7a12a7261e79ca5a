"""Key points lie where the camera sees the hands at every zoom, the strip tells what is known, and it can be seen."""

from dataclasses import replace
from types import SimpleNamespace

import bpy
import gpu
import numpy as np
import pytest
from gpu_extras.batch import batch_for_shader
from mathutils import Matrix, Vector

from addon import footage_view, overlay, review_data, strip
from addon.axes import camera_to_blender
from dir_core.clean_up.problems import Problem, review_rows
from tests.takes import make_take

REGION = SimpleNamespace(width=900, height=600)


def view_of(camera, scene, zoom=1.0, offset=(0.0, 0.0)):
    """What Blender's 3D view has while it looks through a camera: its matrix, zoomed and moved."""
    bpy.context.view_layer.update()
    graph = bpy.context.evaluated_depsgraph_get()
    render = scene.render
    frame = camera.calc_matrix_camera(
        graph, x=render.resolution_x, y=render.resolution_y,
        scale_x=render.pixel_aspect_x, scale_y=render.pixel_aspect_y,
    )  # fmt: skip
    place = Matrix.Translation(Vector((*offset, 0.0))) @ Matrix.Diagonal((zoom, zoom * 1.3, 1.0, 1.0))
    return SimpleNamespace(perspective_matrix=place @ frame @ camera.matrix_world.inverted())


def seen_at(points, view):
    """Pixels [N, 2] of the region for points [N, 3] in Blender's axes."""
    clip = np.array([view.perspective_matrix @ Vector((*point, 1.0)) for point in points])
    return (1 + clip[:, :2] / clip[:, 3:]) / 2 * [REGION.width, REGION.height]


@pytest.fixture
def item():
    return SimpleNamespace(start=11, id_data=bpy.context.scene)


@pytest.mark.parametrize("zoom", [0.3, 1.0, 4.0])
@pytest.mark.parametrize(("size", "aspect"), [((1920, 1080), 1.0), ((1080, 1920), 1.0), ((1280, 720), 1.25)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_key_points_lie_where_the_camera_sees_the_hands(models, zoom, size, aspect, mirrored):
    matrix = np.array([[1100.0, 0, size[0] * 0.45], [0, 1100.0 / aspect, size[1] * 0.55], [0, 0, 1]])
    if mirrored:
        matrix[0, 0] *= -1
    take = make_take(models, count=2, image_size=size, camera_matrix=matrix)
    scene = bpy.context.scene
    camera = footage_view.add_camera(take, scene.collection)
    footage_view.match_render_size(scene, take)
    view = view_of(camera, scene, zoom, (0.2, -0.3))
    frame = overlay.picture_frame(REGION, view, scene, camera)
    for side in ("left", "right"):
        hand = take.hand(side)
        drawn = frame.place(hand.keypoints_2d[1], take.image_size, mirrored=mirrored)
        np.testing.assert_allclose(drawn, seen_at(camera_to_blender(hand.keypoints_3d[1]), view), atol=0.05)


def test_a_moved_and_scaled_camera_changes_nothing(models):
    take = make_take(models, count=1)
    scene = bpy.context.scene
    camera = footage_view.add_camera(take, scene.collection)
    footage_view.match_render_size(scene, take)
    before = overlay.picture_frame(REGION, view_of(camera, scene), scene, camera)
    camera.location, camera.rotation_euler = (3.0, -2.0, 1.0), (0.3, 0.2, -1.0)
    bpy.context.view_layer.update()
    after = overlay.picture_frame(REGION, view_of(camera, scene), scene, camera)
    np.testing.assert_allclose(
        (after.origin, after.right, after.down), (before.origin, before.right, before.down), atol=0.05
    )


def hand_with(take, side, **fields):
    return replace(take, **{side: replace(take.hand(side), **fields)})


def test_hands_that_were_not_seen_are_not_drawn(models):
    frame = overlay.PictureFrame((0, 600), (900, 0), (0, -600))
    take = make_take(models, count=3)
    both = overlay.skeleton_mesh(take, 1, frame)
    gone = hand_with(take, "left", keypoints_2d=np.zeros_like(take.left.keypoints_2d))
    one = overlay.skeleton_mesh(gone, 1, frame)
    assert len(one.positions) * 2 == len(both.positions)
    hidden = replace(take, meta={**take.meta, "history": [{"hidden": {"left": [[1, 1]]}}]})
    np.testing.assert_array_equal(overlay.skeleton_mesh(hidden, 1, frame).positions, one.positions)
    assert len(overlay.skeleton_mesh(hidden, 2, frame).positions) == len(both.positions)
    nobody = hand_with(gone, "right", keypoints_2d=np.zeros_like(take.right.keypoints_2d))
    assert overlay.skeleton_mesh(nobody, 1, frame) is None


def test_less_confidence_is_fainter_and_doubt_is_hollow(models):
    frame = overlay.PictureFrame((0, 600), (900, 0), (0, -600))
    take = make_take(models, count=1)
    strongest = []
    for confidence in (1.0, 0.7, 0.2):
        unsure = hand_with(take, "left", confidence=np.full((1, 21), confidence, np.float32))
        mesh = overlay.skeleton_mesh(hand_with(unsure, "right", keypoints_2d=np.zeros((1, 21, 2))), 0, frame)
        strongest.append(mesh.colours[:, 3].max())
        middle = frame.place(take.left.keypoints_2d[0, 8], take.image_size)
        at_middle = np.linalg.norm(mesh.positions[:, :2] - middle, axis=1) < 1e-3
        is_coloured = np.ptp(mesh.colours[:, :3], axis=1) > 0.1  # not the shade around
        dots = at_middle & is_coloured
        assert dots.any() == (confidence >= overlay.DOUBTFUL)
    assert strongest[0] > strongest[1] > strongest[2] > 0.2


@pytest.mark.parametrize(("rate", "scene_rate"), [(30.0, 30), (30.0, 24), (25.0, 60), (29.97, 24)])
def test_the_row_is_that_of_the_picture_which_is_seen(models, item, rate, scene_rate):
    bpy.context.scene.render.fps = scene_rate
    take = make_take(models, count=20, rate=rate, first_frame=5)
    for frame in np.arange(0.0, 40.0, 0.25):
        picture = int(np.floor((frame - item.start) * rate / scene_rate + 0.015))
        row = review_data.row_at(take, item, frame)
        assert row == (picture - 5 if 5 <= picture < 25 else None), frame


def test_pictures_between_captured_ones_have_no_row(models, item):
    bpy.context.scene.render.fps = 30
    take = make_take(models, count=10)
    every_third = replace(take, frame=3 * take.frame, time=3 * take.time)
    assert [review_data.row_at(every_third, item, frame) for frame in range(10, 18)] == [
        None, 0, None, None, 1, None, None, 2,
    ]  # fmt: skip


def test_scene_frames_and_source_frames_go_both_ways(models, item):
    bpy.context.scene.render.fps = 24
    take = make_take(models, count=30, first_frame=10)
    assert review_data.source_range(take, item, 21, 24) == (12, 16)
    assert review_data.scene_range(take, item, 12, 16) == (21, 24)
    with pytest.raises(review_data.SettingsError, match="runs from 19 to 42: change the range"):
        review_data.source_range(take, item, 50, 60)


def known(take, problems=(), exchanged=None):
    rows = review_rows(take, np.zeros(len(take), bool) if exchanged is None else exchanged)
    return review_data.Review(take, take, rows, tuple(problems))


def test_gaps_are_holes_in_the_strip(models, item):
    bpy.context.scene.render.fps = 30
    observed = np.ones(30, bool)
    observed[10:14] = False
    take = make_take(models, count=30, observed=observed)
    review = known(take)
    rectangles, colours = strip.band_rectangles(review_data.scene_frames(take, item), review.rows["left"], "left")
    np.testing.assert_allclose(rectangles[:, [0, 2]], [(10.5, 20.5), (24.5, 40.5)], atol=1e-6)
    np.testing.assert_allclose(colours[:, :3], [overlay.HAND_COLOURS["left"]] * 2, atol=1e-6)


def test_exchanges_and_doubt_are_told_by_colour(models, item):
    bpy.context.scene.render.fps = 30
    take = make_take(models, count=30)
    confidence = take.right.confidence.copy()
    confidence[20:] = 0.3
    exchanged = np.zeros(30, bool)
    exchanged[5:8] = True
    review = known(hand_with(take, "right", confidence=confidence), exchanged=exchanged)
    rectangles, colours = strip.band_rectangles(review_data.scene_frames(take, item), review.rows["right"], "right")
    np.testing.assert_allclose(rectangles[:, [0, 2]], [(10.5, 30.5), (30.5, 40.5), (15.5, 18.5)], atol=1e-6)
    np.testing.assert_allclose(colours[1, :3], strip._DOUBT, atol=1e-6)
    np.testing.assert_allclose(colours[2, :3], strip._EXCHANGED)


def test_a_long_take_is_few_rectangles(models, item):
    take = make_take(models, count=1800)
    rng = np.random.default_rng(1)
    noisy = np.clip(0.9 + 0.02 * rng.normal(size=(1800, 1)), 0, 1) * np.ones((1, 21), np.float32)
    rectangles, _ = strip.strip_rectangles(known(hand_with(take, "left", confidence=noisy.astype(np.float32))), item)
    assert len(rectangles) < 200


def test_problems_are_wide_enough_to_be_seen(models, item):
    bpy.context.scene.render.fps = 30
    take = make_take(models, count=300)
    problems = [Problem("jump", 5, 5, "left", "one frame"), Problem("lost", 100, 199, "right", "long")]
    marks = strip.mark_rectangles(known(take, problems), item, first=11.0, pixels=0.5, scale=2.0)
    np.testing.assert_allclose(marks[:, 2] - marks[:, 0], [6.0, 50.0])
    np.testing.assert_allclose(marks[1, [0, 2]], [(111 - 0.5 - 11) * 0.5, (210 + 0.5 - 11) * 0.5])


@pytest.mark.parametrize("height", [30, 45, 300])
def test_the_ruler_of_a_low_timeline_stays_free(height):
    bottom, stretch = strip._place_of(SimpleNamespace(height=height), 1.0)
    assert bottom >= 0
    assert bottom + stretch * strip._HEIGHT <= max(height - strip._RULER, 1.0)


def paint_white():
    """The simplest that can be drawn, to know whether anything can."""
    shader = gpu.shader.from_builtin("UNIFORM_COLOR")
    shader.uniform_float("color", (1.0, 1.0, 1.0, 1.0))
    batch_for_shader(shader, "TRIS", {"pos": [(0, 0, 0), (1800, 0, 0), (0, 1200, 0)]}).draw(shader)


@pytest.fixture
def canvas():
    """Draws triangles into a picture [600, 900, 4] of floats, from below; needs a working GPU or software renderer."""
    if hasattr(gpu, "init"):
        gpu.init()
    else:
        scene = bpy.context.scene
        scene.render.engine = "BLENDER_WORKBENCH"
        scene.render.resolution_x = scene.render.resolution_y = 8
        scene.camera = footage_view.new_camera(scene.collection)
        bpy.ops.render.render()
    try:
        screen = gpu.types.GPUOffScreen(REGION.width, REGION.height)
    except (RuntimeError, SystemError) as error:
        pytest.skip(f"nothing can be drawn here: {error}")

    def draw(paint):
        with screen.bind():
            buffer = gpu.state.active_framebuffer_get()
            buffer.clear(color=(0.0, 0.0, 0.0, 1.0))
            with gpu.matrix.push_pop(), gpu.matrix.push_pop_projection():
                gpu.matrix.load_matrix(
                    Matrix.Translation((-1.0, -1.0, 0.0))
                    @ Matrix.Diagonal((2.0 / REGION.width, 2.0 / REGION.height, 1.0, 1.0))
                )
                gpu.matrix.load_projection_matrix(Matrix.Identity(4))
                paint()
            pixels = buffer.read_color(0, 0, REGION.width, REGION.height, 4, 0, "FLOAT")
        pixels.dimensions = REGION.width * REGION.height * 4
        return np.array(pixels, np.float32).reshape(REGION.height, REGION.width, 4)

    if not draw(paint_white)[300, 450, :3].all():
        pytest.skip("this Blender draws nothing without a window")
    yield draw
    screen.free()


def test_what_is_drawn_has_the_colour_of_the_hand_at_its_key_points(models, canvas):
    take = make_take(models, count=1)
    frame = overlay.PictureFrame((50, 550), (800, 0), (0, -450))
    picture = canvas(lambda: overlay.draw_batch(overlay.make_batch(overlay.skeleton_mesh(take, 0, frame))))
    for side, wins, loses in (("left", 2, 0), ("right", 0, 2)):
        at = np.round(frame.place(take.hand(side).keypoints_2d[0], take.image_size)).astype(int)
        colours = picture[at[:, 1], at[:, 0]]
        assert np.all(colours[:, wins] > colours[:, loses] + 0.2)
    assert (picture[..., :3].max(axis=-1) > 0.05).mean() < 0.1
