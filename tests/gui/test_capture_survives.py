"""A capture that outlives its file and its Blender, in windows and from the zip."""

from collections.abc import Callable
from pathlib import Path

import build_addon
from tests.gui.windowed import INSIDE, Outcome


def test_a_capture_survives_its_file_and_its_blender(
    play_scenario: Callable[..., Outcome], extension: Path, tmp_path: Path
) -> None:
    profile = tmp_path / "profile"
    values = {"extension": extension, "footage": build_addon.DEMO_VIDEO}
    survived = play_scenario("scenario_capture_survives", seconds=600.0, profile=profile, inside=INSIDE, **values)
    resumed = play_scenario("scenario_capture_resumed", seconds=300.0, profile=profile, **values)
    assert 0 < resumed.notes["kept"] < 1
    assert resumed.notes["digest"] == survived.notes["digest"]
    for outcome in (survived, resumed):
        assert len(outcome.pictures) == 2
        assert "Traceback" not in outcome.log
