"""Which files make an image sequence. Opens none of them."""

import re
from pathlib import Path

from dir_core.errors import FootageError

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})


def find_pictures(path: Path) -> list[tuple[int, Path]] | None:
    """(Number in the sequence, picture) in order, counted from 0; None when the path is not a sequence.

    Args:
        path: a folder of pictures, a pattern such as `shot_%04d.png`, or the first of numbered pictures.

    Raises:
        FootageError: the folder holds no pictures, or none fit the pattern.
        OSError: the folder cannot be read.
    """
    if path.is_dir():
        pictures = [each for each in path.iterdir() if each.suffix.lower() in PICTURE_SUFFIXES and each.is_file()]
        if not pictures:
            raise FootageError(f"There are no pictures in the folder {path}, choose another one or a video file.")
        return list(enumerate(sorted(pictures, key=natural_key)))
    pattern = re.search(r"%0?(\d*)d", path.name)
    if pattern and not path.exists():
        before, after = path.name[: pattern.start()], path.name[pattern.end() :]
        found = _numbered(path.parent, before, after, int(pattern[1] or 0))
        if not found:
            raise FootageError(f"No pictures fit the pattern {path}, check folder and name.")
        return found
    if path.suffix.lower() not in PICTURE_SUFFIXES or not path.is_file():
        return None
    numbered = re.fullmatch(r"(.*?)(\d+)", path.stem)
    if not numbered:
        return [(0, path)]
    return _numbered(path.parent, numbered[1], path.suffix, len(numbered[2]), int(numbered[2]))


def _numbered(folder: Path, before: str, after: str, width: int, first: int | None = None) -> list[tuple[int, Path]]:
    name = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    numbers = {}
    if folder.is_dir():
        for each in folder.iterdir():
            match = name.fullmatch(each.name)
            # As printf pads: `width` digits, more only where the number needs them.
            if match and (len(match[1]) == width or (len(match[1]) > width and match[1][0] != "0")):
                numbers[int(match[1])] = each
    wanted = sorted(number for number in numbers if first is None or number >= first)
    return [(number - wanted[0], numbers[number]) for number in wanted]


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """What sorts names as people do: `take 2` before `take 10`."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
