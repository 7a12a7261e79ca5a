"""The second mesh: a hand of the same make as the open one, that no network learns from. numpy only."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from blender_assets.build_second_hand import palm_shares
from dir_core.conventions import SIDES
from dir_core.hand_model import load_hand_models, open_hand_models

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "blender_assets" / "second_hand"


def test_left_is_the_mirror_of_right() -> None:
    hands = load_hand_models(FOLDER)
    mirrored = hands["left"].rest_keypoints() * [-1.0, 1.0, 1.0]
    assert np.abs(mirrored - hands["right"].rest_keypoints()).max() < 1e-6


@pytest.mark.parametrize("side", SIDES)
def test_rests_as_the_open_hand_rests_but_is_another_hand(side) -> None:
    second, opened = load_hand_models(FOLDER)[side], open_hand_models()[side]
    turned = np.degrees(np.arccos(np.clip((second.bone_directions() * opened.bone_directions()).sum(-1), -1, 1)))
    assert turned[[0, 1, 3, 4, 6, 7, 9, 10]].max() < 1  # fingers; the last bone ends at a vertex of the finger pad
    assert turned.max() < 25
    assert 0.17 < second.length() < 0.20
    assert len(second.template) != len(opened.template)
    assert np.abs(second.rest_joints() - opened.rest_joints()).max() > 5e-3


@pytest.mark.parametrize("side", SIDES)
def test_is_one_closed_surface_and_joints_follow_from_it(side) -> None:
    hand = load_hand_models(FOLDER)[side]
    edges = {(int(a), int(b)) for face in hand.faces for a, b in zip(face, np.roll(face, -1), strict=True)}
    assert all((b, a) in edges for a, b in edges)
    corners = hand.template[hand.faces]
    assert np.einsum("fa,fa->f", np.cross(corners[:, 0], corners[:, 1]), corners[:, 2]).sum() > 0
    assert np.allclose(hand.weights.sum(axis=1), 1.0)


@pytest.mark.parametrize("side", SIDES)
def test_joints_lie_as_deep_in_the_fingers_as_those_of_the_open_hand(side) -> None:
    deep = []
    for hand in (load_hand_models(FOLDER)[side], open_hand_models()[side]):
        joints, tips = hand.rest_joints(), hand.template[list(hand.tip_vertices)]
        mirror = [1.0, 1.0, 1.0] if side == "right" else [-1.0, 1.0, 1.0]
        deep.append(palm_shares(joints * mirror, tips * mirror, hand.template[hand.faces] * mirror)[0])
    assert np.abs(deep[0] - deep[1]).max() < 0.08  # MakeHuman's handles are 0.25 nearer to the back


def test_is_no_part_of_the_installed_package() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert "blender_assets.second_hand*" in tools["setuptools"]["packages"]["find"]["exclude"]
    assert '"second_hand")' in (ROOT / "build_addon.py").read_text(encoding="utf-8")
