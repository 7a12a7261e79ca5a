"""What tasks of `training_run.train` that learn from drawn pictures have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class PictureTask:
    """Settings of a task that learns from folders of pictures.

    Attributes:
        folders: pictures as `synthetic.write_pictures` draws them.
        start: weights to begin with, a .tflite file that a run of this task has written; None: the untouched network.
        held_out: the first pictures of each folder, which only validation sees.
        seed, part_size, learning_rate: see `training_run.Task`.
    """

    folders: tuple[Path, ...]
    start: Path | None = None
    held_out: int = 256
    seed: int = 0
    part_size: int = 16
    learning_rate: float = 3e-3

    def choose_folders(self, random: np.random.Generator, lengths: Sequence[int], count: int) -> Array:
        """A folder's number [count] for each sample, by the pictures of each that are not held out."""
        shares = np.array([length - self.held_out for length in lengths], float)
        return random.choice(len(shares), count, p=shares / shares.sum())
