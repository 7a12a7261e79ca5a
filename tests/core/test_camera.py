"""The pinhole camera: pixels where OpenCV and a person's hand calculation put them."""

import math

import cv2
import numpy as np
import pytest

from dir_core.camera import (
    field_of_view_from_focal_length,
    focal_length_from_field_of_view,
    make_camera_matrix,
    project,
    rays,
)
from dir_core.conventions import DEFAULT_FIELD_OF_VIEW
from dir_core.errors import SettingsError


def test_a_point_on_the_axis_lands_in_the_middle_of_the_image() -> None:
    camera_matrix = make_camera_matrix((1920, 1080))
    assert np.allclose(project(np.array([0.0, 0.0, 0.5]), camera_matrix), [960.0, 540.0])


def test_x_goes_right_and_y_goes_down() -> None:
    camera_matrix = make_camera_matrix((640, 480), 500.0)
    assert np.allclose(project(np.array([0.1, 0.2, 1.0]), camera_matrix), [320 + 50, 240 + 100])


def test_without_a_focal_length_the_width_spans_sixty_degrees() -> None:
    camera_matrix = make_camera_matrix((640, 480))
    edge = project(np.array([math.tan(DEFAULT_FIELD_OF_VIEW / 2), 0.0, 1.0]), camera_matrix)
    assert np.allclose(edge, [640.0, 240.0])
    assert math.isclose(math.degrees(DEFAULT_FIELD_OF_VIEW), 60.0)


@pytest.mark.parametrize("degrees", [10, 60, 90, 150])
def test_focal_length_and_field_of_view_are_inverse(degrees: float) -> None:
    focal_length = focal_length_from_field_of_view(math.radians(degrees), 1280)
    assert math.isclose(field_of_view_from_focal_length(focal_length, 1280), math.radians(degrees))


def test_ninety_degrees_are_half_the_width() -> None:
    assert math.isclose(focal_length_from_field_of_view(math.pi / 2, 1000), 500.0)


def test_projection_agrees_with_opencv() -> None:
    points = np.random.default_rng(0).normal(size=(40, 3)) * 0.2 + [0, 0, 1.0]
    camera_matrix = np.array([[700.0, 0, 310.0], [0, 650.0, 250.0], [0, 0, 1]])
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera_matrix, np.zeros(4))
    assert np.allclose(project(points, camera_matrix), expected[:, 0])


def test_rays_undo_the_projection_over_any_leading_axes() -> None:
    points = np.random.default_rng(1).uniform(0.2, 1.0, size=(5, 2, 21, 3))
    camera_matrix = make_camera_matrix((1280, 720), 900.0)
    assert np.allclose(rays(project(points, camera_matrix), camera_matrix), points[..., :2] / points[..., 2:])


@pytest.mark.parametrize("focal_length", [0.0, -5.0, math.nan, math.inf])
def test_an_impossible_focal_length_is_refused(focal_length: float) -> None:
    with pytest.raises(SettingsError, match="positive number of pixels"):
        make_camera_matrix((640, 480), focal_length)
