"""Pictures of a take: the posed hands drawn over the footage, as a movie and as a contact sheet. Needs cv2."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from dir_core.camera import project
from dir_core.conventions import KEYPOINT_BONES, SIDES, Side
from dir_core.footage import Frame, open_footage
from dir_core.hand_model import HandModel
from dir_core.movie_files import MovieWriter, write_sheet
from dir_core.take import Take

Array = NDArray[Any]

_COLOURS: Final[dict[Side, tuple[int, int, int]]] = {"left": (80, 170, 255), "right": (255, 150, 70)}  # RGB
_OPACITY = 0.8
_UNSEEN_OPACITY = 0.3
_LIGHT = np.array([-0.35, -0.6, -0.72])  # towards the light, camera axes
_SUBPIXEL = 3  # fractional bits that cv2 draws with
_SHEET_COLUMNS, _SHEET_ROWS, _SHEET_WIDTH = 4, 3, 480


def draw_hands(image: Array, take: Take, models: dict[Side, HandModel], row: int) -> Array:
    """Draw the posed hands and the seen key points of one row of a take over its frame [H, W, 3] RGB."""
    triangles, depths, colours = [], [], []
    result = image
    for side in SIDES:
        track = take.hand(side)
        if not track.observed.any() or take.hidden(side)[row]:
            continue
        model = models[side]
        posed = model.pose(
            track.rotation[row : row + 1], track.translation[row : row + 1], track.shape, float(track.scale[0])
        )
        corners = posed.vertices[0][model.faces]
        if corners[..., 2].min() < 0.02:
            continue
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        facing = np.einsum("fi,fi->f", normal, corners.mean(axis=1)) < 0
        light = 0.35 + 0.65 * np.clip(normal @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)
        triangles.append(project(corners[facing], take.camera_matrix))
        depths.append(corners[facing, :, 2].mean(axis=1))
        shade = light[facing, None] * np.array(_COLOURS[side])
        colours.append(shade if track.observed[row] else 0.5 * shade + 64)
    if triangles:
        layer = image.copy()
        order = np.argsort(-np.concatenate(depths))
        # cv2 counts pixel centres at whole numbers, this project at halves.
        points = np.round((np.concatenate(triangles)[order] - 0.5) * 2**_SUBPIXEL).astype(np.int32)
        for triangle, colour in zip(points, np.concatenate(colours)[order].tolist(), strict=True):
            cv2.fillConvexPoly(layer, triangle, colour, cv2.LINE_AA, _SUBPIXEL)
        seen = take.left.observed[row] or take.right.observed[row]
        opacity = _OPACITY if seen else _UNSEEN_OPACITY
        result = cv2.addWeighted(layer, opacity, image, 1 - opacity, 0)
    return _draw_skeletons(result, take, row)


def _draw_skeletons(image: Array, take: Take, row: int) -> Array:
    for side in SIDES:
        track = take.hand(side)
        if not track.observed[row]:
            continue
        points = np.round((track.keypoints_2d[row] - 0.5) * 2**_SUBPIXEL).astype(int)
        thickness = max(1, round(image.shape[1] / 640))
        for parent, child in KEYPOINT_BONES:
            a, b = tuple(map(int, points[parent])), tuple(map(int, points[child]))
            cv2.line(image, a, b, (255, 255, 255), thickness, cv2.LINE_AA, _SUBPIXEL)
    return image


def write_preview(
    take: Take,
    models: dict[Side, HandModel],
    footage_path: str | os.PathLike[str],
    *,
    movie: Path | None,
    sheet: Path | None,
    frame_rate: float | None = None,
) -> None:
    """Write the overlay movie (mp4) and / or a contact sheet (png) of a take.

    Raises:
        FootageError: the footage cannot be read.
        OutputError: a file cannot be written.
    """
    wanted = set(_sheet_rows(len(take)))
    cells: list[Array] = []
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(MovieWriter(movie, _frame_rate(take))) if movie else None
        for row, frame in _frames_of(take, footage_path, frame_rate):
            if writer is None and row not in wanted:
                continue
            picture = draw_hands(frame.image, take, models, row)
            if row in wanted:
                cells.append(_sheet_cell(picture, float(take.time[row])))
            if writer:
                writer.write(picture)
    if sheet is not None:
        write_sheet(sheet, cells or [np.zeros((90, 160, 3), np.uint8)], _SHEET_COLUMNS)


def _frames_of(take: Take, path: str | os.PathLike[str], frame_rate: float | None) -> Iterator[tuple[int, Frame]]:
    """The frames of the footage that the take has a row for."""
    row_of = {int(index): row for row, index in enumerate(take.frame)}
    with open_footage(path, frame_rate=frame_rate) as footage:
        for frame in footage:
            if frame.index in row_of:
                yield row_of[frame.index], frame


def _frame_rate(take: Take) -> float:
    if len(take) < 2:
        return 25.0
    return float((len(take) - 1) / (take.time[-1] - take.time[0]))


def _sheet_rows(frames: int) -> list[int]:
    count = min(_SHEET_COLUMNS * _SHEET_ROWS, frames)
    return [int(i) for i in np.linspace(0, frames - 1, count).round()] if count else []


def _sheet_cell(picture: Array, time: float) -> Array:
    height = round(picture.shape[0] * _SHEET_WIDTH / picture.shape[1])
    cell = cv2.resize(picture, (_SHEET_WIDTH, height), interpolation=cv2.INTER_AREA)
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(
            cell, f"{time:.2f} s", (8, height - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thickness, cv2.LINE_AA
        )
    return cell
