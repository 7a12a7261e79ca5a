"""Which clips a batch is about, in which order, and what their takes are called. Opens no footage."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dir_core.errors import SettingsError
from dir_core.picture_files import PICTURE_SUFFIXES, natural_key

VIDEO_SUFFIXES = (
    ".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".m2ts", ".3gp", ".wmv", ".ogv", ".mxf",
)  # fmt: skip
"""What counts as a video inside a folder. A video that is named itself may be called anything."""

LIST_SUFFIX = ".txt"

_NUMBERING = re.compile(r"[\s._-]*(%0?\d*d|\d+)$")  # at the end of a picture's name


@dataclass(frozen=True)
class Clip:
    """One piece of footage.

    Attributes:
        footage: absolute path of a video, a folder of pictures, a pattern or the first of numbered pictures.
        name: of its take, without ending; different for every clip of a batch, also where case does not count.
    """

    footage: Path
    name: str


def is_batch(inputs: Sequence[Path], output: Path) -> bool:
    """Whether a command is about many clips: several inputs, a list, a folder of clips, or a folder as output."""
    return len(inputs) > 1 or output.is_dir() or _is_list(inputs[0]) or bool(_clips_in(inputs[0]))


def find_clips(inputs: Sequence[Path], output: Path) -> tuple[Clip, ...]:
    """The clips that are meant, each once, in the order of the inputs.

    Args:
        inputs: videos, picture folders, patterns; folders of videos and picture folders; text files with one of
            these a line, relative to the file's own folder.
        output: folder of the takes, which is never looked into for footage.

    Raises:
        SettingsError: a list cannot be read, or there is not one clip.
    """
    found: dict[str, Path] = {}
    for given in inputs:
        for footage in _read_list(given) if _is_list(given) else [given]:
            for each in _clips_in(footage, output) or [footage]:
                found.setdefault(os.path.realpath(each), each.absolute())
    if not found:
        raise SettingsError(f"{', '.join(map(str, inputs))} names no footage, write one path in a line.")
    footages = list(found.values())
    return tuple(map(Clip, footages, name_takes(footages)))


def _is_list(path: Path) -> bool:
    return path.suffix.lower() == LIST_SUFFIX and path.is_file()


def _clips_in(folder: Path, output: Path | None = None) -> list[Path]:
    """Videos and picture folders inside a folder; nothing if it is itself an image sequence.

    Pictures that lie beside videos are no clip: they are thumbnails.
    """
    if not folder.is_dir():
        return []
    inside = [each for each in folder.iterdir() if not each.name.startswith(".")]
    videos = [each for each in inside if each.suffix.lower() in VIDEO_SUFFIXES and each.is_file()]
    if not videos and any(map(_is_picture, inside)):
        return []
    left_out = output.resolve() if output else None
    sequences = [
        each
        for each in inside
        if each.is_dir() and each.resolve() != left_out and any(map(_is_picture, each.iterdir()))
    ]
    return sorted(videos + sequences, key=lambda each: (natural_key(each), each.name))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _read_list(path: Path) -> Iterator[Path]:
    """The paths in a text file; empty lines and lines that begin with # are left out."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read as a list of footage, save it as UTF-8 text.") from error
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        quoted = re.fullmatch(r"""(["'])(.+?)\1\s*(#.*)?""", line)
        if line[0] in "\"'" and not quoted:
            raise SettingsError(f"Line {number} of {path} has a quotation mark that is not closed, close it.")
        yield path.parent / Path(quoted[2] if quoted else line).expanduser()


def name_takes(footages: Sequence[Path]) -> list[str]:
    """A name for the take of each clip: the footage's own, and where two are the same what tells them apart.

    That is the ending where only that differs (`shot_mov`), else the folders above (`monday_shot`).
    """
    stems = [_stem(each) for each in footages]
    places = Counter((str(each.parent).casefold(), stem.casefold()) for each, stem in zip(footages, stems, strict=True))
    for row, each in enumerate(footages):
        if places[str(each.parent).casefold(), stems[row].casefold()] > 1 and each.suffix and not each.is_dir():
            stems[row] += f"_{each.suffix[1:]}"
    depths = [0] * len(footages)
    while True:
        names = [_with_folders(*each) for each in zip(footages, stems, depths, strict=True)]
        count = Counter(name.casefold() for name in names)
        again = [row for row, name in enumerate(names) if count[name.casefold()] > 1]
        deeper = [row for row in again if depths[row] < len(footages[row].parts)]
        if not deeper:
            break
        for row in deeper:
            depths[row] += 1
    taken = {name.casefold() for name in names}
    for row in again[1:]:  # folders whose names join to the same text
        number = 2
        while f"{names[row]}_{number}".casefold() in taken:
            number += 1
        names[row] += f"_{number}"
        taken.add(names[row].casefold())
    return names


def _stem(footage: Path) -> str:
    """What footage is called without ending; of numbered pictures without the number."""
    if footage.is_dir() or footage.suffix.lower() not in PICTURE_SUFFIXES:
        return footage.name if footage.is_dir() else footage.stem
    return _NUMBERING.sub("", footage.stem) or footage.parent.name or footage.stem


def _with_folders(footage: Path, stem: str, depth: int) -> str:
    folders = [part for part in footage.parts[:-1] if part != footage.anchor]
    return "_".join([*folders[len(folders) - min(depth, len(folders)) :], stem])
