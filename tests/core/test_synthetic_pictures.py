"""Folders of drawn pictures: whoever draws them, and however many share the work."""

from dataclasses import fields, replace

import numpy as np
import pytest

from dir_core.commands.synthetic import draw_pictures
from dir_core.errors import RendererError, SettingsError
from dir_core.evaluation.touching import CLIPS
from dir_core.hand_model import open_hand_models
from dir_core.training.looks import sample_look
from dir_core.training.motion import sample_clip
from dir_core.training.surfaces import build_scene
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
    draw_pictures(tmp_path, SERIES, COUNT, processes=2)
    alone, shared = load_pictures(folder), load_pictures(tmp_path)
    assert len(alone) == len(shared) == COUNT
    for each in fields(Pictures):
        np.testing.assert_array_equal(getattr(alone, each.name), getattr(shared, each.name))


def test_what_a_process_could_not_draw_is_said(folder, tmp_path):
    write_pictures(tmp_path, SERIES, COUNT)
    (tmp_path / "images.npy").write_bytes(b"")
    with pytest.raises(SettingsError, match=r"images.npy is missing or damaged"):
        draw_pictures(tmp_path, SERIES, COUNT, processes=2)
    with pytest.raises(SettingsError, match="0 processes"):
        draw_pictures(tmp_path, SERIES, COUNT, processes=0)


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


def test_frames_of_a_clip_have_the_same_faces_though_its_person_moves_out_of_the_picture():
    """Or what moves while the shutter is open could not be put in between."""
    clip = CLIPS[0]  # apart, from a webcam
    hands = sample_clip(np.random.default_rng(clip.seed), SERIES.models, clip.kind, clip.view, 2.5, 30.0, (640, 480))
    look = sample_look(np.random.default_rng(clip.seed), hands.view, skin=clip.skin)
    near = replace(hands, camera_matrix=hands.camera_matrix * [[2.0], [2.0], [1.0]])  # a longer lens cuts the trunk off
    for shown in (hands, near):
        scenes = [build_scene(shown, frame, SERIES.models, look) for frame in range(0, len(hands), 10)]
        assert len({len(scene.vertices) for scene in scenes}) == 1
        assert all(np.array_equal(scene.faces, scenes[0].faces) for scene in scenes)
