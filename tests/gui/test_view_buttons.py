"""What needs a 3D view, in a window: each change is one undo step there, too."""

from collections.abc import Callable
from pathlib import Path

import pytest

import build_addon
from tests.gui.windowed import Outcome


def test_looking_through_and_drawing_a_box_can_be_undone(
    play_scenario: Callable[..., Outcome], extension: Path
) -> None:
    outcome = play_scenario("scenario_view_buttons", extension=extension, footage=build_addon.DEMO_VIDEO)
    x, y, width, height = outcome.notes["box"]
    assert width / height == pytest.approx(160 / 120, rel=0.02)  # the view shows the footage's pixels as squares
    assert 0 <= x < x + width <= 640
    assert 0 <= y < y + height <= 480
    assert len(outcome.pictures) == 2
