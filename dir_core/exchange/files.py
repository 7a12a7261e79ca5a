"""Named arrays in .npz or .json files, written whole and read without running what is in them. numpy only."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core.errors import ExchangeError, SettingsError
from dir_core.parts import DAMAGE
from dir_core.take import write_whole

Array = NDArray[Any]

_DECIMALS: Final = 9  # of metres and radians in a text: more than 32-bit floats hold
_LINES: Final = (".ndjson", ".jsonl")


def write_arrays(arrays: Mapping[str, Array], path: Path) -> None:
    """Write named arrays as .npz without pickled objects, or as one JSON object of nested lists.

    Raises:
        SettingsError: the name ends in neither.
        OutputError: the file cannot be written.
    """
    if path.suffix == ".npz":
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **dict(arrays))  # type: ignore[arg-type]
        write_whole(path, buffer.getvalue())
    elif path.suffix == ".json":
        texts = {name: _as_lists(np.asarray(array)) for name, array in arrays.items()}
        write_whole(path, (json.dumps(texts, ensure_ascii=False) + "\n").encode())
    else:
        raise SettingsError(f"Parameters are written as .npz or .json, not as {path.name}: change the ending.")


def read_archive(path: Path) -> dict[str, Array]:
    """The arrays of an .npz file.

    Raises:
        ExchangeError: it is missing, damaged, or holds pickled objects.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise ExchangeError(f"{path} is a single array without names, save the results with numpy.savez.")
        with loaded as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise ExchangeError(f"There is nothing at {path}, check the path.") from None
    except DAMAGE as error:
        if "pickle" in str(error):
            raise ExchangeError(
                f"{path} holds Python objects, which could run anything: save plain arrays with numpy.savez."
            ) from error
        raise ExchangeError(f"{path} is damaged or no .npz archive, save the results again.") from error


def read_json(path: Path) -> Any:
    """The contents of a .json file, or a list of the lines of an .ndjson or .jsonl file.

    Raises:
        ExchangeError: it is missing or not JSON.
    """
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix.lower() in _LINES:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return json.loads(text)
    except FileNotFoundError:
        raise ExchangeError(f"There is nothing at {path}, check the path.") from None
    except OSError as error:
        raise ExchangeError(f"Cannot read {path}: {error.strerror}; check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise ExchangeError(f"{path} is not JSON, save the results again.") from error


def arrays_of(texts: Mapping[str, Any], path: Path) -> dict[str, Array]:
    """The arrays that a JSON object holds as nested lists; lists of unequal lengths are left out.

    Raises:
        ExchangeError: it holds none.
    """
    arrays = {}
    for name, value in texts.items():
        try:
            array = np.asarray(value)
        except (ValueError, OverflowError):
            continue
        if array.dtype.kind in "biufU":
            arrays[str(name)] = array
    if not arrays:
        raise ExchangeError(f"{path} holds no arrays of numbers, save the results again.")
    return arrays


def _as_lists(array: Array) -> Any:
    return array.astype(np.float64).round(_DECIMALS).tolist() if array.dtype.kind == "f" else array.tolist()
