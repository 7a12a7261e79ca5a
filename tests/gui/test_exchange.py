"""Results of another program are imported in a window, through the file browser, without Blender waiting."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import build_addon
from dir_core.conventions import SIDES
from dir_core.take import load_take
from tests.gui.windowed import Outcome


def write_landmarks(take_path: Path, path: Path, times: int = 1) -> Path:
    """What was seen of a take as MediaPipe's Tasks API tells it, several times over."""
    take = load_take(take_path)
    frames = []
    for row in range(len(take)):
        frame: dict[str, Any] = {"hand_landmarks": [], "hand_world_landmarks": [], "handedness": []}
        for side in SIDES:
            hand = take.hand(side)
            if hand.observed[row]:
                flat = (hand.keypoints_2d[row] / take.image_size).tolist()
                frame["hand_landmarks"].append([{"x": x, "y": y, "z": 0.0} for x, y in flat])
                world = hand.keypoints_3d[row].tolist()
                frame["hand_world_landmarks"].append([dict(zip("xyz", point, strict=True)) for point in world])
                score = float(hand.confidence[row].mean())
                frame["handedness"].append([{"score": score, "category_name": side.capitalize()}])
        frames.append(frame)
    path.write_text(json.dumps(times * frames))
    return path


def test_landmarks_become_hands_while_blender_stays_free(
    play_scenario: Callable[..., Outcome], extension: Path, demo_take: Path, tmp_path: Path
) -> None:
    results = write_landmarks(demo_take, tmp_path / "landmarks.json")
    long = write_landmarks(demo_take, tmp_path / "long.json", 60)  # of which the fitting takes more than ten seconds
    footage = build_addon.DEMO_VIDEO
    outcome = play_scenario("scenario_exchange", extension=extension, results=results, long=long, footage=footage)
    assert outcome.notes["names"] == ["landmarks"]
    assert outcome.notes["lines"] == 151
    assert outcome.stalls["import"]["cpu_p95"] < 50.0
    assert "Traceback" not in outcome.log
