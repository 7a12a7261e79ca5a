"""Landmark networks on real stills with known joints, given the true box: no tracker, no fit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.camera import project
from dir_core.conventions import SIDES, Side
from dir_core.detection.crop import Crop, crop_around_keypoints
from dir_core.detection.hidden_hands import correction
from dir_core.detection.landmark_network import HandLandmarks, LandmarkNetwork, TwoHandLandmarkNetwork
from dir_core.errors import DataSetError
from dir_core.evaluation.interhand import InterHandFrame, Shown, read_interhand
from dir_core.evaluation.touching_metrics import (
    SeenHands,
    TouchingFigures,
    TrueHands,
    measure_hands,
    straight_ahead,
    summarise,
)
from dir_core.fitting.landmark_places import landmark_places

Array = NDArray[Any]

HandReader = Callable[[Array, Crop, Side], HandLandmarks]
"""A picture, where to look and which hand is looked for -> what a network sees."""

BOXES = 40
"""Boxes about every hand; a tracker's own lie as far off as these."""

_SHIFT = 0.08  # of the box
_SCALE = (0.85, 1.25)
_TURN = np.radians(15.0)

STILL_COLUMNS = (("wrist mm", "wrist_all_mm"), ("PA mm", "pa_all_mm"), ("2D %", "error_2d"), ("snapped", "snapped"))
"""What a table of stills shows; the box is given, so nothing is found or on a side."""


def hand_reader(*, two_hands: bool = True, free: bool = False) -> HandReader:
    """How the tracker reads a hand near another one, or a free one.

    Args:
        two_hands: False for the untouched network alone, which needs not be told which hand it looks for.
        free: no other hand is near: what the untouched network says is corrected by the network for two hands.
    """
    if not two_hands:
        untold = LandmarkNetwork()
        return lambda image, crop, side: untold.locate(image, crop)
    told = TwoHandLandmarkNetwork()
    if not free:
        return lambda image, crop, side: told.locate(image, crop, right=side == "right")
    untold = LandmarkNetwork()

    def read_free(image: Array, crop: Crop, side: Side) -> HandLandmarks:
        seen, right = untold.locate(image, crop), side == "right"
        return correction(seen, told.locate(image, crop, right), right).applied_to(seen)

    return read_free


def measure_stills(folder: Path, *, two_hands: bool = True) -> dict[str, TouchingFigures]:
    """Figures of every hand of the stills with both hands, and of those with one, which is free, by name.

    Args:
        folder: InterHand2.6M or an excerpt, see `read_interhand`.
        two_hands: see `hand_reader`.

    Raises:
        DataSetError: the folder holds no such stills.
    """
    result = {}
    read_near, read_free = (hand_reader(two_hands=two_hands, free=free) for free in (False, True))
    kinds: tuple[Shown, ...] = ("interacting", *SIDES)
    for shown in kinds:
        try:
            frames = read_interhand(folder, need_mano=False, shown=shown)
        except DataSetError:
            if shown == "interacting":
                raise
            continue  # an excerpt need not have single hands
        read = read_near if shown == "interacting" else read_free
        sides = [side for side in SIDES if shown in ("interacting", side)]
        for frame in frames:
            for side in sides:
                result[f"{frame.sequence} {frame.number} {side}"] = _measure_hand(frame, side, sides, read)
    return result


def _measure_hand(frame: InterHandFrame, side: Side, known: list[Side], read: HandReader) -> TouchingFigures:
    image = frame.read_image()
    joints = np.zeros((len(SIDES), 21, 3))
    for each in known:
        joints[SIDES.index(each)] = landmark_places(frame.joints(each))
    present = np.isin(SIDES, known)
    joints[~present] = [0.0, 0.0, 1.0]  # somewhere before the camera, never looked at
    points = project(joints, frame.camera.matrix)
    hand = SIDES.index(side)
    found = [read(image, crop, side) for crop in _jittered_boxes(points[hand])]

    def repeat(values: Array) -> Array:
        return np.broadcast_to(values, (len(found), *values.shape)).copy()

    straight = straight_ahead(joints[None], points[None], frame.camera.matrix)[0]
    truth = TrueHands(repeat(points), repeat(straight), np.ones((len(found), 2, 21), bool), repeat(present))
    seen = SeenHands(truth.keypoints_2d.copy(), truth.keypoints_3d.copy(), np.zeros((len(found), 2), bool))
    seen.keypoints_2d[:, hand] = [each.keypoints_2d for each in found]
    seen.keypoints_3d[:, hand] = [each.world for each in found]
    seen.observed[:, hand] = True
    return summarise(measure_hands(seen, truth))


def _jittered_boxes(points: Array) -> list[Crop]:
    """Boxes about key points [21, 2], always the same ones."""
    random = np.random.default_rng(BOXES)
    box = crop_around_keypoints(points)
    return [
        replace(
            box,
            x=box.x + box.size * random.uniform(-_SHIFT, _SHIFT),
            y=box.y + box.size * random.uniform(-_SHIFT, _SHIFT),
            size=box.size * random.uniform(*_SCALE),
            angle=box.angle + random.uniform(-_TURN, _TURN),
        )
        for _ in range(BOXES)
    ]
