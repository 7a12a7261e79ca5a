"""An animator's whole way through the add-on, in a window and from the zip."""

from collections.abc import Callable
from pathlib import Path

import build_addon
from tests.gui.windowed import Outcome


def test_from_a_dropped_video_to_corrected_hands_in_a_saved_file(
    play_scenario: Callable[..., Outcome], extension: Path
) -> None:
    outcome = play_scenario(
        "scenario_whole_way", seconds=600.0, extension=extension, footage=build_addon.DEMO_VIDEO, look_at="60"
    )
    assert len(outcome.pictures) == 8
    assert outcome.notes["german"] == "Hände keyen"
    assert "Traceback" not in outcome.log


def test_blender_stays_smooth_while_it_captures(
    play_scenario: Callable[..., Outcome], extension: Path, shared: Path
) -> None:
    """Milliseconds that the main thread was busy by itself; what the machine takes from it is not Blender's."""
    outcome = play_scenario(
        "scenario_whole_way",
        seconds=600.0,
        extension=extension,
        footage=shared / "footage" / "two_hands_composite.mp4",
        look_at="150",
    )
    assert outcome.stalls["capture"]["cpu_p95"] <= 50
    assert outcome.stalls["capture"]["cpu_worst"] <= 120
