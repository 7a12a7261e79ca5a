"""Results of other programs, of whatever kind -> a raw take. Needs SciPy for landmarks."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dir_core.errors import ExchangeError, SettingsError
from dir_core.exchange.clip import KnownFootage
from dir_core.exchange.files import arrays_of, read_archive, read_json
from dir_core.exchange.mano_results import import_mano
from dir_core.exchange.mano_rows import holds_mano
from dir_core.exchange.settings import ImportSettings
from dir_core.take import Take

ENDINGS: Final = (".npz", ".json", ".ndjson", ".jsonl")
"""Of the files that can be imported; a folder of .npz files can be, too."""


@dataclass(frozen=True, eq=False)
class Imported:
    """The raw take of a file of results, and what the user should know about it, a sentence each."""

    take: Take
    notes: tuple[str, ...]


def are_results(path: Path) -> bool:
    """Whether an .npz file holds what another program has captured; False for takes and for anything else."""
    try:
        return path.suffix.lower() == ".npz" and path.is_file() and holds_mano(read_archive(path))
    except ExchangeError:
        return False


def import_results(path: Path, settings: ImportSettings | None = None, footage: KnownFootage | None = None) -> Imported:
    """Make a raw take from MANO parameters or from MediaPipe's landmarks.

    Args:
        path: .npz or .json of MANO parameters, a folder of them per frame, or .json, .ndjson, .jsonl of landmarks.
        settings: what the user says about it.
        footage: what the results were made from, if that is known.

    Raises:
        ExchangeError: the file is missing, damaged or of an unknown kind.
        SettingsError: something is missing that only the user can say.
        HandModelError: the hand model of the user cannot be used.
    """
    settings = settings or ImportSettings()
    if path.is_dir():
        return Imported(*import_mano(path, None, settings, footage))
    if path.suffix.lower() not in ENDINGS:
        raise ExchangeError(f"{path.name} is of no kind that can be imported, choose one of: {', '.join(ENDINGS)}.")
    if path.suffix.lower() == ".npz":
        arrays = read_archive(path)
        if {"meta", "left/rotation", "right/rotation"} <= arrays.keys():
            raise ExchangeError(f"{path} is a take already, use it as it is.")
        return Imported(*import_mano(path, arrays, settings, footage))
    contents = read_json(path)
    if isinstance(contents, dict) and holds_mano(contents):
        return Imported(*import_mano(path, arrays_of(contents, path), settings, footage))
    if importlib.util.find_spec("scipy") is None:
        raise SettingsError("Landmarks are fitted with scipy, which is missing: install the add-on's zip again.")
    from dir_core.exchange.landmark_results import import_landmarks  # SciPy, which not every Blender has

    return Imported(*import_landmarks(path, contents, settings, footage))
