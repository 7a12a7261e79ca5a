"""MediaPipe's palm network: finds palms in a square of the picture. Says nothing about fingers or sides."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.detection.crop import Crop, as_network_input, crop_around_palm, cut_out, to_image
from dir_core.detection.interpreter import load_interpreter

Array = NDArray[Any]

WEIGHTS = Path(__file__).parent / "weights" / "palm_detection_full.tflite"
INPUT_SIDE = 192

# Values of MediaPipe's palm_detection_cpu graph.
_MIN_SCORE = 0.5
_SUPPRESSION_OVERLAP = 0.3
ANCHOR_GRIDS = ((24, 2), (12, 6))  # cells a side, anchors a cell: strides 8, 16, 16, 16


@dataclass(frozen=True, eq=False)
class Palm:
    """A palm in the picture.

    Attributes:
        crop: the square around the whole hand that the landmark network should look at.
        score: 0..1.
        keypoints: [7, 2] px: wrist, bases of index, middle, ring and little finger, thumb 1 and 2.
    """

    crop: Crop
    score: float
    keypoints: Array


class PalmDetector:
    """The palm network on the CPU through LiteRT."""

    def __init__(self, threads: int = 2, weights: str | os.PathLike[str] = WEIGHTS):
        self._interpreter = load_interpreter(weights, threads)
        self._input = self._interpreter.get_input_details()[0]["index"]
        outputs = {detail["shape"][-1]: detail["index"] for detail in self._interpreter.get_output_details()}
        self._boxes, self._scores = outputs[18], outputs[1]

    def detect(self, image: Array, outer: Crop) -> list[Palm]:
        """Palms inside `outer`, best first.

        Args:
            image: [H, W, 3] uint8 RGB.
            outer: the square to search; palms are found best when they fill a tenth to a half of it.
        """
        boxes, logits = self.look(image, outer)
        return find_palms(boxes, logits, ANCHOR_CENTRES, outer)

    def look(self, image: Array, outer: Crop) -> tuple[Array, Array]:
        """What the network says about `outer`: boxes [2016, 18] px and logits [2016], one for each anchor."""
        picture = cut_out(image, outer, INPUT_SIDE, replicate_border=False)
        boxes, logits = self.infer(as_network_input(picture))
        return boxes[0], logits[0, :, 0]

    def infer(self, picture: Array) -> tuple[Array, Array]:
        """The network alone: [1, 192, 192, 3] float32 in 0..1 to boxes [1, 2016, 18] px and logits [1, 2016, 1]."""
        self._interpreter.set_tensor(self._input, picture)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._boxes), self._interpreter.get_tensor(self._scores)


def _anchor_centres() -> Array:
    """Centres of the 2016 anchors in pixels of the input, [2016, 2]; all anchors have the input's size."""
    centres = []
    for cells, count in ANCHOR_GRIDS:
        line = (np.arange(cells) + 0.5) * (INPUT_SIDE / cells)
        grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
        centres.append(np.repeat(grid, count, axis=0))
    return np.concatenate(centres)


ANCHOR_CENTRES = _anchor_centres()


def find_palms(boxes: Array, logits: Array, centres: Array, outer: Crop) -> list[Palm]:
    """The palms that some anchors found, best first.

    Args:
        boxes: [N, 18] px of the network's input: centre, size and 7 key points; all but the size from the anchor.
        logits: [N].
        centres: [N, 2] px, where these anchors are.
        outer: the crop that the network looked at.
    """
    # sigmoid(x) >= 0.5 where x >= 0; MediaPipe clips logits to +-100 first, float32 needs no more here.
    likely = np.flatnonzero(logits >= np.log(_MIN_SCORE / (1 - _MIN_SCORE)))
    if not len(likely):
        return []
    scores = 1 / (1 + np.exp(-logits[likely].astype(np.float64)))
    placed = boxes[likely].astype(np.float64).reshape(len(likely), 9, 2)
    placed[:, 0] += centres[likely]
    placed[:, 2:] += centres[likely, None]
    return [_to_palm(box, score, outer) for box, score in _suppress_weighted(placed, scores)]


def _suppress_weighted(boxes: Array, scores: Array) -> list[tuple[Array, float]]:
    """Merge boxes that overlap the best remaining one into their score-weighted mean (weighted NMS).

    Args:
        boxes: [N, 9, 2] centre, size and key points.
        scores: [N].
    """
    low, high = boxes[:, 0] - 0.5 * boxes[:, 1], boxes[:, 0] + 0.5 * boxes[:, 1]
    area = np.prod(boxes[:, 1], axis=-1)
    rest = np.argsort(-scores, kind="stable")
    merged = []
    while len(rest):
        best = rest[0]
        shared = np.clip(np.minimum(high[best], high[rest]) - np.maximum(low[best], low[rest]), 0, None).prod(axis=-1)
        same = shared > _SUPPRESSION_OVERLAP * (area[best] + area[rest] - shared)
        same[0] = True
        weight = scores[rest[same]]
        merged.append((np.tensordot(weight, boxes[rest[same]], axes=1) / weight.sum(), float(scores[best])))
        rest = rest[~same]
    return merged


def _to_palm(box: Array, score: float, outer: Crop) -> Palm:
    points = to_image(np.delete(box, 1, axis=0), outer, INPUT_SIDE)
    size = box[1] * (outer.size / INPUT_SIDE)
    return Palm(crop_around_palm(np.concatenate([points[0], size]), points[1:], outer), score, points[1:])
