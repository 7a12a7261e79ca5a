"""The picture of a training run: loss terms and validation figures over the steps. Needs matplotlib."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from dir_core.take import write_whole

_COLUMNS: Final = 4
_NOT_DRAWN: Final = ("step", "samples", "minutes")


def plot_training(log: Sequence[dict[str, float]], figures: Sequence[dict[str, float]], path: Path) -> None:
    """Draw every column over the steps: `log` as lines, the validation's `figures` with dots.

    Args:
        log, figures: rows with `step` and equal names within each of them.
        path: the png.

    Raises:
        OutputError: the picture cannot be written.
    """
    panels = [(rows, name, mark) for rows, mark in ((log, ""), (figures, "o")) for name in _drawn(rows)]
    figure = Figure(figsize=(14, 2.2 * math.ceil(len(panels) / _COLUMNS)), dpi=90, layout="constrained")
    for place, (rows, name, mark) in enumerate(panels, start=1):
        axes = figure.add_subplot(math.ceil(len(panels) / _COLUMNS), _COLUMNS, place)
        axes.plot([row["step"] for row in rows], [row[name] for row in rows], marker=mark, markersize=3, linewidth=1)
        axes.set_title(f"validation: {name}" if mark else name, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    written = io.BytesIO()
    figure.savefig(written, format="png")
    write_whole(path, written.getvalue())


def _drawn(rows: Sequence[dict[str, float]]) -> list[str]:
    return [name for name in rows[0] if name not in _NOT_DRAWN] if rows else []
