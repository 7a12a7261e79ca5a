"""Calibrating an animator's rig in a window, over the preview."""

from collections.abc import Callable
from pathlib import Path

from tests.gui.test_rig_preview import mixamo_bones
from tests.gui.windowed import Outcome


def test_a_rig_is_calibrated_over_its_preview(
    play_scenario: Callable[..., Outcome], extension: Path, demo_take: Path
) -> None:
    outcome = play_scenario(
        "scenario_calibrate", screen=(1500, 2100), extension=extension, take=demo_take, bones=mixamo_bones()
    )
    assert [path.stem for path in outcome.pictures] == ["calibrated"]
    assert "Traceback" not in outcome.log
