"""MediaPipe's hand-landmark network: 21 key points, presence and handedness of one hand in a crop. No tracking."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.detection.crop import Crop, cut_out, to_image, turn_directions
from dir_core.detection.interpreter import load_interpreter

Array = NDArray[Any]

WEIGHTS = Path(__file__).parent / "weights" / "hand_landmark_full.tflite"
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
    """

    keypoints_2d: Array
    world: Array
    presence: float
    right_score: float


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
        points, presence, right_score, world = self.infer(
            np.multiply(picture, np.float32(1 / 255), dtype=np.float32)[None]
        )
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
