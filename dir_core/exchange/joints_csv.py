"""The key points of both hands as a table of text that every spreadsheet opens. numpy only."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import KEYPOINTS, SIDES, Side
from dir_core.errors import ExchangeError, SettingsError
from dir_core.hand_model import HandModel
from dir_core.take import Take, write_whole

Array = NDArray[Any]

Axes = Literal["camera", "blender"]
AXES: Final[tuple[Axes, ...]] = ("camera", "blender")

_DECIMALS = 6  # of metres: a micrometre
_COORDINATES = ("x", "y", "z")


def joints_table(take: Take, models: Mapping[Side, HandModel], axes: Axes = "camera") -> str:
    """One line of names, then one line per frame: frame, time, and of each hand `observed` and 21 places.

    The places are those of the posed hands, so that gaps which the clean-up has filled are filled here too;
    `observed` says 0 there. Cells are empty where there is no hand: of one that was never seen, and in frames in
    which the clean-up hides it. Decimal points, commas between cells, CRLF at the end of lines (RFC 4180).

    Args:
        take: any take.
        models: the hand model of each side that the take's shape belongs to.
        axes: "camera" (x right, y down, z forward) or "blender" (x right, y forward, z up).

    Raises:
        ExchangeError: the take has no frames.
    """
    if axes not in AXES:
        raise SettingsError(f"There are no axes {axes!r}, choose one of: {', '.join(AXES)}.")
    if not len(take):
        raise ExchangeError("The take has no frames, so there is nothing to export: capture the clip again.")
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["frame", "time_s", *(name for side in SIDES for name in _columns(side))])
    cells = {side: _cells(take, models[side], axes) for side in SIDES}
    for row, (frame, time) in enumerate(zip(take.frame.tolist(), take.time.tolist(), strict=True)):
        table.writerow([frame, f"{time:.6f}", *(cell for side in SIDES for cell in cells[side][row])])
    return text.getvalue()


def save_joints(take: Take, models: Mapping[Side, HandModel], path: Path, axes: Axes = "camera") -> None:
    """Write `joints_table` into a file.

    Raises:
        ExchangeError, OutputError: the take is empty, the file not writable.
    """
    write_whole(path, joints_table(take, models, axes).encode("ascii"))


def _columns(side: Side) -> list[str]:
    return [f"{side}_observed", *(f"{side}_{name}_{axis}_m" for name in KEYPOINTS for axis in _COORDINATES)]


def _cells(take: Take, model: HandModel, axes: Axes) -> list[list[str]]:
    hand = take.hand(model.side)
    points = model.pose_keypoints(hand.rotation, hand.translation, hand.shape, float(hand.scale[0]))
    if axes == "blender":
        points = np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)
    shown = ~take.hidden(model.side) & bool(hand.observed.any())
    empty = [""] * (len(KEYPOINTS) * len(_COORDINATES))
    rows = points.reshape(len(take), -1).tolist()
    return [
        [str(int(seen)), *([f"{value:.{_DECIMALS}f}" for value in row] if visible else empty)]
        for row, seen, visible in zip(rows, hand.observed.tolist(), shown.tolist(), strict=True)
    ]
