"""The hand-landmark networks: 21 key points, presence and handedness of one hand in a crop. No tracking.

MediaPipe's own network for hands by themselves, and the same graph trained further for hands that touch or hide
each other.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.detection.crop import Crop, as_network_input, cut_out, to_image, turn_directions
from dir_core.detection.interpreter import load_interpreter

Array = NDArray[Any]

WEIGHTS = Path(__file__).parent / "weights" / "hand_landmark_full.tflite"
TWO_HAND_WEIGHTS = Path(__file__).parent / "weights" / "hand_landmark_two_hands.tflite"
INPUT_SIDE = 224


@dataclass(frozen=True, eq=False)
class HandLandmarks:
    """What the network sees in one crop.

    Attributes:
        keypoints_2d: [21, 2] float32, pixels of the picture, centre of the first pixel at (0.5, 0.5).
        world: [21, 3] float32 metres, directions of the camera axes (x right, y down, z forward), centred
            about where the network puts the hand's middle: no position in space.
        presence: 0..1, how surely the crop holds a hand.
        right_score: 0..1, above 0.5 for a hand that looks like an anatomical right one in an un-mirrored picture.
        confidence: [21] float32 in 0..1, how likely each key point is within a tenth of the hand's size in the
            picture, given that the hand is there; ones from a network that says nothing about it.
    """

    keypoints_2d: Array
    world: Array
    presence: float
    right_score: float
    confidence: Array = field(default_factory=lambda: np.ones(21, np.float32))

    def agreement(self, right: bool) -> float:
        """0..1, how much it looks like a right one, or like a left one."""
        return self.right_score if right else 1.0 - self.right_score


class LandmarkNetwork:
    """The landmark network on the CPU through LiteRT. One instance must not be used by two threads at once."""

    def __init__(self, threads: int = 1, weights: str | os.PathLike[str] = WEIGHTS):
        self._interpreter = load_interpreter(weights, threads)
        self._input = self._interpreter.get_input_details()[0]["index"]
        # The exported names are Identity, Identity_1 ..: key points, presence, handedness, world.
        outputs = {detail["name"]: detail["index"] for detail in self._interpreter.get_output_details()}
        self._outputs = tuple(outputs[name] for name in ("Identity", "Identity_1", "Identity_2", "Identity_3"))

    def locate(self, image: Array, crop: Crop) -> HandLandmarks:
        """Key points of the hand in `crop` of `image` [H, W, 3] uint8 RGB."""
        picture = cut_out(image, crop, INPUT_SIDE, replicate_border=True)
        points, presence, right_score, world = self.infer(as_network_input(picture))
        return HandLandmarks(
            keypoints_2d=to_image(points.reshape(21, 3)[:, :2], crop, INPUT_SIDE).astype(np.float32),
            world=turn_directions(world.reshape(21, 3), crop),
            presence=float(presence[0, 0]),
            right_score=float(right_score[0, 0]),
        )

    def infer(self, picture: Array) -> tuple[Array, Array, Array, Array]:
        """The network alone.

        Args:
            picture: [1, 224, 224, 3] float32 in 0..1.

        Returns:
            Key points [1, 63] (x, y px of the crop, z), presence [1, 1], handedness [1, 1], world [1, 63] metres.
        """
        self._interpreter.set_tensor(self._input, picture)
        self._interpreter.invoke()
        points, presence, right_score, world = (self._interpreter.get_tensor(index) for index in self._outputs)
        return points, presence, right_score, world


class TwoHandLandmarkNetwork:
    """The landmark network for hands that touch or hide each other: it is told which hand it is to follow.

    It only knows right hands: the picture of a left one is mirrored on its way in and the key points on their way
    out. The depth of the key points in the picture, which nobody needs, is replaced by how sure each of them is.
    """

    def __init__(self, threads: int = 1, weights: str | os.PathLike[str] = TWO_HAND_WEIGHTS):
        """Load the network. One instance must not be used by two threads at once."""
        self._network = LandmarkNetwork(threads, weights)

    def locate(self, image: Array, crop: Crop, right: bool) -> HandLandmarks:
        """Key points of the hand in the middle of `crop` of `image` [H, W, 3] uint8 RGB.

        Args:
            right: the hand to follow looks like a right one.
        """
        picture = cut_out(image, crop, INPUT_SIDE, replicate_border=True)
        picture = picture if right else picture[:, ::-1]
        points, presence, agreement, world = self._network.infer(as_network_input(picture))
        points, world = points.reshape(21, 3), world.reshape(21, 3)
        places, logits = points[:, :2], points[:, 2]
        if not right:
            # The last column came first: what lies at x of the mirrored picture is at INPUT_SIDE - 1 - x of the crop.
            places = places * np.array([-1, 1], np.float32) + np.array([INPUT_SIDE - 1, 0], np.float32)
            world = world * np.array([-1, 1, 1], np.float32)
        return HandLandmarks(
            keypoints_2d=to_image(places, crop, INPUT_SIDE).astype(np.float32),
            world=turn_directions(world, crop),
            presence=float(presence[0, 0]),
            right_score=float(agreement[0, 0] if right else 1 - agreement[0, 0]),
            confidence=(1 / (1 + np.exp(-logits.clip(-30, 30)))).astype(np.float32),
        )
