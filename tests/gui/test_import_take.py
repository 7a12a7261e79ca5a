"""From an empty Blender to keyed hands, in a window and from the zip."""

from collections.abc import Callable
from pathlib import Path

import pytest

import build_addon
from tests.gui.windowed import Outcome


def test_a_take_dropped_on_the_viewport_becomes_keyed_hands(
    play_scenario: Callable[..., Outcome], extension: Path, demo_take: Path
) -> None:
    outcome = play_scenario("scenario_import_take", extension=extension, take=demo_take, footage=build_addon.DEMO_VIDEO)
    # 150 frames at 30 in a scene of 24 frames per second.
    expected = [pytest.approx(1.0), pytest.approx(1 + 149 / 30 * 24)]
    assert outcome.notes["frames"] == {"Hand Left": expected, "Hand Right": expected}
    assert [path.stem for path in outcome.pictures] == ["installed", "imported", "undone"]
    assert "Traceback" not in outcome.log
