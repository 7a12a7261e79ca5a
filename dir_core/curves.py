"""The picture of a clean-up: curves of both hands before and after, and what was seen. Needs matplotlib."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.conventions import FINGERS, SIDES, Side
from dir_core.degrees_of_freedom import angles_from_rotations, finger_geometry
from dir_core.hand_model import HandModel
from dir_core.take import HandTrack, Take, write_whole

Array = NDArray[Any]

_COLOURS: Final = ("#d9534f", "#3b7dd8", "#4aa564", "#b07cc6", "#e0a030")
_BENDS: Final = [0, 3, 4]  # angles of a finger that curl it
_ROWS: Final = ("wrist turn (degrees)", "finger curl (degrees)", "wrist place (cm)", "confidence")
_HEIGHTS: Final = (3, 4, 3, 0.5)


def plot_clean_up(raw: Take, clean: Take, models: Mapping[Side, HandModel], path: Path) -> None:
    """Write a picture of the curves of both hands, thin as captured and thick as cleaned.

    Args:
        raw, clean: the take before and after, same frames.
        models: the hand model of each side.
        path: the picture; its ending tells the format (png, svg, pdf).

    Raises:
        OutputError: the picture cannot be written.
    """
    with matplotlib.rc_context({"font.size": 8, "svg.hashsalt": "two-hand-capture"}):
        figure = Figure(figsize=(14, 9), dpi=110, layout="constrained")
        grid = figure.subplots(len(_ROWS), len(SIDES), sharex=True, height_ratios=_HEIGHTS, squeeze=False)
        for column, side in enumerate(SIDES):
            axes = grid[:, column]
            axes[0].set_title(f"{side} hand: thin as captured, thick as cleaned")
            for take, width, alpha in ((raw, 0.6, 0.55), (clean, 1.4, 1.0)):
                _draw_hand(axes, take, models[side], width, alpha)
            _draw_strip(axes[3], clean.time, clean.hand(side))
            for row, name in zip(axes, _ROWS, strict=True):
                row.set_ylabel(name)
                row.margins(x=0)
            axes[-1].set_xlabel("seconds")
        names = [Line2D([], [], color=colour, label=name) for colour, name in zip(_COLOURS, FINGERS, strict=True)]
        figure.legend(handles=names, loc="outside upper right", ncols=len(FINGERS), frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=path.suffix[1:] or "png")
    write_whole(path, buffer.getvalue())


def _draw_hand(axes: Any, take: Take, model: HandModel, width: float, alpha: float) -> None:
    hand = take.hand(model.side)
    if not hand.observed.any():
        return
    style = {"linewidth": width, "alpha": alpha}
    first = hand.rotation[np.flatnonzero(hand.observed)[0], 0].astype(np.float64)
    turn = np.degrees(rotations.to_rotation_vector(rotations.multiply(rotations.inverse(first), hand.rotation[:, 0])))
    for axis, colour in zip(turn.T, _COLOURS, strict=False):
        axes[0].plot(take.time, axis, color=colour, **style)
    for colour, curl in zip(_COLOURS, finger_curl(hand, model).T, strict=True):
        axes[1].plot(take.time, np.degrees(curl), color=colour, **style)
    for axis, colour in zip(100 * hand.translation.T, _COLOURS, strict=False):
        axes[2].plot(take.time, axis, color=colour, **style)


def finger_curl(hand: HandTrack, model: HandModel) -> Array:
    """How far each finger is bent in all, [T, 5] radians in FINGERS order."""
    geometry = finger_geometry(model, hand.shape, float(hand.scale[0]))
    return angles_from_rotations(geometry, hand.rotation.astype(np.float64))[..., _BENDS].sum(axis=-1)


def _draw_strip(axes: Any, time: Array, hand: HandTrack) -> None:
    """Confidence as a band of colour, red where the hand was not seen."""
    strip = matplotlib.colormaps["Greens"](0.25 + 0.75 * hand.confidence.mean(axis=1))
    strip[~hand.observed] = matplotlib.colors.to_rgba("#d9534f")
    step = 0.5 * float(np.median(np.diff(time))) if len(time) > 1 else 0.5
    # Time stamps need not be even, a picture's columns are: one cell per frame.
    edges = np.concatenate([[time[0] - step], 0.5 * (time[1:] + time[:-1]), [time[-1] + step]])
    axes.pcolormesh(edges, [0, 1], strip[None], rasterized=True)
    axes.set_yticks([])
