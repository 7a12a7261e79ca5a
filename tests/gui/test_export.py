"""Exporting from a window leaves what the user works on as it was."""

from collections.abc import Callable
from pathlib import Path

import build_addon
from tests.gui.windowed import Outcome


def test_hands_are_exported_while_somebody_poses_them(
    play_scenario: Callable[..., Outcome], extension: Path, demo_take: Path
) -> None:
    outcome = play_scenario("scenario_export", extension=extension, take=demo_take, footage=build_addon.DEMO_VIDEO)
    assert outcome.notes["offered"].endswith(".glb")
    files = outcome.notes["files"]
    wanted = {"from_browser.glb", "hands.fbx", "hands.gltf", "hands.bin", "hands.bvh"}
    if "USD" in outcome.notes["told"]:  # distributions build Blender without it
        assert "This Blender was built without USD, choose another format." in outcome.notes["told"]["USD"]
    else:
        wanted.add("hands.usd")
    assert set(files) == wanted
    assert set(outcome.notes["told"]) <= {"USD"}
    assert min(files.values()) > 10_000
    assert "Traceback" not in outcome.log
