"""The preview on an animator's rig, in a window: with timers, playback, undo and files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dir_core import rotations
from dir_core.conventions import FINGERS
from dir_core.hand_model import open_hand_models
from tests.gui.windowed import Outcome


def mixamo_bones() -> list[tuple[str, list[float], list[float], str]]:
    """Name, head, tail and parent of the bones of two arms with Mixamo's names, in T pose."""
    bones = [("Hips", [0.0, 0.0, 1.0], [0.0, 0.0, 1.4], "")]
    to_rest = rotations.from_rotation_vector(np.array([np.pi / 2, 0.0, 0.0]))
    for side, sign in (("left", 1.0), ("right", -1.0)):
        pose = np.tile([1.0, 0.0, 0.0, 0.0], (1, 16, 1))
        pose[:, 0] = to_rest
        points = open_hand_models()[side].pose_keypoints(pose, None, np.zeros(10))[0] + [0.5 * sign, 0.0, 1.3]
        name = side.title()
        hand = f"mixamorig:{name}Hand"
        bones.append((f"{name}ForeArm", [0.25 * sign, 0.0, 1.3], points[0].tolist(), "Hips"))
        bones.append((hand, points[0].tolist(), points[9].tolist(), f"{name}ForeArm"))
        for row, finger in enumerate(FINGERS):
            parent = hand
            for rank in (1, 2, 3):
                bone = f"{hand}{finger.title()}{rank}"
                head, tail = points[4 * row + rank], points[4 * row + rank + 1]
                bones.append((bone, head.tolist(), tail.tolist(), parent))
                parent = bone
    return bones


def test_the_rig_follows_and_is_left_as_it_was(
    play_scenario: Callable[..., Outcome], extension: Path, demo_take: Path
) -> None:
    outcome = play_scenario("scenario_rig_preview", extension=extension, take=demo_take, bones=mixamo_bones())
    assert len(outcome.pictures) == 6
    print(outcome.notes, outcome.stalls)
