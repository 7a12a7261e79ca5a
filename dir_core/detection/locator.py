"""Finds the left and the right hand in a square of the picture, also where they overlap: a palm network with sides.

The graph is the palm network's (`palm_detector`), trained further on pictures of two hands: of the anchors of every
cell the even ones look for the left hand and the odd ones for the right hand, so one pass gives both.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import SIDES, Side
from dir_core.detection.crop import Crop
from dir_core.detection.palm_detector import ANCHOR_CENTRES, Palm, PalmDetector, find_palms

Array = NDArray[Any]

WEIGHTS = Path(__file__).parent / "weights" / "two_hand_locator.tflite"

# Palms of both sides whose key points lie this close on average, as a share of the hand's crop, are one palm that
# was taken for both: two palms laid on each other are still turned or shifted by more (their knuckles run in
# opposite order across the picture, or they are seen one from the front and one from behind).
_SAME_PALM = 0.05


@dataclass(frozen=True)
class LocatedHands:
    """The hands in the picture by side.

    Attributes:
        left, right: the most likely palm of that side; None where there is none.
        candidates: all palms found, best first, of the left and of the right side.
    """

    left: Palm | None
    right: Palm | None
    candidates: tuple[tuple[Palm, ...], tuple[Palm, ...]]

    def of(self, side: Side) -> Palm | None:
        """The hand of a side."""
        return self.left if side == "left" else self.right


class HandLocator:
    """The palm network with sides on the CPU through LiteRT.

    Args:
        threads: how many the network may take.
        weights: a .tflite file with the palm network's graph.
    """

    def __init__(self, threads: int = 2, weights: str | os.PathLike[str] = WEIGHTS):
        self._network = PalmDetector(threads, weights)

    def locate(self, image: Array, outer: Crop) -> LocatedHands:
        """The left and the right hand inside `outer`.

        Args:
            image: [H, W, 3] uint8 RGB, not mirrored: in selfie footage a left hand is found as a right one.
            outer: the square to search; best where a palm fills a tenth to a half of it.
        """
        boxes, logits = self._network.look(image, outer)
        return locate_hands(boxes, logits, outer)


def locate_hands(boxes: Array, logits: Array, outer: Crop) -> LocatedHands:
    """The hands from what the network says (see `find_palms`): boxes [2016, 18], logits [2016]."""
    found = [
        tuple(find_palms(boxes[side::2], logits[side::2], ANCHOR_CENTRES[side::2], outer)) for side in range(len(SIDES))
    ]
    left, right = _without_shared(*found)
    return LocatedHands(left[0] if left else None, right[0] if right else None, (left, right))


def _without_shared(left: tuple[Palm, ...], right: tuple[Palm, ...]) -> tuple[tuple[Palm, ...], tuple[Palm, ...]]:
    """One palm is one hand: where both sides claim it, the side that is less sure gives it up."""
    return (
        tuple(palm for palm in left if not any(_same(palm, other) and other.score > palm.score for other in right)),
        tuple(palm for palm in right if not any(_same(palm, other) and other.score >= palm.score for other in left)),
    )


def _same(palm: Palm, other: Palm) -> bool:
    distance = np.linalg.norm(palm.keypoints - other.keypoints, axis=-1).mean()
    return bool(distance < _SAME_PALM * max(palm.crop.size, other.crop.size))
