"""Every panel draws with everything open; its pictures are those of the documentation."""

from collections.abc import Callable
from pathlib import Path

import build_addon
from tests.gui.windowed import Outcome

TALL_SCREEN = (1500, 2000)


def test_every_panel_draws_open(play_scenario: Callable[..., Outcome], extension: Path) -> None:
    outcome = play_scenario(
        "scenario_pictures", seconds=600.0, screen=TALL_SCREEN, extension=extension, footage=build_addon.DEMO_VIDEO
    )
    assert [path.stem for path in outcome.pictures] == [
        "installed",
        "footage",
        "capturing",
        "hands",
        "all_panels",
        "preferences",
    ]
    assert "Traceback" not in outcome.log
