"""Random finger poses of one hand as hinge angles. numpy only.

Hinge angles are those of `degrees_of_freedom` ([5 fingers, 5 angles], the same numbers mean the same pose on
both hands), in radians.
"""

from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dir_core.degrees_of_freedom import HIGHEST, LOWEST

Array = NDArray[Any]

Mode = Literal["open", "relaxed", "fist", "point", "pinch", "spread", "claw", "independent"]
MODES: Final = get_args(Mode)
MODE_SHARES: Final = (0.18, 0.24, 0.12, 0.12, 0.08, 0.08, 0.06, 0.12)

_FULL_BEND1, _FULL_BEND2 = np.radians([85.0, 105.0])  # of a fist
_BEND3_OF_BEND2 = 0.6  # the tendons couple a finger's two outer joints
_BEND_NOISE = np.radians([7.0, 9.0, 5.0])
_FAN = np.radians([0.0, 10.0, 2.0, -5.0, -13.0])  # how far each finger leans when a hand is spread
_FAN_LEFT_WHEN_BENT = 0.15  # collateral ligaments hold a bent finger from leaning

# Thumb angles in degrees: bend and spread and twist of the saddle joint, bend of the other two.
_THUMB_POSES: Final = np.radians([
    (5.0, 0.0, 0.0, 8.0, 12.0),      # at rest beside the index finger
    (-18.0, 18.0, 0.0, 0.0, -10.0),  # held out
    (-10.0, -12.0, 0.0, 5.0, 5.0),   # along the index finger
    (28.0, 5.0, 8.0, 25.0, 25.0),    # opposed to index and middle finger
    (38.0, -10.0, 10.0, 45.0, 55.0), # across the palm
    (15.0, -5.0, 5.0, 35.0, 50.0),   # over a fist
])  # fmt: skip
HELD_BACK: Final = np.radians([-32.0, 0.0, 0.0, 0.0, 0.0])
"""A thumb out of the way of whatever comes to the palm."""
# Which thumb poses go with a mode; a random mixture of them is taken.
_THUMBS: Final[dict[str, tuple[int, ...]]] = {
    "open": (0, 1, 2),
    "relaxed": (0, 2, 3),
    "fist": (4, 5),
    "point": (0, 4, 5),
    "pinch": (3,),
    "spread": (1,),
    "claw": (0, 1, 3),
    "independent": (0, 1, 2, 3, 4, 5),
}
_THUMB_NOISE = np.radians([6.0, 6.0, 3.0, 8.0, 10.0])


def sample_fingers(rng: np.random.Generator, count: int, modes: tuple[Mode, ...] | None = None) -> Array:
    """Hinge angles [count, 5, 5] in radians, each pose of a random mode (of `modes` where given).

    Every angle lies in its range of `degrees_of_freedom`; whether fingers run into each other is not checked.
    """
    if modes is None:
        chosen = rng.choice(len(MODES), count, p=MODE_SHARES)
    else:
        chosen = np.array([MODES.index(mode) for mode in modes])[rng.integers(len(modes), size=count)]
    curls = np.stack([_sample_curls(rng, count, mode) for mode in MODES])[chosen, np.arange(count)]
    fans = np.where(chosen == MODES.index("spread"), 1.1, rng.uniform(-0.25, 0.9, count))
    fingers = bend_fingers(curls, fans)
    fingers[:, 1:, [0, 3, 4]] += rng.normal(size=(count, 4, 3)) * _BEND_NOISE
    claw = (chosen == MODES.index("claw"))[:, None]
    fingers[:, 1:, 0] = np.where(claw, rng.uniform(-0.3, 0.2, (count, 1)), fingers[:, 1:, 0])
    fingers[:, 1:, 1] += rng.normal(size=(count, 4)) * np.radians(2.5)
    fingers[:, 0] = np.stack([_sample_thumbs(rng, count, mode) for mode in MODES])[chosen, np.arange(count)]
    return np.clip(fingers, LOWEST, HIGHEST)


def bend_fingers(curl: Array, fan: Array) -> Array:
    """Hinge angles [N, 5, 5] of four fingers curled [N, 4] (0 straight, 1 fist) and fanned out [N]; thumb 0."""
    angles = np.zeros((len(curl), 5, 5))
    angles[:, 1:, 0] = curl * _FULL_BEND1
    angles[:, 1:, 3] = curl * _FULL_BEND2
    angles[:, 1:, 4] = _BEND3_OF_BEND2 * angles[:, 1:, 3]
    left = 1.0 - (1.0 - _FAN_LEFT_WHEN_BENT) * np.clip(curl, 0.0, 1.0)
    angles[:, 1:, 1] = fan[:, None] * _FAN[1:] * left
    return angles


# Least curl, and how much more of it all fingers have together and each has by itself.
_CURLS: Final = {
    "open": (-0.08, 0.16, 0.06),
    "spread": (-0.08, 0.16, 0.06),
    "fist": (0.82, 0.16, 0.06),
    "claw": (0.4, 0.4, 0.1),
}


def _sample_curls(rng: np.random.Generator, count: int, mode: str) -> Array:
    """Curls [count, 4] of index to little finger."""
    one = rng.random((count, 1))
    each = rng.random((count, 4))
    if mode in _CURLS:
        least, together, apart = _CURLS[mode]
        return least + together * one + apart * each
    if mode == "relaxed":  # the little finger bends most
        return 0.12 + 0.3 * one + np.array([0.0, 0.09, 0.18, 0.24]) * rng.random((count, 1)) + 0.08 * each
    if mode == "pinch":
        return np.concatenate([0.4 + 0.12 * each[:, :1], 0.15 + 0.4 * one + 0.2 * each[:, 1:]], axis=1)
    if mode == "point":
        # Index; index and middle; index and little; index, middle and ring; little finger; middle to little finger.
        straight = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 1], [1, 1, 1, 0], [0, 0, 0, 1], [0, 1, 1, 1]], bool)
        which = straight[rng.choice(len(straight), count, p=(0.45, 0.25, 0.06, 0.1, 0.06, 0.08))]
        return np.where(which, 0.08 * each, 0.7 + 0.22 * one + 0.1 * each)
    neighbours = 0.5 * (each + (each @ _NEIGHBOURS))
    return -0.05 + 1.05 * neighbours


# No finger bends wholly without its neighbours: rows mix them in.
_NEIGHBOURS = np.array([[0.6, 0.2, 0.0, 0.0], [0.4, 0.5, 0.35, 0.0], [0.0, 0.3, 0.35, 0.5], [0.0, 0.0, 0.3, 0.5]])


def _sample_thumbs(rng: np.random.Generator, count: int, mode: str) -> Array:
    """Thumb angles [count, 5]: between two key poses of the mode, and noise."""
    poses = _THUMB_POSES[list(_THUMBS[mode])]
    first, second = poses[rng.integers(len(poses), size=(2, count))]
    share = rng.random((count, 1))
    return first + share * (second - first) + rng.normal(size=(count, 5)) * _THUMB_NOISE
