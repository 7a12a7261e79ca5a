"""An animator's whole way through the add-on, in a window and from the zip."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

import build_addon
from dir_core.hand_model import open_hand_models
from dir_core.take import save_take
from tests.gui.windowed import Outcome
from tests.takes import make_raw_take


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


def test_the_keys_of_a_minute_follow_each_setting(
    play_scenario: Callable[..., Outcome], extension: Path, tmp_path: Path
) -> None:
    raw, _ = make_raw_take(open_hand_models(), times=np.arange(1800) / 30)
    save_take(raw, tmp_path / "minute.npz")
    outcome = play_scenario("scenario_minute", extension=extension, take=tmp_path / "minute.npz")
    print(outcome.notes["seconds"], outcome.stalls)  # figures, not a verdict: other work on the machine counts, too
    assert outcome.notes["seconds"].keys() == {"fingers", "wrist_rotation", "wrist_position", "fill"}
    assert "Traceback" not in outcome.log
