"""Hands that move as hands do, with known truth: smooth random poses within the joints' ranges."""

from typing import Any

import numpy as np

from dir_core import rotations
from dir_core.degrees_of_freedom import HIGHEST, LOWEST, FingerGeometry, rotations_from_angles

_WAVES = 10  # sines in one smooth random signal
_PINK = -0.7  # power law of their heights: fast motion is small motion


def smooth_signal(rng: np.random.Generator, time: Any, lowest: float, highest: float) -> Any:
    """A random signal [T] of unit deviation made of frequencies between `lowest` and `highest` Hz."""
    frequency = np.exp(rng.uniform(np.log(lowest), np.log(highest), _WAVES))
    height = frequency**_PINK
    phase = rng.uniform(0, 2 * np.pi, _WAVES)
    waves = height * np.sin(2 * np.pi * frequency * np.asarray(time)[:, None] + phase)
    return waves.sum(axis=1) / np.sqrt(0.5 * (height**2).sum())


def hand_motion(geometry: FingerGeometry, time: Any, seed: int) -> tuple[Any, Any]:
    """Rotations [T, 16, 4] and wrist positions [T, 3] of a hand that moves at up to about 2 Hz."""
    rng = np.random.default_rng(seed)
    angles = np.zeros((len(time), 5, 5))
    for finger in range(5):
        curl = smooth_signal(rng, time, 0.12, 1.6)
        for angle in (0, 3, 4):
            share = 0.5 + 0.45 * np.tanh(0.8 * curl + 0.15 * smooth_signal(rng, time, 0.2, 2.0))
            low, high = 0.3 * LOWEST[finger, angle], 0.9 * HIGHEST[finger, angle]
            angles[:, finger, angle] = low + share * (high - low)
        angles[:, finger, 1] = np.radians(7) * np.clip(smooth_signal(rng, time, 0.15, 1.2), -2, 2)
    sway = np.radians([25, 40, 20]) * np.stack([smooth_signal(rng, time, 0.1, 1.0) for _ in range(3)], axis=1)
    wrist = rotations.multiply(
        rotations.from_rotation_vector(sway), rotations.from_rotation_vector(rng.normal(0, 0.6, 3))
    )
    place = np.stack([smooth_signal(rng, time, 0.1, 0.8) for _ in range(3)], axis=1)
    rotation = rotations.make_continuous(rotations_from_angles(geometry, wrist, angles))
    return rotation, place * [0.08, 0.05, 0.04] + [0.0, 0.0, 0.6]
