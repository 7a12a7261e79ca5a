"""Which Python the add-on's own processes run in. Nothing is started here."""

import sys
from pathlib import Path

import numpy as np

import dir_core


def own_python() -> tuple[str, tuple[str, ...]]:
    """Blender's Python, and the folders in which a process of it finds what this one has loaded.

    dir_core lies with the packages of the extension (or in a checkout), NumPy with Blender; an isolated process finds
    neither by itself everywhere.
    """
    folders = [str(Path(file).resolve().parents[1]) for file in (dir_core.__file__, np.__file__) if file]
    return sys.executable, tuple(dict.fromkeys(folders))
