"""Folders of drawn pictures: whoever draws them, and however many share the work."""

from dataclasses import fields

import numpy as np
import pytest

from dir_core.errors import RendererError, SettingsError
from dir_core.hand_model import open_hand_models
from dir_core.training.synthetic import PICTURES_OF_HANDS, Pictures, Series, load_pictures, write_pictures

SERIES = Series(open_hand_models(), "wide", seed=6)
COUNT = PICTURES_OF_HANDS + 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("moderngl", reason="moderngl is not installed")
    folder = tmp_path_factory.mktemp("pictures")
    try:
        write_pictures(folder, SERIES, COUNT)
    except RendererError as error:
        pytest.skip(str(error))
    return folder


def test_processes_share_a_folder(folder, tmp_path):
    for rank in (1, 0):
        write_pictures(tmp_path, SERIES, COUNT, share=(rank, 2))
    alone, shared = load_pictures(folder), load_pictures(tmp_path)
    assert len(alone) == len(shared) == COUNT
    for each in fields(Pictures):
        np.testing.assert_array_equal(getattr(alone, each.name), getattr(shared, each.name))


def test_pictures_in_a_row_are_of_one_kind_and_seen_otherwise(folder):
    pictures = load_pictures(folder)
    assert len(set(pictures.kind[:PICTURES_OF_HANDS])) == 1
    both = pictures.keypoints_3d[:PICTURES_OF_HANDS].reshape(PICTURES_OF_HANDS, -1, 3)
    apart = np.linalg.norm(both[:, :, None] - both[:, None], axis=-1)
    np.testing.assert_allclose(apart, np.broadcast_to(apart[0], apart.shape), atol=1e-5)
    assert np.abs(np.diff(both - both.mean(axis=1, keepdims=True), axis=0)).max(axis=(1, 2)).min() > 0.003


def test_a_folder_of_other_pictures_is_left_alone(folder):
    with pytest.raises(SettingsError, match="other settings"):
        write_pictures(folder, SERIES, COUNT + 1)
