"""Pictures of what a network sees by itself, what the tracker makes of it and what is fitted, side by side."""

from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import KEYPOINT_BONES, SIDES, Side
from dir_core.detection.crop import crop_around_keypoints
from dir_core.evaluation.stills import HandReader
from dir_core.evaluation.touching import CapturedClip, true_hands
from dir_core.evaluation.touching_metrics import TrueHands
from dir_core.footage import open_footage
from dir_core.hand_model import load_hand_models
from dir_core.movie_files import write_sheet
from dir_core.preview import draw_hands

Array = NDArray[Any]

_COLOURS: Final[dict[Side, tuple[int, int, int]]] = {"left": (80, 170, 255), "right": (255, 150, 70)}  # RGB
_DARK_COLOURS: Final[dict[Side, tuple[int, int, int]]] = {"left": (20, 60, 130), "right": (130, 60, 20)}
_FRAMES = 15
_COLUMNS = 6
_CELL = (384, 288)
_MARGIN = 0.2  # about the hands of the clip, of their extent
_DOUBTED = 0.5  # bones to key points below this confidence are drawn dark
_SUBPIXEL = 3


def write_overlays(path: Path, movie: Path, captured: CapturedClip, read: HandReader) -> None:
    """Write a contact sheet of a clip (png), three cells a frame.

    The network alone is given the true box of each hand; the tracker's key points are those of the take; the fitted
    hands are drawn as surfaces.

    Args:
        path: of the sheet.
        movie: that was captured.
        captured: what was made of it.
        read: the network.

    Raises:
        FootageError: the movie cannot be read.
        OutputError: the sheet cannot be written.
    """
    take = captured.take
    models = load_hand_models()
    truth = true_hands(captured.truth, take.frame, as_landmarks=True)
    wanted = {int(row) for row in np.linspace(0, len(take) - 1, min(_FRAMES, len(take))).round()}
    place = _around_hands(truth)
    row_of = {int(index): row for row, index in enumerate(take.frame) if row in wanted}
    cells = []
    with open_footage(movie) as footage:
        for frame in footage:
            row = row_of.get(frame.index)
            if row is None:
                continue
            alone, tracked = frame.image.copy(), frame.image.copy()
            for hand, side in enumerate(SIDES):
                if truth.present[row, hand]:
                    found = read(frame.image, crop_around_keypoints(truth.keypoints_2d[row, hand]), side)
                    _draw_skeleton(alone, found.keypoints_2d, np.ones(21), side)
                track = take.hand(side)
                if track.observed[row]:
                    _draw_skeleton(tracked, track.keypoints_2d[row], track.confidence[row], side)
            fitted = draw_hands(frame.image, take, models, row)
            titles = ("network alone", "tracker", f"fit, {take.time[row]:.2f} s")
            cells += [_cell(image, place, title) for image, title in zip((alone, tracked, fitted), titles, strict=True)]
    write_sheet(path, cells, _COLUMNS)


def _around_hands(truth: TrueHands) -> tuple[Array, float]:
    """The corner [2] and the scale of a cell that shows every place where hands are in the clip."""
    points = truth.keypoints_2d[truth.present].reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    size = (1 + 2 * _MARGIN) * float(((high - low) / _CELL).max()) * np.array(_CELL)
    return 0.5 * (low + high - size), _CELL[0] / size[0]


def _draw_skeleton(image: Array, keypoints: Array, confidence: Array, side: Side) -> None:
    """Draw key points [21, 2] with their confidence [21] into a picture."""
    points = np.round((keypoints - 0.5) * 2**_SUBPIXEL).astype(int)
    for bone in KEYPOINT_BONES:
        colour = _COLOURS[side] if confidence[list(bone)].min() >= _DOUBTED else _DARK_COLOURS[side]
        start, end = (tuple(map(int, points[place])) for place in bone)
        cv2.line(image, start, end, colour, 1, cv2.LINE_AA, _SUBPIXEL)


def _cell(image: Array, place: tuple[Array, float], title: str) -> Array:
    corner, scale = place
    matrix = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]])
    cell = cv2.warpAffine(image, matrix, _CELL, flags=cv2.INTER_LINEAR)
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(cell, title, (6, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, thickness, cv2.LINE_AA)
    return cell
