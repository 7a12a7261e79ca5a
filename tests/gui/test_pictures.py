"""Every panel draws, also with everything open; the pictures are those of the documentation."""

from collections.abc import Callable
from pathlib import Path

import pytest

import build_addon
from tests.gui.windowed import Outcome


@pytest.mark.parametrize(("about", "screen"), [("work", (1500, 1000)), ("panels", (1500, 2100))])
def test_every_panel_draws(
    play_scenario: Callable[..., Outcome], extension: Path, about: str, screen: tuple[int, int]
) -> None:
    values = {"extension": extension, "footage": build_addon.DEMO_VIDEO, "about": about}
    outcome = play_scenario("scenario_pictures", seconds=600.0, screen=screen, **values)
    last = {"work": "preferences", "panels": "lower_panels"}[about]
    assert [path.stem for path in outcome.pictures] == [
        "installed",
        "footage",
        "capturing",
        "hands",
        "corrected",
        last,
    ]
    assert "Traceback" not in outcome.log
