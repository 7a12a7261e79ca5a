"""Synthetic pictures: what is drawn where, the truth that comes with it, and that nothing is left to chance."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from dir_core.camera import make_camera_matrix, project
from dir_core.conventions import SIDES
from dir_core.errors import RendererError
from dir_core.hand_model import open_hand_models
from dir_core.rotations import from_matrix, multiply
from dir_core.training.looks import SKIN_TONES, Item, sample_look
from dir_core.training.surfaces import HAND, build_scene
from dir_core.training.synthetic import PICTURES_OF_HANDS, Painter, Series
from dir_core.training.two_hands import LEFT_HAND, OBJECT, RIGHT_HAND, TwoHands

SIZE = 192
# Palms to the camera, fingers up: the model's fingers (-x of a right hand) to -y, its palm (-y) to -z.
UPRIGHT = {
    "right": np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    "left": np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
}


@pytest.fixture(scope="module")
def renderer():
    pytest.importorskip("moderngl", reason="moderngl is not installed")
    from dir_core.training.renderer import Renderer

    try:
        made = Renderer()
    except RendererError as error:
        pytest.skip(str(error))
    with made:
        yield made


def two_hands(places=((0.12, 0.05, 0.5), (-0.12, 0.05, 0.5)), frames=1, step=0.0, present=(True, True)):
    """Flat hands with their palms to the camera, wrists at `places`; each frame `step` metres to the right."""
    rotation = np.zeros((frames, 2, 16, 4))
    rotation[..., 0] = 1.0
    for number, side in enumerate(SIDES):
        rotation[:, number, 0] = from_matrix(UPRIGHT[side])
    translation = np.tile(np.array(places), (frames, 1, 1))
    translation[..., 0] += step * np.arange(frames)[:, None]
    return TwoHands(
        kind="apart",
        view="egocentric",
        rotation=rotation,
        translation=translation,
        elbow=translation + [0.0, 0.25, 0.05],
        present=np.array(present),
        shape=np.zeros(10),
        scale=1.0,
        camera_matrix=make_camera_matrix((SIZE, SIZE)),
        image_size=(SIZE, SIZE),
        frame_rate=30.0 if frames > 1 else 0.0,
    )


def plain_look(seed=3, **shot):
    """A look without what a camera spoils and without things that hide hands."""
    look = sample_look(np.random.default_rng(seed), "egocentric", skin=3, motion_blur=False)
    spoiled = {"noise": 0.0, "quality": 0, "defocus": 0.0, "distance_blur": 0.0, "smear": (0.0, 0.0), "exposure": 1.0}
    return replace(look, sleeve=None, band=None, item=None, shot=replace(look.shot, **{**spoiled, **shot}))


def at(picture, number, keypoint):
    column, row = np.floor(picture.keypoints_2d[number, keypoint]).astype(int)
    return picture.parts[row, column]


def test_hands_lie_where_their_key_points_are(renderer):
    hands, models = two_hands(), open_hand_models()
    picture = renderer.draw(hands, 0, models, plain_look())
    assert picture.image.shape == (SIZE, SIZE, 3)
    assert picture.image.dtype == picture.parts.dtype == np.uint8
    for number, part in enumerate((LEFT_HAND, RIGHT_HAND)):
        # Tips lie on the rim, everything else well inside.
        inner = [point for point in range(21) if point not in (4, 8, 12, 16, 20)]
        assert {int(at(picture, number, point)) for point in inner} == {part}
        assert picture.visible[number, inner].all()
        posed = models[SIDES[number]].pose(hands.rotation[:, number], hands.translation[:, number]).keypoints[0]
        np.testing.assert_allclose(picture.keypoints_3d[number], posed, atol=1e-6)
        np.testing.assert_allclose(picture.keypoints_2d[number], project(posed, hands.camera_matrix), atol=1e-3)


def test_the_mask_is_the_projected_mesh(renderer):
    hands, models = two_hands(present=(False, True)), open_hand_models()
    picture = renderer.draw(hands, 0, models, plain_look())
    vertices = models["right"].pose(hands.rotation[:, 1], hands.translation[:, 1]).vertices[0]
    vertices = vertices[vertices[:, 1] < 0.03]  # the wrist bends with the forearm
    pixels = project(vertices, hands.camera_matrix)
    rows, columns = np.nonzero(picture.parts == RIGHT_HAND)
    assert (rows.min(), columns.min(), columns.max() + 1) == pytest.approx(
        (pixels[:, 1].min(), pixels[:, 0].min(), pixels[:, 0].max()), abs=1.5
    )
    assert not (picture.parts == LEFT_HAND).any()
    assert not picture.visible[0].any()
    assert picture.present.tolist() == [False, True]


def test_the_near_hand_hides_the_far_one(renderer):
    models = open_hand_models()
    picture = renderer.draw(two_hands(((0.0, 0.05, 0.4), (0.0, 0.05, 0.5))), 0, models, plain_look())
    assert picture.visible[0, [0, 5, 9, 13, 17]].all()
    assert not picture.visible[1, [5, 9, 13, 17]].any()
    swapped = renderer.draw(two_hands(((0.0, 0.05, 0.5), (0.0, 0.05, 0.4))), 0, models, plain_look())
    assert swapped.visible[1, [0, 5, 9, 13, 17]].all()
    assert not swapped.visible[0, [5, 9, 13, 17]].any()


def test_own_fingers_hide_too(renderer):
    """A hand seen from its thumb's side shows the index knuckle and hides the little finger's."""
    hands = two_hands(present=(False, True))
    quarter = np.array([np.sqrt(0.5), 0.0, -np.sqrt(0.5), 0.0])
    hands.rotation[:, 1, 0] = multiply(quarter, hands.rotation[0, 1, 0])
    visible = renderer.draw(hands, 0, open_hand_models(), plain_look()).visible[1]
    assert visible[6] != visible[18]


def test_objects_hide_and_are_named(renderer):
    ball = Item("sphere", False, "left", (0.03,) * 3, (1.0, 0.0, 0.0, 0.0), (0.0, -0.09, -0.1), (0.2, 0.5, 0.2), 0.5)
    hands = two_hands(((0.3, 0.05, 0.5), (0.0, 0.05, 0.5)), present=(False, True))
    picture = renderer.draw(hands, 0, open_hand_models(), replace(plain_look(), item=ball))
    assert at(picture, 1, 9) == OBJECT
    assert not picture.visible[1, 9]
    assert picture.visible[1, 0]


def test_same_arguments_give_the_same_picture_and_other_seeds_another(renderer):
    hands, models = two_hands(), open_hand_models()
    looks = [sample_look(np.random.default_rng(seed), "webcam") for seed in (7, 7, 8)]
    first, again, other = (renderer.draw(replace(hands, view="webcam"), 0, models, look).image for look in looks)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 5


def test_pictures_in_a_row_show_the_same_hands_otherwise(renderer):
    """Other cameras, looks and pixels, the same joint angles; each the same picture, drawn in whatever order."""
    series = Series(open_hand_models(), seed=4)
    first = [Painter(renderer, series).draw(number) for number in range(PICTURES_OF_HANDS)]
    painter = Painter(renderer, series)
    for number in (2, PICTURES_OF_HANDS, 0):
        hands, picture = painter.draw(number)
    np.testing.assert_array_equal(picture.image, first[0][1].image)
    assert not np.array_equal(hands.shape, painter.draw(PICTURES_OF_HANDS)[0].shape)
    for (one, drawn), (other, drawn_next) in pairwise(first):
        np.testing.assert_allclose(one.rotation[:, :, 1:], other.rotation[:, :, 1:], atol=1e-9)
        np.testing.assert_allclose(
            np.linalg.norm(one.translation[0, 0] - one.translation[0, 1]),
            np.linalg.norm(other.translation[0, 0] - other.translation[0, 1]),
        )
        turned = 2 * np.arccos(np.minimum(np.abs(np.sum(one.rotation[0, 0, 0] * other.rotation[0, 0, 0])), 1.0))
        assert turned > np.radians(3)
        assert np.abs(drawn.image.astype(int) - drawn_next.image).mean() > 5


def test_no_edge_is_brighter_than_its_two_sides(renderer):
    """Coverage is multiplied in before light is averaged and made a picture: pale hands get no bright rim."""
    look = plain_look()
    dark = replace(look.backdrop, top=(0.02,) * 3, bottom=(0.02,) * 3, grain=0.0, shapes=np.zeros((0, 12), np.float32))
    picture = renderer.draw(two_hands(), 0, open_hand_models(), replace(look, backdrop=dark)).image.astype(int)
    coverage = renderer.draw(two_hands(), 0, open_hand_models(), look).parts > 0
    wide = np.pad(coverage, 1)
    rim = (wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]) & ~coverage
    assert picture[rim].mean() < 0.6 * picture[coverage].mean()
    assert np.percentile(picture[rim], 99) <= np.percentile(picture[coverage], 99)


def test_moving_hands_smear_only_where_they_move(renderer):
    models = open_hand_models()
    hands = two_hands(frames=3, step=0.03)
    sharp, smeared = (renderer.draw(hands, 1, models, plain_look(shutter=share)) for share in (0.0, 0.6))
    np.testing.assert_array_equal(sharp.parts, smeared.parts)
    change = np.abs(sharp.image.astype(int) - smeared.image).mean(axis=2)
    assert change[sharp.parts > 0].mean() > 3
    assert change[:10, :10].max() == 0
    still = two_hands(frames=3)
    np.testing.assert_array_equal(*(renderer.draw(still, 1, models, plain_look(shutter=s)).image for s in (0.0, 0.6)))


def test_skin_tones_go_from_light_to_dark():
    looks = [sample_look(np.random.default_rng(1), "webcam", skin=tone) for tone in range(len(SKIN_TONES))]
    luminance = [float(np.mean(look.skin.tone)) for look in looks]
    assert luminance[0] > 5 * luminance[-1]
    assert all(dark < 1.05 * light for light, dark in pairwise(luminance[2:]))
    assert all(np.mean(look.skin.palm) > 0.98 * np.mean(look.skin.tone) for look in looks[5:])


def test_hands_of_small_pictures_are_as_closed_and_as_thick():
    """Every edge has two faces, and it fills what the whole one fills."""
    hands, models = two_hands(present=(False, True)), open_hand_models()
    coarse, fine = (build_scene(replace(hands, image_size=(s, s)), 0, models, plain_look()) for s in (SIZE, 640))
    volumes = []
    for scene in (coarse, fine):
        faces = scene.faces[: scene.counts[HAND]]
        edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
        assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
        points = scene.vertices[faces, :3] - scene.vertices[0, :3]
        volumes.append(np.linalg.det(points).sum() / 6)
    assert coarse.counts[HAND] < 0.5 * fine.counts[HAND]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.03)
