"""The square around both hands: where it lies, that pictures and points agree, and that nothing is aliased."""

import numpy as np
import pytest

from dir_core.camera import project
from dir_core.network.crop import (
    CROP_SIZE,
    both_hands_crop,
    crop_around,
    crop_camera_matrix,
    cut_crop,
    network_input,
    pixels_to_uv,
    uv_to_pixels,
)


def test_hands_fill_four_fifths_of_the_square() -> None:
    affine = both_hands_crop(np.array([[100.0, 50.0], [300.0, 90.0]]))
    uv = pixels_to_uv(np.array([[100.0, 70.0], [300.0, 70.0], [200.0, 70.0]]), affine)
    assert uv == pytest.approx(np.array([[-0.8, 0.0], [0.8, 0.0], [0.0, 0.0]]))


def test_the_affine_map_is_the_one_of_the_training_data() -> None:
    points = np.random.default_rng(0).uniform(20, 200, (1556, 2))  # as OpenCV counts
    low, high = points.min(axis=0), points.max(axis=0)
    middle, half = 0.5 * (low + high), (high - low).max() / 2 / 0.8
    scale = CROP_SIZE / 2 / half
    expected = scale * np.array([[1, 0, half - middle[0]], [0, 1, half - middle[1]]])
    affine = both_hands_crop(points + 0.5)
    assert affine @ [10.5, 20.5, 1.0] == pytest.approx(expected @ [10.0, 20.0, 1.0])


def test_uv_and_pixels_are_inverse() -> None:
    affine = crop_around(np.array([517.0, 211.0]), 340.0)
    pixels = np.random.default_rng(1).uniform(0, 900, (7, 21, 2))
    assert uv_to_pixels(pixels_to_uv(pixels, affine), affine) == pytest.approx(pixels)


@pytest.mark.parametrize("side", [100.0, 256.0, 700.0, 1500.0])
def test_a_spot_lands_where_its_uv_says(side: float) -> None:
    rows, columns = np.mgrid[0:700, 0:900] + 0.5
    spot = np.array([412.0, 333.0])
    width = 0.05 * side
    bright = 255 * np.exp(-((columns - spot[0]) ** 2 + (rows - spot[1]) ** 2) / (2 * width**2))
    image = np.repeat(np.rint(bright).astype(np.uint8)[..., None], 3, axis=2)
    affine = crop_around(spot + [0.1 * side, -0.07 * side], side)
    crop = cut_crop(image, affine)[..., 0].astype(float)
    # The network counts pixels of its picture from the centre of the first one, as OpenCV does.
    y, x = np.mgrid[0:CROP_SIZE, 0:CROP_SIZE]
    found = np.array([(x * crop).sum(), (y * crop).sum()]) / crop.sum()
    assert found == pytest.approx((pixels_to_uv(spot, affine) + 1) * CROP_SIZE / 2, abs=0.1)


def test_outside_the_picture_is_black() -> None:
    image = np.full((100, 100, 3), 200, np.uint8)
    for side in (200.0, 1000.0):
        crop = cut_crop(image, crop_around(np.array([50.0, 50.0]), side))
        assert crop[0].max() == 0
        assert (crop[CROP_SIZE // 2, CROP_SIZE // 2] == 200).all()
    assert cut_crop(image, crop_around(np.array([-5000.0, 50.0]), 1000.0)).max() == 0


def test_a_large_picture_is_averaged() -> None:
    stripes = np.zeros((1600, 1600, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = cut_crop(stripes, crop_around(np.array([800.0, 800.0]), 1500.0))
    assert np.ptp(crop[20:-20, 20:-20].astype(int)) < 60  # 255 without; five columns hold two or three stripes


def test_the_input_has_the_statistics_of_imagenet() -> None:
    crops = np.zeros((2, CROP_SIZE, CROP_SIZE, 3), np.uint8)
    crops[..., 0] = 255
    images = network_input(crops)
    assert images.shape == (2, 3, CROP_SIZE, CROP_SIZE)
    assert images.dtype == np.float32
    assert images[0, :, 0, 0] == pytest.approx([(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225], abs=1e-6)


def test_a_camera_follows_the_crop() -> None:
    camera = np.array([[1270.0, 0, 196.0], [0, 1271.0, 240.0], [0, 0, 1]])
    affine = crop_around(np.array([150.0, 260.0]), 230.0)
    points = np.random.default_rng(2).normal([0, 0, 1.0], 0.05, (5, 3))
    pixels = project(points, crop_camera_matrix(camera, affine))
    assert pixels / 128 - 1 == pytest.approx(pixels_to_uv(project(points, camera), affine))


@pytest.mark.parametrize("points", [np.zeros((0, 2)), np.full((4, 2), 3.0), np.array([[np.nan, 1.0], [2.0, 3.0]])])
def test_points_without_extent_are_refused(points: np.ndarray) -> None:
    with pytest.raises(ValueError, match="crop"):
        both_hands_crop(points)
