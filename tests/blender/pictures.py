"""Footage that a Blender test makes for itself: a folder of numbered pictures."""

from pathlib import Path

import bpy
import numpy as np


def write_pictures(folder: Path, count: int, size: tuple[int, int] = (64, 36)) -> Path:
    """Write `count` PNG pictures shot_0001.png ... and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    image = bpy.data.images.new("shot", *size)
    for number in range(1, count + 1):
        level = number / count
        image.pixels.foreach_set(np.tile([level, 0.2, 1 - level, 1.0], size[0] * size[1]).astype(np.float32))
        image.file_format = "PNG"
        image.save(filepath=str(folder / f"shot_{number:04d}.png"))
    bpy.data.images.remove(image)
    return folder
